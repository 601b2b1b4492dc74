"""The alarm: a reasoning teacher that returns no reasoning is found out after a few rows."""

from collections.abc import Iterator

from distillpipe.base.errors import EngineError
from distillpipe.base.progress import say
from distillpipe.engines.base import Answer, Outcome

NUM_ROWS = 5  # without any reasoning, at the beginning of a run


def with_alarm(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The outcomes; the first answers are held back until one of them has reasoning.

    Raises EngineError where `NUM_ROWS` answers have none: they are no rows then, so that a server started
    anew is asked for them again. Fewer in all pass with a warning. What is held back when a run is
    interrupted is lost, four answers at most.
    """
    held: list[Answer] = []
    is_sure = False
    for outcome in outcomes:
        if is_sure or not isinstance(outcome, Answer):
            yield outcome
            continue
        held.append(outcome)
        is_sure = outcome.message.reasoning_content is not None
        if is_sure:
            yield from held
        elif len(held) >= NUM_ROWS:
            raise EngineError(
                f"the first {NUM_ROWS} answers hold no reasoning: start the server with its reasoning "
                "parser (vllm serve --reasoning-parser ...), ask a reasoning model, or give "
                "--allow-no-reasoning; none of them was kept"
            )
    if not is_sure and held:
        say(f"warning: no reasoning in any of the {len(held)} answers")
        yield from held

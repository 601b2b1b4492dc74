"""Stops a run whose answers hold no reasoning, with the remedy that fits the server."""

from collections.abc import Iterator

from distillpipe.base.errors import EngineError
from distillpipe.base.progress import say
from distillpipe.engines.base import Answer, Outcome
from distillpipe.engines.server.replies import one_line
from distillpipe.engines.server.server import Server

NUM_ROWS = 5  # answers without reasoning at the start of a run that stop it
SHOWN_CHARACTERS = 80  # of the first answer
_REMEDIES = {
    "vllm": "start the server with its reasoning parser (vllm serve --reasoning-parser ...)",
    "sglang": "start the server with its reasoning parser (sglang.launch_server --reasoning-parser ...)",
    "ollama": 'ask for it with --extra-body \'{"reasoning_effort": "high"}\'',
    "llamacpp": "start llama-server with --jinja and --reasoning-format deepseek",
    "openrouter": 'ask for it with --extra-body \'{"reasoning": {"enabled": true}}\'',
}
_REMEDY = (
    "ask the server for its reasoning as its documentation says (often --extra-body "
    '\'{"reasoning_effort": "high"}\' or \'{"thinking": {"type": "enabled"}}\')'
)


def require_reasoning(outcomes: Iterator[Outcome], server: Server) -> Iterator[Outcome]:
    """Pass outcomes on, but hold answers back until one has reasoning.

    Raises EngineError if the first `NUM_ROWS` answers have no reasoning. None of them becomes a row, so a
    restarted server is asked again. If a run has fewer answers, they pass with a warning. An interrupted
    run loses what is held back, at most four answers.
    """
    held: list[Answer] = []
    has_reasoning = False
    for outcome in outcomes:
        if has_reasoning or not isinstance(outcome, Answer):
            yield outcome
            continue
        held.append(outcome)
        has_reasoning = outcome.message.reasoning_content is not None
        if has_reasoning:
            yield from held
        elif len(held) >= NUM_ROWS:
            raise EngineError(
                f"the first {NUM_ROWS} answers hold no reasoning, and none of them was kept (the first "
                f"{_beginning(held[0])}): {_REMEDIES.get(server.software, _REMEDY)}, use a reasoning model, "
                "or give --allow-no-reasoning"
            )
    if not has_reasoning and held:
        say(
            f"warning: no reasoning in any of the {len(held)} answers (the first {_beginning(held[0])})"
        )
        yield from held


def _beginning(answer: Answer) -> str:
    """How an answer begins, as one line."""
    text = one_line(answer.message.content)
    if not text:
        return "is empty"
    is_whole = len(text) <= SHOWN_CHARACTERS
    return f"is {text!r}" if is_whole else f"begins with {text[:SHOWN_CHARACTERS]!r}"

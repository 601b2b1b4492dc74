"""The two modes of a chat template: how it renders prompt and turn where the model thinks, and where it does not."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.options import TemplateOptions
from distillpipe.base.thinking import Tags
from distillpipe.models.delimiters import (
    ASKED,
    RESPONSE,
    Conversation,
    Form,
    Render,
    Turn,
    learn_turn,
)
from distillpipe.models.rendering import Renderer
from distillpipe.models.switches import Variables, find_switch
from distillpipe.models.template_source import Hints, hints_of

# Two moments that differ in each part that a template may write.
_ONE_TIME, _OTHER_TIME = datetime(2001, 2, 3, 4, 5, 6), datetime(2029, 10, 21, 17, 38, 49)


class Mode(NamedTuple):
    """How a chat template writes in one mode."""

    variables: Variables
    turn: Turn
    form: Form | None
    "how reasoning is handed to the template; None: it renders none"


class Modes(NamedTuple):
    """The modes of a chat template, and what is to be said of them."""

    thinking: Mode | None
    "None: it does not think under the options that were given"
    plain: Mode | None
    "without thinking; None: it has no such mode"
    switched_on: Variables
    "what makes it think, where it does not without being told"
    reads_clock: bool


def learn_modes(
    renderer: Renderer, source: str, template: str, options: TemplateOptions, now: datetime
) -> Modes:
    """Learn the modes of a template by rendering. `template` is its name in errors, `source` its text.

    Raises UsageError if it cannot be learnt, see `learn_turn`, or if the options contradict it.
    """

    def render_with(variables: Mapping[str, Any], moment: datetime = now) -> Render:
        def render(messages: Conversation, add_generation_prompt: bool) -> str | None:
            return renderer.render(
                messages,
                add_generation_prompt=add_generation_prompt,
                variables=variables,
                now=moment,
            ).text

        return render

    given, tags = options.variables, _tags(options)
    hints = hints_of(source)
    _check_variables(given, hints, template)
    switch = find_switch(render_with, hints, given)
    on = given if switch is None else {**given, **switch.on}
    off = None if switch is None else {**given, **switch.off}
    prompt_off = None if off is None else render_with(off)([ASKED], True)
    learnt = learn_turn(render_with(on), template, hints, prompt_off, tags)
    thinking: Mode | None = Mode(on, learnt.turn, learnt.form)
    plain = None if off is None else _plain(render_with(off), off, learnt.turn, prompt_off or "")
    if learnt.is_closed:
        prompt = render_with(on)([ASKED], True) or ""
        thinking, plain = None, _plain(render_with(on), on, learnt.turn, prompt)
    reads_clock = (
        len({render_with(on, time)([ASKED], True) for time in (_ONE_TIME, _OTHER_TIME)}) > 1
    )
    return Modes(thinking, plain, {} if switch is None else switch.on, reads_clock)


def _check_variables(given: Variables, hints: Hints, template: str) -> None:
    """Raise UsageError for a --template-option that the template does not read: a typo would change nothing."""
    unknown = [name for name in given if hints.names and name not in hints.names]
    if unknown:
        switches = ", ".join(hints.switches)
        raise UsageError(
            f"--template-option {unknown[0]}: {template} has no variable of that name"
            + (f"; it has {switches}" if switches else ": leave it out")
        )


def _tags(options: TemplateOptions) -> Tags | None:
    if (options.think_open is None) != (options.think_close is None):
        raise UsageError("--think-open and --think-close name a pair: give both")
    if not options.think_open or not options.think_close:
        return None
    return Tags(options.think_open.strip(), options.think_close.strip())


def _plain(render: Render, variables: Variables, thinking: Turn, prompt: str) -> Mode:
    """The mode without thinking: its prompt is followed by the response, or by the mark that opens it."""
    text = render([ASKED, {"role": "assistant", "content": RESPONSE}], False) or ""
    before, _, ending = text.rpartition(RESPONSE)
    bare = before.removeprefix(prompt) if before.startswith(prompt) else ""
    if bare.strip() not in ("", thinking.answer.alone):
        bare = thinking.answer.alone
    turn = thinking._replace(
        opened=False, opening=f"{thinking.tags.open}\n", bare=bare, ending=ending
    )
    return Mode(variables, turn, None)

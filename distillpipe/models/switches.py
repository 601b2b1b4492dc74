r"""Find the variables of a chat template that switch thinking on and off, by rendering prompts.

Qwen3 thinks unless `enable_thinking` is false, Gemma 4 only if it is true, DeepSeek V3.1 only if `thinking` is. The
source of the template says which variables and values are worth a try. What a variable does is seen in the prompt:
the one without thinking closes an empty thought (`<think>\n\n</think>`), or lacks what the other has.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from distillpipe.models.delimiters import ASKED, Render, is_closing
from distillpipe.models.template_source import Hints

Variables = dict[str, Any]
RenderWith = Callable[[Variables], Render]
Prompt = Callable[[Any], str | None]
"The prompt with a value of the variable."

_OFF_VALUES = (
    "none",
    "off",
    "no",
    "false",
    "disabled",
    "chat",
    "no_think",
    "nothink",
    "non-thinking",
)
_ON_VALUES = ("thinking", "think", "on", "true", "enabled", "high", "medium", "low")
_NEGATED = re.compile(
    r"^no(?:_|think|reason)|(?:^|_)(?:not?|non|disable|skip|without|hide|exclude)_", re.I
)
_NO_SWITCH = re.compile(r"effort|budget|token|max|preserve|keep|clear|history|past|truncate", re.I)
_TEXT = "qzValueqz"


class Switch(NamedTuple):
    """How a template is told to think, and how not to."""

    on: Variables
    "empty: it thinks unless it is told not to"
    off: Variables
    "empty: it does not think unless it is told to"


def find_switch(render_with: RenderWith, hints: Hints, given: Variables) -> Switch | None:
    """The first variable that switches thinking. One that is `given` is left as it is. None if there is none."""
    for name, texts in hints.switches.items():
        others = {key: value for key, value in given.items() if key != name}
        default = render_with(others)([ASKED], True)
        if default is None:
            continue

        def prompt(value: Any, name: str = name, others: Variables = others) -> str | None:
            return render_with({**others, name: value})([ASKED], True)

        pair = _booleans(name, prompt, default) or _texts(texts, prompt)
        if pair is not None:
            on, off = pair
            if name in given:
                return Switch({}, {name: off})
            is_off = prompt(off) == default
            return Switch({name: on} if is_off else {}, {} if is_off else {name: off})
    return None


def _booleans(name: str, prompt: Prompt, default: str) -> tuple[bool, bool] | None:
    """The values of a variable that is true or false: on and off."""
    if _NO_SWITCH.search(name):
        return None
    as_true, as_false, as_text = prompt(True), prompt(False), prompt(_TEXT)
    if as_true is None or as_false is None or as_text is None or _TEXT in as_text:
        return None
    if as_true == as_false or default not in (as_true, as_false):
        return None
    true_closes, false_closes = is_closing(as_true), is_closing(as_false)
    is_negated = bool(_NEGATED.search(name)) if true_closes == false_closes else true_closes
    return (False, True) if is_negated else (True, False)


def _texts(texts: list[str], prompt: Prompt) -> tuple[str, str] | None:
    """The values of a variable that is one of several texts: on and off. None if no text switches off."""
    off = next((text for text in texts if text.lower() in _OFF_VALUES), None)
    if off is None or (without := prompt(off)) is None:
        return None
    others = [text for text in texts if prompt(text) not in (None, without)]
    by_rank = dict(zip(_ON_VALUES, range(len(_ON_VALUES)), strict=True))
    others.sort(key=lambda text: by_rank.get(text.lower(), len(by_rank)))
    return (others[0], off) if others else None

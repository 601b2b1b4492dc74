r"""The verifier `choice`: multiple-choice answers, given as the letter or the text of an option.

The options are in the problem's extra keys under `options` or `choices`: a list, a dict by letter, or a dict of
`label` and `text` lists as in ARC. Without options, only letters are compared.
"""

# ruff: noqa: RUF001 - full-width brackets
import json
import re
from collections.abc import Mapping, Sequence

from distillpipe.base.decoding import NOT_PARSED
from distillpipe.base.records import Verdict
from distillpipe.verify.choice_letters import (
    LETTERS,
    MAX_CHARACTERS,
    is_only_letters,
    label_and_text,
    letter_of_text,
    letters,
    plain_text,
)
from distillpipe.verify.choice_said import last_line, lone_letter, stated_letters
from distillpipe.verify.extract import any_answer, boxed_answer, boxed_answers, stated_answer

_FIELDS = ("options", "choices")
_MAX_BOXES = 20
_LABELLED_LINE = re.compile(r"^[ \t*]{0,8}[(（]?[A-Za-z](?![A-Za-z'])", re.MULTILINE)


def chosen(
    response: str, options: Sequence[str] | None = None, reference: str | None = None
) -> str | None:
    """The choice of a response; None if there is none. In this order:

    1. the last box, if it names an option;
    2. the letter in a statement ("the answer is C"), or an earlier box that names an option; if both exist and
       differ, the last box;
    3. the last line, if it is only letters; the text of an option that is stated;
    4. the last box, whatever it holds;
    5. a label at the beginning (`C. Because`), the only letter named, or any stated answer.

    Without options, if the reference is not a letter, the answer is a text: the last box, else what is stated.
    """
    boxed = boxed_answer(response)
    if options is None and reference is not None and not _reference_letters(reference, None):
        return any_answer(response) if boxed is None else boxed
    if boxed is not None and letters(boxed, options) is not None:
        return boxed
    stated = stated_letters(response, options)
    boxes = [] if boxed is None else boxed_answers(response)[-_MAX_BOXES:]
    earlier_boxes = (box for _, box in reversed(boxes) if letters(box, options) is not None)
    earlier_box = next(earlier_boxes, None)
    if stated is not None and earlier_box is not None:
        return stated if letters(earlier_box, options) == letters(stated, options) else boxed
    if stated is not None or earlier_box is not None:
        return stated or earlier_box
    return _fallback_choice(response, options, boxed)


def _fallback_choice(response: str, options: Sequence[str] | None, boxed: str | None) -> str | None:
    """The choice of a response that neither boxes nor states an option."""
    if (
        is_only_letters(line := last_line(response))
        and (named := letters(line, options)) is not None
    ):
        return ", ".join(named) or line
    stated = stated_answer(response)
    if stated and options is not None and letter_of_text(stated, options) is not None:
        return stated
    if boxed is not None:
        return boxed
    label = _first_label(response, options) or lone_letter(response)
    if label is not None:
        return label
    return stated if stated and letters(stated, options) is None else None


def _first_label(response: str, options: Sequence[str] | None) -> str | None:
    """The letter at the beginning of a response, `C. Because`, unless several lines begin with a letter."""
    beginning = response[:MAX_CHARACTERS].strip()
    if len(_LABELLED_LINE.findall(beginning)) > 1 or not _LABELLED_LINE.match(beginning):
        return None
    return letters(beginning, options) or None


def same_choice(answer: str, reference: str, options: Sequence[str] | None = None) -> Verdict:
    """Compare two choices; `unverifiable` if there are options and the reference names none of them."""
    answer, reference = answer[:MAX_CHARACTERS].strip(), reference[:MAX_CHARACTERS].strip()
    expected = _reference_letters(reference, options)
    if not expected:
        if options is not None:
            return "unverifiable"
        label = label_and_text(answer)
        texts = {plain_text(answer), plain_text(label[1]) if label else None}
        return "correct" if plain_text(reference) in texts else "wrong"
    return "correct" if letters(answer, options) == expected else "wrong"


def _reference_letters(reference: str, options: Sequence[str] | None) -> str | None:
    """The letters that a reference names or states as the answer; None or "" if there are none."""
    named = letters(reference.strip(), options)
    if named is None and (stated := stated_letters(reference, options)) is not None:
        named = letters(stated, options)
    return named


def order_in(extra: str | None) -> tuple[int, ...] | None:
    """The order in which a row's prompt showed the options, as their numbers in the problem.

    None for the order of the problem.
    """
    values = _decoded(extra)
    order = values.get("option_order") if isinstance(values, dict) else None
    if not isinstance(order, list) or not all(type(number) is int for number in order):
        return None
    return tuple(order) if sorted(order) == list(range(len(order))) else None


def as_shown(reference: str, options: Sequence[str], order: Sequence[int]) -> tuple[str, list[str]]:
    """The reference and the options in the order of the prompt, where option `order[0]` is A, and so on.

    A reference that names no option is unchanged.
    """
    shown = [options[number] for number in order]
    named = _reference_letters(reference, options)
    if not named or len(options) > len(LETTERS):
        return reference, shown
    return "".join(sorted(LETTERS[order.index(LETTERS.index(letter))] for letter in named)), shown


def text_chosen(answer: str, shown: Sequence[str]) -> str:
    """The text of the options that an answer names, which does not depend on their order; else the answer."""
    named = letters(answer.strip(), shown)
    if not named:
        return answer
    return " and ".join(sorted(shown[LETTERS.index(letter)] for letter in named))


def options_of(extra: str | None) -> list[str] | None:
    """The options in a problem's extra keys, in the order of their letters; None if there are none."""
    values = _decoded(extra)
    options = None
    if isinstance(values, dict):
        options = next((values[name] for name in _FIELDS if name in values), None)
    if isinstance(options, str):
        options = _decoded(options)
    if isinstance(options, Mapping) and isinstance(options.get("text"), list):
        options = options["text"]
    elif isinstance(options, Mapping):
        options = [options[key] for key in sorted(options)]
    return [str(option) for option in options] if isinstance(options, list) and options else None


def _decoded(text: str | None) -> object:
    """The value of a JSON text; None if it cannot be parsed."""
    try:
        return json.loads(text or "null")
    except NOT_PARSED:
        return None

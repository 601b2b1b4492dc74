r"""The verifier `choice`: the letter of an option, or its text.

The options stand in the problem's extra keys, a list under `options` or `choices` (or a dict by letter,
or a dict of `label` and `text` lists as in ARC). Without them letters are compared with letters.
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
    is_bare,
    label_and_text,
    letter_of_text,
    letters,
    plain_text,
)
from distillpipe.verify.choice_said import last_line, lone_letter, said_letters
from distillpipe.verify.extract import any_answer, boxed_answer, boxed_answers, stated_answer

_FIELDS = ("options", "choices")
_MAX_BOXES = 20
_LABELLED_LINE = re.compile(r"^[ \t*]{0,8}[(（]?[A-Za-z](?![A-Za-z'])", re.MULTILINE)


def chosen(
    response: str, options: Sequence[str] | None = None, reference: str | None = None
) -> str | None:
    """What a response chooses: its last box if that names an option, else the letter it says the answer is.

    After these: the last line or the beginning if it is a letter (`C. Because`), the text of an option that
    is stated, the only letter named. Where nothing names an option it is the box, or what is stated. Without options
    a reference that is no letter is a text, and so is the answer.
    """
    boxed = boxed_answer(response)
    if options is None and reference is not None and not _wanted(reference, None):
        return any_answer(response) if boxed is None else boxed
    if boxed is not None and letters(boxed, options) is not None:
        return boxed
    said = said_letters(response, options)
    earlier = None if boxed is None else _earlier_box(response, options)
    if said is not None and earlier is not None:
        return said if letters(earlier, options) == letters(said, options) else boxed
    if said is not None or earlier is not None:
        return said or earlier
    return _unstated(response, options, boxed)


def _earlier_box(response: str, options: Sequence[str] | None) -> str | None:
    """The last box that names an option."""
    boxes = [answer for _, answer in boxed_answers(response)[-_MAX_BOXES:]]
    return next((box for box in reversed(boxes) if letters(box, options) is not None), None)


def _unstated(response: str, options: Sequence[str] | None, boxed: str | None) -> str | None:
    """What a response chooses that neither boxes nor states an option."""
    if is_bare(line := last_line(response)) and (named := letters(line, options)) is not None:
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
    """The letter that a response begins with, `C. Because`, unless it goes through several options."""
    beginning = response[:MAX_CHARACTERS].strip()
    if len(_LABELLED_LINE.findall(beginning)) > 1 or not _LABELLED_LINE.match(beginning):
        return None
    return letters(beginning, options) or None


def same_choice(answer: str, reference: str, options: Sequence[str] | None = None) -> Verdict:
    """`unverifiable` where options are given and the reference is none of them, nor a letter of one."""
    answer, reference = answer[:MAX_CHARACTERS].strip(), reference[:MAX_CHARACTERS].strip()
    wanted = _wanted(reference, options)
    if not wanted:
        if options is not None:
            return "unverifiable"
        label = label_and_text(answer)
        texts = {plain_text(answer), plain_text(label[1]) if label else None}
        return "correct" if plain_text(reference) in texts else "wrong"
    return "correct" if letters(answer, options) == wanted else "wrong"


def _wanted(reference: str, options: Sequence[str] | None) -> str | None:
    """The letters that a reference names, or says to be the answer."""
    named = letters(reference.strip(), options)
    if named is None and (said := said_letters(reference, options)) is not None:
        named = letters(said, options)
    return named


def order_in(extra: str | None) -> tuple[int, ...] | None:
    """In which order a row was shown the options, by the numbers they have in the problem; None for theirs."""
    values = _decoded(extra)
    found = values.get("option_order") if isinstance(values, dict) else None
    if not isinstance(found, list) or not all(type(number) is int for number in found):
        return None
    return tuple(found) if sorted(found) == list(range(len(found))) else None


def as_shown(reference: str, options: Sequence[str], order: Sequence[int]) -> tuple[str, list[str]]:
    """Reference and options as a row saw them that was shown option `order[0]` under A, and so on.

    A reference that names no option stays as it is.
    """
    shown = [options[number] for number in order]
    wanted = _wanted(reference, options)
    if not wanted or len(options) > len(LETTERS):
        return reference, shown
    return "".join(sorted(LETTERS[order.index(LETTERS.index(one))] for one in wanted)), shown


def text_chosen(answer: str, shown: Sequence[str]) -> str:
    """The text of the options that an answer names, which no order changes; else the answer."""
    named = letters(answer.strip(), shown)
    if not named:
        return answer
    return " and ".join(sorted(shown[LETTERS.index(letter)] for letter in named))


def options_of(extra: str | None) -> list[str] | None:
    """The options among a problem's extra keys, in the order of their letters; None for none."""
    values = _decoded(extra)
    found = (
        next((values[name] for name in _FIELDS if name in values), None)
        if isinstance(values, dict)
        else None
    )
    if isinstance(found, str):
        found = _decoded(found)
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        found = found["text"]
    elif isinstance(found, Mapping):
        found = [found[key] for key in sorted(found)]
    return [str(option) for option in found] if isinstance(found, list) and found else None


def _decoded(text: str | None) -> object:
    """What a JSON text holds; None for text that is no JSON, or nested beyond reading."""
    try:
        return json.loads(text or "null")
    except NOT_PARSED:
        return None

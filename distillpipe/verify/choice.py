r"""The verifier `choice`: the letter of an option, or its text.

The options stand in the problem's extra keys, a list under `options` or `choices` (or a dict by letter,
or a dict of `label` and `text` lists as in ARC). Without them letters are compared with letters.
"""

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence

from distillpipe.decoding import NOT_PARSED
from distillpipe.records import Verdict
from distillpipe.verify.compare import same_answer
from distillpipe.verify.extract import any_answer, boxed_answer
from distillpipe.verify.latex import cleaned

LETTERS = string.ascii_uppercase[:10]  # as many as MMLU-Pro has options
_FIELDS = ("options", "choices")
_MAX_CHARACTERS = 4000
_LAST_CHARACTERS = 20_000
_LABEL = re.compile(
    r"(?:\s*(?:option|choice|answer)\s*:?)?[\s*_$\\]*(?:\\?text(?:bf|rm|it)?\s*\{)?[\s*_({\[\\]*([A-Ja-j])[\s*_)}\]\\]*"
    r"(?=$|[.:,)。、]|\s*$|[^\x00-\x7f]|(?<=[)\]])|\s)(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANSWER_IS = re.compile(
    r"\b(?i:answer|option|choice)s?\b\s*(?:\b(?:is|would be|must be|should be)\b|:)?\s*[^\n.]{0,40}?"
    r"(?<![A-Za-z'])[(*\[{$\\]*(?:(?:text|math|bold)[a-z]*\{)?\(?([A-J])\)?(?![A-Za-z'\u2019])",
)
_ALONE = re.compile(r"\(([A-J])\)|(?<![A-Za-z'(])([B-HJ])(?![A-Za-z'\u2019])")
_SEVERAL = re.compile(r"\(?[A-J]\)?(?:\s*(?:,|&|and|\s)\s*\(?[A-J]\)?)+|[A-J]{2,10}")


def chosen(response: str) -> str | None:
    """What a response chooses: its last box, else the letter that it says the answer is, else `any_answer`.

    A response may also begin with the letter (`C. Because`), or name one letter only.
    """
    boxed = boxed_answer(response)
    if boxed is not None:
        return boxed
    response = response[-_LAST_CHARACTERS:]
    if said := _ANSWER_IS.findall(response):
        return str(said[-1])
    label = _LABEL.fullmatch(response[:_MAX_CHARACTERS].strip())
    if label and (
        not label[2].strip() or label[2].lstrip()[:1] in ".:)。、" or not label[2][0].isascii()
    ):
        return label[1].upper()
    if stated := any_answer(response):
        return stated
    alone = {bracketed or bare for bracketed, bare in _ALONE.findall(response)}
    return alone.pop() if len(alone) == 1 else None


def same_choice(answer: str, reference: str, options: Sequence[str] | None = None) -> Verdict:
    """`unverifiable` where options are given and the reference is none of them, nor a letter of one."""
    answer, reference = answer[:_MAX_CHARACTERS].strip(), reference[:_MAX_CHARACTERS].strip()
    wanted = letters(reference, options)
    if wanted is None:
        if options is not None:
            return "unverifiable"
        given_text, wanted_text = (_text(text) for text in (answer, reference))
        label = _LABEL.fullmatch(answer)
        same = wanted_text in (given_text, _text(label[2]) if label else None)
        return "correct" if same else "wrong"
    return "correct" if letters(answer, options) == wanted else "wrong"


def order_in(extra: str | None) -> tuple[int, ...] | None:
    """In which order a row was shown the options, by the numbers they have in the problem; None for theirs."""
    try:
        values = json.loads(extra or "null")
    except NOT_PARSED:
        return None
    found = values.get("option_order") if isinstance(values, dict) else None
    if not isinstance(found, list) or sorted(map(str, found)) != sorted(
        map(str, range(len(found)))
    ):
        return None
    return tuple(found)


def as_shown(reference: str, options: Sequence[str], order: Sequence[int]) -> tuple[str, list[str]]:
    """Reference and options as a row saw them that was shown option `order[0]` under A, and so on.

    A reference that names no option stays as it is.
    """
    shown = [options[number] for number in order]
    wanted = letters(reference.strip(), options)
    if wanted is None:
        return reference, shown
    return "".join(sorted(LETTERS[order.index(LETTERS.index(one))] for one in wanted)), shown


def text_chosen(answer: str, shown: Sequence[str]) -> str:
    """The text of the options that an answer names, which no order changes; else the answer."""
    named = letters(answer.strip(), shown)
    if named is None:
        return answer
    return " and ".join(sorted(shown[LETTERS.index(letter)] for letter in named))


def letters(text: str, options: Sequence[str] | None) -> str | None:
    """The letters that a text names, sorted: by letter, by `C) text` or by the text of one option."""
    if options is not None and (by_text := _by_text(text, options)):
        return by_text
    plain = cleaned(text).strip("*_ ")
    if _SEVERAL.fullmatch(plain):
        named = re.findall("[A-J]", plain)
        found = "".join(sorted(set(named)))
        if len(found) < len(named):
            return None
    else:
        label = _LABEL.fullmatch(plain) or _LABEL.fullmatch(text)
        if label is None and (said := _ANSWER_IS.findall(text)):
            return str(said[-1])
        if label is None or (options is None and _is_sentence(label)):
            return None
        found = label[1].upper()
    if options is not None and any(LETTERS.index(letter) >= len(options) for letter in found):
        return None
    return found


def options_of(extra: str | None) -> list[str] | None:
    """The options among a problem's extra keys, in the order of their letters; None for none."""
    try:
        values = json.loads(extra or "null")
    except NOT_PARSED:
        return None
    found = (
        next((values[name] for name in _FIELDS if name in values), None)
        if isinstance(values, dict)
        else None
    )
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except NOT_PARSED:
            return None
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        found = found["text"]
    elif isinstance(found, Mapping):
        found = [found[key] for key in sorted(found)]
    return [str(option) for option in found] if isinstance(found, list) and found else None


def _is_sentence(label: re.Match[str]) -> bool:
    """`A cat`, where no option says that A is a letter; `A Peter` and `A) cat` name one."""
    after = label[2]
    return label[1] == "A" and after[:1].isspace() and after.strip()[:1].islower()


def _by_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the one option with this text, but for case, white space and spelling of numbers."""
    plain = _text(text)
    rules: tuple[Callable[[str], object], ...] = (
        lambda option: option.split() == text.split(),
        lambda option: _text(option) == plain,
        lambda option: len(plain) > 1 and same_answer(text, option),
    )
    for rule in rules:
        found = [letter for letter, option in zip(LETTERS, options, strict=False) if rule(option)]
        if found and plain:
            return found[0] if len(found) == 1 else None
    return None


def _text(text: str) -> str:
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", cleaned(text))
    return " ".join(plain.casefold().split()).strip(" .*\"'")

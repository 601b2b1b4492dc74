r"""Finds the letters of options in a text: `C`, `(C) text`, `A, C and D`, `\text{both A and C}`, an option's text.

A single letter may be an article (`A cat`), a symbol (`E = mc^2`) or part of a name (`E. coli`). So a letter is
read only where nothing else is possible. A text that contradicts itself names no letter.
"""

# ruff: noqa: RUF001 - full-width signs
import functools
import re
import string
from collections.abc import Callable, Sequence

from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.latex import normalized

LETTERS = string.ascii_uppercase
USUAL = LETTERS[:10]  # the letters allowed without options: as many as MMLU-Pro has
UNCLEAR = ""  # result for a text that contradicts itself: `A or C`, or `B) Paris` where Paris is A
MAX_CHARACTERS = 4000

_CJK = "\u3000-\u9fff\uac00-\ud7af\uff00-\uffef"
_WRAPPER = re.compile(r"\\text\{([^{}]*)\}|\\(?:q?quad|[ ,;])")
_MARKS = re.compile(r"[*_`$\"'\u2018\u2019\u201c\u201d]+")
_PREFIX = re.compile(
    r"\s*+(?:(?:both|options?|choices?|answers?|letters?|is|are|the)\b\s*+:?\s*+|(?:选项|答案|[:：])\s*+)*+",
    re.IGNORECASE,
)
_ITEM = r"(?>(?:[(（\[{]\s?)?(?<![A-Za-z])([A-Za-z])(?![A-Za-z'\u2019])(?:\s?[)）\]}])?)"
_SEPARATOR = (
    r"(?>\s*+(?:[,;，、；]\s*+(?i:and\b|or\b|&)?|&|\+|/|\b(?i:and|or)\b|和|与|及|以及|或)\s*+)"
)
# possessive: no backtracking, so that the time is linear
_SEVERAL = re.compile(rf"[(（\[{{]?+{_ITEM}(?:{_SEPARATOR}{_ITEM})++[)）\]}}]?")
_SPACED = re.compile(r"[A-Z](?:\s++[A-Z])++|[A-J]{2,10}|\([A-Z]\)(?:\s*+\([A-Z]\))++")
_AFTER_LETTERS = re.compile(
    r"\s*(?:only|(?:are|is)(?: both| all)? (?:correct|right|true))?[\s.。]*\Z", re.IGNORECASE
)
_UNDECIDED = re.compile(r"\bor\b|或|/", re.IGNORECASE)
_ALONE = re.compile(r"[(（\[{]?\s*([A-Za-z])\s*[)）\]}]?[\s.:,。、)]*")
_LABEL = re.compile(
    rf"[(（\[{{]?\s*([A-Za-z])\s*(?:[)）\]}}]+[.:,]?|[.:：,。、]|(?=[{_CJK}])|(?=\s))\s*(.*)",
    re.DOTALL,
)
_WIDE = re.compile(f"[{_CJK}]")
_OTHER_LABEL = re.compile(r"(?<=[\s(（])([A-Z])[)）.:]\s*+([^\s.,;]{1,20})")
_LETTER_AT_END = re.compile(r"[(（\[]\s*(?i:option|choice|answer)?\s*([A-Za-z])\s*[)）\]]\s*\Z")
_NONE_OF = re.compile(
    r"none of (?:the )?(?:above|these|those|them|options|choices|others?)(?: options| choices)?"
)


def letters(text: str, options: Sequence[str] | None) -> str | None:
    """The letters that a text names, sorted; None if it names none, UNCLEAR if it contradicts itself."""
    return _letters(text[:MAX_CHARACTERS], None if options is None else tuple(options))


@functools.lru_cache(maxsize=1024)
def _letters(text: str, options: tuple[str, ...] | None) -> str | None:
    allowed = USUAL if options is None else LETTERS[: len(options)]
    plain = _plain(text)
    if len(plain) == 1 and plain in allowed:
        return plain
    texts = None if options is None else unlabelled(options)
    by_text = None if texts is None else letter_of_text(text, texts)
    alone = _ALONE.fullmatch(plain[_start(plain) :])
    if alone:
        named = alone[1].upper()
        if by_text not in (None, named):
            return by_text if alone[1].islower() and len(plain) > 1 else UNCLEAR
        return named if named in allowed else None
    if by_text is not None:
        return by_text
    several = _several(plain)
    if several is not None:
        return several if set(several) <= set(allowed) else None
    return _labelled(plain, allowed, texts)


def clear_caches() -> None:
    """Empty the caches."""
    _letters.cache_clear()
    plain_text.cache_clear()


def unlabelled(options: Sequence[str]) -> list[str]:
    """The options without their labels, if each begins with its own letter: `A) red`, `B) blue`."""
    labels = [_LABEL.fullmatch(option.strip()[:MAX_CHARACTERS]) for option in options]
    own = [
        label is not None and label[1] == letter and not label[0][1:2].isspace()
        for label, letter in zip(labels, LETTERS, strict=False)
    ]
    if not all(own) or len(own) < len(options):
        return list(options)
    return [label[2] for label in labels if label is not None]


@functools.lru_cache(maxsize=1024)
def plain_text(text: str) -> str:
    """A text normalized for comparison: without differences of case, white space and formatting."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", normalized(text[:MAX_CHARACTERS]))
    plain = " ".join(plain.casefold().split()).strip(" .*\"'")
    return "none of the above" if _NONE_OF.fullmatch(plain) else plain


def is_only_letters(text: str) -> bool:
    """Whether a text consists only of letters of options: `**(C)**`, `A, C`."""
    plain = _plain(text[:MAX_CHARACTERS])
    rest = plain[_start(plain) :]
    without_stop = rest.rstrip(". ")
    patterns = ((_ALONE, rest), (_SPACED, without_stop), (_SEVERAL, without_stop))
    return any(pattern.fullmatch(part) for pattern, part in patterns)


def label_and_text(text: str) -> tuple[str, str] | None:
    """The letter and the text of `C) text`; None for a text without a label."""
    label = _LABEL.fullmatch(_plain(text[:MAX_CHARACTERS]))
    return None if label is None else (label[1].upper(), label[2])


def _plain(text: str) -> str:
    """The text without the LaTeX and Markdown marks around its words."""
    unwrapped = _WRAPPER.sub(r" \1 ", normalized(text))
    return _MARKS.sub("", unwrapped.replace("\\{", "{").replace("\\}", "}")).strip()


def _start(plain: str) -> int:
    """The position of the letters, after words such as "both", "option", "the answer is"."""
    prefix = _PREFIX.match(plain)
    return prefix.end() if prefix else 0


def _several(plain: str) -> str | None:
    """The letters of `A, C`, `both (A) and (C)`, `ACD`; UNCLEAR for `A or C`; None for anything else."""
    rest = plain[_start(plain) :]
    spaced = _SPACED.fullmatch(rest.rstrip(". "))
    match = spaced or _SEVERAL.match(rest)
    if match is None:
        return None
    named = re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", match[0]) or list(match[0])
    if spaced is None and not _AFTER_LETTERS.match(rest, match.end()):
        return UNCLEAR if named[0].isupper() and named[1].isupper() else None
    if _UNDECIDED.search(match[0]):
        return UNCLEAR
    sorted_letters = "".join(sorted({letter.upper() for letter in named}))
    return sorted_letters if len(sorted_letters) == len(named) else None


def _labelled(plain: str, allowed: str, options: Sequence[str] | None) -> str | None:
    """The letter of `C) text`, `C text` or `Paris (C)`; the text must not be that of another option."""
    if options is not None and (at_end := _LETTER_AT_END.search(plain, max(0, len(plain) - 40))):
        named = at_end[1].upper()
        if letter_of_text(plain[: at_end.start()], options) == named:
            return named
    label = _LABEL.fullmatch(plain, _start(plain))
    if label is None or label[1].upper() not in allowed:
        return None
    named, text = label[1].upper(), label[2].lstrip("-\u2013\u2014: ")
    mark = plain[label.start() : label.start(2)].rstrip()
    is_marked = not mark[-1:].isalpha() or bool(_WIDE.match(text))
    if options is None:
        is_name = label[1].isupper() and text[:1].isupper() and text[1:2].isalpha()
        return named if is_marked or is_name else None
    by_text = letter_of_text(text, options)
    if by_text is not None:
        return by_text if by_text == named else UNCLEAR
    if text and any(_begins(option, f"{mark} {text.split()[0]}") for option in options):
        return None  # `E. coli`
    others = {
        other[1]
        for other in _OTHER_LABEL.finditer(text)
        if other[1] in allowed and _begins(options[LETTERS.index(other[1])], other[2])
    }
    if others:  # `(A) red, (C) blue`
        return "".join(sorted({named, *others}))
    return named if is_marked else None


def _begins(option: str, text: str) -> bool:
    plain = plain_text(text)
    return bool(plain) and plain_text(option[:100]).startswith(plain)


def letter_of_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the only option with this text, ignoring case, white space and the spelling of numbers."""
    plain = plain_text(text)
    is_letter = len(plain) == 1 and plain.isalpha()
    rules: tuple[Callable[[str], object], ...] = (
        lambda option: option.split() == text.split(),
        lambda option: plain_text(option) == plain,
        lambda option: (
            not is_letter and len(option) <= MAX_CHARACTERS and same_answer(text, option)
        ),
    )
    for rule in rules:
        matches = [letter for letter, option in zip(LETTERS, options, strict=False) if rule(option)]
        if matches and plain:
            return matches[0] if len(matches) == 1 else None
    return None

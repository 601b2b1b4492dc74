"""Mixed scripts: Chinese words in English reasoning, English sentences in Chinese reasoning.

R1 and QwQ switch to Chinese for a word or a paragraph. We count letters of other scripts, in runs of two or more, each
distinct run once. Formulas (and Greek letters) do not count, nor text of the problem, text in quotes or brackets, and
short runs that are so frequent that they are names. In a Chinese text only whole clauses of Latin words count, because
names, units and code are Latin in any language.
"""

import re
from collections import Counter

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Trace
from distillpipe.filters.rules import Drop

_LAST = 300_000  # characters; of a longer trace, only the end is searched
_NAME_LETTERS = 4
_NAME_TIMES = 3
_LATIN_WEIGHT = 3  # three Latin letters say as much as one Chinese character
_EAST_ASIAN = "Chinese, Japanese, Korean"
_SCRIPTS = {
    _EAST_ASIAN: "\u1100-\u11ff\u3040-\u30fa\u30fc-\u30ff\u3400-\u9fff\uac00-\ud7af",
    "Cyrillic": "\u0400-\u052f",
    "Hebrew, Arabic": "\u0590-\u06ff",
    "Indic, Thai": "\u0900-\u0eff",
}
_FIRST_BYTES = {*range(0xD0, 0xEE)} - {0xE2}  # arrows, dashes and quotes begin with 0xE2
_OTHER_BYTES = bytes(code for code in range(256) if code not in _FIRST_BYTES)
_QUOTES = re.escape("\"'“‘「『《(（[*")  # noqa: RUF001 - quotation marks of all scripts
_RUNS = {
    name: re.compile(f"(?<![{_QUOTES}{letters}])[{letters}]{{2,}}(?:[，、。 ][{letters}]+)*")  # noqa: RUF001 - their commas and stops
    for name, letters in _SCRIPTS.items()
}
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_LATIN = re.compile("[A-Za-z]")
_CLAUSE = re.compile(r"(?:\b[A-Za-z][a-z']{0,40}+[ ,]++){4,}+")
_FORMULA = re.compile(
    r"```.{0,500}?```|\$\$.{0,500}?\$\$|\$[^$\n]*\$|\\\(.{0,500}?\\\)|\\\[.{0,500}?\\\]",
    re.DOTALL,
)


def mixed_scripts(trace: Trace, options: FilterOptions) -> Drop | None:
    """The trace has more letters of other scripts than the maximum."""
    if options.max_foreign_letters is None:
        return None
    if not (_may_be_mixed(trace.reasoning) or _may_be_mixed(trace.response)):
        return None
    count = num_foreign_letters(f"{trace.reasoning}\n{trace.response}", trace.problem)
    return Drop("mixed_scripts", str(count)) if count > options.max_foreign_letters else None


def _may_be_mixed(text: str) -> bool:
    """Whether `text` may have a letter of such a script; much faster than the patterns."""
    if text.isascii():
        return False
    return bool(text.encode("utf-8", "surrogatepass").translate(None, _OTHER_BYTES))


def num_foreign_letters(text: str, problem: str = "") -> int:
    """The number of letters of `text` in other scripts than its main one, except text from `problem`."""
    text = _FORMULA.sub(" ", text[-_LAST:])
    weights = {name: len(letters.findall(text)) for name, letters in _LETTERS.items()}
    main = max(weights, key=lambda name: weights[name])
    runs: list[str] = []
    weight = _LATIN_WEIGHT if main == _EAST_ASIAN else 1
    if weights[main] * weight < len(_LATIN.findall(text)):
        main = "Latin"
    elif main == _EAST_ASIAN:
        runs = _CLAUSE.findall(text)
    for name, pattern in _RUNS.items():
        if name != main:
            runs += pattern.findall(text)
    counted = Counter(runs)
    return sum(
        sum(map(str.isalpha, run))
        for run, times in counted.items()
        if run not in problem and not (times >= _NAME_TIMES and len(run) <= _NAME_LETTERS)
    )

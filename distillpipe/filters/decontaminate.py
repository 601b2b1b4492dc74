r"""Decontamination: find benchmark problems among the training problems. Problems are compared, never prompts.

`share`, the default, compares words (words.py). A problem is contaminated by a benchmark row in one of three cases:
- held: it contains the row, that is a large share of the row's 4-grams and all its numbers; a short row must occur word
  by word, and not as the start of a longer formula;
- cut: it is a part of the row, that is nearly all of its 4-grams are in the row and are a large share of the row's;
- reworded: it has exactly the same numbers, two or more, the same signs, and mostly the same words in any order.
A problem with other numbers is another problem with another answer, so it is kept.

`ngram8` is the rule of open-r1 (scripts/decontaminate.py) and s1 (data/decontaminate_util.py): eight consecutive words in
common, lower case, split at white space. A problem with fewer words never matches.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from distillpipe.filters.words import diagram_numbers, numbers_in, words_of

Mode = Literal["share", "ngram8"]
Kind = Literal["held", "cut", "reworded"]

RUN = 4  # words: the length of an n-gram
NUMBERED = 2  # numbers; a row with fewer differs from similar rows by its words alone
HELD_SHARE = 0.5  # least share of the row's n-grams in the problem
HELD_SHARE_UNNUMBERED = 0.6  # the same for a row with fewer than NUMBERED numbers
CUT_SHARE = 0.9  # least share of the problem's n-grams in the row
CUT_LEAST = 0.4  # least share of the row's n-grams in a problem that was cut from it
SHORT = 8  # a row with fewer words must occur word by word
SHORT_UNNUMBERED = 16  # the same for a row with fewer than NUMBERED numbers
REWORDED_SHARE = 0.5  # least Jaccard index of the words without numbers
DIAGRAM_SHARE = 0.8  # least share of the row's numbers in diagrams, if both have diagrams
# if one of these follows a match, the match is the start of a longer formula
SIGNS = ("+", "-", "^", "!")
PIECE = 1 << 18  # characters of a long text that are compared at a time

Run = tuple[str, ...]


class Match(NamedTuple):
    """The benchmark row that a problem matches."""

    benchmark: str
    row: str
    kind: Kind
    share: float
    "share of the row's n-grams in the problem, or for `reworded` of the words; in (0, 1]"


class _ProblemFeatures(NamedTuple):
    """The features of a problem that are compared."""

    words: list[str]
    num_runs: int
    numbers: Counter[str]
    others: Counter[str]
    "words that are not numbers"
    diagram: Counter[str]
    "numbers in diagrams"

    @classmethod
    def of(cls, problem: str, words: list[str], length: int) -> "_ProblemFeatures":
        numbers = Counter(numbers_in(words))
        return cls(
            words,
            len(set(_runs(words, length))),
            numbers,
            Counter(words) - numbers,
            Counter(diagram_numbers(problem)),
        )

    @property
    def signs(self) -> list[int]:
        return [self.others[sign] for sign in SIGNS]

    @property
    def is_numbered(self) -> bool:
        return self.numbers.total() >= NUMBERED

    @property
    def is_short(self) -> bool:
        return len(self.words) < (SHORT if self.is_numbered else SHORT_UNNUMBERED)


class Decontaminator:
    """An index of benchmark problems.

    `rows` are (benchmark, row id, problem); rows without words are left out. Building the index and `match` take time
    linear in the length of the texts.
    """

    def __init__(self, rows: Iterable[tuple[str, str, str]], mode: Mode = "share") -> None:
        self._split = words_of if mode == "share" else lambda text: text.lower().split()
        self._length = RUN if mode == "share" else 8
        self._matches = self._matches_by_share if mode == "share" else self._matches_by_run
        self._names: list[tuple[str, str]] = []
        self._texts: list[_ProblemFeatures] = []
        self._having: defaultdict[Run, list[int]] = defaultdict(list)
        self._without_runs: defaultdict[str, list[int]] = defaultdict(list)  # by longest word
        self._numbered: defaultdict[Run, list[int]] = defaultdict(list)  # by all numbers, sorted
        self._overlap = 1024
        for benchmark, row, problem in rows:
            words = self._split(problem)
            if not words:
                continue
            text = _ProblemFeatures.of(problem, words, self._length)
            index = len(self._texts)
            self._names.append((benchmark, row))
            self._texts.append(text)
            for run in set(_runs(words, self._length)):
                self._having[run].append(index)
            if not text.num_runs:
                self._without_runs[max(words, key=len)].append(index)
            if text.is_numbered:
                self._numbered[tuple(sorted(numbers_in(words)))].append(index)
            self._overlap = max(self._overlap, 2 * len(problem))

    def match(self, problem: str) -> Match | None:
        """The row with the largest share, the first one of equals; None without a match."""
        return max(self._matches(problem), key=lambda match: match.share, default=None)

    def _matches_by_run(self, problem: str) -> Iterator[Match]:
        shared: set[Run] = set()
        for piece, is_first, is_last in _pieces(problem, self._overlap):
            words = self._split(piece)
            shared |= self._shared(words[not is_first : None if is_last else -1])  # whole words
        for index, num_shared in sorted(self._num_shared(shared).items()):
            yield Match(*self._names[index], "held", num_shared / self._texts[index].num_runs)

    def _matches_by_share(self, problem: str) -> Iterator[Match]:
        for piece, _, _ in _pieces(problem, self._overlap):
            words = self._split(piece)
            num_shared = self._num_shared(self._shared(words))
            likely = {
                index
                for index, number in num_shared.items()
                if number >= CUT_LEAST * self._texts[index].num_runs
            }
            for word in self._without_runs.keys() & words:
                likely.update(self._without_runs[word])
            likely.update(self._numbered.get(tuple(sorted(numbers_in(words))), ()))
            if not likely:
                continue
            text = _ProblemFeatures.of(piece, words, RUN)
            for index in sorted(likely):
                if (kind := _kind(self._texts[index], text, num_shared.get(index, 0))) is not None:
                    yield Match(*self._names[index], *kind)

    def _shared(self, words: list[str]) -> set[Run]:
        """The n-grams of the words that occur in any row."""
        return set(filter(self._having.__contains__, _runs(words, self._length)))

    def _num_shared(self, shared: set[Run]) -> dict[int, int]:
        """The number of these n-grams in each row."""
        number: dict[int, int] = {}
        for run in shared:
            for index in self._having[run]:
                number[index] = number.get(index, 0) + 1
        return number


def _kind(
    row: _ProblemFeatures, problem: _ProblemFeatures, num_shared: int
) -> tuple[Kind, float] | None:
    """The kind of the match and its share; None if the problem does not match the row."""
    if row.diagram and problem.diagram:
        num_in_both = (row.diagram & problem.diagram).total()
        if num_in_both < DIAGRAM_SHARE * row.diagram.total():
            return None
    share = num_shared / row.num_runs if row.num_runs else 1.0
    least = HELD_SHARE if row.is_numbered else HELD_SHARE_UNNUMBERED
    if row.is_short or (share == 1 and len(row.words) < SHORT_UNNUMBERED):
        is_held = _stands_in(row.words, problem.words)
    else:
        is_held = share >= least and row.numbers <= problem.numbers
    if is_held:
        return "held", share
    if (
        share >= CUT_LEAST
        and num_shared >= CUT_SHARE * problem.num_runs
        and problem.numbers <= row.numbers
        and not problem.is_short
    ):
        return "cut", share
    if row.is_numbered and row.numbers == problem.numbers and row.signs == problem.signs:
        num_words = (row.others | problem.others).total()
        share_of_words = (row.others & problem.others).total() / max(num_words, 1)
        if share_of_words >= REWORDED_SHARE:
            return "reworded", share_of_words
    return None


def _stands_in(short: list[str], words: list[str]) -> bool:
    """Whether `words` contain `short` contiguously, and not as a part of a longer formula."""
    for start in range(len(words) - len(short) + 1):
        end = start + len(short)
        if words[start] != short[0] or words[start:end] != short:
            continue
        if end == len(words) or words[end] not in SIGNS:
            return True
    return False


def _runs(words: list[str], length: int) -> Iterator[Run]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def _pieces(text: str, overlap: int) -> Iterator[tuple[str, bool, bool]]:
    """The text, or overlapping pieces of a long text, and whether each piece is the first and the last."""
    for start in range(0, max(len(text), 1), PIECE):
        is_last = start + PIECE >= len(text)
        yield text[start : start + PIECE + overlap], start == 0, is_last
        if is_last:
            return

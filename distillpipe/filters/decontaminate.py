r"""Problems of benchmarks among the problems to train on; problems are compared, never prompts.

`share`, the default, compares words (problem_words.py). A problem is contaminated by a row of a benchmark if it
- holds the row: a good part of the row's runs of four words and each of its numbers; a short row must stand in it
  word by word, and not as the beginning of a longer formula;
- is cut from the row: nearly all of its runs are the row's, and they are a good part of those;
- is the row reworded: exactly the same numbers, two or more, and signs, and mostly the same words in any order.
A twin with other numbers is another problem, with another answer: it is kept.

`ngram8` is the rule of open-r1 (scripts/decontaminate.py) and s1 (data/decontaminate_util.py): eight words in a
row in common, lower case, split at white space; a problem of fewer words never matches.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from distillpipe.filters.words import diagram_numbers, numbers_in, words_of

Mode = Literal["share", "ngram8"]
Kind = Literal["held", "cut", "reworded"]

RUN = 4  # words
NUMBERED = 2  # numbers: a row with fewer is told from others of its kind by its words alone
HELD_SHARE = 0.5  # of the row's runs stand in the problem;
HELD_SHARE_UNNUMBERED = 0.6  # of a row with few numbers
CUT_SHARE = 0.9  # of the problem's runs stand in the row,
CUT_LEAST = 0.4  # which are at least this share of the row's
SHORT = 8  # a row of fewer words must be found word by word;
SHORT_UNNUMBERED = 16  # of one with few numbers
REWORDED_SHARE = 0.5  # of the words of either, numbers apart, are in both
DIAGRAM_SHARE = 0.8  # of the row's numbers in diagrams, where both have diagrams
SIGNS = ("+", "-", "^", "!")  # a row that goes on with one is the beginning of a longer formula
PIECE = 1 << 18  # characters of a long text that are looked at together

Run = tuple[str, ...]


class Match(NamedTuple):
    """The row of a benchmark that a problem was found to be."""

    benchmark: str
    row: str
    kind: Kind
    share: float
    "of the row's runs of words that stand in the problem, or for `reworded` of the words; in (0, 1]"


class _Text(NamedTuple):
    """What is compared of a problem."""

    words: list[str]
    num_runs: int
    numbers: Counter[str]
    others: Counter[str]
    "words that are not numbers"
    diagram: Counter[str]
    "numbers in diagrams"

    @classmethod
    def of(cls, problem: str, words: list[str], length: int) -> "_Text":
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
    """An index of the problems of benchmarks; `match` asks it about one problem at a time.

    `rows` are (benchmark, row's id, problem); a row without a word is left out. Building and asking take time
    linear in the length of the texts.
    """

    def __init__(self, rows: Iterable[tuple[str, str, str]], mode: Mode = "share") -> None:
        self._split = words_of if mode == "share" else _plain_words
        self._length = RUN if mode == "share" else 8
        self._found = self._found_by_share if mode == "share" else self._found_by_run
        self._names: list[tuple[str, str]] = []
        self._texts: list[_Text] = []
        self._having: defaultdict[Run, list[int]] = defaultdict(list)
        self._without_runs: defaultdict[str, list[int]] = defaultdict(list)  # by their longest word
        self._numbered: defaultdict[Run, list[int]] = defaultdict(list)  # by all their numbers
        self._overlap = 1024
        for benchmark, row, problem in rows:
            words = self._split(problem)
            if not words:
                continue
            text = _Text.of(problem, words, self._length)
            at = len(self._texts)
            self._names.append((benchmark, row))
            self._texts.append(text)
            for run in set(_runs(words, self._length)):
                self._having[run].append(at)
            if not text.num_runs:
                self._without_runs[max(words, key=len)].append(at)
            if text.is_numbered:
                self._numbered[tuple(sorted(numbers_in(words)))].append(at)
            self._overlap = max(self._overlap, 2 * len(problem))

    def match(self, problem: str) -> Match | None:
        """The row that the problem has the largest share of, null where there is none; the first of equals."""
        return max(self._found(problem), key=lambda match: match.share, default=None)

    def _found_by_run(self, problem: str) -> Iterator[Match]:
        shared: set[Run] = set()
        for piece, is_first, is_last in _pieces(problem, self._overlap):
            words = self._split(piece)
            shared |= self._shared(words[not is_first : None if is_last else -1])  # whole words
        for at, num_shared in sorted(self._num_shared(shared).items()):
            yield Match(*self._names[at], "held", num_shared / self._texts[at].num_runs)

    def _found_by_share(self, problem: str) -> Iterator[Match]:
        for piece, _, _ in _pieces(problem, self._overlap):
            words = self._split(piece)
            num_shared = self._num_shared(self._shared(words))
            likely = {
                at
                for at, number in num_shared.items()
                if number >= CUT_LEAST * self._texts[at].num_runs
            }
            for word in self._without_runs.keys() & words:
                likely.update(self._without_runs[word])
            likely.update(self._numbered.get(tuple(sorted(numbers_in(words))), ()))
            if not likely:
                continue
            text = _Text.of(piece, words, RUN)
            for at in sorted(likely):
                if (kind := _kind(self._texts[at], text, num_shared.get(at, 0))) is not None:
                    yield Match(*self._names[at], *kind)

    def _shared(self, words: list[str]) -> set[Run]:
        """The runs of the words that any row has."""
        return set(filter(self._having.__contains__, _runs(words, self._length)))

    def _num_shared(self, shared: set[Run]) -> dict[int, int]:
        """By row, how many of the runs it has."""
        number: dict[int, int] = {}
        for run in shared:
            for at in self._having[run]:
                number[at] = number.get(at, 0) + 1
        return number


def _kind(row: _Text, problem: _Text, num_shared: int) -> tuple[Kind, float] | None:
    """How the problem is the row, and the share; null where it is not."""
    if row.diagram and problem.diagram:
        num_in_both = (row.diagram & problem.diagram).total()
        if num_in_both < DIAGRAM_SHARE * row.diagram.total():
            return None
    share = num_shared / row.num_runs if row.num_runs else 1.0
    if _holds(row, problem, share):
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


def _holds(row: _Text, problem: _Text, share: float) -> bool:
    if row.is_short or (share == 1 and len(row.words) < SHORT_UNNUMBERED):
        return _stands_in(row.words, problem.words)
    least = HELD_SHARE if row.is_numbered else HELD_SHARE_UNNUMBERED
    return share >= least and row.numbers <= problem.numbers


def _stands_in(short: list[str], words: list[str]) -> bool:
    """Whether the words hold the short ones one after the other, not as a part of a longer formula."""
    for at in range(len(words) - len(short) + 1):
        end = at + len(short)
        if words[at] != short[0] or words[at:end] != short:
            continue
        if end == len(words) or words[end] not in SIGNS:
            return True
    return False


def _runs(words: list[str], length: int) -> Iterator[Run]:
    return zip(*(words[at:] for at in range(length)), strict=False)


def _plain_words(text: str) -> list[str]:
    return text.lower().split()


def _pieces(text: str, overlap: int) -> Iterator[tuple[str, bool, bool]]:
    """The text whole, or a long one in pieces that overlap, and whether each is the first and the last."""
    for start in range(0, max(len(text), 1), PIECE):
        is_last = start + PIECE >= len(text)
        yield text[start : start + PIECE + overlap], start == 0, is_last
        if is_last:
            return

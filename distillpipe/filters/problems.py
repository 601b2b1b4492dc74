"""The problems of the traces: what their verifiers need of them, and those that go with the rows kept."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe import verify
from distillpipe.base.decoding import json_object
from distillpipe.base.filter_options import FilterOptions, Forcing
from distillpipe.base.options import Prompting
from distillpipe.base.records import Problem, Trace
from distillpipe.data import sources
from distillpipe.data.store import dataset
from distillpipe.data.store.jsonl import Spool, decoded
from distillpipe.filters.decontaminate import Decontaminator, Match, Mode
from distillpipe.filters.difficulty import PassRates, read_pass_rates, unwanted_difficulty
from distillpipe.filters.domains import cluster_domains
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import check_options
from distillpipe.filters.strategies import Candidate


class ProblemOfRow(msgspec.Struct, frozen=True):
    """What a row says of its problem; the rest of the line is passed over."""

    problem_id: str
    problem: str
    reference_answer: str | None
    verifier: str
    domain: str | None
    benchmark: str | None


class Extras:
    """The other keys of the problems whose verifier looks at them; on disk, as tests may be large."""

    def __init__(self, inputs: list[str], options: FilterOptions, folder: Path) -> None:
        self.verifiers: set[str] = set()
        self._spool = Spool(folder, Problem)
        self._numbers: dict[str, int] = {}
        for reference in inputs:
            for problem in dataset.read_problems(reference):
                verifier = options.verifier or problem.verifier
                verify.check_name(verifier)
                self.verifiers.add(verifier)
                if problem.extra and verify.VERIFIERS[verifier].reads_extra:
                    self._numbers[problem.problem_id] = len(self._spool)
                    self._spool.append(problem)
        self._spool.flush()

    def of(self, trace: Trace) -> str | None:
        number = self._numbers.get(trace.problem_id)
        return None if number is None else self._spool[number].extra


def problems_of(inputs: list[str], folder: Path) -> Iterator[Problem]:
    """The distinct problems of the rows in `folder`: as the inputs list them, else from the rows."""
    rows = dataset.read_rows(folder, "part", ProblemOfRow)
    left = {row.problem_id: row.domain for row in rows}
    for reference in inputs:
        for problem in dataset.read_problems(reference):
            if problem.problem_id in left:
                yield msgspec.structs.replace(problem, domain=left.pop(problem.problem_id))
    if not left:
        return
    for row in dataset.read_rows(folder, "part", ProblemOfRow):
        if row.problem_id in left:
            left.pop(row.problem_id)
            yield Problem(**msgspec.structs.asdict(row))


def texts_of(inputs: list[str]) -> Iterator[tuple[str, str]]:
    """Id and text of the problem of each row."""
    for reference in inputs:
        for path in dataset.trace_files(reference):
            for row in decoded(path, ProblemOfRow):
                yield row.problem_id, row.problem


# Problems that a model which reads text only cannot work on, or that are several: s1's rules.
#
#     problem_needs_picture     "[asy]\ndraw(circle(A, 2)); ..."     also ![Image]; AIME's [asy] is kept
#     several_problems          "p1. Find all ... p2. Prove ..."
#     label_in_problem          "**B6** Let f be ..."
#
# Source: the selection of s1K (arXiv 2501.19393, 3.1, and data/filter.ipynb of simplescaling/s1).


SOURCE_KEYS = ("source", "source_type")  # where datasets say what a problem comes from
PICTURE_CODE, PICTURE = "[asy]", "![Image]"
NUMBERED = re.compile(r"p[1-9]\d{0,2}\.", re.ASCII)
BOLD = re.compile(r"\*\*[^\s\]]*\*\*")


def unclear_problem(problem: str, source: str = "") -> Drop | None:
    """Why a problem is no good for a model that reads, with the text that says so; null where it is.

    AIME's problems keep their pictures as code, and nothing else is asked of those: so s1 has it.
    """
    if PICTURE_CODE in problem:
        return None if "AIME" in source else Drop("problem_needs_picture", PICTURE_CODE)
    if PICTURE in problem:
        return Drop("problem_needs_picture", PICTURE)
    if found := NUMBERED.search(problem):
        return Drop("several_problems", found[0])
    if label := _label(problem):
        return Drop("label_in_problem", label)
    return None


def source_of(*extras: str | None) -> str:
    """What a problem comes from, as the first of its other keys says that names it; "" if none does."""
    for extra in extras:
        values = json_object(extra)
        for key in SOURCE_KEYS:
            if isinstance(value := values.get(key), str) and value:
                return value
    return ""


def _label(problem: str) -> str | None:
    """Bold text in one piece that has a digit in it or behind it on its line."""
    for line in problem.split("\n"):
        bold = BOLD.search(line)
        if bold and re.compile(r"\d").search(line, bold.start() + 2):
            return bold[0]
    return None


# What is known of problems besides their rows.
#
# Which of them stand in a benchmark, pass rates of models, where they come from, their clusters.


AS_THEY_ARE = Prompting(prompt_template="{problem}")


class Others(NamedTuple):
    """What `filter` reads beside traces."""

    predictions: list[str]
    "datasets that tell how hard problems are"
    benchmarks: list[str]
    "references whose problems are kept out"
    tokenizer: str | None = None
    "a model whose tokens are counted where reasoning is cut"
    forcing: Forcing | None = None
    "who answers where reasoning is too long"

    def check(self, options: FilterOptions) -> None:
        """Raises UsageError for options that say nothing without one another, or without these."""
        has_tokenizer = self.tokenizer is not None
        check_options(
            options, has_difficulty=bool(self.predictions), has_tokenizer=has_tokenizer,
            has_teacher=self.forcing is not None,
        )  # fmt: skip


NO_OTHERS = Others(predictions=[], benchmarks=[])


class Contamination:
    """Which problems stand in the benchmarks to keep out; each problem is looked up once."""

    def __init__(self, references: Sequence[str], mode: Mode) -> None:
        self._index = Decontaminator(_rows_of(references), mode) if references else None
        self._found: dict[str, Match | None] = {}

    def drop(self, trace: Trace) -> Drop | None:
        if self._index is None:
            return None
        if trace.problem_id not in self._found:
            self._found[trace.problem_id] = self._index.match(trace.problem)
        match = self._found[trace.problem_id]
        if match is None:
            return None
        return Drop("contaminated", f"{match.benchmark} {match.row} {match.kind} {match.share:.2f}")


class Known(NamedTuple):
    """Each by problem_id; empty where the options have no use for it."""

    contamination: Contamination
    rates: PassRates
    origins: dict[str, str]
    domains: dict[str, str]

    def drops(self, trace: Trace, options: FilterOptions) -> Iterator[Drop]:
        """Why the problem of a row is not wanted: a benchmark has it, s1's rules of quality, pass rates."""
        found = [self.contamination.drop(trace)]
        if options.strategy == "s1":
            found.append(unclear_problem(trace.problem, self.source(trace)))
        found.append(unwanted_difficulty(trace.problem_id, self.rates, options))
        yield from filter(None, found)

    def domain(self, trace: Trace) -> str | None:
        """The cluster of a row's problem, where clusters were asked for, else the row's own domain."""
        return self.domains.get(trace.problem_id, trace.domain)

    def candidate(self, trace: Trace, options: FilterOptions) -> Candidate:
        source = self.source(trace) if options.strategy == "s1" else ""
        return Candidate.of(trace, self.domain(trace), source)

    def source(self, trace: Trace) -> str:
        """Where its problem comes from, "" where nothing says so."""
        return source_of(trace.extra) or self.origins.get(trace.problem_id, "")


def read_known(inputs: list[str], others: Others, options: FilterOptions) -> Known:
    """Read what `options` need from the traces `inputs` and from the other datasets."""
    origins, domains = {}, {}
    if options.strategy == "s1":
        problems = (problem for given in inputs for problem in dataset.read_problems(given))
        origins = {
            problem.problem_id: source
            for problem in problems
            if (source := source_of(problem.extra))
        }
    if options.num_clusters is not None:
        domains = cluster_domains(texts_of(inputs), options.num_clusters, options.seed)
    contamination = Contamination(others.benchmarks, options.decontaminate_mode)
    return Known(contamination, read_pass_rates(others.predictions), origins, domains)


def near_problems(
    inputs: list[str], candidates: Iterable[Candidate], options: FilterOptions
) -> dict[str, str]:
    """With `--dedup near` the problems that are nearly others': which, and how like, by problem_id."""
    if options.dedup != "near":
        return {}
    from distillpipe.filters.near_duplicates import (
        near_duplicates,  # numpy: not for an "up to date" answer
    )

    left = {candidate.problem_id for candidate in candidates}
    texts = ((number, text) for number, text in texts_of(inputs) if number in left)
    near = near_duplicates(texts, options.near_threshold, options.seed)
    return {one: f"{other} {similarity:.2f}" for one, (other, similarity) in near.items()}


def _rows_of(references: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Benchmark, number of the row from 1, and problem."""
    for reference in references:
        for number, problem in enumerate(sources.read_problems(reference, AS_THEY_ARE, None), 1):
            yield reference, str(number), problem.problem

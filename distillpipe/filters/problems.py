"""The problems of the traces: extra keys for verifiers, quality rules, decontamination, and other facts."""

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
from distillpipe.data.sources import Problems
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.jsonl import Spool
from distillpipe.filters.decontaminate import Decontaminator, Match, Mode
from distillpipe.filters.difficulty import PassRates, read_pass_rates, unwanted_difficulty
from distillpipe.filters.domains import cluster_domains
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import check_options
from distillpipe.filters.strategies import Candidate


class ProblemOfRow(msgspec.Struct, frozen=True):
    """The fields of a row that describe its problem; other fields are not decoded."""

    problem_id: str
    problem: str
    reference_answer: str | None
    verifier: str
    domain: str | None
    benchmark: str | None


class ProblemExtras:
    """The other keys of problems whose verifier reads them; kept on disk, because tests of programs may be large."""

    def __init__(self, inputs: list[Dataset], options: FilterOptions, folder: Path) -> None:
        self.verifiers: set[str] = set()
        self._spool = Spool(folder, Problem)
        self._numbers: dict[str, int] = {}
        for source in inputs:
            for problem in dataset.read_problems(source):
                verifier = options.verifier or problem.verifier
                verify.check_name(verifier)
                self.verifiers.add(verifier)
                if problem.extra and verify.rule_of(verifier).reads_extra:
                    self._numbers[problem.problem_id] = len(self._spool)
                    self._spool.append(problem)
        self._spool.flush()

    def of(self, trace: Trace) -> str | None:
        number = self._numbers.get(trace.problem_id)
        return None if number is None else self._spool[number].extra


def problems_of(inputs: list[Dataset], folder: Path) -> Iterator[Problem]:
    """The distinct problems of the rows in `folder`, from the inputs' list of problems, else from the rows."""
    pending = {row.problem_id: row.domain for row in dataset.scan(folder, ProblemOfRow)}
    for source in inputs:
        for problem in dataset.read_problems(source):
            if problem.problem_id in pending:
                yield msgspec.structs.replace(problem, domain=pending.pop(problem.problem_id))
    if not pending:
        return
    for row in dataset.scan(folder, ProblemOfRow):
        if row.problem_id in pending:
            pending.pop(row.problem_id)
            yield Problem(**msgspec.structs.asdict(row))


def texts_of(inputs: list[Dataset]) -> Iterator[tuple[str, str]]:
    """The id and the text of the problem of each row."""
    for source in inputs:
        for row in dataset.scan(source, ProblemOfRow):
            yield row.problem_id, row.problem


# Problems that a text-only model cannot solve, or that are several problems: the quality rules of s1.
#
#     problem_needs_picture     "[asy]\ndraw(circle(A, 2)); ..."     also ![Image]; AIME's [asy] is kept
#     several_problems          "p1. Find all ... p2. Prove ..."
#     label_in_problem          "**B6** Let f be ..."
#
# Source: the selection of s1K (arXiv 2501.19393, 3.1, and data/filter.ipynb of simplescaling/s1).


SOURCE_KEYS = ("source", "source_type")  # extra keys in which datasets name the source of a problem
PICTURE_CODE, PICTURE = "[asy]", "![Image]"
NUMBERED = re.compile(r"p[1-9]\d{0,2}\.", re.ASCII)
BOLD = re.compile(r"\*\*[^\s\]]*\*\*")


def unclear_problem(problem: str, source: str = "") -> Drop | None:
    """Why a problem is not suitable for a text-only model, with the text that shows it; None if it is suitable.

    AIME problems keep their pictures as code and skip the other rules, as in s1.
    """
    if PICTURE_CODE in problem:
        return None if "AIME" in source else Drop("problem_needs_picture", PICTURE_CODE)
    if PICTURE in problem:
        return Drop("problem_needs_picture", PICTURE)
    if match := NUMBERED.search(problem):
        return Drop("several_problems", match[0])
    if label := _label(problem):
        return Drop("label_in_problem", label)
    return None


def source_of(*extras: str | None) -> str:
    """The source of a problem, from the first of its extra keys that names one; "" if none does."""
    for extra in extras:
        values = json_object(extra)
        for key in SOURCE_KEYS:
            if isinstance(value := values.get(key), str) and value:
                return value
    return ""


def _label(problem: str) -> str | None:
    """Bold text without spaces, with a digit in it or after it on the line."""
    for line in problem.split("\n"):
        bold = BOLD.search(line)
        if bold and re.compile(r"\d").search(line, bold.start() + 2):
            return bold[0]
    return None


# Facts about problems from other datasets: benchmarks that contain them, pass rates, sources, clusters.

AS_THEY_ARE = Prompting(prompt_template="{problem}")


class FilterInputs(NamedTuple):
    """The inputs of `filter` besides traces."""

    predictions: list[str]
    "datasets of predictions, which give the difficulty of problems"
    benchmarks: list[str]
    "references to benchmarks whose problems are removed"
    tokenizer: str | None = None
    "a model whose tokenizer counts tokens when reasoning is cut"
    forcing: Forcing | None = None
    "the teacher that answers when reasoning is too long"

    def check(self, options: FilterOptions) -> None:
        """Raise UsageError for options that need another option or one of these inputs."""
        has_tokenizer = self.tokenizer is not None
        check_options(
            options, has_difficulty=bool(self.predictions), has_tokenizer=has_tokenizer,
            has_teacher=self.forcing is not None,
        )  # fmt: skip


NO_INPUTS = FilterInputs(predictions=[], benchmarks=[])


class Contamination:
    """Finds problems that are in the benchmarks; each problem is looked up once."""

    def __init__(self, benchmarks: Sequence[Problems], mode: Mode) -> None:
        rows = (
            (benchmark.name, str(number), problem.problem)
            for benchmark in benchmarks
            for number, problem in enumerate(sources.read_problems(benchmark, AS_THEY_ARE, None), 1)
        )
        self._index = Decontaminator(rows, mode) if benchmarks else None
        self._matches: dict[str, Match | None] = {}

    def drop(self, trace: Trace) -> Drop | None:
        if self._index is None:
            return None
        if trace.problem_id not in self._matches:
            self._matches[trace.problem_id] = self._index.match(trace.problem)
        match = self._matches[trace.problem_id]
        if match is None:
            return None
        return Drop("contaminated", f"{match.benchmark} {match.row} {match.kind} {match.share:.2f}")


class ProblemFacts(NamedTuple):
    """Facts by problem_id; empty if the options do not need them."""

    contamination: Contamination
    rates: PassRates
    origins: dict[str, str]
    domains: dict[str, str]

    def drops(self, trace: Trace, options: FilterOptions) -> Iterator[Drop]:
        """Drops because of the problem of a row: contamination, the quality rules of s1, pass rates."""
        drops = [self.contamination.drop(trace)]
        if options.strategy == "s1":
            drops.append(unclear_problem(trace.problem, self.source(trace)))
        drops.append(unwanted_difficulty(trace.problem_id, self.rates, options))
        yield from filter(None, drops)

    def domain(self, trace: Trace) -> str | None:
        """The cluster of the row's problem with --num-clusters, else the row's own domain."""
        return self.domains.get(trace.problem_id, trace.domain)

    def candidate(self, trace: Trace, options: FilterOptions) -> Candidate:
        source = self.source(trace) if options.strategy == "s1" else ""
        return Candidate.of(trace, self.domain(trace), source)

    def source(self, trace: Trace) -> str:
        """The source of the row's problem, "" if it is unknown."""
        return source_of(trace.extra) or self.origins.get(trace.problem_id, "")


def read_problem_facts(
    inputs: list[Dataset],
    predictions: list[Dataset],
    benchmarks: list[Problems],
    options: FilterOptions,
) -> ProblemFacts:
    """Read the facts that `options` need from the traces `inputs`, the predictions and the benchmarks."""
    origins, domains = {}, {}
    if options.strategy == "s1":
        problems = (problem for source in inputs for problem in dataset.read_problems(source))
        origins = {
            problem.problem_id: source
            for problem in problems
            if (source := source_of(problem.extra))
        }
    if options.num_clusters is not None:
        domains = cluster_domains(texts_of(inputs), options.num_clusters, options.seed)
    contamination = Contamination(benchmarks, options.decontaminate_mode)
    return ProblemFacts(contamination, read_pass_rates(predictions), origins, domains)


def near_problems(
    inputs: list[Dataset], candidates: Iterable[Candidate], options: FilterOptions
) -> dict[str, str]:
    """With `--dedup near`, the near-duplicate problems by problem_id: the kept problem and the similarity."""
    if options.dedup != "near":
        return {}
    # imported late, because an "up to date" answer must not load numpy
    from distillpipe.filters.near_duplicates import near_duplicates

    problem_ids = {candidate.problem_id for candidate in candidates}
    texts = ((number, text) for number, text in texts_of(inputs) if number in problem_ids)
    near = near_duplicates(texts, options.near_threshold, options.seed)
    return {
        duplicate: f"{other} {similarity:.2f}" for duplicate, (other, similarity) in near.items()
    }

"""What is known of problems besides their rows.

Which of them stand in a benchmark, pass rates of models, where they come from, their clusters.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from distillpipe.base.options import FilterOptions, Prompting
from distillpipe.base.records import Trace
from distillpipe.data import sources
from distillpipe.data.store import dataset
from distillpipe.filters.candidate import Candidate
from distillpipe.filters.decontaminate import Decontaminator, Match, Mode
from distillpipe.filters.difficulty import PassRates, read_pass_rates, unwanted_difficulty
from distillpipe.filters.domains import cluster_domains
from distillpipe.filters.problems import texts_of
from distillpipe.filters.quality import source_of, unclear_problem
from distillpipe.filters.rules import Drop
from distillpipe.filters.select import check_options

AS_THEY_ARE = Prompting(
    problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
    system_prompt=None, chat_template=None,
)  # fmt: skip


class Others(NamedTuple):
    """What `filter` reads beside traces."""

    predictions: list[str]
    "datasets that tell how hard problems are"
    benchmarks: list[str]
    "references whose problems are kept out"
    tokenizer: str | None = None
    "a model whose tokens are counted where reasoning is cut"

    def check(self, options: FilterOptions, *, has_teacher: bool) -> None:
        """Raises UsageError for options that say nothing without one another, or without these."""
        has_tokenizer = self.tokenizer is not None
        check_options(
            options, has_difficulty=bool(self.predictions), has_tokenizer=has_tokenizer,
            has_teacher=has_teacher,
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
    from distillpipe.filters.near import near_duplicates  # numpy: not for an "up to date" answer

    left = {candidate.problem_id for candidate in candidates}
    texts = ((number, text) for number, text in texts_of(inputs) if number in left)
    near = near_duplicates(texts, options.near_threshold, options.seed)
    return {one: f"{other} {similarity:.2f}" for one, (other, similarity) in near.items()}


def _rows_of(references: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Benchmark, number of the row from 1, and problem."""
    for reference in references:
        for number, problem in enumerate(sources.read_problems(reference, AS_THEY_ARE, None), 1):
            yield reference, str(number), problem.problem

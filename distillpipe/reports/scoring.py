"""From predictions to the content of metrics.json: every figure of one model on one benchmark.

    {"benchmark": "math500", "pass@1": 0.75, "standard_error": 0.014, "interval": [0.72, 0.78],
     "upper_bound": 0.75, "standard_error_parts": {"sampling": 0.006, "problems": 0.013},
     "minimum_detectable_effect": {"unpaired": 0.056, "paired": 0.024},
     "pass@k": {"2": {"mean": ..., "standard_error": ..., "interval": [...]}}, "maj@k": {"4": {...}}, ...}

pass@1 = correct / (problems asked x samples): a prompt that was too long, or that the server refuses for good,
was asked and not answered, so it counts as `not_run` and is not correct. Requests that failed on the way, and
were given up with --accept-errors, say nothing of the model: they are left out, and every view of the score
says so. correct + wrong + truncated + unverifiable + not_run = num_asked - num_left_out.
`upper_bound` is pass@1 if every unverifiable completion were right. The minimum detectable effect is
that against a model with as large an error: unpaired on problems of its own, paired on the same problems
where both have the same chances, which is the best that pairing can do (`compare` measures what it does).
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from distillpipe import verify
from distillpipe.base.encoding import escaped
from distillpipe.base.errors import DataError
from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded, is_internal_error
from distillpipe.data.store import dataset
from distillpipe.data.store.counts import Counts, distribution
from distillpipe.data.store.versions import ENGINE_ERROR
from distillpipe.models.lookup import AnyModel, Served
from distillpipe.reports import metrics
from distillpipe.reports.metrics import Score, majority
from distillpipe.verify import Question

_MISSING_MODULE = re.compile(r"\bModuleNotFoundError: No module named '(\w{1,64})")
OUTCOMES = ("correct", "wrong", "truncated", "unverifiable", "not_run")
LEFT_OUT = (ENGINE_ERROR, REASON)
"Reasons of rejected rows that are no fault of the model's."
QUANTILES = ("p5", "p25", "p50", "p75", "p95", "max")


class Judged(msgspec.Struct):
    """The samples of one problem."""

    problem: str
    verifier: str
    reference_answer: str | None
    domain: str | None
    samples: list[tuple[int, bool]] = []
    "index of the sample, and whether it is correct"
    answers: list[str | None] = []
    "of the samples, null for none"
    num_unverifiable: int = 0

    @property
    def num_correct(self) -> int:
        return sum(correct for _, correct in self.samples)

    @property
    def rate(self) -> Fraction:
        return Fraction(self.num_correct, len(self.samples))


class Predictions(msgspec.Struct):
    """All that the figures of one model are made of."""

    problems: dict[str, Judged] = {}
    "those with a sample that counts"
    left_out: dict[str, int] = {}
    "samples that do not, by problem"
    unanswered: dict[str, int] = {}
    "samples without a completion, by the reason: those that were not run and those that are left out"
    counts: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    num_internal_errors: int = 0
    "predictions that could not be judged, and pairs of answers that could not be compared in a vote"
    missing_modules: Counter[str] = msgspec.field(default_factory=Counter)
    "of programs that ended at an import, by the first part of the module's name"
    reasoning_tokens: Any = msgspec.field(default_factory=lambda: array("Q"))
    "an array: of the completions that were counted"

    @property
    def num_samples(self) -> tuple[int, int]:
        """The fewest and the most samples of a problem; 0 where there is none."""
        sizes = [len(one.samples) for one in self.problems.values()]
        return min(sizes, default=0), max(sizes, default=0)

    @property
    def asked(self) -> set[str]:
        """The problems that were asked, those without a sample that counts too."""
        return self.problems.keys() | self.left_out.keys()

    @property
    def num_left_out(self) -> int:
        return sum(self.left_out.values())

    def only(self, problem_ids: Collection[str]) -> "Predictions":
        """Some of the problems, for comparisons of their samples; the counts stay those of all."""
        kept = {one: judged for one, judged in self.problems.items() if one in problem_ids}
        return msgspec.structs.replace(self, problems=kept)


def read(reference: Path | str) -> Predictions:
    """The predictions of a finished version, or of a .jsonl file, which holds no rejected rows."""
    return collect(dataset.read_traces(str(reference)), dataset.read_rejected(str(reference)))


def collect(traces: Iterable[Trace], rejected: Iterable[RejectedTrace] = ()) -> Predictions:
    """The predictions among `traces`, by problem, and the `rejected` rows that got no completion.

    Raises DataError for a row that was not judged.
    """
    found = Predictions()
    unanswered = Counter[str]()
    for trace in traces:
        _add(found, trace, outcome_of(trace))
    for row in rejected:
        unanswered[row.reason] += 1
        if row.reason in LEFT_OUT:
            found.left_out[row.problem_id] = found.left_out.get(row.problem_id, 0) + 1
        else:
            _add(found, row, "not_run")
    found.unanswered = dict(unanswered)
    return found


def _add(found: Predictions, trace: Trace, outcome: str) -> None:
    """Count a sample that was asked for."""
    found.counts[outcome] += 1
    one = found.problems.get(trace.problem_id)
    if one is None:
        one = Judged(trace.problem, trace.verifier, trace.reference_answer, trace.domain)
        found.problems[trace.problem_id] = one
    one.samples.append((trace.sample, outcome == "correct"))
    is_finished = outcome not in ("truncated", "not_run")
    votes = is_finished and not verify.rule_of(trace.verifier).runs_code
    one.answers.append(trace.answer if votes else None)
    one.num_unverifiable += outcome == "unverifiable"
    found.num_internal_errors += is_internal_error(None, trace.verdict_reason)
    if missing := _MISSING_MODULE.search(trace.verdict_reason or ""):
        found.missing_modules[missing[1]] += 1
    if outcome != "not_run" and trace.num_tokens is not None:
        found.reasoning_tokens.append(trace.num_tokens.reasoning)


def options_of(problems: Iterable[Problem]) -> dict[str, str | None]:
    """What a vote over the answers to choice questions has to know, by problem: their other keys."""
    found = {}
    for problem in problems:
        rule = verify.rule_of(problem.verifier)
        if rule.reads_extra and not rule.runs_code:
            found[problem.problem_id] = problem.extra
    return found


def outcome_of(trace: Trace) -> str:
    """One of `OUTCOMES`, for a completion."""
    if trace.verdict is None:
        raise DataError(f"row {trace.id} was not judged: `distill eval` makes predictions")
    if trace.verdict == "unverifiable":
        return "unverifiable"
    return "truncated" if trace.is_truncated else trace.verdict


def measure(
    benchmark: str,
    found: Predictions,
    extras: Mapping[str, str | None],
    wanted_k: Iterable[int] = (),
) -> dict[str, Any]:
    """The content of metrics.json; nan is null.

    `extras` holds the other keys of problems by their ids: the options of a choice, which a vote needs.
    pass@k is given for `wanted_k`, else for powers of two, as far as every problem has k samples.
    """
    judged = list(found.problems.values())
    fewest, most = found.num_samples
    sizes = [len(one.samples) for one in judged]
    first = metrics.score([one.rate for one in judged], fewest or None, sizes)
    upper = [Fraction(one.num_correct + one.num_unverifiable, len(one.samples)) for one in judged]
    parts = metrics.error_parts([(one.num_correct, len(one.samples)) for one in judged])
    wanted = sorted({*wanted_k} or {2**power for power in range(1, most.bit_length())} | {most})
    tokens = distribution(found.reasoning_tokens)
    content = {
        "benchmark": escaped(benchmark),  # the name of a file, which need not be UTF-8
        "pass@1": first.mean,
        "standard_error": first.standard_error,
        "interval": [first.low, first.high],
        "upper_bound": metrics.score(upper, sizes=sizes).mean,
        "standard_error_parts": parts and parts._asdict(),
        "minimum_detectable_effect": {
            "unpaired": metrics.detectable_difference(math.sqrt(2) * first.standard_error),
            "paired": parts and metrics.detectable_difference(math.sqrt(2) * parts.sampling),
        },
        "pass@k": {str(k): _pass_at(k, judged) for k in wanted if 1 < k <= fewest},
        "maj@k": _majorities(found, extras),
        "num_problems": len(judged),
        "num_samples": most,
        **{f"num_{name}": count for name, count in found.counts.items()},
        "num_asked": sum(found.counts.values()) + found.num_left_out,
        "num_left_out": found.num_left_out,
        "num_problems_asked": len(found.asked),
        "unanswered": found.unanswered,
        "num_internal_errors": found.num_internal_errors,
        **_lost_programs(found),
        "mean_reasoning_tokens": tokens and tokens.sum / tokens.rows,
        "reasoning_tokens": tokens and {name: getattr(tokens, name) for name in QUANTILES},
        "verifier_version": verify.CODE_VERSION,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content))
    return plain


def budget_kept(counts: Counts) -> dict[str, Any] | None:
    """The part `budget` of metrics.json: how thoughts kept to what was asked for; null without a budget."""
    if counts.control is None:
        return None
    return {
        "control": counts.control,
        "num_within": counts.rows_within_budget,
        "num_waits": counts.num_waits,
        "num_forced_ends": counts.forced_ends,
    }


def _pass_at(k: int, judged: list[Judged]) -> dict[str, Any]:
    return _as_data(
        metrics.score([metrics.pass_at(k, one.num_correct, len(one.samples)) for one in judged])
    )


def _majorities(found: Predictions, extras: Mapping[str, str | None]) -> dict[str, Any]:
    """maj@k for k = the samples of each problem; none where these differ, or programs were judged."""
    fewest, most = found.num_samples
    runs_code = any(verify.rule_of(one.verifier).runs_code for one in found.problems.values())
    if fewest != most or most < 2 or runs_code:
        return {}
    shares = [
        majority(
            one.answers,
            [correct for _, correct in one.samples],
            _same(one, extras.get(problem_id), found),
        )
        for problem_id, one in found.problems.items()
    ]
    return {str(most): _as_data(metrics.score(shares))}


def _lost_programs(found: Predictions) -> dict[str, Any]:
    """Programs that only an installed package would have let run, with its names; nothing without programs."""
    if not any(verify.rule_of(one.verifier).runs_code for one in found.problems.values()):
        return {}
    counts = found.missing_modules
    return {"num_missing_modules": counts.total(), "missing_modules": dict(counts.most_common())}


def _same(judged: Judged, extra: str | None, found: Predictions) -> Callable[[str, str], bool]:
    """Whether the problem's verifier takes two answers for the same."""
    rule = verify.rule_of(judged.verifier)

    def same(answer: str, other: str) -> bool:
        judgement = guarded(rule.judge, answer, Question(other, judged.problem, extra))
        if isinstance(judgement, InternalError):
            found.num_internal_errors += 1
            return False
        return judgement.verdict == "correct"

    return same


def _as_data(score: Score) -> dict[str, Any]:
    return {
        "mean": score.mean,
        "standard_error": score.standard_error,
        "interval": [score.low, score.high],
    }


# What a run of a model took: time, memory, and the bytes of its weights.


def resources_used(counts: Counts, tokens_before: int, model: AnyModel) -> dict[str, Any]:
    """The part `resources` of metrics.json; null for what is not known, as of a model behind a server.

    Tokens and seconds are sums over all runs of the version, without loading; memory is the peak of this
    run, if it sampled anything: `tokens_before` were sampled when it began.
    """
    sampled, seconds = counts.tokens_sampled, counts.seconds_working
    runs_here = counts.tokens_sampled > tokens_before and not isinstance(model, Served)
    return {
        "tokens_sampled": sampled,
        "seconds_sampling": seconds,
        "tokens_per_second": sampled / seconds if sampled and seconds else None,
        "peak_memory_bytes": peak_memory() if runs_here else None,
        "peak_gpu_memory_bytes": peak_gpu_memory() if runs_here else None,
        "model_bytes": model_bytes(model),
    }


def model_bytes(model: AnyModel) -> int | None:
    """Bytes of the weights on disk, of an adapter with those of its base; null where they are not here."""
    if isinstance(model, Served):
        return None
    folders = {model.folder, model.weights_folder}
    sizes = [path.stat().st_size for one in folders for path in one.glob("*.safetensors")]
    return sum(sizes) if sizes else None

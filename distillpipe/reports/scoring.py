"""Compute metrics.json from predictions: all figures of one model on one benchmark.

    {"benchmark": "math500", "pass@1": 0.75, "standard_error": 0.014, "interval": [0.72, 0.78],
     "upper_bound": 0.75, "standard_error_parts": {"sampling": 0.006, "problems": 0.013},
     "minimum_detectable_effect": {"unpaired": 0.056, "paired": 0.024},
     "pass@k": {"2": {"mean": ..., "standard_error": ..., "interval": [...]}}, "maj@k": {"4": {...}}, ...}

pass@1 = correct / (problems asked x samples). A prompt that was too long, or that the server refuses for good, has no
answer: it counts as `not_run` and is not correct. Requests that failed for other reasons and were given up with
--accept-errors say nothing about the model. They are left out, and every view of the score shows their number.
correct + wrong + truncated + unverifiable + not_run = num_asked - num_left_out.

`upper_bound` is pass@1 if all unverifiable completions were correct. The minimum detectable effect is that against a
model with the same standard error: unpaired on different problems; paired on the same problems if both models have the
same probabilities, which is the best case of pairing (`compare` measures the actual one).
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

import msgspec

from distillpipe import verify
from distillpipe.base.encoding import escaped
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded, is_internal_error
from distillpipe.data.store import dataset
from distillpipe.data.store.counts import Counts, distribution
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import ENGINE_ERROR
from distillpipe.models.lookup import AnyModel, Served
from distillpipe.reports import metrics
from distillpipe.reports.metrics import Score, majority
from distillpipe.verify import Question

_MISSING_MODULE = re.compile(r"\bModuleNotFoundError: No module named '(\w{1,64})")
OUTCOMES = ("correct", "wrong", "truncated", "unverifiable", "not_run")
LEFT_OUT = (ENGINE_ERROR, REASON)
"Reasons of rejected rows that are not the fault of the model."
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
    "answer of each sample, null without one"
    num_unverifiable: int = 0

    @property
    def num_correct(self) -> int:
        return sum(correct for _, correct in self.samples)

    @property
    def rate(self) -> Fraction:
        return Fraction(self.num_correct, len(self.samples))


class Predictions(msgspec.Struct):
    """The judged samples of one model, from which all figures are computed."""

    problems: dict[str, Judged] = {}
    "problems with a sample that counts"
    left_out: dict[str, int] = {}
    "number of samples that do not count, by problem"
    unanswered: dict[str, int] = {}
    "samples without a completion, by reason: those not run and those left out"
    counts: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    num_internal_errors: int = 0
    "predictions that could not be judged, and pairs of answers that could not be compared for a vote"
    missing_modules: Counter[str] = msgspec.field(default_factory=Counter)
    "programs that failed at an import, by top-level module name"
    reasoning_tokens: Any = msgspec.field(default_factory=lambda: array("Q"))
    "an array: reasoning tokens of the completions that count"

    @property
    def num_samples(self) -> tuple[int, int]:
        """The smallest and the largest number of samples of a problem; 0 without problems."""
        sizes = [len(samples.samples) for samples in self.problems.values()]
        return min(sizes, default=0), max(sizes, default=0)

    @property
    def asked(self) -> set[str]:
        """All problems that were asked, including those without a sample that counts."""
        return self.problems.keys() | self.left_out.keys()

    @property
    def has_programs(self) -> bool:
        """Whether a verifier that runs programs judged one of the problems."""
        verifiers = {problem.verifier for problem in self.problems.values()}
        return any(verify.rule_of(name).runs_code for name in verifiers)

    @property
    def num_left_out(self) -> int:
        return sum(self.left_out.values())

    def only(self, problem_ids: Collection[str]) -> "Predictions":
        """The samples of these problems only; `counts` and other totals still cover all problems."""
        kept = {
            problem_id: judged
            for problem_id, judged in self.problems.items()
            if problem_id in problem_ids
        }
        return msgspec.structs.replace(self, problems=kept)


def manifest_of(predictions: Dataset) -> Manifest:
    """The manifest of a version of predictions. Raises UsageError for other kinds and for an unfinished version."""
    manifest, folder = predictions.manifest, predictions.path
    assert manifest is not None  # a version, not a file
    if manifest.kind != "predictions":
        raise UsageError(
            f"{folder} holds {manifest.kind}, not predictions: `distill eval` makes them"
        )
    if manifest.finished is None:
        raise UsageError(f"{folder} is unfinished: run the command that makes it again")
    return manifest


def read(predictions: Dataset) -> Predictions:
    """Read the predictions of a finished version, or of a .jsonl file, which has no rejected rows."""
    return collect(
        dataset.scan(predictions, Trace), dataset.scan(predictions, RejectedTrace, "rejected")
    )


def collect(traces: Iterable[Trace], rejected: Iterable[RejectedTrace] = ()) -> Predictions:
    """Group `traces` by problem, and add the `rejected` rows, which have no completion.

    Raises DataError for a row that was not judged.
    """
    predictions = Predictions()
    unanswered = Counter[str]()
    for trace in traces:
        _add(predictions, trace, outcome_of(trace))
    for row in rejected:
        unanswered[row.reason] += 1
        if row.reason in LEFT_OUT:
            predictions.left_out[row.problem_id] = predictions.left_out.get(row.problem_id, 0) + 1
        else:
            _add(predictions, row, "not_run")
    predictions.unanswered = dict(unanswered)
    return predictions


def _add(predictions: Predictions, trace: Trace, outcome: str) -> None:
    """Add one sample."""
    predictions.counts[outcome] += 1
    problem = predictions.problems.get(trace.problem_id)
    if problem is None:
        problem = Judged(trace.problem, trace.verifier, trace.reference_answer, trace.domain)
        predictions.problems[trace.problem_id] = problem
    problem.samples.append((trace.sample, outcome == "correct"))
    is_finished = outcome not in ("truncated", "not_run")
    votes = is_finished and not verify.rule_of(trace.verifier).runs_code
    problem.answers.append(trace.answer if votes else None)
    problem.num_unverifiable += outcome == "unverifiable"
    predictions.num_internal_errors += is_internal_error(None, trace.verdict_reason)
    if missing := _MISSING_MODULE.search(trace.verdict_reason or ""):
        predictions.missing_modules[missing[1]] += 1
    if outcome != "not_run" and trace.num_tokens is not None:
        predictions.reasoning_tokens.append(trace.num_tokens.reasoning)


def choice_options(problems: Iterable[Problem]) -> dict[str, str | None]:
    """The other keys of choice problems by problem id; they hold the options that a vote needs."""
    extras = {}
    for problem in problems:
        rule = verify.rule_of(problem.verifier)
        if rule.reads_extra and not rule.runs_code:
            extras[problem.problem_id] = problem.extra
    return extras


def outcome_of(trace: Trace) -> str:
    """The outcome of a completion, one of `OUTCOMES`."""
    if trace.verdict is None:
        raise DataError(f"row {trace.id} was not judged: make predictions with `distill eval`")
    if trace.verdict == "unverifiable":
        return "unverifiable"
    return "truncated" if trace.is_truncated else trace.verdict


def measure(
    benchmark: str,
    predictions: Predictions,
    extras: Mapping[str, str | None],
    wanted_k: Iterable[int] = (),
) -> dict[str, Any]:
    """The content of metrics.json; nan becomes null.

    `extras` holds the other keys of problems by id: the options of choice questions, which a vote needs. pass@k is
    computed for `wanted_k`, else for powers of two, for each k that all problems have samples for.
    """
    judged = list(predictions.problems.values())
    fewest, most = predictions.num_samples
    sizes = [len(problem.samples) for problem in judged]
    first = metrics.score([problem.rate for problem in judged], fewest or None, sizes)
    upper = [
        Fraction(problem.num_correct + problem.num_unverifiable, len(problem.samples))
        for problem in judged
    ]
    correct_of = [(problem.num_correct, len(problem.samples)) for problem in judged]
    parts = metrics.error_parts(correct_of)
    wanted = sorted({*wanted_k} or {2**power for power in range(1, most.bit_length())} | {most})
    tokens = distribution(predictions.reasoning_tokens)
    content = {
        "benchmark": escaped(benchmark),  # may be a file name with bytes that are not UTF-8
        "pass@1": first.mean,
        "standard_error": first.standard_error,
        "interval": [first.low, first.high],
        "upper_bound": metrics.score(upper, sizes=sizes).mean,
        "standard_error_parts": parts and parts._asdict(),
        "minimum_detectable_effect": {
            "unpaired": metrics.detectable_difference(math.sqrt(2) * first.standard_error),
            "paired": parts and metrics.detectable_difference(math.sqrt(2) * parts.sampling),
        },
        "pass@k": {
            str(k): _as_data(metrics.score([metrics.pass_at(k, *pair) for pair in correct_of]))
            for k in wanted
            if 1 < k <= fewest
        },
        "maj@k": _majorities(predictions, extras),
        "num_problems": len(judged),
        "num_samples": most,
        **{f"num_{name}": count for name, count in predictions.counts.items()},
        "num_asked": sum(predictions.counts.values()) + predictions.num_left_out,
        "num_left_out": predictions.num_left_out,
        "num_problems_asked": len(predictions.asked),
        "unanswered": predictions.unanswered,
        "num_internal_errors": predictions.num_internal_errors,
        **_lost_programs(predictions),
        "mean_reasoning_tokens": tokens and tokens.sum / tokens.rows,
        "reasoning_tokens": tokens and {name: getattr(tokens, name) for name in QUANTILES},
        "verifier_version": verify.CODE_VERSION,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content))
    return plain


def budget_metrics(counts: Counts) -> dict[str, Any] | None:
    """The part `budget` of metrics.json: how well reasoning kept within its budget; null without a budget."""
    if counts.control is None:
        return None
    return {
        "control": counts.control,
        "num_within": counts.rows_within_budget,
        "num_waits": counts.num_waits,
        "num_forced_ends": counts.forced_ends,
    }


def _majorities(predictions: Predictions, extras: Mapping[str, str | None]) -> dict[str, Any]:
    """maj@k for k samples of each problem; {} if their numbers differ or programs were judged."""
    fewest, most = predictions.num_samples
    if fewest != most or most < 2 or predictions.has_programs:
        return {}
    shares = [
        majority(
            problem.answers,
            [correct for _, correct in problem.samples],
            _same_answer(problem, extras.get(problem_id), predictions),
        )
        for problem_id, problem in predictions.problems.items()
    ]
    return {str(most): _as_data(metrics.score(shares))}


def _lost_programs(predictions: Predictions) -> dict[str, Any]:
    """Programs that failed for a missing package, and the packages; {} if no programs were judged."""
    if not predictions.has_programs:
        return {}
    counts = predictions.missing_modules
    return {"num_missing_modules": counts.total(), "missing_modules": dict(counts.most_common())}


def _same_answer(
    judged: Judged, extra: str | None, predictions: Predictions
) -> Callable[[str, str], bool]:
    """A function that tells whether the problem's verifier treats two answers as equal."""
    rule = verify.rule_of(judged.verifier)

    def same(answer: str, other: str) -> bool:
        judgement = guarded(rule.judge, answer, Question(other, judged.problem, extra))
        if isinstance(judgement, InternalError):
            predictions.num_internal_errors += 1
            return False
        return judgement.verdict == "correct"

    return same


def _as_data(score: Score) -> dict[str, Any]:
    return {
        "mean": score.mean,
        "standard_error": score.standard_error,
        "interval": [score.low, score.high],
    }


# Resources: time, memory, and the size of the weights.


def resources_used(counts: Counts, tokens_before: int, model: AnyModel) -> dict[str, Any]:
    """The part `resources` of metrics.json; null for unknown figures, such as those of a model behind a server.

    Tokens and seconds are sums over all runs of the version, without loading. Memory is the peak of this run, if it
    sampled anything; `tokens_before` is the number of tokens sampled before it.
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
    """Bytes of the weights on disk, including the base of an adapter; null if they are not on this machine."""
    if isinstance(model, Served):
        return None
    folders = {model.folder, model.weights_folder}
    sizes = [path.stat().st_size for folder in folders for path in folder.glob("*.safetensors")]
    return sum(sizes) if sizes else None

"""From predictions to the content of metrics.json: every figure of one model on one benchmark.

    {"benchmark": "math500", "pass@1": 0.75, "standard_error": 0.014, "interval": [0.72, 0.78],
     "upper_bound": 0.75, "standard_error_parts": {"sampling": 0.006, "problems": 0.013},
     "minimum_detectable_effect": {"unpaired": 0.056, "paired": 0.024},
     "pass@k": {"2": {"mean": ..., "standard_error": ..., "interval": [...]}}, "maj@k": {"4": {...}}, ...}

correct + wrong + truncated + unverifiable = completions; only the first count for pass@1, and
`upper_bound` is what it would be if every unverifiable one were right. The minimum detectable effect is
that against a model with as large an error: unpaired on problems of its own, paired on the same problems
where both have the same chances, which is the best that pairing can do (`compare` measures what it does).
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from distillpipe import metrics, verify
from distillpipe.distributions import distribution
from distillpipe.errors import DataError
from distillpipe.manifest import Counts
from distillpipe.metrics import Score
from distillpipe.records import Problem, Trace
from distillpipe.rowguard import InternalError, guarded, is_internal_error
from distillpipe.verify import Question
from distillpipe.voting import majority

_MISSING_MODULE = re.compile(r"\bModuleNotFoundError: No module named '(\w{1,64})")
OUTCOMES = ("correct", "wrong", "truncated", "unverifiable")
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
    def rate(self) -> float:
        return self.num_correct / len(self.samples)


class Predictions(msgspec.Struct):
    """All that the figures of one model are made of."""

    problems: dict[str, Judged] = {}
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


def collect(traces: Iterable[Trace]) -> Predictions:
    """The predictions among `traces`, by problem; a DataError for a row that was not judged."""
    found = Predictions()
    for trace in traces:
        outcome = outcome_of(trace)
        found.counts[outcome] += 1
        found.num_internal_errors += is_internal_error(None, trace.verdict_reason)
        one = found.problems.get(trace.problem_id)
        if one is None:
            one = Judged(trace.problem, trace.verifier, trace.reference_answer, trace.domain)
            found.problems[trace.problem_id] = one
        one.samples.append((trace.sample, outcome == "correct"))
        votes = outcome != "truncated" and not verify.VERIFIERS[trace.verifier].runs_code
        one.answers.append(trace.answer if votes else None)
        if missing := _MISSING_MODULE.search(trace.verdict_reason or ""):
            found.missing_modules[missing[1]] += 1
        one.num_unverifiable += outcome == "unverifiable"
        if trace.num_tokens is not None:
            found.reasoning_tokens.append(trace.num_tokens.reasoning)
    return found


def options_of(problems: Iterable[Problem]) -> dict[str, str | None]:
    """What a vote over the answers to choice questions has to know, by problem: their other keys."""
    found = {}
    for problem in problems:
        rule = verify.VERIFIERS[problem.verifier]
        if rule.reads_extra and not rule.runs_code:
            found[problem.problem_id] = problem.extra
    return found


def outcome_of(trace: Trace) -> str:
    """One of `OUTCOMES`."""
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
    first = metrics.score([one.rate for one in judged], fewest or None)
    upper = [(one.num_correct + one.num_unverifiable) / len(one.samples) for one in judged]
    parts = metrics.error_parts([(one.num_correct, len(one.samples)) for one in judged])
    wanted = sorted({*wanted_k} or {2**power for power in range(1, most.bit_length())} | {most})
    tokens = distribution(found.reasoning_tokens)
    content = {
        "benchmark": benchmark,
        "pass@1": first.mean,
        "standard_error": first.standard_error,
        "interval": [first.low, first.high],
        "upper_bound": metrics.score(upper).mean,
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
    runs_code = any(verify.VERIFIERS[one.verifier].runs_code for one in found.problems.values())
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
    if not any(verify.VERIFIERS[one.verifier].runs_code for one in found.problems.values()):
        return {}
    counts = found.missing_modules
    return {"num_missing_modules": counts.total(), "missing_modules": dict(counts.most_common())}


def _same(judged: Judged, extra: str | None, found: Predictions) -> Callable[[str, str], bool]:
    """Whether the problem's verifier takes two answers for the same."""
    rule = verify.VERIFIERS[judged.verifier]

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

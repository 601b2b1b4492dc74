"""Checks of the logit distillation options, the mapping of feature layers, and the schedule of a weight."""

import math
import re
from collections.abc import Mapping, Sequence

from distillpipe.base.errors import UsageError
from distillpipe.base.training_options import Distillation, Schedule
from distillpipe.data.store.manifest import ResolvedOption

_PAIR = re.compile(r"[1-9]\d*:[1-9]\d*")


def check_unused(options: Distillation, resolved: Mapping[str, ResolvedOption]) -> None:
    """Raise UsageError for a flag that has no effect with the other options; `resolved` has the source of each.

    An option from a recipe or the environment may be without effect if a flag turned off the option that it needs.
    """
    uses_labels = bool(options.kd_weight or options.kd_weight_end)
    moves = options.kd_weight_end is not None or options.kd_temperature_end is not None
    weights, ends = ("kd_weight", "kd_weight_end"), ("kd_weight_end", "kd_temperature_end")
    belongs: dict[str, tuple[tuple[str, ...], str, bool]] = {
        "kd_divergence": (weights, "--kd-weight", uses_labels),
        "kd_temperature": (weights, "--kd-weight", uses_labels),
        "kd_temperature_end": (weights, "--kd-weight", uses_labels),
        "kd_beta": (("kd_divergence",), "--kd-divergence js", options.kd_divergence == "js"),
        "kd_schedule": (ends, "--kd-weight-end or --kd-temperature-end", moves),
        "feature_loss": (("feature_weight",), "--feature-weight", bool(options.feature_weight)),
    }
    for name, (parents, needed, has_effect) in belongs.items():
        parents_are_default = all(resolved[parent].source == "default" for parent in parents)
        source = resolved[name].source
        if not has_effect and (source == "flag" or (source != "default" and parents_are_default)):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} has no effect without {needed}: give that too, or leave {flag} out"
            )


def check(options: Distillation, num_teachers: int, eval_split: float) -> Distillation | None:
    """The options, or None if they turn distillation off. Raises UsageError if they contradict each other."""
    _check_schedule(options)
    _check_teachers(options, num_teachers)
    uses_labels = bool(options.kd_weight or options.kd_weight_end)
    if options.kd_adaptive is not None and not (uses_labels and eval_split):
        raise UsageError(
            "--kd-adaptive scales the weight by the held-out loss: give --kd-weight, and --eval-split to hold "
            "rows out"
        )
    if uses_labels or options.feature_weight or options.relation_weight:
        return options
    if num_teachers:
        raise UsageError(
            "--teacher has no effect: give --kd-weight, --feature-weight or --relation-weight"
        )
    return None


def _check_schedule(options: Distillation) -> None:
    end_values = {
        "--kd-weight-end": options.kd_weight_end,
        "--kd-temperature-end": options.kd_temperature_end,
    }
    ends = [name for name, end in end_values.items() if end is not None]
    if ends and options.kd_schedule == "constant":
        raise UsageError(
            f"{' and '.join(ends)}: no effect with --kd-schedule constant: give linear or cosine"
        )
    if not 0 < options.kd_beta < 1:
        raise UsageError(
            f"--kd-beta {options.kd_beta:g}: give a number between 0 and 1, both excluded; for the limits give "
            "--kd-divergence forward or reverse"
        )
    temperatures = {
        "--kd-temperature": options.kd_temperature,
        "--kd-temperature-end": options.kd_temperature_end,
    }
    for name, temperature in temperatures.items():
        if temperature is not None and not 0 < temperature < math.inf:
            raise UsageError(f"{name} {temperature:g}: give a number above 0")


def _check_teachers(options: Distillation, num_teachers: int) -> None:
    weights = options.teacher_weight
    if weights and len(weights) != num_teachers:
        raise UsageError(
            f"--teacher-weight is given {len(weights)} times for {num_teachers} teachers: give one for each "
            "teacher, in the same order, or none"
        )
    if any(not 0 < weight < math.inf for weight in weights):
        raise UsageError("--teacher-weight: give numbers above 0, or leave that teacher out")
    if math.inf in (options.feature_weight, options.relation_weight):
        raise UsageError("--feature-weight and --relation-weight: give a finite number")
    if (options.feature_weight or options.relation_weight) and not num_teachers:
        raise UsageError(
            "--feature-weight and --relation-weight compare hidden states with those of a loaded teacher: "
            "give --teacher"
        )
    if options.feature_layers and not options.feature_weight:
        raise UsageError("--feature-layers has no effect without --feature-weight: give that too")
    for pair in options.feature_layers:
        if not _PAIR.fullmatch(pair):
            raise UsageError(f"--feature-layers {pair}: give STUDENT:TEACHER, for example 12:24")


def layer_pairs(requested: Sequence[str], student: int, teacher: int) -> list[tuple[int, int]]:
    """Pairs of student and teacher layers to compare, 1-based; `student` and `teacher` are the numbers of layers.

    Without `given` each student layer is paired with the teacher layer at the same relative depth (Jiao et al.
    2020, TinyBERT, section 3.1). Raises UsageError for a layer that does not exist.
    """
    if not requested:
        return [
            (layer, max(1, round(layer * teacher / student))) for layer in range(1, student + 1)
        ]
    pairs = []
    for pair in requested:
        ours, theirs = map(int, pair.split(":"))
        if ours > student or theirs > teacher:
            raise UsageError(
                f"--feature-layers {pair}: the student has {student} layers, the teacher {teacher}"
            )
        pairs.append((ours, theirs))
    return pairs


def scheduled_value(schedule: Schedule, start: float, end: float | None, done: float) -> float:
    """The value of a schedule from `start` to `end` after the share `done` (0 to 1) of the steps.

    Without an end the value stays at `start`.
    """
    done = min(max(done, 0.0), 1.0)
    if end is None or schedule == "constant":
        return start
    if schedule == "linear":
        return start + (end - start) * done
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

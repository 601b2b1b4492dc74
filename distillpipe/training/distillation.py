"""What the options of soft labels ask for: whether anything is learnt of a teacher but its text, and how."""

import math
import re
from collections.abc import Mapping, Sequence

from distillpipe.base.errors import UsageError
from distillpipe.base.training_options import Distillation, Schedule
from distillpipe.data.store.manifest import ResolvedOption

_PAIR = re.compile(r"[1-9]\d*:[1-9]\d*")


def check_idle(options: Distillation, given: Mapping[str, ResolvedOption]) -> None:
    """Refuse options that do nothing as the others stand; `given` says where each came from.

    One from a recipe or the environment may do nothing where what it belongs to is turned off by hand.
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
    for name, (to, wanted, has_effect) in belongs.items():
        is_alone = all(given[one].source == "default" for one in to)
        source = given[name].source
        if not has_effect and (source == "flag" or (source != "default" and is_alone)):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} does nothing without {wanted}: give that, too, or leave {flag} out"
            )


def check(options: Distillation, num_teachers: int, eval_split: float) -> Distillation | None:
    """The options, None where they ask for nothing; a UsageError where they contradict each other."""
    _check_schedule(options)
    _check_teachers(options, num_teachers)
    uses_labels = bool(options.kd_weight or options.kd_weight_end)
    if options.kd_adaptive is not None and not (uses_labels and eval_split):
        raise UsageError(
            "--kd-adaptive lets the weight follow the held-out loss: give --kd-weight, and --eval-split for "
            "something to measure on"
        )
    if uses_labels or options.feature_weight or options.relation_weight:
        return options
    if num_teachers:
        raise UsageError(
            "--teacher: nothing is learnt from it: give --kd-weight, --feature-weight or --relation-weight"
        )
    return None


def _check_schedule(options: Distillation) -> None:
    given = {
        "--kd-weight-end": options.kd_weight_end,
        "--kd-temperature-end": options.kd_temperature_end,
    }
    ends = [name for name, end in given.items() if end is not None]
    if ends and options.kd_schedule == "constant":
        raise UsageError(
            f"{' and '.join(ends)}: with --kd-schedule constant nothing moves: give linear or cosine"
        )
    if not 0 < options.kd_beta < 1:
        raise UsageError(
            f"--kd-beta {options.kd_beta:g}: it lies between 0 and 1; for the ends give "
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
            f"--teacher-weight is given {len(weights)} times for {num_teachers} teachers: give one for each, "
            "in their order, or none"
        )
    if any(not 0 < weight < math.inf for weight in weights):
        raise UsageError("--teacher-weight: weights are above 0; leave out a teacher that has none")
    if math.inf in (options.feature_weight, options.relation_weight):
        raise UsageError(
            "--feature-weight and --relation-weight: give a number that is not infinite"
        )
    if (options.feature_weight or options.relation_weight) and not num_teachers:
        raise UsageError(
            "--feature-weight and --relation-weight compare hidden states with those of a teacher that is "
            "there: give --teacher"
        )
    if options.feature_layers and not options.feature_weight:
        raise UsageError("--feature-layers: give --feature-weight, too")
    for pair in options.feature_layers:
        if not _PAIR.fullmatch(pair):
            raise UsageError(f"--feature-layers {pair}: give STUDENT:TEACHER, as 12:24")


def layer_pairs(given: Sequence[str], student: int, teacher: int) -> list[tuple[int, int]]:
    """Layers of the student and of the teacher that are compared, 1-based; `student`, `teacher`: how many there are.

    Without any `given` each layer of the student goes with the one as deep in the teacher, the last with the
    last (Jiao et al. 2020, TinyBERT, section 3.1). Raises UsageError for a layer that is not there.
    """
    if not given:
        return [
            (layer, max(1, round(layer * teacher / student))) for layer in range(1, student + 1)
        ]
    pairs = []
    for pair in given:
        ours, theirs = map(int, pair.split(":"))
        if ours > student or theirs > teacher:
            raise UsageError(
                f"--feature-layers {pair}: the student has {student} layers, the teacher {teacher}"
            )
        pairs.append((ours, theirs))
    return pairs


def scheduled(schedule: Schedule, start: float, end: float | None, done: float) -> float:
    """A value on its way from `start` to `end`, when the share `done` (0 to 1) of the steps is behind it.

    It stays at `start` where there is no end.
    """
    done = min(max(done, 0.0), 1.0)
    if end is None or schedule == "constant":
        return start
    if schedule == "linear":
        return start + (end - start) * done
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2

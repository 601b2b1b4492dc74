"""What the options of soft labels ask for: whether anything is learnt of a teacher's distribution, and how."""

import math

from distillpipe.errors import UsageError
from distillpipe.records import Distillation, Schedule


def check(options: Distillation) -> Distillation | None:
    """The options, None where they ask for nothing; a UsageError where they contradict each other."""
    ends = [
        name
        for name, end in (
            ("--kd-weight-end", options.kd_weight_end),
            ("--kd-temperature-end", options.kd_temperature_end),
        )
        if end is not None
    ]
    if ends and options.kd_schedule == "constant":
        raise UsageError(
            f"{' and '.join(ends)}: with --kd-schedule constant nothing moves: give linear or cosine"
        )
    if not 0 < options.kd_beta < 1:
        raise UsageError(
            f"--kd-beta {options.kd_beta:g}: it lies between 0 and 1; for the ends give "
            "--kd-divergence forward or reverse"
        )
    for temperature in (options.kd_temperature, options.kd_temperature_end):
        if temperature is not None and temperature <= 0:
            raise UsageError(f"--kd-temperature {temperature:g}: it has to be above 0")
    if options.kd_weight or options.kd_weight_end:
        return options
    return None


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

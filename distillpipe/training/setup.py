"""Settings of a training run that do not change the result and enter no fingerprint."""

from collections.abc import Callable
from typing import NamedTuple

from distillpipe.base.training_options import Sharding
from distillpipe.models.lookup import Model


class Setup(NamedTuple):
    """Settings of `loop.train` besides rows and options."""

    rows_by_input: tuple[int, ...] = ()
    "rows of each input, in the order of the inputs; needed for --weight"
    report_to: tuple[str, ...] = ()
    "names of trackers, see `trackers`"
    sharding: Sharding = "ddp"
    "ddp: each process holds all weights; fsdp: each holds its shard"
    teachers: tuple[Model, ...] = ()
    "loaded teachers that `options.distillation` learns from"
    is_stopped: Callable[[], bool] | None = None
    "called between steps in a process that gets no signals"

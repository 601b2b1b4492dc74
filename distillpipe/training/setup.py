"""How a training is run, beside what it trains: no part of any id."""

from collections.abc import Callable
from typing import NamedTuple

from distillpipe.base.training_options import Sharding
from distillpipe.models.lookup import Model


class Setup(NamedTuple):
    """What `loop.train` is told besides rows and options."""

    rows_by_input: tuple[int, ...] = ()
    "how many rows each input gave, one input behind the other; needed for weights"
    report_to: tuple[str, ...] = ()
    "trackers, see `trackers`"
    sharding: Sharding = "ddp"
    "what each of several processes holds: all weights, or its share"
    teachers: tuple[Model, ...] = ()
    "live ones, that `options.distillation` learns from"
    is_stopped: Callable[[], bool] | None = None
    "asked between two steps where a signal does not reach this process"

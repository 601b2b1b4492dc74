"""Report steps to TensorBoard, Weights & Biases or Trackio through accelerate's trackers.

TensorBoard's files are in the version: `tensorboard --logdir OUT` shows all versions. A resumed run continues the same
tracker run. TensorBoard also removes the steps after the last saved state, which are trained again.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec

from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.hashing import content_hash
from distillpipe.base.requirements import install_command

if TYPE_CHECKING:
    from distillpipe.training.states import Step

TRACKERS = ("tensorboard", "wandb", "trackio")
PROJECT = "distillpipe"


def check(names: Iterable[str]) -> None:
    """Raise MissingDependencyError for a tracker that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingDependencyError(
                f"--report-to {name} needs {name}, which is not installed: {install_command(name)}"
            )


class Trackers:
    """The trackers of a run, as a context manager; without names it does nothing."""

    def __init__(self, names: Iterable[str], folder: Path, done: int, options: Any) -> None:
        """`done`: steps that a resumed run has already taken; `options`: a struct to record."""
        self._open = [_opened(name, folder, done, options) for name in names]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tracker in self._open:
            tracker.finish()

    def log(self, step: "Step") -> None:
        """Report the values of a step that are not null."""
        values = {
            name: value for name, value in msgspec.structs.asdict(step).items() if value is not None
        }
        number = values.pop("step")
        for tracker in self._open:
            tracker.log(values, step=number)


def _opened(name: str, folder: Path, done: int, options: Any) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    run = content_hash(str(folder.resolve()))[:16]
    title = f"{folder.parent.name}-{folder.name.removesuffix('.partial')}"
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        "tensorboard": (
            "tensorboard",  # the folder's name
            {"logging_dir": folder, "purge_step": done + 1 if done else None},
        ),
        "wandb": (PROJECT, {"id": run, "name": title, "resume": "allow", "dir": folder}),
        "trackio": (PROJECT, {"name": f"{title}-{run}", "resume": "allow"}),
    }
    project, arguments = settings[name]
    tracker = LOGGER_TYPE_TO_CLASS[name](project, **arguments)
    tracker.start()
    if not done:
        values = msgspec.to_builtins(options)
        tracker.store_init_configuration({key: str(value) for key, value in values.items()})
    return tracker

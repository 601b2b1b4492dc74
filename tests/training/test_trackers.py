"""Steps in a tracker: TensorBoard for real, the others as far as they are installed."""

import sys
from pathlib import Path

import pytest

from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.options import Plan
from distillpipe.training.states import Step
from distillpipe.training.trackers import Trackers, check

OPTIONS = Plan(num_samples=1, limit=None, seed=0)


def step(number: int, loss: float) -> Step:
    return Step(number, loss, 1e-3, 1.0, 30, 60, 1.0, 60.0, None, 500)


def test_a_run_that_goes_on_takes_back_the_steps_that_no_state_covers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Trackers(["tensorboard"], tmp_path, 0, OPTIONS) as trackers:
        for number in range(1, 6):
            trackers.log(step(number, 10.0 - number))
    with Trackers(["tensorboard"], tmp_path, 3, OPTIONS) as trackers:
        for number in range(4, 7):
            trackers.log(step(number, 20.0 - number))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    losses = [(one.step, one.value) for one in found.Scalars("loss")]
    assert losses == [(1, 9.0), (2, 8.0), (3, 7.0), (4, 16.0), (5, 15.0), (6, 14.0)]
    assert [one.value for one in found.Scalars("supervised_tokens")] == [30.0] * 6
    assert "mfu" not in found.Tags()["scalars"]  # not known


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    with Trackers([], tmp_path, 0, OPTIONS) as trackers:
        trackers.log(step(1, 1.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not, where it is
    with pytest.raises(MissingDependencyError, match=f"pip install '{name}>="):
        check([name])

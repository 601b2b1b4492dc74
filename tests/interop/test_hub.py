"""`hub:` references through the real huggingface_hub and datasets, from a hub on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests

pytest.importorskip("datasets", reason="no datasets: pip install datasets")
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Hub = Callable[..., Any]


def test_a_dataset_of_the_hub_is_imported_and_known_by_its_commit(hub: Hub, tmp_path: Path) -> None:
    call = ("import", "hub:open/traces", "--out", tmp_path / "out")
    done = hub(*call)

    assert done.returncode == 0, done.stderr
    assert "import: hub:open/traces looks like --format openr1\n" in done.stderr
    rows = list(dataset.read_traces(str(tmp_path / "out")))
    assert [(row.sample, row.reasoning, row.response, row.finish_reason) for row in rows] == [
        (0, "a", "2", "stop"),
        (1, "b", "3", "length"),
    ]
    (given,) = manifests.read(tmp_path / "out" / "v1").inputs
    assert (given.path, given.id) == ("hub:open/traces", f"hub:open/traces@{COMMIT}")
    again = hub(*call)
    assert again.stderr == f"import: up to date: {tmp_path}/out/v1\n"


def test_what_was_loaded_once_is_there_without_a_network(hub: Hub, tmp_path: Path) -> None:
    online = hub("import", "hub:open/traces", "--out", tmp_path / "a")
    offline = hub("import", "hub:open/traces", "--out", tmp_path / "b", online=False)

    assert (online.returncode, offline.returncode) == (0, 0), offline.stderr
    first, second = (manifests.read(tmp_path / name / "v1") for name in "ab")
    assert (first.id, first.inputs) == (second.id, second.inputs)


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        (
            "hub:open/splits",
            2,
            "hub:open/splits: choose one: there are hub:open/splits:train, hub:open/splits:test",
        ),
        (
            "hub:open/splits:validation",
            2,
            "hub:open/splits:validation: no 'validation': there are hub:open/splits:train, "
            "hub:open/splits:test",
        ),
        (
            "hub:open/configs",
            2,
            "hub:open/configs: choose one: there are hub:open/configs:all, hub:open/configs:math",
        ),
        (
            "hub:open/configs:math:test",
            1,
            'hub:open/configs:math:test: cannot be loaded: Unknown split "test". Should be one of '
            "['train'].",
        ),
        (
            "hub:open/configs:code:train",
            1,
            "hub:open/configs:code:train: cannot be loaded: BuilderConfig 'code' not found. "
            "Available: ['all', 'math']",
        ),
    ],
)
def test_a_choice_that_is_the_users_is_one_line_with_the_choices(
    hub: Hub, tmp_path: Path, reference: str, code: int, message: str
) -> None:
    done = hub("import", reference, "--out", tmp_path / "out")

    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, f"error: {message}")


def test_raw_files_are_read_whatever_script_the_dataset_has(hub: Hub, tmp_path: Path) -> None:
    call = (
        "eval",
        REPOSITORY / "data/quickstart/teacher",
        "--benchmark",
        "hub:open/raw/test*.jsonl",
    )
    more = ("--prompt-template", "{problem}", "--max-tokens", 8, "--out")
    online = hub(*call, *more, tmp_path / "a")
    offline = hub(*call, *more, tmp_path / "b", online=False)

    assert (online.returncode, offline.returncode) == (0, 0), online.stderr + offline.stderr
    for out in (tmp_path / "a", tmp_path / "b"):
        version = out / "test" / "v1"
        asked = [
            problem.problem for problem in dataset.read_problems(dataset.find(str(version.parent)))
        ]
        assert asked == ["1+1?", "2+1?"]
        (given,) = manifests.read(version).inputs
        assert given.id == f"hub:open/raw/test*.jsonl@{COMMIT}"


def test_a_file_that_the_dataset_has_not_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = hub("import", "hub:open/raw/none.jsonl", "--out", tmp_path / "out")

    assert done.returncode == 2
    message = "error: hub:open/raw/none.jsonl: the dataset open/raw has no such file"
    assert done.stderr.splitlines()[-1] == message


def test_an_unknown_name_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = hub("import", "hub:open/none", "--out", tmp_path / "out")

    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: hub:open/none: no such dataset on the hub, or you have no access ("
    )
    assert done.stderr.count("\n") == 1


def test_a_hub_out_of_reach_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = hub("import", "hub:open/none", "--out", tmp_path / "out", online=False)

    assert (done.returncode, done.stderr) == (
        2,
        "error: hub:open/none: never loaded on this machine, and HF_HUB_OFFLINE is set: unset it, or give a file\n",
    )

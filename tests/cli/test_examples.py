"""The examples of the help, run as they stand, one after the other, by a shell."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distillpipe.cli.app import COMMANDS

pytestmark = pytest.mark.slow


def test_the_examples_of_the_help_run_as_they_stand(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(repository / "data")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in COMMANDS.values():
        example = (inspect.getdoc(command) or "").partition("Example:\n")[2]
        done = subprocess.run(
            ["bash", "-ec", inspect.cleandoc(example)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{example}\n{done.stderr}"
    made = {path.name for path in (tmp_path / "runs" / "example").iterdir()}
    assert made == {
        "traces", "clean", "student", "eval-teacher", "eval-student", "sharegpt.jsonl", "imported",
        "labelled",
    }  # fmt: skip

"""examples/quickstart.ipynb runs from the first cell to the last, and again without doing anything twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def program_of(notebook: Path) -> str:
    """The code cells as one program, which prints what the last cell's stage says."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(cell["source"] for cell in cells if cell["cell_type"] == "code")


@pytest.mark.long
def test_the_notebook_runs_and_is_up_to_date_the_next_time(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").symlink_to(repository / "data")
    program = program_of(repository / "examples" / "quickstart.ipynb")
    command = [sys.executable, "-c", program]

    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert first.returncode == 0, first.stderr
    assert "Pass@1 0." in first.stdout
    assert again.stdout == first.stdout
    assert again.stderr.count("up to date") == 4

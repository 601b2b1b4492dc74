"""Every command that a recipe would run on the shipped models, as make prints it, and dry."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # some seconds each: dry runs of eval load tokenizers

SHIPPED = {  # what make is told, and the commands that it then runs
    "quickstart": "generate filter sft eval eval eval show",
    "s1k tiny": "generate eval eval filter sft eval eval eval show",
    "limo tiny": "eval eval filter filter generate filter sft eval eval eval show",
    "ablation SEEDS=0": f"generate eval eval filter {'filter sft eval ' * 5}compare",
}
DRY = ("generate", "filter", "sft", "eval")  # the others write nothing


def printed(repository: Path, recipe: str) -> list[list[str]]:
    """The arguments of each `distill` that `make -n` prints."""
    name, *told = recipe.split()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", "-C", f"recipes/{name}", *told],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [
        shlex.split(line.partition(".venv/bin/distill ")[2])
        for line in lines
        if ".venv/bin/distill --recipe" in line
    ]


@pytest.mark.parametrize("recipe", list(SHIPPED))
def test_every_command_of_a_recipe_runs_dry(
    recipe: str, repository: Path, distill: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    commands = printed(repository, recipe)
    assert [arguments[2] for arguments in commands] == SHIPPED[recipe].split()
    for arguments in commands:
        if arguments[2] in DRY:
            done = distill(*arguments, "--dry-run")
            assert (done.code, done.err) == (0, ""), arguments

"""The command line is public: what it offers is documented, and a change of it is a decision."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HOW_TO_WRITE = "written by `python scripts/command_reference.py`"


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("command_reference.py")


def test_the_surface_of_the_command_line_is_the_one_that_was_decided(script: ModuleType) -> None:
    found, decided = script.surface(), json.loads(script.SNAPSHOT.read_text())
    assert list(found) == list(decided), HOW_TO_WRITE
    for command, parameters in decided.items():
        assert found[command] == parameters, f"{command}: {HOW_TO_WRITE}"


def test_every_command_and_flag_stands_in_its_reference(script: ModuleType) -> None:
    text = script.reference()
    for command, parameters in script.surface().items():
        if command == "distill":
            continue
        section = text.split(f"## `distill {command} ")[1].split("\n## ")[0]
        for parameter in parameters.values():
            flag = max(parameter["flags"], key=len)
            assert flag.startswith("--") is False or f"| `{flag}" in section, (command, flag)


def test_the_reference_shows_type_default_and_example(script: ModuleType) -> None:
    text = script.reference().split("## `distill filter ")[1].split("\n## ")[0]
    assert text.startswith("TRACES... [OPTIONS]` { #filter }\n\nVerify, bound and clean traces. ")
    assert (
        "\n```bash\ndistill filter runs/example/traces --max-reasoning-tokens 120 \\\n  --out"
        in text
    )
    row = next(line for line in text.splitlines() if line.startswith("| `--dedup "))
    assert row.startswith("| `--dedup exact\\|near\\|none` | `exact` | ")
    assert "| `--out path` | required | " in text


def test_the_pages_made_from_the_code_are_written(repository: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, repository / "scripts" / "docs_pages.py", "--folder", tmp_path], check=True
    )
    assert {path.name for path in tmp_path.iterdir()} == {"commands.md", "benchmarks.md"}
    assert "{ #generate }" in (tmp_path / "commands.md").read_text()
    assert "| math500 | math | 500 |" in (tmp_path / "benchmarks.md").read_text()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("distill sft --method ", ["full", "lora", "qlora"]),
        pytest.param("distill ge", ["generate"], marks=pytest.mark.slow),
        pytest.param("distill sft --learn", ["--learning-rate"], marks=pytest.mark.slow),
        pytest.param("distill --rec", ["--recipe"], marks=pytest.mark.slow),
    ],
)
def test_the_shell_completes_commands_flags_and_choices(
    distill_process: Callable[..., object], words: str, offered: list[str]
) -> None:
    done = distill_process(
        _DISTILL_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert done.out.split() == offered

"""The command line is public: what it offers stands in the README, and a change of it is a decision."""

import json
from collections.abc import Callable
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


def test_the_readme_holds_the_reference_as_the_help_says_it(script: ModuleType) -> None:
    assert script.reference() in script.README.read_text(), HOW_TO_WRITE


def test_every_command_and_flag_stands_in_the_readme(script: ModuleType) -> None:
    text = script.README.read_text()
    for command, parameters in script.surface().items():
        if command == "distill":
            continue
        section = text.split(f"### `distill {command} ")[1].split("\n### ")[0]
        for parameter in parameters.values():
            flag = max(parameter["flags"], key=len)
            assert flag.startswith("--") is False or f"`{flag}" in section, (command, flag)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("distill ge", ["generate"]),
        ("distill sft --learn", ["--learning-rate"]),
        ("distill sft --method ", ["full", "lora", "qlora"]),
        ("distill --rec", ["--recipe"]),
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

"""The command line as data and as text: README.md's reference and the snapshot that a test compares.

python scripts/command_reference.py           rewrites both
"""

import json
import re
import typing
from pathlib import Path
from typing import Any

import typer

from distillpipe.cli.app import app

ROOT = Path(__file__).parent.parent
README, SNAPSHOT = ROOT / "README.md", ROOT / "tests" / "cli" / "surface.json"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"


def surface() -> dict[str, Any]:
    """Every command with every parameter: flags, type, default, bounds."""
    program: Any = typer.main.get_command(app)
    return {"distill": _parameters(program)} | {
        name: _parameters(command) for name, command in program.commands.items()
    }


def reference() -> str:
    """The commands as markdown, between the two marks."""
    program: Any = typer.main.get_command(app)
    parts = [BEGIN, "<!-- written by scripts/command_reference.py from the commands' own help -->"]
    for name, command in program.commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(["distill", name, *(_usage(one) for one in arguments), "[OPTIONS]"])
        parts += ["", f"### `{usage}`", "", _paragraph(command.help), ""]
        parts += [f"- `{_usage(one)}`: {one.help}" for one in arguments]
        parts += ["", "| option | default | |", "|---|---|---|"]
        parts += [_row(one) for one in command.params if one.param_type_name == "option"]
    return "\n".join([*parts, "", END])


def _parameters(command: Any) -> dict[str, Any]:
    return {
        parameter.name: {
            "flags": parameter.opts,
            "type": _type(parameter),
            "default": _default(parameter),
            "required": parameter.required,
        }
        for parameter in command.params
        if parameter.name != "help"
    }


def _type(parameter: Any) -> str:
    """`int 0..`, `exact|none`, `text, repeated`."""
    kind = parameter.type_descriptor.annotation
    repeated = typing.get_origin(kind) is list
    if repeated:
        (kind,) = typing.get_args(kind)
    choices = typing.get_args(kind)
    text = (
        "|".join(map(str, choices))
        if choices
        else {"str": "text", "Path": "path"}.get(kind.__name__, kind.__name__)
    )
    if parameter.min is not None or parameter.max is not None:
        low, high = (
            "" if bound is None else f"{bound:g}" for bound in (parameter.min, parameter.max)
        )
        text += f" {low}..{high}"
    return f"{text}, repeated" if repeated else text


def _default(parameter: Any) -> Any:
    found = parameter.default
    return found if isinstance(found, bool | int | float | str | None) else str(found)


def _usage(argument: Any) -> str:
    name = argument.name.upper()
    return f"{name}..." if argument.nargs == -1 else str(name)


def _paragraph(text: str) -> str:
    """A command's help up to its example."""
    return re.sub(r"\s*\n\s*", " ", text.split("Example:")[0].strip())


def _row(option: Any) -> str:
    flag = max(option.opts, key=len)
    kind = "" if option.is_flag else f" {_type(option)}"
    default = "required" if option.required else "" if option.default is None else option.default
    shown = "" if default is False else json.dumps(default, ensure_ascii=False).strip('"')
    marked = shown if option.required or not shown else f"`{shown}`"
    cells = (f"`{flag}{kind}`", marked, option.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + reference() + after, encoding="utf-8")
    SNAPSHOT.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

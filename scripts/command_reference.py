"""The command line as data, for the snapshot that a test compares, and as text, for a page of the documentation.

python scripts/command_reference.py           rewrites the snapshot; scripts/docs_pages.py writes the page
"""

import json
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

import typer

from distillpipe.cli.app import app

ROOT = Path(__file__).parent.parent
SNAPSHOT = ROOT / "tests" / "cli" / "surface.json"


def surface() -> dict[str, Any]:
    """Every command with every parameter: flags, type, default, bounds."""
    program: Any = typer.main.get_command(app)
    return {"distill": _parameters(program)} | {
        name: _parameters(command) for name, command in program.commands.items()
    }


def reference() -> str:
    """A section for each command: usage, purpose, example, and a table of options for each panel of its help."""
    program: Any = typer.main.get_command(app)
    parts: list[str] = []
    for name, command in program.commands.items():
        arguments = [item for item in command.params if item.param_type_name == "argument"]
        usage = " ".join(["distill", name, *map(_usage, arguments), "[OPTIONS]"])
        purpose, _, example = command.help.partition("Example:")
        parts += [f"## `{usage}` {{ #{name} }}", "", _paragraph(purpose), ""]
        if example:
            parts += ["```bash", textwrap.dedent(example.replace("\b\n", "")).strip(), "```", ""]
        parts += [f"- `{_usage(argument)}`: {argument.help}" for argument in arguments]
        for panel, options in _panels(command).items():
            parts += ["", f"**{panel}**", "", "| option | default | meaning |", "|---|---|---|"]
            parts += map(_row, options)
        parts.append("")
    return "\n".join(parts)


def _panels(command: Any) -> dict[str, list[Any]]:
    """The options by panel, in the order of the help."""
    panels: dict[str, list[Any]] = {}
    for option in command.params:
        if option.param_type_name == "option":
            panel = getattr(option, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append(option)
    return panels


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
    default = parameter.default
    return default if isinstance(default, bool | int | float | str | None) else str(default)


def _usage(argument: Any) -> str:
    name = argument.name.upper()
    return f"{name}..." if argument.nargs == -1 else str(name)


def _paragraph(text: str) -> str:
    """A help text as one line, without the line breaks for the terminal."""
    return re.sub(r"\s+", " ", text.replace("\b", "")).strip()


def _row(option: Any) -> str:
    flag = max(option.opts, key=len)
    kind = "" if option.is_flag else f" {_type(option)}"
    default = "required" if option.required else "" if option.default is None else option.default
    shown = "" if default is False else json.dumps(default, ensure_ascii=False).strip('"')
    marked = shown if option.required or not shown else f"`{shown}`"
    cells = (f"`{flag}{kind}`", marked, option.help or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    SNAPSHOT.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

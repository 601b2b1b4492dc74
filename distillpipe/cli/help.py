"""The format of `--help`: basic options first, the others under the heading of their panel.

It is a plain list, because a table would cut the longest flags on a terminal of 80 columns.
"""

from typing import Any

import typer
from typer.core import TyperCommand

from distillpipe.base.errors import UsageError
from distillpipe.base.options import RUN
from distillpipe.cli.other_names import our_name

BASIC = "Options"
MAX_COLUMNS = 100
INDENT = 4


class PanelCommand(TyperCommand):
    """A command whose help has panels. It knows the names of its options in other tools."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], BASIC: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                panel = (
                    "Arguments"
                    if is_argument
                    else getattr(parameter, "rich_help_panel", None) or BASIC
                )
                if len(record[0]) > formatter.width - INDENT:  # the choices are longer than a line
                    flag, _, choices = record[0].partition(" ")
                    text = f"{record[1]} One of {choices.strip('<>').replace('|', ', ')}."
                    record = (f"{flag} <choice>", text)
                panels.setdefault(panel, []).append(record)
        if RUN in panels:
            panels[RUN] = panels.pop(RUN)  # the last one
        for panel, records in panels.items():
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            flag: str | None = getattr(error, "option_name", None)
            if flag is None:
                raise
            other = our_name(flag.lstrip("-"), [str(parameter.name) for parameter in self.params])
            if other is None:
                raise
            what, ours = other
            (known_parameter,) = [parameter for parameter in self.params if parameter.name == ours]
            is_argument = known_parameter.param_type_name == "argument"
            name = ours.upper() if is_argument else max(known_parameter.opts, key=len)
            behind = ", given without a flag" if is_argument else ""
            raise UsageError(f"no option {flag}: {what} is {name}{behind}") from None

"""Data inside of markdown: what a name or an option holds is shown, and makes no heading, link or HTML."""

import re

import msgspec

from distillpipe.base.terminal import json_escaped, printable

_ACTIVE = str.maketrans({"\\": r"\\", "`": r"\`", "|": r"\|", "<": "&lt;"})
_PLAIN_YAML = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)


def inline(text: str) -> str:
    """Text in a paragraph, a list or the cell of a table."""
    return printable(text).translate(_ACTIVE).replace("](", r"]\(")


def code(text: str) -> str:
    """Text as code, in a cell of a table too."""
    shown = printable(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def yaml_value(text: str) -> str:
    """Text as a value in the header of a card: in quotation marks where YAML could read it otherwise."""
    return text if _PLAIN_YAML.fullmatch(text) else json_escaped(msgspec.json.encode(text))

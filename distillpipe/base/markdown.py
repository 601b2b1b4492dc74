"""Data within Markdown: names and options are escaped, so that they make no heading, link or HTML."""

import re

import msgspec

from distillpipe.base.terminal import json_escaped, printable

_ACTIVE = str.maketrans({"\\": r"\\", "`": r"\`", "|": r"\|", "<": "&lt;"})
_PLAIN_YAML = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)


def inline(text: str) -> str:
    """The text escaped for a paragraph, a list or a table cell."""
    return printable(text).translate(_ACTIVE).replace("](", r"]\(")


def code(text: str) -> str:
    """The text as inline code, also in a table cell."""
    shown = printable(text).replace("|", "\\|")
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def yaml_value(text: str) -> str:
    """The text as a YAML value, quoted if YAML could read it as something else."""
    return text if _PLAIN_YAML.fullmatch(text) else json_escaped(msgspec.json.encode(text))

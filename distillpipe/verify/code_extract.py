"""The program in a response: its last fenced block. One pass, however many fences there are."""

import re
import textwrap
from collections.abc import Iterator

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>`{3,})[ \t]*(?P<language>[\w+-]*)(?P<rest>[^`]*)")
_PYTHON = {"python", "python3", "py"}


def extract_code(response: str) -> str | None:
    """The last fenced block that is marked as Python, else the last without a mark; null for none.

    A block that is not closed does not count.
    """
    marked = plain = None
    for language, code in _blocks(response):
        if language in _PYTHON:
            marked = code
        elif not language:
            plain = code
    return plain if marked is None else marked


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the text of each block; it ends with as many backticks as it begins with, or more."""
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line)
        if opening is None:
            opening, lines = fence, []
        elif fence and not fence["language"] and fence["ticks"].startswith(opening["ticks"]):
            code = "".join(f"{one}\n" for one in lines)
            yield opening["language"].lower(), textwrap.dedent(code) if opening["indent"] else code
            opening = None
        else:
            lines.append(line)

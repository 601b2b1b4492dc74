"""The program in a response: its last fenced block, by our rule or by LiveCodeBench's; both in one pass."""

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


def extract_last_fenced(response: str) -> str | None:
    """LiveCodeBench's rule: the lines between the last two that hold three backticks; null for fewer.

    Whatever stands in them: an example of output behind the program is what is found.
    """
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


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

"""Extracts the program from a response: its last fenced code block, by our rule or by LiveCodeBench's."""

import re
import textwrap
from collections.abc import Iterator

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<ticks>`{3,})[ \t]*(?P<language>[\w+-]*)(?P<rest>[^`]*)")
_PYTHON = {"python", "python3", "py"}


def extract_code(response: str) -> str | None:
    """The last fenced block with the language Python, else the last without a language; None if there is none.

    A block that is not closed does not count.
    """
    python = unnamed = None
    for language, code in _blocks(response):
        if language in _PYTHON:
            python = code
        elif not language:
            unnamed = code
    return unnamed if python is None else python


def extract_last_fenced(response: str) -> str | None:
    """LiveCodeBench's rule: the lines between the last two that contain three backticks; None for fewer.

    The content is not checked: if an example of output follows the program, it is the result.
    """
    lines = response.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    if len(fences) < 2:
        return None
    return "\n".join(lines[fences[-2] + 1 : fences[-1]])


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """The language and the text of each block; a block ends with at least as many backticks as it begins with."""
    opening: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line)
        if opening is None:
            opening, lines = fence, []
        elif fence and not fence["language"] and fence["ticks"].startswith(opening["ticks"]):
            code = "".join(f"{code_line}\n" for code_line in lines)
            yield opening["language"].lower(), textwrap.dedent(code) if opening["indent"] else code
            opening = None
        else:
            lines.append(line)

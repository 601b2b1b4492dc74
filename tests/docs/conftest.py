"""What the README and the documentation show: blocks of code, and the command line that they are held against."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from distillpipe.cli.app import app

FENCE = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^>]+) -->\n)?^```(?P<language>bash|sh|console|python)\b[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
HEREDOC = re.compile(r"<<-?\s*'?(\w+)'?(?P<rest>[^\n]*)\n.*?^\1$", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*$")
GROUP: Any = typer.main.get_command(app)


class Block(NamedTuple):
    """Code of a page, for the shell or for Python."""

    page: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...]
    "what this machine lacks; a block that needs nothing is run"


@pytest.fixture(scope="session")
def pages(repository: Path) -> dict[str, str]:
    """README, CONTRIBUTING and all pages of docs/ that people wrote, but for the log, which is history."""
    files = [repository / "README.md", repository / "CONTRIBUTING.md"]
    files += sorted((repository / "docs").rglob("*.md"))
    made = {"docs/log.md", "docs/reference/commands.md", "docs/reference/benchmarks.md"}
    texts = {path.relative_to(repository).as_posix(): path.read_text("utf-8") for path in files}
    return {name: text for name, text in texts.items() if name not in made}


@pytest.fixture(scope="session")
def code_blocks() -> Callable[[str, str], list[Block]]:
    """`code_blocks(page, text)`: its blocks for the shell and for Python, in their order."""

    def find(page: str, text: str) -> list[Block]:
        return [
            Block(
                page,
                text.count("\n", 0, match.start("text")),
                match["language"],
                match["text"],
                tuple(need.strip() for need in (match["needs"] or "").split(",") if need.strip()),
            )
            for match in FENCE.finditer(text)
        ]

    return find


@pytest.fixture(scope="session")
def shell_commands() -> Callable[[str], list[list[str]]]:
    """`shell_commands(text)`: the words of each command of a block, without variables set before it."""

    def split(text: str) -> list[list[str]]:
        lines = HEREDOC.sub(lambda match: match["rest"], text).replace("\\\n", " ").splitlines()
        found = []
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("|;&"):
                    found.append(words)
                    words = []
                elif words or not ASSIGNMENT.match(word):
                    words.append(word)
        return [words for words in found if words]

    return split


@pytest.fixture
def parse() -> Callable[[list[str]], Any]:
    """`parse(["distill", "filter", ...])` reads the words as `distill` does and runs nothing."""

    def read(words: list[str]) -> Any:
        whole = GROUP.make_context("distill", words[1:])
        name, command, rest = GROUP.resolve_command(
            whole, [*whole._protected_args, *whole.args] if whole._protected_args else whole.args
        )
        return command.make_context(name, rest, parent=whole)

    return read

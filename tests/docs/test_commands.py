"""Every command in the README and the documentation: it parses, and what can run on shipped data runs."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NEEDS = {
    "gpu", "network", "api key", "server", "docker", "vllm", "your problems", "runs/mine", "minutes",
    "hours", "placeholders",
}  # fmt: skip
PROGRAMS = {
    "distill", "make", "pip", "uv", "python", "python3", "source", "export", "sudo", "docker", "vllm",
    "cat",
}  # fmt: skip
OTHERS_FLAGS = {"--constraint", "--reasoning-parser"}  # of pip and of vllm serve
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
CODE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
PAGES_RUN_BY_SLOW_TESTS = ["README.md", "docs/tutorial.md", "docs/how-to/existing-traces.md"]
PAGES_RUN_BY_LONG_TESTS = [
    "docs/how-to/select-traces.md", "docs/how-to/soft-labels.md", "docs/how-to/reasoning-length.md",
    "docs/how-to/evaluate.md", "docs/how-to/deploy.md", "docs/how-to/own-verifier.md",
    "docs/reference/recipes.md", "docs/reference/python.md",
]  # fmt: skip


@pytest.fixture(scope="session")
def blocks(pages: dict[str, str], code_blocks: Callable[[str, str], list[Any]]) -> list[Any]:
    return [block for page, text in pages.items() for block in code_blocks(page, text)]


@pytest.fixture(scope="session")
def commands(
    blocks: list[Any], shell_commands: Callable[[str], list[list[str]]]
) -> list[tuple[str, list[str]]]:
    """Where each command of a shell block stands, and its words."""
    return [
        (f"{block.page}:{block.line}", words)
        for block in blocks
        if block.language != "python"
        for words in shell_commands(block.text)
    ]


def test_every_distill_line_parses(
    commands: list[tuple[str, list[str]]],
    parse: Callable[[list[str]], Any],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    subtests: pytest.Subtests,
) -> None:
    monkeypatch.chdir(repository)  # where recipes that a line names are
    lines = [one for one in commands if one[1][0].rpartition("/")[2] == "distill"]
    assert len(lines) > 60
    for where, words in lines:
        with subtests.test(where):
            assert parse(words).info_name


def test_every_block_says_what_it_needs_in_known_words(blocks: list[Any]) -> None:
    for block in blocks:
        assert set(block.needs) <= NEEDS, f"{block.page}:{block.line}"


def test_every_program_of_a_block_is_known(commands: list[tuple[str, list[str]]]) -> None:
    for where, words in commands:
        assert words[0] in PROGRAMS, f"{where}: {words[0]}"


def test_every_make_target_exists(commands: list[tuple[str, list[str]]], repository: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    for where, words in commands:
        if words[0] == "make" and "-C" in words:
            assert (repository / words[words.index("-C") + 1] / "Makefile").is_file(), where
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, where


def test_every_flag_in_the_text_exists(
    pages: dict[str, str], load_script: Callable[[str], Any], repository: Path
) -> None:
    surface = load_script("command_reference.py").surface()
    flags = {
        name: {"--help"} | {flag for one in parameters.values() for flag in one["flags"]}
        for name, parameters in surface.items()
    }
    anywhere = set().union(*flags.values()) | OTHERS_FLAGS
    for page, text in pages.items():
        for code in CODE.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
            words = code.removeprefix("distill ").split()
            allowed = flags[words[0]] | flags["distill"] if words[0] in flags else anywhere
            if words[0].startswith("scripts/"):
                allowed = set(FLAG.findall((repository / words[0]).read_text()))
            wrong = set(FLAG.findall(code)) - allowed
            assert not wrong, f"{page}: `{code}` has {wrong}"


def test_every_file_of_the_checkout_that_is_named_exists(
    pages: dict[str, str], repository: Path
) -> None:
    named = re.compile(r"(?<![\w/.-])(?:data|recipes|scripts|tests|docs)/[\w./-]*[\w/]")
    made = {"docs/reference/commands.md", "docs/reference/benchmarks.md"}
    for page, text in pages.items():
        for path in set(named.findall(text)) - made:
            assert (repository / path).exists(), f"{page}: {path}"


def test_links_of_the_readme_lead_to_files(pages: dict[str, str], repository: Path) -> None:
    links = [
        (page, link)
        for page in ("README.md", "CONTRIBUTING.md")
        for link in re.findall(r"\]\(([^)#]+)", pages[page])
        if "://" not in link
    ]
    assert len(links) > 20
    for page, link in links:
        assert (repository / link).is_file(), f"{page}: {link}"


def test_the_readme_is_short(pages: dict[str, str]) -> None:
    assert len(pages["README.md"].splitlines()) <= 250


def test_ci_runs_the_two_commands_of_the_readme(repository: Path, pages: dict[str, str]) -> None:
    lines = (repository / ".ci" / "run").read_text().splitlines()
    for command in ("make quickstart", "make test"):
        assert f"\n{command}\n" in pages["README.md"]
        assert command in lines


def test_measured_intervals_stand_in_the_log(pages: dict[str, str], repository: Path) -> None:
    log = re.sub(r"[+\s]", "", (repository / "docs" / "log.md").read_text("utf-8"))
    found = [
        (page, re.sub(r"[+\s]", "", interval))
        for page, text in pages.items()
        for interval in re.findall(r"\[[+-]?\d+(?:\.\d+)?,\s[+-]?\d+(?:\.\d+)?\]", text)
    ]
    assert len(found) > 60
    for page, interval in found:
        assert interval in log, (page, interval)


def test_pages_with_blocks_to_run_are_listed(blocks: list[Any]) -> None:
    pages = {block.page for block in blocks if not block.needs} - {"CONTRIBUTING.md"}
    assert pages == {*PAGES_RUN_BY_SLOW_TESTS, *PAGES_RUN_BY_LONG_TESTS}


@pytest.fixture
def run_blocks(blocks: list[Any], repository: Path, tmp_path: Path) -> Callable[[str], None]:
    """`run_blocks(page)`: the blocks of a page that need nothing, in their order, where only shipped files are."""

    def run(page: str) -> None:
        for name in ("data", "recipes"):
            (tmp_path / name).symlink_to(repository / name)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for block in blocks:
            if block.page != page or block.needs:
                continue
            shell = ["bash", "-euo", "pipefail", "-c", block.text]
            done = subprocess.run(
                [sys.executable, "-c", block.text] if block.language == "python" else shell,
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{page}:{block.line}\n{block.text}\n{done.stderr}"

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_RUN_BY_SLOW_TESTS)
def test_the_blocks_of_the_first_pages_run(page: str, run_blocks: Callable[[str], None]) -> None:
    run_blocks(page)


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES_RUN_BY_LONG_TESTS)
def test_the_blocks_of_all_other_pages_run(page: str, run_blocks: Callable[[str], None]) -> None:
    run_blocks(page)

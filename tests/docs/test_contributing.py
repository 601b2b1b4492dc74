"""CONTRIBUTING.md names places in the code: they are there."""

import re
from pathlib import Path

import pytest


@pytest.fixture
def code(repository: Path) -> Path:
    """The package, in the layout that the page describes."""
    if not (repository / "distillpipe" / "base").is_dir():
        pytest.skip("the packages are being moved")
    return repository / "distillpipe"


def test_the_files_that_are_named_exist(pages: dict[str, str], code: Path) -> None:
    named = re.findall(r"`distillpipe/([\w./]+)`", pages["CONTRIBUTING.md"])
    assert len(named) > 20
    assert [path for path in named if not (code / path).exists()] == []


def test_the_packages_of_the_tree_are_those_of_the_code(pages: dict[str, str], code: Path) -> None:
    tree = pages["CONTRIBUTING.md"].split("distillpipe/\n")[1].split("tests/")[0]
    named = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    assert named == {path.parent.name for path in code.glob("*/__init__.py")}


@pytest.mark.parametrize(
    "name",
    [
        "ROW_RULES", "FilterOptions", "VERIFIERS", "open_engine", "FORMATS", "BENCHMARKS", "Drop",
        "Judgement", "EngineError",
    ],
)  # fmt: skip
def test_the_tables_and_types_that_are_named_are_defined(
    name: str, pages: dict[str, str], repository: Path
) -> None:
    assert re.search(rf"`[^`]*\b{name}\b[^`]*`", pages["CONTRIBUTING.md"])
    defined = re.compile(rf"^(?:class |def )?{name}\b(?:[:(]| =)", re.MULTILINE)
    files = (repository / "distillpipe").rglob("*.py")
    assert any(defined.search(path.read_text("utf-8")) for path in files)

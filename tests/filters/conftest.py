"""What the tests of the filters share."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from distillpipe.base.filter_options import FilterOptions, StrategyOptions
from distillpipe.base.records import Trace
from distillpipe.data.formats.incoming import FORMATS, detect
from distillpipe.data.formats.traces import Choices, imported


@pytest.fixture(scope="session")
def make_options() -> Callable[..., FilterOptions]:
    """A factory of filter options that keep every right answer; arguments change them, or their strategy options."""
    lenient = FilterOptions(
        verdicts=("correct",),
        verifier=None,
        min_reasoning_tokens=0,
        max_reasoning_tokens=None,
        dedup="none",
        per_problem=None,
        seed=0,
        max_repetition=1.0,
        max_foreign_letters=None,
    )

    def factory(**changes: Any) -> FilterOptions:
        keys = set(changes) & set(StrategyOptions.__struct_fields__)
        drawing = StrategyOptions(**{key: changes.pop(key) for key in keys})
        return msgspec.structs.replace(lenient, strategy_options=drawing, **changes)

    return factory


@pytest.fixture(scope="session")
def perturbed(load_script: Callable[[str], ModuleType]) -> ModuleType:
    """The ways to spell a problem otherwise: scripts/bench/perturbed_problems.py."""
    return load_script("bench/perturbed_problems.py")


@pytest.fixture(scope="session")
def real_problems(reference_data: Callable[[str], Path]) -> Callable[[str], list[str]]:
    """The problems of a file of the reference data by its name."""

    def load(name: str) -> list[str]:
        text = reference_data(f"data/math/{name}").read_text()
        rows = json.loads(text) if name.endswith(".json") else map(json.loads, text.splitlines())
        return [row.get("problem") or row["question"] for row in rows]

    return load


@pytest.fixture(scope="session")
def real_traces(reference_data: Callable[[str], Path]) -> dict[str, tuple[dict[str, Any], Trace]]:
    """The 2,004 real traces as import makes them, each with its source row, by the source's id."""
    found: dict[str, tuple[dict[str, Any], Trace]] = {}
    for path in sorted(reference_data("data/traces").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        name = detect(rows[:50])
        assert name is not None
        for row in rows:
            (one,) = imported(row, FORMATS[name], Choices(name))
            found[row["id"]] = (row, one.trace)
    return found

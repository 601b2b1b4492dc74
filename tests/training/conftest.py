"""Rows in files, as training reads them."""

from collections.abc import Callable, Iterable

import pytest

from distillpipe.base.records import Trace
from distillpipe.training.rows.rows import Row
from distillpipe.training.rows.stored_rows import StoredRows, store


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[Row]], StoredRows]:
    """`stored(rows)` writes them into a folder of their own and opens it."""

    def write(rows: Iterable[Row]) -> StoredRows:
        return store(tmp_path_factory.mktemp("stored") / "rows", rows)

    return write


@pytest.fixture(scope="session")
def additions(make_trace: Callable[..., Trace]) -> Callable[[range, range], list[Trace]]:
    """`additions(range(3, 6), range(2, 5))`: a trace for each sum, the longer the more is added."""

    def make(has: range, finds: range) -> list[Trace]:
        return [
            make_trace(
                problem=f"Mia has {a} pens. Mia finds {b} pens. How many pens does Mia have now?",
                reasoning="\n".join([f"{a}+{b}={a + b}."] * b),
                response=f"\\boxed{{{a + b}}}",
            )
            for a in has
            for b in finds
        ]

    return make

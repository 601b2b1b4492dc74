"""Rows in files, as training reads them."""

from collections.abc import Callable, Iterable

import pytest

from distillpipe.training.rows import Row
from distillpipe.training.stored_rows import StoredRows, store


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[Row]], StoredRows]:
    """`stored(rows)` writes them into a folder of their own and opens it."""

    def write(rows: Iterable[Row]) -> StoredRows:
        return store(tmp_path_factory.mktemp("stored") / "rows", rows)

    return write

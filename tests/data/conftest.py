"""Files of problems, and the problems in them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.options import Prompting
from distillpipe.base.records import Problem
from distillpipe.data.sources import find, read_problems


@pytest.fixture(scope="session")
def read() -> Callable[..., list[Problem]]:
    """`read(path, limit, answer_field="gold")`: the problems of a file, a dataset or a benchmark."""
    nothing: dict[str, Any] = dict.fromkeys(Prompting.__struct_fields__)
    plain = Prompting(**{**nothing, "prompt_template": "{problem}"})

    def problems(path: Path | str, limit: int | None = None, **changes: Any) -> list[Problem]:
        options = msgspec.structs.replace(plain, **changes)
        return list(read_problems(find(str(path)), options, limit))

    return problems


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write(path, row, row)`: the file, with these rows as lines of JSON."""

    def lines(path: Path, *rows: object) -> Path:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return path

    return lines

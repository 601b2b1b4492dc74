"""What the tests of the filters share."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from distillpipe.records import FilterOptions


@pytest.fixture(scope="session")
def make_options() -> Callable[..., FilterOptions]:
    """A factory of filter options that keep every right answer; arguments change them."""
    lenient = FilterOptions(
        verdicts=("correct",),
        verifier=None,
        min_reasoning_tokens=0,
        max_reasoning_tokens=None,
        dedup="none",
        per_problem=None,
        seed=0,
    )

    def factory(**changes: Any) -> FilterOptions:
        return msgspec.structs.replace(lenient, **changes)

    return factory

"""What is refused before any training."""

import pytest

from distillpipe.errors import DataError
from distillpipe.training.preflight import check
from distillpipe.training.rows import Row


def test_rows_within_the_limit_pass() -> None:
    check([Row("a", [1, 2, 3], 1), Row("b", [1, 2], 1)], max_length=3)


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows to train on"):
        check([], max_length=10)


def test_rows_over_the_limit_are_refused_with_their_number_and_their_tokens() -> None:
    rows = [Row("a", [1] * 5, 1), Row("b", [1] * 9, 1), Row("c", [1] * 2, 1)]
    with pytest.raises(DataError) as caught:
        check(rows, max_length=4)
    assert "2 of 3 rows are longer than --max-length 4 tokens, 6 tokens in all" in str(caught.value)
    assert "give --max-length 9" in str(caught.value)


def test_rows_without_a_supervised_token_are_refused() -> None:
    with pytest.raises(DataError, match=r"1 rows have nothing to learn from: a"):
        check([Row("a", [1, 2], 2)], max_length=10)

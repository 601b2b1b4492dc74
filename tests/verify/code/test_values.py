"""Comparison of values and output: what is equal, and hostile values, which cost no time."""

import json
import math
from typing import Any

import pytest

from distillpipe.verify.code.inside.values import NotPlain, decoded, encoded
from distillpipe.verify.code.values import equal_output, equal_value

VALUES: list[Any] = [
    None, True, False, 0, -7, 2**63, -(10**5000), 1.5, -0.0, 1e300, math.inf, "", "ä\ud800\0\n\"\\",
    b"\0\xff", 2 + 3j, [], [1, [2, []]], (), (1, (2,)), set(), {1, "a", (2, 3)}, frozenset({1, 2}),
    {}, {"a": [1], 2: (3,), (4, 5): {6}, None: {"b": {}}}, {frozenset({1}): 2},
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(VALUES)))
def test_a_plain_value_comes_out_as_it_is(index: int) -> None:
    value = VALUES[index]
    encoded_value = json.loads(encoded(value))

    assert equal_value(encoded_value, value)
    assert decoded(encoded_value) == value
    assert type(decoded(encoded_value)) is type(value)


@pytest.mark.parametrize("index", range(len(VALUES)))
def test_different_values_are_not_equal(index: int) -> None:
    encoded_value = json.loads(encoded(VALUES[index]))

    for other in range(len(VALUES)):
        assert equal_value(encoded_value, VALUES[other]) == (VALUES[index] == VALUES[other]), other


@pytest.mark.parametrize(
    ("value", "expected", "is_equal"),
    [
        (1, True, True),
        (1.0, 1, True),
        ([1, 2], (1, 2), False),
        ((1, 2), [1, 2], False),
        ({1, 2}, frozenset({1, 2}), True),
        ({1}, [1], False),
        ([1, 2], [1, 2, 3], False),
        ({"a": 1}, {"a": 2}, False),
        ({"a": [1.0, (2,)]}, {"a": [1, (2,)]}, True),
        (math.nan, math.nan, False),
        ("1", 1, False),
    ],
)
def test_equal_is_what_python_calls_equal(value: Any, expected: Any, is_equal: bool) -> None:
    assert (value == expected) == is_equal
    assert equal_value(json.loads(encoded(value)), expected) == is_equal


class _Strange(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "42"

    __hash__ = int.__hash__
    __str__ = __format__ = __repr__  # type: ignore[assignment]


def test_a_subclass_counts_for_what_it_is_made_of() -> None:
    assert json.loads(encoded(_Strange(7))) == 7
    assert not equal_value(json.loads(encoded([_Strange(7)])), [42])


@pytest.mark.parametrize("value", [object(), iter([]), range(3), len, Ellipsis, [object()]])
def test_what_is_not_made_of_literals_is_refused(value: object) -> None:
    with pytest.raises(NotPlain):
        encoded(value)


@pytest.mark.parametrize(
    "encoded_value", [[], ["?"], ["i"], ["i", []], ["d", 1], ["s", ["l"]], ["b", "x"], {}]
)
@pytest.mark.parametrize("expected", [None, 0, [], {}, set(), (), b""])
def test_nonsense_equals_nothing(encoded_value: Any, expected: Any) -> None:
    assert not equal_value(encoded_value, expected)


def test_a_value_without_end_equals_nothing() -> None:
    encoded_value: Any = 1
    for _ in range(100_000):
        encoded_value = ["t", encoded_value]

    assert not equal_value(encoded_value, (1,))
    assert not equal_value(["s", encoded_value], {(1,)})


def test_colliding_hashes_are_never_put_into_a_set() -> None:
    numbers = [number * (2**61 - 1) for number in range(200_000)]  # in a set: hours

    assert not equal_value(["s", *numbers], {1})
    assert not equal_value(["d", *numbers], {1: 2})
    assert not equal_value(["d", ["f", *numbers], 1], {frozenset({1}): 1})


@pytest.mark.parametrize(
    ("printed", "expected", "is_equal"),
    [
        ("1\n2\n", "1\n2", True),
        ("  1 \n2  \n\n", "1\n2", True),
        ("1 2", "1\n2", False),
        ("1.0 2.50", "1 2.5", True),
        ("1e2", "100", True),
        ("yes 1.0", "yes 1", False),
        ("YES", "Yes", False),
        ("0.3333333", "0.33333333", False),
        ("", "", True),
        ("", "0", False),
        ("1\n\n2", "1\n2", False),
        ("sNaN", "1", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
    ],
)
def test_output_is_compared_by_lines_and_then_by_decimals(printed, expected, is_equal) -> None:
    assert equal_output(printed, expected) == is_equal

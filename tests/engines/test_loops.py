"""Repetition loops: at least 32 copies of a pattern of up to 64 tokens at the end, and nothing less."""

import pytest

from distillpipe.engines.base import MAX_PATTERN_TOKENS, MIN_REPEATS, ends_in_loop


@pytest.mark.parametrize("length", [1, 2, 7, MAX_PATTERN_TOKENS])
def test_a_pattern_repeated_often_enough_is_a_loop(length: int) -> None:
    pattern = list(range(100, 100 + length))
    assert ends_in_loop([1, 2, 3, *pattern * MIN_REPEATS])
    assert not ends_in_loop([1, 2, 3, *pattern[1:], *pattern * (MIN_REPEATS - 1)])
    assert not ends_in_loop([*pattern * MIN_REPEATS, 5])


def test_a_pattern_that_is_too_long_is_no_loop() -> None:
    assert not ends_in_loop(list(range(MAX_PATTERN_TOKENS + 1)) * (2 * MIN_REPEATS))


def test_one_other_token_in_the_tail_breaks_the_loop() -> None:
    tokens = [3, 4] * MIN_REPEATS
    tokens[10] = 9
    assert not ends_in_loop(tokens)


@pytest.mark.parametrize("tokens", [[], [1], [1] * (MIN_REPEATS - 1)])
def test_what_is_too_short_is_no_loop(tokens: list[int]) -> None:
    assert not ends_in_loop(tokens)

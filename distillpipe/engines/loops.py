"""Completions that go in circles: the same few tokens over and over until the limit ends them.

vLLM looks for the same thing in its scheduler, token by token; the figures are chosen so that it costs
little there, and so that rows of zeros or of dashes in a table pass.
"""

from collections.abc import Sequence

MAX_PATTERN_TOKENS = 64
MIN_REPEATS = 32


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether `tokens` end in at least MIN_REPEATS copies of a pattern of up to MAX_PATTERN_TOKENS."""
    longest = min(MAX_PATTERN_TOKENS, len(tokens) // MIN_REPEATS)
    return any(_is_periodic(tokens, length) for length in range(1, longest + 1))


def _is_periodic(tokens: Sequence[int], length: int) -> bool:
    if tokens[-1] != tokens[-1 - length]:  # nearly always; slices cost more
        return False
    return tokens[-length * MIN_REPEATS : -length] == tokens[-length * (MIN_REPEATS - 1) :]

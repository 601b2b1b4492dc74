"""How many tokens a forward pass and a chunk of logits have: numbers alone, for training and its forecast."""

from bisect import bisect_left, insort
from collections.abc import Sequence

MIN_TOKENS = 4096  # of a pass that has rows to fill it; fewer leave a GPU idle
CHUNK_LOGITS = 2**27  # numbers in the logits of a chunk


def capacity(max_length: int) -> int:
    """Tokens of a pass: as many as the longest row may have, so no step needs more memory than that row."""
    return max(max_length, MIN_TOKENS)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of rows by pass: the longest row first, each into the fullest pass that has room for it.

    A row longer than `capacity` has a pass of its own. Best-fit decreasing: at most 11/9 of the fewest
    passes possible plus one (Johnson 1973). Rows of equal length keep their order.
    """
    passes: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, number of the pass), least room first
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        place = bisect_left(room, (lengths[row], 0))
        if place == len(room):
            passes.append([])
            left, number = capacity, len(passes) - 1
        else:
            left, number = room.pop(place)
        passes[number].append(row)
        insort(room, (left - lengths[row], number))
    return passes

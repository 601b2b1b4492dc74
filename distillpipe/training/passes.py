"""The sizes of a forward pass and of a chunk of logits, and best-fit packing; numbers only, for training and forecast."""

from bisect import bisect_left, insort
from collections.abc import Sequence

MIN_TOKENS = 4096  # of a pass if there are rows to fill it; fewer leave a GPU idle
CHUNK_LOGITS = 2**27  # elements in the logits of a chunk


def capacity(max_length: int) -> int:
    """Tokens of a pass: as many as the longest row may have, so that no step needs more memory than that row."""
    return max(max_length, MIN_TOKENS)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack rows into passes, longest row first, each into the fullest pass with room; returns row indices by pass.

    A row longer than `capacity` gets a pass of its own. Best-fit decreasing needs at most 11/9 of the minimum
    number of passes plus one (Johnson 1973). Rows of equal length keep their order.
    """
    passes: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, number of the pass), least room first
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        index = bisect_left(room, (lengths[row], 0))
        if index == len(room):
            passes.append([])
            free, pass_index = capacity, len(passes) - 1
        else:
            free, pass_index = room.pop(index)
        passes[pass_index].append(row)
        insort(room, (free - lengths[row], pass_index))
    return passes

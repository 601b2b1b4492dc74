"""Align the teacher's labels with the student's tokens by the bytes of the text, never by position.

Training rows are rendered and tokenized again. The student's template may write other tags, and its tokenizer may
split the text in another way than the teacher sampled it. So we locate reasoning and response in both byte strings,
extended by the bytes around them that agree. A token gets a label if the teacher has the same token at the same byte,
after the same text; after a part that was cut out of a row, no token has a label. All other tokens train on the hard loss.

Shapes: S tokens of the student's completion, T of the teacher's.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NO_LABEL = -1
_TAGS = re.compile(r"\s*(?:(?:<[^<>\s]*>|\[[^][\s]*\]|[◁【][^◁▷【】\s]*[▷】])\w*\s*)*", re.ASCII)
"Text that a template may write around reasoning and response, like </think> or <|im_start|>answer."

Ids = npt.NDArray[np.int64]


class SpelledTokens(NamedTuple):
    """Tokens and their bytes."""

    ids: Ids  # (T,)
    starts: Ids  # (T,) index of the first byte of each
    content: bytes


class Region(NamedTuple):
    """A byte string that occurs on both sides."""

    ours: int
    "its first byte in the student's text"
    theirs: int
    length: int


def spell(ids: Ids, bytes_of: Mapping[int, bytes]) -> SpelledTokens:
    """Look the tokens up in a table of their bytes (`vocabulary.token_bytes`)."""
    pieces = [bytes_of[token] for token in ids.tolist()]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if pieces else ends
    return SpelledTokens(ids, starts, b"".join(pieces))


def label_positions(
    student: SpelledTokens, teacher: SpelledTokens, counterparts: Ids, reasoning: str, response: str
) -> Ids | None:  # (S,)
    """For each token of the student, the index of the teacher's label, NO_LABEL without one.

    `counterparts`: the student's ids of the teacher's tokens (`vocabulary.counterparts`). Returns None if the
    teacher's tokens do not spell reasoning and response, so that the labels belong to another text.
    """
    regions = _regions(student.content, teacher, reasoning.encode(), response.encode())
    if regions is None:
        return None
    positions = np.full(len(student.ids), NO_LABEL)
    same_token = counterparts[teacher.ids]
    for ours, theirs, length in regions:
        inside = (student.starts >= ours) & (student.starts <= ours + length)
        teacher_starts = student.starts[inside] - ours + theirs
        indices = np.searchsorted(teacher.starts, teacher_starts).clip(max=len(teacher.ids) - 1)
        agrees = (teacher.starts[indices] == teacher_starts) & (
            same_token[indices] == student.ids[inside]
        )
        positions[inside] = np.where(agrees, indices, positions[inside])
    return positions


def _regions(
    ours: bytes, teacher: SpelledTokens, reasoning: bytes, response: bytes
) -> list[Region] | None:
    """The location on both sides of each part that is not empty, in order, extended by the bytes that agree.

    If the teacher wrote more than tags before a part, text was cut out there: this part and all later ones follow
    another text than the teacher saw, and are left out.
    """
    regions = []
    theirs = teacher.content
    our_end = their_end = 0  # the end of the previous part
    for part in filter(None, (reasoning, response)):
        ours_at = ours.find(part, our_end)
        theirs_at = (
            theirs.find(part) if part is reasoning else _find_response(teacher, part, their_end)
        )
        if ours_at < 0 or theirs_at < 0:
            return None
        if not _TAGS.fullmatch(theirs[their_end:theirs_at].decode(errors="replace")):
            break
        before = _common_prefix(ours[our_end:ours_at][::-1], theirs[their_end:theirs_at][::-1])
        our_end, their_end = ours_at + len(part), theirs_at + len(part)
        after = _common_prefix(ours[our_end:], theirs[their_end:])
        regions.append(Region(ours_at - before, theirs_at - before, before + len(part) + after))
    return regions


def _find_response(teacher: SpelledTokens, response: bytes, thought_end: int) -> int:
    """The index of the first byte of a response, negative if it is missing.

    The response is the last text before the end token, or before the end if there is no end token.
    """
    content, last_token = teacher.content, int(teacher.starts[-1])
    start = len(content) - len(response)
    if content.endswith(response) and start <= last_token:
        return start
    return content.rfind(response, thought_end, last_token)


def _common_prefix(first: bytes, second: bytes) -> int:
    """The length of the common prefix of two byte strings."""
    shorter = min(len(first), len(second))
    if first[:shorter] == second[:shorter]:
        return shorter
    different = np.frombuffer(first[:shorter], np.uint8) != np.frombuffer(
        second[:shorter], np.uint8
    )
    return int(different.argmax())

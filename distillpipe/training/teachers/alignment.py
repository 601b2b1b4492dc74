"""Which label of the teacher belongs to which token of a row: by the bytes of the text, never by position.

The row that a student trains on is rendered and tokenized anew: its template may write other delimiters,
its tokenizer may cut the same text elsewhere than the teacher happened to sample it. So reasoning and
response are found on both sides, with all that agrees around them, and a label is taken only where a
token begins at the same byte of that and is the same token, and where the teacher had read the same text before
it: behind what was cut out of a row no token has a label. All else trains on the hard loss.

Shapes: S tokens of the student's completion, T of the teacher's.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NO_LABEL = -1
_TAGS = re.compile(r"\s*(?:(?:<[^<>\s]*>|\[[^][\s]*\]|[◁【][^◁▷【】\s]*[▷】])\w*\s*)*", re.ASCII)
"What a template may write beside reasoning and response, like </think> or <|im_start|>answer."

Ids = npt.NDArray[np.int64]


class Spelled(NamedTuple):
    """Tokens, and the bytes that they spell."""

    ids: Ids  # (T,)
    starts: Ids  # (T,) first byte of each
    content: bytes


class Region(NamedTuple):
    """A stretch of bytes that both sides have."""

    ours: int
    "where it begins in the student's bytes"
    theirs: int
    length: int


def spelled(ids: Ids, bytes_of: Mapping[int, bytes]) -> Spelled:
    """The bytes of tokens by their table (`vocabulary.token_bytes`)."""
    pieces = [bytes_of[token] for token in ids.tolist()]
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if pieces else ends
    return Spelled(ids, starts, b"".join(pieces))


def label_positions(
    student: Spelled, teacher: Spelled, counterparts: Ids, reasoning: str, response: str
) -> Ids | None:  # (S,)
    """For each token of the student the index of its label among the teacher's, NO_LABEL where it has none.

    `counterparts` are the student's ids of the teacher's tokens (`vocabulary.counterparts`). None where
    the teacher's tokens do not spell reasoning and response: the labels are those of another text.
    """
    regions = _regions(student.content, teacher, reasoning.encode(), response.encode())
    if regions is None:
        return None
    found = np.full(len(student.ids), NO_LABEL)
    same_token = counterparts[teacher.ids]
    for ours, theirs, length in regions:
        inside = (student.starts >= ours) & (student.starts <= ours + length)
        wanted = student.starts[inside] - ours + theirs
        at = np.searchsorted(teacher.starts, wanted).clip(max=len(teacher.ids) - 1)
        agrees = (teacher.starts[at] == wanted) & (same_token[at] == student.ids[inside])
        found[inside] = np.where(agrees, at, found[inside])
    return found


def _regions(
    ours: bytes, teacher: Spelled, reasoning: bytes, response: bytes
) -> list[Region] | None:
    """Where each part that is not empty stands on both sides, one behind the other.

    With a part goes what agrees beside it. Where the teacher wrote more before a part than tags, the part was
    cut: it and what follows have another past than the teacher's.
    """
    found = []
    theirs = teacher.content
    our_end = their_end = 0  # of the part before
    for part in filter(None, (reasoning, response)):
        ours_at = ours.find(part, our_end)
        theirs_at = (
            theirs.find(part) if part is reasoning else _find_response(teacher, part, their_end)
        )
        if ours_at < 0 or theirs_at < 0:
            return None
        if not _TAGS.fullmatch(theirs[their_end:theirs_at].decode(errors="replace")):
            break
        before = _agreeing(ours[our_end:ours_at][::-1], theirs[their_end:theirs_at][::-1])
        our_end, their_end = ours_at + len(part), theirs_at + len(part)
        after = _agreeing(ours[our_end:], theirs[their_end:])
        found.append(Region(ours_at - before, theirs_at - before, before + len(part) + after))
    return found


def _find_response(teacher: Spelled, response: bytes, thought_end: int) -> int:
    """The first byte of a response, negative where there is none.

    It is the last text before the end token, or before the end, where there is no such token.
    """
    content, last_token = teacher.content, int(teacher.starts[-1])
    start = len(content) - len(response)
    if content.endswith(response) and start <= last_token:
        return start
    return content.rfind(response, thought_end, last_token)


def _agreeing(one: bytes, other: bytes) -> int:
    """How many bytes two texts have in common from their beginning."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    different = np.frombuffer(one[:shorter], np.uint8) != np.frombuffer(other[:shorter], np.uint8)
    return int(different.argmax())

r"""Find where the steps of a reasoning end, so that it can be cut without breaking a sentence.

A step is a paragraph, or a line if the reasoning has no blank lines. A step does not end within a code block, a
formula or a sentence. It does not end with a heading, a question, "Let me check" or "Wait" either, because the
text that these announce comes after them.
"""

import re
from bisect import bisect_left
from typing import NamedTuple

from distillpipe.models.endings import breaks_off

_LAST = 4_000  # characters before an end that are read to decide whether the step is complete
_ANNOUNCED_IN = 200  # characters before an end that are searched for "Let me check"
BLANK_LINE = re.compile(r"(?<=\S)\s*\n[^\S\n]*\n\s*")
_NEW_LINE = re.compile(r"(?<=\S)\s*\n\s*")
_FENCE = re.compile(r"^[^\S\n]*+(?:```|~~~)", re.MULTILINE)
_ANNOUNCEMENT = re.compile(
    r"\b(?:let me|let['\u2019]s|let us|I (?:need|have) to)\b[^.?!\n]*\W*\Z"
    r"|\b(?:wait|hmm+)\W*\Z",
    re.IGNORECASE,
)
_HEADING = re.compile(r"(?:#{1,6}\s.*|\*\*[^*]*[^*\W\d][^*]*\*\*:?)\Z")


class Steps(NamedTuple):
    """The ends of the steps of a reasoning."""

    reasoning: str
    ends: list[int]
    "number of characters before each end, ascending; white space and more reasoning follow each"
    fences: list[int]
    "positions of the fences of code blocks"

    def is_whole(self, end: int) -> bool:
        """Whether the step that ends at `end` is complete and does not announce the next one."""
        if bisect_left(self.fences, end) % 2:  # within a code block
            return False
        text = self.reasoning[max(0, end - _LAST) : end]
        line = text[text.rfind("\n") + 1 :].strip()
        announces_next = (
            line.endswith("?")
            or _ANNOUNCEMENT.search(line[-_ANNOUNCED_IN:])
            or _HEADING.match(line)
        )
        return not (announces_next or breaks_off(text))


def find_steps(reasoning: str, last: int) -> Steps:
    """The steps of `reasoning` that end within its first `last` characters."""
    pattern = BLANK_LINE if BLANK_LINE.search(reasoning.strip()) else _NEW_LINE
    breaks = pattern.finditer(reasoning, 0, last)
    ends = [match.start() for match in breaks if match.end() < last]
    fences = [match.start() for match in _FENCE.finditer(reasoning, 0, last)]
    return Steps(reasoning, ends, fences)

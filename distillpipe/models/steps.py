r"""Where a step of reasoning ends: what is cut or ended there stops in no mid-sentence.

A step is a paragraph, in a thought without blank lines a line. None ends in a code block, a formula or a
sentence that goes on, in a heading, in a question, with "Let me check" or "Wait": what they begin comes after them.
"""

import re
from bisect import bisect_left
from typing import NamedTuple

from distillpipe.models.endings import breaks_off

_LAST = 4_000  # characters before an end that tell whether a step is whole there
_ANNOUNCED_IN = 200  # characters before an end in which "Let me check" is looked for
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
    """Where the steps of a reasoning end."""

    reasoning: str
    ends: list[int]
    "characters before each end, rising; white space is followed by more of the thought there"
    fences: list[int]
    "where the marks of code blocks stand"

    def is_whole(self, end: int) -> bool:
        """Whether what ends there is a whole step, and not one that announces the next."""
        if bisect_left(self.fences, end) % 2:
            return False
        text = self.reasoning[max(0, end - _LAST) : end]
        line = text[text.rfind("\n") + 1 :].strip()
        goes_on = (
            line.endswith("?")
            or _ANNOUNCEMENT.search(line[-_ANNOUNCED_IN:])
            or _HEADING.match(line)
        )
        return not (goes_on or breaks_off(text))


def find_steps(reasoning: str, last: int) -> Steps:
    """The steps of `reasoning` that end among its first `last` characters."""
    pattern = BLANK_LINE if BLANK_LINE.search(reasoning.strip()) else _NEW_LINE
    breaks = pattern.finditer(reasoning, 0, last)
    ends = [found.start() for found in breaks if found.end() < last]
    return Steps(reasoning, ends, [found.start() for found in _FENCE.finditer(reasoning, 0, last)])

"""From a trace to token ids and labels: loss on reasoning, response and end token, never on the prompt.

The row is what the student's own chat template renders. The rendered prompt must be an exact prefix of
the rendered row, in ids; the row is cut after the end token, so that no student learns what comes next.
"""

import unicodedata
from typing import NamedTuple

from distillpipe.chat import Chat
from distillpipe.errors import DataError
from distillpipe.records import Trace


class Row(NamedTuple):
    """One trace as the student sees it."""

    id: str
    ids: list[int]
    num_prompt: int
    "the first so many ids carry no loss"

    @property
    def num_supervised(self) -> int:
        return len(self.ids) - self.num_prompt


def row_of(trace: Trace, chat: Chat) -> Row:
    """The row of a trace; a DataError names what the template does to it that would train wrongly."""
    prompt = chat.prompt_ids(trace.messages[:-1])
    whole = chat.row_ids(trace.messages)
    if whole[: len(prompt)] != prompt:
        raise DataError(
            f"row {trace.id}: the chat template renders the prompt differently with the completion "
            "behind it, so what is generated from would not be what was trained on"
        )
    end = next((at for at in range(len(prompt), len(whole)) if whole[at] in chat.end_ids), None)
    if end is None:
        raise DataError(
            f"row {trace.id}: the chat template ends the completion without an end token, "
            "so the student would never learn to stop"
        )
    ids = whole[: end + 1]
    if not _holds(chat.text(whole[len(prompt) :]), trace.reasoning):
        raise DataError(
            f"row {trace.id}: the chat template drops the reasoning, so there would be nothing to "
            "distil: use a template that renders reasoning_content"
        )
    text = chat.text(ids[len(prompt) :])
    if not (_holds(text, trace.reasoning) and _holds(text, trace.response)):
        raise DataError(
            f"row {trace.id}: the rendered row ends before the completion does: an end token stands "
            "inside it, or the chat template changes the response: remove the row or the token"
        )
    return Row(trace.id, ids, len(prompt))


def _holds(text: str, part: str) -> bool:
    """Templates may trim white space beside a part, tokenizers may compose its accents (NFC)."""
    return unicodedata.normalize("NFC", part.strip()) in unicodedata.normalize("NFC", text)

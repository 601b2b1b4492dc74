"""From a trace to token ids and labels: loss on reasoning, response and end token, never on the prompt.

The prompt is what the student is asked with when it samples; the completion behind it ends with the end
token, so that no student learns what comes next.
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
    """The row of a trace; a DataError names what stands in it that would train wrongly."""
    prompt = chat.prompt_ids(trace.messages[:-1])
    completion = chat.completion_ids(trace.messages[-1])
    if not chat.end_ids.isdisjoint(completion[:-1]):
        raise DataError(
            f"row {trace.id}: an end token stands inside the completion, so the student would learn "
            "to stop there: remove the row or the token"
        )
    text = chat.text(completion)
    for name, part in (("reasoning", trace.reasoning), ("response", trace.response)):
        if not _holds(text, part):
            raise DataError(
                f"row {trace.id}: the tokenizer does not give back the text of its {name}, so the "
                "student would learn another one: remove the row, or take a student whose tokenizer can"
            )
    return Row(trace.id, prompt + completion, len(prompt))


def _holds(text: str, part: str) -> bool:
    """Tokenizers may compose accents (NFC) or write one form of a letter for another (NFKC)."""
    return unicodedata.normalize("NFKC", part.strip()) in unicodedata.normalize("NFKC", text)

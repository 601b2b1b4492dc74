r"""From problems to prompts, and from completions to reasoning and response.

Rendering is the tokenizer's chat template's; splitting knows the delimiters of ChatML with think tags
(Qwen3 and everything that follows it). The four parts of a split add up to the text, byte for byte:

    opening "<think>\\n"  reasoning "14+6=20."  middle "\\n</think>\\n\\n"  response "\\\\boxed{20}"
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from distillpipe.errors import UsageError, first_line
from distillpipe.records import Message, Problem, Prompting, TokenCounts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
_OPENING = re.compile(rf"\s*{THINK_OPEN}\s*")
_SPACE = re.compile(r"\s*")


class Split(NamedTuple):
    """The parts of a completion, delimiters with the white space beside them."""

    opening: str
    reasoning: str
    middle: str
    "empty where the thought was never closed"
    response: str


def split(text: str) -> Split:
    """Split a completion's text (end token removed) at its delimiters.

    A thought that is not closed is all reasoning and has no response; a closing tag without an
    opening one ends a thought that the prompt had opened; no tag at all is all response.
    """
    opened = _OPENING.match(text)
    start = opened.end() if opened else 0
    closing = text.find(THINK_CLOSE, start)
    if closing < 0:
        return Split(text[:start], text[start:], "", "") if opened else Split("", "", "", text)
    reasoning = text[start:closing].rstrip()
    space = _SPACE.match(text, closing + len(THINK_CLOSE))
    end = space.end() if space else len(text)
    return Split(text[:start], reasoning, text[start + len(reasoning) : end], text[end:])


def conversation(problem: Problem, prompting: Prompting) -> list[Message]:
    """The messages that ask for a solution of `problem`."""
    content = prompting.prompt_template.replace("{problem}", problem.problem)
    asked = Message(role="user", content=content)
    if prompting.system_prompt is None:
        return [asked]
    return [Message(role="system", content=prompting.system_prompt), asked]


def check_prompt_template(template: str) -> None:
    """Refuse a prompt template that leaves the problem out."""
    if "{problem}" not in template:
        raise UsageError(f"--prompt-template {template!r} has no {{problem}} in it")


class Chat:
    """A tokenizer with its chat template: messages to ids and ids to parts."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", source: str, more_end_ids: Iterable[int] = ()
    ) -> None:
        if tokenizer.chat_template is None:
            raise UsageError(
                f"{source} has no chat template: add a chat_template.jinja to its folder"
            )
        self.tokenizer = tokenizer
        self.end_ids = frozenset({_eos_token_id(tokenizer, source), *more_end_ids})
        self._open_id = self._single_token(THINK_OPEN)
        self._close_id = self._single_token(THINK_CLOSE)

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the rendered conversation, ready for the assistant's turn."""
        return self._render(messages, add_generation_prompt=True)

    def row_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the whole rendered conversation."""
        return self._render(messages, add_generation_prompt=False)

    def text(self, completion_ids: list[int]) -> str:
        """The text of a completion, special tokens kept, the end token removed."""
        if completion_ids and completion_ids[-1] in self.end_ids:
            completion_ids = completion_ids[:-1]
        return str(
            self.tokenizer.decode(
                completion_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

    def count(self, prompt_ids: list[int], completion_ids: list[int], parts: Split) -> TokenCounts:
        """Tokens of a row by part; where a delimiter is no token of its own, by encoding the part."""
        last = len(completion_ids)
        if completion_ids and completion_ids[-1] in self.end_ids:
            last -= 1
        reasoning, response = 0, last
        if parts.opening or parts.middle:
            opened = parts.opening != ""
            first = self._after(completion_ids, self._open_id) if opened else 0
            closing = self._index(completion_ids, self._close_id) if parts.middle else last
            if first is None or closing is None:
                reasoning, response = self._length(parts.reasoning), self._length(parts.response)
            else:
                reasoning = closing - first
                response = last - closing - 1 if parts.middle else 0
        total = len(prompt_ids) + len(completion_ids)
        return TokenCounts(
            prompt=len(prompt_ids), reasoning=reasoning, response=response, total=total
        )

    def _render(self, messages: list[Message], *, add_generation_prompt: bool) -> list[int]:
        given = [msgspec.structs.asdict(message) for message in messages]
        text = self.tokenizer.apply_chat_template(
            given, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _single_token(self, text: str) -> int | None:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids[0] if len(ids) == 1 else None

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @staticmethod
    def _index(ids: list[int], token: int | None) -> int | None:
        return ids.index(token) if token in ids else None

    def _after(self, ids: list[int], token: int | None) -> int | None:
        index = self._index(ids, token)
        return None if index is None else index + 1


def load_chat(folder: Path, source: str) -> Chat:
    """The chat of the model in `folder`; `source` names it in errors."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(
            f"{source} has no tokenizer that can be loaded ({first_line(error)})"
        ) from error
    return Chat(tokenizer, source, _end_ids_of_model(folder))


def _end_ids_of_model(folder: Path) -> list[int]:
    """End tokens that generation_config.json adds to the tokenizer's own."""
    path = folder / "generation_config.json"
    found = json.loads(path.read_bytes()).get("eos_token_id") if path.is_file() else None
    return found if isinstance(found, list) else [] if found is None else [found]


def _eos_token_id(tokenizer: "PreTrainedTokenizerBase", source: str) -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise UsageError(f"{source}: its tokenizer has no end token (eos_token)")
    return tokenizer.eos_token_id

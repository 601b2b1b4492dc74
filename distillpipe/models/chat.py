r"""From problems to prompts, and from completions to reasoning and response.

Prompts are rendered by the tokenizer's chat template. The completion behind a prompt is written here,
with the delimiters that the template was seen to use (`delimiters`): so the prompt is an exact prefix of
the row and the reasoning is in it, whatever the template does to an assistant's turn. The four parts of
a split add up to the text, byte for byte:

    opening "<think>\\n"  reasoning "14+6=20."  middle "\\n</think>\\n\\n"  response "\\\\boxed{20}"
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from distillpipe.base.errors import CannotRenderError, UsageError, first_line
from distillpipe.base.options import Prompting
from distillpipe.base.records import Message, TokenCounts
from distillpipe.base.thinking import Split, split
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading
from distillpipe.models.delimiters import learn_turn
from distillpipe.models.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Options = TypeVar("Options", Prompting, TrainingOptions)


TEMPLATES: dict[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "plain": (),
}
"The templates that we ship, best first, with the tokens that a tokenizer must have for each."


def chat_template_text(name_or_file: str) -> str:
    """The text of a chat template: one of ours by name (`TEMPLATES`), or a jinja file.

    Raises UsageError where it is neither, or cannot be read.
    """
    if name_or_file in TEMPLATES:
        path = Path(__file__).with_name("templates") / f"{name_or_file}.jinja"
        return path.read_text("utf-8")
    try:
        return Path(name_or_file).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        close = difflib.get_close_matches(name_or_file, TEMPLATES, n=1)
        meant = f"did you mean {close[0]}? It" if close else "it"
        raise UsageError(
            f"--chat-template {name_or_file}: no such file; {meant} is one of "
            f"{', '.join(TEMPLATES)}, or a jinja file"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(
            f"--chat-template {name_or_file} cannot be read ({first_line(error)}): "
            f"give a jinja file in UTF-8, or one of {', '.join(TEMPLATES)}"
        ) from error


def with_template_text(options: Options) -> Options:
    """The options with the text of their chat template for its name, so that a fingerprint holds it."""
    if options.chat_template is None:
        return options
    return msgspec.structs.replace(options, chat_template=chat_template_text(options.chat_template))


class Chat:
    """A tokenizer with its chat template: messages to ids and ids to parts.

    `chat_template` (a name of `TEMPLATES` or a file) replaces the tokenizer's own, and is saved with it.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        source: str,
        more_end_ids: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()  # which tokenizer.json may ask for
        eos_id = _eos_token_id(tokenizer, source)
        self._template = f"the chat template of {source}"
        if chat_template is not None:
            tokenizer.chat_template = chat_template_text(chat_template)
            self._template = f"--chat-template {chat_template}"
            self._check_tokens(chat_template, source)
        if tokenizer.chat_template is None:
            raise UsageError(
                f"{source} has no chat template: give --chat-template {'|'.join(TEMPLATES)} "
                f"or a jinja file ({self._fitting()} fits its tokenizer)"
            )
        self.turn = learn_turn(self.render, self._template)
        self.end_ids = frozenset({eos_id, *more_end_ids})
        self.ending_ids = self._ids_of_ending() or [eos_id]
        self.end_ids |= {self.ending_ids[-1]}
        self.open_id = self._single_token(self.turn.tags.open)
        self.close_id = self._single_token(self.turn.tags.close)
        "null, like that of the opening tag, where the tag is several tokens"

    @property
    def ending_id(self) -> int:
        """The token that a row of training data ends with."""
        return self.ending_ids[-1]

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the rendered conversation, ready for the assistant's turn."""
        return self.ids(self.prompt(messages))

    def prompt(self, messages: list[Message]) -> str:
        """The rendered conversation, ready for the assistant's turn."""
        return self.render(messages, add_generation_prompt=True)

    def completion_ids(self, message: Message) -> list[int]:
        """Token ids of an assistant's turn as it follows its prompt, up to its end token."""
        text = self.turn.completion(message.reasoning_content or "", message.content)
        return self.ids(text) + self.ending_ids

    def split(self, text: str) -> Split:
        """Split the text of a completion of this chat's prompts at its delimiters."""
        return split(text, opened=self.turn.opened, tags=self.turn.tags)

    def text(self, completion_ids: list[int]) -> str:
        """The text of a completion, special tokens kept, the end token removed."""
        return self.decode(self._without_end(completion_ids))

    def count(self, prompt_ids: list[int], completion_ids: list[int], parts: Split) -> TokenCounts:
        """Tokens of a row by part; where a delimiter is no token of its own, by encoding the part."""
        sampled = self._without_end(completion_ids)
        reasoning, response = 0, len(sampled)
        if self.turn.opened or parts.opening or parts.middle:
            reasoning, response = self._count_thought(sampled, parts)
        total = len(prompt_ids) + len(completion_ids)
        return TokenCounts(
            prompt=len(prompt_ids), reasoning=reasoning, response=response, total=total
        )

    def _count_thought(self, sampled: list[int], parts: Split) -> tuple[int, int]:
        """Tokens of reasoning and response of a completion that holds a thought."""
        first: int | None = 0
        closing: int | None = len(sampled)
        if parts.opening.strip():
            first = self._after(sampled, self.open_id)
        if parts.middle:
            closing = self._index(sampled, self.close_id)
        if first is None or closing is None:
            return len(self.ids(parts.reasoning)), len(self.ids(parts.response))
        return closing - first, len(sampled) - closing - 1 if parts.middle else 0

    def render(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        """The text of a conversation as the template writes it; a UsageError where it cannot."""
        given = [
            {
                key: value
                for key, value in msgspec.structs.asdict(message).items()
                if value is not None
            }
            for message in messages
        ]
        rendered = self._renderer.render(given, add_generation_prompt=add_generation_prompt)
        if rendered.text is None:
            roles = ", ".join(message.role for message in messages)
            raise CannotRenderError(
                f"{self._template} cannot render the messages ({roles}): {rendered.why}; "
                "mend it, or give another --chat-template"
            )
        return rendered.text

    def _check_tokens(self, chat_template: str, source: str) -> None:
        for token in TEMPLATES.get(chat_template, ()):
            if self._single_token(token) is None:
                raise UsageError(
                    f"--chat-template {chat_template} writes {token}, which is no single token of "
                    f"the tokenizer of {source}: give --chat-template {self._fitting()}"
                )

    def _fitting(self) -> str:
        """The first of our templates whose tokens the tokenizer has."""
        single = self._single_token
        return next(name for name, tokens in TEMPLATES.items() if None not in map(single, tokens))

    def _ids_of_ending(self) -> list[int]:
        """What the template ends a turn with, up to its first special token; [] if there is none."""
        added = self.tokenizer.added_tokens_decoder
        special = {token for token in added if added[token].special} | self.end_ids
        ids = self.ids(self.turn.ending)
        end = next((at for at, token in enumerate(ids) if token in special), None)
        return [] if end is None else ids[: end + 1]

    def ids(self, text: str) -> list[int]:
        """The ids of a text, no special token added; by the backend itself, in two thirds of the time."""
        if self._backend is not None:
            return list(self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens kept."""
        if self._backend is not None:
            return str(self._backend.decode(ids, skip_special_tokens=False))
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _single_token(self, text: str) -> int | None:
        """The id of a text that is one token; an unknown token stands for no text."""
        ids = self.ids(text)
        return ids[0] if len(ids) == 1 and self.decode(ids) == text else None

    def _without_end(self, completion_ids: list[int]) -> list[int]:
        is_ended = bool(completion_ids) and completion_ids[-1] in self.end_ids
        return completion_ids[:-1] if is_ended else completion_ids

    @staticmethod
    def _index(ids: list[int], token: int | None) -> int | None:
        return ids.index(token) if token in ids else None

    def _after(self, ids: list[int], token: int | None) -> int | None:
        index = self._index(ids, token)
        return None if index is None else index + 1


def load_chat(folder: Path, source: str, chat_template: str | None = None) -> Chat:
    """The chat of the model in `folder`; `source` names it in errors.

    `chat_template` is a name of `TEMPLATES` or a jinja file that replaces the model's own template.
    """
    tokenizer = loading.load_tokenizer(folder, source)
    return Chat(tokenizer, source, loading.end_ids(folder, source), chat_template)


def _eos_token_id(tokenizer: "PreTrainedTokenizerBase", source: str) -> int:
    if not isinstance(tokenizer.eos_token_id, int):
        raise UsageError(f"{source}: its tokenizer has no end token (eos_token)")
    return tokenizer.eos_token_id

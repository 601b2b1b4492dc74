r"""Chat: render prompts with a model's chat template, and split completions into reasoning and response.

The tokenizer's chat template renders the prompt. The completion after it is written here, with the delimiters
that the template uses (see `delimiters`). So the prompt is an exact prefix of the row and the row contains the
reasoning, even if the template drops reasoning from assistant messages. The four parts of a split add up to the
text, byte for byte:

    opening "<think>\\n"  reasoning "14+6=20."  middle "\\n</think>\\n\\n"  response "\\\\boxed{20}"
"""

import difflib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from distillpipe.base.errors import CannotRenderError, UsageError, first_line
from distillpipe.base.filesystem import say_once
from distillpipe.base.options import NO_TEMPLATE_OPTIONS, Prompting, TemplateOptions
from distillpipe.base.records import Message, TokenCounts
from distillpipe.base.thinking import Split, split
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading
from distillpipe.models.delimiters import QUESTION
from distillpipe.models.modes import Mode, learn_modes
from distillpipe.models.rendering import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Options = TypeVar("Options", Prompting, TrainingOptions)

_LINE_FEED = "\n"  # no tokenizer joins it with the letter behind it


TEMPLATES: dict[str, tuple[str, ...]] = {
    "chatml": ("<|im_start|>", "<|im_end|>"),
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "plain": (),
}
"The chat templates that we ship, best first, each with the tokens that it needs in the tokenizer."


def chat_template_text(name_or_file: str) -> str:
    """The text of a chat template: a name of `TEMPLATES`, or a jinja file.

    Raises UsageError if it is neither, or if the file cannot be read.
    """
    if name_or_file in TEMPLATES:
        path = Path(__file__).with_name("templates") / f"{name_or_file}.jinja"
        return path.read_text("utf-8")
    try:
        return Path(name_or_file).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        close = difflib.get_close_matches(name_or_file, TEMPLATES, n=1)
        hint = f"did you mean {close[0]}? Give" if close else "give"
        raise UsageError(
            f"--chat-template {name_or_file}: no such file; {hint} one of {', '.join(TEMPLATES)}, or a "
            "jinja file"
        ) from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(
            f"--chat-template {name_or_file} cannot be read ({first_line(error)}): "
            f"give a jinja file in UTF-8, or one of {', '.join(TEMPLATES)}"
        ) from error


def with_template_text(options: Options) -> Options:
    """Replace the name of the chat template by its text, so that the fingerprint depends on the text."""
    if options.chat_template is None:
        return options
    return msgspec.structs.replace(options, chat_template=chat_template_text(options.chat_template))


class Chat:
    """A tokenizer with its chat template: converts messages to token ids, and completions to their parts.

    `source` names the model in errors. `more_end_ids` are end tokens besides the tokenizer's own.
    `chat_template` (a name of `TEMPLATES` or a file) replaces the tokenizer's template and is saved with it.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        source: str,
        more_end_ids: Iterable[int] = (),
        chat_template: str | None = None,
        options: TemplateOptions = NO_TEMPLATE_OPTIONS,
    ) -> None:
        self.tokenizer = tokenizer
        self._renderer = Renderer(tokenizer)
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        if self._backend is not None:
            self._backend.no_truncation()  # tokenizer.json may have truncation switched on
        alone, behind = self.ids("a"), self.ids(f"{_LINE_FEED}a")
        self.has_dummy_prefix = behind[-len(alone) :] != alone
        "whether the tokenizer puts a space before each text"
        eos_id = tokenizer.eos_token_id
        if not isinstance(eos_id, int):
            raise UsageError(
                f"{source}: its tokenizer has no end token: set eos_token in tokenizer_config.json"
            )
        self._template = f"the chat template of {source}"
        if chat_template is not None:
            tokenizer.chat_template = chat_template_text(chat_template)
            self._template = f"--chat-template {chat_template}"
            self._check_tokens(chat_template, source)
        if tokenizer.chat_template is None:
            raise UsageError(
                f"{source} has no chat template: give --chat-template {'|'.join(TEMPLATES)} "
                f"or a jinja file ({self._first_fitting()} fits its tokenizer)"
            )
        self.now = datetime.now().replace(microsecond=0)
        "what the clock of a template shows; see `reads_clock`"
        self._render(
            [{"role": "user", "content": QUESTION}], options.variables, add_generation_prompt=True
        )  # its error says what is wrong, where those of the trials do not
        modes = learn_modes(
            self._renderer, tokenizer.chat_template, self._template, options, self.now
        )
        self.reads_clock = modes.reads_clock
        self.switched_on = modes.switched_on
        "variables that were set so that the template thinks"
        self.plain = modes.plain
        "the mode without thinking, of a template that has both"
        if modes.thinking is None and not options.no_thinking and not options.template_option:
            raise UsageError(
                f"{self._template} ends a prompt behind a closed, empty thought, and no variable opens one: give "
                "--template-option KEY=VALUE or another --chat-template, or --no-thinking to do without reasoning"
            )
        mode = modes.plain if options.no_thinking or modes.thinking is None else modes.thinking
        if mode is None:
            raise UsageError(
                f"--no-thinking: {self._template} has no mode without thinking: leave the option out, or name "
                "its switch with --template-option KEY=VALUE"
            )
        self.mode: Mode = mode
        self._header = _header(self.prompt([Message(role="user", content=QUESTION)]))
        self.thinks = mode is modes.thinking
        "whether its prompts ask for reasoning"
        self.turn = mode.turn
        self.end_ids = frozenset({eos_id, *more_end_ids})
        self.ending_ids = self._ids_of_ending() or [eos_id]
        self.end_ids |= {self.ending_ids[-1]}
        self.open_id = self._single_token(self.turn.tags.open)
        self.close_id = self._single_token(self.turn.tags.close)
        "token id of the closing tag; null if the tag is several tokens (`open_id` likewise)"

    @property
    def ending_id(self) -> int:
        """The last token of a training row: it ends the assistant's turn."""
        return self.ending_ids[-1]

    def mode_of(self, message: Message) -> Mode:
        """The mode to learn an assistant's message in: without reasoning that without thinking, if there is one."""
        return self.mode if message.reasoning_content or self.plain is None else self.plain

    def prompt_ids(self, messages: list[Message], mode: Mode | None = None) -> list[int]:
        """Token ids of the rendered prompt, with the generation prompt of the assistant's turn.

        `mode` is the chat's own if none is given.
        """
        return self.ids(self.prompt(messages, mode))

    def prompt(self, messages: list[Message], mode: Mode | None = None) -> str:
        """The rendered prompt, with the generation prompt of the assistant's turn."""
        return self.render(messages, add_generation_prompt=True, mode=mode)

    def completion_ids(self, message: Message, mode: Mode | None = None) -> list[int]:
        """Token ids of an assistant message after its prompt, up to and including the end token."""
        turn = (mode or self.mode).turn
        text = turn.completion(message.reasoning_content or "", message.content)
        return self.start_ids(text) + self.ending_ids

    def renders_otherwise(self, messages: list[Message], prompt: str) -> str | None:
        """What the template writes in place of a conversation with reasoning, where that is not what a row holds.

        `prompt` is the rendered prompt of the conversation. None if it writes the same up to the end of the answer, if it drops the reasoning, or if it trims white space.
        """
        answer = messages[-1]
        if self.mode.form is None or not answer.reasoning_content:
            return None
        try:
            rendered = self.render(messages, add_generation_prompt=False)
        except CannotRenderError as error:
            return str(error)
        completion = self.turn.completion(answer.reasoning_content, answer.content)
        same = "".join(rendered.split()).startswith("".join((prompt + completion).split()))
        return None if same else rendered

    def split(self, text: str) -> Split:
        """Split the text of a completion into reasoning and response, at this chat's thinking tags."""
        turn = self.turn
        return split(text, opened=turn.opened, tags=turn.tags, answer=turn.answer)

    def text(self, completion_ids: list[int]) -> str:
        """The text of a completion with its special tokens, but without the end token."""
        return self.decode(self._without_end(completion_ids))

    def count(self, prompt_ids: list[int], completion_ids: list[int], parts: Split) -> TokenCounts:
        """Count the tokens of prompt, reasoning and response.

        If a tag is not a single token, the parts are encoded again to count them.
        """
        sampled = self._without_end(completion_ids)
        reasoning, response = 0, len(sampled)
        if self.turn.opened or parts.opening or parts.middle:
            reasoning, response = self._count_reasoning(sampled, parts)
        total = len(prompt_ids) + len(completion_ids)
        return TokenCounts(
            prompt=len(prompt_ids), reasoning=reasoning, response=response, total=total
        )

    def _count_reasoning(self, sampled: list[int], parts: Split) -> tuple[int, int]:
        """Number of reasoning and response tokens of a completion with reasoning."""
        first: int | None = 0
        closing: int | None = len(sampled)
        if parts.opening.strip():
            opening = self._index(sampled, self.open_id)
            first = None if opening is None else opening + 1
        if parts.middle:
            closing = self._index(sampled, self.close_id)
        # tokens of an answer's marks are no tokens of the response
        has_marks = bool(self.turn.answer.after_thought or self.turn.answer.end)
        if first is None or closing is None or has_marks:
            return len(self.ids(parts.reasoning)), len(self.ids(parts.response))
        return closing - first, len(sampled) - closing - 1 if parts.middle else 0

    def render(
        self, messages: list[Message], *, add_generation_prompt: bool, mode: Mode | None = None
    ) -> str:
        """Render messages with the chat template. Raises CannotRenderError, a UsageError, if that fails."""
        mode = mode or self.mode
        conversation = [_as_template_reads(message, mode) for message in messages]
        return self._render(
            conversation, mode.variables, add_generation_prompt=add_generation_prompt
        )

    def _render(
        self,
        conversation: list[dict[str, Any]],
        variables: dict[str, Any],
        *,
        add_generation_prompt: bool,
    ) -> str:
        rendered = self._renderer.render(
            conversation,
            add_generation_prompt=add_generation_prompt,
            variables=variables,
            now=self.now,
        )
        if rendered.text is None:
            roles = ", ".join(message["role"] for message in conversation)
            raise CannotRenderError(
                f"{self._template} cannot render the messages ({roles}): {rendered.why}; "
                "correct the template, or give another --chat-template"
            )
        return rendered.text

    def _check_tokens(self, chat_template: str, source: str) -> None:
        for token in TEMPLATES.get(chat_template, ()):
            if self._single_token(token) is None:
                raise UsageError(
                    f"--chat-template {chat_template} writes {token}, which is not a single token of the "
                    f"tokenizer of {source}: give --chat-template {self._first_fitting()}"
                )

    def _first_fitting(self) -> str:
        """The first name of `TEMPLATES` whose tokens the tokenizer has."""
        single = self._single_token
        return next(name for name, tokens in TEMPLATES.items() if None not in map(single, tokens))

    def _ids_of_ending(self) -> list[int]:
        """The ids that the template ends a turn with, up to the first special token. [] if there is none."""
        added = self.tokenizer.added_tokens_decoder
        special = {token for token in added if added[token].special} | self.end_ids
        ending, mark = self.turn.ending, self.turn.answer.end
        ids = self.more_ids(ending)
        # a mark that closes the answer comes before the token that ends the turn
        start = len(self.more_ids(ending.partition(mark)[0] + mark)) if mark else 0
        end = next((at for at, token in enumerate(ids) if at >= start and token in special), None)
        if end is not None:
            return ids[: end + 1]
        next_mark = self._single_token(self.turn.next_mark) if self.turn.next_mark else None
        return [next_mark] if next_mark is not None and next_mark in self.end_ids else []

    def ids(self, text: str) -> list[int]:
        """Token ids of a text. No special tokens are added."""
        if self._backend is not None:  # the Rust tokenizer itself takes two thirds of the time
            return list(self._backend.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def start_ids(self, text: str) -> list[int]:
        """Token ids of a text that begins a completion, as they are in the text of prompt and completion."""
        return self._ids_after(self._header, text)

    def more_ids(self, text: str) -> list[int]:
        """Token ids of a text that goes on within a completion."""
        return self._ids_after(_LINE_FEED, text)

    def _ids_after(self, before: str, text: str) -> list[int]:
        """Token ids of a text behind another one.

        They differ from those of the text alone where the tokenizer puts a space before a text that it encodes
        (Llama-2, Mistral v1). A token that reaches over the border is not made, since the model has its prompt first.
        """
        ids = self.ids(text)
        if not self.has_dummy_prefix or not text:
            return ids
        for start in (before, _LINE_FEED):
            head, whole = self.ids(start), self.ids(start + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, with special tokens."""
        if self._backend is not None:
            return str(self._backend.decode(ids, skip_special_tokens=False))
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _single_token(self, text: str) -> int | None:
        """The token id of a text that is a single token, else None."""
        ids = self.more_ids(text)  # decoded again below, because an unknown token is one id too
        return ids[0] if len(ids) == 1 and self.decode(ids) == text else None

    def _without_end(self, completion_ids: list[int]) -> list[int]:
        is_ended = bool(completion_ids) and completion_ids[-1] in self.end_ids
        return completion_ids[:-1] if is_ended else completion_ids

    @staticmethod
    def _index(ids: list[int], token: int | None) -> int | None:
        return ids.index(token) if token in ids else None


def _header(prompt: str) -> str:
    """What a prompt ends with behind the question; "" if it ends with the question."""
    return prompt.rpartition(QUESTION)[2]


def _as_template_reads(message: Message, mode: Mode) -> dict[str, Any]:
    """A message with its reasoning in the form that the template reads."""
    given: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning_content is None:
        return given
    if mode.form is None:
        return {**given, "reasoning_content": message.reasoning_content}
    return mode.form.write(given, message.reasoning_content)


def load_chat(
    folder: Path,
    source: str,
    chat_template: str | None = None,
    options: TemplateOptions = NO_TEMPLATE_OPTIONS,
) -> Chat:
    """Load the tokenizer and chat template of the model in `folder`. `source` names it in errors.

    `chat_template`, a name of `TEMPLATES` or a jinja file, replaces the model's own template.
    """
    tokenizer = loading.load_tokenizer(folder, source, options.template_name)
    chat = Chat(tokenizer, source, loading.end_ids(folder, source), chat_template, options)
    if chat.switched_on and chat.thinks:
        named = ", ".join(f"{name}={value!r}" for name, value in chat.switched_on.items())
        say_once(
            f"{source}: its chat template thinks only if it is told to: {named} is set (--no-thinking "
            "asks for the other mode)"
        )
    return chat

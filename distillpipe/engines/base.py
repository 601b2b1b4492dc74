"""The engine protocol: an iterator of requests in, an iterator of outcomes out, in the order they finish."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from distillpipe.base.options import Sampling
from distillpipe.base.records import FinishReason, Message, TokenCounts
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.models.chat import Chat

if TYPE_CHECKING:  # this imports numpy, which a server engine does not need
    from distillpipe.data.store.labels import Labels


class Request(NamedTuple):
    """A request for one completion."""

    key: str
    "the row key; the outcome carries the same key"
    prompt_ids: list[int]
    "token ids of the rendered messages; empty for a server, which renders them itself"
    sampling: Sampling
    seed: int
    "the same seed and prompt draw the same random numbers, whatever else is in flight"
    messages: Sequence[Message] = ()
    "used by a server only"
    limit: int | None = None
    "maximum tokens of this round, if lower than `sampling.max_tokens`"
    stop_ids: tuple[int, ...] = ()
    "tokens that end the completion, besides the end tokens of the chat"
    is_continuation: bool = False
    "a later round of a completion that the engine has seen; the engine should prefer it to new requests"
    soft_labels: int | None = None
    "number of most likely tokens to return per token, with their log-probabilities"
    completion_ids: Sequence[int] | None = None
    "an existing completion: nothing is sampled, its tokens get the requested labels"

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of this completion."""
        return self.sampling.max_tokens if self.limit is None else self.limit


class Completion(NamedTuple):
    """A completion as token ids, with the end token if there was one."""

    key: str
    token_ids: list[int]
    finish_reason: FinishReason
    num_waits: int = 0
    forced_end: bool = False
    "both as in `records.Trace`"
    served_by: str | None = None
    "the model name that a server reports"
    labels: "Labels | None" = None
    "over exactly `token_ids`; null if none were requested"


class Answer(NamedTuple):
    """A completion from a server that returns text and counts, but no token ids."""

    key: str
    message: Message
    finish_reason: FinishReason
    num_tokens: TokenCounts | None
    served_by: str | None
    "the model name that the server reports"
    notes: tuple[tuple[str, str], ...] = ()
    "name and text of what the server sent besides, for the row's `extra`"


class Failure(NamedTuple):
    """A request that failed after the engine's last try. The next run tries it again."""

    key: str
    error: str
    "one line for the person who reads errors.jsonl"


class Refusal(NamedTuple):
    """A request that cannot succeed, however often it is sent."""

    key: str
    reason: str
    "one of `records.REFUSALS`"
    measured: str
    "what the server said, or the token"


Outcome = Completion | Answer | Failure | Refusal


def refusal_of_unknown_token(request: Request, vocab_size: int) -> Refusal | None:
    """Refuse a request with a token that the model has no embedding for: it would crash the engine.

    A tokenizer can have more tokens than its model, for example added special tokens.
    """
    largest = max(*request.prompt_ids, *(request.completion_ids or ()), 0)
    if largest < vocab_size:
        return None
    measured = f"token {largest}, and the model has {vocab_size}"
    return Refusal(request.key, "prompt_token_unknown_to_model", measured)


class Engine(Protocol):
    """Samples completions. Raises EngineError when it dies; outcomes yielded before stay valid."""

    description: str
    "engine and device: `transformers on cpu`"
    context_length: int
    "maximum tokens of prompt and completion together"

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """Yield completions, failures and refusals in the order they finish.

        - Requests are pulled lazily and a bounded number is in flight.
        - None means that no request is available yet, because the next one depends on what is in flight.
          The engine asks again later.
        - A completion that would exceed the context ends there with `length`.
        - A prompt must be shorter than `context_length`.
        - Closing the generator cancels what is in flight.
        - All requests of one call ask for the same number of soft labels, at most the number that the
          engine was opened for.
        """
        ...


# From an outcome to the assistant's message with its token counts.


def as_answer(outcome: Outcome, chat: Chat | None, prompt_ids: list[int]) -> Answer:
    """The message of an outcome. For a failure or refusal it is empty and ends by `length`.

    `chat` decodes token ids; it is null for a server, which decodes and counts by itself.
    """
    if isinstance(outcome, Answer):
        return outcome
    if chat is None:
        return Answer(outcome.key, Message(role="assistant", content=""), "length", None, None)
    if isinstance(outcome, Failure | Refusal):
        outcome = Completion(outcome.key, [], "length")
    parts = chat.split(chat.text(outcome.token_ids))
    message = Message(
        role="assistant", content=parts.response, reasoning_content=parts.reasoning or None
    )
    counts = chat.count(prompt_ids, outcome.token_ids, parts)
    return Answer(outcome.key, message, outcome.finish_reason, counts, outcome.served_by)


def as_unparsed(outcome: Outcome, chat: Chat | None) -> Answer:
    """The fallback where `as_answer` raised: the whole text as content, so that no completion is lost."""
    assert isinstance(outcome, Completion)
    assert chat is not None
    text = guarded(chat.text, outcome.token_ids)
    content = f"token ids: {outcome.token_ids}" if isinstance(text, InternalError) else text
    message = Message(role="assistant", content=content)
    return Answer(outcome.key, message, outcome.finish_reason, None, outcome.served_by)


# Repetition loops: completions that repeat the same few tokens until the token limit.
#
# vLLM checks the same condition in its scheduler, token by token. The two limits keep that check cheap and
# let rows of zeros, or of dashes in a table, pass.


MAX_PATTERN_TOKENS = 64
MIN_REPEATS = 32


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether `tokens` end in at least MIN_REPEATS copies of a pattern of up to MAX_PATTERN_TOKENS."""
    longest = min(MAX_PATTERN_TOKENS, len(tokens) // MIN_REPEATS)
    return any(_is_periodic(tokens, length) for length in range(1, longest + 1))


def _is_periodic(tokens: Sequence[int], length: int) -> bool:
    if tokens[-1] != tokens[-1 - length]:  # true for nearly all calls, and cheaper than the slices
        return False
    return tokens[-length * MIN_REPEATS : -length] == tokens[-length * (MIN_REPEATS - 1) :]

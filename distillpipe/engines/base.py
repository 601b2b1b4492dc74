"""What an engine is: an iterator of requests in, an iterator of completions out, as they finish."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from distillpipe.base.options import Sampling
from distillpipe.base.records import FinishReason, Message, TokenCounts
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.models.chat import Chat

if TYPE_CHECKING:  # it loads numpy, which a server has no use for
    from distillpipe.data.store.labels import Labels


class Request(NamedTuple):
    """One completion that is wanted."""

    key: str
    "the row key; comes back with the completion"
    prompt_ids: list[int]
    "the rendered messages; empty for a server, which renders them itself"
    sampling: Sampling
    seed: int
    "the same seed and prompt draw the same uniform numbers, whatever else is in flight"
    messages: Sequence[Message] = ()
    "for a server"
    limit: int | None = None
    "tokens of this completion, where they are fewer than those of `sampling`: a round of several"
    stop_ids: tuple[int, ...] = ()
    "tokens that end it beside the end tokens of the chat"
    goes_on: bool = False
    "a later round of a completion, which an engine has seen and should take before what is new"
    soft_labels: int | None = None
    "how many of the most likely tokens are wanted for each token, with their log-probabilities"
    completion_ids: Sequence[int] | None = None
    "the completion, where it is there: nothing is sampled, its tokens get the labels that were asked for"

    @property
    def max_tokens(self) -> int:
        """Limit on this completion."""
        return self.sampling.max_tokens if self.limit is None else self.limit


class Completion(NamedTuple):
    """One completion, token ids in hand, the end token included where there was one."""

    key: str
    token_ids: list[int]
    finish_reason: FinishReason
    num_waits: int = 0
    forced_end: bool = False
    "both as in `records.Trace`"
    served_by: str | None = None
    "what a server calls itself"
    labels: "Labels | None" = None
    "over exactly `token_ids`; null where none were asked for"


class Answer(NamedTuple):
    """What a server made of a request: read and counted by it, no token ids."""

    key: str
    message: Message
    finish_reason: FinishReason
    num_tokens: TokenCounts | None
    served_by: str | None
    "what the server calls itself"


class Failure(NamedTuple):
    """A request that could not be completed, after the engine's last try: it is made again some day."""

    key: str
    error: str
    "one line for the person who reads errors.jsonl"


class Refusal(NamedTuple):
    """A request that will not be completed, however often it is made."""

    key: str
    reason: str
    "one of `REFUSALS`"
    measured: str
    "what the server said, or the token"


Outcome = Completion | Answer | Failure | Refusal


def refusal_of_unknown_token(request: Request, vocab_size: int) -> Refusal | None:
    """Refuses a text with a token that the model has no embedding for, which would end the engine.

    A tokenizer can have more tokens than its model: one that special tokens were added to.
    """
    largest = max(*request.prompt_ids, *(request.completion_ids or ()), 0)
    if largest < vocab_size:
        return None
    measured = f"token {largest}, and the model has {vocab_size}"
    return Refusal(request.key, "prompt_token_unknown_to_model", measured)


class Engine(Protocol):
    """Samples completions. Raises EngineError when it dies; what it has yielded stays valid."""

    description: str
    "which engine on what: `transformers on cpu`"
    context_length: int
    "tokens of prompt and completion together that the model can take"

    def complete(self, requests: Iterator[Request | None]) -> Generator[Outcome, None, None]:
        """Completions, failures and refusals, in the order they finish.

        Requests are pulled lazily, a bounded number is in flight. None stands for a request that there
        is not yet: what is in flight may lead to it, so it is asked for again. A completion that would outgrow
        the context ends there by `length`. A prompt must be shorter than `context_length`. Closing
        the generator takes back what is in flight. All requests of one call ask for as many soft labels,
        no more than the engine was opened for.
        """
        ...


# What an engine made of a request, in one form: the assistant's message, counted.


def as_unread(outcome: Outcome, chat: Chat | None) -> Answer:
    """The completion of an outcome that `as_answer` fails on: all of it as content, so that it is not lost."""
    assert isinstance(outcome, Completion)
    assert chat is not None
    text = guarded(chat.text, outcome.token_ids)
    content = f"token ids: {outcome.token_ids}" if isinstance(text, InternalError) else text
    message = Message(role="assistant", content=content)
    return Answer(outcome.key, message, outcome.finish_reason, None, outcome.served_by)


def as_answer(outcome: Outcome, chat: Chat | None, prompt_ids: list[int]) -> Answer:
    """The message of an outcome; an empty one, cut at once, where there was no completion.

    `chat` reads token ids; it is null for a server, which reads and counts by itself.
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
    counted = chat.count(prompt_ids, outcome.token_ids, parts)
    return Answer(outcome.key, message, outcome.finish_reason, counted, outcome.served_by)


# Completions that go in circles: the same few tokens over and over until the limit ends them.
#
# vLLM looks for the same thing in its scheduler, token by token; the figures are chosen so that it costs
# little there, and so that rows of zeros or of dashes in a table pass.


MAX_PATTERN_TOKENS = 64
MIN_REPEATS = 32


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Whether `tokens` end in at least MIN_REPEATS copies of a pattern of up to MAX_PATTERN_TOKENS."""
    longest = min(MAX_PATTERN_TOKENS, len(tokens) // MIN_REPEATS)
    return any(_is_periodic(tokens, length) for length in range(1, longest + 1))


def _is_periodic(tokens: Sequence[int], length: int) -> bool:
    if tokens[-1] != tokens[-1 - length]:  # nearly always; slices cost more
        return False
    return tokens[-length * MIN_REPEATS : -length] == tokens[-length * (MIN_REPEATS - 1) :]

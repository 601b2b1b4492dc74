"""Reads the `usage` object of a server and decides what is stored, what is booked and what is warned of.

    {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70,
     "completion_tokens_details": {"reasoning_tokens": 12}}

The first two counts are billed. The worse of the two decides how the request is handled (`HANDLING`):

    field                      stored          booked                                    warned of once
    a plausible count          the count       the count                                 -
    missing or null            null            our own count of the text                 -
    not an integer, negative,  null            the worst case of the request             yes
    too large
    too small for the text     null            our own count of the text                 yes

The other two counts can only correct them:

- If the counts contradict each other (completion 0 beside reasoning 60, a total that is not the sum), the
  largest count of completion tokens that the request allows is stored and booked, with one warning.
- A value there that is not a count, or is too large, is ignored, with one warning.
"""

import sys
from typing import Any, Literal, NamedTuple

from msgspec import Raw, Struct

from distillpipe.base.records import Message, TokenCounts
from distillpipe.data.store.spending import most_prompt_tokens
from distillpipe.engines.base import Request
from distillpipe.engines.server.lenient import (
    NULL,
    InvalidJson,
    decode_json,
    optional_value,
    summarize,
)

SERVER_PROMPT_TOKENS = 8192  # that a server may add to a prompt and count, such as a system prompt
LONGEST_TOKEN = 1024  # bytes; the longest tokens in common vocabularies are runs of 128 spaces
END_TOKENS = 16  # delimiters and end tokens, which are counted but not part of the text

Kind = Literal["count", "missing", "not_a_number", "negative", "too_large", "too_few"]


class UsageBounds(NamedTuple):
    """Upper bounds on the tokens of one request."""

    prompt: int = sys.maxsize
    "by our own count"
    believed_prompt: int = sys.maxsize
    "including what a server may add to the prompt"
    completion: int = sys.maxsize


class UsageWarning(NamedTuple):
    """A warning to print once per run."""

    kind: str
    "equal for all warnings of one kind"
    text: str


class Usage(NamedTuple):
    """The tokens that one request used."""

    stored: TokenCounts | None
    booked: tuple[int, int] | None
    "billed tokens of prompt and completion; null: the worst case of the request"
    is_billed: bool
    "whether the booked counts come from the server; false if they are our own upper bound"
    warnings: tuple[UsageWarning, ...] = ()
    excess: tuple[int, int] | None = None
    "tokens that the server counts beyond the bounds of the request; the server may be right"


class Handling(NamedTuple):
    """How a request is handled, depending on the kind of its counts."""

    is_stored: bool
    books: Literal["count", "own", "worst"]
    is_warned: bool


HANDLING: dict[Kind, Handling] = {
    "count": Handling(is_stored=True, books="count", is_warned=False),
    "missing": Handling(is_stored=False, books="own", is_warned=False),
    "too_few": Handling(is_stored=False, books="own", is_warned=True),
    "not_a_number": Handling(is_stored=False, books="worst", is_warned=True),
    "negative": Handling(is_stored=False, books="worst", is_warned=True),
    "too_large": Handling(is_stored=False, books="worst", is_warned=True),
}
"From the most trusted kind to the least."

_ORDER = list(HANDLING)
_WHY: dict[Kind, str] = {
    "not_a_number": "which is not an integer",
    "negative": "which is negative",
    "too_large": "but the request allows at most {bound:,}",
    "too_few": "which is too few for the text",
}
_CONSEQUENCE = {
    "own": "such answers are stored without token counts and booked at the most tokens their text can have",
    "worst": "such answers are stored without token counts and booked at their worst case",
}


class _Fields(Struct):
    prompt_tokens: Raw = NULL
    completion_tokens: Raw = NULL
    total_tokens: Raw = NULL
    completion_tokens_details: Raw = NULL
    reasoning_tokens: Raw = NULL  # where SGLang puts it


class _Details(Struct):
    reasoning_tokens: Raw = NULL


class _Count(NamedTuple):
    name: str
    kind: Kind
    number: int
    "0 unless the kind is `count`"
    shown: str
    "the value as it stands in a message"


def usage_bounds(request: Request, context_length: int, *, is_bounded: bool) -> UsageBounds:
    """The bounds of a request. Unless `is_bounded`, the server may continue to the end of its context."""
    prompt = len(request.prompt_ids) or most_prompt_tokens(request.messages)
    completion = request.max_tokens
    if not is_bounded:
        # the server said that prompt and limit exceed its context, by its own count of the prompt
        completion += prompt
    believed = max(prompt, min(prompt + SERVER_PROMPT_TOKENS, context_length))
    return UsageBounds(prompt, believed, completion)


def read_usage(
    content: Raw, message: Message, bounds: UsageBounds, num_ids: int | None = None
) -> Usage:
    """The usage of an answer; `num_ids` is the number of token ids, if the answer holds ids."""
    fields = _struct(content, _Fields)
    details = _struct(fields.completion_tokens_details, _Details)
    prompt = _count("prompt_tokens", fields.prompt_tokens, bounds.believed_prompt)
    completion = _count("completion_tokens", fields.completion_tokens, bounds.completion)
    others = [
        _count("total_tokens", fields.total_tokens, bounds.believed_prompt + bounds.completion),
        _count("completion_tokens_details.reasoning_tokens", details.reasoning_tokens, bounds.completion),
        _count("reasoning_tokens", fields.reasoning_tokens, bounds.completion),
    ]  # fmt: skip
    total, *reasoning_counts = others
    reasoning = max(count.number for count in reasoning_counts)
    warnings = [
        _warning(count, bounds, "it is ignored")
        for count in others
        if HANDLING[count.kind].is_warned
    ]
    text = (message.reasoning_content or "") + message.content
    text_bytes = len(text.encode())
    if prompt.kind == completion.kind == "count":
        completion = _consistent(prompt, completion, total, reasoning, bounds, warnings)
        least = text_bytes / LONGEST_TOKEN if num_ids is None else num_ids - END_TOKENS
        if completion.number < least:
            completion = completion._replace(kind="too_few")
    worst = max(prompt, completion, key=lambda count: _ORDER.index(count.kind))
    handling = HANDLING[worst.kind]
    if handling.is_warned:
        warnings.insert(0, _warning(worst, bounds, _CONSEQUENCE[handling.books]))
    own = min(bounds.completion, text_bytes + END_TOKENS if num_ids is None else num_ids)
    return Usage(
        _stored(prompt.number, completion.number, reasoning, message) if handling.is_stored else None,
        None if handling.books == "worst" else (
            prompt.number if prompt.kind == "count" else bounds.prompt,
            completion.number if completion.kind == "count" else own,
        ),
        handling.books == "count",
        tuple(warnings),
        _excess(fields, bounds) if worst.kind == "too_large" else None,
    )  # fmt: skip


def _count(name: str, content: Raw, bound: int) -> _Count:
    """Decode and classify one field."""
    value = optional_value(content, default="a number out of range")
    kind: Kind
    if value is None:
        kind = "missing"
    elif isinstance(value, bool) or not isinstance(value, int):
        kind = "not_a_number"
    elif value < 0:
        kind = "negative"
    else:
        kind = "too_large" if value > bound else "count"
    return _Count(name, kind, value if kind == "count" else 0, summarize(value))


def _consistent(
    prompt: _Count, completion: _Count, total: _Count, reasoning: int, bounds: UsageBounds,
    warnings: list[UsageWarning],
) -> _Count:  # fmt: skip
    """The completion count, raised to the largest one that the fields give and the request allows."""
    rest = total.number - prompt.number if total.kind == "count" else completion.number
    candidates = (completion.number, reasoning, rest)
    largest = max(number for number in candidates if number <= bounds.completion)
    if largest != completion.number or rest != completion.number:
        counts = f"prompt {prompt.shown}, completion {completion.shown}"
        counts += f", reasoning {reasoning:,}" if reasoning > completion.number else ""
        counts += f", total {total.shown}" if rest != completion.number else ""
        text = (
            f"the server's token counts contradict each other ({counts}): the largest count that the "
            "request allows is stored and booked"
        )
        warnings.append(UsageWarning("contradictory", text))
    return completion._replace(number=largest)


def _stored(prompt: int, completion: int, reasoning: int, message: Message) -> TokenCounts:
    """The counts of a row. The response has all that is not reasoning, delimiters and end token included.

    If the server does not count reasoning, completion tokens are divided in proportion to characters.
    """
    reasoning_chars, response_chars = len(message.reasoning_content or ""), len(message.content)
    if not reasoning and reasoning_chars:
        reasoning = round(completion * reasoning_chars / (reasoning_chars + response_chars))
    reasoning = min(reasoning, completion)
    return TokenCounts(
        prompt=prompt,
        reasoning=reasoning,
        response=completion - reasoning,
        total=prompt + completion,
    )


def _excess(fields: _Fields, bounds: UsageBounds) -> tuple[int, int] | None:
    """Tokens beyond the bounds, if both counts are non-negative integers."""
    prompt = optional_value(fields.prompt_tokens)
    completion = optional_value(fields.completion_tokens)
    if not all(isinstance(count, int) and count >= 0 for count in (prompt, completion)):
        return None
    return max(0, prompt - bounds.prompt), max(0, completion - bounds.completion)


def _warning(count: _Count, bounds: UsageBounds, consequence: str) -> UsageWarning:
    bound = bounds.believed_prompt if count.name == "prompt_tokens" else bounds.completion
    if count.name == "total_tokens":
        bound += bounds.believed_prompt
    why = _WHY[count.kind].format(bound=bound)
    text = f"the server's {count.name} is not plausible ({count.shown}, {why}): {consequence}"
    return UsageWarning(f"{count.name} {count.kind}", text)


def _struct(content: Raw, kind: type[Any]) -> Any:
    """Decode an object whose fields are all optional; anything else gives the defaults."""
    try:
        return decode_json(content, kind)
    except InvalidJson:
        return kind()

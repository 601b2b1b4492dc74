"""What a server says a request used, believed within reason: what is stored, what is booked, what is said.

    {"prompt_tokens": 50, "completion_tokens": 20, "total_tokens": 70,
     "completion_tokens_details": {"reasoning_tokens": 12}}

The first two are what is paid for. `FATES` says what becomes of a request by the worse of the two:

    field                      stored          booked                                    said once
    a count                    it              it                                        -
    missing or null            null            our own count of the text                 -
    no number, negative,       null            the worst case of the request             yes
    too large
    too few for the text       null            our own count of the text                 yes

The other two can only correct them. Where all do not agree (completion 0 beside reasoning 60, a total that is not
the sum), the largest count of completion tokens that the request can have had is stored and booked, and it is
said once; a value there that is no count, or that is too large, is passed over and said once.
"""

import sys
from typing import Any, Literal, NamedTuple

from msgspec import Raw, Struct

from distillpipe.base.records import Message, TokenCounts
from distillpipe.data.store.spending import most_prompt_tokens
from distillpipe.engines.base import Request
from distillpipe.engines.server.lenient import NOTHING, Garbled, decoded, shown, value

SERVER_PROMPT_TOKENS = 8192  # that a server may put before a prompt, and count: a system prompt
LONGEST_TOKEN = 1024  # bytes; the vocabularies in use have runs of 128 spaces at most
END_TOKENS = 16  # delimiters and end tokens, which are counted and stand in no text

Kind = Literal["count", "missing", "not_a_number", "negative", "too_large", "too_few"]


class Most(NamedTuple):
    """What a request can have had at most."""

    prompt: int = sys.maxsize
    "by our own count"
    believed_prompt: int = sys.maxsize
    "with what a server may put around it"
    completion: int = sys.maxsize


class Remark(NamedTuple):
    """Something to be said once in a run."""

    about: str
    "the same for all of its kind"
    text: str


class Usage(NamedTuple):
    """What one request used."""

    stored: TokenCounts | None
    booked: tuple[int, int] | None
    "tokens of prompt and completion that are paid for; null: the worst case of the request"
    is_billed: bool
    "whether the server says what is booked; false where it is an upper bound of ours"
    remarks: tuple[Remark, ...] = ()
    claimed: tuple[int, int] | None = None
    "tokens that the server counts beyond what the request can have had: it may be right"


class Fate(NamedTuple):
    """What becomes of a request by what its counts are."""

    is_stored: bool
    books: Literal["count", "own", "worst"]
    is_said: bool


FATES: dict[Kind, Fate] = {
    "count": Fate(is_stored=True, books="count", is_said=False),
    "missing": Fate(is_stored=False, books="own", is_said=False),
    "too_few": Fate(is_stored=False, books="own", is_said=True),
    "not_a_number": Fate(is_stored=False, books="worst", is_said=True),
    "negative": Fate(is_stored=False, books="worst", is_said=True),
    "too_large": Fate(is_stored=False, books="worst", is_said=True),
}
"From the most trusted to the least."

_ORDER = list(FATES)
_BECAUSE: dict[Kind, str] = {
    "not_a_number": "which is no number",
    "negative": "which is negative",
    "too_large": "and the request allows no more than {most:,}",
    "too_few": "which is too few for the text that came",
}
_BOOKED = {
    "own": "no counts are stored for such answers, and each is booked at what its text can have",
    "worst": "no counts are stored for such answers, and each is booked at its worst case",
}


class _Fields(Struct):
    prompt_tokens: Raw = NOTHING
    completion_tokens: Raw = NOTHING
    total_tokens: Raw = NOTHING
    completion_tokens_details: Raw = NOTHING
    reasoning_tokens: Raw = NOTHING  # SGLang puts it here


class _Details(Struct):
    reasoning_tokens: Raw = NOTHING


class _Count(NamedTuple):
    name: str
    kind: Kind
    number: int
    "0 where there is none that could be believed"
    shown: str


def most_of(request: Request, context_length: int, *, is_bounded: bool) -> Most:
    """What a request can have had; unless `is_bounded`, the server goes on to the end of its context."""
    prompt = len(request.prompt_ids) or most_prompt_tokens(request.messages)
    completion = request.max_tokens
    if (
        not is_bounded
    ):  # it said that prompt and limit together are too much: which it counts itself
        completion += prompt
    believed = max(prompt, min(prompt + SERVER_PROMPT_TOKENS, context_length))
    return Most(prompt, believed, completion)


def read_usage(content: Raw, message: Message, most: Most, num_ids: int | None = None) -> Usage:
    """What a server says of an answer; `num_ids` is how many token ids came, where they did."""
    fields = _struct(content, _Fields)
    details = _struct(fields.completion_tokens_details, _Details)
    prompt = _count("prompt_tokens", fields.prompt_tokens, most.believed_prompt)
    completion = _count("completion_tokens", fields.completion_tokens, most.completion)
    others = [
        _count("total_tokens", fields.total_tokens, most.believed_prompt + most.completion),
        _count("completion_tokens_details.reasoning_tokens", details.reasoning_tokens, most.completion),
        _count("reasoning_tokens", fields.reasoning_tokens, most.completion),
    ]  # fmt: skip
    total, *thoughts = others
    reasoning = max(one.number for one in thoughts)
    remarks = [_remark(one, most, "it is passed over") for one in others if FATES[one.kind].is_said]
    text_bytes = _num_bytes(message)
    if prompt.kind == completion.kind == "count":
        completion = _consistent(prompt, completion, total, reasoning, most, remarks)
        least = text_bytes / LONGEST_TOKEN if num_ids is None else num_ids - END_TOKENS
        if completion.number < least:
            completion = completion._replace(kind="too_few")
    worst = max(prompt, completion, key=lambda one: _ORDER.index(one.kind))
    fate = FATES[worst.kind]
    if fate.is_said:
        remarks.insert(0, _remark(worst, most, _BOOKED[fate.books]))
    own = min(most.completion, text_bytes + END_TOKENS if num_ids is None else num_ids)
    return Usage(
        _shared_out(prompt.number, completion.number, reasoning, message) if fate.is_stored else None,
        None if fate.books == "worst" else (
            prompt.number if prompt.kind == "count" else most.prompt,
            completion.number if completion.kind == "count" else own,
        ),
        fate.books == "count",
        tuple(remarks),
        _claimed(fields, most) if worst.kind == "too_large" else None,
    )  # fmt: skip


def _count(name: str, content: Raw, most: int) -> _Count:
    """One field, sorted in."""
    found = value(content, otherwise="a number beyond all range")
    kind: Kind
    if found is None:
        kind = "missing"
    elif isinstance(found, bool) or not isinstance(found, int):
        kind = "not_a_number"
    elif found < 0:
        kind = "negative"
    else:
        kind = "too_large" if found > most else "count"
    return _Count(name, kind, found if kind == "count" else 0, shown(found))


def _consistent(
    prompt: _Count, completion: _Count, total: _Count, reasoning: int, most: Most, remarks: list[Remark]
) -> _Count:  # fmt: skip
    """The largest count of completion tokens that the fields give and the request can have had."""
    rest = total.number - prompt.number if total.kind == "count" else completion.number
    possible = [one for one in (completion.number, reasoning, rest) if one <= most.completion]
    largest = max(possible)
    if largest != completion.number or rest != completion.number:
        told = f"prompt {prompt.shown}, completion {completion.shown}"
        told += f", reasoning {reasoning:,}" if reasoning > completion.number else ""
        told += f", total {total.shown}" if rest != completion.number else ""
        text = (
            f"the server's counts contradict each other ({told}): the largest that agree with the request "
            "are stored and booked"
        )
        remarks.append(Remark("contradictory", text))
    return completion._replace(number=largest)


def _shared_out(prompt: int, completion: int, reasoning: int, message: Message) -> TokenCounts:
    """The counts of a row.

    Where the server does not count reasoning apart, completion tokens are shared out by characters. The
    response has what is not reasoning: delimiters and the end token too.
    """
    thought, said = len(message.reasoning_content or ""), len(message.content)
    if not reasoning and thought:
        reasoning = round(completion * thought / (thought + said))
    reasoning = min(reasoning, completion)
    return TokenCounts(
        prompt=prompt,
        reasoning=reasoning,
        response=completion - reasoning,
        total=prompt + completion,
    )


def _claimed(fields: _Fields, most: Most) -> tuple[int, int] | None:
    """Tokens beyond what the request can have had, where both counts are numbers."""
    prompt, completion = value(fields.prompt_tokens), value(fields.completion_tokens)
    if not all(isinstance(one, int) and one >= 0 for one in (prompt, completion)):
        return None
    return max(0, prompt - most.prompt), max(0, completion - most.completion)


def _remark(found: _Count, most: Most, so: str) -> Remark:
    allowed = most.believed_prompt if found.name == "prompt_tokens" else most.completion
    if found.name == "total_tokens":
        allowed += most.believed_prompt
    because = _BECAUSE[found.kind].format(most=allowed)
    text = f"the server's {found.name} cannot be believed ({found.shown}, {because}): {so}"
    return Remark(f"{found.name} {found.kind}", text)


def _struct(content: Raw, kind: type[Any]) -> Any:
    """An object with optional fields; an empty one for anything else."""
    try:
        return decoded(content, kind)
    except Garbled:
        return kind()


def _num_bytes(message: Message) -> int:
    return len((message.reasoning_content or "").encode()) + len(message.content.encode())

"""Split a conversation into its prompt and the assistant's completion.

[{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>...</think>2"}]
[{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
"""

from typing import Any, NamedTuple

from distillpipe.base.records import Message
from distillpipe.base.thinking import split
from distillpipe.data.formats.fields import Fields, Row, problem_key, text_under

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
}  # fmt: skip
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")


class Rejection(NamedTuple):
    """Why a row, or one of its completions, is rejected: a drop reason and the value measured."""

    reason: str
    measured: str | None = None


class Parts(NamedTuple):
    """A completion. `reasoning` is None if there is none; `response` is "" if the reasoning was not closed."""

    reasoning: str | None
    response: str


class Exchange(NamedTuple):
    """A prompt and its completion."""

    prompt: list[Message]
    completion: Parts


def parts_of(reasoning: object, content: str) -> Parts:
    """Reasoning and response: from the field `reasoning`, or from between the tags in `content`."""
    inline = split(content)
    if not isinstance(reasoning, str) or not reasoning.strip():
        return Parts(inline.reasoning or None, inline.response)
    thought = reasoning.strip()
    is_repeated = (
        inline.reasoning.strip() == thought
    )  # some tools store the reasoning in both places
    return Parts(thought, inline.response if is_repeated else content.lstrip())


def exchange_of(turns: object) -> Exchange | Rejection:
    """The exchange of a single-turn conversation: system messages, one user and one assistant message."""
    messages = messages_of(turns)
    if isinstance(messages, Rejection):
        return messages
    roles = [message.role for message in messages]
    if "user" not in roles:
        return Rejection("no_problem", " ".join(roles))
    if "assistant" not in roles:
        return Rejection("no_completion", " ".join(roles))
    if roles.count("user") > 1 or roles.count("assistant") > 1:
        return Rejection("several_turns", str(len(roles)))
    if roles[-2:] != ["user", "assistant"]:
        return Rejection("not_a_conversation", " ".join(roles))
    *prompt, answer = messages
    return Exchange(prompt, parts_of(answer.reasoning_content, answer.content))


def messages_of(turns: object) -> list[Message] | Rejection:
    """The messages of a list, with the keys `role` and `content`, or `from` and `value`."""
    if not isinstance(turns, list) or not turns:
        return Rejection("not_a_conversation", type(turns).__name__)
    messages: list[Message] = []
    for turn in turns:
        message = _message(turn)
        if isinstance(message, Rejection):
            return message
        messages.append(message)
    return messages


def _message(turn: object) -> Message | Rejection:
    if not isinstance(turn, dict):
        return Rejection("not_a_conversation", type(turn).__name__)
    role = _first(turn, ("role", "from"))
    if not isinstance(role, str) or role not in ROLES:
        return Rejection("other_roles", str(role))
    content = _text(_first(turn, ("content", "value")))
    if content is None:
        return Rejection("not_text", role)
    reasoning = _first(turn, REASONING_FIELDS)
    if not isinstance(reasoning, str | None):
        return Rejection("not_text", role)
    return Message(role=ROLES[role], content=content, reasoning_content=reasoning)


def _text(content: object) -> str | None:
    """The text of a message, which may be a list of parts. None if a part is not text."""
    if isinstance(content, str | None):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    strings = [text for text in texts if isinstance(text, str)]
    return "".join(strings) if len(strings) == len(texts) else None


def _first(turn: dict[Any, Any], names: tuple[str, ...]) -> object:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


# Rules that all formats share: where the prompt and the problem of a row are.


SYSTEM_FIELDS = ("system", "system_prompt")


class ParsedRow(NamedTuple):
    """One completion of a row. Fields that are None are read later, from the usual keys of the row."""

    problem: str
    prompt: list[Message]
    completion: Parts
    keys: set[str]
    "the keys that were read; all other keys go to `extra`"
    sample: int | None = None
    finish_reason: str | None = None
    teacher: str | None = None


Outcome = ParsedRow | Rejection


def in_conversation(row: Row, fields: Fields, turns: object, keys: set[str]) -> Outcome:
    """Read a conversation from a list of turns."""
    exchange = exchange_of(turns)
    if isinstance(exchange, Rejection):
        return exchange
    return _parsed(row, fields, exchange, keys)


def in_columns(row: Row, fields: Fields, reasoning: str, content: str) -> Outcome:
    """Read reasoning and response from two keys of the row."""
    thought, response = row.get(reasoning), row.get(content)
    if not isinstance(thought, str | None) or not isinstance(response, str | None):
        return Rejection("not_text", f"{reasoning} {content}")
    return answer_to(row, fields, parts_of(thought, response or ""), {reasoning, content})


def answer_to(row: Row, fields: Fields, completion: Parts, keys: set[str]) -> Outcome:
    """Combine a completion with its prompt: a list of messages of the row, or its problem's text."""
    for key, turns in message_lists(row).items():
        messages = messages_of(turns)
        if isinstance(messages, Rejection):
            return messages
        return _parsed(row, fields, Exchange(messages, completion), {*keys, key})
    name = problem_key(row, fields)
    if name is None:
        return Rejection("no_problem", ", ".join(row))
    question = Message(role="user", content=row[name])
    return _parsed(row, fields, Exchange([question], completion), {*keys, name})


def message_lists(row: Row) -> dict[str, object]:
    """The lists of messages in a row that may be its prompt, by the row's key."""
    request = row.get("request")
    body = request.get("body", request) if isinstance(request, dict) else {}
    values = {
        "prompt": row.get("prompt"),
        "messages": row.get("messages"),
        "request": body.get("messages") if isinstance(body, dict) else None,
    }
    return {key: turns for key, turns in values.items() if isinstance(turns, list) and turns}


def _parsed(row: Row, fields: Fields, exchange: Exchange, keys: set[str]) -> Outcome:
    prompt, completion = exchange
    roles = [message.role for message in prompt]
    if roles.count("user") > 1 or "assistant" in roles:
        return Rejection("several_turns", str(len(prompt) + 1))
    key = problem_key(row, fields)
    text = row[key] if key else "" if fields.problem or roles[-1] != "user" else prompt[-1].content
    if not text.strip():
        return Rejection("no_problem", ", ".join(row))
    if not (completion.reasoning or "").strip() and not completion.response.strip():
        return Rejection("no_completion", ", ".join(sorted(keys)))
    used = keys if key is None else {*keys, key}
    system = text_under(row, SYSTEM_FIELDS)
    if system is not None and roles[0] != "system":
        prompt = [Message(role="system", content=row[system]), *prompt]
        used = {*used, system}
    return ParsedRow(text, prompt, completion, used)

"""One exchange out of a conversation: what was asked, and what the assistant said.

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
    """Why a row, or one completion of it, is no trace: a stable name, and what was looked at."""

    reason: str
    measured: str | None = None


class Parts(NamedTuple):
    """A completion; reasoning is null for none, response empty where the thought was not closed."""

    reasoning: str | None
    response: str


class Exchange(NamedTuple):
    """The messages before the assistant's only turn, and that turn."""

    asked: list[Message]
    answered: Parts


def parts_of(reasoning: object, content: str) -> Parts:
    """Reasoning and response, from a field of its own or from between the tags in the content."""
    found = split(content)
    if not isinstance(reasoning, str) or not reasoning.strip():
        return Parts(found.reasoning or None, found.response)
    thought = reasoning.strip()
    repeated = found.reasoning.strip() == thought
    return Parts(thought, found.response if repeated else content.lstrip())


def exchange_of(turns: object) -> Exchange | Rejection:
    """The only exchange of a conversation: system messages, one question, one answer."""
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
    *asked, answered = messages
    return Exchange(asked, parts_of(answered.reasoning_content, answered.content))


def messages_of(turns: object) -> list[Message] | Rejection:
    """The turns of a list, under the keys of either convention."""
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
    """The text of a message, also of one in parts; null where there is something other than text."""
    if isinstance(content, str | None):
        return content or ""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(texts) else None


def _first(turn: dict[Any, Any], names: tuple[str, ...]) -> object:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


# What a row holds, and the rules that all formats share: who asked, and what the problem is.


SYSTEM_FIELDS = ("system", "system_prompt")


class Found(NamedTuple):
    """One completion of a row; null where the row's own keys have the say."""

    problem: str
    asked: list[Message]
    completion: Parts
    keys: set[str]
    "what it was read from: all else is extra"
    sample: int | None = None
    finish_reason: str | None = None
    teacher: str | None = None


Outcome = Found | Rejection


def in_conversation(row: Row, fields: Fields, turns: object, keys: set[str]) -> Outcome:
    """The exchange of a list of turns."""
    exchange = exchange_of(turns)
    if isinstance(exchange, Rejection):
        return exchange
    return _found(row, fields, exchange, keys)


def in_columns(row: Row, fields: Fields, reasoning: str, content: str) -> Outcome:
    """Reasoning and response under two keys of the row."""
    thought, response = row.get(reasoning), row.get(content)
    if not isinstance(thought, str | None) or not isinstance(response, str | None):
        return Rejection("not_text", f"{reasoning} {content}")
    return answer_to(row, fields, parts_of(thought, response or ""), {reasoning, content})


def answer_to(row: Row, fields: Fields, completion: Parts, keys: set[str]) -> Outcome:
    """A completion with what was asked: a list of messages of the row, or its problem's text."""
    for key, turns in asked_lists(row).items():
        messages = messages_of(turns)
        if isinstance(messages, Rejection):
            return messages
        return _found(row, fields, Exchange(messages, completion), {*keys, key})
    name = problem_key(row, fields)
    if name is None:
        return Rejection("no_problem", ", ".join(row))
    question = Message(role="user", content=row[name])
    return _found(row, fields, Exchange([question], completion), {*keys, name})


def asked_lists(row: Row) -> dict[str, object]:
    """Lists of messages that a request of the row holds, by the row's key."""
    request = row.get("request")
    body = request.get("body", request) if isinstance(request, dict) else {}
    held = {
        "prompt": row.get("prompt"),
        "messages": row.get("messages"),
        "request": body.get("messages") if isinstance(body, dict) else None,
    }
    return {key: turns for key, turns in held.items() if isinstance(turns, list) and turns}


def _found(row: Row, fields: Fields, exchange: Exchange, keys: set[str]) -> Outcome:
    asked, completion = exchange
    roles = [message.role for message in asked]
    if roles.count("user") > 1 or "assistant" in roles:
        return Rejection("several_turns", str(len(asked) + 1))
    key = problem_key(row, fields)
    text = row[key] if key else "" if fields.problem or roles[-1] != "user" else asked[-1].content
    if not text.strip():
        return Rejection("no_problem", ", ".join(row))
    if not (completion.reasoning or "").strip() and not completion.response.strip():
        return Rejection("no_completion", ", ".join(sorted(keys)))
    used = keys if key is None else {*keys, key}
    system = text_under(row, SYSTEM_FIELDS)
    if system is not None and roles[0] != "system":
        asked = [Message(role="system", content=row[system]), *asked]
        used = {*used, system}
    return Found(text, asked, completion, used)

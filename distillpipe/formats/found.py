"""What is found in a row, and the rules that all formats share: who asked, what is the problem."""

from typing import NamedTuple

from distillpipe.base.records import Message
from distillpipe.formats.fields import Fields, Row, problem_key, text_under
from distillpipe.formats.turns import Exchange, Parts, Rejection, exchange_of, messages_of, parts_of

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

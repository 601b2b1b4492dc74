"""Split a conversation into its prompt and the assistant's completion.

[{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "<think>...</think>2"}]
[{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
"""

from typing import Any, NamedTuple

import msgspec

from distillpipe.base.assistant import calls_tools, parts_of, read_content, reasoning_field
from distillpipe.base.marks import Marked, mark_inside, split_marked
from distillpipe.base.records import Message
from distillpipe.data.formats.fields import (
    PROBLEM_FIELDS,
    Fields,
    Row,
    decoded_text,
    text_under,
)

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant",
    "bot": "assistant", "ai": "assistant",
}  # fmt: skip
THOUGHT_ROLES = ("reasoning", "thinking", "thought")  # of a turn that belongs to the next answer
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
PLACEHOLDERS = frozenset(
    ("-", "--", "---", ".", "..", "...", "n/a", "na", "nan", "none", "null", "nil", "?", "empty", "unknown")
)  # fmt: skip
"Words that published traces have in place of a problem's text."
PREFIXES = (
    "Return your final response within \\boxed{}.",
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "Let's think step by step and output the final answer within \\boxed{}.",
    "Solve the following math problem. Put your final answer within \\boxed{}.",
)
"Instructions around problems in published traces: they belong to the prompt, not to the problem."


class Rejection(NamedTuple):
    """Why a row, or one of its completions, is rejected: a drop reason and the value measured."""

    reason: str
    measured: str | None = None


class Parts(NamedTuple):
    """A completion. `reasoning` is None if there is none; `response` is "" if the reasoning was not closed."""

    reasoning: str | None
    response: str
    before: str = ""
    "text before the mark that opens the reasoning"
    mark_inside: str | None = None
    "a mark of reasoning that is left inside a part"

    @classmethod
    def of(cls, marked: Marked) -> "Parts":
        reasoning = marked.reasoning or None
        return cls(reasoning, marked.response, marked.before, mark_inside(marked))


class Exchange(NamedTuple):
    """A prompt and its completion."""

    prompt: list[Message]
    completion: Parts


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
    return Exchange(
        prompt, Parts.of(parts_of((answer.reasoning_content or "").strip(), answer.content))
    )


def messages_of(turns: object) -> list[Message] | Rejection:
    """The messages of a list, with the keys `role` and `content`, or `from` and `value`. The list may be JSON text."""
    turns = decoded_text(turns)
    if not isinstance(turns, list) or not turns:
        return Rejection("not_a_conversation", type(turns).__name__)
    messages: list[Message] = []
    thought = ""
    for turn in turns:
        if isinstance(turn, dict) and str(_first(turn, ("role", "from"))).lower() in THOUGHT_ROLES:
            thought = read_content(_first(turn, ("content", "value"))).text
            continue
        message = _message(turn)
        if isinstance(message, Rejection):
            return message
        if thought and message.role == "assistant" and not message.reasoning_content:
            message = msgspec.structs.replace(message, reasoning_content=thought)
            thought = ""
        messages.append(message)
    return messages


def _message(turn: object) -> Message | Rejection:
    if not isinstance(turn, dict):
        return Rejection("not_a_conversation", type(turn).__name__)
    role = _first(turn, ("role", "from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        return Rejection("other_roles", str(role))
    if calls_tools(turn):
        return Rejection("tool_calls", role)
    value = _first(turn, ("content", "value"))
    content = read_content(value)
    is_text = value is None or isinstance(value, str | list)
    items = value if isinstance(value, list) else []
    if not is_text or content.other or not all(isinstance(item, str | dict) for item in items):
        return Rejection("not_text", role)
    names = [name for name in REASONING_FIELDS if turn.get(name) is not None]
    if any(not isinstance(turn[name], str | list | dict) for name in names):
        return Rejection("not_text", role)
    reasoning = reasoning_field(turn) or "\n".join(content.thoughts)
    return Message(
        role=ROLES[role.lower()], content=content.text, reasoning_content=reasoning or None
    )


def _first(turn: dict[Any, Any], names: tuple[str, ...]) -> object:
    return next((turn[name] for name in names if turn.get(name) is not None), None)


# Rules that all formats share: where the prompt and the problem of a row are.


SYSTEM_FIELDS = ("system", "system_prompt")
PROMPT_LISTS = ("prompt", "messages", "input", "conversations", "conversation")


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
    prefix: str | None = None
    "one of `PREFIXES` that was taken off the problem"
    info: Any = None
    "what turns hold beside role and text"
    reference: str | None = None
    "the reference answer in a turn's `info`"


Outcome = ParsedRow | Rejection


def in_conversation(row: Row, fields: Fields, turns: object, keys: set[str]) -> Outcome:
    """Read a conversation from a list of turns."""
    exchange = exchange_of(turns)
    if isinstance(exchange, Rejection):
        return exchange
    outcome = _parsed(row, fields, exchange, keys)
    if isinstance(outcome, Rejection):
        return outcome
    info = _info(decoded_text(turns))
    references = (turn.get("reference_answer") for turn in info if isinstance(turn, dict))
    reference = next((str(one) for one in references if isinstance(one, str | int) and one), None)
    return outcome._replace(info=info or None, reference=reference)


def _info(turns: Any) -> list[Any]:
    """What the turns of a conversation hold as `info`, without copies of reasoning and response."""
    copies = ("think_content", "answer_content")
    found = []
    for turn in turns if isinstance(turns, list) else []:
        info = turn.get("info") if isinstance(turn, dict) else None
        if isinstance(info, dict):
            info = {
                name: value
                for name, value in info.items()
                if value is not None and name not in copies
            }
        if info:
            found.append(info)
    return found


def in_columns(row: Row, fields: Fields, reasoning: str, content: str) -> Outcome:
    """Read reasoning and response from two keys of the row."""
    thought, response = row.get(reasoning), row.get(content)
    if not isinstance(thought, str | None) or not isinstance(response, str | None):
        return Rejection("not_text", f"{reasoning} {content}")
    parts = Parts.of(parts_of((thought or "").strip(), response or ""))
    return answer_to(row, fields, parts, {reasoning, content})


def in_text(text: str) -> Parts:
    """The parts of a whole completion."""
    return Parts.of(split_marked(text))


def answer_to(row: Row, fields: Fields, completion: Parts, keys: set[str]) -> Outcome:
    """Combine a completion with its prompt: a list of messages of the row, or its problem's text."""
    for key, turns in message_lists(row).items():
        messages = messages_of(turns)
        if isinstance(messages, Rejection):
            return messages
        return _parsed(row, fields, Exchange(messages, completion), {*keys, key})
    usual = tuple(name for name in fields.problem_names if name not in keys)
    name = text_under(row, usual)
    if name is None:
        return Rejection("no_problem", ", ".join(row))
    text, used = row[name], {*keys, name}
    context = row.get("input")
    if (
        name == "instruction"
        and isinstance(context, str)
        and context.strip()
        and "input" not in keys
    ):
        text, used = f"{text}\n\n{context}", {*used, "input"}  # as Alpaca's rows are asked
    question = Message(role="user", content=text)
    return _parsed(row, fields, Exchange([question], completion), used, text)


def message_lists(row: Row) -> dict[str, object]:
    """The lists of messages in a row that may be its prompt, by the row's key."""
    request = row.get("request")
    body = request.get("body", request) if isinstance(request, dict) else {}
    values = {name: _message_list(row.get(name)) for name in PROMPT_LISTS}
    values["request"] = body.get("messages") if isinstance(body, dict) else None
    return {key: turns for key, turns in values.items() if isinstance(turns, list) and turns}


def _message_list(value: Any) -> Any:
    """A list of messages, which may stand as JSON in a text; None for any other text."""
    if not isinstance(value, str):
        return value
    turns = decoded_text(value)
    is_list = isinstance(turns, list) and bool(turns)
    return turns if is_list and all(isinstance(turn, dict) for turn in turns) else None


def _parsed(
    row: Row, fields: Fields, exchange: Exchange, keys: set[str], asked: str | None = None
) -> Outcome:
    """One completion with its problem: `asked`, or the text of its column, or the last message of the prompt."""
    prompt, completion = exchange
    roles = [message.role for message in prompt]
    if roles.count("user") > 1 or "assistant" in roles or row.get("prev_messages"):
        return Rejection("several_turns", str(len(prompt) + 1))
    usual = PROBLEM_FIELDS if fields.problem is None else (fields.problem,)
    key = (
        text_under(row, tuple(name for name in usual if name not in keys))
        if asked is None
        else None
    )
    text = asked if asked is not None else row[key] if key else ""
    if not key and asked is None and not fields.problem and roles[-1] == "user":
        text = prompt[-1].content
    text, prefix = without_prefix(text)
    if not text.strip():
        return Rejection("no_problem", ", ".join(row))
    if text.strip().lower() in PLACEHOLDERS:
        return Rejection("placeholder_problem", text.strip())
    if not (completion.reasoning or "").strip() and not completion.response.strip():
        return Rejection("no_completion", ", ".join(sorted(keys)))
    if completion.mark_inside is not None and completion.mark_inside not in text:
        return Rejection("mark_inside_completion", completion.mark_inside)
    used = keys if key is None else {*keys, key}
    system = text_under(row, SYSTEM_FIELDS)
    if system is not None and roles[0] != "system":
        prompt = [Message(role="system", content=row[system]), *prompt]
        used = {*used, system}
    return ParsedRow(text, prompt, completion, used, prefix=prefix)


def without_prefix(problem: str) -> tuple[str, str | None]:
    """A problem without a known instruction before or behind it, and that instruction."""
    bare = problem.strip()
    for prefix in PREFIXES:
        if bare.startswith(prefix):
            return bare.removeprefix(prefix).lstrip(), prefix
        if bare.endswith(prefix):
            return bare.removesuffix(prefix).rstrip(), prefix
    return problem, None

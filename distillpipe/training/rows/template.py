"""The chat template of a checkpoint, which renders a turn exactly as the student was trained on it.

The templates of Qwen2.5, Llama-3 and R1-Distill delete the reasoning of an assistant turn; that of Qwen3 trims it. If a
template does not render every last turn exactly, we save a wrapper around it. The wrapper renders the last turn as a
training row: the prompt of the student's own template, followed by the completion. Prompts and earlier turns do not
change.
"""

import re
from typing import Any, NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat
from distillpipe.models.delimiters import QUESTION, REASONING, RESPONSE, Form

SPACE = "\n \n"  # around the test strings, to detect templates that trim

_WRAPPER = """\
{#- The student's own template, but for the last turn of the assistant, which is written as it was trained on. -#}
{%- macro conversation(messages, add_generation_promptPARAMETERS) %}
OWN{%+ endmacro %}
{%- set distilled = namespace(reasoning='', content=none) %}
{%- if messages and not add_generation_prompt and messages[-1].role == 'assistant' and not messages[-1].tool_calls and messages[-1].content is string %}
    {%- set distilled.content = messages[-1].content %}
    {%- set distilled.reasoning = messages[-1].reasoning_content or messages[-1].reasoning or messages[-1].thinking or '' %}
{%- endif %}
{%- if distilled.reasoning is string and distilled.reasoning %}
    {{- conversation(messages[:-1], trueTHINKING) + OPENING + distilled.reasoning + MIDDLE + distilled.content + ENDING }}
{%- elif distilled.content is string and TAG_OPEN not in distilled.content and TAG_CLOSE not in distilled.content %}
    {{- conversation(messages[:-1], truePLAIN) + BARE + distilled.content + ENDING }}
{%- else %}
    {{- conversation(messages, add_generation_promptGIVEN) }}
{%- endif %}"""


_PLACEHOLDERS = re.compile(
    "PARAMETERS|THINKING|PLAIN|GIVEN|OPENING|MIDDLE|BARE|ENDING|TAG_OPEN|TAG_CLOSE|OWN"
)


class _Text(NamedTuple):
    """A conversation, and what training renders it as."""

    messages: list[Message]
    asks: bool
    "whether it ends with a generation prompt"
    text: str


def writes_rows_exactly(chat: Chat) -> bool:
    """Whether the chat template, by itself, renders a last turn as training rows are, white space included."""
    return _renders(chat, _rows_of_test(chat), chat.mode.form)


def _rows_of_test(chat: Chat) -> list[_Text]:
    """Test conversations as training writes them."""
    user_turn = Message(role="user", content=QUESTION)
    texts = [_Text([user_turn], True, chat.prompt([user_turn]))]
    for reasoning in (f"{SPACE}{REASONING}{SPACE}", None):
        turn = Message(
            role="assistant", content=f"{SPACE}{RESPONSE}{SPACE}", reasoning_content=reasoning
        )
        mode = chat.mode_of(turn)
        row = chat.prompt([user_turn], mode) + mode.turn.completion(reasoning or "", turn.content)
        texts.append(_Text([user_turn, turn], False, row + _ending(chat)))
    return texts


def _renders(chat: Chat, texts: list[_Text], form: Form | None) -> bool:
    """Whether the chat template renders conversations so without variables; `form` is how it gets reasoning."""
    mode = chat.mode._replace(variables={}, form=form)
    return all(
        chat.render(messages, add_generation_prompt=asks, mode=mode) == text
        for messages, asks, text in texts
    )


def saved_template(chat: Chat) -> str:
    """The template text for the checkpoint of a student that was trained with `chat`.

    Raises UsageError if the student's template cannot be wrapped.
    """
    own: str = chat.tokenizer.chat_template
    if writes_rows_exactly(chat):
        return own
    text = _wrapped(chat, own)
    if not _is_faithful(chat, own, text):
        raise UsageError(
            "the student's chat template drops the reasoning, and a wrapper that keeps it changes the prompts: "
            "give another --chat-template"
        )
    return text


def _wrapped(chat: Chat, own: str) -> str:
    """The wrapper around a template, which sets the variables that the rows were rendered with."""
    turn, plain = chat.turn, chat.plain or chat.mode
    names = sorted({*chat.mode.variables, *plain.variables})
    given = [
        f"{name} if {name} is defined else {_literal(chat.mode.variables[name])}"
        if name in chat.mode.variables
        else name
        for name in names
    ]
    parts = {
        "PARAMETERS": "".join(f", {name}" for name in names),
        "THINKING": _arguments(names, chat.mode.variables),
        "PLAIN": _arguments(names, plain.variables),
        "GIVEN": "".join(f", {value}" for value in given),
        "OPENING": ascii(turn.opening), "MIDDLE": ascii(turn.middle), "BARE": ascii(plain.turn.bare),
        "ENDING": ascii(_ending(chat)), "TAG_OPEN": ascii(turn.tags.open), "TAG_CLOSE": ascii(turn.tags.close),
        "OWN": own.removesuffix("\n"),
    }  # fmt: skip
    return _PLACEHOLDERS.sub(lambda match: parts[match[0]], _WRAPPER)


def _arguments(names: list[str], variables: dict[str, Any]) -> str:
    """Values for the parameters of the wrapper; one that is not set is undefined, as in the template's default."""
    return "".join(
        f", {_literal(variables[name]) if name in variables else 'distilled_not_given'}"
        for name in names
    )


def _literal(value: Any) -> str:
    """A value of JSON as jinja writes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, dict):
        pairs = (f"{str(key)!a}: {_literal(one)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return ascii(value)


def _is_faithful(chat: Chat, own: str, text: str) -> bool:
    """Whether the template `text` renders the same prompts as `own` does, and turns as training rows."""
    user_turn = Message(role="user", content=QUESTION)
    assistant_turn = Message(role="assistant", content=RESPONSE, reasoning_content=REASONING)
    several = [user_turn, assistant_turn, user_turn]
    mode = chat.mode._replace(form=None)
    expected = [*_rows_of_test(chat), _Text(several, True, chat.prompt(several, mode))]
    chat.tokenizer.chat_template = text
    try:
        return _renders(chat, expected, None)
    except UsageError:
        return False
    finally:
        chat.tokenizer.chat_template = own


def _ending(chat: Chat) -> str:
    """The text after a turn: that of the template, or the end token if the template writes none."""
    ending = chat.turn.ending
    is_ended = chat.more_ids(ending)[: len(chat.ending_ids)] == chat.ending_ids
    return ending if is_ended else chat.decode(chat.ending_ids)

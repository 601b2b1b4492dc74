"""The chat template of a checkpoint, which renders a turn exactly as the student was trained on it.

The templates of Qwen2.5, Llama-3 and R1-Distill delete the reasoning of an assistant turn; that of Qwen3 trims it. If a
template does not render every last turn exactly, we save a wrapper around it. The wrapper renders the last turn as a
training row: the prompt of the student's own template, followed by the completion. Prompts and earlier turns do not
change.
"""

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat
from distillpipe.models.delimiters import QUESTION, REASONING, RESPONSE

SPACE = "\n \n"  # around the test strings, to detect templates that trim

_WRAPPER = """\
{#- The student's own template, but for the last turn of the assistant, which is written as it was trained on. -#}
{%- macro conversation(messages, add_generation_prompt) %}
OWN{%+ endmacro %}
{%- set distilled = namespace(reasoning='', content=none) %}
{%- if messages and not add_generation_prompt and messages[-1].role == 'assistant' and not messages[-1].tool_calls and messages[-1].content is string %}
    {%- set distilled.content = messages[-1].content %}
    {%- set distilled.reasoning = messages[-1].reasoning_content or '' %}
{%- endif %}
{%- if distilled.reasoning %}
    {{- conversation(messages[:-1], true) + OPENING + distilled.reasoning + MIDDLE + distilled.content + ENDING }}
{%- elif distilled.content is string and TAG_OPEN not in distilled.content and TAG_CLOSE not in distilled.content %}
    {{- conversation(messages[:-1], true) + BARE + distilled.content + ENDING }}
{%- else %}
    {{- conversation(messages, add_generation_prompt) }}
{%- endif %}"""


def writes_rows_exactly(chat: Chat) -> bool:
    """Whether the chat template renders a last turn exactly as training rows are, white space included."""
    user_turn = Message(role="user", content=QUESTION)
    prompt = chat.render([user_turn], add_generation_prompt=True)
    for reasoning in (f"{SPACE}{REASONING}{SPACE}", None):
        turn = Message(
            role="assistant", content=f"{SPACE}{RESPONSE}{SPACE}", reasoning_content=reasoning
        )
        expected = prompt + chat.turn.completion(reasoning or "", turn.content) + _ending(chat)
        if chat.render([user_turn, turn], add_generation_prompt=False) != expected:
            return False
    return True


def saved_template(chat: Chat) -> str:
    """The template text for the checkpoint of a student that was trained with `chat`.

    Raises UsageError if the student's template cannot be wrapped.
    """
    own = str(chat.tokenizer.chat_template)
    if writes_rows_exactly(chat):
        return own
    turn = chat.turn
    parts = {
        "OPENING": turn.opening, "MIDDLE": turn.middle, "BARE": turn.bare, "ENDING": _ending(chat),
        "TAG_OPEN": turn.tags.open, "TAG_CLOSE": turn.tags.close,
    }  # fmt: skip
    text = _WRAPPER
    for name, part in parts.items():
        text = text.replace(name, ascii(part))
    text = text.replace("OWN", own.removesuffix("\n"), 1)
    if not _writes_the_same_prompts(chat, own, text):
        raise UsageError(
            "the student's chat template drops the reasoning, and a wrapper that keeps it changes the prompts: "
            "give another --chat-template"
        )
    return text


def _writes_the_same_prompts(chat: Chat, own: str, text: str) -> bool:
    """Whether the template `text` renders the same prompts as `own`, and turns as training rows."""
    user_turn = Message(role="user", content=QUESTION)
    assistant_turn = Message(role="assistant", content=RESPONSE, reasoning_content=REASONING)
    conversations = [[user_turn], [user_turn, assistant_turn, user_turn]]
    before = [
        chat.render(conversation, add_generation_prompt=True) for conversation in conversations
    ]
    chat.tokenizer.chat_template = text
    try:
        after = [
            chat.render(conversation, add_generation_prompt=True) for conversation in conversations
        ]
        return before == after and writes_rows_exactly(chat)
    except UsageError:
        return False
    finally:
        chat.tokenizer.chat_template = own


def _ending(chat: Chat) -> str:
    """The text after a turn: that of the template, or the end token if the template writes none."""
    ending = chat.turn.ending
    is_ended = chat.ids(ending)[: len(chat.ending_ids)] == chat.ending_ids
    return ending if is_ended else chat.decode(chat.ending_ids)

"""The chat template that a checkpoint is saved with: it writes a turn as the student was trained on it.

The templates of Qwen2.5, Llama-3 and R1-Distill delete the reasoning of an assistant's turn, Qwen3's trims it.
So where a template does not write every last turn to the letter, it is saved inside another one: the last
turn of a conversation is the prompt that the student's own template makes of the turns before, with the
completion behind it, which is what a training row is. Prompts and earlier turns stay as they were.
"""

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Message
from distillpipe.models.chat import Chat
from distillpipe.models.delimiters import QUESTION, REASONING, RESPONSE

SPACE = "\n \n"  # beside a mark: a template that trims takes it away

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


def keeps_turns(chat: Chat) -> bool:
    """Whether the chat's template writes a last turn exactly as rows are written, white space included."""
    asked = Message(role="user", content=QUESTION)
    prompt = chat.render([asked], add_generation_prompt=True)
    for reasoning in (f"{SPACE}{REASONING}{SPACE}", None):
        turn = Message(
            role="assistant", content=f"{SPACE}{RESPONSE}{SPACE}", reasoning_content=reasoning
        )
        wanted = prompt + chat.turn.completion(reasoning or "", turn.content) + _ending(chat)
        if chat.render([asked, turn], add_generation_prompt=False) != wanted:
            return False
    return True


def saved_template(chat: Chat) -> str:
    """The text of the template that a student trained with `chat` is saved with.

    Raises UsageError for a template that cannot stand inside another one.
    """
    own = str(chat.tokenizer.chat_template)
    if keeps_turns(chat):
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
            "the student's chat template drops the reasoning and cannot be wrapped by one that keeps it: "
            "give another --chat-template"
        )
    return text


def _writes_the_same_prompts(chat: Chat, own: str, text: str) -> bool:
    """Whether the template `text` prompts as `own` does, and writes turns as rows are written."""
    asked = Message(role="user", content=QUESTION)
    answered = Message(role="assistant", content=RESPONSE, reasoning_content=REASONING)
    conversations = [[asked], [asked, answered, asked]]
    before = [chat.render(one, add_generation_prompt=True) for one in conversations]
    chat.tokenizer.chat_template = text
    try:
        after = [chat.render(one, add_generation_prompt=True) for one in conversations]
        return before == after and keeps_turns(chat)
    except UsageError:
        return False
    finally:
        chat.tokenizer.chat_template = own


def _ending(chat: Chat) -> str:
    """What a turn ends with: as the template has it, or the end token where that has none."""
    ending = chat.turn.ending
    is_ended = chat.ids(ending)[: len(chat.ending_ids)] == chat.ending_ids
    return ending if is_ended else chat.decode(chat.ending_ids)

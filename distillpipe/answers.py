"""What an engine made of a request, in one form: the assistant's message, counted."""

from distillpipe.base.records import Message
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.engines.base import Answer, Completion, Failure, Outcome, Refusal
from distillpipe.models.chat import Chat


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

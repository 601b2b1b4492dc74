"""Token counts of imported traces: the tokenizer of a model, found without its weights."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock

import msgspec

from distillpipe import versions
from distillpipe.chat import Chat, load_chat
from distillpipe.errors import UsageError
from distillpipe.hashing import content_hash
from distillpipe.models import TEXT_FILES, Model, hub_folder
from distillpipe.records import TokenCounts, Trace

OPTION = "--tokenizer"


def find_tokenizer(reference: str) -> Model:
    """The tokenizer of a model folder, a checkpoint of ours, or a model on the hub."""
    path = Path(reference)
    if versions.holds_versions(versions.split_reference(reference)[0]):
        path = versions.resolve(reference)
    if not path.exists():
        path = hub_folder(reference, OPTION, weights=False)
    found = {name: (path / name).read_bytes() for name in TEXT_FILES if (path / name).is_file()}
    if not any(name.startswith(("tokenizer", "vocab")) for name in found):
        raise UsageError(
            f"{OPTION} {reference} has no tokenizer.json: give the folder of a model or its tokenizer"
        )
    return Model(reference, path.resolve(), f"tokenizer:{content_hash(found)}")


def counter(model: Model) -> Callable[[Trace], TokenCounts]:
    """Counts the tokens of a trace by the tokenizer of a model; threads may share it."""
    chat, alone = load_chat(model.folder, model.name), Lock()

    def count(trace: Trace) -> TokenCounts:
        with alone:
            return _count(trace, chat)

    return count


def counted(trace: Trace, chat: Chat) -> Trace:
    """The trace with the tokens that it would have in a chat; one that was cut off has no end token."""
    return msgspec.structs.replace(trace, num_tokens=_count(trace, chat))


def _count(trace: Trace, chat: Chat) -> TokenCounts:
    *asked, answered = trace.messages
    ids = chat.completion_ids(answered)
    text = chat.text(ids)
    if trace.is_truncated:
        text = text if trace.response else text.removesuffix(chat.turn.middle)
        ids = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    return chat.count(chat.prompt_ids(asked), ids, chat.split(text))

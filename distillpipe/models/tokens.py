"""Token counts of imported traces: the tokenizer of a model, found without its weights."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.processes import num_cores
from distillpipe.base.records import TokenCounts, Trace
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import versions
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import Model, hub_folder, model_texts

OPTION = "--tokenizer"
BATCH_CHARACTERS = 200_000  # that a thread counts at a time

Counted = TokenCounts | InternalError
Failed = Callable[[Trace, InternalError], None]


def find_tokenizer(reference: str) -> Model:
    """The tokenizer of a model folder, a checkpoint of ours, or a model on the hub."""
    path = versions.followed(Path(reference))
    if versions.holds_versions(versions.split_reference(reference)[0]):
        path = versions.resolve(reference)
    if not path.exists():
        path = hub_folder(reference, OPTION, weights=False)
    found = model_texts(path)
    if not any(name.startswith(("tokenizer", "vocab")) for name in found):
        raise UsageError(
            f"{OPTION} {reference} has no tokenizer.json: give the folder of a model or its tokenizer"
        )
    return Model(reference, path.resolve(), f"tokenizer:{content_hash(found)}")


def counter(model: Model) -> Callable[[Trace], TokenCounts]:
    """Counts the tokens of a trace by the tokenizer of a model; threads may share it."""
    chat = load_chat(model.folder, model.name)
    return lambda trace: _counts([trace], chat)[0]


def counted(traces: Iterable[Trace], chat: Chat, failed: Failed | None = None) -> Iterator[Trace]:
    """The traces, in order, with the tokens that they would have in a chat, counted on all cores.

    One whose counting meets an internal error is given to `failed`, or stays uncounted. A completion that was cut
    off has no end token. A few batches of BATCH_CHARACTERS are read ahead.
    """
    num_threads = num_cores()
    waiting: deque[tuple[list[Trace], Future[list[Counted]]]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:  # a tokenizer in Rust lets others run
        for batch in _batches(traces):
            waiting.append((batch, threads.submit(_counts_or_errors, batch, chat)))
            if len(waiting) > 2 * num_threads:
                yield from _with_counts(*waiting.popleft(), failed)
        while waiting:
            yield from _with_counts(*waiting.popleft(), failed)


def completion_ids(trace: Trace, chat: Chat) -> list[int]:
    """Token ids of a row's completion as a model would have sampled it: one that was cut off has no end token."""
    return chat.ids(_completion(trace, chat)) + _ending(trace, chat)


def _batches(traces: Iterable[Trace]) -> Iterator[list[Trace]]:
    batch: list[Trace] = []
    num_characters = 0
    for trace in traces:
        batch.append(trace)
        num_characters += len(trace.reasoning) + len(trace.response)
        if num_characters >= BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _with_counts(
    batch: list[Trace], counts: Future[list[Counted]], failed: Failed | None
) -> Iterator[Trace]:
    for trace, num_tokens in zip(batch, counts.result(), strict=True):
        if isinstance(num_tokens, InternalError):
            if failed is None:
                yield trace
            else:
                failed(trace, num_tokens)
            continue
        yield msgspec.structs.replace(trace, num_tokens=num_tokens)


def _counts_or_errors(traces: list[Trace], chat: Chat) -> list[Counted]:
    """Tokens of each trace; where one of them fails, each is counted by itself."""
    counts = guarded(_counts, traces, chat)
    if not isinstance(counts, InternalError):
        return [*counts]
    alone = [guarded(_counts, [trace], chat) for trace in traces]
    return [one if isinstance(one, InternalError) else one[0] for one in alone]


def _counts(traces: list[Trace], chat: Chat) -> list[TokenCounts]:
    texts = [_completion(trace, chat) for trace in traces]
    prompts = _ids([chat.prompt(trace.messages[:-1]) for trace in traces], chat)
    counts = []
    for trace, text, prompt, ids in zip(traces, texts, prompts, _ids(texts, chat), strict=True):
        counts.append(chat.count(prompt, ids + _ending(trace, chat), chat.split(text)))
    return counts


def _ids(texts: list[str], chat: Chat) -> list[list[int]]:
    """Token ids of each text; where the tokenizer is in Rust twice as fast as one by one."""
    if not chat.tokenizer.is_fast:
        return [chat.ids(text) for text in texts]
    rust = chat.tokenizer.backend_tokenizer
    return [one.ids for one in rust.encode_batch_fast(texts, add_special_tokens=False)]


def _ending(trace: Trace, chat: Chat) -> list[int]:
    return [] if trace.is_truncated else chat.ending_ids


def _completion(trace: Trace, chat: Chat) -> str:
    """The text of a completion; of one that was cut off in its thought without what ends the thought."""
    text = chat.turn.completion(trace.reasoning, trace.response)
    is_thought = trace.is_truncated and not trace.response
    return text.removesuffix(chat.turn.middle) if is_thought else text

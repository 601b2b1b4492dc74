"""Count the tokens of imported traces with the tokenizer of a model. No weights are needed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.interrupts import shielded
from distillpipe.base.processes import num_cores, result_of
from distillpipe.base.records import TokenCounts, Trace
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import versions
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.delimiters import Turn
from distillpipe.models.lookup import Model, hub_folder, model_texts
from distillpipe.models.modes import Mode

OPTION = "--tokenizer"
BATCH_CHARACTERS = 200_000  # characters per task of a thread

Counted = TokenCounts | InternalError
Failed = Callable[[Trace, InternalError], None]


def find_tokenizer(reference: str) -> Model:
    """Find the tokenizer of a model folder, a checkpoint of ours, or a hub model."""
    path = versions.follow_latest(Path(reference))
    if versions.holds_versions(versions.split_reference(reference)[0]):
        path = versions.resolve(reference)
    if not path.exists():
        path = hub_folder(reference, OPTION, weights=False)
    texts = model_texts(path)
    if not any(name.startswith(("tokenizer", "vocab")) for name in texts):
        raise UsageError(
            f"{OPTION} {reference} has no tokenizer.json: give the folder of a model or its tokenizer"
        )
    return Model(reference, path.resolve(), f"tokenizer:{content_hash(texts)}")


def counter(model: Model) -> Callable[[Trace], TokenCounts]:
    """A function that counts the tokens of a trace with the tokenizer of a model. It is thread-safe."""
    chat = load_chat(model.folder, model.name)
    return lambda trace: _counts([trace], chat)[0]


def counted(traces: Iterable[Trace], chat: Chat, failed: Failed | None = None) -> Iterator[Trace]:
    """Yield the traces, in order, with token counts. Counts on all cores and reads a few batches ahead.

    A trace that raises an internal error is passed to `failed`; without `failed` it stays uncounted. A completion
    that was cut off has no end token.
    """
    num_threads = num_cores()
    pending: deque[tuple[list[Trace], Future[list[Counted]]]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:  # the Rust tokenizer releases the GIL
        for batch in _batches(traces):
            with shielded():  # see `result_of`
                pending.append((batch, threads.submit(_counts_or_errors, batch, chat)))
            if len(pending) > 2 * num_threads:
                yield from _with_counts(*pending.popleft(), failed)
        while pending:
            yield from _with_counts(*pending.popleft(), failed)


def completion_ids(trace: Trace, chat: Chat, mode: Mode | None = None) -> list[int]:
    """Token ids of a row's completion, as a model would sample it. Without end token if it was cut off.

    `mode` is the chat's own if none is given.
    """
    return chat.start_ids(_completion(trace, (mode or chat.mode).turn)) + _ending(trace, chat)


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
    results = result_of(counts)
    for trace, num_tokens in zip(batch, results, strict=True):
        if isinstance(num_tokens, InternalError):
            if failed is None:
                yield trace
            else:
                failed(trace, num_tokens)
            continue
        yield msgspec.structs.replace(trace, num_tokens=num_tokens)


def _counts_or_errors(traces: list[Trace], chat: Chat) -> list[Counted]:
    """Token counts of each trace, or its error."""
    counts = guarded(_counts, traces, chat)
    if not isinstance(counts, InternalError):
        return [*counts]
    # One trace failed the whole batch: count each by itself.
    results = [guarded(_counts, [trace], chat) for trace in traces]
    return [result if isinstance(result, InternalError) else result[0] for result in results]


def _counts(traces: list[Trace], chat: Chat) -> list[TokenCounts]:
    texts = [_completion(trace, chat.turn) for trace in traces]
    prompts = _ids([chat.prompt(trace.messages[:-1]) for trace in traces], chat)
    completions = map(chat.start_ids, texts) if chat.has_dummy_prefix else _ids(texts, chat)
    counts = []
    for trace, text, prompt, ids in zip(traces, texts, prompts, completions, strict=True):
        counts.append(chat.count(prompt, ids + _ending(trace, chat), chat.split(text)))
    return counts


def _ids(texts: list[str], chat: Chat) -> list[list[int]]:
    """Token ids of each text."""
    if not chat.tokenizer.is_fast:
        return [chat.ids(text) for text in texts]
    # The Rust tokenizer encodes a batch twice as fast as single texts.
    rust = chat.tokenizer.backend_tokenizer
    return [encoding.ids for encoding in rust.encode_batch_fast(texts, add_special_tokens=False)]


def _ending(trace: Trace, chat: Chat) -> list[int]:
    return [] if trace.is_truncated else chat.ending_ids


def _completion(trace: Trace, turn: Turn) -> str:
    """The text of a completion. Without the closing tag if it was cut off in its reasoning."""
    text = turn.completion(trace.reasoning, trace.response)
    is_cut_reasoning = trace.is_truncated and not trace.response
    return text.removesuffix(turn.middle) if is_cut_reasoning else text

"""Soft labels for text that is there: what `label` does to each row.

The conversation is rendered by the teacher's chat, as it was when the teacher sampled, and one pass over it says
what the teacher would have said at each token of the completion. A labelled row has a key of its own, the hash
of its source's key, its text and the teacher, so two teachers make two rows of one; the id of its source stands in
`extra` as `labelled_from`. How many labels a token has is no part of it, as in what `generate` samples.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import bytes_hash, content_hash
from distillpipe.base.interrupts import shielded
from distillpipe.base.options import LabelOptions, Sampling
from distillpipe.base.progress import progress, say
from distillpipe.base.records import SoftLabels, Trace, trace_id, with_source
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.data.forecast import TEXT_BYTES_PER_TOKEN, Forecast, weight_bytes
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.jsonl import encoder
from distillpipe.data.store.label_carry import are_intact
from distillpipe.data.store.labels import LabelSource, label_bytes, read_labels
from distillpipe.data.store.writer import Writer, give_up_failed
from distillpipe.engines.base import Completion, Engine, Failure, Refusal, Request
from distillpipe.models.chat import Chat, chat_template_text
from distillpipe.models.lookup import Model
from distillpipe.models.tokens import completion_ids
from distillpipe.models.vocabulary import vocabulary_of

TOO_LONG = "too_long_for_teacher"
NOTHING = "empty_completion"
AS_IT_IS = Sampling(temperature=1, top_p=1, max_tokens=1)  # nothing is drawn


def template_text(options: LabelOptions) -> str | None:
    """The text of the chat template that was given; None: the teacher's own."""
    return None if options.chat_template is None else chat_template_text(options.chat_template)


class _Place(NamedTuple):
    """Where labels lie."""

    folder: Path
    labels: SoftLabels


class Labeller:
    """Takes over and makes the labels that one run wants."""

    def __init__(
        self, inputs: list[str], model: Model, chat: Chat, options: LabelOptions, writer: Writer
    ) -> None:
        self._inputs = inputs
        self._model = model
        self._chat = chat
        self._options = options
        self._writer = writer
        self._missing: set[str] = set()
        "row keys"
        self._in_flight: dict[str, Trace] = {}

    def take_over(self, out: Path) -> None:
        """Keep the rows whose labels other versions under `out` hold, and find out which others there are."""
        writer, k = self._writer, self._options.soft_labels
        there = _labelled_before(out, writer.draft.path, k) if writer.draft.takes_over else {}
        reused = 0
        writer.counts.rows_read = 0
        for row in distinct(self._inputs):
            writer.counts.rows_read += 1
            labelled = self._labelled(row)
            if labelled.id in writer.done:
                continue
            if (place := there.get(labelled.row_key)) is None:
                self._missing.add(labelled.row_key)
                continue
            writer.append(labelled, read_labels(*place).top(k))
            reused += 1
        writer.counts.rows_reused += reused
        if reused:
            say(f"reused the labels of {reused:,} rows of earlier versions")

    def label(self, open_engine: Callable[[], Engine]) -> None:
        """Label the rows that are missing, each durable as it is done; the engine is opened only if needed.

        Raises Incomplete where rows failed, unless errors are accepted and there are other rows; DataError
        where no row at all could be labelled.
        """
        writer = self._writer
        writer.forget_failed()
        if self._missing:
            self._label(open_engine())
        give_up_failed(writer, self._failed, accepted=self._options.accept_errors)
        if not writer.counts.rows_kept:
            reasons = ", ".join(writer.counts.dropped)
            raise DataError(
                f"not one row was labelled: {reasons}; give a teacher with a longer context "
                f"(rejected-*.jsonl in {writer.draft.path} has what was measured)"
            )
        for reason, dropped in writer.counts.dropped.items():
            say(f"{dropped.rows:,} rows rejected: {reason}")

    def _label(self, engine: Engine) -> None:
        counts, started = self._writer.counts, time.monotonic()
        seconds_before, num_rows = counts.seconds_working, counts.rows_read
        say(f"label: {len(self._missing):,} of {num_rows:,} rows, {engine.description}")
        requests = self._requests(engine.context_length)
        with (
            progress("label", num_rows, num_rows - len(self._missing)) as advance,
            closing(engine.complete(requests)) as outcomes,
        ):
            for outcome in outcomes:
                trace = self._in_flight.pop(outcome.key)
                with shielded():
                    if isinstance(outcome, Completion):
                        self._writer.append(trace, outcome.labels)
                        counts.tokens_scored += len(outcome.token_ids)
                        advance(1, len(outcome.token_ids))
                    elif isinstance(outcome, Failure):
                        self._writer.fail(trace, outcome.error)
                    else:
                        assert isinstance(outcome, Refusal)  # no server labels, so no Answer comes
                        self._writer.reject(trace, outcome.reason, outcome.measured)
                counts.seconds_working = seconds_before + time.monotonic() - started

    def _requests(self, context_length: int) -> Iterator[Request]:
        left = set(self._missing)
        for row in distinct(self._inputs):
            trace = self._labelled(row)
            if trace.row_key not in left:
                continue
            left.remove(trace.row_key)
            if len(trace.messages) < 2 or trace.messages[-1].role != "assistant":
                raise DataError(
                    f"row {trace.id}: its messages should be a question and an answer: mend or remove the row"
                )
            rendered = guarded(_rendered, trace, self._chat)
            if isinstance(rendered, InternalError):
                self._writer.reject(trace, REASON, rendered.description)
                continue
            prompt, completion = rendered
            num_tokens = len(prompt) + len(completion)
            if num_tokens > context_length or not completion:
                reason = TOO_LONG if completion else NOTHING
                self._writer.reject(trace, reason, num_tokens)
                continue
            self._in_flight[trace.row_key] = trace
            yield Request(
                trace.row_key, prompt, AS_IT_IS, seed=0, soft_labels=self._options.soft_labels,
                completion_ids=completion,
            )  # fmt: skip

    def _labelled(self, row: Trace) -> Trace:
        return to_be_labelled(row, self._model, self._options)

    def _failed(self, keys: list[str]) -> Iterator[Trace]:
        """Rows as they would have been, but for their labels."""
        left = set(keys)
        for row in distinct(self._inputs):
            trace = self._labelled(row)
            if trace.row_key in left:
                left.remove(trace.row_key)
                yield trace


def _rendered(trace: Trace, chat: Chat) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion."""
    return chat.prompt_ids(trace.messages[:-1]), completion_ids(trace, chat)


def label_source(model: Model, chat: Chat, k: int) -> LabelSource:
    """What a reader of the labels has to know."""
    return LabelSource(k, model.name, model.identity, vocabulary_of(chat))


def to_be_labelled(row: Trace, model: Model, options: LabelOptions) -> Trace:
    """The row as it will be, but for its labels."""
    key = content_hash(
        row.row_key, "label", row.messages, row.finish_reason, model.identity,
        template_text(options),
    )  # fmt: skip
    return msgspec.structs.replace(
        row, row_key=key, id=trace_id(row.problem_id, key), soft_labels=None,
        extra=with_source(row, "labelled_from"),
    )  # fmt: skip


def add_rows(
    found: Forecast,
    inputs: list[str],
    model: Model | None,
    out: Path,
    options: LabelOptions,
    *,
    fresh: bool,
) -> None:
    """Add to a forecast how many rows have to be labelled, and what that takes; without a model all of them."""
    there = {} if fresh else _labelled_before(out, None, options.soft_labels)
    num_rows = num_there = num_uncounted = num_tokens = 0
    for row in distinct(inputs):
        num_rows += 1
        if model is not None and to_be_labelled(row, model, options).row_key in there:
            num_there += 1
            continue
        if row.num_completion_tokens is None:
            num_uncounted += 1
            num_tokens += len((row.reasoning + row.response).encode()) // TEXT_BYTES_PER_TOKEN
        else:
            num_tokens += row.num_completion_tokens
    found.rows = {
        "wanted": num_rows, "there already": num_there, "to label": num_rows - num_there,
    }  # fmt: skip
    estimate = found.estimate
    estimate.tokens = num_tokens
    estimate.disk_bytes = label_bytes(num_tokens, options.soft_labels) + dataset.count_bytes(inputs)
    estimate.basis = f"{label_bytes(1, options.soft_labels)} bytes for each token of a completion"
    if num_uncounted:
        found.notes.append(
            f"{num_uncounted:,} rows were never counted: a token for {TEXT_BYTES_PER_TOKEN} bytes of text"
        )
    if model is not None:
        estimate.memory_bytes = weight_bytes(model.weights_folder)


def distinct(inputs: list[str]) -> Iterator[Trace]:
    """The rows of several datasets, each once; DataError for one id with two contents, whatever its labels."""
    seen: dict[str, str] = {}
    for reference in inputs:
        for trace in dataset.read_traces(reference):
            content = bytes_hash(encoder.encode(msgspec.structs.replace(trace, soft_labels=None)))
            if (before := seen.setdefault(trace.id, content)) is not content:
                if before != content:
                    raise dataset.conflict(trace.id)
                continue
            yield trace


def _labelled_before(out: Path, draft: Path | None, k: int) -> dict[str, _Place]:
    """Where the rows of other versions under `out` have their labels, by row key: those with `k` or more a token."""
    found: dict[str, _Place] = {}
    folders = versions.finished(out) + versions.partials(out)
    for folder in (folder for folder in folders if folder != draft):
        for row in dataset.scan(folder, dataset.RowKeys, skip_torn=True):
            labels = row.soft_labels
            if labels is not None and labels.k >= k and are_intact(folder, labels):
                found.setdefault(row.row_key, _Place(folder, labels))
    return found

"""Soft labels for existing completions: what `label` does to each row.

The conversation is rendered with the teacher's chat template. One forward pass gives the teacher's distribution at
each token of the completion.

A labelled row has a new key: the hash of the source row's key, its text and the teacher. So two teachers make two
rows from one. `extra` stores the id of the source row as `labelled_from`. As in `generate`, the number of labels
per token is not part of the key.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.base.hashing import bytes_hash, content_hash
from distillpipe.base.option import hashed
from distillpipe.base.options import NO_TEMPLATE_OPTIONS, LabelOptions, Sampling
from distillpipe.base.progress import say
from distillpipe.base.records import SoftLabels, Trace, trace_id, with_source
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.data.forecast import TEXT_BYTES_PER_TOKEN, Forecast, weight_bytes
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.jsonl import encoder
from distillpipe.data.store.label_carry import are_intact
from distillpipe.data.store.labels import LabelSource, label_bytes, read_labels
from distillpipe.data.store.writer import Writer, check_plan, give_up_failed
from distillpipe.engines.base import Answer, Completion, Engine, Request
from distillpipe.engines.drive import drive, metered
from distillpipe.models.chat import Chat, chat_template_text
from distillpipe.models.lookup import Model
from distillpipe.models.tokens import completion_ids
from distillpipe.models.vocabulary import vocabulary_of

TOO_LONG = "too_long_for_teacher"
EMPTY = "empty_completion"
UNUSED_SAMPLING = Sampling(temperature=1, top_p=1, max_tokens=1)  # labelling samples nothing


def template_text(options: LabelOptions) -> str | None:
    """The text of the chat template in the options; None for the teacher's own."""
    return None if options.chat_template is None else chat_template_text(options.chat_template)


class _StoredLabels(NamedTuple):
    """The location of a row's labels."""

    folder: Path
    labels: SoftLabels


class Labeller:
    """Reuses and computes the labels of one run."""

    def __init__(
        self, inputs: list[Dataset], model: Model, chat: Chat, options: LabelOptions, writer: Writer
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
        """Write the rows whose labels exist in other versions under `out`; note the keys of the others."""
        writer, k = self._writer, self._options.soft_labels
        existing = _labelled_before(out, writer.draft.path, k) if writer.draft.takes_over else {}
        num_reused = 0
        writer.counts.rows_read = 0
        for row in distinct_rows(self._inputs):
            writer.counts.rows_read += 1
            trace = labelled_row(row, self._model, self._options)
            if trace.id in writer.done:
                continue
            if (stored := existing.get(trace.row_key)) is None:
                self._missing.add(trace.row_key)
                continue
            writer.append(trace, read_labels(*stored).top(k))
            num_reused += 1
        writer.counts.rows_reused += num_reused
        if num_reused:
            say(f"reused the labels of {num_reused:,} rows of earlier versions")

    def label(self, open_engine: Callable[[], Engine]) -> None:
        """Label the missing rows; each is durable when it is done. The engine is opened only if needed.

        Raises Incomplete if rows failed, unless errors are accepted and other rows exist. Raises DataError if
        no row could be labelled.
        """
        writer = self._writer
        writer.forget_failed()
        if self._missing:
            self._label(open_engine())
        give_up_failed(writer, self._failed_rows, accepted=self._options.accept_errors)
        if not writer.counts.rows_kept:
            reasons = ", ".join(writer.counts.dropped)
            raise DataError(
                f"no row was labelled: {reasons}; give a teacher with a longer context "
                f"(rejected-*.jsonl in {writer.draft.path} has the measured values)"
            )
        for reason, dropped in writer.counts.dropped.items():
            say(f"{dropped.rows:,} rows rejected: {reason}")
        rows = distinct_rows(self._inputs)
        check_plan(writer, {labelled_row(row, self._model, self._options).id for row in rows})

    def _label(self, engine: Engine) -> None:
        writer, num_rows = self._writer, self._writer.counts.rows_read
        say(f"label: {len(self._missing):,} of {num_rows:,} rows, {engine.description}")
        with metered(writer, "label", num_rows, num_rows - len(self._missing)) as meter:

            def keep(outcome: Completion | Answer) -> None:
                assert isinstance(outcome, Completion)  # servers do not label, so no Answer comes
                writer.append(self._in_flight.pop(outcome.key), outcome.labels)
                meter.add_scored(len(outcome.token_ids))

            drive(
                engine,
                self._requests(engine.context_length),
                writer,
                keep=keep,
                row_of=lambda outcome: self._in_flight.pop(outcome.key),
            )

    def _requests(self, context_length: int) -> Iterator[Request]:
        pending = set(self._missing)
        for row in distinct_rows(self._inputs):
            trace = labelled_row(row, self._model, self._options)
            if trace.row_key not in pending:
                continue
            pending.remove(trace.row_key)
            if len(trace.messages) < 2 or trace.messages[-1].role != "assistant":
                raise DataError(
                    f"row {trace.id}: its messages must end with an answer of the assistant: repair or remove "
                    "the row"
                )
            rendered = guarded(_token_ids, trace, self._chat)
            if isinstance(rendered, InternalError):
                self._writer.reject(trace, REASON, rendered.description)
                continue
            prompt, completion = rendered
            num_tokens = len(prompt) + len(completion)
            if num_tokens > context_length or not completion:
                reason = TOO_LONG if completion else EMPTY
                self._writer.reject(trace, reason, num_tokens)
                continue
            self._in_flight[trace.row_key] = trace
            yield Request(
                trace.row_key, prompt, UNUSED_SAMPLING, seed=0, soft_labels=self._options.soft_labels,
                completion_ids=completion,
            )  # fmt: skip

    def _failed_rows(self, keys: list[str]) -> Iterator[Trace]:
        """The rows with these keys, without labels."""
        pending = set(keys)
        for row in distinct_rows(self._inputs):
            trace = labelled_row(row, self._model, self._options)
            if trace.row_key in pending:
                pending.remove(trace.row_key)
                yield trace


def _token_ids(trace: Trace, chat: Chat) -> tuple[list[int], list[int]]:
    """Token ids of the prompt and of the completion."""
    mode = chat.mode_of(trace.messages[-1])
    return chat.prompt_ids(trace.messages[:-1], mode), completion_ids(trace, chat, mode)


def label_source(model: Model, chat: Chat, k: int) -> LabelSource:
    """The facts that a reader of the labels needs: model, vocabulary, labels per token."""
    return LabelSource(k, model.name, model.identity, vocabulary_of(chat))


def labelled_row(row: Trace, model: Model, options: LabelOptions) -> Trace:
    """The labelled row, before its labels are added."""
    # options that were added later leave no trace at their default, so that older rows keep their keys
    more = () if options.template == NO_TEMPLATE_OPTIONS else (hashed(options.template),)
    key = content_hash(
        row.row_key, "label", row.messages, row.finish_reason, model.identity,
        template_text(options), *more,
    )  # fmt: skip
    return msgspec.structs.replace(
        row, row_key=key, id=trace_id(row.problem_id, key), soft_labels=None,
        extra=with_source(row, "labelled_from"),
    )  # fmt: skip


def forecast_labels(
    forecast: Forecast,
    inputs: list[Dataset],
    model: Model | None,
    out: Path,
    options: LabelOptions,
    *,
    fresh: bool,
) -> None:
    """Add to a forecast the number of rows to label and their cost; without a model all rows count."""
    existing = {} if fresh else _labelled_before(out, None, options.soft_labels)
    num_rows = num_existing = num_uncounted = num_tokens = 0
    for row in distinct_rows(inputs):
        num_rows += 1
        if model is not None and labelled_row(row, model, options).row_key in existing:
            num_existing += 1
            continue
        if row.num_completion_tokens is None:
            num_uncounted += 1
            num_tokens += len((row.reasoning + row.response).encode()) // TEXT_BYTES_PER_TOKEN
        else:
            num_tokens += row.num_completion_tokens
    forecast.rows = {
        "wanted": num_rows, "there already": num_existing, "to label": num_rows - num_existing,
    }  # fmt: skip
    estimate = forecast.estimate
    estimate.tokens = num_tokens
    estimate.disk_bytes = label_bytes(num_tokens, options.soft_labels) + dataset.count_bytes(inputs)
    estimate.basis = f"{label_bytes(1, options.soft_labels)} bytes per token of a completion"
    if num_uncounted:
        forecast.notes.append(
            f"{num_uncounted:,} rows have no token counts: estimated at {TEXT_BYTES_PER_TOKEN} bytes per token"
        )
    if model is not None:
        estimate.memory_bytes = weight_bytes(model.weights_folder)


def distinct_rows(inputs: list[Dataset]) -> Iterator[Trace]:
    """The rows of several datasets, each once. Raises DataError for one id with two contents, apart from labels."""
    content_of: dict[str, str] = {}
    for source in inputs:
        for trace in dataset.scan(source, Trace):
            content = bytes_hash(encoder.encode(msgspec.structs.replace(trace, soft_labels=None)))
            if (earlier := content_of.setdefault(trace.id, content)) is not content:
                if earlier != content:
                    raise dataset.conflict(trace.id)
                continue
            yield trace


def _labelled_before(out: Path, draft: Path | None, k: int) -> dict[str, _StoredLabels]:
    """The labels in other versions under `out` with at least `k` per token, by row key."""
    stored: dict[str, _StoredLabels] = {}
    folders = versions.finished(out) + versions.partials(out)
    for folder in (folder for folder in folders if folder != draft):
        for row in dataset.scan(folder, dataset.RowKeys, skip_torn=True):
            labels = row.soft_labels
            if labels is not None and labels.k >= k and are_intact(folder, labels):
                stored.setdefault(row.row_key, _StoredLabels(folder, labels))
    return stored

"""`filter --over-budget force`: cuts reasoning that is too long at a whole step and samples a new response.

The new rows are stored apart from the too long ones, in `forced-00000.jsonl` of the version. They are sampled rows:
each is durable when it ends, reused from other versions, and never paid for twice. Rules and verifiers then treat
them like any other row of the input.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, Forcing
from distillpipe.base.hashing import content_hash, seed_of
from distillpipe.base.option import hashed
from distillpipe.base.options import Budget
from distillpipe.base.progress import say
from distillpipe.base.records import Trace, trace_id, with_source
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import dataset, reuse, spending
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.jsonl import Stream, decode, encoder
from distillpipe.data.store.writer import Writer, incomplete
from distillpipe.engines import find_model, open_engine
from distillpipe.engines.base import (
    Answer,
    Completion,
    Engine,
    Refusal,
    Request,
    as_answer,
    as_unparsed,
)
from distillpipe.engines.budget import policy
from distillpipe.engines.budget.thoughts import ThoughtEditor
from distillpipe.engines.drive import drive, metered
from distillpipe.filters.rules import too_many_reasoning_tokens
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import AnyModel, Model
from distillpipe.models.tokens import find_tokenizer

PREFIX = "forced"

Selects = Callable[[Trace], bool]
"Whether the length is the only reason to drop a row."


def budget_of(forcing: Forcing, options: FilterOptions) -> Budget:
    """The budget for the reasoning."""
    return Budget(
        max_reasoning_tokens=options.max_reasoning_tokens, wait_text="", end_text=forcing.end_text
    )


def find_teacher(forcing: Forcing, *, weights: bool) -> AnyModel:
    """The teacher. Raises UsageError for a server without --tokenizer, which cannot continue a text.

    Without `weights`, those of a hub model are not downloaded.
    """
    assert forcing.teacher is not None  # otherwise nothing is forced
    model = find_model(forcing.teacher, "--teacher", forcing.engine, weights=weights)
    if not isinstance(model, Model) and forcing.tokenizer is None:
        raise UsageError(
            "--over-budget force on a server needs --tokenizer MODEL: prompts are rendered here and "
            "continued over the server's /completions"
        )
    return model


def _chat(forcing: Forcing, model: AnyModel) -> Chat:
    """The teacher's chat template."""
    if isinstance(model, Model):
        return load_chat(model.tokenizer_folder, model.name)
    assert forcing.tokenizer is not None  # otherwise `find_teacher` has raised
    tokenizer = find_tokenizer(forcing.tokenizer)
    return load_chat(tokenizer.folder, tokenizer.name)


class _Started(NamedTuple):
    """A row in flight."""

    trace: Trace
    prompt_ids: list[int]
    thought_ids: list[int]
    "the reasoning, closed, with the text that begins the response"


class Forcer:
    """Samples new responses for the rows of one run."""

    def __init__(
        self,
        forcing: Forcing,
        teacher: AnyModel,
        options: FilterOptions,
        writer: Writer,
        *,
        allow_benchmark: bool,
    ) -> None:
        self._forcing = forcing
        self._options = options
        self._budget = budget_of(forcing, options)
        self._writer = writer
        self._model = teacher
        self._allow_benchmark = allow_benchmark
        self._in_flight: dict[str, _Started] = {}
        self._done: set[str] = set()
        self._num_without_room = 0
        self.errors: dict[str, InternalError] = {}
        "by the id of the source row"

    def force(self, inputs: list[Dataset], out: Path, selects: Selects) -> list[Dataset]:
        """Sample new responses for the rows of `inputs` that are too long and that `selects` accepts.

        Returns the files of the new rows. Raises Incomplete if requests failed, unless errors are accepted.
        """
        draft = self._writer.draft
        keys = {key for key, _ in self._over_budget(inputs, selects)}
        stream = Stream(draft.path, PREFIX, self._recovered)
        try:
            if draft.takes_over:
                missing = keys - self._done
                for trace in reuse.sampled_before(out, missing, PREFIX):
                    stream.append(encoder.encode(trace))
                    self._done.add(trace.row_key)
            if missing := keys - self._done:
                self._sample(inputs, selects, missing, stream)
        finally:
            stream.close()
        say(
            f"filter: {len(self._done):,} of {len(keys):,} rows over the budget have a new response"
        )
        paths = [draft.path / part.name for part in stream.parts]
        return [Dataset(str(path), path) for path in paths]

    def _over_budget(self, inputs: list[Dataset], selects: Selects) -> Iterator[tuple[str, Trace]]:
        """The rows to continue, each once, with the keys of the new rows."""
        seen: set[str] = set()
        for trace in dataset.read_training_traces(inputs, allow_benchmark=self._allow_benchmark):
            is_over = too_many_reasoning_tokens(trace, self._options) is not None
            if is_over and trace.finish_reason != "repetition" and trace.id not in seen:
                seen.add(trace.id)
                # an internal error is reported when the filter decides on the row
                if guarded(selects, trace) is True:
                    yield self._key(trace), trace

    def _key(self, trace: Trace) -> str:
        return content_hash(
            trace.row_key, "force", hashed(self._budget), hashed(self._forcing.sampling),
            self._model.identity, self._options.seed,
        )[:32]  # fmt: skip

    def _recovered(self, line: bytes, where: str) -> None:
        self._done.add(decode(line, msgspec.json.Decoder(dataset.RowKeys), where).row_key)

    def _sample(
        self, inputs: list[Dataset], selects: Selects, missing: set[str], stream: Stream
    ) -> None:
        writer = self._writer
        chat = _chat(self._forcing, self._model)
        engine = open_engine(self._model, chat, self._forcing.engine, writer.draft)
        writer.forget_failed()
        rows = ((key, trace) for key, trace in self._over_budget(inputs, selects) if key in missing)
        requests = self._requests(rows, chat, engine)
        say(f"filter: {len(missing):,} rows over the budget, {engine.description}")
        with metered(writer, "force", len(missing), 0) as meter:

            def keep(outcome: Completion | Answer) -> None:
                assert isinstance(outcome, Completion)  # token ids were sent, so no Answer comes
                started = self._in_flight.pop(outcome.key)
                stream.append(encoder.encode(self._new_row(started, outcome, chat)))
                self._done.add(outcome.key)
                # the working time of filter is not recorded
                meter.add_sampled(len(outcome.token_ids), is_timed=False)

            def refuse(refusal: Refusal) -> None:
                del self._in_flight[refusal.key]
                self._num_without_room += 1

            drive(
                engine,
                requests,
                writer,
                keep=keep,
                row_of=lambda outcome: self._in_flight.pop(outcome.key).trace,
                refuse=refuse,
            )
        spending.close_books(writer.draft)
        if self._num_without_room:
            say(
                f"filter: {self._num_without_room:,} rows have no room for a response: they stay too long"
            )
        if writer.num_failed and not self._forcing.accept_errors:
            raise incomplete(writer)

    def _requests(
        self, rows: Iterator[tuple[str, Trace]], chat: Chat, engine: Engine
    ) -> Iterator[Request]:
        editor = ThoughtEditor(chat, self._budget)
        sampling = self._forcing.sampling
        for key, trace in rows:
            result = guarded(self._start, trace, chat, editor, engine.context_length)
            if isinstance(result, InternalError):
                self.errors[trace.id] = result
            elif result is None:
                self._num_without_room += 1
            else:
                started, limit = result
                self._in_flight[key] = started
                ids = started.prompt_ids + started.thought_ids
                seed = seed_of(self._options.seed, trace.problem_id, trace.sample)
                yield Request(key, ids, sampling, seed, limit=limit)

    def _start(
        self, trace: Trace, chat: Chat, editor: ThoughtEditor, context: int
    ) -> tuple[_Started, int] | None:
        """A row with its reasoning cut and closed, and the tokens for its response; None without room."""
        prompt_ids = chat.prompt_ids(trace.messages[:-1])
        room, max_tokens = context - len(prompt_ids), self._forcing.sampling.max_tokens
        limits = policy.token_limits(self._budget, max_tokens, room, editor.delimiters)
        if limits is None or limits.thought is None:
            return None
        thought = editor.read(chat.completion_ids(trace.messages[-1])).ids
        longest = editor.delimiters.opening + limits.thought + 1
        closed = editor.force_end(thought[:longest], limits)
        return _Started(trace, prompt_ids, closed), limits.completion - len(closed)

    def _new_row(self, started: _Started, outcome: Completion, chat: Chat) -> Trace:
        trace = started.trace
        whole = outcome._replace(token_ids=started.thought_ids + outcome.token_ids)
        answer = guarded(as_answer, whole, chat, started.prompt_ids)
        if isinstance(answer, InternalError):
            self.errors[trace.id] = answer
            answer = as_unparsed(whole, chat)
        return msgspec.structs.replace(
            trace, id=trace_id(trace.problem_id, outcome.key), row_key=outcome.key,
            messages=[*trace.messages[:-1], answer.message], finish_reason=answer.finish_reason,
            num_tokens=answer.num_tokens, served_by=answer.served_by, seed=self._options.seed,
            forced_end=True, verdict=None, verdict_reason=None, answer=None, soft_labels=None,
            extra=with_source(trace, "forced_from"),
        )  # fmt: skip

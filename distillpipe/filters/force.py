"""`filter --over-budget force`: a thought that is too long is ended at a whole step, and the teacher answers.

What comes of it are rows of their own, beside those that were too long: `forced-00000.jsonl` in the version.
They are sampled, so they are durable one by one, taken over from other versions, and never bought twice;
the rules and the verifier then look at them as at any other row of the input.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash, seed_of
from distillpipe.base.options import Budget, EngineOptions, FilterOptions, Sampling
from distillpipe.base.progress import progress, say
from distillpipe.base.records import Trace, trace_id, with_source
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data.store import dataset, reuse, spending
from distillpipe.data.store.jsonl import Stream, decode, encoder
from distillpipe.data.store.manifest import ModelUsed
from distillpipe.data.store.writer import Writer, incomplete
from distillpipe.engines import find_model, open_engine
from distillpipe.engines.base import (
    Completion,
    Engine,
    Failure,
    Refusal,
    Request,
    as_answer,
    as_unparsed,
)
from distillpipe.engines.budget import policy
from distillpipe.engines.budget.thoughts import ThoughtEditor
from distillpipe.filters.rules import too_many_reasoning_tokens
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import AnyModel, Model
from distillpipe.models.tokens import find_tokenizer

PREFIX = "forced"

Wanted = Callable[[Trace], bool]
"Whether a row has nothing against it but its length."


class Forcing(NamedTuple):
    """Who answers, and how."""

    teacher: str
    sampling: Sampling
    engine: EngineOptions
    end_text: str
    accept_errors: bool = False
    tokenizer: str | None = None
    "of a served teacher, whose prompts are rendered here"

    def budget(self, options: FilterOptions) -> Budget:
        """What the thoughts have to keep to."""
        return Budget(
            num_waits=0, min_reasoning_tokens=0,
            max_reasoning_tokens=options.max_reasoning_tokens, wait_text="", end_text=self.end_text,
            end_at="step",
        )  # fmt: skip

    def find(self, *, weights: bool = True) -> AnyModel:
        """The teacher; raises UsageError for one that cannot go on with a text that was begun."""
        model = find_model(self.teacher, "--teacher", self.engine, weights=weights)
        if not isinstance(model, Model) and self.tokenizer is None:
            raise UsageError(
                "--over-budget force on a server needs --tokenizer MODEL: thoughts are rendered here and "
                "continued over its /completions"
            )
        return model

    def chat(self, model: AnyModel) -> Chat:
        """Renders and reads for the teacher."""
        if isinstance(model, Model):
            return load_chat(model.tokenizer_folder, model.name)
        assert self.tokenizer is not None  # or `find` had raised
        tokenizer = find_tokenizer(self.tokenizer)
        return load_chat(tokenizer.folder, tokenizer.name)

    def used(self, out: Path) -> ModelUsed:
        """The teacher as the manifests under `out` name it."""
        return lookup.used("teacher", self.find(weights=False), out)


class _Begun(NamedTuple):
    """A row that is under way."""

    trace: Trace
    prompt_ids: list[int]
    thought_ids: list[int]
    "ended, with what begins the response"


class Forcer:
    """Has the rows of one run answered again."""

    def __init__(
        self, forcing: Forcing, options: FilterOptions, writer: Writer, *, allow_benchmark: bool
    ) -> None:
        self._forcing = forcing
        self._options = options
        self._budget = forcing.budget(options)
        self._writer = writer
        self._model = forcing.find()
        self._allow_benchmark = allow_benchmark
        self._begun: dict[str, _Begun] = {}
        self._done: set[str] = set()
        self._too_long = 0
        self.errors: dict[str, InternalError] = {}
        "by the ids of the rows that were to be answered"

    def force(self, inputs: list[str], out: Path, wanted: Wanted) -> list[str]:
        """Answer the rows of `inputs` that are too long and `wanted`; the files that hold the new rows.

        Raises Incomplete where requests failed, unless errors are accepted.
        """
        draft = self._writer.draft
        keys = {key for key, _ in self._over_budget(inputs, wanted)}
        stream = Stream(draft.path, PREFIX, self._recovered)
        try:
            if draft.takes_over:
                missing = keys - self._done
                for trace in reuse.sampled_before(out, missing, PREFIX):
                    stream.append(encoder.encode(trace))
                    self._done.add(trace.row_key)
            if missing := keys - self._done:
                self._sample(inputs, wanted, missing, stream)
        finally:
            stream.close()
        say(
            f"filter: {len(self._done):,} of {len(keys):,} rows over the budget were ended and answered"
        )
        return [str(draft.path / part.name) for part in stream.parts]

    def _over_budget(self, inputs: list[str], wanted: Wanted) -> Iterator[tuple[str, Trace]]:
        """The rows to be answered, each once, with the keys of what comes of them."""
        seen: set[str] = set()
        for trace in dataset.read_training_traces(inputs, allow_benchmark=self._allow_benchmark):
            is_over = too_many_reasoning_tokens(trace, self._options) is not None
            if is_over and trace.finish_reason != "repetition" and trace.id not in seen:
                seen.add(trace.id)
                if (
                    guarded(wanted, trace) is True
                ):  # an error is met again when the row is decided on
                    yield self._key(trace), trace

    def _key(self, trace: Trace) -> str:
        return content_hash(
            trace.row_key, "force", self._budget, self._forcing.sampling, self._model.identity,
            self._options.seed,
        )[:32]  # fmt: skip

    def _recovered(self, line: bytes, where: str) -> None:
        self._done.add(decode(line, msgspec.json.Decoder(reuse.Sampled), where).row_key)

    def _sample(self, inputs: list[str], wanted: Wanted, missing: set[str], stream: Stream) -> None:
        writer, counts = self._writer, self._writer.counts
        chat = self._forcing.chat(self._model)
        engine = open_engine(self._model, chat, self._forcing.engine, writer.draft)
        writer.forget_failed()
        rows = (found for found in self._over_budget(inputs, wanted) if found[0] in missing)
        requests = self._requests(rows, chat, engine)
        say(f"filter: {len(missing):,} rows over the budget, {engine.description}")
        with (
            progress("force", len(missing), 0) as advance,
            closing(engine.complete(requests)) as outcomes,
        ):
            for outcome in outcomes:
                begun = self._begun.pop(outcome.key)
                if isinstance(outcome, Failure):
                    writer.fail(begun.trace, outcome.error)
                elif isinstance(outcome, Completion):
                    stream.append(encoder.encode(self._answered(begun, outcome, chat)))
                    self._done.add(outcome.key)
                    counts.tokens_sampled += len(outcome.token_ids)
                    advance(1, len(outcome.token_ids))
                else:
                    assert isinstance(outcome, Refusal)  # token ids were sent, so no Answer comes
                    self._too_long += 1
        spending.close_books(writer.draft)
        if self._too_long:
            say(f"filter: {self._too_long:,} rows have no room for a response, and stay too long")
        if writer.num_failed and not self._forcing.accept_errors:
            raise incomplete(writer)

    def _requests(
        self, rows: Iterator[tuple[str, Trace]], chat: Chat, engine: Engine
    ) -> Iterator[Request]:
        editor = ThoughtEditor(chat, self._budget)
        sampling = self._forcing.sampling
        for key, trace in rows:
            begun = guarded(self._begin, trace, chat, editor, engine.context_length)
            if isinstance(begun, InternalError):
                self.errors[trace.id] = begun
            elif begun is None:
                self._too_long += 1
            else:
                self._begun[key], limit = begun
                ids = self._begun[key].prompt_ids + self._begun[key].thought_ids
                seed = seed_of(self._options.seed, trace.problem_id, trace.sample)
                yield Request(key, ids, sampling, seed, limit=limit)

    def _begin(
        self, trace: Trace, chat: Chat, editor: ThoughtEditor, context: int
    ) -> tuple[_Begun, int] | None:
        """A row with its thought ended, and the tokens that are left for its response; null where none are."""
        prompt_ids = chat.prompt_ids(trace.messages[:-1])
        room, most_tokens = context - len(prompt_ids), self._forcing.sampling.max_tokens
        allowed = policy.token_limits(self._budget, most_tokens, room, editor.delimiters)
        if allowed is None or allowed.thought is None:
            return None
        thought = editor.read(chat.completion_ids(trace.messages[-1])).ids
        most = editor.delimiters.opening + allowed.thought + 1
        ended = editor.force_end(thought[:most], allowed)
        return _Begun(trace, prompt_ids, ended), allowed.completion - len(ended)

    def _answered(self, begun: _Begun, outcome: Completion, chat: Chat) -> Trace:
        trace = begun.trace
        whole = outcome._replace(token_ids=begun.thought_ids + outcome.token_ids)
        answer = guarded(as_answer, whole, chat, begun.prompt_ids)
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

"""Pre-flight: check every row before training, while the rows are tokenized.

One error lists all rows that would train wrongly: rows longer than `--max-length` or than the context of the model,
truncated samples, rows without the end token or the end of the reasoning, and token ids without an embedding.
`--over-length drop` leaves longer rows out. `--over-length cut` keeps their first `--max-length` tokens, so a cut row
has no end token and does not teach the student to stop early. Dropped and cut rows are counted.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from distillpipe.base.errors import DataError
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, InternalError, check_share
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.store import dataset
from distillpipe.data.store.counts import Counts, Dropped, TeacherCounts
from distillpipe.models.chat import Chat
from distillpipe.training.rows.rows import Row, RowOutcome, rows_of
from distillpipe.training.student_config import StudentLimits

if TYPE_CHECKING:
    from distillpipe.training.teachers.soft_rows import SoftRows

NUM_NAMED = 3  # row ids quoted in an error
OVER_LENGTH = "over_length"  # the drop reason of a row that is too long


class RefusedRows(msgspec.Struct):
    """Rows that would train wrongly for one reason."""

    rows: int = 0
    tokens: int = 0
    "beyond the limit"
    longest: int = 0
    named: list[str] = []


class Preflight:
    """Tokenizes traces into rows and checks each row; `counts` and `refusals` grow with them."""

    def __init__(
        self,
        chat: Chat,
        options: TrainingOptions,
        limits: StudentLimits,
        num_shown: int = 1,
        soft_rows: "SoftRows | None" = None,
    ) -> None:
        """`soft_rows` adds the teachers' targets to the rows; None: training does not use them."""
        self.chat = chat
        self.counts = Counts()
        self.shown: list[Row] = []
        self.num_supervised = 0
        self.num_reasoned = 0
        self.longest = 0
        self.refusals: dict[str, RefusedRows] = {}
        self._first_error = ""
        self.options = options
        self._limits = limits
        self._soft_rows = soft_rows
        self._num_shown = num_shown
        self._known: dict[str, int] = {}

    def rows(self, traces: Iterable[Trace], advance: Callable[[int], None]) -> Iterator[Row]:
        """The rows to train on, in the order of the traces, without repeated ids.

        Raises DataError for one id with two contents. `check` reports refused rows after all rows were read; until
        then some refused rows are yielded too.
        """
        for trace, outcome in rows_of(traces, self.chat):
            advance(1)
            content = hash(
                (*outcome.ids, outcome.num_prompt) if isinstance(outcome, Row) else str(outcome)
            )
            if trace.id in self._known:
                if self._known[trace.id] != content:
                    raise dataset.conflict(trace.id)
                continue
            self._known[trace.id] = content
            self.counts.rows_read += 1
            if (row := self._admitted(trace, outcome)) is not None:
                yield row

    def _admitted(self, trace: Trace, outcome: RowOutcome) -> Row | None:
        """The row to train on, or None if it is dropped or refused."""
        teacher = self.counts.teachers.setdefault(trace.teacher or "unknown", TeacherCounts())
        if isinstance(outcome, DataError):
            self._refuse("wrong", str(outcome))
            return None
        if isinstance(outcome, InternalError):
            self._drop(REASON, trace)
            if not self.counts.num_internal_errors:
                self._first_error = f"{trace.id}: {outcome.description}"
            self.counts.num_internal_errors += 1
            return None
        row = self._fitted(self._labelled(trace, outcome))
        if row is None:
            self._drop(OVER_LENGTH, trace, self._supervised(outcome).num_supervised)
            return None
        self._inspect(trace, row, is_cut=len(row.ids) < len(outcome.ids))
        if len(self.shown) < self._num_shown:
            self.shown.append(row)  # before `_supervised`, so that it still has its prompt length
        row = self._supervised(row)
        self.counts.rows_kept += 1
        teacher.rows_kept += 1
        teacher.tokens_kept += row.num_supervised
        self.num_supervised += row.num_supervised
        self.longest = max(self.longest, len(row.ids))
        if num_labelled := row.num_labelled:
            self.counts.rows_taught += 1
            self.counts.tokens_taught += num_labelled
        return row

    def _supervised(self, row: Row) -> Row:
        """The row with a loss on its prompt too, if --train-on-prompt is given."""
        return row.with_prompt() if self.options.train_on_prompt else row

    def _labelled(self, trace: Trace, row: Row) -> Row:
        """The row with the teachers' targets."""
        if self._soft_rows is None:
            return row
        try:
            return self._soft_rows.with_targets(trace, row)
        except DataError as error:
            self._refuse("wrong", str(error))
            return row

    def _fitted(self, row: Row) -> Row | None:
        """The row within `--max-length`, according to --over-length; None if it is dropped."""
        limit = self.options.max_length
        over = len(row.ids) - limit
        if over <= 0:
            return row
        if self.options.over_length == "refuse":
            self._refuse("over_length", row.id, over, len(row.ids))
            return row
        if self.options.over_length == "cut" and row.num_prompt < limit:
            self.counts.rows_cut += 1
            self.counts.tokens_cut += over
            return row.cut(limit)
        return None

    def _drop(self, reason: str, trace: Trace, tokens: int = 0) -> None:
        """Count a dropped row."""
        self.counts.rows_rejected += 1
        teacher = self.counts.teachers.setdefault(trace.teacher or "unknown", TeacherCounts())
        teacher.dropped[reason] = teacher.dropped.get(reason, 0) + 1
        dropped = self.counts.dropped.setdefault(reason, Dropped())
        dropped.rows += 1
        dropped.tokens += tokens

    def _inspect(self, trace: Trace, row: Row, *, is_cut: bool) -> None:
        """Record everything that is wrong with a row."""
        positions = self._limits.num_positions
        if positions is not None and len(row.ids) > positions:
            self._refuse("positions", row.id, len(row.ids) - positions, len(row.ids))
        if max(row.ids) >= self._limits.vocabulary_size:
            self._refuse("vocabulary", row.id, longest=max(row.ids))
        if trace.is_truncated:
            self._refuse("truncated", row.id)
        if is_cut:
            return
        if row.ids[-1] not in self.chat.end_ids:  # the student would never learn to stop
            self._refuse("no_end", row.id)
        if trace.reasoning:
            self.num_reasoned += 1
            if not self._ends_thought(row):
                self._refuse("no_end_of_reasoning", row.id)

    def _ends_thought(self, row: Row) -> bool:
        if self.chat.close_id is not None:
            return self.chat.close_id in row.ids[row.num_prompt :]
        return self.chat.turn.tags.close in self.chat.text(row.ids[row.num_prompt :])

    def _refuse(self, reason: str, named: str, tokens: int = 0, longest: int = 0) -> None:
        refused = self.refusals.setdefault(reason, RefusedRows())
        refused.rows += 1
        refused.tokens += tokens
        refused.longest = max(refused.longest, longest)
        if len(refused.named) < NUM_NAMED:
            refused.named.append(named)

    def check(self) -> None:
        """Raise DataError if any row would train wrongly; call it after all rows were read."""
        if not self.counts.rows_read:
            raise DataError("no rows to train on: all inputs are empty")
        check_share(
            self.counts.num_internal_errors, self.counts.rows_read, accepted=False,
            show=f"distill show DATASET --row {self._first_error.partition(':')[0]}",
            way_out=f"nothing was trained. The first is {self._first_error}: remove these rows from the input",
        )  # fmt: skip
        messages = [self._message(reason, refused) for reason, refused in self.refusals.items()]
        if messages:
            raise DataError("; also, ".join(messages))
        if not self.counts.rows_kept:
            raise DataError(
                f"no rows to train on: all {self.counts.rows_read:,} are longer than --max-length "
                f"{self.options.max_length:,}, and --over-length {self.options.over_length} keeps none"
            )
        if self._soft_rows is not None and not self.counts.tokens_taught:
            raise DataError(
                f"none of the {self.counts.rows_kept:,} rows has soft labels: make them with `distill label` "
                "or `distill generate --soft-labels`, or give --teacher, or leave --kd-weight out"
            )

    def enter(self, counts: Counts) -> None:
        """Copy the counts of the rows into the counts of a version."""
        for name in (
            "rows_read",
            "rows_kept",
            "rows_by_input",
            "rows_rejected",
            "rows_cut",
            "tokens_cut",
            "rows_taught",
            "tokens_taught",
            "dropped",
            "num_internal_errors",
        ):
            setattr(counts, name, getattr(self.counts, name))
        counts.teachers = self.counts.teachers

    def _message(self, reason: str, refused: RefusedRows) -> str:
        """The error message for one reason: the number of rows, some ids, and what to do."""
        rows = f"{refused.rows:,} of {self.counts.rows_read:,} rows"
        named = ", ".join(refused.named) + (", ..." if refused.rows > len(refused.named) else "")
        over = (
            f"{refused.tokens:,} tokens in all (the longest row has {refused.longest:,}; {named})"
        )
        match reason:
            case "over_length":
                return (
                    f"{rows} are longer than --max-length {self.options.max_length:,} tokens, {over}: give "
                    f"--max-length {refused.longest}, shorten them with `distill filter "
                    "--max-reasoning-tokens`, or give --over-length drop or cut"
                )
            case "positions":
                positions = self._limits.num_positions
                return (
                    f"{rows} are longer than the context of the student, {positions:,} positions, {over}: give "
                    "a larger --rope-theta, which extends the context, or a smaller --max-length with "
                    "--over-length drop or cut"
                )
            case "vocabulary":
                return (
                    f"{rows} have token ids of up to {refused.longest:,}, and the student has embeddings for "
                    f"{self._limits.vocabulary_size:,} ({named}): its tokenizer belongs to another model, or the "
                    "embeddings were never resized for it; give a student whose tokenizer and embeddings match"
                )
            case "truncated":
                return (
                    f"{rows} were truncated when they were sampled, so the student would learn to stop "
                    f"mid-sentence ({named}): drop them with `distill filter`"
                )
            case "no_end" | "no_end_of_reasoning":
                what = "end token" if reason == "no_end" else "end of their reasoning"
                return f"{rows} lack their {what} ({named}): give another --chat-template"
            case _:
                more = f" (and {refused.rows - 1:,} more rows)" if refused.rows > 1 else ""
                return f"{refused.named[0]}{more}"

"""What is checked before any training, on every row, while the rows are made.

A row that would train wrongly is refused, all of them in one error: longer than `--max-length` or than the
model's positions, cut off when it was sampled, without its end token or the end of its reasoning among
the supervised ids, or with ids that the student has no embedding for. `--over-length drop` leaves longer rows
out; `cut` keeps their first `--max-length` ids, so that a cut row has lost its end token and teaches no one to
stop in mid-sentence. Both are counted.
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
from distillpipe.training.rows.rows import Made, Row, rows_of
from distillpipe.training.student_config import Limits

if TYPE_CHECKING:
    from distillpipe.training.teachers.soft_rows import SoftRows

NUM_NAMED = 3  # rows named in an error
OVER_LENGTH = "over_length"  # the reason of a row that is dropped


class Refusal(msgspec.Struct):
    """Rows that would train wrongly in one way."""

    rows: int = 0
    tokens: int = 0
    "over the limit"
    longest: int = 0
    named: list[str] = []


class Preflight:
    """Makes the rows of traces and checks each; `counts` and `refusals` grow with them."""

    def __init__(
        self,
        chat: Chat,
        options: TrainingOptions,
        limits: Limits,
        num_shown: int = 1,
        soft_rows: "SoftRows | None" = None,
    ) -> None:
        """`soft_rows` finds the soft labels of the rows; None: they are not trained on."""
        self.chat = chat
        self.counts = Counts()
        self.shown: list[Row] = []
        self.num_supervised = 0
        self.num_reasoned = 0
        self.longest = 0
        self.refusals: dict[str, Refusal] = {}
        self._first_error = ""
        self.options = options
        self._limits = limits
        self._soft_rows = soft_rows
        self._num_shown = num_shown
        self._known: dict[str, int] = {}

    def rows(self, traces: Iterable[Trace], advance: Callable[[int], None]) -> Iterator[Row]:
        """The rows to train on, in the order of the traces, each id once.

        Raises DataError for one id with two contents. What is refused is said by `check`, when all rows
        were looked at; until then a refused row may be among these.
        """
        for trace, made in rows_of(traces, self.chat):
            advance(1)
            content = hash((*made.ids, made.num_prompt) if isinstance(made, Row) else str(made))
            if trace.id in self._known:
                if self._known[trace.id] != content:
                    raise dataset.conflict(trace.id)
                continue
            self._known[trace.id] = content
            self.counts.rows_read += 1
            if (row := self._admitted(trace, made)) is not None:
                yield row

    def _admitted(self, trace: Trace, made: Made) -> Row | None:
        """The row as it is trained on; None where it is dropped or cannot be trained on."""
        teacher = self.counts.teachers.setdefault(trace.teacher or "unknown", TeacherCounts())
        if isinstance(made, DataError):
            self._refuse("wrong", str(made))
            return None
        if isinstance(made, InternalError):
            self._drop(REASON, trace)
            if not self.counts.num_internal_errors:
                self._first_error = f"{trace.id}: {made.description}"
            self.counts.num_internal_errors += 1
            return None
        row = self._fitted(self._labelled(trace, made))
        if row is None:
            self._drop(OVER_LENGTH, trace, self._supervised(made).num_supervised)
            return None
        self._look(trace, row, is_cut=len(row.ids) < len(made.ids))
        if len(self.shown) < self._num_shown:
            self.shown.append(row)  # which knows where its prompt ends
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
        """The row with a loss on all that is trained on."""
        return row.with_prompt() if self.options.train_on_prompt else row

    def _labelled(self, trace: Trace, row: Row) -> Row:
        """The row with its soft labels."""
        if self._soft_rows is None:
            return row
        try:
            return self._soft_rows.taught(trace, row)
        except DataError as error:
            self._refuse("wrong", str(error))
            return row

    def _fitted(self, row: Row) -> Row | None:
        """The row within `--max-length`, as `--over-length` says."""
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
        """Count a row that is left out."""
        self.counts.rows_rejected += 1
        teacher = self.counts.teachers.setdefault(trace.teacher or "unknown", TeacherCounts())
        teacher.dropped[reason] = teacher.dropped.get(reason, 0) + 1
        dropped = self.counts.dropped.setdefault(reason, Dropped())
        dropped.rows += 1
        dropped.tokens += tokens

    def _look(self, trace: Trace, row: Row, *, is_cut: bool) -> None:
        """Note what is wrong with a row that is to be trained on."""
        positions = self._limits.num_positions
        if positions is not None and len(row.ids) > positions:
            self._refuse("positions", row.id, len(row.ids) - positions, len(row.ids))
        if max(row.ids) >= self._limits.vocabulary_size:
            self._refuse("vocabulary", row.id, longest=max(row.ids))
        if trace.is_truncated:
            self._refuse("truncated", row.id)
        if is_cut:
            return
        if row.ids[-1] not in self.chat.end_ids:
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
        found = self.refusals.setdefault(reason, Refusal())
        found.rows += 1
        found.tokens += tokens
        found.longest = max(found.longest, longest)
        if len(found.named) < NUM_NAMED:
            found.named.append(named)

    def check(self) -> None:
        """Refuse, with the counts, what would train wrongly; call it when all rows were made."""
        if not self.counts.rows_read:
            raise DataError("no rows to train on: every input is empty")
        check_share(
            self.counts.num_internal_errors, self.counts.rows_read, accepted=False,
            show=f"distill show DATASET --row {self._first_error.partition(':')[0]}",
            way_out=f"nothing was trained. The first is {self._first_error}: leave these rows out",
        )  # fmt: skip
        said = [self._said(reason, found) for reason, found in self.refusals.items()]
        if said:
            raise DataError("; besides, ".join(said))
        if not self.counts.rows_kept:
            raise DataError(
                f"no rows to train on: all {self.counts.rows_read:,} are longer than --max-length "
                f"{self.options.max_length:,}, and --over-length {self.options.over_length} leaves none"
            )
        if self._soft_rows is not None and not self.counts.tokens_taught:
            raise DataError(
                f"none of the {self.counts.rows_kept:,} rows has soft labels: make them with `distill label`, "
                "or `distill generate --soft-labels`, or give --teacher, or leave --kd-weight out"
            )

    def enter(self, counts: Counts) -> None:
        """Enter what was counted of the rows into the counts of a version."""
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

    def _said(self, reason: str, found: Refusal) -> str:
        """One way of being wrong: how many rows, which, and what to do."""
        rows = f"{found.rows:,} of {self.counts.rows_read:,} rows"
        named = ", ".join(found.named) + (", ..." if found.rows > len(found.named) else "")
        over = f"{found.tokens:,} tokens in all (the longest row has {found.longest:,}; {named})"
        match reason:
            case "over_length":
                return (
                    f"{rows} are longer than --max-length {self.options.max_length:,} tokens, {over}: give "
                    f"--max-length {found.longest}, shorten them with `distill filter "
                    "--max-reasoning-tokens`, or give --over-length drop or cut"
                )
            case "positions":
                positions = self._limits.num_positions
                return (
                    f"{rows} are longer than the {positions:,} positions of the student, {over}: give "
                    "a larger --rope-theta, which stretches them, or a smaller --max-length with --over-length "
                    "drop or cut"
                )
            case "vocabulary":
                return (
                    f"{rows} have ids of up to {found.longest:,}, the student has embeddings for "
                    f"{self._limits.vocabulary_size:,} ({named}): its tokenizer belongs to another model, or has "
                    "tokens that it was never resized for; nothing is resized here"
                )
            case "truncated":
                return (
                    f"{rows} were cut off when they were sampled, so the student would learn to stop in "
                    f"mid-sentence ({named}): `distill filter` drops them"
                )
            case "no_end" | "no_end_of_reasoning":
                what = "end token" if reason == "no_end" else "end of their reasoning"
                return f"{rows} lack their {what} ({named}): give another --chat-template"
            case _:
                more = f" (and {found.rows - 1:,} more rows)" if found.rows > 1 else ""
                return f"{found.named[0]}{more}"

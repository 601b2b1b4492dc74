"""Rows whose requests failed: the same command tries them again, or goes on without them."""

from collections.abc import Callable, Iterable

from distillpipe.base.errors import Incomplete
from distillpipe.base.records import Trace
from distillpipe.dataset import Writer
from distillpipe.versions import ENGINE_ERROR, ERRORS_FILE

ALSO = "with --accept-errors it then goes on without them"


def incomplete(writer: Writer, way_out: str = ALSO) -> Incomplete:
    """What to raise when a run ends with failed rows."""
    failed = writer.failed()
    return Incomplete(
        f"{len(failed):,} rows failed (the first: {failed[0].error}), all are listed in "
        f"{writer.draft.path / ERRORS_FILE}: the same command tries them again, {way_out}"
    )


def give_up_failed(
    writer: Writer, rows_of: Callable[[list[str]], Iterable[Trace]], *, accepted: bool
) -> None:
    """Reject the failed rows where errors are accepted; `rows_of` row keys gives each as far as it had come.

    Raises Incomplete where they are not, or where there is no other row.
    """
    if not writer.num_failed:
        return
    if not accepted or not writer.counts.rows_kept:
        raise incomplete(writer, "there is no other row" if accepted else ALSO)
    errors = {row.row_key: row.error for row in writer.failed()}
    for trace in rows_of(list(errors)):
        writer.reject(trace, ENGINE_ERROR, errors[trace.row_key])
    writer.draft.save()  # its counts say that rows were given up
    writer.forget_failed()

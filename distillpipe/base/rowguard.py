"""The one place where an unexpected exception becomes the error of a single row.

    judged = guarded(judge, trace)
    if isinstance(judged, InternalError): ...       the row becomes unverifiable, or is rejected; the run goes on

An unexpected exception is a bug, but it costs one row and not the run. Errors that the user can fix (a
`DistillError`, an error of the disk) concern the whole run and are raised. An OSError without an errno does not
come from the disk, so it counts as unexpected. Rows lost in this way are counted and reported; more than 1% of a
version stop the run, unless the user accepts them.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from distillpipe.base.encoding import escaped
from distillpipe.base.errors import (
    Abandoned,
    CannotRenderError,
    DistillError,
    UserCodeError,
    summary,
)
from distillpipe.base.progress import say

P = ParamSpec("P")
R = TypeVar("R")

REASON = "internal_error"  # the drop reason of such a row, and the prefix of its verdict reason
USER_CODE = "user code "  # the prefix of an error in a function of the user
MAX_SHARE = 0.01  # of the rows of a version
_MAX_CHARACTERS = 200
_PACKAGE = Path(__file__).parents[1]


class InternalErrors(DistillError):
    """Too many rows met an unexpected exception. The version stays unfinished and can be resumed."""


class InternalError(NamedTuple):
    """An unexpected exception in the work on one row."""

    description: str
    "`KeyError: 'log' (distillpipe/verify/math/evaluate.py:43)`"

    @property
    def reason(self) -> str:
        """The same, as the reason of a verdict."""
        return f"{REASON}: {self.description}"


def guarded(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R | InternalError:
    """Call `work` on one row: return its result, or the unexpected exception as an InternalError.

    Raises what concerns the whole run: DistillError, Abandoned, and OSError with an errno. A MemoryError belongs to
    the row, because one text may ask for too much. On a machine without memory more rows fail than are tolerated.
    """
    try:
        return work(*arguments, **options)
    except (CannotRenderError, UserCodeError) as error:
        # The template fails on this conversation only: one that fails on all is refused before sampling.
        return InternalError(escaped(str(error)))
    except (DistillError, Abandoned):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        return InternalError(_describe(error))
    except Exception as error:  # noqa: BLE001 - the one blind except: a bug costs its row, not the run
        return InternalError(_describe(error))


def is_internal_error(reason: str | None, verdict_reason: str | None) -> bool:
    """Whether a row was rejected, or could not be judged, because of an unexpected exception."""
    return reason == REASON or (verdict_reason or "").startswith(f"{REASON}:")


def too_many(num_errors: int, num_rows: int) -> bool:
    """Whether more rows have internal errors than a version may hold without --accept-errors."""
    return num_errors > MAX_SHARE * num_rows


def whose(message: str) -> str:
    """The source of an internal error: `distillpipe itself`, or a function of the user, `user code checks:check`."""
    message = message.removeprefix(f"{REASON}: ")
    return message.partition(": ")[0] if message.startswith(USER_CODE) else "distillpipe itself"


def check_share(
    num_errors: int, num_rows: int, *, accepted: bool, show: str, way_out: str, first: str = ""
) -> None:
    """Report the number of rows with internal errors. Raises InternalErrors if there are too many.

    `show` is the command that shows such a row, `way_out` says what to do about too many of them. `first` is
    the message of the first error.
    """
    if not num_errors:
        return
    owner = whose(first)
    next_step = (
        f"fix the function; `{show}` shows such a row"
        if owner.startswith(USER_CODE)
        else f"please report it with a row, which `{show}` shows"
    )
    message = f"{num_errors:,} of {num_rows:,} rows met an error of {owner} ({REASON}): {next_step}"
    if too_many(num_errors, num_rows) and not accepted:
        raise InternalErrors(f"{message}. These are more than {MAX_SHARE:.0%}: {way_out}")
    say(f"warning: {message}")


def _describe(error: Exception) -> str:
    """The error, and the source lines where it was raised: the last one of ours, and that of a library below it."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    ours = [frame for frame in frames if _is_ours(frame)]
    last = [*ours[-1:], *(frame for frame in frames[-1:] if not _is_ours(frame))]
    places = ", ".join(f"{_short_path(frame.filename)}:{frame.lineno}" for frame in last)
    return escaped(f"{summary(error, _MAX_CHARACTERS)} ({places})")


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(_PACKAGE)


def _short_path(name: str) -> str:
    """The path of a source file below its package's folder, or its name if it is of no package."""
    path = Path(name)
    site_packages = (folder for folder in path.parents if folder.name == "site-packages")
    for root in (_PACKAGE.parent, *site_packages):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name

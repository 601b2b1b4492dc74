"""The one guard around the work on a single row.

    judged = guarded(judge, trace)
    if isinstance(judged, InternalError): ...       the row becomes unverifiable, or is rejected; the run goes on

An exception that nobody foresaw is a bug, but it is a bug on one row: it costs that row and no other. What a
person can mend (a `DistillError`, an error of the disk) concerns the run and passes; an OSError that has no number
comes from no disk, but from code that ran out of time or means something else by it. How many rows were lost this
way is counted, said, and no more than 1% of a version unless the user accepts it.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from distillpipe.encoding import escaped
from distillpipe.errors import Abandoned, CannotRenderError, DistillError
from distillpipe.progress import say

P = ParamSpec("P")
R = TypeVar("R")

REASON = "internal_error"  # of a row that was rejected, and how the reason of a verdict begins
MAX_SHARE = 0.01  # of the rows of a version
_MAX_CHARACTERS = 200
_PACKAGE = Path(__file__).parent


class InternalErrors(DistillError):
    """Too many rows met an exception that was not foreseen; the version stays as it is, to be taken up again."""


class InternalError(NamedTuple):
    """An exception that was not foreseen, in the work on one row."""

    said: str
    "`KeyError: 'log' (distillpipe/verify/evaluate.py:43)`"

    @property
    def reason(self) -> str:
        """As the reason of a verdict."""
        return f"{REASON}: {self.said}"


def guarded(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R | InternalError:
    """What `work` makes of a row, or the exception that it ended with; what concerns the run is raised.

    MemoryError is the row's: a text may ask for more than there is. A machine that is out of memory fails on
    more rows than are tolerated.
    """
    try:
        return work(*arguments, **options)
    except CannotRenderError as error:
        # of this conversation: a template that fails on every one is refused before
        return InternalError(escaped(str(error)))
    except (DistillError, Abandoned):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        return InternalError(_said(error))
    except Exception as error:  # noqa: BLE001 - the one place: a bug costs its row, not the run
        return InternalError(_said(error))


def is_internal_error(reason: str | None, verdict_reason: str | None) -> bool:
    """Whether a row was rejected, or not judged, for an exception that was not foreseen."""
    return reason == REASON or (verdict_reason or "").startswith(f"{REASON}:")


def too_many(num_errors: int, num_rows: int) -> bool:
    """Whether more rows met internal errors than a version may have without anyone's consent."""
    return num_errors > MAX_SHARE * num_rows


def check_share(num_errors: int, num_rows: int, *, accepted: bool, show: str, way_out: str) -> None:
    """Say how many rows met internal errors and how to report them; InternalErrors where they are too many.

    `show` is the command that shows such rows, `way_out` what to do about too many of them.
    """
    if not num_errors:
        return
    said = (
        f"{num_errors:,} of {num_rows:,} rows met an error of distillpipe itself ({REASON}): please report it "
        f"with a row, which `{show}` shows"
    )
    if too_many(num_errors, num_rows) and not accepted:
        raise InternalErrors(f"{said}. These are more than {MAX_SHARE:.0%}: {way_out}")
    say(f"warning: {said}")


def _said(error: Exception) -> str:
    """The error and where it arose: the last line of ours, and that of a library behind it.

    An error may fail at its own text: `traceback` says so in its place.
    """
    name = type(error).__name__
    told = str(traceback.TracebackException(type(error), error, None)).strip()
    said = next(iter(told.splitlines()), name)[:_MAX_CHARACTERS]
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__
    ]
    ours = [frame for frame in frames if _is_ours(frame)]
    last = [*ours[-1:], *(frame for frame in frames[-1:] if not _is_ours(frame))]
    places = ", ".join(f"{_short(frame.filename)}:{frame.lineno}" for frame in last)
    return escaped(f"{name if said == name else f'{name}: {said}'} ({places})")


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(_PACKAGE)


def _short(name: str) -> str:
    """A file of a package by its place in it; another by its name."""
    path = Path(name)
    for root in (_PACKAGE.parent, *(one for one in path.parents if one.name == "site-packages")):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name

"""Errors written for users: what is wrong, where, what was expected, and what to do now.

A mistake that the user can fix is a `DistillError` and prints as one line. Any other exception is a bug and keeps its
traceback. `Interrupted` is not an `Exception`, so that no error handler swallows it.
"""

import traceback

from distillpipe.base.redaction import redact


class DistillError(Exception):
    """A problem that the user can fix. The command exits with `exit_code`.

    The first argument is the message, on one line; more arguments are lines of a list below it. Keys are redacted.
    """

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(redact, lines))

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(DistillError):
    """The command line, the environment or the recipe is wrong."""

    exit_code = 2


class DataError(DistillError):
    """The content of a file is wrong; the message names file and line."""


class CannotRenderError(UsageError):
    """A chat template fails on a conversation."""


class EngineError(DistillError):
    """A model could not be loaded, or died while sampling; the version can be resumed."""


class MissingDependencyError(DistillError):
    """An optional package is not installed; the message names the command that installs it."""


class UserCodeError(DistillError):
    """A verifier or rule of the user's own failed on a row: it costs that row."""


class Incomplete(DistillError):
    """Some rows failed; the same command tries them again."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its class name if the message is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def summary(error: BaseException, max_characters: int) -> str:
    """`KeyError: 'unit'`: class and first line of any exception, the line cut to `max_characters`."""
    name = type(error).__name__
    # The text of an exception may raise itself; traceback then says so instead.
    text = str(traceback.TracebackException(type(error), error, None)).strip()
    line = next(iter(text.splitlines()), name)[:max_characters]
    return name if line == name else f"{name}: {line}"


class Abandoned(RuntimeError):
    """Work was cancelled because its result is no longer needed; it says nothing about the row."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP, raised where no file is half written."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number

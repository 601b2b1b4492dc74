"""Errors for the person who reads them: what, where, got and expected, what to do now.

A user's mistake is a `DistillError` and prints as one line; anything else is a bug and keeps its
traceback. `Interrupted` is no `Exception`, so that no handler for errors swallows it.
"""

from distillpipe.base.redaction import redact


class DistillError(Exception):
    """A problem that the user can mend. `exit_code` is what the command exits with.

    Its text is one line; what stands below it in a list are more arguments, a line each. No key stands in it.
    """

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(redact, lines))

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class UsageError(DistillError):
    """The command line, the environment or the recipe asks for something that does not exist."""

    exit_code = 2


class DataError(DistillError):
    """A file holds something other than what it should: names file and line."""


class CannotRenderError(UsageError):
    """A chat template fails on a conversation: on this one, or on any."""


class EngineError(DistillError):
    """A model could not be loaded, or died while it was sampling; the version stays resumable."""


class MissingDependencyError(DistillError):
    """An optional package is not installed: names the command that installs it."""


class UserCodeError(DistillError):
    """A verifier or rule of the user's own failed on a row: it costs that row."""


class Incomplete(DistillError):
    """Rows are left that could not be made this time; the same command tries them again."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """The first line of what an error of a library says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class Abandoned(RuntimeError):
    """Work that nobody waits for any more was broken off: no verdict on the row."""


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP, raised at a point where nothing is half written."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number

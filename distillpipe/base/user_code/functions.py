"""A function of the user: found by FILE.py:FUNCTION, checked before a run costs anything, and called."""

import ast
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, Literal, NamedTuple

from distillpipe.base import workers
from distillpipe.base.errors import UsageError, UserCodeError
from distillpipe.base.hashing import content_hash
from distillpipe.base.rowguard import USER_CODE
from distillpipe.base.workers import NotStartedError, Program

CPU_SECONDS = 5.0
WALL_SECONDS = 20.0  # longer, since a busy machine gives less CPU; a call that sleeps uses none
MEMORY_BYTES = 2 * 2**30  # in addition to the memory of the imports of the file
LOADING = "DISTILL_LOADING_USER_CODE"  # set in a process that imports a file of the user
_REPLY_SECONDS = 10.0  # for a process to report that a call exceeded its time
_NAME = re.compile(r"[^/\\:]+(?<!\.py):[^\W\d]\w*")
_INSTALLED = ("site-packages", "dist-packages")

Kind = Literal["verifier", "rule"]


class UserFunction(NamedTuple):
    """A verifier or rule of the user's own."""

    kind: Kind
    path: str
    "absolute path of the file"
    function: str
    digest: str
    "hash of the file and of the modules in its folder that it imports"

    @property
    def name(self) -> str:
        """The name in rows and manifests: `checks:check`."""
        return f"{Path(self.path).stem}:{self.function}"

    @property
    def flag(self) -> str:
        """The option as the user wrote it."""
        return f"--{self.kind} {self.path}:{self.function}"

    @property
    def program(self) -> Program:
        arguments = (self.kind, self.path, self.function, self.digest)
        return Program("distillpipe.base.user_code.process", arguments)

    def check(self) -> None:
        """Raise UsageError if the file cannot be imported, or the function has wrong parameters."""
        if os.environ.get(LOADING):
            raise UsageError(
                f"{self.flag}: the file calls distillpipe while it is imported: put the call under "
                'if __name__ == "__main__", or move the function to another file'
            )
        try:
            workers.start(self.program)
        except NotStartedError as error:
            raise _refused(self, error) from None

    def call(self, arguments: Any) -> dict[str, Any]:
        """The result of the function, in the form of `process.result_of`.

        Raises UserCodeError if it failed on these arguments.
        """
        limits = {"cpu": CPU_SECONDS, "wall": WALL_SECONDS, "memory": MEMORY_BYTES}
        question = {"arguments": arguments, "limits": limits}
        try:
            reply = workers.ask(self.program, question, WALL_SECONDS + _REPLY_SECONDS)
        except (
            NotStartedError
        ) as error:  # the file has changed since `check`, or the machine is full
            raise _refused(self, error) from None
        if reply is None:
            reply = {"failed": "its process ended without an answer"}
        if "failed" in reply:
            raise UserCodeError(f"{USER_CODE}{self.name}: {reply['failed']}")
        return reply


def is_user_name(name: str) -> bool:
    """Whether a verifier's name is that of a user's function."""
    return _NAME.fullmatch(name) is not None


def find(reference: str, kind: Kind) -> UserFunction:
    """The function named by FILE.py:FUNCTION, not imported yet. Raises UsageError if there is no such file."""
    flag = f"--{kind} {reference}"
    file, _, function = reference.rpartition(":")
    path = Path(file if function.isidentifier() else reference)
    if not file or path.suffix != ".py" or not function.isidentifier():
        raise UsageError(
            f"{flag}: expected FILE.py:FUNCTION, a Python file and the name of a function in it, "
            "for example checks.py:check"
        )
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise UsageError(f"{flag}: {path} {problem} (the working directory is {Path.cwd()})")
    absolute = path.resolve()
    return UserFunction(kind, str(absolute), function, digest_of(absolute))


def reference_to(function: Callable[..., Any], kind: Kind = "verifier") -> str:
    """FILE.py:FUNCTION of a Python function that was passed instead of a reference.

    Raises UsageError for a function that another process cannot import: a lambda, a function inside a function, a
    method, or a function of the running script, console or notebook.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    reason = None
    if not isinstance(function, FunctionType):
        reason = "is not a function"
    elif function.__name__ == "<lambda>":
        reason = "is a lambda, which cannot be imported by name"
    elif "<locals>" in name:
        reason = "is defined inside another function, so it cannot be imported"
    elif "." in name:
        reason = "is a method"
    elif function.__module__ == "__main__":
        reason = "is defined in the running script, console or notebook"
    if reason is None:
        module = sys.modules.get(function.__module__)
        file = inspect.getsourcefile(function)
        if getattr(module, function.__name__, None) is function and file is not None:
            return f"{Path(file).resolve()}:{function.__name__}"
        reason = f"is not {function.__module__}.{function.__name__}, which has the same name"
    raise UsageError(
        f"{kind}={name}: it {reason}. Other processes import and call it: define it at the top level of a "
        "Python file and import it from there, or give 'FILE.py:FUNCTION'"
    )


def package_of(path: Path) -> tuple[Path, str]:
    """The folder to import a file from, and its module name: `pkg.checks` for a file in a package."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def digest_of(path: Path) -> str:
    """The hash of a file and of the modules in its folder or package that it imports; independent of their location."""
    root, _ = package_of(path)
    contents: dict[str, str] = {}
    pending = [path]
    while pending:
        file = pending.pop()
        place = str(file.relative_to(root))
        if place in contents:
            continue
        try:
            source = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from None
        contents[place] = hashlib.sha256(source).hexdigest()
        # An installed file would import everything that is installed in the same folder.
        if not set(_INSTALLED) & set(path.parts):
            pending += _imported(source, file, root)
    alone = contents.pop(str(path.relative_to(root)))
    return content_hash(alone, sorted(contents.items()))


def _imported(source: bytes, file: Path, root: Path) -> Iterator[Path]:
    """The files under `root` that a file imports."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # reported when the file is imported
        return
    for node in ast.walk(tree):
        names: list[str] = []
        folder = root
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                folder = file.parents[node.level - 1]
            base = node.module or ""
            names = [f"{base}.{alias.name}".strip(".") for alias in node.names]
        for name in names:
            parts = name.split(".")
            for number in range(1, len(parts) + 1):
                place = folder.joinpath(*parts[:number])
                for module in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                    if module.is_file() and module.is_relative_to(root):
                        yield module


def _refused(function: UserFunction, error: NotStartedError) -> UsageError:
    """The error for a file that cannot be imported, or does not have the function."""
    if error.reply is not None:
        return UsageError(f"{function.flag}: {error.reply['error']}")
    if error.status is None:
        return UsageError(
            f"{function.flag}: importing the file took more than {workers.START_SECONDS:.0f} s: move slow code "
            "into its functions"
        )
    return UsageError(
        f"{function.flag}: importing the file ended the process ({error.status}): see {error.command}"
    )

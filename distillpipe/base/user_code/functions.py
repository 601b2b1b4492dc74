"""A function of the user's own: found by FILE.py:FUNCTION, tried out before anything is paid for, and called."""

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
WALL_SECONDS = 20.0  # a busy machine gives less CPU, and a call that sleeps needs none
MEMORY_BYTES = 2 * 2**30  # beside what the imports of the file take
LOADING = "DISTILL_LOADING_USER_CODE"  # set where a file of the user's is being imported
_REPLY_SECONDS = 10.0  # that a process may take to say that a call ran out of time
_NAME = re.compile(r"[^/\\:]+(?<!\.py):[^\W\d]\w*")
_INSTALLED = ("site-packages", "dist-packages")

Kind = Literal["verifier", "rule"]


class UserFunction(NamedTuple):
    """A verifier or rule of the user's own."""

    kind: Kind
    path: str
    "of the file, absolute"
    function: str
    digest: str
    "hash of the file, and of the modules beside it that it imports"

    @property
    def name(self) -> str:
        """As rows and manifests have it: `checks:check`."""
        return f"{Path(self.path).stem}:{self.function}"

    @property
    def flag(self) -> str:
        """As the user names it."""
        return f"--{self.kind} {self.path}:{self.function}"

    @property
    def program(self) -> Program:
        given = (self.kind, self.path, self.function, self.digest)
        return Program("distillpipe.base.user_code.process", given)

    def check(self) -> None:
        """Raise UsageError where the file cannot be imported, or the function cannot be called as it will be."""
        if os.environ.get(LOADING):
            raise UsageError(
                f"{self.flag}: the file calls distillpipe while it is imported: put the call under "
                'if __name__ == "__main__", or the function into a file of its own'
            )
        try:
            workers.start(self.program)
        except NotStartedError as error:
            raise _refused(self, error) from None

    def call(self, arguments: Any) -> dict[str, Any]:
        """What the function returned, in the form that `process.returned` gives it.

        Raises UserCodeError where it failed on these arguments.
        """
        limits = {"cpu": CPU_SECONDS, "wall": WALL_SECONDS, "memory": MEMORY_BYTES}
        try:
            reply = workers.ask(
                self.program,
                {"arguments": arguments, "limits": limits},
                WALL_SECONDS + _REPLY_SECONDS,
            )
        except (
            NotStartedError
        ) as error:  # it did at the door: the file was changed, or the machine is full
            raise _refused(self, error) from None
        if reply is None:
            reply = {"failed": "its process ended, or gave no answer"}
        if "failed" in reply:
            raise UserCodeError(f"{USER_CODE}{self.name}: {reply['failed']}")
        return reply


def is_user_name(name: str) -> bool:
    """Whether a verifier's name is that of a user's function."""
    return _NAME.fullmatch(name) is not None


def find(reference: str, kind: Kind) -> UserFunction:
    """The function that FILE.py:FUNCTION stands for; it is not imported yet.

    Raises UsageError where there is no such file.
    """
    given = f"--{kind} {reference}"
    file, _, function = reference.rpartition(":")
    path = Path(file if function.isidentifier() else reference)
    if not file or path.suffix != ".py" or not function.isidentifier():
        raise UsageError(
            f"{given}: expected FILE.py:FUNCTION, a Python file and the name of a function in it, "
            "say checks.py:check"
        )
    if not path.is_file():
        there = "is no file" if path.exists() else "does not exist"
        raise UsageError(f"{given}: {path} {there} (looked for from {Path.cwd()})")
    absolute = path.resolve()
    return UserFunction(kind, str(absolute), function, digest_of(absolute))


def reference_to(function: Callable[..., Any], kind: Kind = "verifier") -> str:
    """FILE.py:FUNCTION for a function that Python code gives in its place.

    Raises UsageError for what a process of its own could not import: a lambda, a function inside a function, a
    method, one that was typed into a console or notebook, or is in the script that is running.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    why = None
    if not isinstance(function, FunctionType):
        why = "is no function"
    elif function.__name__ == "<lambda>":
        why = "is a lambda, which has no name to import it by"
    elif "<locals>" in name:
        why = "is defined inside another function, so no module has it"
    elif "." in name:
        why = "is a method"
    elif function.__module__ == "__main__":
        why = "is defined in the script, console or notebook that is running"
    if why is None:
        module = sys.modules.get(function.__module__)
        file = inspect.getsourcefile(function)
        if getattr(module, function.__name__, None) is not function or file is None:
            why = f"is not what {function.__module__}.{function.__name__} stands for"
        else:
            return f"{Path(file).resolve()}:{function.__name__}"
    raise UsageError(
        f"{kind}={name}: it {why}. It is called in processes of its own, which import it: write it at the "
        "top level of a Python file, import it from there, or give 'FILE.py:FUNCTION'"
    )


def package_of(path: Path) -> tuple[Path, str]:
    """The folder that a file is imported from, and its name from there: `pkg.checks` for one in a package."""
    folder, parts = path.parent, [path.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def digest_of(path: Path) -> str:
    """The hash of a file and of the modules of its folder, or package, that it imports; the place is not in it."""
    root, name = package_of(path)
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
        if not set(_INSTALLED) & set(
            path.parts
        ):  # a module there has all that is installed beside it
            pending += _imported(source, file, root, name.partition(".")[0])
    alone = contents.pop(str(path.relative_to(root)))
    return content_hash(alone, sorted(contents.items()))


def _imported(source: bytes, file: Path, root: Path, package: str) -> Iterator[Path]:
    """The files under `root` that a file imports; of one in a package those of the package."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # said when it is imported
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
                for found in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
                    if found.is_file() and found.is_relative_to(root):
                        yield found


def _refused(function: UserFunction, error: NotStartedError) -> UsageError:
    """What to raise where a file cannot be imported, or holds no such function."""
    if error.reply is not None:
        return UsageError(f"{function.flag}: {error.reply['error']}")
    if error.status is None:
        return UsageError(
            f"{function.flag}: importing the file took more than {workers.START_SECONDS:.0f} s: do less "
            "outside of its functions"
        )
    return UsageError(
        f"{function.flag}: importing the file ended the process ({error.status}): see {error.command}"
    )

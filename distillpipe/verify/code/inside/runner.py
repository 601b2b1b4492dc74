"""The main program inside the sandbox: executes requests one after the other and answers in plain values.

It knows no expected value and makes no verdict. The candidate's functions run in the same process and may read
and change everything here. They can only change the *values* of answers, and only correct values pass outside.
A script has a process of its own for each input, see `do_input`. Tests that are programs (`do_check`) run in a
sandbox of their own with this same file, and send each call of the candidate outside.

A request is its length in 8 bytes and a marshalled tuple, name first. An answer is one line of JSON:
    ["value", V]  ["raised", "IndexError", "list index out of range"]  ["done"]
    ["ended", exit code, text of the "raised" answer or "", whether files were changed]
    ["call", name, V of the arguments, V of the keyword arguments]       from a checker only
where V is a plain value, see `values`.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import marshal
import posix  # not `os`: importing `os`, `types` and `typing` takes longer than all the rest
import resource
import sys
from _json import encode_basestring_ascii as quoted

from distillpipe.verify.code.inside.fresh import Interpreter
from distillpipe.verify.code.inside.values import decoded, encoded, raised

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType
    from typing import Any, BinaryIO, NoReturn

ModuleType = type(sys)
_compile, _exec, _eval = compile, exec, eval  # a program may replace the names in `builtins`
RECURSION_LIMIT = 50_000  # as in LiveCodeBench's harness; Python's own is 1000
PROGRAM, STDIN, STDOUT = "program.py", "../stdin", "../stdout"
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_FILTER_STEP_BYTES = 8
_MAX_REPORT_BYTES = 1 << 14
_COPIED_BYTES = 1 << 20
_AT_THE_END = ("__del__", "__exit__", "finally", "open(", "Wrapper", "Buffered", "writer", "FileIO")
"Words in the source of a script that may have finalizers or unflushed files when it ends."


class Runner:
    """The state of one sandbox: the pipes, and the program that was loaded last."""

    def __init__(self, requests: BinaryIO, replies: int) -> None:
        self.requests = requests
        self.replies = replies
        self.codes: list[CodeType] = []
        self.source = ""
        self.names: dict[str, Any] = {}
        self.interpreter: Interpreter | None = None
        self.copies: list[int] = []
        self.add_filter: Callable[[], None] | None = None
        self.report_descriptor = -1
        self.folder = posix.getcwd()
        self.path = f"{self.folder}/{PROGRAM}"

    def serve(self) -> Callable[[], NoReturn] | None:
        """Answer requests until they end; in the process of a script, return the function to run there."""
        self.reply('["done"]')
        while (request := self.next_request()) is not None:
            name, *arguments = request
            del request
            try:
                answer = getattr(self, "do_" + name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - whatever a candidate raises is an answer
                answer = raised(error)
            if not isinstance(answer, str):
                return answer  # type: ignore[no-any-return]
            self.reply(answer)
        return None

    def next_request(self) -> tuple[Any, ...] | None:
        size = int.from_bytes(self.requests.read(8), "big")
        return marshal.loads(self.requests.read(size)) if size else None

    def reply(self, line: str) -> None:
        write_all(self.replies, line.encode("ascii") + b"\n")

    # ------------------------------------------------------------ scripts

    def do_compile(self, sources: list[str], modules: list[str] = []) -> str:  # noqa: B006 - never changed
        """Compile the sources of a script, its own last; import `modules` once for all its processes."""
        for name in modules:
            try:
                __import__(name)
            except Exception:  # noqa: BLE001 - the script's own import will raise it again
                continue
        self.codes = [self.compiled(source) for source in sources]
        self.source = sources[-1]
        self.write_program()
        return '["done"]'

    def do_input(self, text: bytes) -> Any:
        """Run the script in a process of its own, with `text` on its standard input.

        Only files outlive the process, so the answer says whether they were changed.
        """
        with open(STDIN, "r+b") as file:  # noqa: PTH123 - pathlib is slow to import
            file.truncate()
            file.write(text)
        del text
        before = self.files()
        for number in range(3):
            posix.set_blocking(number, True)
        report, end = posix.pipe()
        child = posix.fork()
        if child == 0:
            posix.close(report)
            return lambda: self.run_script(end)
        posix.close(end)
        _, status = posix.waitpid(child, 0)
        exception = posix.read(report, _MAX_REPORT_BYTES).decode("ascii", "replace")
        posix.close(report)
        exit_code = posix.waitstatus_to_exitcode(status)
        is_changed = "false" if self.files() == before else "true"
        self.copy_stdout()
        return f'["ended",{exit_code},{quoted(exception)},{is_changed}]'

    def run_script(self, end: int) -> NoReturn:
        """In the child process: do what `python program.py` does."""
        exit_code = 1
        try:
            # the highest number, because a script expects that its first file has the number 3
            posix.dup2(end, self.report_descriptor)
            for number in (end, self.replies, self.requests.fileno()):
                posix.close(number)
            stdin = posix.open(STDIN, posix.O_RDONLY)
            posix.dup2(stdin, 0)
            posix.close(stdin)
            if self.add_filter is not None:
                self.add_filter()
            exit_code = self.script_exit_code()
            is_cleared = any(mark in self.source for mark in _AT_THE_END)
            exit_code = end_script(exit_code, self.names if is_cleared else None)
        finally:
            posix._exit(exit_code & 0xFF)

    def script_exit_code(self) -> int:
        self.names = new_module("__main__", self.path)
        try:
            for code in self.codes:
                _exec(code, self.names)
        except SystemExit as stop:
            if exit_code := exit_code_of(stop):
                self.report(stop)
            return exit_code
        except BaseException as error:  # noqa: BLE001 - report it, and print it as Python does
            self.report(error)
            sys.excepthook(type(error), error, error.__traceback__)
            return 1
        return 0

    def report(self, error: BaseException) -> None:
        try:
            posix.write(self.report_descriptor, raised(error).encode("ascii"))
        except OSError:
            return  # the script has closed the descriptor

    def files(self) -> list[Any]:
        """The state of the files that a script may change; of its input and /dev/stdout only the mode."""
        state: list[Any] = []
        try:
            for folder in ("..", ".", "../tmp"):
                stat = posix.stat(folder)
                state += [sorted(posix.listdir(folder)), stat.st_mode, stat.st_mtime_ns]
            stat = posix.stat(PROGRAM)
            state += [stat.st_ino, stat.st_mode, stat.st_size, stat.st_ctime_ns]
            state += [posix.stat(name).st_mode for name in (STDIN, STDOUT)]
        except OSError as error:
            state.append(error.errno)
        return state

    def copy_stdout(self) -> None:
        """Print what was written to the path /dev/stdout, which is a link to a file."""
        try:
            if not posix.stat(STDOUT).st_size:
                return
            with open(STDOUT, "r+b") as file:  # noqa: PTH123 - pathlib is not loaded here
                while data := file.read(_COPIED_BYTES):
                    write_all(1, data)
                file.truncate(0)
        except OSError:
            pass  # the script has removed the file

    # ------------------------------------------------------------ functions, expressions, tests

    def do_load(self, sources: list[str]) -> str:
        """Run the sources, one after the other, as the module whose functions will be called.

        SystemExit with exit code 0 ends the loading; the functions defined before it stay available.
        """
        self.source = sources[-1]
        self.write_program()
        self.copies = self.copies or [posix.dup(number) for number in range(3)]
        self.names = new_module("solution", self.path)
        try:
            for source in sources:
                _exec(self.compiled(source), self.names)
        except SystemExit as stop:
            if exit_code_of(stop):
                raise
        try:
            self.interpreter = Interpreter(self.copies)
        except Exception:  # noqa: BLE001 - the program has broken the interpreter: no snapshot
            self.interpreter = None
        return '["done"]'

    def do_fresh(self, name: str, *arguments: Any) -> str:
        """Restore the interpreter to its state after loading the program, then execute another request."""
        if self.interpreter is not None:
            self.interpreter.put_back()
        return getattr(self, "do_" + name)(*arguments)  # type: ignore[no-any-return]

    def do_nothing(self) -> str:
        return '["done"]'

    def do_call(self, path: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        """Call `function` or `Class().method`; all calls use the same object of a class."""
        return f'["value",{encoded(self.find(path)(*arguments, **keywords))}]'

    def do_relay(self, path: str, arguments: Any, keywords: Any) -> str:
        """Call with arguments that a checker has encoded."""
        return self.do_call(path, decoded(arguments), decoded(keywords))

    def do_evaluate(self, setup: str, expression: str) -> str:
        """Run the setup in the program's namespace, then evaluate an expression there."""
        _exec(_compile(setup, "<tests>", "exec", dont_inherit=True), self.names)
        code = _compile(expression, "<tests>", "eval", dont_inherit=True)
        return f'["value",{encoded(_eval(code, self.names))}]'

    def do_beside(self, source: str, nonce: str) -> str:
        """Run tests in the candidate's own process; the answer is `nonce` if all pass."""
        _exec(_compile(source, "<tests>", "exec", dont_inherit=True), self.names)
        return f'["value",{encoded(nonce)}]'

    def do_check(self, setup: list[str], names: dict[str, str], source: str) -> str:
        """Run tests after their setup; calls of the candidate's `names` are sent outside."""
        space = new_module("tests", self.path)
        for part in setup:
            _exec(_compile(part, "<tests>", "exec", dont_inherit=True), space)
        space.update({name: self.stand_in(path) for name, path in names.items()})
        _exec(_compile(source, "<tests>", "exec", dont_inherit=True), space)
        return '["done"]'

    def stand_in(self, path: str) -> Callable[..., Any]:
        """A function that has the call made outside, and returns its value or raises its exception."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.reply(f'["call",{quoted(path)},{encoded(arguments)},{encoded(keywords)}]')
            kind, *parts = self.next_request() or ("raised", "EOFError", "")
            if kind == "value":
                return decoded(parts[0])
            error = getattr(builtins, parts[0], None)
            is_error = isinstance(error, type) and issubclass(error, Exception)
            raise (error if is_error else RuntimeError)(parts[1])  # type: ignore[misc]

        return call

    def find(self, path: str) -> Callable[..., Any]:
        """The function `name`, or the method `Class().name`."""
        owner, _, method = path.rpartition("().")
        if not owner:
            return self.names[path]  # type: ignore[no-any-return]
        key = f"{owner}()"
        if key not in self.names:
            self.names[key] = self.names[owner]()
        return getattr(self.names[key], method)  # type: ignore[no-any-return]

    def compiled(self, source: str) -> CodeType:
        source = source.removeprefix("\ufeff")  # Python ignores a byte order mark too
        return _compile(source, self.path, "exec", dont_inherit=True)

    def write_program(self) -> None:
        """Write the program's file, for programs that read their own source."""
        with open(self.path, "w", encoding="utf-8", errors="surrogatepass") as file:  # noqa: PTH123 - pathlib is not loaded here
            file.write(self.source)


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)  # a slice of bytes would copy the rest each time
    while rest:
        rest = rest[posix.write(descriptor, rest) :]


def new_module(name: str, path: str) -> dict[str, Any]:
    """The namespace of a new module in `sys.modules`, which dataclasses and pickle need."""
    module = ModuleType(name)
    sys.modules[name] = module
    module.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.argv, sys.orig_argv = [path], [sys.executable, path]
    sys.path.insert(0, path.rpartition("/")[0])
    return module.__dict__


def add_site_names() -> None:
    """Add the builtins of the module `site`, which programs use; importing `site` takes too long."""
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
    builtins.help = _sitebuiltins._Helper()
    for name, text in (
        ("copyright", sys.copyright),
        ("credits", "See www.python.org for more information."),
        ("license", "See https://www.python.org/psf/license/"),
    ):
        printer = _sitebuiltins._Printer.__new__(_sitebuiltins._Printer)  # its __init__ loads `os`
        vars(printer).update(
            _Printer__name=name, _Printer__data=text, _Printer__lines=None, _Printer__filenames=[]
        )
        setattr(builtins, name, printer)


def exit_code_of(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    return stop.code if isinstance(stop.code, int) else 1


def end_script(exit_code: int, names: dict[str, Any] | None) -> int:
    """Do what Python does at the end of a script: wait for threads, run exit handlers, flush the output.

    `names` is the namespace of a script that may hold files or finalizers, which run after the first flush.
    """
    if threading := sys.modules.get("threading"):
        threading._shutdown()
    if atexit := sys.modules.get("atexit"):
        atexit._run_exitfuncs()
    is_flushed = flush(getattr(sys, "stdout", None))
    if sys.__stdout__ is not getattr(sys, "stdout", None):
        flush(sys.__stdout__)  # it may be detached; the result does not matter
    if names is not None:
        for name in [*names]:
            if name != "__builtins__":
                names[name] = None
        import gc

        gc.collect()
        is_flushed = flush(getattr(sys, "stdout", None)) and is_flushed
    return exit_code if is_flushed else exit_code or 120  # Python's exit code for a failed flush


def flush(stream: Any) -> bool:
    """Flush a stream unless it is closed or None; False if that fails."""
    try:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()
    except Exception:  # noqa: BLE001 - a program may have put anything there
        return False
    return True


def filter_adder(steps: bytes) -> Callable[[], None]:
    """A function that adds a seccomp filter to its process permanently."""
    import _ctypes  # not `ctypes`, whose import takes ten times as long

    char: Any = type("char", (_ctypes._SimpleCData,), {"_type_": "c"})
    text = (char * len(steps)).from_buffer(bytearray(steps))
    address: int = _ctypes.addressof(text)
    number = len(steps) // _FILTER_STEP_BYTES
    program = number.to_bytes(8, sys.byteorder) + address.to_bytes(8, sys.byteorder)  # sock_fprog
    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # of this process
    prctl, call = _ctypes.dlsym(library, "prctl"), _ctypes.call_function

    def add_filter() -> None:
        if call(prctl, (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)) != 0 or not text:
            raise OSError("no seccomp filter")

    return add_filter


def set_limits(limits: dict[str, int]) -> None:
    """Set the limits, named as in `resource`, permanently."""
    for name, value in limits.items():
        number = getattr(resource, f"RLIMIT_{name}", None)
        # macOS refuses this limit; only the unsafe way runs there
        if number is not None and not (name == "AS" and sys.platform == "darwin"):
            resource.setrlimit(number, (value, value))
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(0)


def main(requests: BinaryIO, replies: int) -> None:
    """Read the first request (limits, filter of scripts, folder of packages), then serve the others."""
    for name in [name for name in sys.modules if name.startswith("distillpipe.")]:
        del sys.modules[name]  # programs must not find them
    runner = Runner(requests, replies)
    limits, child_filter, packages = runner.next_request() or ({}, None, None)
    if child_filter is not None:
        runner.add_filter = filter_adder(child_filter)
    if packages is not None:
        sys.path.append(packages)
    add_site_names()
    for name in (STDIN, STDOUT):
        posix.close(posix.open(name, posix.O_CREAT | posix.O_RDWR, 0o600))
    set_limits(limits)
    runner.report_descriptor = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1
    if (script := runner.serve()) is not None:
        script()

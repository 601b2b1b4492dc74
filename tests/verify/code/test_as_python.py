"""A script in the sandbox prints and ends as `python program.py < input` does."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distillpipe.verify.code.kinds import BesideTests, Call, CallTests, CheckTests, InputTests
from distillpipe.verify.code.sandbox import Limits, Sandbox
from distillpipe.verify.code.session import Session
from distillpipe.verify.code.verifier import judge_code

TEXT = "3 4\nä 5\n\nlast line without an end"
LOOP = "class A:\n    pass\na = A()\na.a = a\n"
PROGRAMS = [
    "exit()", "quit()", "exit(0)", "exit(3)", "quit('no')", "print(1)\nexit()", "import sys\nsys.exit()",
    "import sys\nprint(1)\nsys.exit(1)", "import sys\nsys.exit('text')", "import sys\nsys.exit(-1)",
    "import sys\nsys.exit(256)", "import sys\nsys.exit(None)", "raise SystemExit(2)", "raise SystemExit([])",
    "print(1)\n1 / 0", "print(1)\nraise Exception",
    "print(repr(exit), repr(quit))", "print(str(copyright)[:9], callable(license), callable(help), callable(credits))",
    "import os, sys\nprint(len(sys.argv), os.path.basename(sys.argv[0]))", "import os\nprint(os.path.basename(__file__))",
    "print(open(__file__).read())", "import os, sys\nprint(sys.path[0] == os.path.dirname(os.path.abspath(__file__)))",
    "print(__name__, __doc__, __package__, __spec__)", "'a doc'\nprint(__doc__)", "print(__builtins__)",
    "import __main__\nx = 1\nprint(__main__.x)", "if __name__ == '__main__':\n    print(input())",
    "print(open(0).read())", "print(open('/dev/stdin').read())", "import sys\nprint(sys.stdin.read())",
    "import sys\nprint(sys.stdin.buffer.read())", "import sys\nprint(sys.stdin.buffer.readline(), input())",
    "import sys\nprint([line for line in sys.stdin])", "import fileinput\nprint([line for line in fileinput.input()])",
    "import os\nprint(os.read(0, 5))", "import os\nprint(os.fstat(0).st_size, os.isatty(0), os.isatty(1))",
    "import sys\nprint(sys.stdin.name, sys.stdin.mode, sys.stdin.encoding, sys.stdin.isatty(), sys.stdin.fileno())",
    "import sys\nprint(sys.stdout.name, sys.stdout.mode, sys.stdout.encoding, sys.stdout.fileno())",
    "import sys\nsys.stdin = open('/dev/stdin')\nprint(input())", "input()\ninput()\ninput()\nprint(input())\ninput()",
    "try:\n    while True: input()\nexcept EOFError as error:\n    print(error)",
    "import sys\nsys.stdout.write('a')\nsys.stdout.flush()\nsys.stdout.buffer.write(b'b\\n')",
    "import sys\nprint('a', end='')\nsys.stdout.buffer.write(b'b')\nprint('c')",
    "import os\nos.write(1, b'x')\nprint('y')", "import os\nprint('lost')\nos._exit(0)", "import os\nprint(1, flush=True)\nos._exit(4)",
    "import os, signal\nprint(1, flush=True)\nos.kill(os.getpid(), signal.SIGTERM)", "import os\nos.abort()",
    "import sys\nsys.stdout.close()", "import sys\nprint(1)\nsys.stderr.close()", "import os\nos.close(1)\nprint(1)",
    "import atexit\natexit.register(print, 'late')\nprint('soon')", "import atexit\natexit.register(lambda: 1 / 0)\nprint(1)",
    "import atexit, sys\natexit.register(lambda: sys.stdout.write('end'))\nsys.exit(2)",
    "import threading\nthreading.Thread(target=lambda: print(1)).start()",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(9) or print(2), daemon=True).start()\nprint(1)",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(.05) or print(2)).start()\nprint(1)",
    "import threading\nthreading.Thread(target=lambda: 1 / 0).start()\nprint(1)",
    "import sys, threading\nthreading.stack_size(1 << 26)\nsys.setrecursionlimit(10 ** 6)\n"
    "def f(n): return n and 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(20000)))\nt.start()\nt.join()",
    "import sys\nsys.setrecursionlimit(100000)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(30000))",
    "import signal\nsignal.signal(signal.SIGALRM, lambda *_: print('rang'))\nsignal.setitimer(signal.ITIMER_REAL, .01)\nsignal.pause()",
    "class A:\n    def __del__(self): print('gone')\na = A()\nprint(1)", f"{LOOP}A.__del__ = lambda self: print('gone')\nprint(1)",
    "import warnings\nwarnings.warn('x')\nprint(1)", "import sys\nsys.excepthook = lambda *_: print('hooked')\n1 / 0",
    "print('ä€😀', ascii(input()), ascii(input()))", "print('\\ud800')", "import io\nprint(open(0, encoding='latin-1').read())",
    "open('x.txt', 'w').write('ä')\nprint(open('x.txt').read(), open('x.txt', 'rb').read())",
    "import tempfile\nwith tempfile.TemporaryFile() as file:\n    print(file.write(b'x'))",
    "x: int = 1\nprint(__annotations__)", "from dataclasses import dataclass\n@dataclass\nclass A:\n    a: int\nprint(A(1))",
    "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))", "import inspect\ndef f(): pass\nprint(inspect.getsource(f))",
    "import asyncio\nasync def f():\n    await asyncio.sleep(.01)\n    print(1)\nasyncio.run(f())",
    "import concurrent.futures as c\nwith c.ThreadPoolExecutor(2) as p:\n    print(list(p.map(abs, [-1])))",
    "import os\nprint(sorted(os.listdir('.')))", "import gc, sys\nprint(gc.isenabled(), gc.get_threshold()[0])",
    "import decimal\nprint(decimal.getcontext().prec)", "import os\nprint(os.path.exists('/dev/null'), len(open('/dev/zero', 'rb').read(3)))",
    "def f(:", "print(1)\n  print(2)", "return 1", "import nothing_known", "print('x' * 200_000)", "\tprint(1)", "",
    "with open('/dev/stdout', 'w') as file:\n    print(1, file=file)", "import sys\nsys.stdout = open('/dev/stdout', 'w')\nprint(1)",
    "out = open(1, 'w')\nout.write('x')", "out = open(1, 'w')\nout.write('x\\n')\nprint(1)", "out = open('/dev/stdout', 'w')\nout.write('x')",
    "import sys, io\nout = io.TextIOWrapper(sys.stdout.buffer)\nout.write('x')", "import io\nout = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'x')",
    "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint(1)",
    "import codecs, sys\nout = codecs.getwriter('utf-8')(sys.stdout.buffer)\nout.write('ä')", "import sys\nprint(1)\ndel sys.stdout",
    "import sys\nclass Out:\n    def write(self, text): sys.__stdout__.write(text)\nsys.stdout = Out()\nprint(1)",
    "import sys\nclass Out:\n    def write(self, text): sys.__stdout__.write(text)\n    def flush(self): pass\nsys.stdout = Out()\nprint(1)",
    "def f():\n    try:\n        yield 1\n    finally:\n        print('closed')\na = f()\nnext(a)", "\ufeffprint(1)",
    "from multiprocessing.pool import ThreadPool\nprint(ThreadPool(2).map(abs, [-1]))",
    "print(1, file=open('/dev/stderr', 'w'))", "import sys\nprint(1, file=sys.stderr)", "help", "print(sum(map(int, input().split())))",
]  # fmt: skip


@pytest.fixture(scope="module")
def scripts(sandbox: Sandbox) -> Iterator[Session]:
    with sandbox.start(60, for_scripts=True, input_bytes=len(TEXT)) as session:
        yield session


def in_python(program: str, folder: Path) -> tuple[bytes, int]:
    """The output and the exit code of this interpreter."""
    (folder / "program.py").write_text(program, encoding="utf-8")
    (folder.parent / "input.txt").write_text(TEXT, encoding="utf-8")
    with (folder.parent / "input.txt").open() as text:
        done = subprocess.run(
            [sys.executable, "-s", "-X", "utf8", "program.py"],
            stdin=text, capture_output=True, cwd=folder, check=False, env={},
        )  # fmt: skip
    return done.stdout, done.returncode


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_script_prints_and_ends_as_in_python(scripts: Session, tmp_path, number: int) -> None:
    program = PROGRAMS[number]
    folder = tmp_path / "work"
    folder.mkdir()
    expected = in_python(program, folder)

    compiled = scripts.ask(("compile", [program]), 20)
    if compiled.reply[0] == "raised":
        assert expected == (b"", 1), compiled
        return
    answer = scripts.ask(("input", TEXT.encode()), 20)

    assert (answer.output, answer.reply[1]) == expected, answer
    if answer.reply[3]:
        scripts.ask(("compile", ["import os\nos.unlink('x.txt')"]), 20)
        scripts.ask(("input", b""), 20)


BODY = (
    "import os, sys\nassert len(sys.argv) == 1 and os.path.samefile(sys.argv[0], __file__)\n"
    "assert open(__file__).read().startswith('import os, sys')\n"
    "assert open('/dev/stdin').read() == open(0, closefd=False).read() == ''\n"
    "assert sys.stdin.buffer.read() == b'' and callable(help)\n"
    "try:\n    input()\nexcept EOFError:\n    pass\n"
)


@pytest.mark.parametrize(
    "tests",
    [
        CallTests("f", (Call((2,), {}, 4), Call((3,), {}, 6))),
        CheckTests({"f": "f"}, ("assert f(2) == 4\nassert f(3) == 6",)),
        BesideTests(("assert f is f and f(2) == 4",)),
    ],
)
@pytest.mark.parametrize("end", ["", "exit()", "quit()", "sys.exit(0)", "f(1)\nexit(0)"])
def test_functions_find_what_scripts_find(sandbox: Sandbox, tests, end: str) -> None:
    indented = BODY.replace("\n", "\n    ")
    program = f"{BODY}def f(x):\n    {indented}\n    return 2 * x\n{end}\n"

    assert judge_code(program, tests, sandbox=sandbox).verdict == "correct"


@pytest.mark.parametrize("end", ["exit(1)", "sys.exit('no')", "raise SystemExit(2)"])
def test_a_program_that_says_it_failed_is_wrong(sandbox: Sandbox, end: str) -> None:
    """As with other judges that check exit codes: a correct output before it does not help."""
    script = f"import sys\nprint(7)\n{end}"
    functions = f"import sys\ndef f():\n    return 7\n{end}"

    assert judge_code(script, InputTests((("", "7"),)), sandbox=sandbox).reason == "raised"
    tests = CallTests("f", (Call((), {}, 7),))
    assert judge_code(functions, tests, sandbox=sandbox).reason == "raised"


def test_a_large_input_is_read_whatever_the_limit_on_files(sandbox: Sandbox) -> None:
    sandbox = replace(sandbox, limits=Limits(tmp_bytes=1 << 20))
    text = "7" * 2_000_000

    tests = InputTests(((text, "2000000"), ("", "0")))
    assert judge_code("print(len(open(0).read()))", tests, sandbox=sandbox).verdict == "correct"


def test_halves_of_characters_in_an_input_stop_nothing(sandbox: Sandbox) -> None:
    tests = InputTests((("\ud800\n", "7"),))

    assert judge_code("print(7)", tests, sandbox=sandbox).verdict == "correct"

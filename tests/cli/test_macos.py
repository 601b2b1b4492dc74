"""The commands call nothing that only Linux has: they run in processes that lack it, as Python does on macOS."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.records import Message, Trace
from distillpipe.engines.server import connections

SITE = '''
"""Python as it is on macOS, as far as its names go; every process of the test begins with this."""
import os, resource, select, signal, sys

GONE = {
    os: """sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler sched_getparam sched_setparam
        posix_fadvise posix_fallocate pidfd_open memfd_create eventfd eventfd_read eventfd_write copy_file_range
        splice getrandom unshare setns fdatasync pipe2 waitid O_TMPFILE O_PATH O_DIRECT O_NOATIME O_LARGEFILE
        O_RSYNC getxattr setxattr listxattr removexattr getresuid setresuid getresgid setresgid""",
    signal: """pidfd_send_signal sigwaitinfo sigtimedwait SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX SIGPOLL SIGCLD""",
    resource: """prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_OFILE
        RUSAGE_THREAD""",
    select: "epoll",
}
for module, names in GONE.items():
    for name in names.split():
        module.__dict__.pop(name, None)

sysconf, setrlimit = os.sysconf, resource.setrlimit

def limited_sysconf(name):
    if name == "SC_AVPHYS_PAGES":
        raise ValueError("unrecognized configuration name")
    return sys.maxsize if name == "SC_OPEN_MAX" else sysconf(name)

def refusing_setrlimit(number, limits):
    if number == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    setrlimit(number, limits)

os.sysconf, resource.setrlimit = limited_sysconf, refusing_setrlimit

def watch(event, arguments):
    """No /proc and no prctl for distillpipe; libraries have code of their own for each system."""
    is_proc = event == "open" and str(arguments[0]).startswith("/proc")
    if not is_proc and not (event == "ctypes.dlsym" and "prctl" in arguments):
        return
    frame = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_filename
        if "/distillpipe/" in name:
            raise FileNotFoundError(2, f"nothing of Linux: {event} {arguments}")
        if "site-packages" in name:
            return
        frame = frame.f_back

sys.addaudithook(watch)
if "distillpipe.verify.math.worker" in sys.orig_argv:
    sys.platform = "darwin"
'''
PROGRAM = """
import json, sys, urllib.request
import accelerate, huggingface_hub, numpy, peft, psutil, rensa, safetensors.torch, tokenizers, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM
from transformers.models.qwen2 import Qwen2Tokenizer
sys.platform = "darwin"  # libraries have chosen their files by now
from distillpipe.cli.app import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["distill", *arguments]
    try:
        main()
    except SystemExit as stop:
        print("exit code", stop.code or 0, arguments[0], flush=True)
    else:
        print("exit code", 0, arguments[0], flush=True)
"""


@pytest.fixture
def run_on_macos(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """`run_on_macos(program, *arguments)`: in a process, and processes of it, without what only Linux has."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)

    def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.sched_getaffinity(0)",
        "import os; os.sysconf('SC_AVPHYS_PAGES')",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
        "exec(compile(\"open('/proc/meminfo')\", '/a/distillpipe/module.py', 'exec'))",
        "exec(compile('import ctypes; ctypes.CDLL(None).prctl', '/a/distillpipe/module.py', 'exec'))",
    ],
)
def test_what_only_linux_has_fails_there(run_on_macos, program: str) -> None:
    assert run_on_macos(program).returncode == 1
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
def test_the_commands_need_nothing_that_only_linux_has(
    run_on_macos: Callable[..., "subprocess.CompletedProcess[str]"],
    tmp_path: Path,
    tiny_model: Path,
    make_traces: Callable[..., list[Trace]],
) -> None:
    traces, problems, foreign = (
        tmp_path / f"{name}.jsonl" for name in ("traces", "problems", "raw")
    )
    reply = Message(
        role="assistant", content="\\boxed{\\int_0^1 x dx}", reasoning_content="An integral."
    )
    rows = make_traces(3, reference_answer="\\frac12")
    rows = [msgspec.structs.replace(row, messages=[row.messages[0], reply]) for row in rows]
    traces.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    problems.write_text('{"problem": "1+1?", "answer": "x+1", "verifier": "math"}\n')
    foreign.write_text(
        '{"problem": "1+1?", "answer": "2", "response": "<think>1+1</think>\\\\boxed{2}"}\n'
    )
    model, few = str(tiny_model), ["--max-tokens", "4", "--engine", "transformers"]
    out = [str(tmp_path / name) for name in ("generated", "clean", "student", "scores", "imported")]
    calls = [
        ["doctor"],
        ["generate", str(problems), "--teacher", model, *few, "--out", out[0]],
        ["filter", str(traces), "--out", out[1]],
        ["sft", str(traces), "--student", model, "--max-steps", "1", "--dtype", "fp32", "--max-length", "256",
         "--out", out[2]],
        ["eval", model, "--benchmark", str(problems), *few, "--out", out[3]],
        ["import", str(foreign), "--tokenizer", model, "--out", out[4]],
        ["show", out[1]],
    ]  # fmt: skip

    done = run_on_macos(PROGRAM, json.dumps(calls))

    codes = re.findall(r"^exit code (\d+) (\w+)$", done.stdout, re.M)
    assert codes == [("0", call[0]) for call in calls], done.stderr
    manifest = json.loads((tmp_path / "clean" / "latest" / "manifest.json").read_text())
    assert manifest["counts"]["verdicts"] == {"correct": 3}  # the worker's answers


def test_connections_are_as_many_as_the_kernel_allows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On macOS the hard limit is infinite, and the maximum of the kernel lies below it."""

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    infinite = connections.resource.RLIM_INFINITY
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (256, infinite))
    monkeypatch.setattr(connections.resource, "setrlimit", refuse)
    allowed = 256 - connections.SPARE_FILES

    assert connections.num_connections_allowed(1000) == allowed
    assert f"{allowed} concurrent requests" in capsys.readouterr().err
    assert connections.num_connections_allowed(allowed) == allowed

"""Closed, full and lost standard streams: the stage works and ends with the right code."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store import dataset

PROGRAM = "from distillpipe.cli.app import main; main()"
MakeTraces = Callable[..., list[Trace]]


@pytest.fixture
def traces(tmp_path: Path, make_traces: MakeTraces) -> Path:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(3)))
    return path


def run(script: str, folder: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    """Run shell lines in which `distill` is ours, away from the streams of the tests."""
    begin = f'distill() {{ exec "{sys.executable}" -c "{PROGRAM}" "$@"; }}; '
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(
        ["bash", "-c", begin + script], capture_output=True, text=True, check=False, cwd=folder,
        env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        ("0<&- 1>&- 2>&-", 0), ("2>/dev/full", 0), ("--json 1>/dev/full", 1),
        *(pytest.param(one, 0, marks=pytest.mark.slow) for one in ("2>&-", "1>&-", "0<&-", "2> >(true)")),
    ],
)  # fmt: skip
def test_a_stage_works_without_its_streams(
    streams: str, code: int, traces: Path, tmp_path: Path, repository: Path
) -> None:
    done = run(f"distill filter {traces} --verdict unverifiable --verdict correct --verdict wrong "
               f"--out out {streams}", tmp_path, repository)  # fmt: skip

    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(dataset.read_traces(str(tmp_path / "out")))) == 3


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        ("1>&-", 0), ("1>/dev/full", 1),
        pytest.param("2>&-", 0, marks=pytest.mark.slow), pytest.param("1> >(true)", 1, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_show_ends_without_a_traceback(
    streams: str,
    code: int,
    tmp_path: Path,
    make_traces: MakeTraces,
    write_dataset: Callable[..., object],
    repository: Path,
) -> None:
    write_dataset(tmp_path / "out", make_traces(3))
    done = run(f"distill show out --sample 3 {streams}", tmp_path, repository)

    assert done.returncode in (code, 0 if "true" in streams else code)  # the reader may be slower
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_talk_on_a_closed_stream_never_lands_in_a_file(tmp_path: Path, repository: Path) -> None:
    program = (
        "import os, sys; from distillpipe.base import streams; streams.open_closed(); "
        "file = open('data', 'w'); os.write(2, b'talk'); os.write(1, b'talk'); "
        "print('talk', file=sys.stderr); sys.stdout.write('talk'); file.write('data')"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    shell = f'exec "{sys.executable}" -c "{program}" 0<&- 1>&- 2>&-'
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, env=environment, check=False)

    assert done.returncode == 0
    assert (tmp_path / "data").read_text() == "data"


WAITING = (
    "import os, signal, sys, time; from distillpipe.base import interrupts; "
    "from distillpipe.base.errors import Interrupted; interrupts.install()\n"
    "try:\n    print('ready', flush=True); time.sleep(60)\n"
    "except Interrupted as stopped:\n    sys.exit(stopped.exit_code)\n"
)


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_terminal_that_closes_ends_a_run_unless_nohup(is_ignored: bool, repository: Path) -> None:
    """SIGHUP is heeded as SIGTERM is, and left ignored where the command was started so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(repository)},
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        if is_ignored:
            process.send_signal(signal.SIGTERM)
        assert process.wait() == (143 if is_ignored else 129)

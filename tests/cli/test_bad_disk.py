"""Disks that are full, read-only or closed, and a row of 50 MB: one line, nothing lost, the same command goes on."""

import os
import random
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store.dataset import read_traces, scan

Distill = Callable[..., Any]
Namespace = Callable[[str], subprocess.CompletedProcess[str]]

NUM_ROWS = 200


@pytest.fixture
def place(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder, now the working one, with 200 traces, 200 problems and a model."""
    monkeypatch.chdir(tmp_path)
    traces = make_traces(NUM_ROWS)
    Path("traces.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in traces))
    Path("problems.jsonl").write_text(
        "".join(f'{{"problem": "What is {number}+1?"}}\n' for number in range(NUM_ROWS)),
        encoding="utf-8",
    )
    Path("model").symlink_to(tiny_model)
    return tmp_path


@pytest.fixture
def namespace(repository: Path, tmp_path: Path) -> Namespace:
    """`namespace(script)` runs shell lines that may mount, seen by nobody else; `distill` is ours there."""
    program = "from distillpipe.cli.app import main; main()"
    begin = f'distill() {{ "{sys.executable}" -c "{program}" "$@"; }}; '
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["unshare", "--map-root-user", "--mount", "bash", "-c", begin + script],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
        )  # fmt: skip

    try:
        tried = run("mount -t tmpfs -o size=64k none /mnt && mount -o remount,size=128k none /mnt")
    except FileNotFoundError:
        pytest.skip("there is no `unshare` here")
    if tried.returncode != 0:
        pytest.skip(f"mounting in a namespace is not permitted: {tried.stderr.strip()}")
    return run


def ids(folder: Path) -> list[str]:
    rows = [*scan(folder, Trace), *scan(folder, RejectedTrace, "rejected")]
    return [row.id for row in rows]


FULL_THEN_LARGER = """
mkdir disk
mount -t tmpfs -o size=SIZE none disk
COMMAND --out disk/out; echo "first: $?"
cp -r disk/out before
COMMAND --out disk/out; echo "still full: $?"
mount -o remount,size=100m none disk  # without `none` options are read back that another user may not set
COMMAND --out disk/out; echo "larger: $?"
cp -r disk/out after
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "size"),
    [
        ("distill filter traces.jsonl", "96k"),
        ("distill generate problems.jsonl --teacher model --max-tokens 4 --concurrency 8", "160k"),
    ],
    ids=["filter", "generate"],
)  # fmt: skip
def test_a_disk_that_is_full_in_the_middle_loses_no_row_and_once_larger_the_run_goes_on(
    place: Path, namespace: Namespace, command: str, size: str
) -> None:
    done = namespace(FULL_THEN_LARGER.replace("COMMAND", command).replace("SIZE", size))

    assert done.stdout.splitlines() == ["first: 1", "still full: 1", "larger: 0"], done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == 2 * [
        "error: disk/out/v1.partial/part-00000.jsonl: No space left on device; "
        "finished rows are safe: remove the cause, then run the same command again"
    ]
    assert "Traceback" not in done.stderr
    before, after = (place / name for name in ("before/v1.partial", "after/v1"))
    whole = (before / "part-00000.jsonl").read_bytes().rpartition(b"\n")[0]
    assert 20 < whole.count(b"\n") < NUM_ROWS - 20  # it was full in the middle
    assert (after / "part-00000.jsonl").read_bytes().startswith(whole)
    assert len(set(ids(after))) == len(ids(after)) == NUM_ROWS


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Any file of this process that grows beyond that is an error."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, unlimited[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def test_a_file_that_may_not_grow_is_one_line_and_the_same_command_goes_on(
    place: Path, distill: Distill
) -> None:
    arguments = (
        "generate", "problems.jsonl", "--teacher", "model", "--max-tokens", "2", "--concurrency", "16",
        "--limit", "40", "--out", "out",
    )  # fmt: skip
    with files_of_at_most(20_000):
        done = distill(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "error: out/v1.partial/part-00000.jsonl: File too large; "
        "finished rows are safe: remove the cause, then run the same command again"
    )
    before = Path("out/v1.partial/part-00000.jsonl").read_bytes()
    assert len(before) == 20_000

    assert distill(*arguments).code == 0
    assert Path("out/v1/part-00000.jsonl").read_bytes().startswith(before.rpartition(b"\n")[0])
    assert len(set(ids(Path("out/v1")))) == len(ids(Path("out/v1"))) == 40


def test_a_plan_that_the_disk_does_not_hold_is_one_line_that_names_its_folder(
    place: Path, distill: Distill
) -> None:
    with files_of_at_most(9_000):
        done = distill("generate", "problems.jsonl", "--teacher", "model", "--out", "out")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("error: out/v1.partial: File too large; ")


READ_ONLY = """
mkdir -p out && distill filter traces.jsonl --out out --seed 1; echo "before: $?"
mount --bind out out && mount -o remount,bind,ro out
distill filter traces.jsonl --out out --seed 2; echo "read-only: $?"
distill filter traces.jsonl --out out/deeper; echo "below: $?"
distill filter traces.jsonl --out out --seed 1; echo "up to date: $?"
umount out
distill filter traces.jsonl --out out --seed 2; echo "writable: $?"
"""


@pytest.mark.slow
def test_a_read_only_out_is_one_line_and_what_is_there_can_be_used(
    place: Path, namespace: Namespace
) -> None:
    done = namespace(READ_ONLY)

    assert done.stdout.splitlines() == [
        "before: 0", "read-only: 1", "below: 1", "up to date: 0", "writable: 0",
    ], done.stderr  # fmt: skip
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: {path}: Read-only file system; finished rows are safe: remove the cause, then run the same command again"
        for path in ("out/.lock", "out/deeper")
    ]
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in Path("out").glob("v*")) == ["v1", "v2"]


@pytest.mark.usefixtures("bound_by_permissions")
@pytest.mark.parametrize(("name", "mode"), [("traces.jsonl", 0o200), ("out", 0o500)])
def test_what_may_not_be_read_or_written_is_one_line_with_its_name(
    place: Path, distill: Distill, name: str, mode: int
) -> None:
    Path("out").mkdir()
    Path(name).chmod(mode)
    try:
        done = distill("filter", "traces.jsonl", "--out", "out")
    finally:
        Path(name).chmod(0o700)
    assert done.code == 1
    assert done.err.startswith(f"error: {name}")
    assert "Permission denied" in done.err
    assert done.err.count("\n") == 1

    assert distill("filter", "traces.jsonl", "--out", "out").code == 0


WITH_PEAK = """
import re
from pathlib import Path
from distillpipe.cli.app import main
try:
    main()
finally:  # not ru_maxrss, which a fork takes over from its parent
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


@pytest.mark.slow
def test_a_row_of_50_mb_goes_through_and_takes_memory_for_a_few_of_it_not_for_the_file(
    place: Path, make_trace: Callable[..., Trace], repository: Path
) -> None:
    size = 50_000_000
    letters = bytes(b"abcdefg hijklmno pqrstuv wxyz "[byte % 30] for byte in range(256))
    huge = make_trace(
        reasoning=f"So {random.Random(0).randbytes(size).translate(letters).decode()}."
    )
    with Path("traces.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(huge) + b"\n")
    done = subprocess.run(
        [sys.executable, "-c", WITH_PEAK, "filter", "traces.jsonl", "--out", "out"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(repository)},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 16 * size
    assert huge.reasoning in (row.reasoning for row in read_traces("out"))
    assert len(ids(Path("out/v1"))) == NUM_ROWS + 1

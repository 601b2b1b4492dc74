"""Data that was damaged, and disks that give out: one clear line, nothing lost, and once mended the same
command goes on.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from distillpipe.base.records import Problem, Trace
from distillpipe.data.store import integrity, versions
from distillpipe.data.store.dataset import read_traces
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer

Distill = Callable[..., Any]

MEND = (
    "restore the original file, or rename set/v2 to v2.partial and run `distill generate` again, "
    "which keeps the rows that are intact"
)
PUT_BACK = "restore the original file, or move the folder away and make the version again"


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    tiny_model: Path,
) -> Path:
    """What `place` copies: files of problems and traces and a dataset of two versions."""
    folder = tmp_path_factory.mktemp("prepared")
    traces = make_traces(4)
    problems = [
        Problem(
            problem_id=trace.problem_id, problem=trace.problem, reference_answer=trace.reference_answer,
            verifier=trace.verifier,
        )
        for trace in traces
    ]  # fmt: skip
    write_dataset(folder / "set", traces[:1], problems=problems[:1], name="A")
    write_dataset(
        folder / "set", traces[:3], [(traces[3], "duplicate", None)], problems=problems, name="B"
    )
    (folder / "traces.jsonl").write_bytes(b"".join(map(line_of, traces)))
    (folder / "problems.jsonl").write_bytes(b"".join(map(line_of, problems)))
    (folder / "model").symlink_to(tiny_model)
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, now the working one, with a copy of what was prepared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def call(distill: Distill) -> Distill:
    """`call("filter set --out out")` runs a command as a process of its own would."""

    def run(command: str) -> Any:
        integrity.check_content.cache_clear()
        return distill(*command.split())

    return run


def line_of(row: msgspec.Struct) -> bytes:
    return msgspec.json.encode(row) + b"\n"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def put_back(folder: Path, wanted: dict[str, bytes]) -> None:
    for name, content in wanted.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content)


# ---------------------------------------------------------------- damage


def replaced(name: str, old: bytes, new: bytes) -> Callable[[], None]:
    """Damage: the first `old` of a file is `new`."""

    def damage() -> None:
        content = Path(name).read_bytes()
        assert old in content
        Path(name).write_bytes(content.replace(old, new, 1))

    return damage


def cut(name: str, size: int) -> Callable[[], None]:
    return lambda: os.truncate(name, size)


def gone(name: str) -> Callable[[], None]:
    return lambda: Path(name).unlink()


def appended(name: str, content: bytes) -> Callable[[], None]:
    def damage() -> None:
        with Path(name).open("ab") as file:
            file.write(content)

    return damage


def doubled(old: bytes, new: bytes) -> Callable[[], None]:
    """Damage: the first trace stands twice, the second time with `new` in place of `old`."""

    def damage() -> None:
        path = Path("traces.jsonl")
        first = path.read_bytes().splitlines(keepends=True)[0]
        assert old in first
        path.write_bytes(path.read_bytes() + first.replace(old, new))

    return damage


class Case(NamedTuple):
    """What is damaged, which command notices, and the line that it says after "error: "."""

    damage: Callable[[], None]
    command: str
    line: str
    code: int = 1


FILTER_FILE, FILTER = "filter traces.jsonl --out out", "filter set --out out"
SFT_FILE = "sft traces.jsonl --student model --max-steps 1 --dtype fp32 --out out"
SFT = "sft set --student model --max-steps 1 --dtype fp32 --out out"
GENERATE = "generate problems.jsonl --teacher model --max-tokens 2 --out out"
EVAL = "eval model --benchmark problems.jsonl --max-tokens 2 --out out"
PART, MANIFEST = "set/v2/part-00000.jsonl", "set/v2/manifest.json"
TWICE = "row ROW is in the input twice with different content: an edited copy needs a new row_key and id"
NOT_UTF_8 = "not UTF-8: invalid start byte at byte 8 of a text"
NOT_A_TRACE = "correct or remove the line, or convert the file with `distill import`"

CASES = {
    "an empty file of traces": Case(
        cut("traces.jsonl", 0), FILTER_FILE, "traces.jsonl: no rows to filter"
    ),
    "an empty file of traces to train on": Case(
        cut("traces.jsonl", 0), SFT_FILE, "no rows to train on: all inputs are empty"
    ),
    "an empty file of problems": Case(
        cut("problems.jsonl", 0),
        GENERATE,
        "problems.jsonl is empty: expected one problem per line",
    ),
    "an empty benchmark": Case(
        cut("problems.jsonl", 0), EVAL, "problems.jsonl is empty: expected one problem per line"
    ),
    "a broken line in the middle of the traces": Case(
        replaced("traces.jsonl", b"What is 1+1?", b'What" is 1+1?'),
        FILTER_FILE,
        f"traces.jsonl:2: not a row of kind Trace (JSON is malformed: expected ',' or '}}' (byte 183)): {NOT_A_TRACE}",
    ),
    "a file of traces cut in its last line": Case(
        cut("traces.jsonl", 1500),
        SFT_FILE,
        f"traces.jsonl:3: not a row of kind Trace (Input data was truncated): {NOT_A_TRACE}",
    ),
    "traces that are not UTF-8": Case(
        replaced("traces.jsonl", b"What is 1+1?", b"What is \xff+1?"),
        FILTER_FILE,
        f"traces.jsonl:2: not a row of kind Trace ({NOT_UTF_8}): {NOT_A_TRACE}",
    ),
    "problems that are not UTF-8": Case(
        replaced("problems.jsonl", b"What is 1+1?", b"What is \xff+1?"),
        GENERATE,
        f"problems.jsonl:2: not valid JSON ({NOT_UTF_8}): correct or remove the line",
    ),
    "one id with two contents": Case(doubled(b"0+1=1.", b"0+1=2."), FILTER_FILE, TWICE),
    "one id with two contents to train on": Case(doubled(b"0+1=1.", b"0+1=2."), SFT_FILE, TWICE),
    "a row of a newer schema": Case(
        replaced("traces.jsonl", b"trace/1", b"trace/2"),
        FILTER_FILE,
        "traces.jsonl:1: not a row of kind Trace (Invalid enum value 'trace/2' - at `$.schema`): correct or "
        "remove the line, or install the version of distillpipe that wrote 'trace/2'",
    ),
    "a part cut short": Case(
        cut(PART, 100), FILTER, f"{PART} has 100 bytes, SIZE were written: {MEND}"
    ),
    "a part cut short before training": Case(
        cut(PART, 100), SFT, f"{PART} has 100 bytes, SIZE were written: {MEND}"
    ),
    "a part that has grown": Case(
        appended(PART, b"\n"), FILTER, f"{PART} has 1,954 bytes, SIZE were written: {MEND}"
    ),
    "a part changed with equal size": Case(
        replaced(PART, b"1+1=2.", b"1+1=3."),
        FILTER,
        f"{PART} was changed after it was written (its sha256 differs): {MEND}",
    ),
    "a part changed with equal size before training": Case(
        replaced(PART, b"1+1=2.", b"1+1=3."),
        SFT,
        f"{PART} was changed after it was written (its sha256 differs): {MEND}",
    ),
    "a part deleted": Case(gone(PART), FILTER, f"{PART} is missing: {MEND}"),
    "rejected rows deleted": Case(
        gone("set/v2/rejected-00000.jsonl"),
        FILTER,
        f"set/v2/rejected-00000.jsonl is missing: {MEND}",
    ),
    "the list of problems deleted": Case(
        gone("set/v2/problems.jsonl"), FILTER, f"set/v2/problems.jsonl is missing: {MEND}"
    ),
    "a manifest edited by hand": Case(
        replaced(MANIFEST, b'"rows_kept": 3', b'"rows_kept": 4'),
        FILTER,
        f"{MANIFEST} was changed after it was written: its checksum differs; {PUT_BACK}",
    ),
    "a manifest without its checksum": Case(
        replaced(MANIFEST, b'"checksum"', b'"sum"'),
        FILTER,
        f"{MANIFEST} was changed after it was written: its checksum differs; {PUT_BACK}",
    ),
    "a manifest of a newer format": Case(
        replaced(MANIFEST, b"distillpipe/1", b"distillpipe/2"),
        FILTER,
        f"{MANIFEST}: format 'distillpipe/2', this distillpipe reads 'distillpipe/1': "
        "install the version of distillpipe that wrote it, or a newer one",
    ),
    "a manifest that is no JSON": Case(
        cut(MANIFEST, 100),
        FILTER,
        f"{MANIFEST}: not a readable manifest (Input data was truncated); {PUT_BACK}",
    ),
    "a manifest deleted": Case(
        gone(MANIFEST),
        FILTER,
        f"{MANIFEST}: not a readable manifest (No such file or directory); {PUT_BACK}",
    ),
}


# what a dataset's files are held against is the same code for every command: once in training is enough daily
SLOW = ("one id with two contents to train on", "a part changed with equal size before training")
PARAMETERS = [
    pytest.param(case, id=name, marks=[pytest.mark.slow] * (name in SLOW))
    for name, case in CASES.items()
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_damage_is_one_line_nothing_is_lost_and_mended_the_same_command_goes_on(
    place: Path, call: Distill, case: Case
) -> None:
    whole = contents(place)
    size = Path(PART).stat().st_size
    first = next(read_traces("traces.jsonl")).id
    case.damage()
    damaged = contents(place)
    done = call(case.command)

    line = (
        case.line.replace("SIZE", f"{size:,}")
        .replace("ROW", first)
        .replace("set/", f"{place}/set/")
    )
    assert done.err == f"error: {line}\n"
    assert (done.code, done.out) == (case.code, "")
    after = contents(place)
    assert {name: after[name] for name in damaged} == damaged
    assert not list(place.glob("out/**/v*[0-9]"))

    put_back(place, whole)
    done = call(case.command)
    assert (done.code, done.out) == (0, ""), done.err
    out = place / "out" / ("problems" if "eval" in case.command else "")
    assert [path.name for path in out.glob("v*")] == ["v1"]
    assert whole.items() <= contents(place).items()


def test_a_command_that_is_up_to_date_notices_that_its_own_version_was_damaged(
    place: Path, call: Distill
) -> None:
    assert call(FILTER).code == 0
    whole = contents(place / "out")
    cut("out/v1/part-00000.jsonl", 5)()
    done = call(FILTER)

    assert done.code == 1
    assert done.err.startswith("error: out/v1/part-00000.jsonl has 5 bytes, ")
    assert done.err.count("\n") == 1
    put_back(place / "out", whole)
    assert call(FILTER).err == "filter: up to date: out/v1\n"


# ---------------------------------------------------------------- folders that somebody tidied up


def test_a_latest_that_points_nowhere_is_said_and_the_newest_version_is_used(
    place: Path, call: Distill
) -> None:
    Path("set/latest").unlink()
    Path("set/latest").symlink_to("v7")
    done = call(FILTER)

    assert done.code == 0
    lines = [line for line in done.err.splitlines() if "latest" in line]
    assert set(lines) == {"set/latest points to v7, which does not exist: using v2"}
    assert [trace.problem for trace in read_traces("out")] == [f"What is {n}+1?" for n in range(3)]


def test_without_a_latest_the_newest_version_is_used(place: Path, call: Distill) -> None:
    Path("set/latest").unlink()

    assert call(FILTER).code == 0
    assert len(list(read_traces("out"))) == 3


@pytest.mark.parametrize("latest", [None, "v7"], ids=["gone", "pointing nowhere"])
def test_the_latest_of_the_output_is_put_right_by_the_same_command(
    place: Path, call: Distill, latest: str | None
) -> None:
    call(FILTER)
    Path("out/latest").unlink()
    if latest is not None:
        Path("out/latest").symlink_to(latest)

    assert call(FILTER).err == "filter: up to date: out/v1\n"
    assert Path("out/latest").readlink() == Path("v1")


def test_a_version_that_was_removed_leaves_a_gap_and_its_number_is_not_used_again(
    place: Path, call: Distill
) -> None:
    for limit in (10, 20, 30):
        assert call(f"{FILTER} --max-reasoning-tokens {limit}").code == 0
    before = contents(place / "out/v1") | contents(place / "out/v3")
    shutil.rmtree("out/v2")

    assert call(f"{FILTER} --max-reasoning-tokens 40").code == 0
    assert call(f"{FILTER} --max-reasoning-tokens 20").code == 0
    assert sorted(path.name for path in Path("out").glob("v*")) == ["v1", "v3", "v4", "v5"]
    assert contents(place / "out/v1") | contents(place / "out/v3") == before


def test_a_partial_folder_without_a_manifest_is_left_alone(place: Path, call: Distill) -> None:
    Path("out/v1.partial").mkdir(parents=True)
    Path("out/v1.partial/part-00000.jsonl").write_bytes(b"mine\n")

    assert call(FILTER).code == 0
    assert Path("out/latest").readlink() == Path("v2")
    assert Path("out/v1.partial/part-00000.jsonl").read_bytes() == b"mine\n"


def test_a_lock_that_a_dead_process_has_left_is_no_obstacle(place: Path, call: Distill) -> None:
    Path("out").mkdir()
    Path("out/.lock").write_text("999999\n", encoding="utf-8")

    assert call(FILTER).code == 0


def test_a_second_run_says_who_is_writing_and_goes_on_when_that_one_has_ended(
    place: Path, call: Distill, make_header: Callable[..., Header]
) -> None:
    with versions.draft(Path("out"), make_header()) as draft, Writer(draft):
        done = call(FILTER)
    assert done == (
        1,
        "",
        f"error: out is being written by another run (process {os.getpid()}): "
        "wait until that run ends, or choose another --out\n",
    )
    assert call(FILTER).code == 0

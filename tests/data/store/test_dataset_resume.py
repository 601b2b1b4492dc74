"""Kill runs at random bytes and let them alternate: every whole line survives and no row comes twice."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from distillpipe.base.hashing import bytes_hash, content_hash
from distillpipe.base.records import Message, TokenCounts, Trace
from distillpipe.data.store import integrity, jsonl, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.reuse import sampled_before
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import FailedRow, Writer

PART_BYTES = 1500  # two to four rows, so that parts rotate
NUMBERS = range(8)  # rows that a run may want
KEYS = {content_hash(number): number for number in NUMBERS}
texts = st.text(max_size=100)
numbers = st.sampled_from(NUMBERS)


def header(name: str, *, fresh: bool = False) -> Header:
    return Header(
        kind="traces", stage="generate", content={"name": name}, inputs=[], models=[], options={},
        fresh=fresh,
    )  # fmt: skip


def trace(number: int, text: str) -> Trace:
    return Trace(
        id=f"row {number}",
        problem_id=str(number),
        row_key=content_hash(number),
        sample=0,
        benchmark=None,
        problem=text,
        reference_answer=None,
        verifier="math",
        domain=None,
        messages=[Message(role="user", content=text)],
        finish_reason="stop",
        num_tokens=TokenCounts(prompt=1, reasoning=1, response=1, total=4),
        teacher="t",
        seed=0,
    )


def whole_rows(folder: Path, stream: str) -> Iterator[Trace]:
    """The rows of a stream whose lines are whole."""
    for path in sorted(folder.glob(f"{stream}-*.jsonl")):
        *whole, _ = path.read_bytes().split(b"\n")
        for line in whole:
            yield msgspec.json.decode(line, type=Trace)


class Expected:
    """The expected content of the folder of one version."""

    def __init__(self, path: Path, name: str, takes_over: bool) -> None:
        self.path = path
        self.name = name
        self.takes_over = takes_over
        self.rows: dict[str, list[Trace]] = {"part": [], "rejected": []}
        self.failed: list[FailedRow] = []

    @property
    def ids(self) -> list[str]:
        return [row.id for rows in self.rows.values() for row in rows]


class RunsUnderFire(RuleBasedStateMachine):
    """Runs of two commands, A and B, in one output folder, killed at any byte."""

    def __init__(self) -> None:
        super().__init__()
        self.run = ExitStack()
        self.folder = ExitStack()
        self.out = Path(self.folder.enter_context(tempfile.TemporaryDirectory()))
        self.part_bytes, jsonl.PART_BYTES = jsonl.PART_BYTES, PART_BYTES
        self.drafts: list[Expected] = []
        self.finished: list[Expected] = []
        self.latest: Path | None = None
        self.now: Expected | None = None
        self.writer: Writer

    # ---- actions of the user

    @rule(name=st.sampled_from("AB"), fresh=st.booleans())
    def call(self, name: str, fresh: bool) -> None:
        """Stop the current run, then run a command: it is up to date, resumes a draft, or begins one."""
        self._stop()
        there = [one for one in self.finished if one.name == name and not fresh]
        path = versions.up_to_date(self.out, header(name, fresh=fresh))
        assert path == (there[-1].path if there else None)
        if path is not None:
            self.latest = path
            return
        going_on = [
            one for one in self.drafts if one.name == name and not (fresh and one.takes_over)
        ]
        draft = self.run.enter_context(versions.draft(self.out, header(name, fresh=fresh)))
        if going_on:
            self.now = going_on[-1]
        else:
            number = max((int(one.path.stem[1:]) for one in self.finished + self.drafts), default=0)
            self.now = Expected(self.out / f"v{number + 1}.partial", name, not fresh)
            self.drafts.append(self.now)
        assert (draft.path, draft.takes_over) == (self.now.path, self.now.takes_over)
        self.writer = self.run.enter_context(Writer(draft))
        self._forget_failed()

    @initialize(name=st.sampled_from("AB"))
    def first_call(self, name: str) -> None:
        self.call(name, fresh=False)

    @precondition(lambda self: self.now is not None)
    @rule()
    def stop(self) -> None:
        self._stop()

    @precondition(lambda self: self.now is not None)
    @rule(number=numbers, text=texts, share=st.floats(0, 1), stream=st.sampled_from(
        ["part", "rejected", "errors.jsonl", "manifest.json.new", "problems.jsonl"]
    ))  # fmt: skip
    def kill_in_a_write(self, number: int, text: str, share: float, stream: str) -> None:
        """The process is killed in the middle of a line, before it saved its counts again."""
        at = self.now
        assert at is not None
        manifest = (at.path / "manifest.json").read_bytes()
        line = msgspec.json.encode(trace(number, text))
        self._stop()
        (at.path / "manifest.json").write_bytes(manifest)
        parts = sorted(at.path.glob(f"{stream}-*.jsonl"))
        name = parts[-1].name if parts else f"{stream}-00000.jsonl"
        with (at.path / (stream if "." in stream else name)).open("ab") as file:
            file.write(line[: int(share * len(line))])

    @precondition(lambda self: self.now is not None)
    @rule(stream=st.sampled_from(["part", "rejected"]), share=st.floats(0, 1))
    def lose_power(self, stream: str, share: float) -> None:
        """A power loss: lines that were not synced are lost too, all or some."""
        at = self.now
        assert at is not None
        self._stop()
        if files := sorted(at.path.glob(f"{stream}-*.jsonl")):
            content = files[-1].read_bytes()
            torn = content[: int(share * len(content))]
            files[-1].write_bytes(torn)
            num_lost = content.count(b"\n") - torn.count(b"\n")
            del at.rows[stream][len(at.rows[stream]) - num_lost :]

    # ---- actions of a stage

    @precondition(lambda self: self.now is not None)
    @rule(rows=st.lists(st.tuples(numbers, texts, st.booleans()), min_size=1, max_size=6))
    def write(self, rows: list[tuple[int, str, bool]]) -> None:
        for number, text, is_kept in rows:
            row = trace(number, text)
            if row.id in self.writer.done:
                continue
            if is_kept:
                self.writer.append(row)
            else:
                self.writer.reject(row, "unfinished", "length")
            self.now.rows["part" if is_kept else "rejected"].append(row)

    @precondition(lambda self: self.now is not None)
    @rule(number=numbers)
    def fail(self, number: int) -> None:
        row = trace(number, "")
        if row.id not in self.writer.done:
            self.writer.fail(row, "connection lost")
            self.now.failed.append(FailedRow(row.id, row.row_key, "connection lost"))

    @precondition(lambda self: self.now is not None and self.now.takes_over)
    @rule()
    def take_over(self) -> None:
        missing = {key for key, number in KEYS.items() if f"row {number}" not in self.writer.done}
        wanted = {}
        for one in self._by_number(self.finished) + self._by_number(self.drafts):
            for row in one.rows["part"]:
                if row.row_key in missing:
                    wanted.setdefault(row.row_key, row)
        found = list(sampled_before(self.out, missing))
        assert len(found) == len(wanted)
        assert {row.row_key: row for row in found} == wanted
        for row in found:
            self.writer.append(row)
            self.now.rows["part"].append(row)

    @precondition(lambda self: self.now is not None)
    @rule()
    def finish(self) -> None:
        at = self.now
        assert at is not None
        self._forget_failed()
        manifest = self.writer.finish([])
        at.path = self.out / manifest.version
        self.drafts.remove(at)
        self.finished.append(at)
        self.finished.sort(key=lambda one: int(one.path.name[1:]))
        self.latest = at.path
        self._stop()
        hashes = [bytes_hash(msgspec.json.encode(row)) for row in at.rows["part"]]
        assert manifest.id == content_hash(sorted(hashes))
        assert manifest.counts.tokens_kept == 3 * len(hashes)
        written = {path.name: path.read_bytes() for path in self._files(at)}
        assert {entry.name: entry.rows for entry in manifest.files} == {
            name: content.count(b"\n") for name, content in written.items()
        }

    # ---- invariants

    @invariant()
    def every_folder_holds_its_rows_once_in_order(self) -> None:
        for one in self.finished + self.drafts:
            assert len(one.ids) == len(set(one.ids))
            for stream, rows in one.rows.items():
                assert list(whole_rows(one.path, stream)) == rows

    @invariant()
    def there_are_no_other_folders(self) -> None:
        names = {one.path.name for one in self.finished + self.drafts}
        assert {path.name for path in self.out.glob("v*")} == names

    @invariant()
    def latest_is_what_was_finished_or_found_last(self) -> None:
        latest = self.out / "latest"
        assert (latest.resolve() if latest.is_symlink() else None) == self.latest

    @invariant()
    def finished_versions_are_as_their_manifests_say(self) -> None:
        for one in self.finished:
            found = manifests.read(one.path)
            integrity.check_sizes(one.path, found)
            assert (found.counts.rows_kept, found.counts.rows_rejected) == tuple(
                map(len, one.rows.values())
            )

    @invariant()
    def the_writer_knows_every_row_once(self) -> None:
        if self.now is not None:
            assert self.writer.done == set(self.now.ids)
            assert self.writer.counts.rows_kept == len(self.now.rows["part"])
            assert self.writer.counts.rows_rejected == len(self.now.rows["rejected"])
            assert self.writer.failed() == self.now.failed
            assert self.writer.num_failed == len(self.now.failed)

    def teardown(self) -> None:
        self.run.close()
        self.folder.close()
        jsonl.PART_BYTES = self.part_bytes

    def _stop(self) -> None:
        self.run.close()
        self.now = None

    def _forget_failed(self) -> None:
        self.writer.forget_failed()
        self.now.failed.clear()

    @staticmethod
    def _by_number(those: list[Expected]) -> list[Expected]:
        return sorted(those, key=lambda one: int(one.path.stem[1:]))

    @staticmethod
    def _files(one: Expected) -> Iterator[Path]:
        return (path for path in one.path.iterdir() if path.suffix == ".jsonl")


TestRunsUnderFire = RunsUnderFire.TestCase
TestRunsUnderFire.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


class TestMoreRunsUnderFire(RunsUnderFire.TestCase):
    """The same with more examples."""

    settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    pytestmark = pytest.mark.slow


class TestManyRunsUnderFire(RunsUnderFire.TestCase):
    """The same, for much longer."""

    settings = settings(max_examples=600, stateful_step_count=40, deadline=None)
    pytestmark = pytest.mark.long


APPEND_FOR_EVER = """
import itertools, sys
from pathlib import Path
import msgspec
from distillpipe.data.store import versions
from distillpipe.data.store.writer import Writer
from distillpipe.base.records import Trace
from distillpipe.data.store.versions import Header

row = msgspec.json.decode(sys.argv[2], type=Trace)
header = Header(kind="traces", stage="generate", content={"name": "A"}, inputs=[], models=[], options={})
with versions.draft(Path(sys.argv[1]), header) as draft, Writer(draft) as writer:
    for number in itertools.count():
        writer.append(msgspec.structs.replace(row, id=str(number)))
        print(number, flush=True)
"""


@pytest.mark.slow
def test_rows_that_a_killed_process_had_appended_are_all_there(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], make_header: Callable[..., Header]
) -> None:
    (row,) = make_traces(1)
    process = subprocess.Popen(
        [sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path), msgspec.json.encode(row).decode()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 500:
            process.send_signal(signal.SIGKILL)
            break
    counted = 501 + len(process.stdout.read().splitlines())
    process.wait()

    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        assert writer.done >= {str(number) for number in range(counted)}
        assert len(writer.done) - counted in (0, 1)
        assert writer.counts.rows_kept == len(writer.done)

"""Whatever is torn off the end of a draft, each whole line survives and no row stands twice."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
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

from distillpipe import dataset, versions
from distillpipe.dataset import Writer, read_rows
from distillpipe.hashing import content_hash
from distillpipe.records import Message, RejectedTrace, TokenCounts, Trace
from distillpipe.versions import Header

HEADER = Header(kind="traces", stage="generate", content={}, inputs=[], models=[], options={})
PART_BYTES = 2500  # three to five rows, so that parts rotate


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


class DraftUnderFire(RuleBasedStateMachine):
    """Append, reject, stop, tear bytes off the end of a stream, take up again; then finish and read."""

    def __init__(self) -> None:
        super().__init__()
        self.run = ExitStack()
        self.folder = ExitStack()
        self.out = Path(self.folder.enter_context(tempfile.TemporaryDirectory()))
        self.part_bytes, dataset.PART_BYTES = dataset.PART_BYTES, PART_BYTES
        self.rows: dict[str, list[Trace]] = {"part": [], "rejected": []}
        self.num_rows = 0

    @initialize()
    def open(self) -> None:
        draft = self.run.enter_context(versions.draft(self.out, HEADER))
        self.path = draft.path
        self.writer = self.run.enter_context(Writer(draft))

    @rule(text=st.text(max_size=400))
    def append(self, text: str) -> None:
        self.num_rows += 1
        row = trace(self.num_rows, text)
        self.writer.append(row)
        self.rows["part"].append(row)

    @rule(text=st.text(max_size=400))
    def reject(self, text: str) -> None:
        self.num_rows += 1
        row = trace(self.num_rows, text)
        self.writer.reject(row, "unfinished", "length")
        self.rows["rejected"].append(row)

    @rule()
    def stop_and_take_up_again(self) -> None:
        self.run.close()
        self.open()

    @precondition(lambda self: self.rows["part"] or self.rows["rejected"])
    @rule(stream=st.sampled_from(["part", "rejected"]), share=st.floats(0, 1))
    def tear_the_last_file_and_take_up_again(self, stream: str, share: float) -> None:
        self.run.close()
        if files := sorted(self.path.glob(f"{stream}-*.jsonl")):
            content = files[-1].read_bytes()
            torn = content[: int(share * len(content))]
            files[-1].write_bytes(torn)
            num_lost = content.count(b"\n") - torn.count(b"\n")
            lost = self.rows[stream][len(self.rows[stream]) - num_lost :]
            self.rows[stream] = self.rows[stream][: len(self.rows[stream]) - num_lost]
        else:
            lost = []
        self.open()
        for row in lost:  # what a stage does: it makes anew what the draft does not hold
            assert row.id not in self.writer.done
            if stream == "part":
                self.writer.append(row)
            else:
                self.writer.reject(row, "unfinished", "length")
        self.rows[stream] += lost

    @invariant()
    def the_writer_knows_every_row_once(self) -> None:
        if hasattr(self, "writer"):
            ids = [row.id for rows in self.rows.values() for row in rows]
            assert self.writer.done == set(ids)
            assert self.writer.counts.rows_kept == len(self.rows["part"])
            assert self.writer.counts.rows_rejected == len(self.rows["rejected"])

    @invariant()
    def the_disk_holds_every_row_once_in_order(self) -> None:
        if hasattr(self, "writer"):
            assert list(read_rows(self.path, "part", Trace)) == self.rows["part"]
            assert list(read_rows(self.path, "rejected", Trace)) == self.rows["rejected"]

    def teardown(self) -> None:
        try:
            if hasattr(self, "writer"):
                self._finish()
        finally:
            self.run.close()
            self.folder.close()
            dataset.PART_BYTES = self.part_bytes

    def _finish(self) -> None:
        manifest = self.writer.finish([])
        kept = [msgspec.json.encode(row) for row in self.rows["part"]]
        rejected = [
            msgspec.json.encode(row)
            for row in read_rows(self.out / "v1", "rejected", RejectedTrace)
        ]
        assert manifest.id == content_hash(sorted(map(content_hash, kept)))
        num_rows = {entry.name: entry.rows for entry in manifest.files}
        for name, count in num_rows.items():
            assert (self.out / "v1" / name).read_bytes().count(b"\n") == count
        assert sum(num_rows.values()) == len(kept) + len(rejected)


TestDraftUnderFire = DraftUnderFire.TestCase
TestDraftUnderFire.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)


APPEND_FOR_EVER = """
import itertools, sys
from pathlib import Path
import msgspec
from distillpipe import versions
from distillpipe.dataset import Writer
from distillpipe.records import Trace
from distillpipe.versions import Header

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

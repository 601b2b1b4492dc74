"""`filter --over-budget cut`: which rows are rewritten, why the others are dropped, and what a second run does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.counts import Dropped
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.label_writer import LabelWriter
from distillpipe.data.store.labels import SAMPLED, LabelSource, Vocabulary, unlabelled
from distillpipe.data.store.manifest import Manifest
from distillpipe.filters.problems import FilterInputs
from distillpipe.models.chat import Chat
from distillpipe.models.tokens import counted
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

SOURCE = LabelSource(4, "teacher", "identity", Vocabulary("hash", 9, {}, (8,), None, None))
BUDGET = 40
OPTIONS = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=1, max_reasoning_tokens=BUDGET,
    over_budget="cut", dedup="exact", per_problem=None, seed=0, max_repetition=1.0, max_foreign_letters=None,
)  # fmt: skip
STATED = "Tom starts with 14.\n\nSo the answer is 20."
AGAIN = "\n\nTom starts with 14 coins and finds 6 more coins, so once more: 14+6=20." * 3
LONG = {
    "cut": STATED + AGAIN,
    "not reached": "Tom starts with 14.\n\n14+6=20." + AGAIN,
    "one step": AGAIN.replace("\n\n", " ").strip(),
    "wrong": STATED + AGAIN,
    "fits": STATED,
}


@pytest.fixture
def rows(tmp_path: Path, make_trace: Callable[..., Trace], teacher_chat: Chat) -> dict[str, Trace]:
    """A row of every kind, counted by the shipped teacher, by its kind."""
    writer = LabelWriter(tmp_path, "1", SOURCE, [])
    labels = writer.append(unlabelled(range(9), SOURCE.k, SAMPLED))
    writer.close()
    made = {
        kind: make_trace(
            problem=f"How many coins has Tom, {kind}?",
            reasoning=reasoning,
            response="\\boxed{21}" if kind == "wrong" else "\\boxed{20}",
            row_key=f"{number:032}",
            soft_labels=labels,
        )
        for number, (kind, reasoning) in enumerate(LONG.items())
    }
    return dict(zip(made, counted(made.values(), teacher_chat), strict=True))


@pytest.fixture
def traces(tmp_path: Path, rows: dict[str, Trace]) -> Path:
    return write(tmp_path / "traces.jsonl", list(rows.values()))


@pytest.fixture
def run(repository: Path) -> Callable[..., Manifest]:
    """`run([path], out, **options)` cuts with the shipped teacher's tokenizer."""
    teacher = str(repository / "data" / "quickstart" / "teacher")

    def cut(
        inputs: list[Path], out: Path, tokenizer: str | None = teacher, **changes: Any
    ) -> Manifest:
        options = msgspec.structs.replace(OPTIONS, **changes)
        others = FilterInputs([], [], tokenizer)
        return filter_traces([str(path) for path in inputs], out, options, Run(), others).manifest

    return cut


def write(path: Path, rows: list[Trace]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def kept(out: Path) -> list[Trace]:
    return list(read_traces(str(out)))


def rejected(out: Path) -> dict[str, RejectedTrace]:
    folder = versions.resolve(str(out))
    return {row.id: row for row in scan(folder, RejectedTrace, "rejected")}


def num_reasoning(trace: Trace) -> str:
    assert trace.num_tokens is not None
    return str(trace.num_tokens.reasoning)


def test_a_row_is_cut_where_its_answer_was_reached_and_the_others_say_why_not(
    tmp_path: Path, traces: Path, rows: dict[str, Trace], run: Callable[..., Manifest],
    teacher_chat: Chat, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    manifest = run([traces], tmp_path / "clean")
    cut, fits = kept(tmp_path / "clean")

    assert cut.reasoning == STATED
    assert cut.response == rows["cut"].response
    assert [cut] == list(counted([cut], teacher_chat))
    assert int(num_reasoning(cut)) <= BUDGET < int(num_reasoning(rows["cut"]))
    assert cut.id == f"{cut.problem_id}/{cut.row_key[:16]}" != rows["cut"].id
    assert json.loads(cut.extra or "") == {"cut_from": rows["cut"].id}
    assert (cut.answer, cut.verdict, cut.soft_labels) == ("20", "correct", fits.soft_labels)
    assert fits == msgspec.structs.replace(rows["fits"], answer="20", verdict="correct")

    dropped = rejected(tmp_path / "clean")
    assert {row_id: (row.reason, row.measured) for row_id, row in dropped.items()} == {
        rows["not reached"].id: ("answer_not_reached", num_reasoning(rows["not reached"])),
        rows["one step"].id: ("too_many_reasoning_tokens", num_reasoning(rows["one step"])),
        rows["wrong"].id: ("wrong_answer", "21"),
    }
    for kind in ("not reached", "one step", "wrong"):  # as they were read
        assert dropped[rows[kind].id].reasoning == rows[kind].reasoning
        assert dropped[rows[kind].id].num_tokens == rows[kind].num_tokens
    assert (manifest.counts.rows_read, manifest.counts.rows_kept) == (5, 2)
    assert manifest.counts.rows_rejected == 3
    assert manifest.counts.dropped["answer_not_reached"] == Dropped(
        rows=1, tokens=rows["not reached"].num_completion_tokens or 0
    )
    assert "filter: cut the reasoning of 1 of the 2 rows kept\n" in capsys.readouterr().err


def test_by_default_all_of_them_are_dropped(
    tmp_path: Path, traces: Path, rows: dict[str, Trace], run: Callable[..., Manifest]
) -> None:
    run([traces], tmp_path / "clean", tokenizer=None, over_budget="drop")
    assert [row.id for row in kept(tmp_path / "clean")] == [rows["fits"].id]
    assert {row.reason for row in rejected(tmp_path / "clean").values()} == {
        "too_many_reasoning_tokens"
    }


def test_with_explain_every_rule_speaks_of_the_row_as_it_is_cut(
    tmp_path: Path, traces: Path, rows: dict[str, Trace], run: Callable[..., Manifest]
) -> None:
    run([traces], tmp_path / "clean", explain=True, verdicts=("wrong",))
    dropped = rejected(tmp_path / "clean")
    said = {kind: dropped[row.id] for kind, row in rows.items() if row.id in dropped}
    assert {kind: (row.reason, row.other_reasons) for kind, row in said.items()} == {
        "cut": ("correct_answer", []),
        "not reached": ("answer_not_reached", ["correct_answer"]),
        "one step": ("too_many_reasoning_tokens", ["correct_answer"]),
        "fits": ("correct_answer", []),
    }


def test_what_was_cut_is_kept_as_it_is_by_the_same_filter_and_is_cut_once(
    tmp_path: Path, traces: Path, run: Callable[..., Manifest]
) -> None:
    first = run([traces], tmp_path / "clean")
    again = run([tmp_path / "clean"], tmp_path / "again")
    assert again.id == first.id
    assert again.counts.rows_rejected == 0


@pytest.mark.parametrize("dedup", ["exact", "none"])
def test_a_row_beside_its_own_cut_copy_is_the_duplicate_of_it(
    tmp_path: Path, traces: Path, rows: dict[str, Trace], run: Callable[..., Manifest], dedup: str
) -> None:
    first = run([traces], tmp_path / "clean")
    for number, inputs in enumerate([[traces, tmp_path / "clean"], [tmp_path / "clean", traces]]):
        out = tmp_path / f"both{number}"
        both = run(inputs, out, dedup=dedup)
        assert both.id == first.id
        assert both.counts.rows_kept + both.counts.rows_rejected == both.counts.rows_read == 6
        copy = next(row for row in kept(out) if row.reasoning == STATED and row.extra)
        told = rejected(out)[rows["cut"].id]
        assert (told.reason, told.measured) == ("duplicate", copy.id)


def test_rows_that_are_equal_once_they_are_cut_are_duplicates(
    tmp_path: Path, rows: dict[str, Trace], run: Callable[..., Manifest]
) -> None:
    other = msgspec.structs.replace(
        rows["cut"], id=f"{rows['cut'].problem_id}/{'f' * 16}", row_key="f" * 32,
        messages=[
            rows["cut"].messages[0],
            msgspec.structs.replace(
                rows["cut"].messages[1], reasoning_content=LONG["cut"] + "\n\nYes."
            ),
        ],
    )  # fmt: skip
    path = write(tmp_path / "two.jsonl", [rows["cut"], other])
    manifest = run([path], tmp_path / "clean")
    (one,) = kept(tmp_path / "clean")
    (told,) = rejected(tmp_path / "clean").values()
    sources = {rows["cut"].id, other.id}
    assert told.reason == "duplicate"
    assert sources == {told.id, told.measured} == {told.id, json.loads(one.extra or "")["cut_from"]}
    assert manifest.counts.rows_read == 2


def test_an_interrupted_run_goes_on_with_the_cut_rows_that_it_has(
    tmp_path: Path, rows: dict[str, Trace], run: Callable[..., Manifest]
) -> None:
    more = [
        msgspec.structs.replace(rows[kind], row_key=key, id=f"{rows[kind].problem_id}/{key[:16]}")
        for number, kind in enumerate(["cut", "not reached"] * 3)
        for key in [f"{number + 50}" * 16]
    ]
    path = write(tmp_path / "traces.jsonl", [*rows.values(), *more])
    out = tmp_path / "clean"
    undisturbed = run([path], out, dedup="none")
    assert (undisturbed.counts.rows_kept, undisturbed.counts.rows_rejected) == (5, 6)

    # as a kill leaves it: no final name, no id, the last lines missing and one torn
    shutil.move(out / "v1", out / "v1.partial")
    (out / "latest").unlink()
    killed = msgspec.structs.replace(undisturbed, id=None, finished=None, files=[])
    manifests.write(out / "v1.partial", killed)
    part, dropped = (out / f"v1.partial/{name}-00000.jsonl" for name in ("part", "rejected"))
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    dropped.write_bytes(b"".join(dropped.read_bytes().splitlines(keepends=True)[:2]))
    (out / "v1.partial/problems.jsonl").unlink()
    survived = part.read_bytes().rpartition(b"\n")[0]

    resumed = run([path], out, dedup="none")
    assert survived.count(b"cut_from") >= 1
    assert (out / "v1/part-00000.jsonl").read_bytes().startswith(survived + b"\n")
    assert resumed.id == undisturbed.id
    assert resumed.files == undisturbed.files


def test_the_tokenizer_is_part_of_what_a_version_is(
    tmp_path: Path, traces: Path, run: Callable[..., Manifest], repository: Path
) -> None:
    out, shipped = tmp_path / "clean", repository / "data" / "quickstart"
    first = run([traces], out)
    assert [(one.role, one.name) for one in first.models] == [
        ("tokenizer", str(shipped / "teacher"))
    ]
    assert run([traces], out).version == "v1"
    moved = shutil.copytree(shipped / "teacher", tmp_path / "moved")
    assert run([traces], out, str(moved)).version == "v1"
    (moved / "generation_config.json").write_text("{}")
    assert run([traces], out, str(moved)).version == "v2"


@pytest.mark.parametrize(
    ("tokenizer", "changes", "complaint"),
    [
        (None, {}, "counts tokens: give the --tokenizer MODEL with which the rows were counted"),
        ("t", {"max_reasoning_tokens": None}, "cut needs --max-reasoning-tokens N"),
        ("t", {"over_budget": "drop"}, "--tokenizer needs --over-budget cut"),
        (
            "t",
            {"ignored_rules": ("too_many_reasoning_tokens",)},
            "--ignore-rule too_many_reasoning_tokens exclude each other",
        ),
    ],
)
def test_options_that_say_nothing_without_one_another_are_refused(
    tmp_path: Path, traces: Path, run: Callable[..., Manifest], tokenizer: str | None,
    changes: dict[str, Any], complaint: str,
) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=complaint):
        run([traces], tmp_path / "clean", tokenizer, **changes)
    assert not (tmp_path / "clean").exists()


def test_the_command_cuts_and_forecasts_and_knows_no_force_yet(
    tmp_path: Path, traces: Path, repository: Path, distill: Callable[..., Any]
) -> None:
    teacher = repository / "data" / "quickstart" / "teacher"
    given = ["filter", traces, "--max-reasoning-tokens", BUDGET, "--out", tmp_path / "clean"]
    assert distill(*given, "--over-budget", "force").code == 2
    assert distill(*given, "--over-budget", "cut").code == 2
    given += ["--over-budget", "cut", "--tokenizer", teacher]
    assert distill(*given, "--dry-run").code == 0
    assert not (tmp_path / "clean").exists()
    assert distill(*given).code == 0
    assert len(kept(tmp_path / "clean")) == 2

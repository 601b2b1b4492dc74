"""The funnel: followed over paths that hold and paths that do not, and what is said of what is gone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed
from distillpipe.data.store.versions import Header
from distillpipe.models import lookup
from distillpipe.reports.dataset_text import funnel_lines
from distillpipe.reports.lineage import FunnelStep, ancestry

Make = Callable[..., Manifest]


@pytest.fixture
def runs(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, now the working one: problems.jsonl -> traces v1 (5 rows) -> clean v1 (2 rows)."""
    monkeypatch.chdir(tmp_path)
    Path("problems.jsonl").write_text('{"problem": "1+1?"}\n', encoding="utf-8")
    make(Path("runs/traces"), kept=5, inputs=["problems.jsonl"], num_problems=4)
    dropped = {"unfinished": 1, "wrong_answer": 2}
    make(Path("runs/clean"), 2, dropped, ["runs/traces"], stage="filter")
    return tmp_path / "runs"


def steps_of(folder: Path) -> list[FunnelStep]:
    return ancestry(folder, manifests.read(folder))


def lines_of(folder: Path) -> list[str]:
    return [" ".join(line.split()) for line in funnel_lines(steps_of(folder))]


CLEAN = "-> clean v1 2 rows of 5 (wrong_answer 2, unfinished 1)"


def test_the_funnel_goes_from_the_problems_to_the_version_asked_for(runs: Path) -> None:
    assert funnel_lines(steps_of(runs / "clean/v1")) == [
        "    problems.jsonl  4 problems",
        "->  traces v1       5 rows",
        "->  clean v1        2 rows of 5 (wrong_answer 2, unfinished 1)",
    ]


def test_a_step_knows_what_made_it_and_from_what(runs: Path) -> None:
    file, traces, clean = steps_of(runs / "clean/v1")

    assert (file.kind, file.stage, file.version, file.state) == ("problems", None, None, "found")
    assert (traces.kind, traces.stage, traces.inputs) == ("traces", "generate", [0])
    assert (clean.stage, clean.rows, clean.rows_read, clean.inputs) == ("filter", 2, 5, [1])
    assert clean.dropped == {"wrong_answer": 2, "unfinished": 1}
    assert clean.path == str(runs / "clean/v1")


def test_folders_moved_together_are_found_by_their_relative_paths(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = runs.parent / "elsewhere"
    elsewhere.mkdir()
    runs.rename(elsewhere / "runs")
    Path("problems.jsonl").rename(elsewhere / "problems.jsonl")
    monkeypatch.chdir("/")

    steps = steps_of(elsewhere / "runs/clean/v1")
    assert [step.state for step in steps] == ["found", "found", "found"]
    assert Path(steps[1].path).resolve() == elsewhere / "runs/traces/v1"


def test_copies_moved_together_belong_to_each_other(runs: Path) -> None:
    shutil.copytree(runs / "clean", "copy/clean", symlinks=True)
    shutil.copytree(runs / "traces", "copy/traces", symlinks=True)

    traces = steps_of(Path("copy/clean/v1"))[-2]
    assert Path(traces.path).resolve() == runs.parent / "copy/traces/v1"


def test_an_ancestor_that_is_gone_is_shown_with_what_was_read_of_it(runs: Path) -> None:
    shutil.rmtree(runs / "traces")

    assert lines_of(runs / "clean/v1") == ["traces v1 5 rows (gone)", CLEAN]
    assert steps_of(runs / "clean/v1")[0].path == str(runs / "traces/v1")


def test_a_file_that_is_gone_is_shown_with_the_problems_that_were_read(runs: Path) -> None:
    Path("problems.jsonl").unlink()

    assert lines_of(runs / "traces/v1") == [
        "problems.jsonl 4 problems (gone)",
        "-> traces v1 5 rows",
    ]


def test_a_version_with_another_id_is_no_ancestor(runs: Path, make: Make) -> None:
    shutil.rmtree(runs / "traces")
    make(runs / "traces", kept=3)

    assert lines_of(runs / "clean/v1") == ["traces v1 5 rows (changed since)", CLEAN]


def test_a_manifest_that_was_edited_is_no_ancestor(runs: Path) -> None:
    path = runs / "traces/v1/manifest.json"
    path.write_text(path.read_text().replace('"rows_read": 5', '"rows_read": 6'))

    assert lines_of(runs / "clean/v1") == ["traces v1 5 rows (changed since)", CLEAN]


def test_a_file_of_traces_is_a_leaf_that_counts_rows(runs: Path, make: Make) -> None:
    Path("own.jsonl").write_text("{}\n", encoding="utf-8")
    make(runs / "mine", 1, {"wrong_answer": 1}, ["own.jsonl"], stage="filter")

    assert lines_of(runs / "mine/v1") == [
        "own.jsonl 2 rows",
        "-> mine v1 1 rows of 2 (wrong_answer 1)",
    ]


def test_inputs_join_and_what_they_share_is_shown_once(runs: Path, make: Make) -> None:
    make(runs / "more", kept=9, inputs=["problems.jsonl"], num_problems=7)
    make(runs / "both", 14, inputs=["runs/traces", "runs/more"], stage="filter")

    assert lines_of(runs / "both/v1") == [
        "problems.jsonl 7 problems",  # the most that one of the two has read
        "-> traces v1 5 rows",
        "-> more v1 9 rows, from problems.jsonl",
        "-> both v1 14 rows, from traces v1 and more v1",
    ]


def test_what_one_of_several_inputs_held_is_not_guessed(runs: Path, make: Make) -> None:
    make(runs / "more", kept=9)
    make(runs / "both", 14, inputs=["runs/traces", "runs/more"], stage="filter")
    shutil.rmtree(runs / "traces")

    assert lines_of(runs / "both/v1")[0] == "traces v1 traces (gone)"


def test_datasets_of_one_name_are_told_apart_by_their_paths(runs: Path, make: Make) -> None:
    make(Path("other/traces"), kept=1)
    make(runs / "both", 6, inputs=["runs/traces", "other/traces"], stage="filter")

    assert lines_of(runs / "both/v1")[1:] == [
        f"-> {runs}/traces/v1 5 rows",
        f"{runs.parent}/other/traces/v1 1 rows",
        f"-> both v1 6 rows, from {runs}/traces/v1 and {runs.parent}/other/traces/v1",
    ]


def write_checkpoint(out: Path, header: Header) -> Manifest:
    with versions.draft(out, header) as draft:
        draft.manifest.id = "the model's id"
        draft.manifest.counts.rows_read = 2
        return draft.finish("a card\n")


def test_a_model_of_ours_and_its_ancestors_stand_before_what_was_sampled_of_it(
    runs: Path, make: Make, make_header: Callable[..., Header]
) -> None:
    inputs = [dataset.describe(dataset.find("runs/clean"), runs / "student")]
    student = make_header(kind="checkpoint", stage="sft", inputs=inputs)
    write_checkpoint(runs / "student", student)
    used = ModelUsed("model", "runs/student", "checkpoint:the model's id")
    make(
        runs / "eval/test", inputs=["problems.jsonl"], num_problems=2,
        stage="eval", kind="predictions", models=[used],
    )  # fmt: skip

    assert lines_of(runs / "eval/test/v1") == [
        "problems.jsonl 4 problems",
        "-> traces v1 5 rows",
        CLEAN,
        "-> student v1 checkpoint trained on 2 rows",
        "-> test v1 2 rows, from student v1 and problems.jsonl",
    ]
    shutil.rmtree(runs / "student")
    assert lines_of(runs / "eval/test/v1") == [
        "student latest checkpoint (gone)",
        "problems.jsonl 2 problems",
        "-> test v1 2 rows, from student latest and problems.jsonl",
    ]


def test_an_input_from_the_hub_is_named_and_not_looked_for(
    tmp_path: Path, make_header: Callable[..., Header]
) -> None:
    given = InputDataset("hub:openai/gsm8k:main:train", None, "commit")
    with versions.draft(tmp_path / "traces", make_header(inputs=[given])) as draft:
        draft.finish("a card\n")

    first, last = steps_of(tmp_path / "traces/v1")
    assert (first.name, first.state) == ("hub:openai/gsm8k:main:train", "remote")
    assert last.inputs == [0]


def test_a_version_that_names_itself_ends_the_funnel(
    tmp_path: Path, make_header: Callable[..., Header]
) -> None:
    out = tmp_path / "clean"
    itself = InputDataset(str(out), "v1", "the id")
    with versions.draft(out, make_header(stage="filter", inputs=[itself])) as draft:
        draft.manifest.id = "the id"
        draft.finish("a card\n")

    assert [(step.name, step.state) for step in steps_of(out / "v1")] == [
        ("clean", "changed"),
        ("clean", "found"),
    ]


def test_a_version_without_inputs_is_all_of_its_funnel(runs: Path, make: Make) -> None:
    make(runs / "alone", kept=1)

    assert lines_of(runs / "alone/v1") == ["alone v1 1 rows"]


# ---------------------------------------------------------------- one checkpoint, many names

NAMES = [
    "runs/student", "runs/student@v1", "runs/student/latest", "runs/student/v1", "./runs/student/",
    "runs/../runs/student/v1", "ABSOLUTE/student", "ABSOLUTE/student/latest", "ABSOLUTE/student@v1",
    "runs/student/latest/merged", "runs/student/v1/merged", "copies/one", "link",
]  # fmt: skip


@pytest.fixture
def student(runs: Path, make_header: Callable[..., Header]) -> Path:
    """A checkpoint of ours with a merged model beside it, a copy of the version alone, and a link."""
    inputs = [dataset.describe(dataset.find("runs/clean"), runs / "student")]
    write_checkpoint(runs / "student", make_header(kind="checkpoint", stage="sft", inputs=inputs))
    merged = runs / "student/v1/merged"
    merged.mkdir()
    (merged / "config.json").write_text("{}")
    (merged / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    shutil.copytree(runs / "student/v1", runs.parent / "copies/one")
    (runs.parent / "link").symlink_to(runs / "student/v1")
    return runs / "student"


@pytest.mark.parametrize("directory", [".", "runs", "/"])
@pytest.mark.parametrize("name", NAMES)
def test_lineage_is_that_of_the_checkpoint_by_any_name(
    name: str,
    directory: str,
    student: Path,
    runs: Path,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = name.replace("ABSOLUTE", str(runs))
    used = lookup.used("model", lookup.find(reference, "MODEL"), Path("runs/eval/test"))
    make(
        runs / "eval/test", inputs=["problems.jsonl"], num_problems=2,
        stage="eval", kind="predictions", models=[used],
    )  # fmt: skip
    monkeypatch.chdir(directory)

    steps = steps_of(runs / "eval/test/v1")
    assert [(step.kind, step.state) for step in steps] == [
        ("problems", "found"), ("traces", "found"), ("traces", "found"), ("checkpoint", "found"),
        ("predictions", "found"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["runs/student", "runs/student/latest", "runs/student/v1"])
def test_a_manifest_without_a_relative_path_is_followed(
    name: str, student: Path, runs: Path, make: Make
) -> None:
    used = ModelUsed("model", name, "checkpoint:the model's id")
    make(runs / "eval/test", 1, stage="eval", kind="predictions", models=[used])

    assert [step.state for step in steps_of(runs / "eval/test/v1")] == 5 * ["found"]


def test_a_foreign_adapter_on_a_checkpoint_of_ours_has_its_lineage(
    student: Path, runs: Path, make: Make
) -> None:
    used = ModelUsed("model", "elsewhere/adapter", "local:12 on checkpoint:the model's id")
    make(runs / "eval/test", 1, stage="eval", kind="predictions", models=[used])

    first = steps_of(runs / "eval/test/v1")[0]
    assert (first.kind, first.state) == (
        "checkpoint",
        "gone",
    )  # known to be ours, not where it lies


def test_another_file_of_the_same_name_is_no_ancestor(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "problems.jsonl").write_text('{"problem": "another"}\n')
    Path("problems.jsonl").unlink()
    monkeypatch.chdir(elsewhere)

    first = steps_of(runs / "traces/v1")[0]
    assert first.state == "changed"

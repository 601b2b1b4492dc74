"""`filter` as a stage: what is kept, what stands beside it and why, and what a second run does."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.hashing import file_sha256
from distillpipe.base.records import Problem, RejectedTrace, TokenCounts, Trace
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.counts import Dropped
from distillpipe.data.store.dataset import find, read_problems, read_traces, scan
from distillpipe.data.store.manifest import InputDataset, Manifest
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

MakeTrace = Callable[..., Trace]
OPTIONS = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=4, max_reasoning_tokens=100,
    dedup="exact", per_problem=None, seed=0, max_repetition=1.0, max_foreign_letters=None,
)  # fmt: skip


def run(inputs: list[Path | str], out: Path, *, fresh: bool = False, **changes: Any) -> Manifest:
    options = msgspec.structs.replace(OPTIONS, **changes)
    return filter_traces([str(path) for path in inputs], out, options, Run(fresh=fresh)).manifest


def write(path: Path, rows: list[Trace]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def kept(out: Path) -> list[Trace]:
    return list(read_traces(str(out)))


def rejected(out: Path) -> list[RejectedTrace]:
    return list(scan(versions.resolve(str(out)), RejectedTrace, "rejected"))


def tokens(reasoning: int) -> TokenCounts:
    return TokenCounts(prompt=30, reasoning=reasoning, response=5, total=38 + reasoning)


@pytest.fixture
def every_kind(make_trace: MakeTrace) -> dict[str, Trace]:
    """A row for every reason to be dropped, and one to keep; by the reason."""
    changes: dict[str, dict[str, Any]] = {
        "kept": {},
        "unfinished": {"finish_reason": "length"},
        "missing_reasoning": {"reasoning": None, "num_tokens": tokens(0)},
        "too_few_reasoning_tokens": {"num_tokens": tokens(3)},
        "too_many_reasoning_tokens": {"num_tokens": tokens(101)},
        "wrong_answer": {"response": "\\boxed{21}"},
        "unverifiable_answer": {"reference_answer": None},
    }
    return {
        reason: make_trace(problem=f"What is 14+6, {reason}?", row_key=f"{number:032}", **given)
        for number, (reason, given) in enumerate(changes.items())
    }


def test_every_reason_stands_beside_the_row_with_what_was_measured(
    tmp_path: Path, every_kind: dict[str, Trace]
) -> None:
    path = write(tmp_path / "traces.jsonl", list(every_kind.values()))
    manifest = run([path], tmp_path / "clean")

    assert [(row.id, row.reason, row.measured) for row in rejected(tmp_path / "clean")] == [
        (every_kind[reason].id, reason, measured)
        for reason, measured in [
            ("unfinished", "length"),
            ("missing_reasoning", None),
            ("too_few_reasoning_tokens", "3"),
            ("too_many_reasoning_tokens", "101"),
            ("wrong_answer", "21"),
            ("unverifiable_answer", "no_reference"),
        ]
    ]
    judged = msgspec.structs.replace(every_kind["kept"], answer="20", verdict="correct")
    assert kept(tmp_path / "clean") == [judged]
    assert manifest.counts.rows_read == 7
    assert (manifest.counts.rows_kept, manifest.counts.rows_rejected) == (1, 6)
    assert manifest.counts.dropped["too_many_reasoning_tokens"] == Dropped(rows=1, tokens=109)


def test_other_verdicts_can_be_kept(tmp_path: Path, every_kind: dict[str, Trace]) -> None:
    path = write(tmp_path / "traces.jsonl", list(every_kind.values()))
    run([path], tmp_path / "clean", verdicts=("wrong", "unverifiable"))

    assert [(row.id, row.verdict) for row in kept(tmp_path / "clean")] == [
        (every_kind["wrong_answer"].id, "wrong"),
        (every_kind["unverifiable_answer"].id, "unverifiable"),
    ]
    assert [row.reason for row in rejected(tmp_path / "clean")].count("correct_answer") == 1


def test_the_verdict_is_asked_for_last_and_can_be_ignored(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    wrong = make_trace(response="\\boxed{21}")
    both = make_trace(response="\\boxed{21}", num_tokens=tokens(101), row_key="1" * 32)
    path = write(tmp_path / "traces.jsonl", [make_trace(row_key="2" * 32), wrong, both])
    run([path], tmp_path / "clean")
    reasons = {row.id: row.reason for row in rejected(tmp_path / "clean")}
    assert reasons == {wrong.id: "wrong_answer", both.id: "too_many_reasoning_tokens"}

    run([path], tmp_path / "all", ignored_rules=("unwanted_verdict",))
    assert [row.verdict for row in kept(tmp_path / "all")] == ["correct", "wrong"]


def test_a_verifier_that_is_given_judges_all_rows_and_is_written_into_them(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    rows = [
        make_trace(problem="a", response="\\boxed{20.0}", row_key="1" * 32),
        make_trace(problem="b", response="\\boxed{20}", row_key="2" * 32),
    ]
    path = write(tmp_path / "traces.jsonl", rows)
    run([path], tmp_path / "math")
    run([path], tmp_path / "exact", verifier="exact")

    assert [row.verifier for row in kept(tmp_path / "math")] == ["math", "math"]
    assert [(row.id, row.verifier) for row in kept(tmp_path / "exact")] == [(rows[1].id, "exact")]
    assert [(row.id, row.verifier, row.verdict) for row in rejected(tmp_path / "exact")] == [
        (rows[0].id, "exact", "wrong")
    ]


def test_an_unknown_verifier_is_an_error_that_lists_the_known_ones(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    path = write(tmp_path / "traces.jsonl", [make_trace()])

    with pytest.raises(UsageError, match="no verifier 'maths': there are exact, numeric, math"):
        run([path], tmp_path / "clean", verifier="maths")


# ---------------------------------------------------------------- rows that are alike


def test_the_same_row_in_two_inputs_is_read_once(tmp_path: Path, make_trace: MakeTrace) -> None:
    one, two = make_trace(problem="a"), make_trace(problem="b")
    first = write(tmp_path / "first.jsonl", [one, two, one])
    second = write(tmp_path / "second.jsonl", [two])
    manifest = run([first, second], tmp_path / "clean")

    assert manifest.counts.rows_read == 2
    assert [row.id for row in kept(tmp_path / "clean")] == [one.id, two.id]


def test_the_same_id_with_other_content_is_an_error_that_names_it(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    row = make_trace()
    edited = msgspec.structs.replace(row, seed=124)
    path = write(tmp_path / "traces.jsonl", [row, edited])

    with pytest.raises(
        DataError, match=rf"row {row.id} is in the input twice .* different content"
    ):
        run([path], tmp_path / "clean")
    assert versions.finished(tmp_path / "clean") == []


@pytest.mark.parametrize(("dedup", "num_kept"), [("exact", 1), ("none", 2)])
def test_of_equal_completions_one_is_kept_and_the_other_names_it(
    tmp_path: Path, make_trace: MakeTrace, dedup: str, num_kept: int
) -> None:
    rows = [make_trace(row_key=digit * 32, sample=int(digit)) for digit in "12"]
    run([write(tmp_path / "traces.jsonl", rows)], tmp_path / "clean", dedup=dedup)

    assert len(kept(tmp_path / "clean")) == num_kept
    assert [(row.reason, row.measured) for row in rejected(tmp_path / "clean")] == [
        ("duplicate", kept(tmp_path / "clean")[0].id)
    ] * (2 - num_kept)


def test_which_rows_of_a_problem_are_kept_does_not_depend_on_their_order(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    rows = [
        make_trace(problem=problem, reasoning=f"thought {number}", row_key=f"{number:016}" * 2)
        for number, problem in enumerate(["a", "b"] * 6)
    ]
    shuffled = random.Random(0).sample(rows, len(rows))
    first = run([write(tmp_path / "1.jsonl", rows)], tmp_path / "one", per_problem=2)
    other = run([write(tmp_path / "2.jsonl", shuffled)], tmp_path / "other", per_problem=2)
    another_seed = run([tmp_path / "1.jsonl"], tmp_path / "seed", per_problem=2, seed=1)

    assert first.counts.rows_kept == 4
    assert first.counts.dropped["over_per_problem"].rows == 8
    assert first.id == other.id
    assert {row.id for row in kept(tmp_path / "one")} == {
        row.id for row in kept(tmp_path / "other")
    }
    assert another_seed.id != first.id


# ---------------------------------------------------------------- inputs


def test_inputs_are_versions_and_files_and_stand_in_the_manifest(
    tmp_path: Path, make_trace: MakeTrace, write_dataset: Callable[..., Manifest]
) -> None:
    one, two, three = (make_trace(problem=problem) for problem in "abc")
    first = write_dataset(tmp_path / "traces", [one], name="A")
    write_dataset(tmp_path / "traces", [one, two], name="B")
    path = write(tmp_path / "more.jsonl", [three])
    manifest = run([f"{tmp_path}/traces@v1", path], tmp_path / "clean")

    assert manifest.inputs == [
        InputDataset(f"{tmp_path}/traces", "v1", str(first.id), "../traces"),
        InputDataset(str(path), None, file_sha256(path), "../more.jsonl"),
    ]
    assert [row.id for row in kept(tmp_path / "clean")] == [one.id, three.id]


def test_problems_of_the_rows_kept_keep_their_extra(
    tmp_path: Path, make_trace: MakeTrace, write_dataset: Callable[..., Manifest]
) -> None:
    right, wrong = make_trace(problem="a"), make_trace(problem="b", response="no idea")
    problems = [
        Problem(
            problem_id=row.problem_id,
            problem=row.problem,
            reference_answer=row.reference_answer,
            verifier=row.verifier,
            extra='{"num_steps":2}',
        )
        for row in (right, wrong)
    ]
    write_dataset(tmp_path / "traces", [right, wrong], problems=problems)
    run([tmp_path / "traces"], tmp_path / "clean")

    assert list(read_problems(find(str(tmp_path / "clean")))) == problems[:1]


def test_rows_that_were_rejected_can_be_filtered_again(
    tmp_path: Path, every_kind: dict[str, Trace]
) -> None:
    path = write(tmp_path / "traces.jsonl", list(every_kind.values()))
    run([path], tmp_path / "clean")
    again = run(
        [tmp_path / "clean/v1/rejected-00000.jsonl"], tmp_path / "long", max_reasoning_tokens=101
    )

    assert again.counts.rows_read == 6
    assert [row.id for row in kept(tmp_path / "long")] == [
        every_kind["too_many_reasoning_tokens"].id
    ]


def test_rows_of_a_benchmark_are_refused_before_anything_is_written(
    tmp_path: Path, make_trace: MakeTrace
) -> None:
    rows = [make_trace(problem="a"), make_trace(problem="b", benchmark="math500")]
    path = write(tmp_path / "traces.jsonl", rows)

    with pytest.raises(
        UsageError, match=rf"{path}: row {rows[1].id} belongs to the benchmark math500"
    ):
        run([path], tmp_path / "clean")
    assert not list((tmp_path / "clean/v1.partial").glob("*.jsonl"))


def test_an_empty_input_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"traces.jsonl: no rows to filter"):
        run([write(tmp_path / "traces.jsonl", [])], tmp_path / "clean")


# ---------------------------------------------------------------- nothing left, again, interrupted


def test_where_nothing_is_left_the_version_stays_unfinished_with_its_rejected_rows(
    tmp_path: Path, every_kind: dict[str, Trace]
) -> None:
    rows = [row for reason, row in every_kind.items() if reason != "kept"]
    path = write(tmp_path / "traces.jsonl", rows)

    for _ in range(2):  # the second run finds all rows written already
        with pytest.raises(DataError) as raised:
            run([path], tmp_path / "clean")
        complaint, *funnel = str(raised.value).splitlines()
        assert complaint == "no row of 6 is left:"
        assert sorted(line.split()[-1] for line in funnel) == sorted(set(every_kind) - {"kept"})
        assert len(list(scan(tmp_path / "clean/v1.partial", Trace, "rejected"))) == 6
    assert [path.name for path in versions.partials(tmp_path / "clean")] == ["v1.partial"]

    run([path], tmp_path / "clean", verdicts=("wrong",))
    assert versions.resolve(str(tmp_path / "clean")) == tmp_path / "clean" / "v2"


def test_a_second_run_is_up_to_date_and_other_options_or_rows_are_not(
    tmp_path: Path, make_trace: MakeTrace, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "clean", write(tmp_path / "traces.jsonl", [make_trace()])
    first = run([path], out)
    again = run([path], out)
    assert again == first
    assert capsys.readouterr().err.endswith(f"filter: up to date: {out}/v1\n")

    run([path], out, max_reasoning_tokens=None)
    write(path, [make_trace(), make_trace(problem="b")])
    run([path], out)
    run([path], out, fresh=True)
    assert [found.name for found in versions.finished(out)] == ["v1", "v2", "v3", "v4"]


def test_an_interrupted_run_goes_on_with_the_rows_it_has_unchanged(
    tmp_path: Path, every_kind: dict[str, Trace], make_trace: MakeTrace
) -> None:
    more = [make_trace(problem=f"problem {number}") for number in range(5)]
    path = write(tmp_path / "traces.jsonl", [*every_kind.values(), *more])
    out = tmp_path / "clean"
    undisturbed = run([path], out)

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

    resumed = run([path], out)
    assert survived.count(b"\n") >= 1
    assert (out / "v1/part-00000.jsonl").read_bytes().startswith(survived + b"\n")
    assert resumed.id == undisturbed.id
    assert resumed.files == undisturbed.files
    assert resumed.counts.dropped == undisturbed.counts.dropped


def test_the_text_of_an_option_is_an_answer_since_the_options_stand_with_the_problem(
    tmp_path: Path, make_trace: MakeTrace, write_dataset: Callable[..., Manifest]
) -> None:
    texts = {"\\boxed{a cat}": "correct", "\\boxed{B}": "correct", "\\boxed{a dog}": "wrong"}
    rows = [
        make_trace(
            problem="Which one purrs?", reference_answer="B", verifier="choice", response=text,
            row_key=f"{number}{'0' * 31}",
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    problem = Problem(
        problem_id=rows[0].problem_id, problem=rows[0].problem, reference_answer="B",
        verifier="choice", extra='{"options": ["a dog", "a cat"]}',
    )  # fmt: skip
    write_dataset(tmp_path / "traces", rows, problems=[problem])
    run([tmp_path / "traces"], tmp_path / "clean", verdicts=("correct", "wrong"))

    found = {trace.response: trace.verdict for trace in kept(tmp_path / "clean")}
    assert found == texts

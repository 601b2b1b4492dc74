"""`compare`: paired, refused where it cannot be, with what makes a comparison unfair said beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.manifest import Manifest, ModelUsed, ResolvedOption
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.reports.comparison_text import terminal_lines
from distillpipe.stages.compare import compare, write

Predict = Callable[..., Path]
OPTIONS = {"prompt_template": "{problem}", "temperature": 0.6, "out": "runs", "concurrency": 8}


@pytest.fixture
def predict(
    tmp_path: Path, make_trace: Callable[..., Trace], make_header: Callable[..., Header]
) -> Predict:
    """`predict("a", {"p1": "+-", "p2": "++"})` finishes predictions, + for a correct sample, under a/bench.

    n is for a prompt that was too long, e for a request that failed.
    """

    def factory(
        name: str,
        samples: dict[str, str],
        benchmark: str = "bench",
        options: dict[str, Any] | None = None,
        domains: dict[str, str] | None = None,
        **header: Any,
    ) -> Path:
        out = tmp_path / name
        resolved = {
            key: ResolvedOption(value, "default")
            for key, value in (OPTIONS | (options or {})).items()
        }
        described = make_header(name, kind="predictions", stage="eval", options=resolved, **header)
        with versions.draft(out / benchmark, described) as draft, Writer(draft) as writer:
            for problem, signs in samples.items():
                for sample, sign in enumerate(signs):
                    row = make_trace(
                        problem=problem,
                        row_key=content_hash(name, problem, sample),
                        sample=sample,
                        verdict="correct" if sign == "+" else "wrong",
                        answer="20" if sign == "+" else "21",
                        domain=(domains or {}).get(problem),
                    )
                    if sign in "ne":
                        reason = "prompt_too_long" if sign == "n" else "engine_error"
                        writer.reject(row, reason, None)
                    else:
                        writer.append(row)
            draft.manifest.metrics = {"benchmark": benchmark, "verifier_version": 3}
            writer.finish([])
        return out

    return factory


@pytest.fixture
def student_of(
    tmp_path: Path,
    make_header: Callable[..., Header],
    write_dataset: Callable[..., Manifest],
    make_trace: Callable[..., Trace],
) -> Callable[..., list[ModelUsed]]:
    """`student_of(["p1"])`: the model of predictions, a checkpoint that was trained on these problems."""

    def factory(problems: list[str], suffix: str = "") -> list[ModelUsed]:
        traces = [make_trace(problem=one, row_key=content_hash(one)) for one in problems]
        write_dataset(tmp_path / "clean", traces)
        inputs = [dataset.describe(dataset.find(str(tmp_path / "clean")), tmp_path / "student")]
        header = make_header("student", kind="checkpoint", stage="sft", inputs=inputs)
        with versions.draft(tmp_path / "student", header) as draft:
            draft.manifest.id = "5eed"
            draft.finish("a card\n")
        return [ModelUsed("model", str(tmp_path / "student"), f"checkpoint:5eed{suffix}")]

    return factory


A = {"p1": "++--", "p2": "++++", "p3": "----", "p4": "+---"}
B = {"p1": "++++", "p2": "+++-", "p3": "----", "p4": "+++-"}


def test_a_model_is_held_against_the_first_problem_by_problem(predict: Predict) -> None:
    a, b = predict("a", A), predict("b", B)
    (found,) = compare([str(a), str(b)], [])
    assert [one.name for one in found.models] == ["a", "b"]
    assert [one.metrics["pass@1"] for one in found.models] == [7 / 16, 10 / 16]
    assert (found.benchmark, found.warnings) == ("bench", [])
    (pair,) = found.pairs
    overall = pair.overall
    # differences 1/2, -1/4, 0, 1/2: 4 of the 8 signs of the three that differ sum up to 3/4 or more
    assert (overall.num_wins, overall.num_losses, overall.num_ties) == (2, 1, 1)
    assert overall.difference == pytest.approx(3 / 16)
    assert pair.p_value == pytest.approx(4 / 8)
    assert (pair.model, pair.first_model, pair.num_samples_tested) == ("b", "a", 4)


def test_a_model_that_was_not_run_on_a_problem_has_not_solved_it(predict: Predict) -> None:
    # n: asked and refused; the other model answered
    a, b = predict("a", {"p1": "++", "p2": "nn"}), predict("b", {"p1": "++", "p2": "++"})
    (found,) = compare([str(a), str(b)], [])
    assert [one.metrics["pass@1"] for one in found.models] == [1 / 2, 1.0]
    assert found.warnings == []
    (pair,) = found.pairs
    assert (pair.overall.num_problems, pair.overall.num_wins) == (2, 1)


def test_what_was_left_out_is_said_and_the_others_are_paired(predict: Predict) -> None:
    # e: failed on the way and was given up
    a = predict("a", {"p1": "+-", "p2": "ee", "p3": "-e"})
    b = predict("b", {"p1": "++", "p2": "++", "p3": "--"})
    (found,) = compare([str(a), str(b)], [])
    assert found.models[0].metrics["pass@1"] == 1 / 3
    assert found.models[1].metrics["pass@1"] == 2 / 3
    assert found.pairs[0].overall.num_problems == 2
    said = "\n".join(terminal_lines(found))
    assert "a was scored over 3 of 6 completions" in said
    assert "the models are compared over 2 of 3 problems" in said
    assert ", over 3 of 6" in said


def test_models_without_a_problem_in_common_cannot_be_compared(predict: Predict) -> None:
    a, b = predict("a", {"p1": "+", "p2": "e"}), predict("b", {"p1": "e", "p2": "+"})
    with pytest.raises(DataError, match="no problem has a completion in all of them"):
        compare([str(a), str(b)], [])


def test_a_test_of_few_problems_is_said_to_be_one(predict: Predict) -> None:
    a, b = predict("a", A), predict("b", B)
    (found,) = compare([str(a), str(b)], [])
    assert "p comes from 4 problems only" in "\n".join(terminal_lines(found))
    a, b = predict("c", {"p1": "+", "p2": "-"}), predict("d", {"p1": "+", "p2": "-"})
    (found,) = compare([str(a), str(b)], [])
    assert found.pairs[0].p_value_caution is None


def test_difficulty_is_the_mean_of_all_models_and_domains_are_groups(predict: Predict) -> None:
    domains = {"p1": "algebra", "p2": "algebra", "p3": "geometry"}
    a, b = predict("a", A, domains=domains), predict("b", B, domains=domains)
    (pair,) = compare([str(a), str(b)], [])[0].pairs
    # means 3/4, 7/8, 0, 1/2
    assert {name: one.num_problems for name, one in pair.by_difficulty.items()} == {
        "hard": 1, "medium": 1, "easy": 2,
    }  # fmt: skip
    assert list(pair.by_difficulty) == ["hard", "medium", "easy"]
    assert pair.by_difficulty["easy"].difference == pytest.approx(1 / 8)
    assert {name: one.difference for name, one in pair.by_domain.items()} == pytest.approx(
        {"(none)": 1 / 2, "algebra": 1 / 8, "geometry": 0.0}
    )


def test_two_models_of_one_sample_have_no_difficulty(predict: Predict) -> None:
    a, b = predict("a", {"p1": "+", "p2": "-"}), predict("b", {"p1": "-", "p2": "-"})
    (pair,) = compare([str(a), str(b)], [])[0].pairs
    assert (pair.by_difficulty, pair.by_domain) == ({}, {})


def test_several_models_are_adjusted_for_being_several(predict: Predict) -> None:
    first = {f"p{n}": "----" for n in range(8)}
    better = dict.fromkeys(first, "++++")
    references = [str(predict(*one)) for one in (("a", first), ("b", better), ("c", better))]
    (found,) = compare(references, [])
    assert [pair.p_value for pair in found.pairs] == pytest.approx([2 / 256, 2 / 256])
    assert [pair.p_value_holm for pair in found.pairs] == pytest.approx([4 / 256, 4 / 256])


def test_different_problems_are_refused_with_how_many_and_what_to_do(predict: Predict) -> None:
    a, b = predict("a", A), predict("b", {"p1": "++++", "p9": "+---"})
    with pytest.raises(UsageError) as caught:
        compare([str(a), str(b)], [])
    assert str(caught.value) == (
        "a and b are predictions of different problems: 3 of 4 are in the first alone, 1 of 2 in the "
        "second alone: run `distill eval` of both with the same --benchmark, --limit and --verifier, "
        "which takes over what was sampled"
    )


def test_other_references_for_the_same_texts_are_told_apart(
    predict: Predict, tmp_path: Path, make_trace: Callable[..., Trace]
) -> None:
    a = predict("a", {"p1": "+"})
    other = make_trace(problem="p1", verifier="exact", verdict="correct")
    header = Header("predictions", "eval", {}, [], [], {})
    with versions.draft(tmp_path / "b", header) as draft, Writer(draft) as writer:
        writer.append(other)
        writer.finish([])
    with pytest.raises(UsageError, match="1 have the same text, but another reference answer or"):
        compare([str(a), str(tmp_path / "b")], [])


def test_other_protocols_are_warned_of_and_where_it_ran_is_not(predict: Predict) -> None:
    a = predict("a", A)
    b = predict("b", B, options={"temperature": 0.0, "concurrency": 64, "out": "elsewhere"})
    (found,) = compare([str(a), str(b)], [])
    assert found.warnings == ["--temperature differs: 0.6 for a, 0.0 for b"]


def test_the_test_looks_at_equal_numbers_of_samples_and_says_so(predict: Predict) -> None:
    a, b = predict("a", {"p1": "+-", "p2": "--"}), predict("b", {"p1": "++++", "p2": "-+++"})
    (found,) = compare([str(a), str(b)], [])
    assert found.warnings == [
        "a and b have different numbers of samples: the test looks at the first 2 of each problem"
    ]
    (pair,) = found.pairs
    assert pair.num_samples_tested == 2
    assert pair.overall.difference == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert pair.p_value == pytest.approx(2 / 4)  # of 1/2 and 1/2


def test_pass_at_k_above_the_samples_is_left_out_and_said(predict: Predict) -> None:
    a, b = predict("a", A), predict("b", B)
    (found,) = compare([str(a), str(b)], [2, 8])
    assert [list(one.metrics["pass@k"]) for one in found.models] == [["2"], ["2"]]
    assert found.warnings == ["pass@8 left out where a problem has fewer samples (the fewest: 4)"]


@pytest.mark.parametrize("suffix", ["", " on local:0123"])
def test_a_model_that_was_trained_on_the_benchmark_is_shown_beside_its_score(
    predict: Predict, student_of: Callable[..., list[ModelUsed]], suffix: str, distill: Any
) -> None:
    a = predict("a", A)
    b = predict("b", B, models=student_of(["p2", "P3 ", "p77"], suffix))
    (found,) = compare([str(a), str(b)], [])
    overlap = found.models[1].training_overlap
    assert overlap is not None
    assert (overlap.num_problems, overlap.unknown) == (2, [])
    assert [Path(one).parts[-2:] for one in overlap.found_in] == [("clean", "v1")]
    lines = distill("compare", a, b).out.splitlines()
    score = next(number for number, line in enumerate(lines) if "Pass@1" in line)
    assert lines[score + 1].split() == [
        "in",
        "its",
        "training",
        "data",
        "-",
        "2",
        "of",
        "4",
        "problems",
    ]


def test_training_data_that_is_gone_is_not_taken_for_clean(
    predict: Predict, student_of: Callable[..., list[ModelUsed]], tmp_path: Path
) -> None:
    a, b = predict("a", A), predict("b", B, models=student_of(["p2"]))
    (tmp_path / "clean").rename(tmp_path / "elsewhere")
    (found,) = compare([str(a), str(b)], [])
    overlap = found.models[1].training_overlap
    assert overlap is not None
    assert (overlap.num_problems, overlap.found_in) == (0, [])
    assert [Path(one).parts[-2:] for one in overlap.unknown] == [("clean", "v1")]


def test_folders_of_several_benchmarks_are_compared_where_all_have_them(
    predict: Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        predict(name, A, benchmark="one")
        out = predict(name, B, benchmark="two")
    predict("b", B, benchmark="three")
    found = compare([str(out.parent / "a"), str(out)], [])
    assert [one.benchmark for one in found] == ["one", "two"]
    assert capsys.readouterr().err == "compare: not in all of them, left out: three\n"


def test_no_benchmark_in_common_is_refused(predict: Predict) -> None:
    predict("a", A, benchmark="one")
    a, b = predict("a", A, benchmark="two"), predict("b", A, benchmark="three")
    with pytest.raises(UsageError, match=r"no benchmark is in all of them: .*one, two; .*three"):
        compare([str(a), str(b)], [])


def test_what_holds_no_predictions_is_refused(
    predict: Predict, tmp_path: Path, write_dataset: Callable[..., Manifest], make_traces: Any
) -> None:
    a = predict("a", A)
    write_dataset(tmp_path / "traces", make_traces(2))
    with pytest.raises(
        UsageError, match="holds traces, not predictions: `distill eval` makes them"
    ):
        compare([str(a), str(tmp_path / "traces")], [])
    with pytest.raises(UsageError, match="does not exist"):
        compare([str(a), str(tmp_path / "nothing")], [])
    with pytest.raises(UsageError, match="two datasets of predictions or more"):
        compare([str(a)], [])
    with pytest.raises(UsageError, match="named twice"):
        compare([str(a), str(a)], [])


def test_empty_and_damaged_predictions_are_refused(predict: Predict) -> None:
    a, b, empty = predict("a", A), predict("b", B), predict("empty", {})
    with pytest.raises(DataError, match="holds no predictions: there is nothing to compare"):
        compare([str(a), str(empty)], [])
    part = b / "bench" / "v1" / "part-00000.jsonl"
    part.write_bytes(part.read_bytes().replace(b'"wrong"', b'"wrnog"'))
    with pytest.raises(DataError, match="was changed after it was written"):
        compare([str(a), str(b)], [])


def test_versions_of_one_dataset_have_names_of_their_own(predict: Predict) -> None:
    predict("a", A)
    bench = predict("a", B, options={"temperature": 1.0}, content={"another": 1}) / "bench"
    (found,) = compare([f"{bench}@v1", f"{bench}@v2"], [])
    assert [one.name for one in found.models] == ["bench@v1", "bench@v2"]


def test_three_models_stand_in_one_table_of_a_file_that_is_not_overwritten(
    predict: Predict, tmp_path: Path
) -> None:
    references = [str(predict(name, rows)) for name, rows in (("a", A), ("b", B), ("c", A))]
    found = compare(references, [])
    out = tmp_path / "report" / "metrics.md"
    write(out, found)
    lines = out.read_text().splitlines()
    assert lines[:6] == [
        "# bench", "", "## scores", "", "| bench | a | b | c |", "| --- | --- | --- | --- |",
    ]  # fmt: skip
    assert lines[6].startswith("| Pass@1 | 0.438 [")
    write(out, found)
    out.write_text("mine\n")
    with pytest.raises(UsageError, match="holds something else"):
        write(out, found)
    with pytest.raises(UsageError, match=r"name a \.md file"):
        write(tmp_path / "report.txt", found)


def test_the_command_prints_one_json_object(predict: Predict, distill: Any) -> None:
    a, b = predict("a", A), predict("b", B)
    outcome = distill("compare", a, b, "--json")
    assert outcome.code == 0
    (found,) = json.loads(outcome.out)["comparisons"]
    assert found["pairs"][0]["overall"]["num_wins"] == 2
    assert found["models"][0]["training_overlap"] is None

"""`import`: kept + rejected = distinct rows read, problems once, and nothing twice after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest

Importing = Callable[..., Manifest]


def test_rows_are_kept_once_and_what_does_not_fit_is_rejected_with_its_reason(
    run_import: Importing,
    write_rows: Callable[..., str],
    rejected_rows: Callable[[Path], list[RejectedTrace]],
    rows_of_import: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = run_import(write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out")

    counts = manifest.counts
    assert (counts.rows_read, counts.rows_kept, counts.rows_rejected) == (6, 3, 3)
    assert {reason: dropped.rows for reason, dropped in counts.dropped.items()} == {
        "no_completion": 1, "no_problem": 1, "not_an_object": 1,
    }  # fmt: skip
    kept = list(dataset.read_traces(str(tmp_path / "out")))
    assert [(row.problem, row.reasoning, row.finish_reason) for row in kept] == [
        ("1+1?", "1 and 1.", "stop"),
        ("1+1?", "two", "stop"),
        ("2+1?", "cut", "length"),
    ]
    assert [row.reason for row in rejected_rows(tmp_path / "out")] == [
        "no_completion", "no_problem", "not_an_object",
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert f"import: {tmp_path}/raw.jsonl looks like --format raw\n" in said
    assert "import: 1 rows stand twice (the same problem and completion): read once\n" in said
    assert "import: rejected 3 of 6 rows\n" in said


def test_a_problem_stands_once_and_a_row_that_says_more_of_it_keeps_that(
    run_import: Importing, write_rows: Callable[..., str], rows_of_import: list[Any], tmp_path: Path
) -> None:
    run_import(write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out")

    problems = list(dataset.read_problems(dataset.find(str(tmp_path / "out"))))
    assert [(problem.problem, problem.reference_answer) for problem in problems] == [
        ("1+1?", "2"),
        ("2+1?", "3"),
    ]
    first, second, _ = dataset.read_traces(str(tmp_path / "out"))
    assert problems[0].extra is None
    assert json.loads(first.extra or "") == {"path": "a"}
    assert json.loads(second.extra or "") == {"options": ["1", "2"]}


def test_the_same_import_is_up_to_date_and_another_choice_is_another_version(
    run_import: Importing,
    write_rows: Callable[..., str],
    rows_of_import: list[Any],
    tmp_path: Path,
) -> None:
    source, out = write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out"
    versions = [
        run_import(source, out).version,
        run_import(source, out).version,
        run_import(source, out, format="raw").version,
        run_import(source, out, verifier="exact").version,
        run_import(source, out, limit=2).version,
        run_import(source, out, teacher_licence="MIT").version,
        run_import(source, out).version,
    ]

    assert versions == ["v1", "v1", "v2", "v3", "v4", "v5", "v1"]
    assert manifests.read(out / "v4").counts.rows_kept == 2
    assert manifests.read(out / "v5").licences == ["MIT"]
    assert manifests.read(out / "v2").id == manifests.read(out / "v1").id


def test_a_draft_of_the_same_import_is_gone_on_with(
    run_import: Importing,
    write_rows: Callable[..., str],
    rejected_rows: Callable[[Path], list[RejectedTrace]],
    rows_of_import: list[Any],
    tmp_path: Path,
) -> None:
    source, out = write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out"
    whole = run_import(source, out)
    (out / "latest").unlink()
    (out / "v1").rename(out / "v1.partial")
    left = manifests.read(out / "v1.partial")
    left.id = left.finished = None
    left.files = []
    manifests.write(out / "v1.partial", left)
    part = out / "v1.partial" / "part-00000.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:1]) + lines[1][:50])  # as a kill would leave it
    (out / "v1.partial" / "rejected-00000.jsonl").unlink()

    again = run_import(source, out)
    assert (again.version, again.id) == ("v1", whole.id)
    assert part.with_name("x").parent.exists() is False
    assert (out / "v1" / "part-00000.jsonl").read_bytes() == b"".join(lines)
    assert len(rejected_rows(out)) == 3


def test_tokens_are_counted_where_a_tokenizer_is_given(
    run_import: Importing,
    write_rows: Callable[..., str],
    rows_of_import: list[Any],
    tmp_path: Path,
    repository: Path,
) -> None:
    teacher = str(repository / "data" / "quickstart" / "teacher")
    source = write_rows(
        tmp_path / "raw.jsonl", *rows_of_import[:3], {"problem": "4+1?", "raw": "\\boxed{5}"}
    )
    manifest = run_import(source, tmp_path / "out", tokenizer=teacher)

    counted = [row.num_tokens for row in dataset.read_traces(str(tmp_path / "out"))]
    assert all(counts is not None for counts in counted)
    ends = [
        counts.total - counts.prompt - counts.reasoning - counts.response
        for counts in counted
        if counts
    ]
    assert ends == [3, 3, 1, 1]  # <think>, </think>, end token; <think>; end token
    assert counted[2] is not None and counted[2].response == 0
    assert manifest.models[0].role == "tokenizer"
    assert manifest.counts.tokens_kept == sum(
        counts.total - counts.prompt for counts in counted if counts
    )


@pytest.mark.parametrize(
    "counts",
    [
        # "1 and 1." between the tags, with the line feed at its end where the tags are tokens
        {"spelt": (5, 16), "tagged": (6, 14)},
        pytest.param({"qwen2.5": (5, 17), "qwen3": (6, 15)}, marks=pytest.mark.reference),
    ],
)
def test_each_tokenizer_counts_its_own_tokens(
    run_import: Importing,
    write_rows: Callable[..., str],
    rows_of_import: list[Any],
    tmp_path: Path,
    family_chat: Callable[[str], Any],
    counts: dict[str, tuple[int, int]],
) -> None:
    source = write_rows(tmp_path / "raw.jsonl", rows_of_import[0])
    for name, (reasoning, total) in counts.items():
        family_chat(name).tokenizer.save_pretrained(tmp_path / "tokenizer" / name)
        run_import(source, tmp_path / name, tokenizer=str(tmp_path / "tokenizer" / name))
        (row,) = dataset.read_traces(str(tmp_path / name))
        assert row.num_tokens is not None
        assert row.num_tokens.reasoning == reasoning
        assert row.num_tokens.total - row.num_tokens.prompt == total


def test_an_answer_without_reasoning_passes_the_filter_where_none_is_asked_for(
    write_rows: Callable[..., str], tmp_path: Path, distill: Callable[..., Any]
) -> None:
    write_rows(tmp_path / "gsm8k.jsonl", {"question": "1+1?", "answer": "1+1=<<1+1=2>>2\n#### 2"})
    assert distill("import", tmp_path / "gsm8k.jsonl", "--out", tmp_path / "out").code == 0
    dropped = distill("filter", tmp_path / "out", "--out", tmp_path / "clean")
    kept = distill(
        "filter", tmp_path / "out", "--min-reasoning-tokens", 0, "--out", tmp_path / "clean"
    )

    assert (dropped.code, "missing_reasoning" in dropped.err) == (1, True)
    assert kept.code == 0
    (row,) = dataset.read_traces(str(tmp_path / "clean"))
    assert (row.answer, row.verdict) == ("2", "correct")


@pytest.mark.parametrize(
    ("rows", "options", "error", "message"),
    [
        (
            [{"problem": "1+1?", "answer": "2"}],
            {},
            UsageError,
            ": no format fits its first rows (problem, answer): give --format, one of openthoughts, "
            "openr1, s1k, messages, sharegpt, deepseek, raw, solution, lines, or name its columns by "
            "--problem-field, --reasoning-field and --response-field; problems alone go to `distill generate`",
        ),
        (
            [{"schema": "trace/1", "messages": []}],
            {},
            UsageError,
            " holds traces of distillpipe already: give it to `distill filter` or `distill sft` as it is",
        ),
        (
            [{"problem": "1+1?", "answer": "2"}],
            {"format": "raw"},
            DataError,
            ": no row of 1 fits the format:\n         1 rows           0 tokens  no_completion",
        ),
        ([], {}, DataError, " is empty: expected one row per line"),
    ],
)
def test_a_source_that_does_not_fit_is_an_error_that_says_what_to_do(
    run_import: Importing,
    write_rows: Callable[..., str],
    tmp_path: Path,
    rows: list[object],
    options: Any,
    error: type[Exception],
    message: str,
) -> None:
    source = write_rows(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(error) as raised:
        run_import(source, tmp_path / "out", **options)

    assert str(raised.value) == f"{source}{message}"
    assert not (tmp_path / "out" / "v1").exists()
    left = [path.name for path in (tmp_path / "out").glob("v*")]
    assert left == (["v1.partial"] if "format" in options else [])


DEEP = b'{"problem":"1+1?","raw":"2","x":' + b"[" * 2000 + b"]" * 2000 + b"}"
UNREADABLE = {
    "cut short": b'{"problem":',
    "nested too deep for the decoder": DEEP,
    "nested too deep for who reads it later": DEEP.replace(b"[" * 1900, b"").replace(
        b"]" * 1900, b""
    ),
    "not UTF-8": b'{"problem": "\xff", "raw": "2"}',
    "half a character": b'{"problem": "\\ud83d", "raw": "2"}',
    "half a character within text": b'{"problem": "\\ud83d is", "raw": "2"}',
    "no number": b'{"problem": "1+1?", "raw": "2", "x": NaN}',
    "number too large": b'{"problem": "1+1?", "raw": "2", "x": 1e999}',
    "zero bytes": b"\x00" * 20,
}


# in a list, where brackets do not match, it is not known where the next item begins
@pytest.mark.parametrize(
    ("what", "name"),
    [
        (what, name)
        for what in UNREADABLE
        for name in ("rows.jsonl", "rows.json")
        if (what, name) != ("cut short", "rows.json")
    ],
)
def test_a_row_that_cannot_be_read_is_rejected_whole(
    run_import: Importing,
    rejected_rows: Callable[[Path], list[RejectedTrace]],
    rows_of_import: list[Any],
    tmp_path: Path,
    what: str,
    name: str,
) -> None:
    line = UNREADABLE[what]
    good = [json.dumps(row).encode() for row in rows_of_import[:2]]
    content = b"[" + b",".join([good[0], line, good[1]]) + b"]"
    source = tmp_path / name
    source.write_bytes(content if name == "rows.json" else b"\n".join([good[0], line, good[1]]))
    manifest = run_import(str(source), tmp_path / "out")

    (row,) = rejected_rows(tmp_path / "out")
    where = f"{source}: item 2" if name == "rows.json" else f"{source}:2"
    assert manifest.counts.rows_kept == 2
    assert row.reason == "unreadable"
    assert str(row.measured).startswith(f"{where}: not valid JSON (")
    assert json.loads(row.extra or "") == {"row": line.decode("utf-8", "backslashreplace")}


def test_a_file_of_another_kind_is_an_error_with_its_line(
    run_import: Importing, tmp_path: Path
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"problem,answer\n1+1?,2\n")

    with pytest.raises(DataError, match=f"{source}:1: not valid JSON"):
        run_import(str(source), tmp_path / "out")


def test_a_dataset_needs_no_import(
    run_import: Importing, write_rows: Callable[..., str], rows_of_import: list[Any], tmp_path: Path
) -> None:
    run_import(write_rows(tmp_path / "raw.jsonl", *rows_of_import), tmp_path / "out")

    with pytest.raises(UsageError, match="out is a dataset already: give it to `distill filter`"):
        run_import(str(tmp_path / "out"), tmp_path / "again")


def test_a_folder_without_a_tokenizer_cannot_count(
    run_import: Importing, write_rows: Callable[..., str], rows_of_import: list[Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--tokenizer .* has no tokenizer.json: give the folder"):
        run_import(
            write_rows(tmp_path / "raw.jsonl", *rows_of_import),
            tmp_path / "out",
            tokenizer=str(tmp_path),
        )


def test_rows_of_a_benchmark_keep_its_name_and_are_refused_as_training_data(
    write_rows: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    distill: Callable[..., Any],
) -> None:
    write_rows(
        tmp_path / "math500.jsonl", {"problem": "1+1?", "solution": "\\boxed{2}", "answer": "2"}
    )
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    assert distill("import", "math500", "--out", tmp_path / "out").code == 0

    (row,) = dataset.read_traces(str(tmp_path / "out"))
    assert row.benchmark == "math500"
    refused = distill("filter", tmp_path / "out", "--out", tmp_path / "clean")
    assert (refused.code, "belongs to the benchmark math500" in refused.err) == (2, True)


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(
    write_rows: Callable[..., str],
    rows_of_import: list[Any],
    tmp_path: Path,
    distill: Callable[..., Any],
) -> None:
    source = write_rows(tmp_path / "raw.jsonl", *rows_of_import)
    done = distill("import", source, "--out", tmp_path / "out", "--dry-run", "--json")

    assert done.code == 0
    assert json.loads(done.out)["dry_run"][0]["writes"] == f"{tmp_path}/out/v1, which it begins"
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- the real traces

REAL = {
    # file: rows, without reasoning, without response, cut off, with a reference
    "instruct3b_greedy": (70, 70, 0, 0, 70),
    "math500_r1_family": (70, 1, 0, 1, 70),
    "qwen3_think_onoff": (600, 200, 63, 73, 600),
    "r1_mmlu_pro_mcq": (413, 0, 0, 0, 413),
    "riddles_qwq": (159, 0, 17, 17, 0),
    "rl3b_think_greedy": (692, 5, 36, 36, 692),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", REAL)
def test_every_real_trace_is_kept_with_its_teacher_and_reference(run_import: Importing,
    tmp_path: Path, reference_data: Callable[[str], Path],
    reference_rows: Callable[[str], list[dict[str, Any]]], name: str,
) -> None:  # fmt: skip
    rows = reference_rows(f"traces/{name}.jsonl")
    manifest = run_import(str(reference_data(f"data/traces/{name}.jsonl")), tmp_path / "out")
    traces = list(dataset.read_traces(str(tmp_path / "out")))

    assert (manifest.counts.rows_kept, manifest.counts.rows_rejected) == (len(rows), 0)
    assert REAL[name] == (
        len(traces),
        sum(not trace.reasoning for trace in traces),
        sum(not trace.response.strip() for trace in traces),
        sum(trace.is_truncated for trace in traces),
        sum(trace.reference_answer is not None for trace in traces),
    )
    for row, trace in zip(rows, traces, strict=True):
        assert (trace.teacher, trace.reference_answer) == (row["model"], row["gold"])
        assert trace.problem == row["problem"] == trace.messages[0].content
        assert json.loads(trace.extra or "")["id"] == row["id"]


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "rows"),
    [("math500.jsonl", 500), ("gsm8k_test.jsonl", 1319), ("aime24_deepscaler.json", 30)],
)
def test_the_reference_solutions_of_real_problems_are_judged_correct(
    tmp_path: Path,
    reference_data: Callable[[str], Path],
    distill: Callable[..., Any],
    name: str,
    rows: int,
) -> None:
    source = reference_data(f"data/math/{name}")
    assert distill("import", source, "--out", tmp_path / "out").code == 0
    clean = tmp_path / "clean"
    assert (
        distill("filter", tmp_path / "out", "--min-reasoning-tokens", 0, "--out", clean).code == 0
    )

    counts = manifests.read(clean / "v1").counts
    assert (counts.rows_kept, counts.rows_rejected) == (rows, 0)


# ---------------------------------------------------------------- a real kill


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_and_ends_as_an_undisturbed_one(
    run_import: Importing, write_rows: Callable[..., str], tmp_path: Path
) -> None:
    rows = [
        {"problem": f"{number}+1?", "raw": f"<think>{'x' * 2000}</think>{number + 1}"}
        for number in range(20_000)
    ]
    source = write_rows(tmp_path / "raw.jsonl", *rows)
    whole = run_import(source, tmp_path / "whole")
    command = [
        sys.executable, "-c", "from distillpipe.cli.app import main; main()",
        "import", source, "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    sizes = []
    for wanted in (2_000_000, 9_000_000, 25_000_000):
        process = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL)
        part = tmp_path / "out" / "v1.partial" / "part-00000.jsonl"
        while process.poll() is None and not (part.exists() and part.stat().st_size > wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert part.exists(), "the kill came too late"
        sizes.append(part.stat().st_size)
    again = run_import(source, tmp_path / "out")

    assert sizes == sorted(sizes)
    assert (again.version, again.id, again.counts.rows_kept) == ("v1", whole.id, 20_000)
    ids = Counter(trace.id for trace in dataset.scan(tmp_path / "out" / "v1", Trace))
    assert set(ids.values()) == {1}

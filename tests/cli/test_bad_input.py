"""What a user can get wrong: one line on stderr that says what, where and what to do; nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store.manifest import Manifest

Distill = Callable[..., Any]


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    tiny_model: Path,
) -> Path:
    """What `place` copies: inputs good and bad; see the tables for what each is for."""
    folder = tmp_path_factory.mktemp("prepared")
    one, two = make_traces(2)
    good_trace = msgspec.json.encode(one) + b"\n"
    good_problem = b'{"problem": "1+1?", "answer": "2"}\n'
    files = {
        "problems.jsonl": good_problem,
        "broken.jsonl": good_problem * 2 + b'{"problem": "2+1?", \n' + good_problem,
        "nameless.jsonl": good_problem + b'{"text": "1+1?", "answer": "2"}\n',
        "empty.jsonl": b"",
        "object.json": b"{}",
        "traces.jsonl": good_trace,
        "broken-traces.jsonl": good_trace * 2 + b'{"schema": "trace/1", "id"\n' + good_trace,
        "unknown-key.toml": b"[generate]\nnum_sampels = 2\n",
        "unknown-table.toml": b"[genrate]\nnum_samples = 2\n",
        "list.toml": b"[generate]\ntemperature = [0.6, 0.8]\n",
        "true.toml": b"[generate]\nseed = true\n",
        "broken.toml": b"[generate]\nseed = 1\nlimit = = 2\n",
        "notes.txt": b"mine",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "model").symlink_to(tiny_model)
    (folder / "folder").mkdir()
    for name in ("aime", "math"):
        write_dataset(folder / "eval" / name, [one])
    write_dataset(folder / "set", [one, two])
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, now the working one, with a copy of what was prepared."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path


GENERATE = "generate {} --teacher model --max-tokens 2 --out out"

# What is called, the exit code, and the one line that follows "error: ".
BAD_INPUTS = [
    (
        GENERATE.format("broken.jsonl"),
        1,
        "broken.jsonl:3: not valid JSON (Input data was truncated): correct or remove the line",
    ),
    (
        GENERATE.format("nameless.jsonl"),
        1,
        "nameless.jsonl:2: no problem: expected text under 'problem or question or prompt', the row "
        "has 'text', 'answer': correct the row or give --problem-field",
    ),
    (
        GENERATE.format("empty.jsonl"),
        1,
        "empty.jsonl is empty: expected one problem per line",
    ),
    (
        GENERATE.format("object.json"),
        1,
        "object.json: expected a list of objects, got dict",
    ),
    (
        GENERATE.format("missing.jsonl"),
        2,
        "missing.jsonl does not exist: give a dataset's folder, PATH@vN, or a .jsonl file (or .json, "
        ".csv, .parquet, .gz), hub:ORG/NAME, or the name of a benchmark (math500, aime24, aime25, "
        "amc23, gsm8k, minerva, olympiadbench, gpqa_diamond, mmlu_pro, humaneval, mbpp, livecodebench)",
    ),
    (
        GENERATE.format("eval"),
        2,
        "eval holds several datasets, name one: eval/aime, eval/math",
    ),
    (
        "generate problems.jsonl --teacher folder --out out",
        2,
        "--teacher folder is not a model folder: it has no config.json; give the folder that holds "
        "config.json and the weights",
    ),
    (
        "generate problems.jsonl --teacher missing --out out",
        2,
        "--teacher missing: no such folder; give a model folder, a checkpoint of `distill sft`, or "
        "a name on the hub (ORG/NAME)",
    ),
    (
        "generate problems.jsonl --teacher set --out out",
        2,
        "--teacher {place}/set/v1 is a dataset of traces, not a model: give a model folder",
    ),
    (
        "generate problems.jsonl --teacher model --prompt-template no --out out",
        2,
        "--prompt-template 'no' must contain {problem}",
    ),
    (
        "generate problems.jsonl --teacher model --max-tokens 2 --out notes.txt",
        2,
        "--out notes.txt: notes.txt is a file: name a folder, new or with versions",
    ),
    (
        "eval model --benchmark problems.jsonl --max-tokens 2 --out notes.txt",
        2,
        "--out notes.txt/problems: notes.txt is a file: name a folder, new or with versions",
    ),
    (
        "eval model --benchmark broken.jsonl --max-tokens 2 --out out",
        1,
        "broken.jsonl:3: not valid JSON (Input data was truncated): correct or remove the line",
    ),
    (
        "filter broken-traces.jsonl --out out",
        1,
        "broken-traces.jsonl:3: not a row of kind Trace (Input data was truncated): correct or remove "
        "the line, or convert the file with `distill import`",
    ),
    ("filter empty.jsonl --out out", 1, "empty.jsonl: no rows to filter"),
    (
        "filter missing --out out",
        2,
        "missing does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
    ),
    ("filter eval --out out", 2, "eval holds several datasets, name one: eval/aime, eval/math"),
    ("filter set@v2 --out out", 2, "set has no version v2; it has v1"),
    ("filter folder --out out", 2, "folder holds no version of a dataset"),
    (
        "filter set --verifier maths --out out",
        2,
        "no verifier 'maths': there are exact, numeric, math, choice, code, or your own FILE.py:FUNCTION",
    ),
    (
        "sft broken-traces.jsonl --student model --out out",
        1,
        "broken-traces.jsonl:3: not a row of kind Trace (Input data was truncated): correct or remove "
        "the line, or convert the file with `distill import`",
    ),
    (
        "sft set --student folder --out out",
        2,
        "--student folder is not a model folder: it has no config.json; give the folder that holds "
        "config.json and the weights",
    ),
    ("show folder", 2, "folder holds no version of a dataset"),
    (
        "show missing",
        2,
        "missing does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
    ),
    (
        "--recipe unknown-key.toml generate problems.jsonl --teacher model --out out",
        2,
        "unknown-key.toml: [generate] has no 'num_sampels': did you mean 'num_samples'?",
    ),
    (
        "--recipe unknown-table.toml show set",
        2,
        "unknown-table.toml: no command 'genrate': did you mean 'generate'?",
    ),
    (
        "--recipe list.toml show set",
        2,
        "list.toml: [generate] temperature = [0.6, 0.8]: expected a single value",
    ),
    (
        "--recipe true.toml show set",
        2,
        "true.toml: [generate] seed = true: expected no truth value",
    ),
    (
        "--recipe broken.toml show set",
        2,
        "recipe broken.toml is not valid TOML: Invalid value (at line 3, column 9)",
    ),
    (
        "--recipe missing.toml show set",
        2,
        "recipe missing.toml cannot be read: [Errno 2] No such file or directory: 'missing.toml'",
    ),
]


def snapshot(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and "out" not in path.relative_to(place).parts
    }


@pytest.mark.parametrize(
    ("call", "code", "line"), BAD_INPUTS, ids=[call for call, *_ in BAD_INPUTS]
)
def test_a_mistake_is_one_line_with_place_and_remedy_and_nothing_is_touched(
    place: Path, distill: Distill, call: str, code: int, line: str
) -> None:
    before = snapshot(place)
    done = distill(*call.split())

    assert done == (code, "", f"error: {line.replace('{place}', str(place))}\n")
    assert snapshot(place) == before
    assert not list(place.glob("out/**/v*[0-9]"))  # no version, and so no latest


@pytest.mark.parametrize(
    ("call", "option", "complaint"),
    [
        ("filter set --out out --verdict corect", "--verdict", "'corect': choose from correct"),
        ("filter set --out out --dedup fuzzy", "--dedup", "is not one of 'exact', 'near', 'none'"),
        ("filter set --out out --per-problem 0", "--per-problem", "greater than or equal to 1"),
        ("filter set --out out --seed x", "--seed", "valid integer"),
        ("filter set --out out --sed 1", "--sed", "No such option"),
        ("filter set", "--out", "Missing option"),
        ("filter --out out", "TRACES", "Missing argument"),
        ("eval model --benchmark x --out o --top-p 2", "--top-p", "less than or equal to 1"),
        ("filtre set", "filtre", "Did you mean 'filter'?"),
    ],
)
def test_a_wrong_flag_is_a_usage_error_that_names_it(
    place: Path, distill: Distill, call: str, option: str, complaint: str
) -> None:
    done = distill(*call.split())

    said = " ".join(done.err.replace("│", " ").split())
    assert (done.code, done.out) == (2, "")
    assert option in said
    assert complaint in said
    assert not (place / "out").exists()


def test_a_wrong_value_in_the_environment_is_a_usage_error_that_names_the_option(
    place: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL_FILTER_SEED", "many")
    done = distill("filter", "set", "--out", "out")

    assert done.code == 2
    assert "'--seed'" in done.err
    assert not (place / "out").exists()


def test_a_version_that_is_there_survives_a_run_that_fails(place: Path, distill: Distill) -> None:
    assert distill("filter", "set", "--out", "out").code == 0
    version = {path.name: path.read_bytes() for path in (place / "out/v1").iterdir()}
    failed = distill("filter", "set", "--out", "out", "--max-reasoning-tokens", "1")

    assert failed.code == 1
    assert failed.err.startswith("error: no row of 2 is left:\n")
    assert {path.name: path.read_bytes() for path in (place / "out/v1").iterdir()} == version
    assert (place / "out/latest").readlink() == Path("v1")
    shown = distill("show", "out", "--json")
    assert json.loads(shown.out)["versions"][0]["manifest"]["counts"]["rows_kept"] == 2


def test_a_mended_line_is_enough_and_the_same_command_goes_on(
    place: Path, distill: Distill
) -> None:
    call = ["generate", "broken.jsonl", "--teacher", "model", "--max-tokens", "2", "--out", "out"]
    assert distill(*call).code == 1
    path = place / "broken.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"2+1?", ', b'"2+1?"}'))

    done = distill(*call)
    assert done.code == 0, done.err
    lines = (place / "out/latest/part-00000.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["problem"] for line in lines) == ["1+1?", "2+1?"]


GENERATE_FROM_EACH = """
import sys
from distillpipe.cli.app import main

for reference in sys.argv[1:]:
    sys.argv = ["distill", "generate", "problems.jsonl", "--teacher", reference, "--out", "out"]
    try:
        main()
    except SystemExit as stop:
        print(stop.code)
"""


@pytest.mark.slow
def test_a_name_that_is_not_on_the_hub_is_one_line_without_a_network(place: Path) -> None:
    references = ["no-such-org/no-such-model", "runs/student@v1", "UPPER/bad name", "a/-b"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", GENERATE_FROM_EACH, *references],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip

    assert done.stdout.split() == ["2"] * 4
    errors = done.stderr.splitlines()
    for reference, line in zip(references, errors, strict=True):
        said = f"error: --teacher {reference}: neither a local folder nor available"
        assert line.startswith(said), done.stderr


def test_a_real_process_ends_with_the_code_and_the_line(
    place: Path, distill_process: Distill
) -> None:
    assert distill_process("filter", "broken-traces.jsonl", "--out", "out") == (
        1,
        "",
        "error: broken-traces.jsonl:3: not a row of kind Trace (Input data was truncated): correct or "
        "remove the line, or convert the file with `distill import`\n",
    )
    assert distill_process("show", "eval@v1") == (
        2,
        "",
        "error: eval has no version v1; it has no finished version\n",
    )


def test_a_bug_keeps_its_traceback(
    place: Path, distill: Distill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msgspec.json, "format", lambda *_, **__: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        distill("show", "set", "--json")

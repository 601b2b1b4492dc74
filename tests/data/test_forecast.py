"""`--dry-run` of every command: inputs, output, reused rows and costs; nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.records import Problem, Trace, problem_id
from distillpipe.data.forecast import size
from distillpipe.data.store.dataset import read_traces
from distillpipe.data.store.manifest import Manifest

Distill = Callable[..., Any]

GENERATE = "generate problems.jsonl --teacher model --max-tokens 4"
EVAL = "eval model --benchmark problems.jsonl --max-tokens 4"
FILTER = "filter set"
SFT = "sft set --student model --dtype fp32 --epochs 3 --batch-size 2"
COMMANDS = (GENERATE, EVAL, FILTER, SFT)


@pytest.fixture
def place(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The current directory, with five problems, a dataset of five traces and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    problems = [
        Problem(
            problem_id=problem_id(f"{number} + 1?", f"{number + 1}", "numeric"),
            problem=f"{number} + 1?", reference_answer=f"{number + 1}", verifier="numeric",
        )
        for number in range(5)
    ]  # fmt: skip
    lines = [msgspec.json.encode(problem) + b"\n" for problem in problems]
    Path("problems.jsonl").write_bytes(b"".join(lines))
    write_dataset(Path("set"), make_traces(5))
    Path("model").symlink_to(tiny_model)
    return tmp_path


@pytest.fixture
def dry(place: Path, distill: Distill) -> Callable[[str], dict[str, Any]]:
    """`dry("filter set --out new")`: the output of --dry-run --json. Checks that nothing was written."""

    def run(command: str) -> dict[str, Any]:
        before = listing(place)
        done = distill(*command.split(), "--dry-run", "--json")
        assert done.code == 0, done.err
        assert listing(place) == before
        (found,) = json.loads(done.out)["dry_run"]
        return found

    return run


def listing(place: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder: mode, size and time of each file, folder and link."""
    found = {str(path): path.lstat() for path in [place, *place.rglob("*")]}
    return {path: (one.st_mode, one.st_size, one.st_mtime_ns) for path, one in found.items()}


def rows(wanted: int, there: int, to_sample: int) -> dict[str, int]:
    return {"wanted": wanted, "there already": there, "to sample": to_sample}


# ---------------------------------------------------------------- one command after the other


@pytest.mark.parametrize(
    ("command", "out", "expected"),
    [
        (GENERATE, "new", rows(5, 0, 5)),
        (f"{GENERATE} --num-samples 3 --limit 2", "new", rows(6, 0, 6)),
        (EVAL, "new/problems", rows(5, 0, 5)),
        (FILTER, "new", {"to read": 5}),
        (f"{FILTER} traces.jsonl", "new", {"to read": 7}),
        (SFT, "new", {"to train on": 5, "steps": 9}),
        (f"{SFT} --max-steps 4", "new", {"to train on": 5, "steps": 4}),
    ],
)
def test_a_command_that_has_not_run_yet_would_begin_its_first_version(
    place: Path, dry: Distill, command: str, out: str, expected: dict[str, int]
) -> None:
    lines = Path("set/v1/part-00000.jsonl").read_bytes().splitlines(keepends=True)
    Path("traces.jsonl").write_bytes(b"".join(lines[:2]))
    found = dry(f"{command} --out new")

    assert found["stage"] == command.split()[0]
    assert found["writes"] == f"{out}/v1, which it begins"
    assert found["rows"] == expected
    assert found["notes"] == []
    assert found["options"]["out"] == {"value": "new", "source": "flag"}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_prints_for_people_too_and_exits_with_zero(
    place: Path, distill: Distill, command: str
) -> None:
    before = listing(place)
    done = distill(*command.split(), "--out", "new", "--dry-run")

    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{command.split()[0]} --dry-run: ")
    assert "  option  out = 'new'  (flag)" in lines
    assert any(line.startswith("  writes  new/") and "begins" in line for line in lines)
    assert any(line.startswith("  costs   ") for line in lines)
    assert listing(place) == before


def test_inputs_are_described_by_what_they_hold(place: Path, dry: Distill) -> None:
    num_bytes = sum(path.stat().st_size for path in Path("set/v1").glob("*.jsonl"))

    assert dry(f"{FILTER} --out new")["reads"] == [f"set (v1): 5 rows, {size(num_bytes)}"]
    num_bytes = Path("problems.jsonl").stat().st_size
    assert dry(f"{GENERATE} --out new")["reads"] == [f"problems.jsonl: {size(num_bytes)}"]


# ---------------------------------------------------------------- what is there already


@pytest.mark.parametrize(
    ("command", "changes", "writes", "expected"),
    [
        (GENERATE, "--limit 3", "nothing: OUT/v1 is up to date", rows(3, 3, 0)),
        pytest.param(
            GENERATE, "--limit 2", "OUT/v2, which it begins", rows(2, 2, 0), marks=pytest.mark.slow
        ),
        (GENERATE, "", "OUT/v2, which it begins", rows(5, 3, 2)),
        (GENERATE, "--num-samples 4", "OUT/v2, which it begins", rows(20, 3, 17)),
        pytest.param(
            GENERATE, "--seed 7", "OUT/v2, which it begins", rows(5, 0, 5), marks=pytest.mark.slow
        ),
        pytest.param(
            EVAL,
            "--limit 3",
            "nothing: OUT/v1 is up to date",
            rows(3, 3, 0),
            marks=pytest.mark.slow,
        ),
        (EVAL, "", "OUT/v2, which it begins", rows(5, 3, 2)),
    ],
)
def test_rows_of_earlier_versions_are_counted_as_a_run_reuses_them(
    dry: Distill,
    distill: Distill,
    command: str,
    changes: str,
    writes: str,
    expected: dict[str, int],
) -> None:
    assert distill(*command.split(), "--limit", "3", "--out", "out").code == 0
    out = "out/problems" if command is EVAL else "out"
    found = dry(f"{command} {changes} --out out")

    assert found["writes"] == writes.replace("OUT", out)
    assert found["rows"] == expected
    distill(*command.split(), *changes.split(), "--out", "out")
    reused = json.loads(Path(out, "latest/manifest.json").read_bytes())["counts"]["rows_reused"]
    assert reused == (0 if "nothing" in writes else expected["there already"])
    assert len(list(read_traces(out))) == expected["wanted"]


def test_a_fresh_run_would_reuse_nothing(dry: Distill, distill: Distill) -> None:
    distill(*GENERATE.split(), "--out", "out")
    found = dry(f"{GENERATE} --fresh --out out")

    assert found["writes"] == "out/v2, which it begins"
    assert found["rows"] == rows(5, 0, 5)


def test_a_draft_would_be_gone_on_with(place: Path, dry: Distill, distill: Distill) -> None:
    distill(*GENERATE.split(), "--out", "out")
    Path("out/latest").unlink()
    Path("out/v1").rename("out/v1.partial")  # as it is when a run is killed in its last moment
    part = Path("out/v1.partial/part-00000.jsonl")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    found = dry(f"{GENERATE} --out out")

    assert found["writes"] == "out/v1.partial, which it resumes"
    assert found["rows"] == rows(5, 2, 3)


def test_latest_stays_where_it_is_when_an_older_version_is_up_to_date(
    dry: Distill, distill: Distill
) -> None:
    for limit in ("3", "4"):
        distill(*GENERATE.split(), "--limit", limit, "--out", "out")
    found = dry(f"{GENERATE} --limit 3 --out out")

    assert found["writes"] == "nothing: out/v1 is up to date"
    assert Path("out/latest").readlink() == Path("v2")


@pytest.mark.parametrize("command", [FILTER, f"{SFT} --max-steps 1"], ids=["filter", "sft"])
def test_a_stage_that_samples_nothing_is_up_to_date_too(
    dry: Distill, distill: Distill, command: str
) -> None:
    assert distill(*command.split(), "--out", "out").code == 0

    assert dry(f"{command} --out out")["writes"] == "nothing: out/v1 is up to date"
    assert dry(f"{command} --seed 1 --out out")["writes"] == "out/v2, which it begins"


# ---------------------------------------------------------------- what cannot be known yet


@pytest.mark.parametrize(
    ("command", "reads", "note"),
    [
        (
            "generate missing.jsonl --teacher model",
            "missing.jsonl: does not exist yet",
            "missing.jsonl does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
        ),
        (
            "generate problems.jsonl --teacher runs/student",
            None,
            "--teacher runs/student: neither a local folder nor available from the hub",
        ),
        (
            "filter runs/traces",
            "runs/traces: does not exist yet",
            "runs/traces does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
        ),
        (
            "sft runs/clean --student model",
            "runs/clean: does not exist yet",
            "runs/clean does not exist: give a dataset's folder, PATH@vN, or a .jsonl file",
        ),
        (
            "sft set --student student",
            None,
            "--student student: no such folder; give a model folder",
        ),
        (
            "eval student --benchmark problems.jsonl",
            None,
            "MODEL student: no such folder; give a model folder",
        ),
    ],
)
def test_what_is_not_there_yet_is_a_note_and_no_error(
    dry: Distill, monkeypatch: pytest.MonkeyPatch, command: str, reads: str | None, note: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found = dry(f"{command} --out new")

    assert found["writes"] is None
    assert reads is None or found["reads"] == [reads]
    assert len(found["notes"]) == 1
    assert found["notes"][0].startswith(note)


def test_without_a_model_every_row_counts_as_to_be_sampled(dry: Distill) -> None:
    found = dry("generate problems.jsonl --teacher later --num-samples 2 --max-tokens 10 --out new")

    assert found["rows"] == rows(10, 0, 10)
    assert found["estimate"]["tokens"] == 100


def test_a_whole_pipeline_can_be_run_dry_before_its_first_stage(dry: Distill) -> None:
    for command in (
        f"{GENERATE} --out runs/traces",
        "filter runs/traces --out runs/clean",
        "sft runs/clean --student model --out runs/student",
        "eval runs/student --benchmark problems.jsonl --out runs/eval",
    ):
        dry(command)
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", [GENERATE, FILTER, SFT])
def test_an_out_with_a_damaged_version_is_a_note(dry: Distill, command: str) -> None:
    version = Path("out/v1")
    version.mkdir(parents=True)
    (version / "manifest.json").write_text("{")

    (note,) = dry(f"{command} --out out")["notes"]
    assert note.startswith("out/v1/manifest.json: not a readable manifest (")


# ---------------------------------------------------------------- what it would cost


def test_without_rows_the_limit_is_the_estimate(dry: Distill) -> None:
    estimate = dry(f"{GENERATE} --out new")["estimate"]

    assert (estimate["tokens"], estimate["max_tokens"]) == (20, 20)
    assert estimate["basis"] == "from the options: the limit --max-tokens"
    assert estimate["seconds"] is None


def test_with_rows_their_mean_and_their_speed_are_the_estimate(
    place: Path, dry: Distill, distill: Distill
) -> None:
    distill(*GENERATE.split(), "--limit", "2", "--out", "out")
    counts = json.loads(Path("out/v1/manifest.json").read_bytes())["counts"]
    estimate = dry(f"{GENERATE} --num-samples 3 --out out")["estimate"]

    assert estimate["max_tokens"] == 13 * 4
    assert estimate["tokens"] == -(-13 * counts["tokens_kept"] // 2)
    speed = counts["tokens_sampled"] / counts["seconds_working"]
    assert estimate["seconds"] == pytest.approx(estimate["tokens"] / speed)
    assert estimate["basis"] == "from the 2 rows under out"


def test_training_is_estimated_from_row_lengths_and_student_shape(
    place: Path, dry: Distill
) -> None:
    (weights,) = Path("model").glob("*.safetensors")
    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        num_weights = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    estimate = dry(f"{SFT} --out new")["estimate"]

    assert estimate["memory_bytes"] > 4 * 4 * num_weights
    assert estimate["disk_bytes"] == 4 * 7 * num_weights
    assert estimate["seconds"] > 0
    assert estimate["basis"] == "cpu, the lengths of 5 rows"


@pytest.mark.parametrize(
    ("num_bytes", "said"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (96_400, "96.4 KB"),
        (1_204_881, "1.2 MB"), (14e9, "14.0 GB"), (2.5e12, "2.5 TB"), (1.5e16, "15,000.0 TB"),
    ],
)  # fmt: skip
def test_bytes_are_said_in_units_of_a_thousand(num_bytes: float, said: str) -> None:
    assert size(num_bytes) == said

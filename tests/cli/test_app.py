"""The command `distill`: help, examples, where options come from, and how it ends."""

import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

import distillpipe
from distillpipe.base.records import Trace
from distillpipe.cli.app import COMMANDS, app
from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest

Distill = Callable[..., Any]
GROUP: Any = typer.main.get_command(app)


@pytest.fixture
def traces(tmp_path: Path, make_traces: Callable[..., list[Trace]]) -> Path:
    """A file of two right traces."""
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(2)))
    return path


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "problems.jsonl"
    path.write_text('{"problem": "1+1?", "answer": "2"}\n{"problem": "2+1?", "answer": "3"}\n')
    return path


# ---------------------------------------------------------------- help


def test_the_version_is_printed_on_stdout(distill: Distill) -> None:
    assert distill("--version") == (0, f"distill {distillpipe.__version__}\n", "")


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distillpipe", "filter"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("Usage: distill filter ")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(distill: Distill, flag: str) -> None:
    done = distill(flag)

    assert (done.code, done.err) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"^\W*{name} ", done.out, re.MULTILINE), name


def test_without_a_command_the_help_is_shown_as_a_usage_error(distill: Distill) -> None:
    done = distill()

    assert done.code == 2
    assert re.search(r"Usage: .*\[OPTIONS\] COMMAND", done.out + done.err)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_every_option_with_a_help_text(distill: Distill, name: str) -> None:
    done = distill(name, "--help")

    assert (done.code, done.err) == (0, "")
    for parameter in GROUP.commands[name].params:
        assert parameter.help, parameter.name
        assert (parameter.opts[0] if parameter.opts[0].startswith("-") else "") in done.out


def example(name: str) -> list[str]:
    """The words of the example in a command's help (the last, if one needs another), from its arguments on."""
    text = inspect.getdoc(COMMANDS[name]) or ""
    before, found, command = text.partition("Example:\n")
    assert before, name
    assert found, name
    last = command[command.rindex("distill ") :]
    words = shlex.split(last.replace("\\\n", " "))
    assert words[:2] == ["distill", name]
    return words[2:]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_parses(name: str, distill: Distill) -> None:
    context = GROUP.commands[name].make_context(name, example(name))

    assert context.params
    shown = " ".join(distill(name, "--help").out.split())
    assert " ".join(["distill", name, *example(name)[:1]]) in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_ship_and_stand_in_an_example_exist(name: str, repository: Path) -> None:
    for word in example(name):
        if word.startswith("data/"):
            assert (repository / word).exists(), word


# ---------------------------------------------------------------- where options come from


def options_of(out: Path) -> dict[str, tuple[Any, str]]:
    """Value and source of each option in the manifest of the newest version."""
    found = manifests.read(sorted(out.glob("v*"))[-1])
    return {name: (option.value, option.source) for name, option in found.options.items()}


RECIPE = "[filter]\nseed = 3\nper_problem = 4\nverdict = ['correct', 'wrong']\n"


@pytest.mark.parametrize(
    ("flags", "environment", "recipe", "expected"),
    [
        ([], None, None, (0, "default")),
        ([], None, RECIPE, (3, "recipe")),
        ([], "2", RECIPE, (2, "environment")),
        ([], "2", None, (2, "environment")),
        (["--seed", "1"], "2", RECIPE, (1, "flag")),
        (["--seed", "1"], None, RECIPE, (1, "flag")),
        (["--seed", "0"], None, None, (0, "flag")),
    ],
)
def test_a_flag_wins_over_the_environment_over_the_recipe_over_the_default(
    distill: Distill,
    tmp_path: Path,
    traces: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    environment: str | None,
    recipe: str | None,
    expected: tuple[int, str],
) -> None:
    arguments: list[object] = ["filter", traces, "--out", tmp_path / "clean", *flags]
    if environment is not None:
        monkeypatch.setenv("DISTILL_FILTER_SEED", environment)
    if recipe is not None:
        (tmp_path / "recipe.toml").write_text(recipe)
        arguments = ["--recipe", tmp_path / "recipe.toml", *arguments]
    assert distill(*arguments).code == 0

    options = options_of(tmp_path / "clean")
    assert options["seed"] == expected
    assert options["per_problem"] == ((None, "default") if recipe is None else (4, "recipe"))
    assert options["verdict"] == (
        (None, "default") if recipe is None else (["correct", "wrong"], "recipe")
    )
    assert options["traces"] == ([str(traces)], "flag")
    assert options["out"] == (str(tmp_path / "clean"), "flag")


def test_the_environment_feeds_generate_and_sampling_takes_the_seed_from_it(
    distill: Distill,
    tmp_path: Path,
    problems: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DISTILL_GENERATE_SEED", "7")
    monkeypatch.setenv("DISTILL_FILTER_SEED", "8")
    done = distill(
        "generate", problems, "--teacher", tiny_model, "--max-tokens", 2, "--limit", 1,
        "--out", tmp_path / "traces",
    )  # fmt: skip

    assert done.code == 0, done.err
    options = options_of(tmp_path / "traces")
    assert options["seed"] == (7, "environment")
    assert options["limit"] == (1, "flag")
    assert options["num_samples"] == (1, "default")
    assert [row.seed for row in dataset.read_traces(str(tmp_path / "traces"))] == [7]


def test_a_recipe_alone_is_enough_to_run_a_command(
    distill: Distill, tmp_path: Path, traces: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(
        f'[filter]\ntraces = ["{traces}"]\nout = "{tmp_path}/clean"\n'
    )
    done = distill("--recipe", tmp_path / "recipe.toml", "filter")

    assert done.code == 0, done.err
    assert options_of(tmp_path / "clean")["traces"] == ([str(traces)], "recipe")


def test_a_repeated_flag_is_a_list(distill: Distill, tmp_path: Path, traces: Path) -> None:
    done = distill(
        "filter", traces, "--verdict", "wrong", "--verdict", "correct", "--out", tmp_path / "clean"
    )

    assert done.code == 0, done.err
    assert options_of(tmp_path / "clean")["verdict"] == (["wrong", "correct"], "flag")


# ---------------------------------------------------------------- data to stdout, talk to stderr


def test_stages_talk_on_stderr_only(distill: Distill, tmp_path: Path, traces: Path) -> None:
    first = distill("filter", traces, "--out", tmp_path / "clean")
    again = distill("filter", traces, "--out", tmp_path / "clean")

    assert (first.code, first.out) == (0, "")
    assert re.search(rf"^filter: 2 rows, 28 tokens, .*: {tmp_path}/clean/v1$", first.err, re.M)
    assert again == (0, "", f"filter: up to date: {tmp_path}/clean/v1\n")


def test_show_prints_json_on_stdout_only(distill: Distill, tmp_path: Path, traces: Path) -> None:
    distill("filter", traces, "--out", tmp_path / "clean")
    done = distill("show", tmp_path / "clean", "--json")

    assert (done.code, done.err) == (0, "")
    (version,) = json.loads(done.out)["versions"]
    assert version["manifest"]["stage"] == "filter"


def test_a_reader_that_goes_away_is_no_traceback(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
) -> None:
    write_dataset(tmp_path, make_traces(1))
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "show", str(tmp_path), "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)

    assert (done.returncode, done.stderr) == (1, "")


# ---------------------------------------------------------------- signals

MAIN = "from distillpipe.cli.app import main; main()"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_signal_ends_the_command_with_its_code_and_says_how_to_go_on(
    tmp_path: Path, number: int, code: int
) -> None:
    recipe = tmp_path / "recipe.toml"
    os.mkfifo(recipe)  # the command waits here for a writer
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "--recipe", str(recipe), "show", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    writer = None
    while writer is None and process.poll() is None:  # until the command waits for its recipe
        with suppress(OSError):
            writer = os.open(recipe, os.O_WRONLY | os.O_NONBLOCK)
    process.send_signal(number)
    _, said = process.communicate()
    assert writer is not None, said
    os.close(writer)

    assert process.returncode == code
    assert said == "stopped: what was done is safe; the same command goes on from here\n"

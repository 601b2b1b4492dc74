"""Commands are made from structs of options: on the command line, in recipes and in Python."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from distillpipe.base.errors import UsageError
from distillpipe.base.filter_options import FilterOptions, Forcing, StrategyOptions, read_strategy
from distillpipe.base.option import Options, fields_of
from distillpipe.base.options import EngineOptions, Judging, LabelOptions, SamplingOptions
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.cli import recipe
from distillpipe.cli.app import COMMANDS, app
from distillpipe.cli.other_names import OTHER_NAMES, our_name
from distillpipe.cli.parameters import Command, OptionValues, command
from distillpipe.data.formats.traces import ImportOptions
from distillpipe.reports.rows import RowQuery
from distillpipe.stages.run import Run

GROUP: Any = typer.main.get_command(app)

# Which commands take a struct, and which of its options each leaves out.
TAKEN: dict[type[Options], dict[str, set[str]]] = {
    SamplingOptions: {
        "generate": {
            "code_rules", "code_packages", "answer_form", "min_date", "max_date", "num_workers",
            "unsafe_run_model_code_without_sandbox",
        },
        "eval": {"soft_labels", "allow_no_reasoning", "num_workers", "teacher_licence"},
    },
    LabelOptions: {
        "label": {
            "base_url", "api_key_env", "price_input", "price_output", "max_cost",
            "allow_no_reasoning", "no_thinking",
        }
    },
    FilterOptions: {"filter": set()},
    Forcing: {"filter": {"stop_loops", "extra_body", "allow_no_reasoning"}},
    Judging: {"filter": set(), "rescore": set()},
    TrainingOptions: {"sft": {"no_thinking"}},
    TrainingRun: {"sft": set()},
    ImportOptions: {"import": set()},
    RowQuery: {"show": set()},
    Run: {
        "generate": {"allow_benchmark_training"},
        "eval": {"allow_benchmark_training"},
        "label": {"allow_benchmark_training"},
        "import": {"allow_benchmark_training"},
        "filter": set(),
        "sft": {"accept_errors"},
        "rescore": {"accept_errors", "allow_benchmark_training"},
        "export": {"fresh", "accept_errors"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_the_options_of_its_structs_and_its_own(name: str) -> None:
    of_structs = {
        field.name
        for struct, takers in TAKEN.items()
        if name in takers
        for field in fields_of(struct)
        if field.name not in takers[name]
    }
    own = {field.name for field in COMMANDS[name].own}

    found = {parameter.name for parameter in GROUP.commands[name].params}
    assert found - {"help", "recipe"} == of_structs | own


@pytest.mark.parametrize("struct", TAKEN)
def test_every_option_has_a_help_text_that_is_a_sentence(struct: type[Options]) -> None:
    for field in fields_of(struct):
        assert re.fullmatch(r"\S.*\.", field.option.help, re.DOTALL), field.name


def headings(text: str) -> dict[str, list[str]]:
    """The flags under each heading of a help."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"([A-Z][\w ]+):", line):
            found[heading[1]] = []
        elif found and (flag := re.match(r"  (?:-h, )?(--[a-z0-9-]+)", line)):
            found[next(reversed(found))].append(flag[1])
    return found


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_flag_whole_under_its_panel(
    distill: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = distill(name, "--help").out

    found = headings(text)
    assert max(map(len, text.splitlines())) <= columns
    for field in COMMANDS[name].fields.values():
        if not field.option.is_argument:
            flag = field.option.flag or f"--{field.name.replace('_', '-')}"
            assert flag in found[field.option.panel or "Options"], flag
    assert next(name for name in found if name != "Arguments") == "Options"
    assert {"--recipe", "--help"} <= set(found["Options"])


def test_basic_options_are_few() -> None:
    for name, one in COMMANDS.items():
        basic = [field.name for field in one.fields.values() if field.option.panel is None]
        assert len(basic) <= 11, (name, basic)


def test_options_of_forcing_stand_under_one_heading(distill: Callable[..., Any]) -> None:
    found = headings(distill("filter", "--help").out)

    asked = {"--teacher", "--temperature", "--top-p", "--end-text", "--tokenizer", "--engine"}
    assert asked <= set(found["Forcing"])


# ---------------------------------------------------------------- recipes before and behind


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_recipe_stands_before_or_behind_the_command(
    distill: Callable[..., Any], tmp_path: Path, is_behind: bool
) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[filter]\ntraces = ["none"]\nout = "clean"\nselect = 3\n')
    words = ["filter", "--dry-run"]
    given = ["--recipe", str(path)]
    done = distill(*(words + given if is_behind else given + words))

    assert done.code == 0, done.err
    assert "select = 3  (recipe)" in done.out


def test_a_flag_wins_over_a_recipe_behind_the_command(
    distill: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[filter]\nselect = 3\nseed = 4\n")
    done = distill("filter", "x", "--out", "o", "--seed", 1, "--dry-run", "--recipe", path)

    assert "seed = 1  (flag)" in done.out
    assert "select = 3  (recipe)" in done.out


def test_two_recipes_are_refused(distill: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("")
    done = distill("--recipe", path, "filter", "x", "--out", "o", "--recipe", path)

    assert (done.code, done.err) == (
        2, "error: --recipe is given twice: before and behind the command; leave one out\n",
    )  # fmt: skip


# ---------------------------------------------------------------- names of other tools


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("sft x --lr 1e-5", "no option --lr: the learning rate is --learning-rate"),
        ("sft x --num-epochs 3", "no option --num-epochs: the number of epochs is --epochs"),
        ("sft x --num_train_epochs=3", "no option --num_train_epochs: the number of epochs is --epochs"),
        ("sft x --lora-rank 8", "no option --lora-rank: the LoRA rank is --rank"),
        ("sft x --lora-r 8", "no option --lora-r: the LoRA rank is --rank"),
        ("sft x --model m", "no option --model: the student is --student"),
        (
            "sft x --per-device-train-batch-size 4",
            "no option --per-device-train-batch-size: the number of traces per optimizer step is "
            "--batch-size",
        ),
        ("sft x --output-dir o", "no option --output-dir: the folder of the versions is --out"),
        ("generate x --model m", "no option --model: the teacher is --teacher"),
        (
            "generate x --max-new-tokens 9",
            "no option --max-new-tokens: the limit on a completion is --max-tokens",
        ),
        (
            "generate x --n 4",
            "no option --n: the number of completions for each problem is --num-samples",
        ),
        ("eval --model m", "no option --model: the model is MODEL, given without a flag"),
        ("eval m --tasks t", "no option --tasks: the benchmark is --benchmark"),
    ],
)  # fmt: skip
def test_names_of_other_tools_are_answered_with_ours(
    distill: Callable[..., Any], call: str, said: str
) -> None:
    assert distill(*call.split()) == (2, "", f"error: {said}\n")


def test_a_name_that_is_none_of_ours_keeps_its_own_error(distill: Callable[..., Any]) -> None:
    assert "No such option: --lora" in distill("show", "x", "--lora").err


def test_names_of_other_tools_lead_to_options_and_are_none_of_ours() -> None:
    known = {name for one in COMMANDS.values() for name in one.fields}
    assert set(OTHER_NAMES) <= known
    for one in COMMANDS.values():
        for ours, (_, others) in OTHER_NAMES.items():
            if ours in one.fields:
                assert our_name(others[0], one.fields) is not None
        for name in one.fields:
            assert our_name(name, set(one.fields) - {name}) is None or name in ("model", "student")


def test_a_recipe_with_a_name_of_another_tool_is_told_ours(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[sft]\nlr = 1e-5\n")
    with pytest.raises(
        UsageError, match=r"\[sft\] has no 'lr': the learning rate is 'learning_rate'"
    ):
        recipe.read(path, COMMANDS)


# ---------------------------------------------------------------- options of a strategy


@pytest.mark.parametrize(
    "text",
    [
        'strategy_option = ["preselect=AIME, gpqa", "num_follow=3", "follow-weight=1,0.5"]',
        '[filter.strategy_option]\npreselect = ["AIME", "gpqa"]\nnum_follow = 3\nfollow_weight = [1, 0.5]',
    ],
    ids=["list", "table"],
)
def test_a_recipe_takes_strategy_options_as_list_or_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f"[filter]\n{text}\n")
    given = recipe.read(path, COMMANDS)["filter"]["strategy_option"]
    assert read_strategy(given) == StrategyOptions(
        preselect=("AIME", "gpqa"), num_follow=3, follow_weight=(1.0, 0.5)
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("num_folow=3", "--strategy-option num_folow=3: no key 'num_folow': did you mean 'num_follow'?"),
        ("num_follow", "--strategy-option num_follow: give KEY=VALUE, for example num_follow=3"),
        ("num_follow=x", "--strategy-option num_follow=x: expected a whole number"),
        ("num_follow=-1", "--strategy-option num_follow=-1: give 0 or more"),
        ("num_follow=", "--strategy-option num_follow=: expected a whole number"),
        (
            "preselect_min_tokens=1,x",
            "--strategy-option preselect_min_tokens=1,x: expected whole numbers, separated by commas",
        ),
        ("follow_weight=1,,2", "--strategy-option follow_weight=1,,2: expected numbers, separated by commas"),
        ("preselect=", "--strategy-option preselect=: expected names, separated by commas"),
        ("num_follow=1", "--strategy-option needs --strategy s1"),
    ],
)  # fmt: skip
def test_a_bad_strategy_option_is_one_line(
    distill: Callable[..., Any], given: str, said: str
) -> None:
    done = distill("filter", "x", "--out", "o", "--strategy-option", given)
    assert done == (2, "", f"error: {said}\n")


def test_a_strategy_option_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="num_follow is given twice"):
        read_strategy(["num_follow=1", "num_follow=2"])


# ---------------------------------------------------------------- from Python


@command(FilterOptions, EngineOptions, without={"replicas"}, dedup="near")
def probe(values: OptionValues) -> OptionValues:
    """Give back the values."""
    return values


def test_keywords_give_what_the_same_flags_give() -> None:
    made = probe.call(verdict=["correct", "wrong"], min_pass_rate=0, code_packages=["b,a"])

    assert made[FilterOptions] == FilterOptions(
        verdicts=("correct", "wrong"), min_pass_rate=0.0, code_packages=("a", "b"), dedup="near"
    )
    assert isinstance(made[FilterOptions].min_pass_rate, float)
    assert made[EngineOptions] == EngineOptions()
    assert made.options["min_pass_rate"].source == "flag"
    assert (made.options["seed"].value, made.options["seed"].source) == (0, "default")


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"verdicts": ["correct"]}, "probe() has no 'verdicts': did you mean 'verdict'?"),
        ({"max_thinking_tokens": 3}, "probe() has no 'max_thinking_tokens': the limit on reasoning is max_reasoning_tokens"),
        ({"replicas": 2}, "probe() has no 'replicas': "),
        ({"verdict": "correct"}, "verdict = 'correct': expected a list"),
        ({"verdict": ["corect"]}, "verdict: 'corect': choose from correct, wrong, unverifiable"),
        ({"dedup": "fuzzy"}, "dedup = 'fuzzy': choose from exact, near, none"),
        ({"per_problem": 0}, "per_problem = 0: expected 1 or more"),
        ({"max_repetition": 1.5}, "max_repetition = 1.5: expected 0 to 1"),
        ({"seed": "x"}, "seed = 'x': expected `int`, got `str`"),
        ({"seed": True}, "seed = True: expected `int`, got `bool`"),
        ({"select": [1]}, "select = [1]: expected `int | null`, got `array`"),
        ({"base_url": "nowhere"}, "--base-url should look like http://localhost:8000/v1"),
        ({"verifier": "maths"}, "no verifier 'maths': there are "),
        ({"max_repetition": float("nan")}, "max_repetition = nan: expected 0 to 1"),
    ],
)  # fmt: skip
def test_wrong_keywords_raise_what_wrong_flags_raise(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as raised:
        probe.call(**keywords)
    assert str(raised.value).startswith(said)


def test_a_command_from_python_names_what_is_missing() -> None:
    with pytest.raises(UsageError, match=r"generate\(\) needs teacher: Model folder"):
        COMMANDS["generate"].call("problems.jsonl", out="o")
    with pytest.raises(UsageError, match=r"takes 1 argument by its place: problems"):
        COMMANDS["generate"].call("problems.jsonl", "teacher", out="o")


def test_a_name_that_no_struct_has_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="no_such"):
        Command(probe.body, (FilterOptions,), (), {"no_such": 1})
    with pytest.raises(AssertionError, match="no_such"):
        Command(probe.body, (FilterOptions,), {"no_such"}, {})

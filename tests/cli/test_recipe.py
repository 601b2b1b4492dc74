"""Recipes: the signature of a command is the schema, and what does not fit is named with its key."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.cli import recipe
from distillpipe.cli.app import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]


def bake(
    ctx: object,
    flour: Annotated[str, "an option"],
    sugar: float = 0.5,
    eggs: int | None = None,
    spices: list[str] | None = None,
    tins: Annotated[list[str], "an option"] = [],  # noqa: B006 - a signature is data here
    heat: Literal["low", "high"] = "low",
    out: Path = Path("cake"),
    fresh: bool = False,
) -> None:
    """A command that takes every kind of option that ours take."""


KITCHEN: dict[str, Callable[..., Any]] = {"bake": bake, "brew": bake}


def read(path: Path, text: str) -> dict[str, dict[str, Any]]:
    (path / "recipe.toml").write_text(text)
    return recipe.read(path / "recipe.toml", KITCHEN)


def test_a_recipe_is_one_table_of_values_a_command(tmp_path: Path) -> None:
    text = """
        # comments are welcome
        [bake]
        flour = "rye"
        sugar = 0.25
        eggs = 3
        spices = ["clove", "mace"]
        tins = []
        heat = "high"
        out = "runs/cake"
        fresh = true

        [brew]
        sugar = 1
    """
    assert read(tmp_path, text) == {
        "bake": {
            "flour": "rye",
            "sugar": 0.25,
            "eggs": 3,
            "spices": ["clove", "mace"],
            "tins": [],
            "heat": "high",
            "out": "runs/cake",
            "fresh": True,
        },
        "brew": {"sugar": 1},
    }


def test_an_empty_recipe_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}
    assert read(tmp_path, "[bake]") == {"bake": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bakes]", ": no command 'bakes': did you mean 'bake'?"),
        ("[zzz]", ": no command 'zzz': there are bake, brew"),
        ("bake = 1", ": bake should be a table: [bake]"),
        ("sugar = 1", ": no command 'sugar': there are bake, brew"),
        ("[bake]\nsuger = 1", ": [bake] has no 'suger': did you mean 'sugar'?"),
        (
            "[bake]\nzzz = 1",
            ": [bake] has no 'zzz': there are flour, sugar, eggs, spices, tins, heat, out, fresh",
        ),
        ("[bake]\nctx = 1", ": [bake] has no 'ctx': "),
        ("[bake]\nsugar = [1, 2]", ": [bake] sugar = [1, 2]: expected a single value"),
        ("[bake]\neggs = [1]", ": [bake] eggs = [1]: expected a single value"),
        ("[bake]\nheat = ['low']", ": [bake] heat = ['low']: expected a single value"),
        ("[bake]\nspices = 'clove'", ": [bake] spices = 'clove': expected a list"),
        ("[bake]\ntins = 'round'", ": [bake] tins = 'round': expected a list"),
        ("[bake]\neggs = true", ": [bake] eggs = true: expected no truth value"),
        ("[bake]\nsugar = false", ": [bake] sugar = false: expected no truth value"),
        ("[bake]\nflour = true", ": [bake] flour = true: expected no truth value"),
        ("[bake]\nfresh = 1", ": [bake] fresh = 1: expected true or false"),
        ("[bake]\nfresh = 'yes'", ": [bake] fresh = yes: expected true or false"),
        ("[bake.sugar]\nkind = 'brown'", ": [bake] sugar: expected a single value, got a table"),
    ],
)
def test_what_does_not_fit_the_signature_is_named_with_file_key_and_nearest_name(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(f"{tmp_path}/recipe.toml{message}")


def test_broken_toml_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        read(tmp_path, "[bake]\nsugar = 1\neggs =\n")
    assert re.fullmatch(
        f"recipe {tmp_path}/recipe.toml is not valid TOML: .*line 3.*", str(raised.value)
    )


@pytest.mark.parametrize(
    "content", [None, b"[bake]\nflour = 'caf\xe9'"], ids=["missing", "latin-1"]
)
def test_a_recipe_that_cannot_be_read_is_an_error_with_its_path(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=f"recipe {path} cannot be read: "):
        recipe.read(path, KITCHEN)


def test_there_are_recipes() -> None:
    assert sorted(REPOSITORY.glob("recipes/*/recipe.toml"))


@pytest.mark.parametrize(
    "path",
    sorted(REPOSITORY.glob("recipes/*/*.toml")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_every_recipe_fits_the_commands(path: Path) -> None:
    assert set(recipe.read(path, COMMANDS)) <= set(COMMANDS)


def commands_of(folder: Path, target: str) -> list[list[str]]:
    """The arguments of each `distill` that `make target` would run, in their order."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "-C", str(folder), *target.split()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("/distill ")[1]) for line in lines if "/distill " in line]


TARGETS = [
    (path.parent.name, target)
    for path in sorted(REPOSITORY.glob("recipes/*/Makefile"))
    for target in ("report", "tiny", "table SEEDS=0", "compare")
    if target == "report" or re.search(rf"^{target.split()[0]}:", path.read_text(), re.MULTILINE)
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), TARGETS, ids=[f"{one}-{two}" for one, two in TARGETS])
def test_every_command_of_every_recipe_runs_dry_offline_before_there_is_anything(
    distill: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    target: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("DISTILL_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "data"):
        Path(folder).symlink_to(REPOSITORY / folder)
    commands = commands_of(REPOSITORY / "recipes" / name, target)
    stages = [arguments[2] for arguments in commands]
    assert set(stages) - {"show", "compare"} == {"generate", "filter", "sft", "eval"}
    for arguments in commands:
        if arguments[2] not in ("show", "compare"):  # which only read what is there
            done = distill(*arguments, "--dry-run", "--json")
            assert done.code == 0, f"{arguments}\n{done.err}"
            assert json.loads(done.out)["dry_run"][0]["stage"] == arguments[2]
    assert not Path("runs").exists()


def test_the_recipes_of_r1_chain_what_open_r1_published() -> None:
    path = REPOSITORY / "recipes" / "r1-distill-qwen-7b" / "recipe.toml"
    training = recipe.read(path, COMMANDS)["sft"]
    assert training == {
        "method": "full", "learning_rate": 4e-5, "min_learning_rate": 4e-6, "adam_beta2": 0.999,
        "train_on_prompt": True, "epochs": 5, "batch_size": 128, "warmup": 0.03,
        "max_grad_norm": 0.2, "max_length": 32768, "rope_theta": 300000, "chat_template": "chatml",
    }  # fmt: skip

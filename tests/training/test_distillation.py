"""Options of soft labels: what asks for nothing, what contradicts itself, and which layers go together."""

import math

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.training_options import Distillation
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.training.distillation import check, check_unused, layer_pairs

NOTHING = Distillation(
    kd_weight=0.0, kd_divergence="forward", kd_beta=0.5, kd_temperature=1.0, kd_schedule="linear"
)


def changed(**options: object) -> Distillation:
    return msgspec.structs.replace(NOTHING, **options)


@pytest.mark.parametrize(
    ("options", "num_teachers", "is_kept"),
    [
        ({}, 0, False),
        ({"kd_weight": 0.5}, 0, True),
        ({"kd_weight": 0.5}, 1, True),
        ({"kd_weight_end": 0.5}, 0, True),
        ({"feature_weight": 0.1}, 1, True),
        ({"relation_weight": 0.1}, 2, True),
        ({"kd_weight": 0.5, "teacher_weight": (2.0, 1.0)}, 2, True),
    ],
)
def test_options_count_only_where_something_is_learnt(options, num_teachers, is_kept) -> None:
    given = changed(**options)
    assert check(given, num_teachers, 0.0) == (given if is_kept else None)


@pytest.mark.parametrize(
    ("options", "num_teachers", "said"),
    [
        ({}, 1, "--teacher has no effect: give --kd-weight, --feature-weight or"),
        ({"feature_weight": 0.1}, 0, "--feature-weight and --relation-weight compare hidden"),
        ({"kd_weight": 0.5, "teacher_weight": (1.0,)}, 2, "given 1 times for 2 teachers"),
        (
            {"kd_weight": 0.5, "teacher_weight": (1.0, 0.0)},
            2,
            "--teacher-weight: give numbers above 0",
        ),
        ({"kd_weight": 0.5, "kd_adaptive": 100}, 0, "give --kd-weight, and --eval-split"),
        (
            {"kd_weight": 0.5, "kd_weight_end": 0.1, "kd_schedule": "constant"},
            0,
            "no effect with --kd-schedule constant",
        ),
        ({"kd_weight": 0.5, "kd_beta": 1.0}, 0, "--kd-beta 1: give a number between 0 and 1"),
        ({"kd_weight": 0.5, "kd_temperature": 0.0}, 0, "--kd-temperature 0: give a number above 0"),
        (
            {"kd_weight": 0.5, "kd_temperature_end": -1.0},
            0,
            "--kd-temperature-end -1: give a number",
        ),
        ({"kd_weight": 0.5, "kd_temperature": math.inf}, 0, "--kd-temperature inf: give a number"),
        ({"relation_weight": math.inf}, 1, "give a finite number"),
        (
            {"feature_layers": ("1:2",), "kd_weight": 1.0},
            1,
            "has no effect without --feature-weight",
        ),
        ({"feature_weight": 1.0, "feature_layers": ("0:2",)}, 1, "0:2: give STUDENT:TEACHER"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, num_teachers, said) -> None:
    with pytest.raises(UsageError, match=said):
        check(changed(**options), num_teachers, 0.0)


def sources(flags: tuple[str, ...], recipe: tuple[str, ...] = ()) -> dict[str, ResolvedOption]:
    """Where options come from: those named, by hand or from a recipe, all others from their default."""
    named = dict.fromkeys(recipe, "recipe") | dict.fromkeys(flags, "flag")
    return {
        name: ResolvedOption(None, named.get(name, "default"))
        for name in Distillation.__struct_fields__
    }


@pytest.mark.parametrize(
    ("options", "flags", "said"),
    [
        ({"kd_temperature": 5.0}, ("kd_temperature",), "--kd-temperature has no effect without --kd-weight"),
        ({"kd_divergence": "js"}, ("kd_divergence",), "--kd-divergence has no effect without --kd-weight"),
        (
            {"kd_temperature_end": 5.0, "feature_weight": 1.0}, ("kd_temperature_end", "feature_weight"),
            "--kd-temperature-end has no effect without --kd-weight: give that too, or leave --kd-temp",
        ),
        (
            {"kd_weight": 0.5, "kd_beta": 0.3}, ("kd_weight", "kd_beta", "kd_divergence"),
            "--kd-beta has no effect without --kd-divergence js",
        ),
        (
            {"kd_weight": 0.5, "kd_schedule": "cosine"}, ("kd_weight", "kd_schedule"),
            "--kd-schedule has no effect without --kd-weight-end or --kd-temperature-end",
        ),
        (
            {"kd_weight": 0.5, "feature_loss": "cosine"}, ("kd_weight", "feature_loss"),
            "--feature-loss has no effect without --feature-weight",
        ),
    ],
)  # fmt: skip
def test_an_option_that_does_nothing_is_refused(options, flags, said) -> None:
    with pytest.raises(UsageError, match=said):
        check_unused(changed(**options), sources(flags))


def test_a_recipe_with_nothing_but_an_option_that_does_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--kd-temperature has no effect without --kd-weight"):
        check_unused(changed(kd_temperature=5.0), sources((), ("kd_temperature",)))


def test_a_recipe_may_hold_what_does_nothing_once_a_flag_turns_off_what_it_belongs_to() -> None:
    given = sources(("kd_weight",), ("kd_temperature", "kd_divergence"))
    check_unused(changed(kd_temperature=5.0, kd_divergence="reverse"), given)
    given = sources(("kd_weight", "kd_divergence"), ("kd_beta",))
    check_unused(changed(kd_weight=0.5, kd_divergence="reverse", kd_beta=0.3), given)


def test_options_with_an_effect_are_no_idle_ones() -> None:
    everything = changed(
        kd_weight=0.9, kd_weight_end=0.1, kd_divergence="js", kd_beta=0.3, kd_temperature=5.0,
        kd_temperature_end=1.0, kd_schedule="cosine", feature_weight=1.0, feature_loss="cosine",
    )  # fmt: skip
    check_unused(everything, sources(Distillation.__struct_fields__))


@pytest.mark.parametrize(
    ("given", "student", "teacher", "pairs"),
    [
        ((), 2, 4, [(1, 2), (2, 4)]),
        ((), 3, 28, [(1, 9), (2, 19), (3, 28)]),
        ((), 4, 2, [(1, 1), (2, 1), (3, 2), (4, 2)]),
        (("2:3", "1:1"), 2, 4, [(2, 3), (1, 1)]),
    ],
)
def test_layers_go_with_those_as_deep_in_the_teacher(given, student, teacher, pairs) -> None:
    assert layer_pairs(given, student, teacher) == pairs


@pytest.mark.parametrize("pair", ["3:1", "1:5"])
def test_a_layer_that_is_not_there_is_refused(pair) -> None:
    with pytest.raises(UsageError, match=f"{pair}: the student has 2 layers, the teacher 4"):
        layer_pairs([pair], 2, 4)

"""Options of soft labels: what asks for nothing, what contradicts itself, and which layers go together."""

import msgspec
import pytest

from distillpipe.distillation import check, layer_pairs
from distillpipe.errors import UsageError
from distillpipe.records import Distillation

NOTHING = Distillation(
    kd_weight=0.0, kd_divergence="forward", kd_beta=0.5, kd_temperature=1.0, kd_schedule="linear"
)


def changed(**options: object) -> Distillation:
    return msgspec.structs.replace(NOTHING, **options)


@pytest.mark.parametrize(
    ("options", "num_teachers", "is_kept"),
    [
        ({}, 0, False),
        ({"kd_temperature": 3.0}, 0, False),
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
        ({}, 1, "--teacher: nothing is learnt from it: give --kd-weight, --feature-weight or"),
        ({"feature_weight": 0.1}, 0, "--feature-weight and --relation-weight compare hidden"),
        ({"kd_weight": 0.5, "teacher_weight": (1.0,)}, 2, "given 1 times for 2 teachers"),
        ({"kd_weight": 0.5, "teacher_weight": (1.0, 0.0)}, 2, "weights are above 0"),
        ({"kd_weight": 0.5, "kd_adaptive": 100}, 0, "give --kd-weight, and --eval-split"),
        ({"kd_weight": 0.5, "kd_weight_end": 0.1, "kd_schedule": "constant"}, 0, "nothing moves"),
        ({"kd_weight": 0.5, "kd_beta": 1.0}, 0, "--kd-beta 1: it lies between 0 and 1"),
        ({"kd_weight": 0.5, "kd_temperature": 0.0}, 0, "--kd-temperature 0: it has to be above 0"),
        ({"kd_weight": 0.5, "kd_temperature_end": -1.0}, 0, "--kd-temperature -1: it has to be"),
        ({"feature_layers": ("1:2",), "kd_weight": 1.0}, 1, "give --feature-weight, too"),
        ({"feature_weight": 1.0, "feature_layers": ("0:2",)}, 1, "0:2: give STUDENT:TEACHER"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, num_teachers, said) -> None:
    with pytest.raises(UsageError, match=said):
        check(changed(**options), num_teachers, 0.0)


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

"""Options enter hashes as they always have, whatever their defaults are declared to be."""

import msgspec
import pytest

from distillpipe.base.filter_options import FilterOptions, Forcing, StrategyOptions
from distillpipe.base.option import Options, fields_of, hashed
from distillpipe.base.options import (
    Budget,
    EngineOptions,
    Judging,
    LabelOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
    row_key,
)
from distillpipe.base.training_options import Distillation, TrainingOptions, TrainingRun

STRUCTS: list[type[Options]] = [
    Budget, Distillation, EngineOptions, FilterOptions, Forcing, Judging, LabelOptions, Plan,
    Prompting, Sampling, SamplingOptions, StrategyOptions, TrainingOptions, TrainingRun,
]  # fmt: skip


# The keys of rows that were sampled before options were declared as they are now.
@pytest.mark.parametrize(
    ("sampling", "budget", "key"),
    [
        ({}, None, "deb01b183c7885fc10c6dd3f97d3f695"),
        ({"temperature": 0.0, "max_model_len": 4096}, None, "e20f3c41c95050aaef3e68680536c621"),
        ({"stop_loops": True, "extra_body": '{"a":1}'}, None, "f0382ac720af97f085e7962ef44a3bd5"),
        ({"extra_body": "\udce9"}, None, "5c4dfca9f31002112af925c7d3b205d8"),
        ({}, {}, "2a57ef11d28a1c6b9d15bbe588fed770"),
        ({}, {"max_reasoning_tokens": 8, "end_at": "token"}, "125f21e4823c29951b7079c4dc193e11"),
    ],
)  # fmt: skip
def test_row_keys_are_those_of_old_runs(
    sampling: dict[str, object], budget: dict[str, object] | None, key: str
) -> None:
    given = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 1024} | sampling
    bounds = None if budget is None else Budget(**{"num_waits": 1} | budget)
    found = row_key([1, 2, 3], Sampling(**given), "model", seed=0, sample=0, budget=bounds)
    assert found == key


def test_a_default_is_written_unless_it_was_added_later() -> None:
    written = msgspec.to_builtins(hashed(TrainingOptions(adam_beta2=float("0.95"))))
    assert written["weight_decay"] == 1e-4
    assert {"eval_split", "learning_rate"} <= set(written)
    assert not TrainingOptions.ADDED_LATER & set(written)
    changed = TrainingOptions(adam_beta2=0.999, distillation=Distillation(feature_loss="cosine"))
    written = msgspec.to_builtins(hashed(changed))
    assert written["adam_beta2"] == 0.999
    assert written["distillation"]["feature_loss"] == "cosine"
    assert "kd_adaptive" not in written["distillation"]


def test_structs_in_lists_are_hashed_as_alone() -> None:
    alone, among = hashed(Sampling()), hashed([Sampling(), "text"])
    assert among == [alone, "text"]
    assert msgspec.json.encode(alone) == b'{"temperature":0.6,"top_p":0.95,"max_tokens":32768}'


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_has_a_default_and_added_ones_are_fields(
    struct: type[Options],
) -> None:
    struct()
    assert set(struct.__struct_fields__) >= struct.ADDED_LATER


@pytest.mark.parametrize("struct", STRUCTS)
def test_defaults_lie_within_their_bounds(struct: type[Options]) -> None:
    for field in fields_of(struct):
        low, high = field.option.min, field.option.max
        if field.default is not None and low is not None:
            assert field.default >= low, field.name
        if field.default is not None and high is not None:
            assert field.default <= high, field.name

"""References to the hub: their form. What is behind them: tests/interop/test_hub.py."""

import pytest

from distillpipe.errors import UsageError
from distillpipe.formats.hub import parse


@pytest.mark.parametrize(
    ("reference", "name", "parts"),
    [
        ("hub:openai/gsm8k", "openai/gsm8k", ()),
        ("hub:openai/gsm8k:main", "openai/gsm8k", ("main",)),
        ("hub:openai/gsm8k:main:test", "openai/gsm8k", ("main", "test")),
    ],
)
def test_a_reference_names_a_dataset_and_perhaps_a_config_and_a_split(
    reference: str, name: str, parts: tuple[str, ...]
) -> None:
    assert parse(reference) == (name, parts)


@pytest.mark.parametrize(
    "reference",
    ["hub:", "hub:gsm8k", "hub:/gsm8k", "hub:openai/", "hub:a/b/c", "hub:a/b:", "hub:a/b:c:d:e"],
)
def test_another_form_is_refused_with_the_form_that_is_meant(reference: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(reference)
    assert str(raised.value) == f"{reference}: expected hub:ORG/NAME[:CONFIG][:SPLIT]"

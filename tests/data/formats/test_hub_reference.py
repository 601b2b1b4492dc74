"""The syntax of hub references. tests/interop/test_hub.py reads datasets."""

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.data.formats.hub import parse


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("hub:openai/gsm8k", ("openai/gsm8k", (), None)),
        ("hub:openai/gsm8k:main", ("openai/gsm8k", ("main",), None)),
        ("hub:openai/gsm8k:main:test", ("openai/gsm8k", ("main", "test"), None)),
        ("hub:math-ai/aime25/test.jsonl", ("math-ai/aime25", (), "test.jsonl")),
        ("hub:a/b/data/test*.jsonl", ("a/b", (), "data/test*.jsonl")),
    ],
)
def test_a_hub_reference_is_split_into_its_parts(reference: str, parts: tuple[object, ...]) -> None:
    assert parse(reference) == parts


@pytest.mark.parametrize(
    "reference",
    [
        "hub:",
        "hub:gsm8k",
        "hub:/gsm8k",
        "hub:openai/",
        "hub:a/b/",
        "hub:a//c",
        "hub:a/b:",
        "hub:a/b:c:d:e",
    ],
)
def test_another_form_is_refused_with_the_form_that_is_meant(reference: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(reference)
    assert (
        str(raised.value)
        == f"{reference}: expected hub:ORG/NAME[:CONFIG][:SPLIT] or hub:ORG/NAME/FILE"
    )


def test_a_file_has_no_split() -> None:
    with pytest.raises(UsageError, match="a file has no config and no split: leave 'test' out"):
        parse("hub:a/b/c.jsonl:test")

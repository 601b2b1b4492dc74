"""docs/concepts/methods.md: every method of the literature, with commands that exist or the reason it is not here."""

import re
from collections.abc import Callable
from typing import Any

import pytest

METHODS = [
    "Response-based distillation", "Feature-based distillation", "Relation-based distillation",
    "Online distillation", "Self-distillation", "Teacher-assistant chain", "Iterative distillation",
    "Adaptive distillation", "Multi-teacher distillation", "Temperature schedule",
    "Data distillation and augmentation", "Self-supervised distillation", "Contrastive distillation",
    "Domain adaptation", "Cross-tokenizer distillation", "RL after distillation", "Quantisation",
    "Dynamic computation",
]  # fmt: skip
PAGE = "docs/concepts/methods.md"
REASON = "**Not here, because**"
EFFECT = "**Measured effect.**"


@pytest.fixture(scope="session")
def sections(pages: dict[str, str]) -> dict[str, str]:
    """The text below each heading of the page."""
    _, *parts = re.split(r"^## ", pages[PAGE], flags=re.MULTILINE)
    return {title: text for title, _, text in (part.partition("\n") for part in parts)}


def test_every_method_of_the_literature_is_there(sections: dict[str, str]) -> None:
    assert list(sections) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_commands_and_effect_or_a_reason(
    method: str,
    sections: dict[str, str],
    code_blocks: Callable[[str, str], list[Any]],
    shell_commands: Callable[[str], list[list[str]]],
    parse: Callable[[list[str]], Any],
) -> None:
    text = sections[method]
    commands = [words for block in code_blocks(PAGE, text) for words in shell_commands(block.text)]
    assert bool(commands) == (EFFECT in text) == (REASON not in text)
    for words in commands:
        assert words[0] == "distill"
        assert parse(words).params["out"] is not None

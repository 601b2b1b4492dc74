"""The default run needs nothing that the repository does not hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.outcomes import Failed


def test_other_people_s_data_is_refused_to_other_tests(
    reference_data: Callable[[str], Path],
) -> None:
    with pytest.raises(Failed, match="mark the test `reference`"):
        reference_data("data/math/gsm8k_test.jsonl")


@pytest.mark.reference
def test_a_reference_test_gets_other_people_s_data(reference_data: Callable[[str], Path]) -> None:
    assert reference_data("data/math/gsm8k_test.jsonl").is_file()


def test_no_other_way_leads_to_other_people_s_data(repository: Path) -> None:
    tests = repository / "tests"
    texts = {path.relative_to(tests): path.read_text("utf-8") for path in tests.rglob("*.py")}
    door, folder = Path("conftest.py"), "shar" + "ed"
    naming = {path for path, text in texts.items() if f'"{folder}"' in text or f"/{folder}" in text}
    assert len(texts) > 100
    assert naming == {door}

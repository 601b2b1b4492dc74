import pytest

from distillpipe.verify.math.numeric import same_text


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [
        ("Paris", "Paris", "correct"),
        (" Paris\n", "Paris", "correct"),
        ("New  York", "New\tYork", "correct"),
        ("", "", "correct"),
        ("paris", "Paris", "wrong"),
        ("NewYork", "New York", "wrong"),
        ("Paris.", "Paris", "wrong"),
        ("20", "20.0", "wrong"),
        ("", "Paris", "wrong"),
        ("Paris Paris", "Paris", "wrong"),
    ],
)
def test_text_is_the_same_but_for_white_space(answer: str, reference: str, verdict: str) -> None:
    assert same_text(answer, reference) == verdict

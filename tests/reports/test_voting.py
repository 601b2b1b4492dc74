"""The vote of a problem's samples, by hand."""

from fractions import Fraction

import pytest

from distillpipe.reports.metrics import majority

VOTES = {
    "the right answer has the most": (["4", "4", "5"], [True, True, False], 1.0),
    "a wrong answer has the most": (["4", "5", "5"], [True, False, False], 0.0),
    "a tie of two is won half the time": (["4", "5"], [True, False], 1 / 2),
    "a tie of three is won a third of the time": (["4", "5", "6"], [True, False, False], 1 / 3),
    "a tie of the wrong ones behind the right": (["4", "4", "5", "6"], [True] * 2 + [False] * 2, 1.0),
    "nothing is right": (["5", "6"], [False, False], 0.0),
    "no answer at all": ([None, None], [False, False], 0.0),
    "who has no answer does not vote": (["4", None, None], [True, False, False], 1.0),
    "right answers in other words are one": (["4", "4.0", "5"], [True, True, False], 1.0),
    "wrong answers in other words are one": (
        ["4", "4", "1/2", "0.5", "1/2"], [True, True, False, False, False], 0.0,
    ),
    "a tie only once wrong ones are joined": (
        ["4", "4", "1/2", "0.5"], [True, True, False, False], 1 / 2,
    ),
}  # fmt: skip


def same_number(one: str, other: str) -> bool:
    return Fraction(one) == Fraction(other)


@pytest.mark.parametrize(("answers", "corrects", "expected"), VOTES.values(), ids=VOTES.keys())
def test_votes_are_counted(answers, corrects, expected) -> None:
    assert majority(answers, corrects, same_number) == pytest.approx(expected)


def test_the_verifier_is_only_asked_where_it_could_decide() -> None:
    asked = []

    def same(one: str, other: str) -> bool:
        asked.append((one, other))
        return False

    assert majority(["4"] * 3 + ["5", "6"], [True] * 3 + [False] * 2, same) == 1.0
    assert majority(["4", "5", "5", "6"], [True, False, False, False], same) == 0.0
    assert asked == []

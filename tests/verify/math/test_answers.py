"""The verifier `math` on pairs of a reference and an answer that were judged by hand: data/answers.jsonl, by kind.

The verdict does not change when the two sides are swapped.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from distillpipe.verify import judge

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "answers.jsonl").read_bytes().splitlines()
]
KINDS = sorted({row["kind"] for row in ROWS})

CONTESTED = {  # (reference, answer) of the real pairs that come out otherwise than their authors say
    ("1386.15*[e^{0.013*t}-1]", r"\frac{18.02}{0.013} ( e^{0.013t} - 1 )"): "1386.15 is rounded",
    ("6.28", r"2\pi"): "two places are no value of pi",
    (r"\cos ^{10}(\frac{\pi}{10})", "0.6054"): "four digits are too few for a rounded value",
    ("$t(0,4]$", "(0,4]"): "the reference is malformed",
    ("16,3,1,1", "16, 3, 1"): "a list has no order, and how often a value stands says nothing",
    ("1200", "1.200 €"): "1.2 in most books",
    ("6", "VI"): "Roman numerals are not read",
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_judged_as_by_hand_in_both_directions(kind: str) -> None:
    rows = [row for row in ROWS if row["kind"] == kind]
    wrong = []
    for row in rows:
        sides = row["answer"], row["reference"]
        verdicts = {judge(*pair, "math") for pair in (sides, sides[::-1])}
        if verdicts != {"correct" if row["same"] else "wrong"}:
            wrong.append((row["reference"], row["answer"], verdicts))
    assert wrong == []


def test_half_of_the_pairs_judged_by_hand_are_wrong_answers() -> None:
    counts = Counter(row["same"] for row in ROWS)
    assert counts[True] > 350
    assert counts[False] > 320


@pytest.mark.reference
def test_the_pairs_of_2026_are_right_but_for_contested_ones(reference_rows) -> None:
    rows = reference_rows("answers/pairs_2026.jsonl")
    deviating = {
        (row["gold"], row["pred"]): row.get("contested")
        for row in rows
        if (judge(row["pred"], row["gold"], "math") == "correct") != row["expected"]
    }
    assert len(rows) == 175
    assert deviating.keys() == CONTESTED.keys()
    assert all(deviating.values())  # its authors call each of them contested

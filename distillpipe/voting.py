"""maj@k: whether the answer that most samples of a problem give is the right one."""

from collections import Counter
from collections.abc import Callable, Sequence


def majority(
    answers: Sequence[str | None], corrects: Sequence[bool], same: Callable[[str, str], bool]
) -> float:
    """The chance that the vote is won by the right answer, for the answers of one problem's samples.

    All that was judged correct is one answer; others are one where `same` (the verifier) says so. A
    sample without an answer does not vote. Of several answers with the most votes one is drawn, so a tie
    of the right one with t others gives 1 / (1 + t). 0 where no answer is right.
    """
    right = sum(corrects)
    wrong = Counter(
        answer
        for answer, correct in zip(answers, corrects, strict=True)
        if answer is not None and not correct
    )
    if not right or max(wrong.values(), default=0) > right:
        return 0.0
    if sum(wrong.values()) < right:
        return 1.0
    votes: dict[str, int] = {}
    for answer, count in wrong.most_common():
        known = next((one for one in votes if same(answer, one)), answer)
        votes[known] = votes.get(known, 0) + count
    if max(votes.values()) > right:
        return 0.0
    return 1 / (1 + sum(count == right for count in votes.values()))

"""The verifier `exact`: the same text, but for white space at the ends and in a row."""

from distillpipe.base.records import Verdict


def same_text(answer: str, reference: str) -> Verdict:
    return "correct" if answer.split() == reference.split() else "wrong"

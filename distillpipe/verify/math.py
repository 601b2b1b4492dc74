"""The verifier `math`: exact text, then exact numbers, then math-verify on what is left.

math-verify is slow (about 20 ms a pair) and is asked only where the two quick rules do not decide.
"""

from distillpipe.records import Verdict
from distillpipe.verify.exact import same_text
from distillpipe.verify.numeric import number, same_number

SECONDS = 5  # math-verify's own time limit, for parsing and for comparing


def same_value(answer: str, reference: str) -> Verdict:
    """`unverifiable` where math-verify finds nothing in the reference that it can read."""
    if same_text(answer, reference) == "correct":
        return "correct"
    if number(reference) is not None and number(answer) is not None:
        return same_number(answer, reference)
    return _same_expression(answer, reference)


def _same_expression(answer: str, reference: str) -> Verdict:
    from math_verify import parse, verify

    wanted = parse(f"\\boxed{{{reference}}}", parsing_timeout=SECONDS)
    if not wanted:
        return "unverifiable"
    given = parse(f"\\boxed{{{answer}}}", parsing_timeout=SECONDS)
    try:
        equal = verify(wanted, given, timeout_seconds=SECONDS, raise_on_error=True)
    except Exception:  # noqa: BLE001 - a verifier that fails, or runs out of time, is no wrong answer
        return "unverifiable"
    return "correct" if equal else "wrong"

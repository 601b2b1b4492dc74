"""A rule for the filter: drop traces whose reasoning begins with the answer, so that nothing is worked out.

distill filter runs/traces --rule examples/rule.py:answer_first --out runs/clean
"""

import re

FIRST = 0.1  # the share of the reasoning that is its beginning
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def answer_first(trace):
    """The reference answer stands in the first tenth of the reasoning, but not in the problem."""
    reference = (trace.reference_answer or "").strip()
    beginning = trace.reasoning[: int(len(trace.reasoning) * FIRST)]
    if not reference or reference in NUMBER.findall(trace.problem):
        return None
    if reference in NUMBER.findall(beginning) or f"answer is {reference}" in beginning:
        return "answer_before_reasoning", beginning.find(reference)
    return None

r"""Two verifiers: for numbers, and for JSON objects that are compared field by field.

    distill filter runs/traces --verifier examples/verifier.py:same_fields --out runs/clean

A problem of the second: {"problem": "Extract name and year: Ada was born in 1815.", "answer": "{\"name\": \"Ada\", \"year\": 1815}",
            "tolerance": {"year": 1}}
"""

import json
import re

BLOCK = re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.DOTALL)


def same_number(answer, reference_answer):
    """Whether the boxed answer is the number of the reference."""
    try:
        expected = float(reference_answer or "")
    except ValueError:
        return "unverifiable", "the reference is no number"
    try:
        return float(answer or "") == expected
    except ValueError:
        return "wrong", "no number in the box"


def same_fields(response, reference_answer, extra):
    """Whether the last JSON object of a response has the fields of the reference, numbers within `tolerance`."""
    try:
        expected = json.loads(reference_answer or "")
    except ValueError:
        expected = None
    if not isinstance(expected, dict):
        return "unverifiable", "the reference is no JSON object"
    found = last_object(response)
    if found is None:
        return "wrong", "no JSON object in the response"
    if found.keys() != expected.keys():
        return "wrong", f"fields {', '.join(sorted(found))}, expected {', '.join(sorted(expected))}"
    tolerance = extra.get("tolerance", {})
    for field, value in expected.items():
        if not same(found[field], value, tolerance.get(field, 0)):
            return "wrong", f"{field}: {found[field]!r}, expected {value!r}"
    return "correct"


def last_object(response):
    """The last JSON object in a fenced block, else the response itself where it is one; None for none."""
    for text in [response, *BLOCK.findall(response)][::-1]:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def same(found, value, tolerance):
    """Whether two values of a field are the same: numbers within a tolerance, text without regard to case."""
    numbers = [
        one for one in (found, value) if isinstance(one, int | float) and not isinstance(one, bool)
    ]
    if len(numbers) == 2:
        return abs(found - value) <= tolerance
    if isinstance(found, str) and isinstance(value, str):
        return found.strip().casefold() == value.strip().casefold()
    return found == value

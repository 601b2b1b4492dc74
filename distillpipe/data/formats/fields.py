r"""Find the problem, the reference answer and other fields of a row under their usual keys.

{"question": "Tom has ...", "answer": "14 + 6 = <<14+6=20>>20\n#### 20"}     GSM8K: the reference is 20
{"problem": "What is ...", "solution": "... is $\boxed{\frac{1}{2}}.$"}      MATH: it is \frac{1}{2}
"""

import re
from typing import Any, NamedTuple

import msgspec

from distillpipe.verify.code.problem_tests import has_tests
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math.numeric import number

PROBLEM_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("reference_answer", "answer", "gold")
SOLUTION_FIELDS = ("solution", "ground_truth_solution")

GSM8K_END = re.compile(r"(?:^|\n)####[ \t]*+(\S[^\n]*+)\s*+\Z")

Row = dict[str, Any]


class Fields(NamedTuple):
    """The keys that the user named; None for the usual ones."""

    problem: str | None = None
    answer: str | None = None


class Gold(NamedTuple):
    """The reference answer of a row, None for none."""

    text: str | None
    key: str | None
    "the key it came from; None if the text there is more than the answer, so it is kept in `extra` too"


class NotText(ValueError):
    """Raised if the value of a reference answer is neither text nor a number."""

    def __init__(self, key: str, value: object) -> None:
        super().__init__(f"expected text or a number under {key!r}, got {value!r:.60}")
        self.key = key


def present(row: Row, key: str | None, usual: tuple[str, ...]) -> str | None:
    """The first key with a value that is not null: `key` if it is given, else one of the usual keys."""
    names = (key,) if key is not None else usual
    return next((name for name in names if row.get(name) is not None), None)


def text_under(row: Row, names: tuple[str, ...]) -> str | None:
    """The first of the keys `names` with text that is not blank."""
    return next((name for name in names if is_text(row.get(name))), None)


def problem_key(row: Row, fields: Fields) -> str | None:
    """The key of the problem's text, None if the row has none."""
    return text_under(row, PROBLEM_FIELDS if fields.problem is None else (fields.problem,))


def is_text(value: object) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def gold(row: Row, fields: Fields) -> Gold:
    r"""The reference answer of a row: from its answer field, or the last `\boxed{}` of its solution.

    Raises NotText if it is neither text nor a number.
    """
    key = present(row, fields.answer, ANSWER_FIELDS)
    if key is None:
        return Gold(None if fields.answer else _of_solution(row), None)
    value = row[key]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise NotText(key, value)
    answer = final_answer(str(value))
    return Gold(answer, key if answer == str(value) else None)


def final_answer(text: str) -> str:
    r"""The text after GSM8K's `####`, else in the last `\boxed{}`, else the whole text."""
    match = GSM8K_END.search(text)
    return match[1].rstrip() if match else boxed_answer(text) or text


def usual_verifier(row: Row) -> str:
    """The verifier of a row that names none: `code` if it has tests, else `math`."""
    return "code" if has_tests(row) else "math"


def extra_of(values: Row) -> str | None:
    """The remaining fields of a row as one JSON string, None if there are none."""
    return msgspec.json.encode(values, enc_hook=str).decode() if values else None


def _of_solution(row: Row) -> str | None:
    r"""The last `\boxed{}` of a solution, or the whole solution if it is a number."""
    key = text_under(row, SOLUTION_FIELDS)
    if key is None:
        return None
    solution: str = row[key]
    return boxed_answer(solution) or (solution if number(solution) is not None else None)

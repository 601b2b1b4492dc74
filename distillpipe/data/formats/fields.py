r"""Under which keys a row keeps its problem, its reference answer and the rest.

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
    """The keys that the user named; null for the usual ones."""

    problem: str | None = None
    answer: str | None = None


class Gold(NamedTuple):
    """The reference answer of a row, null for none."""

    text: str | None
    key: str | None
    "where it stood, null where that text says more than the answer and is worth keeping"


class NotText(ValueError):
    """A key that should hold a reference answer holds something else."""

    def __init__(self, key: str, value: object) -> None:
        super().__init__(f"expected text or a number under {key!r}, got {value!r:.60}")
        self.key = key


def present(row: Row, given: str | None, usual: tuple[str, ...]) -> str | None:
    """The first of the usual keys, or the one given, that is in the row and not null."""
    names = (given,) if given is not None else usual
    return next((name for name in names if row.get(name) is not None), None)


def text_under(row: Row, names: tuple[str, ...]) -> str | None:
    """The first of `names` under which the row has text that is not blank."""
    return next((name for name in names if is_text(row.get(name))), None)


def problem_key(row: Row, fields: Fields) -> str | None:
    """The key of the problem's text."""
    return text_under(row, PROBLEM_FIELDS if fields.problem is None else (fields.problem,))


def is_text(value: object) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def gold(row: Row, fields: Fields) -> Gold:
    """The reference answer of a row: under its key, or the last box of its solution.

    Raises NotText for one that is neither text nor a number.
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
    r"""What stands after GSM8K's `####`, else in the last `\boxed{}`, else the text as it is."""
    marked = GSM8K_END.search(text)
    return marked[1].rstrip() if marked else boxed_answer(text) or text


def usual_verifier(row: Row) -> str:
    """The verifier of a row that names none."""
    return "code" if has_tests(row) else "math"


def extra_of(values: Row) -> str | None:
    """What is known of a row besides, as one JSON string; null for nothing."""
    return msgspec.json.encode(values, enc_hook=str).decode() if values else None


def _of_solution(row: Row) -> str | None:
    r"""The last box of a solution, or a solution that is nothing but a number."""
    key = text_under(row, SOLUTION_FIELDS)
    if key is None:
        return None
    solution: str = row[key]
    return boxed_answer(solution) or (solution if number(solution) is not None else None)

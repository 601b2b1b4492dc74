r"""Find the problem, the reference answer and other fields of a row under their usual keys.

{"question": "Tom has ...", "answer": "14 + 6 = <<14+6=20>>20\n#### 20"}     GSM8K: the reference is 20
{"problem": "What is ...", "solution": "... is $\boxed{\frac{1}{2}}.$"}      MATH: it is \frac{1}{2}
"""

import ast
import re
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from distillpipe.base.decoding import NOT_DECODED, NOT_PARSED, check_depth
from distillpipe.verify.code.problem_tests import has_tests
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math.numeric import number

PROBLEM_FIELDS = ("problem", "question", "prompt")
ANSWER_FIELDS = ("reference_answer", "answer", "gold")
TRACE_PROBLEM_FIELDS = (
    *PROBLEM_FIELDS, "instruction", "input", "query", "Problem", "Question", "Prompt", "Instruction",
    "problem_statement", "question_content",
)  # fmt: skip
"Problem columns of published traces. Problems alone are read from `PROBLEM_FIELDS`: their ids must stay."
TRACE_ANSWER_FIELDS = (
    *ANSWER_FIELDS, "expected_answer", "final_answer", "ground_truth", "ground_truth_answer", "gt_answer",
    "gold_answer", "correct_answer", "metadata.expected_answer", "metadata.reference_answer",
    "metadata.ground_truth", "metadata.answer", "verification_info.ground_truth", "extra_info.answer",
    "extra_info.reference_answer", "reward_model.ground_truth", "info.reference_answer",
)  # fmt: skip
NO_REFERENCE = frozenset(
    ("proof", "notfound", "not found", "not_found", "n/a", "na", "nan", "-", "--", "unknown", "no answer")
)  # fmt: skip
"Words that published traces have in place of a reference answer."
SOLUTION_FIELDS = ("solution", "ground_truth_solution")

GSM8K_END = re.compile(r"(?:^|\n)####[ \t]*+(\S[^\n]*+)\s*+\Z")

MAX_LITERAL_CHARACTERS = 100_000  # of an object as Python writes it
_PYTHON = re.compile(r"\s*[\[{]\s*(?:['\"{\[\]}]|\d)")

Row = dict[str, Any]


class Fields(NamedTuple):
    """The keys that the user named; None for the usual ones."""

    problem: str | None = None
    answer: str | None = None
    reasoning: str | None = None
    response: str | None = None
    is_trace: bool = False
    "whether rows are traces, whose columns have more names than those of problems"

    @property
    def problem_names(self) -> tuple[str, ...]:
        if self.problem is not None:
            return (self.problem,)
        return TRACE_PROBLEM_FIELDS if self.is_trace else PROBLEM_FIELDS

    @property
    def answer_names(self) -> tuple[str, ...]:
        if self.answer is not None:
            return (self.answer,)
        return TRACE_ANSWER_FIELDS if self.is_trace else ANSWER_FIELDS

    @property
    def named(self) -> tuple[str, ...]:
        """The keys that the user named."""
        given = (self.problem, self.answer, self.reasoning, self.response)
        return tuple(name for name in given if name is not None)


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
    return text_under(row, fields.problem_names)


def value_at(row: Row, path: str) -> Any:
    """The value at a dotted path: keys, numbers of list items, and texts that hold JSON. None if there is none.

    `messages.0.info.reference_answer`, `metadata.expected_answer`; a key that has dots itself comes first.
    """
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        value = decoded_text(value)
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit():
            value = value[int(name)] if int(name) < len(value) else None
        else:
            return None
    return value


def decoded_text(value: Any) -> Any:
    """A list or object that stands as JSON (or as Python writes it) in a text; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        decoded = msgspec.json.decode(value)
        check_depth(decoded)
    except NOT_DECODED:
        if len(value) > MAX_LITERAL_CHARACTERS or not _PYTHON.match(value):
            return value
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd escapes in the text
                decoded = ast.literal_eval(value)
            check_depth(decoded)
        except (*NOT_PARSED, SyntaxError, MemoryError):
            return value
    return decoded if isinstance(decoded, dict | list) else value


def with_paths(row: Row, paths: Iterable[str]) -> Row:
    """The row with a key of its own for the value at each dotted path that has one."""
    values = {path: value_at(row, path) for path in paths if "." in path and path not in row}
    values = {path: value for path, value in values.items() if value is not None}
    return {**row, **values} if values else row


def is_text(value: object) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def gold(row: Row, fields: Fields) -> Gold:
    r"""The reference answer of a row: from its answer field, or the last `\boxed{}` of its solution.

    Raises NotText if it is neither text nor a number.
    """
    key = next((name for name in fields.answer_names if row.get(name) is not None), None)
    if key is None:
        return Gold(None if fields.answer else _of_solution(row), None)
    value = row[key]
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        if fields.is_trace and fields.answer is None and key not in ANSWER_FIELDS:
            return gold({name: row[name] for name in row if name != key}, fields)
        raise NotText(key, value)
    if fields.is_trace and str(value).strip().lower() in NO_REFERENCE:
        return Gold(None, key)
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

"""Make traces and problems from parsed rows: ids, reference answer, teacher, `extra`.

    {"problem": "1+1?", "raw": "<think>...</think>2", "gold": "2", "model": "QwQ-32B", "finish_reason": "stop",
     "sample_index": 3, "options": ["1", "2"], "path": "a.json"}

Here `options` goes to `extra` of the problem, because all its samples share them, and `path` to `extra` of the
trace. A row that is rejected becomes a trace without a completion; its `extra` is the whole row.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.finish import ending
from distillpipe.base.hashing import content_hash
from distillpipe.base.option import Option, Options
from distillpipe.base.options import AnswerField, ProblemField, Verifier
from distillpipe.base.records import FinishReason, Message, Problem, Trace, problem_id, trace_id
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.data.formats.fields import (
    Fields,
    NotText,
    Row,
    extra_of,
    gold,
    problem_key,
    text_under,
    usual_verifier,
)
from distillpipe.data.formats.files import Unreadable
from distillpipe.data.formats.incoming import Format, Reader
from distillpipe.data.formats.turns import Outcome, ParsedRow, Rejection
from distillpipe.data.store.jsonl import Spool
from distillpipe.verify import VERIFIERS
from distillpipe.verify.code.problem_tests import TEST_KEYS, has_tests, tests_for

TEACHER_FIELDS = ("teacher", "model", "model_name")
FINISH_FIELDS = ("finish_reason", "stop_reason")
SAMPLE_FIELDS = ("sample", "sample_index", "sample_idx")
SHARED_KEYS = frozenset(
    ("solution", "ground_truth_solution", "options", "choices", "tests", "test_cases",
     "input_output", "starter_code", "reference_answer", "answer", "gold")
)  # fmt: skip
"Keys that belong to the problem, not to a trace. Their values are often large."


class Choices(Options, frozen=True):
    """Import options of a source. They are part of the fingerprint."""

    format: Annotated[
        Format, Option("How the rows are laid out; auto tells it from the first ones.")
    ] = "auto"
    problem_field: ProblemField = None
    answer_field: AnswerField = None
    verifier: Verifier = None

    @property
    def fields(self) -> Fields:
        return Fields(self.problem_field, self.answer_field)


class ImportOptions(Options, frozen=True):
    """What `import` makes of a source: part of the fingerprint."""

    choices: Choices = Choices()
    limit: Annotated[int | None, Option("Only the first N rows.", min=1)] = None
    tokenizer: Annotated[
        str | None, Option("Count tokens with the tokenizer of this model; default: no counts.")
    ] = None
    teacher_licence: Annotated[str | None, Option("Licence of the traces, for the manifest.")] = (
        None
    )


class Imported(NamedTuple):
    """A trace and its problem, or a rejected row as a trace without a completion."""

    trace: Trace
    problem: Problem | None
    rejection: Rejection | None


def failed_row(row: object, error: InternalError, choices: Choices) -> Imported:
    """The rejected trace of a row that raised an internal error."""
    rejection = Rejection(REASON, error.description)
    trace = guarded(_rejected, row, rejection, choices, 0)
    if isinstance(trace, InternalError):  # the row may hold anything
        return _rejected({"row": repr(row)}, rejection, choices, 0)
    return trace


def imported(
    row: object, reader: Reader, choices: Choices, benchmark: str | None = None
) -> Iterator[Imported]:
    """Yield all traces of a row. A completion that does not fit the format is rejected with a reason."""
    outcomes = _outcomes(row, reader, choices.fields)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Rejection):
            yield _rejected(row, outcome, choices, number)
        elif isinstance(row, dict):
            yield _imported(row, outcome, reader, choices, benchmark)


def _outcomes(row: object, reader: Reader, fields: Fields) -> list[Outcome]:
    if isinstance(row, Unreadable):
        return [Rejection("unreadable", row.error)]
    if not isinstance(row, dict):
        return [Rejection("not_an_object", type(row).__name__)]
    try:
        if gold(row, fields).text is None and fields.answer is not None:
            return [Rejection("no_reference_answer", ", ".join(row))]
        return list(reader.read(row, fields))
    except NotText as error:
        return [Rejection("reference_answer_not_text", error.key)]


def _imported(
    row: Row, parsed: ParsedRow, reader: Reader, choices: Choices, benchmark: str | None
) -> Imported:
    reference, reference_key = gold(row, choices.fields)
    verifier, verifier_key = _verifier(row, choices)
    teacher_key = text_under(row, TEACHER_FIELDS)
    teacher = row[teacher_key] if teacher_key else parsed.teacher
    finish_reason, finish_key = _finish_reason(row, parsed)
    sample, sample_key = _sample(row, parsed)
    domain = row.get("domain") if isinstance(row.get("domain"), str) else None
    used = {
        *parsed.keys, reference_key, verifier_key, teacher_key, finish_key, sample_key,
        None if domain is None else "domain",
    }  # fmt: skip
    unused = {key: value for key, value in row.items() if key not in used and value is not None}
    shared_keys = SHARED_KEYS | TEST_KEYS if has_tests(row) else SHARED_KEYS
    shared = {key: unused[key] for key in unused if reader.row_is_problem or key in shared_keys}
    problem = Problem(
        problem_id=problem_id(parsed.problem, reference, verifier, tests_for(verifier, row)),
        problem=parsed.problem,
        reference_answer=reference,
        verifier=verifier,
        domain=domain,
        benchmark=benchmark,
        extra=extra_of(shared),
    )
    reasoning, response = parsed.completion
    answer = Message(role="assistant", content=response, reasoning_content=reasoning)
    messages = [*parsed.prompt, answer]
    key = content_hash("import", messages, teacher, sample, finish_reason)
    own = extra_of({name: unused[name] for name in unused if name not in shared})
    trace = _trace_of(
        problem, key, messages,
        finish_reason=finish_reason, sample=sample, teacher=teacher, extra=own,
    )  # fmt: skip
    return Imported(trace, problem, None)


def _rejected(row: object, rejection: Rejection, choices: Choices, number: int) -> Imported:
    """A rejected row as a trace without a completion. Its `extra` is the whole row."""
    values: Row = row if isinstance(row, dict) else {"row": row}
    if isinstance(row, Unreadable):
        values = {"row": row.content}
    key = problem_key(values, choices.fields)
    text: str = values[key] if key else ""
    verifier, _ = _verifier(values, choices)
    problem = Problem(
        problem_id=problem_id(text, None, verifier),
        problem=text,
        reference_answer=None,
        verifier=verifier,
    )
    messages = [Message(role="user", content=text), Message(role="assistant", content="")]
    trace = _trace_of(
        problem, content_hash("import", "rejected", row, number), messages,
        finish_reason="length", extra=extra_of(values),
    )  # fmt: skip
    return Imported(trace, None, rejection)


def _trace_of(problem: Problem, key: str, messages: list[Message], **fields: Any) -> Trace:
    return Trace(
        id=trace_id(problem.problem_id, key),
        row_key=key,
        **problem.row_fields(),
        messages=messages,
        num_tokens=None,
        seed=None,
        **{"sample": 0, "teacher": None, **fields},
    )


def _verifier(row: Row, choices: Choices) -> tuple[str, str | None]:
    """The verifier of a row and the key that names it."""
    name = row.get("verifier")
    is_ours = isinstance(name, str) and name in VERIFIERS
    verifier = choices.verifier or (str(name) if is_ours else usual_verifier(row))
    return verifier, "verifier" if is_ours else None


def _finish_reason(row: Row, parsed: ParsedRow) -> tuple[FinishReason, str | None]:
    """The finish reason and its key. Without one: `length` if there is no response, else `stop`."""
    key = text_under(row, FINISH_FIELDS)
    kind = ending(parsed.finish_reason or (row[key] if key else None))
    if kind in ("stop", "length", "repetition"):
        return kind, key
    if kind in ("filtered", "failed"):
        return "length", key
    # A completion without a response was cut off in its reasoning.
    return "stop" if parsed.completion.response.strip() else "length", None


def _sample(row: Row, parsed: ParsedRow) -> tuple[int, str | None]:
    """The index among the samples of the problem, and its key."""
    if _is_index(parsed.sample):
        return int(parsed.sample or 0), None
    key = next((name for name in SAMPLE_FIELDS if _is_index(row.get(name))), None)
    return (row[key] if key else 0), key


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class Problems:
    """The distinct problems of imported traces, each as in its first row.

    Their text is on disk. Memory holds an id and a hash of each.
    """

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, Problem)
        self._extra_hashes: dict[str, str] = {}  # by problem_id

    def __iter__(self) -> Iterator[Problem]:
        return (self._spool[number] for number in range(len(self._spool)))

    def add(self, problem: Problem, trace: Trace) -> Trace:
        """Add a problem and return its trace.

        If `extra` of the problem differs from its first row, the fields are put into `extra` of the trace.
        """
        extra_hash = content_hash(problem.extra)
        if problem.problem_id not in self._extra_hashes:
            self._extra_hashes[problem.problem_id] = extra_hash
            self._spool.append(problem)
        if extra_hash == self._extra_hashes[problem.problem_id] or problem.extra is None:
            return trace
        extra = {**json_object(problem.extra), **json_object(trace.extra)}
        return msgspec.structs.replace(trace, extra=msgspec.json.encode(extra).decode())

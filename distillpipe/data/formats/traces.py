"""From what a format found in a row to a trace and its problem: ids, reference, teacher, extra.

    {"problem": "1+1?", "raw": "<think>...</think>2", "gold": "2", "model": "QwQ-32B", "finish_reason": "stop",
     "sample_index": 3, "options": ["1", "2"], "path": "a.json"}

Here `options` goes to the problem's extra, since all its samples share them, and `path` to the trace's.
A row that does not fit becomes a trace without a completion whose extra is the whole row.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from distillpipe.base.decoding import json_object
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
from distillpipe.data.formats.turns import Found, Outcome, Rejection
from distillpipe.data.store.jsonl import Spool
from distillpipe.verify import VERIFIERS
from distillpipe.verify.code.problem_tests import TEST_KEYS, has_tests, tests_for

TEACHER_FIELDS = ("teacher", "model", "model_name")
FINISH_FIELDS = ("finish_reason", "stop_reason")
SAMPLE_FIELDS = ("sample", "sample_index", "sample_idx")
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
    "length": "length", "max_tokens": "length", "max_length": "length", "abort": "length",
    "error": "length", "content_filter": "length", "repetition": "repetition",
}  # fmt: skip
SHARED_KEYS = frozenset(
    ("solution", "ground_truth_solution", "options", "choices", "tests", "test_cases",
     "input_output", "starter_code", "reference_answer", "answer", "gold")
)  # fmt: skip
"of a problem whatever its traces, and often large"


class Choices(Options, frozen=True):
    """What the user says of a source: part of the fingerprint of what is made of it."""

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
    """A trace and its problem; or a rejected row, which is kept as a trace without a completion."""

    trace: Trace
    problem: Problem | None
    rejection: Rejection | None


def failed_row(row: object, error: InternalError, choices: Choices) -> Imported:
    """A row whose reading met an internal error."""
    rejection = Rejection(REASON, error.description)
    made = guarded(_rejected, row, rejection, choices, 0)
    if isinstance(made, InternalError):  # whatever it holds
        return _rejected({"row": repr(row)}, rejection, choices, 0)
    return made


def imported(
    row: object, reader: Reader, choices: Choices, benchmark: str | None = None
) -> Iterator[Imported]:
    """All traces of a row; what does not fit is a rejected one, with the reason."""
    outcomes = _outcomes(row, reader, choices.fields)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Rejection):
            yield _rejected(row, outcome, choices, number)
        elif isinstance(row, dict):
            yield _found(row, outcome, reader, choices, benchmark)


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


def _found(
    row: Row, found: Found, reader: Reader, choices: Choices, benchmark: str | None
) -> Imported:
    reference, reference_key = gold(row, choices.fields)
    verifier, verifier_key = _verifier(row, choices)
    teacher_key = text_under(row, TEACHER_FIELDS)
    teacher = row[teacher_key] if teacher_key else found.teacher
    finish_reason, finish_key = _finish_reason(row, found)
    sample, sample_key = _sample(row, found)
    domain = row.get("domain") if isinstance(row.get("domain"), str) else None
    used = {
        *found.keys, reference_key, verifier_key, teacher_key, finish_key, sample_key,
        None if domain is None else "domain",
    }  # fmt: skip
    left = {key: value for key, value in row.items() if key not in used and value is not None}
    shared_keys = SHARED_KEYS | TEST_KEYS if has_tests(row) else SHARED_KEYS
    shared = {key: left[key] for key in left if reader.row_is_problem or key in shared_keys}
    problem = Problem(
        problem_id=problem_id(found.problem, reference, verifier, tests_for(verifier, row)),
        problem=found.problem,
        reference_answer=reference,
        verifier=verifier,
        domain=domain,
        benchmark=benchmark,
        extra=extra_of(shared),
    )
    reasoning, response = found.completion
    answered = Message(role="assistant", content=response, reasoning_content=reasoning)
    messages = [*found.asked, answered]
    key = content_hash("import", messages, teacher, sample, finish_reason)
    own = extra_of({name: left[name] for name in left if name not in shared})
    trace = _trace_of(
        problem, key, messages,
        finish_reason=finish_reason, sample=sample, teacher=teacher, extra=own,
    )  # fmt: skip
    return Imported(trace, problem, None)


def _rejected(row: object, rejection: Rejection, choices: Choices, number: int) -> Imported:
    """A rejected row as a trace without a completion: `extra` holds all of it."""
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


def _trace_of(problem: Problem, key: str, messages: list[Message], **known: Any) -> Trace:
    return Trace(
        id=trace_id(problem.problem_id, key),
        problem_id=problem.problem_id,
        row_key=key,
        benchmark=problem.benchmark,
        problem=problem.problem,
        reference_answer=problem.reference_answer,
        verifier=problem.verifier,
        domain=problem.domain,
        messages=messages,
        num_tokens=None,
        seed=None,
        **{"sample": 0, "teacher": None, **known},
    )


def _verifier(row: Row, choices: Choices) -> tuple[str, str | None]:
    """The verifier of a row and the key it stood under."""
    own = row.get("verifier")
    known = isinstance(own, str) and own in VERIFIERS
    verifier = choices.verifier or (str(own) if known else usual_verifier(row))
    return verifier, "verifier" if known else None


def _finish_reason(row: Row, found: Found) -> tuple[FinishReason, str | None]:
    """As recorded; else `length` where no response is, since the thought went on."""
    key = text_under(row, FINISH_FIELDS)
    recorded = found.finish_reason or (row[key] if key else None)
    if isinstance(recorded, str) and recorded.lower() in FINISH_REASONS:
        return FINISH_REASONS[recorded.lower()], key
    return "stop" if found.completion.response.strip() else "length", None


def _sample(row: Row, found: Found) -> tuple[int, str | None]:
    if _is_index(found.sample):
        return int(found.sample or 0), None
    key = next((name for name in SAMPLE_FIELDS if _is_index(row.get(name))), None)
    return (row[key] if key else 0), key


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


# The distinct problems of imported traces: their text on disk, an id and a hash of each in memory.


class Problems:
    """Each problem once, as the first row that has it describes it."""

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, Problem)
        self._extra: dict[str, str] = {}

    def __iter__(self) -> Iterator[Problem]:
        return (self._spool[number] for number in range(len(self._spool)))

    def add(self, problem: Problem, trace: Trace) -> Trace:
        """The trace of a problem; it bears what its row says of the problem otherwise than the first."""
        said = content_hash(problem.extra)
        if problem.problem_id not in self._extra:
            self._extra[problem.problem_id] = said
            self._spool.append(problem)
        if said == self._extra[problem.problem_id] or problem.extra is None:
            return trace
        both = {**json_object(problem.extra), **json_object(trace.extra)}
        return msgspec.structs.replace(trace, extra=msgspec.json.encode(both).decode())

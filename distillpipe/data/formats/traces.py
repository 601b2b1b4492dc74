"""Make traces and problems from parsed rows: ids, reference answer, teacher, `extra`.

    {"problem": "1+1?", "raw": "<think>...</think>2", "gold": "2", "model": "QwQ-32B", "finish_reason": "stop",
     "sample_index": 3, "options": ["1", "2"], "path": "a.json"}

Here `options` goes to `extra` of the problem, because all its samples share them, and `path` to `extra` of the
trace. A row that is rejected becomes a trace without a completion; its `extra` is the whole row.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from distillpipe.base.decoding import json_object
from distillpipe.base.finish import ending
from distillpipe.base.hashing import content_hash
from distillpipe.base.option import Option, Options
from distillpipe.base.options import PROBLEMS, AnswerField, ProblemField, Verifier
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
    with_paths,
)
from distillpipe.data.formats.files import Unreadable
from distillpipe.data.formats.incoming import FORMATS, Format, Reader
from distillpipe.data.formats.turns import Outcome, ParsedRow, Rejection, without_prefix
from distillpipe.data.store.jsonl import Spool
from distillpipe.verify import VERIFIERS
from distillpipe.verify.code.problem_tests import TEST_KEYS, has_tests, tests_for

TEACHER_FIELDS = (
    "teacher", "model", "model_name", "generator", "generation_model", "teacher_model", "response_model",
    "generator_model",
)  # fmt: skip
FINISH_FIELDS = ("finish_reason", "stop_reason")
SAMPLE_FIELDS = ("sample", "sample_index", "sample_idx")
NOT_JOINED = "the file of --answers does not have the problem"
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
    ADDED_LATER: ClassVar = frozenset({"reasoning_field", "response_field"})
    reasoning_field: Annotated[
        str | None, Option("Key of the reasoning; default: told from names and marks.", PROBLEMS)
    ] = None
    response_field: Annotated[
        str | None,
        Option(
            "Key of the response, or of the whole completion; default: told likewise.", PROBLEMS
        ),
    ] = None

    @property
    def fields(self) -> Fields:
        return Fields(
            self.problem_field,
            self.answer_field,
            self.reasoning_field,
            self.response_field,
            is_trace=True,
        )


class ImportOptions(Options, frozen=True):
    """What `import` makes of a source: part of the fingerprint."""

    choices: Choices = Choices()
    limit: Annotated[int | None, Option("Only the first N rows.", min=1)] = None
    tokenizer: Annotated[
        str | None,
        Option("Count tokens with the tokenizer of this model; default: a close estimate."),
    ] = None
    ADDED_LATER: ClassVar = frozenset({"answers"})
    answers: Annotated[
        str | None,
        Option("Take reference answers from this file of problems, joined by the problem's text."),
    ] = None
    teacher_licence: Annotated[str | None, Option("Licence of the traces, for the manifest.")] = (
        None
    )


class Imported(NamedTuple):
    """A trace and its problem, or a rejected row as a trace without a completion."""

    trace: Trace
    problem: Problem | None
    rejection: Rejection | None
    notes: tuple[str, ...] = ()
    "what was changed in reading it, as one line a kind: counted and said at the end"


class References:
    """Reference answers by the text of their problems, white space aside."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._answers = {
            _bare(problem.problem): problem.reference_answer
            for problem in problems
            if problem.reference_answer is not None
        }

    def __len__(self) -> int:
        return len(self._answers)

    def of(self, problem: str) -> str | None:
        return self._answers.get(_bare(problem))


def _bare(problem: str) -> str:
    return " ".join(without_prefix(problem)[0].split())


def failed_row(row: object, error: InternalError, choices: Choices) -> Imported:
    """The rejected trace of a row that raised an internal error."""
    rejection = Rejection(REASON, error.description)
    trace = guarded(_rejected, row, rejection, choices, 0)
    if isinstance(trace, InternalError):  # the row may hold anything
        return _rejected({"row": repr(row)}, rejection, choices, 0)
    return trace


def imported(
    row: object,
    reader: Reader,
    choices: Choices,
    benchmark: str | None = None,
    references: References | None = None,
) -> Iterator[Imported]:
    """Yield all traces of a row. A completion that does not fit the format is rejected with a reason.

    `references` have the reference answers that stand in another file; they go before the row's own.
    """
    fields = choices.fields
    resolved = row
    if isinstance(row, dict):
        dotted = (*fields.named, *(name for name in fields.answer_names if "." in name))
        resolved = with_paths(row, dotted)
    outcomes = _outcomes(resolved, reader, fields)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Rejection):
            yield _rejected(row, outcome, choices, number)
        elif isinstance(row, dict) and isinstance(resolved, dict):
            made = _imported(resolved, outcome, reader, choices, benchmark, references)
            yield made


def _outcomes(row: object, reader: Reader, fields: Fields) -> list[Outcome]:
    if isinstance(row, Unreadable):
        return [Rejection("unreadable", row.error)]
    if not isinstance(row, dict):
        return [Rejection("not_an_object", type(row).__name__)]
    try:
        gold(row, fields)
        if fields.answer is not None and row.get(fields.answer) is None:
            return [Rejection("no_reference_answer", ", ".join(row))]
        return list(reader.read(row, fields))
    except NotText as error:
        return [Rejection("reference_answer_not_text", error.key)]


def _reference(
    row: Row, parsed: ParsedRow, reader: Reader, fields: Fields, references: References | None
) -> tuple[str | None, str | None, list[str]]:
    """The reference answer of a trace, the key that it came from, and notes on it."""
    is_solution = reader.read is FORMATS["solution"].read
    # a column that was read as the response is no reference
    taken = set() if is_solution or fields.answer is not None else parsed.keys
    found = gold({name: row[name] for name in row if name not in taken}, fields)
    reference, key, notes = found.text, found.key, []
    if reference is None and key is not None:
        notes.append(
            f"a placeholder ({row[key]!r:.20}) in place of the reference answer: read as none"
        )
    if reference is None and fields.answer is None:
        reference = parsed.reference
    if references is not None:
        joined = references.of(parsed.problem)
        reference = reference if joined is None else joined
        notes.append("the reference answer is from --answers" if joined is not None else NOT_JOINED)
    return reference, key, notes


def _imported(
    row: Row,
    parsed: ParsedRow,
    reader: Reader,
    choices: Choices,
    benchmark: str | None,
    references: References | None,
) -> Imported:
    fields = choices.fields
    reference, reference_key, notes = _reference(row, parsed, reader, fields, references)
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
    made_up = {
        name for name in row if "." in name and name in (*fields.named, *fields.answer_names)
    }
    unused = {
        key: value
        for key, value in row.items()
        if key not in used and key not in made_up and value is not None
    }
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
    completion = parsed.completion
    answer = Message(
        role="assistant", content=completion.response, reasoning_content=completion.reasoning
    )
    messages = [*parsed.prompt, answer]
    key = content_hash("import", messages, teacher, sample, finish_reason)
    trace_extra = {name: unused[name] for name in unused if name not in shared}
    if parsed.info is not None:
        trace_extra["info"] = parsed.info
    if completion.before:
        trace_extra["text_before_reasoning"] = completion.before
        notes.append("text before the mark that opens the reasoning: kept in `extra`")
    if parsed.prefix is not None:
        notes.append(
            f"the instruction {parsed.prefix!r} was taken off the problem (the prompt keeps it)"
        )
    own = extra_of(trace_extra)
    trace = _trace_of(
        problem, key, messages,
        finish_reason=finish_reason, sample=sample, teacher=teacher, extra=own,
    )  # fmt: skip
    return Imported(trace, problem, None, tuple(notes))


def question(text: str, choices: Choices, references: References | None) -> Problem:
    """The problem of a line of text (`--format lines`)."""
    reference = None if references is None else references.of(text)
    verifier = choices.verifier or "math"
    return Problem(
        problem_id=problem_id(text, reference, verifier),
        problem=text,
        reference_answer=reference,
        verifier=verifier,
    )


def _rejected(row: object, rejection: Rejection, choices: Choices, number: int) -> Imported:
    """A rejected row as a trace without a completion. Its `extra` is the whole row."""
    values: Row = row if isinstance(row, dict) else {"row": row}
    if isinstance(row, Unreadable):
        values = {"row": row.content}
    values_at_paths = with_paths(values, choices.fields.named)
    key = problem_key(values_at_paths, choices.fields)
    text: str = values_at_paths[key] if key else ""
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


class ImportedProblems:
    """The distinct problems of imported traces, each as in its first row.

    Their text is on disk. Memory holds an id and a hash of each.
    """

    def __init__(self, folder: Path) -> None:
        self._spool = Spool(folder, Problem)
        self._extra_hashes: dict[str, str] = {}  # by problem_id

    def __iter__(self) -> Iterator[Problem]:
        return (self._spool[number] for number in range(len(self._spool)))

    def add_alone(self, problem: Problem) -> None:
        """Add a problem that has no trace."""
        self._extra_hashes[problem.problem_id] = content_hash(problem.extra)
        self._spool.append(problem)

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

"""The records that stages hand over, and the options that are hashed into their ids.

One line of a dataset of traces:

    {"schema": "trace/1", "id": "3f9a12c07be2a1d4/7c41d2e80b6f3a55", "problem_id": "3f9a12c07be2a1d4",
     "row_key": "7c41d2e80b6f3a55...", "sample": 2, "benchmark": null, "problem": "raw text",
     "reference_answer": "42", "verifier": "math", "domain": "algebra",
     "messages": [{"role": "user", "content": "as sent", "reasoning_content": null},
                  {"role": "assistant", "content": "...", "reasoning_content": "..."}],
     "finish_reason": "stop",
     "num_tokens": {"prompt": 91, "reasoning": 812, "response": 40, "total": 949},
     "teacher": "...", "served_by": null, "seed": 123, "num_waits": 0, "forced_end": false,
     "verdict": null, "verdict_reason": null, "answer": null, "soft_labels": null, "extra": null}

Every key is in every row, null where it is not filled, so that other tools can read the types. What we
do not know of a source row is one JSON string, `extra`. Ids are content: a row is found again by what
it was sampled from, never by its place in a file.
"""

from typing import Annotated, Any, Literal

import msgspec

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.hashing import content_hash

Verdict = Literal["correct", "wrong", "unverifiable"]
FinishReason = Literal["stop", "length", "repetition"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a line of a JSONL file decodes to."""


class Problem(Record, frozen=True, kw_only=True):
    """A thing to solve, with an optional reference answer."""

    schema: Literal["problem/1"] = "problem/1"
    problem_id: str
    "16 hex digits: see `problem_id`"
    problem: str
    reference_answer: str | None
    verifier: str
    "the name of the rule that compares an answer with the reference"
    domain: str | None = None
    benchmark: str | None = None
    "set for entries of the benchmark table only: such problems are not for training"
    extra: str | None = None
    "all other keys of the source row, as one JSON string"

    def row_fields(self) -> dict[str, Any]:
        """The fields that a trace repeats of its problem."""
        return {
            "problem_id": self.problem_id,
            "benchmark": self.benchmark,
            "problem": self.problem,
            "reference_answer": self.reference_answer,
            "verifier": self.verifier,
            "domain": self.domain,
        }


def problem_id(
    problem: str,
    reference_answer: str | None,
    verifier: str,
    tests: dict[str, Any] | None = None,
) -> str:
    """The id of a problem: 16 hex digits of a hash of what has to be solved and how it is judged.

    `tests` are what the answers to a programming problem are judged by.
    """
    judged_by = (verifier,) if tests is None else (verifier, tests)
    return content_hash(problem, reference_answer, *judged_by)[:16]


class Message(Record, frozen=True, kw_only=True):
    """One turn of a conversation; reasoning stands apart from content, both without delimiters."""

    role: str
    content: str
    reasoning_content: str | None = None


class TokenCounts(Record, frozen=True, kw_only=True):
    """Tokens of one row. `total` counts the prompt, the delimiters and the end token too."""

    prompt: int
    reasoning: int
    response: int
    total: int


class SoftLabels(Record, frozen=True, kw_only=True):
    """Where the teacher's distribution for a row lies: a slice of a label file."""

    file: str
    offset: Annotated[int, msgspec.Meta(ge=0)]
    length: Annotated[int, msgspec.Meta(ge=0)]
    k: Annotated[int, msgspec.Meta(ge=1)]


class Trace(Record, frozen=True, kw_only=True):
    """The stored record of one sampled completion; a prediction of `eval` is the same record."""

    schema: Literal["trace/1"] = "trace/1"
    id: str
    "problem_id/first 16 hex digits of row_key"
    problem_id: str
    row_key: str
    "hash of all that the completion was sampled from: see `row_key`"
    sample: int
    "0-based index among the samples of its problem"
    benchmark: str | None
    problem: str
    reference_answer: str | None
    verifier: str
    domain: str | None
    messages: list[Message]
    "as sent, then the completion as the last, assistant's, message"
    finish_reason: FinishReason
    num_tokens: TokenCounts | None
    "null for imported rows that were not counted"
    teacher: str | None
    "null for imported rows whose source does not say"
    served_by: str | None = None
    "what the server called itself, where there was one"
    seed: int | None
    "of the run that sampled it; null for imported rows"
    num_waits: int = 0
    "ends of its reasoning that were replaced; see `Budget`"
    forced_end: bool = False
    "its reasoning was ended for the model"
    verdict: Verdict | None = None
    verdict_reason: str | None = None
    "why, where the answer alone does not say it: `no_answer`, `wrong_value: test 3: ...`"
    answer: str | None = None
    soft_labels: SoftLabels | None = None
    extra: str | None = None

    @property
    def response(self) -> str:
        """The text after the reasoning."""
        return self.messages[-1].content

    @property
    def reasoning(self) -> str:
        """The text inside the delimiters, "" where there was none."""
        return self.messages[-1].reasoning_content or ""

    @property
    def is_truncated(self) -> bool:
        return self.finish_reason != "stop"

    @property
    def num_completion_tokens(self) -> int | None:
        """Reasoning, response, delimiters and end token together; None where nothing was counted."""
        return None if self.num_tokens is None else self.num_tokens.total - self.num_tokens.prompt


class RejectedTrace(Trace, frozen=True, kw_only=True):
    """A row that a stage dropped: it decodes as a `Trace` too, so it can be filtered again."""

    reason: str
    "a stable name of what is wrong: `too_few_reasoning_tokens`"
    measured: str | None
    "the value that the rule looked at"
    other_reasons: list[str] | None = None
    "of the rules that would have dropped it too; null where nobody asked (--explain)"


def trace_id(problem: str, key: str) -> str:
    """The id of a trace from the id of its problem and its row key."""
    return f"{problem}/{key[:16]}"


def with_source(trace: Trace, name: str) -> str:
    """The extra keys of a row that was rewritten, under `name` the id of the row that it was made of."""
    try:
        extra = msgspec.json.decode(trace.extra or "{}", type=dict[str, object])
    except NOT_DECODED:
        extra = {"extra": trace.extra}
    return msgspec.json.encode({name: trace.id, **extra}).decode()


REFUSALS = (
    "prompt_too_long", "refused_by_server", "refused_by_model", "called_a_tool",
    "prompt_token_unknown_to_model",
)  # fmt: skip

"""The records that stages read and write, and their ids.

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

Every row has every key, with null for a missing value, so that other tools can infer the types. Unknown keys of a source
row are stored as one JSON string, `extra`. Ids are hashes of content: a row is identified by what it was sampled from,
not by its position in a file.
"""

from typing import Annotated, Any, Literal

import msgspec

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.hashing import content_hash

Verdict = Literal["correct", "wrong", "unverifiable"]
FinishReason = Literal["stop", "length", "repetition"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The base of the types of lines in JSONL files."""


class Problem(Record, frozen=True, kw_only=True):
    """A problem with an optional reference answer."""

    schema: Literal["problem/1"] = "problem/1"
    problem_id: str
    "16 hex digits: see `problem_id`"
    problem: str
    reference_answer: str | None
    verifier: str
    "name of the verifier, which compares an answer with the reference"
    domain: str | None = None
    benchmark: str | None = None
    "set only for entries of the benchmark table, whose problems must not be used for training"
    extra: str | None = None
    "all other keys of the source row, as one JSON string"

    def row_fields(self) -> dict[str, Any]:
        """The fields of the problem that a trace repeats."""
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
    """The id of a problem: 16 hex digits of the hash of the problem and of how it is judged.

    `tests` are the tests of a programming problem.
    """
    judged_by = (verifier,) if tests is None else (verifier, tests)
    return content_hash(problem, reference_answer, *judged_by)[:16]


class Message(Record, frozen=True, kw_only=True):
    """One turn of a conversation; reasoning and content are separate, both without delimiters."""

    role: str
    content: str
    reasoning_content: str | None = None


class TokenCounts(Record, frozen=True, kw_only=True):
    """Token counts of a row. `total` includes the prompt, the delimiters and the end token."""

    prompt: int
    reasoning: int
    response: int
    total: int


class SoftLabels(Record, frozen=True, kw_only=True):
    """The location of the teacher's distribution for a row: a slice of a label file."""

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
    "hash of prompt, sampling options, model and seed: see `options.row_key`"
    sample: int
    "0-based index among the samples of its problem"
    benchmark: str | None
    problem: str
    reference_answer: str | None
    verifier: str
    domain: str | None
    messages: list[Message]
    "the prompt as sent, then the completion as the last message, of the assistant"
    finish_reason: FinishReason
    num_tokens: TokenCounts | None
    "null for imported rows that were not counted"
    teacher: str | None
    "null for imported rows without this information"
    served_by: str | None = None
    "the name that the server reported; null without a server"
    seed: int | None
    "of the run that sampled it; null for imported rows"
    num_waits: int = 0
    "number of ends of its reasoning that were replaced; see `Budget`"
    forced_end: bool = False
    "whether its reasoning was ended by budget forcing"
    verdict: Verdict | None = None
    verdict_reason: str | None = None
    "the reason of the verdict, if the answer does not show it: `no_answer`, `wrong_value: test 3: ...`"
    answer: str | None = None
    soft_labels: SoftLabels | None = None
    extra: str | None = None

    @property
    def response(self) -> str:
        """The text after the reasoning."""
        return self.messages[-1].content

    @property
    def reasoning(self) -> str:
        """The text inside the delimiters; "" if there is none."""
        return self.messages[-1].reasoning_content or ""

    @property
    def is_truncated(self) -> bool:
        return self.finish_reason != "stop"

    @property
    def num_completion_tokens(self) -> int | None:
        """The tokens of reasoning, response, delimiters and end token; None if the row was not counted."""
        return None if self.num_tokens is None else self.num_tokens.total - self.num_tokens.prompt


class RejectedTrace(Trace, frozen=True, kw_only=True):
    """A row that a stage dropped. It also decodes as a `Trace`, so it can be filtered again."""

    reason: str
    "a stable name of the fault: `too_few_reasoning_tokens`"
    measured: str | None
    "the value that the rule measured"
    other_reasons: list[str] | None = None
    "reasons of other rules that would have dropped it too; null without --explain"


def trace_id(problem: str, key: str) -> str:
    """The id of a trace from the id of its problem and its row key."""
    return f"{problem}/{key[:16]}"


def with_source(trace: Trace, name: str) -> str:
    """The extra keys of a rewritten row; the key `name` holds the id of the original row."""
    try:
        extra = msgspec.json.decode(trace.extra or "{}", type=dict[str, object])
    except NOT_DECODED:
        extra = {"extra": trace.extra}
    return msgspec.json.encode({name: trace.id, **extra}).decode()


REFUSALS = (
    "prompt_too_long", "refused_by_server", "refused_by_model", "called_a_tool",
    "prompt_token_unknown_to_model",
)  # fmt: skip

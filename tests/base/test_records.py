"""The records: one golden line, and ids that change with everything they stand for."""

import msgspec
import pytest

from distillpipe.base.options import Sampling, row_key
from distillpipe.base.records import Message, RejectedTrace, Trace, problem_id, trace_id

# A row as it lies on disk: every key is there, in the order of the struct.
LINE = (
    b'{"schema":"trace/1","id":"3f9a12c07be2a1d4/7c41d2e80b6f3a55","problem_id":"3f9a12c07be2a1d4",'
    b'"row_key":"7c41d2e80b6f3a559d0c5b7e1f2a3b4c","sample":2,"benchmark":null,"problem":"raw text",'
    b'"reference_answer":"42","verifier":"math","domain":"algebra","messages":[{"role":"user",'
    b'"content":"as sent","reasoning_content":null},{"role":"assistant","content":"\\\\boxed{42}",'
    b'"reasoning_content":"6*7=42."}],"finish_reason":"stop","num_tokens":{"prompt":91,'
    b'"reasoning":812,"response":40,"total":949},"teacher":"r1","served_by":null,"seed":123,'
    b'"num_waits":0,"forced_end":false,"verdict":null,"verdict_reason":null,"answer":null,"soft_labels":null,"extra":null}'
)


def test_a_line_of_a_dataset_survives_decoding_and_encoding_byte_for_byte() -> None:
    trace = msgspec.json.decode(LINE, type=Trace)
    assert msgspec.json.encode(trace) == LINE
    assert (trace.reasoning, trace.response) == ("6*7=42.", "\\boxed{42}")
    assert trace.num_tokens.total == 949


def test_every_key_is_written_null_where_it_is_not_filled(make_trace) -> None:
    written = msgspec.json.decode(msgspec.json.encode(make_trace()))
    assert list(written) == list(msgspec.json.decode(LINE))
    unfilled = [
        "benchmark",
        "domain",
        "served_by",
        "verdict",
        "verdict_reason",
        "answer",
        "soft_labels",
        "extra",
    ]
    assert [key for key, value in written.items() if value is None] == unfilled


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"trace/1"', b'"trace/2"'),
        (b'"finish_reason":"stop"', b'"finish_reason":"eos"'),
        (b'"verdict":null', b'"verdict":"right"'),
        (b'"sample":2', b'"sample":"2"'),
        (b'"sample":2,', b""),
        (b'"total":949', b'"total":949.5'),
    ],
    ids=["schema", "finish_reason", "verdict", "type", "missing key", "fraction of a token"],
)
def test_a_line_that_is_no_trace_is_refused(old: bytes, new: bytes) -> None:
    assert old in LINE
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(LINE.replace(old, new), type=Trace)


def test_a_rejected_row_decodes_as_a_trace_so_that_it_can_be_filtered_again(make_trace) -> None:
    trace = make_trace()
    fields = {name: getattr(trace, name) for name in trace.__struct_fields__}
    rejected = RejectedTrace(**fields, reason="too_few_reasoning_tokens", measured="6")
    line = msgspec.json.encode(rejected)
    assert line.endswith(
        b'"reason":"too_few_reasoning_tokens","measured":"6","other_reasons":null}'
    )
    assert msgspec.json.decode(line, type=Trace) == trace


@pytest.mark.parametrize(
    ("finish_reason", "truncated"), [("stop", False), ("length", True), ("repetition", True)]
)
def test_a_completion_is_truncated_unless_it_stopped_by_itself(
    make_trace, finish_reason: str, truncated: bool
) -> None:
    assert make_trace(finish_reason=finish_reason).is_truncated is truncated


@pytest.mark.parametrize(("stored", "read"), [("14+6=20.", "14+6=20."), ("", ""), (None, "")])
def test_reasoning_is_empty_text_where_there_was_none(
    make_trace, stored: str | None, read: str
) -> None:
    assert make_trace(reasoning=stored).reasoning == read


def test_a_record_cannot_be_changed_in_place(make_trace) -> None:
    with pytest.raises(AttributeError):
        make_trace().answer = "42"


def test_a_problem_id_is_sixteen_digits_of_the_hash_of_problem_answer_and_verifier() -> None:
    # printf '["1+1?","2","math"]' | b2sum -l 128
    assert problem_id("1+1?", "2", "math") == "d8a4a95e6ca70d72"


@pytest.mark.parametrize(
    "changed",
    [
        ("1+1? ", "2", "math"),
        ("1+1?", "2 ", "math"),
        ("1+1?", None, "math"),
        ("1+1?", "2", "exact"),
        ("1+1?2", "", "math"),
    ],
)
def test_a_problem_id_changes_with_every_part(changed: tuple[str, str | None, str]) -> None:
    assert problem_id(*changed) != problem_id("1+1?", "2", "math")


def test_an_absent_reference_is_not_an_empty_one() -> None:
    assert problem_id("1+1?", None, "math") != problem_id("1+1?", "", "math")


def test_programs_for_one_text_with_other_tests_answer_other_problems() -> None:
    first, second = ({"test_list": [f"assert {name}(1) == 2"]} for name in ("f", "g"))
    ids = {problem_id("Add one.", None, "code", tests) for tests in (first, second, None)}
    assert len(ids) == 3


def test_a_trace_id_is_the_problem_and_sixteen_digits_of_the_row_key() -> None:
    key = "7c41d2e80b6f3a559d0c5b7e1f2a3b4c"
    assert trace_id("3f9a12c07be2a1d4", key) == "3f9a12c07be2a1d4/7c41d2e80b6f3a55"


SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=1024)
SAME = {
    "prompt": [1, 2, 3],
    "sampling": SAMPLING,
    "model_identity": "model",
    "seed": 0,
    "sample": 0,
}


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": [1, 2, 4]},
        {"prompt": [1, 2]},
        {"prompt": []},
        {"prompt": [12, 3]},
        {"sampling": msgspec.structs.replace(SAMPLING, temperature=0.7)},
        {"sampling": msgspec.structs.replace(SAMPLING, top_p=1.0)},
        {"sampling": msgspec.structs.replace(SAMPLING, max_tokens=1025)},
        {"model_identity": "model2"},
        {"seed": 1},
        {"sample": 1},
    ],
    ids=str,
)
def test_a_row_key_changes_with_every_part(change: dict[str, object]) -> None:
    key, changed = row_key(**SAME), row_key(**{**SAME, **change})
    assert len(key) == len(changed) == 32
    assert key != changed


def test_seed_and_sample_do_not_stand_for_each_other() -> None:
    assert row_key(**{**SAME, "seed": 1}) != row_key(**{**SAME, "sample": 1})


def test_a_row_key_is_the_same_for_equal_parts_and_can_be_of_messages() -> None:
    assert row_key(**SAME) == row_key(**{**SAME, "prompt": [1, 2, 3]})
    asked = [Message(role="user", content="1+1?")]
    other = [Message(role="system", content="1+1?")]
    assert row_key(**{**SAME, "prompt": asked}) != row_key(**{**SAME, "prompt": other})

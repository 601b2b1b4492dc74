"""The interpretation of responses, case by case; error messages are those of real servers."""

import json
from typing import Any

import pytest

from distillpipe.base.records import Message, TokenCounts
from distillpipe.engines.server.replies import Fatal, Refused, Reply, Retry, read_response
from distillpipe.engines.server.usage import Usage

MESSAGE = {"content": "four", "reasoning": "12345678"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 12}


def body(
    usage: Any = USAGE, finish_reason: Any = "stop", message: Any = MESSAGE, **more: Any
) -> bytes:
    choice = {"message": message, "finish_reason": finish_reason}
    return json.dumps({"model": "m", "choices": [choice], "usage": usage, **more}).encode()


def said(text: str, **more: Any) -> bytes:
    return json.dumps({"error": {"message": text, **more}}).encode()


def test_an_answer_is_read() -> None:
    assert read_response(200, None, body()) == Reply(
        Message(role="assistant", content="four", reasoning_content="12345678"),
        "stop",
        Usage(TokenCounts(prompt=9, reasoning=8, response=4, total=21), (9, 12), is_billed=True),
        "m",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("stop", "stop"), ("length", "length"), ("eos", "stop"), ("repetition", "repetition"),
        ("eos_token", "stop"), ("STOP", "stop"), ("end_turn", "stop"), ("endTurn", "stop"),
        ("COMPLETE", "stop"), ("FINISH_REASON_STOP", "stop"), ("stop sequence", "stop"),
        ("MAX_TOKENS", "length"), ("maxTokens", "length"), ("ERROR_LIMIT", "length"), ("abort", "length"),
        ("model_context_window_exceeded", "length"), ("FinishReason.MAX_TOKENS", "length"),
    ],
)  # fmt: skip
def test_finish_reasons(given: str, expected: str) -> None:
    reply = read_response(200, None, body(finish_reason=given))
    assert isinstance(reply, Reply)
    assert (reply.finish_reason, reply.notes) == (expected, ())


@pytest.mark.parametrize("given", ["who knows", "", None, 5, ["stop"], "x" * 9000, "tool_calls"])
def test_a_whole_answer_with_an_unknown_reason_is_kept(given: Any) -> None:
    reply = read_response(200, None, body(finish_reason=given))
    assert isinstance(reply, Reply)
    assert reply.finish_reason == "stop"
    [(name, text)] = reply.notes
    assert name == "finish_reason"
    assert len(text) <= 300
    cut = read_response(
        200, None, body(finish_reason=given, message={"reasoning": "1", "content": ""})
    )
    assert isinstance(cut, Reply)
    assert cut.finish_reason == "length"


@pytest.mark.parametrize(
    ("reason", "message", "expected"),
    [
        ("content_filter", MESSAGE, "refused_by_server"),
        ("SAFETY", MESSAGE, "refused_by_server"),
        ("RECITATION", {"content": None}, "refused_by_server"),
        ("sensitive", {"content": ""}, "refused_by_server"),
        ("refusal", {"content": ""}, "refused_by_server"),
        ("stop", {"content": None, "refusal": "I cannot help."}, "refused_by_model"),
        ("stop", {"content": [{"type": "refusal", "refusal": "No."}]}, "refused_by_model"),
        ("tool_calls", {"content": None, "tool_calls": [{"function": {}}]}, "called_a_tool"),
        ("stop", {"content": "", "tool_calls": [{"function": {}}]}, "called_a_tool"),
    ],
)
def test_what_is_refused_is_not_asked_again(reason: str, message: Any, expected: str) -> None:
    found = read_response(200, None, body(finish_reason=reason, message=message))
    assert isinstance(found, Refused)
    assert (found.reason, found.is_certain) == (expected, True)
    assert found.usage is not None


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource"])
def test_an_answer_that_broke_off_is_asked_for_again(reason: str) -> None:
    assert isinstance(read_response(200, None, body(finish_reason=reason)), Retry)


@pytest.mark.parametrize(
    ("usage", "message", "reasoning"),
    [
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 5}}, MESSAGE, 5),
        (USAGE | {"reasoning_tokens": 7}, MESSAGE, 7),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 0}}, MESSAGE, 8),
        (USAGE | {"completion_tokens_details": {"audio_tokens": 0}}, MESSAGE, 8),
        (USAGE | {"completion_tokens_details": {"reasoning_tokens": 12}}, MESSAGE, 12),
        (USAGE, {"content": None, "reasoning": "123"}, 12),
        (USAGE, {"content": "four"}, 0),
        (USAGE, {"content": None}, 0),
    ],
)
def test_reasoning_tokens_are_the_servers_or_a_share_by_characters(
    usage: Any, message: Any, reasoning: int
) -> None:
    reply = read_response(200, None, body(usage, message=message))
    assert isinstance(reply, Reply)
    assert reply.usage.stored == TokenCounts(
        prompt=9, reasoning=reasoning, response=12 - reasoning, total=21
    )


def test_a_server_that_does_not_count_leaves_the_counts_open() -> None:
    reply = read_response(200, None, body(usage=None))
    assert isinstance(reply, Reply)
    assert reply.usage.stored is None


def test_openrouter_says_who_answered() -> None:
    reply = read_response(200, None, body(provider="DeepInfra"))
    assert isinstance(reply, Reply)
    assert reply.served_by == "m (DeepInfra)"


@pytest.mark.parametrize(
    "content",
    [
        b"", b"   ", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": null}', body()[:-9],
        b"\xff\xfe", body(finish_reason=None, message={"content": ""}), b'{"choices": [{}]}',
        body(message={"content": 5}), body(message={"content": {"text": 5}}), body(message="four"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_asked_for_again_and_may_be_billed(content: bytes) -> None:
    found = read_response(200, None, content)
    assert isinstance(found, Retry)
    assert (found.may_be_billed, found.is_busy, found.was_sent) == (True, False, True)


@pytest.mark.parametrize(
    ("status", "is_busy", "may_be_billed"),
    [
        (429, True, False), (503, True, False), (529, True, False), (500, False, False),
        (502, False, True), (504, False, True), (408, False, True), (409, False, False),
    ],
)  # fmt: skip
def test_what_passes_is_asked_for_again(status: int, is_busy: bool, may_be_billed: bool) -> None:
    assert read_response(status, "7", said("wait")) == Retry(
        f"{status}: wait", is_busy, may_be_billed, "7"
    )


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 32859 tokens",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "Requested token count exceeds the model's maximum context length of 4096 tokens.",
        "'max_tokens' is too large: 32768. This model's maximum context length is 4096 tokens",
        "Input is too long for requested model.",
        "context_length_exceeded",
        "prompt is too long: 212041 tokens > 200000 maximum",
    ],
)
def test_prompts_that_are_too_long(text: str) -> None:
    assert read_response(400, None, said(text)) == Refused(
        "prompt_too_long", f"400: {text}", is_certain=True
    )


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, "Content Exists Risk"), (400, "data_inspection_failed"),
        (400, "The response was filtered due to content management policy"),
        (403, "Your chosen model requires moderation and your input was flagged"),
    ],
)  # fmt: skip
def test_refused_content(status: int, text: str) -> None:
    found = read_response(status, None, said(text))
    assert found == Refused("refused_by_server", f"{status}: {text}", is_certain=True)


def test_an_answer_that_was_filtered_is_refused_and_billed() -> None:
    found = read_response(200, None, body(finish_reason="content_filter"))
    assert isinstance(found, Refused)
    assert found.is_certain
    assert found.usage is not None
    assert found.usage.stored == TokenCounts(prompt=9, reasoning=0, response=12, total=21)


@pytest.mark.parametrize(
    ("status", "text", "fault"),
    [
        (401, "Incorrect API key provided", "key"), (403, "Forbidden", "key"),
        (402, "Insufficient Balance", "balance"), (429, "insufficient_quota", "balance"),
        (404, "The model `x` does not exist.", "model"), (404, "Not Found", "address"),
        (400, "Model Not Exist", "model"), (400, "deepseek/x is not a valid model ID", "model"),
        (404, "model 'x' not found", "model"), (404, "model_not_found", "model"),
        (405, "Method Not Allowed", "address"), (301, "", "redirect"),
    ],
)  # fmt: skip
def test_what_stops_the_run(status: int, text: str, fault: str) -> None:
    found = read_response(status, None, said(text))
    assert isinstance(found, Fatal)
    assert found.fault == fault


def test_other_refusals_are_not_certain() -> None:
    found = read_response(422, None, b'{"detail": [{"msg": "seed: extra field"}]}')
    assert found == Refused("refused_by_server", '422: [{"msg":"seed: extra field"}]', False)


def test_an_error_inside_of_an_answer_counts_with_its_own_status() -> None:
    inside = {"error": {"code": 429, "message": "upstream is busy"}}
    assert read_response(200, None, json.dumps(inside).encode()) == Retry(
        "429: upstream is busy", is_busy=True
    )


@pytest.mark.parametrize("usage", [{"prompt_tokens": 9, "completion_tokens": 3}, {"n": -1}, 5, "x"])
def test_an_error_with_counts_beside_it_may_be_billed(usage: object) -> None:
    for code, found_kind in ((500, Retry), (429, Retry), (400, Refused)):
        content = {"error": {"code": code, "message": "stopped midway"}, "usage": usage}
        found = read_response(200, None, json.dumps(content).encode())
        assert isinstance(found, found_kind)
        assert found.usage is not None if isinstance(found, Refused) else found.may_be_billed


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"error": {"message": "a", "type": "b", "code": "c"}}', "a c"),
        (b'{"error": "a"}', "a"),
        (b'{"message": "a"}', "a"),
        (b'{"object": "error", "message": "a", "code": 400}', "a"),
        (b'{"detail": "a"}', "a"),
        (b"plain\n\ntext", "plain text"),
        (b"x" * 1000, "x" * 300),
        (b"", ""),
        (b"{}", ""),
    ],
)
def test_what_a_server_says_becomes_one_line(content: bytes, told: str) -> None:
    found = read_response(500, None, content)
    assert isinstance(found, Retry)
    assert found.reason == (f"500: {told}" if told else "500")

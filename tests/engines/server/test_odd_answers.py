"""Answers with malformed optional fields, and answers that cannot be decoded: none ends a run."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from distillpipe.base.records import Message, TokenCounts
from distillpipe.engines.server.replies import Fatal, Refused, Reply, Retry, read_response
from distillpipe.engines.server.server import Server
from distillpipe.engines.server.usage import Usage

GOOD: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "m",
    "choices": [
        {
            "index": 0, "finish_reason": "stop", "logprobs": None, "stop_reason": None,
            "message": {"role": "assistant", "content": "four", "reasoning": "12345678", "tool_calls": []},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
    "system_fingerprint": "fp", "provider": None, "error": None,
}  # fmt: skip
MESSAGE = Message(role="assistant", content="four", reasoning_content="12345678")
USAGE = Usage(TokenCounts(prompt=9, reasoning=8, response=4, total=21), (9, 12), is_billed=True)

ODD = [
    None,
    True,
    False,
    0,
    -1,
    5,
    12.5,
    10**30,
    "",
    "x",
    [],
    [None],
    [[]],
    {},
    {"a": []},
    [{"a": 1}],
]
"Values for a field that nothing depends on."
OPTIONAL = [
    ("id",), ("object",), ("created",), ("system_fingerprint",), ("service_tier",), ("prompt_logprobs",),
    ("prompt_token_ids",), ("kv_transfer_params",), ("warning",), ("choices", 0, "index"),
    ("choices", 0, "logprobs"), ("choices", 0, "stop_reason"), ("choices", 0, "token_ids"),
    ("choices", 0, "text"), ("choices", 0, "error"), ("choices", 0, "message", "role"),
    ("choices", 0, "message", "tool_calls"), ("choices", 0, "message", "refusal"),
    ("choices", 0, "message", "reasoning_details"), ("choices", 0, "message", "annotations"),
]  # fmt: skip


def changed(path: tuple[Any, ...], value: Any) -> bytes:
    """The good answer with one value replaced."""
    body = json.loads(json.dumps(GOOD))
    place = body
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize("path", OPTIONAL, ids=str)
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_an_odd_optional_field_changes_nothing(path: tuple[Any, ...], value: Any) -> None:
    assert read_response(200, None, changed(path, value)) == Reply(
        MESSAGE, "stop", USAGE, "m", *more(path, value)
    )


def more(path: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """What a reply says of token ids, which a chat does not need."""
    if path[-1] != "token_ids" or value is None:
        return ()
    return ([], False) if value == [] else (None, True)


@pytest.mark.parametrize("value", [value for value in ODD if value != "x"], ids=repr)
def test_an_odd_name_is_no_name(value: Any) -> None:
    for path, name in ((("model",), None), (("provider",), "m")):
        reply = read_response(200, None, changed(path, value))
        assert isinstance(reply, Reply)
        assert (reply.message, reply.served_by) == (MESSAGE, name)


@pytest.mark.parametrize("name", [" m ", "m\n\t", "\x1b[31mm", "m" * 5000, "模型"])
def test_a_name_is_kept_as_it_was_sent(name: str) -> None:
    reply = read_response(200, None, changed(("model",), name))
    assert isinstance(reply, Reply)
    assert reply.served_by == name


@pytest.mark.parametrize(
    "value",
    [None, False, "", [], {}, 0, "none", "null", "false", {"code": None, "message": None}, {"message": ""},
     {"code": 0, "message": "success"}, {"code": 200}],
    ids=repr,
)  # fmt: skip
def test_an_error_that_is_none_costs_no_answer(value: Any) -> None:
    assert read_response(200, None, changed(("error",), value)) == Reply(
        MESSAGE, "stop", USAGE, "m"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 429, "message": "slow"}, Retry("429: slow", is_busy=True)),
        ({"code": "429", "message": "slow"}, Retry("429: slow 429", is_busy=True)),
        ({"status": 503, "message": "full"}, Retry("503: full", is_busy=True)),
        ({"code": 502, "message": "gone"}, Retry("502: gone", may_be_billed=True)),
        ({"code": 10**30, "message": "what"}, Retry("500: what")),
        ({"code": -1, "message": "what"}, Retry("500: what")),
        ({"code": True, "message": "what"}, Retry("500: what")),
        ({"code": 1302, "message": "what"}, Retry("500: what")),
        ({"code": "rate_limit", "message": "what"}, Retry("500: what rate_limit")),
        ("oops", Retry("500: oops")),
        ({"code": 401, "message": "no"}, Fatal("key", "401: no")),
        ({"code": 400, "message": "flagged"}, Refused("refused_by_server", "400: flagged", is_certain=True)),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("choices", [None, [], {}, 5, "no"], ids=repr)
def test_an_error_counts_with_the_status_inside(error: Any, expected: Any, choices: Any) -> None:
    body = json.dumps({"choices": choices, "error": error}).encode()
    assert read_response(200, None, body) == expected


@pytest.mark.parametrize("status", [200, 201, 202, 206])
def test_an_answer_is_one_with_any_status_of_success(status: int) -> None:
    assert isinstance(read_response(status, None, json.dumps(GOOD).encode()), Reply)


def test_the_first_choice_that_is_one_is_read() -> None:
    choice = GOOD["choices"][0]
    for choices in ([None, choice], [choice, 5], [[], "x", choice]):
        assert isinstance(read_response(200, None, changed(("choices",), choices)), Reply)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999", "1E+9999"])
@pytest.mark.parametrize("place", ["usage", "logprobs"])
def test_numbers_that_are_no_json_cost_no_answer(number: str, place: str) -> None:
    path: tuple[Any, ...] = ("choices", 0, "logprobs") if place == "logprobs" else ("usage",)
    body = changed(path, {"prompt_tokens": "HERE"}).replace(b'"HERE"', number.encode())
    reply = read_response(200, None, body)
    assert isinstance(reply, Reply)
    assert reply.message == MESSAGE


@pytest.mark.parametrize("logprobs", [None, float("nan"), float("inf"), 1])
@pytest.mark.parametrize("half", ["\ud83d", "\ude00", "\ud83d\ud83d"])
def test_half_of_a_character_costs_no_answer(half: str, logprobs: Any) -> None:
    body = {"id": half, "choices": [{"finish_reason": "length", "logprobs": logprobs,
                                     "message": {"content": f"\\ud83d \U0001f600 {half}"}}]}  # fmt: skip
    reply = read_response(200, None, json.dumps(body).encode())
    assert isinstance(reply, Reply)
    assert reply.message.content == "\\ud83d \U0001f600 " + "\ufffd" * len(half)


def test_a_byte_order_mark_costs_no_answer() -> None:
    assert isinstance(read_response(200, None, b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), Reply)


def nested(depth: int, opening: bytes, middle: bytes, closing: bytes) -> bytes:
    return opening * depth + middle + closing * depth


GARBLED = [
    b"", b"null", b"[]", b"5", b'"x"', b"<html>", b"\xff\xfe", b"\x00" * 9, b'{"choices": [', b'{"choices": NaN',
    nested(100_000, b"[", b"", b"]"), nested(100_000, b'{"a":', b"1", b"}"), b"[" * 100_000,
    b'{"z":' + nested(2000, b"[", b"", b"]") + b"," + json.dumps(GOOD).encode()[1:],
    b'{"choices":' + nested(100_000, b"[", b"", b"]") + b"}",
    b'{"choices":[' + nested(5000, b'{"message":', b"1", b"}") + b"]}",
    b'{"choices":[{"finish_reason":"stop","message":{"content":' + nested(900, b"[", b"", b"]") + b"}}]}",
    b'{"choices":[{"finish_reason":"stop","message":{"content":"\xff"}}]}',
    b'{"choices":[{"finish_reason":"stop","message":{"content":"\\ud8"}}]}',
]  # fmt: skip


@pytest.mark.parametrize("body", GARBLED, ids=lambda body: repr(body[:30]))
def test_what_no_decoder_takes_is_asked_again(body: bytes) -> None:
    found = read_response(200, None, body)
    assert isinstance(found, Retry)
    assert found.may_be_billed
    assert len(found.reason) < 400
    assert found.reason.isprintable()


@pytest.mark.parametrize("body", GARBLED, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 600, 999, 100, 304])
def test_an_error_that_no_decoder_takes_has_its_status(status: int, body: bytes) -> None:
    found = read_response(status, None, body)
    assert not isinstance(found, Reply)
    assert str(status) in str(found)


@pytest.mark.parametrize("times", [500, pytest.param(4000, marks=pytest.mark.slow)])
def test_a_mutated_answer_is_read_or_asked_again(times: int) -> None:
    rng, good = random.Random(16), json.dumps(GOOD).encode()
    kinds = set()
    for _ in range(times):
        body = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 5, 20))):
            body = body or bytearray(b"{")
            at = rng.randrange(len(body))
            match rng.randrange(4):
                case 0:
                    body[at] = rng.randrange(256)
                case 1:
                    del body[at : at + rng.randrange(9)]
                case 2:
                    body[at:at] = rng.choice(
                        (b"[" * 3000, b"null", b"-", b"9" * 400, b'"', b"\\u0000", b"NaN")
                    )
                case 3:
                    body = body[:at] + body[rng.randrange(len(body)) :]
        for status in (200, 400, 500):
            found = read_response(status, None, bytes(body))
            kinds.add(type(found))
            if isinstance(found, Reply):
                found.message.content.encode()
    assert kinds >= {Reply, Retry, Refused}


# ---------------------------------------------------------------- the list of models


@pytest.mark.parametrize(
    "body", [*GARBLED, b'{"data": null}', b'{"data": [null, 5]}'], ids=lambda body: repr(body[:30])
)
def test_a_list_of_models_that_is_odd_is_none(
    serve: Callable[..., Any], sent: Any, body: bytes
) -> None:
    server = serve(lambda *_: sent())
    server.models = body.replace(b"<html>", b"(html)")
    asked = Server(server.url, "teacher", "NO_KEY_HERE")
    asked.check()
    assert asked.context_length > 10**9


@pytest.mark.parametrize(
    "length", [None, True, 0, -1, 1, 10**9, 10**30, 4096.0, "4096", [4096], {}], ids=repr
)
def test_an_odd_context_length_is_not_known(
    serve: Callable[..., Any], sent: Any, length: Any
) -> None:
    server = serve(lambda *_: sent())
    server.models = [{"id": 5}, {"id": "teacher", "max_model_len": length}]
    asked = Server(server.url, "teacher", "NO_KEY_HERE")
    asked.check()
    assert asked.context_length > 10**9

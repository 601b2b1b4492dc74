"""Streamed answers: put together, ended early, noticed when they fall silent."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distillpipe.base.errors import EngineError
from distillpipe.base.options import Sampling
from distillpipe.base.records import Message, TokenCounts
from distillpipe.engines.base import Answer, Failure, Outcome, Refusal, Request
from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
from distillpipe.engines.server.replies import Reply, read_response
from distillpipe.engines.server.server import Server
from distillpipe.engines.server.streams import StreamedAnswer, Unfinished, text_ends_in_loop

R, A = "14+6=20.", "\\boxed{20}"
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
QUICK = Timeouts(delay_scale=0.001, stall_seconds=1.0)
DONE = "data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 12}


def delta(finish_reason: Any = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return {"id": "x", "model": "m", "choices": [choice], "usage": None}


def end(finish_reason: Any = "stop") -> tuple[Any, ...]:
    return (delta(finish_reason), {"choices": [], "usage": USAGE}, DONE)


def pieces(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def sse(*events: Any) -> bytes:
    lines = (one if isinstance(one, str) else f"data: {json.dumps(one)}\n\n" for one in events)
    return "".join(lines).encode()


def assembled(content: bytes, size: int = 7) -> Any:
    answer = StreamedAnswer()
    for at in range(0, len(content), size):
        answer.feed(content[at : at + size])
    return read_response(200, None, answer.close())


PARTS = [
    *(delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": one}]}]) for one in pieces(R)),
    *(delta(content=[{"type": "text", "text": one}]) for one in pieces(A)),
]  # fmt: skip
STREAMS: dict[str, list[Any]] = {
    "vllm": [delta(role="assistant", content=""), *(delta(reasoning=one) for one in pieces(R)),
             *(delta(content=one) for one in pieces(A)), *end()],
    "deepseek": [*(delta(reasoning_content=one, content=None) for one in pieces(R)),
                 *(delta(content=one, reasoning_content=None) for one in pieces(A)), *end()],
    "inline": [*(delta(content=one) for one in pieces(f"<think>\n{R}\n</think>\n\n{A}")), *end()],
    "mistral parts": [*PARTS, *end()],
    "openrouter": [": OPENROUTER PROCESSING\n\n", *(
        delta(reasoning=one, reasoning_details=[{"type": "reasoning.text", "text": one, "index": 0}])
        for one in pieces(R)), *(delta(content=one) for one in pieces(A)), *end()],
    "litellm blocks": [*(delta(thinking_blocks=[{"type": "thinking", "thinking": one}]) for one in pieces(R)),
                       *(delta(content=one) for one in pieces(A)), *end()],
    "usage with the end": [delta(reasoning=R, content=A), {**delta("stop"), "usage": USAGE}, DONE],
    "no [DONE]": [delta(reasoning=R), delta(content=A), *end()[:2]],
    "whole message at the end": [delta(content="x"), {"model": "m", "usage": USAGE, "choices": [
        {"message": {"reasoning": R, "content": A}, "finish_reason": "stop"}]}, DONE],
    "event names": ["event: message\n", delta(reasoning=R), "event: message\n", delta(content=A), *end()],
    "carriage returns": [f"data: {json.dumps(one)}\r\n\r\n" for one in (delta(reasoning=R, content=A), *end()[:2])],
    "no empty lines": [f"data: {json.dumps(one)}\n" for one in (delta(reasoning=R, content=A), *end()[:2])],
    "several lines": ["data: " + json.dumps(delta(reasoning=R, content=A), indent=1).replace("\n", "\ndata: ")
                      + "\n\n", *end()],
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_is_read_as_the_whole_answer(name: str, size: int) -> None:
    found = assembled(sse(*STREAMS[name]), size)
    assert isinstance(found, Reply)
    assert (found.message.reasoning_content, found.message.content) == (R, A)
    assert (found.finish_reason, found.usage.stored is not None) == ("stop", True)
    assert found.usage.booked == (9, 12)


def test_two_halves_of_a_character_in_two_events_are_one() -> None:
    found = assembled(sse(delta(content="a\ud83d"), delta(content="\ude00b"), *end()))
    assert (found.message.content, found.notes) == ("a\U0001f600b", ())
    lone = assembled(sse(delta(content="a\ud83d"), delta(content="b"), *end()))
    assert lone.message.content == "a\ufffdb"
    assert lone.notes == (("halves_of_characters_replaced", "1"),)


@pytest.mark.parametrize(
    "content",
    [
        sse(delta(content=A)),
        sse(": ping\n\n"),
        b"data: {no json\n\n",
        b'data: {"choices": [\n\ndata: {"choices": []}\n\n',
    ],
)
def test_a_stream_that_breaks_off_is_no_answer(content: bytes) -> None:
    with pytest.raises(Unfinished):
        assembled(content)


def test_a_stream_that_ends_without_a_reason_is_whole() -> None:
    found = assembled(sse(delta(reasoning=R, content=A), DONE))
    assert (found.finish_reason, found.notes) == ("stop", (("finish_reason", "None"),))


def test_an_error_in_a_stream_is_that_error() -> None:
    events = [delta(content="x"), {"error": {"code": 429, "message": "slow"}}, DONE]
    assert assembled(sse(*events)).reason == "429: slow"


@pytest.mark.parametrize(
    ("text", "is_loop"),
    [
        ("Wait, let me think. " * 60, True),
        ("so " * 400, True),
        ("x" + "0" * 999, False),
        ("0" * 1000, True),
        ("".join(f"{at}+1={at + 1}, " for at in range(400)), False),
        ("a long sentence with forty-six characters or so. " * 31, False),
    ],
)
def test_a_text_that_repeats_itself_32_times_is_a_loop(text: str, is_loop: bool) -> None:
    assert text_ends_in_loop(text) is is_loop


# ---------------------------------------------------------------- with a server


def request(key: str = "key", sampling: Sampling = SAMPLING) -> Request:
    return Request(key, [], sampling, 7, [Message(role="user", content=f"{key}?")])


def outcomes(server: Any, *requests: Request, timeouts: Timeouts = QUICK) -> list[Outcome]:
    engine = OpenAIEngine(Server(server.url, "teacher", "NO_KEY_HERE"), 4, timeouts=timeouts)
    return list(engine.complete(iter(requests)))


def test_answers_are_streamed_with_their_usage(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(events=tuple(STREAMS["vllm"])))
    found = outcomes(server, request("a"), request("b"))

    counts = TokenCounts(prompt=9, reasoning=5, response=7, total=21)
    assert [(one.message.reasoning_content, one.message.content, one.num_tokens) for one in found
            if isinstance(one, Answer)] == [(R, A, counts)] * 2  # fmt: skip
    assert all(body["stream"] and body["stream_options"] for body in server.bodies)


@pytest.mark.parametrize(
    ("refusal", "left"),
    [
        ("Unsupported parameter: stream_options", {"stream": True}),
        ("extra fields not permitted: stream", {}),
        ("streaming is not supported by this model", {}),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_what_a_server_refuses_of_streaming_is_left_out(
    serve: Any, sent: Any, status: int, refusal: str, left: dict[str, Any], capsys: Any
) -> None:
    content = json.dumps({"error": {"message": refusal}}).encode()

    def react(body: dict[str, Any], _attempt: int) -> Any:
        kept = {name: body[name] for name in ("stream", "stream_options") if name in body}
        if kept != left:
            return sent(status, content)
        return sent(events=tuple(STREAMS["vllm"])) if kept else sent()

    server = serve(react)
    assert [type(one) for one in outcomes(server, request())] == [Answer]
    assert "without stream" in capsys.readouterr().err


def test_a_server_that_does_not_stream_has_a_deadline_that_is_said(
    serve: Any, sent: Any, capsys: Any
) -> None:
    server = serve(lambda *_: sent())
    engine = OpenAIEngine(Server(server.url, "teacher", "NO_KEY_HERE"), 1, timeouts=QUICK)
    found = list(engine.complete(iter([request("a"), request("b")])))

    assert [type(one) for one in found] == [Answer, Answer]
    assert ["stream" in body for body in server.bodies] == [True, False]
    said = capsys.readouterr().err
    assert said.count("does not stream its answers: each is waited for up to 606 s") == 1


@pytest.mark.parametrize("events", [(), (": ping\n\n",)])
def test_a_server_that_never_answers_is_noticed(
    serve: Any, sent: Any, capsys: Any, events: tuple[str, ...]
) -> None:
    server = serve(lambda *_: sent(events=events, hang=60.0) if events else sent(stall=60.0))
    started = time.monotonic()
    with pytest.raises(
        EngineError, match="takes requests and does not answer: the server fell silent"
    ):
        outcomes(server, request())

    assert time.monotonic() - started < 20
    assert "(--stall-seconds): asking again" in capsys.readouterr().err


def test_an_answer_that_falls_silent_midway_is_asked_for_again(serve: Any, sent: Any) -> None:
    def react(_body: dict[str, Any], attempt: int) -> Any:
        if attempt == 1:
            return sent(events=(delta(reasoning="14+"),), hang=60.0)
        return sent(events=tuple(STREAMS["vllm"]))

    (answer,) = outcomes(serve(react), request())
    assert isinstance(answer, Answer)
    assert answer.message.reasoning_content == R


def test_a_slow_stream_outlives_the_stall_limit(serve: Any, sent: Any) -> None:
    events = (*(delta(reasoning=one) for one in "14+6 is, let me see, 20."), *STREAMS["vllm"][-5:])
    server = serve(lambda *_: sent(events=events, pause=0.1))
    started = time.monotonic()
    (answer,) = outcomes(server, request())

    assert isinstance(answer, Answer)
    assert time.monotonic() - started > 2 * QUICK.stall_seconds


def test_a_broken_stream_is_asked_for_again(serve: Any, sent: Any) -> None:
    def react(_body: dict[str, Any], attempt: int) -> Any:
        events = STREAMS["vllm"][:4] if attempt < 3 else STREAMS["vllm"]
        return sent(events=tuple(events), cut=0 if attempt == 1 else None)

    assert [type(one) for one in outcomes(serve(react), request())] == [Answer]


@pytest.mark.parametrize("has_loops_stopped", [True, False])
def test_loops_are_ended_early(serve: Any, sent: Any, has_loops_stopped: bool) -> None:
    loop = [delta(reasoning="Wait, so 20. ") for _ in range(2000)]
    server = serve(lambda *_: sent(events=(*loop, *end("length"))))
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=9999, stop_loops=has_loops_stopped)
    (answer,) = outcomes(server, request(sampling=sampling))

    assert isinstance(answer, Answer)
    assert answer.finish_reason == ("repetition" if has_loops_stopped else "length")
    length = len(answer.message.reasoning_content or "")
    assert (length < 3_000) is has_loops_stopped


def test_a_refusal_in_a_stream_is_a_refusal(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(events=(delta(refusal="I can"), delta(refusal="not."), *end())))
    found = outcomes(server, request())
    assert found == [Refusal("key", "refused_by_model", "I cannot.")]
    assert len(server.bodies) == 1


def endless(events: int = 5000) -> Iterator[dict[str, Any]]:
    for number in range(events):
        yield delta(reasoning=f"step {number}, ")


def test_the_cost_cap_ends_an_answer_under_way(
    serve: Any, sent: Any, distill: Callable[..., Any], problems: Any, tmp_path: Any,
    generate_from: Callable[..., list[str]],
) -> None:  # fmt: skip
    server = serve(lambda *_: sent(events=(*endless(), *end("length")), pause=0.001))
    # 64 tokens were asked for; the server goes on, at a tenth of a cent a token
    cap = ("--price-input", 0, "--price-output", 1000, "--max-cost", 0.2, "--concurrency", 1)
    done = distill(*generate_from(server, problems, tmp_path / "out"), *cap)

    assert done.code == 3, done
    assert "--max-cost" in done.err
    part = next((tmp_path / "out").glob("v1.partial/part-*.jsonl"))
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    assert [row["finish_reason"] for row in rows] == ["length"]
    assert server.num_broken >= 1
    assert len(rows[0]["messages"][-1]["reasoning_content"]) < 5000


def test_a_failure_names_the_silence(serve: Any, sent: Any) -> None:
    server = serve(lambda body, _: sent(
        events=(delta(reasoning="1"),), hang=60.0) if "bad" in str(body["messages"]) else sent(
        events=tuple(STREAMS["vllm"])))  # fmt: skip
    quick = Timeouts(delay_scale=0.0001, stall_seconds=0.2)
    found = outcomes(server, request("bad"), timeouts=quick)
    assert [type(one) for one in found] == [Failure]
    assert "the server fell silent for 0.2 s in mid-answer (8 tries)" in found[0].error  # type: ignore[union-attr]

"""The server engine: every row once and none lost, whatever the server does."""

import json
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import EngineError
from distillpipe.base.options import Sampling
from distillpipe.base.records import Message, TokenCounts
from distillpipe.engines.base import Answer, Failure, Outcome, Refusal, Request
from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
from distillpipe.engines.server.server import Server

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
TIMEOUTS = Timeouts(silence_seconds=30.0, delay_scale=0.01)
ANSWERED = Message(role="assistant", content="\\boxed{2}", reasoning_content="1+1=2.")
COUNTED = TokenCounts(prompt=20, reasoning=24, response=36, total=80)


def requests(number: int | None = None) -> Iterator[Request]:
    for at in islice(count(), number):
        asked = [Message(role="user", content=f"What is {at}+1?")]
        yield Request(f"key{at}", [], SAMPLING, at, asked)


def engine_of(server: Any, concurrency: int = 8, **options: Any) -> OpenAIEngine:
    timeouts = options.pop("timeouts", TIMEOUTS)
    asked = Server(server.url, "teacher", "NO_KEY_HERE")
    return OpenAIEngine(asked, concurrency, timeouts=timeouts, **options)


def outcomes_of(server: Any, number: int, **options: Any) -> dict[str, Outcome]:
    found = list(engine_of(server, **options).complete(requests(number)))
    by_key = {outcome.key: outcome for outcome in found}
    assert len(by_key) == len(found), "an outcome came twice"
    return by_key


# ---------------------------------------------------------------- requests and answers


def test_a_request_holds_model_messages_and_sampling(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())
    outcomes_of(server, 1)

    assert server.bodies == [
        {
            "model": "teacher", "messages": [{"role": "user", "content": "What is 0+1?"}],
            "temperature": 0.6, "top_p": 0.95, "max_tokens": 64, "seed": 0, "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]  # fmt: skip


def test_an_answer_is_read_and_counted(serve: Any, sent: Any) -> None:
    found = outcomes_of(serve(lambda *_: sent()), 3)

    assert found == {
        key: Answer(key, ANSWERED, "stop", COUNTED, "teacher") for key in ("key0", "key1", "key2")
    }


def test_no_requests_ask_nothing(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())

    assert outcomes_of(server, 0) == {}
    assert server.bodies == []


def test_requests_are_pulled_as_far_as_the_concurrency_and_no_further(
    serve: Any, sent: Any
) -> None:
    server = serve(lambda *_: sent(stall=0.01))
    pulled = 0

    def counted() -> Iterator[Request]:
        nonlocal pulled
        for request in requests():
            pulled += 1
            yield request

    outcomes = engine_of(server, concurrency=5).complete(counted())
    for finished in range(1, 40):
        next(outcomes)
        assert pulled <= finished + 5 + 5  # what is ready beside it is not handed on yet
    outcomes.close()
    assert server.most_under_way == 5


def test_what_finishes_first_comes_first(serve: Any, sent: Any) -> None:
    server = serve(lambda body, _: sent(stall=0.3 if body["seed"] == 0 else 0.0))
    found = [outcome.key for outcome in engine_of(server).complete(requests(4))]

    assert found[-1] == "key0"


def test_closing_the_generator_takes_back_what_is_in_flight(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(stall=600.0 if server.under_way < 20 else 0.0))
    outcomes = engine_of(server, concurrency=20).complete(requests())
    next(outcomes)  # the answer to the request that came last: 19 others are waiting by then
    outcomes.close()

    wait_for(lambda: server.under_way == 0)
    assert server.num_broken == 19


def test_more_requests_than_one_pool_holds_are_under_way_at_once(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(stall=600.0 if server.under_way < 300 else 0.0))
    outcomes = engine_of(server, concurrency=300).complete(requests())
    next(outcomes)
    outcomes.close()

    assert server.most_under_way == 300


def test_an_answer_of_a_server_that_calls_itself_otherwise_is_a_warning(
    serve: Any, sent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda body, _: sent(extra={"model": f"m{body['seed'] >= 2}"}))
    found = outcomes_of(server, 4, concurrency=1)

    assert [answer.served_by for answer in found.values()] == ["mFalse"] * 2 + ["mTrue"] * 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "warning: answers now come from 'mTrue', a new name in this run"
    )


# ---------------------------------------------------------------- trying again


@pytest.mark.parametrize("fault", range(9))
def test_a_fault_is_tried_again(serve: Any, sent: Any, faults: list[Any], fault: int) -> None:
    server = serve(lambda _, attempt: faults[fault] if attempt < 4 else sent())
    found = outcomes_of(server, 3)

    assert all(isinstance(outcome, Answer) for outcome in found.values())
    assert set(server.attempts.values()) == {4}


def test_a_stall_is_given_up_and_tried_again(serve: Any, sent: Any) -> None:
    server = serve(lambda _, attempt: sent(stall=600.0 if attempt == 1 else 0.0))
    found = outcomes_of(server, 3, timeouts=Timeouts(silence_seconds=0.2, delay_scale=0.01))

    assert all(isinstance(outcome, Answer) for outcome in found.values())
    assert set(server.attempts.values()) == {2}


def test_after_the_last_try_it_is_a_failure_and_the_others_go_on(serve: Any, sent: Any) -> None:
    server = serve(lambda body, _: sent(500, b"out of luck") if body["seed"] == 1 else sent())
    found = outcomes_of(server, 4)

    assert found.pop("key1") == Failure("key1", "500: out of luck (8 tries)")
    assert all(isinstance(outcome, Answer) for outcome in found.values())


def test_a_failure_does_not_repeat_the_key(
    serve: Any, sent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_KEY_HERE", "sk-canary-0f9a1")
    server = serve(lambda *_: sent(500, b"wrong key: sk-canary-0f9a1"))

    assert outcomes_of(server, 1) == {"key0": Failure("key0", "500: wrong key: [key] (8 tries)")}
    assert server.keys == {"Bearer sk-canary-0f9a1"}


def test_retry_after_is_honoured(serve: Any, sent: Any) -> None:
    times: list[float] = []

    def react(_body: Any, attempt: int) -> Any:
        times.append(time.monotonic())
        return sent(429, b"", (("Retry-After", "1"),)) if attempt == 1 else sent()

    outcomes_of(serve(react), 1, timeouts=Timeouts(30.0, delay_scale=1.0))
    assert times[1] - times[0] >= 1.0


def test_a_burst_of_busy_answers_lets_fewer_requests_in(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(429, b"busy") if server.under_way > 4 else sent(stall=0.02))
    found = outcomes_of(server, 100, concurrency=64)

    assert all(isinstance(outcome, Answer) for outcome in found.values())
    assert sum(server.attempts.values()) < 400


# ---------------------------------------------------------------- refusals


def test_what_is_too_long_for_the_context_is_asked_once_more_without_a_limit(
    serve: Any, sent: Any
) -> None:
    too_long = b'{"error": {"message": "maximum context length is 128 tokens"}}'
    server = serve(lambda body, _: sent(400, too_long) if "max_tokens" in body else sent())

    assert all(isinstance(outcome, Answer) for outcome in outcomes_of(server, 3).values())
    server.react = lambda *_: sent(400, too_long)
    said = "400: maximum context length is 128 tokens"
    assert outcomes_of(server, 1) == {"key0": Refusal("key0", "prompt_too_long", said)}


def test_a_limit_beyond_the_context_of_the_server_is_not_sent(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())
    server.models = [{"id": "other", "max_model_len": 8}, {"id": "teacher", "max_model_len": 64}]
    asked = Server(server.url, "teacher", "NO_KEY_HERE")
    asked.check()
    list(OpenAIEngine(asked, 1).complete(requests(1)))

    assert asked.context_length == 64
    assert "max_tokens" not in server.bodies[0]


def test_refused_content_is_rejected_at_once(serve: Any, sent: Any) -> None:
    refused = b'{"error": {"message": "flagged", "code": "content_filter"}}'
    server = serve(lambda body, _: sent(400, refused) if body["seed"] == 1 else sent())
    found = outcomes_of(server, 3)

    assert found["key1"] == Refusal("key1", "refused_by_server", "400: flagged content_filter")
    assert server.attempts["What is 1+1?1"] == 1


def test_what_the_server_does_not_like_is_a_refusal_once_others_were_answered(
    serve: Any, sent: Any
) -> None:
    server = serve(lambda body, _: sent() if body["seed"] == 4 else sent(400, b"no"))
    found = outcomes_of(server, 6, concurrency=1)

    assert [type(outcome) for outcome in found.values()] == [Refusal] * 4 + [Answer, Refusal]


def test_where_the_server_likes_nothing_the_options_are_at_fault(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(400, b'{"detail": "top_p: extra fields not permitted"}'))

    with pytest.raises(EngineError, match=r"refuses every request \(400: top_p: extra fields not"):
        outcomes_of(server, 10)


def test_a_server_that_takes_no_seed_is_asked_without(
    serve: Any, sent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda body, _: sent(422, b"seed: extra field") if "seed" in body else sent())

    assert all(isinstance(outcome, Answer) for outcome in outcomes_of(server, 30).values())
    assert sum("seed" in body for body in server.bodies) <= 8
    assert capsys.readouterr().err.splitlines()[0] == (
        "the server does not support a field of the requests (422: seed: extra field): sending them without seeds"
    )


def test_a_server_that_wants_the_limit_by_its_newer_name_gets_it(
    serve: Any, sent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "type": "invalid_request_error", "param": "max_tokens", "code": "unsupported_parameter",
    }  # fmt: skip
    refused = sent(400, json.dumps({"error": told}).encode())
    server = serve(lambda body, _: refused if "max_tokens" in body else sent())

    assert all(isinstance(outcome, Answer) for outcome in outcomes_of(server, 30).values())
    assert sum("max_tokens" in body for body in server.bodies) <= 8
    assert {body["max_completion_tokens"] for body in server.bodies[8:]} == {64}
    assert capsys.readouterr().err.count("sending them with max_completion_tokens\n") == 1


def test_a_server_that_takes_neither_seed_nor_the_older_name_is_asked_without_both(
    serve: Any, sent: Any
) -> None:
    def react(body: Any, _attempt: int) -> Any:
        if "max_tokens" in body:
            return sent(400, b"use max_completion_tokens")
        return sent(400, b"unknown field seed") if "seed" in body else sent()

    found = outcomes_of(serve(react), 30)
    assert all(isinstance(outcome, Answer) for outcome in found.values())


def test_other_fields_are_sent_along_and_null_leaves_one_out(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())
    more = '{"reasoning_effort":"high","temperature":null,"top_p":null}'
    asked = next(requests(1))
    sampling = msgspec.structs.replace(asked.sampling, extra_body=more)
    list(engine_of(server).complete(iter([asked._replace(sampling=sampling)])))

    assert server.bodies == [
        {
            "model": "teacher", "messages": [{"role": "user", "content": "What is 0+1?"}],
            "max_tokens": 64, "seed": 0, "reasoning_effort": "high", "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]  # fmt: skip


# ---------------------------------------------------------------- servers that are no use


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (401, "bad key", "refuses the key in NO_KEY_HERE|needs a key: set .* NO_KEY_HERE"),
        (403, "not yours", "needs a key: set the environment variable NO_KEY_HERE"),
        (402, "pay first", "says that the balance is used up"),
        (429, "insufficient_quota", "says that the balance is used up"),
        (404, "The model `teacher` does not exist.", "has no model 'teacher': it has a, b"),
        (400, "Model Not Exist", "has no model 'teacher': it has a, b"),
        (404, "", "has no model 'teacher': it has a, b"),
        (308, "", "answers with status 308, a redirect without a target"),
    ],
)
def test_what_no_request_can_mend_stops_the_run_with_the_remedy(
    serve: Any, sent: Any, status: int, said: str, expected: str
) -> None:
    server = serve(lambda *_: sent(status, said.encode()))
    server.models = [{"id": "a"}, {"id": "b"}]

    with pytest.raises(EngineError, match=expected):
        outcomes_of(server, 30)
    assert sum(server.attempts.values()) <= 8


def test_a_wrong_path_on_a_server_without_a_list_names_the_address(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(404, b"Not Found"))
    server.models = 404

    with pytest.raises(
        EngineError, match=r"is not an OpenAI-compatible API; is it running, and is --base-url"
    ):
        outcomes_of(server, 3)


def test_the_check_finds_wrong_addresses_and_keys_before_anything_is_asked(
    serve: Any, sent: Any, tmp_path: Path
) -> None:
    server = serve(lambda *_: sent())
    server.models = 401
    with pytest.raises(EngineError, match=r"needs a key"):
        Server(server.url, "teacher", "NO_KEY_HERE").check()
    server.models = 500
    Server(server.url, "teacher", "NO_KEY_HERE").check()
    server.stop()
    with pytest.raises(
        EngineError, match=r"no connection .*; is it running, and is --base-url right"
    ):
        Server(server.url, "teacher", "NO_KEY_HERE").check()


def test_a_server_that_goes_away_stops_the_run_after_a_while(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())
    outcomes = engine_of(server, concurrency=16).complete(requests())
    for _ in range(50):
        next(outcomes)
    server.stop()

    with pytest.raises(EngineError, match=r"is down: no connection .* start the server again"):
        list(outcomes)


def test_a_server_that_only_errs_stops_the_run_after_many_failures(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent(500, b"oops"))

    failed = []
    with pytest.raises(EngineError, match=r"does not work: 2. requests in a row failed 8 times"):
        failed += engine_of(server, timeouts=Timeouts(30.0, 0.0001)).complete(requests())
    assert sum(server.attempts.values()) <= 8 * 36


# ---------------------------------------------------------------- no reasoning


@pytest.mark.parametrize(
    ("owner", "remedy"),
    [
        ("vllm", r"vllm serve --reasoning-parser"),
        ("sglang", r"sglang.launch_server --reasoning-parser"),
        ("library", r"--extra-body .*reasoning_effort"),
        ("llamacpp", r"llama-server with --jinja"),
        ("acme", r"as its documentation says"),
        (None, r"as its documentation says"),
    ],
)
def test_five_answers_without_reasoning_are_an_alarm_and_no_rows(
    serve: Any, sent: Any, owner: str | None, remedy: str
) -> None:
    server = serve(lambda *_: sent(message={"content": "<odd>2</odd>"}))
    server.models = [{"id": "teacher", "owned_by": owner}]
    asked = Server(server.url, "teacher", "NO_KEY_HERE")
    asked.check()
    outcomes = OpenAIEngine(asked, 8, needs_reasoning=True).complete(requests(50))

    with pytest.raises(
        EngineError, match=rf"'<odd>2</odd>'.*{remedy}.*--allow-no-reasoning"
    ) as raised:
        next(outcomes)
    assert ("--reasoning-parser" in str(raised.value)) is (owner in ("vllm", "sglang"))
    assert len(outcomes_of(server, 50)) == 50


def test_one_answer_with_reasoning_among_the_first_is_enough(serve: Any, sent: Any) -> None:
    server = serve(lambda body, _: sent() if body["seed"] == 4 else sent(message={"content": "2"}))

    assert len(outcomes_of(server, 50, concurrency=1, needs_reasoning=True)) == 50


def test_fewer_answers_without_reasoning_are_a_warning(
    serve: Any, sent: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda *_: sent(message={"content": "2"}))

    assert len(outcomes_of(server, 4, needs_reasoning=True)) == 4
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "warning: no reasoning in any of the 4 answers (the first is '2')"


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


def test_options_of_the_template_go_to_the_server_only_if_given(serve: Any, sent: Any) -> None:
    server = serve(lambda *_: sent())
    variables = {"enable_thinking": False, "reasoning_effort": "low"}
    asked = Server(server.url, "teacher", "NO_KEY_HERE", variables)
    list(OpenAIEngine(asked, 1, timeouts=TIMEOUTS).complete(requests(1)))
    outcomes_of(server, 1)
    assert server.bodies[0]["chat_template_kwargs"] == variables
    assert "chat_template_kwargs" not in server.bodies[1]

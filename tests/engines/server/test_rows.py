"""Rows from a server: each exactly once, none lost, the cost exact to the cent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.errors import Incomplete
from distillpipe.base.options import (
    EngineOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
    row_key,
)
from distillpipe.base.records import Message, Problem, RejectedTrace, TokenCounts, problem_id
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.spending import Ledger, Prices
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines.server.billing import Billing
from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
from distillpipe.engines.server.server import Server
from distillpipe.models.lookup import Served
from distillpipe.sampling.plan import content_of_sampling
from distillpipe.sampling.sampler import Sampler
from distillpipe.stages.run import content_of

SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=64)
TIMEOUTS = Timeouts(silence_seconds=30.0, delay_scale=0.01)
ANSWERED = Message(role="assistant", content="\\boxed{2}", reasoning_content="1+1=2.")
COUNTED = TokenCounts(prompt=20, reasoning=24, response=36, total=80)


TEACHER = Served("teacher")
PRICES = Prices(550_000, 2_190_000)  # picodollars a token: $0.55 and $2.19 a million

Sample = Callable[..., versions.Manifest]


def problems(number: int) -> list[Problem]:
    texts = [f"What is {at}+1?" for at in range(number)]
    return [
        Problem(problem_id=problem_id(text, None, "math"), problem=text, reference_answer=None, verifier="math")
        for text in texts
    ]  # fmt: skip


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """`sample(server, 2000)` does what `generate` does, with a server and short timeouts."""
    options = SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=1, limit=None, seed=0),
        sampling=SAMPLING,
        engine=EngineOptions(engine="openai", concurrency=64),
        accept_errors=False,
    )  # fmt: skip

    def run(
        server: Any, number: int, max_cost: float | None = None, timeouts: Timeouts = TIMEOUTS
    ) -> versions.Manifest:
        out = tmp_path / "traces"
        header = Header(
            "traces", "generate", content_of(**content_of_sampling(options)), [], [], {}
        )
        with versions.draft(out, header) as draft, Writer(draft) as writer:
            sampler = Sampler(TEACHER, None, options, draft.path)
            sampler.add(iter(problems(number)))

            def open_engine() -> OpenAIEngine:
                billing = Billing(Ledger(draft, PRICES, max_cost))
                return OpenAIEngine(
                    Server(server.url, "teacher", "NO_KEY_HERE"), 64, billing, timeouts
                )

            sampler.sample(writer, open_engine, lambda trace, _: trace)
            return writer.finish(sampler.problems())

    return run


def test_a_row_key_is_made_of_the_messages(
    serve: Any, sent: Any, sample: Sample, tmp_path: Path
) -> None:
    sample(serve(lambda *_: sent()), 1)
    (row,) = read_traces(str(tmp_path / "traces"))

    messages = [Message(role="user", content="What is 0+1?")]
    assert row.row_key == row_key(messages, SAMPLING, "openai:teacher", seed=0, sample=0)
    assert row.messages == [*messages, ANSWERED]
    assert (row.num_tokens, row.finish_reason, row.served_by) == (COUNTED, "stop", "teacher")


@pytest.mark.parametrize("number", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_all_rows_are_there_once_though_a_fifth_of_the_requests_fails(
    serve: Any, with_faults: Any, sample: Sample, tmp_path: Path, number: int
) -> None:
    server = serve(with_faults(0.2, stall=600.0))
    timeouts = Timeouts(silence_seconds=0.5, delay_scale=0.01, deadline_seconds=60.0)
    manifest = sample(server, number, timeouts=timeouts)

    rows = list(read_traces(str(tmp_path / "traces")))
    assert sorted(row.problem for row in rows) == sorted(one.problem for one in problems(number))
    assert all(row.messages[-1] == ANSWERED for row in rows)
    assert set(server.answered.values()) == {1}, "an answer that had arrived was asked for again"
    assert sum(server.attempts.values()) > 1.15 * number
    assert manifest.counts.cost_dollars >= server.bill(0.55, 2.19)


def test_what_failed_is_tried_again_by_the_next_run(
    serve: Any, sent: Any, sample: Sample, tmp_path: Path
) -> None:
    server = serve(lambda body, _: sent(500, b"oops") if " 7+1" in str(body) else sent())
    with pytest.raises(Incomplete, match=r"1 rows failed .the first: 500: oops .8 tries"):
        sample(server, 20)

    server.react = lambda *_: sent()
    assert sample(server, 20).counts.rows_kept == 20
    assert set(server.answered.values()) == {1}


def test_what_is_refused_is_rejected_with_its_reason(
    serve: Any, sent: Any, sample: Sample, tmp_path: Path
) -> None:
    too_long = b'{"error": {"message": "the prompt is too long"}}'
    server = serve(lambda body, _: sent(400, too_long) if " 7+1" in str(body) else sent())
    manifest = sample(server, 20)

    assert (manifest.counts.rows_kept, manifest.counts.rows_rejected) == (19, 1)
    (row,) = scan(tmp_path / "traces" / "v1", RejectedTrace, "rejected")
    assert (row.reason, row.measured) == ("prompt_too_long", "400: the prompt is too long")
    assert (row.num_tokens, row.messages[-1].content) == (None, "")


# ---------------------------------------------------------------- money


def test_what_is_counted_is_what_the_server_bills(serve: Any, sent: Any, sample: Sample) -> None:
    server = serve(lambda *_: sent())
    counts = sample(server, 50).counts

    assert counts.cost_dollars == pytest.approx(server.bill(0.55, 2.19), abs=1e-12)
    assert counts.tokens_sampled == 50 * 60


def test_rejected_errors_cost_nothing_and_lost_answers_their_worst(
    serve: Any, sent: Any, sample: Sample
) -> None:
    server = serve(lambda _, attempt: [sent(500, b""), sent(429, b""), sent()][attempt - 1])
    assert sample(server, 10).counts.cost_dollars == pytest.approx(server.bill(0.55, 2.19))


@pytest.mark.parametrize("max_cost", [0.0004, 0.01])
def test_the_cap_holds_by_the_count_of_the_server_and_a_higher_one_goes_on(
    serve: Any, with_faults: Any, sample: Sample, tmp_path: Path, max_cost: float
) -> None:
    server = serve(with_faults(0.2))
    with pytest.raises(
        Incomplete, match=r"billed.*, of --max-cost \S+, and the next .* rows are left"
    ):
        sample(server, 500, max_cost)
    assert server.bill(0.55, 2.19) <= max_cost

    assert sample(server, 500, 10.0).counts.rows_kept == 500
    assert set(server.answered.values()) == {1}
    assert not list((tmp_path / "traces" / "v1").glob("spending*"))


def test_nothing_is_asked_under_a_cap_that_allows_nothing(
    serve: Any, sent: Any, sample: Sample
) -> None:
    server = serve(lambda *_: sent())
    with pytest.raises(Incomplete, match=r"^\$0.00 billed, of --max-cost \$0.0001, and the next"):
        sample(server, 5, 0.0001)
    assert server.bodies == []


def test_a_server_that_counts_more_than_is_possible_is_reserved_for(
    serve: Any, sent: Any, sample: Sample, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(lambda *_: sent(usage={"prompt_tokens": 5000}))
    with pytest.raises(Incomplete):
        sample(server, 500, 1.0)

    assert "the server counts 4,4" in capsys.readouterr().err
    assert server.bill(0.55, 2.19) <= 1.0 + 64 * 4500 * 0.55e-6

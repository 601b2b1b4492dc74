"""Failed requests are listed, tried again or given up on demand, and no row is paid for twice."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import EngineError, Incomplete
from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.base.records import RejectedTrace, TokenCounts, trace_id
from distillpipe.data.store import versions
from distillpipe.data.store.counts import Dropped
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.writer import FailedRow
from distillpipe.engines.base import Completion, Failure, Request
from distillpipe.models.lookup import Model
from distillpipe.stages import generate as stage
from distillpipe.stages.run import Result, Run

COMPLETION = "<think>\n1+1=2.\n</think>\n\n\\boxed{2}<|im_end|>"


class ScriptedEngine:
    """Completes requests with the same text, fails those with a word of `fails`, and counts them."""

    context_length = 1024
    description = "a script"

    def __init__(self) -> None:
        self.fails: set[str] = set()
        self.dies_after: int | None = None
        self.asked: Counter[str] = Counter()
        self.completed: Counter[str] = Counter()
        self.chat: Any = None

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion | Failure]:
        token_ids = self.chat.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]
        for number, request in enumerate(requests):
            if number == self.dies_after:
                raise EngineError("the engine died")
            self.asked[request.key] += 1
            if self.fails & set(self.chat.text(request.prompt_ids).split()):
                yield Failure(request.key, "server said 503")
            else:
                self.completed[request.key] += 1
                yield Completion(request.key, token_ids, "stop")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    """The engine that `generate` samples from, in place of a model."""
    engine = ScriptedEngine()

    def open_engine(_model: Model, chat: Any, *_: object) -> ScriptedEngine:
        engine.chat = chat
        return engine

    monkeypatch.setattr(stage, "open_engine", open_engine)
    return engine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


Generate = Callable[..., Result]


@pytest.fixture
def generate(place: Path, tiny_model: Path, engine: ScriptedEngine) -> Generate:
    """`generate(3)` asks for traces of "1 + 1", "2 + 1" and "3 + 1" of the scripted engine."""

    def run(
        problems: int | list[str],
        *,
        num_samples: int = 1,
        limit: int | None = None,
        seed: int = 0,
        accept_errors: bool = False,
        fresh: bool = False,
    ) -> Result:
        given = (
            [f"{number} + 1" for number in range(1, problems + 1)]
            if isinstance(problems, int)
            else problems
        )
        lines = [json.dumps({"problem": one, "answer": "2"}) + "\n" for one in given]
        (place / "problems.jsonl").write_text("".join(lines))
        options = SamplingOptions(
            prompting=Prompting(
                problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
                system_prompt=None, chat_template=None,
            ),
            plan=Plan(num_samples=num_samples, limit=limit, seed=seed),
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=64),
            engine=EngineOptions(engine="auto", concurrency=4),
            accept_errors=accept_errors,
        )  # fmt: skip
        run = Run(fresh=fresh)
        return stage.generate(
            str(place / "problems.jsonl"), str(tiny_model), place / "out", options, run
        )

    return run


def keys(out: Path) -> list[tuple[str, int]]:
    """Problem and sample of each kept row of the latest version, sorted."""
    return sorted((trace.problem, trace.sample) for trace in read_traces(str(out)))


def failed(draft: Path) -> list[FailedRow]:
    path = draft / "errors.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return [msgspec.json.decode(line, type=FailedRow) for line in lines]


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("v*"))


# ---------------------------------------------------------------- errors.jsonl and retry


def test_a_failed_request_is_listed_and_the_version_unfinished(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2"}
    with pytest.raises(Incomplete) as raised:
        generate(3)

    draft = place / "out" / "v1.partial"
    assert raised.value.exit_code == 3
    assert str(raised.value) == (
        f"1 rows failed (the first: server said 503), all are listed in {draft}/errors.jsonl: "
        "the same command tries them again, with --accept-errors it then finishes without them"
    )
    assert names(place / "out") == ["v1.partial"]
    rows = list(scan(draft, RejectedTrace.__base__))
    assert [row.problem for row in rows] == ["1 + 1", "3 + 1"]
    (one,) = failed(draft)
    assert (one.error, one.row_key) == (
        "server said 503",
        next(iter(engine.asked - engine.completed)),
    )
    assert one.id.endswith("/" + one.row_key[:16])


def test_the_next_run_tries_only_failed_rows_and_empties_the_list(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2", "3"}
    for _ in range(2):  # the second time both fail again, and are listed once
        with pytest.raises(Incomplete, match=r"^2 rows failed"):
            generate(4)
    engine.fails = {"3"}
    with pytest.raises(Incomplete, match=r"^1 rows failed"):
        generate(4)
    assert len(failed(place / "out/v1.partial")) == 1
    engine.fails = set()
    result = generate(4)

    assert sorted(engine.asked.values()) == [1, 1, 3, 4]
    assert set(engine.completed.values()) == {1}
    assert keys(place / "out") == [(f"{number} + 1", 0) for number in (1, 2, 3, 4)]
    assert names(place / "out") == ["v1"]
    assert not (place / "out/v1/errors.jsonl").exists()
    assert [entry.name for entry in result.manifest.files] == ["part-00000.jsonl", "problems.jsonl"]
    assert result.manifest.counts.tokens_sampled == result.manifest.counts.tokens_kept


def test_after_an_engine_dies_only_missing_rows_are_tried_again(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails, engine.dies_after = {"1"}, 3
    with pytest.raises(EngineError):
        generate(5)
    assert len(failed(place / "out/v1.partial")) == 1
    engine.fails, engine.dies_after = set(), None
    generate(5)

    assert sum(engine.asked.values()) == 6
    assert set(engine.completed.values()) == {1}
    assert keys(place / "out") == [(f"{number} + 1", 0) for number in range(1, 6)]


def test_a_line_of_the_list_that_was_torn_is_no_obstacle(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2"}
    with pytest.raises(Incomplete):
        generate(2)
    with (place / "out/v1.partial/errors.jsonl").open("ab") as file:
        file.write(b'{"id":"3f9a')
    engine.fails = set()
    generate(2)

    assert keys(place / "out") == [("1 + 1", 0), ("2 + 1", 0)]


def test_failed_rows_that_another_version_has_are_reused(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2"}
    with pytest.raises(Incomplete):
        generate(2)
    engine.fails = set()
    assert generate(3).path.name == "v2"
    result = generate(2)

    assert sum(engine.asked.values()) == 4
    assert result.path.name == "v1"
    assert [entry.name for entry in result.manifest.files] == ["part-00000.jsonl", "problems.jsonl"]


# ---------------------------------------------------------------- --accept-errors


def test_accepted_errors_become_rejected_rows_with_their_message(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2"}
    result = generate(3, accept_errors=True)

    assert names(place / "out") == ["v1"]
    assert result.manifest.counts.dropped == {"engine_error": Dropped(rows=1, tokens=0)}
    assert (result.manifest.counts.rows_kept, result.manifest.counts.rows_read) == (2, 3)
    (row,) = scan(result.path, RejectedTrace, "rejected")
    assert (row.problem, row.reason, row.measured) == ("2 + 1", "engine_error", "server said 503")
    assert row.id == trace_id(row.problem_id, row.row_key)
    assert row.num_tokens is not None
    assert row.num_tokens == TokenCounts(
        prompt=row.num_tokens.prompt, reasoning=0, response=0, total=row.num_tokens.prompt
    )
    assert [entry.name for entry in result.manifest.files] == [
        "part-00000.jsonl", "problems.jsonl", "rejected-00000.jsonl",
    ]  # fmt: skip


def test_failed_rows_are_given_up_only_after_another_try(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2", "3"}
    with pytest.raises(Incomplete):
        generate(3)
    engine.fails = {"2"}
    result = generate(3, accept_errors=True)

    assert sorted(engine.asked.values()) == [1, 2, 2]
    assert result.path.name == "v1"
    assert [row.problem for row in scan(result.path, RejectedTrace, "rejected")] == ["2 + 1"]


def test_accepted_errors_are_up_to_date_only_with_the_flag(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"2"}
    generate(3, accept_errors=True)
    num_asked = sum(engine.asked.values())
    again = generate(3, accept_errors=True)
    assert (again.path.name, again.up_to_date) == ("v1", True)
    assert sum(engine.asked.values()) == num_asked

    with pytest.raises(Incomplete):  # it fails still: the rows are in a draft of their own
        generate(3)
    assert names(place / "out") == ["v1", "v2.partial"]
    assert sum(engine.asked.values()) == num_asked + 1
    engine.fails = set()
    whole = generate(3)

    assert (whole.path.name, whole.up_to_date) == ("v2", False)
    assert whole.manifest.counts.rows_reused == 2
    assert sum(engine.asked.values()) == num_asked + 2
    assert set(engine.completed.values()) == {1}
    assert keys(place / "out") == [("1 + 1", 0), ("2 + 1", 0), ("3 + 1", 0)]
    with_flag = generate(3, accept_errors=True)
    assert (with_flag.path.name, with_flag.up_to_date) == ("v2", True)


def test_if_every_request_fails_none_is_given_up(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.fails = {"1", "2"}
    for accept_errors in (True, False, True):
        with pytest.raises(Incomplete, match=r"^2 rows failed"):
            generate(2, accept_errors=accept_errors)
    assert len(failed(place / "out/v1.partial")) == 2
    engine.fails = set()
    generate(2)

    assert keys(place / "out") == [("1 + 1", 0), ("2 + 1", 0)]
    assert names(place / "out") == ["v1"]


def test_without_the_flag_a_draft_with_given_up_rows_is_not_resumed(
    generate: Generate, engine: ScriptedEngine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.fails = {"2"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(versions, "content_files", _interrupt)  # while the version is finished
        generate(3, accept_errors=True)
    engine.fails = set()
    generate(3)

    assert keys(place / "out") == [("1 + 1", 0), ("2 + 1", 0), ("3 + 1", 0)]
    assert set(engine.completed.values()) == {1}


def _interrupt(_: Path) -> list[Path]:
    raise KeyboardInterrupt


# ---------------------------------------------------------------- nothing is sampled twice


def test_growing_runs_after_a_pilot_pay_for_no_row_twice(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    calls: list[tuple[int, dict[str, Any], int]] = [
        (5, {"limit": 2, "num_samples": 4}, 8),  # the pilot
        (5, {"num_samples": 4}, 12),  # all
        (5, {"num_samples": 8}, 20),  # more samples
        (6, {"num_samples": 8}, 8),  # one more problem
        (6, {"num_samples": 2}, 0),  # fewer
    ]
    for number, (count, changes, num_new) in enumerate(calls, start=1):
        num_before = sum(engine.asked.values())
        result = generate(count, **changes)
        assert sum(engine.asked.values()) - num_before == num_new
        assert (result.path.name, result.up_to_date) == (f"v{number}", False)
        assert (place / "out/latest").readlink() == Path(f"v{number}")
    assert set(engine.asked.values()) == {1}
    assert keys(place / "out") == [(f"{one} + 1", at) for one in range(1, 7) for at in (0, 1)]


def test_a_then_b_then_a_samples_nothing_twice_and_latest_follows(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    one, other = ["1 + 1", "2 + 1"], ["2 + 1", "3 + 1"]
    seen = []
    for problems in (one, other, one, other, one):
        result = generate(problems)
        seen.append((result.path.name, result.up_to_date))
        assert (place / "out/latest").readlink() == Path(result.path.name)
        assert keys(place / "out") == [(problem, 0) for problem in problems]

    assert seen == [("v1", False), ("v2", False), ("v1", True), ("v2", True), ("v1", True)]
    assert set(engine.asked.values()) == {1}
    assert len(engine.asked) == 3


def test_drafts_of_several_commands_reuse_rows_of_each_other(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    engine.dies_after = 2
    with pytest.raises(EngineError):
        generate(5)
    with pytest.raises(EngineError):
        generate(["3 + 1", "4 + 1", "5 + 1", "6 + 1"])
    assert names(place / "out") == ["v1.partial", "v2.partial"]
    engine.dies_after = None
    first = generate(5)
    second = generate(["3 + 1", "4 + 1", "5 + 1", "6 + 1"])

    assert (first.path.name, second.path.name) == ("v1", "v2")
    assert (first.manifest.counts.rows_reused, second.manifest.counts.rows_reused) == (2, 1)
    assert set(engine.asked.values()) == {1}
    assert len(engine.asked) == 6


def test_fresh_buys_every_row_again_and_only_then(
    generate: Generate, engine: ScriptedEngine, place: Path
) -> None:
    generate(3)
    fresh = generate(3, fresh=True)
    again = generate(3)

    assert set(engine.asked.values()) == {2}
    assert (fresh.path.name, fresh.manifest.counts.rows_reused) == ("v2", 0)
    assert (again.path.name, again.up_to_date) == ("v2", True)

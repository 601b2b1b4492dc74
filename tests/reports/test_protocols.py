"""Protocols: what each sets on which benchmark, what beats it, and which published score stands beside."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.options import (
    MATH_PROMPT,
    EngineOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
)
from distillpipe.base.records import Problem
from distillpipe.data.benchmarks import (
    BENCHMARKS,
    CHOICE_PROMPT,
    CODE_PROMPT,
    LIVECODEBENCH_PROMPT,
    SIMPLE_EVALS_CHOICE_PROMPT,
)
from distillpipe.data.sources import find, read_problems
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.reports.protocols import PROTOCOLS, apply_options, report, resolve_options
from distillpipe.reports.published import published_score, tables
from distillpipe.reports.scoring import collect, measure
from distillpipe.reports.tables import score_table
from distillpipe.sampling.prompts import conversation, livecodebench_format, question_text

DEFAULTS = {
    "temperature": 0.6, "top_p": 0.95, "max_tokens": 32768, "num_samples": 1, "answer_form": "boxed",
    "prompt_template": MATH_PROMPT, "system_prompt": None, "verifier": None, "limit": None, "seed": 0,
    "min_date": None, "max_date": None, "code_rules": "plain", "code_packages": (),
}  # fmt: skip


def given(protocol: str | None, **flags: Any) -> dict[str, ResolvedOption]:
    found = {name: ResolvedOption(value, "default") for name, value in DEFAULTS.items()}
    found["protocol"] = ResolvedOption(protocol, "flag")
    return found | {name: ResolvedOption(value, "flag") for name, value in flags.items()}


def values(protocol: str | None, benchmark: str, **flags: Any) -> dict[str, Any]:
    """What the protocol and the table changed."""
    found = resolve_options(given(protocol, **flags), benchmark)
    return {
        name: one.value for name, one in found.items() if one.source in ("protocol", "benchmark")
    }


def options(found: dict[str, ResolvedOption]) -> SamplingOptions:
    plain = SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template=MATH_PROMPT,
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=1, limit=None, seed=0),
        sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=32768),
        engine=EngineOptions(engine="auto", concurrency=4),
        accept_errors=False,
    )  # fmt: skip
    return apply_options(plain, found)


R1 = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768, "answer_form": "boxed"}
S1 = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 32768, "answer_form": "any", "num_samples": 1}
LCB = {
    "prompt_template": LIVECODEBENCH_PROMPT, "min_date": "2024-08-01", "max_date": "2025-01-31",
    "code_rules": "livecodebench", "code_packages": ("numpy", "sympy", "sortedcontainers"),
}  # fmt: skip
DAYS = [
    "2024-07-31T23:59:59", "2024-08-01T00:00:00", "2025-01-31T23:30:00", "2025-02-01T00:00:00",
]  # fmt: skip
OPEN_R1_MATH = "Solve the following math problem efficiently and clearly. "


@pytest.mark.parametrize(
    ("protocol", "benchmark", "expected"),
    [
        (None, "math500", {"prompt_template": MATH_PROMPT}),
        (None, "gpqa_diamond", {"prompt_template": CHOICE_PROMPT}),
        (None, "humaneval", {"prompt_template": CODE_PROMPT}),
        (None, "mine.jsonl", {}),
        ("r1", "aime24", R1 | {"num_samples": 64, "prompt_template": MATH_PROMPT, "system_prompt": None}),
        ("r1", "gpqa_diamond", R1 | {"num_samples": 64, "prompt_template": SIMPLE_EVALS_CHOICE_PROMPT, "system_prompt": None}),
        ("r1", "mmlu_pro", R1 | {"num_samples": 64, "prompt_template": CHOICE_PROMPT, "system_prompt": None}),
        ("r1", "livecodebench", R1 | LCB | {"num_samples": 64, "system_prompt": None}),
        ("r1", "humaneval", R1 | {"num_samples": 64, "prompt_template": CODE_PROMPT, "system_prompt": None}),
        ("openr1", "livecodebench", R1 | LCB | {"num_samples": 16}),
        ("openr1", "mine.jsonl", R1 | {"prompt_template": PROTOCOLS["openr1"].prompts["math"], "code_rules": "livecodebench"}),
        (None, "livecodebench", {"prompt_template": CODE_PROMPT}),
        ("s1", "aime25", S1 | {"prompt_template": "{problem}"}),
        ("s1", "gpqa_diamond", S1 | {"prompt_template": "{problem}"}),
        ("s1", "mine.jsonl", S1 | {"prompt_template": "{problem}"}),
        (
            "greedy", "mmlu_pro",
            {"temperature": 0.0, "top_p": 1.0, "max_tokens": 32768, "num_samples": 1, "prompt_template": CHOICE_PROMPT},
        ),
        (
            "greedy", "mine.jsonl",
            {"temperature": 0.0, "top_p": 1.0, "max_tokens": 32768, "num_samples": 1},
        ),
    ],
)  # fmt: skip
def test_a_protocol_and_the_table_set_what_was_left_alone(
    protocol: str | None, benchmark: str, expected: dict[str, Any]
) -> None:
    assert values(protocol, benchmark) == expected


@pytest.mark.parametrize(
    ("benchmark", "num_samples"),
    [("aime24", 64), ("math500", 4), ("gpqa_diamond", 8), ("aime25", 64), ("mmlu_pro", 1)],
)
def test_open_r1_samples_as_often_as_is_the_custom_of_a_benchmark(
    benchmark: str, num_samples: int
) -> None:
    found = values("openr1", benchmark)
    assert found["num_samples"] == num_samples
    if BENCHMARKS[benchmark].verifier == "math":
        assert found["prompt_template"].startswith(OPEN_R1_MATH)
    assert found["prompt_template"].endswith("\n\n{problem}")


def test_for_a_file_of_ones_own_no_custom_is_known_and_the_number_stays() -> None:
    assert "num_samples" not in values("openr1", "mine.jsonl")
    assert values("openr1", "mine.jsonl", verifier="choice")["prompt_template"].startswith(
        "Answer the"
    )


def test_a_flag_beats_the_protocol_even_with_the_value_of_the_default() -> None:
    found = resolve_options(given("s1", temperature=0.6, prompt_template="Q: {problem}"), "aime24")

    assert (found["temperature"].value, found["temperature"].source) == (0.6, "flag")
    assert (found["prompt_template"].value, found["prompt_template"].source) == (
        "Q: {problem}",
        "flag",
    )
    assert (found["top_p"].value, found["top_p"].source) == (1.0, "protocol")
    done = options(found)
    assert (done.sampling.temperature, done.sampling.top_p) == (0.6, 1.0)
    assert (done.prompting.prompt_template, done.prompting.answer_form) == ("Q: {problem}", "any")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(UsageError, match="--protocol r2: there are r1, openr1, s1, greedy"):
        resolve_options(given("r2"), "aime24")


# ---------------------------------------------------------------- published scores


@pytest.mark.parametrize(
    ("protocol", "model", "benchmark", "score"),
    [
        ("r1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "aime24", 0.555),
        ("r1", "models/deepseek-r1-distill-qwen-7b/", "livecodebench", 0.376),
        ("openr1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "aime24", 0.508),
        ("s1", "simplescaling/s1.1-32B", "gpqa_diamond", 0.606),
        ("s1", "simplescaling/s1.1-32B", "livecodebench", None),
        ("s1", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "aime24", None),
        ("greedy", "simplescaling/s1.1-32B", "aime24", None),
        ("r1", "runs/student@v2", "aime24", None),
    ],
)
def test_a_published_score_is_found_by_protocol_benchmark_and_the_name_of_the_model(
    protocol: str, model: str, benchmark: str, score: float | None
) -> None:
    found = published_score(protocol, model, benchmark)
    assert (found and found.score) == (score and pytest.approx(score))


def test_every_published_table_is_of_a_protocol_and_of_benchmarks_that_there_are() -> None:
    for table in tables():
        assert table.protocol in PROTOCOLS
        assert set(table.columns) <= set(BENCHMARKS)
        assert {len(row) for row in [*table.rows.values(), *table.again.values()]} == {
            len(table.columns)
        }
        assert {*table.notes, *table.num_problems, *table.cons64} <= set(table.columns)
        for named in (*table.cons64.values(), table.again):
            assert set(named) <= set(table.rows)
        measured = PROTOCOLS[table.protocol].measured
        assert set(table.columns) <= set(measured)
        assert table.source
        assert date(2025, 1, 1) <= table.date <= date.today()
        scores = [score for row in table.rows.values() for score in row]
        assert all(0 < score <= 100 for score in scores)


def test_every_published_score_is_found() -> None:
    for table in tables():
        for model in table.rows:
            for benchmark in table.columns:
                found = published_score(table.protocol, model, benchmark)
                assert found is not None
                assert (found.source, found.date) == (table.source, table.date.isoformat())


def test_the_report_says_what_was_used_and_what_differs() -> None:
    found = resolve_options(given("r1", num_samples=4, limit=10), "gpqa_diamond")
    content = report(found, options(found), "deepseek-ai/DeepSeek-R1", "gpqa_diamond")

    assert content["protocol"]["name"] == "r1"
    assert content["protocol"]["settings"]["prompt_template"] == SIMPLE_EVALS_CHOICE_PROMPT
    assert content["protocol"]["settings"]["num_samples"] == 4
    assert content["protocol"]["asked"]["num_samples"] == 64
    assert content["protocol"]["changed"] == ["num_samples", "limit"]
    assert content["protocol"]["not_published"] == []
    assert content["published"] == {
        "score": pytest.approx(0.715), "source": "README of deepseek-ai/DeepSeek-R1 at 0cf7856",
        "date": "2025-04-09", "note": "64 completions by the README, 4 to 64 by the paper",
        "num_problems": 198, "majority": None, "differs": ["num_samples", "limit"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "benchmark", "unknown"),
    [
        ("r1", "math500", []),
        ("r1", "gpqa_diamond", []),
        ("r1", "livecodebench", []),
        ("r1", "mmlu_pro", ["prompt_template"]),
        ("r1", "humaneval", ["prompt_template", "benchmark"]),
        ("r1", "gsm8k", ["benchmark"]),
        ("openr1", "livecodebench", []),
        ("openr1", "gpqa_diamond", []),
        ("openr1", "mmlu_pro", ["benchmark"]),
        ("openr1", "mbpp", ["prompt_template", "benchmark"]),
        ("s1", "math500", []),
        ("s1", "aime25", ["benchmark"]),
        ("s1", "livecodebench", ["prompt_template", "benchmark"]),
        ("greedy", "livecodebench", []),
        ("r1", "mine.jsonl", ["benchmark"]),
    ],
)
def test_what_no_source_says_of_a_benchmark_is_named(
    protocol: str, benchmark: str, unknown: list[str]
) -> None:
    found = resolve_options(given(protocol), benchmark)
    content = report(found, options(found), "a model", benchmark)
    assert content["protocol"]["not_published"] == unknown
    assert content["protocol"]["changed"] == []


@pytest.mark.parametrize(
    ("protocol", "days"),
    [
        ("r1", ["2024-08-01T00:00:00", "2025-01-31T23:30:00"]),
        ("openr1", ["2024-08-01T00:00:00", "2025-01-31T23:30:00"]),
        (None, DAYS),
    ],
)
def test_of_livecodebench_a_protocol_asks_what_was_published(
    protocol: str | None, days: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "question_content": f"Problem {day}", "contest_date": day, "starter_code": "",
            "public_test_cases": [{"input": "", "output": ""}],
        }
        for day in DAYS
    ]  # fmt: skip
    (tmp_path / "livecodebench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    prompting = options(resolve_options(given(protocol), "livecodebench")).prompting

    found = read_problems(find("livecodebench"), prompting, None)

    assert [problem.problem for problem in found] == [f"Problem {day}" for day in days]


@pytest.mark.parametrize(
    ("benchmark", "verifier", "wanted"),
    [
        ("livecodebench", None, True), ("mine.jsonl", "code", True), ("mine.jsonl", None, False),
        ("mine.jsonl", "math", False), ("aime24", None, False), ("humaneval", None, False),
    ],
)  # fmt: skip
def test_packages_are_asked_for_only_where_its_programs_are_judged(
    benchmark: str, verifier: str | None, wanted: bool
) -> None:
    flags = {} if verifier is None else {"verifier": verifier}
    found = given("r1", **flags)
    packages = ("numpy", "sympy", "sortedcontainers") if wanted else ()
    assert resolve_options(found, benchmark)["code_packages"].value == packages


@pytest.mark.parametrize("protocol", ["r1", "openr1"])
def test_other_days_than_the_protocols_are_a_difference(protocol: str) -> None:
    found = resolve_options(given(protocol, max_date="2025-04-30"), "livecodebench")
    content = report(
        found, options(found), "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "livecodebench"
    )
    assert content["protocol"]["settings"]["min_date"] == "2024-08-01"
    assert content["published"]["differs"] == ["max_date"]


def test_a_published_vote_and_what_differs_stand_in_the_table(make_trace: Any) -> None:
    found = resolve_options(given("r1", num_samples=2), "aime24")
    traces = [
        make_trace(
            problem=name, row_key=f"{sample}" * 32, sample=sample, verdict="correct", answer="20"
        )
        for name in ("p1", "p2")
        for sample in range(2)
    ]
    content = measure("aime24", collect(traces), {})
    content |= report(found, options(found), "DeepSeek-R1-Distill-Llama-8B", "aime24")
    cells = dict(line[:2] for line in score_table([("model", content)])[1:])

    differs = "; other num_samples (2, there 64); on 30 problems there, 2 here"
    assert cells["published"] == f"0.504 (r1, 2025){differs}"
    assert cells["published cons@64"] == f"0.800 (r1, 2025), to set beside maj@64{differs}"
    names = list(cells)
    assert names.index("published cons@64") == names.index("maj@2") + 1


def test_scores_of_a_second_table_are_named_beside_those_of_the_first() -> None:
    found = published_score("openr1", "DeepSeek-R1-Distill-Qwen-7B", "math500")
    assert found is not None
    assert (found.score, found.note) == (pytest.approx(0.945), "0.935 in its other table")


# ---------------------------------------------------------------- prompts, word for word

LCB_START = (
    "You will be given a question (problem specification) and will generate a correct Python program "
    "that matches the specification and passes all tests.\n\nQuestion: Say {problem}.\n\n"
)
SCRIPT = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
    "the sample inputs). Enclose your code within delimiters as follows. Ensure that when the python "
    "program runs, it reads the inputs, runs the algorithm and writes output to STDOUT.\n"
    "```python\n# YOUR CODE HERE\n```\n\n"
)
STARTER = "class Solution:\n    def f(self, x: '{problem}'):\n        "


@pytest.mark.parametrize(
    ("extra", "ending"),
    [
        ({"starter_code": "", "public_test_cases": "[]"}, SCRIPT),
        ({}, SCRIPT),
        (
            {"starter_code": STARTER},
            "You will use the following starter code to write the solution to the problem and enclose your "
            f"code within delimiters.\n```python\n{STARTER}\n```\n\n",
        ),
    ],
)
def test_livecodebench_is_asked_in_its_own_words(extra: dict[str, str], ending: str) -> None:
    one = Problem(
        problem_id="0" * 16, problem="Say {problem}.", reference_answer=None, verifier="code",
        extra=json.dumps(extra),
    )  # fmt: skip
    prompting = options(resolve_options(given("openr1"), "livecodebench")).prompting
    (message,) = conversation(one.problem, prompting, livecodebench_format(one))
    assert message.content == LCB_START + ending


def test_gpqa_is_asked_in_the_words_of_simple_evals() -> None:
    one = Problem(
        problem_id="0" * 16, problem="Which?", reference_answer="A", verifier="choice",
        extra=json.dumps({"options": ["a", "b", "c", "d"]}),
    )  # fmt: skip
    prompting = options(resolve_options(given("r1"), "gpqa_diamond")).prompting
    (message,) = conversation(question_text(one, (1, 0, 2, 3)), prompting)
    assert message.content == (
        "Answer the following multiple choice question. The last line of your response should be of the "
        "following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by "
        "step before answering.\n\nWhich?\n\nA) b\nB) a\nC) c\nD) d"
    )


def test_without_a_protocol_the_report_says_what_was_used_all_the_same() -> None:
    plain = options(given(None))
    content = report({}, plain, "deepseek-ai/DeepSeek-R1", "aime24")

    assert content["published"] is None
    assert content["protocol"]["name"] is None
    assert content["protocol"]["settings"]["temperature"] == 0.6
    assert set(msgspec.to_builtins(plain.plan)) <= set(content["protocol"]["settings"])


def test_eval_with_a_protocol_puts_the_published_score_beside_its_own(
    distill: Callable[..., Any], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTILL_DATA", str(tmp_path))
    model = tmp_path / "DeepSeek-R1-Distill-Qwen-1.5B"
    model.symlink_to(repository / "data" / "quickstart" / "teacher")
    (tmp_path / "math500.jsonl").write_text(
        '{"problem": "1+1?", "answer": "2", "subject": "Algebra"}\n'
    )
    done = distill(
        "eval", model, "--benchmark", "math500", "--protocol", "openr1", "--max-tokens", 8,
        "--engine", "transformers", "--out", tmp_path / "out",
    )  # fmt: skip

    assert done.code == 0, done.err
    version = tmp_path / "out" / "math500" / "v1"
    found = json.loads((version / "metrics.json").read_text())
    assert (found["num_problems"], found["num_samples"]) == (1, 4)
    assert found["protocol"]["changed"] == ["max_tokens"]
    assert found["published"]["score"] == pytest.approx(0.831)
    assert (
        "| published | 0.831 (openr1, 2026); other max_tokens (8, there 32768); on 500 problems there, 1 here |"
        in (version / "metrics.md").read_text()
    )
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["options"]["num_samples"] == {"value": 4, "source": "protocol"}
    assert manifest["options"]["max_tokens"] == {"value": 8, "source": "flag"}


@pytest.mark.parametrize("date", ["2024-8-1", "2024-02-30", "20240801", "yesterday"])
def test_a_date_that_is_none_is_refused_with_the_form_that_is_meant(
    distill: Callable[..., Any], tmp_path: Path, date: str
) -> None:
    done = distill("eval", "none", "--benchmark", "math500", "--min-date", date, "--out", tmp_path)
    assert (done.code, done.err) == (
        2,
        f"error: '{date}' is not a date: give one like 2024-08-01\n",
    )

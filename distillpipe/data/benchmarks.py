"""The table of benchmarks: where each stands, what its rows hold, how its answers are judged.

A benchmark is for evaluation only: its rows bear its name and are refused as training data. Rows are read
from raw files, never by a dataset's script. Columns, files and licences are as the pages and files of the
sources said (`scripts/docs_pages.py` writes them into the documentation); `tried` says what of a
benchmark was read and judged here.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from distillpipe.base.options import MATH_PROMPT

Row = dict[str, Any]

CHOICE_PROMPT = (
    "{problem}\n\nPlease reason step by step, and put the letter of your answer within \\boxed{}."
)
CODE_PROMPT = (
    "{problem}\n\nPlease reason step by step, and give the whole program in one Python code block."
)

LIVECODEBENCH_PROMPT = (
    "You will be given a question (problem specification) and will generate a correct Python program "
    "that matches the specification and passes all tests.\n\nQuestion: {problem}\n\n"
    "{livecodebench_format}"
)
"That benchmark's own for DeepSeek-R1 and its students, and lighteval's."
SIMPLE_EVALS_CHOICE_PROMPT = (
    "Answer the following multiple choice question. The last line of your response should be of the "
    "following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by "
    "step before answering.\n\n{problem}"
)
"openai/simple-evals at 83ed764, and lighteval's for GPQA."

MBPP_TEST_TASKS = range(11, 511)  # its README: others are for prompts and for training
_POWER_OF_TEN = re.compile(r"\\boxed\{(-?\d+(?:\.\d+)?)e(-?\d+)\}")
GPQA_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class Benchmark(NamedTuple):
    """One line of the table."""

    name: str
    reference: str
    "where it stands on the hub: a dataset, or raw files of one"
    file: str
    "looked for first, in the folder that DISTILL_DATA names"
    verifier: str
    prompt: str
    "what is asked, where neither the user nor a protocol says it"
    num_problems: int
    num_samples: int
    "completions a problem that scores are commonly the mean of: what a protocol asks for"
    licence: str
    public_since: str
    "month of the newest problem, or of the paper: a model trained later may have seen it"
    tried: Literal["whole", "part", "no"]
    problem_field: str | None = None
    "null here and below: the usual names"
    answer_field: str | None = None
    domain_field: str | None = None
    made: Callable[[Row], Row | None] = lambda row: row
    "the row as it is read further, null for one that is no part of the benchmark"


def gpqa_row(row: Row) -> Row:
    """The right option first, which is A until the options are shuffled."""
    left = {key: value for key, value in row.items() if key not in GPQA_OPTIONS}
    return {**left, "options": [str(row[key]).strip() for key in GPQA_OPTIONS], "answer": "A"}


def minerva_row(row: Row) -> Row:
    r"""Six references are like 4.5e33, which no answer is like: \boxed{4.5 \times 10^{33}}."""
    solution = _POWER_OF_TEN.sub(r"\\boxed{\1 \\times 10^{\2}}", row["solution"])
    return {**row, "solution": solution}


def olympiadbench_row(row: Row) -> Row:
    """Its reference is a list of one text, between dollars; several answers stand in that one text."""
    left = {key: value for key, value in row.items() if key != "final_answer"}
    return {**left, "answer": ", ".join(map(str, row["final_answer"]))}


def mbpp_row(row: Row) -> Row | None:
    """Only what is there to test on; files of it hold what is there to train on as well."""
    return row if row["task_id"] in MBPP_TEST_TASKS else None


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "math500", "hub:HuggingFaceH4/MATH-500:test", "math500.jsonl", "math", MATH_PROMPT,
            500, 4, "MIT", "2021-03", "whole",
            problem_field="problem", answer_field="answer", domain_field="subject",
        ),
        Benchmark(
            "aime24", "hub:HuggingFaceH4/aime_2024:train", "aime24_deepscaler.json", "math", MATH_PROMPT,
            30, 64, "MIT", "2024-02", "whole", problem_field="problem", answer_field="answer",
        ),
        Benchmark(
            "aime25", "hub:math-ai/aime25/test.jsonl", "aime25.jsonl", "math", MATH_PROMPT,
            30, 64, "not stated", "2025-02", "whole", problem_field="problem", answer_field="answer",
        ),
        Benchmark(
            "amc23", "hub:math-ai/amc23/test-00000-of-00001.parquet", "amc23.jsonl", "math",
            MATH_PROMPT, 40, 64, "not stated", "2023-11", "whole",
        ),
        Benchmark(
            "gsm8k", "hub:openai/gsm8k:main:test", "gsm8k_test.jsonl", "math", MATH_PROMPT,
            1319, 1, "MIT", "2021-10", "whole", problem_field="question", answer_field="answer",
        ),
        Benchmark(
            "minerva", "hub:svc-huggingface/minerva-math/test.jsonl", "minerva.jsonl", "math",
            MATH_PROMPT, 272, 4, "MIT", "2022-06", "whole",
            problem_field="problem", domain_field="type", made=minerva_row,
        ),
        Benchmark(
            "olympiadbench", "hub:Hothan/OlympiadBench:OE_TO_maths_en_COMP:train",
            "olympiadbench.jsonl", "math", MATH_PROMPT, 674, 4, "Apache-2.0", "2024-02", "whole",
            problem_field="question", domain_field="subfield", made=olympiadbench_row,
        ),
        Benchmark(
            "gpqa_diamond", "hub:Idavidrein/gpqa/gpqa_diamond.csv", "gpqa_diamond.csv", "choice",
            CHOICE_PROMPT, 198, 8, "CC-BY-4.0, to be asked for", "2023-11", "no",
            problem_field="Question", domain_field="High-level domain", made=gpqa_row,
        ),
        Benchmark(
            "mmlu_pro", "hub:TIGER-Lab/MMLU-Pro:test", "mmlu_pro.jsonl", "choice", CHOICE_PROMPT,
            12032, 1, "MIT", "2024-06", "part",
            problem_field="question", answer_field="answer", domain_field="category",
        ),
        Benchmark(
            "humaneval", "hub:openai/openai_humaneval:test", "HumanEval.jsonl.gz", "code",
            CODE_PROMPT, 164, 1, "MIT", "2021-07", "whole", problem_field="prompt",
        ),
        Benchmark(
            "mbpp", "hub:google-research-datasets/mbpp:full:test", "mbpp.jsonl", "code", CODE_PROMPT,
            500, 1, "CC-BY-4.0", "2021-08", "whole", problem_field="text", made=mbpp_row,
        ),
        Benchmark(
            "livecodebench", "hub:livecodebench/code_generation_lite/test*.jsonl",
            "livecodebench.jsonl", "code", CODE_PROMPT, 1055, 16, "CC (kind not stated)", "2025-04",
            "part", problem_field="question_content", domain_field="difficulty",
        ),
    )
}  # fmt: skip

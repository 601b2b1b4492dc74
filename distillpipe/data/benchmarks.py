"""The table of benchmarks: source, columns, prompt and verifier of each.

Benchmarks are for evaluation only: their rows carry the benchmark's name and are refused as training data. Rows
are read from raw files, never by a dataset's loading script. Columns, files and licences are as published by
the sources (`scripts/docs_pages.py` writes them into the documentation). `tried` says how much of a benchmark we
have read and verified ourselves.
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
"LiveCodeBench's own prompt for DeepSeek-R1 and its distilled models; lighteval uses it too."
SIMPLE_EVALS_CHOICE_PROMPT = (
    "Answer the following multiple choice question. The last line of your response should be of the "
    "following format: 'Answer: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by "
    "step before answering.\n\n{problem}"
)
"From openai/simple-evals at 83ed764; lighteval uses it for GPQA."

MBPP_TEST_TASKS = range(11, 511)  # by its README; other tasks are for few-shot prompts and training
_POWER_OF_TEN = re.compile(r"\\boxed\{(-?\d+(?:\.\d+)?)e(-?\d+)\}")
GPQA_OPTIONS = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class Benchmark(NamedTuple):
    """One benchmark of the table."""

    name: str
    reference: str
    "hub dataset, or raw files of one"
    file: str
    "file name that is tried first, in the folder DISTILL_DATA"
    verifier: str
    prompt: str
    "default prompt template; options and protocols override it"
    num_problems: int
    num_samples: int
    "usual number of completions per problem that a score is averaged over; protocols use it"
    licence: str
    public_since: str
    "month of the newest problem, or of the paper; a model trained later may have seen it"
    tried: Literal["whole", "part", "no"]
    problem_field: str | None = None
    "null, here and below: the usual keys"
    answer_field: str | None = None
    domain_field: str | None = None
    convert: Callable[[Row], Row | None] = lambda row: row
    "converts a row to our usual keys; returns null for a row that is not part of the benchmark"


def gpqa_row(row: Row) -> Row:
    """Put the correct option first, so that it is A until the options are shuffled."""
    others = {key: value for key, value in row.items() if key not in GPQA_OPTIONS}
    return {**others, "options": [str(row[key]).strip() for key in GPQA_OPTIONS], "answer": "A"}


def minerva_row(row: Row) -> Row:
    r"""Write references like 4.5e33, of which there are six, as \boxed{4.5 \times 10^{33}}: answers do."""
    solution = _POWER_OF_TEN.sub(r"\\boxed{\1 \\times 10^{\2}}", row["solution"])
    return {**row, "solution": solution}


def olympiadbench_row(row: Row) -> Row:
    """Join `final_answer`, a list with one text. Several answers are in that one text, between dollar signs."""
    others = {key: value for key, value in row.items() if key != "final_answer"}
    return {**others, "answer": ", ".join(map(str, row["final_answer"]))}


def mbpp_row(row: Row) -> Row | None:
    """Keep only test tasks, because some files of MBPP contain the training tasks too."""
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
            problem_field="problem", domain_field="type", convert=minerva_row,
        ),
        Benchmark(
            "olympiadbench", "hub:Hothan/OlympiadBench:OE_TO_maths_en_COMP:train",
            "olympiadbench.jsonl", "math", MATH_PROMPT, 674, 4, "Apache-2.0", "2024-02", "whole",
            problem_field="question", domain_field="subfield", convert=olympiadbench_row,
        ),
        Benchmark(
            "gpqa_diamond", "hub:Idavidrein/gpqa/gpqa_diamond.csv", "gpqa_diamond.csv", "choice",
            CHOICE_PROMPT, 198, 8, "CC-BY-4.0, to be asked for", "2023-11", "no",
            problem_field="Question", domain_field="High-level domain", convert=gpqa_row,
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
            500, 1, "CC-BY-4.0", "2021-08", "whole", problem_field="text", convert=mbpp_row,
        ),
        Benchmark(
            "livecodebench", "hub:livecodebench/code_generation_lite/test*.jsonl",
            "livecodebench.jsonl", "code", CODE_PROMPT, 1055, 16, "CC (kind not stated)", "2025-04",
            "part", problem_field="question_content", domain_field="difficulty",
        ),
    )
}  # fmt: skip

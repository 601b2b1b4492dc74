"""Scores that teams published for their models, as facts with their source; percentages.

What stands in a table was measured as its protocol says (protocols.py); where a source says more or less
about the problems or the completions, the note says that. Models go by the last part of their names.
`cons@64` is the majority vote over 64 completions, our maj@64; how a tie was settled is not stated.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

OF_AIME_MATH_GPQA_LCB = ("aime24", "math500", "gpqa_diamond", "livecodebench")
R1_README = "README of deepseek-ai/DeepSeek-R1 at 0cf7856"
OPEN_R1_README = "README of huggingface/open-r1 at 1416fa0"
S1_PAPER = (
    "arXiv:2501.19393v3, table 1, and visuals/s11/s11_table.png of simplescaling/s1 at 77272c6"
)


class Published(NamedTuple):
    """One published score."""

    score: float
    "0 to 1"
    source: str
    date: str
    "of the source"
    note: str | None = None
    "what of problems, completions or judging is not as our protocol has it, or is left open"
    num_problems: int | None = None
    "null where the source does not say it"
    majority: tuple[int, float] | None = None
    "of so many completions, and its score, 0 to 1: cons@64"


class _Table(NamedTuple):
    protocol: str
    source: str
    date: str
    columns: tuple[str, ...]
    notes: dict[str, str]
    rows: dict[str, tuple[float, ...]]
    num_problems: dict[str, int]
    majorities: Mapping[str, dict[str, float]] = MappingProxyType({})
    "cons@64 by benchmark and model"
    again: Mapping[str, tuple[float, ...]] = MappingProxyType({})
    "other scores of the same models in the same source"


NUM_MAJORITY = 64
NUM_PROBLEMS = {"aime24": 30, "math500": 500, "gpqa_diamond": 198}
OF_64 = "64 completions by the README, 4 to 64 by the paper"

TABLES = (
    _Table(
        "r1", R1_README, "2025-04-09", OF_AIME_MATH_GPQA_LCB,
        {
            "math500": OF_64,
            "gpqa_diamond": OF_64,
            "livecodebench": f"problems of 2024-08 to 2025-01 and the benchmark's own prompt by the paper; {OF_64}",
        },
        {
            "DeepSeek-R1": (79.8, 97.3, 71.5, 65.9),
            "DeepSeek-R1-Distill-Qwen-1.5B": (28.9, 83.9, 33.8, 16.9),
            "DeepSeek-R1-Distill-Qwen-7B": (55.5, 92.8, 49.1, 37.6),
            "DeepSeek-R1-Distill-Qwen-14B": (69.7, 93.9, 59.1, 53.1),
            "DeepSeek-R1-Distill-Qwen-32B": (72.6, 94.3, 62.1, 57.2),
            "DeepSeek-R1-Distill-Llama-8B": (50.4, 89.1, 49.0, 39.6),
            "DeepSeek-R1-Distill-Llama-70B": (70.0, 94.5, 65.2, 57.5),
            "QwQ-32B-Preview": (44.0, 90.6, 54.5, 41.9),
        },
        NUM_PROBLEMS,
        {
            "aime24": {
                "DeepSeek-R1-Distill-Qwen-1.5B": 52.7,
                "DeepSeek-R1-Distill-Qwen-7B": 83.3,
                "DeepSeek-R1-Distill-Qwen-14B": 80.0,
                "DeepSeek-R1-Distill-Qwen-32B": 83.3,
                "DeepSeek-R1-Distill-Llama-8B": 80.0,
                "DeepSeek-R1-Distill-Llama-70B": 86.7,
                "QwQ-32B-Preview": 60.0,
            },
        },
    ),
    _Table(
        "openr1", OPEN_R1_README, "2026-04-02", OF_AIME_MATH_GPQA_LCB,
        {
            "livecodebench": "on the files test4 and test5 (v4_v5), by lighteval's copy of the harness, which has "
            "no sys.stdin.buffer",
        },
        {
            "DeepSeek-R1-Distill-Qwen-1.5B": (30.7, 83.1, 35.8, 16.1),
            "DeepSeek-R1-Distill-Qwen-7B": (50.8, 94.5, 50.5, 37.4),
            "DeepSeek-R1-Distill-Qwen-14B": (65.9, 94.1, 61.5, 51.3),
            "DeepSeek-R1-Distill-Qwen-32B": (69.7, 95.6, 63.1, 56.0),
            "DeepSeek-R1-Distill-Llama-8B": (43.9, 88.6, 46.7, 37.4),
            "DeepSeek-R1-Distill-Llama-70B": (63.0, 95.1, 67.4, 55.9),
            "OpenR1-Distill-7B": (52.7, 89.0, 52.8, 39.4),
        },
        NUM_PROBLEMS | {"livecodebench": 268},
        again={"DeepSeek-R1-Distill-Qwen-7B": (51.3, 93.5, 52.4, 37.4)},
    ),
    _Table(
        "s1", S1_PAPER, "2025-06-25", ("aime24", "math500", "gpqa_diamond"),
        {"aime24": "texts of simplescaling/aime24_nofigures, not compared with those here"},
        {
            "s1-32B": (50.0, 92.6, 56.6),
            "s1.1-32B": (56.7, 94.4, 60.6),
            "Qwen2.5-32B-Instruct": (26.7, 84.0, 49.0),
        },
        NUM_PROBLEMS,
    ),
)  # fmt: skip


def published_score(protocol: str, model: str, benchmark: str) -> Published | None:
    """What was published for a model of this name; None where nothing is known."""
    name = model.rstrip("/").rpartition("/")[2].partition("@")[0].casefold()
    for table in TABLES:
        known = {key.casefold(): key for key in table.rows}
        if table.protocol == protocol and benchmark in table.columns and name in known:
            return _published(table, known[name], benchmark)
    return None


def _published(table: _Table, model: str, benchmark: str) -> Published:
    column = table.columns.index(benchmark)
    percent, others = table.rows[model][column], table.again.get(model)
    notes = [f"{others[column] / 100:.3f} in its other table"] if others else []
    notes += [table.notes[benchmark]] if benchmark in table.notes else []
    votes = table.majorities.get(benchmark, {}).get(model)
    return Published(
        score=percent / 100,
        source=table.source,
        date=table.date,
        note="; ".join(notes) or None,
        num_problems=table.num_problems.get(benchmark),
        majority=None if votes is None else (NUM_MAJORITY, votes / 100),
    )

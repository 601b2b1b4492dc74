"""The shipped models, options that make the stages quick on them, and imports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.base.records import RejectedTrace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.formats.traces import Choices, ImportOptions
from distillpipe.data.store import dataset
from distillpipe.data.store.manifest import Manifest
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.generate import generate
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.run import Run


@pytest.fixture(scope="session")
def sampling() -> SamplingOptions:
    """Two samples of twelve problems."""
    return SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=2, limit=12, seed=0),
        sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=160),
        engine=EngineOptions(engine="transformers", concurrency=16),
        accept_errors=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def filtering() -> FilterOptions:
    """Right answers, bounded, one a problem."""
    return FilterOptions(
        verdicts=("correct",), verifier=None, min_reasoning_tokens=1, max_reasoning_tokens=120,
        dedup="exact", per_problem=1, seed=0, max_repetition=1.0, max_foreign_letters=None,
    )  # fmt: skip


@pytest.fixture(scope="session")
def training() -> TrainingOptions:
    """A few steps."""
    return TrainingOptions(
        method="full", rank=4, alpha=4, learning_rate=2e-3, scheduler="cosine", warmup=0.05,
        weight_decay=0.0, max_grad_norm=1.0, epochs=2, max_steps=None, batch_size=4, max_length=256,
        dtype="fp32", chat_template=None, seed=0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def shipped(repository: Path) -> Path:
    """The folder of the shipped models and problems."""
    return repository / "data" / "quickstart"


@pytest.fixture(scope="session")
def traces(
    shipped: Path, sampling: SamplingOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A dataset of 24 traces of the shipped teacher."""
    out = tmp_path_factory.mktemp("runs") / "traces"
    problems, teacher = str(shipped / "problems-train.jsonl"), str(shipped / "teacher")
    generate(problems, teacher, out, sampling, Run())
    return out


@pytest.fixture(scope="session")
def clean(traces: Path, filtering: FilterOptions) -> Path:
    """What the filter keeps of them."""
    out = traces.parent / "clean"
    filter_traces([str(traces)], out, filtering, Run())
    return out


# `import`: rows of every kind, and how they are read.


@pytest.fixture
def rows_of_import() -> list[Any]:
    """Seven rows: three traces, one of them in the file twice, and three that do not fit."""
    return [
        {"problem": "1+1?", "raw": "<think>1 and 1.</think>\\boxed{2}", "gold": "2", "path": "a"},
        {
            "problem": "1+1?",
            "raw": "<think>two</think>\\boxed{2}",
            "gold": "2",
            "options": ["1", "2"],
        },
        {"problem": "2+1?", "raw": "<think>cut", "gold": "3"},
        {"problem": "3+1?", "raw": ""},
        {"raw": "no problem"},
        {"problem": "1+1?", "raw": "<think>1 and 1.</think>\\boxed{2}", "gold": "2", "path": "b"},
        ["no object"],
    ]


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., str]:
    """`write_rows(path, *rows)` writes them as lines of JSON."""

    def to_file(path: Path, *rows: object) -> str:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        return str(path)

    return to_file


@pytest.fixture(scope="session")
def run_import() -> Callable[..., Manifest]:
    """`run_import(reference, out, **options)` imports it; options of `Choices` and of `ImportOptions` by their names."""

    def importing(reference: str, out: Path, **options: Any) -> Manifest:
        choices = {
            name: options.pop(name) for name in list(options) if name in Choices.__struct_fields__
        }
        given = ImportOptions(Choices(**{"format": "auto", **choices}), **options)
        return import_traces(reference, out, given, Run()).manifest

    return importing


@pytest.fixture(scope="session")
def rejected_rows() -> Callable[[Path], list[RejectedTrace]]:
    """`rejected_rows(out)`: the rejected rows of the latest version."""
    return lambda out: list(dataset.scan(out / "latest", RejectedTrace, "rejected"))

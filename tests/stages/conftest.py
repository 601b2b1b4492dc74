"""The shipped models and options that make the stages quick on them."""

from pathlib import Path

import pytest

from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.base.training_options import TrainingOptions
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.generate import generate
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

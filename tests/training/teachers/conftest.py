"""Traces with soft labels, in a dataset, and a student that learns from them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distillpipe.base.hashing import seed_of
from distillpipe.base.records import Trace
from distillpipe.data.store import versions
from distillpipe.data.store.labels import (
    SAMPLED,
    Labels,
    LabelSource,
    Vocabulary,
)
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import vocabulary_of

K = 4


@pytest.fixture(scope="session")
def labels_of() -> Callable[..., Labels]:
    """`labels_of(ids, name, vocabulary_size, k)`: labels that no other row has, its own tokens among them."""

    def make(ids: list[int], name: str, vocabulary_size: int, k: int = K) -> Labels:
        draw = np.random.default_rng(seed_of(name))
        tops = np.stack([draw.permutation(vocabulary_size)[:k] for _ in ids])
        for row, token in zip(tops, ids, strict=True):
            if token not in row:
                row[0] = token
        logprobs = -np.sort(-np.log(draw.dirichlet(np.ones(k + 1), len(ids))[:, :k]))[:, ::-1]
        return Labels(
            np.array(ids, np.uint32),
            np.full(len(ids), SAMPLED, np.uint8),
            tops.astype(np.uint32),
            (-np.abs(logprobs)).astype(np.float16),
            np.zeros(len(ids), np.float16),
        )

    return make


@pytest.fixture(scope="session")
def write_labelled(make_header: Callable[..., Header]) -> Callable[..., Manifest]:
    """`write_labelled(out, [(trace, labels or None)], vocabulary)` finishes a version."""

    def write(out: Path, rows: list[tuple[Trace, Labels | None]], vocabulary: Vocabulary):
        k = next((labels.k for _, labels in rows if labels is not None), K)
        source = LabelSource(k=k, teacher="teacher", identity="t", vocabulary=vocabulary)
        with (
            versions.draft(out, make_header()) as draft,
            Writer(draft, soft_labels=source) as writer,
        ):
            for trace, labels in rows:
                writer.append(trace, labels)
            return writer.finish([])

    return write


@pytest.fixture(scope="module")
def student(tiny_model: Path) -> lookup.Model:
    return lookup.find(str(tiny_model), "--student")


@pytest.fixture(scope="module")
def traces(additions: Callable[[range, range], list[Trace]]) -> list[Trace]:
    return additions(range(3, 6), range(2, 5))


@pytest.fixture(scope="module")
def completions(traces, teacher_chat: Chat) -> dict[str, list[int]]:
    return {trace.id: teacher_chat.completion_ids(trace.messages[-1]) for trace in traces}


@pytest.fixture(scope="module")
def given(traces, completions, labels_of: Callable[..., Labels]) -> dict[str, Labels]:
    """Labels of each row but every third."""
    return {
        trace.id: labels_of(completions[trace.id], trace.id, 400)
        for number, trace in enumerate(traces)
        if number % 3
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, traces, given, teacher_chat, write_labelled) -> Path:
    out = tmp_path_factory.mktemp("labelled") / "traces"
    rows = [(trace, given.get(trace.id)) for trace in traces]
    write_labelled(out, rows, vocabulary_of(teacher_chat))
    return out / "v1"

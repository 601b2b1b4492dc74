"""`generate --soft-labels` on the shipped teacher: labelled rows, and rows of versions with other labels."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.options import Budget, EngineOptions, SamplingOptions
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.labels import (
    SAMPLED,
    UNLABELLED,
    Labels,
    label_bytes,
    read_labels,
    read_source,
)
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import token_bytes
from distillpipe.stages.generate import forecast_generate, generate
from distillpipe.stages.run import Result, Run

K = 5
Generate = Callable[..., Result]


@pytest.fixture(scope="module")
def labelled(sampling: SamplingOptions) -> SamplingOptions:
    """A sample of four problems, with labels."""
    plan = msgspec.structs.replace(sampling.plan, num_samples=1, limit=4)
    return msgspec.structs.replace(sampling, plan=plan, soft_labels=K)


@pytest.fixture(scope="module")
def run(shipped: Path) -> Generate:
    def call(
        out: Path, options: SamplingOptions, stage: Callable[..., Result] = generate
    ) -> Result:
        problems, teacher = str(shipped / "problems-train.jsonl"), str(shipped / "teacher")
        return stage(problems, teacher, out, options, Run())

    return call


@pytest.fixture(scope="module")
def there(
    run: Generate, labelled: SamplingOptions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A version with labels, sampled by one command."""
    out = tmp_path_factory.mktemp("labelled") / "traces"
    run(out, labelled)
    return out / "v1"


def rows_of(folder: Path) -> dict[str, tuple[Trace, Labels]]:
    found = {}
    for row in dataset.scan(folder, Trace):
        assert row.soft_labels is not None
        found[row.row_key] = (row, read_labels(folder, row.soft_labels))
    return found


def with_k(options: SamplingOptions, k: int | None) -> SamplingOptions:
    return msgspec.structs.replace(options, soft_labels=k)


def copied(folder: Path, out: Path) -> Path:
    """A folder of versions with that one in it."""
    (out / "v1").mkdir(parents=True)
    for path in folder.iterdir():
        (out / "v1" / path.name).write_bytes(path.read_bytes())
    return out


def test_every_row_has_the_labels_of_its_own_tokens(there: Path) -> None:
    rows = rows_of(there)
    assert len(rows) == 4
    for row, labels in rows.values():
        assert len(labels.tokens) == row.num_completion_tokens
        assert labels.k == K
        assert (labels.flags == SAMPLED).all()
        source = read_source(there, row.soft_labels)
        assert (source.k, source.teacher) == (K, row.teacher)
        assert source.identity == manifests.read(there).models[0].identity


def test_rows_have_the_keys_of_rows_without_labels(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    out = copied(there, tmp_path / "out")
    found = run(out, with_k(labelled, None))
    assert (found.path.name, found.up_to_date) == ("v2", False)
    assert found.manifest.counts.tokens_sampled == 0
    rows = list(dataset.scan(found.path, Trace))
    assert {row.row_key for row in rows} == rows_of(there).keys()
    assert all(row.soft_labels is None for row in rows)
    assert not list(found.path.glob("labels-*"))


def test_enough_labels_are_taken_over_and_only_the_most_likely_are_kept(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    found = run(copied(there, tmp_path / "out"), with_k(labelled, 2))
    assert found.manifest.counts.rows_reused == 4
    assert found.manifest.counts.tokens_sampled == 0
    before, after = rows_of(there), rows_of(found.path)
    assert before.keys() == after.keys()
    for key, (_, labels) in after.items():
        for one, other in zip(labels, before[key][1].top(2), strict=True):
            assert np.array_equal(one, other)


def close(one: Labels, other: Labels) -> bool:
    """Whether two passes over the same tokens say the same."""
    return (
        one.tokens.tolist() == other.tokens.tolist()
        and np.allclose(one.top_logprobs.astype(float), other.top_logprobs.astype(float), atol=0.01)
        and np.allclose(one.own_logprobs.astype(float), other.own_logprobs.astype(float), atol=0.01)
    )


def test_rows_with_fewer_labels_are_labelled_and_not_sampled_again(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    found = run(copied(there, tmp_path / "out"), with_k(labelled, K + 3))
    counts = found.manifest.counts
    assert (counts.rows_reused, counts.tokens_sampled) == (4, 0)
    assert counts.tokens_scored == counts.tokens_kept
    before, after = rows_of(there), rows_of(found.path)
    assert before.keys() == after.keys()
    for key, (row, labels) in after.items():
        assert labels.k == K + 3
        assert close(labels.top(K), before[key][1])
        assert row.messages == before[key][0].messages


def test_rows_without_labels_are_labelled_by_their_text_beside_new_ones_that_are_sampled(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    two = msgspec.structs.replace(labelled.plan, limit=2)
    run(tmp_path / "out", msgspec.structs.replace(labelled, plan=two, soft_labels=None))
    found = run(tmp_path / "out", labelled)
    sampled = sum(row.num_completion_tokens for row, _ in list(rows_of(found.path).values()))
    assert found.manifest.counts.rows_reused == 2
    assert 0 < found.manifest.counts.tokens_sampled < sampled
    before, after = rows_of(there), rows_of(found.path)
    assert before.keys() == after.keys()
    assert sum(close(labels, before[key][1]) for key, (_, labels) in after.items()) >= 3


@pytest.mark.slow
def test_what_forcing_may_have_inserted_into_a_row_without_labels_gets_none(
    run: Generate, labelled: SamplingOptions, tmp_path: Path, teacher_chat: Chat
) -> None:
    budget = Budget(
        num_waits=1, min_reasoning_tokens=0, max_reasoning_tokens=70, wait_text="Wait", end_text="So",
        end_at="step",
    )  # fmt: skip
    forced = msgspec.structs.replace(labelled, budget=budget)
    run(tmp_path / "plain", with_k(forced, None))
    scored = rows_of(run(tmp_path / "plain", forced).path)
    sampled = rows_of(run(tmp_path / "sampled", forced).path)
    assert scored.keys() == sampled.keys()
    bytes_of = token_bytes(teacher_chat.tokenizer)

    def spelled(labels: Labels) -> tuple[bytes, np.ndarray]:
        """The text, and which bytes of it have no label."""
        pieces = [bytes_of[token] for token in labels.tokens.tolist()]
        return b"".join(pieces), np.repeat(labels.flags != SAMPLED, list(map(len, pieces)))

    for key, (row, labels) in scored.items():
        assert row.num_waits
        assert row.forced_end
        assert set(labels.flags.tolist()) == {SAMPLED, UNLABELLED}
        (text, is_masked), (other, is_inserted) = spelled(labels), spelled(sampled[key][1])
        assert text == other
        opening = len(b"<think>\n")  # which forcing puts there, as the model would have
        assert is_inserted[opening:].any()
        assert is_masked[opening:][is_inserted[opening:]].all()
        assert is_masked.mean() < 0.5  # some of it where the model itself has written "Wait"


def test_the_same_command_is_up_to_date_and_another_number_of_labels_is_another_version(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    out = copied(there, tmp_path / "out")
    assert run(out, labelled).up_to_date
    assert not run(out, with_k(labelled, 1)).up_to_date


def test_a_dry_run_says_what_the_labels_take(
    run: Generate, there: Path, labelled: SamplingOptions, tmp_path: Path
) -> None:
    new = run(tmp_path / "new", labelled, forecast_generate)
    most = 4 * labelled.sampling.max_tokens
    assert new.estimate.disk_bytes == most * (4 + 6 * K + 7) + 4 * 1200
    assert any(
        f"of the disk space are soft labels, {6 * K + 7} bytes per token" in one
        for one in new.notes
    )
    tokens = manifests.read(there).counts.tokens_kept
    again = run(copied(there, tmp_path / "out"), with_k(labelled, 2), forecast_generate)
    assert again.estimate.disk_bytes == label_bytes(tokens, 2)
    assert run(tmp_path / "out", labelled, forecast_generate).estimate.disk_bytes == 0


def test_a_server_is_refused_with_the_command_that_does_it(
    labelled: SamplingOptions, tmp_path: Path
) -> None:
    served = msgspec.structs.replace(
        labelled, engine=EngineOptions(engine="openai", concurrency=1, base_url="http://x/v1")
    )
    with pytest.raises(UsageError, match=r"--soft-labels: a server .* `distill label TRACES"):
        generate("no problems", "model", tmp_path / "out", served, Run())
    assert not (tmp_path / "out").exists()


def test_more_labels_than_tokens_are_refused_before_anything_is_made(
    run: Generate, labelled: SamplingOptions, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--soft-labels 100000: the vocabulary of .* tokens"):
        run(tmp_path / "out", with_k(labelled, 100_000))
    assert not (tmp_path / "out").exists()

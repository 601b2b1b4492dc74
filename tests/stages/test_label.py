"""`label` on the shipped teacher: the labels are those of a plain pass over the text as the teacher samples it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from distillpipe.base.errors import DataError, Incomplete, UsageError
from distillpipe.base.options import EngineOptions, LabelOptions, SamplingOptions
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data.forecast import size
from distillpipe.data.formats.traces import Choices, ImportOptions
from distillpipe.data.store import versions
from distillpipe.data.store.dataset import read_traces, scan
from distillpipe.data.store.labels import Labels, files_of, label_bytes, read_labels, read_source
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.stages.generate import generate
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.label import forecast_label, label
from distillpipe.stages.run import Run

K = 20
OPTIONS = LabelOptions(K, None, EngineOptions(engine="transformers", concurrency=None))


@pytest.fixture(scope="module")
def teacher(shipped: Path) -> str:
    return str(shipped / "teacher")


@pytest.fixture(scope="module")
def model(teacher: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def labelled(
    traces: Path, teacher: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("label") / "labelled"
    return out, label([str(traces)], teacher, out, OPTIONS, Run()).manifest


def write(path: Path, rows: list[Trace]) -> str:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return str(path)


def with_labels(out: Path) -> list[tuple[Trace, Labels]]:
    found = []
    for row in read_traces(str(out)):
        assert row.soft_labels is not None
        found.append((row, read_labels(versions.resolve(str(out)), row.soft_labels)))
    return found


def test_labels_are_those_of_a_fresh_pass_over_the_text_as_it_was_sampled(
    labelled: tuple[Path, Manifest],
    traces: Path,
    model: Any,
    teacher_chat: Chat,
    log_probabilities,
    total_variation,
) -> None:
    found = with_labels(labelled[0])
    sampled = {row.row_key: row for row in read_traces(str(traces))}
    assert len(found) == len(sampled) == 24
    for row, labels in found:
        turn = teacher_chat.turn
        text = turn.completion(row.reasoning, row.response)
        assert teacher_chat.decode(labels.tokens.tolist()) == text + "<|im_end|>"
        assert len(labels.tokens) == row.num_completion_tokens
        prompt = teacher_chat.prompt_ids(row.messages[:-1])
        fresh = log_probabilities(model, prompt, labels.tokens.tolist())
        assert total_variation(labels, fresh).max() <= 1e-3


@pytest.mark.slow
def test_generate_and_label_give_a_row_the_same_labels_up_to_the_rounding_of_fp16(
    shipped: Path, teacher: str, sampling: SamplingOptions, tmp_path: Path
) -> None:
    options = msgspec.structs.replace(sampling, soft_labels=K)
    generate(str(shipped / "problems-train.jsonl"), teacher, tmp_path / "traces", options, Run())
    label([str(tmp_path / "traces")], teacher, tmp_path / "labelled", OPTIONS, Run())
    sampled = {row.id: labels for row, labels in with_labels(tmp_path / "traces")}
    num_tokens = num_equal = 0
    for row, labels in with_labels(tmp_path / "labelled"):
        before = sampled.pop(msgspec.json.decode(row.extra or "")["labelled_from"])
        assert labels.tokens.tolist() == before.tokens.tolist()
        assert np.array_equal(labels.flags, before.flags)
        for name in ("own_logprobs", "top_logprobs"):
            one, other = (getattr(side, name).astype(float) for side in (labels, before))
            assert np.allclose(one, other, rtol=2**-10, atol=2e-3)
        num_equal += int((labels.top_tokens == before.top_tokens).sum())
        num_tokens += labels.top_tokens.size
    assert sampled == {}
    assert num_equal / num_tokens > 0.999  # the others are as likely as their neighbours


def test_a_labelled_row_is_the_source_row_with_a_key_of_its_own(
    labelled: tuple[Path, Manifest], traces: Path
) -> None:
    sources = {row.id: row for row in read_traces(str(traces))}
    for row in read_traces(str(labelled[0])):
        source = sources.pop(msgspec.json.decode(row.extra or "")["labelled_from"])
        assert row.row_key != source.row_key
        assert row.id == f"{row.problem_id}/{row.row_key[:16]}"
        changed = {"id", "row_key", "soft_labels", "extra"}
        for name in set(Trace.__struct_fields__) - changed:
            assert getattr(row, name) == getattr(source, name)
    assert sources == {}


def test_the_version_says_what_was_labelled_and_by_whom(
    labelled: tuple[Path, Manifest], teacher: str, teacher_chat: Chat
) -> None:
    out, manifest = labelled
    counts = manifest.counts
    assert (counts.rows_read, counts.rows_kept, counts.rows_labelled) == (24, 24, 24)
    assert counts.tokens_scored == counts.tokens_kept
    assert counts.tokens_sampled == 0
    sizes = [path.stat().st_size for path in files_of(out / "v1") if path.suffix != ".json"]
    assert sum(sizes) == label_bytes(counts.tokens_kept, K)
    row = next(read_traces(str(out)))
    assert row.soft_labels is not None
    source = read_source(out / "v1", row.soft_labels)
    assert (source.k, source.teacher) == (K, teacher)
    assert source.identity == manifest.models[0].identity
    assert source.vocabulary == vocabulary_of(teacher_chat)


def test_the_same_command_is_up_to_date(
    labelled: tuple[Path, Manifest], traces: Path, teacher: str
) -> None:
    again = label([str(traces)], teacher, labelled[0], OPTIONS, Run())
    assert again.up_to_date
    assert again.path == labelled[0] / "v1"


@pytest.mark.slow
def test_fewer_labels_are_taken_over_and_more_are_made(
    traces: Path, teacher: str, tmp_path: Path
) -> None:
    for k, reused in ((8, 0), (3, 24), (9, 0)):
        options = msgspec.structs.replace(OPTIONS, soft_labels=k)
        counts = label([str(traces)], teacher, tmp_path, options, Run()).manifest.counts
        assert (counts.rows_kept, counts.rows_reused) == (24, reused)
        assert counts.tokens_scored == (0 if reused else counts.tokens_kept)
    eight, three, nine = (
        {row.id: labels for row, labels in with_labels(Path(f"{tmp_path}@v{number}"))}
        for number in (1, 2, 3)
    )
    for row_id, labels in three.items():
        for one, other in zip(labels, eight[row_id].top(3), strict=True):
            assert np.array_equal(one, other)
        assert nine[row_id].k == 9


@pytest.mark.slow
def test_labels_that_were_changed_on_disk_are_not_taken_over_but_made_anew(
    traces: Path, teacher: str, tmp_path: Path
) -> None:
    whole = label([str(traces)], teacher, tmp_path, OPTIONS, Run())
    expected = {row.id: found for row, found in with_labels(tmp_path)}
    changed = next(whole.path.glob("labels-*.labels"))
    content = bytearray(changed.read_bytes())
    content[5000] ^= 0x55
    changed.write_bytes(content)
    fewer = msgspec.structs.replace(OPTIONS, soft_labels=3)
    assert label([str(traces)], teacher, tmp_path, fewer, Run()).manifest.counts.rows_reused == 0
    for row, found in with_labels(tmp_path):
        assert np.array_equal(found.top_tokens, expected[row.id].top(3).top_tokens)


def test_a_draft_is_gone_on_with_and_only_the_missing_rows_are_labelled(
    traces: Path, teacher: str, tmp_path: Path
) -> None:
    whole = label([str(traces)], teacher, tmp_path, OPTIONS, Run()).manifest
    (tmp_path / "latest").unlink()
    draft = (tmp_path / "v1").rename(tmp_path / "v1.partial")
    part = draft / "part-00000.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:10]) + lines[10][:50])
    again = label([str(traces)], teacher, tmp_path, OPTIONS, Run())
    assert again.path == tmp_path / "v1"
    assert len(with_labels(tmp_path)) == again.manifest.counts.rows_labelled == 24
    lines_now = (tmp_path / "v1" / "part-00000.jsonl").read_bytes().splitlines(keepends=True)
    assert lines_now[:10] == lines[:10]
    sizes = [path.stat().st_size for path in files_of(tmp_path / "v1") if path.suffix != ".json"]
    assert sum(sizes) == label_bytes(whole.counts.tokens_kept, K)


def test_what_does_not_fit_into_the_teachers_context_is_rejected_with_its_length(
    teacher: str, tmp_path: Path, make_trace: Callable[..., Trace]
) -> None:
    short = make_trace()
    long = make_trace(reasoning="14+6=20. " * 400, row_key="1" * 32)
    empty = make_trace(reasoning=None, response="", row_key="2" * 32, finish_reason="length")
    given = write(tmp_path / "rows.jsonl", [short, long, empty])
    counts = label([given], teacher, tmp_path / "out", OPTIONS, Run()).manifest.counts
    assert (counts.rows_read, counts.rows_kept) == (3, 1)
    rejected = scan(tmp_path / "out" / "v1", RejectedTrace, "rejected")
    found = {row.reason: row for row in rejected}
    assert found.keys() == {"too_long_for_teacher", "empty_completion"}
    assert int(found["too_long_for_teacher"].measured or 0) > 1024


def test_a_shorter_context_rejects_more_rows(traces: Path, teacher: str, tmp_path: Path) -> None:
    short = EngineOptions(engine="transformers", concurrency=None, max_model_len=90)
    options = msgspec.structs.replace(OPTIONS, engine=short)
    found = label([str(traces)], teacher, tmp_path / "short", options, Run())
    fitting = sum(row.num_tokens is not None and row.num_tokens.total <= 90 for row in read_traces(str(traces)))  # fmt: skip
    assert 0 < found.manifest.counts.rows_kept == fitting < 24


def test_a_completion_that_was_cut_off_has_no_end_to_be_labelled(
    teacher: str, tmp_path: Path, make_trace: Callable[..., Trace], teacher_chat: Chat
) -> None:
    thought = make_trace(response="", finish_reason="length")
    answer = make_trace(finish_reason="length", row_key="1" * 32)
    given = write(tmp_path / "rows.jsonl", [thought, answer])
    label([given], teacher, tmp_path / "out", OPTIONS, Run())
    texts = [teacher_chat.decode(one.tokens.tolist()) for _, one in with_labels(tmp_path / "out")]
    turn = teacher_chat.turn
    assert sorted(texts) == sorted(
        [turn.opening + thought.reasoning, turn.completion(answer.reasoning, answer.response)]
    )


def test_another_teacher_makes_another_row(
    traces: Path, teacher: str, tiny_model: Path, tmp_path: Path
) -> None:
    label([str(traces)], teacher, tmp_path, OPTIONS, Run())
    label([str(traces)], str(tiny_model), tmp_path, OPTIONS, Run())
    one, other = ({row.id for row in read_traces(f"{tmp_path}@v{number}")} for number in (1, 2))
    assert len(one) == len(other) == 24
    assert not one & other


def test_a_text_that_was_changed_under_one_key_is_labelled_anew(
    teacher: str, tmp_path: Path, make_trace: Callable[..., Trace]
) -> None:
    for number, response in enumerate(("\\boxed{20}", "\\boxed{21}"), 1):
        given = write(tmp_path / "rows.jsonl", [make_trace(response=response)])
        label([given], teacher, tmp_path / "out", OPTIONS, Run())
        assert versions.resolve(str(tmp_path / "out")).name == f"v{number}"
    assert versions.manifests.read(tmp_path / "out" / "v2").counts.rows_reused == 0


def test_a_row_that_stands_twice_is_labelled_once_and_one_with_two_contents_is_an_error(
    teacher: str, tmp_path: Path, make_trace: Callable[..., Trace]
) -> None:
    given = write(tmp_path / "rows.jsonl", [make_trace(), make_trace()])
    counts = label([given, given], teacher, tmp_path / "out", OPTIONS, Run()).manifest.counts
    assert (counts.rows_read, counts.rows_kept) == (1, 1)
    other = write(tmp_path / "other.jsonl", [make_trace(), make_trace(response="\\boxed{21}")])
    with pytest.raises(DataError, match="is in the input twice with different content"):
        label([other], teacher, tmp_path / "again", OPTIONS, Run())


@pytest.fixture(params=["own", pytest.param("real", marks=pytest.mark.reference)])
def source_rows(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Rows of another pipeline, as import takes them; some are longer than the teacher reads."""
    if request.param == "real":
        return request.getfixturevalue("reference_rows")("traces/math500_r1_family.jsonl")
    thoughts = ["9+4=13.", "Mia has 9.\nFinds 4: 9+4=13.", "9+4=13.\n" * 4, "9+4=13.\n" * 400]
    return [
        {"problem": f"What is 9+4? Answer {at}.", "raw": f"<think>{one}</think>\\boxed{{13}}", "gold": "13"}
        for at, one in enumerate(thoughts)
    ]  # fmt: skip


def test_traces_that_were_imported_and_never_counted_are_labelled(
    teacher: str, model: Any, tmp_path: Path, teacher_chat: Chat,
    source_rows: list[dict[str, Any]], log_probabilities, total_variation,
) -> None:  # fmt: skip
    source, rows = tmp_path / "source.jsonl", source_rows
    source.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    import_traces(str(source), tmp_path / "traces", ImportOptions(Choices("auto")), Run())
    imported = read_traces(str(tmp_path / "traces"))
    uncounted = [msgspec.structs.replace(trace, num_tokens=None) for trace in imported]
    traces = write(tmp_path / "uncounted.jsonl", uncounted)
    found = label([traces], teacher, tmp_path / "out", OPTIONS, Run()).manifest
    fitting = with_labels(tmp_path / "out")
    assert len(fitting) >= 3  # the teacher reads 1,024 tokens
    assert found.counts.dropped["too_long_for_teacher"].rows == found.counts.rows_read - len(
        fitting
    )
    for row, labels in fitting:
        assert row.num_tokens is None
        prompt = teacher_chat.prompt_ids(row.messages[:-1])
        fresh = log_probabilities(model, prompt, labels.tokens.tolist())
        assert total_variation(labels, fresh).max() <= 1e-3
    forecast = forecast_label([traces], teacher, tmp_path / "out", OPTIONS, Run())
    assert any("have no token counts" in note for note in forecast.notes)


def test_a_row_that_the_teacher_cannot_score_fails_and_is_given_up_only_where_that_is_accepted(
    shipped: Path, tmp_path: Path, make_trace: Callable[..., Trace], teacher_chat: Chat
) -> None:
    torch.manual_seed(0)
    broken = AutoModelForCausalLM.from_pretrained(shipped / "teacher", tie_word_embeddings=False)
    with torch.no_grad():  # no row with a Z in its thought can be scored
        (mark,) = teacher_chat.ids("Z")
        broken.get_input_embeddings().weight[mark] = float("nan")
    broken.save_pretrained(tmp_path / "teacher")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(shipped / "teacher" / name, tmp_path / "teacher" / name)
    good, bad = (
        make_trace(problem="Tom has 14 coins.", reasoning=reasoning, row_key=str(number) * 32)
        for number, reasoning in enumerate(["14.", "14 Z."])
    )
    given, out = [write(tmp_path / "rows.jsonl", [good, bad])], tmp_path / "out"
    teacher = str(tmp_path / "teacher")

    with pytest.raises(Incomplete, match=r"1 rows failed \(the first: the model's logits"):
        label(given, teacher, out, OPTIONS, Run())
    assert not (out / "v1").exists()
    accepting = msgspec.structs.replace(OPTIONS, accept_errors=True)
    found = label(given, teacher, out, accepting, Run())
    assert (found.path, found.manifest.counts.rows_kept) == (out / "v1", 1)
    (rejected,) = scan(out / "v1", RejectedTrace, "rejected")
    assert (rejected.reason, rejected.reasoning) == ("engine_error", "14 Z.")
    assert label(given, teacher, out, accepting, Run()).up_to_date
    with pytest.raises(Incomplete):
        label(given, teacher, out, OPTIONS, Run())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": EngineOptions(engine="openai", concurrency=None)}, "a server gives no"),
        ({"soft_labels": 513}, "--soft-labels 513: the vocabulary of"),
        (
            {"engine": EngineOptions(engine="transformers", concurrency=None, replicas=2)},
            "--replicas and --tensor-parallel-size need --engine vllm",
        ),
    ],
)
def test_what_cannot_be_is_said(
    traces: Path, teacher: str, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    options = msgspec.structs.replace(OPTIONS, **changes)
    with pytest.raises(UsageError, match=said):
        label([str(traces)], teacher, tmp_path / "out", options, Run())
    assert list(tmp_path.glob("out/v*")) == []


def test_a_row_without_an_answer_is_named(
    teacher: str, tmp_path: Path, make_trace: Callable[..., Trace]
) -> None:
    trace = make_trace()
    given = write(
        tmp_path / "t.jsonl", [msgspec.structs.replace(trace, messages=trace.messages[:1])]
    )
    with pytest.raises(DataError, match=r"row .*: its messages must end with an answer"):
        label([given], teacher, tmp_path / "out", OPTIONS, Run())


def test_a_checkpoint_is_no_dataset_to_label(
    teacher: str, tmp_path: Path, make_header: Callable[..., Header]
) -> None:
    with versions.draft(tmp_path / "student", make_header()) as draft:
        draft.manifest.kind, draft.manifest.id = "checkpoint", "of its files"
        draft.manifest.counts.rows_kept = 24  # those that it was trained on
        draft.finish("")
    with pytest.raises(UsageError, match=r"v1 is a checkpoint: give a dataset of traces"):
        label([str(tmp_path / "student")], teacher, tmp_path / "out", OPTIONS, Run())
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_is_there_and_how_many_bytes_the_labels_take(
    traces: Path, teacher: str, labelled: tuple[Path, Manifest], tmp_path: Path
) -> None:
    tokens = labelled[1].counts.tokens_kept
    found = forecast_label([str(traces)], teacher, tmp_path, OPTIONS, Run())
    assert found.rows == {"wanted": 24, "there already": 0, "to label": 24}
    assert found.estimate.tokens == tokens
    text_bytes = (traces / "v1" / "part-00000.jsonl").stat().st_size
    assert found.estimate.disk_bytes == tokens * (6 * K + 7) + text_bytes
    assert not list(tmp_path.iterdir())
    there = forecast_label([str(traces)], teacher, labelled[0], OPTIONS, Run(fresh=False))
    assert there.rows == {"wanted": 24, "there already": 24, "to label": 0}
    assert there.writes == f"nothing: {labelled[0] / 'v1'} is up to date"


def test_show_says_how_many_rows_have_labels_and_what_they_take(
    labelled: tuple[Path, Manifest], distill: Callable[..., Any]
) -> None:
    found = distill("show", labelled[0])
    num_bytes = sum(path.stat().st_size for path in files_of(labelled[0] / "v1"))
    assert f"24 rows with soft labels, which take {size(num_bytes)}" in found.out
    assert num_bytes > 100_000


def test_export_leaves_labels_out_and_says_so(
    labelled: tuple[Path, Manifest], traces: Path, tmp_path: Path, distill: Callable[..., Any]
) -> None:
    for name, source in (("with", labelled[0]), ("without", traces)):
        done = distill("export", source, "--format", "trl", "--out", tmp_path / f"{name}.jsonl")
        assert done.code == 0
        said = "the soft labels of 24 rows are left out: no other format holds them" in done.err
        assert said == (name == "with")
    assert sorted((tmp_path / "with.jsonl").read_bytes().splitlines()) == sorted(
        (tmp_path / "without.jsonl").read_bytes().splitlines()
    )

"""What lies in a checkpoint: complete, loadable, merged when asked, whole after a full disk."""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.errors import EngineError, UsageError
from distillpipe.base.hashing import file_sha256
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions, TrainingRun
from distillpipe.data.store import manifest as manifests
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import Model
from distillpipe.stages.run import Run
from distillpipe.stages.sft import sft
from distillpipe.training import checkpoint
from distillpipe.training.rows.rows import row_of
from distillpipe.training.student_config import limits_of, student_config

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-2, scheduler="constant", warmup=0.0,
    weight_decay=0.0, max_grad_norm=1.0, epochs=1, max_steps=2, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip
LORA = msgspec.structs.replace(OPTIONS, method="lora")
DROPS_REASONING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def traces(tmp_path: Path, make_traces: Callable[..., list[Trace]]) -> str:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in make_traces(8)))
    return str(path)


@pytest.fixture
def student(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, for a test to change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def found(folder: Path) -> Model:
    return lookup.find(str(folder), "--student")


def test_a_merged_model_is_complete_and_computes_what_the_adapter_does(
    tiny_model: Path,
    traces: str,
    tmp_path: Path,
    distill: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "student"
    first = sft([traces], str(tiny_model), out, LORA, Run()).manifest
    assert not (out / "v1" / "merged").exists()
    merging = sft([traces], str(tiny_model), out, LORA, Run(), TrainingRun(merge=True)).manifest
    said = capsys.readouterr().err
    assert f"copying the weights of {out / 'v1'}" in said
    assert "sft: merged: logits of up to " in said

    merged, base = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        for folder in (out / "latest" / "merged", tiny_model)
    )
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, out / "latest")(ids).logits
        assert (merged(ids).logits - adapted).abs().max() < 1e-4 * adapted.abs().max()
        assert (before - adapted).abs().max() > 1e-2  # the adapter does something
    chats = [load_chat(folder, "") for folder in (out / "v2", out / "v2" / "merged")]
    assert chats[0].tokenizer.chat_template == chats[1].tokenizer.chat_template
    same = [(out / "v2" / place / "generation_config.json").read_text() for place in ("", "merged")]
    assert same[0] == same[1]

    assert merging.id == first.id  # the same model, once more
    assert merging.counts.tokens_kept == first.counts.tokens_kept
    assert (out / "v1" / "losses.jsonl").read_text() == (out / "v2" / "losses.jsonl").read_text()
    assert {"merged/model.safetensors", "merged/tokenizer.json"} <= {
        one.name for one in merging.files
    }
    for entry in merging.files:
        assert file_sha256(out / "v2" / entry.name) == entry.sha256
    assert found(out / "latest" / "merged").base_folder is None
    again = sft([traces], str(tiny_model), out, LORA, Run())
    assert again.up_to_date and again.path == out / "v2"
    assert "merged in fp32: logits of up to" in (out / "v2" / "README.md").read_text()
    assert distill("show", out).code == 0


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter of the tiny model."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def test_an_adapter_of_another_base_is_refused_in_one_line(
    adapter: Path, repository: Path, teacher_chat: Chat, make_trace: Callable[..., Trace]
) -> None:
    other = found(repository / "data" / "quickstart" / "student-qwen")
    with pytest.raises(
        EngineError, match=r"does not fit .*student-qwen: it was trained on"
    ) as error:
        checkpoint.merge(adapter, other, teacher_chat, row_of(make_trace(), teacher_chat))
    assert "\n" not in str(error.value)


def test_a_merged_model_that_computes_something_else_is_refused(
    adapter: Path,
    tiny_model: Path,
    teacher_chat: Chat,
    make_trace: Callable[..., Trace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "TOLERANCE", -1.0)  # so that any difference is too large
    row = row_of(make_trace(), teacher_chat)
    with pytest.raises(EngineError, match=r"its logits differ by .* run again without --merge"):
        checkpoint.merge(adapter, found(tiny_model), teacher_chat, row)
    assert not (adapter / "merged").exists()


def test_merging_is_for_adapters(tiny_model: Path, traces: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--merge is for adapters"):
        sft([traces], str(tiny_model), tmp_path / "out", OPTIONS, Run(), TrainingRun(merge=True))
    assert not (tmp_path / "out").exists()


def test_an_adapter_names_a_base_of_the_hub_by_name_and_commit(
    adapter: Path, tiny_model: Path, teacher_chat: Chat, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter, tmp_path / "copy"))
    student = Model("Qwen/Qwen2.5-1.5B", tiny_model, "hub:Qwen/Qwen2.5-1.5B@0123abc")
    limits = limits_of(AutoConfig.from_pretrained(tiny_model))
    checkpoint.save_tokenizer_and_config(folder, student, teacher_chat, limits)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-1.5B"
    assert config["revision"] == "0123abc"


def test_the_advice_replaces_the_student_s_sampling_and_leaves_the_rest(tmp_path: Path) -> None:
    own = {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True,
        "eos_token_id": [7, 9], "pad_token_id": 3,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    checkpoint.generation_config(tmp_path, frozenset({9, 7, 5})).save_pretrained(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    del saved["transformers_version"]
    assert {name: value for name, value in saved.items() if name in own} == {
        **own, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [5, 7, 9],
    }  # fmt: skip
    bare = checkpoint.generation_config(tmp_path / "nowhere", frozenset({5}))
    assert (bare.do_sample, bare.temperature, bare.top_p) == (True, 0.6, 0.95)


def test_a_student_whose_template_drops_the_reasoning_gets_one_that_keeps_it(
    student: Path, traces: str, tmp_path: Path, make_traces: Callable[..., list[Trace]]
) -> None:
    (student / "chat_template.jinja").write_text(DROPS_REASONING)
    chat = load_chat(student, "own")
    trace = make_traces(8)[0]
    limit = max(len(row_of(one, chat).ids) for one in make_traces(8)) - 3
    options = msgspec.structs.replace(OPTIONS, max_steps=1, max_length=limit, over_length="cut")
    manifest = sft([traces], str(student), tmp_path / "out", options, Run()).manifest
    assert manifest.counts.rows_cut > 0
    assert manifest.counts.teachers["teacher"].rows_kept == 8

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "latest")
    messages = [
        {"role": "user", "content": trace.problem},
        {"role": "assistant", "content": trace.response, "reasoning_content": trace.reasoning},
    ]
    row = row_of(trace, chat)
    (line_feed,) = chat.ids("\n")
    assert tokenizer.apply_chat_template(messages, return_dict=False) == [*row.ids, line_feed]
    asked = tokenizer.apply_chat_template(
        messages[:1], return_dict=False, add_generation_prompt=True
    )
    assert asked == row.ids[: row.num_prompt]
    card = (tmp_path / "out" / "latest" / "README.md").read_text()
    assert "- teacher: teacher, 8 traces" in card
    assert "temperature 0.6, top_p 0.95, never greedy" in card
    assert "Loss: " in card and "at step 1, the last" in card


def test_a_larger_base_of_the_rotary_embeddings_is_trained_and_saved(
    tiny_model: Path,
    traces: str,
    tmp_path: Path,
    teacher_chat: Chat,
    make_traces: Callable[..., list[Trace]],
) -> None:
    options = msgspec.structs.replace(
        OPTIONS, rope_theta=300_000.0, max_length=2048, max_steps=1, batch_size=8
    )
    sft([traces], str(tiny_model), tmp_path / "out", options, Run())
    folder = tmp_path / "out" / "latest"
    saved = AutoConfig.from_pretrained(folder)
    assert saved.rope_parameters["rope_theta"] == 300_000.0
    assert saved.max_position_embeddings == 2048
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 2048
    assert AutoConfig.from_pretrained(tiny_model).rope_parameters["rope_theta"] == 10_000.0

    stretched = AutoModelForCausalLM.from_pretrained(tiny_model, config=saved, dtype=torch.float32)
    rows = [row_of(trace, teacher_chat) for trace in make_traces(8)]
    wanted = 0.0
    for row in rows:
        labels = torch.tensor([row.ids])
        labels[0, : row.num_prompt] = -100
        wanted += stretched(torch.tensor([row.ids]), labels=labels).loss.item() * row.num_supervised
    first = json.loads((folder / "losses.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(
        wanted / sum(row.num_supervised for row in rows), rel=1e-4
    )


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "options", "message"),
    [
        (None, {"rope_theta": 1000.0}, "has 10,000, and a longer context needs a larger value"),
        (None, {"rope_theta": 1e6, "method": "lora"}, "which an adapter does not contain"),
        (YARN, {"rope_theta": 1e6}, "has yarn rotary embeddings, and only plain ones"),
    ],
)  # fmt: skip
def test_a_context_that_cannot_be_stretched_is_refused(
    student: Path, rope: Any, options: dict[str, Any], message: str
) -> None:
    if rope is not None:
        config = json.loads((student / "config.json").read_text())
        (student / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}))
    with pytest.raises(UsageError, match=message):
        student_config(found(student), msgspec.structs.replace(OPTIONS, **options))


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """`limit_files(bytes)`: no file may grow beyond it, as if the disk were full."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


@pytest.mark.parametrize("size", [20_000, 400_000], ids=["model", "optimizer"])
def test_a_full_disk_during_a_save_is_one_line_and_the_same_command_goes_on(
    tiny_model: Path, traces: str, tmp_path: Path, limit_files: Callable[[int], None], size: int
) -> None:
    out = tmp_path / "out"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    limit_files(size)
    with pytest.raises(
        EngineError, match="the disk is full or a file size limit is reached"
    ) as error:
        sft([traces], str(tiny_model), out, OPTIONS, Run(), TrainingRun(save_every=1))
    assert "\n" not in str(error.value)
    assert [path.name for path in out.glob("v*")] == ["v1.partial"]
    limit_files(unlimited)
    manifest = sft(
        [traces], str(tiny_model), out, OPTIONS, Run(), TrainingRun(save_every=1)
    ).manifest
    assert manifests.read(out / "v1").id == manifest.id
    assert (manifest.counts.rows_read, manifest.counts.rows_kept) == (8, 8)
    assert manifest.counts.teachers["teacher"].rows_kept == 8
    assert AutoModelForCausalLM.from_pretrained(out / "latest").num_parameters() > 0


def test_a_preview_shows_rows_and_writes_nothing(
    tiny_model: Path, traces: str, tmp_path: Path, distill: Callable[..., Any]
) -> None:
    command = ("sft", traces, "--student", tiny_model, "--out", tmp_path / "out", "--preview", 2)
    shown = distill(*command)
    assert shown.code == 0
    assert shown.out.count("--- row ") == 2
    assert shown.out.count("<think>\n") == 2
    assert "What is 0+1?" in shown.out and "What is 2+1?" not in shown.out
    assert shown.err.startswith("sft: 8 rows, ")
    found = json.loads(distill(*command, "--json").out)["preview"]
    assert [row["supervised"] for row in found["rows"]] == [
        f"<think>\n{n}+1={n + 1}.\n</think>\n\n\\boxed{{{n + 1}}}<|im_end|>" for n in range(2)
    ]
    refused = distill(*command, "--max-length", 20)
    assert refused.code == 1
    assert "error: 8 of 8 rows are longer than --max-length 20 tokens" in refused.err
    assert not (tmp_path / "out").exists()

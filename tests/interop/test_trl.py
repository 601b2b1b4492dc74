"""TRL's SFTTrainer on an export: it trains, and what it trains on is the reasoning and the response."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store.manifest import Manifest
from distillpipe.models.chat import Chat
from distillpipe.stages.export import export

datasets: Any = pytest.importorskip("datasets", reason="no datasets: pip install datasets")
trl: Any = pytest.importorskip("trl", reason="no trl: pip install trl")
pytestmark = pytest.mark.slow


@pytest.fixture
def trainer(
    tmp_path: Path,
    write_dataset: Callable[..., Manifest],
    make_traces: Callable[..., list[Trace]],
    family_chat: Callable[[str], Chat],
) -> Any:
    """A trainer of a tiny random Qwen2 with a tokenizer that knows no tags, on four exported traces."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = family_chat("spelt").tokenizer
    write_dataset(tmp_path / "traces", make_traces(4))
    export(str(tmp_path / "traces"), tmp_path / "trl.jsonl", "trl", "inline", allow_benchmark=False)
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / "trl.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64, hidden_size=32, intermediate_size=64,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path / "trained"), max_steps=1, per_device_train_batch_size=4,
        bf16=False, use_cpu=True, report_to=[], save_strategy="no", gradient_checkpointing=False,
        disable_tqdm=True, learning_rate=1e-3,
    )  # fmt: skip
    return trl.SFTTrainer(
        Qwen2ForCausalLM(config), args=arguments, train_dataset=rows, processing_class=tokenizer
    )


def test_a_step_trains_on_reasoning_and_response_and_not_on_the_prompt(
    trainer: Any, make_traces: Callable[..., list[Trace]]
) -> None:
    tokenizer = trainer.processing_class
    batch = next(iter(trainer.get_train_dataloader()))
    texts = {}
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        supervised = [int(label) for label in labels if label != -100]
        assert supervised == [
            int(one) for one, label in zip(ids, labels, strict=True) if label != -100
        ]
        texts[tokenizer.decode(supervised)] = tokenizer.decode(ids)

    wanted = [
        f"<think>\n{trace.reasoning}\n</think>\n\n{trace.response}<|im_end|>"
        for trace in make_traces(4)
    ]
    assert sorted(text.rstrip("\n") for text in texts) == sorted(wanted)
    for supervised, whole in texts.items():
        assert "What is" in whole and "What is" not in supervised

    before = trainer.model.lm_head.weight.detach().clone()
    result = trainer.train()
    assert result.global_step == 1
    assert 5 < result.training_loss < 8  # the logarithm of the vocabulary is 6.2
    assert not before.equal(trainer.model.lm_head.weight)

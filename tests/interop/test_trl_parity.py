"""Our loop and TRL's SFTTrainer on the same model, rows and order: the same losses."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.training import loop, states
from distillpipe.training.rows.batches import Batches
from distillpipe.training.rows.rows import IGNORED, row_of
from distillpipe.training.rows.stored_rows import StoredRows, store

datasets: Any = pytest.importorskip("datasets", reason="no datasets: pip install datasets")
trl: Any = pytest.importorskip("trl", reason="no trl: pip install trl")
pytestmark = pytest.mark.slow

NUM_STEPS, BATCH_SIZE = 100, 4
OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.05,
    weight_decay=0.1, max_grad_norm=1.0, epochs=1, max_steps=None, batch_size=BATCH_SIZE,
    max_length=512, dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip


@pytest.fixture
def rows(make_trace: Callable[..., Trace], teacher_chat: Chat, tmp_path: Path) -> StoredRows:
    """400 rows of one to four steps."""

    def trace(number: int) -> Trace:
        total, steps = number % 17 + 2, []
        for more in range(number % 4 + 1):
            steps.append(f"Finds {more}: {total}+{more}={total + more}.")
            total += more
        return make_trace(
            problem=f"Mia has {number} pens. Mia finds some pens. How many pens does Mia have now?",
            reasoning="\n".join(steps),
            response=f"\\boxed{{{total}}}",
        )

    traces = map(trace, range(NUM_STEPS * BATCH_SIZE))
    return store(tmp_path / "rows", (row_of(one, teacher_chat) for one in traces))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_losses_of_a_hundred_steps_are_those_of_trl(
    tmp_path: Path, repository: Path, rows: StoredRows, teacher_chat: Chat, accumulation: int
) -> None:
    student = lookup.find(str(repository / "data/quickstart/student-qwen"), "--student")
    (tmp_path / "ours").mkdir()
    loop.train(student, rows, tmp_path / "ours", OPTIONS, save_every=1000)
    lines = (tmp_path / "ours" / states.LOSSES).read_bytes().splitlines()
    ours = [msgspec.json.decode(line, type=states.Step) for line in lines]

    steps = islice(Batches(rows, OPTIONS).steps(), NUM_STEPS)
    ordered = [rows[int(number)] for step in steps for number in step]
    theirs = losses_of_trl(student.folder, ordered, teacher_chat, tmp_path / "trl", accumulation)

    assert len(ours) == len(theirs) == NUM_STEPS
    assert theirs[-1]["loss"] < theirs[0]["loss"] / 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.loss == pytest.approx(other["loss"], abs=1e-3)
        assert one.grad_norm == pytest.approx(other["grad_norm"], rel=1e-2, abs=1e-3)
        assert one.learning_rate == pytest.approx(other["learning_rate"], rel=1e-6, abs=1e-12)


def losses_of_trl(
    student: Path, ordered: list[Any], chat: Chat, out: Path, accumulation: int
) -> list[dict[str, float]]:
    """What TRL logs of each step."""
    from transformers import AutoModelForCausalLM

    columns = {
        "input_ids": [row.ids for row in ordered],
        "labels": [[IGNORED] * row.num_prompt + row.ids[row.num_prompt :] for row in ordered],
    }
    arguments = trl.SFTConfig(
        output_dir=str(out), num_train_epochs=1, train_sampling_strategy="sequential",
        per_device_train_batch_size=BATCH_SIZE // accumulation,
        gradient_accumulation_steps=accumulation,
        learning_rate=1e-3, lr_scheduler_type="cosine", warmup_steps=5, weight_decay=0.1,
        adam_beta1=0.9, adam_beta2=0.95, optim="adamw_torch_fused", max_grad_norm=1.0,
        max_length=None, dataset_kwargs={"skip_prepare_dataset": True},
        bf16=False, use_cpu=True, gradient_checkpointing=False, save_strategy="no", report_to=[],
        logging_steps=1, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=chat.tokenizer,
    )
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line]

"""The model in training: load it, add an adapter, make optimizer and schedule, save it."""

import importlib.util
import logging
from pathlib import Path
from typing import Any, cast

import torch
from transformers import get_scheduler

from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.requirements import install_command
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading
from distillpipe.models.lookup import Model
from distillpipe.training.student_config import student_config

logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns about tied weights at every save


def load_student(
    student: Model, options: TrainingOptions, device: torch.device | None = None
) -> Any:
    """The student in fp32, with an adapter for lora and qlora; for qlora the base has 4 bits a weight.

    Quantized weights are loaded on `device`, others on the CPU.
    """
    arguments: dict[str, Any] = {
        "config": student_config(student, options),
        "dtype": torch.float32,
    }
    if options.method == "qlora":
        arguments |= {"quantization_config": _four_bits(), "device_map": {"": device or "cpu"}}
    model = loading.load_model(student.folder, f"--student {student.name}", **arguments)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return add_adapter(model, options)


def add_adapter(model: Any, options: TrainingOptions) -> Any:
    """The model to train: the model itself for --method full, else with a LoRA adapter on all linear layers."""
    if options.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _four_bits() -> Any:
    """NF4 with double quantization and bf16 arithmetic, the settings of QLoRA (arXiv 2305.14314, section 3)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            "--method qlora needs bitsandbytes, which is not installed: "
            f"{install_command('bitsandbytes')}; or give --method lora"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def base_model(model: Any) -> Any:
    """The transformer without its head, including the adapter's layers."""
    unwrapped = model.get_base_model() if hasattr(model, "get_base_model") else model
    return unwrapped.base_model


def make_optimizer(model: Any, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW with weight decay for matrices but not for biases and norms, as in transformers' Trainer."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {
            "params": [weight for weight in trained if weight.ndim > 1],
            "weight_decay": options.weight_decay,
        },
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = cast("float", options.learning_rate)  # the stage has set a default
    betas = (options.adam_beta1, options.adam_beta2)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def make_schedule(optimizer: Any, options: TrainingOptions, num_steps: int) -> Any:
    """The learning-rate schedule of transformers, rescaled to end at `min_learning_rate`.

    With cosine it equals transformers' cosine_with_min_lr. Warmup starts at 0 in any case, as there.
    """
    warmup = round(options.warmup * num_steps)
    schedule = get_scheduler(options.scheduler, optimizer, warmup, num_steps)
    if not options.min_learning_rate:
        return schedule
    base_factor = schedule.lr_lambdas[0]
    floor = options.min_learning_rate / cast("float", options.learning_rate)

    def factor(step: int) -> float:
        scale: float = base_factor(step)
        return scale if step < warmup else scale * (1 - floor) + floor

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def save_student(
    trained: Any, student: Model, folder: Path, full_weights: dict[str, torch.Tensor] | None = None
) -> None:
    """Save the weights in the dtype of the student's own weights; an adapter stays fp32.

    `full_weights`: all weights by name, if `trained` is sharded.
    """
    if hasattr(trained, "peft_config"):
        trained.save_pretrained(folder, state_dict=full_weights)
        return
    dtype = loading.load_config(student.folder, student.name).dtype or torch.float32
    if full_weights is None:
        trained.to(dtype).save_pretrained(folder)
        return
    tied = getattr(trained, "all_tied_weights_keys", None) or {}
    weights = {name: value.to(dtype) for name, value in full_weights.items() if name not in tied}
    trained.save_pretrained(folder, state_dict=weights)
    config = loading.load_config(folder, str(folder))
    config.dtype = dtype  # save_pretrained wrote the dtype of the shards
    config.save_pretrained(folder)

"""The model that is trained: loaded, with an adapter around it for lora, its optimizer, and written."""

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

logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every save


def load_student(
    student: Model, options: TrainingOptions, device: torch.device | None = None
) -> Any:
    """The student with fp32 weights, an adapter around it for lora and qlora; for qlora in 4 bits.

    Quantized weights are on `device`, others on the CPU.
    """
    how: dict[str, Any] = {"config": student_config(student, options), "dtype": torch.float32}
    if options.method == "qlora":
        how |= {"quantization_config": _four_bits(), "device_map": {"": device or "cpu"}}
    model = loading.load_model(student.folder, f"--student {student.name}", **how)
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return adapted(model, options)


def adapted(model: Any, options: TrainingOptions) -> Any:
    """The model that is trained: itself, or with an adapter around it."""
    if options.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _four_bits() -> Any:
    """NF4 with quantized constants, computed in bf16: the settings of QLoRA (arXiv 2305.14314, section 3)."""
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
    """The transformer below the head, with the adapter's layers in it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model


def optimizer_of(model: Any, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW; matrices decay, biases and norms do not, as in transformers' trainer."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = cast("float", options.learning_rate)  # derived, where none was given, before all this
    betas = (options.adam_beta1, options.adam_beta2)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)


def schedule_of(optimizer: Any, options: TrainingOptions, num_steps: int) -> Any:
    """The course of the learning rate over the steps: transformers' own, scaled to end at `min_learning_rate`.

    With cosine that is its cosine_with_min_lr. Warm-up begins at 0 in any case, as there.
    """
    warmup = round(options.warmup * num_steps)
    schedule = get_scheduler(options.scheduler, optimizer, warmup, num_steps)
    if not options.min_learning_rate:
        return schedule
    course = schedule.lr_lambdas[0]
    floor = options.min_learning_rate / cast("float", options.learning_rate)

    def factor(step: int) -> float:
        found: float = course(step)
        return found if step < warmup else found * (1 - floor) + floor

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def save_student(
    trained: Any, student: Model, folder: Path, whole: dict[str, torch.Tensor] | None = None
) -> None:
    """Write the weights in the type that the student's own have; an adapter stays fp32.

    `whole`: all weights by name, where `trained` has only a share of them.
    """
    if hasattr(trained, "peft_config"):
        trained.save_pretrained(folder, state_dict=whole)
        return
    dtype = loading.load_config(student.folder, student.name).dtype or torch.float32
    if whole is None:
        trained.to(dtype).save_pretrained(folder)
        return
    tied = getattr(trained, "all_tied_weights_keys", None) or {}
    weights = {name: value.to(dtype) for name, value in whole.items() if name not in tied}
    trained.save_pretrained(folder, state_dict=weights)
    config = loading.load_config(folder, str(folder))
    config.dtype = dtype  # it names that of the shares
    config.save_pretrained(folder)

"""The model that is trained: loaded, with an adapter around it for lora, its optimizer, and written."""

import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from distillpipe.errors import EngineError, first_line
from distillpipe.models import Model
from distillpipe.records import TrainingOptions
from distillpipe.training.context import student_config

disable_progress_bar()  # of loading, which is quick and would break our own
logging.getLogger("accelerate").setLevel(logging.ERROR)  # it warns of tied weights at every save


def load_student(student: Model, options: TrainingOptions) -> Any:
    """The student with fp32 weights, an adapter around it for lora."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            student.folder, config=student_config(student, options), dtype=torch.float32
        )
    except (OSError, ValueError, ImportError) as error:
        raise EngineError(
            f"--student {student.name} could not be loaded: {first_line(error)}"
        ) from error
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


def base_model(model: Any) -> Any:
    """The transformer below the head, with the adapter's layers in it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model


def optimizer_of(model: Any, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW with the betas of s1; matrices decay, biases and norms do not, as in transformers' trainer."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.95), fused=True)


def save_student(accelerator: Accelerator, model: Any, student: Model, folder: Path) -> None:
    """Write the weights in the type that the student's own have; an adapter stays fp32."""
    unwrapped = accelerator.unwrap_model(model)
    if not hasattr(unwrapped, "peft_config"):
        unwrapped.to(AutoConfig.from_pretrained(student.folder).dtype or torch.float32)
    unwrapped.save_pretrained(folder)

"""The model in training: load it, add an adapter, make optimizer and schedule, save it."""

import importlib.util
import logging
from pathlib import Path
from typing import Any, cast

import torch
from transformers import get_scheduler
from transformers.pytorch_utils import Conv1D

from distillpipe.base.errors import MissingDependencyError
from distillpipe.base.requirements import install_command
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading
from distillpipe.models.lookup import Model
from distillpipe.training.student_config import student_config

ROUTERS = ("router", "gate")  # parts of names of layers that choose experts; `gate_proj` is none
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3")

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
    """The model to train: its text layers for --method full, else with a LoRA adapter on their linear layers."""
    if options.method == "full":
        freeze_towers(model)
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=adapted_layers(model),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def freeze_towers(model: Any) -> None:
    """Train the text model and its head only: images and sounds are never read, so their towers get no gradient."""
    trained = {id(weight) for weight in model.get_decoder().parameters()}
    trained |= {id(weight) for weight in model.get_output_embeddings().parameters()}
    for weight in model.parameters():
        if id(weight) not in trained:
            weight.requires_grad_(False)


def adapted_layers(model: Any) -> list[str]:
    """Names of the linear layers that get an adapter: of attention, recurrent layers and feed-forward layers.

    The head, routers and the towers of other inputs are left as they are, and in a mixture of experts all
    feed-forward layers: peft takes their names for the experts, whose weights are one tensor and no layers.
    """
    head = model.get_output_embeddings()
    inside = {id(module) for module in model.get_decoder().modules()}
    left_out = (*ROUTERS, *FEED_FORWARD) if has_experts(model) else ROUTERS
    return [
        name
        for name, module in model.named_modules()
        if id(module) in inside
        and module is not head
        and isinstance(module, torch.nn.Linear | Conv1D)
        and not any(part in left_out or part.endswith("_gate") for part in name.split(".")[-2:])
    ]


def has_experts(model: Any) -> bool:
    """Whether the model is a mixture of experts."""
    return any(name.endswith(".experts") for name, _ in model.named_modules())


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


def without_adapter(model: Any) -> Any:
    """The causal language model inside a PEFT model, whose layers are the adapter's; or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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

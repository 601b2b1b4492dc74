"""FSDP: each process keeps a shard of all weights, gradients and moments, and gathers one layer at a time.

We call torch's `fully_shard` ourselves, because accelerate's FSDP runs on accelerators only, and ours is tested on the
CPU.
"""

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard(model: Any, device: torch.device, dtype: str) -> None:
    """Shard `model.model` layer by layer; the weights outside the layers form one more unit.

    With bf16, weights are gathered in bf16 and gradients are reduced in fp32; shards stay fp32.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = half if dtype == "bf16" else MixedPrecisionPolicy()
    layers = model.model._no_split_modules or ()
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def full_weights(model: Any) -> dict[str, torch.Tensor]:
    """All unsharded weights of `model.model` by name, on the CPU of the first process; {} in the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    return {
        name.removeprefix("model."): value
        for name, value in state.items()
        if name.startswith("model.")  # without the learned projections of `StudentLoss`
    }


def save(folder: Path, model: Any, optimizer: Any) -> None:
    """Write the shards of all processes."""
    weights, moments = get_state_dict(model, optimizer)
    state_dict_saver.save({"model": weights, "optimizer": moments}, checkpoint_id=folder)


def load(folder: Path, model: Any, optimizer: Any) -> None:
    """Read the shards of this process; the number of processes may have changed since they were written."""
    weights, moments = get_state_dict(model, optimizer)
    state: dict[str, Any] = {"model": weights, "optimizer": moments}
    state_dict_loader.load(state, checkpoint_id=folder)
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"]
    )

"""FSDP: each process keeps a share of all weights, gradients and moments, and gathers a layer while it needs it.

By torch's own `fully_shard`, which runs on the CPU, too, so that it can be tested there; accelerate's way to it
is for accelerators only.
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
    """Give each process its share of `model.model`, layer by layer; what is in no layer is one unit.

    In bf16 weights are gathered in bf16 and gradients summed in fp32; shares stay fp32.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    policy = half if dtype == "bf16" else MixedPrecisionPolicy()
    layers = model.model._no_split_modules or ()
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def whole(model: Any) -> dict[str, torch.Tensor]:
    """All weights of `model.model` by name, on the CPU, in the first process; empty in the others."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: dict[str, Any] = get_model_state_dict(model, options=options)
    return {
        name.removeprefix("model."): value
        for name, value in found.items()
        if name.startswith("model.")  # a learnt projection is none of them
    }


def save(folder: Path, model: Any, optimizer: Any) -> None:
    """Write the shares of all processes."""
    weights, moments = get_state_dict(model, optimizer)
    state_dict_saver.save({"model": weights, "optimizer": moments}, checkpoint_id=folder)


def load(folder: Path, model: Any, optimizer: Any) -> None:
    """Read the shares of this process, by however many they were written."""
    weights, moments = get_state_dict(model, optimizer)
    found: dict[str, Any] = {"model": weights, "optimizer": moments}
    state_dict_loader.load(found, checkpoint_id=folder)
    set_state_dict(
        model, optimizer, model_state_dict=found["model"], optim_state_dict=found["optimizer"]
    )

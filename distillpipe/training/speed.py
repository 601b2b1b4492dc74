"""How fast a step was: tokens a second, floating point operations, the share of the device's peak (MFU), memory.

Operations are those of the arithmetic itself (PaLM, arXiv 2204.02311, appendix B): what gradient checkpointing does
again is not counted, and neither are embeddings, norms and softmax. A weight of a matrix costs a token 2 in the forward pass, 2 in
the backward pass for the gradient of its input and, where it is trained, 2 for its own: so 6N for full training, 4N for
an adapter, whose own weights cost 6. The head is used at supervised positions only. Causal attention over a row of T
tokens is half a square: 6 T^2 for each number of the queries of a layer, forward and backward together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from distillpipe.base.devices import peak_of
from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.training.rows.rows import Row
from distillpipe.training.states import Step

FORWARD, BACKWARD, BACKWARD_OF_WEIGHT = 2, 2, 2  # operations a weight and token


class Work(NamedTuple):
    """Operations that training costs, forward and backward."""

    of_token: int
    of_label: int
    "in the head, for a supervised token"
    of_square: int
    "in attention, times the square of the length of each row"

    def of_rows(self, rows: Sequence[Row]) -> int:
        """Operations of some rows."""
        tokens = sum(len(row.ids) for row in rows)
        squares = sum(len(row.ids) ** 2 for row in rows)
        labels = sum(row.num_supervised for row in rows)
        return self.of_token * tokens + self.of_label * labels + self.of_square * squares


def work_of(model: Any) -> Work | None:
    """What training `model` costs; None where it has matrices that are not plain linear layers, as of experts."""
    head, counted, of_token, of_label = model.get_output_embeddings(), set[int](), 0, 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            trained = module.weight.requires_grad
            operations = module.in_features * module.out_features * _a_weight(trained=trained)
            if module is head:
                of_label = operations
            else:
                of_token += operations
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            counted.add(id(module.weight))
    if any(one.ndim > 1 and id(one) not in counted for one in model.parameters()):
        return None
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Work(of_token, of_label, 6 * config.num_hidden_layers * heads * size)


def _a_weight(*, trained: bool) -> int:
    return FORWARD + BACKWARD + (BACKWARD_OF_WEIGHT if trained else 0)


def device_peak(device: torch.device, dtype: str) -> float | None:
    """The same of a device, for training in `dtype`; None but for bf16 on CUDA."""
    if device.type != "cuda" or dtype != "bf16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_bytes() -> int:
    """The most memory that torch held on GPUs so far; without one, that this process had resident."""
    return peak_gpu_memory() or peak_memory()


def summary(steps: Sequence[Step]) -> dict[str, Any]:
    """What the manifest says of all steps: means over their time, the largest memory, the last losses."""
    seconds = sum(step.seconds for step in steps)
    known = [step for step in steps if step.mfu is not None]
    known_seconds = sum(step.seconds for step in known)
    return {
        "loss": steps[-1].loss if steps else None,
        "eval_loss": steps[-1].eval_loss if steps else None,
        "tokens_per_second": sum(step.tokens for step in steps) / seconds if seconds else None,
        "supervised_tokens_per_second": (
            sum(step.supervised_tokens for step in steps) / seconds if seconds else None
        ),
        "mfu": (
            sum((step.mfu or 0.0) * step.seconds for step in known) / known_seconds
            if known_seconds
            else None
        ),
        "peak_memory_bytes": max((step.peak_memory_bytes for step in steps), default=None),
    }

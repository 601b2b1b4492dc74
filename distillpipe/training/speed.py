"""The speed of a step: throughput, floating point operations, model FLOPs utilisation (MFU) and peak memory.

We count the operations of the model itself (PaLM, arXiv 2204.02311, appendix B). Recomputation by gradient
checkpointing does not count, nor do embeddings, norms and softmax. A matrix weight costs a token 2 operations in the
forward pass, 2 for the gradient of the input and, if it is trained, 2 for its own gradient: 6N for full training, 4N
for an adapter, whose own weights cost 6. The head runs at supervised positions only. Causal attention over a row of T
tokens computes half a square: 6 T^2 for each query value of a layer, forward and backward together.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from distillpipe.base.devices import peak_of
from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.training.rows.rows import Row
from distillpipe.training.states import Step

FORWARD, BACKWARD, BACKWARD_OF_WEIGHT = 2, 2, 2  # operations a weight and token


class OperationCounts(NamedTuple):
    """Floating point operations of training, forward and backward."""

    of_token: int
    of_label: int
    "of the head, for each supervised token"
    of_square: int
    "of attention, for the squared length of each row"

    def of_rows(self, rows: Sequence[Row]) -> int:
        """Operations of these rows."""
        tokens = sum(len(row.ids) for row in rows)
        squares = sum(len(row.ids) ** 2 for row in rows)
        labels = sum(row.num_supervised for row in rows)
        return self.of_token * tokens + self.of_label * labels + self.of_square * squares


def operation_counts(model: Any) -> OperationCounts | None:
    """The operations of training `model`; None if it has experts, or layers other than full attention."""
    config = model.config.get_text_config()
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        return None
    head, counted, of_token, of_label = model.get_output_embeddings(), set[int](), 0, 0
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            cost = FORWARD + BACKWARD
            cost += BACKWARD_OF_WEIGHT if module.weight.requires_grad else 0
            operations = module.in_features * module.out_features * cost
            if module is head:
                of_label = operations
            else:
                of_token += operations
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            counted.add(id(module.weight))
    if any(weight.ndim > 1 and id(weight) not in counted for weight in model.parameters()):
        return None
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return OperationCounts(of_token, of_label, 6 * config.num_hidden_layers * heads * size)


def device_peak(device: torch.device, dtype: str) -> float | None:
    """The peak operations a second of a device for training in `dtype`; None unless it is bf16 on CUDA."""
    if device.type != "cuda" or dtype != "bf16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_bytes() -> int:
    """The peak memory of torch on the GPUs so far; without a GPU, the peak resident memory of this process."""
    return peak_gpu_memory() or peak_memory()


def summary(steps: Sequence[Step]) -> dict[str, Any]:
    """The metrics of the manifest: means weighted by time, the peak memory, the last losses."""
    seconds = sum(step.seconds for step in steps)
    with_mfu = [step for step in steps if step.mfu is not None]
    seconds_with_mfu = sum(step.seconds for step in with_mfu)
    return {
        "loss": steps[-1].loss if steps else None,
        "eval_loss": steps[-1].eval_loss if steps else None,
        "tokens_per_second": sum(step.tokens for step in steps) / seconds if seconds else None,
        "supervised_tokens_per_second": (
            sum(step.supervised_tokens for step in steps) / seconds if seconds else None
        ),
        "mfu": (
            sum((step.mfu or 0.0) * step.seconds for step in with_mfu) / seconds_with_mfu
            if seconds_with_mfu
            else None
        ),
        "peak_memory_bytes": max((step.peak_memory_bytes for step in steps), default=None),
    }

"""What training would take: memory from a forward pass of a model without weights, time from a matrix product.

Memory is what stays allocated until the backward pass: weights, gradients and AdamW's two moments in fp32, the bf16
copies that autocast keeps, the activations that autograd saves in the largest forward pass, and a chunk of logits.
The activations are counted, not guessed: the model is built of fake tensors, which have shapes and no
content, and every tensor that its layers save is added up (those of an adapter, which are small, left out). Time is the arithmetic (see `speed`) at the speed of
a product of matrices as large as the model's, measured here, of which training reaches a share.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, PretrainedConfig

from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading
from distillpipe.training.expected import Length
from distillpipe.training.losses.token_losses import CHUNK_LOGITS
from distillpipe.training.rows.packing import best_fit, capacity
from distillpipe.training.speed import work_of
from distillpipe.training.student import adapted

FP32_BYTES, BF16_BYTES = 4, 2
LARGEST_WIDTH = 1 << 14  # of the product that is timed: a gigabyte
EFFICIENCY = 0.5  # of the speed of a large product of matrices
CAUSAL = "distillpipe_causal"
LOGITS_COPIES = 3  # logits, their softmax and their gradient


class Prediction(NamedTuple):
    """What training would take."""

    memory_bytes: int
    "on the device, of one process"
    disk_bytes: int
    "of the checkpoint and two states to resume from"
    operations: float | None
    "null for a model whose arithmetic is not counted, as of experts"
    seconds: float | None


def predict(
    config: PretrainedConfig,
    options: TrainingOptions,
    rows: Sequence[Length],
    num_rows: float,
    device: torch.device,
) -> Prediction:
    """What training takes on `num_rows` rows like `rows`, repeats included.

    Nothing is allocated but some matrices for a moment.
    """
    largest = _largest_pass(rows, options)
    with torch.device("meta"):
        model = adapted(loading.build(config, dtype=torch.float32), options)
    memory = _state_bytes(model, options) + _saved_bytes(config, options, largest.tokens)
    memory += LOGITS_COPIES * FP32_BYTES * _logits(model, largest.supervised)
    numels = [(one.numel(), one.requires_grad) for one in model.parameters()]
    written = FP32_BYTES * sum(number for number, trained in numels if trained)
    disk = written + 2 * (3 * written)
    work = work_of(model)
    if work is None:
        return Prediction(memory, disk, None, None)
    a_row = [
        work.of_token * row.tokens + work.of_label * row.supervised + work.of_square * row.tokens**2
        for row in rows
    ]
    operations = num_rows * sum(a_row) / len(rows)
    speed = EFFICIENCY * product_speed(config, options, largest.tokens, device)
    return Prediction(memory, disk, operations, operations / speed)


def product_speed(
    config: PretrainedConfig, options: TrainingOptions, num_tokens: int, device: torch.device
) -> float:
    """Operations a second of the product of a pass's states with a layer's weights, the quickest of some."""
    text = config.get_text_config()
    sizes = (text.hidden_size, getattr(text, "intermediate_size", 4 * text.hidden_size))
    width, inner = (min(size, LARGEST_WIDTH) for size in sizes)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    rows = min(num_tokens, 8192)
    states = torch.randn(rows, width, device=device, dtype=dtype)
    weights = torch.randn(width, inner, device=device, dtype=dtype)
    # of this thread on the CPU, which others may use, too: the others of a product work as long
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    seconds = []
    for _ in range(10):
        started = clock()
        (states @ weights)[0, 0].item()  # waits for the device
        seconds.append(clock() - started)
    return float(2 * rows * width * inner / min(seconds))


def _largest_pass(rows: Sequence[Length], options: TrainingOptions) -> Length:
    """The largest forward pass of any step, had the steps these rows in their order."""
    limit = capacity(options.max_length)
    found = Length(0, 0)
    for first in range(0, len(rows), options.batch_size):
        step = rows[first : first + options.batch_size]
        for numbers in best_fit([row.tokens for row in step], limit):
            tokens = sum(step[number].tokens for number in numbers)
            supervised = sum(step[number].supervised for number in numbers)
            found = Length(max(found.tokens, tokens), max(found.supervised, supervised))
    return found


def _state_bytes(model: Any, options: TrainingOptions) -> int:
    """Weights, gradients, AdamW's moments, and bf16 copies of the matrices."""
    weights = list(model.parameters())
    trained = sum(one.numel() for one in weights if one.requires_grad)
    found: int = FP32_BYTES * (sum(one.numel() for one in weights) + 3 * trained)
    if options.dtype == "bf16":
        found += BF16_BYTES * sum(one.numel() for one in weights if one.ndim > 1)
    return found


def _saved_bytes(config: PretrainedConfig, options: TrainingOptions, num_tokens: int) -> int:
    """What autograd keeps of one line of `num_tokens`; a storage that is saved twice counts once."""
    saved: dict[int, torch.Tensor] = {}  # held, so that no address is used twice
    half = options.dtype == "bf16"
    with FakeTensorMode():
        model = loading.build(config, dtype=torch.float32)
        model.set_attn_implementation(CAUSAL)
        weights = {one.untyped_storage()._cdata for one in model.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=half),
        ):
            ids = torch.zeros(1, num_tokens, dtype=torch.long)
            model.train().base_model(input_ids=ids, use_cache=False)
    sizes = {at: one.untyped_storage().nbytes() for at, one in saved.items() if at not in weights}
    found = sum(sizes.values())
    if not options.gradient_checkpointing:
        return found
    text = config.get_text_config()  # the inputs of all layers, and one layer at a time anew
    layers, width = int(text.num_hidden_layers), int(text.hidden_size)
    return found // layers + FP32_BYTES * num_tokens * width * layers


def _causal_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
    scaling: float | None = None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers asks for it, without the mask that it makes where there is no content."""
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return mixed.transpose(1, 2).contiguous(), None


def _logits(model: Any, num_supervised: int) -> int:
    """Numbers in the logits of a chunk."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    return int(min(num_supervised * vocabulary, max(CHUNK_LOGITS, vocabulary)))


AttentionInterface.register(CAUSAL, _causal_attention)

"""The forecast of `sft --dry-run`: rows, steps, memory, time and disk on this machine.

Memory has a closed form in the shapes of the model (`shapes`): no model is built and torch is not imported. Of one
process, in bytes:

    weights      4 a weight; qlora: 4 bits and their quantization constants a weight of a linear layer
    optimizer    8 a trained weight, the two moments of AdamW; 4 more for its gradient
    copies       2 a weight of a matrix in bf16, which autocast keeps until the backward pass
    activations  what autograd saves of each layer: values a token times the tokens of the largest pass; with
                 gradient checkpointing the inputs of all layers and the activations of one
    logits       three times a chunk (`CHUNK_LOGITS`) of fp32, and the gradient of the head

FSDP divides weights, gradients and moments by the number of processes. It gathers the weights outside the layers, and
two layers at a time. Memory peaks at the loss, where all activations exist, or at the end of the backward pass, where
all gradients exist. Time is the number of operations of the step (see `speed`) at a share of the device's speed.
docs/log.md compares the forecast with measurements (scripts/bench/memory_forecast.py).
"""

import math
import time
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from distillpipe.base import devices
from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.forecast import TEXT_BYTES_PER_TOKEN, Forecast, size
from distillpipe.data.store import dataset
from distillpipe.data.store.dataset import Dataset
from distillpipe.models import loading, lookup
from distillpipe.models.lookup import Model
from distillpipe.training.passes import CHUNK_LOGITS, best_fit, capacity
from distillpipe.training.shapes import Layer, Shapes, read_shapes

if TYPE_CHECKING:
    from distillpipe.training.teachers.soft_rows import SoftRows

FIRST_ROWS = 1000  # of each input, whose lengths represent all rows
FP32_BYTES, BF16_BYTES = 4, 2
# NF4: a byte a block of 64 weights, four bytes a block of 256 such bytes
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)
LOGITS_COPIES = 3  # logits, their softmax and their gradient
LIVE_COPIES = {"forward": (5.0, 3.25), "reverse": (5.0, 3.25), "js": (6.0, 6.5)}
"The same for the student, and for each live teacher on top: measured; forward needs up to a tenth less."
GATHERED_LAYERS = 2  # of FSDP: the layer in use and the next one
LARGEST_PRODUCT = (
    1024,
    2048,
    2048,
)  # the largest matrix product that is timed: 9 billion operations
EFFICIENCY = 0.5  # as a share of the speed of a large matrix product on the CPU
GPU_EFFICIENCY = 0.35  # as a share of the peak of a GPU


class Length(NamedTuple):
    """The length of a row in tokens."""

    tokens: int
    supervised: int


class Machine(NamedTuple):
    """The device and the processes that train."""

    is_cuda: bool
    name: str
    "of the GPU"
    num_processes: int = 1
    is_sharded: bool = False


class Memory(NamedTuple):
    """Memory of one process on its device, in bytes."""

    weights: int
    moments: int
    gradients: int
    copies: int
    "bf16 copies of weights: those of autocast, or those that FSDP gathers"
    activations: int
    loss: int
    total: int
    "the peak, which is less than the sum of the above"


def detect_machine(num_processes: int, sharding: str) -> Machine:
    """The GPU, if torch is built for it, else the CPU; torch is not imported."""
    cards = devices.graphics_cards()
    is_cuda = bool(cards) and not metadata.version("torch").endswith("+cpu")
    return Machine(is_cuda, cards[0][0] if is_cuda else "", num_processes, sharding == "fsdp")


def add_rows(
    forecast: Forecast, inputs: list[Dataset], options: TrainingOptions
) -> tuple[list[Length], float]:
    """Add the number of rows and steps to `forecast`.

    Returns the lengths of the first rows, and the number of rows to train on, repeats included.
    """
    rows = [dataset.count_rows([source]) for source in inputs]
    an_epoch = _rows_an_epoch(rows, options)
    steps = math.ceil(an_epoch / options.batch_size) * options.epochs
    steps = min(steps, options.max_steps or steps)
    forecast.rows = {"to train on": sum(rows), "steps": steps}
    return _first_lengths(inputs, options), min(
        steps * options.batch_size, an_epoch * options.epochs
    )


def add_soft_labels(
    forecast: Forecast, inputs: Iterable[Iterable[Trace]], soft_rows: "SoftRows"
) -> None:
    """Add a note with the share of the first rows that have soft labels; UsageError for another vocabulary."""
    num_rows = num_labelled = 0
    for traces in inputs:
        for trace in islice(traces, FIRST_ROWS):
            num_rows += 1
            if trace.soft_labels is not None:
                soft_rows.check(trace.soft_labels)
                num_labelled += 1
    forecast.notes.append(f"{num_labelled:,} of the first {num_rows:,} rows have soft labels")


def add_estimate(  # noqa: PLR0913 - all that a run depends on
    forecast: Forecast,
    student: Model,
    teachers: list[Model],
    options: TrainingOptions,
    lengths: Sequence[Length],
    num_rows: float,
    machine: Machine,
) -> None:
    """Add memory, time and disk to `forecast`; without `lengths`, memory is that of rows of --max-length."""
    name = f"--student {student.name}"
    if options.rope_theta is not None:
        from distillpipe.training.student_config import student_config

        student_config(student, options)  # raises if --rope-theta does not apply
    shapes = read_shapes(loading.text_config(student.folder, name), student.folder, name)
    rows = lengths or [Length(options.max_length, options.max_length)]
    largest = largest_pass(rows, options, machine.num_processes)
    memory = memory_of(shapes, options, largest, machine, len(teachers))
    of_teachers = sum(teacher_bytes(teacher, options, machine, largest) for teacher in teachers)
    estimate = forecast.estimate
    estimate.memory_bytes = memory.total + of_teachers
    trained = num_trained(shapes, options)
    # the checkpoint, and two states to resume from, each with weights and two moments
    estimate.disk_bytes = FP32_BYTES * trained * (1 + 2 * 3)
    device = "cuda" if machine.is_cuda else "cpu"
    estimate.basis = f"{device}, --max-length"
    if lengths:
        estimate.tokens = round(num_rows * sum(length.tokens for length in lengths) / len(lengths))
        estimate.seconds = seconds_of(shapes, options, lengths, num_rows, machine)
        estimate.basis = f"{device}, the lengths of {len(lengths):,} rows"
    if machine.num_processes > 1:
        estimate.basis += ", memory of one process"
    if machine.is_sharded:
        weight_bytes = FP32_BYTES * shapes.num_weights
        forecast.notes.append(
            f"each of the {machine.num_processes} processes loads the whole model into memory before it "
            f"is sharded: {size(weight_bytes)} each"
        )


def largest_pass(
    rows: Sequence[Length], options: TrainingOptions, num_processes: int = 1
) -> tuple[Length, int]:
    """The largest forward pass and the largest number of passes of a step, if steps took the rows in this order.

    With several processes, each takes its share of the rows of a step.
    """
    limit = capacity(options.max_length)
    largest, most_passes = Length(0, 0), 0
    for first in range(0, len(rows), options.batch_size):
        step = sorted(rows[first : first + options.batch_size], reverse=True)
        own_rows = step[::num_processes]
        passes = best_fit([row.tokens for row in own_rows], limit)
        most_passes = max(most_passes, len(passes))
        for members in passes:
            tokens = sum(own_rows[number].tokens for number in members)
            supervised = sum(own_rows[number].supervised for number in members)
            largest = Length(max(largest.tokens, tokens), max(largest.supervised, supervised))
    return largest, most_passes


def memory_of(
    shapes: Shapes,
    options: TrainingOptions,
    largest: tuple[Length, int],
    machine: Machine,
    num_teachers: int = 0,
) -> Memory:
    """The memory of one process; `largest` is the largest pass and the number of passes of a step."""
    (tokens, supervised), num_passes = largest
    shards = machine.num_processes if machine.is_sharded else 1
    is_half = options.dtype == "bf16"
    trained = num_trained(shapes, options)
    weights = _weight_bytes(shapes, options) // shards
    moments, gradients = 2 * FP32_BYTES * trained // shards, FP32_BYTES * trained // shards
    # the gradient buckets of DDP are as large as the gradients
    buckets = gradients if machine.num_processes > 1 and shards == 1 else 0
    layers = [
        _layer_bytes(layer, shapes.hidden, options, tokens, machine) for layer in shapes.layers
    ]
    activations, recomputed = sum(layers), 0
    if options.gradient_checkpointing:
        # keep the inputs of all layers, recompute one layer at a time
        activations = FP32_BYTES * tokens * shapes.hidden * len(layers)
        recomputed = max(layers, default=0)
    # outside the layers: rotary angles, the final norm, and the hidden states that the head reads
    wide = 1 if is_half else 0
    activations += FP32_BYTES * tokens * (2 * shapes.head_size + 2 * shapes.hidden)
    activations += (FP32_BYTES + wide * BF16_BYTES) * supervised * shapes.hidden
    loss = _loss_bytes(shapes, options, supervised, num_teachers)
    copies = _copy_bytes(shapes, options, machine)
    widest = max((layer.inner for layer in shapes.layers), default=0)
    number = BF16_BYTES if is_half else FP32_BYTES
    # gradients of activations
    passing = tokens * (3 * number * widest + 2 * FP32_BYTES * shapes.hidden)
    at_loss = copies + activations + max(loss, recomputed + passing)
    tables = FP32_BYTES * shapes.num_embeddings if shapes.tied and options.method == "full" else 0
    at_end = gradients + tables + _unit_bytes(shapes, options, machine)
    at_backward = gradients + at_loss if num_passes > 1 else max(at_loss, at_end)
    total = weights + moments + buckets + max(at_backward, at_end)
    return Memory(
        weights, moments, gradients + buckets, copies, activations + recomputed, loss, total
    )


def num_trained(shapes: Shapes, options: TrainingOptions) -> int:
    """Number of weights that have a gradient."""
    return shapes.num_weights if options.method == "full" else shapes.num_adapter(options.rank)


def _weight_bytes(shapes: Shapes, options: TrainingOptions) -> int:
    """Bytes of the model in fp32 and of its adapter; with qlora the linear layers have 4 bits a weight."""
    linear = sum(math.prod(pair) for layer in shapes.layers for pair in layer.linears)
    num_bytes = FP32_BYTES * shapes.num_weights
    if options.method == "qlora":
        num_bytes -= round((FP32_BYTES - FOUR_BITS) * linear)
    if options.method != "full":
        num_bytes += FP32_BYTES * shapes.num_adapter(options.rank)
    return num_bytes


def _layer_bytes(
    layer: Layer, hidden: int, options: TrainingOptions, tokens: int, machine: Machine
) -> int:
    """Bytes that autograd saves of a layer in a pass of `tokens` tokens.

    The residual stream and the norms are fp32 in any case. In bf16 each matrix that reads the output of a norm has its
    own copy of it. Attention saves its inputs and its output; the matrix after it saves the output again.
    """
    is_half, is_full = options.dtype == "bf16", options.method == "full"
    number = BF16_BYTES if is_half else FP32_BYTES
    norms = layer.norms * hidden * FP32_BYTES * (2 if is_full else 1)
    readers = sum(1 for inputs, _ in layer.linears if inputs == hidden)
    inputs = hidden * (readers * BF16_BYTES if is_half else 2 * FP32_BYTES)
    # on the CPU keys and values are repeated for each head
    per_head = 0 if machine.is_cuda else layer.queries - layer.keys
    attention = number * (2 * layer.queries + layer.keys + 2 * layer.values + 2 * per_head)
    attention += FP32_BYTES * layer.heads + layer.normed * FP32_BYTES * (2 if is_full else 1)
    if layer.scores:
        attention += layer.heads * tokens * (FP32_BYTES + number)
    mlp = number * (4 * layer.inner + 2 * layer.num_routed * hidden)
    adapter = 0 if is_full else number * options.rank * len(layer.linears)
    return tokens * (norms + inputs + attention + mlp + adapter)


def _copy_bytes(shapes: Shapes, options: TrainingOptions, machine: Machine) -> int:
    """Bytes of bf16 copies of matrices kept until the backward pass; with FSDP, of the weights gathered at a time."""
    is_half = options.dtype == "bf16"
    number = BF16_BYTES if is_half else FP32_BYTES
    head = shapes.num_embeddings
    largest = max((layer.num_weights for layer in shapes.layers), default=0)
    if machine.is_sharded:
        outside = shapes.num_weights - sum(layer.num_weights for layer in shapes.layers)
        return number * (outside + GATHERED_LAYERS * largest)
    if options.method == "qlora":  # one matrix at a time is dequantized
        matrix_sizes = (math.prod(linear) for layer in shapes.layers for linear in layer.linears)
        return number * max(matrix_sizes, default=0) + (BF16_BYTES * head if is_half else 0)
    if not is_half:
        return 0
    if options.method == "lora" and options.gradient_checkpointing:
        # copies of frozen weights are not kept
        return BF16_BYTES * (head + largest)
    matrices = sum(layer.num_weights - layer.num_vectors for layer in shapes.layers)
    return BF16_BYTES * (
        matrices + head + (num_trained(shapes, options) if options.method != "full" else 0)
    )


def _unit_bytes(shapes: Shapes, options: TrainingOptions, machine: Machine) -> int:
    """Bytes of FSDP at the end of the backward pass: unsharded weights and gradients outside the layers."""
    if not machine.is_sharded:
        return 0
    outside = shapes.num_weights - sum(layer.num_weights for layer in shapes.layers)
    number = BF16_BYTES if options.dtype == "bf16" else FP32_BYTES
    return outside * (2 * number + FP32_BYTES)


def _loss_bytes(
    shapes: Shapes, options: TrainingOptions, supervised: int, num_teachers: int
) -> int:
    """Bytes of the logits of a chunk with their copies, and of the gradient of the head."""
    copies, distributions = float(LOGITS_COPIES), 1
    distillation = options.distillation
    if (
        num_teachers
        and distillation is not None
        and (distillation.kd_weight or distillation.kd_weight_end)
    ):
        own, of_teacher = LIVE_COPIES[distillation.kd_divergence]
        copies, distributions = own + of_teacher * num_teachers, 1 + num_teachers
    chunk = max(1, CHUNK_LOGITS // (distributions * shapes.vocabulary))
    logits = FP32_BYTES * min(supervised, chunk) * shapes.vocabulary
    if options.method != "full":
        return round(copies * logits)
    of_head = FP32_BYTES * shapes.num_embeddings * (2 if supervised > chunk else 1)
    kept = of_head // 2 if supervised > chunk else 0
    return round(max(copies * logits + kept, logits + of_head))


def teacher_bytes(
    teacher: Model, options: TrainingOptions, machine: Machine, largest: tuple[Length, int]
) -> int:
    """Bytes of a live teacher's weights, if they are on disk, and of its last hidden states; activations not included."""
    number = BF16_BYTES if machine.is_cuda and options.dtype == "bf16" else FP32_BYTES
    width, _ = lookup.width_and_kind(teacher)
    states = FP32_BYTES * largest[0].supervised * (width or 0)
    return number * lookup.count_weights(teacher.weights_folder) + states


def seconds_of(
    shapes: Shapes,
    options: TrainingOptions,
    rows: Sequence[Length],
    num_rows: float,
    machine: Machine,
) -> float | None:
    """Seconds to train on `num_rows` rows like `rows`; None for a GPU whose peak is unknown."""
    if machine.is_cuda:
        peak = devices.peak_of(machine.name)
        speed = None if peak is None else peak * GPU_EFFICIENCY * machine.num_processes
    else:  # processes share the cores
        tokens = max(row.tokens for row in rows)
        inner = max((layer.inner for layer in shapes.layers), default=1)
        speed = EFFICIENCY * product_speed(tokens, shapes.hidden, inner)
    if speed is None:
        return None
    return num_rows * operations_of(shapes, options, rows) / len(rows) / speed


def operations_of(shapes: Shapes, options: TrainingOptions, rows: Sequence[Length]) -> int:
    """Floating point operations of one forward and backward pass over `rows`, counted as in `speed`."""
    of_weight = 6 if options.method == "full" else 4
    linear = sum(math.prod(pair) for layer in shapes.layers for pair in layer.linears)
    active = sum(layer.num_active for layer in shapes.layers)
    of_token = of_weight * (linear + active)
    of_token += 0 if options.method == "full" else 6 * shapes.num_adapter(options.rank)
    of_label = of_weight * shapes.num_embeddings
    of_square = 6 * sum(layer.queries for layer in shapes.layers)
    return sum(
        of_token * row.tokens + of_label * row.supervised + of_square * row.tokens**2
        for row in rows
    )


def product_speed(*sizes: int) -> float:
    """Measured operations a second of hidden states times a weight matrix in fp32 on the CPU, the fastest of five runs.

    `sizes`: tokens, hidden size and inner size; products larger than `LARGEST_PRODUCT` are not faster.
    """
    import numpy as np

    rows, width, inner = map(min, sizes, LARGEST_PRODUCT)
    states, weights = (np.ones(shape, np.float32) for shape in ((rows, width), (width, inner)))
    seconds = []
    for _ in range(5):
        # CPU time of this thread, not wall time, because other programs may use the machine
        started = time.thread_time()
        states @ weights
        seconds.append(time.thread_time() - started)
    return 2 * rows * width * inner / max(min(seconds), 1e-9)


def _first_lengths(inputs: list[Dataset], options: TrainingOptions) -> list[Length]:
    """Lengths of the first rows of each input: as the teacher counted them, else estimated from the text."""
    lengths = []
    for source in inputs:
        for trace in islice(dataset.scan(source, Trace), FIRST_ROWS):
            if (num_tokens := trace.num_tokens) is not None:
                tokens, prompt = num_tokens.total, num_tokens.prompt
            else:
                tokens, prompt = (
                    len("".join(texts).encode()) // TEXT_BYTES_PER_TOKEN
                    for texts in ([trace.problem, trace.reasoning, trace.response], [trace.problem])
                )
            unsupervised = min(prompt, 1) if options.train_on_prompt else prompt
            lengths.append(Length(tokens, tokens - unsupervised))
    return lengths


def _rows_an_epoch(rows: Sequence[int], options: TrainingOptions) -> float:
    """Expected number of rows of an epoch; which problems are held out is not known before the rows are read."""
    weights = options.weight or (1.0,) * len(rows)
    weighted = sum(round(weight * number) for weight, number in zip(weights, rows, strict=True))
    return weighted * (1 - options.eval_split)

"""What `sft --dry-run` says: rows and steps, and what they take on this machine.

Memory is a closed form of the model's shapes (`shapes`), so that no model is built and torch is not imported. Of one process,
in bytes:

    weights      4 a weight; qlora: 4 bits and their constants a weight of a linear layer
    optimizer    8 a trained weight, AdamW's two moments; 4 more for its gradient
    copies       2 a weight of a matrix in bf16, as autocast keeps them until the backward pass
    activations  what autograd saves of each layer, numbers a token times the tokens of the largest pass; with
                 gradient checkpointing the inputs of all layers and the activations of one
    logits       three times a chunk (`CHUNK_LOGITS`) of fp32, and the gradient of the head

FSDP divides weights, gradients and moments by the processes, and gathers what belongs to no layer and two layers at a time.
The peak is at the loss, where all activations are there, or at the end of the backward pass, where all gradients are.
Time is the arithmetic of the step (see `speed`) at a share of the device's speed. What was measured beside this stands in
docs/log.md (scripts/bench/memory_forecast.py).
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
from distillpipe.models import loading, lookup
from distillpipe.models.lookup import Model
from distillpipe.training.passes import CHUNK_LOGITS, best_fit, capacity
from distillpipe.training.shapes import Layer, Shapes, read_shapes

if TYPE_CHECKING:
    from distillpipe.training.teachers.soft_rows import SoftRows

FIRST_ROWS = 1000  # of each input, whose lengths stand for the others
FP32_BYTES, BF16_BYTES = 4, 2
FOUR_BITS = 0.5 + 1 / 64 + 4 / (64 * 256)  # NF4, a byte a block of 64, four a block of 256 of these
LOGITS_COPIES = 3  # logits, their softmax and their gradient
LIVE_COPIES = {"forward": (5.0, 3.25), "reverse": (5.0, 3.25), "js": (6.0, 6.5)}
"the same of the student, and for each live teacher besides: measured, forward is up to a tenth less"
GATHERED_LAYERS = 2  # of FSDP: the one that is used, and the next
LARGEST_PRODUCT = (1024, 2048, 2048)  # that is timed: 9 billion operations
EFFICIENCY = 0.5  # of the speed of a large product of matrices on the CPU
GPU_EFFICIENCY = 0.35  # of the peak of a graphics card


class Length(NamedTuple):
    """How long a row is, in tokens."""

    tokens: int
    supervised: int


class Machine(NamedTuple):
    """What trains."""

    is_cuda: bool
    name: str
    "of the graphics card"
    num_processes: int = 1
    is_sharded: bool = False


class Memory(NamedTuple):
    """What one process holds on its device, in bytes."""

    weights: int
    moments: int
    gradients: int
    copies: int
    "of weights in bf16: autocast's, or those that FSDP gathers"
    activations: int
    loss: int
    total: int
    "at the peak, where not all of these are there at once"


def find_machine(num_processes: int, sharding: str) -> Machine:
    """The graphics card, where torch is built for it; nothing is imported."""
    cards = devices.graphics_cards()
    is_cuda = bool(cards) and not metadata.version("torch").endswith("+cpu")
    return Machine(is_cuda, cards[0][0] if is_cuda else "", num_processes, sharding == "fsdp")


def add_rows(
    found: Forecast, inputs: list[str], options: TrainingOptions
) -> tuple[list[Length], float]:
    """Add the number of rows and steps; lengths of the first rows come back, and how many are trained on, repeats
    included.
    """
    rows = [dataset.count_rows([reference]) for reference in inputs]
    an_epoch = _rows_an_epoch(rows, options)
    steps = math.ceil(an_epoch / options.batch_size) * options.epochs
    steps = min(steps, options.max_steps or steps)
    found.rows = {"to train on": sum(rows), "steps": steps}
    return _first_lengths(inputs, options), min(
        steps * options.batch_size, an_epoch * options.epochs
    )


def add_soft_labels(
    found: Forecast, inputs: Iterable[Iterable[Trace]], soft_rows: "SoftRows"
) -> None:
    """Add how many of the first rows have soft labels; a UsageError where they are of another vocabulary."""
    num_rows = num_labelled = 0
    for traces in inputs:
        for trace in islice(traces, FIRST_ROWS):
            num_rows += 1
            if trace.soft_labels is not None:
                soft_rows.check(trace.soft_labels)
                num_labelled += 1
    found.notes.append(f"{num_labelled:,} of the first {num_rows:,} rows have soft labels")


def add_estimate(  # noqa: PLR0913 - all that a run depends on
    found: Forecast,
    student: Model,
    teachers: list[Model],
    options: TrainingOptions,
    lengths: Sequence[Length],
    num_rows: float,
    machine: Machine,
) -> None:
    """Add memory, time and disk; without rows the memory is that of the longest that the options allow."""
    name = f"--student {student.name}"
    if options.rope_theta is not None:
        from distillpipe.training.student_config import student_config

        student_config(student, options)  # which refuses what cannot be stretched
    shapes = read_shapes(loading.text_config(student.folder, name), student.folder, name)
    rows = lengths or [Length(options.max_length, options.max_length)]
    largest = largest_pass(rows, options, machine.num_processes)
    memory = memory_of(shapes, options, largest, machine, len(teachers))
    of_teachers = sum(teacher_bytes(one, options, machine, largest) for one in teachers)
    estimate = found.estimate
    estimate.memory_bytes = memory.total + of_teachers
    trained = num_trained(shapes, options)
    estimate.disk_bytes = (
        FP32_BYTES * trained * (1 + 2 * 3)
    )  # the checkpoint, and two states to resume from
    device = "cuda" if machine.is_cuda else "cpu"
    estimate.basis = f"{device}, --max-length"
    if lengths:
        estimate.tokens = round(num_rows * sum(one.tokens for one in lengths) / len(lengths))
        estimate.seconds = seconds_of(shapes, options, lengths, num_rows, machine)
        estimate.basis = f"{device}, the lengths of {len(lengths):,} rows"
    if machine.num_processes > 1:
        estimate.basis += ", memory of one process"
    if machine.is_sharded:
        whole = FP32_BYTES * shapes.num_weights
        found.notes.append(
            f"before it is split, each of the {machine.num_processes} processes has the whole model in memory: {size(whole)} each"
        )


def largest_pass(
    rows: Sequence[Length], options: TrainingOptions, num_processes: int = 1
) -> tuple[Length, int]:
    """The largest forward pass of any step, had the steps these rows in their order, and the most passes of one.

    Of several processes each takes its share of a step's rows.
    """
    limit = capacity(options.max_length)
    found, most = Length(0, 0), 0
    for first in range(0, len(rows), options.batch_size):
        step = sorted(rows[first : first + options.batch_size], reverse=True)
        mine = step[::num_processes]
        passes = best_fit([row.tokens for row in mine], limit)
        most = max(most, len(passes))
        for numbers in passes:
            tokens = sum(mine[number].tokens for number in numbers)
            supervised = sum(mine[number].supervised for number in numbers)
            found = Length(max(found.tokens, tokens), max(found.supervised, supervised))
    return found, most


def memory_of(
    shapes: Shapes,
    options: TrainingOptions,
    largest: tuple[Length, int],
    machine: Machine,
    num_teachers: int = 0,
) -> Memory:
    """What one process holds; `largest` is the largest pass, and how many passes a step has."""
    (tokens, supervised), num_passes = largest
    shards = machine.num_processes if machine.is_sharded else 1
    is_half = options.dtype == "bf16"
    trained = num_trained(shapes, options)
    weights = _weight_bytes(shapes, options) // shards
    moments, gradients = 2 * FP32_BYTES * trained // shards, FP32_BYTES * trained // shards
    buckets = (
        gradients if machine.num_processes > 1 and shards == 1 else 0
    )  # of DDP, as large as they are
    layers = [
        _layer_bytes(layer, shapes.hidden, options, tokens, machine) for layer in shapes.layers
    ]
    activations, anew = sum(layers), 0
    if options.gradient_checkpointing:  # the inputs of all layers, and one layer at a time anew
        activations, anew = (
            FP32_BYTES * tokens * shapes.hidden * len(layers),
            max(layers, default=0),
        )
    # around the layers: rotary angles, the final norm, and the states that the head reads
    wide = 1 if is_half else 0
    activations += FP32_BYTES * tokens * (2 * shapes.head_size + 2 * shapes.hidden)
    activations += (FP32_BYTES + wide * BF16_BYTES) * supervised * shapes.hidden
    loss = _loss_bytes(shapes, options, supervised, num_teachers)
    copies = _copy_bytes(shapes, options, machine)
    widest = max((layer.inner for layer in shapes.layers), default=0)
    number = BF16_BYTES if is_half else FP32_BYTES
    passing = tokens * (
        3 * number * widest + 2 * FP32_BYTES * shapes.hidden
    )  # gradients of activations
    at_loss = copies + activations + max(loss, anew + passing)
    tables = FP32_BYTES * shapes.num_embeddings if shapes.tied and options.method == "full" else 0
    after = gradients + tables + _unit_bytes(shapes, options, machine)
    together = gradients + at_loss if num_passes > 1 else max(at_loss, after)
    total = weights + moments + buckets + max(together, after)
    return Memory(weights, moments, gradients + buckets, copies, activations + anew, loss, total)


def num_trained(shapes: Shapes, options: TrainingOptions) -> int:
    """How many weights have a gradient."""
    return shapes.num_weights if options.method == "full" else shapes.num_adapter(options.rank)


def _weight_bytes(shapes: Shapes, options: TrainingOptions) -> int:
    """Of the model, in fp32, and of its adapter; qlora has the linear layers in 4 bits."""
    linear = sum(math.prod(one) for layer in shapes.layers for one in layer.linears)
    found = FP32_BYTES * shapes.num_weights
    if options.method == "qlora":
        found -= round((FP32_BYTES - FOUR_BITS) * linear)
    if options.method != "full":
        found += FP32_BYTES * shapes.num_adapter(options.rank)
    return found


def _layer_bytes(
    layer: Layer, hidden: int, options: TrainingOptions, tokens: int, machine: Machine
) -> int:
    """What autograd saves of a layer in a pass of so many tokens.

    The residual stream and the norms are fp32 whatever the type; in bf16 each matrix that reads the output of a norm has a
    copy of it. Attention saves its inputs and its output, and the next matrix the output once more.
    """
    is_half, is_full = options.dtype == "bf16", options.method == "full"
    number = BF16_BYTES if is_half else FP32_BYTES
    norms = layer.norms * hidden * FP32_BYTES * (2 if is_full else 1)
    readers = sum(1 for inputs, _ in layer.linears if inputs == hidden)
    inputs = hidden * (readers * BF16_BYTES if is_half else 2 * FP32_BYTES)
    per_head = (
        0 if machine.is_cuda else layer.queries - layer.keys
    )  # the CPU repeats keys and values for each head
    attention = number * (2 * layer.queries + layer.keys + 2 * layer.values + 2 * per_head)
    attention += FP32_BYTES * layer.heads + layer.normed * FP32_BYTES * (2 if is_full else 1)
    if layer.scores:
        attention += layer.heads * tokens * (FP32_BYTES + number)
    mlp = number * (4 * layer.inner + 2 * layer.num_routed * hidden)
    adapter = 0 if is_full else number * options.rank * len(layer.linears)
    return tokens * (norms + inputs + attention + mlp + adapter)


def _copy_bytes(shapes: Shapes, options: TrainingOptions, machine: Machine) -> int:
    """Of matrices in bf16 that wait for the backward pass; with FSDP what is gathered at a time."""
    is_half = options.dtype == "bf16"
    number = BF16_BYTES if is_half else FP32_BYTES
    head = shapes.num_embeddings
    largest = max((layer.num_weights for layer in shapes.layers), default=0)
    if machine.is_sharded:
        outside = shapes.num_weights - sum(layer.num_weights for layer in shapes.layers)
        return number * (outside + GATHERED_LAYERS * largest)
    if options.method == "qlora":  # a matrix at a time is unpacked
        one = max((math.prod(one) for layer in shapes.layers for one in layer.linears), default=0)
        return number * one + (BF16_BYTES * head if is_half else 0)
    if not is_half:
        return 0
    if (
        options.method == "lora" and options.gradient_checkpointing
    ):  # of frozen weights none is kept
        return BF16_BYTES * (head + largest)
    matrices = sum(layer.num_weights - layer.num_vectors for layer in shapes.layers)
    return BF16_BYTES * (
        matrices + head + (num_trained(shapes, options) if options.method != "full" else 0)
    )


def _unit_bytes(shapes: Shapes, options: TrainingOptions, machine: Machine) -> int:
    """What FSDP holds at the end of the backward pass: weights and gradients of what is in no layer, whole."""
    if not machine.is_sharded:
        return 0
    outside = shapes.num_weights - sum(layer.num_weights for layer in shapes.layers)
    number = BF16_BYTES if options.dtype == "bf16" else FP32_BYTES
    return outside * (2 * number + FP32_BYTES)


def _loss_bytes(
    shapes: Shapes, options: TrainingOptions, supervised: int, num_teachers: int
) -> int:
    """The logits of a chunk in all their forms, and the gradient of the head beside one of them."""
    copies, distributions = float(LOGITS_COPIES), 1
    learnt = options.distillation
    if num_teachers and learnt is not None and (learnt.kd_weight or learnt.kd_weight_end):
        own, of_teacher = LIVE_COPIES[learnt.kd_divergence]
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
    """The weights of a live teacher, where they are here, and its last states of a pass; its activations come on top."""
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
    """What training on `num_rows` rows like `rows` takes; None on a graphics card whose peak is not known."""
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
    """The arithmetic of one forward and backward pass over some rows, as `speed` counts it."""
    of_weight = 6 if options.method == "full" else 4
    linear = sum(math.prod(one) for layer in shapes.layers for one in layer.linears)
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
    """Operations a second of the product of a row's states with a layer's weights, fp32 on the CPU, the quickest of some.

    `sizes`: tokens, hidden size and inner size; beyond `LARGEST_PRODUCT` a product is no quicker.
    """
    import numpy as np

    rows, width, inner = map(min, sizes, LARGEST_PRODUCT)
    states, weights = (np.ones(shape, np.float32) for shape in ((rows, width), (width, inner)))
    seconds = []
    for _ in range(5):
        # of this thread, since others may use the machine, too: the others of a product work as long
        started = time.thread_time()
        states @ weights
        seconds.append(time.thread_time() - started)
    return 2 * rows * width * inner / max(min(seconds), 1e-9)


def _first_lengths(inputs: list[str], options: TrainingOptions) -> list[Length]:
    """Tokens of the first rows of each input as its teacher counted them, else by the length of their text."""
    found = []
    for reference in inputs:
        for trace in islice(dataset.read_traces(reference), FIRST_ROWS):
            if (counted := trace.num_tokens) is not None:
                tokens, prompt = counted.total, counted.prompt
            else:
                tokens, prompt = (
                    len("".join(texts).encode()) // TEXT_BYTES_PER_TOKEN
                    for texts in ([trace.problem, trace.reasoning, trace.response], [trace.problem])
                )
            unsupervised = min(prompt, 1) if options.train_on_prompt else prompt
            found.append(Length(tokens, tokens - unsupervised))
    return found


def _rows_an_epoch(rows: Sequence[int], options: TrainingOptions) -> float:
    """How many rows an epoch has, before they were read: which problems are held out is not known yet."""
    weights = options.weight or (1.0,) * len(rows)
    weighted = sum(round(one * number) for one, number in zip(weights, rows, strict=True))
    return weighted * (1 - options.eval_split)

"""What `sft --dry-run` says: rows and steps, and what they take on this machine."""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from distillpipe.base.records import Trace
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.forecast import TEXT_BYTES_PER_TOKEN, Forecast
from distillpipe.data.store import dataset
from distillpipe.models.lookup import Model
from distillpipe.training.student_config import student_config

if TYPE_CHECKING:
    from distillpipe.training.teachers.soft_rows import SoftRows

FIRST_ROWS = 1000  # of each input, whose lengths stand for the others


class Length(NamedTuple):
    """How long a row is, in tokens."""

    tokens: int
    supervised: int


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


def add_estimate(
    found: Forecast,
    student: Model,
    teachers: list[Model],
    options: TrainingOptions,
    lengths: Sequence[Length],
    num_rows: float,
) -> None:
    """Add memory, time and disk; without rows the memory is that of the longest that the options allow.

    Of live teachers the weights count, as far as they are here; their activations come on top.
    """
    import torch  # here, and only where a model is looked at

    from distillpipe.training.prediction import predict
    from distillpipe.training.teachers.live_teacher import weight_bytes

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    longest = [Length(options.max_length, options.max_length)]
    config = student_config(student, options)
    predicted = predict(config, options, lengths or longest, num_rows, device)
    estimate = found.estimate
    taught_by = weight_bytes(teachers, device, options.dtype) if teachers else 0
    estimate.memory_bytes = predicted.memory_bytes + taught_by
    estimate.disk_bytes = predicted.disk_bytes
    estimate.basis = f"{device.type}, --max-length"
    if lengths:
        estimate.tokens = round(num_rows * sum(one.tokens for one in lengths) / len(lengths))
        estimate.seconds = predicted.seconds
        estimate.basis = f"{device.type}, the lengths of {len(lengths):,} rows"


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

"""Decisions on all rows in the order of the rows, by all cores.

Of a small input threads decide, at once. In a large one the rules would wait for each other, as Python runs
one thread at a time: processes read slices of the files, and hand back decisions, never text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain

from distillpipe import dataset, verify
from distillpipe.filters.examine import Decided, Examiner
from distillpipe.jsonl import Slice, decoded_slice, slices
from distillpipe.processes import Processes, num_cores
from distillpipe.records import Trace

SMALL_BYTES = (
    16_000_000  # a third of a second's work of one core, as long as starting 100 processes
)
SLICE_BYTES = 1_000_000  # at most, but for a longer row
SLICES_A_WORKER = 16  # at least, so that all are at work to the end

Place = tuple[str, Slice]
"The dataset that a slice belongs to, and the slice"


@contextmanager
def decided(
    examiner: Examiner, inputs: list[str], num_workers: int | None, *, allow_benchmark: bool
) -> Iterator[Iterator[Decided]]:
    """What `examiner` decides on each row of `inputs`; what it waits for ends with the block.

    With `num_workers` null it uses all cores. Raises UsageError for a row of a benchmark unless they are allowed.
    """
    num_workers = num_workers or num_cores()
    num_bytes = dataset.count_bytes(inputs)
    if num_workers == 1 or num_bytes < SMALL_BYTES:
        rows = dataset.read_training_traces(inputs, allow_benchmark=allow_benchmark)
        with verify.Judge(num_workers) as judge:
            yield judge.map(examiner.decide, rows)
        return
    slice_bytes = min(SLICE_BYTES, num_bytes // (num_workers * SLICES_A_WORKER))
    decide = partial(_decide, examiner, allow_benchmark)
    with Processes(num_workers, decide) as processes:
        yield chain.from_iterable(processes.map(_places(inputs, slice_bytes)))


def _places(inputs: list[str], slice_bytes: int) -> Iterator[Place]:
    for reference in inputs:
        for path in dataset.trace_files(reference):
            for part in slices(path, slice_bytes):
                yield reference, part


def _decide(examiner: Examiner, allow_benchmark: bool, place: Place) -> list[Decided]:
    reference, part = place
    return [
        examiner.decide(trace if allow_benchmark else dataset.for_training(trace, reference))
        for trace in decoded_slice(part, Trace)
    ]

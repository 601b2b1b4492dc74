"""Many traces made from the real ones in ../shared/data/traces, for benchmarks.

Rows are drawn with weights that favour longer ones until the mean size is right. Ids are new, and the words of each
problem are shuffled, so that no two rows are equal.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec

from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Trace, trace_id
from distillpipe.data.formats.traces import Choices, ImportOptions
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.jsonl import encoder
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.stages.import_traces import import_traces
from distillpipe.stages.run import Run

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOKENIZER = DATA / "tokenizers" / "r1-distill-qwen"


def real_rows(folder: Path) -> Iterator[Trace]:
    """The real traces, imported, with their tokens counted."""
    for source in sorted((DATA / "traces").glob("*.jsonl")):
        out = folder / "real" / source.stem
        options = ImportOptions(Choices("auto"), tokenizer=str(TOKENIZER))
        import_traces(str(source), out, options, Run())
        yield from dataset.read_traces(str(out))


def write_corpus(out: Path, real: list[Trace], num_rows: int, num_bytes: float) -> None:
    draw = random.Random(0)
    sizes = [len(encoder.encode(row)) for row in real]
    weights = weights_for(sizes, num_bytes / num_rows)
    header = Header("traces", "generate", {"name": out.name}, [], [], {})
    with versions.draft(out, header) as draft, Writer(draft) as writer:
        for number, row in enumerate(draw.choices(real, weights, k=num_rows)):
            writer.append(renamed(row, number, draw))
        writer.finish([])


def weights_for(sizes: list[int], mean: float) -> list[float]:
    """Weights for drawing rows of these sizes so that they have this mean: a power of the size."""
    low, high = -4.0, 8.0
    for _ in range(60):
        power = (low + high) / 2
        weights = [(size / 10_000) ** power for size in sizes]
        total = sum(size * weight for size, weight in zip(sizes, weights, strict=True))
        if total / sum(weights) < mean:
            low = power
        else:
            high = power
    return weights


def renamed(row: Trace, number: int, draw: random.Random) -> Trace:
    words = row.problem.split()
    draw.shuffle(words)
    problem, key = " ".join(words), content_hash(row.row_key, number)
    *_, answered = row.messages
    asked = msgspec.structs.replace(row.messages[0], role="user", content=problem)
    problem_id = content_hash(problem, number)[:16]
    return msgspec.structs.replace(
        row, id=trace_id(problem_id, key), problem_id=problem_id, row_key=key, problem=problem,
        messages=[asked, answered], benchmark=None,
    )  # fmt: skip

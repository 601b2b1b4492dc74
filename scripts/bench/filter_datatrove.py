"""The datatrove filters that are closest to the rules of `distill filter`, for the comparison in filter.py.

    python -m venv ENV; ENV/bin/pip install 'datatrove[io,processing]==0.10.*' 'spacy>=3.8'
    python scripts/bench/filter.py --only peer --peer-python ENV/bin/python

Reads the same file and writes JSONL in one process. First MinHash over pairs of words of the problems (32 buckets of 4
values, as ours), then the n-grams of Gopher's repetition rule on the whole text of the remaining rows. For each line
on stdin, which names a new folder, it does all of this and prints the wall-clock seconds; the first run is a warm-up.
"""

import sys
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import GopherRepetitionFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger

MINHASH = MinhashConfig(n_grams=2, num_buckets=32, hashes_per_bucket=4)


def row_of(_reader, row, _path, _number):
    answered = row["messages"][-1]
    text = f"{answered['reasoning_content'] or ''}\n{answered['content']}"
    return {"text": row["problem"], "id": row["id"], "metadata": {**row, "trace": text}}


def whole_text(rows, rank=0, world_size=1):
    """Replace the text of a row with its trace for the next steps."""
    for row in rows:
        row.text = row.metadata.pop("trace")
        yield row


def run(part: Path, out: Path) -> None:
    def step(name, pipeline, tasks=1):
        executor = LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=1, logging_dir=str(out / "logs" / name)
        )
        executor.run()

    def reader():
        return JsonlReader(str(part.parent), glob_pattern=part.name, adapter=row_of)

    signatures, pairs, removed = (str(out / name) for name in ("signatures", "pairs", "removed"))
    step("signatures", [reader(), MinhashDedupSignature(signatures, MINHASH)])
    buckets = MinhashDedupBuckets(signatures, pairs, config=MINHASH)
    step("buckets", [buckets], MINHASH.num_buckets)
    step("clusters", [MinhashDedupCluster(pairs, removed, MINHASH)])
    writer = JsonlWriter(str(out / "kept"), compression=None)
    repetition = GopherRepetitionFilter(
        exclusion_writer=JsonlWriter(str(out / "rejected"), compression=None)
    )
    step("filter", [reader(), MinhashDedupFilter(removed), whole_text, repetition, writer])


def main() -> None:
    logger.remove()
    part, clock = Path(sys.argv[1]), getattr(time, sys.argv[2])
    for line in sys.stdin:
        started = clock()
        run(part, Path(line.strip()))
        print(clock() - started, flush=True)


if __name__ == "__main__":
    main()

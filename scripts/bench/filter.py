"""The speed of `distill filter` at the size of s1's data: per core, whole stage, by rows, memory, and compared.

    python scripts/bench/filter.py                                  59,000 rows of 2,000 MB
    python scripts/bench/filter.py --rows 5900 --megabytes 200
    python scripts/bench/filter.py --only tokens --pairs 7
    python scripts/bench/filter.py --only peer --peer-python ENV/bin/python     see filter_datatrove.py

The rows are made from the real ones in ../shared/data/traces (many_traces.py), with counted tokens. The verifier is
`exact`, which compares strings; verify.py measures the math verifier.
"""

import argparse
import dataclasses
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
from many_traces import TOKENIZER, real_rows, write_corpus

from distillpipe import verify
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.options import Judging
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, integrity, versions
from distillpipe.data.store.jsonl import encoder, lines
from distillpipe.filters.decide import RowFilter
from distillpipe.filters.problems import ProblemExtras, read_problem_facts
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.tokens import counted
from distillpipe.stages.filter import filter_traces
from distillpipe.stages.run import Run

PEER = Path(__file__).with_name("filter_datatrove.py")
VERDICTS = ("correct", "wrong", "unverifiable")
OPTIONS = FilterOptions(  # the defaults of the command, but for the verdicts
    verdicts=VERDICTS, verifier="exact", min_reasoning_tokens=1, max_reasoning_tokens=None,
    max_repetition=0.3, max_foreign_letters=1, dedup="exact", per_problem=None, seed=0,
)  # fmt: skip
FLAGS = ["--verifier", "exact", *(word for one in VERDICTS for word in ("--verdict", one))]
SMALL_ROW = 4_000  # bytes a row where the number of rows is what counts
MEGABYTE = 1e6


@dataclasses.dataclass(frozen=True)
class Bench:
    folder: Path
    rows: int
    megabytes: float
    pairs: int
    peer_python: str | None
    peer_megabytes: float
    clock: Callable[[], float]

    def corpus(self, name: str, num_rows: int, megabytes: float) -> Path:
        """A dataset of so many rows and bytes, made at the first call."""
        path = self.folder / name
        if not versions.finished(path):
            write_corpus(path, list(real_rows(self.folder)), num_rows, megabytes * MEGABYTE)
        return path


# ---------------------------------------------------------------- parts


def report_core(bench: Bench) -> None:
    """CPU seconds of decoding, rules (with hashes and answer) and encoding, separately and together."""
    corpus = bench.corpus("s1", bench.rows, bench.megabytes)
    arguments = [
        line for path in dataset.row_files(corpus) for _, line in islice(lines(path), 3_000)
    ][:3_000]
    known = read_problem_facts([], [], [], OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        examiner = RowFilter(
            OPTIONS, known, ProblemExtras([], OPTIONS, Path(folder)), None, verify.PLAIN
        )
    decoder = msgspec.json.Decoder(Trace)
    rows = [decoder.decode(line) for line in arguments]
    parts: dict[str, Callable[[], object]] = {
        "decode": lambda: [decoder.decode(line) for line in arguments],
        "rules": lambda: [examiner.decide(row) for row in rows],
        "encode": lambda: [encoder.encode(row) for row in rows],
    }
    size = sum(map(len, arguments)) / MEGABYTE
    seconds = {name: processor_seconds(part, bench.pairs) for name, part in parts.items()}
    print(f"a core, {len(arguments):,} rows of {size:,.0f} MB, median of {bench.pairs}:")
    for name, found in seconds.items():
        print(f"  {name:7} {size / found:7.0f} MB/s")
    print(f"  all     {size / sum(seconds.values()):7.0f} MB/s of processor time")


def processor_seconds(part: Callable[[], object], times: int) -> float:
    part()
    found = []
    for _ in range(times):
        before = time.process_time()
        part()
        found.append(time.process_time() - before)
    return statistics.median(found)


def report_whole(bench: Bench) -> None:
    """Time the whole command."""
    corpus = bench.corpus("s1", bench.rows, bench.megabytes)
    print(f"{bench.rows:,} rows: {ran(bench, corpus)}")


def report_rows(bench: Bench) -> None:
    """The same bytes in rows of a tenth of the size, then the same number of rows with more text."""
    for name, num_rows, row_bytes in (
        ("10k", 10_000, SMALL_ROW),
        ("100k", 100_000, SMALL_ROW),
        ("10k-long", 10_000, 5 * SMALL_ROW),
    ):
        corpus = bench.corpus(name, num_rows, num_rows * row_bytes / MEGABYTE)
        print(f"{num_rows:,} rows: {ran(bench, corpus)}")


def ran(bench: Bench, corpus: Path) -> str:
    """The cost of a run of the command: seconds, MB/s, peak memory of all its processes together."""
    out = bench.folder / "clean"
    shutil.rmtree(out, ignore_errors=True)
    size = dataset.count_bytes([dataset.find(str(corpus))]) / MEGABYTE
    command = [str(Path(sys.executable).with_name("distill")), "filter", str(corpus), *FLAGS]
    command += ["--out", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    peak = 0.0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, tree_megabytes(process.pid))
            time.sleep(0.1)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert process.returncode == 0
    shutil.rmtree(out)
    return (
        f"{size:,.0f} MB in {seconds:.1f} s, {size / seconds:.0f} MB/s "
        f"({used:.1f} s of processor time), peak {peak:,.0f} MB"
    )


def tree_megabytes(pid: int) -> float:
    """Present memory of a process and its children; shared memory counts once."""
    total = 0
    for one in (pid, *children(pid)):
        try:
            words = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="utf-8").split()
            total += int(words[words.index("Pss:") + 1])
        except (OSError, ValueError):  # it has just ended
            continue
    return total / 1e3


def children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return []
    return [one for child in map(int, found) for one in (child, *children(child))]


# ---------------------------------------------------------------- beside others


def report_tokens(bench: Bench) -> None:
    """Counting tokens as `import --tokenizer` does, compared with the tokenizer alone on the same texts and threads."""
    chat = load_chat(TOKENIZER, "tokenizer")
    rows = [row for at, row in enumerate(real_rows(bench.folder)) if at % 20 == 0]
    texts = [chat.turn.completion(row.reasoning, row.response) for row in rows]
    texts += [chat.prompt(row.messages[:-1]) for row in rows]
    size = sum(len(text.encode()) for text in texts) / MEGABYTE
    for num_cores in sorted({1, len(os.sched_getaffinity(0))}):
        with bound_to(num_cores):
            compare(
                f"tokens, {size:.1f} MB on {num_cores} cores, ours and the tokenizer's",
                lambda: sum(1 for _ in counted(rows, chat)),
                partial(encode_all, chat, texts, num_cores),
                bench, size,
            )  # fmt: skip


def encode_all(chat: Chat, texts: list[str], num_threads: int) -> None:
    """Encode the texts in batches, one per thread at a time, without the tokenizer's own threads."""
    rust = chat.tokenizer.backend_tokenizer
    batches = [texts[at : at + 16] for at in range(0, len(texts), 16)]
    with ThreadPoolExecutor(num_threads) as threads:
        list(
            threads.map(
                lambda some: len(rust.encode_batch_fast(some, add_special_tokens=False)), batches
            )
        )


def report_peer(bench: Bench) -> None:
    """The whole stage compared with datatrove's filters, one core each, in warm processes."""
    if bench.peer_python is None:
        print("datatrove: give --peer-python, see filter_datatrove.py")
        return
    mean = bench.megabytes / bench.rows
    corpus = bench.corpus("peer", round(bench.peer_megabytes / mean), bench.peer_megabytes)
    (part,) = dataset.row_files(corpus)
    size = part.stat().st_size / MEGABYTE
    options = msgspec.structs.replace(OPTIONS, dedup="near")
    with (
        bound_to(1),
        tempfile.TemporaryDirectory(dir=bench.folder) as scratch,
        subprocess.Popen(
            [bench.peer_python, str(PEER), str(part), bench.clock.__name__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8",
        ) as peer,
    ):  # fmt: skip

        def ours() -> None:
            integrity.check_content.cache_clear()
            out = Path(tempfile.mkdtemp(dir=scratch))
            filter_traces([str(corpus)], out, options, Run(), judging=Judging(num_workers=1))

        def theirs() -> float:
            assert peer.stdin is not None
            assert peer.stdout is not None
            print(tempfile.mkdtemp(dir=scratch), file=peer.stdin, flush=True)
            return float(peer.stdout.readline())

        compare(f"datatrove, {size:.0f} MB on one core", ours, theirs, bench, size)
        peer.communicate()


def compare(
    label: str, ours: Callable[[], object], theirs: Callable[[], object], bench: Bench, size: float
) -> None:
    """Alternating pairs after a warm-up; a function may return its own seconds as a float."""
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(bench.pairs + 1):
        for side in (0, 1) if number % 2 else (1, 0):
            started = bench.clock()
            said = (ours, theirs)[side]()
            seconds = said if isinstance(said, float) else bench.clock() - started
            if number:
                rates[side].append(size / seconds)
    ratios = sorted(one / other for one, other in zip(*rates, strict=True))
    print(
        f"{label}: {statistics.median(rates[0]):.2f} and {statistics.median(rates[1]):.2f} MB/s, ratio "
        f"{statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] of {bench.pairs} pairs"
    )


@contextmanager
def bound_to(num_cores: int) -> Iterator[None]:
    """Bind this process and its children to so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:num_cores]))
    yield
    os.sched_setaffinity(0, before)


REPORTS: dict[str, Callable[[Bench], None]] = {
    "core": report_core, "whole": report_whole, "rows": report_rows, "tokens": report_tokens,
    "peer": report_peer,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=59_000)
    parser.add_argument("--megabytes", type=float, default=2_000.0)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peer-python", help="of an environment with datatrove")
    parser.add_argument("--peer-megabytes", type=float, default=12.0)
    parser.add_argument(
        "--processor-time", action="store_true", help="of pairs, where others keep the machine busy"
    )
    parser.add_argument("--only", nargs="+", choices=list(REPORTS), default=list(REPORTS))
    parser.add_argument("--folder", type=Path, help="where the rows are written, and left")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        bench = Bench(
            arguments.folder or Path(scratch), arguments.rows, arguments.megabytes, arguments.pairs,
            arguments.peer_python, arguments.peer_megabytes,
            time.process_time if arguments.processor_time else time.perf_counter,
        )  # fmt: skip
        for name in arguments.only:
            REPORTS[name](bench)


if __name__ == "__main__":
    main()

"""The speed of writing and reading rows, compared with plain files.

    python scripts/bench/dataset.py                    pairs of 200 MB, then 5 GB to measure memory
    python scripts/bench/dataset.py --gigabytes 0      the pairs only
    python scripts/bench/dataset.py --up-to-date       also the answer "up to date" for a million rows

One core: the process binds itself to the first one that it may use. Each pair writes and reads the same typed rows of
20 KB. Ours uses `Writer` (encoding, hashing, fsync after at most 64 rows) and `read_traces` (checks against the
manifest, decoding). The other side writes plain bytes with the same fsyncs, and reads plain lines. The order
alternates. Prints medians and the range of the ratios.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Message, TokenCounts, Trace, trace_id
from distillpipe.data.store import integrity, versions
from distillpipe.data.store.dataset import read_traces
from distillpipe.data.store.jsonl import SYNC_ROWS
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer

WORDS = [
    "we", "have", "so", "the", "sum", "of", "x", "and", "y", "is", "\\frac{1}{2}", "therefore",
    "3+4=7", "wait", "let", "me", "check", "é", "漢",
]  # fmt: skip
MEGABYTE = 1e6


def rows(count: int, num_bytes: int) -> Iterator[Trace]:
    """Traces of about `num_bytes` each; they share their text but not their ids."""
    rng = random.Random(0)
    text = " ".join(rng.choices(WORDS, k=num_bytes))
    body = text.encode()[: max(0, num_bytes - 900)].decode(errors="ignore")
    for number in range(count):
        problem = content_hash("problem", number)[:16]
        key = content_hash("row", number)
        yield Trace(
            id=trace_id(problem, key),
            problem_id=problem,
            row_key=key,
            sample=0,
            benchmark=None,
            problem=f"What is {number}+1?",
            reference_answer=str(number + 1),
            verifier="numeric",
            domain=None,
            messages=[
                Message(role="user", content=f"What is {number}+1?"),
                Message(
                    role="assistant",
                    content=f"\\boxed{{{number + 1}}}",
                    reasoning_content=f"{number} {body}",
                ),
            ],
            finish_reason="stop",
            num_tokens=TokenCounts(prompt=8, reasoning=num_bytes // 4, response=5, total=20),
            teacher="teacher",
            seed=0,
        )


def write_ours(folder: Path, traces: Iterator[Trace]) -> float:
    header = Header("traces", "generate", {"folder": str(folder)}, [], [], {})
    started = time.perf_counter()
    with versions.draft(folder, header) as draft, Writer(draft) as writer:
        for trace in traces:
            writer.append(trace)
        writer.finish([])
    return time.perf_counter() - started


def write_plain(path: Path, lines: list[bytes]) -> float:
    started = time.perf_counter()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, line in enumerate(lines, start=1):
        os.write(descriptor, line)
        if number % SYNC_ROWS == 0:
            os.fdatasync(descriptor)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - started


def read_ours(folder: Path) -> float:
    integrity.check_content.cache_clear()
    started = time.perf_counter()
    count = sum(1 for _ in read_traces(str(folder)))
    assert count
    return time.perf_counter() - started


def read_plain(path: Path) -> float:
    started = time.perf_counter()
    with path.open("rb") as file:
        count = sum(1 for _ in file)
    assert count
    return time.perf_counter() - started


def pairs(folder: Path, num_pairs: int, num_rows: int) -> None:
    """Measure alternating pairs of the same rows, ours and plain."""
    traces = list(rows(num_rows, 20_000))
    lines = [msgspec.json.encode(row) + b"\n" for row in traces]
    size = sum(map(len, lines)) / MEGABYTE
    rates: dict[str, list[float]] = {name: [] for name in ("write", "disk", "read", "lines")}
    for number in range(num_pairs):
        ours, plain = folder / f"ours-{number}", folder / f"plain-{number}"
        steps = {
            "write": lambda ours=ours: write_ours(ours, iter(traces)),
            "disk": lambda plain=plain: write_plain(plain, lines),
            "read": lambda ours=ours: read_ours(ours),
            "lines": lambda plain=plain: read_plain(plain),
        }
        order = (
            ["write", "disk", "read", "lines"] if number % 2 else ["disk", "write", "lines", "read"]
        )
        for name in order:
            rates[name].append(size / steps[name]())
        shutil.rmtree(ours)
        plain.unlink()
    print(f"{num_pairs} pairs of {num_rows:,} rows, {size:,.0f} MB each, MB/s:")
    for ours_name, plain_name in (("write", "disk"), ("read", "lines")):
        ratios = sorted(a / b for a, b in zip(rates[ours_name], rates[plain_name], strict=True))
        print(
            f"  {ours_name:<6} {statistics.median(rates[ours_name]):7.0f}   "
            f"plain {statistics.median(rates[plain_name]):7.0f}   "
            f"ratio {statistics.median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
        )


def long_run(folder: Path, gigabytes: float) -> None:
    """Write and read one version of several gigabytes, and measure the peak memory."""
    num_rows = int(gigabytes * 1e9 / 20_000)
    out = folder / "long"
    print(f"{num_rows:,} rows, {gigabytes:g} GB, each a tenth of the rows apart:")
    resident: list[float] = []

    def watched() -> Iterator[Trace]:
        for number, row in enumerate(rows(num_rows, 20_000)):
            if number % max(1, num_rows // 10) == 0:
                resident.append(resident_megabytes())
            yield row

    seconds = write_ours(out, watched())
    print(f"  write {gigabytes * 1e3 / seconds:,.0f} MB/s, resident MB {listed(resident)}")
    resident.clear()
    integrity.check_content.cache_clear()
    started = time.perf_counter()
    for number, _ in enumerate(read_traces(str(out))):
        if number % max(1, num_rows // 10) == 0:
            resident.append(resident_megabytes())
    seconds = time.perf_counter() - started
    print(f"  read  {gigabytes * 1e3 / seconds:,.0f} MB/s, resident MB {listed(resident)}")
    shutil.rmtree(out)


def up_to_date(folder: Path, num_rows: int) -> None:
    """Time whole processes of filter whose result exists, for a dataset and for a plain file."""
    traces, clean = folder / "traces", folder / "clean"
    write_ours(traces, rows(num_rows, 1000))
    plain = folder / "plain.jsonl"
    with plain.open("wb") as file:
        for part in sorted((traces / "latest").glob("part-*.jsonl")):
            file.write(part.read_bytes())
    time.sleep(3)  # a file changed just now is hashed again each time
    command = [str(Path(sys.executable).with_name("distill")), "filter"]
    for name, source in (("dataset", traces), ("plain file", plain)):
        arguments = [*command, str(source), "--dedup", "none", "--out", str(clean / name)]
        started = time.perf_counter()
        subprocess.run(arguments, check=True, capture_output=True)
        first = time.perf_counter() - started
        times = []
        for _ in range(7):
            started = time.perf_counter()
            done = subprocess.run(arguments, check=True, capture_output=True, encoding="utf-8")
            times.append(time.perf_counter() - started)
            assert "up to date" in done.stderr
        size = plain.stat().st_size
        print(
            f'  {name}: {size / MEGABYTE:,.0f} MB, first run {first:.0f} s, then "up to date" in '
            f"{statistics.median(times):.2f} s [{min(times):.2f}, {max(times):.2f}]"
        )


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def listed(values: list[float]) -> str:
    return " ".join(f"{value:.0f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=10_000, help="rows of 20 KB in a pair")
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--up-to-date", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="folder on the disk to measure")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.pairs:
            pairs(Path(folder), arguments.pairs, arguments.rows)
        if arguments.gigabytes:
            long_run(Path(folder), arguments.gigabytes)
        if arguments.up_to_date:
            up_to_date(Path(folder), 1_000_000)


if __name__ == "__main__":
    main()

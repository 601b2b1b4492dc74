"""The forecast of `--dry-run`: options, inputs, output, rows to reuse, and an estimate of the costs.

    generate would begin runs/math/traces/v2
      reads   problems.jsonl: 1,204,881 bytes
      rows    1,000 wanted, 20 there already, 980 to sample
      costs   784,000 tokens (90%: 690,112 to 877,888), at most 4,014,080, ... (from a pilot of 20 rows)

A missing input or an unreachable model is a note, not an error, so a whole pipeline can be dry-run before its
first stage. Nothing is written except the rows of a pilot, and `latest` does not change.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from distillpipe.base.errors import DistillError
from distillpipe.base.terminal import printable
from distillpipe.data.store import dataset, versions
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.data.store.spending import say_dollars
from distillpipe.data.store.versions import Header

TEXT_BYTES_PER_TOKEN = 4  # typical length of a token, where nothing was counted


class Estimate(msgspec.Struct):
    """The estimated costs of a run. Fields are null if they are unknown."""

    max_tokens: int | None = None
    "upper bound from the options"
    tokens: int | None = None
    tokens_range: tuple[int, int] | None = None
    "90% prediction interval, from the variance of the rows seen"
    seconds: float | None = None
    dollars: float | None = None
    dollars_range: tuple[float, float] | None = None
    max_dollars: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    basis: str | None = None
    "the source of the figures"


class Forecast(msgspec.Struct):
    """What a command would do, and what it would cost."""

    stage: str
    out: str
    options: dict[str, ResolvedOption]
    reads: list[str]
    writes: str | None = None
    "the version that would be begun or resumed, or is up to date; null if not known"
    is_up_to_date: bool = False
    rows: dict[str, int] = {}
    pilot: list[str] = []
    "row keys of the rows that a pilot sampled or reused"
    estimate: Estimate = msgspec.field(default_factory=Estimate)
    notes: list[str] = []


def begin(
    stage: str, out: Path, options: dict[str, ResolvedOption], references: Sequence[str]
) -> Forecast:
    """A forecast with its options and inputs. A reference that names nothing yet is said to be missing."""
    return Forecast(stage, str(out), options, [_input(reference) for reference in references])


@contextmanager
def noting(forecast: Forecast) -> Iterator[None]:
    """Turn a DistillError that ends the block into a note of the forecast."""
    try:
        yield
    except DistillError as error:
        if str(error) not in forecast.notes:
            forecast.notes.append(str(error))


def add_output(forecast: Forecast, out: Path, header: Header) -> None:
    """Add which version the command would write."""
    if (finished := versions.find_finished(out, header)) is not None:
        forecast.is_up_to_date = True
        forecast.writes = f"nothing: {finished} is up to date"
    elif (draft := versions.find_draft(out, header)) is not None:
        forecast.writes = f"{draft}, which it resumes"
    else:
        forecast.writes = f"{out / versions.next_version(out)}, which it begins"


def weight_bytes(folder: Path) -> int:
    """Bytes of the safetensors files in a model's folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def lines_of(forecast: Forecast) -> list[str]:
    """The forecast as lines of text."""
    effect = "the rows of the pilot are kept, nothing else is written"
    if not forecast.pilot:
        effect = "nothing is written, and only what is listed here is read"
    lines = [f"{forecast.stage} --dry-run: {effect}"]
    lines += [
        f"  option  {name} = {option.value!r}  ({option.source})"
        for name, option in forecast.options.items()
    ]
    lines += [f"  reads   {reference}" for reference in forecast.reads]
    lines.append(f"  writes  {forecast.writes or f'a version under {forecast.out}'}")
    if forecast.rows:
        lines.append(
            "  rows    " + ", ".join(f"{count:,} {name}" for name, count in forecast.rows.items())
        )
    if cost := _cost(forecast.estimate):
        lines.append(f"  costs   {cost}")
    lines += [f"  note    {note}" for note in forecast.notes]
    return [printable(line) for line in lines]


def _cost(estimate: Estimate) -> str:
    parts = []
    if estimate.tokens is not None:
        parts.append(f"{estimate.tokens:,} tokens")
    if estimate.tokens_range is not None:
        low, high = estimate.tokens_range
        parts[-1] += f" (90%: {low:,} to {high:,})"
    if estimate.max_tokens not in (None, estimate.tokens):
        parts.append(f"at most {estimate.max_tokens:,}")
    if estimate.dollars is not None and estimate.max_dollars is not None:
        parts.append(say_dollars(estimate.dollars))
        if estimate.dollars_range is not None:
            low_cost, high_cost = map(say_dollars, estimate.dollars_range)
            parts[-1] += f" (90%: {low_cost} to {high_cost})"
        if estimate.max_dollars != estimate.dollars:
            parts.append(f"at most {say_dollars(estimate.max_dollars)}")
    if estimate.seconds is not None:
        parts.append(f"{estimate.seconds:,.0f} s")
    if estimate.disk_bytes is not None:
        parts.append(f"{size(estimate.disk_bytes)} of disk")
    if estimate.memory_bytes is not None:
        parts.append(f"{size(estimate.memory_bytes)} of memory")
    basis = f" ({estimate.basis})" if estimate.basis else ""
    return ", ".join(parts) + basis if parts else ""


def size(num_bytes: float) -> str:
    """Format bytes: `3.2 MB`."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def _input(reference: str) -> str:
    if reference.startswith("hub:"):
        return reference
    try:
        source = dataset.find(reference)
    except DistillError:
        return (
            f"{reference}: {'not a dataset' if Path(reference).exists() else 'does not exist yet'}"
        )
    if source.manifest is None:
        return f"{reference}: {size(source.path.stat().st_size)}"
    num_bytes = sum(entry.bytes for entry in source.manifest.files)
    num_rows = source.manifest.counts.rows_kept
    return f"{reference} ({source.path.name}): {num_rows:,} rows, {size(num_bytes)}"

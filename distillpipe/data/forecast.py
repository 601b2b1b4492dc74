"""What `--dry-run` prints: options, what would be read, reused and written, and what it would cost.

    generate would begin runs/math/traces/v2
      reads   problems.jsonl: 1,204,881 bytes
      rows    1,000 wanted, 20 there already, 980 to sample
      costs   784,000 tokens (90%: 690,112 to 877,888), at most 4,014,080, ... (from a pilot of 20 rows)

An input that does not exist yet, or a model that cannot be asked, is a note, not an error: a whole pipeline
can be dry-run before its first stage. Nothing is written, but for the rows of a pilot, and `latest` stays
where it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from distillpipe.base.errors import DistillError
from distillpipe.base.terminal import printable
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.data.store.spending import say_dollars
from distillpipe.data.store.versions import Header


class Estimate(msgspec.Struct):
    """What a run would cost; null where nothing is known of it."""

    max_tokens: int | None = None
    "what the options allow"
    tokens: int | None = None
    tokens_range: tuple[int, int] | None = None
    "where they lie with 90% probability, by the spread of the rows that were seen"
    seconds: float | None = None
    dollars: float | None = None
    dollars_range: tuple[float, float] | None = None
    max_dollars: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    basis: str | None = None
    "where the figures come from"


class Forecast(msgspec.Struct):
    """What a command would do."""

    stage: str
    out: str
    options: dict[str, ResolvedOption]
    reads: list[str]
    writes: str | None = None
    "the version, and whether it is there, would be gone on with or would be begun; null if not known"
    is_up_to_date: bool = False
    rows: dict[str, int] = {}
    pilot: list[str] = []
    "row keys of the rows that a pilot sampled for this, or found there"
    estimate: Estimate = msgspec.field(default_factory=Estimate)
    notes: list[str] = []


def begin(
    stage: str, out: Path, options: dict[str, ResolvedOption], references: Sequence[str]
) -> Forecast:
    """A forecast that knows its inputs."""
    return Forecast(stage, str(out), options, [_input(reference) for reference in references])


@contextmanager
def noting(found: Forecast) -> Iterator[None]:
    """What cannot be found out yet becomes a note, and the forecast ends there."""
    try:
        yield
    except DistillError as error:
        if str(error) not in found.notes:
            found.notes.append(str(error))


def add_output(found: Forecast, out: Path, header: Header) -> None:
    """Say which version there would be."""
    if (finished := versions.find_finished(out, header)) is not None:
        found.is_up_to_date = True
        found.writes = f"nothing: {finished} is up to date"
    elif (draft := versions.find_draft(out, header)) is not None:
        found.writes = f"{draft}, which it goes on with"
    else:
        found.writes = f"{out / versions.next_version(out)}, which it begins"


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights in a model's folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def lines_of(found: Forecast) -> list[str]:
    """The forecast for a person."""
    done = "the rows of the pilot are kept, nothing else is written"
    lines = [
        f"{found.stage} --dry-run: "
        + (done if found.pilot else "nothing is read beyond what this says, nothing is written")
    ]
    lines += [
        f"  option  {name} = {option.value!r}  ({option.source})"
        for name, option in found.options.items()
    ]
    lines += [f"  reads   {one}" for one in found.reads]
    lines.append(f"  writes  {found.writes or f'a version under {found.out}'}")
    if found.rows:
        lines.append(
            "  rows    " + ", ".join(f"{count:,} {name}" for name, count in found.rows.items())
        )
    if cost := _cost(found.estimate):
        lines.append(f"  costs   {cost}")
    lines += [f"  note    {note}" for note in found.notes]
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
            cheap, dear = map(say_dollars, estimate.dollars_range)
            parts[-1] += f" (90%: {cheap} to {dear})"
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
    """Bytes for a person: `3.2 MB`."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def _input(reference: str) -> str:
    if reference.startswith("hub:"):
        return reference
    if (path := versions.plain_file(reference)) is not None:
        return f"{reference}: {size(path.stat().st_size)}"
    try:
        folder = versions.resolve(reference)
        found = manifests.read(folder)
    except DistillError:
        return (
            f"{reference}: {'not a dataset' if Path(reference).exists() else 'does not exist yet'}"
        )
    num_bytes = sum(entry.bytes for entry in found.files)
    return f"{reference} ({folder.name}): {found.counts.rows_kept:,} rows, {size(num_bytes)}"


TEXT_BYTES_PER_TOKEN = 4

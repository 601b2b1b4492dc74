"""What `--dry-run` prints: options, what would be read, reused and written, and what it would cost.

    generate would begin runs/math/traces/v2
      reads   problems.jsonl: 1,204,881 bytes
      rows    1,000 wanted, 812 reused, 188 to sample
      costs   at most 48,128 tokens, about 14,287 (mean of the 812 rows that are there), 2 s, 96 KB

An input that does not exist yet, or a model that cannot be asked, is a note, not an error: a whole pipeline
can be dry-run before its first stage. Nothing is written and `latest` stays where it is.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from distillpipe import manifest as manifests
from distillpipe import versions
from distillpipe.errors import DistillError
from distillpipe.manifest import Manifest, ResolvedOption
from distillpipe.models import AnyModel, Model
from distillpipe.spending import Prices, dollars, say_dollars
from distillpipe.versions import Header

TEXT_BYTES_PER_TOKEN = 4
ROW_BYTES = 1200  # keys, ids and options of a row, beside its text


class Estimate(msgspec.Struct):
    """What a run would cost; null where nothing is known of it."""

    max_tokens: int | None = None
    "what the options allow"
    tokens: int | None = None
    seconds: float | None = None
    dollars: float | None = None
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
    rows: dict[str, int] = {}
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
        found.writes = f"nothing: {finished} is up to date"
    elif (draft := versions.find_draft(out, header)) is not None:
        found.writes = f"{draft}, which it goes on with"
    else:
        found.writes = f"{out / versions.next_version(out)}, which it begins"


def estimate_sampling(
    found: Forecast, out: Path, model: AnyModel | None, to_sample: int, max_tokens: int
) -> None:
    """Tokens, time and disk of `to_sample` rows: from rows of the same model that are there, else the
    limit that the options set.
    """
    before = [one.counts for one in _sampled_before(out, model)]
    rows = sum(counts.rows_kept for counts in before)
    tokens = sum(counts.tokens_kept for counts in before)
    sampled = sum(counts.tokens_sampled for counts in before)
    seconds = sum(counts.seconds_working for counts in before)
    estimate = found.estimate
    estimate.max_tokens = to_sample * max_tokens
    estimate.tokens = math.ceil(to_sample * tokens / rows) if rows else estimate.max_tokens
    estimate.basis = f"as the {rows:,} rows under {out}" if rows else "the limit --max-tokens"
    if sampled and seconds:
        estimate.seconds = estimate.tokens * seconds / sampled
    estimate.disk_bytes = estimate.tokens * TEXT_BYTES_PER_TOKEN + to_sample * ROW_BYTES
    if isinstance(model, Model):
        estimate.memory_bytes = weight_bytes(model.weights_folder)


def estimate_dollars(
    found: Forecast, out: Path, model: AnyModel, prices: Prices, most_prompt_tokens: int
) -> None:
    """What the rows of `estimate_sampling` would cost, with prompts as before, or as long as may be."""
    estimate, to_sample = found.estimate, found.rows["to sample"]
    most_prompts = to_sample * most_prompt_tokens
    before = [one.counts for one in _sampled_before(out, model)]
    rows = sum(counts.rows_kept - counts.rows_reused for counts in before)
    sent = sum(counts.tokens_sent for counts in before)
    prompts = math.ceil(to_sample * sent / rows) if rows and sent else most_prompts
    estimate.max_dollars = dollars(prices.cost(most_prompts, estimate.max_tokens or 0))
    estimate.dollars = dollars(prices.cost(prompts, estimate.tokens or 0))


def weight_bytes(folder: Path) -> int:
    """Bytes of the weights in a model's folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def text_of(found: Forecast) -> str:
    """The forecast for a person."""
    lines = [f"{found.stage} --dry-run: nothing is read beyond what this says, nothing is written"]
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
    return "\n".join(lines)


def _cost(estimate: Estimate) -> str:
    parts = []
    if estimate.tokens is not None:
        parts.append(f"{estimate.tokens:,} tokens")
    if estimate.max_tokens not in (None, estimate.tokens):
        parts.append(f"at most {estimate.max_tokens:,}")
    if estimate.dollars is not None and estimate.max_dollars is not None:
        parts.append(say_dollars(estimate.dollars))
        if estimate.max_dollars != estimate.dollars:
            parts.append(f"at most {say_dollars(estimate.max_dollars)}")
    if estimate.seconds is not None:
        parts.append(f"{estimate.seconds:,.0f} s")
    if estimate.disk_bytes is not None:
        parts.append(f"{size(estimate.disk_bytes)} of disk")
    if estimate.memory_bytes is not None:
        parts.append(f"{size(estimate.memory_bytes)} of memory at least")
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
    path = Path(reference)
    if reference.startswith("hub:"):
        return reference
    if path.is_file():
        return f"{reference}: {size(path.stat().st_size)}"
    try:
        folder = versions.resolve(reference)
        found = manifests.read(folder)
    except DistillError:
        return f"{reference}: {'not a dataset' if path.exists() else 'does not exist yet'}"
    num_bytes = sum(entry.bytes for entry in found.files)
    return f"{reference} ({folder.name}): {found.counts.rows_kept:,} rows, {size(num_bytes)}"


def _sampled_before(out: Path, model: AnyModel | None) -> list[Manifest]:
    """Manifests of what was sampled from the same model under `out`, finished or not."""
    manifests_there: list[Manifest] = []
    for folder in versions.finished(out) + versions.partials(out):
        with suppress(DistillError):
            found = manifests.read(folder)
            if model is None or any(used.identity == model.identity for used in found.models):
                manifests_there.append(found)
    return manifests_there

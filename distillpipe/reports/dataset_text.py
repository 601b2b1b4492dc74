"""The text of `distill show`: pure functions from values to lines."""

from collections.abc import Iterator, Sequence

from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.base.terminal import printable, printable_text
from distillpipe.data.forecast import size
from distillpipe.data.store.counts import Counts, Distribution
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.spending import say_spent
from distillpipe.reports.disk import Folder, Partial
from distillpipe.reports.lineage import FunnelStep
from distillpipe.reports.tables import columns

BAR_WIDTH = 40
MAX_CHARACTERS = 2000  # of a text of a row, unless the row was selected by id
ID_DIGITS = 16  # of the id of an input; --json has the whole id
QUANTILES = ("min", "p5", "p25", "p50", "p75", "p95", "p99", "max")


def details(
    name: str, manifest: Manifest, funnel: list[FunnelStep], folder: Folder
) -> Iterator[str]:
    """The sections on one version."""
    yield from map(printable, _details(name, manifest, funnel, folder))


def _details(
    name: str, manifest: Manifest, funnel: list[FunnelStep], folder: Folder
) -> Iterator[str]:
    counts = manifest.counts
    yield from _heading(name, manifest, folder)
    yield from _section("funnel", funnel_lines(funnel))
    yield from _section(
        "inputs",
        columns(
            [[item.path, item.version or "file", item.id[:ID_DIGITS]] for item in manifest.inputs]
        ),
    )
    yield from _section(
        "models", columns([[item.role, item.name, item.identity] for item in manifest.models])
    )
    own = [[name, digest] for name, digest in manifest.user_code.items()]
    yield from _section("verifiers and rules of your own", columns(own))
    yield from _section("dropped", _dropped(counts))
    yield from _section("teachers", teacher_lines(counts))
    if counts.verdicts:
        verdicts = [f"{verdict} {rows:,}" for verdict, rows in sorted(counts.verdicts.items())]
        yield from _section("verdicts of the rows kept", [", ".join(verdicts)])
    yield from _section("budget of the thought", _budget(counts))
    yield from _lengths(counts)
    yield from _section("on disk", _disk(folder))


def funnel_lines(steps: Sequence[FunnelStep]) -> list[str]:
    """A line for each step. An arrow points from the line above, unless the line names other inputs."""
    labels = _labels(steps)
    table = []
    for position, step in enumerate(steps):
        made_of = ""
        if step.inputs not in ([], [position - 1]):
            made_of = f", from {' and '.join(labels[number] for number in step.inputs)}"
        table.append(["->" if step.inputs else "", labels[position], _description(step) + made_of])
    return columns(table)


def teacher_lines(counts: Counts) -> list[str]:
    """A line for each of several teachers: `R1: 600 of 1,000 rows kept (wrong_answer 400)`."""
    if len(counts.teachers) < 2:
        return []
    lines = []
    for name, teacher in sorted(counts.teachers.items()):
        by_rows = sorted(teacher.dropped.items(), key=lambda item: -item[1])
        dropped = ", ".join(f"{reason} {rows:,}" for reason, rows in by_rows)
        kept = f"{name}: {teacher.rows_kept:,} of {teacher.rows_read:,} rows kept"
        lines.append(printable(f"{kept} ({dropped})" if dropped else kept))
    return lines


def row_lines(row: Trace, *, whole: bool) -> Iterator[str]:
    """The lines of a row; unless `whole`, long texts lose their middle. Control characters are escaped."""
    yield printable(f"=== {row.id}")
    yield from columns(_facts(row))
    texts = {"problem": row.problem, "reasoning": row.reasoning, "response": row.response}
    for title, text in texts.items():
        if text or title != "reasoning":
            yield f"--- {title}"
            yield printable_text(text if whole else shortened(text))
    yield ""


def shortened(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` without its middle if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    left_out = len(text) - limit
    return f"{text[:head]}\n[... {left_out:,} characters; --row ID shows all ...]\n{text[-tail:]}"


def histogram_lines(distribution: Distribution) -> list[str]:
    """A bar for each bin that holds rows; the longest is `BAR_WIDTH` wide."""
    most = max(bin_.rows for bin_ in distribution.histogram)
    width = len(f"{distribution.histogram[-1].low:,}")
    table = []
    for number, bin_ in enumerate(distribution.histogram):
        last = distribution.max if number == len(distribution.histogram) - 1 else bin_.high - 1
        values = f"{bin_.low:>{width},}" + (f" - {last:,}" if last > bin_.low else "")
        bar = "#" * -(-bin_.rows * BAR_WIDTH // most)
        table.append([values, f"{bin_.rows:,}", bar])
    return columns(table, right={1})


def _heading(name: str, manifest: Manifest, folder: Folder) -> Iterator[str]:
    counts = manifest.counts
    version = manifest.version if manifest.finished else f"{manifest.version}.partial"
    latest = "latest" if folder.latest == version else f"latest is {folder.latest or 'none yet'}"
    yield f"{name} {version}: {manifest.kind}, made by {manifest.stage}; {latest}"
    ended = f"finished {_time(manifest.finished)}" if manifest.finished else "unfinished"
    yield f"  begun {_time(manifest.created)}, {ended}, {counts.seconds:,.1f} s of work"
    yield f"  {_rows_of(manifest)}"
    if counts.rows_labelled:
        num_bytes = sum(file.bytes for file in manifest.files if file.name.startswith("labels-"))
        yield f"  {counts.rows_labelled:,} rows with soft labels, which take {size(num_bytes)}"
    if spent := say_spent(counts):
        yield f"  {spent}"
    if counts.rows_with_key:
        yield f"  {counts.rows_with_key:,} rows hold the API key, as the server sent it"
    if manifest.licences:
        yield f"  licence of the teachers: {', '.join(manifest.licences)}"


def _rows_of(manifest: Manifest) -> str:
    counts = manifest.counts
    if manifest.kind == "checkpoint":
        return f"{counts.rows_read:,} rows, {counts.tokens_kept:,} supervised tokens trained on"
    reused = f" ({counts.rows_reused:,} of them taken over)" if counts.rows_reused else ""
    kept, rejected = f"{counts.rows_kept:,} kept{reused}", f"{counts.rows_rejected:,} rejected"
    return f"{counts.rows_read:,} rows read: {kept}, {rejected}"


def _labels(steps: Sequence[FunnelStep]) -> list[str]:
    """Name and version of each step; the path of steps that would have the same label."""
    names = [f"{step.name} {step.version or ''}".strip() for step in steps]
    return [
        name if names.count(name) == 1 else step.path
        for name, step in zip(names, steps, strict=True)
    ]


def _description(step: FunnelStep) -> str:
    state = {"gone": " (gone)", "changed": " (changed since)"}.get(step.state, "")
    if step.kind == "checkpoint":
        trained = f"checkpoint trained on {step.rows_read:,} rows" if step.stage else "checkpoint"
        return trained + state
    if step.rows is None:
        return f"{step.kind}{state}"
    unit = "problems" if step.kind == "problems" else "rows"
    description = f"{step.rows:,} {unit}"
    if step.rows_read not in (None, step.rows):
        description += f" of {step.rows_read:,}"
    if step.dropped:
        description += f" ({', '.join(f'{name} {rows:,}' for name, rows in step.dropped.items())})"
    return description + state


def _dropped(counts: Counts) -> list[str]:
    by_rows = sorted(counts.dropped.items(), key=lambda item: -item[1].rows)
    table = [
        [f"{dropped.rows:,}", "rows", f"{dropped.tokens:,}", "tokens", reason]
        for reason, dropped in by_rows
    ]
    return columns(table, right={0, 2})


def _lengths(counts: Counts) -> Iterator[str]:
    """Quantiles of the token counts, and the histogram of the reasoning tokens, if there are any."""
    measured = {"reasoning": counts.reasoning_tokens, "completion": counts.completion_tokens}
    counted = {name: lengths for name, lengths in measured.items() if lengths is not None}
    if not counted:
        return
    table = [["", "mean", *QUANTILES]]
    for name, distribution in counted.items():
        numbers = [f"{getattr(distribution, quantile):,}" for quantile in QUANTILES]
        table.append([name, f"{distribution.sum / distribution.rows:,.1f}", *numbers])
    right = set(range(1, len(table[0])))
    yield from _section("tokens of the rows kept", columns(table, right))
    shown = next((pair for pair in counted.items() if pair[1].max > 0), next(iter(counted.items())))
    yield from _section(f"{shown[0]} tokens", histogram_lines(shown[1]))


def _budget(counts: Counts) -> list[str]:
    """The control metric of s1: the share of rows whose reasoning length is within the budget."""
    if counts.control is None:
        return []
    return [
        f"control {counts.control:.1%}: {counts.rows_within_budget:,} of {counts.rows_kept:,} rows within "
        f"it; {counts.num_waits:,} waits, {counts.forced_ends:,} ends forced"
    ]


def _disk(folder: Folder) -> list[str]:
    partials = {partial.name: _unfinished(partial) for partial in folder.partials}
    table = []
    for name, num_bytes in folder.disk_bytes.items():
        state = "latest" if name == folder.latest else partials.get(name, "")
        table.append([name, size(num_bytes), state])
    if len(table) > 1:
        table.append(["all", size(folder.total_bytes), ""])
    return columns(table, right={1})


def _unfinished(partial: Partial) -> str:
    if partial.rows_kept is None:
        return "unfinished, without a readable manifest"
    rejected = f", {partial.rows_rejected:,} rejected" if partial.rows_rejected else ""
    failed = f", {partial.failed_rows:,} failed" if partial.failed_rows else ""
    return f"unfinished: {partial.rows_kept:,} rows{rejected}{failed}"


def _facts(row: Trace) -> list[list[str]]:
    tokens = row.num_tokens
    counted = "not counted"
    if tokens is not None:
        counted = (
            f"prompt {tokens.prompt:,}, reasoning {tokens.reasoning:,}, "
            f"response {tokens.response:,}, total {tokens.total:,}"
        )
    served = f" (served by {row.served_by})" if row.served_by else ""
    forced = f", {row.num_waits} waits" if row.num_waits else ""
    forced += ", end of reasoning forced" if row.forced_end else ""
    facts = {
        "verdict": f"{row.verdict or 'not judged'} (verifier {row.verifier})",
        "answer": "none" if row.answer is None else row.answer,
        "reference": "none" if row.reference_answer is None else row.reference_answer,
        "finish": row.finish_reason + forced,
        "tokens": counted,
        "teacher": (row.teacher or "unknown") + served,
        "sample": str(row.sample),
    }
    if row.benchmark:
        facts["benchmark"] = row.benchmark
    if isinstance(row, RejectedTrace):
        facts["dropped"] = row.reason + ("" if row.measured is None else f": {row.measured}")
    return [[name, shortened(value, 200)] for name, value in facts.items()]


def _time(iso: str) -> str:
    """An ISO time in UTC without separators and offset."""
    return iso.replace("T", " ").removesuffix("+00:00")


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    """A title and indented lines; nothing without lines."""
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)

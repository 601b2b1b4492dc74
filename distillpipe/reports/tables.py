"""The tables of `distill show` and of metrics.md: stages and scores."""

import sys
from collections.abc import Collection, Sequence
from typing import Any

from distillpipe.base.markdown import inline
from distillpipe.base.terminal import printable
from distillpipe.data.forecast import size
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports.scoring import LEFT_OUT, OUTCOMES

WIDTH = 110  # if the output is not a terminal


def print_tables(versions: Sequence[tuple[str, Manifest]]) -> None:
    """Print a table of the versions with scores, then a table of all versions."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, emoji=False)
    scored = [
        (name, manifest) for name, manifest in versions if "pass@1" in (manifest.metrics or {})
    ]
    if scored:
        table = Table(
            "model", "Pass@1", "95% interval", "reasoning tokens", "truncated", "problems"
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for name, manifest in scored:
            table.add_row(printable(name), *_score_cells(manifest))
        console.print(table)
    table = Table("stage", "dataset", "rows in", "rows out", "tokens", "seconds", "tokens/s")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, manifest in versions:
        labels = (printable(label) for label in (manifest.stage, f"{name} {manifest.version}"))
        table.add_row(*labels, *_stage_cells(manifest))
    console.print(table)


def _score_cells(manifest: Manifest) -> list[str]:
    """Cells of one score; `-` for figures that are unknown or undefined. Older versions may lack some."""
    scores = manifest.metrics or {}
    low, high = scores["interval"]
    completions = sum(scores.get(f"num_{name}") or 0 for name in OUTCOMES)
    truncated, tokens = scores["num_truncated"], scores["mean_reasoning_tokens"]
    return [
        share(scores["pass@1"]) + left_out_note(scores),
        f"{share(low)} - {share(high)}",
        UNKNOWN if tokens is None else f"{tokens:.1f}",
        f"{truncated / completions:.1%}" if completions else UNKNOWN,
        f"{scores['num_problems']:,} x {scores['num_samples']}",
    ]


def _stage_cells(manifest: Manifest) -> list[str]:
    counts = manifest.counts
    tokens = counts.tokens_sampled or counts.tokens_kept
    rate = f"{tokens / counts.seconds_working:,.0f}" if counts.seconds_working else "-"
    return [
        f"{counts.rows_read:,}",
        f"{counts.rows_kept:,}",
        f"{tokens:,}",
        f"{counts.seconds:.1f}",
        rate,
    ]


# Scores as a table with a line a figure and a column a model; the terminal and metrics.md share the cells.


Table = list[list[str]]  # a heading and rows of cells
UNKNOWN = "-"
SHORT = ("num_samples", "temperature", "top_p", "max_tokens", "min_date", "max_date", "code_rules")
"Options whose values the table shows if they differ from the protocol."
SHOWN = ("p5", "p50", "p95", "max")  # quantiles of the reasoning tokens; metrics.json has more


def score_table(named: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """A table from names and contents of metrics.json, without figures that no model has."""
    columns = [_cells(metrics) for _, metrics in named]
    figures = list(dict.fromkeys(figure for cells in columns for figure in cells))
    table = [[figure, *(cells.get(figure, UNKNOWN) for cells in columns)] for figure in figures]
    return [
        [named[0][1]["benchmark"], *(name for name, _ in named)],
        *(line for line in table if set(line[1:]) != {UNKNOWN}),
    ]


def columns(table: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns; the columns in `right` are right-aligned."""
    table = [[printable(cell) for cell in cells] for cells in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        padded = [
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def aligned(table: Table) -> list[str]:
    """Cells as aligned columns, with a rule under the heading."""
    rule = ["-" * max(len(printable(cell)) for cell in cells) for cells in zip(*table, strict=True)]
    return columns([table[0], rule, *table[1:]])


def markdown(table: Table) -> list[str]:
    """The table in markdown."""
    return [
        "| " + " | ".join(map(inline, cells)) + " |"
        for cells in (table[0], ["---"] * len(table[0]), *table[1:])
    ]


def with_interval(
    value: float | None, low_high: Sequence[float | None], *, signed: bool = False
) -> str:
    """`0.755 [0.727, 0.781]`."""
    ends = ", ".join(share(end, signed=signed) for end in low_high)
    return f"{share(value, signed=signed)} [{ends}]"


def left_out_note(metrics: dict[str, Any]) -> str:
    """`, over 993 of 1,000` if completions were left out, else an empty text; it follows every score."""
    asked, left_out = metrics.get("num_asked") or 0, metrics.get("num_left_out") or 0
    return f", over {asked - left_out:,} of {asked:,}" if left_out else ""


def share(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A score, or `-` if it is undefined."""
    return UNKNOWN if value is None else f"{value:{'+' if signed else ''}.{digits}f}"


def _cells(metrics: dict[str, Any]) -> dict[str, str]:
    resources = metrics.get("resources") or {}
    parts = metrics["standard_error_parts"] or {}
    tokens = metrics["reasoning_tokens"] or {}
    return {
        "Pass@1": with_interval(metrics["pass@1"], metrics["interval"]) + left_out_note(metrics),
        "published": _published(metrics),
        "in its training data": metrics.get("training_overlap", UNKNOWN),
        "standard error": share(metrics["standard_error"], 4),
        "  sampling's part": share(parts.get("sampling"), 4),
        "  the problems' part": share(parts.get("problems"), 4),
        "detectable, unpaired": share(metrics["minimum_detectable_effect"]["unpaired"]),
        "detectable, paired": share(metrics["minimum_detectable_effect"]["paired"]),
        **{
            f"{name}@{k}": with_interval(item["mean"], item["interval"]) + left_out_note(metrics)
            for name in ("pass", "maj")
            for k, item in metrics[f"{name}@k"].items()
        },
        **_published_majority(metrics),
        "problems x samples": f"{metrics['num_problems']:,} x {metrics['num_samples']}",
        "asked twice, sampled once": _number(metrics.get("num_duplicates") or None),
        **_outcomes(metrics),
        **_missing_modules(metrics.get("missing_modules")),
        "reasoning tokens, mean": _number(metrics["mean_reasoning_tokens"], 1),
        f"  {', '.join(SHOWN)}": ", ".join(_number(tokens[item]) for item in SHOWN if tokens)
        or UNKNOWN,
        **_budget(metrics.get("budget")),
        "tokens/s": _number(resources.get("tokens_per_second")),
        "seconds sampling": _number(resources.get("seconds_sampling") or None, 1),
        "peak memory": _bytes(resources.get("peak_memory_bytes")),
        "peak GPU memory": _bytes(resources.get("peak_gpu_memory_bytes")),
        "weights": _bytes(resources.get("model_bytes")),
    }


def _published(metrics: dict[str, Any]) -> str:
    """The published score of the same model and protocol, and how our evaluation differs."""
    published = metrics.get("published")
    if published is None:
        return UNKNOWN
    text = f"{share(published['score'])} ({metrics['protocol']['name']}, {published['date'][:4]})"
    return "; ".join([text, *_remarks(metrics)])


def _published_majority(metrics: dict[str, Any]) -> dict[str, str]:
    """The published majority vote, to compare with our maj@k of as many completions."""
    published = metrics.get("published") or {}
    if (majority := published.get("majority")) is None:
        return {}
    k, score = majority
    text = f"{share(score)} ({metrics['protocol']['name']}, {published['date'][:4]}), to set beside maj@{k}"
    return {f"published cons@{k}": "; ".join([text, *_remarks(metrics)])}


def _remarks(metrics: dict[str, Any]) -> list[str]:
    """How a published score differs from ours: options, problems, and the note of the source."""
    published = metrics["published"]
    asked, used = metrics["protocol"].get("asked", {}), metrics["protocol"].get("settings", {})
    differs = [
        f"{name} ({used.get(name)}, there {asked[name]})"
        if name in SHORT and name in asked
        else name
        for name in published["differs"]
    ]
    remarks = [f"other {', '.join(differs)}"] if differs else []
    num_problems = published.get("num_problems")
    if num_problems not in (None, metrics["num_problems"]):
        remarks.append(f"on {num_problems:,} problems there, {metrics['num_problems']:,} here")
    return remarks + ([published["note"]] if published["note"] else [])


def _outcomes(metrics: dict[str, Any]) -> dict[str, str]:
    """Numbers of completions by outcome; with the upper bound of the score if some are unverifiable.

    Metrics of older versions lack `num_not_run`.
    """
    outcomes = [name for name in OUTCOMES if f"num_{name}" in metrics]
    total = sum(metrics[f"num_{name}"] for name in outcomes)
    cells = {}
    for name in outcomes:
        count = metrics[f"num_{name}"]
        label = name.replace("_", " ")
        cells[label] = f"{count:,} ({count / total:.1%})" if total else UNKNOWN
    if metrics["num_unverifiable"]:
        cells["unverifiable"] += f", Pass@1 at most {share(metrics['upper_bound'])}"
    reasons = metrics.get("unanswered") or {}
    not_run = {name: rows for name, rows in reasons.items() if name not in LEFT_OUT}
    left_out = {name: rows for name, rows in reasons.items() if name in LEFT_OUT}
    if not_run:
        cells["not run"] += f", not correct: {_by_reason(not_run)}"
    if left_out:
        cells["left out"] = f"{_by_reason(left_out)} of {metrics['num_asked']:,}"
    return cells


def _missing_modules(counts: dict[str, int] | None) -> dict[str, str]:
    """The number of programs that failed at an import of a package that the sandbox lacks, and the packages."""
    if not counts:
        return {}
    named = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return {"  wrong for a missing module": f"{sum(counts.values()):,}: {named}"}


def _by_reason(reasons: dict[str, int]) -> str:
    return ", ".join(f"{name} {rows:,}" for name, rows in sorted(reasons.items()))


def _budget(kept: dict[str, Any] | None) -> dict[str, str]:
    if kept is None:
        return {}
    return {
        "control": f"{kept['control']:.1%}",
        "  waits, ends forced": f"{kept['num_waits']:,}, {kept['num_forced_ends']:,}",
    }


def _number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


def _bytes(value: int | None) -> str:
    return UNKNOWN if value is None else size(value)

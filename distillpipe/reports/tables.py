"""The two tables of `show`: the stages, and the scores where there are predictions."""

import sys
from collections.abc import Sequence
from typing import Any

from distillpipe.base.markdown import inline
from distillpipe.base.terminal import printable
from distillpipe.data.forecast import size
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports.scoring import LEFT_OUT, OUTCOMES

WIDTH = 110  # where the output is no terminal


def print_tables(found: Sequence[tuple[str, Manifest]]) -> None:
    """Print the scores of all that has some, then a line for each version."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, emoji=False)
    scored = [(name, manifest) for name, manifest in found if "pass@1" in (manifest.metrics or {})]
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
    for name, manifest in found:
        labels = (printable(one) for one in (manifest.stage, f"{name} {manifest.version}"))
        table.add_row(*labels, *_stage_cells(manifest))
    console.print(table)


def _score_cells(manifest: Manifest) -> list[str]:
    """From the metrics of this version or an older one: what is not known, or not a number, is `-`."""
    found = manifest.metrics or {}
    low, high = found["interval"]
    completions = sum(found.get(f"num_{name}") or 0 for name in OUTCOMES)
    truncated, tokens = found["num_truncated"], found["mean_reasoning_tokens"]
    return [
        share(found["pass@1"]) + over(found),
        f"{share(low)} - {share(high)}",
        UNKNOWN if tokens is None else f"{tokens:.1f}",
        f"{truncated / completions:.1%}" if completions else UNKNOWN,
        f"{found['num_problems']:,} x {found['num_samples']}",
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


# Scores as a table, a line a figure and a column a model: the same cells on the terminal and in metrics.md.


Table = list[list[str]]  # a heading and rows of cells
UNKNOWN = "-"
SHORT = ("num_samples", "temperature", "top_p", "max_tokens", "min_date", "max_date", "code_rules")
"Options whose values say in a table what differs."
SHOWN = ("p5", "p50", "p95", "max")  # of the reasoning tokens; metrics.json has more


def score_table(named: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """From names and the contents of metrics.json; figures that no model has are left out."""
    columns = [_cells(found) for _, found in named]
    figures = list(dict.fromkeys(figure for cells in columns for figure in cells))
    table = [[figure, *(cells.get(figure, UNKNOWN) for cells in columns)] for figure in figures]
    return [
        [named[0][1]["benchmark"], *(name for name, _ in named)],
        *(line for line in table if set(line[1:]) != {UNKNOWN}),
    ]


def aligned(table: Table) -> list[str]:
    """Cells as lines of columns, with a rule under the heading."""
    table = [[printable(cell) for cell in cells] for cells in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (table[0], ["-" * width for width in widths], *table[1:])
    ]


def markdown(table: Table) -> list[str]:
    """The same as a table of markdown."""
    return [
        "| " + " | ".join(map(inline, cells)) + " |"
        for cells in (table[0], ["---"] * len(table[0]), *table[1:])
    ]


def with_interval(
    value: float | None, low_high: Sequence[float | None], *, signed: bool = False
) -> str:
    """`0.755 [0.727, 0.781]`."""
    ends = ", ".join(share(one, signed=signed) for one in low_high)
    return f"{share(value, signed=signed)} [{ends}]"


def over(found: dict[str, Any]) -> str:
    """`, over 993 of 1,000`: where completions were left out, their number stands beside every score."""
    asked, left_out = found.get("num_asked") or 0, found.get("num_left_out") or 0
    return f", over {asked - left_out:,} of {asked:,}" if left_out else ""


def share(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A score, or `-` where it is undefined."""
    return UNKNOWN if value is None else f"{value:{'+' if signed else ''}.{digits}f}"


def _cells(found: dict[str, Any]) -> dict[str, str]:
    resources = found.get("resources") or {}
    parts = found["standard_error_parts"] or {}
    tokens = found["reasoning_tokens"] or {}
    return {
        "Pass@1": with_interval(found["pass@1"], found["interval"]) + over(found),
        "published": _published(found),
        "in its training data": found.get("training_overlap", UNKNOWN),
        "standard error": share(found["standard_error"], 4),
        "  sampling's part": share(parts.get("sampling"), 4),
        "  the problems' part": share(parts.get("problems"), 4),
        "detectable, unpaired": share(found["minimum_detectable_effect"]["unpaired"]),
        "detectable, paired": share(found["minimum_detectable_effect"]["paired"]),
        **{
            f"{name}@{k}": with_interval(one["mean"], one["interval"]) + over(found)
            for name in ("pass", "maj")
            for k, one in found[f"{name}@k"].items()
        },
        **_published_majority(found),
        "problems x samples": f"{found['num_problems']:,} x {found['num_samples']}",
        "asked twice, sampled once": _number(found.get("num_duplicates") or None),
        **_outcomes(found),
        **_missing_modules(found.get("missing_modules")),
        "reasoning tokens, mean": _number(found["mean_reasoning_tokens"], 1),
        f"  {', '.join(SHOWN)}": ", ".join(_number(tokens[one]) for one in SHOWN if tokens)
        or UNKNOWN,
        **_budget(found.get("budget")),
        "tokens/s": _number(resources.get("tokens_per_second")),
        "seconds sampling": _number(resources.get("seconds_sampling") or None, 1),
        "peak memory": _bytes(resources.get("peak_memory_bytes")),
        "peak GPU memory": _bytes(resources.get("peak_gpu_memory_bytes")),
        "weights": _bytes(resources.get("model_bytes")),
    }


def _published(found: dict[str, Any]) -> str:
    """The score that was published for the same model and protocol, and what was not done as there."""
    one = found.get("published")
    if one is None:
        return UNKNOWN
    said = f"{share(one['score'])} ({found['protocol']['name']}, {one['date'][:4]})"
    return "; ".join([said, *_remarks(found)])


def _published_majority(found: dict[str, Any]) -> dict[str, str]:
    """The vote that was published, which is our maj@k of as many completions."""
    one = found.get("published") or {}
    if (majority := one.get("majority")) is None:
        return {}
    k, score = majority
    said = f"{share(score)} ({found['protocol']['name']}, {one['date'][:4]}), to set beside maj@{k}"
    return {f"published cons@{k}": "; ".join([said, *_remarks(found)])}


def _remarks(found: dict[str, Any]) -> list[str]:
    """In what a published score is another than the one beside it."""
    one = found["published"]
    asked, used = found["protocol"].get("asked", {}), found["protocol"].get("settings", {})
    differs = [
        f"{name} ({used.get(name)}, there {asked[name]})"
        if name in SHORT and name in asked
        else name
        for name in one["differs"]
    ]
    remarks = [f"other {', '.join(differs)}"] if differs else []
    num_problems = one.get("num_problems")
    if num_problems not in (None, found["num_problems"]):
        remarks.append(f"on {num_problems:,} problems there, {found['num_problems']:,} here")
    return remarks + ([one["note"]] if one["note"] else [])


def _outcomes(found: dict[str, Any]) -> dict[str, str]:
    """How many completions ended how; where some could not be verified, what the score is at most.

    Metrics of older versions know nothing of what was not run.
    """
    known = [name for name in OUTCOMES if f"num_{name}" in found]
    total = sum(found[f"num_{name}"] for name in known)
    said = {}
    for name in known:
        count = found[f"num_{name}"]
        label = name.replace("_", " ")
        said[label] = f"{count:,} ({count / total:.1%})" if total else UNKNOWN
    if found["num_unverifiable"]:
        said["unverifiable"] += f", Pass@1 at most {share(found['upper_bound'])}"
    reasons = found.get("unanswered") or {}
    not_run = {name: rows for name, rows in reasons.items() if name not in LEFT_OUT}
    left_out = {name: rows for name, rows in reasons.items() if name in LEFT_OUT}
    if not_run:
        said["not run"] += f", not correct: {_by_reason(not_run)}"
    if left_out:
        said["left out"] = f"{_by_reason(left_out)} of {found['num_asked']:,}"
    return said


def _missing_modules(counts: dict[str, int] | None) -> dict[str, str]:
    """How many programs ended at an import, for a package that the sandbox has not, and of which."""
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

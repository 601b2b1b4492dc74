"""The text of a comparison, for the terminal and for a markdown file."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from distillpipe.base.markdown import inline
from distillpipe.base.terminal import printable
from distillpipe.reports.comparison import Group, Pair
from distillpipe.reports.lineage import Overlap
from distillpipe.reports.tables import Table, aligned, markdown, score_table, share, with_interval

MIN_P = 1e-9  # the test is not exact below


class ScoredModel(msgspec.Struct):
    """The scores of one of the compared models."""

    name: str
    path: str
    metrics: dict[str, Any]
    "the content of metrics.json, recomputed from the rows"
    training_overlap: Overlap | None
    "null if the training data is unknown, because the model is not a checkpoint of distillpipe"


class Comparison(msgspec.Struct):
    """The comparison of several models on one benchmark."""

    benchmark: str
    models: list[ScoredModel]
    pairs: list[Pair]
    warnings: list[str]


def terminal_lines(comparison: Comparison) -> Iterator[str]:
    """The lines for the terminal."""
    yield from (printable(f"warning: {line}") for line in comparison.warnings)
    for title, table in _tables(comparison):
        yield from ["", printable(title), *(f"  {line}" for line in aligned(table))]
    yield from ["", *map(printable, _notes(comparison))]


def markdown_lines(comparison: Comparison) -> Iterator[str]:
    """The lines of a markdown file."""
    yield from [f"# {inline(comparison.benchmark)}", ""]
    yield from _paragraphs([f"**Warning:** {inline(line)}." for line in comparison.warnings])
    for title, table in _tables(comparison):
        yield from [f"## {inline(title)}", "", *markdown(table), ""]
    yield from _paragraphs([inline(line) for line in _notes(comparison)])


def _tables(comparison: Comparison) -> Iterator[tuple[str, Table]]:
    scores = []
    for model in comparison.models:
        cells = dict(model.metrics)
        if model.training_overlap is not None:
            cells["training_overlap"] = _overlap(
                model.training_overlap, model.metrics["num_problems"]
            )
        scores.append((model.name, cells))
    yield "scores", score_table(scores)
    yield f"against {comparison.models[0].name}", _pair_table(comparison.pairs)
    by: dict[str, Callable[[Pair], dict[str, Group]]] = {
        "domain": lambda pair: pair.by_domain,
        "difficulty": lambda pair: pair.by_difficulty,
    }
    for pair in comparison.pairs:
        for name, groups_of in by.items():
            if groups := groups_of(pair):
                yield f"{pair.model} against {pair.first_model}, by {name}", _group_table(groups)


def _pair_table(pairs: list[Pair]) -> Table:
    several = len(pairs) > 1
    heading = ["", "difference", "p", "p (Holm)", "won", "lost", "even", "detectable", "unpaired"]
    rows = []
    for pair in pairs:
        group, effect = pair.overall, pair.minimum_detectable_effect
        rows.append([
            pair.model,
            with_interval(group.difference, group.interval, signed=True),
            _p(pair.p_value),
            _p(pair.p_value_holm),
            *(f"{count:,}" for count in (group.num_wins, group.num_losses, group.num_ties)),
            share(effect["paired"]),
            share(effect["unpaired"]),
        ])  # fmt: skip
    if not several:
        return [
            [cell for column, cell in enumerate(row) if column != 3] for row in (heading, *rows)
        ]
    return [heading, *rows]


def _group_table(groups: dict[str, Group]) -> Table:
    rows = [
        [
            name,
            f"{group.num_problems:,}",
            f"{group.first:.3f}",
            f"{group.other:.3f}",
            with_interval(group.difference, group.interval, signed=True),
            *(f"{count:,}" for count in (group.num_wins, group.num_losses, group.num_ties)),
        ]
        for name, group in groups.items()
    ]
    return [["", "problems", "first", "other", "difference", "won", "lost", "even"], *rows]


def _notes(comparison: Comparison) -> Iterator[str]:
    first = comparison.models[0].name
    yield (
        f"difference: Pass@1 minus that of {first}, mean over problems, with a 95% interval; won: problems "
        "with a higher share of correct samples"
    )
    p_note = (
        "p: sign-flip test over problems, two-sided; where the differences have several sizes, the larger of "
        "it and Hall's t-test, which allows for skew"
    )
    if len(comparison.pairs) > 1:
        p_note += f"; p (Holm): adjusted for {len(comparison.pairs)} models held against {first}"
    yield p_note
    for caution in dict.fromkeys(filter(None, (pair.p_value_caution for pair in comparison.pairs))):
        yield f"p {caution}"
    yield "detectable: the smallest true difference that such a test finds in 80% of cases; unpaired: had each model had problems of its own"
    if any(pair.by_difficulty for pair in comparison.pairs):
        yield (
            "difficulty: by the mean share of correct samples over all models here, hard under 1/3, easy "
            "over 2/3"
        )
    for model in comparison.models:
        if (overlap := model.training_overlap) is None:
            yield f"{model.name}: its training data is not known (no checkpoint of ours)"
        elif overlap.found_in:
            yield f"{model.name}: was trained on problems of this benchmark: {', '.join(overlap.found_in)}"
        if overlap is not None and overlap.unknown:
            yield f"{model.name}: training data that is gone or has changed: {', '.join(overlap.unknown)}"


def _overlap(overlap: Overlap, num_problems: int) -> str:
    if overlap.num_problems:
        return f"{overlap.num_problems:,} of {num_problems:,} problems"
    return "not known" if overlap.unknown else "none found"


def _p(value: float) -> str:
    if value < MIN_P:
        return f"< {MIN_P:.0e}"
    return f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


def _paragraphs(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from [line, ""]

"""A comparison as lines of text, for the terminal and for a file of markdown."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from distillpipe.base.markdown import inline
from distillpipe.base.terminal import printable
from distillpipe.reports.comparison import Group, Pair
from distillpipe.reports.lineage import Overlap
from distillpipe.reports.tables import Table, aligned, markdown, score_table, share, with_interval

MIN_P = 1e-9  # the test is not exact beyond


class Scored(msgspec.Struct):
    """One of the models that are compared."""

    name: str
    path: str
    metrics: dict[str, Any]
    "what metrics.json would hold, from the rows"
    training_overlap: Overlap | None
    "null where nothing is known of its training data: it is no checkpoint of ours"


class Comparison(msgspec.Struct):
    """All that is said of several models on one benchmark."""

    benchmark: str
    models: list[Scored]
    pairs: list[Pair]
    warnings: list[str]


def terminal(found: Comparison) -> Iterator[str]:
    """For a person at a terminal."""
    yield from (printable(f"warning: {line}") for line in found.warnings)
    for title, table in _tables(found):
        yield from ["", printable(title), *(f"  {line}" for line in aligned(table))]
    yield from ["", *map(printable, _notes(found))]


def document(found: Comparison) -> Iterator[str]:
    """For a file: metrics.md."""
    yield from [f"# {inline(found.benchmark)}", ""]
    yield from _paragraphs([f"**Warning:** {inline(line)}." for line in found.warnings])
    for title, table in _tables(found):
        yield from [f"## {inline(title)}", "", *markdown(table), ""]
    yield from _paragraphs([inline(line) for line in _notes(found)])


def _tables(found: Comparison) -> Iterator[tuple[str, Table]]:
    scores = []
    for one in found.models:
        cells = dict(one.metrics)
        if one.training_overlap is not None:
            cells["training_overlap"] = _overlap(one.training_overlap, one.metrics["num_problems"])
        scores.append((one.name, cells))
    yield "scores", score_table(scores)
    yield f"against {found.models[0].name}", _pair_table(found.pairs)
    by: dict[str, Callable[[Pair], dict[str, Group]]] = {
        "domain": lambda pair: pair.by_domain,
        "difficulty": lambda pair: pair.by_difficulty,
    }
    for pair in found.pairs:
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
        return [[cell for place, cell in enumerate(row) if place != 3] for row in (heading, *rows)]
    return [heading, *rows]


def _group_table(groups: dict[str, Group]) -> Table:
    rows = [
        [
            name,
            f"{one.num_problems:,}",
            f"{one.first:.3f}",
            f"{one.other:.3f}",
            with_interval(one.difference, one.interval, signed=True),
            *(f"{count:,}" for count in (one.num_wins, one.num_losses, one.num_ties)),
        ]
        for name, one in groups.items()
    ]
    return [["", "problems", "first", "other", "difference", "won", "lost", "even"], *rows]


def _notes(found: Comparison) -> Iterator[str]:
    first = found.models[0].name
    yield (
        f"difference: Pass@1 minus that of {first}, mean over problems, with a 95% interval; won: problems "
        "with a higher share of correct samples"
    )
    said = (
        "p: sign-flip test over problems, two-sided; where the differences have several sizes, the larger of "
        "it and Hall's t-test, which allows for skew"
    )
    if len(found.pairs) > 1:
        said += f"; p (Holm): adjusted for {len(found.pairs)} models held against {first}"
    yield said
    for caution in dict.fromkeys(filter(None, (pair.p_value_caution for pair in found.pairs))):
        yield f"p {caution}"
    yield "detectable: the smallest true difference that such a test finds in 80% of cases; unpaired: had each model had problems of its own"
    if any(pair.by_difficulty for pair in found.pairs):
        yield (
            "difficulty: by the mean share of correct samples over all models here, hard under 1/3, easy "
            "over 2/3"
        )
    for one in found.models:
        if (overlap := one.training_overlap) is None:
            yield f"{one.name}: its training data is not known (no checkpoint of ours)"
        elif overlap.found_in:
            yield f"{one.name}: was trained on problems of this benchmark: {', '.join(overlap.found_in)}"
        if overlap is not None and overlap.unknown:
            yield f"{one.name}: training data that is gone or has changed: {', '.join(overlap.unknown)}"


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

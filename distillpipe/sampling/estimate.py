"""Forecasts the cost of sampling: from the rows of a pilot, else from rows of the same model, else from options.

Lengths of reasoning vary widely, so each mean has a 90% prediction interval for the total: mean +- t * s *
sqrt(1/n + 1/m) per row, for m future rows after n observed ones (Student's t; Geisser 1993, "Predictive
Inference", chapter 2).
"""

import math
import statistics
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import DistillError
from distillpipe.base.options import SamplingOptions
from distillpipe.base.records import FinishReason, TokenCounts
from distillpipe.base.redaction import redact_all
from distillpipe.base.student_t import student_quantile
from distillpipe.data import sources
from distillpipe.data.forecast import TEXT_BYTES_PER_TOKEN, Forecast, size, weight_bytes
from distillpipe.data.sources import Problems
from distillpipe.data.store import dataset, spending, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import decode
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.spending import Prices, dollars
from distillpipe.data.store.versions import Header
from distillpipe.models.chat import Chat
from distillpipe.models.clock import set_clock_of_forecast
from distillpipe.models.lookup import AnyModel, Model, Served
from distillpipe.sampling.plan import RowPlan

ROW_BYTES = 1200  # keys, ids and options of a row, besides its text
MIN_ROWS = 5  # needed for a prediction interval
CONFIDENCE = 0.9
CONCURRENCY = 256  # rows that keep an engine busy, if --concurrency is not given
NO_BUDGET = {"num_waits": 0, "min_reasoning_tokens": 0, "max_reasoning_tokens": None}


class RowCost(NamedTuple):
    """The tokens and bytes of one observed row."""

    prompt: int
    completion: int
    num_bytes: int
    is_whole: bool
    "whether the completion ended by itself"
    is_counted: bool
    "whether the row has token counts; without them the tokens are 0 here and must not be used"


def forecast_rows(
    forecast: Forecast,
    source: Problems,
    model: AnyModel | None,
    chat: Chat | None,
    options: SamplingOptions,
    header: Header | None,
) -> None:
    """Add to a forecast the number of rows, how many exist already, and the cost of the others.

    Without a model the prompts cannot be rendered: then every row counts as to be sampled. If
    `forecast.pilot` lists rows, only these are used to estimate the cost. `header` is that of the version.
    """
    fresh = header is not None and header.fresh
    problems = sources.read_problems(source, options.prompting, options.plan.limit)
    out, longest_prompt = Path(forecast.out), 0
    folders = _folders(out, fresh=fresh)
    if model is None:
        num_rows = sum(1 for _ in problems) * options.plan.num_samples
        num_reused = reused_tokens = 0
    else:
        if header is not None:
            set_clock_of_forecast(chat, out, header)
        with tempfile.TemporaryDirectory() as folder:
            plan = RowPlan(model, chat, options, Path(folder))
            plan.add(problems)
            longest_prompt = plan.max_prompt_tokens()
        num_rows = len(plan.rows)
        reused = _row_costs(folders, plan.rows.keys())
        num_reused = len(reused)
        reused_tokens = sum(row.completion for row in reused.values())
    to_sample = num_rows - num_reused
    forecast.rows = {"wanted": num_rows, "there already": num_reused, "to sample": to_sample}
    similar = _similar_versions(_folders(out, fresh=False), model, options)
    sources_of_cost = folders if forecast.pilot else [folder for folder, _ in similar]
    rows = _row_costs(sources_of_cost, forecast.pilot or None).values()
    observed = [row for row in rows if row.is_counted]
    if len(rows) > len(observed):
        forecast.notes.append(
            f"{len(rows) - len(observed):,} of {len(rows):,} existing rows have no token counts and are not "
            "used for the estimate"
        )
    _estimate_tokens(forecast, observed, to_sample, options.sampling.max_tokens)
    if options.soft_labels is not None and not forecast.is_up_to_date:
        _estimate_labels(forecast, options.soft_labels, reused_tokens)
    _estimate_seconds(forecast, [manifest for _, manifest in similar], options.engine.concurrency)
    if isinstance(model, Model):
        forecast.estimate.memory_bytes = weight_bytes(model.weights_folder)
    prices = spending.prices_of(options.engine)
    if isinstance(model, Served) and prices is not None:
        _estimate_dollars(forecast, observed, prices, to_sample, longest_prompt)


def _estimate_tokens(
    forecast: Forecast, observed: Sequence[RowCost], to_sample: int, max_tokens: int
) -> None:
    estimate = forecast.estimate
    estimate.max_tokens = to_sample * max_tokens
    if not observed:
        estimate.tokens = estimate.max_tokens
        estimate.disk_bytes = estimate.tokens * TEXT_BYTES_PER_TOKEN + to_sample * ROW_BYTES
        estimate.basis = "from the options: the limit --max-tokens"
        return
    rows = "row" if len(observed) == 1 else "rows"
    estimate.basis = f"from {'a pilot of ' if forecast.pilot else 'the '}{len(observed):,} {rows}"
    estimate.basis += "" if forecast.pilot else f" under {forecast.out}"
    tokens = [row.completion for row in observed]
    estimate.tokens = math.ceil(to_sample * math.fsum(tokens) / len(observed))
    token_range = total_range(tokens, to_sample, max_tokens)
    if token_range is not None:
        estimate.tokens_range = (math.floor(token_range[0]), math.ceil(token_range[1]))
    num_bytes = sum(row.num_bytes for row in observed)
    estimate.disk_bytes = math.ceil(to_sample * num_bytes / len(observed))
    if num_truncated := sum(not row.is_whole for row in observed):
        forecast.notes.append(
            f"{num_truncated:,} of these {len(observed):,} rows were truncated: --max-tokens {max_tokens:,}"
        )


def _estimate_labels(forecast: Forecast, k: int, reused_tokens: int) -> None:
    """Add the disk size of the labels, including those of reused rows."""
    from distillpipe.data.store.labels import label_bytes

    estimate = forecast.estimate
    num_bytes = label_bytes((estimate.tokens or 0) + reused_tokens, k)
    estimate.disk_bytes = (estimate.disk_bytes or 0) + num_bytes
    forecast.notes.append(
        f"{size(num_bytes)} of the disk space are soft labels, {label_bytes(1, k)} bytes per token"
    )


def _estimate_seconds(
    forecast: Forecast, earlier: Sequence[Manifest], concurrency: int | None
) -> None:
    """Estimate the time from the throughput of earlier versions."""
    counts = [manifest.counts for manifest in earlier]
    sampled = sum(item.tokens_sampled for item in counts)
    seconds = sum(item.seconds_working for item in counts)
    if not sampled or not seconds or forecast.estimate.tokens is None:
        return
    forecast.estimate.seconds = forecast.estimate.tokens * seconds / sampled
    num_rows = sum(item.rows_kept - item.rows_reused for item in counts)
    # a few rows do not keep the engine busy
    if forecast.rows["to sample"] and num_rows < (concurrency or CONCURRENCY):
        forecast.notes.append("the time is based on few concurrent rows: more are faster")


def _estimate_dollars(
    forecast: Forecast,
    observed: Sequence[RowCost],
    prices: Prices,
    to_sample: int,
    max_prompt_tokens: int,
) -> None:
    """Estimate the cost from observed rows; without any it is the worst case."""
    estimate = forecast.estimate
    worst = prices.cost(to_sample * max_prompt_tokens, estimate.max_tokens or 0)
    estimate.dollars = estimate.max_dollars = dollars(worst)
    if not observed:
        return
    costs = [prices.cost(row.prompt, row.completion) for row in observed]
    estimate.dollars = dollars(math.ceil(to_sample * math.fsum(costs) / len(observed)))
    worst_per_row = worst / to_sample if to_sample else 0.0
    cost_range = total_range(costs, to_sample, worst_per_row)
    if cost_range is not None:
        estimate.dollars_range = (dollars(round(cost_range[0])), dollars(round(cost_range[1])))


def total_range(
    observed: Sequence[float], num_future: int, limit: float
) -> tuple[float, float] | None:
    """The 90% prediction interval of the sum of `num_future` values, each at most `limit`.

    None for fewer than `MIN_ROWS` observed values, or without future values.
    """
    if len(observed) < MIN_ROWS or not num_future:
        return None
    mean = math.fsum(observed) / len(observed)
    variance = statistics.variance(observed, mean)
    spread = math.sqrt(variance * (num_future / len(observed) + 1) * num_future)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    half_width = student_quantile(len(observed) - 1, z) * spread
    total = num_future * mean
    return max(0.0, total - half_width), min(num_future * limit, total + half_width)


class _Row(msgspec.Struct):
    """The fields of a row that give its cost."""

    row_key: str
    finish_reason: FinishReason
    num_tokens: TokenCounts | None


def _row_costs(folders: Sequence[Path], keys: Collection[str] | None) -> dict[str, RowCost]:
    """The costs of the rows in some versions, by row key; of all rows if `keys` is None."""
    decoder, costs = msgspec.json.Decoder(_Row), dict[str, RowCost]()
    uncounted = TokenCounts(prompt=0, reasoning=0, response=0, total=0)
    for folder in folders:
        for where, line in dataset.scan_lines(folder, skip_torn=True):
            row = decode(line, decoder, where)
            if keys is None or row.row_key in keys:
                tokens = row.num_tokens or uncounted
                costs[row.row_key] = RowCost(
                    tokens.prompt,
                    tokens.total - tokens.prompt,
                    len(line) + 1,
                    row.finish_reason == "stop",
                    row.num_tokens is not None,
                )
    return costs


def _folders(out: Path, *, fresh: bool) -> list[Path]:
    """The versions and drafts whose rows a run takes over: with --fresh only a draft of a fresh run."""
    drafts = versions.partials(out)
    if fresh:
        return [folder for folder, manifest in _manifests(drafts) if not manifest.takes_over]
    return versions.finished(out) + drafts


def _similar_versions(
    folders: Sequence[Path], model: AnyModel | None, options: SamplingOptions
) -> list[tuple[Path, Manifest]]:
    """Versions, finished or not, with rows of the same model, sampling options and budget."""
    expected = redact_all(msgspec.structs.asdict(options.sampling)) | NO_BUDGET
    if options.budget is not None:
        expected |= msgspec.structs.asdict(options.budget)
    return [
        (folder, manifest)
        for folder, manifest in _manifests(folders)
        if (model is None or any(used.identity == model.identity for used in manifest.models))
        and all(
            manifest.options[name].value == value
            for name, value in expected.items()
            if name in manifest.options
        )
    ]


def _manifests(folders: Sequence[Path]) -> Iterator[tuple[Path, Manifest]]:
    for folder in folders:
        with suppress(DistillError):
            yield folder, manifests.read(folder)

"""What sampling would cost: from the rows of a pilot, from rows of the same model, else from the options.

Lengths of reasoning spread widely, so a mean goes with the range that the total lies in with 90%
probability: mean +- t * s * sqrt(1/n + 1/m) for each of m rows to come, after n that were seen (Student's
t; Geisser 1993, "Predictive Inference", chapter 2).
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
from distillpipe.data.store import dataset, spending, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import decode
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.spending import Prices, dollars
from distillpipe.models.lookup import AnyModel, Model, Served
from distillpipe.sampling.plan import RowPlan, load_model_chat

ROW_BYTES = 1200  # keys, ids and options of a row, beside its text
MIN_ROWS = 5  # that a range is told from
CONFIDENCE = 0.9
CONCURRENCY = 256  # rows that keep an engine busy, where no figure is given
NO_BUDGET = {"num_waits": 0, "min_reasoning_tokens": 0, "max_reasoning_tokens": None}


class Seen(NamedTuple):
    """What one row cost."""

    prompt: int
    completion: int
    num_bytes: int
    is_whole: bool
    "whether it ended by itself"
    is_counted: bool
    "whether anybody counted its tokens; else they are zero here, and tell nothing of the rest"


def forecast_rows(
    found: Forecast,
    source: str,
    model: AnyModel | None,
    out: Path,
    options: SamplingOptions,
    fresh: bool,
) -> None:
    """Add to a forecast which rows are wanted, which are there, and what the rest would cost.

    Without a model the prompts cannot be rendered: then every row counts as to be sampled. Of the rows
    that `found.pilot` lists, only those tell what the rest costs.
    """
    problems = sources.read_problems(source, options.prompting, options.plan.limit)
    longest_prompt = 0
    folders = _folders(out, fresh=fresh)
    if model is None:
        wanted = sum(1 for _ in problems) * options.plan.num_samples
        reused = tokens_there = 0
    else:
        chat = load_model_chat(model, options)
        with tempfile.TemporaryDirectory() as folder:
            plan = RowPlan(model, chat, options, Path(folder))
            plan.plan(problems)
            longest_prompt = plan.most_prompt_tokens()
        wanted = len(plan.wanted)
        rows_there = _seen(folders, plan.wanted.keys())
        reused, tokens_there = len(rows_there), sum(one.completion for one in rows_there.values())
    to_sample = wanted - reused
    found.rows = {"wanted": wanted, "there already": reused, "to sample": to_sample}
    there = _sampled_before(_folders(out, fresh=False), model, options)
    places = folders if found.pilot else [folder for folder, _ in there]
    rows = _seen(places, found.pilot or None).values()
    seen = [one for one in rows if one.is_counted]
    if len(rows) > len(seen):
        found.notes.append(
            f"{len(rows) - len(seen):,} of {len(rows):,} rows there have no token counts and tell nothing of the rest"
        )
    _estimate_tokens(found, seen, to_sample, options.sampling.max_tokens)
    if options.soft_labels is not None and not found.is_up_to_date:
        _estimate_labels(found, options.soft_labels, tokens_there)
    _estimate_seconds(found, [one for _, one in there], options.engine.concurrency)
    if isinstance(model, Model):
        found.estimate.memory_bytes = weight_bytes(model.weights_folder)
    prices = spending.prices_of(options.engine)
    if isinstance(model, Served) and prices is not None:
        _estimate_dollars(found, seen, prices, to_sample, longest_prompt)


def _estimate_tokens(
    found: Forecast, seen: Sequence[Seen], to_sample: int, max_tokens: int
) -> None:
    estimate = found.estimate
    estimate.max_tokens = to_sample * max_tokens
    if not seen:
        estimate.tokens = estimate.max_tokens
        estimate.disk_bytes = estimate.tokens * TEXT_BYTES_PER_TOKEN + to_sample * ROW_BYTES
        estimate.basis = "from the options: the limit --max-tokens"
        return
    rows = "row" if len(seen) == 1 else "rows"
    estimate.basis = f"from {'a pilot of ' if found.pilot else 'the '}{len(seen):,} {rows}"
    estimate.basis += "" if found.pilot else f" under {found.out}"
    tokens = [one.completion for one in seen]
    estimate.tokens = math.ceil(to_sample * math.fsum(tokens) / len(seen))
    found_range = total_range(tokens, to_sample, max_tokens)
    if found_range is not None:
        estimate.tokens_range = (math.floor(found_range[0]), math.ceil(found_range[1]))
    estimate.disk_bytes = math.ceil(to_sample * sum(one.num_bytes for one in seen) / len(seen))
    if cut := sum(not one.is_whole for one in seen):
        found.notes.append(
            f"{cut:,} of these {len(seen):,} rows were cut off: --max-tokens {max_tokens:,}"
        )


def _estimate_labels(found: Forecast, k: int, tokens_there: int) -> None:
    """What labels take on disk, those of rows that are taken over too."""
    from distillpipe.data.store.labels import label_bytes

    estimate = found.estimate
    num_bytes = label_bytes((estimate.tokens or 0) + tokens_there, k)
    estimate.disk_bytes = (estimate.disk_bytes or 0) + num_bytes
    found.notes.append(
        f"{size(num_bytes)} of the disk are soft labels, {label_bytes(1, k)} bytes a token"
    )


def _estimate_seconds(found: Forecast, there: Sequence[Manifest], concurrency: int | None) -> None:
    """At the speed of what was sampled; rows too few to keep the engine busy were slower."""
    sampled = sum(one.counts.tokens_sampled for one in there)
    seconds = sum(one.counts.seconds_working for one in there)
    if not sampled or not seconds or found.estimate.tokens is None:
        return
    found.estimate.seconds = found.estimate.tokens * seconds / sampled
    rows = sum(one.counts.rows_kept - one.counts.rows_reused for one in there)
    if found.rows["to sample"] and rows < (concurrency or CONCURRENCY):
        found.notes.append("the time is at the speed of few rows at once: more are faster")


def _estimate_dollars(
    found: Forecast, seen: Sequence[Seen], prices: Prices, to_sample: int, most_prompt_tokens: int
) -> None:
    """With prompts as they were seen, or as long as may be."""
    estimate = found.estimate
    most = prices.cost(to_sample * most_prompt_tokens, estimate.max_tokens or 0)
    estimate.dollars = estimate.max_dollars = dollars(most)
    if not seen:
        return
    costs = [prices.cost(one.prompt, one.completion) for one in seen]
    estimate.dollars = dollars(math.ceil(to_sample * math.fsum(costs) / len(seen)))
    most_a_row = most / to_sample if to_sample else 0.0
    found_range = total_range(costs, to_sample, most_a_row)
    if found_range is not None:
        estimate.dollars_range = (dollars(round(found_range[0])), dollars(round(found_range[1])))


def total_range(seen: Sequence[float], to_come: int, most: float) -> tuple[float, float] | None:
    """Where the sum of `to_come` values lies with 90% probability, each at most `most`, after those seen.

    None for fewer than `MIN_ROWS` seen, whose spread says nothing, and where nothing is to come.
    """
    if len(seen) < MIN_ROWS or not to_come:
        return None
    mean = math.fsum(seen) / len(seen)
    spread = math.sqrt(statistics.variance(seen, mean) * (to_come / len(seen) + 1) * to_come)
    half = student_quantile(len(seen) - 1, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)) * spread
    return max(0.0, to_come * mean - half), min(to_come * most, to_come * mean + half)


class _Row(msgspec.Struct):
    """What of a row says what it cost."""

    row_key: str
    finish_reason: FinishReason
    num_tokens: TokenCounts | None


def _seen(folders: Sequence[Path], wanted: Collection[str] | None) -> dict[str, Seen]:
    """What the rows in some versions cost, by row key; only those that are `wanted`, if that is given."""
    decoder, found = msgspec.json.Decoder(_Row), dict[str, Seen]()
    for folder in folders:
        for where, line in dataset.scan_lines(folder, skip_torn=True):
            row = decode(line, decoder, where)
            if wanted is None or row.row_key in wanted:
                tokens = row.num_tokens or TokenCounts(prompt=0, reasoning=0, response=0, total=0)
                completion = tokens.total - tokens.prompt
                is_whole = row.finish_reason == "stop"
                is_counted = row.num_tokens is not None
                found[row.row_key] = Seen(
                    tokens.prompt, completion, len(line) + 1, is_whole, is_counted
                )
    return found


def _folders(out: Path, *, fresh: bool) -> list[Path]:
    """The versions and drafts whose rows a run has: with --fresh only a draft of such a run."""
    drafts = versions.partials(out)
    if fresh:
        return [folder for folder, found in _manifests(drafts) if not found.takes_over]
    return versions.finished(out) + drafts


def _sampled_before(
    folders: Sequence[Path], model: AnyModel | None, options: SamplingOptions
) -> list[tuple[Path, Manifest]]:
    """Versions, finished or not, that hold rows of the same model, sampling options and budget."""
    asked = redact_all(msgspec.structs.asdict(options.sampling)) | NO_BUDGET
    if options.budget is not None:
        asked |= msgspec.structs.asdict(options.budget)
    return [
        (folder, found)
        for folder, found in _manifests(folders)
        if (model is None or any(used.identity == model.identity for used in found.models))
        and all(
            found.options[name].value == value
            for name, value in asked.items()
            if name in found.options
        )
    ]


def _manifests(folders: Sequence[Path]) -> Iterator[tuple[Path, Manifest]]:
    for folder in folders:
        with suppress(DistillError):
            yield folder, manifests.read(folder)

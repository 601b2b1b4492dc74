"""Recall, false positives and speed of decontamination and of the near-duplicate rule, on perturbed real problems.

    python scripts/bench/decontaminate.py            recall, false positives, speed (../shared/data/math)
    python scripts/bench/decontaminate.py --list     also each problem that was flagged or missed

Problems of a benchmark are perturbed (perturbed_problems.py), mixed with a pool of other problems, and searched. Rules
and thresholds were tuned on SPELLINGS and on the rows with an even number; EDITS and HELD_OUT are reported for the odd
rows. Times are CPU seconds of one core.
"""

import argparse
import json
import random
import resource
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import perturbed_problems as perturbed
from perturbed_problems import Perturbation

from distillpipe.filters.decontaminate import Decontaminator, Match
from distillpipe.filters.near_duplicates import near_duplicates

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "math"
TWINS = ["Mary", "Tom", "Ruth", "Omar", "Li", "Ana", "Ivan", "Noor"]
THINGS = ["coins", "apples", "stamps", "books", "marbles", "pens", "shells", "cards"]


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--rows", type=int, default=100_000)
    options = arguments.parse_args()
    pool = _problems("math_train_deepscaler.json", "problem")
    benchmarks = {
        "math500": _problems("math500.jsonl", "problem"),
        "gsm8k": _problems("gsm8k_test.jsonl", "question"),
        "aime24": _problems("aime24_deepscaler.json", "problem"),
    }
    for name, problems in benchmarks.items():
        report_found(name, problems, pool, options.list)
    report_speed(benchmarks, pool, options.rows)
    report_near(pool + benchmarks["gsm8k"], options.list)
    report_near_speed(pool + benchmarks["gsm8k"], options.rows)


def report_found(name: str, problems: list[str], pool: list[str], is_listing: bool) -> None:
    """Print the share of perturbed problems that match their own row, and the other problems that are flagged."""
    index = Decontaminator((name, str(at), problem) for at, problem in enumerate(problems))
    print(f"\n{name}: {len(problems)} problems, found as themselves among {len(pool)} others")

    def found(label: str, kinds: list[Perturbation], places: range) -> None:
        num_changed = num_found = 0
        for at in places:
            problem = perturbed.spelled_otherwise(problems[at], at, kinds)
            if kinds == [perturbed.other_numbers] and problem == problems[at]:
                continue
            match = index.match(problem)
            num_changed += 1
            num_found += match is not None and match.row == str(at)
            if is_listing and (match is None) != (kinds == [perturbed.other_numbers]):
                print(f"    {label}: {at} {match} {problem[:200]!r}")
        print(f"  {label:34} {num_found} of {num_changed} ({num_found / max(num_changed, 1):.3f})")

    every, odd = range(len(problems)), range(1, len(problems), 2)
    for kind in perturbed.SPELLINGS:
        found(f"tuned on: {kind.__name__}", [kind], every)
    found("tuned on: all four", perturbed.SPELLINGS, every)
    for kind in [*perturbed.HELD_OUT, *perturbed.EDITS]:
        found(f"held out: {kind.__name__}", [kind], odd)
    found("held out: latex, then all but diagram", [perturbed.latex, *perturbed.HELD_OUT[:4]], odd)
    found("other numbers: not to be found", [perturbed.other_numbers], every)
    flagged = [
        (at, match) for at, one in enumerate(pool) if (match := index.match(one)) is not None
    ]
    print(f"  others flagged: {len(flagged)} ({len(flagged) / len(pool):.4f})")
    for at, match in flagged if is_listing else []:
        print(
            f"    {match}\n      row  {problems[int(match.row)][:300]!r}\n      pool {at} {pool[at][:300]!r}"
        )
    eight = Decontaminator(((name, str(at), one) for at, one in enumerate(problems)), "ngram8")
    print(f"  ngram8: others flagged: {sum(eight.match(one) is not None for one in pool)}")


def report_speed(benchmarks: dict[str, list[str]], pool: list[str], num_rows: int) -> None:
    rows = [
        (name, str(at), problem)
        for name, problems in benchmarks.items()
        for at, problem in enumerate(problems)
    ]
    print(f"\nspeed against {len(rows)} rows of {len(benchmarks)} benchmarks")
    for mode in ("share", "ngram8"):
        index = Decontaminator(rows, mode)
        for number in (num_rows // 10, num_rows):
            problems = list(islice(cycle(pool), number))
            _timed(f"{mode}, {number:,} problems", problems, partial(_matches, index, problems))


def report_near(problems: list[str], is_listing: bool) -> None:
    """Print the recall for injected near-duplicates, and the near-duplicates among the problems themselves."""
    print(f"\nnear-duplicates: a perturbed copy beside each eleventh of {len(problems)} problems")
    originals = [(str(at), problem) for at, problem in enumerate(problems)]
    kinds = [perturbed.SPELLINGS[:3], [perturbed.plain], [perturbed.typo], [perturbed.other_names]]
    kinds += [[perturbed.other_word], [perturbed.truncated], [perturbed.other_numbers]]
    for threshold in (0.6, 0.7, 0.8, 0.9):
        natural = near_duplicates(originals, threshold, 0)
        print(f"  threshold {threshold}: {len(natural)} among the problems themselves")
        for at, near in natural.items() if is_listing and threshold == 0.7 else []:
            print(
                f"    {near}\n      {problems[int(at)][:300]!r}\n      {problems[int(near.problem_id)][:300]!r}"
            )
        for kind in kinds:
            copies = [
                (f"copy {at}", copy)
                for at in range(0, len(problems), 11)
                if (copy := perturbed.spelled_otherwise(problems[at], at, kind)) != problems[at]
            ]
            near = near_duplicates(originals + copies, threshold, 0)
            beside = [
                copy_id
                for copy_id, _ in copies
                if copy_id in near or near.get(copy_id[5:], ("",))[0] == copy_id
            ]
            label = ", ".join(one.__name__ for one in kind)
            print(
                f"    {label:34} {len(beside)} of {len(copies)} ({len(beside) / len(copies):.3f})"
            )


def report_near_speed(problems: list[str], num_rows: int) -> None:
    print("\nspeed of near-duplicates")
    for number in (num_rows // 10, num_rows):
        draw = random.Random(0)
        real = [
            (str(at), perturbed.other_word(problem, draw) if at >= len(problems) else problem)
            for at, problem in enumerate(islice(cycle(problems), number))
        ]
        _timed(
            f"{number:,} real, nearly all near",
            [one for _, one in real],
            partial(near_duplicates, real, 0.7, 0),
        )
        distinct = [(one, f"{problem} {draw.getrandbits(40)}") for one, problem in real]
        _timed(
            f"{number:,} real, each with its number",
            [one for _, one in distinct],
            partial(near_duplicates, distinct, 0.7, 0),
        )
        template = [(str(at), _story(draw)) for at in range(number)]
        _timed(
            f"{number:,} of one template",
            [one for _, one in template],
            partial(near_duplicates, template, 0.7, 0),
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  peak memory of everything here: {peak:,.0f} MiB")


def _story(draw: random.Random) -> str:
    first, second = draw.sample(TWINS, 2)
    return (
        f"{first} has {draw.randint(2, 99)} {draw.choice(THINGS)} and gets {draw.randint(2, 9)} more from {second}, "
        f"who keeps {draw.randint(2, 99)}. How many do they have together?"
    )


def _matches(index: Decontaminator, problems: list[str]) -> list[Match | None]:
    return [index.match(problem) for problem in problems]


def _timed(label: str, problems: list[str], run: Callable[[], Any]) -> None:
    megabytes = sum(map(len, problems)) / 1e6
    before = time.process_time()
    found = run()
    seconds = time.process_time() - before
    num_found = len(found) if isinstance(found, dict) else sum(one is not None for one in found)
    print(
        f"  {label:44} {seconds:6.1f} s  {megabytes / seconds:5.1f} MB/s  {len(problems) / seconds:8,.0f} rows/s  "
        f"{num_found:,} found"
    )


def _problems(file: str, field: str) -> list[str]:
    text = (DATA / file).read_text(encoding="utf-8")
    rows = json.loads(text) if file.endswith(".json") else map(json.loads, text.splitlines())
    return [row[field] for row in rows]


if __name__ == "__main__":
    main()

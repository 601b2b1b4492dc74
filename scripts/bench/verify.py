"""The speed of verdicts compared with calling math-verify directly, and the pairs on which both differ.

    python scripts/bench/verify.py                     7 pairs of runs over ../shared/data/traces
    python scripts/bench/verify.py --pairs 3 --limit 200
    python scripts/bench/verify.py --list              print every pair on which the verdicts differ

The data is what a filter sees: the boxed answers of real traces and their reference answers, in their real proportions.
One core: this process and its worker bind themselves to the first one that they may use. Both sides are warm, and every
run begins with empty caches. The order alternates. Prints medians and the range of the ratios, then the rate on simple
pairs: distinct numbers in the spellings that models use.
"""

import argparse
import json
import logging
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from math_verify import parse, verify

from distillpipe.verify import judge
from distillpipe.verify.extract import boxed_answer
from distillpipe.verify.math import verifier, workers

TRACES = Path(__file__).resolve().parents[3] / "shared" / "data" / "traces"
FILES = ("math500_r1_family", "rl3b_think_greedy", "instruct3b_greedy")
NUM_SIMPLE = 20_000

Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    logging.disable(logging.WARNING)

    mix = real_pairs()[: arguments.limit]
    verifier.same_value(r"\sum_{k=1}^3 k", "6")
    straight(*mix[0])
    rates: dict[str, list[float]] = {"ours": [], "straight": []}
    verdicts: dict[str, list[bool]] = {}
    for number in range(arguments.pairs):
        order = [("ours", ours), ("straight", straight)]
        for name, rule in order if number % 2 == 0 else order[::-1]:
            verdicts[name], rate = timed(rule, mix)
            rates[name].append(rate)
        print(
            f"pair {number + 1}: ours {rates['ours'][-1]:,.0f}, straight {rates['straight'][-1]:,.1f} pairs/s"
        )
    ratios = [mine / other for mine, other in zip(rates["ours"], rates["straight"], strict=True)]
    print(f"{len(mix)} real pairs, {arguments.pairs} pairs of runs, one core:")
    for name, per_second in rates.items():
        print(f"  {name:9} {statistics.median(per_second):10,.1f} pairs/s")
    print(f"  ratio     {statistics.median(ratios):10.1f} [{min(ratios):.1f}, {max(ratios):.1f}]")
    report_differences(mix, verdicts, listed=arguments.list)
    report_simple()
    workers.close()


def ours(answer: str, gold: str) -> bool:
    return judge(answer, gold, "math") == "correct"


def straight(answer: str, gold: str) -> bool:
    """As in its README: the reference as LaTeX, the answer with its box, and the defaults."""
    return bool(verify(parse(f"${gold}$"), parse(f"\\boxed{{{answer}}}")))


def timed(rule: Callable[[str, str], bool], pairs: list[Pair]) -> tuple[list[bool], float]:
    verifier.clear_caches()
    started = time.perf_counter()
    verdicts = [rule(*pair) for pair in pairs]
    return verdicts, len(pairs) / (time.perf_counter() - started)


def report_differences(mix: list[Pair], verdicts: dict[str, list[bool]], *, listed: bool) -> None:
    differ = sorted(
        {
            (is_correct, *pair)
            for pair, is_correct, other in zip(
                mix, verdicts["ours"], verdicts["straight"], strict=True
            )
            if is_correct != other
        }
    )
    print(f"verdicts differ on {len(differ)} distinct pairs")
    for is_correct, answer, gold in differ if listed else []:
        print(f"  ours {'correct' if is_correct else 'wrong':8} {answer}  |  {gold}")


def report_simple() -> None:
    draw = random.Random(0)
    pairs = [simple_pair(draw) for _ in range(NUM_SIMPLE)]
    rates = [timed(ours, pairs)[1] for _ in range(5)]
    print(f"{NUM_SIMPLE:,} simple pairs: {statistics.median(rates):,.0f} pairs/s")


def simple_pair(draw: random.Random) -> Pair:
    """A number, and a spelling of it or of another number; half of them whole, as in real data."""
    whole, below = draw.randint(-20_000, 20_000), draw.choice([1, 1, 1, 2, 3, 7])
    other = whole + draw.choice([0, 0, 1])
    sign = "-" if other < 0 else ""
    if below > 1:
        spelled = draw.choice([r"{}\frac{{{}}}{{{}}}", r"{}\dfrac{{{}}}{{{}}}", "{}{}/{}"])
        return spelled.format(sign, abs(other), below), f"{whole}/{below}"
    return draw.choice(["{}", "{:,}", "{}.0", "${}$", "{}"]).format(other), str(whole)


def real_pairs() -> list[Pair]:
    """Boxed answers after the reasoning, with their reference answers."""
    pairs = []
    for name in FILES:
        for line in (TRACES / f"{name}.jsonl").read_bytes().splitlines():
            row = json.loads(line)
            raw = row.get("raw") or ""
            response = raw.rsplit("</think>", 1)[1] if "</think>" in raw else None
            if row["think_format"] in ("no_tags", "fields"):
                response = raw or row["answer_text"]
            answer = boxed_answer(response) if response else None
            if answer is not None and row["gold"] is not None:
                pairs.append((answer, row["gold"]))
    return pairs


if __name__ == "__main__":
    main()

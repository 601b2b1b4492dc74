"""The cost of budget forcing: tokens per second with and without a budget, on the same engine and prompts.

    python scripts/bench/budget.py --engine transformers
    python scripts/bench/budget.py --engine vllm                the shipped teacher's shape on the CPU

The model has the shape of the shipped teacher and random weights, so it ends its reasoning at random, about once per
vocabulary size. One or two ends are replaced in each completion, then the reasoning is ended. Without a budget all
completions have --max-tokens tokens. Reasoning is ended at the exact token, because random text has hardly any whole
steps, and tokens after the last whole step would have to be sampled again. The order alternates between rounds. Prints
the median of the ratios and their range. `--processor-time` measures the CPU time of all processes, for a machine that
others use too.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import torch
from generate_vllm import SHIPPED, Clock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.options import Budget, EngineOptions, Sampling
from distillpipe.base.records import Message
from distillpipe.engines import open_engine
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.engines.budget.engine import BudgetedEngine
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat


def random_model(folder: Path) -> Path:
    """The shipped teacher with random weights."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(SHIPPED / "teacher")
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(SHIPPED / "teacher").save_pretrained(folder)
    return folder


def requests_of(chat: Chat, number: int, max_tokens: int) -> list[Request]:
    lines = (SHIPPED / "problems-train.jsonl").read_bytes().splitlines()[:number]
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=max_tokens)
    prompts = (json.loads(line)["problem"] for line in lines)
    return [
        Request(str(at), chat.prompt_ids([Message(role="user", content=text)]), sampling, at)
        for at, text in enumerate(prompts)
    ]


def sample(
    engine: Engine, requests: list[Request], clock: Callable[[], float]
) -> tuple[float, list[Completion]]:
    """Tokens per second, and the completions."""
    started = clock()
    with closing(engine.complete(iter(requests))) as outcomes:
        found = [one for one in outcomes if isinstance(one, Completion)]
    return sum(len(one.token_ids) for one in found) / (clock() - started), found


def clock_of(engine: Any, *, is_vllm: bool, of_processors: bool) -> Callable[[], float]:
    if is_vllm:
        return Clock(engine, of_processors=of_processors)
    return time.process_time if of_processors else time.perf_counter


def compare(
    plain: Engine, budgeted: Engine, requests: list[Request], arguments: Any, clock: Any
) -> None:
    ratios = []
    sample(budgeted, requests[:16], clock)  # a warm-up
    for number in range(arguments.pairs):
        sides = {"without": plain, "with": budgeted}
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        rates, found = {}, {}
        for name in order:
            rates[name], found[name] = sample(sides[name], requests, clock)
        ratios.append(rates["with"] / rates["without"])
        waits = sum(one.num_waits for one in found["with"])
        forced = sum(one.forced_end for one in found["with"])
        tokens = {name: sum(len(one.token_ids) for one in found[name]) for name in sides}
        print(f"  with {rates['with']:,.0f}, without {rates['without']:,.0f} tokens/s; {tokens['with']:,} and "
              f"{tokens['without']:,} tokens, {waits} waits, {forced} forced ends; load "
              f"{os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    print(f"with / without: median {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = random_model(Path(folder) / "random")
        chat = load_chat(place, "the model")
        options = EngineOptions(engine=arguments.engine, concurrency=arguments.concurrency)
        model = lookup.find(str(place), "--teacher")
        budget = Budget(
            num_waits=arguments.num_waits, min_reasoning_tokens=0,
            max_reasoning_tokens=arguments.max_reasoning_tokens, wait_text="Wait", end_text="", end_at="token",
        )  # fmt: skip
        ends = chat.end_ids
        chat.end_ids = frozenset()  # of the engine: no completion ends before its limit
        engine = open_engine(model, chat, options)
        chat.end_ids = ends
        clock = clock_of(
            engine, is_vllm=arguments.engine == "vllm", of_processors=arguments.processor_time
        )
        requests = requests_of(chat, arguments.requests, arguments.max_tokens)
        print(f"{engine.description}: {len(requests)} requests of {arguments.max_tokens} tokens, at most "
              f"{arguments.max_reasoning_tokens} of reasoning, {arguments.num_waits} waits; {arguments.pairs} pairs; "
              f"{psutil.cpu_count()} cores", flush=True)  # fmt: skip
        compare(engine, BudgetedEngine(engine, chat, budget), requests, arguments, clock)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=("transformers", "vllm"), required=True)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=700)
    parser.add_argument("--max-reasoning-tokens", type=int, default=600)
    parser.add_argument("--num-waits", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--processor-time", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

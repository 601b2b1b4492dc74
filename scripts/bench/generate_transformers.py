"""Our transformers engine compared with `model.generate` in static batches of the same size.

    python scripts/bench/generate_transformers.py            the shipped teacher, 1,024 requests, 64 at a time

Mixed lengths are those of the teacher at --temperature: most completions end after about 80 tokens, a few reach
--max-tokens, and a static batch takes as long as its longest completion. With equal lengths (end tokens ignored) slots
have no advantage, so that case shows their cost. Prompts, sampling, precision (fp32) and threads are the same; tokens
are counted up to the end token. The order alternates. Prints medians of the ratios and their range. On a shared
machine, `--threads 1 --processor-time` measures the CPU time of the process.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.options import Sampling
from distillpipe.base.records import Message
from distillpipe.engines.base import Request
from distillpipe.engines.transformers.engine import TransformersEngine
from distillpipe.models import lookup
from distillpipe.models.chat import load_chat

clock = time.perf_counter
TEACHER = Path(__file__).parents[2] / "data" / "quickstart" / "teacher"


def ours(engine: TransformersEngine, requests: list[Request]) -> tuple[float, list[int]]:
    """Tokens per second, and the length of each completion."""
    started = clock()
    lengths = [len(done.token_ids) for done in engine.complete(iter(requests))]
    return sum(lengths) / (clock() - started), lengths


@torch.inference_mode()
def static(
    model: Any, requests: list[Request], end_ids: list[int], pad: int, batch_size: int
) -> tuple[float, list[int]]:
    """The same for `generate`: left-padded, one batch after the other."""
    sampling = requests[0].sampling
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
    started = clock()
    lengths = []
    for first in range(0, len(requests), batch_size):
        batch = requests[first : first + batch_size]
        width = max(len(one.prompt_ids) for one in batch)
        ids = torch.full((len(batch), width), pad)
        for row, one in enumerate(batch):
            ids[row, width - len(one.prompt_ids) :] = torch.tensor(one.prompt_ids)
        made = model.generate(
            ids,
            attention_mask=(ids != pad).long(),
            max_new_tokens=sampling.max_tokens,
            eos_token_id=end_ids or None,
            pad_token_id=pad,
            top_k=0,
            **drawn,
        )[:, width:]
        for row in made.tolist():
            ends = [at for at, token in enumerate(row) if token in end_ids]
            lengths.append(ends[0] + 1 if ends else len(row))
    return sum(lengths) / (clock() - started), lengths


def compare(arguments: argparse.Namespace, *, equal: bool) -> None:
    chat = load_chat(TEACHER, "the teacher")
    found = lookup.find(str(TEACHER), "--teacher")
    engine = TransformersEngine(found, chat, arguments.batch_size)
    end_ids = [] if equal else sorted(chat.end_ids)
    if equal:
        engine._end_ids = frozenset()
    model = AutoModelForCausalLM.from_pretrained(TEACHER, dtype=torch.float32)
    model.generation_config.eos_token_id = end_ids or None
    pad = AutoTokenizer.from_pretrained(TEACHER).pad_token_id
    requests = read_requests(
        arguments, chat, arguments.equal_tokens if equal else arguments.max_tokens
    )
    name = "equal lengths" if equal else "mixed lengths"
    ratios = []
    for pair in range(-1, arguments.pairs):  # the first one is a warm-up
        runs = {
            "ours": lambda: ours(engine, requests),
            "static": lambda: static(model, requests, end_ids, pad, arguments.batch_size),
        }
        order = ["ours", "static"] if pair % 2 else ["static", "ours"]
        rates = {}
        for one in order:
            rates[one], lengths = runs[one]()
            if pair < 0:
                deciles = statistics.quantiles(lengths, n=10) if len(set(lengths)) > 1 else lengths
                print(f"{name}, {one}: {sum(lengths):,} tokens, shortest {min(lengths)}, "
                      f"median {statistics.median(lengths):.0f}, 90% {deciles[-1]:.0f}, "
                      f"longest {max(lengths)}")  # fmt: skip
        if pair >= 0:
            ratios.append(rates["ours"] / rates["static"])
            print(f"  ours {rates['ours']:8,.0f}  generate {rates['static']:8,.0f} tokens/s  "
                  f"ratio {ratios[-1]:.2f}", flush=True)  # fmt: skip
    print(f"{name}: median ratio {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def read_requests(arguments: argparse.Namespace, chat: Any, max_tokens: int) -> list[Request]:
    sampling = Sampling(
        temperature=arguments.temperature, top_p=arguments.top_p, max_tokens=max_tokens
    )
    lines = (
        (TEACHER.parent / "problems-train.jsonl").read_bytes().splitlines()[: arguments.requests]
    )
    texts = [json.loads(line)["problem"] for line in lines]
    prompts = [chat.prompt_ids([Message(role="user", content=text)]) for text in texts]
    return [Request(str(number), ids, sampling, number) for number, ids in enumerate(prompts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--equal-tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, help="of both; fewer where the machine is shared")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true", help="with --threads 1")
    arguments = parser.parse_args()
    if arguments.processor_time:
        global clock
        clock = time.process_time
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, batches of "
          f"{arguments.batch_size}, {arguments.requests:,} requests")  # fmt: skip
    compare(arguments, equal=False)
    compare(arguments, equal=True)


if __name__ == "__main__":
    main()

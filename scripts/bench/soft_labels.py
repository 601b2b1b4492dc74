"""The cost of soft labels: tokens per second of `generate` with and without --soft-labels K, on one engine.

    python scripts/bench/soft_labels.py                         the shipped teacher, on the CPU
    python scripts/bench/soft_labels.py --vocabulary 151936     with the vocabulary of Qwen2.5

The model has the shape of the shipped teacher and random weights. The time includes sampling and durable writing of rows
and labels, but not loading. Rounds alternate. Prints the median of the ratios and their range. `--processor-time`
measures the CPU time of this process, for a machine that others use too.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.data import sources
from distillpipe.data.store import versions
from distillpipe.data.store.labels import LabelSource, files_of
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import open_engine
from distillpipe.engines.base import Engine
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import Model
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.sampling.sampler import Sampler

SHIPPED = Path(__file__).parents[2] / "data" / "quickstart"


def random_model(folder: Path, vocabulary: int | None) -> Path:
    """The shipped teacher with random weights."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(SHIPPED / "teacher")
    config.vocab_size = vocabulary or config.vocab_size
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(SHIPPED / "teacher").save_pretrained(folder)
    return folder


def options_of(arguments: argparse.Namespace) -> SamplingOptions:
    return SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=1, limit=arguments.requests, seed=0),
        sampling=Sampling(temperature=1.0, top_p=1.0, max_tokens=arguments.max_tokens),
        engine=EngineOptions(engine="transformers", concurrency=arguments.concurrency),
        accept_errors=False,
    )  # fmt: skip


def sample(
    model: Model, chat: Chat, engine: Engine, options: SamplingOptions, clock: Callable[[], float]
) -> tuple[float, int]:
    """Tokens per second, and the bytes of all labels."""
    header = Header(
        kind="traces", stage="generate", content={}, inputs=[], models=[], options={},
    )  # fmt: skip
    k = options.soft_labels
    source = k and LabelSource(k, model.name, model.identity, vocabulary_of(chat))
    with (
        tempfile.TemporaryDirectory() as folder,
        versions.draft(Path(folder), header) as draft,
        Writer(draft, soft_labels=source or None) as writer,
    ):
        sampler = Sampler(model, chat, options, draft.path)
        sampler.read(sources.find(str(SHIPPED / "problems-train.jsonl")))
        started = clock()
        sampler.sample(writer, lambda: engine, lambda trace, _: trace)
        writer.sync()
        rate = writer.counts.tokens_sampled / (clock() - started)
        return rate, sum(path.stat().st_size for path in files_of(draft.path))


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        place = random_model(Path(folder) / "random", arguments.vocabulary)
        model, chat = lookup.find(str(place), "--teacher"), load_chat(place, "the model")
        plain = options_of(arguments)
        labelled = msgspec.structs.replace(plain, soft_labels=arguments.k)
        engine = open_engine(model, chat, plain.engine)
        print(f"{engine.description}: {arguments.requests} rows of at most {arguments.max_tokens} tokens, K = "
              f"{arguments.k}; {arguments.pairs} pairs; {psutil.cpu_count()} cores", flush=True)  # fmt: skip
        ratios = []
        for number in range(arguments.pairs + 1):  # the first one is a warm-up
            sides = {"with": labelled, "without": plain}
            rates, num_bytes = {}, 0
            for name in list(sides) if number % 2 else list(sides)[::-1]:
                rates[name], found = sample(model, chat, engine, sides[name], clock)
                num_bytes = max(num_bytes, found)
            if number:
                ratios.append(rates["with"] / rates["without"])
                print(f"  with {rates['with']:,.0f}, without {rates['without']:,.0f} tokens/s; "
                      f"{num_bytes:,} bytes of labels; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    print(f"with / without: median {statistics.median(ratios):.3f} "
          f"({min(ratios):.3f} to {max(ratios):.3f})")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, default=300)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()

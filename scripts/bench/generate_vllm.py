"""Our vllm engine compared with plain `LLM.generate`: the same prompts, parameters and engine, in one process.

    python scripts/bench/generate_vllm.py                   CPU: the shipped teacher, 2,000 requests
    python scripts/bench/generate_vllm.py --gpu             CUDA: the shape of Qwen2.5-7B, dummy weights
    python scripts/bench/generate_vllm.py --gpu --soft-labels 20

The length of each request is drawn between --min-tokens and --max-tokens (log-uniform, end tokens ignored), so both
sides sample the same number of tokens. Ours is all of `distill generate`: rendering prompts, sending requests and
completions through the pipe, decoding and splitting text, writing rows with fsync. Plain is `LLM.generate` in the same
process with its defaults, which include decoding; with `--ids-only` also without decoding (`detokenize=False`). With
--soft-labels K the comparison is ours with and without labels: the total cost of vLLM's log-probabilities, the pipe and
the label files. The order alternates. Prints tokens per second of each round, medians of the ratios and their ranges.
`--processor-time` measures the CPU time of all processes, for a machine that others use too (one core for vLLM:
VLLM_CPU_OMP_THREADS_BIND=0).
"""

import argparse
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

from distillpipe.base.hashing import uniform
from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.data.sources import find
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines.base import Outcome, Request
from distillpipe.engines.vllm import replicas
from distillpipe.engines.vllm.engine import VllmEngine
from distillpipe.models import lookup
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.lookup import Model
from distillpipe.sampling.labeller import label_source
from distillpipe.sampling.sampler import Sampler

SHIPPED = Path(__file__).parents[2] / "data" / "quickstart"
PROMPTING = Prompting(
    problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
    system_prompt=None, chat_template=None,
)  # fmt: skip
QWEN_7B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "dtype": "bfloat16",
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768,
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "rope_theta": 1e6,
    "eos_token_id": 466, "bos_token_id": None,
}  # fmt: skip


class Clock:
    """Seconds of wall-clock time, or of CPU time of this process and of vLLM."""

    def __init__(self, engine: VllmEngine, *, of_processors: bool) -> None:
        self._replica = engine._replicas[0]._process.pid
        self._of_processors = of_processors

    def __call__(self) -> float:
        if not self._of_processors:
            return time.perf_counter()
        replica = psutil.Process(self._replica)
        processes = [psutil.Process(), replica, *replica.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)


class Plain(NamedTuple):
    """Asks the replica to run `LLM.generate` on these requests; the answer is their tokens."""

    requests: list[Request]
    detokenize: bool


class VariedLengths:
    """The engine, with a separate length for each request."""

    def __init__(self, engine: VllmEngine, shortest: int, longest: int) -> None:
        self._engine, self._shortest, self._longest = engine, shortest, longest
        self.description = engine.description
        self.context_length = engine.context_length
        self.asked: list[Request] = []

    def complete(self, requests: Iterator[Request]) -> Generator[Outcome, None, None]:
        self.asked = []
        yield from self._engine.complete(map(self._varied, requests))

    def _varied(self, request: Request) -> Request:
        drawn = uniform("length", request.key) * math.log(self._longest / self._shortest)
        limit = round(self._shortest * math.exp(drawn))
        old = request.sampling
        sampling = Sampling(temperature=old.temperature, top_p=old.top_p, max_tokens=limit)
        self.asked.append(request._replace(sampling=sampling))
        return self.asked[-1]


def ours(
    engine: VariedLengths, model: Model, chat: Chat, options: SamplingOptions, clock: Clock
) -> float:
    """Tokens per second of sampling into a new dataset."""
    with tempfile.TemporaryDirectory(dir=SHIPPED.parents[1] / "runs") as folder:
        out = Path(folder) / "traces"
        header = Header(kind="traces", stage="bench", content={}, inputs=[], models=[], options={})
        k = options.soft_labels
        source = None if k is None else label_source(model, chat, k)
        with versions.draft(out, header) as draft, Writer(draft, soft_labels=source) as writer:
            sampler = Sampler(model, chat, options, draft.path)
            sampler.read(find(str(SHIPPED / "problems-train.jsonl")))
            started = clock()
            sampler.sample(writer, lambda: engine, lambda trace, _problem: trace)
            writer.sync()
            return writer.counts.tokens_sampled / (clock() - started)


def plain(engine: VllmEngine, requests: list[Request], clock: Clock, *, detokenize: bool) -> float:
    """Tokens per second of `LLM.generate`."""
    engine._replicas[0].send(Plain(requests, detokenize))
    engine._inbox.get()  # it has prepared them, and begins
    started = clock()
    _, num_tokens = engine._inbox.get()
    return float(num_tokens / (clock() - started))


def run_plain(sampler: Any, asked: Plain, connection: Connection) -> None:
    parameters = [sampler.parameters(request) for request in asked.requests]
    for one in parameters:
        one.detokenize = asked.detokenize
    prompts = [{"prompt_token_ids": request.prompt_ids} for request in asked.requests]
    connection.send("begun")
    outputs = sampler.llm.generate(prompts, parameters, use_tqdm=False)
    connection.send(sum(len(output.outputs[0].token_ids) for output in outputs))


def serve(descriptor: int, *, is_dummy: bool) -> None:
    """The replica's process: as ours, but it also handles `Plain`."""
    from distillpipe.engines.vllm import process as vllm_process

    if is_dummy:
        real = vllm_process._arguments
        vllm_process._arguments = lambda *arguments: {**real(*arguments), "load_format": "dummy"}
    connection = Connection(descriptor)
    threading.Thread(target=vllm_process._exit_with, args=(descriptor,), daemon=True).start()

    class Both(vllm_process.OfflineEngine):
        def add(self, request: Any) -> Any:
            if not hasattr(request, "requests"):
                return super().add(request)
            run_plain(self, request, connection)  # a Plain of another `__main__`
            return None

    vllm_process.OfflineEngine = Both
    vllm_process.serve(connection)


def dummy_7b(folder: Path) -> Path:
    """A model folder of the shape of Qwen2.5-7B without weights."""
    shutil.copytree(SHIPPED / "teacher", folder)
    (folder / "config.json").write_text(json.dumps(QWEN_7B), encoding="utf-8")
    return folder


def main() -> None:
    arguments = parse()
    import torch

    if arguments.gpu and not torch.cuda.is_available():
        print("not run: no CUDA GPU here")
        return
    replicas.COMMAND = [sys.executable, __file__, "--serve", *(["--gpu"] if arguments.gpu else [])]
    with tempfile.TemporaryDirectory() as folder:
        place = dummy_7b(Path(folder) / "7b") if arguments.gpu else SHIPPED / "teacher"
        model = lookup.find(str(place), "--teacher")
        chat = load_chat(place, "the teacher")
        engine_options = EngineOptions(engine="vllm", concurrency=arguments.concurrency)
        options = SamplingOptions(
            prompting=PROMPTING,
            plan=Plan(num_samples=1, limit=arguments.requests, seed=0),
            sampling=Sampling(temperature=0.8, top_p=0.95, max_tokens=arguments.max_tokens),
            engine=engine_options,
            accept_errors=False,
        )
        engine = VllmEngine(model, frozenset(), engine_options, arguments.soft_labels)
        varied = VariedLengths(engine, arguments.min_tokens, arguments.max_tokens)
        clock = Clock(engine, of_processors=arguments.processor_time)
        ours(varied, model, chat, options, clock)  # a warm-up, which also knows the requests
        asked = varied.asked
        plain(engine, asked, clock, detokenize=True)
        print(f"{engine.description}: {len(asked):,} requests of {arguments.min_tokens} to "
              f"{arguments.max_tokens} tokens, {sum(one.sampling.max_tokens for one in asked):,} in all, "
              f"{arguments.pairs} rounds", flush=True)  # fmt: skip
        runs = {
            "ours": lambda: ours(varied, model, chat, options, clock),
            "plain": lambda: plain(engine, asked, clock, detokenize=True),
        }
        if arguments.soft_labels:
            labelled = msgspec.structs.replace(options, soft_labels=arguments.soft_labels)
            runs = {
                "with labels": lambda: ours(varied, model, chat, labelled, clock),
                "without": lambda: ours(varied, model, chat, options, clock),
            }
        elif arguments.ids_only:
            runs["plain, ids only"] = lambda: plain(engine, asked, clock, detokenize=False)
        compare(arguments.pairs, runs)


def compare(num_rounds: int, runs: dict[str, Callable[[], float]]) -> None:
    """Run all sides in every round, in alternating order; print the ratios of the first to the others."""
    first = next(iter(runs))
    ratios: dict[str, list[float]] = {name: [] for name in list(runs)[1:]}
    for number in range(num_rounds):
        order = list(runs) if number % 2 == 0 else list(runs)[::-1]
        rates = {name: runs[name]() for name in order}
        for name, found in ratios.items():
            found.append(rates[first] / rates[name])
        said = ", ".join(f"{name} {rates[name]:,.0f}" for name in runs)
        print(f"  {said} tokens/s; load {os.getloadavg()[0]:.1f}", flush=True)
    for name, found in ratios.items():
        print(f"{first} / {name}: median {statistics.median(found):.3f} "
              f"({min(found):.3f} to {max(found):.3f})")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--requests", type=int)
    parser.add_argument("--min-tokens", type=int)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--ids-only", action="store_true")
    parser.add_argument("--soft-labels", type=int, metavar="K")
    arguments = parser.parse_args()
    arguments.requests = arguments.requests or 2000
    arguments.min_tokens = arguments.min_tokens or (2048 if arguments.gpu else 16)
    arguments.max_tokens = arguments.max_tokens or (8192 if arguments.gpu else 512)
    return arguments


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(int(sys.argv[-1]), is_dummy="--gpu" in sys.argv)
    else:
        main()

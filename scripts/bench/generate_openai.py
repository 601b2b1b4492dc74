"""Requests per second of the openai engine, compared with a plain asyncio loop over the same client.

    python scripts/bench/generate_openai.py               seven pairs of 4,000 requests at concurrency 256
    python scripts/bench/generate_openai.py --priced      with prices and a cap: a durable reservation per request
    python scripts/bench/generate_openai.py --openai      also the calls of the openai client, if it is installed
    python scripts/bench/generate_openai.py --rows 200000 one run of so many rows, with its memory

The server answers at once and runs in its own process. Ours is all of `generate` except the planning: sampler, engine,
rows in a version with their fsyncs. The plain loop is httpx2 with 256 workers that post the same requests, decode the
answers and keep nothing: once with one client (`bare`), once with as many clients with small pools as ours (`pools`).
The order alternates. Prints medians and the range of the ratios, for wall-clock and for CPU time, which is more reliable
on a busy machine.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2

from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.base.records import Problem, problem_id
from distillpipe.data.store import versions
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.engines import open_engine
from distillpipe.engines.server.connections import POOL_SIZE
from distillpipe.models.lookup import Served
from distillpipe.sampling.plan import content_of_sampling
from distillpipe.sampling.sampler import Sampler
from distillpipe.stages.run import content_of

CONCURRENCY = 256
REASONING = "we add the one to the number and look at the sum once more. " * 40


class InstantServer(asyncio.Protocol):
    """Answers every POST with the same completion and every GET with an empty list of models."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0
            if len(self.received) < end + 4 + length:
                return
            self.received = self.received[end + 4 + length :]
            self.transport.write(
                self.answer if head.startswith(b"post") else response({"data": []})
            )


def response(content: Any) -> bytes:
    body = json.dumps(content).encode()
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def serve() -> None:
    message = {"role": "assistant", "content": "\\boxed{2}", "reasoning": REASONING}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 600, "total_tokens": 620}
    answer = response(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "instant", "choices": [choice],
         "usage": usage}
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantServer(answer), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def problems(number: int) -> Iterator[Problem]:
    for at in range(number):
        text = f"What is {at}+1?"
        yield Problem(
            problem_id=problem_id(text, str(at + 1), "math"), problem=text,
            reference_answer=str(at + 1), verifier="math",
        )  # fmt: skip


def run_ours(url: str, number: int, *, priced: bool) -> float:
    paid: dict[str, Any] = (
        {"price_input": 0.55, "price_output": 2.19, "max_cost": 1e6} if priced else {}
    )
    options = SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=1, limit=None, seed=0),
        sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=1024),
        engine=EngineOptions(engine="openai", concurrency=CONCURRENCY, base_url=url, **paid),
        accept_errors=False,
    )  # fmt: skip
    model = Served("instant")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        header = Header(
            "traces", "generate", content_of(**content_of_sampling(options)), [], [], {}
        )
        with versions.draft(Path(folder), header) as draft, Writer(draft) as writer:
            sampler = Sampler(model, None, options, draft.path)
            sampler.add(problems(number))
            started = time.perf_counter()
            sampler.sample(
                writer,
                lambda: open_engine(model, None, options.engine, draft),
                lambda trace, _: trace,
            )
            writer.sync()
            seconds = time.perf_counter() - started
            assert writer.counts.rows_kept == number
    return number / seconds


def body(problem: Problem) -> dict[str, Any]:
    return {
        "model": "instant", "messages": [{"role": "user", "content": problem.problem}],
        "temperature": 0.6, "top_p": 0.95, "max_tokens": 1024, "seed": 7,
    }  # fmt: skip


async def run_bare(url: str, number: int, pool_size: int) -> float:
    limits = httpx2.Limits(max_connections=pool_size, max_keepalive_connections=pool_size)
    left = problems(number)
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx2.AsyncClient(limits=limits, timeout=600))
            for _ in range(CONCURRENCY // pool_size)
        ]

        async def work(client: httpx2.AsyncClient) -> None:
            for problem in left:
                answer = await client.post(f"{url}/chat/completions", json=body(problem))
                assert answer.json()["choices"][0]["message"]["reasoning"]

        started = time.perf_counter()
        await asyncio.gather(*(work(clients[at // pool_size]) for at in range(CONCURRENCY)))
        return number / (time.perf_counter() - started)


async def run_openai(url: str, number: int) -> float:
    import openai

    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    left = problems(number)
    http_client = httpx2.AsyncClient(limits=limits, timeout=600)
    async with openai.AsyncOpenAI(
        base_url=url, api_key="none", max_retries=0, http_client=http_client
    ) as client:

        async def work() -> None:
            for problem in left:
                await client.chat.completions.create(**body(problem))

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return number / (time.perf_counter() - started)


def megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:"))[6:-3]) / 1024


def measure_memory(url: str, number: int) -> None:
    """Resident memory at each tenth of the rows; the first tenth is the baseline."""
    before = megabytes()
    import threading

    seen: list[float] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(1.0):
            seen.append(megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    rate = run_ours(url, number, priced=False)
    is_done.set()
    watcher.join()
    tenth = max(1, len(seen) // 10)
    print(f"{number:,} rows at {rate:,.0f} requests/s; memory before planning {before:.0f} MB")
    print("  resident MB at each tenth: " + " ".join(f"{one:.0f}" for one in seen[tenth::tenth]))
    grown = (max(seen) - seen[tenth]) * 1e6 / number
    print(f"  most {max(seen):.0f} MB, grown by {grown:.0f} bytes a row after the first tenth")


def measure_pairs(url: str, arguments: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "pools": [], "openai": []}
    costs: dict[str, list[float]] = {"ours": [], "bare": [], "pools": [], "openai": []}
    runs = {
        "ours": lambda: run_ours(url, arguments.requests, priced=arguments.priced),
        "bare": lambda: asyncio.run(run_bare(url, arguments.requests, CONCURRENCY)),
        "pools": lambda: asyncio.run(run_bare(url, arguments.requests, POOL_SIZE)),
    }
    if arguments.openai and find_spec("openai"):
        runs["openai"] = lambda: asyncio.run(run_openai(url, arguments.requests))
    for pair in range(arguments.pairs):
        order = list(runs) if pair % 2 == 0 else list(runs)[::-1]
        for name in order:
            started = time.process_time()
            rates[name].append(runs[name]())
            costs[name].append((time.process_time() - started) / arguments.requests * 1e6)
        print(
            "  "
            + "  ".join(
                f"{name} {rates[name][-1]:7,.0f}/s {costs[name][-1]:6,.0f} us" for name in runs
            ),
            flush=True,
        )
    for name in list(runs)[1:]:
        say_ratio("requests/s", rates["ours"], name, rates[name])
        say_ratio("us of processor time a request", costs["ours"], name, costs[name])


def say_ratio(unit: str, ours: list[float], name: str, others: list[float]) -> None:
    ratios = sorted(one / other for one, other in zip(ours, others, strict=True))
    print(
        f"ours {statistics.median(ours):,.0f} {unit}, {name} {statistics.median(others):,.0f}: "
        f"median ratio {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--priced", action="store_true")
    parser.add_argument("--openai", action="store_true")
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, httpx2 {httpx2.__version__}"
    )
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        if arguments.rows:
            measure_memory(url, arguments.rows)
        else:
            measure_pairs(url, arguments)
    finally:
        server.terminate()


if __name__ == "__main__":
    main()

"""The cost of an evaluation compared with sampling alone and with lm-eval, and differences to its GSM8K rule.

    python scripts/bench/eval.py --only overhead
    python -m venv lmenv; lmenv/bin/pip install lm-eval==0.4.13 -c constraints.txt
    python scripts/bench/eval.py --only peer rules --peer-python lmenv/bin/python

overhead: `distill eval` (plan, sample, judge, write, score) divided by the engine alone on the same requests.
peer: the same model, prompts, token limit, batch size and threads. Decoding is greedy; or sampled, for lengths that
differ as those of reasoning do (--temperature 1 --max-tokens 512). Models and lm-eval's task are loaded before.
rules: the same texts scored by lm-eval's GSM8K rule, strict and flexible, and by ours; prints all differences.
Pairs alternate. Prints medians of the ratios with their range, for wall-clock and for CPU time. CPU time is more
reliable on a shared machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from distillpipe import verify
from distillpipe.base.hashing import seed_of
from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.data.sources import find, read_problems
from distillpipe.data.store import dataset
from distillpipe.engines.base import Request
from distillpipe.engines.transformers.engine import TransformersEngine
from distillpipe.models import lookup
from distillpipe.models.chat import load_chat
from distillpipe.sampling.plan import RowPlan
from distillpipe.stages import eval as stage
from distillpipe.stages.run import Run

QUICKSTART = Path(__file__).parents[2] / "data" / "quickstart"
TEACHER, PROBLEMS = str(QUICKSTART / "teacher"), str(QUICKSTART / "problems-test.jsonl")
Seconds = tuple[float, float]  # by the clock, of the processor


def options(arguments: argparse.Namespace, temperature: float) -> SamplingOptions:
    return SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=1, limit=arguments.problems, seed=0),
        sampling=Sampling(temperature=temperature, top_p=0.95, max_tokens=arguments.max_tokens),
        engine=EngineOptions(engine="transformers", concurrency=arguments.batch_size),
        accept_errors=False,
    )  # fmt: skip


class Ours:
    """The teacher, loaded once, for evaluation or for sampling alone."""

    def __init__(self, arguments: argparse.Namespace, temperature: float) -> None:
        self.options = options(arguments, temperature)
        chat = load_chat(Path(TEACHER), "the teacher")
        model = lookup.find(TEACHER, "MODEL")
        self.engine = TransformersEngine(model, chat, arguments.batch_size)
        stage.open_engine = lambda *_: self.engine  # type: ignore[assignment]  # loading is not measured
        self.folder = tempfile.TemporaryDirectory()
        plan = RowPlan(model, chat, self.options, Path(self.folder.name))
        plan.add(read_problems(find(PROBLEMS), self.options.prompting, arguments.problems))
        self.asked = [(key, plan.prompt(key)) for key in plan.rows]
        self.texts = [(chat.decode(one.prompt_ids), one.problem) for _, one in self.asked]

    def sampled(self) -> Seconds:
        requests = (
            Request(key, one.prompt_ids, self.options.sampling,
                    seed_of(0, one.problem.problem_id, one.sample), one.messages)
            for key, one in self.asked
        )  # fmt: skip
        return timed(lambda: sum(1 for _ in self.engine.complete(requests)))

    def evaluated(self) -> Seconds:
        with tempfile.TemporaryDirectory() as out:
            return timed(lambda: stage.evaluate(TEACHER, PROBLEMS, Path(out), self.options, Run()))


def timed(run: Callable[[], Any]) -> Seconds:
    """Wall-clock and CPU seconds of a run; CPU time includes processes that it started and ended."""
    started, worked = time.perf_counter(), sum(os.times()[:4])
    run()
    return time.perf_counter() - started, sum(os.times()[:4]) - worked


def pairs(
    name: str,
    arguments: argparse.Namespace,
    one: Callable[[], Seconds],
    other: Callable[[], Seconds],
) -> None:
    """Print the ratio of two functions: medians and ranges over alternating pairs."""
    ratios: list[Seconds] = []
    for pair in range(-1, arguments.pairs):  # the first one is a warm-up
        first = pair % 2 == 0
        mine = one() if first else None
        theirs = other()
        mine = mine or one()
        if pair >= 0:
            ratios.append((mine[0] / theirs[0], mine[1] / theirs[1]))
            print(f"  {name}: {mine[0]:.2f} and {theirs[0]:.2f} s, processor {mine[1]:.2f} and "
                  f"{theirs[1]:.2f} s", flush=True)  # fmt: skip
    for kind, found in zip(("clock", "processor"), zip(*ratios, strict=True), strict=True):
        print(f"{name}, {kind}: median ratio {statistics.median(found):.3f} "
              f"({min(found):.3f} to {max(found):.3f}), {len(found)} pairs")  # fmt: skip


class Peer:
    """lm-eval in a separate process."""

    def __init__(self, python: str) -> None:
        script = Path(__file__).with_name("eval_peer.py")
        self.process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        )  # fmt: skip

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def beside_peer(arguments: argparse.Namespace, peer: Peer) -> None:
    ours = Ours(arguments, arguments.temperature)
    rows = Path(ours.folder.name) / "prompts.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"prompt": text, "answer": problem.reference_answer}) + "\n"
            for text, problem in ours.texts
        ),
        encoding="utf-8",
    )
    peer.ask(do="load", model=TEACHER, rows=str(rows), batch_size=arguments.batch_size,
             max_tokens=arguments.max_tokens, threads=arguments.threads, temperature=arguments.temperature)  # fmt: skip
    answers: list[dict[str, Any]] = []

    def theirs() -> Seconds:
        answers.append(peer.ask(do="evaluate"))
        return answers[-1]["seconds"], answers[-1]["processor_seconds"]

    pairs("eval over lm-eval", arguments, ours.evaluated, theirs)
    print(f"lm-eval's last: {answers[-1]}")


def rules(arguments: argparse.Namespace, peer: Peer) -> None:
    """Print every text on which the two GSM8K rules and ours disagree."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(arguments, temperature=0.6)
        result = stage.evaluate(TEACHER, PROBLEMS, Path(folder) / "eval", ours.options, Run())
        rows = [
            {"text": f"<think>{row.reasoning}</think>{row.response}", "reference": row.reference_answer,
             "verdict": row.verdict, "truncated": row.is_truncated, "answer": row.answer}
            for row in dataset.read_traces(str(result.path))
        ]  # fmt: skip
        rows += [row for path in arguments.traces for row in of_others(Path(path))]
        path = Path(folder) / "answers.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        found = peer.ask(do="rules", rows=str(path))
    for name in ("strict", "flexible"):
        counts: Counter[str] = Counter()
        for row, (taken, is_right) in zip(rows, found[name], strict=True):
            if is_right == (row["verdict"] == "correct"):
                counts["agree"] += 1
                continue
            why = explained(row, taken, name)
            counts[why] += 1
            if name == "flexible" or why != "no ####":
                print(f"  {name}: took {taken!r}, reference {row['reference']!r}, ours {row['verdict']} "
                      f"{row['answer']!r}: {why}")  # fmt: skip
        print(f"{name}: {dict(counts)}")


def of_others(path: Path) -> list[dict[str, Any]]:
    """Real traces with a whole number as the reference, judged by us."""
    found = []
    for line in path.read_bytes().splitlines():
        row = json.loads(line)
        text = row["raw"] or f"<think>{row['reasoning']}</think>{row['answer_text']}"
        if not str(row.get("gold", "")).lstrip("-").isdigit():
            continue
        is_cut = row["finish_reason"] == "length" or row["think_format"] == "unclosed"
        response = text.rpartition("</think>")[2]
        rule = verify.VERIFIERS["math"]
        answer = None if is_cut else rule.answer(response)
        found.append({"text": text, "reference": str(row["gold"]), "truncated": is_cut, "answer": answer,
                      "verdict": verify.judge(answer, str(row["gold"]), "math")})  # fmt: skip
    return found


def explained(row: dict[str, Any], taken: str, rule: str) -> str:
    """Why two rules disagree."""
    if rule == "strict" and taken == "[invalid]":
        return "no ####"
    if row["truncated"]:
        return "cut off or not closed: no answer for us, the last number for lm-eval"
    if row["answer"] is None:
        return "no box: no answer for us, the last number for lm-eval"
    if row["verdict"] == "correct":
        return "the last number stands behind the boxed answer, or is written otherwise"
    return "the last number is right by chance, the boxed answer is not"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=["overhead", "peer", "rules"])
    parser.add_argument("--peer-python", help="of an environment with lm-eval 0.4.13")
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.0, help="of peer; 0 is greedy")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--traces", nargs="*", default=[], help="files of real traces, for rules")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{arguments.threads} thread, load {os.getloadavg()[0]:.1f}, {arguments.problems} problems, batches "
          f"of {arguments.batch_size}, at most {arguments.max_tokens} tokens")  # fmt: skip
    if "overhead" in arguments.only:
        ours = Ours(arguments, temperature=0.6)
        pairs("eval over sampling alone", arguments, ours.evaluated, ours.sampled)
    if {"peer", "rules"} & set(arguments.only):
        if arguments.peer_python is None:
            parser.error("--peer-python: name the Python of an environment with lm-eval")
        peer = Peer(arguments.peer_python)
        if "peer" in arguments.only:
            beside_peer(arguments, peer)
        if "rules" in arguments.only:
            rules(arguments, peer)
        peer.close()


if __name__ == "__main__":
    main()

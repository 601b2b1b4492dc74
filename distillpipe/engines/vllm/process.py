"""The process in which vLLM runs: `python -m distillpipe.engines.vllm.process DESCRIPTOR`.

`LLM.generate` takes all prompts at once and returns when the last one has ended; `add_request` and `step`
of the same engine give each completion when it is there. Token ids go in and come out: vLLM neither
tokenizes nor detokenizes. All that depends on vLLM's version or on its insides is in this file.

DESCRIPTOR is an end of a pipe: (model, end ids, options, labels a token) come in, `Ready` goes out, then requests come in and
lists of outcomes go out, until nothing can come any more. Errors are tracebacks on stderr.
"""

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import vllm
from vllm.logprobs import FlatLogprobs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RepetitionDetectionParams, RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from distillpipe.base.memory import free_memory
from distillpipe.base.options import EngineOptions
from distillpipe.data.store.labels import SAMPLED, UNLABELLED, Labels, unlabelled
from distillpipe.engines.base import (
    MAX_PATTERN_TOKENS,
    MIN_REPEATS,
    Completion,
    Failure,
    Outcome,
    Refusal,
    Request,
    refusal_of_unknown_token,
)
from distillpipe.engines.vllm.replicas import KILLED, Ready
from distillpipe.models.lookup import Model

FIRST, LATER = 0, 1  # vLLM takes the lower number first
WAITING_SHARE = 0.5  # requests that wait in the engine, of those that it runs: it is never idle
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM takes
CPU_CACHE_BYTES = 4 << 30
CPU_CACHE_SHARE = 0.4  # of the free memory, where that is less
CPU_BATCH_TOKENS = 4096
CPU_FP32_BYTES = 2 << 30  # of a model's files: a larger one keeps its own type
SECONDS_TO_END = 1.0  # for vLLM's own processes: they hold nothing to save
SECONDS_TO_LEAVE = 10.0  # for all of them, when the other end of the pipe has gone
REASONS: dict[str | None, Any] = {"stop": "stop", "length": "length", "repetition": "repetition"}


class Sampler:
    """vLLM's engine, request by request."""

    def __init__(
        self,
        model: Model,
        end_ids: frozenset[int],
        options: EngineOptions,
        soft_labels: int | None = None,
    ) -> None:
        self.llm = vllm.LLM(**_arguments(model, options, soft_labels))
        self._engine = self.llm.llm_engine
        _watch(self._engine.engine_core)
        self._end_ids = sorted(end_ids)
        self._lora = None
        if model.base_folder is not None:
            self._lora = LoRARequest("adapter", 1, str(model.folder))
        self.num_in_flight = 0
        self._scored: dict[str, Request] = {}
        "in flight: those whose completion is there"
        config = self._engine.vllm_config
        self._vocab_size = config.model_config.get_vocab_size()
        self.ready = Ready(
            capacity=int(config.scheduler_config.max_num_seqs * (1 + WAITING_SHARE)),
            context_length=config.model_config.max_model_len,
            description=_describe(options.tensor_parallel_size),
        )

    def add(self, request: Request) -> Refusal | None:
        """Let a request in, or refuse it."""
        if refusal := refusal_of_unknown_token(request, self._vocab_size):
            return refusal
        text = request.prompt_ids
        if request.completion_ids is not None:
            self._scored[request.key] = request
            room = self.ready.context_length - 1  # vLLM always samples a token behind a text
            text = [*text, *request.completion_ids][:room]
        self._engine.add_request(
            request.key,
            {"type": "token", "prompt_token_ids": text},
            self.parameters(request),
            lora_request=self._lora,
            priority=FIRST if request.is_continuation else LATER,
        )
        self.num_in_flight += 1
        return None

    def step(self) -> list[Outcome]:
        """Wait until the engine has made its next tokens; the completions that ended with them."""
        finished = [self._outcome(output) for output in self._engine.step() if output.finished]
        self.num_in_flight -= len(finished)
        return finished

    def parameters(self, request: Request) -> vllm.SamplingParams:
        """How vLLM is asked for a completion, or for the labels of one."""
        if request.completion_ids is not None:
            return vllm.SamplingParams(
                temperature=0, max_tokens=1, detokenize=False,
                prompt_logprobs=request.soft_labels, flat_logprobs=True,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )  # fmt: skip
        sampling = request.sampling
        loops = RepetitionDetectionParams(
            max_pattern_size=MAX_PATTERN_TOKENS, min_pattern_size=1, min_count=MIN_REPEATS
        )
        return vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=request.max_tokens,
            seed=request.seed,
            stop_token_ids=[*self._end_ids, *request.stop_ids],
            ignore_eos=True,  # the end tokens are those of the chat, all of them
            repetition_detection=loops if sampling.stop_loops else None,
            detokenize=False,
            logprobs=request.soft_labels,
            flat_logprobs=request.soft_labels is not None,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _outcome(self, output: Any) -> Outcome:
        request = self._scored.pop(output.request_id, None)
        return _outcome(output) if request is None else _scored(request, output)

    def stop(self) -> None:
        """End vLLM's own processes."""
        self._engine.engine_core.shutdown(timeout=SECONDS_TO_END)


def serve(connection: Connection) -> None:
    """Sample what comes in, until the other end of the pipe is closed or gone."""
    sampler = Sampler(*connection.recv())
    try:
        connection.send(sampler.ready)
        while True:
            while not sampler.num_in_flight or connection.poll():
                if refusal := sampler.add(connection.recv()):
                    connection.send([refusal])
            if finished := sampler.step():
                connection.send(finished)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        sampler.stop()


def _outcome(output: Any) -> Completion | Failure:
    completion = output.outputs[0]
    reason = REASONS.get(completion.finish_reason)
    if reason is None:
        return Failure(output.request_id, f"vLLM ended it: {completion.finish_reason}")
    token_ids = list(completion.token_ids)
    labels = None if completion.logprobs is None else _labels(token_ids, completion.logprobs)
    return Completion(output.request_id, token_ids, reason, labels=labels)


def _scored(request: Request, output: Any) -> Completion | Failure:
    """A completion that was there, with its labels; a last token that found no room in the context has none."""
    assert request.completion_ids is not None
    assert request.soft_labels is not None
    num_prompt, whole = len(request.prompt_ids), list(request.completion_ids)
    tokens = whole[: len(output.prompt_token_ids) - num_prompt]
    labels = _labels(tokens, output.prompt_logprobs[num_prompt:])
    if not np.isfinite(labels.top_logprobs[:, 0]).all():
        return Failure(request.key, "the model's logits of this text are no numbers")
    if left := whole[len(tokens) :]:
        labels = labels.followed_by(unlabelled(left, request.soft_labels, UNLABELLED))
    return Completion(request.key, whole, "stop", labels=labels)


def _labels(token_ids: list[int], found: FlatLogprobs) -> Labels:
    """At each position vLLM gives the token itself, then the most likely ones, the first of them first."""
    length = len(token_ids)
    if len(found.token_ids) % max(length, 1) or len(found) != length:
        raise ValueError(f"vLLM gave {len(found)} positions of labels for {length} tokens")
    tokens = np.array(found.token_ids, np.uint32).reshape(length, -1)
    logprobs = np.array(found.logprobs, np.float32).astype(np.float16).reshape(length, -1)
    if tokens[:, 0].tolist() != token_ids:
        raise ValueError("vLLM gave labels of other tokens than it sampled")
    flags = np.full(length, SAMPLED, np.uint8)
    return Labels(tokens[:, 0], flags, tokens[:, 1:], logprobs[:, 1:], logprobs[:, 0])


def _arguments(model: Model, options: EngineOptions, soft_labels: int | None) -> dict[str, Any]:
    """What `vllm.LLM` is called with."""
    arguments: dict[str, Any] = {
        "model": str(model.weights_folder),
        "trust_remote_code": False,  # whatever the environment says
        "tensor_parallel_size": options.tensor_parallel_size,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.concurrency,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",  # what goes on before what is new: its prefix is still in the cache
        "generation_config": "vllm",  # how to sample is said by the requests alone
        "max_logprobs": soft_labels,
        "logprobs_mode": None
        if soft_labels is None
        else "raw_logprobs",  # before temperature and top_p
    }
    if model.base_folder is not None:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(model.folder)}
    if current_platform.is_cpu():
        arguments |= _cpu_arguments(model, options)
    return {name: value for name, value in arguments.items() if value is not None}


def _cpu_arguments(model: Model, options: EngineOptions) -> dict[str, Any]:
    """On the CPU: start at once, take little memory, and never split a prompt.

    The last since a seeded request whose prompt comes in chunks kills the CPU's model runner
    (`CPU Generator does not use offset`, vLLM 0.24 to 0.33).
    """
    config = json.loads((model.weights_folder / "config.json").read_bytes())
    longest = options.max_model_len or config.get("max_position_embeddings") or CPU_BATCH_TOKENS
    size = sum(path.stat().st_size for path in model.weights_folder.glob("*.safetensors"))
    cache = min(CPU_CACHE_BYTES, int(free_memory() * CPU_CACHE_SHARE / options.replicas))
    return {
        "dtype": "float32" if size <= CPU_FP32_BYTES else "auto",
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(CPU_BATCH_TOKENS, longest, options.concurrency or 0),
        "kv_cache_memory_bytes": None if os.environ.get("VLLM_CPU_KVCACHE_SPACE") else cache,
    }


def _rank(adapter: Path) -> int:
    """The largest rank in an adapter, rounded up to one that vLLM takes."""
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    return next((allowed for allowed in LORA_RANKS if allowed >= rank), rank)


def _describe(tensor_parallel_size: int) -> str:
    """`vllm 0.32.0 on cpu`"""
    device = "cpu" if current_platform.is_cpu() else str(current_platform.get_device_name())
    several = f"{tensor_parallel_size} x " if tensor_parallel_size > 1 else ""
    return f"vllm {vllm.__version__} on {several}{device}"


def _watch(core: Any) -> None:
    """Let `step` raise when the engine's process is killed: vLLM (0.24 to 0.33) would wait for ever."""
    manager = getattr(getattr(core, "resources", None), "engine_manager", None)
    if manager is None:  # the engine runs in this process
        return
    processes = list(manager.processes)
    outputs = core.outputs_queue

    def wait_for_the_end() -> None:
        wait([process.sentinel for process in processes])
        if any(process.exitcode == -signal.SIGKILL for process in processes):
            sys.stderr.write(f"MemoryError: {KILLED}\n")
        outputs.put_nowait(EngineDeadError())

    threading.Thread(target=wait_for_the_end, daemon=True, name="distill-watch").start()


def _leave_with(descriptor: int) -> None:
    """Kill this process and those that it started some time after the other end of the pipe has gone.

    Mostly they have left by then. A model that is being loaded, which can last minutes, has not.
    """
    pipe = select.poll()
    pipe.register(descriptor, 0)  # its end is always reported
    pipe.poll()
    time.sleep(SECONDS_TO_LEAVE)
    os.killpg(0, signal.SIGKILL)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Leave by way of every `finally`, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_leave_with, args=(int(sys.argv[1]),), daemon=True).start()
    with contextlib.suppress(SystemExit):
        serve(Connection(int(sys.argv[1])))
    os._exit(0)  # all is done; taking the interpreter apart lasts seconds

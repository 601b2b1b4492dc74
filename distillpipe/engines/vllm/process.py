"""The process in which vLLM runs: `python -m distillpipe.engines.vllm.process DESCRIPTOR`.

`LLM.generate` takes all prompts at once and returns after the last one has finished. `add_request` and `step` of
the same engine return each completion as it finishes. vLLM gets and returns token ids, and neither tokenizes nor
detokenizes. All code that depends on vLLM's version or internals is in this file.

DESCRIPTOR is one end of a pipe. The process receives (model, end ids, options, labels per token) and sends `Ready`.
Then it receives requests and sends lists of outcomes until the other end is closed. Errors are tracebacks on
stderr.
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

CONTINUATION_PRIORITY, NEW_PRIORITY = 0, 1  # vLLM takes the lower number first
WAITING_SHARE = 0.5  # waiting requests per running one, so that the engine is never idle
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM supports
CPU_CACHE_BYTES = 4 << 30
CPU_CACHE_SHARE = 0.4  # of the free memory, if that is less
CPU_BATCH_TOKENS = 4096
CPU_FP32_BYTES = 2 << 30  # of a model's files: a larger model keeps its own dtype
SECONDS_TO_END = 1.0  # for vLLM's own processes: they have nothing to save
SECONDS_TO_EXIT = 10.0  # for all processes, after the other end of the pipe was closed
REASONS: dict[str | None, Any] = {"stop": "stop", "length": "length", "repetition": "repetition"}


class OfflineEngine:
    """vLLM's offline engine, request by request."""

    def __init__(
        self,
        model: Model,
        end_ids: frozenset[int],
        options: EngineOptions,
        soft_labels: int | None = None,
    ) -> None:
        self.llm = vllm.LLM(**_arguments(model, options, soft_labels))
        self._engine = self.llm.llm_engine
        _raise_when_killed(self._engine.engine_core)
        self._end_ids = sorted(end_ids)
        self._lora = None
        if model.base_folder is not None:
            self._lora = LoRARequest("adapter", 1, str(model.folder))
        self.num_in_flight = 0
        self._to_score: dict[str, Request] = {}
        "requests in flight that label an existing completion"
        config = self._engine.vllm_config
        self._vocab_size = config.model_config.get_vocab_size()
        self.ready = Ready(
            capacity=int(config.scheduler_config.max_num_seqs * (1 + WAITING_SHARE)),
            context_length=config.model_config.max_model_len,
            description=_describe(options.tensor_parallel_size),
        )

    def add(self, request: Request) -> Refusal | None:
        """Add a request, or refuse it."""
        if refusal := refusal_of_unknown_token(request, self._vocab_size):
            return refusal
        text = request.prompt_ids
        if request.completion_ids is not None:
            self._to_score[request.key] = request
            room = self.ready.context_length - 1  # vLLM always samples one token after a prompt
            text = [*text, *request.completion_ids][:room]
        self._engine.add_request(
            request.key,
            {"type": "token", "prompt_token_ids": text},
            self.parameters(request),
            lora_request=self._lora,
            priority=CONTINUATION_PRIORITY if request.is_continuation else NEW_PRIORITY,
        )
        self.num_in_flight += 1
        return None

    def step(self) -> list[Outcome]:
        """Sample the next tokens and return the completions that ended with them."""
        finished = [self._outcome(output) for output in self._engine.step() if output.finished]
        self.num_in_flight -= len(finished)
        return finished

    def parameters(self, request: Request) -> vllm.SamplingParams:
        """VLLM's sampling parameters for a completion, or for the labels of one."""
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
        request = self._to_score.pop(output.request_id, None)
        return _sampled(output) if request is None else _scored(request, output)

    def stop(self) -> None:
        """End vLLM's processes."""
        self._engine.engine_core.shutdown(timeout=SECONDS_TO_END)


def serve(connection: Connection) -> None:
    """Serve requests until the other end of the pipe is closed."""
    engine = OfflineEngine(*connection.recv())
    try:
        connection.send(engine.ready)
        while True:
            while not engine.num_in_flight or connection.poll():
                if refusal := engine.add(connection.recv()):
                    connection.send([refusal])
            if finished := engine.step():
                connection.send(finished)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        engine.stop()


def _sampled(output: Any) -> Completion | Failure:
    completion = output.outputs[0]
    reason = REASONS.get(completion.finish_reason)
    if reason is None:
        return Failure(output.request_id, f"vLLM ended the request: {completion.finish_reason}")
    token_ids = list(completion.token_ids)
    labels = None if completion.logprobs is None else _labels(token_ids, completion.logprobs)
    return Completion(output.request_id, token_ids, reason, labels=labels)


def _scored(request: Request, output: Any) -> Completion | Failure:
    """An existing completion with its labels. Tokens that did not fit into the context have none."""
    assert request.completion_ids is not None
    assert request.soft_labels is not None
    num_prompt, completion = len(request.prompt_ids), list(request.completion_ids)
    tokens = completion[: len(output.prompt_token_ids) - num_prompt]
    labels = _labels(tokens, output.prompt_logprobs[num_prompt:])
    if not np.isfinite(labels.top_logprobs[:, 0]).all():
        return Failure(request.key, "the model's logits of this text are not finite")
    if rest := completion[len(tokens) :]:
        labels = labels.followed_by(unlabelled(rest, request.soft_labels, UNLABELLED))
    return Completion(request.key, completion, "stop", labels=labels)


def _labels(token_ids: list[int], flat: FlatLogprobs) -> Labels:
    """Convert vLLM's log-probabilities: per position the token itself, then the most likely ones in order."""
    length = len(token_ids)
    if len(flat.token_ids) % max(length, 1) or len(flat) != length:
        raise ValueError(f"vLLM returned {len(flat)} positions of labels for {length} tokens")
    tokens = np.array(flat.token_ids, np.uint32).reshape(length, -1)
    logprobs = np.array(flat.logprobs, np.float32).astype(np.float16).reshape(length, -1)
    if tokens[:, 0].tolist() != token_ids:
        raise ValueError("vLLM returned labels of other tokens than it sampled")
    flags = np.full(length, SAMPLED, np.uint8)
    return Labels(tokens[:, 0], flags, tokens[:, 1:], logprobs[:, 1:], logprobs[:, 0])


def _arguments(model: Model, options: EngineOptions, soft_labels: int | None) -> dict[str, Any]:
    """The arguments of `vllm.LLM`."""
    arguments: dict[str, Any] = {
        "model": str(model.weights_folder),
        "trust_remote_code": False,  # whatever the environment sets
        "tensor_parallel_size": options.tensor_parallel_size,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.concurrency,
        "enable_prefix_caching": True,
        "scheduling_policy": "priority",  # continuing rounds first, while the cache holds their prefix
        "generation_config": "vllm",  # only the requests decide how to sample
        "max_logprobs": soft_labels,
        # raw: before temperature and top_p
        "logprobs_mode": None if soft_labels is None else "raw_logprobs",
    }
    if model.base_folder is not None:
        arguments |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": _lora_rank(model.folder),
        }
    if current_platform.is_cpu():
        arguments |= _cpu_arguments(model, options)
    return {name: value for name, value in arguments.items() if value is not None}


def _cpu_arguments(model: Model, options: EngineOptions) -> dict[str, Any]:
    """Arguments for the CPU: fast start, little memory, no chunked prefill."""
    config = json.loads((model.weights_folder / "config.json").read_bytes())
    longest = options.max_model_len or config.get("max_position_embeddings") or CPU_BATCH_TOKENS
    size = sum(path.stat().st_size for path in model.weights_folder.glob("*.safetensors"))
    cache = min(CPU_CACHE_BYTES, int(free_memory() * CPU_CACHE_SHARE / options.replicas))
    return {
        "dtype": "float32" if size <= CPU_FP32_BYTES else "auto",
        "enforce_eager": True,
        # a seeded request with a chunked prompt crashes the CPU's model runner
        # ("CPU Generator does not use offset", vLLM 0.24 to 0.33)
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(CPU_BATCH_TOKENS, longest, options.concurrency or 0),
        "kv_cache_memory_bytes": None if os.environ.get("VLLM_CPU_KVCACHE_SPACE") else cache,
    }


def _lora_rank(adapter: Path) -> int:
    """The largest LoRA rank of an adapter, rounded up to one that vLLM supports."""
    config = json.loads((adapter / "adapter_config.json").read_bytes())
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    return next((allowed for allowed in LORA_RANKS if allowed >= rank), rank)


def _describe(tensor_parallel_size: int) -> str:
    """For example `vllm 0.32.0 on cpu`."""
    device = "cpu" if current_platform.is_cpu() else str(current_platform.get_device_name())
    prefix = f"{tensor_parallel_size} x " if tensor_parallel_size > 1 else ""
    return f"vllm {vllm.__version__} on {prefix}{device}"


def _raise_when_killed(core: Any) -> None:
    """Make `step` raise when the engine's process is killed: vLLM (0.24 to 0.33) would wait forever."""
    manager = getattr(getattr(core, "resources", None), "engine_manager", None)
    if manager is None:  # the engine runs in this process
        return
    processes = list(manager.processes)
    outputs = core.outputs_queue

    def watch() -> None:
        wait([process.sentinel for process in processes])
        if any(process.exitcode == -signal.SIGKILL for process in processes):
            sys.stderr.write(f"MemoryError: {KILLED}\n")
        outputs.put_nowait(EngineDeadError())

    threading.Thread(target=watch, daemon=True, name="distill-watch").start()


def _exit_with(descriptor: int) -> None:
    """Kill this process group some time after the other end of the pipe was closed.

    Usually it has ended by then, but not while a model is being loaded, which can take minutes.
    """
    pipe = select.poll()
    pipe.register(descriptor, 0)  # a closed pipe is always reported
    pipe.poll()
    time.sleep(SECONDS_TO_EXIT)
    os.killpg(0, signal.SIGKILL)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """Exit through every `finally`, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=_exit_with, args=(int(sys.argv[1]),), daemon=True).start()
    with contextlib.suppress(SystemExit):
        serve(Connection(int(sys.argv[1])))
    os._exit(0)  # everything is done; shutting the interpreter down takes seconds

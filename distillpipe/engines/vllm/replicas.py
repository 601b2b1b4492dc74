"""Starts and stops the processes in which vLLM runs: one per replica, each on its own GPUs.

Why vLLM has its own process:

- What vLLM prints does not mix with our output.
- When our process ends, by kill -9 too, the replica ends, because its pipe is closed. vLLM alone would keep
  running and keep the GPU.
- It has its own process group. So only we handle Ctrl-C, and all processes that vLLM started end with it.
"""

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.processes import available_cores
from distillpipe.engines.base import Outcome, Request

COMMAND = [sys.executable, "-m", "distillpipe.engines.vllm.process"]
ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # forking a process with threads is not safe
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",  # its processes have nothing to save
}
"Defaults for the replicas; the user's environment wins."
DEVICES = "CUDA_VISIBLE_DEVICES"
SOCKETS = "VLLM_RPC_BASE_PATH"
CORES = "VLLM_CPU_OMP_THREADS_BIND"
SECONDS_TO_END = 10.0  # after which a replica is killed
KILLED = "it was killed, probably because the machine ran out of memory"


class Ready(NamedTuple):
    """The message of a replica whose model is loaded."""

    capacity: int
    "number of requests in flight that keeps it busy"
    context_length: int
    description: str


class Replica:
    """One process, its requests in flight and its log.

    Its messages go to `inbox` as (replica, message): `Ready`, a list of outcomes, or the reason why it ended.
    """

    def __init__(self, number: int, environment: dict[str, str], inbox: queue.Queue[Any]) -> None:
        self.number = number
        self.capacity = 0
        self.in_flight: dict[str, Request] = {}
        self.is_alive = True
        self._log = ReplicaLog()
        self._connection, theirs = Pipe()
        with self._log.path.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, **os.environ, **environment, SOCKETS: str(self._log.sockets)},
                process_group=0,
            )
        theirs.close()
        # a thread always reads, so that neither end of the pipe can block the other
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has died; the reading thread reports it
            self._connection.send(message)

    def submit(self, request: Request) -> None:
        self.in_flight[request.key] = request
        self.send(request._replace(messages=()))

    def take(self, outcomes: list[Outcome]) -> list[Outcome]:
        for outcome in outcomes:
            del self.in_flight[outcome.key]
        return outcomes

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self) -> None:
        """Wait for the process to end after `terminate`, kill the rest of its group and remove the log."""
        self.is_alive = False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.remove(keep_log=self._process.returncode != 0)

    def _read(self, inbox: queue.Queue[Any]) -> None:
        try:
            while True:
                inbox.put((self, self._connection.recv()))
        except (EOFError, OSError):
            pass
        finally:
            self.terminate()
            code = self._process.wait()
            if code == -signal.SIGKILL:
                self._log.add(f"MemoryError: {KILLED}")
            inbox.put((self, self._log.cause() or f"its process ended with {code}"))


def end_replicas(replicas: list[Replica]) -> None:
    """End all replicas in parallel."""
    for replica in replicas:
        replica.terminate()
    for replica in replicas:
        replica.end()


def environments(num_replicas: int, num_gpus: int) -> list[dict[str, str]]:
    """Environment variables per replica: its `num_gpus` GPUs, or an equal share of the CPU cores."""
    import torch

    num_devices = num_replicas * num_gpus
    starts = range(0, num_devices, num_gpus)
    if not torch.cuda.is_available():
        if CORES in os.environ:
            return [{}] * num_replicas
        cores = available_cores()
        shares = [cores[number::num_devices] or cores for number in range(num_devices)]
        texts = [",".join(map(str, share)) for share in shares]
        return [{CORES: "|".join(texts[start : start + num_gpus])} for start in starts]
    visible = os.environ.get(DEVICES)
    devices = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    if len(devices) < num_devices:
        raise UsageError(
            f"{num_replicas} replicas (--replicas) of {num_gpus} GPUs each (--tensor-parallel-size) "
            f"need {num_devices} GPUs, there are {len(devices)}: give smaller numbers"
        )
    return [{DEVICES: ",".join(devices[start : start + num_gpus])} for start in starts]


# The log of a replica, and the line in it that says why vLLM died.
#
# vLLM prints the cause of a failure in the traceback of the process where it happened. The error that reaches
# the caller only says that there was a failure.


CAUSE = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception)): (.*\S)(?:\n\s+(.*\S))?")
HEADLINE = re.compile(r"\d+ validation errors? for ")  # pydantic; the next line has the error
CONSEQUENCE = re.compile(
    r"initialization failed|[Ss]ee (stack trace|root cause)|died unexpectedly|EngineDeadError"
)
NOISE = re.compile(r"^Value error, | \[type=\w+, input_value=.*$")
MESSAGE_CHARACTERS = 240  # of an error that are shown; the log has all of it
REMEDIES = {
    r"[Oo]ut of memory|memory utilization|KV cache|kv cache|for the cache blocks|Available memory": (
        "give a smaller --max-model-len or --concurrency, more --tensor-parallel-size, or free memory"
    ),
    r"tensor parallel size|tensor_parallel_size": "give another --tensor-parallel-size",
    r"max_num_seqs": "give a smaller --concurrency",
    r"max_model_len": "give a smaller --max-model-len",
    r"architecture|not (yet )?support": "--engine transformers may know the model",
}


class ReplicaLog:
    """The log file of a replica and its child processes, beside a folder for their sockets."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="distill-vllm-"))
        self.sockets = self._folder / "sockets"
        self.sockets.mkdir()
        self.path = self._folder / "vllm.log"
        self.path.touch()

    def cause(self) -> str:
        """The first error that is not the consequence of another one, with what to do; "" if there is none."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # removed by `end`
            return ""
        for kind, message, next_line in CAUSE.findall(text):
            if CONSEQUENCE.search(f"{kind}: {message}"):
                continue
            error = NOISE.sub("", next_line if HEADLINE.match(message) else message)
            remedies = [remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, error)]
            short = textwrap.shorten(error, MESSAGE_CHARACTERS, placeholder=" ...")
            return "; ".join([short, *remedies[:1], f"the whole log is in {self.path}"])
        return ""

    def add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    def remove(self, *, keep_log: bool) -> None:
        """Remove the sockets, which killed processes leave behind, and the log unless `keep_log`."""
        shutil.rmtree(self.sockets if keep_log else self._folder, ignore_errors=True)

"""The processes in which vLLM runs, seen from ours: one for each copy of the model, on GPUs of its own.

A process of its own for vLLM, so that nothing it writes gets between our data, and so that whatever ends us,
a kill -9 too, ends it: it stops when its pipe is closed, where vLLM alone would stay and keep the GPU. It is
in a process group of its own, so that Ctrl-C is ours alone to handle and all that it started ends with it.
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
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork of a process with threads is not safe
    "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "1",  # its processes hold nothing to save
}
"Of the replicas, where the user's own says nothing else."
DEVICES = "CUDA_VISIBLE_DEVICES"
SOCKETS = "VLLM_RPC_BASE_PATH"
CORES = "VLLM_CPU_OMP_THREADS_BIND"
SECONDS_TO_END = 10.0  # after which a replica is killed
KILLED = "it was killed, as happens to a process when the machine is out of memory"


class Ready(NamedTuple):
    """Said by a replica when its model is loaded."""

    capacity: int
    "requests to have in flight, so that it is never idle"
    context_length: int
    description: str


class Replica:
    """One process, what is in flight there, and its log. What it says goes to `inbox`, beside itself."""

    def __init__(self, number: int, environment: dict[str, str], inbox: queue.Queue[Any]) -> None:
        self.number = number
        self.capacity = 0
        self.in_flight: dict[str, Request] = {}
        self.is_alive = True
        self._log = Log()
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
        # A thread reads at all times, so that neither end ever waits for the other one to read.
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has died, and its reader says so
            self._connection.send(message)

    def ask(self, request: Request) -> None:
        self.in_flight[request.key] = request
        self.send(request._replace(messages=()))

    def take(self, outcomes: list[Outcome]) -> list[Outcome]:
        for outcome in outcomes:
            del self.in_flight[outcome.key]
        return outcomes

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end(self) -> None:
        """Wait for the end that was asked for; kill what is left of it, and remove the log."""
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
            self.ask_to_end()
            code = self._process.wait()
            if code == -signal.SIGKILL:
                self._log.add(f"MemoryError: {KILLED}")
            inbox.put((self, self._log.cause() or f"its process ended with {code}"))


def end(replicas: list[Replica]) -> None:
    """End all of them, side by side."""
    for replica in replicas:
        replica.ask_to_end()
    for replica in replicas:
        replica.end()


def environments(num_replicas: int, num_gpus: int) -> list[dict[str, str]]:
    """What each replica sees of the machine: `num_gpus` GPUs, or as many shares of the cores."""
    import torch

    wanted = num_replicas * num_gpus
    starts = range(0, wanted, num_gpus)
    if not torch.cuda.is_available():
        if CORES in os.environ:
            return [{}] * num_replicas
        cores = available_cores()
        shares = [cores[number::wanted] or cores for number in range(wanted)]
        texts = [",".join(map(str, share)) for share in shares]
        return [{CORES: "|".join(texts[start : start + num_gpus])} for start in starts]
    visible = os.environ.get(DEVICES)
    devices = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    if len(devices) < wanted:
        raise UsageError(
            f"{num_replicas} replicas (--replicas) of {num_gpus} GPUs each (--tensor-parallel-size) "
            f"need {wanted} GPUs, there are {len(devices)}"
        )
    return [{DEVICES: ",".join(devices[start : start + num_gpus])} for start in starts]


# What vLLM's processes write on stdout and stderr, and the one line of it that says why they died.
#
# vLLM names the cause of a failure in the traceback of the process it happened in; the error that reaches
# the caller only says that there was one.


CAUSE = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception)): (.*\S)(?:\n\s+(.*\S))?")
HEADLINE = re.compile(
    r"\d+ validation errors? for "
)  # of pydantic; what is wrong stands in the next line
SECOND_HAND = re.compile(
    r"initialization failed|[Ss]ee (stack trace|root cause)|died unexpectedly|EngineDeadError"
)
NOISE = re.compile(r"^Value error, | \[type=\w+, input_value=.*$")
SAID_CHARACTERS = 240  # of an error that are repeated; the log has it all
REMEDIES = {
    r"[Oo]ut of memory|memory utilization|KV cache|kv cache|for the cache blocks|Available memory": (
        "give a smaller --max-model-len or --concurrency, more --tensor-parallel-size, or free memory"
    ),
    r"tensor parallel size|tensor_parallel_size": "give another --tensor-parallel-size",
    r"max_num_seqs": "give a smaller --concurrency",
    r"max_model_len": "give a smaller --max-model-len",
    r"architecture|not (yet )?support": "--engine transformers may know the model",
}


class Log:
    """A file that a process and those that it starts write to, and a folder for its sockets beside it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="distill-vllm-"))
        self.sockets = self._folder / "sockets"
        self.sockets.mkdir()
        self.path = self._folder / "vllm.log"
        self.path.touch()

    def cause(self) -> str:
        """The first error in it that is no other's consequence, with what to do; "" if there is none."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # the process was asked to end, and has
            return ""
        for kind, message, next_line in CAUSE.findall(text):
            if SECOND_HAND.search(f"{kind}: {message}"):
                continue
            said = NOISE.sub("", next_line if HEADLINE.match(message) else message)
            remedies = [remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, said)]
            short = textwrap.shorten(said, SAID_CHARACTERS, placeholder=" ...")
            return "; ".join([short, *remedies[:1], f"all it said is in {self.path}"])
        return ""

    def add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    def remove(self, *, keep_log: bool) -> None:
        """Remove the sockets, which processes that were killed leave behind, and the log if told so."""
        shutil.rmtree(self.sockets if keep_log else self._folder, ignore_errors=True)

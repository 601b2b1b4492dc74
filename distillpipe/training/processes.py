"""Training in several processes: one a GPU, or any number on the CPU.

The command's own process does not train. It holds the lock and the manifest, starts the training processes, watches
them and stops them. If one dies, the others wait for it, so they are killed; the same command resumes from the last
saved state. On Ctrl-C it sets an event that all check between two steps. If this process dies, they die with it.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import DistillError, EngineError, Interrupted, UsageError
from distillpipe.base.interrupts import leave_to_parent, leave_with_parent
from distillpipe.base.progress import say
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models.lookup import Model
from distillpipe.training.setup import Setup

# a process waits so long before it reports an error that another one may have caused
GRACE_SECONDS = 2.0


class Job(NamedTuple):
    """The arguments of `loop.train`, the same in every process."""

    student: Model
    rows: Path
    folder: Path
    options: TrainingOptions
    save_every: int
    setup: Setup


def train(job: Job, num_processes: int) -> None:
    """Train in `num_processes` processes; returns when all have succeeded.

    Raises EngineError if one failed or died, and `Interrupted` after all have saved a state.
    """
    from torch import distributed

    _check_devices(num_processes)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    started: list[tuple[SpawnProcess, Connection]] = []
    try:
        with _signals_ignored():
            for rank in range(num_processes):
                ours, theirs = context.Pipe(duplex=False)
                arguments = (job, _environment(rank, num_processes, store.port), os.getpid(), stop)
                process = context.Process(
                    target=_train_here, args=(*arguments, theirs), daemon=True
                )
                process.start()
                theirs.close()
                started.append((process, ours))
        try:
            _wait(started)
        except Interrupted:
            stop.set()
            say("sft: stopping after the current step")
            _wait(started)
            raise
    finally:
        for process, _ in started:
            process.kill()
            process.join()


def _check_devices(num_processes: int) -> None:
    import torch

    if 0 < torch.cuda.device_count() < num_processes:
        raise UsageError(
            f"--num-processes {num_processes}: this machine has {torch.cuda.device_count()} GPUs, and each "
            "process needs one: give a smaller number"
        )


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Processes that are started in the block ignore SIGINT and SIGHUP until they set their own handlers."""
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(rank: int, num_processes: int, port: int) -> dict[str, str]:
    """The environment variables of torch.distributed, as torchrun sets them."""
    variables = {
        "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0,
    }  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    variables["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", threads)
    if sys.platform == "linux":
        variables["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {name: str(value) for name, value in variables.items()}


def _wait(started: Sequence[tuple[SpawnProcess, Connection]]) -> None:
    """Return when all processes have succeeded; raise an error for the first that failed."""
    running = {process.sentinel: (process, pipe) for process, pipe in started}
    while running:
        ended = [
            running.pop(sentinel) for sentinel in wait(list(running)) if isinstance(sentinel, int)
        ]
        for process, _ in ended:
            process.join()
        failed = [(process, pipe) for process, pipe in ended if process.exitcode]
        # a killed process comes first (negative exit code): the others only report that they lost it
        for process, pipe in sorted(failed, key=lambda ended: ended[0].exitcode or 0):
            raise _error(process, pipe, started)


def _error(
    process: SpawnProcess, pipe: Connection, started: Sequence[tuple[SpawnProcess, Connection]]
) -> DistillError:
    with suppress(EOFError):  # it sent no error
        error: DistillError = pipe.recv()
        return error
    number = [other for other, _ in started].index(process) + 1
    code = process.exitcode or 0
    how = f"was killed by signal {-code} (by a user, or out of memory)" if code < 0 else "failed"
    return EngineError(
        f"process {number} of {len(started)} (id {process.pid}) {how}, so the others were stopped: the last "
        "saved state is kept, and the same command continues from it"
    )


def _train_here(
    job: Job, environment: dict[str, str], parent: int, stop: Any, pipe: Connection
) -> None:
    """The main function of a training process; it exits with 0 on success and on a requested stop."""
    leave_to_parent()
    leave_with_parent(parent)
    os.environ.update(environment)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in `main`
    from torch import distributed

    from distillpipe.training import checkpoint, loop
    from distillpipe.training.rows import stored_rows

    try:
        with checkpoint.explain_full_disk(job.folder):
            rows = stored_rows.StoredRows(job.rows)
            setup = job.setup._replace(is_stopped=stop.is_set)
            loop.train(job.student, rows, job.folder, job.options, job.save_every, setup)
    except Interrupted:
        pass
    except DistillError as error:
        pipe.send(error)
        sys.exit(1)
    except BaseException:
        time.sleep(GRACE_SECONDS)
        raise
    distributed.destroy_process_group()

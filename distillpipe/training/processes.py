"""Training in several processes: one a GPU, or on the CPU as many as are asked for.

The process of the command takes no part. It keeps the lock and the manifest, starts the others, watches them, and
ends them: when one dies, the others, which wait for it, are killed, and the last state saved is gone on from. Ctrl-C reaches
them as a flag that all look at between two steps. However this process ends, they end with it.
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

GRACE_SECONDS = 2.0  # in which a process is ended before it complains that another one died


class Job(NamedTuple):
    """What every process trains; see `loop.train`."""

    student: Model
    rows: Path
    folder: Path
    options: TrainingOptions
    save_every: int
    setup: Setup


def train(job: Job, num_processes: int) -> None:
    """Train in `num_processes` processes; returns when all have ended well.

    Raises EngineError where one failed or died, and `Interrupted`, when all have saved a state.
    """
    from torch import distributed

    _check_devices(num_processes)
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    started: list[tuple[SpawnProcess, Connection]] = []
    try:
        with _ctrl_c_left_out():
            for place in range(num_processes):
                ours, theirs = context.Pipe(duplex=False)
                given = (job, _environment(place, num_processes, store.port), os.getpid(), stop)
                process = context.Process(target=_train_here, args=(*given, theirs), daemon=True)
                process.start()
                theirs.close()
                started.append((process, ours))
        try:
            _wait(started)
        except Interrupted:
            stop.set()
            say("sft: stopping when the step in hand is done")
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
            "process needs one"
        )


@contextmanager
def _ctrl_c_left_out() -> Iterator[None]:
    """What is started in the block does not notice Ctrl-C, or the end of the terminal, before it can say
    for itself.
    """
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment(place: int, num_processes: int, port: int) -> dict[str, str]:
    """What torch finds the others by, as torchrun says it."""
    found = {
        "RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0,
    }  # fmt: skip
    threads = max(1, (os.cpu_count() or 1) // num_processes)
    found["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", threads)
    if sys.platform == "linux":
        found["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {name: str(value) for name, value in found.items()}


def _wait(started: Sequence[tuple[SpawnProcess, Connection]]) -> None:
    """Return when all have ended well; raise for the first that did not."""
    running = {process.sentinel: (process, pipe) for process, pipe in started}
    while running:
        ended = [running.pop(one) for one in wait(list(running)) if isinstance(one, int)]
        for process, _ in ended:
            process.join()
        failed = [(process, pipe) for process, pipe in ended if process.exitcode]
        # One that was killed comes first: the others only say that they miss it.
        for process, pipe in sorted(failed, key=lambda one: one[0].exitcode or 0):
            raise _error(process, pipe, started)


def _error(
    process: SpawnProcess, pipe: Connection, started: Sequence[tuple[SpawnProcess, Connection]]
) -> DistillError:
    with suppress(EOFError):  # it said nothing
        error: DistillError = pipe.recv()
        return error
    number = [one for one, _ in started].index(process) + 1
    code = process.exitcode or 0
    how = f"was killed by signal {-code}, by hand or for want of memory" if code < 0 else "failed"
    return EngineError(
        f"process {number} of {len(started)} (id {process.pid}) {how}, so the others were ended: the last "
        "state saved is kept, and the same command goes on from there"
    )


def _train_here(
    job: Job, environment: dict[str, str], parent: int, stop: Any, pipe: Connection
) -> None:
    """What each process does: its exit code is 0 where it ended well, or was asked to stop."""
    leave_to_parent()
    leave_with_parent(parent)
    os.environ.update(environment)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # as in `main`
    from torch import distributed

    from distillpipe.training import checkpoint, loop
    from distillpipe.training.rows import stored_rows

    try:
        with checkpoint.full_disk_named(job.folder):
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

"""Replicas that die or hang: real processes that use the protocol of vLLM's replicas, without vLLM."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from distillpipe.base.errors import EngineError, MissingDependencyError, UsageError
from distillpipe.base.options import EngineOptions, Sampling
from distillpipe.engines import choose_engine
from distillpipe.engines.base import Completion, Request
from distillpipe.engines.vllm import replicas
from distillpipe.engines.vllm.engine import VllmEngine
from distillpipe.engines.vllm.replicas import ReplicaLog
from distillpipe.models.lookup import Model

SAMPLING = Sampling(temperature=0, top_p=1, max_tokens=8)


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = Path(__file__).with_name("scripted_replica.py")
    monkeypatch.setattr(replicas, "COMMAND", [sys.executable, str(script)])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def open_replicas(number: int, capacity: int = 4, name: str = "model") -> VllmEngine:
    options = EngineOptions(engine="vllm", concurrency=capacity, replicas=number)
    return VllmEngine(Model(name, Path("unused"), "local:0"), frozenset(), options)


def request(key: str) -> Request:
    return Request(key, [1, 2, 3], SAMPLING, 0)


def complete(engine: VllmEngine, keys: list[str]) -> list[Completion]:
    return list(engine.complete(map(request, keys)))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_request_is_done_once_and_all_replicas_have_work() -> None:
    engine = open_replicas(3)
    keys = [f"slow {number}" for number in range(30)]

    done = complete(engine, keys)

    assert sorted(one.key for one in done) == sorted(keys)
    by_process = Counter(one.token_ids[0] for one in done)
    assert len(by_process) == 3
    assert min(by_process.values()) >= 5
    assert engine.description == "3 replicas of scripted"
    assert engine.context_length == 1024


def test_requests_are_pulled_no_faster_than_replicas_have_room() -> None:
    pulled = 0

    def lazily() -> Iterator[Request]:
        nonlocal pulled
        for number in range(40):
            pulled += 1
            yield request(f"slow {number}")

    completions = open_replicas(2, capacity=3).complete(lazily())
    next(completions)
    assert pulled == 6
    assert len(list(completions)) == 39


def test_an_engine_is_used_again_and_again() -> None:
    engine = open_replicas(1)
    assert len(complete(engine, ["a", "b"])) == 2
    assert len(complete(engine, ["c"])) == 1
    assert complete(engine, []) == []


def test_what_a_dead_replica_left_is_done_by_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = open_replicas(2, capacity=5)
    keys = [f"slow {number}" for number in range(20)]

    def lazily() -> Iterator[Request]:
        yield from map(request, keys[:4])
        os.kill(engine._replicas[0]._process.pid, signal.SIGKILL)
        yield from map(request, keys[4:])

    assert sorted(one.key for one in engine.complete(lazily())) == sorted(keys)
    said = capsys.readouterr().err
    assert "replica 0 of vLLM died: it was killed, probably because the machine" in said
    assert "out of memory; give a smaller --max-model-len" in said
    assert "requests in flight go to the remaining replicas (1)" in said


def test_when_the_last_replica_has_died_the_error_says_why_and_what_was_done_stays_valid() -> None:
    engine = open_replicas(2)
    done = []
    with pytest.raises(EngineError, match=r"vLLM died: no room for it; .*distill-vllm-.*log"):
        for outcome in engine.complete(map(request, ["a", "b", "slow die", "c"])):
            done.append(outcome.key)
    assert {"a", "b"} <= set(done)


def test_a_replica_that_cannot_start_is_an_error_that_names_the_model() -> None:
    with pytest.raises(EngineError, match="could not load broken: the model is broken"):
        open_replicas(2, name="broken")


@pytest.mark.parametrize("how", ["dropped", "left", "raised"])
def test_no_process_is_left_when_an_engine_is(how: str, tmp_path: Path) -> None:
    engine = open_replicas(2)
    pids = [replica._process.pid for replica in engine._replicas]
    completions = engine.complete(map(request, ["a", "b", *["hang"] * 100]))
    next(completions)
    assert all(map(is_running, pids))

    if how == "left":
        completions.close()
    elif how == "raised":
        with pytest.raises(ZeroDivisionError):
            completions.throw(ZeroDivisionError)
    del completions, engine

    assert not any(map(is_running, pids))
    assert not list(tmp_path.glob("distill-vllm-*"))


# ---------------------------------------------------------------- the log


OUT_OF_MEMORY = """INFO all is well
(EngineCore pid=1) ERROR 11-21 12:12:32 [core.py:1512] Traceback (most recent call last):
(EngineCore pid=1) ERROR 11-21 12:12:32 [core.py:1512]   File "x.py", line 1, in f
(EngineCore pid=1) ERROR 11-21 12:12:32 [core.py:1512] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
UNKNOWN_ARCHITECTURE = """Traceback (most recent call last):
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, Model architectures ['Foo'] are not supported for now. [type=value_error, input_value=ArgsKwargs((), {'model': ...), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", ""),
        ("Loading weights\nall is well\n", ""),
        (OUT_OF_MEMORY, "CUDA out of memory. Tried to allocate 2 GiB; give a smaller --max-model"),
        (
            UNKNOWN_ARCHITECTURE,
            "Model architectures ['Foo'] are not supported for now.; --engine t",
        ),
        (
            "ValueError: vLLM does not yet support DoRA.\n",
            "vLLM does not yet support DoRA.; --engine transformers may",
        ),
        (
            "  Value error, x\nValueError: Total number of attention heads (4) must be divisible by "
            "tensor parallel size (3).\n",
            "Total number of attention heads (4) must be divisible by tensor parallel size (3).; "
            "give another --tensor-parallel-size; the whole log is in ",
        ),
        (
            f"ValueError: {'so it is ' * 100}\n",
            f"{'so it is ' * 25}so it is so ...; the whole log is in ",
        ),
        ("EngineDeadError: EngineCore encountered an issue. See stack trace (above)\n", ""),
    ],
)
def test_the_cause_of_a_failure_is_read_from_the_log(text: str, cause: str) -> None:
    log = ReplicaLog()
    log.path.write_text(text)
    assert log.cause().startswith(cause)
    assert bool(log.cause()) == bool(cause)


# ---------------------------------------------------------------- which engine


def test_without_vllm_the_error_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("distillpipe.engines.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'vllm>=0\.\d+,<0\.\d+'$"):
        choose_engine(EngineOptions(engine="vllm", concurrency=None))
    assert choose_engine(EngineOptions(engine="auto", concurrency=None)) == "transformers"


@pytest.mark.parametrize("option", ["replicas", "tensor_parallel_size"])
def test_what_only_vllm_has_is_refused_for_others(option: str) -> None:
    options = EngineOptions(engine="transformers", concurrency=None, **{option: 2})
    with pytest.raises(UsageError, match="need --engine vllm; the engine is transformers"):
        choose_engine(options)


@pytest.mark.parametrize(("has_cuda", "name"), [(True, "vllm"), (False, "transformers")])
def test_auto_is_vllm_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, has_cuda: bool, name: str
) -> None:
    monkeypatch.setattr("distillpipe.engines.find_spec", lambda _: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_cuda)
    assert choose_engine(EngineOptions(engine="auto", concurrency=None)) == name


@pytest.mark.parametrize(
    ("num_replicas", "num_gpus", "cores"),
    [
        (1, 1, ["2,3,5,7"]),
        (2, 1, ["2,5", "3,7"]),
        (1, 2, ["2,5|3,7"]),
        (2, 2, ["2|3", "5|7"]),
        (1, 5, ["2|3|5|7|2,3,5,7"]),
    ],
)
def test_each_replica_gets_cores_of_its_own(
    monkeypatch: pytest.MonkeyPatch, num_replicas: int, num_gpus: int, cores: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {7, 2, 3, 5})
    found = replicas.environments(num_replicas, num_gpus)
    assert found == [{"VLLM_CPU_OMP_THREADS_BIND": share} for share in cores]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0")  # the user's own stays
    assert replicas.environments(num_replicas, num_gpus) == [{}] * num_replicas


def test_each_replica_gets_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    assert replicas.environments(2, 2) == [
        {"CUDA_VISIBLE_DEVICES": "2,3"}, {"CUDA_VISIBLE_DEVICES": "5,7"},
    ]  # fmt: skip
    with pytest.raises(UsageError, match="need 6 GPUs, there are 4"):
        replicas.environments(3, 2)

"""Fixtures that all tests share. Helpers are fixtures that return functions, so that no test imports this."""

import ctypes
import functools
import gc
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import settings

from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Message, Problem, TokenCounts, Trace, problem_id, trace_id
from distillpipe.cli.app import main
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.models.chat import Chat, load_chat

if TYPE_CHECKING:
    import numpy as np
    import torch

    from distillpipe.data.store.labels import Labels

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = REPOSITORY.parent / "shared"
READS_REFERENCE = pytest.StashKey[bool]()

if importlib.util.find_spec("vllm") is None:
    # nothing else here compiles a model, and to import peft would set the compiler up, in every process
    os.environ["TORCHDYNAMO_DISABLE"] = "1"

settings.register_profile("distillpipe", deadline=None)  # a busy machine is no failure
settings.load_profile("distillpipe")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests belong to."""
    return REPOSITORY


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A file of scripts/ as a module, by its path there."""

    def load(name: str) -> ModuleType:
        path = REPOSITORY / "scripts" / name
        spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses and pickles look for it
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    """A factory of traces: `make_trace(problem=..., reasoning=..., response=..., **changes)`.

    What is not given is a right and finished answer; `changes` replaces any field of the trace.
    """

    def factory(
        problem: str = "Tom has 14 coins. Tom finds 6 coins. How many coins does Tom have now?",
        reasoning: str | None = "14+6=20.",
        response: str = "\\boxed{20}",
        **changes: Any,
    ) -> Trace:
        reference = changes.get("reference_answer", "20")
        verifier = changes.get("verifier", "math")
        number = changes.get("problem_id", problem_id(problem, reference, verifier))
        key = changes.get("row_key", "7c41d2e80b6f3a559d0c5b7e1f2a3b4c")
        trace = Trace(
            id=trace_id(number, key),
            problem_id=number,
            row_key=key,
            sample=0,
            benchmark=None,
            problem=problem,
            reference_answer=reference,
            verifier=verifier,
            domain=None,
            messages=[
                Message(role="user", content=problem),
                Message(role="assistant", content=response, reasoning_content=reasoning),
            ],
            finish_reason="stop",
            num_tokens=TokenCounts(prompt=30, reasoning=6, response=5, total=44),
            teacher="teacher",
            seed=123,
        )
        return msgspec.structs.replace(trace, **changes)

    return factory


@pytest.fixture(scope="session")
def teacher_chat() -> Chat:
    """The chat of the shipped teacher: single tokens for the tags, ends with <|im_end|>."""
    return load_chat(REPOSITORY / "data" / "quickstart" / "teacher", "teacher")


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all of torch and transformers again and again."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say for whom the fixtures are that run now: other people's data is for `reference` tests alone."""
    item.config.stash[READS_REFERENCE] = item.get_closest_marker("reference") is not None


@pytest.fixture(scope="session")
def reference_data(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """`reference_data("data/math/gsm8k_test.jsonl")`: a file or folder of other people's, in `../shared`.

    The only way to it: refused where the test is not marked `reference`, so that the default run needs
    nothing that the repository does not hold. Skips where the data is absent.
    """

    def find(name: str) -> Path:
        if not pytestconfig.stash[READS_REFERENCE]:
            pytest.fail(f"reads {name} of ../shared: mark the test `reference`")
        path = REFERENCE / name
        if not path.exists():
            pytest.skip(f"no reference data: {path} does not exist")
        return path

    return find


@pytest.fixture(scope="session")
def reference_rows(reference_data: Callable[[str], Path]) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a JSONL file of the reference data by its name there."""
    return lambda name: [
        json.loads(line) for line in reference_data(f"data/{name}").read_bytes().splitlines()
    ]


OWN_FAMILIES = {
    # special tokens, the last of which ends a turn; then what else the vocabulary has: the tags
    "spelt": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], []),
    "tagged": (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"]),
    "opened": (["<|begin|>", "<|asks|>", "<|answers|>", "<|over|>"], ["<think>", "</think>"]),
}
MORE_MERGES = ["t h", "in k", "< th", "th ink", "< /", ". </", "> \u010a", "> \u010a\u010a"]
"As in large vocabularies: parts of the tags that are written as text, one of which takes a full stop along."


@pytest.fixture(scope="session")
def family_chat(reference_data: Callable[[str], Path]) -> Callable[[str], Chat]:
    """The chat of a family: one of our own, or the real tokenizer of that name in the reference data.

    Own families have the shipped teacher's ordinary tokens and a template in `data/families`, and differ in
    what matters: `spelt` writes the tags as text, `tagged` has tokens for them and drops earlier reasoning,
    `opened` begins the thought in the prompt and has other special tokens. So do qwen2.5, qwen3 and
    r1-distill-qwen.
    """
    from tokenizers import AddedToken, Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    @functools.cache
    def load(name: str) -> Chat:
        if name not in OWN_FAMILIES:
            return load_chat(reference_data(f"data/tokenizers/{name}"), name)
        shipped = REPOSITORY / "data" / "quickstart" / "teacher" / "tokenizer.json"
        known = json.loads(shipped.read_bytes()) | {"added_tokens": []}
        for merge in MORE_MERGES:
            known["model"]["merges"].append(merge.split())
            known["model"]["vocab"][merge.replace(" ", "")] = len(known["model"]["vocab"])
        plain = Tokenizer.from_str(json.dumps(known))
        special, others = OWN_FAMILIES[name]
        plain.add_special_tokens([AddedToken(one, special=True) for one in special])
        plain.add_tokens([AddedToken(one, special=False) for one in others])
        first = "<|begin|>" if "<|begin|>" in special else None
        if first is not None:
            plain.post_processor = processors.TemplateProcessing(
                f"{first} $A", special_tokens=[(first, plain.token_to_id(first))]
            )
        template = REPOSITORY / "tests" / "data" / "families" / f"{name}.jinja"
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=plain, bos_token=first, eos_token=special[-1],
            chat_template=template.read_text("utf-8"), model_max_length=1024,
        )  # fmt: skip
        return Chat(tokenizer, name)

    return load


@pytest.fixture(scope="session")
def make_traces(make_trace: Callable[..., Trace]) -> Callable[..., list[Trace]]:
    """`make_traces(3)`: traces of three problems, "What is 0+1?" and on, each right and finished."""

    def factory(count: int, **changes: Any) -> list[Trace]:
        return [
            make_trace(
                problem=f"What is {number}+1?",
                reasoning=f"{number}+1={number + 1}.",
                response=f"\\boxed{{{number + 1}}}",
                **{"reference_answer": str(number + 1), "row_key": content_hash(number), **changes},
            )
            for number in range(count)
        ]

    return factory


@pytest.fixture(scope="session")
def make_header() -> Callable[..., Header]:
    """A factory of headers: `make_header("A")` and `make_header("B")` are headers of other versions."""

    def factory(name: str = "A", **changes: Any) -> Header:
        header = Header(
            kind="traces",
            stage="generate",
            content={"name": name},
            inputs=[],
            models=[],
            options={},
        )
        return msgspec.structs.replace(header, **changes)

    return factory


@pytest.fixture(scope="session")
def write_dataset(make_header: Callable[..., Header]) -> Callable[..., Manifest]:
    """`write_dataset(out, kept, rejected=[(trace, reason, measured)], name="A")` finishes a version."""

    def factory(
        out: Path,
        kept: list[Trace],
        rejected: list[tuple[Trace, str, object]] | None = None,
        problems: list[Problem] | None = None,
        **header: Any,
    ) -> Manifest:
        with versions.draft(out, make_header(**header)) as draft, Writer(draft) as writer:
            for trace in kept:
                writer.append(trace)
            for dropped in rejected or []:
                writer.reject(*dropped)
            return writer.finish(problems or [])

    return factory


@pytest.fixture(scope="session")
def write_checkpoint(make_header: Callable[..., Header]) -> Callable[..., Manifest]:
    """`write_checkpoint(out, "id")` finishes a version that calls itself a checkpoint; it has no weights."""

    def factory(out: Path, checkpoint_id: str) -> Manifest:
        header = make_header(checkpoint_id, kind="checkpoint", stage="sft")
        with versions.draft(out, header) as draft:
            draft.manifest.id = checkpoint_id
            return draft.finish("a card\n")

    return factory


class Outcome(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def distill(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Outcome]]:
    """`distill("show", path)` runs the command in this process: its exit code, stdout and stderr."""
    handlers = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        monkeypatch.setenv(name, value)  # what main sets too, and for good

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, arguments)])
        capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        return Outcome(code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def distill_process() -> Callable[..., Outcome]:
    """`distill_process("show", path, NAME="value")` runs the command in a process of its own."""

    def run(*arguments: object, **environment: str) -> Outcome:
        program = "from distillpipe.cli.app import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """The permissions of files bind this thread as they bind any user, even where the tests run as root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # capabilities version 3, of this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the upper half of each
    assert libc.capget(header, held) == 0, os.strerror(ctypes.get_errno())
    without = (ctypes.c_uint32 * 6)(*held)
    without[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    assert libc.capset(header, without) == 0, os.strerror(ctypes.get_errno())
    yield
    assert libc.capset(header, held) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of one layer with random weights and the shipped tokenizer: loads and samples at once."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    folder.mkdir()
    for name in tokenizer_files:
        shutil.copy(REPOSITORY / "data" / "quickstart" / "teacher" / name, folder / name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=128,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def log_probabilities() -> Callable[..., "torch.Tensor"]:
    """`log_probabilities(model, prompt_ids, completion_ids)`: of the vocabulary at each token, (T, V), fp32."""
    import torch

    def fresh(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
            return logits[len(prompt) - 1 : -1].float().log_softmax(-1)

    return fresh


@pytest.fixture(scope="session")
def total_variation() -> Callable[["Labels", "torch.Tensor"], "np.ndarray[Any, Any]"]:
    """`total_variation(labels, logprobs)`: at each token, between what is stored and a fresh pass, (T, V).

    All tokens that are not among the labels count as one.
    """
    import numpy as np

    def distances(labels: "Labels", logprobs: "torch.Tensor") -> np.ndarray[Any, Any]:
        stored = np.exp(labels.top_logprobs.astype(np.float64))
        fresh = np.exp(logprobs.double().numpy())
        there = np.take_along_axis(fresh, labels.top_tokens.astype(np.int64), axis=1)
        tails = np.abs(stored.sum(axis=1) - there.sum(axis=1))
        found: np.ndarray[Any, Any] = (np.abs(stored - there).sum(axis=1) + tails) / 2
        return found

    return distances

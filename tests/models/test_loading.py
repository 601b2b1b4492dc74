"""Bad model folders: every fault is one line of error, and no code in the folder is run."""

import copy
import json
import os
import random
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from distillpipe.base.errors import DistillError
from distillpipe.base.options import Sampling
from distillpipe.base.records import Message
from distillpipe.base.training_options import TrainingOptions
from distillpipe.engines.base import Request
from distillpipe.engines.transformers.engine import TransformersEngine
from distillpipe.models import licences, loading, lookup
from distillpipe.models.chat import load_chat
from distillpipe.models.vocabulary import vocabulary_of
from distillpipe.training import checkpoint, preview, student, student_config

TRAINING = TrainingOptions(
    method="lora", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=1, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip
SAMPLING = Sampling(temperature=0.6, top_p=0.95, max_tokens=3)
Edit = Callable[[Path], object]


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a model named `m` in the current directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_model, "m"))


def use(name: str = "m") -> None:
    """Load a model in every way that commands do."""
    model = lookup.find(name, "--teacher")
    lookup.vocab_size(model)
    licences.of_teacher(model, None)
    chat = load_chat(model.tokenizer_folder, model.name)
    engine = TransformersEngine(model, chat, 2)
    prompt = chat.prompt_ids([Message(role="user", content="1+1?")])
    list(engine.complete(iter([Request("k", prompt, SAMPLING, 1)])))
    student_config.default_learning_rate(model, TRAINING)
    checkpoint.generation_config(model.weights_folder, chat.end_ids)
    preview._end_tokens(chat)
    vocabulary_of(chat)
    student_config.limits_of(student_config.student_config(model, TRAINING))
    if model.base_folder is None:
        student.load_student(model, TRAINING)


def said_of(name: str = "m") -> str:
    """The one-line error for a bad model."""
    with pytest.raises(DistillError) as error:
        use(name)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 900
    return said


def changed(path: Path, **values: Any) -> None:
    config = json.loads(path.read_bytes()) | values
    kept = {key: value for key, value in config.items() if value is not ...}
    path.write_text(json.dumps(kept), encoding="utf-8")


def header(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    found = json.loads(content[8 : 8 + length])
    edit(found)
    encoded = json.dumps(found).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def replaced(path: Path, put: Edit) -> None:
    path.unlink()
    put(path)


NORM, LAYER = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
C, G, T, TC, W = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
)  # fmt: skip
NOT_LOADED = "m could not be loaded: "

INDEX = loading.INDEX


def shards_outside(m: Path) -> None:
    """An index that names the model's own weights in another folder."""
    (m / W).rename("other.safetensors")
    (m / "x.safetensors").write_bytes(Path("other.safetensors").read_bytes())
    names = lookup.tensor_names(Path("other.safetensors"))
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../other.safetensors")}
    (m / INDEX).write_text(json.dumps(index))


# A change to a model folder, and a part of the expected error.
LIES: dict[str, tuple[Edit, str]] = {
    "generation config cut short": (lambda m: (m / G).write_text("[1"), f"{NOT_LOADED}{G}: "),
    "generation config a list": (lambda m: (m / G).write_text("[]"), f"{NOT_LOADED}{G}: "),
    "generation config deep": (lambda m: (m / G).write_text("[" * 10**5), f"{NOT_LOADED}{G}: "),
    "generation config a folder": (lambda m: replaced(m / G, Path.mkdir), f"{NOT_LOADED}{G}: "),
    "generation config a pipe": (lambda m: replaced(m / G, os.mkfifo), f"{NOT_LOADED}{G}: "),
    "generation config endless": (
        lambda m: replaced(m / G, lambda one: one.symlink_to("/dev/zero")), f"{NOT_LOADED}{G}: "),
    "an end token below 0": (lambda m: changed(m / G, eos_token_id=-1), f"{NOT_LOADED}{G}: "),
    "an end token of text": (lambda m: changed(m / G, eos_token_id="x"), f"{NOT_LOADED}{G}: "),
    "an end token too large": (lambda m: changed(m / G, eos_token_id=2**40), f"{NOT_LOADED}{G}: "),
    "vocabulary of 0": (lambda m: changed(m / C, vocab_size=0), "vocab_size"),
    "vocabulary of 10": (lambda m: changed(m / C, vocab_size=10), NOT_LOADED),
    "vocabulary of 10**8": (lambda m: changed(m / C, vocab_size=10**8), f"{NOT_LOADED}{C} describes"),
    "another width": (lambda m: changed(m / C, intermediate_size=7), "other shapes than config.json"),
    "a width of 10**12": (lambda m: changed(m / C, hidden_size=10**12), "which is too large for any model"),
    "a width of text": (lambda m: changed(m / C, hidden_size="a"), "hidden_size"),
    "layers below 0": (lambda m: changed(m / C, num_hidden_layers=-1), "num_hidden_layers is -1"),
    "layers without end": (lambda m: changed(m / C, num_hidden_layers=10**9), "which is too large for any model"),
    "more layers than tensors": (
        lambda m: changed(m / C, num_hidden_layers=900, layer_types=...), "num_hidden_layers is 900"),
    "more layers than weights": (
        lambda m: changed(m / C, num_hidden_layers=2, layer_types=...), "its files lack 12 of the weights"),
    "layers against their types": (lambda m: changed(m / C, num_hidden_layers=2), NOT_LOADED),
    "an unknown dtype": (lambda m: changed(m / C, dtype="float7"), NOT_LOADED),
    "an unknown architecture": (lambda m: changed(m / C, model_type="evil"), NOT_LOADED),
    "no architecture": (lambda m: changed(m / C, model_type=..., architectures=...), NOT_LOADED),
    "no head": (lambda m: changed(m / C, num_attention_heads=0), "num_attention_heads is 0"),
    "no context": (lambda m: changed(m / C, max_position_embeddings=0), "max_position_embeddings is 0"),
    "config a list": (lambda m: (m / C).write_text("[]"), "config.json"),
    "kernels of the hub": (
        lambda m: changed(m / C, attn_implementation="a/b"), "code from the hub, which is never run"),
    "tokenizer of no JSON": (lambda m: (m / T).write_text("{"), f"{NOT_LOADED}its tokenizer: "),
    "tokenizer a number": (lambda m: changed(m / T, model=5), f"{NOT_LOADED}its tokenizer: "),
    "tokenizer endless": (
        lambda m: replaced(m / T, lambda one: one.symlink_to("/dev/zero")), f"{NOT_LOADED}its tokenizer: "),
    "special tokens of numbers": (
        lambda m: changed(m / TC, extra_special_tokens=[1]), f"{NOT_LOADED}its tokenizer: "),
    "an end token of no text": (lambda m: changed(m / TC, eos_token=5), "m"),
    "tensors before the file": (
        lambda m: header(m / W, lambda h: h[NORM].update(data_offsets=[-8, 0])), W),
    "tensors that end before they begin": (
        lambda m: header(m / W, lambda h: h[NORM]["data_offsets"].reverse()), "ends before it begins"),
    "tensors that overlap": (
        lambda m: header(m / W, lambda h: h[NORM].update(data_offsets=h[LAYER]["data_offsets"])), NOT_LOADED),
    "tensors of another type": (
        lambda m: header(m / W, lambda h: h[NORM].update(dtype="F64")), NOT_LOADED),
    "tensors of no type": (lambda m: header(m / W, lambda h: h[NORM].update(dtype="X")), NOT_LOADED),
    "a tensor renamed": (
        lambda m: header(m / W, lambda h: h.update({"x": h.pop(NORM)})), f"files lack 1 of the weights that "
        f"config.json describes ({NORM})"),
    "a header of 2**63": (
        lambda m: (m / W).write_bytes(struct.pack("<Q", 2**63) + b"{}"), "not a safetensors file"),
    "weights cut short": (lambda m: os.truncate(m / W, (m / W).stat().st_size - 1), "is truncated"),
    "weights a pipe": (lambda m: replaced(m / W, os.mkfifo), "has no *.safetensors file"),
    "weights endless": (
        lambda m: replaced(m / W, lambda one: one.symlink_to("/dev/zero")), "has no *.safetensors file"),
    "weights a folder": (lambda m: replaced(m / W, Path.mkdir), "has no *.safetensors file"),
    "a pickle": (lambda m: (m / W).rename(m / "pytorch_model.bin"), "has no *.safetensors file"),
    "a pickle beside other weights": (
        lambda m: ((m / W).rename(m / "x.safetensors"), (m / "pytorch_model.bin").touch()), NOT_LOADED),
    "shards outside the folder": (shards_outside, f"{INDEX}: it names '../other.safetensors', which is outside"),
    "an index of no shards": (lambda m: (m / INDEX).write_text('{"weight_map": 1}'), f"{NOT_LOADED}{INDEX}: "),
    "shards that are missing": (
        lambda m: ((m / W).rename(m / "model-1.safetensors"), (m / INDEX).write_text(
            json.dumps({"metadata": {}, "weight_map": {NORM: "model-2.safetensors"}}))), NOT_LOADED),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_in_a_model_folder_is_one_line(name: str, folder: Path) -> None:
    edit, part = LIES[name]
    edit(folder)
    assert part in said_of()


def test_weights_that_the_config_leaves_out_are_warned_of(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / W)
    save_file(
        weights | {"model.layers.1.mlp.up_proj.weight": torch.zeros(2, 2)},
        folder / W,
        {"format": "pt"},
    )
    use()
    assert (
        "warning: m: 1 weights in its files are not part of the model that config.json describes, and are "
        "not used (model.layers.1.mlp.up_proj.weight)"
    ) in capfd.readouterr().err


# ---------------------------------------------------------------- adapters


@pytest.fixture
def adapter(folder: Path) -> Path:
    """An adapter of the model, named `a`."""
    base = loading.load_model(folder, "m")
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(base, config).save_pretrained("a")
    changed(Path("a") / lookup.ADAPTER, base_model_name_or_path="m")
    return Path("a")


A, AW = lookup.ADAPTER, loading.ADAPTER_WEIGHTS
ADAPTER_LIES: dict[str, tuple[Edit, str]] = {
    "no base": (lambda a: changed(a / A, base_model_name_or_path=""), "has no base_model"),
    "itself as base": (lambda a: changed(a / A, base_model_name_or_path="a"), "is an adapter itself"),
    "a base of no text": (lambda a: changed(a / A, base_model_name_or_path=5), "cannot be read"),
    "config a list": (lambda a: (a / A).write_text("[]"), "cannot be read"),
    "config deep": (lambda a: (a / A).write_text('{"x":' * 10**5), "cannot be read"),
    "a rank of 0": (lambda a: changed(a / A, r=0), "`r` should be a positive integer"),
    "another rank": (lambda a: changed(a / A, r=3), "size mismatch"),
    "a rank of text": (lambda a: changed(a / A, r="x"), "a could not be loaded"),
    "an unknown kind": (lambda a: changed(a / A, peft_type="EVIL"), "a could not be loaded"),
    "no kind": (lambda a: changed(a / A, peft_type=...), "a could not be loaded"),
    "other modules": (lambda a: changed(a / A, target_modules=["nothing"]), "a could not be loaded"),
    "more modules than weights": (
        lambda a: header(a / AW, lambda h: h.pop(next(one for one in h if "lora_B" in one))), "a could not"),
    "code to import": (
        lambda a: changed(a / A, megatron_config={"a": 1}, megatron_core="evil"), "names code to import, which is never run"),
    "weights of a pickle": (lambda a: (a / AW).rename(a / "adapter_model.bin"), "*.safetensors"),
    "a pickle beside other weights": (
        lambda a: ((a / AW).rename(a / "x.safetensors"), (a / "adapter_model.bin").touch()), "adapter_model.safetensors is missing"),
    "weights under other names": (
        lambda a: header(a / AW, lambda h: [h.update({f"x.{k}": h.pop(k)}) for k in list(h) if "lora" in k]),
        "lacks 14 of the weights"),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTER_LIES)
def test_a_lie_in_an_adapter_is_one_line(name: str, adapter: Path) -> None:
    edit, part = ADAPTER_LIES[name]
    edit(adapter)
    assert part in said_of("a")


# ---------------------------------------------------------------- code of a model


CODE = """
import pathlib
pathlib.Path("ran").touch()
class C: pass
class M: pass
class T: pass
"""


def remote_tokenizer(m: Path) -> None:
    changed(m / TC, auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="T")


def remote_model(m: Path) -> None:
    code = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    changed(m / C, model_type="evil", auto_map=code)


def remote_weights(m: Path) -> None:
    changed(m / C, auto_map={"AutoModelForCausalLM": "evil.M"})


REMOTE = {  # and whether the libraries can load it with their own code
    "tokenizer": ([remote_tokenizer], True),
    "weights": ([remote_weights], True),
    "model": ([remote_model], False),
    "all": ([remote_model, remote_tokenizer], False),
}


@pytest.fixture
def yes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """Put endless "y" on stdin and set variables that consent. Returns the descriptor of stdin."""
    for name in ("HF_DATASETS_TRUST_REMOTE_CODE", "TRUST_REMOTE_CODE", "HF_TRUST_REMOTE_CODE"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "yes").write_text("y\n" * 10_000)
    kept, answers = os.dup(0), os.open(tmp_path / "yes", os.O_RDONLY)
    os.dup2(answers, 0)
    with os.fdopen(os.dup(0)) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield answers
    os.dup2(kept, 0)
    os.close(kept)
    os.close(answers)


@pytest.mark.parametrize("kind", REMOTE)
def test_code_of_a_model_never_runs_whatever_stdin_says(kind: str, folder: Path, yes: int) -> None:
    edits, has_other = REMOTE[kind]
    for edit in edits:
        edit(folder)
    (folder / "evil.py").write_text(CODE)
    if has_other:
        use()
    else:
        assert "it needs its own code, which is never run" in said_of()
    assert not Path("ran").exists()
    assert os.lseek(yes, 0, os.SEEK_CUR) == 0  # nothing was read from stdin


def test_a_library_that_asks_finds_nothing_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answers:
        def readline(self) -> str:
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Answers())
    with loading.outside("x"):
        with pytest.raises(EOFError):
            input("run code of strangers? [y/N] ")
        assert os.read(0, 1) == b""
    assert isinstance(sys.stdin, Answers)


def test_every_loading_of_a_model_is_inside_of_the_door(repository: Path) -> None:
    outside = {
        path.name
        for path in (repository / "distillpipe").rglob("*.py")
        if any(
            call in path.read_text("utf-8")
            for call in (".from_pretrained(", ".from_config(", "torch.load(")
        )
    }
    assert outside == {"loading.py"}


# ---------------------------------------------------------------- fuzz


VALUES = [
    None, True, 0, -1, 1, 7, 10**12, 2**63, 10**30, 1.5, 1e300, "", "x", "../../etc/passwd", "\x1b[2J", [],
    ["x"], [0], [[[]]], {}, {"a": 1}, {"content": "<|im_end|>", "lstrip": False}, "auto", "float8", "cuda",
]  # fmt: skip
KEYS = (
    "auto_map", "quantization_config", "attn_implementation", "torch_dtype", "tokenizer_class", "text_config",
    "backend", "chat_template", "rope_scaling", "layer_types", "sliding_window", "architectures",
)  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = list(enumerate(value))[:6]
    for key, one in inner:
        yield from places(one, (*place, key))
    if place:
        yield place


def mutated(rng: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    """A copy with one to three values replaced or removed."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        *way, last = rng.choice(list(places(content)))
        where = content
        for key in way:
            where = where[key]
        if rng.random() < 0.15:
            del where[last]
        else:
            where[last] = copy.deepcopy(rng.choice(VALUES))
    if rng.random() < 0.05:
        content[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
    return content


def garbled(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed_bytes = bytearray(content)
    for _ in range(rng.choice([1, 3, 20])):
        changed_bytes[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(changed_bytes)


def spoil(rng: random.Random, folder: Path) -> str:
    path = folder / rng.choice([C, G, T, TC, W])
    if rng.random() < 0.15:
        path.write_bytes(garbled(rng, path.read_bytes()))
    elif path.name == W:
        header(path, lambda found: found.update(mutated(rng, found)))
    else:
        path.write_text(json.dumps(mutated(rng, json.loads(path.read_bytes()))))
    return path.name


def fuzz(seeds: range, original: Path) -> None:
    """Each mutated folder loads or is refused with one line. Any other error fails, with its seed."""
    refused = 0
    for seed in seeds:
        shutil.rmtree("m", ignore_errors=True)
        shutil.copytree(original, "m")
        name = spoil(random.Random(seed), Path("m"))
        try:
            use()
        except DistillError as error:
            refused += 1
            assert "\n" not in str(error), (seed, name)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {name}: {error!r}") from error
    assert refused > len(seeds) / 3


def test_a_folder_with_anything_in_it_is_used_or_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz(range(15), tiny_model)


@pytest.mark.slow
def test_many_folders_with_anything_in_them(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz(range(1000, 1150), tiny_model)


@pytest.mark.long
def test_thousands_of_folders_with_anything_in_them(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fuzz(range(2000, 5000), tiny_model)

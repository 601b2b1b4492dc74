"""The one door through which the files of a model are opened by the libraries that read them.

A model's folder is data from outside, and each library has errors of its own for what is wrong in it:
AssertionError, AttributeError, SafetensorError, a panic of Rust. Here every one of them is an error of the model:
one line that names it. Nothing else may be called inside the door, so that no mistake of ours hides there.

Code that a model brings along is never run. No environment variable changes that, and a library that asks
on stdin whether it may finds nothing there: `yes | make` is no consent.
"""

import math
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from distillpipe.base.errors import DistillError, EngineError, UsageError
from distillpipe.base.progress import say
from distillpipe.models.lookup import ADAPTER, Model, count_tensors, count_weights, tensor_names

if TYPE_CHECKING:
    from transformers import GenerationConfig, PretrainedConfig

os.environ["USE_HUB_KERNELS"] = "0"  # compiled code of the hub, which some architectures ask for

CONFIG = "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
POSITIVE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
MAX_NUMBER = 2**31  # in a config: no size, count or id of a token is larger
MAX_LAYERS = 10_000
MAX_CONFIG_BYTES = 64 << 20
MAX_WEIGHTS_A_NUMBER = 64  # of quantized weights many stand in one number of a file
SAID_CHARACTERS = 300  # of a library's error
NEEDS_CODE = (
    "it needs code of its own, which is never run (trust_remote_code is off): take a model that transformers "
    "has the code of, or serve it and give --base-url"
)
MEND = "mend its files, or copy the model again"
OTHER_SHAPES = (
    f"weights have other shapes than {CONFIG} says: one of the two belongs to another model"
)
_PLAIN_ERRORS = (OSError, ValueError, RuntimeError, ImportError)  # their text says it all


@contextmanager
def outside(before: str, after: str = "", kind: type[DistillError] = EngineError) -> Iterator[None]:
    """Make every error of a library, that reads what others wrote, one `kind`: "BEFORE: reason; AFTER".

    Inside of the block stdin is empty. Only calls of libraries belong there.
    """
    try:
        with _empty_stdin():
            yield
    except BaseException as error:
        # Files from outside make libraries raise anything: no list of classes is whole. A panic of Rust
        # is no Exception, and has no importable class.
        is_error = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if not is_error or isinstance(error, DistillError):
            raise
        why = reason(error)
        remedy = f"; {after}" if after and why != NEEDS_CODE else ""
        raise kind(f"{before}: {why}{remedy}") from error


def reason(error: BaseException) -> str:
    """What an error of a library says, as part of a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested or calls itself too deeply"
    if any("trust_remote_code" in line for line in lines):
        return NEEDS_CODE
    if lines and "ignore_mismatched_sizes" in lines[0]:
        return OTHER_SHAPES
    text = " ".join(lines[:2]) if lines and lines[0].endswith(":") else "".join(lines[:1])
    is_plain = isinstance(error, _PLAIN_ERRORS) or type(error).__module__.startswith("jinja2")
    if not text or not is_plain:
        text = ": ".join(filter(None, (type(error).__name__, text)))
    return text if len(text) <= SAID_CHARACTERS else f"{text[:SAID_CHARACTERS]}..."


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """Let nobody read what was meant for another program: neither Python's stdin nor descriptor 0."""
    before = sys.stdin
    try:
        kept = os.dup(0)
    except OSError:  # it is closed
        kept = -1
    with open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123 - no file of ours
        sys.stdin = nothing
        if kept >= 0:
            os.dup2(nothing.fileno(), 0, inheritable=True)
        try:
            yield
        finally:
            sys.stdin = before
            if kept >= 0:
                os.dup2(kept, 0, inheritable=True)
                os.close(kept)


def load_config(folder: Path, name: str) -> "PretrainedConfig":
    """The config of the model in `folder`; `name` is what errors call it."""
    from transformers import AutoConfig

    _check_config(folder, name)
    with _opening(name, CONFIG):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return config


def text_config(folder: Path, name: str) -> dict[str, Any]:
    """The fields of config.json, of the text model alone: what can be said of a model without transformers."""
    _check_config(folder, name)
    with _opening(name, CONFIG):
        found = _json_object(folder / CONFIG)
        return dict(found.get("text_config") or found)


def load_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer of the model in `folder`, tried out on a short text."""
    from transformers import AutoTokenizer

    if (folder / CONFIG).exists():  # which says what kind of tokenizer it is
        _check_config(folder, name)
    with _opening(name, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        ids = tokenizer("a b", add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError(
                "it makes no token of a text: is tokenizer.json, or vocab.json, there?"
            )
        tokenizer.decode(ids)
        tokenizer.get_vocab()
        tokenizer.added_tokens_decoder  # noqa: B018 - made when it is asked for
        if not isinstance(tokenizer.chat_template, str | None):  # several by name
            tokenizer.chat_template = tokenizer.chat_template.get("default")
    return tokenizer


def load_generation_config(folder: Path, name: str) -> "GenerationConfig | None":
    """The generation config of the model in `folder`; None where it has none."""
    from transformers import GenerationConfig

    if not (folder / GENERATION_CONFIG).exists():
        return None
    with _opening(name, GENERATION_CONFIG):
        _json_object(folder / GENERATION_CONFIG)
        found: GenerationConfig = GenerationConfig.from_pretrained(folder)
    return found


def end_ids(folder: Path, name: str) -> list[int]:
    """End tokens that generation_config.json adds to the tokenizer's own."""
    path = folder / GENERATION_CONFIG
    if not path.exists():
        return []
    with _opening(name, GENERATION_CONFIG):
        found = msgspec.convert(_json_object(path), _EndIds).eos_token_id
    return [] if found is None else [found] if isinstance(found, int) else found


TokenId = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBER)]


class _EndIds(msgspec.Struct):
    eos_token_id: TokenId | list[TokenId] | None = None


def build(config: "PretrainedConfig", **how: Any) -> Any:
    """A model of a config without the weights of any file, on the device that torch is set to."""
    from transformers import AutoModelForCausalLM

    with outside(f"{config.name_or_path} could not be loaded: {CONFIG}", MEND, UsageError):
        return AutoModelForCausalLM.from_config(deepcopy(config), trust_remote_code=False, **how)


def load_model(folder: Path, name: str, **how: Any) -> Any:
    """The language model in `folder` with all its weights; `how` is what `from_pretrained` is told besides.

    Raises EngineError also where the files lack a weight: it would be filled with random numbers.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # of loading, which is quick and would break our own
    _check_index(folder, name)
    _check_size(folder, name, how.get("config") or load_config(folder, name))
    with outside(f"{name} could not be loaded", MEND):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,  # a pickle is never read
            output_loading_info=True,
            **how,
        )
    if missing := sorted(found["missing_keys"]):
        raise EngineError(
            f"{name} could not be loaded: its files lack {len(missing):,} of the weights that {CONFIG} asks "
            f"for ({missing[0]}): copy it again, or mend {CONFIG}"
        )
    if unused := sorted(found["unexpected_keys"]):
        say(
            f"warning: {name}: {len(unused):,} weights of its files are no part of the model that {CONFIG} "
            f"describes, and are not used ({unused[0]})"
        )
    return model


def load_whole_model(model: Model, **how: Any) -> Any:
    """A model with the weights of its adapter, where it has one, added to those of its base."""
    loaded = load_model(model.weights_folder, model.name, **how)
    if model.base_folder is None:
        return loaded
    adapted = with_adapter(loaded, model.folder, model.name, str(model.base_folder))
    with outside(f"{model.name} could not be loaded"):
        return adapted.merge_and_unload()


def with_adapter(model: Any, folder: Path, name: str, base: str) -> Any:
    """The model with the adapter in `folder` around it; `base` is what errors call the model."""
    from peft import PeftModel, get_peft_model_state_dict

    with _opening(name, ADAPTER):
        config = _json_object(folder / ADAPTER)
        for key in ("megatron_config", "megatron_core"):
            if config.get(key) not in (None, "megatron.core"):
                raise ValueError(f"{key} names code to be imported, which is not done: remove it")
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ValueError(
                f"there is no {ADAPTER_WEIGHTS}: save the adapter with save_pretrained"
            )
    misfit = f"the adapter does not fit {base}: it was trained on another model, or is damaged"
    with outside(f"{name} could not be loaded: {misfit}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that are missing: they are looked for below
        found = PeftModel.from_pretrained(model, folder)
        wanted = get_peft_model_state_dict(found)
    missing = sorted(wanted.keys() - tensor_names(folder / ADAPTER_WEIGHTS))
    if missing:
        raise EngineError(
            f"{name} could not be loaded: {misfit}: {ADAPTER_WEIGHTS} lacks {len(missing):,} of the weights that "
            f"{ADAPTER} asks for ({missing[0]})"
        )
    return found


@contextmanager
def _opening(name: str, part: str) -> Iterator[None]:
    with outside(f"{name} could not be loaded: {part}", MEND, UsageError):
        yield


def _json_object(path: Path) -> dict[str, Any]:
    """A small JSON file; a ValueError says what it is instead."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes")
    found = msgspec.json.decode(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def _check_config(folder: Path, name: str) -> None:
    """Refuse a config whose numbers are none, or would have memory filled before anything is loaded."""
    with _opening(name, CONFIG):
        config = _json_object(folder / CONFIG)
        _check_numbers(config, "")
        for part in (config, config.get("text_config") or {}):
            for key in POSITIVE:
                value = part.get(key, 1)
                if not isinstance(value, int) or value < 1:
                    raise ValueError(f"{key} is {value!r}, and should be a whole number above 0")


def _check_numbers(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for inner, one in value.items():
            if inner.endswith("attn_implementation") and "/" in str(one):
                raise ValueError(
                    f"{inner} is {one!r}, code of the hub, which is not run: remove it"
                )
            _check_numbers(one, inner)
    elif isinstance(value, list):
        for one in value:
            _check_numbers(one, key)
    elif isinstance(value, int):
        limit = MAX_LAYERS if key.endswith(("layers", "layer", "depth")) else MAX_NUMBER
        if abs(value) > limit:
            raise ValueError(f"{key} is {value:,}, which no model has")


def _check_index(folder: Path, name: str) -> None:
    """Refuse shards outside of the folder: no identity of the model knows of them."""
    path = folder / INDEX
    if not path.exists():
        return
    with _opening(name, INDEX):
        for shard in msgspec.convert(_json_object(path), _Index).weight_map.values():
            if Path(shard).name != shard:
                raise ValueError(f"it names {shard!r}, which is outside of the folder")


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def _check_size(folder: Path, name: str, config: "PretrainedConfig") -> None:
    """Refuse a config of a far larger model than the files hold: memory for it would be filled.

    The model is laid out without memory (torch's meta device), once its layers were counted.
    """
    import torch

    with _opening(name, "its weights"):
        num_tensors, in_files = count_tensors(folder), count_weights(folder)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > num_tensors:
        raise UsageError(
            f"{name} could not be loaded: {CONFIG}: num_hidden_layers is {layers:,}, and the files hold "
            f"{num_tensors:,} tensors: one of the two belongs to another model"
        )
    with torch.device("meta"):
        model = build(config)
    described = sum(math.prod(one.shape) for one in model.parameters())
    if described > MAX_WEIGHTS_A_NUMBER * in_files:
        raise UsageError(
            f"{name} could not be loaded: {CONFIG} describes {described:,} weights, and the files hold "
            f"{in_files:,}: one of the two belongs to another model"
        )

"""Load configs, tokenizers, models and adapters. Every error of a library becomes one line that names the model.

The files of a model come from outside, and libraries raise anything for bad ones: AssertionError, AttributeError,
SafetensorError, a Rust panic. `outside` turns all of them into a DistillError. Only library calls belong in its
block, so that it hides no mistake of ours.

Code that comes with a model is never run. No environment variable changes that. A library that asks on stdin
for consent gets no answer, so `yes | make` does not consent.
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

os.environ["USE_HUB_KERNELS"] = "0"  # do not load compiled kernels from the hub

CONFIG = "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
DEFAULT_TEMPLATE = "default"  # of a tokenizer with several chat templates
POSITIVE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
MAX_NUMBER = 2**31  # in a config: no size, count or token id is larger
MAX_LAYERS = 10_000
MAX_CONFIG_BYTES = 64 << 20
MAX_WEIGHTS_A_NUMBER = 64  # quantized files pack several weights into one number
MAX_REASON_CHARACTERS = 300  # of a library's error message
NEEDS_CODE = (
    "it needs its own code, which is never run (trust_remote_code is off): choose a model that transformers "
    "has built in, or serve it and give --base-url"
)
REMEDY = "correct its files, or copy the model again"
OTHER_SHAPES = f"weights have other shapes than {CONFIG} says: one of them belongs to another model"
_PLAIN_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    ImportError,
)  # their text is enough without the name of the class


@contextmanager
def outside(before: str, after: str = "", kind: type[DistillError] = EngineError) -> Iterator[None]:
    """Turn every error of a library in the block into one `kind`, with the message "BEFORE: reason; AFTER".

    Inside the block stdin is empty. Only library calls belong there.
    """
    try:
        with _empty_stdin():
            yield
    except BaseException as error:
        # Bad files make libraries raise anything, so no list of classes is complete. A Rust panic is not an
        # Exception, and its class cannot be imported.
        is_error = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if not is_error or isinstance(error, DistillError):
            raise
        message = reason(error)
        remedy = f"; {after}" if after and message != NEEDS_CODE else ""
        raise kind(f"{before}: {message}{remedy}") from error


def reason(error: BaseException) -> str:
    """The message of a library's error, shortened to part of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, MemoryError):
        return "not enough memory"
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
    return text if len(text) <= MAX_REASON_CHARACTERS else f"{text[:MAX_REASON_CHARACTERS]}..."


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """Replace stdin, Python's and descriptor 0, by an empty file while the block runs."""
    stdin = sys.stdin
    try:
        descriptor = os.dup(0)
    except OSError:  # stdin is closed
        descriptor = -1
    with open(os.devnull, encoding="utf-8") as empty:  # noqa: PTH123 - not a file of ours
        sys.stdin = empty
        if descriptor >= 0:
            os.dup2(empty.fileno(), 0, inheritable=True)
        try:
            yield
        finally:
            sys.stdin = stdin
            if descriptor >= 0:
                os.dup2(descriptor, 0, inheritable=True)
                os.close(descriptor)


def load_config(folder: Path, name: str) -> "PretrainedConfig":
    """Load the config of the model in `folder`. `name` names the model in errors."""
    from transformers import AutoConfig

    _check_config(folder, name)
    with _opening(name, CONFIG):
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return config


def text_config(folder: Path, name: str) -> dict[str, Any]:
    """The fields of config.json, of the text model only. Does not need transformers."""
    _check_config(folder, name)
    with _opening(name, CONFIG):
        config = _json_object(folder / CONFIG)
        return dict(config.get("text_config") or config)


def load_tokenizer(folder: Path, name: str, template_name: str | None = None) -> Any:
    """Load the tokenizer of the model in `folder` and try it on a short text.

    `template_name` names one of several chat templates. Raises UsageError if there is none of that name.
    """
    from transformers import AutoTokenizer

    if (folder / CONFIG).exists():  # from which transformers takes the class of the tokenizer
        _check_config(folder, name)
    with _opening(name, "its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        ids = tokenizer("a b", add_special_tokens=False)["input_ids"]
        if not ids:
            raise ValueError(
                "it returns no tokens for a text: is tokenizer.json or vocab.json missing?"
            )
        tokenizer.decode(ids)
        tokenizer.get_vocab()
        tokenizer.added_tokens_decoder  # noqa: B018 - computed on access
        templates = tokenizer.chat_template
        if isinstance(templates, str):
            templates = {DEFAULT_TEMPLATE: templates}
        templates = dict(templates or {})
    wanted = template_name or DEFAULT_TEMPLATE
    if (templates and wanted not in templates) or (template_name is not None and not templates):
        names = ", ".join(map(str, templates)) or "none"
        raise UsageError(
            f"{name} has no chat template of the name {wanted!r}: give --template-name one of those that it has "
            f"({names}), or --chat-template"
        )
    tokenizer.chat_template = templates.get(wanted)
    return tokenizer


def load_generation_config(folder: Path, name: str) -> "GenerationConfig | None":
    """Load the generation config of the model in `folder`, None if it has none."""
    from transformers import GenerationConfig

    if not (folder / GENERATION_CONFIG).exists():
        return None
    with _opening(name, GENERATION_CONFIG):
        _json_object(folder / GENERATION_CONFIG)
        config: GenerationConfig = GenerationConfig.from_pretrained(folder)
    return config


def end_ids(folder: Path, name: str) -> list[int]:
    """The end tokens in generation_config.json, which add to the tokenizer's own."""
    path = folder / GENERATION_CONFIG
    if not path.exists():
        return []
    with _opening(name, GENERATION_CONFIG):
        ids = msgspec.convert(_json_object(path), _EndIds).eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else ids


TokenId = Annotated[int, msgspec.Meta(ge=0, lt=MAX_NUMBER)]


class _EndIds(msgspec.Struct):
    eos_token_id: TokenId | list[TokenId] | None = None


def build(config: "PretrainedConfig", **options: Any) -> Any:
    """Build a model from a config, without loading weights, on torch's default device."""
    with outside(f"{config.name_or_path} could not be loaded: {CONFIG}", REMEDY, UsageError):
        return _auto_class(config).from_config(deepcopy(config), trust_remote_code=False, **options)


def _auto_class(config: "PretrainedConfig") -> Any:
    """The class of transformers that makes a language model of a config.

    Some families (Ministral 3, Muse) are published with a tower for images and have no class for text alone.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    has_text_class = type(config) in AutoModelForCausalLM._model_mapping
    has_image_class = type(config) in AutoModelForImageTextToText._model_mapping
    return (
        AutoModelForImageTextToText
        if has_image_class and not has_text_class
        else AutoModelForCausalLM
    )


def load_model(folder: Path, name: str, **options: Any) -> Any:
    """Load the language model in `folder`. `options` go to `from_pretrained`.

    Raises EngineError if the files lack a weight, because transformers would fill it with random numbers.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would break our own progress bar
    _check_index(folder, name)
    config = options.pop("config", None) or load_config(folder, name)
    _check_size(folder, name, config)
    with outside(f"{name} could not be loaded", REMEDY):
        model, info = _auto_class(config).from_pretrained(
            folder,
            trust_remote_code=False,
            use_safetensors=True,  # never read a pickle: it may run code
            output_loading_info=True,
            config=config,
            **options,
        )
    if missing := sorted(info["missing_keys"]):
        raise EngineError(
            f"{name} could not be loaded: its files lack {len(missing):,} of the weights that {CONFIG} "
            f"describes ({missing[0]}): copy the model again, or correct {CONFIG}"
        )
    if unused := sorted(info["unexpected_keys"]):
        say(
            f"warning: {name}: {len(unused):,} weights in its files are not part of the model that {CONFIG} "
            f"describes, and are not used ({unused[0]})"
        )
    return model


def load_whole_model(model: Model, **options: Any) -> Any:
    """Load a model. If it is an adapter, the adapter is merged into its base model."""
    loaded = load_model(model.weights_folder, model.name, **options)
    if model.base_folder is None:
        return loaded
    adapted = with_adapter(loaded, model.folder, model.name, str(model.base_folder))
    with outside(f"{model.name} could not be loaded"):
        return adapted.merge_and_unload()


def with_adapter(model: Any, folder: Path, name: str, base: str) -> Any:
    """Add the adapter in `folder` to a model. `name` names the adapter in errors, `base` the model."""
    from peft import PeftModel, get_peft_model_state_dict

    with _opening(name, ADAPTER):
        config = _json_object(folder / ADAPTER)
        for key in ("megatron_config", "megatron_core"):
            if config.get(key) not in (None, "megatron.core"):
                raise ValueError(f"{key} names code to import, which is never run: remove it")
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ValueError(f"{ADAPTER_WEIGHTS} is missing: save the adapter with save_pretrained")
    misfit = f"the adapter does not fit {base}: it was trained on another model, or is damaged"
    with outside(f"{name} could not be loaded: {misfit}"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about missing weights, which are checked below
        adapted = PeftModel.from_pretrained(model, folder)
        weights = get_peft_model_state_dict(adapted)
    missing = sorted(weights.keys() - tensor_names(folder / ADAPTER_WEIGHTS))
    if missing:
        raise EngineError(
            f"{name} could not be loaded: {misfit}: {ADAPTER_WEIGHTS} lacks {len(missing):,} of the weights that "
            f"{ADAPTER} describes ({missing[0]})"
        )
    return adapted


@contextmanager
def _opening(name: str, part: str) -> Iterator[None]:
    with outside(f"{name} could not be loaded: {part}", REMEDY, UsageError):
        yield


def _json_object(path: Path) -> dict[str, Any]:
    """Read a small JSON file with an object. Raises ValueError if it is something else."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"it has {status.st_size:,} bytes, which is too large")
    content = msgspec.json.decode(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def _check_config(folder: Path, name: str) -> None:
    """Refuse a config with impossible numbers, which could fill the memory before anything is loaded."""
    with _opening(name, CONFIG):
        config = _json_object(folder / CONFIG)
        _check_numbers(config, "")
        for part in (config, config.get("text_config") or {}):
            for key in POSITIVE:
                value = part.get(key, 1)
                if not isinstance(value, int) or value < 1:
                    raise ValueError(f"{key} is {value!r}, expected a whole number above 0")


def _check_numbers(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, child in value.items():
            if name.endswith("attn_implementation") and "/" in str(child):
                raise ValueError(
                    f"{name} is {child!r}, code from the hub, which is never run: remove it"
                )
            _check_numbers(child, name)
    elif isinstance(value, list):
        for child in value:
            _check_numbers(child, key)
    elif isinstance(value, int):
        limit = MAX_LAYERS if key.endswith(("layers", "layer", "depth")) else MAX_NUMBER
        if abs(value) > limit:
            raise ValueError(f"{key} is {value:,}, which is too large for any model")


def _check_index(folder: Path, name: str) -> None:
    """Refuse shards outside the folder, because the model's identity would not include them."""
    path = folder / INDEX
    if not path.exists():
        return
    with _opening(name, INDEX):
        for shard in msgspec.convert(_json_object(path), _Index).weight_map.values():
            if Path(shard).name != shard:
                raise ValueError(f"it names {shard!r}, which is outside the folder")


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def _check_size(folder: Path, name: str, config: "PretrainedConfig") -> None:
    """Refuse a config of a far larger model than the files contain, because it would fill the memory.

    The number of layers is checked first. Then the model is built without memory, on torch's meta device.
    """
    import torch

    with _opening(name, "its weights"):
        num_tensors, num_in_files = count_tensors(folder), count_weights(folder)
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if layers > num_tensors:
        raise UsageError(
            f"{name} could not be loaded: {CONFIG}: num_hidden_layers is {layers:,}, but the files hold "
            f"{num_tensors:,} tensors: one of them belongs to another model"
        )
    with torch.device("meta"):
        model = build(config)
    num_described = sum(math.prod(weight.shape) for weight in model.parameters())
    if num_described > MAX_WEIGHTS_A_NUMBER * num_in_files:
        raise UsageError(
            f"{name} could not be loaded: {CONFIG} describes {num_described:,} weights, but the files "
            f"hold {num_in_files:,}: one of them belongs to another model"
        )

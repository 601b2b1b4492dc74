"""Where a model lies and what it is: found and identified without torch, in milliseconds.

A model reference is a checkpoint of ours (`runs/x/student`, `runs/x/student@v2`), a local model folder,
or a name on the hub (`Qwen/Qwen2.5-7B`). A folder with an adapter is a model too: its adapter_config.json
names the model that it belongs to.
"""

import math
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.errors import UsageError, first_line
from distillpipe.base.hashing import content_hash
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import ModelUsed

ADAPTER = "adapter_config.json"
MERGED = "merged"  # the folder, beside an adapter of ours, of the whole model that it makes
TEXT_FILES = (
    "config.json", "generation_config.json", ADAPTER, "tokenizer.json", "tokenizer_config.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "special_tokens_map.json",
)  # fmt: skip
MAX_TEXT_BYTES = 1 << 30  # of one of them
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file, as the library has it
EDGE_BYTES = 4096  # of each tensor, first and last

T = TypeVar("T")


class Model(msgspec.Struct, frozen=True):
    """A model that can be loaded: `folder` is where its files lie."""

    name: str
    "the reference as it was given"
    folder: Path
    identity: str
    "equal for equal models, whatever their place"
    base_folder: Path | None = None
    "of the model that the adapter in `folder` belongs to; None: `folder` holds a whole model"

    @property
    def weights_folder(self) -> Path:
        """Where the weights of the whole model lie."""
        return self.base_folder or self.folder

    @property
    def tokenizer_folder(self) -> Path:
        """Where tokenizer and chat template lie: with an adapter, if they were saved with it."""
        has_own = self.base_folder is None or (self.folder / "tokenizer_config.json").is_file()
        return self.folder if has_own else self.weights_folder


class Served(msgspec.Struct, frozen=True):
    """A model behind a server: known by its name there, whatever the address."""

    name: str

    @property
    def identity(self) -> str:
        return f"openai:{self.name}"


AnyModel = Model | Served


def used(role: str, model: AnyModel, out: Path) -> ModelUsed:
    """A model as the manifests under `out` name it, so that it is found again from any current directory."""
    if isinstance(model, Served) or model.identity.startswith("hub:"):
        return ModelUsed(role, model.name, model.identity)
    checkpoint_id = None
    if model.folder.name == MERGED and (model.folder.parent / "manifest.json").is_file():
        checkpoint_id = manifests.read(model.folder.parent).id
    way = versions.relative_to(model.folder, out)
    return ModelUsed(role, model.name, model.identity, way, checkpoint_id)


def find(reference: str, option: str, *, weights: bool = True) -> Model:
    """The model that `reference` names; a UsageError says what `option` should have been.

    Without `weights` only the texts of a hub model are downloaded: enough to name it and to count tokens.
    """
    found = _find(reference, option, weights)
    return _on_base(found, option) if _is_adapter(found.folder) else found


def with_adapter(base: Model, reference: str) -> Model:
    """A model with an adapter on it; a UsageError where one of the two is not what it should be."""
    adapter = _find(reference, "--adapter", weights=True)
    if not _is_adapter(adapter.folder):
        raise UsageError(
            f"--adapter {reference} is no adapter: it has no {ADAPTER}; give the folder that "
            "`distill sft --method lora` or peft wrote, or give it as MODEL if it is a whole model"
        )
    if base.base_folder is not None:
        raise UsageError(
            f"MODEL {base.name} is an adapter itself: give the model that --adapter belongs to, or "
            "leave --adapter out"
        )
    return _joined(adapter, base)


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def _on_base(adapter: Model, option: str) -> Model:
    """An adapter with the model that it belongs to."""
    config = _decoded(adapter.folder / ADAPTER, _AdapterConfig)
    if not config.base_model_name_or_path:
        raise UsageError(
            f"{adapter.folder / ADAPTER} names no base_model_name_or_path: fill in the model that the "
            "adapter was trained on"
        )
    base = _find(config.base_model_name_or_path, f"{option} {adapter.name}: its base model", True)
    if _is_adapter(base.folder):
        raise UsageError(
            f"{adapter.folder / ADAPTER}: base_model_name_or_path {base.name} is an adapter itself: name the "
            "whole model that the adapter was trained on"
        )
    return _joined(adapter, base)


def _joined(adapter: Model, base: Model) -> Model:
    """What both are is what the model is."""
    return Model(
        name=adapter.name,
        folder=adapter.folder,
        identity=f"{adapter.identity} on {base.identity}",
        base_folder=base.folder,
    )


class _AdapterConfig(msgspec.Struct):
    base_model_name_or_path: str | None = None


def _find(reference: str, option: str, weights: bool) -> Model:
    path = versions.followed(Path(reference))
    place = versions.split_reference(reference)[0]
    if versions.holds_versions(place) or versions.partials(place):
        folder = versions.resolve(reference)
        return Model(reference, folder.resolve(), _local_identity(folder, option))
    if path.exists():
        return Model(reference, path.resolve(), _local_identity(path, option))
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        folder = hub_folder(reference, option, weights=weights)
        return Model(reference, folder, f"hub:{reference}@{folder.name}")
    raise UsageError(
        f"{option} {reference}: no such folder; give a model folder, a checkpoint of "
        "`distill sft`, or a name on the hub (ORG/NAME)"
    )


def _local_identity(folder: Path, option: str) -> str:
    if (folder / "manifest.json").is_file():
        found = manifests.read(folder)
        if found.kind != "checkpoint":
            raise UsageError(f"{option} {folder} is a dataset of {found.kind}, not a model")
        if found.id is None:
            raise UsageError(
                f"{option} {folder} is unfinished: run the command that makes it again"
            )
        versions.check_sizes(folder, found)
        return f"checkpoint:{found.id}"
    if not (folder / "config.json").is_file() and not (folder / ADAPTER).is_file():
        raise UsageError(
            f"{option} {folder} is not a model folder: it has no config.json; "
            "give the folder that holds config.json and the weights"
        )
    texts = model_texts(folder)
    weights = sorted(filter(Path.is_file, folder.glob("*.safetensors")))
    if not weights:
        raise UsageError(
            f"{option} {folder} has no *.safetensors file: save the model with save_pretrained"
        )
    digests = [(path.name, *_weight_digest(path)) for path in weights]
    return f"local:{content_hash(texts, digests)}"


def model_texts(folder: Path) -> dict[str, bytes]:
    """The texts of a model's folder by name. Raises UsageError for one that is far too large to be one."""
    texts = {}
    for path in (folder / name for name in TEXT_FILES):
        if path.is_file():
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise UsageError(
                    f"{path} has {path.stat().st_size:,} bytes: no model's file is so large"
                )
            texts[path.name] = path.read_bytes()
    return texts


Count = Annotated[int, msgspec.Meta(ge=0)]


class _Tensor(msgspec.Struct):
    """An entry of a safetensors header; the defaults are for `__metadata__`, which is no tensor."""

    shape: tuple[Count, ...] = (0,)
    data_offsets: tuple[Count, Count] = (0, 0)


Size = Annotated[int, msgspec.Meta(ge=1)]


class _Config(msgspec.Struct):
    vocab_size: Size | None = None
    hidden_size: Size | None = None
    model_type: str | None = None
    text_config: "_Config | None" = None
    "of a model that reads more than text"


def vocab_size(model: Model) -> int:
    """How many tokens a model gives probabilities to; more than its tokenizer has, where it is padded."""
    path = model.weights_folder / "config.json"
    found = _decoded(path, _Config)
    size = found.vocab_size or (found.text_config and found.text_config.vocab_size)
    if not size:
        raise UsageError(f"{path} does not say vocab_size: it is no config of a language model")
    return size


def width_and_kind(model: Model) -> tuple[int | None, str]:
    """The hidden size of a model, null where its config names none, and its type."""
    found = _decoded(model.weights_folder / "config.json", _Config)
    text = found.text_config or found
    return text.hidden_size, str(text.model_type)


def _decoded(path: Path, kind: type[T]) -> T:
    """A small JSON file of a model."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error


def count_weights(folder: Path) -> int:
    """How many numbers the weights of a model are; a copy of them under another name counts once."""
    return sum(math.prod(tensor.shape) for tensor in _all_tensors(folder))


def count_tensors(folder: Path) -> int:
    """How many tensors the weights of a model are."""
    return len(_all_tensors(folder))


def tensor_names(path: Path) -> set[str]:
    """The names of the tensors in a safetensors file."""
    return _tensors(path)[1].keys() - {"__metadata__"}


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by name; empty where they are not here."""
    found = {
        name: tensor.shape
        for path in _weight_files(folder)
        for name, tensor in _tensors(path)[1].items()
    }
    found.pop("__metadata__", None)
    return found


def _all_tensors(folder: Path) -> list[_Tensor]:
    return [one for path in _weight_files(folder) for one in _tensors(path)[1].values()]


def _weight_files(folder: Path) -> list[Path]:
    paths = [*folder.glob("model*.safetensors")] or [*folder.glob("*.safetensors")]
    return list(filter(Path.is_file, paths))


def _tensors(path: Path) -> tuple[bytes, dict[str, _Tensor]]:
    """The header of a safetensors file, as it stands there and decoded."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        is_possible = length < min(path.stat().st_size, MAX_HEADER_BYTES)
        header = file.read(length) if is_possible else b""
    try:
        return header, msgspec.json.decode(header, type=dict[str, _Tensor])
    except NOT_DECODED as error:
        raise UsageError(
            f"{path} is not a safetensors file, or was cut short: copy it again"
        ) from error


def _weight_digest(path: Path) -> tuple[int, str]:
    """Size and hash of a safetensors file's header and of the edges of every tensor in it."""
    header, tensors = _tensors(path)
    size = path.stat().st_size
    edges = []
    with path.open("rb") as file:
        for name in sorted(tensors):
            begin, end = (8 + len(header) + offset for offset in tensors[name].data_offsets)
            if begin > end:
                raise UsageError(f"{path}: {name} ends before it begins: copy it again")
            if end > size:
                raise UsageError(f"{path} was cut short: it ends inside {name}: copy it again")
            file.seek(begin)
            edges.append(file.read(min(EDGE_BYTES, end - begin)))
            file.seek(max(begin, end - EDGE_BYTES))
            edges.append(file.read(end - file.tell()))
    return size, content_hash(header, edges)


def hub_folder(reference: str, option: str, *, weights: bool) -> Path:
    """The folder of the newest commit of a hub model, from the cache where the hub is out of reach."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    wanted = None if weights else [*TEXT_FILES, "README.md", "LICENSE*"]
    unwanted = ["*.pth", "original/*", "*.gguf"]
    try:
        return Path(snapshot_download(reference, allow_patterns=wanted, ignore_patterns=unwanted))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = first_line(error)
        raise UsageError(
            f"{option} {reference}: neither a local folder nor to be had from the hub ({reason}); "
            "check the name and the network, or download it and give its folder"
        ) from error

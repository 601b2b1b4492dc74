"""Find a model and compute its identity, in milliseconds and without torch.

A model reference is a checkpoint of ours (`runs/x/student`, `runs/x/student@v2`), a local model folder, or a hub
name (`Qwen/Qwen2.5-7B`). An adapter folder is a model too: its adapter_config.json names the base model.
"""

import math
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.errors import UsageError, first_line
from distillpipe.base.hashing import content_hash
from distillpipe.data.store import integrity, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import ModelUsed

ADAPTER = "adapter_config.json"
MERGED = "merged"  # subfolder of an adapter of ours: the adapter merged into its base model
TEXT_FILES = (
    "config.json", "generation_config.json", ADAPTER, "tokenizer.json", "tokenizer_config.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "special_tokens_map.json",
)  # fmt: skip
MAX_TEXT_BYTES = 1 << 30  # per text file
MAX_HEADER_BYTES = 100_000_000  # of a safetensors file; the library has the same limit
EDGE_BYTES = 4096  # first and last bytes of each tensor that are hashed

T = TypeVar("T")


class Model(msgspec.Struct, frozen=True):
    """A model on disk."""

    name: str
    "the reference that the user gave"
    folder: Path
    identity: str
    "equal for equal models, wherever they are"
    base_folder: Path | None = None
    "folder of the base model if `folder` is an adapter, else None"

    @property
    def weights_folder(self) -> Path:
        """The folder with the weights of the whole model: the base model of an adapter."""
        return self.base_folder or self.folder

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of tokenizer and chat template: the adapter's, if they were saved there."""
        has_own = self.base_folder is None or (self.folder / "tokenizer_config.json").is_file()
        return self.folder if has_own else self.weights_folder


class Served(msgspec.Struct, frozen=True):
    """A model behind a server. Its identity is its name there, not the address."""

    name: str

    @property
    def identity(self) -> str:
        return f"openai:{self.name}"


AnyModel = Model | Served


def used(role: str, model: AnyModel, out: Path) -> ModelUsed:
    """The manifest entry for a model that a version under `out` uses. It works from any current directory."""
    if isinstance(model, Served) or model.identity.startswith("hub:"):
        return ModelUsed(role, model.name, model.identity)
    checkpoint_id = None
    if model.folder.name == MERGED and (model.folder.parent / "manifest.json").is_file():
        checkpoint_id = manifests.read(model.folder.parent).id
    path = versions.relative_to(model.folder, out)
    return ModelUsed(role, model.name, model.identity, path, checkpoint_id)


def find(reference: str, option: str, *, weights: bool = True) -> Model:
    """Find the model of a reference. Raises UsageError, which names `option`, if there is none.

    Without `weights`, only the text files of a hub model are downloaded: enough to count tokens.
    """
    model = _find(reference, option, weights)
    return _on_base(model, option) if _is_adapter(model.folder) else model


def with_adapter(base: Model, reference: str) -> Model:
    """A model with an adapter. Raises UsageError if `reference` is not an adapter, or if `base` is one."""
    adapter = _find(reference, "--adapter", weights=True)
    if not _is_adapter(adapter.folder):
        raise UsageError(
            f"--adapter {reference} is not an adapter: it has no {ADAPTER}; give the folder that "
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
    """An adapter with its base model."""
    config = _decoded(adapter.folder / ADAPTER, _AdapterConfig)
    if not config.base_model_name_or_path:
        raise UsageError(
            f"{adapter.folder / ADAPTER} has no base_model_name_or_path: add the name of the model that "
            "the adapter was trained on"
        )
    base = _find(config.base_model_name_or_path, f"{option} {adapter.name}: its base model", True)
    if _is_adapter(base.folder):
        raise UsageError(
            f"{adapter.folder / ADAPTER}: base_model_name_or_path {base.name} is an adapter itself: name the "
            "whole model that the adapter was trained on"
        )
    return _joined(adapter, base)


def _joined(adapter: Model, base: Model) -> Model:
    """Adapter and base as one model. Both decide its identity."""
    return Model(
        name=adapter.name,
        folder=adapter.folder,
        identity=f"{adapter.identity} on {base.identity}",
        base_folder=base.folder,
    )


class _AdapterConfig(msgspec.Struct):
    base_model_name_or_path: str | None = None


def _find(reference: str, option: str, weights: bool) -> Model:
    path = versions.follow_latest(Path(reference))
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
        manifest = manifests.read(folder)
        if manifest.kind != "checkpoint":
            raise UsageError(
                f"{option} {folder} is a dataset of {manifest.kind}, not a model: give a model folder"
            )
        if manifest.id is None:
            raise UsageError(
                f"{option} {folder} is unfinished: run the command that makes it again to finish it"
            )
        integrity.check_sizes(folder, manifest)
        return f"checkpoint:{manifest.id}"
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
    """The text files of a model's folder, by name. Raises UsageError if one is larger than 1 GiB."""
    texts = {}
    for path in (folder / name for name in TEXT_FILES):
        if path.is_file():
            if path.stat().st_size > MAX_TEXT_BYTES:
                raise UsageError(
                    f"{path} has {path.stat().st_size:,} bytes, which is too large for this file: copy it again"
                )
            texts[path.name] = path.read_bytes()
    return texts


Count = Annotated[int, msgspec.Meta(ge=0)]


class _Tensor(msgspec.Struct):
    """An entry of a safetensors header. The defaults are for `__metadata__`, which is not a tensor."""

    shape: tuple[Count, ...] = (0,)
    data_offsets: tuple[Count, Count] = (0, 0)


Size = Annotated[int, msgspec.Meta(ge=1)]


class _Config(msgspec.Struct):
    vocab_size: Size | None = None
    hidden_size: Size | None = None
    model_type: str | None = None
    text_config: "_Config | None" = None
    "in the config of a multimodal model"


def vocab_size(model: Model) -> int:
    """Size of a model's output vocabulary. If it is padded, it is larger than the tokenizer's."""
    path = model.weights_folder / "config.json"
    config = _decoded(path, _Config)
    size = config.vocab_size or (config.text_config and config.text_config.vocab_size)
    if not size:
        raise UsageError(
            f"{path} has no vocab_size, so it is not the config of a language model: give another model"
        )
    return size


def width_and_kind(model: Model) -> tuple[int | None, str]:
    """The hidden size of a model, None if its config has none, and its model type."""
    config = _decoded(model.weights_folder / "config.json", _Config)
    text_config = config.text_config or config
    return text_config.hidden_size, str(text_config.model_type)


def _decoded(path: Path, kind: type[T]) -> T:
    """Read a small JSON file of a model. Raises UsageError if it cannot be decoded."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {first_line(error)}") from error


def count_weights(folder: Path) -> int:
    """Number of parameters in the weight files. A copy of the weights under another name is not counted."""
    return sum(math.prod(tensor.shape) for tensor in _all_tensors(folder))


def count_tensors(folder: Path) -> int:
    """Number of tensors in the weight files."""
    return len(_all_tensors(folder))


def tensor_names(path: Path) -> set[str]:
    """The names of the tensors in a safetensors file."""
    return _tensors(path)[1].keys() - {"__metadata__"}


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights, by name. Empty if there are no weight files."""
    shapes = {
        name: tensor.shape
        for path in _weight_files(folder)
        for name, tensor in _tensors(path)[1].items()
    }
    shapes.pop("__metadata__", None)
    return shapes


def _all_tensors(folder: Path) -> list[_Tensor]:
    return [tensor for path in _weight_files(folder) for tensor in _tensors(path)[1].values()]


def _weight_files(folder: Path) -> list[Path]:
    paths = [*folder.glob("model*.safetensors")] or [*folder.glob("*.safetensors")]
    return list(filter(Path.is_file, paths))


def _tensors(path: Path) -> tuple[bytes, dict[str, _Tensor]]:
    """The header of a safetensors file, raw and decoded."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        is_possible = length < min(path.stat().st_size, MAX_HEADER_BYTES)
        header = file.read(length) if is_possible else b""
    try:
        return header, msgspec.json.decode(header, type=dict[str, _Tensor])
    except NOT_DECODED as error:
        raise UsageError(
            f"{path} is not a safetensors file, or it is truncated: copy it again"
        ) from error


def _weight_digest(path: Path) -> tuple[int, str]:
    """Size of a safetensors file, and a hash of its header and of the edges of every tensor."""
    header, tensors = _tensors(path)
    size = path.stat().st_size
    edges = []
    with path.open("rb") as file:
        for name in sorted(tensors):
            begin, end = (8 + len(header) + offset for offset in tensors[name].data_offsets)
            if begin > end:
                raise UsageError(f"{path}: {name} ends before it begins: copy it again")
            if end > size:
                raise UsageError(f"{path} is truncated: it ends inside {name}: copy it again")
            file.seek(begin)
            edges.append(file.read(min(EDGE_BYTES, end - begin)))
            file.seek(max(begin, end - EDGE_BYTES))
            edges.append(file.read(end - file.tell()))
    return size, content_hash(header, edges)


def hub_folder(reference: str, option: str, *, weights: bool) -> Path:
    """The local folder of the newest commit of a hub model. From the cache if the hub cannot be reached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    allowed = None if weights else [*TEXT_FILES, "README.md", "LICENSE*"]
    ignored = ["*.pth", "original/*", "*.gguf"]
    try:
        return Path(snapshot_download(reference, allow_patterns=allowed, ignore_patterns=ignored))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UsageError(
            f"{option} {reference}: neither a local folder nor available from the hub ({first_line(error)}); "
            "check the name and the network, or download it and give its folder"
        ) from error

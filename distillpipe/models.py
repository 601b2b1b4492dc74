"""Where a model lies and what it is: found and identified without torch, in milliseconds.

A model reference is a checkpoint of ours (`runs/x/student`, `runs/x/student@v2`), a local model folder,
or a name on the hub (`Qwen/Qwen2.5-7B`).
"""

from pathlib import Path

import msgspec

from distillpipe import manifest as manifests
from distillpipe import versions
from distillpipe.errors import UsageError, first_line
from distillpipe.hashing import content_hash

TEXT_FILES = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "special_tokens_map.json",
)  # fmt: skip
EDGE_BYTES = 4096  # of each tensor, first and last


class Model(msgspec.Struct, frozen=True):
    """A model that can be loaded: `folder` is where its files lie."""

    name: str
    "the reference as it was given"
    folder: Path
    identity: str
    "equal for equal models, whatever their place"


def find(reference: str, option: str) -> Model:
    """The model that `reference` names; a UsageError says what `option` should have been."""
    path = Path(reference)
    place = versions.split_reference(reference)[0]
    if versions.holds_versions(place) or versions.partials(place):
        folder = versions.resolve(reference)
        return Model(reference, folder.resolve(), _local_identity(folder, option))
    if path.exists():
        return Model(reference, path.resolve(), _local_identity(path, option))
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        folder = _hub_folder(reference, option)
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
        return f"checkpoint:{found.id}"
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{option} {folder} is not a model folder: it has no config.json; "
            "give the folder that holds config.json and the weights"
        )
    texts = {name: (folder / name).read_bytes() for name in TEXT_FILES if (folder / name).is_file()}
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UsageError(
            f"{option} {folder} has no *.safetensors file: save the model with save_pretrained"
        )
    digests = [(path.name, *_weight_digest(path)) for path in weights]
    return f"local:{content_hash(texts, digests)}"


class _Tensor(msgspec.Struct):
    """An entry of a safetensors header; the default is for `__metadata__`, which is no tensor."""

    data_offsets: tuple[int, int] = (0, 0)


def _weight_digest(path: Path) -> tuple[int, str]:
    """Size and hash of a safetensors file's header and of the edges of every tensor in it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < size else b""
        try:
            tensors = msgspec.json.decode(header, type=dict[str, _Tensor])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{path} is not a safetensors file, or was cut short: copy it again"
            ) from error
        edges = []
        for name in sorted(tensors):
            begin, end = (8 + length + offset for offset in tensors[name].data_offsets)
            if end > size:
                raise UsageError(f"{path} was cut short: it ends inside {name}: copy it again")
            file.seek(begin)
            edges.append(file.read(min(EDGE_BYTES, end - begin)))
            file.seek(max(begin, end - EDGE_BYTES))
            edges.append(file.read(end - file.tell()))
    return size, content_hash(header, edges)


def _hub_folder(reference: str, option: str) -> Path:
    """The folder of the newest commit of a hub model, from the cache where the hub is out of reach."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(snapshot_download(reference, ignore_patterns=["*.pth", "original/*", "*.gguf"]))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        reason = first_line(error)
        raise UsageError(
            f"{option} {reference}: neither a local folder nor to be had from the hub ({reason}); "
            "check the name and the network, or download it and give its folder"
        ) from error

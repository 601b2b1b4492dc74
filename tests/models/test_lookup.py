"""Finding models: equal files are the same model in any folder; other folders are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.records import Trace
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import Manifest
from distillpipe.data.store.versions import Header
from distillpipe.models import lookup

WriteCheckpoint = Callable[..., Manifest]
TENSORS = {"embedding": 20_000, "norm": 64, "empty": 0}  # bytes of each


def safetensors(tensors: dict[str, int] = TENSORS) -> bytes:
    """A safetensors file of bytes 0, 1, 2, ... in the order of `tensors`."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, size in tensors.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + bytes(i % 251 for i in range(end))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files that decide a model's identity."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


def identity(folder: Path) -> str:
    return lookup.find(str(folder), "--teacher").identity


def change_byte(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


# ---------------------------------------------------------------- identity


def test_a_copy_of_a_model_elsewhere_is_the_same_model(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "runs" / "copy")

    found, other = (lookup.find(str(path), "--teacher") for path in (model, copy))
    assert found.identity == other.identity
    assert (found.name, found.folder) == (str(model), model)
    assert (other.name, other.folder) == (str(copy), copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"model_type": "qwen3"}'),
        ("tokenizer.json", '{"version": 2}'),
        ("chat_template.jinja", "{{ message }}"),
        ("generation_config.json", "{}"),
        ("adapter_config.json", "{}"),
    ],
)
def test_another_config_tokenizer_or_template_is_another_model(
    model: Path, name: str, content: str
) -> None:
    before = identity(model)
    (model / name).write_text(content)

    assert identity(model) != before


def test_a_readme_or_a_log_beside_the_model_does_not_change_it(model: Path) -> None:
    before = identity(model)
    (model / "README.md").write_text("a card")
    (model / "training.log").write_text("loss")

    assert identity(model) == before


@pytest.mark.parametrize(
    ("position", "part"),
    [
        (0, "first byte of the embedding"),
        (4095, "last of its first 4 KB"),
        (20_000 - 4096, "first of its last 4 KB"),
        (19_999, "its last byte"),
        (20_000, "first byte of the norm"),
        (20_063, "last byte of all"),
    ],
)
def test_a_changed_byte_at_an_edge_of_any_tensor_is_another_model(
    model: Path, position: int, part: str
) -> None:
    path = model / "model.safetensors"
    first = path.stat().st_size - sum(TENSORS.values())
    before = identity(model)
    change_byte(path, first + position)

    assert identity(model) != before, part


def test_another_shape_or_another_shard_is_another_model(model: Path) -> None:
    identities = {identity(model)}
    (model / "model-2.safetensors").write_bytes(safetensors({"head": 10}))
    identities.add(identity(model))
    (model / "model-2.safetensors").write_bytes(safetensors({"head": 11}))
    identities.add(identity(model))
    (model / "model-2.safetensors").rename(model / "model-3.safetensors")
    identities.add(identity(model))

    assert len(identities) == 4


def test_a_model_without_tensors_has_an_identity(model: Path) -> None:
    (model / "model.safetensors").write_bytes(safetensors({}))

    assert identity(model).startswith("local:")


def make_adapter(folder: Path, base: str | None) -> Path:
    folder.mkdir()
    config = {"r": 8} if base is None else {"r": 8, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(safetensors({"lora": 64}))
    return folder


def test_an_adapter_is_a_model_on_its_base(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(model))

    found = lookup.find(str(adapter), "--teacher")
    assert (found.folder, found.weights_folder) == (adapter, model)
    assert found.tokenizer_folder == model
    (adapter / "tokenizer_config.json").write_text("{}")
    assert found.tokenizer_folder == adapter


def test_an_adapter_is_another_model_on_another_base(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(model))

    before = identity(adapter)
    change_byte(model / "model.safetensors", -1)
    assert identity(adapter) != before


def test_an_adapter_whose_base_is_not_named_or_not_there_is_refused(
    model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has no base_model_name_or_path"):
        identity(make_adapter(tmp_path / "one", None))
    with pytest.raises(UsageError, match=r"other: its base model .*gone: no such folder"):
        identity(make_adapter(tmp_path / "other", str(tmp_path / "gone")))


def test_the_shipped_teacher_is_found_and_is_not_the_student(repository: Path) -> None:
    shipped = repository / "data" / "quickstart"

    assert identity(shipped / "teacher") != identity(shipped / "student-qwen")


# ---------------------------------------------------------------- checkpoints of ours


def test_a_checkpoint_is_known_by_the_id_in_its_manifest(
    tmp_path: Path, write_checkpoint: WriteCheckpoint
) -> None:
    out = tmp_path / "student"
    write_checkpoint(out, "first")
    write_checkpoint(out, "second")

    found = {
        reference: lookup.find(reference, "MODEL")
        for reference in (f"{out}", f"{out}@v1", f"{out}/v1", f"{out}/latest")
    }
    assert {reference: one.identity for reference, one in found.items()} == {
        f"{out}": "checkpoint:second",
        f"{out}@v1": "checkpoint:first",
        f"{out}/v1": "checkpoint:first",
        f"{out}/latest": "checkpoint:second",
    }
    assert [one.folder for one in found.values()] == [
        out / "v2",
        out / "v1",
        out / "v1",
        out / "v2",
    ]


def test_an_unfinished_checkpoint_is_no_model(
    tmp_path: Path, make_header: Callable[..., Header]
) -> None:
    header = make_header(kind="checkpoint", stage="sft")
    with versions.draft(tmp_path / "student", header) as draft:
        pass

    with pytest.raises(UsageError, match=rf"MODEL {draft.path} is unfinished: run the command"):
        lookup.find(str(draft.path), "MODEL")
    with pytest.raises(UsageError, match=r"student holds no finished version: run the command"):
        lookup.find(str(tmp_path / "student"), "MODEL")


# ---------------------------------------------------------------- what is no model


def test_a_dataset_is_no_model(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
) -> None:
    write_dataset(tmp_path, make_traces(1))

    with pytest.raises(UsageError, match=f"--student {tmp_path}/v1 is a dataset of traces, not a"):
        lookup.find(str(tmp_path), "--student")


def test_a_missing_version_is_an_error_that_lists_the_others(
    tmp_path: Path, write_checkpoint: WriteCheckpoint
) -> None:
    write_checkpoint(tmp_path / "student", "first")

    with pytest.raises(UsageError, match="student has no version v2; it has v1"):
        lookup.find(f"{tmp_path}/student@v2", "MODEL")


@pytest.mark.parametrize(
    "reference", ["nothing", "./data/nothing", "/data/nothing", "a/b/c", "~/x"]
)
def test_a_missing_path_is_an_error_that_says_what_to_give(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=f"^--teacher {reference}: no such folder; give a model"):
        lookup.find(reference, "--teacher")


def test_a_folder_without_config_or_weights_says_what_is_missing(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(UsageError, match=rf"--teacher {model} has no \*.safetensors file: save"):
        identity(model)
    (model / "config.json").unlink()
    with pytest.raises(UsageError, match=f"--teacher {model} is not a model folder: it has no con"):
        identity(model)
    with pytest.raises(UsageError, match=r"tokenizer.json is not a model folder"):
        identity(model / "tokenizer.json")


WHOLE = safetensors()
HEADER_END = len(WHOLE) - sum(TENSORS.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:4],
        WHOLE[:8],
        WHOLE[: HEADER_END - 1],
        WHOLE[:HEADER_END],
        WHOLE[:-1],
        (5).to_bytes(8, "little") + b"hello",
        (2).to_bytes(8, "little") + b"[]",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1713552\n",
    ],
    ids=[
        "empty", "half a length", "length only", "in the header", "no tensor", "one byte short",
        "not JSON", "not a header", "a pointer to large storage",
    ],
)  # fmt: skip
def test_a_truncated_or_invalid_weight_file_is_refused_by_path(model: Path, content: bytes) -> None:
    (model / "model.safetensors").write_bytes(content)

    with pytest.raises(UsageError, match=rf"{model}/model.safetensors .*: copy it again"):
        identity(model)


# ---------------------------------------------------------------- --adapter


def test_an_adapter_beside_its_base_is_the_same_model_as_alone(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(model))
    alone = lookup.find(str(adapter), "MODEL")

    assert lookup.with_adapter(lookup.find(str(model), "MODEL"), str(adapter)) == alone


def test_an_adapter_that_names_no_base_can_be_given_beside_one(model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", None)
    found = lookup.with_adapter(lookup.find(str(model), "MODEL"), str(adapter))

    assert (found.folder, found.weights_folder) == (adapter, model)


def test_what_is_no_adapter_and_an_adapter_on_an_adapter_are_refused(
    model: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "adapter", str(model))
    whole = lookup.find(str(model), "MODEL")
    with pytest.raises(UsageError, match="is not an adapter: it has no adapter_config"):
        lookup.with_adapter(whole, str(model))
    with pytest.raises(UsageError, match=r"--adapter .*gone: no such folder"):
        lookup.with_adapter(whole, str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="is an adapter itself: give the model that --adapter"):
        lookup.with_adapter(lookup.find(str(adapter), "MODEL"), str(adapter))


@pytest.mark.parametrize(
    ("config", "size"), [({"vocab_size": 512}, 512), ({"text_config": {"vocab_size": 99}}, 99)]
)
def test_the_size_of_a_vocabulary_is_that_of_the_text_model(
    tmp_path: Path, config: dict[str, object], size: int
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert lookup.vocab_size(lookup.Model("m", tmp_path, "id")) == size


@pytest.mark.parametrize(("content", "said"), [("{}", "has no vocab_size"), ("{", "truncated")])
def test_a_config_without_a_vocabulary_is_an_error_that_names_it(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match=f"{tmp_path / 'config.json'}.*{said}"):
        lookup.vocab_size(lookup.Model("m", tmp_path, "id"))

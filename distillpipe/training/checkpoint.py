"""What a checkpoint holds besides the weights that the loop has written, and the merged model of an adapter.

    v1/  adapter_config.json  adapter_model.safetensors       or the weights of the whole model
         tokenizer...  chat_template.jinja                    writes a turn as it was trained on
         generation_config.json                               sampling advice, end tokens
         merged/                                              --merge: a whole model, complete too
         losses.jsonl  README.md  manifest.json

The sampling advice is DeepSeek's for R1 and what was distilled from it (README of DeepSeek-R1): greedy decoding
makes reasoning models repeat themselves.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from safetensors import SafetensorError
from transformers import GenerationConfig

from distillpipe.base.errors import EngineError, first_line
from distillpipe.base.hashing import content_hash, file_sha256
from distillpipe.base.markdown import code
from distillpipe.base.progress import say
from distillpipe.data.forecast import size
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store import versions
from distillpipe.data.store.manifest import FileEntry
from distillpipe.data.store.versions import Draft
from distillpipe.models import loading
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import ADAPTER, MERGED, Model
from distillpipe.training.rows.rows import Row
from distillpipe.training.rows.template import saved_template
from distillpipe.training.states import LOSSES, steps_in
from distillpipe.training.student_config import Limits, limits_of

TEMPERATURE, TOP_P = 0.6, 0.95
KEPT = (
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "max_new_tokens",
)
COMPARED_TOKENS = 512  # of a row, on which adapter and merged model are compared
TOLERANCE = 1e-3  # of the largest logit: fp32 sums in another order
FULL_DISK = (
    "No space left", "File too large", "Disk quota",
    "PytorchStreamWriter failed", "inline_container.cc", "iostream error",  # torch.save
)  # fmt: skip


class Merge(NamedTuple):
    """How near the merged model is to the adapter on its base, in logits on one row."""

    largest: float
    "logit"
    difference: float
    "the largest, in fp32"
    rounded_difference: float
    "the largest, of the model as it is saved"
    saved_type: str
    "bfloat16, float32, ..."

    def __str__(self) -> str:
        return (
            f"logits of up to {self.largest:.3g} differ from the adapter's by at most {self.difference:.2g} in "
            f"fp32, by {self.rounded_difference:.2g} as saved ({self.saved_type})"
        )


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn what libraries say of a full disk, each in its own way, into an EngineError."""
    try:
        yield
    except (SafetensorError, RuntimeError, OSError) as error:
        if not any(words in str(error) for words in FULL_DISK):
            raise
        raise EngineError(
            f"{folder}: the disk is full, or files may not grow ({first_line(error)}): make room; what was "
            "saved is safe, the same command goes on from there"
        ) from error


def complete(folder: Path, student: Model, chat: Chat, limits: Limits) -> None:
    """Write what belongs to the weights in `folder`: tokenizer, chat template, generation config.

    `limits` are those that the student was trained with.
    """
    if limits != limits_of(loading.load_config(student.folder, student.name)):  # --rope-theta
        chat.tokenizer.model_max_length = limits.num_positions
    own, chat.tokenizer.chat_template = chat.tokenizer.chat_template, saved_template(chat)
    chat.tokenizer.save_pretrained(folder)
    chat.tokenizer.chat_template = own
    generation = generation_config(student.folder, chat.end_ids)
    generation.save_pretrained(folder)
    if (folder / ADAPTER).is_file():
        _name_base(folder / ADAPTER, student)


def generation_config(student: Path, end_ids: frozenset[int]) -> GenerationConfig:
    """The student's own, with the sampling advice and every end token of its chat."""
    config = loading.load_generation_config(student, str(student)) or GenerationConfig()
    config._from_model_config = False  # else generate() makes one of the model's config again
    config.eos_token_id = sorted(end_ids)
    config.do_sample, config.temperature, config.top_p = True, TEMPERATURE, TOP_P
    return config


def _name_base(path: Path, student: Model) -> None:
    """Name the adapter's base so that it is found elsewhere too: a hub model by its name and commit."""
    if not student.identity.startswith("hub:"):
        return
    name, _, commit = student.identity.removeprefix("hub:").rpartition("@")
    config = msgspec.json.decode(path.read_bytes())
    config |= {"base_model_name_or_path": name, "revision": commit}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))


def merge(folder: Path, student: Model, chat: Chat, row: Row) -> Merge:
    """Merge the adapter in `folder` into its base in fp32; `folder/merged` has the result in the base's type.

    Raises EngineError where the adapter is of another base, or where the merged model computes something else
    on `row`.
    """
    base = loading.load_model(student.folder, student.name, dtype=torch.float32)
    saved_type = loading.load_config(student.folder, student.name).dtype or torch.float32
    model = loading.with_adapter(base, folder, str(folder), student.name).eval()
    ids = torch.tensor([row.ids[:COMPARED_TOKENS]])
    with torch.inference_mode():
        adapted = model(ids).logits
        merged = model.merge_and_unload(safe_merge=True)
        largest = float(adapted.abs().max())
        difference = float((merged(ids).logits - adapted).abs().max())
        if not difference <= TOLERANCE * largest:
            raise EngineError(
                f"the merged model is not the adapter on its base: its logits are off by {difference:.3g} of "
                f"{largest:.3g} on row {row.id}; the adapter itself is whole: leave --merge out"
            )
        merged.to(saved_type)
        rounded = float((merged(ids).logits.float() - adapted).abs().max())
    shutil.rmtree(folder / MERGED, ignore_errors=True)
    merged.save_pretrained(folder / MERGED)
    complete(folder / MERGED, student, chat, limits_of(base.config))
    return Merge(largest, difference, rounded, str(saved_type).removeprefix("torch."))


def take_over(finished: Path, draft: Draft) -> None:
    """Take the trained weights of a finished version, which only lacks what is made of them."""
    found = manifests.read(finished)
    say(f"sft: taking the weights of {finished}")
    for entry in found.files:
        if not entry.name.startswith(f"{MERGED}/"):
            shutil.copyfile(finished / entry.name, draft.path / entry.name)
    draft.manifest.counts.tokens_kept = found.counts.tokens_kept
    draft.manifest.counts.seconds_working = found.counts.seconds_working
    draft.manifest.metrics = found.metrics


def list_files(draft: Draft) -> None:
    """Enter the files of a checkpoint into its manifest, and the id that follows from them.

    The merged model is no part of the id: it is the same model once more.
    """
    files = [path for path in versions.content_files(draft.path) if path.is_file()]
    files += sorted(path for path in (draft.path / MERGED).glob("*") if path.is_file())
    draft.manifest.files = [
        FileEntry(str(path.relative_to(draft.path)), None, path.stat().st_size, file_sha256(path))
        for path in files
    ]
    draft.manifest.id = content_hash(
        [
            (one.name, one.sha256)
            for one in draft.manifest.files
            if one.name != LOSSES and not one.name.startswith(f"{MERGED}/")
        ]
    )


def facts(folder: Path, chat: Chat, merge: Merge | None, measured: dict[str, Any]) -> list[str]:
    """Lines for the model card: the losses, how fast it was trained, how to sample, what was merged.

    `measured` is `speed.summary` of the steps.
    """
    lines = []
    steps = steps_in(folder)
    if steps:
        held_out = measured["eval_loss"]
        unseen = "" if held_out is None else f"; {held_out:.4f} on the rows held out"
        lines.append(
            f"Loss: {steps[0].loss:.4f} at step {steps[0].step:,}, {steps[-1].loss:.4f} at step "
            f"{steps[-1].step:,}, the last{unseen}; all of them in `{LOSSES}`."
        )
        lines.append(_speed(measured))
    generation = msgspec.json.decode((folder / "generation_config.json").read_bytes())
    kept = ", ".join(f"{name} {generation[name]}" for name in KEPT if name in generation)
    own = f"; of the student's own it keeps {kept}" if kept else ""
    lines.append(
        f"Sampling: temperature {TEMPERATURE}, top_p {TOP_P}, never greedy (`generation_config.json`{own})."
    )
    ends = ", ".join(
        code(str(chat.tokenizer.convert_ids_to_tokens(one))) for one in sorted(chat.end_ids)
    )
    tags = chat.turn.tags
    opened = ", which the prompt opens" if chat.turn.opened else ""
    lines.append(
        f"Reasoning stands between {code(tags.open)} and {code(tags.close)}{opened}; a turn ends with {ends}."
    )
    if merge is not None:
        lines.append(f"`{MERGED}/` is the whole model, merged in fp32: {merge}.")
    return lines


def _speed(measured: dict[str, Any]) -> str:
    mfu = "" if measured["mfu"] is None else f", {measured['mfu']:.1%} MFU"
    return (
        f"Speed: {measured['tokens_per_second']:,.0f} tokens/s, of them "
        f"{measured['supervised_tokens_per_second']:,.0f} supervised{mfu}; "
        f"{size(measured['peak_memory_bytes'])} of memory at the peak."
    )

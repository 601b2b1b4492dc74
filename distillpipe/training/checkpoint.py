"""Write a checkpoint: tokenizer, chat template, generation config, and the merged model of an adapter.

    v1/  adapter_config.json  adapter_model.safetensors       or the weights of the whole model
         tokenizer...  chat_template.jinja                    renders a turn as the student was trained on it
         generation_config.json                               sampling parameters, end tokens
         merged/                                              --merge: the merged model, with the same files
         losses.jsonl  README.md  manifest.json

The sampling parameters are those that the DeepSeek-R1 README recommends for R1 and its distilled models: greedy
decoding makes reasoning models repeat themselves.
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
from distillpipe.training.student_config import StudentLimits, limits_of

TEMPERATURE, TOP_P = 0.6, 0.95
KEPT = (
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "max_new_tokens",
)
COMPARED_TOKENS = 512  # at most, of the row on which adapter and merged model are compared
TOLERANCE = 1e-3  # as a share of the largest logit: fp32 sums are taken in another order
FULL_DISK = (
    "No space left", "File too large", "Disk quota",
    "PytorchStreamWriter failed", "inline_container.cc", "iostream error",  # torch.save
)  # fmt: skip


class MergeCheck(NamedTuple):
    """How much the logits of the merged model differ from those of adapter and base, on one row."""

    largest: float
    "the largest absolute logit"
    difference: float
    "the largest difference in fp32"
    rounded_difference: float
    "the largest difference of the model as it is saved"
    saved_type: str
    "bfloat16, float32, ..."

    def __str__(self) -> str:
        return (
            f"logits of up to {self.largest:.3g} differ from the adapter's by at most {self.difference:.2g} in "
            f"fp32, by {self.rounded_difference:.2g} as saved ({self.saved_type})"
        )


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Raise an EngineError for the errors that libraries raise on a full disk."""
    try:
        yield
    except (SafetensorError, RuntimeError, OSError) as error:
        if not any(words in str(error) for words in FULL_DISK):
            raise
        raise EngineError(
            f"{folder}: the disk is full or a file size limit is reached ({first_line(error)}): free some space; "
            "saved files are intact, and the same command continues from them"
        ) from error


def save_tokenizer_and_config(
    folder: Path, student: Model, chat: Chat, limits: StudentLimits
) -> None:
    """Write tokenizer, chat template and generation config beside the weights in `folder`.

    `limits` are those that the student was trained with.
    """
    # --rope-theta changed the context length, so the tokenizer's own maximum is out of date
    if limits != limits_of(loading.load_config(student.folder, student.name)):
        chat.tokenizer.model_max_length = limits.num_positions
    own, chat.tokenizer.chat_template = chat.tokenizer.chat_template, saved_template(chat)
    chat.tokenizer.save_pretrained(folder)
    chat.tokenizer.chat_template = own
    generation = generation_config(student.folder, chat.end_ids)
    generation.save_pretrained(folder)
    if (folder / ADAPTER).is_file():
        _name_base(folder / ADAPTER, student)


def generation_config(student: Path, end_ids: frozenset[int]) -> GenerationConfig:
    """The student's own generation config with our sampling parameters and all end tokens of its chat template."""
    config = loading.load_generation_config(student, str(student)) or GenerationConfig()
    # otherwise generate() derives it from the model's config again
    config._from_model_config = False
    config.eos_token_id = sorted(end_ids)
    config.do_sample, config.temperature, config.top_p = True, TEMPERATURE, TOP_P
    return config


def _name_base(path: Path, student: Model) -> None:
    """Write the hub name and commit of the base model into the adapter's config, so that other machines find it."""
    if not student.identity.startswith("hub:"):
        return
    name, _, commit = student.identity.removeprefix("hub:").rpartition("@")
    config = msgspec.json.decode(path.read_bytes())
    config |= {"base_model_name_or_path": name, "revision": commit}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2))


def merge(folder: Path, student: Model, chat: Chat, row: Row) -> MergeCheck:
    """Merge the adapter in `folder` into its base in fp32 and save `folder/merged` in the dtype of the base.

    Raises EngineError if the adapter belongs to another base, or if the logits of the merged model differ on `row`.
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
                f"the merged model does not equal adapter and base: its logits differ by {difference:.3g} of "
                f"{largest:.3g} on row {row.id}; the adapter itself is intact: run again without --merge"
            )
        merged.to(saved_type)
        rounded = float((merged(ids).logits.float() - adapted).abs().max())
    shutil.rmtree(folder / MERGED, ignore_errors=True)
    merged.save_pretrained(folder / MERGED)
    save_tokenizer_and_config(folder / MERGED, student, chat, limits_of(base.config))
    return MergeCheck(largest, difference, rounded, str(saved_type).removeprefix("torch."))


def copy_weights(finished: Path, draft: Draft) -> None:
    """Copy the trained weights of a finished version, for a run that only adds what is derived from them (--merge)."""
    manifest = manifests.read(finished)
    say(f"sft: copying the weights of {finished}")
    for entry in manifest.files:
        if not entry.name.startswith(f"{MERGED}/"):
            shutil.copyfile(finished / entry.name, draft.path / entry.name)
    draft.manifest.counts.tokens_kept = manifest.counts.tokens_kept
    draft.manifest.counts.seconds_working = manifest.counts.seconds_working
    draft.manifest.metrics = manifest.metrics


def list_files(draft: Draft) -> None:
    """Add the files of a checkpoint, and the id that follows from them, to its manifest.

    The merged model does not enter the id, because it is the same model in another form.
    """
    files = [path for path in versions.content_files(draft.path) if path.is_file()]
    files += sorted(path for path in (draft.path / MERGED).glob("*") if path.is_file())
    draft.manifest.files = [
        FileEntry(str(path.relative_to(draft.path)), None, path.stat().st_size, file_sha256(path))
        for path in files
    ]
    draft.manifest.id = content_hash(
        [
            (entry.name, entry.sha256)
            for entry in draft.manifest.files
            if entry.name != LOSSES and not entry.name.startswith(f"{MERGED}/")
        ]
    )


def card_lines(
    folder: Path, chat: Chat, merge: MergeCheck | None, measured: dict[str, Any]
) -> list[str]:
    """Lines for the model card: losses, training speed, sampling parameters, tags and the merged model.

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
        code(str(chat.tokenizer.convert_ids_to_tokens(token))) for token in sorted(chat.end_ids)
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

"""A teacher that reads the rows of each pass beside the student, in its own words.

It reads a row as its own template and tokenizer write it, so that it sees the tags and ends that it was trained
with; its tokens are brought to the student's by the bytes of the text, as stored labels are. Its hidden states are
kept for a pass, its logits only for a chunk of positions (`soft_losses.DenseTargets`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from distillpipe.base.errors import UsageError
from distillpipe.base.memory import free_memory
from distillpipe.models import loading
from distillpipe.models.lookup import Model, count_weights
from distillpipe.training.losses.soft_losses import DenseTargets
from distillpipe.training.passes import capacity
from distillpipe.training.rows.attention import implementation
from distillpipe.training.rows.packing import packed_passes, padded_passes
from distillpipe.training.rows.rows import Row
from distillpipe.training.teachers.alignment import Ids
from distillpipe.training.teachers.soft_rows import POSITION

GB = 1e9


class Seen(NamedTuple):
    """What a teacher has at the N supervised tokens of a pass of the student."""

    labelled: torch.Tensor
    "(N,) bool: the tokens that it has too; at others the states are those of any other token"
    states: torch.Tensor
    "(N, H) the last hidden states, those that predict the tokens"
    layers: tuple[torch.Tensor, ...]
    "(N, H) each: those of the layers asked for"


class LiveTeacher:
    """A model that gives its hidden states and, through its head, its distribution."""

    def __init__(
        self, model: Model, number: int, device: torch.device, dtype: str, max_length: int
    ) -> None:
        """`number`: its place among `Row.teacher_rows`."""
        weights = _weight_type(device, dtype)
        named = msgspec.structs.replace(model, name=f"--teacher {model.name}")
        loaded = loading.load_whole_model(named, dtype=weights)
        self._model = loaded.to(device).eval().requires_grad_(False)
        attention = implementation(loaded.config, device, dtype)
        if attention is not None:
            loaded.set_attn_implementation(attention)
        self._split = padded_passes if attention is None else packed_passes
        self._number, self._device, self._max_length = number, device, max_length
        self.num_layers = int(loaded.config.get_text_config().num_hidden_layers)
        self.hidden_size = int(loaded.config.get_text_config().hidden_size)

    @torch.no_grad()
    def see(self, rows: Sequence[Row], layers: Sequence[int] = ()) -> Seen:
        """Read the rows of a pass; `layers` are 1-based."""
        theirs = [row.teacher_rows[self._number] for row in rows]
        named = [Row(str(at), one.ids, one.num_prompt) for at, one in enumerate(theirs)]
        wanted = [_predicting(row, row.teacher_rows[self._number].positions) for row in rows]
        found: list[list[torch.Tensor]] = [[] for _ in rows]
        for one in self._split(named, capacity(self._max_length)):
            moved = one.to(self._device)
            out = self._model.base_model(
                input_ids=moved.ids,
                use_cache=False,
                output_hidden_states=bool(layers),
                **moved.places,
            )
            kept = [out.last_hidden_state, *(out.hidden_states[layer] for layer in layers)]
            flat = [states.flatten(0, 1) for states in kept]  # (tokens of the pass, H)
            for row, start in zip(one.rows, one.starts, strict=True):
                at = torch.from_numpy(wanted[int(row.id)].clip(min=0) + start).to(self._device)
                found[int(row.id)] = [states[at] for states in flat]
        states, *others = (torch.cat(parts) for parts in zip(*found, strict=True))
        labelled = torch.from_numpy(np.concatenate(wanted) >= 0).to(self._device)
        return Seen(labelled, states, tuple(others))

    def targets(self, seen: Seen, counterparts: Ids, num_embeddings: int) -> DenseTargets:
        """What is learnt of its distribution, by a student that predicts ids below `num_embeddings`."""
        head = self._model.get_output_embeddings()
        ours = counterparts[: head.weight.shape[0]]
        shared = np.flatnonzero((ours >= 0) & (ours < num_embeddings))
        tokens: tuple[torch.Tensor, torch.Tensor] | int = len(shared)
        if not np.array_equal(ours[shared], np.arange(len(shared))) or shared[-1] >= len(shared):
            same = (torch.from_numpy(one).to(self._device) for one in (shared, ours[shared]))
            tokens = (next(same), next(same))
        return DenseTargets(seen.states, seen.labelled, head, tokens)


def _predicting(row: Row, positions: bytes) -> Ids:
    """Of each supervised token that has one before it: where the teacher's state stands that predicts it, or -1."""
    places = np.frombuffer(positions, POSITION).astype(np.int64)
    places = places[1:] if row.num_prompt == 0 else places
    return np.where(places > 0, places - 1, -1)


def weight_bytes(teachers: Sequence[Model], device: torch.device, dtype: str) -> int:
    """What the weights of teachers take in memory."""
    size = 2 if _weight_type(device, dtype) == torch.bfloat16 else 4
    return size * sum(count_weights(one.weights_folder) for one in teachers)


def _weight_type(device: torch.device, dtype: str) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" and dtype == "bf16" else torch.float32


def check_memory(
    teachers: Sequence[Model], num_trained: int, device: torch.device, dtype: str
) -> None:
    """Refuse teachers for which there is no room beside gradients and optimizer of `num_trained` weights.

    Activations come on top, so a run may still need more. Raises UsageError.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    needed = weight_bytes(teachers, device, dtype)
    student = 3 * 4 * num_trained  # gradient and both moments, fp32
    if needed + student > free:
        names = ", ".join(one.name for one in teachers)
        raise UsageError(
            f"--teacher {names}: the weights take {needed / GB:,.1f} GB, gradients and optimizer of the student "
            f"{student / GB:,.1f} GB, and {free / GB:,.1f} GB are free on {device}: take a smaller teacher, or "
            "store its labels with `distill label` and train from them without --teacher"
        )

"""A live teacher: a model that reads the rows of each pass during training, with its own template and tokenizer.

The teacher gets the tags and end tokens that it was trained with. Its tokens are aligned with the student's by the
bytes of the text, as stored labels are. We keep its hidden states for a pass, but its logits only for a chunk of
positions (`soft_losses.DenseTargets`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch

from distillpipe.base.errors import UsageError
from distillpipe.base.memory import free_memory
from distillpipe.engines.transformers.output_head import output_head
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


class TeacherOutputs(NamedTuple):
    """The outputs of a teacher at the N supervised tokens of a pass of the student."""

    labelled: torch.Tensor
    "(N,) bool: the tokens that the teacher has too; at other tokens the states are arbitrary"
    states: torch.Tensor
    "(N, H) the last hidden states, which predict these tokens"
    layers: tuple[torch.Tensor, ...]
    "(N, H) each: the hidden states of the requested layers"


class LiveTeacher:
    """A frozen model that returns its hidden states and, through its head, its distribution."""

    def __init__(
        self, model: Model, number: int, device: torch.device, dtype: str, max_length: int
    ) -> None:
        """`number`: the index of this teacher in `Row.teacher_rows`."""
        weights = _weight_type(device, dtype)
        named = msgspec.structs.replace(model, name=f"--teacher {model.name}")
        loaded = loading.load_whole_model(named, dtype=weights)
        self._model = loaded.to(device).eval().requires_grad_(False)
        self._head = output_head(self._model, named.name)
        attention = implementation(loaded.config, device, dtype).attention
        if attention is not None:
            loaded.set_attn_implementation(attention)
        self._split = padded_passes if attention is None else packed_passes
        self._number, self._device, self._max_length = number, device, max_length
        self.num_layers = int(loaded.config.get_text_config().num_hidden_layers)
        self.hidden_size = int(loaded.config.get_text_config().hidden_size)

    @torch.no_grad()
    def read(self, rows: Sequence[Row], layers: Sequence[int] = ()) -> TeacherOutputs:
        """Run the teacher on the rows of a pass; `layers` are 1-based."""
        teacher_rows = [row.teacher_rows[self._number] for row in rows]
        named = [Row(str(index), row.ids, row.num_prompt) for index, row in enumerate(teacher_rows)]
        positions = [_predicting(row, row.teacher_rows[self._number].positions) for row in rows]
        states_by_row: list[list[torch.Tensor]] = [[] for _ in rows]
        for batch in self._split(named, capacity(self._max_length)):
            moved = batch.to(self._device)
            out = self._model.base_model(
                input_ids=moved.ids,
                use_cache=False,
                output_hidden_states=bool(layers),
                **moved.model_inputs,
            )
            outputs = [out.last_hidden_state, *(out.hidden_states[layer] for layer in layers)]
            flat = [states.flatten(0, 1) for states in outputs]  # (tokens of the pass, H)
            for row, start in zip(batch.rows, batch.starts, strict=True):
                indices = torch.from_numpy(positions[int(row.id)].clip(min=0) + start).to(
                    self._device
                )
                states_by_row[int(row.id)] = [states[indices] for states in flat]
        states, *others = (torch.cat(parts) for parts in zip(*states_by_row, strict=True))
        labelled = torch.from_numpy(np.concatenate(positions) >= 0).to(self._device)
        return TeacherOutputs(labelled, states, tuple(others))

    def targets(
        self, outputs: TeacherOutputs, counterparts: Ids, num_embeddings: int
    ) -> DenseTargets:
        """The teacher's distribution over the tokens that a student with `num_embeddings` embeddings has too."""
        ours = counterparts[: self._head.num_embeddings]
        shared = np.flatnonzero((ours >= 0) & (ours < num_embeddings))
        tokens: tuple[torch.Tensor, torch.Tensor] | int = len(shared)
        if not np.array_equal(ours[shared], np.arange(len(shared))) or shared[-1] >= len(shared):
            pair = (torch.from_numpy(ids).to(self._device) for ids in (shared, ours[shared]))
            tokens = (next(pair), next(pair))
        return DenseTargets(outputs.states, outputs.labelled, self._head, tokens)


def _predicting(row: Row, positions: bytes) -> Ids:
    """For each supervised token with a predecessor, the index of the teacher's state that predicts it, or -1."""
    places = np.frombuffer(positions, POSITION).astype(np.int64)
    places = places[1:] if row.num_prompt == 0 else places
    return np.where(places > 0, places - 1, -1)


def weight_bytes(teachers: Sequence[Model], device: torch.device, dtype: str) -> int:
    """The memory of the teachers' weights in bytes."""
    size = 2 if _weight_type(device, dtype) == torch.bfloat16 else 4
    return size * sum(count_weights(teacher.weights_folder) for teacher in teachers)


def _weight_type(device: torch.device, dtype: str) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" and dtype == "bf16" else torch.float32


def check_memory(
    teachers: Sequence[Model], num_trained: int, device: torch.device, dtype: str
) -> None:
    """Raise UsageError if the teachers do not fit beside gradients and optimizer of `num_trained` weights.

    Activations are not counted, so a run may still run out of memory.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    needed = weight_bytes(teachers, device, dtype)
    student = 3 * 4 * num_trained  # gradient and two moments, fp32
    if needed + student > free:
        names = ", ".join(teacher.name for teacher in teachers)
        raise UsageError(
            f"--teacher {names}: the weights take {needed / GB:,.1f} GB, gradients and optimizer of the student "
            f"{student / GB:,.1f} GB, and {free / GB:,.1f} GB are free on {device}: give a smaller teacher, or "
            "store its labels with `distill label` and train without --teacher"
        )

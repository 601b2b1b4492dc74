"""The distillation loss of a step: soft labels, stored or of live teachers, and hidden states.

The loss of a step is

    sum over supervised tokens of (1 - w) hard + w soft   (hard alone where a token has no soft label)
      + feature weight x feature, the mean over the pairs of layers                     / supervised tokens
      + relation weight x relation                                                      / rows

With several teachers, each term is the mean weighted by --teacher-weight. Layers of different widths are compared through
a learned projection, one for each pair of layers. The states of a run contain the projections; the checkpoint does not.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from distillpipe.base.training_options import Distillation, TrainingOptions
from distillpipe.models import loading
from distillpipe.models.chat import load_chat
from distillpipe.models.lookup import Model
from distillpipe.training.distillation import layer_pairs, scheduled_value
from distillpipe.training.losses.feature_losses import feature_loss_sum, relation_loss_sum
from distillpipe.training.losses.soft_losses import LiveTargets, Mixture
from distillpipe.training.losses.token_losses import SoftLoss
from distillpipe.training.rows.packing import Pass
from distillpipe.training.rows.rows import IGNORED
from distillpipe.training.student_config import limits_of, student_config
from distillpipe.training.teachers.live_teacher import LiveTeacher, TeacherOutputs, check_memory
from distillpipe.training.teachers.soft_rows import LiveChat, SoftRows


class HiddenSums(NamedTuple):
    """Sums of a pass: divide `feature` by the supervised tokens, and `relation` by the rows, of the step."""

    feature: torch.Tensor
    relation: torch.Tensor


def soft_rows_of(student: Model, options: TrainingOptions, teachers: Sequence[Model]) -> SoftRows:
    """The reader of soft labels for this run. Raises UsageError for teachers of another vocabulary."""
    chat = load_chat(student.folder, student.name, options.chat_template, options.template)
    live = [
        LiveChat(
            teacher.name,
            load_chat(teacher.tokenizer_folder, teacher.name),
            limits_of(loading.load_config(teacher.weights_folder, teacher.name)).num_positions,
        )
        for teacher in teachers
    ]
    return SoftRows(chat, limits_of(student_config(student, options)).vocabulary_size, live)


class DistillationLoss:
    """The losses that compare a student with its teachers."""

    def __init__(
        self,
        student: Model,
        model: Any,
        teachers: Sequence[Model],
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        """`model` is the loaded student. Raises UsageError if a teacher does not match it or does not fit into memory."""
        assert options.distillation is not None
        self.options: Distillation = options.distillation
        self._rows = soft_rows_of(student, options, teachers)
        config = model.config.get_text_config()
        self._num_embeddings = int(config.vocab_size)
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        if teachers:
            check_memory(teachers, trained, device, options.dtype)
        self._teachers = [
            LiveTeacher(teacher, number, device, options.dtype, options.max_length)
            for number, teacher in enumerate(teachers)
        ]
        weights = self.options.teacher_weight or (1.0,) * len(teachers)
        self._weights = tuple(weight / sum(weights) for weight in weights)
        self._pairs: list[list[tuple[int, int]]] = [[] for _ in self._teachers]
        if self.options.feature_weight:
            requested, layers = self.options.feature_layers, config.num_hidden_layers
            self._pairs = [
                layer_pairs(requested, layers, teacher.num_layers) for teacher in self._teachers
            ]
        self.projections = torch.nn.ModuleList(
            torch.nn.ModuleList(_projection(config.hidden_size, teacher.hidden_size) for _ in pairs)
            for teacher, pairs in zip(self._teachers, self._pairs, strict=True)
        ).to(device)

    @property
    def compares_layers(self) -> bool:
        """Whether the loss needs hidden states of the student's inner layers."""
        return bool(self.options.feature_weight)

    def mixture(self, done: int, total: int, measured: Sequence[float | None] = ()) -> Mixture:
        """The mixture of the step after `done` of `total` steps; the last step has the end values.

        `measured`: the held-out losses so far, null for a measurement that did not happen.
        """
        held_out = [loss for loss in measured if loss is not None]
        progress = 1.0 if self.options.kd_adaptive is None else held_out_progress(held_out)
        share = done / (total - 1) if total > 1 else 0.0
        options = self.options
        weight = scheduled_value(
            options.kd_schedule, options.kd_weight, options.kd_weight_end, share
        )
        temperature = scheduled_value(
            options.kd_schedule, options.kd_temperature, options.kd_temperature_end, share
        )
        return Mixture(weight * progress, options.kd_divergence, options.kd_beta, temperature)

    def read(self, batch: Pass) -> list[TeacherOutputs]:
        """The outputs of the live teachers at the supervised tokens of a pass."""
        layers = ([theirs for _, theirs in pairs] for pairs in self._pairs)
        return [
            teacher.read(batch.rows, teacher_layers)
            for teacher, teacher_layers in zip(self._teachers, layers, strict=True)
        ]

    def soft(self, batch: Pass, outputs: list[TeacherOutputs], mixture: Mixture) -> SoftLoss | None:
        """The soft targets of a pass; None if its rows have none or their weight is 0."""
        if not (self.options.kd_weight or self.options.kd_weight_end):
            return None
        if outputs:
            dense = tuple(
                teacher.targets(theirs, same, self._num_embeddings)
                for teacher, theirs, same in zip(
                    self._teachers, outputs, self._rows.live_counterparts, strict=True
                )
            )
            return SoftLoss(LiveTargets(dense, self._weights), mixture)
        targets = self._rows.targets(batch.rows)
        return None if targets is None else SoftLoss(targets.to(batch.ids.device), mixture)

    def hidden(self, batch: Pass, hidden: Any, targets: "PassTargets") -> HiddenSums:
        """The losses on hidden states; `hidden` is the output of the student's transformer."""
        zero = hidden.last_hidden_state.sum() * 0.0
        feature, relation = zero, zero
        supervised = batch.labels[:, 1:] != IGNORED
        for number, theirs in enumerate(targets.outputs):
            weight = self._weights[number]
            pairs = self._pairs[number]
            projections: Any = self.projections[number]
            for (layer, _), projection, states in zip(
                pairs, projections, theirs.layers, strict=True
            ):
                ours = projection(hidden.hidden_states[layer][:, :-1][supervised])
                loss = feature_loss_sum(ours, states, theirs.labelled, self.options.feature_loss)
                feature = feature + weight * loss / len(pairs)
            if self.options.relation_weight:
                ours = hidden.last_hidden_state[:, :-1][supervised]
                loss = relation_loss_sum(ours, theirs.states, theirs.labelled, targets.rows)
                relation = relation + weight * loss
        return HiddenSums(feature, relation)


def _projection(ours: int, theirs: int) -> torch.nn.Module:
    """A map from the student's to the teacher's hidden size; its initial weights follow from the run's seed."""
    return torch.nn.Identity() if ours == theirs else torch.nn.Linear(ours, theirs, bias=False)


class StepDistillation(NamedTuple):
    """The distillation loss of one step."""

    loss: DistillationLoss
    mixture: Mixture
    tokens_a_row: float
    "supervised tokens a row: the relation loss is a mean over rows, all other losses over tokens"

    def targets(self, batch: Pass) -> "PassTargets":
        """The teachers' targets for a pass."""
        outputs = self.loss.read(batch)
        rows = [(row.id, row.num_supervised - (row.num_prompt == 0)) for row in batch.rows]
        return PassTargets(self, outputs, self.loss.soft(batch, outputs, self.mixture), rows)

    def weighted(self, hidden: HiddenSums) -> torch.Tensor:
        """The weighted feature and relation loss, to add to the sum over tokens."""
        options = self.loss.options
        relation = options.relation_weight * self.tokens_a_row * hidden.relation
        return options.feature_weight * hidden.feature + relation

    def line(self, sums: Sequence[float], num_supervised: int) -> dict[str, float | None]:
        """The fields of losses.jsonl; `sums`: hard, soft, feature, relation, and the number of soft losses."""
        hard, soft, feature, relation, num_labelled = sums
        num_rows = num_supervised / self.tokens_a_row
        options = self.loss.options
        return {
            "hard_loss": hard / num_supervised,
            "soft_loss": soft / num_labelled if num_labelled else None,
            "kd_weight": self.mixture.weight,
            "kd_temperature": self.mixture.temperature,
            "feature_loss": feature / num_supervised if options.feature_weight else None,
            "relation_loss": relation / num_rows if options.relation_weight else None,
        }


class PassTargets(msgspec.Struct, frozen=True):
    """The teachers' targets for a pass; not a tuple, because DDP and FSDP would move and cast its parts."""

    step: StepDistillation
    outputs: list[TeacherOutputs]
    "of each live teacher"
    soft: SoftLoss | None
    rows: list[tuple[str, int]]
    "id and number of supervised tokens of each row"


def held_out_progress(losses: Sequence[float]) -> float:
    """The last held-out loss as a share of the first, 0 to 1; 1 before the second measurement.

    With --kd-adaptive the weight of the soft loss is multiplied by it: the more the student has learned, the more the
    text itself counts. A loss above the first one does not raise the weight.
    """
    if not losses or losses[0] <= 0:  # nothing measured, or nothing to learn
        return 1.0
    return float(np.clip(losses[-1] / losses[0], 0.0, 1.0))

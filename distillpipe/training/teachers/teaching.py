"""What a student learns of teachers beside their text: soft labels, stored or live, and hidden states.

The loss of a step is

    sum over supervised tokens of (1 - w) hard + w soft   (hard alone where a token has no soft label)
      + feature weight x feature, the mean over the pairs of layers                     / supervised tokens
      + relation weight x relation                                                      / rows

with several teachers each term the mean by their weights. A learnt projection, one for each pair of layers of
different widths, is trained along and lies in the states, not in the checkpoint.
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
from distillpipe.training.distillation import layer_pairs, scheduled
from distillpipe.training.losses.feature_losses import feature_loss_sum, relation_loss_sum
from distillpipe.training.losses.soft_losses import LiveTargets, Mixture
from distillpipe.training.losses.token_losses import Soft
from distillpipe.training.rows.packing import Pass
from distillpipe.training.rows.rows import IGNORED
from distillpipe.training.student_config import limits_of, student_config
from distillpipe.training.teachers.live_teacher import LiveTeacher, Seen, check_memory
from distillpipe.training.teachers.soft_rows import LiveChat, SoftRows


class HiddenSums(NamedTuple):
    """Of a pass; to be divided by the supervised tokens and by the rows of the step."""

    feature: torch.Tensor
    relation: torch.Tensor


def soft_rows_of(student: Model, options: TrainingOptions, teachers: Sequence[Model]) -> SoftRows:
    """What finds the soft labels of rows; a UsageError for teachers of another vocabulary."""
    chat = load_chat(student.folder, student.name, options.chat_template)
    live = [
        LiveChat(
            one.name,
            load_chat(one.tokenizer_folder, one.name),
            limits_of(loading.load_config(one.weights_folder, one.name)).num_positions,
        )
        for one in teachers
    ]
    return SoftRows(chat, limits_of(student_config(student, options)).vocabulary_size, live)


class Teaching:
    """All that is learnt of teachers, for one student in training."""

    def __init__(
        self,
        student: Model,
        model: Any,
        teachers: Sequence[Model],
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        """`model` is the student, loaded. Raises UsageError where a teacher does not fit, or into memory."""
        assert options.distillation is not None
        self.options: Distillation = options.distillation
        self._rows = soft_rows_of(student, options, teachers)
        config = model.config.get_text_config()
        self._num_embeddings = int(config.vocab_size)
        trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
        if teachers:
            check_memory(teachers, trained, device, options.dtype)
        self._teachers = [
            LiveTeacher(one, number, device, options.dtype, options.max_length)
            for number, one in enumerate(teachers)
        ]
        weights = self.options.teacher_weight or (1.0,) * len(teachers)
        self._weights = tuple(weight / sum(weights) for weight in weights)
        self._pairs: list[list[tuple[int, int]]] = [[] for _ in self._teachers]
        if self.options.feature_weight:
            given, layers = self.options.feature_layers, config.num_hidden_layers
            self._pairs = [layer_pairs(given, layers, one.num_layers) for one in self._teachers]
        self.projections = torch.nn.ModuleList(
            torch.nn.ModuleList(_projection(config.hidden_size, one.hidden_size) for _ in pairs)
            for one, pairs in zip(self._teachers, self._pairs, strict=True)
        ).to(device)

    @property
    def wants_layers(self) -> bool:
        """Whether the student's layers are compared, and not its last states alone."""
        return bool(self.options.feature_weight)

    def mixture(self, done: int, total: int, measured: Sequence[float | None] = ()) -> Mixture:
        """For the step after `done` of `total`: the last one has the end values.

        `measured` are the held-out losses so far, null where none was measured.
        """
        held_out = [loss for loss in measured if loss is not None]
        progress = 1.0 if self.options.kd_adaptive is None else held_out_progress(held_out)
        share = done / (total - 1) if total > 1 else 0.0
        given = self.options
        weight = scheduled(given.kd_schedule, given.kd_weight, given.kd_weight_end, share)
        temperature = scheduled(
            given.kd_schedule, given.kd_temperature, given.kd_temperature_end, share
        )
        return Mixture(weight * progress, given.kd_divergence, given.kd_beta, temperature)

    def see(self, one: Pass) -> list[Seen]:
        """What the live teachers have at the supervised tokens of a pass."""
        layers = ([theirs for _, theirs in pairs] for pairs in self._pairs)
        return [
            teacher.see(one.rows, wanted)
            for teacher, wanted in zip(self._teachers, layers, strict=True)
        ]

    def soft(self, one: Pass, seen: list[Seen], mixture: Mixture) -> Soft | None:
        """The soft labels of a pass; None where its rows have none, or they are not learnt from."""
        if not (self.options.kd_weight or self.options.kd_weight_end):
            return None
        if seen:
            known = self._rows.live_counterparts
            dense = tuple(
                teacher.targets(theirs, same, self._num_embeddings)
                for teacher, theirs, same in zip(self._teachers, seen, known, strict=True)
            )
            return Soft(LiveTargets(dense, self._weights), mixture)
        targets = self._rows.targets(one.rows)
        return None if targets is None else Soft(targets.to(one.ids.device), mixture)

    def hidden(self, one: Pass, hidden: Any, look: "Look") -> HiddenSums:
        """The losses on the student's hidden states, `hidden` being what its transformer returned."""
        zero = hidden.last_hidden_state.sum() * 0.0
        feature, relation = zero, zero
        supervised = one.labels[:, 1:] != IGNORED
        for number, theirs in enumerate(look.seen):
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
                loss = relation_loss_sum(ours, theirs.states, theirs.labelled, look.rows)
                relation = relation + weight * loss
        return HiddenSums(feature, relation)


def _projection(ours: int, theirs: int) -> torch.nn.Module:
    """Of the student's states into the teacher's width; drawn from the run's seed, so a run can be repeated."""
    return torch.nn.Identity() if ours == theirs else torch.nn.Linear(ours, theirs, bias=False)


class Lesson(NamedTuple):
    """What one step learns of teachers."""

    teaching: Teaching
    mixture: Mixture
    tokens_a_row: float
    "supervised ones: the relation is a mean over rows, and all else over tokens"

    def look(self, one: Pass) -> "Look":
        """What teachers have at the tokens of a pass."""
        seen = self.teaching.see(one)
        rows = [(row.id, row.num_supervised - (row.num_prompt == 0)) for row in one.rows]
        return Look(self, seen, self.teaching.soft(one, seen, self.mixture), rows)

    def weighted(self, hidden: HiddenSums) -> torch.Tensor:
        """What is added to the sum over tokens."""
        given = self.teaching.options
        relation = given.relation_weight * self.tokens_a_row * hidden.relation
        return given.feature_weight * hidden.feature + relation

    def line(self, sums: Sequence[float], num_supervised: int) -> dict[str, float | None]:
        """What losses.jsonl says; `sums`: hard, soft, feature, relation, and the number of soft losses."""
        hard, soft, feature, relation, num_labelled = sums
        num_rows = num_supervised / self.tokens_a_row
        given = self.teaching.options
        return {
            "hard_loss": hard / num_supervised,
            "soft_loss": soft / num_labelled if num_labelled else None,
            "kd_weight": self.mixture.weight,
            "kd_temperature": self.mixture.temperature,
            "feature_loss": feature / num_supervised if given.feature_weight else None,
            "relation_loss": relation / num_rows if given.relation_weight else None,
        }


class Look(msgspec.Struct, frozen=True):
    """What teachers have at the tokens of a pass; no tuple, whose parts DDP and FSDP would move and round."""

    lesson: Lesson
    seen: list[Seen]
    "of each live teacher"
    soft: Soft | None
    rows: list[tuple[str, int]]
    "names of the rows and how many supervised tokens each has"


def held_out_progress(losses: Sequence[float]) -> float:
    """How much of the held-out loss is left, 0 to 1, from what was measured so far; 1 before the second time.

    The weight of the soft loss follows it (--kd-adaptive): the more the student has learnt, the more the
    text itself counts. A loss that rises again above the first leaves the weight as it was given.
    """
    if not losses or losses[0] <= 0:  # nothing was left to learn from the start
        return 1.0
    return float(np.clip(losses[-1] / losses[0], 0.0, 1.0))

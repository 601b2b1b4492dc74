"""The student's config: context length, `--rope-theta`, and the default learning rate.

Rotary embeddings rotate a query or key at position p by p * theta ** (-2i / d) in its i-th pair of dimensions. A larger
theta rotates more slowly, so that distant positions look like positions that the student knows. open-r1 trained
Qwen2.5-Math (4,096 positions, theta 10,000) on 32,768 positions with theta 300,000.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.training_options import TrainingOptions
from distillpipe.models import loading, lookup
from distillpipe.models.lookup import Model
from distillpipe.training.distillation import layer_pairs

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def student_config(student: Model, options: TrainingOptions) -> "PretrainedConfig":
    """The config that the student is trained and saved with: its own, changed by `--rope-theta`.

    `--rope-theta` raises the number of positions to `--max-length`. Raises UsageError if the option does not
    apply to the student or the method.
    """
    config = loading.load_config(student.folder, f"--student {student.name}")
    if options.rope_theta is not None:
        _stretch(config.get_text_config(), student.name, options)
    return config


def _stretch(config: Any, name: str, options: TrainingOptions) -> None:
    theta = options.rope_theta
    if options.method != "full":
        raise UsageError(
            "--rope-theta changes the model's config, which an adapter does not contain: "
            "give --method full, or leave --rope-theta out"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "default":
        raise UsageError(
            f"--rope-theta: {name} has {rope.get('rope_type', 'no')} rotary embeddings, and only plain ones "
            "(rope_type default) can be extended: leave --rope-theta out"
        )
    if theta is None or theta <= rope["rope_theta"]:
        raise UsageError(
            f"--rope-theta {theta:,.0f}: {name} has {rope['rope_theta']:,.0f}, and a longer context "
            "needs a larger value"
        )
    config.rope_parameters = {**rope, "rope_theta": theta}
    config.max_position_embeddings = max(config.max_position_embeddings, options.max_length)


def check_layers(student: Model, teachers: Sequence[Model], options: TrainingOptions) -> None:
    """Raise UsageError for a layer in --feature-layers that the student or a teacher does not have."""
    if options.distillation is None or not options.distillation.feature_layers:
        return
    ours = student_config(student, options).get_text_config()
    for teacher in teachers:
        theirs = loading.load_config(teacher.weights_folder, teacher.name).get_text_config()
        layer_pairs(
            options.distillation.feature_layers, ours.num_hidden_layers, theirs.num_hidden_layers
        )


class StudentLimits(msgspec.Struct, frozen=True):
    """Context length and vocabulary of a student."""

    num_positions: int | None
    "the longest row it was made for; null if its config does not say"
    vocabulary_size: int
    "rows of the embedding table, padding included"


def limits_of(config: "PretrainedConfig") -> StudentLimits:
    """The limits in a model's config."""
    text = config.get_text_config()
    return StudentLimits(getattr(text, "max_position_embeddings", None), int(text.vocab_size))


# The default learning rate.
#
# Full training: 1e-5, as s1 (simplescaling/s1, train/sft.sh). Adapters need about ten times the rate of full
# training, whatever their rank (LoRA Without Regret, Schulman et al. 2025). Its dependence on the width of the student
# was fitted for Qwen and Llama: 5e-5 * 10 * (2000 / width) ** p, p = 0.0775 and 0.781
# (thinking-machines-lab/tinker-cookbook, hyperparam_utils.get_lr). Other families use Llama's exponent, which gives
# the lower rate from a width of 2,000 on.
FULL = 1e-5
ADAPTER, WIDTH = 5e-4, 2000
EXPONENTS = {"qwen": 0.0775, "llama": 0.781}  # by the prefix of the model type
OTHERS = "llama"


class LearningRate(NamedTuple):
    """A default learning rate and its source."""

    rate: float
    why: str


def default_learning_rate(student: Model, options: TrainingOptions) -> LearningRate:
    """The default learning rate of a student, to two digits. Raises UsageError if its config has no width."""
    if options.method == "full":
        return LearningRate(FULL, "that of s1")
    width, kind = lookup.width_and_kind(student)
    if width is None:
        raise UsageError(
            f"--student {student.name}: config.json has no hidden_size, so there is no default learning rate: give "
            "--learning-rate"
        )
    family = next((name for name in EXPONENTS if kind.startswith(name)), OTHERS)
    rate = ADAPTER * (WIDTH / width) ** EXPONENTS[family]
    why = f"tinker-cookbook's rule for {family} at a width of {width:,}"
    return LearningRate(float(f"{rate:.2g}"), why)

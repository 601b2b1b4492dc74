"""How many tokens a student can take, and how `--rope-theta` lets it take more.

Rotary embeddings turn a query or key at position p by p * theta ** (-2i / d) in its i-th pair of dimensions: a
larger theta turns slower, so that far positions look like those that the student knows. open-r1 trained
Qwen2.5-Math (4,096 positions, theta 10,000) on 32,768 positions with 300,000.
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
    """The config that the student is trained with and saved with: its own, but for `--rope-theta`.

    With that option it has as many positions as `--max-length`, if not more. Raises UsageError for a student
    or a method that the option is not for.
    """
    config = loading.load_config(student.folder, f"--student {student.name}")
    if options.rope_theta is not None:
        _stretch(config.get_text_config(), student.name, options)
    return config


def _stretch(config: Any, name: str, options: TrainingOptions) -> None:
    theta = options.rope_theta
    if options.method != "full":
        raise UsageError(
            "--rope-theta changes the model's config, which an adapter does not carry: "
            "give --method full, or leave it out"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") != "default":
        raise UsageError(
            f"--rope-theta: {name} has {rope.get('rope_type', 'no')} rotary embeddings, only plain ones "
            "(rope_type default) are stretched by their base: leave it out"
        )
    if theta is None or theta <= rope["rope_theta"]:
        raise UsageError(
            f"--rope-theta {theta:,.0f}: {name} has {rope['rope_theta']:,.0f}, and a longer context "
            "needs a larger one"
        )
    config.rope_parameters = {**rope, "rope_theta": theta}
    config.max_position_embeddings = max(config.max_position_embeddings, options.max_length)


def check_layers(student: Model, teachers: Sequence[Model], options: TrainingOptions) -> None:
    """Raise UsageError for --feature-layers that the student or one of the teachers does not have."""
    if options.distillation is None or not options.distillation.feature_layers:
        return
    ours = student_config(student, options).get_text_config()
    for teacher in teachers:
        theirs = loading.load_config(teacher.weights_folder, teacher.name).get_text_config()
        layer_pairs(
            options.distillation.feature_layers, ours.num_hidden_layers, theirs.num_hidden_layers
        )


class Limits(msgspec.Struct, frozen=True):
    """What a student can take."""

    num_positions: int | None
    "the longest row it was made for; null where its config names none"
    vocabulary_size: int
    "ids that it has embeddings for, padding included"


def limits_of(config: "PretrainedConfig") -> Limits:
    """The limits that a model's config names."""
    text = config.get_text_config()
    return Limits(getattr(text, "max_position_embeddings", None), int(text.vocab_size))


# The learning rate where none is given.
#
# Full training: 1e-5, that of s1 (simplescaling/s1, train/sft.sh). Adapters take about ten times the rate of full training, whatever
# their rank (LoRA Without Regret, Schulman and others, 2025); how it falls with the width of the student was fitted for Qwen
# and Llama: 5e-5 * 10 * (2000 / width) ** p, p = 0.0775 and 0.781 (thinking-machines-lab/tinker-cookbook,
# hyperparam_utils.get_lr). Other families get that of Llama, which is the lower one from a width of 2,000 on.


FULL = 1e-5
ADAPTER, WIDTH = 5e-4, 2000
EXPONENTS = {"qwen": 0.0775, "llama": 0.781}  # by how the model type begins
OTHERS = "llama"


class Derived(NamedTuple):
    """A learning rate, and where it comes from."""

    rate: float
    why: str


def default_learning_rate(student: Model, options: TrainingOptions) -> Derived:
    """The learning rate for a student, to two digits. Raises UsageError where its config names no width."""
    if options.method == "full":
        return Derived(FULL, "that of s1")
    width, kind = lookup.width_and_kind(student)
    if width is None:
        raise UsageError(
            f"--student {student.name}: its config.json names no hidden_size to derive a rate from: give "
            "--learning-rate"
        )
    family = next((name for name in EXPONENTS if kind.startswith(name)), OTHERS)
    rate = ADAPTER * (WIDTH / width) ** EXPONENTS[family]
    why = f"tinker-cookbook's rule for {family} at a width of {width:,}"
    return Derived(float(f"{rate:.2g}"), why)

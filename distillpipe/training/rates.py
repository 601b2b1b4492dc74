"""The learning rate where none is given.

Full training: 1e-5, that of s1 (simplescaling/s1, train/sft.sh). Adapters take about ten times the rate of full training, whatever
their rank (LoRA Without Regret, Schulman and others, 2025); how it falls with the width of the student was fitted for Qwen
and Llama: 5e-5 * 10 * (2000 / width) ** p, p = 0.0775 and 0.781 (thinking-machines-lab/tinker-cookbook,
hyperparam_utils.get_lr). Other families get that of Llama, which is the lower one from a width of 2,000 on.
"""

from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.options import TrainingOptions
from distillpipe.models import lookup
from distillpipe.models.lookup import Model

FULL = 1e-5
ADAPTER, WIDTH = 5e-4, 2000
EXPONENTS = {"qwen": 0.0775, "llama": 0.781}  # by how the model type begins
OTHERS = "llama"


class Derived(NamedTuple):
    """A learning rate, and where it comes from."""

    rate: float
    why: str


def derive(student: Model, options: TrainingOptions) -> Derived:
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

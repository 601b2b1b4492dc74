"""The options of `sft`."""

import math
from typing import Annotated, ClassVar, Literal

from distillpipe.base.option import Option, Options
from distillpipe.base.options import RUN, ChatTemplate, Seed, TemplateOptions

Divergence = Literal["forward", "reverse", "js"]
Schedule = Literal["constant", "linear", "cosine"]
FeatureLoss = Literal["mse", "cosine"]
Sharding = Literal["ddp", "fsdp"]

METHOD, OPTIMIZATION, SOFT_LABELS = "Method", "Optimization", "Soft labels"


def _weights(weights: list[float] | None) -> list[float] | None:
    for weight in weights or []:
        if not 0 < weight < math.inf:
            raise ValueError(f"a weight of {weight:g}: give a number above 0")
    return weights


def _share(share: float) -> float:
    if not 0 <= share < 1:
        raise ValueError(f"{share:g}: give a share of 0 or more, and less than 1")
    return share


class Distillation(Options, frozen=True, kw_only=True):
    """How `sft` learns from a teacher's distribution in addition to the text; see `training.losses`."""

    ADDED_LATER: ClassVar = frozenset(
        {
            "kd_weight_end", "kd_temperature_end", "kd_adaptive", "teacher_weight",
            "feature_layers", "feature_loss",
        }
    )  # fmt: skip
    kd_weight: Annotated[
        float,
        Option(
            "Weight w of the soft loss at tokens with soft labels; the hard loss has the weight 1 - w.",
            SOFT_LABELS,
            min=0,
            max=1,
        ),
    ] = 0.0
    kd_weight_end: Annotated[
        float | None,
        Option("Weight w at the last step (see --kd-schedule).", SOFT_LABELS, min=0, max=1),
    ] = None
    kd_divergence: Annotated[
        Divergence,
        Option(
            "Soft loss. forward: KL(teacher || student). reverse: KL(student || teacher). js: generalized "
            "Jensen-Shannon divergence (see --kd-beta).",
            SOFT_LABELS,
        ),
    ] = "forward"
    kd_beta: Annotated[
        float, Option("Weight of the teacher in the mixture of js.", SOFT_LABELS)
    ] = 0.5
    kd_temperature: Annotated[
        float,
        Option(
            "Temperature of both distributions; the loss is multiplied by its square. Unless it is 1, stored "
            "labels are compared among their top-k tokens only.",
            SOFT_LABELS,
        ),
    ] = 1.0
    kd_temperature_end: Annotated[
        float | None, Option("Temperature at the last step (see --kd-schedule).", SOFT_LABELS)
    ] = None
    kd_schedule: Annotated[
        Schedule,
        Option(
            "Schedule from the first to the last values of weight and temperature.", SOFT_LABELS
        ),
    ] = "linear"
    kd_adaptive: Annotated[
        int | None,
        Option(
            "Multiply the weight by held-out loss / first held-out loss, measured every --save-every steps "
            "(needs --eval-split).",
            SOFT_LABELS,
            kind=bool,
        ),
    ] = None
    "steps between the measurements of the held-out loss; None: the weight is not adapted"
    teacher_weight: Annotated[
        tuple[float, ...], Option("Weight of each --teacher, in the same order.", SOFT_LABELS)
    ] = ()
    feature_weight: Annotated[
        float,
        Option(
            "Weight of the loss between the hidden states of student and --teacher.",
            SOFT_LABELS,
            min=0,
        ),
    ] = 0.0
    feature_layers: Annotated[
        tuple[str, ...],
        Option(
            "Pair of layers to compare, STUDENT:TEACHER; 1 is the first layer. Default: every student layer with "
            "evenly spaced teacher layers. Fewer pairs need less memory.",
            SOFT_LABELS,
        ),
    ] = ()
    feature_loss: Annotated[
        FeatureLoss,
        Option(
            "Loss between hidden states. mse: mean squared error. cosine: 1 - cosine similarity.",
            SOFT_LABELS,
        ),
    ] = "mse"
    relation_weight: Annotated[
        float,
        Option(
            "Weight of the loss between student and --teacher in the similarities of tokens and of rows.",
            SOFT_LABELS,
            min=0,
        ),
    ] = 0.0


class TrainingOptions(Options, frozen=True, kw_only=True):
    """How `sft` trains: all fields are part of the fingerprint. The defaults are those of s1."""

    ADDED_LATER: ClassVar = frozenset(
        {
            "over_length", "rope_theta", "gradient_checkpointing", "packing", "weight",
            "adam_beta1", "adam_beta2", "min_learning_rate", "train_on_prompt", "distillation",
            "template",
        }
    )  # fmt: skip
    method: Annotated[
        Literal["full", "lora", "qlora"],
        Option(
            "full: train all weights. lora: train an adapter. qlora: an adapter on 4-bit weights."
        ),
    ] = "full"
    rank: Annotated[int, Option("LoRA rank.", METHOD, min=1)] = 32
    alpha: Annotated[
        int, Option("LoRA alpha: the adapter is scaled by alpha / rank.", METHOD, min=1)
    ] = 32
    learning_rate: Annotated[
        float | None,
        Option(
            "Peak learning rate. Default: 1e-5, for adapters a value that depends on the student's hidden size.",
            min=0,
        ),
    ] = None
    "None: computed from the student before options are hashed, see `training.student_config`"
    scheduler: Annotated[
        Literal["cosine", "linear", "constant"],
        Option("Learning-rate schedule; it ends at --min-learning-rate.", OPTIMIZATION),
    ] = "cosine"
    warmup: Annotated[
        float,
        Option(
            "Warmup ratio: share of the steps with a rising learning rate.",
            OPTIMIZATION,
            min=0,
            max=1,
        ),
    ] = 0.05
    weight_decay: Annotated[float, Option("Weight decay of AdamW.", OPTIMIZATION, min=0)] = 1e-4
    max_grad_norm: Annotated[float, Option("Clip gradients to this norm.", OPTIMIZATION, min=0)] = (
        1.0
    )
    epochs: Annotated[int, Option("Passes over all traces.", min=1)] = 5
    max_steps: Annotated[int | None, Option("Stop after N steps.", OPTIMIZATION, min=1)] = None
    batch_size: Annotated[int, Option("Traces per optimizer step, over all processes.", min=1)] = 16
    max_length: Annotated[int, Option("Maximum tokens of a row, including the prompt.", min=1)] = (
        32768
    )
    over_length: Annotated[
        Literal["refuse", "drop", "cut"],
        Option("What to do with longer rows; a cut row also loses its end token.", OPTIMIZATION),
    ] = "refuse"
    rope_theta: Annotated[
        float | None,
        Option(
            "RoPE base (rope_theta), to train on rows longer than the student's context.",
            METHOD,
            min=1,
        ),
    ] = None
    dtype: Annotated[
        Literal["bf16", "fp32"],
        Option("Precision of the computation; trained weights are always fp32.", METHOD),
    ] = "bf16"
    gradient_checkpointing: Annotated[
        bool,
        Option(
            "Recompute activations in the backward pass: much less memory, about a third more time.",
            METHOD,
        ),
    ] = False
    chat_template: ChatTemplate = None
    template: TemplateOptions = TemplateOptions()
    seed: Seed = 0
    packing: Annotated[
        bool | None,
        Option(
            "Pack several rows into one sequence instead of padding. Default: if the model supports it.",
            METHOD,
        ),
    ] = None
    weight: Annotated[
        tuple[float, ...],
        Option(
            "How often each row of an input is used per epoch, such as 0.5 or 2; one value per input. Default: 1.",
            OPTIMIZATION,
            check=_weights,
        ),
    ] = ()
    eval_split: Annotated[
        float,
        Option(
            "Share of the problems that are held out to measure the loss.",
            OPTIMIZATION,
            check=_share,
        ),
    ] = 0.0
    adam_beta1: Annotated[
        float,
        Option("AdamW beta1: decay of the mean of gradients.", OPTIMIZATION, check=_share),
    ] = 0.9
    adam_beta2: Annotated[
        float,
        Option(
            "AdamW beta2: decay of the mean of squared gradients. s1 uses 0.95, transformers 0.999.",
            OPTIMIZATION,
            check=_share,
        ),
    ] = 0.95
    min_learning_rate: Annotated[
        float,
        Option(
            "Learning rate at the end of cosine and linear schedules (not a ratio).",
            OPTIMIZATION,
            min=0,
        ),
    ] = 0.0
    train_on_prompt: Annotated[
        bool,
        Option("Train on the prompt tokens too; they have no soft labels.", METHOD),
    ] = False
    distillation: Distillation | None = None
    "None: train on the text only"


class TrainingRun(Options, frozen=True):
    """How a training runs: not part of the fingerprint, except the identities of the teachers."""

    teacher: Annotated[
        tuple[str, ...],
        Option(
            "Model that is loaded beside the student. The student learns its full distribution instead of stored "
            "labels. Repeat the flag for several: their losses are averaged.",
            SOFT_LABELS,
        ),
    ] = ()
    merge: Annotated[
        bool, Option("Also write the model with the adapter merged: OUT/vN/merged.", METHOD)
    ] = False
    report_to: Annotated[
        tuple[str, ...], Option("Experiment tracker: tensorboard, wandb or trackio.", RUN)
    ] = ()
    num_processes: Annotated[
        int, Option("Processes that train together, one per GPU.", RUN, min=1)
    ] = 1
    sharding: Annotated[
        Sharding,
        Option("ddp: each process holds all weights. fsdp: each holds a share of them.", RUN),
    ] = "ddp"
    save_every: Annotated[
        int,
        Option(
            "Steps between checkpoints to resume from; the held-out loss is measured at each.",
            RUN,
            min=1,
        ),
    ] = 100

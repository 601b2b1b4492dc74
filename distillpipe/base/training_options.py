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
            raise ValueError(f"{weight:g} is no number of times: give one above 0")
    return weights


def _share(share: float) -> float:
    if not 0 <= share < 1:
        raise ValueError(f"{share:g} is no share: give 0 or more, and less than 1")
    return share


class Distillation(Options, frozen=True, kw_only=True):
    """What `sft` learns of a teacher's distribution, beside the text; see `training.losses`."""

    ADDED_LATER: ClassVar = frozenset(
        {
            "kd_weight_end", "kd_temperature_end", "kd_adaptive", "teacher_weight",
            "feature_layers", "feature_loss",
        }
    )  # fmt: skip
    kd_weight: Annotated[
        float,
        Option(
            "Weight w of the soft loss at a token with a soft label; the hard loss has 1 - w.",
            SOFT_LABELS,
            min=0,
            max=1,
        ),
    ] = 0.0
    kd_weight_end: Annotated[
        float | None, Option("Value of --kd-weight in the last step.", SOFT_LABELS, min=0, max=1)
    ] = None
    kd_divergence: Annotated[
        Divergence,
        Option(
            "forward: KL(teacher || student), reverse: KL(student || teacher), js: both to a mixture.",
            SOFT_LABELS,
        ),
    ] = "forward"
    kd_beta: Annotated[float, Option("Share of the teacher in the mixture of js.", SOFT_LABELS)] = (
        0.5
    )
    kd_temperature: Annotated[
        float,
        Option(
            "Of both distributions; the loss is multiplied by its square. Other than 1, stored labels "
            "are compared among the top-k alone.",
            SOFT_LABELS,
        ),
    ] = 1.0
    kd_temperature_end: Annotated[
        float | None, Option("Value of --kd-temperature in the last step.", SOFT_LABELS)
    ] = None
    kd_schedule: Annotated[
        Schedule,
        Option("Schedule of weight and temperature to their end values.", SOFT_LABELS),
    ] = "linear"
    kd_adaptive: Annotated[
        int | None,
        Option(
            "Scale the weight by the held-out loss as a share of the first one (needs --eval-split; "
            "measured every --save-every steps).",
            SOFT_LABELS,
            given=bool,
        ),
    ] = None
    "steps between the measurements that the weight follows; None: it does not"
    teacher_weight: Annotated[
        tuple[float, ...], Option("Weight of each --teacher, in their order.", SOFT_LABELS)
    ] = ()
    feature_weight: Annotated[
        float,
        Option(
            "Weight of the distance of hidden states to those of a --teacher.", SOFT_LABELS, min=0
        ),
    ] = 0.0
    feature_layers: Annotated[
        tuple[str, ...],
        Option(
            "Layers that are compared, STUDENT:TEACHER, 1 is the first. Default: all of the student, "
            "evenly spaced over the teacher's (fewer take less memory).",
            SOFT_LABELS,
        ),
    ] = ()
    feature_loss: Annotated[
        FeatureLoss,
        Option("mse: mean squared difference, cosine: 1 - cosine similarity.", SOFT_LABELS),
    ] = "mse"
    relation_weight: Annotated[
        float,
        Option(
            "Weight of the distance of the similarities of tokens, and of rows, to those of a --teacher.",
            SOFT_LABELS,
            min=0,
        ),
    ] = 0.0


class TrainingOptions(Options, frozen=True, kw_only=True):
    """How `sft` trains; all of it is part of the fingerprint. The defaults are s1's."""

    ADDED_LATER: ClassVar = frozenset(
        {
            "over_length", "rope_theta", "gradient_checkpointing", "packing", "weight",
            "adam_beta1", "adam_beta2", "min_learning_rate", "train_on_prompt", "distillation",
            "template",
        }
    )  # fmt: skip
    method: Annotated[
        Literal["full", "lora", "qlora"],
        Option("Train all weights, an adapter, or an adapter on weights of 4 bits."),
    ] = "full"
    rank: Annotated[int, Option("LoRA rank.", METHOD, min=1)] = 32
    alpha: Annotated[
        int, Option("LoRA alpha: the adapter is scaled by alpha / rank.", METHOD, min=1)
    ] = 32
    learning_rate: Annotated[
        float | None,
        Option(
            "Peak learning rate. Default: 1e-5; for adapters it is derived from the student's width.",
            min=0,
        ),
    ] = None
    "None: derived from the student before anything is hashed, see `training.student_config`"
    scheduler: Annotated[
        Literal["cosine", "linear", "constant"],
        Option("Learning-rate schedule, to --min-learning-rate at the end.", OPTIMIZATION),
    ] = "cosine"
    warmup: Annotated[
        float, Option("Warmup ratio: share of the steps.", OPTIMIZATION, min=0, max=1)
    ] = 0.05
    weight_decay: Annotated[float, Option("Weight decay of AdamW.", OPTIMIZATION, min=0)] = 1e-4
    max_grad_norm: Annotated[
        float, Option("Gradients are clipped to this norm.", OPTIMIZATION, min=0)
    ] = 1.0
    epochs: Annotated[int, Option("Passes over all traces.", min=1)] = 5
    max_steps: Annotated[int | None, Option("Stop after N steps.", OPTIMIZATION, min=1)] = None
    batch_size: Annotated[int, Option("Traces per optimizer step.", min=1)] = 16
    max_length: Annotated[int, Option("Tokens of a row, prompt included.", min=1)] = 32768
    over_length: Annotated[
        Literal["refuse", "drop", "cut"],
        Option("What becomes of longer rows; a cut row loses its end token too.", OPTIMIZATION),
    ] = "refuse"
    rope_theta: Annotated[
        float | None,
        Option(
            "Base of the rotary embeddings, to train on rows longer than the student's context.",
            METHOD,
            min=1,
        ),
    ] = None
    dtype: Annotated[
        Literal["bf16", "fp32"],
        Option("Of the arithmetic; weights are trained in fp32.", METHOD),
    ] = "bf16"
    gradient_checkpointing: Annotated[
        bool,
        Option(
            "Recompute activations in the backward pass: much less memory, a third more time.",
            METHOD,
        ),
    ] = False
    chat_template: ChatTemplate = None
    template: TemplateOptions = TemplateOptions()
    seed: Seed = 0
    packing: Annotated[
        bool | None,
        Option(
            "Pack rows one behind the other instead of padding them. Default: where the model can.",
            METHOD,
        ),
    ] = None
    weight: Annotated[
        tuple[float, ...],
        Option(
            "How often a row of an input comes in an epoch, once for each input: 0.5, 2. Default: 1.",
            OPTIMIZATION,
            check=_weights,
        ),
    ] = ()
    eval_split: Annotated[
        float,
        Option(
            "Share of the problems to measure the loss on and never train on.",
            OPTIMIZATION,
            check=_share,
        ),
    ] = 0.0
    adam_beta1: Annotated[
        float,
        Option("Of AdamW: decay of the mean of gradients.", OPTIMIZATION, check=_share),
    ] = 0.9
    adam_beta2: Annotated[
        float,
        Option(
            "Of AdamW: decay of the mean of squared gradients; 0.95 is s1's, 0.999 transformers' default.",
            OPTIMIZATION,
            check=_share,
        ),
    ] = 0.95
    min_learning_rate: Annotated[
        float,
        Option(
            "Where cosine and linear end: a learning rate, not a share of one.", OPTIMIZATION, min=0
        ),
    ] = 0.0
    train_on_prompt: Annotated[
        bool,
        Option("Have a loss on the prompt too; its tokens have no soft labels.", METHOD),
    ] = False
    distillation: Distillation | None = None
    "None: the text alone is learnt"


class TrainingRun(Options, frozen=True):
    """How a training is run: no part of the fingerprint, but for the identities of the teachers."""

    teacher: Annotated[
        tuple[str, ...],
        Option(
            "A model that is loaded beside the student, and whose whole distribution is learnt from in "
            "place of stored labels; several: the mean of their losses.",
            SOFT_LABELS,
        ),
    ] = ()
    merge: Annotated[
        bool, Option("Write the merged model of an adapter too: OUT/vN/merged.", METHOD)
    ] = False
    report_to: Annotated[
        tuple[str, ...], Option("tensorboard, wandb or trackio: tracks every step.", RUN)
    ] = ()
    num_processes: Annotated[
        int, Option("Processes that train together, one for each GPU.", RUN, min=1)
    ] = 1
    sharding: Annotated[
        Sharding,
        Option("What each process holds: all weights, or its share of them.", RUN),
    ] = "ddp"
    save_every: Annotated[
        int,
        Option(
            "Steps between states to resume from; the held-out loss is measured there.", RUN, min=1
        ),
    ] = 100

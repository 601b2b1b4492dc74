"""`distill sft`."""

import math
from typing import Annotated, Literal

import msgspec
import typer

from distillpipe.base.options import Distillation, TrainingOptions
from distillpipe.cli import options as shared
from distillpipe.cli import teaching
from distillpipe.training import distillation
from distillpipe.training.trackers import TRACKERS

METHOD, SCHEDULE = "Method", "Optimization"


def _check_weights(weights: list[float] | None) -> list[float] | None:
    for weight in weights or []:
        if not 0 < weight < math.inf:
            raise typer.BadParameter(f"{weight:g} is no number of times: give one above 0")
    return weights


def _check_share(share: float) -> float:
    if not 0 <= share < 1:
        raise typer.BadParameter(f"{share:g} is no share: give 0 or more, and less than 1")
    return share


def _check_trackers(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if name not in TRACKERS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(TRACKERS)}")
    return names


def sft(
    ctx: typer.Context,
    traces: Annotated[
        list[str], typer.Argument(help="Datasets (PATH, PATH@v1) or .jsonl files of traces.")
    ],
    student: Annotated[
        str, shared.option(help="Model folder, checkpoint of ours, or ORG/NAME on the hub.")
    ],
    out: shared.Out,
    method: Annotated[
        Literal["full", "lora", "qlora"],
        shared.option(
            help="All weights, an adapter, or an adapter on weights of 4 bits.",
            rich_help_panel=METHOD,
        ),
    ] = "full",
    rank: Annotated[
        int, shared.option(min=1, help="Rank of the adapter.", rich_help_panel=METHOD)
    ] = 32,
    alpha: Annotated[
        int, shared.option(min=1, help="Scale of the adapter.", rich_help_panel=METHOD)
    ] = 32,
    learning_rate: Annotated[
        float | None,
        shared.option(
            min=0.0,
            help="Its peak; else 1e-5, and for adapters what suits the student's width.",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    scheduler: Annotated[
        Literal["cosine", "linear", "constant"],
        shared.option(
            help="Course of the learning rate, to --min-learning-rate at the end.",
            rich_help_panel=SCHEDULE,
        ),
    ] = "cosine",
    min_learning_rate: Annotated[
        float,
        shared.option(
            min=0.0,
            help="Where cosine and linear end: a learning rate, not a share of one.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.0,
    warmup: Annotated[
        float, shared.option(min=0.0, max=1.0, help="Share of the steps.", rich_help_panel=SCHEDULE)
    ] = 0.05,
    weight_decay: Annotated[
        float, shared.option(min=0.0, help="Of AdamW.", rich_help_panel=SCHEDULE)
    ] = 1e-4,
    adam_beta1: Annotated[
        float,
        shared.option(
            callback=_check_share,
            help="Of AdamW: decay of the mean of gradients.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.9,
    adam_beta2: Annotated[
        float,
        shared.option(
            callback=_check_share,
            help="Of AdamW: decay of the mean of squared gradients; 0.95 is s1's, 0.999 transformers' default.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.95,
    max_grad_norm: Annotated[
        float, shared.option(min=0.0, help="Gradients are clipped to it.", rich_help_panel=SCHEDULE)
    ] = 1.0,
    epochs: Annotated[
        int, shared.option(min=1, help="Passes over all traces.", rich_help_panel=SCHEDULE)
    ] = 5,
    max_steps: Annotated[
        int | None, shared.option(min=1, help="Stop after so many steps.", rich_help_panel=SCHEDULE)
    ] = None,
    weight: Annotated[
        list[float] | None,
        shared.option(
            callback=_check_weights,
            help="How often a row of an input comes an epoch, once for each input: 0.5, 2; else 1.",
            rich_help_panel=SCHEDULE,
        ),
    ] = None,
    eval_split: Annotated[
        float,
        shared.option(
            callback=_check_share,
            help="Share of the problems to measure the loss on and never train on.",
            rich_help_panel=SCHEDULE,
        ),
    ] = 0.0,
    batch_size: Annotated[
        int, shared.option(min=1, help="Traces per optimizer step.", rich_help_panel=SCHEDULE)
    ] = 16,
    max_length: Annotated[
        int,
        shared.option(min=1, help="Tokens of a row, prompt included.", rich_help_panel=SCHEDULE),
    ] = 32768,
    over_length: Annotated[
        Literal["refuse", "drop", "cut"],
        shared.option(
            help="What becomes of longer rows; a cut row loses its end token, too.",
            rich_help_panel=SCHEDULE,
        ),
    ] = "refuse",
    rope_theta: Annotated[
        float | None,
        shared.option(
            min=1.0,
            help="Base of the rotary embeddings, to train on rows longer than the student's context.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    dtype: Annotated[
        Literal["bf16", "fp32"],
        shared.option(
            help="Of the arithmetic; weights are trained in fp32.", rich_help_panel=METHOD
        ),
    ] = "bf16",
    gradient_checkpointing: Annotated[
        bool,
        shared.option(
            "--gradient-checkpointing",
            help="Recompute activations in the backward pass: much less memory, a third more time.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    packing: Annotated[
        bool | None,
        shared.option(
            "--packing/--no-packing",
            help="Rows one behind the other instead of padded; else where the model can.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    num_processes: Annotated[
        int,
        shared.option(
            min=1, help="Processes that train together, one a GPU.", rich_help_panel=shared.RUN
        ),
    ] = 1,
    sharding: Annotated[
        Literal["ddp", "fsdp"],
        shared.option(
            help="What each of them holds: all weights, or its share of them.",
            rich_help_panel=shared.RUN,
        ),
    ] = "ddp",
    report_to: Annotated[
        list[str] | None,
        shared.option(
            callback=_check_trackers,
            help="tensorboard, wandb or trackio: tracks every step.",
            rich_help_panel=shared.RUN,
        ),
    ] = None,
    chat_template: shared.ChatTemplate = None,
    train_on_prompt: Annotated[
        bool,
        shared.option(
            "--train-on-prompt",
            help="Have a loss on the prompt too; its tokens have no soft labels.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    kd_weight: teaching.KdWeight = 0.0,
    kd_weight_end: teaching.KdWeightEnd = None,
    kd_divergence: teaching.KdDivergence = "forward",
    kd_beta: teaching.KdBeta = 0.5,
    kd_temperature: teaching.KdTemperature = 1.0,
    kd_temperature_end: teaching.KdTemperatureEnd = None,
    kd_schedule: teaching.KdSchedule = "linear",
    kd_adaptive: teaching.KdAdaptive = False,
    teacher: teaching.Teacher = None,
    teacher_weight: teaching.TeacherWeight = None,
    feature_weight: teaching.FeatureWeight = 0.0,
    feature_layers: teaching.FeatureLayers = None,
    feature_loss: teaching.FeatureDistance = "mse",
    relation_weight: teaching.RelationWeight = 0.0,
    merge: Annotated[
        bool,
        shared.option(
            "--merge",
            help="Write the merged model of an adapter, too: OUT/vN/merged.",
            rich_help_panel=METHOD,
        ),
    ] = False,
    save_every: Annotated[
        int,
        shared.option(
            min=1,
            help="Steps between states to resume from; the held-out loss is measured there.",
            rich_help_panel=shared.RUN,
        ),
    ] = 100,
    seed: shared.Seed = 0,
    allow_benchmark_training: shared.AllowBenchmarkTraining = False,
    preview: Annotated[
        int | None,
        shared.option(
            min=1,
            help="Check all rows, print so many as they are trained on, and stop.",
            rich_help_panel=shared.RUN,
        ),
    ] = None,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Fine-tune a student on traces.

    The loss is on reasoning, response and end token. The version that it
    writes loads with AutoModelForCausalLM and AutoTokenizer. Killed and started
    again, it goes on from the last state saved and ends with the same weights.
    Defaults are s1's.

    \b
    Example:
      distill sft runs/example/clean --student data/quickstart/student-qwen \\
        --learning-rate 2e-3 --epochs 1 --out runs/example/student
    """
    from distillpipe.stages.sft import forecast_sft, preview_sft
    from distillpipe.stages.sft import sft as stage
    from distillpipe.training.preview import print_preview

    options, run = shared.struct_of(TrainingOptions, ctx), shared.run_of(ctx)
    run = msgspec.structs.replace(run, teachers=tuple(teacher or ()))
    asked = msgspec.structs.replace(
        shared.struct_of(Distillation, ctx),
        kd_adaptive=save_every if kd_adaptive else None,
        teacher_weight=tuple(teacher_weight or ()),
        feature_layers=tuple(feature_layers or ()),
    )
    distillation.check_unused(asked, run.options)
    taught = distillation.check(asked, len(run.teachers), eval_split)
    weights = tuple(weight or ())
    options = msgspec.structs.replace(options, weight=weights, distillation=taught)
    given = (traces, student, out, options, run)
    if preview is not None:
        found = preview_sft(traces, student, options, run, preview)
        if as_json:
            shared.put_json({"preview": found})
        else:
            print_preview(found)
    elif dry_run:
        shared.put_forecasts([forecast_sft(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given, save_every)], as_json=as_json)

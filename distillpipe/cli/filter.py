"""`distill filter`."""

from typing import Annotated, Literal, cast, get_args

import typer

from distillpipe.cli import options as shared
from distillpipe.records import FilterOptions, Verdict

RULES = "Rules"


def _check_verdicts(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if name not in get_args(Verdict):
            raise typer.BadParameter(f"{name!r}: choose from {', '.join(get_args(Verdict))}")
    return names


def filter_traces(
    ctx: typer.Context,
    traces: Annotated[
        list[str], typer.Argument(help="Datasets (PATH, PATH@v1) or .jsonl files of traces.")
    ],
    out: shared.Out,
    verifier: shared.Verifier = None,
    answer_form: shared.AnswerFormOption = "boxed",
    verdict: Annotated[
        list[str] | None,
        shared.option(
            help="Verdict to keep: correct, wrong or unverifiable; repeat for several. "
            "correct if none is given.",
            callback=_check_verdicts,
            rich_help_panel=RULES,
        ),
    ] = None,
    min_reasoning_tokens: Annotated[
        int, shared.option(min=0, help="Drop shorter reasoning.", rich_help_panel=RULES)
    ] = 1,
    max_reasoning_tokens: Annotated[
        int | None, shared.option(min=1, help="Drop longer reasoning.", rich_help_panel=RULES)
    ] = None,
    dedup: Annotated[
        Literal["exact", "none"],
        shared.option(help="Same problem and completion: keep one.", rich_help_panel=RULES),
    ] = "exact",
    per_problem: Annotated[
        int | None,
        shared.option(min=1, help="Keep at most so many a problem.", rich_help_panel=RULES),
    ] = None,
    seed: shared.Seed = 0,
    num_workers: Annotated[
        int | None,
        shared.option(
            min=1, help="Rows judged at a time; else one a core.", rich_help_panel=shared.RUN
        ),
    ] = None,
    allow_benchmark_training: shared.AllowBenchmarkTraining = False,
    unsafe_run_model_code_without_sandbox: shared.UnsafeCode = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Verify, bound and clean traces.

    What is dropped stands beside what is kept, in rejected-*.jsonl, with the
    reason and the measured value.

    \b
    Example:
      distill filter runs/example/traces --max-reasoning-tokens 120 \\
        --out runs/example/clean
    """
    from distillpipe.stages.filter import filter_traces as stage
    from distillpipe.stages.filter import forecast_filter

    options = FilterOptions(
        verdicts=tuple(cast("list[Verdict]", verdict or ["correct"])),
        verifier=verifier,
        answer_form=answer_form,
        min_reasoning_tokens=min_reasoning_tokens,
        max_reasoning_tokens=max_reasoning_tokens,
        dedup=dedup,
        per_problem=per_problem,
        seed=seed,
    )
    given = (traces, out, options, shared.run_of(ctx))
    if dry_run:
        shared.put_forecasts([forecast_filter(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given)], as_json=as_json)

"""`distill eval`."""

import datetime
from typing import Annotated, Literal

import msgspec
import typer

from distillpipe.base.errors import UsageError
from distillpipe.cli import budgets
from distillpipe.cli import options as shared


def _check_date(text: str | None) -> str | None:
    if text is not None:
        try:
            if datetime.date.fromisoformat(text).isoformat() != text:
                raise ValueError
        except ValueError:
            raise UsageError(f"{text!r} is no date: give one like 2024-08-01") from None
    return text


Protocol = Literal["r1", "openr1", "s1", "greedy"]


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help="Model folder, checkpoint of ours, ORG/NAME on the hub, or a served model's name."
        ),
    ],
    benchmark: Annotated[
        list[str],
        shared.option(
            help="Name in the table (math500, gpqa_diamond, ...), a file or hub:ORG/NAME; repeat for several."
        ),
    ],
    out: shared.Out,
    protocol: Annotated[
        Protocol | None,
        shared.option(
            help="Set what is left alone of temperature, top_p, tokens, samples and prompt as published.",
            rich_help_panel=shared.SAMPLING,
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        shared.option(
            help="LoRA adapter on MODEL; an adapter as MODEL finds its base by itself.",
            rich_help_panel=shared.ENGINE,
        ),
    ] = None,
    num_samples: shared.NumSamples = 1,
    temperature: shared.Temperature = 0.6,
    top_p: shared.TopP = 0.95,
    max_tokens: shared.MaxTokens = 32768,
    num_waits: budgets.NumWaits = 0,
    min_reasoning_tokens: budgets.MinReasoningTokens = 0,
    max_reasoning_tokens: budgets.MaxReasoningTokens = None,
    wait_text: budgets.WaitText = "Wait",
    end_text: budgets.EndText = "",
    tokenizer: budgets.Tokenizer = None,
    end_at: budgets.EndAt = "token",
    seed: shared.Seed = 0,
    limit: shared.Limit = None,
    min_date: Annotated[
        str | None,
        shared.option(
            callback=_check_date,
            help="Only problems of this day (2024-08-01) or later.",
            rich_help_panel=shared.PROBLEMS,
        ),
    ] = None,
    max_date: Annotated[
        str | None,
        shared.option(
            callback=_check_date,
            help="Only problems of this day or earlier.",
            rich_help_panel=shared.PROBLEMS,
        ),
    ] = None,
    problem_field: shared.ProblemField = None,
    answer_field: shared.AnswerField = None,
    verifier: shared.Verifier = None,
    code_rules: shared.CodeRulesOption = "plain",
    code_packages: shared.CodePackages = None,
    answer_form: shared.AnswerFormOption = "boxed",
    prompt_template: shared.PromptTemplate = shared.R1_PROMPT,
    system_prompt: shared.SystemPrompt = None,
    chat_template: shared.ChatTemplate = None,
    engine: shared.EngineName = "auto",
    concurrency: shared.Concurrency = None,
    tensor_parallel_size: shared.TensorParallelSize = 1,
    replicas: shared.Replicas = 1,
    max_model_len: shared.MaxModelLen = None,
    stop_loops: shared.StopLoops = False,
    base_url: shared.BaseUrl = None,
    api_key_env: shared.ApiKeyEnv = "OPENAI_API_KEY",
    price_input: shared.PriceInput = None,
    price_output: shared.PriceOutput = None,
    max_cost: shared.MaxCost = None,
    extra_body: shared.ExtraBody = None,
    accept_errors: shared.AcceptErrors = False,
    unsafe_run_model_code_without_sandbox: shared.UnsafeCode = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Score a model: Pass@1 with its standard error and interval.

    Each benchmark is a dataset of its own, OUT/NAME, with metrics.json in the
    version; the predictions are traces.

    \b
    Example:
      distill eval data/quickstart/teacher \\
        --benchmark data/quickstart/problems-test.jsonl \\
        --prompt-template '{problem}' --max-tokens 256 --limit 100 \\
        --out runs/example/eval-teacher
    """
    from distillpipe.reports.protocols import apply_options, resolve_options
    from distillpipe.stages.eval import benchmark_name, forecast_eval
    from distillpipe.stages.eval import evaluate as stage

    names = [benchmark_name(name) for name in benchmark]
    if len(set(names)) < len(names):
        raise UsageError(f"--benchmark: two files have one name ({', '.join(names)}): rename one")
    options, run = shared.sampling_of(ctx), shared.run_of(ctx)
    found = [(name, resolve_options(run.options, name)) for name in benchmark]
    given = [
        (
            model,
            name,
            out,
            apply_options(options, one),
            msgspec.structs.replace(run, options=one),
            adapter,
        )
        for name, one in found
    ]
    if dry_run:
        shared.put_forecasts([forecast_eval(*one) for one in given], as_json=as_json)
    else:
        shared.put_results([stage(*one) for one in given], as_json=as_json)

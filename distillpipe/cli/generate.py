"""`distill generate`."""

from typing import Annotated

import typer

from distillpipe.base.errors import UsageError
from distillpipe.cli import budgets
from distillpipe.cli import options as shared


def generate(
    ctx: typer.Context,
    problems: Annotated[
        str, typer.Argument(help="A .jsonl, .json or .parquet file, a dataset, or hub:ORG/NAME.")
    ],
    teacher: Annotated[
        str,
        shared.option(
            help="Model folder, checkpoint of ours, ORG/NAME on the hub, or a served model's name."
        ),
    ],
    out: shared.Out,
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
    end_at: budgets.EndAt = "step",
    soft_labels: shared.SoftLabels = None,
    seed: shared.Seed = 0,
    limit: shared.Limit = None,
    pilot: Annotated[
        int | None,
        shared.option(
            min=1,
            help="With --dry-run: sample so many of the rows, which are kept, and estimate from them.",
            rich_help_panel=shared.RUN,
        ),
    ] = None,
    problem_field: shared.ProblemField = None,
    answer_field: shared.AnswerField = None,
    verifier: shared.Verifier = None,
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
    allow_no_reasoning: shared.AllowNoReasoning = False,
    teacher_licence: shared.TeacherLicence = None,
    accept_errors: shared.AcceptErrors = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Sample reasoning traces of a teacher.

    Safe to interrupt: the same command goes on, and a row that was ever sampled
    with the same model, prompt and options is taken over, not sampled again.

    \b
    Example:
      distill generate data/quickstart/problems-train.jsonl \\
        --teacher data/quickstart/teacher --prompt-template '{problem}' \\
        --max-tokens 256 --limit 100 --out runs/example/traces
    """
    from distillpipe.stages.generate import forecast_generate
    from distillpipe.stages.generate import generate as stage

    if pilot is not None and not dry_run:
        raise UsageError(
            "--pilot samples rows for the estimate of --dry-run: give both; "
            "the same command without the two goes on with these rows"
        )
    given = (problems, teacher, out, shared.sampling_of(ctx), shared.run_of(ctx))
    if dry_run:
        shared.put_forecasts([forecast_generate(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given)], as_json=as_json)

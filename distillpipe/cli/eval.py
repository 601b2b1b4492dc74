"""`distill eval`."""

from typing import Annotated

import typer

from distillpipe.cli import options as shared
from distillpipe.errors import UsageError


def evaluate(
    ctx: typer.Context,
    model: Annotated[
        str, typer.Argument(help="Model folder, checkpoint of ours, or ORG/NAME on the hub.")
    ],
    benchmark: Annotated[
        list[str], shared.option(help="A .jsonl or .json file of problems; repeat for several.")
    ],
    out: shared.Out,
    num_samples: shared.NumSamples = 1,
    temperature: shared.Temperature = 0.6,
    top_p: shared.TopP = 0.95,
    max_tokens: shared.MaxTokens = 32768,
    seed: shared.Seed = 0,
    limit: shared.Limit = None,
    problem_field: shared.ProblemField = None,
    answer_field: shared.AnswerField = None,
    verifier: shared.Verifier = None,
    prompt_template: shared.PromptTemplate = shared.R1_PROMPT,
    system_prompt: shared.SystemPrompt = None,
    engine: shared.EngineName = "auto",
    concurrency: shared.Concurrency = 256,
    fresh: shared.Fresh = False,
) -> None:
    r"""Score a model: Pass@1 with its standard error and interval.

    Each benchmark is a dataset of its own, OUT/NAME, with metrics.json in the
    version; the predictions are traces.

    Example:
      distill eval data/quickstart/teacher \
        --benchmark data/quickstart/problems-test.jsonl \
        --prompt-template '{problem}' --max-tokens 256 --limit 100 \
        --out runs/example/eval-teacher
    """
    from distillpipe.stages.eval import benchmark_name
    from distillpipe.stages.eval import evaluate as stage

    names = [benchmark_name(name) for name in benchmark]
    if len(set(names)) < len(names):
        raise UsageError(f"--benchmark: two files have one name ({', '.join(names)}): rename one")
    for name in benchmark:
        stage(model, name, out, shared.sampling_of(ctx), shared.run_of(ctx))

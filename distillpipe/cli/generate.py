"""`distill generate`."""

from typing import Annotated

import typer

from distillpipe.cli import options as shared


def generate(
    ctx: typer.Context,
    problems: Annotated[str, typer.Argument(help="A .jsonl or .json file of problems.")],
    teacher: Annotated[
        str, shared.option(help="Model folder, checkpoint of ours, or ORG/NAME on the hub.")
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
    r"""Sample reasoning traces of a teacher.

    Safe to interrupt: the same command goes on, and a row that was ever sampled
    with the same model, prompt and options is taken over, not sampled again.

    Example:
      distill generate data/quickstart/problems-train.jsonl \
        --teacher data/quickstart/teacher --prompt-template '{problem}' \
        --max-tokens 256 --limit 100 --out runs/example/traces
    """
    from distillpipe.stages.generate import generate as stage

    stage(problems, teacher, out, shared.sampling_of(ctx), shared.run_of(ctx))

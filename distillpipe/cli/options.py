"""Option types that several commands share, and what they are turned into."""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer

from distillpipe.manifest import ResolvedOption
from distillpipe.records import EngineOptions, Plan, Prompting, Sampling
from distillpipe.sampling import SamplingOptions
from distillpipe.stages.run import Run
from distillpipe.verify import check_name

S = TypeVar("S", bound=msgspec.Struct)
Engine = Literal["auto", "transformers"]
SAMPLING, ENGINE, PROBLEMS, RUN = "Sampling", "Engine", "Problems and prompts", "Run"

option = functools.partial(typer.Option, show_envvar=False)


def _check_verifier(name: str | None) -> str | None:
    if name is not None:
        check_name(name)
    return name


Out = Annotated[Path, option(help="Folder of the versions: v1, v2, ...", rich_help_panel=RUN)]
Fresh = Annotated[
    bool,
    option("--fresh", help="Make a new version and take nothing over.", rich_help_panel=RUN),
]
Seed = Annotated[int, option(min=0, help="Seed of every draw.", rich_help_panel=RUN)]
Temperature = Annotated[
    float, option(min=0.0, max=2.0, help="0 is greedy.", rich_help_panel=SAMPLING)
]
TopP = Annotated[
    float,
    option("--top-p", min=0.01, max=1.0, help="Mass of the nucleus.", rich_help_panel=SAMPLING),
]
MaxTokens = Annotated[
    int,
    option(min=1, help="Limit on a completion, in tokens.", rich_help_panel=SAMPLING),
]
NumSamples = Annotated[int, option(min=1, help="Completions a problem.", rich_help_panel=SAMPLING)]
Limit = Annotated[
    int | None,
    option(min=1, help="Only the first so many problems.", rich_help_panel=PROBLEMS),
]
ProblemField = Annotated[
    str | None,
    option(
        help="Key of the problem's text; else problem, question or prompt.",
        rich_help_panel=PROBLEMS,
    ),
]
AnswerField = Annotated[
    str | None,
    option(
        help="Key of the reference answer; else reference_answer, answer or gold.",
        rich_help_panel=PROBLEMS,
    ),
]
PromptTemplate = Annotated[
    str,
    option(help="What is asked; {problem} stands for the problem.", rich_help_panel=PROBLEMS),
]
SystemPrompt = Annotated[
    str | None, option(help="System message; none if not given.", rich_help_panel=PROBLEMS)
]
Verifier = Annotated[
    str | None,
    option(
        callback=_check_verifier,
        help="exact, numeric or math, for all rows; else each row's own.",
        rich_help_panel=PROBLEMS,
    ),
]
EngineName = Annotated[
    Engine, option("--engine", help="Where tokens come from.", rich_help_panel=ENGINE)
]
Concurrency = Annotated[int, option(min=1, help="Sequences in flight.", rich_help_panel=ENGINE)]

R1_PROMPT = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."

_SOURCES = {
    "COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": "recipe", "DEFAULT": "default",
}  # fmt: skip


def struct_of(kind: type[S], ctx: typer.Context) -> S:
    """A struct of options, its fields taken from the parameters of the same names."""
    return kind(**{name: ctx.params[name] for name in kind.__struct_fields__})


def sampling_of(ctx: typer.Context) -> SamplingOptions:
    """The options of a command that samples."""
    return SamplingOptions(
        prompting=struct_of(Prompting, ctx),
        plan=struct_of(Plan, ctx),
        sampling=struct_of(Sampling, ctx),
        engine=struct_of(EngineOptions, ctx),
    )


def run_of(ctx: typer.Context) -> Run:
    """How the command was called: every option's value and where it came from."""
    options: dict[str, ResolvedOption] = {}
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        known: Any = _SOURCES.get(source.name if source else "DEFAULT", "default")
        options[name] = ResolvedOption(str(value) if isinstance(value, Path) else value, known)
    return Run(options=options, fresh=bool(ctx.params.get("fresh", False)))

"""Option types that several commands share, and what they are turned into."""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import typer

from distillpipe.base import terminal
from distillpipe.base.options import (
    AnswerForm,
    Budget,
    CodeRules,
    EngineOptions,
    Plan,
    Prompting,
    Sampling,
    SamplingOptions,
)
from distillpipe.base.redaction import redact_all
from distillpipe.data.benchmarks import MATH_PROMPT
from distillpipe.data.forecast import Forecast, lines_of
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.engines.budget import policy
from distillpipe.engines.server.options import (
    check_address,
    check_extra_body,
    check_key_variable,
    guard_options,
)
from distillpipe.stages.run import Result, Run
from distillpipe.verify import check_name

S = TypeVar("S", bound=msgspec.Struct)
Engine = Literal["auto", "openai", "transformers", "vllm"]
SAMPLING, ENGINE, PROBLEMS, RUN = "Sampling", "Engine", "Problems and prompts", "Run"
SERVER = "Server"

option = functools.partial(typer.Option, show_envvar=False)


def _check_verifier(name: str | None) -> str | None:
    if name is not None:
        check_name(name)
    return name


def _package_names(given: list[str] | None) -> tuple[str, ...]:
    """In one order, so that the order of the flags changes no fingerprint; no name holds a comma."""
    names = {name.strip() for one in given or [] for name in one.split(",")}
    return tuple(sorted(names - {""}))


def _check_base_url(base_url: str | None) -> str | None:
    return None if base_url is None else check_address(base_url)


def _check_key_variable(name: str | None) -> str | None:
    return None if name is None else check_key_variable(name)


def _check_extra_body(text: str | None) -> str | None:
    return None if text is None else check_extra_body(text)


Out = Annotated[Path, option(help="Folder of the versions: v1, v2, ...", rich_help_panel=RUN)]
Fresh = Annotated[
    bool,
    option("--fresh", help="Make a new version and take nothing over.", rich_help_panel=RUN),
]
DryRun = Annotated[
    bool,
    option(
        "--dry-run",
        help="Print what would be read, written and spent, and stop.",
        rich_help_panel=RUN,
    ),
]
Json = Annotated[
    bool,
    option("--json", help="Print the summary as one JSON object.", rich_help_panel=RUN),
]
AcceptErrors = Annotated[
    bool,
    option(
        "--accept-errors",
        help="Finish without the rows that fail again; they are rejected.",
        rich_help_panel=RUN,
    ),
]
TeacherLicence = Annotated[
    str | None,
    option(
        help="Licence of what the teacher writes; else as its files, or a table, say.",
        rich_help_panel=RUN,
    ),
]
AllowBenchmarkTraining = Annotated[
    bool,
    option(
        "--allow-benchmark-training",
        help="Take rows of a benchmark as training data.",
        rich_help_panel=RUN,
    ),
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
        help="math, numeric, exact, choice or code, for all rows; else each row's own.",
        rich_help_panel=PROBLEMS,
    ),
]
CodeRulesOption = Annotated[
    CodeRules,
    option(
        "--code-rules",
        help="How programs are found and run: plain, or as LiveCodeBench's own harness does.",
        rich_help_panel=PROBLEMS,
    ),
]
CodePackages = Annotated[
    list[str] | None,
    option(
        "--code-packages",
        callback=_package_names,
        help="Package that programs may import (numpy); repeat for several, or part them by commas.",
        rich_help_panel=PROBLEMS,
    ),
]
AnswerFormOption = Annotated[
    AnswerForm,
    option(
        "--answer-form",
        help="Where the answer stands: boxed, or any: also 'the final answer is'.",
        rich_help_panel=PROBLEMS,
    ),
]
UnsafeCode = Annotated[
    bool,
    option(
        "--unsafe-run-model-code-without-sandbox",
        help="Run programs that models wrote with all your rights.",
        rich_help_panel=RUN,
    ),
]
SoftLabels = Annotated[
    int | None,
    option(
        min=1,
        help="Keep so many of the most likely tokens for each token, with their log-probabilities.",
        rich_help_panel=SAMPLING,
    ),
]
ChatTemplate = Annotated[
    str | None,
    option(
        help="chatml, llama3, plain or a jinja file; else the model's own.",
        rich_help_panel=PROBLEMS,
    ),
]
EngineName = Annotated[
    Engine, option("--engine", help="Where tokens come from.", rich_help_panel=ENGINE)
]
Concurrency = Annotated[
    int | None,
    option(min=1, help="Sequences in flight; else what vLLM runs, or 256.", rich_help_panel=ENGINE),
]
TensorParallelSize = Annotated[
    int,
    option(min=1, help="GPUs that share one copy of the model (vllm).", rich_help_panel=ENGINE),
]
Replicas = Annotated[
    int,
    option(min=1, help="Copies of the model, one process each (vllm).", rich_help_panel=ENGINE),
]
MaxModelLen = Annotated[
    int | None,
    option(
        min=2,
        help="Limit on prompt and completion together; else the model's own.",
        rich_help_panel=ENGINE,
    ),
]
StopLoops = Annotated[
    bool,
    option(
        "--stop-loops",
        help="End a completion that repeats the same 1 to 64 tokens 32 times.",
        rich_help_panel=SAMPLING,
    ),
]
BaseUrl = Annotated[
    str | None,
    option(
        callback=_check_base_url,
        help="Address of an OpenAI-compatible server: http://localhost:8000/v1.",
        rich_help_panel=SERVER,
    ),
]
ApiKeyEnv = Annotated[
    str,
    option(
        callback=_check_key_variable,
        help="Name of the environment variable that holds its key.",
        rich_help_panel=SERVER,
    ),
]
PriceInput = Annotated[
    float | None,
    option(min=0.0, help="Dollars per million prompt tokens.", rich_help_panel=SERVER),
]
PriceOutput = Annotated[
    float | None,
    option(min=0.0, help="Dollars per million completion tokens.", rich_help_panel=SERVER),
]
MaxCost = Annotated[
    float | None,
    option(
        min=0.0,
        help="Dollars that a version may cost, over all its runs; needs both prices.",
        rich_help_panel=SERVER,
    ),
]
ExtraBody = Annotated[
    str | None,
    option(
        callback=_check_extra_body,
        help="JSON object of other fields for each request; null leaves out top_p, temperature or seed.",
        rich_help_panel=SERVER,
    ),
]
AllowNoReasoning = Annotated[
    bool,
    option(
        "--allow-no-reasoning",
        help="Go on where a server returns no reasoning.",
        rich_help_panel=SERVER,
    ),
]

R1_PROMPT = MATH_PROMPT  # what DeepSeek-R1 was evaluated with

# They change what is printed, not what is written.
NOT_STORED = ("dry_run", "as_json", "pilot", "preview")
_SOURCES = {
    "COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": "recipe", "DEFAULT": "default",
}  # fmt: skip


def struct_of(kind: type[S], ctx: typer.Context) -> S:
    """A struct of options, its fields taken from the parameters of the same names, if there are any."""
    names = [name for name in kind.__struct_fields__ if name in ctx.params]
    return kind(**{name: ctx.params[name] for name in names})


def sampling_of(ctx: typer.Context) -> SamplingOptions:
    """The options of a command that samples."""
    return SamplingOptions(
        prompting=struct_of(Prompting, ctx),
        plan=struct_of(Plan, ctx),
        sampling=struct_of(Sampling, ctx),
        engine=struct_of(EngineOptions, ctx),
        accept_errors=ctx.params["accept_errors"],
        budget=policy.active_budget(struct_of(Budget, ctx)),
        soft_labels=ctx.params.get("soft_labels"),
    )


def run_of(ctx: typer.Context) -> Run:
    """How the command was called: every option's value and where it came from."""
    options: dict[str, ResolvedOption] = {}
    guard_options(ctx.params)
    for name, value in ctx.params.items():
        if name in NOT_STORED:
            continue
        source = ctx.get_parameter_source(name)
        known: Any = _SOURCES.get(source.name if source else "DEFAULT", "default")
        shown = redact_all(str(value) if isinstance(value, Path) else value)
        options[name] = ResolvedOption(shown, known)
    return Run(
        options=options,
        fresh=bool(ctx.params.get("fresh", False)),
        allow_benchmark_training=bool(ctx.params.get("allow_benchmark_training", False)),
        unsafe=bool(ctx.params.get("unsafe_run_model_code_without_sandbox", False)),
        accept_errors=bool(ctx.params.get("accept_errors", False)),
        num_workers=ctx.params.get("num_workers"),
        pilot=ctx.params.get("pilot"),
        teacher_licence=ctx.params.get("teacher_licence"),
        merge=bool(ctx.params.get("merge", False)),
        report_to=tuple(ctx.params.get("report_to") or ()),
        num_processes=ctx.params.get("num_processes", 1),
        sharding=ctx.params.get("sharding", "ddp"),
    )


def put_results(results: list[Result], *, as_json: bool) -> None:
    """With --json the versions that now are what was asked for, on stdout: one object."""
    if as_json:
        found = [
            {"path": str(one.path), "up_to_date": one.up_to_date, "manifest": one.manifest}
            for one in results
        ]
        put_json({"versions": found})


def put_forecasts(forecasts: list[Forecast], *, as_json: bool) -> None:
    """What --dry-run prints, on stdout."""
    if as_json:
        put_json({"dry_run": forecasts})
    else:
        terminal.put(line for one in forecasts for line in lines_of(one))


def put_json(content: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    terminal.put_json(content)

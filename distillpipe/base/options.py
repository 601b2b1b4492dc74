"""The options of commands that sample and judge: one frozen struct a concern.

Training's are in `training_options`, those of `filter` in `filter_options`. A field is the one declaration of an
option, see `option`; a type that several structs share is declared once, above them.
"""

import datetime
from typing import Annotated, Any, ClassVar, Literal

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.option import Option, Options, hashed

AnswerForm = Literal["boxed", "any"]
CodeRules = Literal["plain", "livecodebench"]
EngineName = Literal["auto", "openai", "transformers", "vllm"]

# Headings of the help; options without one are the basic ones.
SAMPLING, BUDGET, PROBLEMS = "Sampling", "Budget forcing", "Problems and prompts"
JUDGING, ENGINE, SERVER, RUN = "Judging answers", "Engine", "Server", "Run"

STALL_SECONDS = 600.0

MATH_PROMPT = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."


def _package_names(given: list[str] | None) -> tuple[str, ...]:
    """In one order, so that the order of the flags changes no fingerprint; no name holds a comma."""
    names = {name.strip() for one in given or [] for name in one.split(",")}
    return tuple(sorted(names - {""}))


def _day(text: str | None) -> str | None:
    if text is not None:
        try:
            if datetime.date.fromisoformat(text).isoformat() != text:
                raise ValueError
        except ValueError:
            raise UsageError(f"{text!r} is no date: give one like 2024-08-01") from None
    return text


Seed = Annotated[int, Option("Seed of every random choice.", RUN, min=0)]
ChatTemplate = Annotated[
    str | None,
    Option("chatml, llama3, plain or a jinja file; default: the model's own.", PROBLEMS),
]
MaxModelLen = Annotated[
    int | None,
    Option("Limit on prompt and completion together; default: the model's own.", ENGINE, min=2),
]
ProblemField = Annotated[
    str | None,
    Option("Key of the problem's text; default: problem, question or prompt.", PROBLEMS),
]
AnswerField = Annotated[
    str | None,
    Option("Key of the reference answer; default: reference_answer, answer or gold.", PROBLEMS),
]
Verifier = Annotated[
    str | None,
    Option(
        "math, numeric, exact, choice, code or your own FILE.py:FUNCTION, for all rows; default: each "
        "row's own.",
        JUDGING,
    ),
]
CodeRulesOption = Annotated[
    CodeRules,
    Option("How programs are found and run: plain, or as LiveCodeBench's harness does.", JUDGING),
]
CodePackages = Annotated[
    tuple[str, ...],
    Option(
        "Package that programs may import (numpy); repeat for several, or separate them by commas.",
        JUDGING,
        check=_package_names,
    ),
]
AnswerFormOption = Annotated[
    AnswerForm,
    Option("Where the answer stands: boxed, or any: also after 'the final answer is'.", JUDGING),
]
AcceptErrors = Annotated[
    bool, Option("Finish without the rows that fail again; they are rejected.", RUN)
]
TeacherLicence = Annotated[
    str | None,
    Option("Licence of what the teacher writes; default: that of its files, or of our table.", RUN),
]
EndText = Annotated[
    str, Option("What begins the response after a forced end; s1: 'Final Answer:'.", BUDGET)
]


class Sampling(Options, frozen=True, kw_only=True):
    """How tokens are drawn: part of every row's key."""

    temperature: Annotated[float, Option("0 is greedy.", min=0, max=2)] = 0.6
    top_p: Annotated[
        float,
        Option(
            "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this.",
            SAMPLING,
            min=0.01,
            max=1,
        ),
    ] = 0.95
    max_tokens: Annotated[int, Option("Limit on a completion, in tokens.", min=1)] = 32768
    ADDED_LATER: ClassVar = frozenset({"max_model_len", "stop_loops", "extra_body"})
    max_model_len: MaxModelLen = None
    stop_loops: Annotated[
        bool,
        Option("End a completion that repeats the same 1 to 64 tokens 32 times.", SAMPLING),
    ] = False
    extra_body: Annotated[
        str | None,
        Option(
            "JSON object of other fields for each request; null leaves out top_p, temperature or seed.",
            SERVER,
        ),
    ] = None


class Budget(Options, frozen=True, kw_only=True):
    """How long reasoning may and has to be: part of every row's key where there is a budget."""

    num_waits: Annotated[
        int, Option("Replace the first N ends of reasoning by --wait-text.", BUDGET, min=0)
    ] = 0
    min_reasoning_tokens: Annotated[
        int,
        Option("Replace an earlier end of reasoning too, as often as needed.", BUDGET, min=0),
    ] = 0
    max_reasoning_tokens: Annotated[
        int | None,
        Option("End the reasoning there, and go on to the response.", BUDGET, min=0),
    ] = None
    wait_text: Annotated[
        str, Option("What the reasoning goes on with in place of its end.", BUDGET)
    ] = "Wait"
    end_text: EndText = ""
    end_at: Annotated[
        Literal["step", "token"],
        Option("Where a forced end falls: on the last whole step, or on the very token.", BUDGET),
    ] = "step"


class Plan(Options, frozen=True, kw_only=True):
    """Which rows are wanted: part of a version's fingerprint, and the seed of each row's key."""

    num_samples: Annotated[int, Option("Completions for each problem.", min=1)] = 1
    limit: Annotated[int | None, Option("Only the first N problems.", min=1)] = None
    seed: Seed = 0


class Prompting(Options, frozen=True, kw_only=True):
    """How a row of a source becomes a conversation, and how eval judges what comes of it."""

    problem_field: ProblemField = None
    answer_field: AnswerField = None
    verifier: Verifier = None
    prompt_template: Annotated[
        str, Option("What is asked; {problem} stands for the problem.", PROBLEMS)
    ] = MATH_PROMPT
    system_prompt: Annotated[str | None, Option("System message; default: none.", PROBLEMS)] = None
    chat_template: ChatTemplate = None
    ADDED_LATER: ClassVar = frozenset(
        {"code_rules", "code_packages", "answer_form", "min_date", "max_date", "tokenizer"}
    )
    code_rules: CodeRulesOption = "plain"
    code_packages: CodePackages = ()
    answer_form: AnswerFormOption = "boxed"
    min_date: Annotated[
        str | None,
        Option("Only problems of this day (2024-08-01) or later.", PROBLEMS, check=_day),
    ] = None
    max_date: Annotated[
        str | None, Option("Only problems of this day or earlier.", PROBLEMS, check=_day)
    ] = None
    tokenizer: Annotated[
        str | None,
        Option(
            "Tokenizer of the served model: render prompts here, and ask /completions; a budget needs it.",
            SERVER,
        ),
    ] = None


class EngineOptions(Options, frozen=True, kw_only=True):
    """Where and how fast tokens come: stored, but no part of any id."""

    engine: Annotated[EngineName, Option("Where tokens come from.", ENGINE)] = "auto"
    concurrency: Annotated[
        int | None, Option("Sequences in flight; default: what vLLM runs, or 256.", ENGINE, min=1)
    ] = None
    tensor_parallel_size: Annotated[
        int, Option("GPUs that share one copy of the model (vllm).", ENGINE, min=1)
    ] = 1
    replicas: Annotated[
        int, Option("Copies of the model, one process each (vllm).", ENGINE, min=1)
    ] = 1
    max_model_len: MaxModelLen = None
    base_url: Annotated[
        str | None,
        Option("Address of an OpenAI-compatible server: http://localhost:8000/v1.", SERVER),
    ] = None
    api_key_env: Annotated[
        str, Option("Name of the environment variable that holds the server's key.", SERVER)
    ] = "OPENAI_API_KEY"
    price_input: Annotated[
        float | None, Option("Dollars per million prompt tokens.", SERVER, min=0)
    ] = None
    price_output: Annotated[
        float | None, Option("Dollars per million completion tokens.", SERVER, min=0)
    ] = None
    stall_seconds: Annotated[
        float,
        Option("A server that sends nothing for so long is asked again.", SERVER, min=1),
    ] = STALL_SECONDS
    max_cost: Annotated[
        float | None,
        Option(
            "Dollars that a version may cost, over all its runs; needs both prices.", SERVER, min=0
        ),
    ] = None
    allow_no_reasoning: Annotated[
        bool, Option("Go on where a server returns no reasoning.", SERVER)
    ] = True


class Judging(Options, frozen=True):
    """How verdicts are made: no part of any id."""

    num_workers: Annotated[
        int | None, Option("Rows judged at a time; default: one for each core.", RUN, min=1)
    ] = None
    unsafe: Annotated[
        bool,
        Option(
            "Run programs that models wrote with all your rights.",
            RUN,
            name="unsafe_run_model_code_without_sandbox",
        ),
    ] = False


class SamplingOptions(Options, frozen=True):
    """All options of a command that samples."""

    prompting: Prompting = Prompting()
    plan: Plan = Plan()
    sampling: Sampling = Sampling()
    engine: EngineOptions = EngineOptions()
    accept_errors: AcceptErrors = False
    budget: Budget | None = None
    "None where reasoning is as long as it is"
    soft_labels: Annotated[
        int | None,
        Option(
            "Keep the N most likely tokens for each token, with their log-probabilities.",
            SAMPLING,
            min=1,
        ),
    ] = None
    "part of the fingerprint, but of no row's key"
    teacher_licence: TeacherLicence = None
    judging: Judging = Judging()
    "of eval"


class LabelOptions(Options, frozen=True):
    """What `label` writes, and with which engine."""

    soft_labels: Annotated[
        int,
        Option("Labels for each token: the most likely tokens and their log-probabilities.", min=1),
    ] = 20
    chat_template: ChatTemplate = None
    engine: EngineOptions = EngineOptions()
    accept_errors: AcceptErrors = False
    teacher_licence: TeacherLicence = None


def row_key(
    prompt: Any,
    sampling: Sampling,
    model_identity: str,
    *,
    seed: int,
    sample: int,
    budget: Budget | None = None,
) -> str:
    """The key of a sampled row, 32 hex digits: equal keys are never sampled twice.

    `prompt` is the list of prompt token ids, or the messages where a server renders them.
    """
    bounded_by = () if budget is None else (hashed(budget),)
    return content_hash(prompt, hashed(sampling), model_identity, seed, sample, *bounded_by)

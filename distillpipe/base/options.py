"""The options of commands that sample and judge: one frozen struct for each group.

`training_options` has those of training, `filter_options` those of `filter`. An option is declared only here, as a
field (see `option`). Types that several structs share are declared above them.
"""

import datetime
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from distillpipe.base.decoding import NOT_DECODED
from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.option import Option, Options, hashed

AnswerForm = Literal["boxed", "any"]
CodeRules = Literal["plain", "livecodebench"]
EngineName = Literal["auto", "openai", "transformers", "vllm"]

# Headings of the help. Options without a heading are the basic ones.
SAMPLING, BUDGET, PROBLEMS = "Sampling", "Budget forcing", "Problems and prompts"
JUDGING, ENGINE, SERVER, RUN = "Judging answers", "Engine", "Server", "Run"

STALL_SECONDS = 600.0

MATH_PROMPT = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}."


def _package_names(values: list[str] | None) -> tuple[str, ...]:
    """The names, sorted, so that the order of the flags does not change the fingerprint."""
    names = {name.strip() for value in values or [] for name in value.split(",")}
    return tuple(sorted(names - {""}))


def _day(text: str | None) -> str | None:
    if text is not None:
        try:
            if datetime.date.fromisoformat(text).isoformat() != text:
                raise ValueError
        except ValueError:
            raise UsageError(f"{text!r} is not a date: give one like 2024-08-01") from None
    return text


_OF_RENDERING = frozenset(
    {
        "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt",
        "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors",
        "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now",
    }
)  # fmt: skip
"What the renderer itself hands to a template."


def _template_options(given: list[str] | None) -> tuple[str, ...]:
    """KEY=VALUE in one order, so that the order of the flags changes no fingerprint."""
    template_variables(given or ())
    return tuple(sorted(given or ()))


def template_variables(given: Iterable[str]) -> dict[str, Any]:
    """The variables of `KEY=VALUE` texts. A value is JSON (true, 3, "text"), or else a text.

    Raises ValueError for a text without a key, for a key that comes twice, and for one that the renderer sets.
    """
    variables: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{text!r}: give KEY=VALUE, like enable_thinking=true")
        if name in variables:
            raise ValueError(f"{name} is given twice: leave one out")
        if name in _OF_RENDERING:
            raise ValueError(f"{name} is set when a prompt is rendered: leave it out")
        plain = {"True": "true", "False": "false", "None": "null"}.get(value, value)
        try:
            variables[name] = msgspec.json.decode(plain)
        except NOT_DECODED:
            variables[name] = value
    return variables


Seed = Annotated[int, Option("Seed of every random choice.", RUN, min=0)]
ChatTemplate = Annotated[
    str | None,
    Option(
        "Chat template: chatml, llama3, plain or a jinja file. Default: the model's own.", PROBLEMS
    ),
]
MaxModelLen = Annotated[
    int | None,
    Option(
        "Maximum tokens of prompt and completion together. Default: the model's own limit.",
        ENGINE,
        min=2,
    ),
]
ProblemField = Annotated[
    str | None,
    Option("Field with the problem text. Default: problem, question or prompt.", PROBLEMS),
]
AnswerField = Annotated[
    str | None,
    Option("Field with the reference answer. Default: reference_answer, answer or gold.", PROBLEMS),
]
Verifier = Annotated[
    str | None,
    Option(
        "Verifier for all rows: math, numeric, exact, choice, code or your own FILE.py:FUNCTION. "
        "Default: the verifier that each row names.",
        JUDGING,
    ),
]
CodeRulesOption = Annotated[
    CodeRules,
    Option(
        "How programs are extracted and run: plain, or livecodebench as in its harness.", JUDGING
    ),
]
CodePackages = Annotated[
    tuple[str, ...],
    Option(
        "Package that programs may import, for example numpy. Repeat the flag, or separate names by commas.",
        JUDGING,
        check=_package_names,
    ),
]
AnswerFormOption = Annotated[
    AnswerForm,
    Option(
        "Where to look for the answer. boxed: in \\boxed{}. any: also after 'the final answer is'.",
        JUDGING,
    ),
]
AcceptErrors = Annotated[
    bool, Option("Finish even if some rows fail again; those rows are rejected.", RUN)
]
TeacherLicence = Annotated[
    str | None,
    Option(
        "Licence of the teacher's output. Default: from the model's files, else from a built-in table.",
        RUN,
    ),
]
EndText = Annotated[
    str,
    Option(
        "Text that starts the response after a forced end of the reasoning; s1 uses 'Final Answer:'.",
        BUDGET,
    ),
]


class TemplateOptions(Options, frozen=True, kw_only=True):
    """What a chat template is given besides the messages, and how its marks are read."""

    template_option: Annotated[
        tuple[str, ...],
        Option(
            "KEY=VALUE for the chat template, repeated: enable_thinking=false, reasoning_effort=high.",
            PROBLEMS,
            check=_template_options,
            read=tuple,
        ),
    ] = ()
    template_name: Annotated[
        str | None,
        Option(
            "Name of the chat template, for a tokenizer that has several. Without it: `default`.",
            PROBLEMS,
        ),
    ] = None
    think_open: Annotated[
        str | None,
        Option("Text that opens the reasoning, if the chat template does not show it.", PROBLEMS),
    ] = None
    think_close: Annotated[
        str | None, Option("Text that closes the reasoning; goes with --think-open.", PROBLEMS)
    ] = None
    no_thinking: Annotated[
        bool,
        Option("Use the mode without thinking of a model that has both modes.", PROBLEMS),
    ] = False

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of --template-option."""
        return template_variables(self.template_option)


NO_TEMPLATE_OPTIONS = TemplateOptions()


class Sampling(Options, frozen=True, kw_only=True):
    """How tokens are sampled: part of every row's key."""

    temperature: Annotated[
        float, Option("Sampling temperature; 0 is greedy decoding.", min=0, max=2)
    ] = 0.6
    top_p: Annotated[
        float,
        Option(
            "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this.",
            SAMPLING,
            min=0.01,
            max=1,
        ),
    ] = 0.95
    max_tokens: Annotated[int, Option("Maximum tokens of a completion.", min=1)] = 32768
    ADDED_LATER: ClassVar = frozenset({"max_model_len", "stop_loops", "extra_body"})
    max_model_len: MaxModelLen = None
    stop_loops: Annotated[
        bool,
        Option("End a completion when it repeats the same 1 to 64 tokens 32 times.", SAMPLING),
    ] = False
    extra_body: Annotated[
        str | None,
        Option(
            "JSON object with more fields for each request; null removes top_p, temperature or seed.",
            SERVER,
        ),
    ] = None


class Budget(Options, frozen=True, kw_only=True):
    """How long the reasoning may be and must be: part of a row's key if there is a budget."""

    num_waits: Annotated[
        int, Option("Replace the first N ends of the reasoning with --wait-text.", BUDGET, min=0)
    ] = 0
    min_reasoning_tokens: Annotated[
        int,
        Option(
            "Minimum tokens of reasoning: an earlier end is replaced with --wait-text.",
            BUDGET,
            min=0,
        ),
    ] = 0
    max_reasoning_tokens: Annotated[
        int | None,
        Option(
            "Maximum tokens of reasoning: then it is ended, and the response starts.", BUDGET, min=0
        ),
    ] = None
    wait_text: Annotated[
        str, Option("Text that replaces an end of the reasoning, so that it continues.", BUDGET)
    ] = "Wait"
    end_text: EndText = ""
    end_at: Annotated[
        Literal["step", "token"],
        Option(
            "Where to end the reasoning: after the last whole step, or at the exact token.", BUDGET
        ),
    ] = "step"


class Plan(Options, frozen=True, kw_only=True):
    """Which rows to sample: part of a version's fingerprint; the seed is part of each row's key."""

    num_samples: Annotated[int, Option("Completions per problem.", min=1)] = 1
    limit: Annotated[int | None, Option("Use only the first N problems.", min=1)] = None
    seed: Seed = 0


class Prompting(Options, frozen=True, kw_only=True):
    """How a row of a source becomes a conversation, and how eval judges the completion."""

    problem_field: ProblemField = None
    answer_field: AnswerField = None
    verifier: Verifier = None
    prompt_template: Annotated[
        str, Option("The user message; {problem} is replaced with the problem.", PROBLEMS)
    ] = MATH_PROMPT
    system_prompt: Annotated[str | None, Option("System message; default: none.", PROBLEMS)] = None
    chat_template: ChatTemplate = None
    ADDED_LATER: ClassVar = frozenset(
        {
            "code_rules",
            "code_packages",
            "answer_form",
            "min_date",
            "max_date",
            "tokenizer",
            "template",
        }
    )
    code_rules: CodeRulesOption = "plain"
    code_packages: CodePackages = ()
    answer_form: AnswerFormOption = "boxed"
    min_date: Annotated[
        str | None,
        Option("Use only problems dated on this day (2024-08-01) or later.", PROBLEMS, check=_day),
    ] = None
    max_date: Annotated[
        str | None, Option("Use only problems dated on this day or earlier.", PROBLEMS, check=_day)
    ] = None
    tokenizer: Annotated[
        str | None,
        Option(
            "Tokenizer of the served model: prompts are rendered here and sent to /completions. Required for a budget.",
            SERVER,
        ),
    ] = None
    template: TemplateOptions = TemplateOptions()


class EngineOptions(Options, frozen=True, kw_only=True):
    """Which engine samples, and how fast: recorded, but not part of any id."""

    engine: Annotated[EngineName, Option("Engine that samples tokens.", ENGINE)] = "auto"
    concurrency: Annotated[
        int | None,
        Option(
            "Sequences sampled at the same time. Default: as many as vLLM runs, else 256.",
            ENGINE,
            min=1,
        ),
    ] = None
    tensor_parallel_size: Annotated[
        int, Option("GPUs per copy of the model (vllm).", ENGINE, min=1)
    ] = 1
    replicas: Annotated[
        int, Option("Copies of the model, each in its own process (vllm).", ENGINE, min=1)
    ] = 1
    max_model_len: MaxModelLen = None
    base_url: Annotated[
        str | None,
        Option(
            "Address of an OpenAI-compatible server, for example http://localhost:8000/v1.", SERVER
        ),
    ] = None
    api_key_env: Annotated[
        str, Option("Environment variable with the API key of the server.", SERVER)
    ] = "OPENAI_API_KEY"
    price_input: Annotated[
        float | None, Option("Dollars per million prompt tokens.", SERVER, min=0)
    ] = None
    price_output: Annotated[
        float | None, Option("Dollars per million completion tokens.", SERVER, min=0)
    ] = None
    stall_seconds: Annotated[
        float,
        Option("Ask a server again that sends nothing for this many seconds.", SERVER, min=1),
    ] = STALL_SECONDS
    max_cost: Annotated[
        float | None,
        Option(
            "Maximum cost of a version in dollars, over all its runs; needs both prices.",
            SERVER,
            min=0,
        ),
    ] = None
    allow_no_reasoning: Annotated[
        bool, Option("Continue if the server returns no reasoning.", SERVER)
    ] = True


class Judging(Options, frozen=True):
    """How rows are judged: not part of any id."""

    num_workers: Annotated[
        int | None, Option("Rows judged at the same time. Default: one per core.", RUN, min=1)
    ] = None
    unsafe: Annotated[
        bool,
        Option(
            "Run programs written by models without a sandbox, with all your permissions.",
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
    "None if the length of the reasoning is not bounded"
    soft_labels: Annotated[
        int | None,
        Option(
            "Store the N most likely tokens at each position with their log-probabilities.",
            SAMPLING,
            min=1,
        ),
    ] = None
    "part of the fingerprint, but not of a row's key"
    teacher_licence: TeacherLicence = None
    judging: Judging = Judging()
    "used by eval"


class LabelOptions(Options, frozen=True):
    """What `label` writes, and with which engine."""

    soft_labels: Annotated[
        int,
        Option(
            "Number of soft labels per token: the most likely tokens and their log-probabilities.",
            min=1,
        ),
    ] = 20
    chat_template: ChatTemplate = None
    engine: EngineOptions = EngineOptions()
    accept_errors: AcceptErrors = False
    teacher_licence: TeacherLicence = None
    template: TemplateOptions = TemplateOptions()


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

    `prompt` is the list of prompt token ids, or the messages if a server renders them, with the template options
    if any are given.
    """
    budgets = () if budget is None else (hashed(budget),)
    return content_hash(prompt, hashed(sampling), model_identity, seed, sample, *budgets)

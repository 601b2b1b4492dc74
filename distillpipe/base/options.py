"""The options of all stages: one frozen struct a concern."""

from typing import Any, ClassVar, Literal

import msgspec

from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Record, Verdict

AnswerForm = Literal["boxed", "any"]
CodeRules = Literal["plain", "livecodebench"]
Preference = Literal["random", "shortest", "longest"]
Strategy = Literal["random", "shortest", "longest", "diverse", "s1"]
Divergence = Literal["forward", "reverse", "js"]
Schedule = Literal["constant", "linear", "cosine"]
FeatureLoss = Literal["mse", "cosine"]


class Sampling(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How tokens are drawn: part of every row's key, which an option at its default does not change."""

    temperature: float
    "0 is greedy"
    top_p: float
    max_tokens: int
    "limit on the completion, in tokens"
    max_model_len: int | None = None
    "limit on prompt and completion together, below the model's own"
    stop_loops: bool = False
    "a completion that only repeats itself ends there, by `repetition`"
    extra_body: str | None = None
    "a JSON object: other fields of a request to a server, null for one that is left out"


class Budget(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How long a thought may and has to be: part of every row's key where there is one; see `budget`."""

    num_waits: int
    "ends of reasoning that are replaced by `wait_text`, whatever the length"
    min_reasoning_tokens: int
    "an earlier end is replaced, too, as often as needed; 0 asks for nothing"
    max_reasoning_tokens: int | None
    "where the thought is ended for the model; null: never"
    wait_text: str
    end_text: str
    "what begins the response after a forced end"
    end_at: Literal["step", "token"]
    "a forced end falls on the last whole step, or on the very token"


class Plan(Record, frozen=True, kw_only=True):
    """Which rows are wanted: part of a version's fingerprint, not of a row's key but for the seed."""

    num_samples: int
    limit: int | None
    "problems, counted from the first"
    seed: int


class Prompting(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How a row of a source becomes a conversation."""

    problem_field: str | None
    answer_field: str | None
    verifier: str | None
    "overrides what the rows say"
    prompt_template: str
    "`{problem}` stands for the problem's text"
    system_prompt: str | None
    chat_template: str | None
    "one of ours by name, or a file; null: the model's own"
    ADDED_LATER: ClassVar = frozenset({"code_rules", "code_packages"})
    "fields that fingerprints of before know nothing of"
    code_rules: CodeRules = "plain"
    "how eval judges programs: see `FilterOptions`"
    code_packages: tuple[str, ...] = ()
    "that the programs which eval judges may import: see `FilterOptions`"
    answer_form: AnswerForm = "boxed"
    "where eval looks for the answer: see `FilterOptions`"
    min_date: str | None = None
    "of problems that bear a date, `2024-08-01`; this day included"
    max_date: str | None = None
    tokenizer: str | None = None
    "of the model that a server has: the prompt is then rendered here; null: by the server"


class EngineOptions(Record, frozen=True, kw_only=True):
    """Where and how fast tokens come: stored, but no part of any id."""

    engine: str
    concurrency: int | None
    "sequences in flight; null: as many as suit the engine"
    tensor_parallel_size: int = 1
    "GPUs that share one copy of the model"
    replicas: int = 1
    "copies of the model, each on GPUs of its own"
    max_model_len: int | None = None
    "as in `Sampling`: the engine reserves memory by it"
    base_url: str | None = None
    "of a server"
    api_key_env: str = "OPENAI_API_KEY"
    "name of the environment variable that holds its key"
    price_input: float | None = None
    "dollars per million tokens"
    price_output: float | None = None
    max_cost: float | None = None
    "dollars, over all runs of a version"
    allow_no_reasoning: bool = True
    "false where a server that returns no reasoning is an error"


class FilterOptions(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What `filter` keeps; an option at its default changes no fingerprint."""

    verdicts: tuple[Verdict, ...]
    verifier: str | None
    ADDED_LATER: ClassVar = frozenset({"code_rules", "code_packages", "rules"})
    rules: tuple[str, ...] = ()
    "FILE.py:FUNCTION of rules of the user's own, in their order; see `base.user_code`"
    code_rules: CodeRules = "plain"
    "`livecodebench` finds and runs programs as that benchmark's own harness does"
    code_packages: tuple[str, ...] = ()
    "that programs may import beside the standard library; their versions are in the fingerprint"
    answer_form: AnswerForm = "boxed"
    "`any` takes an answer that is stated without a box too"
    min_reasoning_tokens: int
    max_reasoning_tokens: int | None
    over_budget: Literal["drop", "cut", "force"] = "drop"
    "`cut` ends longer reasoning at a step, if the answer was reached; `force`: a teacher answers there"
    max_repetition: float = 1.0
    "share of the worst stretch that says nothing new; 1 allows all"
    max_foreign_letters: int | None = None
    "of another script than the trace's; null allows all"
    ignored_rules: tuple[str, ...] = ()
    "rules that drop no row"
    dedup: Literal["exact", "near", "none"]
    near_threshold: float = 0.7
    "how like two problems are that count as one, 0 to 1"
    decontaminate_mode: Literal["share", "ngram8"] = "share"
    explain: bool = False
    per_problem: int | None
    prefer: Preference = "random"
    "which rows of a problem stay"
    min_pass_rate: float | None = None
    "of the best of the models asked, 0 to 1"
    max_pass_rate: float | None = None
    select: int | None = None
    "rows that are kept in the end"
    strategy: Strategy = "random"
    num_clusters: int | None = None
    "domains that are made of the problems' words"
    preselect: tuple[str, ...] = ()
    "sources whose right rows are taken before any is drawn (s1 only)"
    preselect_min_tokens: tuple[int, ...] = ()
    "reasoning tokens that such a row needs, one for each source"
    follow: tuple[str, ...] = ()
    "sources whose domains weigh how often the last rows draw a domain (s1 only)"
    follow_weight: tuple[float, ...] = ()
    num_follow: int = 0
    "how many rows are the last ones"
    seed: int


class Distillation(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What `sft` learns of a teacher's distribution, beside the text; see `training.soft_losses`."""

    kd_weight: float
    "w, 0 to 1: at a token with a soft label the loss is w soft + (1 - w) hard"
    kd_weight_end: float | None = None
    "null: it stays"
    kd_divergence: Divergence
    kd_beta: float
    "of js: the share of the teacher in the mixture"
    kd_temperature: float
    kd_temperature_end: float | None = None
    kd_schedule: Schedule
    "the way of both from start to end over the steps"
    kd_adaptive: int | None = None
    "steps between the measurements of the held-out loss that the weight follows; null: it does not"
    teacher_weight: tuple[float, ...] = ()
    "of live teachers; empty: all the same"
    feature_weight: float = 0.0
    feature_layers: tuple[str, ...] = ()
    "STUDENT:TEACHER, 1 is the first layer; empty: every layer of the student, evenly spaced over the teacher's"
    feature_loss: FeatureLoss = "mse"
    relation_weight: float = 0.0


class TrainingOptions(Record, frozen=True, kw_only=True, omit_defaults=True):
    """How `sft` trains; all of it is part of the fingerprint, which an option at its default leaves."""

    method: Literal["full", "lora", "qlora"]
    rank: int
    alpha: int
    learning_rate: float | None
    "null: derived from the student before anything is hashed, see `training.rates`"
    scheduler: Literal["cosine", "linear", "constant"]
    warmup: float
    "share of the steps"
    weight_decay: float
    max_grad_norm: float
    epochs: int
    max_steps: int | None
    batch_size: int
    "traces per optimizer step"
    max_length: int
    "tokens of a row, prompt included"
    over_length: Literal["refuse", "drop", "cut"] = "refuse"
    "what becomes of longer rows"
    rope_theta: float | None = None
    "base of the rotary embeddings for a context longer than the student's; null: its own"
    dtype: Literal["bf16", "fp32"]
    gradient_checkpointing: bool = False
    "recompute activations in the backward pass"
    chat_template: str | None
    "one of ours by name, or a file; null: the student's own"
    seed: int
    packing: bool | None = None
    "whether rows share a line of a forward pass; null: where the model can keep them apart"
    weight: tuple[float, ...] = ()
    "how often a row of each input comes an epoch; empty: once"
    eval_split: float = 0.0
    "share of the problems that is measured on and never trained on"
    ADDED_LATER: ClassVar = frozenset({"adam_beta1", "adam_beta2", "min_learning_rate"})
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    min_learning_rate: float = 0.0
    "where cosine and linear end"
    train_on_prompt: bool = False
    "the loss is on the prompt too, but for its first token, which nothing predicts"
    distillation: Distillation | None = None
    "null: the text alone is learnt"


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
    bounded_by = () if budget is None else (budget,)
    return content_hash(prompt, sampling, model_identity, seed, sample, *bounded_by)


class SamplingOptions(msgspec.Struct, frozen=True):
    """All options of a command that samples."""

    prompting: Prompting
    plan: Plan
    sampling: Sampling
    engine: EngineOptions
    accept_errors: bool
    budget: Budget | None = None
    "null where thoughts are as long as they are"
    soft_labels: int | None = None
    "most likely tokens that are kept of each token; part of the fingerprint, but of no row's key"

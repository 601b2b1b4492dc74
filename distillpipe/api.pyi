"""The Python API as type checkers see it: written by scripts/api_stub.py."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from distillpipe.base.records import Trace
from distillpipe.data.forecast import Forecast
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports.comparison_text import Comparison

Reference = str | os.PathLike[str]

class Result:
    path: Path
    manifest: Manifest
    up_to_date: bool
    @property
    def metrics(self) -> dict[str, Any]: ...
    def __fspath__(self) -> str: ...

class Evaluation(Result):
    @property
    def pass_at_1(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...

def compare(
    predictions: Sequence[Reference], *, pass_at: Sequence[int] = ()
) -> list[Comparison]: ...
def read_traces(reference: Reference) -> Iterator[Trace]: ...

class _SamplingOptions(TypedDict, total=False):
    accept_errors: bool
    "Finish even if some rows fail again; those rows are rejected."
    answer_field: str | None
    "Field with the reference answer. Default: reference_answer, answer or gold."
    api_key_env: str
    "Environment variable with the API key of the server."
    base_url: str | None
    "Address of an OpenAI-compatible server, for example http://localhost:8000/v1."
    chat_template: str | None
    "Chat template: chatml, llama3, plain or a jinja file. Default: the model's own."
    concurrency: int | None
    "Sequences sampled at the same time. Default: as many as vLLM runs, else 256."
    end_at: Literal["step", "token"]
    "Where to end the reasoning: after the last whole step, or at the exact token."
    end_text: str
    "Text that starts the response after a forced end of the reasoning; s1 uses 'Final Answer:'."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Engine that samples tokens."
    extra_body: str | None
    "JSON object with more fields for each request; null removes top_p, temperature or seed."
    fresh: bool
    "Make a new version and take nothing over."
    limit: int | None
    "Use only the first N problems."
    max_cost: float | None
    "Maximum cost of a version in dollars, over all its runs; needs both prices."
    max_model_len: int | None
    "Maximum tokens of prompt and completion together. Default: the model's own limit."
    max_reasoning_tokens: int | None
    "Maximum tokens of reasoning: then it is ended, and the response starts."
    max_tokens: int
    "Maximum tokens of a completion."
    min_reasoning_tokens: int
    "Minimum tokens of reasoning: an earlier end is replaced with --wait-text."
    no_thinking: bool
    "Use the mode without thinking of a model that has both modes."
    num_samples: int
    "Completions per problem."
    num_waits: int
    "Replace the first N ends of the reasoning with --wait-text."
    price_input: float | None
    "Dollars per million prompt tokens."
    price_output: float | None
    "Dollars per million completion tokens."
    problem_field: str | None
    "Field with the problem text. Default: problem, question or prompt."
    prompt_template: str
    "The user message; {problem} is replaced with the problem."
    replicas: int
    "Copies of the model, each in its own process (vllm)."
    seed: int
    "Seed of every random choice."
    stall_seconds: float
    "Ask a server again that sends nothing for this many seconds."
    stop_loops: bool
    "End a completion when it repeats the same 1 to 64 tokens 32 times."
    system_prompt: str | None
    "System message; default: none."
    temperature: float
    "Sampling temperature; 0 is greedy decoding."
    template_name: str | None
    "Name of the chat template, for a tokenizer that has several. Without it: `default`."
    template_option: Sequence[str] | Mapping[str, Any] | None
    "KEY=VALUE for the chat template, repeated: enable_thinking=false, reasoning_effort=high."
    tensor_parallel_size: int
    "GPUs per copy of the model (vllm)."
    think_close: str | None
    "Text that closes the reasoning; goes with --think-open."
    think_open: str | None
    "Text that opens the reasoning, if the chat template does not show it."
    tokenizer: Reference | None
    "Tokenizer of the served model: prompts are rendered here and sent to /completions. Required for a budget."
    top_p: float
    "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this."
    verifier: str | Callable[..., Any] | None
    "Verifier for all rows: math, numeric, exact, choice, code or your own FILE.py:FUNCTION. Default: the verifier that each row names."
    wait_text: str
    "Text that replaces an end of the reasoning, so that it continues."

class _GenerateOptions(_SamplingOptions, total=False):
    allow_no_reasoning: bool
    "Continue if the server returns no reasoning."
    pilot: int | None
    "With --dry-run: sample N of the rows, which are kept, and estimate from them."
    soft_labels: int | None
    "Store the N most likely tokens at each position with their log-probabilities."
    teacher_licence: str | None
    "Licence of the teacher's output. Default: from the model's files, else from a built-in table."

@overload
def generate(
    problems: Reference,
    *,
    teacher: Reference,
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_GenerateOptions],
) -> Result: ...
@overload
def generate(
    problems: Reference,
    *,
    teacher: Reference,
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_GenerateOptions],
) -> Forecast: ...

class _FilterOptions(TypedDict, total=False):
    accept_errors: bool
    "Finish even if some rows fail again; those rows are rejected."
    allow_benchmark_training: bool
    "Take rows of a benchmark as training data."
    answer_form: Literal["boxed", "any"]
    "Where to look for the answer. boxed: in \\boxed{}. any: also after 'the final answer is'."
    api_key_env: str
    "Environment variable with the API key of the server."
    base_url: str | None
    "Address of an OpenAI-compatible server, for example http://localhost:8000/v1."
    code_packages: Sequence[str] | None
    "Package that programs may import, for example numpy. Repeat the flag, or separate names by commas."
    code_rules: Literal["plain", "livecodebench"]
    "How programs are extracted and run: plain, or livecodebench as in its harness."
    concurrency: int | None
    "Sequences sampled at the same time. Default: as many as vLLM runs, else 256."
    decontaminate: Sequence[str] | None
    "Drop problems of this benchmark (math500), file or dataset; repeat for several."
    decontaminate_mode: Literal["share", "ngram8"]
    "How to find problems of a benchmark. share: the same question, also in other words. ngram8: eight consecutive words in common, the rule of s1 and open-r1."
    dedup: Literal["exact", "near", "none"]
    "Duplicates to remove. exact: rows with the same problem and completion. near: also rows whose problems have nearly the same words."
    difficulty: Sequence[str] | None
    "Predictions of a model for the same problems, or the OUT of its eval; repeat for several models: the best counts."
    end_text: str
    "Text that starts the response after a forced end of the reasoning; s1 uses 'Final Answer:'."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Engine that samples tokens."
    explain: bool
    "Apply all rules to each row, and record every rule that would drop it."
    fresh: bool
    "Make a new version and take nothing over."
    ignore_rule: Sequence[str] | None
    "Turn off this rule, for example unfinished_response. Repeat the flag for several."
    max_cost: float | None
    "Maximum cost of a version in dollars, over all its runs; needs both prices."
    max_foreign_letters: int | None
    "Drop traces with more letters of another script, such as Chinese in an English trace. Formulas, quotes and names do not count."
    max_model_len: int | None
    "Maximum tokens of prompt and completion together. Default: the model's own limit."
    max_pass_rate: float | None
    "Drop problems with a higher pass rate (needs --difficulty). Default with --strategy s1: 0."
    max_reasoning_tokens: int | None
    "Drop rows with more reasoning tokens (see --over-budget)."
    max_repetition: float
    "Drop traces that repeat themselves: maximum share of repeated text in the most repetitive 2,000 bytes (repeated: it occurred four times before). 1 keeps all."
    max_tokens: int
    "Maximum tokens of a completion."
    min_pass_rate: float | None
    "Drop problems with a lower pass rate (needs --difficulty)."
    min_reasoning_tokens: int
    "Drop rows with fewer reasoning tokens."
    near_threshold: float
    "With --dedup near: minimum share of common word pairs. 0.9 removes only very similar problems."
    num_clusters: int | None
    "Replace the domains of the rows with N clusters of problems by their words."
    num_workers: int | None
    "Rows judged at the same time. Default: one per core."
    over_budget: Literal["drop", "cut", "force"]
    "What to do with longer reasoning. drop: drop the row. cut: keep the steps that fit, if they reach the correct answer. force: keep the steps that fit, and let --teacher write the response."
    per_problem: int | None
    "Keep at most N rows per problem."
    prefer: Literal["random", "shortest", "longest"]
    "Rows to keep with --per-problem, by length of reasoning."
    price_input: float | None
    "Dollars per million prompt tokens."
    price_output: float | None
    "Dollars per million completion tokens."
    replicas: int
    "Copies of the model, each in its own process (vllm)."
    rule: Sequence[str | Callable[..., Any]] | None
    "Rule of your own, FILE.py:FUNCTION: drops the rows that it rejects. Repeat the flag for several."
    seed: int
    "Seed of every random choice."
    select: int | None
    "Select N of the rows that passed all rules."
    stall_seconds: float
    "Ask a server again that sends nothing for this many seconds."
    strategy: Literal["random", "shortest", "longest", "diverse", "s1"]
    "Rows that --select keeps. random. shortest, longest: by reasoning. diverse: equally many per domain. s1: domains at random, long reasoning preferred, unclear problems dropped."
    strategy_option: Sequence[str] | Mapping[str, Any] | None
    "KEY=VALUE for --strategy s1, to reproduce the selection of s1K: preselect, preselect_min_tokens, follow, follow_weight (values separated by commas), num_follow. Repeat the flag for several."
    teacher: Reference | None
    "Model that writes the response with --over-budget force."
    temperature: float
    "Sampling temperature; 0 is greedy decoding."
    tensor_parallel_size: int
    "GPUs per copy of the model (vllm)."
    tokenizer: Reference | None
    "With --over-budget cut: model whose tokenizer counted the tokens of the rows, usually the teacher. With force: tokenizer of a teacher behind a server."
    top_p: float
    "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this."
    unsafe_run_model_code_without_sandbox: bool
    "Run programs written by models without a sandbox, with all your permissions."
    verdict: Sequence[str] | None
    "Verdict to keep: correct, wrong or unverifiable. Repeat the flag for several. Default: correct."
    verifier: str | Callable[..., Any] | None
    "Verifier for all rows: math, numeric, exact, choice, code or your own FILE.py:FUNCTION. Default: the verifier that each row names."

@overload
def filter(
    traces: Reference | Sequence[Reference],
    *,
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_FilterOptions],
) -> Result: ...
@overload
def filter(
    traces: Reference | Sequence[Reference],
    *,
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_FilterOptions],
) -> Forecast: ...

class _LabelOptions(TypedDict, total=False):
    accept_errors: bool
    "Finish even if some rows fail again; those rows are rejected."
    chat_template: str | None
    "Chat template: chatml, llama3, plain or a jinja file. Default: the model's own."
    concurrency: int | None
    "Sequences sampled at the same time. Default: as many as vLLM runs, else 256."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Engine that samples tokens."
    fresh: bool
    "Make a new version and take nothing over."
    max_model_len: int | None
    "Maximum tokens of prompt and completion together. Default: the model's own limit."
    replicas: int
    "Copies of the model, each in its own process (vllm)."
    soft_labels: int
    "Number of soft labels per token: the most likely tokens and their log-probabilities."
    stall_seconds: float
    "Ask a server again that sends nothing for this many seconds."
    teacher_licence: str | None
    "Licence of the teacher's output. Default: from the model's files, else from a built-in table."
    template_name: str | None
    "Name of the chat template, for a tokenizer that has several. Without it: `default`."
    template_option: Sequence[str] | Mapping[str, Any] | None
    "KEY=VALUE for the chat template, repeated: enable_thinking=false, reasoning_effort=high."
    tensor_parallel_size: int
    "GPUs per copy of the model (vllm)."
    think_close: str | None
    "Text that closes the reasoning; goes with --think-open."
    think_open: str | None
    "Text that opens the reasoning, if the chat template does not show it."

@overload
def label(
    traces: Reference | Sequence[Reference],
    *,
    teacher: Reference,
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_LabelOptions],
) -> Result: ...
@overload
def label(
    traces: Reference | Sequence[Reference],
    *,
    teacher: Reference,
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_LabelOptions],
) -> Forecast: ...

class _SftOptions(TypedDict, total=False):
    adam_beta1: float
    "AdamW beta1: decay of the mean of gradients."
    adam_beta2: float
    "AdamW beta2: decay of the mean of squared gradients. s1 uses 0.95, transformers 0.999."
    allow_benchmark_training: bool
    "Take rows of a benchmark as training data."
    alpha: int
    "LoRA alpha: the adapter is scaled by alpha / rank."
    batch_size: int
    "Traces per optimizer step, over all processes."
    chat_template: str | None
    "Chat template: chatml, llama3, plain or a jinja file. Default: the model's own."
    dtype: Literal["bf16", "fp32"]
    "Precision of the computation; trained weights are always fp32."
    epochs: int
    "Passes over all traces."
    eval_split: float
    "Share of the problems that are held out to measure the loss."
    feature_layers: Sequence[str] | None
    "Pair of layers to compare, STUDENT:TEACHER; 1 is the first layer. Default: every student layer with evenly spaced teacher layers. Fewer pairs need less memory."
    feature_loss: Literal["mse", "cosine"]
    "Loss between hidden states. mse: mean squared error. cosine: 1 - cosine similarity."
    feature_weight: float
    "Weight of the loss between the hidden states of student and --teacher."
    fresh: bool
    "Make a new version and take nothing over."
    gradient_checkpointing: bool
    "Recompute activations in the backward pass: much less memory, about a third more time."
    kd_adaptive: bool
    "Multiply the weight by held-out loss / first held-out loss, measured every --save-every steps (needs --eval-split)."
    kd_beta: float
    "Weight of the teacher in the mixture of js."
    kd_divergence: Literal["forward", "reverse", "js"]
    "Soft loss. forward: KL(teacher || student). reverse: KL(student || teacher). js: generalized Jensen-Shannon divergence (see --kd-beta)."
    kd_schedule: Literal["constant", "linear", "cosine"]
    "Schedule from the first to the last values of weight and temperature."
    kd_temperature: float
    "Temperature of both distributions; the loss is multiplied by its square. Unless it is 1, stored labels are compared among their top-k tokens only."
    kd_temperature_end: float | None
    "Temperature at the last step (see --kd-schedule)."
    kd_weight: float
    "Weight w of the soft loss at tokens with soft labels; the hard loss has the weight 1 - w."
    kd_weight_end: float | None
    "Weight w at the last step (see --kd-schedule)."
    learning_rate: float | None
    "Peak learning rate. Default: 1e-5, for adapters a value that depends on the student's hidden size."
    max_grad_norm: float
    "Clip gradients to this norm."
    max_length: int
    "Maximum tokens of a row, including the prompt."
    max_steps: int | None
    "Stop after N steps."
    merge: bool
    "Also write the model with the adapter merged: OUT/vN/merged."
    method: Literal["full", "lora", "qlora"]
    "full: train all weights. lora: train an adapter. qlora: an adapter on 4-bit weights."
    min_learning_rate: float
    "Learning rate at the end of cosine and linear schedules (not a ratio)."
    num_processes: int
    "Processes that train together, one per GPU."
    over_length: Literal["refuse", "drop", "cut"]
    "What to do with longer rows; a cut row also loses its end token."
    packing: bool | None
    "Pack several rows into one sequence instead of padding. Default: if the model supports it."
    rank: int
    "LoRA rank."
    relation_weight: float
    "Weight of the loss between student and --teacher in the similarities of tokens and of rows."
    report_to: Sequence[str] | None
    "Experiment tracker: tensorboard, wandb or trackio."
    rope_theta: float | None
    "RoPE base (rope_theta), to train on rows longer than the student's context."
    save_every: int
    "Steps between checkpoints to resume from; the held-out loss is measured at each."
    scheduler: Literal["cosine", "linear", "constant"]
    "Learning-rate schedule; it ends at --min-learning-rate."
    seed: int
    "Seed of every random choice."
    sharding: Literal["ddp", "fsdp"]
    "ddp: each process holds all weights. fsdp: each holds a share of them."
    teacher: Sequence[str] | None
    "Model that is loaded beside the student. The student learns its full distribution instead of stored labels. Repeat the flag for several: their losses are averaged."
    teacher_weight: Sequence[float] | None
    "Weight of each --teacher, in the same order."
    template_name: str | None
    "Name of the chat template, for a tokenizer that has several. Without it: `default`."
    template_option: Sequence[str] | Mapping[str, Any] | None
    "KEY=VALUE for the chat template, repeated: enable_thinking=false, reasoning_effort=high."
    think_close: str | None
    "Text that closes the reasoning; goes with --think-open."
    think_open: str | None
    "Text that opens the reasoning, if the chat template does not show it."
    train_on_prompt: bool
    "Train on the prompt tokens too; they have no soft labels."
    warmup: float
    "Warmup ratio: share of the steps with a rising learning rate."
    weight: Sequence[float] | None
    "How often each row of an input is used per epoch, such as 0.5 or 2; one value per input. Default: 1."
    weight_decay: float
    "Weight decay of AdamW."

@overload
def sft(
    traces: Reference | Sequence[Reference],
    *,
    student: Reference,
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_SftOptions],
) -> Result: ...
@overload
def sft(
    traces: Reference | Sequence[Reference],
    *,
    student: Reference,
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_SftOptions],
) -> Forecast: ...

class _EvaluateOptions(_SamplingOptions, total=False):
    adapter: Reference | None
    "LoRA adapter on MODEL; an adapter as MODEL finds its base by itself."
    answer_form: Literal["boxed", "any"]
    "Where to look for the answer. boxed: in \\boxed{}. any: also after 'the final answer is'."
    code_packages: Sequence[str] | None
    "Package that programs may import, for example numpy. Repeat the flag, or separate names by commas."
    code_rules: Literal["plain", "livecodebench"]
    "How programs are extracted and run: plain, or livecodebench as in its harness."
    max_date: str | None
    "Use only problems dated on this day or earlier."
    min_date: str | None
    "Use only problems dated on this day (2024-08-01) or later."
    protocol: Literal["r1", "openr1", "s1", "greedy"] | None
    "Use the published temperature, top_p, tokens, samples and prompt, where you give none."
    unsafe_run_model_code_without_sandbox: bool
    "Run programs written by models without a sandbox, with all your permissions."

@overload
def evaluate(
    model: Reference,
    *,
    benchmark: Reference,
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_EvaluateOptions],
) -> Evaluation: ...
@overload
def evaluate(
    model: Reference,
    *,
    benchmark: list[str],
    out: Reference,
    dry_run: Literal[False] = ...,
    **options: Unpack[_EvaluateOptions],
) -> list[Evaluation]: ...
@overload
def evaluate(
    model: Reference,
    *,
    benchmark: Reference,
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_EvaluateOptions],
) -> Forecast: ...
@overload
def evaluate(
    model: Reference,
    *,
    benchmark: list[str],
    out: Reference,
    dry_run: Literal[True],
    **options: Unpack[_EvaluateOptions],
) -> list[Forecast]: ...

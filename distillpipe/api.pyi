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
    "Finish without the rows that fail again; they are rejected."
    answer_field: str | None
    "Key of the reference answer; default: reference_answer, answer or gold."
    api_key_env: str
    "Name of the environment variable that holds the server's key."
    base_url: str | None
    "Address of an OpenAI-compatible server: http://localhost:8000/v1."
    chat_template: str | None
    "chatml, llama3, plain or a jinja file; default: the model's own."
    concurrency: int | None
    "Sequences in flight; default: what vLLM runs, or 256."
    end_at: Literal["step", "token"]
    "Where a forced end falls: on the last whole step, or on the very token."
    end_text: str
    "What begins the response after a forced end; s1: 'Final Answer:'."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Where tokens come from."
    extra_body: str | None
    "JSON object of other fields for each request; null leaves out top_p, temperature or seed."
    fresh: bool
    "Make a new version and take nothing over."
    limit: int | None
    "Only the first N problems."
    max_cost: float | None
    "Dollars that a version may cost, over all its runs; needs both prices."
    max_model_len: int | None
    "Limit on prompt and completion together; default: the model's own."
    max_reasoning_tokens: int | None
    "End the reasoning there, and go on to the response."
    max_tokens: int
    "Limit on a completion, in tokens."
    min_reasoning_tokens: int
    "Replace an earlier end of reasoning too, as often as needed."
    num_samples: int
    "Completions for each problem."
    num_waits: int
    "Replace the first N ends of reasoning by --wait-text."
    price_input: float | None
    "Dollars per million prompt tokens."
    price_output: float | None
    "Dollars per million completion tokens."
    problem_field: str | None
    "Key of the problem's text; default: problem, question or prompt."
    prompt_template: str
    "What is asked; {problem} stands for the problem."
    replicas: int
    "Copies of the model, one process each (vllm)."
    seed: int
    "Seed of every random choice."
    stall_seconds: float
    "A server that sends nothing for so long is asked again."
    stop_loops: bool
    "End a completion that repeats the same 1 to 64 tokens 32 times."
    system_prompt: str | None
    "System message; default: none."
    temperature: float
    "0 is greedy."
    tensor_parallel_size: int
    "GPUs that share one copy of the model (vllm)."
    tokenizer: Reference | None
    "Tokenizer of the served model: render prompts here, and ask /completions; a budget needs it."
    top_p: float
    "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this."
    verifier: str | Callable[..., Any] | None
    "math, numeric, exact, choice, code or your own FILE.py:FUNCTION, for all rows; default: each row's own."
    wait_text: str
    "What the reasoning goes on with in place of its end."

class _GenerateOptions(_SamplingOptions, total=False):
    allow_no_reasoning: bool
    "Go on where a server returns no reasoning."
    pilot: int | None
    "With --dry-run: sample N of the rows, which are kept, and estimate from them."
    soft_labels: int | None
    "Keep the N most likely tokens for each token, with their log-probabilities."
    teacher_licence: str | None
    "Licence of what the teacher writes; default: that of its files, or of our table."

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
    "Finish without the rows that fail again; they are rejected."
    allow_benchmark_training: bool
    "Take rows of a benchmark as training data."
    answer_form: Literal["boxed", "any"]
    "Where the answer stands: boxed, or any: also after 'the final answer is'."
    api_key_env: str
    "Name of the environment variable that holds the server's key."
    base_url: str | None
    "Address of an OpenAI-compatible server: http://localhost:8000/v1."
    code_packages: Sequence[str] | None
    "Package that programs may import (numpy); repeat for several, or separate them by commas."
    code_rules: Literal["plain", "livecodebench"]
    "How programs are found and run: plain, or as LiveCodeBench's harness does."
    concurrency: int | None
    "Sequences in flight; default: what vLLM runs, or 256."
    decontaminate: Sequence[str] | None
    "Drop problems of this benchmark (math500), file or dataset; repeat for several."
    decontaminate_mode: Literal["share", "ngram8"]
    "share: the same question in other spelling; ngram8: eight words in common, the rule of s1 and open-r1."
    dedup: Literal["exact", "near", "none"]
    "exact: of rows with the same problem and completion keep one. near: also of problems in nearly the same words."
    difficulty: Sequence[str] | None
    "Predictions of a model for the same problems, or the OUT of its eval; repeat for several models: the best counts."
    end_text: str
    "What begins the response after a forced end; s1: 'Final Answer:'."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Where tokens come from."
    explain: bool
    "Ask every rule about every row: which others would have dropped it too."
    fresh: bool
    "Make a new version and take nothing over."
    ignore_rule: Sequence[str] | None
    "Drop no row by this rule, for example unfinished_response; repeat for several."
    max_cost: float | None
    "Dollars that a version may cost, over all its runs; needs both prices."
    max_foreign_letters: int | None
    "Drop traces with more letters of another script; formulas, quotes and names do not count."
    max_model_len: int | None
    "Limit on prompt and completion together; default: the model's own."
    max_pass_rate: float | None
    "Drop easier problems; 0 with --strategy s1 if no bound is given."
    max_reasoning_tokens: int | None
    "Drop longer reasoning."
    max_repetition: float
    "Drop traces that go in circles: share of the worst 2,000 bytes that was said four times before; 1 keeps all."
    max_tokens: int
    "Limit on a completion, in tokens."
    min_pass_rate: float | None
    "Drop harder problems."
    min_reasoning_tokens: int
    "Drop shorter reasoning."
    near_threshold: float
    "Share of word pairs in common from which problems are near; 0.9 is strict."
    num_clusters: int | None
    "Make N domains from the words of the problems, in place of the rows' own."
    num_workers: int | None
    "Rows judged at a time; default: one for each core."
    over_budget: Literal["drop", "cut", "force"]
    "What becomes of longer reasoning. cut: end it at the last whole step that fits, if the correct answer was reached there. force: end it there, and have --teacher answer."
    per_problem: int | None
    "Keep at most N rows of a problem."
    prefer: Literal["random", "shortest", "longest"]
    "Which rows of a problem stay, by length of reasoning."
    price_input: float | None
    "Dollars per million prompt tokens."
    price_output: float | None
    "Dollars per million completion tokens."
    replicas: int
    "Copies of the model, one process each (vllm)."
    rule: Sequence[str | Callable[..., Any]] | None
    "Drop what a rule of your own rejects, FILE.py:FUNCTION; repeat for several."
    seed: int
    "Seed of every random choice."
    select: int | None
    "Keep N rows in the end."
    stall_seconds: float
    "A server that sends nothing for so long is asked again."
    strategy: Literal["random", "shortest", "longest", "diverse", "s1"]
    "Which rows --select keeps: random, by length; diverse: as many of each domain; s1: of each domain, long ones first, of clear problems."
    strategy_option: Sequence[str] | Mapping[str, Any] | None
    "KEY=VALUE, repeated, for --strategy s1: preselect, preselect_min_tokens, follow, follow_weight (values separated by commas), num_follow. They replay the drawing of s1K."
    teacher: Reference | None
    "Model that answers with --over-budget force."
    temperature: float
    "0 is greedy."
    tensor_parallel_size: int
    "GPUs that share one copy of the model (vllm)."
    tokenizer: Reference | None
    "With --over-budget cut: model whose tokens are counted, by which the rows were counted, usually the teacher. With force: tokenizer of a served teacher."
    top_p: float
    "Nucleus sampling: keep the smallest set of tokens whose probabilities sum to this."
    unsafe_run_model_code_without_sandbox: bool
    "Run programs that models wrote with all your rights."
    verdict: Sequence[str] | None
    "Verdict to keep: correct, wrong or unverifiable; repeat for several. Default: correct."
    verifier: str | Callable[..., Any] | None
    "math, numeric, exact, choice, code or your own FILE.py:FUNCTION, for all rows; default: each row's own."

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
    "Finish without the rows that fail again; they are rejected."
    chat_template: str | None
    "chatml, llama3, plain or a jinja file; default: the model's own."
    concurrency: int | None
    "Sequences in flight; default: what vLLM runs, or 256."
    engine: Literal["auto", "openai", "transformers", "vllm"]
    "Where tokens come from."
    fresh: bool
    "Make a new version and take nothing over."
    max_model_len: int | None
    "Limit on prompt and completion together; default: the model's own."
    replicas: int
    "Copies of the model, one process each (vllm)."
    soft_labels: int
    "Labels for each token: the most likely tokens and their log-probabilities."
    stall_seconds: float
    "A server that sends nothing for so long is asked again."
    teacher_licence: str | None
    "Licence of what the teacher writes; default: that of its files, or of our table."
    tensor_parallel_size: int
    "GPUs that share one copy of the model (vllm)."

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
    "Of AdamW: decay of the mean of gradients."
    adam_beta2: float
    "Of AdamW: decay of the mean of squared gradients; 0.95 is s1's, 0.999 transformers' default."
    allow_benchmark_training: bool
    "Take rows of a benchmark as training data."
    alpha: int
    "LoRA alpha: the adapter is scaled by alpha / rank."
    batch_size: int
    "Traces per optimizer step."
    chat_template: str | None
    "chatml, llama3, plain or a jinja file; default: the model's own."
    dtype: Literal["bf16", "fp32"]
    "Of the arithmetic; weights are trained in fp32."
    epochs: int
    "Passes over all traces."
    eval_split: float
    "Share of the problems to measure the loss on and never train on."
    feature_layers: Sequence[str] | None
    "Layers that are compared, STUDENT:TEACHER, 1 is the first. Default: all of the student, evenly spaced over the teacher's (fewer take less memory)."
    feature_loss: Literal["mse", "cosine"]
    "mse: mean squared difference, cosine: 1 - cosine similarity."
    feature_weight: float
    "Weight of the distance of hidden states to those of a --teacher."
    fresh: bool
    "Make a new version and take nothing over."
    gradient_checkpointing: bool
    "Recompute activations in the backward pass: much less memory, a third more time."
    kd_adaptive: bool
    "Scale the weight by the held-out loss as a share of the first one (needs --eval-split; measured every --save-every steps)."
    kd_beta: float
    "Share of the teacher in the mixture of js."
    kd_divergence: Literal["forward", "reverse", "js"]
    "forward: KL(teacher || student), reverse: KL(student || teacher), js: both to a mixture."
    kd_schedule: Literal["constant", "linear", "cosine"]
    "Schedule of weight and temperature to their end values."
    kd_temperature: float
    "Of both distributions; the loss is multiplied by its square. Other than 1, stored labels are compared among the top-k alone."
    kd_temperature_end: float | None
    "Value of --kd-temperature in the last step."
    kd_weight: float
    "Weight w of the soft loss at a token with a soft label; the hard loss has 1 - w."
    kd_weight_end: float | None
    "Value of --kd-weight in the last step."
    learning_rate: float | None
    "Peak learning rate. Default: 1e-5; for adapters it is derived from the student's width."
    max_grad_norm: float
    "Gradients are clipped to this norm."
    max_length: int
    "Tokens of a row, prompt included."
    max_steps: int | None
    "Stop after N steps."
    merge: bool
    "Write the merged model of an adapter too: OUT/vN/merged."
    method: Literal["full", "lora", "qlora"]
    "Train all weights, an adapter, or an adapter on weights of 4 bits."
    min_learning_rate: float
    "Where cosine and linear end: a learning rate, not a share of one."
    num_processes: int
    "Processes that train together, one for each GPU."
    over_length: Literal["refuse", "drop", "cut"]
    "What becomes of longer rows; a cut row loses its end token too."
    packing: bool | None
    "Pack rows one behind the other instead of padding them. Default: where the model can."
    rank: int
    "LoRA rank."
    relation_weight: float
    "Weight of the distance of the similarities of tokens, and of rows, to those of a --teacher."
    report_to: Sequence[str] | None
    "tensorboard, wandb or trackio: tracks every step."
    rope_theta: float | None
    "Base of the rotary embeddings, to train on rows longer than the student's context."
    save_every: int
    "Steps between states to resume from; the held-out loss is measured there."
    scheduler: Literal["cosine", "linear", "constant"]
    "Learning-rate schedule, to --min-learning-rate at the end."
    seed: int
    "Seed of every random choice."
    sharding: Literal["ddp", "fsdp"]
    "What each process holds: all weights, or its share of them."
    teacher: Sequence[str] | None
    "A model that is loaded beside the student, and whose whole distribution is learnt from in place of stored labels; several: the mean of their losses."
    teacher_weight: Sequence[float] | None
    "Weight of each --teacher, in their order."
    train_on_prompt: bool
    "Have a loss on the prompt too; its tokens have no soft labels."
    warmup: float
    "Warmup ratio: share of the steps."
    weight: Sequence[float] | None
    "How often a row of an input comes in an epoch, once for each input: 0.5, 2. Default: 1."
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
    "Where the answer stands: boxed, or any: also after 'the final answer is'."
    code_packages: Sequence[str] | None
    "Package that programs may import (numpy); repeat for several, or separate them by commas."
    code_rules: Literal["plain", "livecodebench"]
    "How programs are found and run: plain, or as LiveCodeBench's harness does."
    max_date: str | None
    "Only problems of this day or earlier."
    min_date: str | None
    "Only problems of this day (2024-08-01) or later."
    protocol: Literal["r1", "openr1", "s1", "greedy"] | None
    "Use the published temperature, top_p, tokens, samples and prompt, where you give none."
    unsafe_run_model_code_without_sandbox: bool
    "Run programs that models wrote with all your rights."

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

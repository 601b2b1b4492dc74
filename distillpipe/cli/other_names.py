"""Names of our options in other tools. They are not aliases: the error message gives our name.

Names of TRL and transformers, open-r1, LLaMA-Factory, axolotl, ms-swift, lighteval, vLLM and OpenAI's API.
"""

from collections.abc import Collection

OTHER_NAMES: dict[str, tuple[str, tuple[str, ...]]] = {
    "learning_rate": ("the learning rate", ("lr", "peak_lr", "max_lr")),
    "min_learning_rate": ("the last learning rate", ("min_lr", "lr_min", "final_lr")),
    "scheduler": ("the learning-rate schedule", (
        "lr_scheduler", "lr_scheduler_type", "scheduler_type", "lr_schedule", "schedule",
    )),
    "warmup": ("the warmup ratio", ("warmup_ratio", "lr_warmup_ratio", "warmup_share")),
    "epochs": ("the number of epochs", (
        "num_epochs", "num_train_epochs", "train_epochs", "n_epochs", "epoch",
    )),
    "max_steps": ("the number of steps", ("num_steps", "train_steps", "max_train_steps", "steps")),
    "batch_size": ("the number of traces per optimizer step", (
        "per_device_train_batch_size", "train_batch_size", "global_batch_size", "micro_batch_size",
        "gradient_accumulation_steps", "bs", "batch",
    )),
    "rank": ("the LoRA rank", ("lora_rank", "lora_r", "r", "peft_lora_r")),
    "alpha": ("the LoRA alpha", ("lora_alpha", "peft_lora_alpha")),
    "method": ("the kind of training", (
        "finetuning_type", "train_type", "tuner_type", "use_peft", "lora", "qlora", "adapter_type",
        "load_in_4bit", "peft",
    )),
    "max_length": ("the limit on a row", (
        "max_seq_length", "max_seq_len", "cutoff_len", "sequence_len", "seq_len", "model_max_length",
    )),
    "max_grad_norm": ("the limit on the gradient norm", ("grad_clip", "clip_grad", "gradient_clipping")),
    "adam_beta1": ("beta1 of AdamW", ("beta1", "adam_b1")),
    "adam_beta2": ("beta2 of AdamW", ("beta2", "adam_b2")),
    "weight_decay": ("the weight decay", ("wd",)),
    "eval_split": ("the held-out share", ("val_size", "val_set_size", "split_dataset_ratio", "test_size")),
    "save_every": ("the number of steps between states", ("save_steps", "save_interval")),
    "gradient_checkpointing": ("recomputing activations", ("activation_checkpointing",)),
    "packing": ("packing", ("sample_packing", "neat_packing")),
    "dtype": ("the type of the arithmetic", ("bf16", "fp16", "torch_dtype", "precision", "mixed_precision")),
    "report_to": ("the tracker", ("logger", "log_with", "wandb")),
    "num_processes": ("the number of processes", ("nproc_per_node", "num_gpus", "nproc", "gpus")),
    "sharding": ("how weights are shared out", ("fsdp", "deepspeed", "zero_stage")),
    "kd_temperature": ("the temperature of the soft loss", ("distill_temperature", "softmax_temperature")),
    "kd_weight": ("the weight of the soft loss", ("distill_weight", "alpha_kd", "kd_alpha", "lmbda", "kd_ratio")),
    "kd_beta": ("the share of the teacher in the mixture", ("beta", "gkd_beta")),
    "out": ("the folder of the versions", (
        "output_dir", "output", "output_path", "save_dir", "out_dir", "save_path", "result_dir",
    )),
    "student": ("the student", (
        "model", "model_name", "model_id", "model_name_or_path", "base_model", "student_model",
    )),
    "teacher": ("the teacher", (
        "model", "model_name", "model_id", "model_name_or_path", "teacher_model", "base_model",
        "teacher_model_name_or_path",
    )),
    "model": ("the model", (
        "model_name", "model_id", "model_name_or_path", "model_args", "pretrained", "student", "checkpoint",
    )),
    "benchmark": ("the benchmark", ("task", "tasks", "dataset", "datasets", "eval_dataset")),
    "problems": ("the file of problems", ("dataset", "dataset_name", "input", "input_file", "prompts", "data")),
    "traces": ("the dataset of traces", ("dataset", "dataset_name", "dataset_path", "train_file", "data", "input")),
    "max_tokens": ("the limit on a completion", (
        "max_new_tokens", "max_completion_tokens", "max_gen_toks", "max_generation_length",
        "generation_size", "max_output_tokens",
    )),
    "num_samples": ("the number of completions for each problem", (
        "n", "num_return_sequences", "num_generations", "k", "n_samples", "num_completions", "samples",
    )),
    "temperature": ("the temperature", ("temp",)),
    "top_p": ("nucleus sampling", ("nucleus", "p")),
    "limit": ("the number of problems", ("max_samples", "num_problems", "num_examples", "max_examples")),
    "seed": ("the seed", ("random_seed", "data_seed")),
    "engine": ("the engine", ("backend", "infer_backend", "inference_engine", "use_vllm")),
    "tensor_parallel_size": ("the number of GPUs that share a model", ("tp", "tp_size", "tensor_parallel")),
    "replicas": ("the number of copies of the model", ("dp", "dp_size", "data_parallel_size")),
    "concurrency": ("the number of sequences in flight", (
        "max_num_seqs", "max_concurrency", "num_concurrent", "workers", "parallel",
    )),
    "max_model_len": ("the limit on prompt and completion", ("max_model_length", "context_length", "ctx")),
    "base_url": ("the address of the server", ("api_base", "url", "endpoint", "vllm_server_url", "server")),
    "api_key_env": ("the name of the variable that holds the key", ("api_key", "key")),
    "max_reasoning_tokens": ("the limit on reasoning", (
        "thinking_budget", "reasoning_budget", "max_thinking_tokens", "max_think_tokens",
    )),
    "chat_template": ("the chat template", ("template", "chat_template_path")),
    "prompt_template": ("the template of the prompt", ("prompt",)),
    "system_prompt": ("the system message", ("system",)),
    "adapter": ("the LoRA adapter", ("adapter_path", "lora_path", "adapter_name_or_path", "peft_path")),
    "problem_field": ("the key of the problem's text", ("prompt_column", "prompt_field", "text_column", "input_key")),
    "answer_field": ("the key of the reference answer", ("answer_column", "label_column", "gold_field", "answer_key")),
    "dry_run": ("what would be done", ("estimate", "plan", "preview_only")),
    "decontaminate": ("the benchmark to keep out", ("decontamination", "benchmarks")),
    "soft_labels": ("the number of soft labels", ("top_logprobs", "logprobs", "top_k_logits", "num_logprobs")),
}  # fmt: skip


def our_name(name: str, known: Collection[str]) -> tuple[str, str] | None:
    """A description of the option `name` of another tool, and our name of it; None if it is not in `known`."""
    name = name.replace("-", "_")
    for ours, (what, others) in OTHER_NAMES.items():
        if ours in known and name in (ours, *others):
            return what, ours
    return None

"""The lm-eval side of `eval.py`: runs in its own environment, reads and writes JSON lines.

{"do": "load", "model": "...", "rows": "prompts.jsonl", "batch_size": 64, "max_tokens": 160,
 "threads": 1, "temperature": 0}
{"do": "evaluate"}                        wall-clock and CPU seconds of a whole evaluation
{"do": "rules", "rows": "answers.jsonl"}  the answers that its GSM8K rule extracts from texts, and its scores
"""

import json
import os
import sys
import time
from typing import Any

STRICT, FLEXIBLE = r"#### (\-?[0-9\.\,]+)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
IGNORED = [",", "\\$", "(?s).*#### ", "\\.$"]  # of task gsm8k, lm-eval 0.4.13


def load(arguments: dict[str, Any]) -> Any:
    """Load the model, and a task with GSM8K's rule on our prompts."""
    import torch
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(arguments["threads"])
    model = HFLM(
        arguments["model"], device="cpu", dtype="float32", batch_size=arguments["batch_size"],
        max_length=1024,
    )  # fmt: skip
    filters = [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern, "group_select": at},
                                  {"function": "take_first"}]}
        for name, pattern, at in (("strict", STRICT, 0), ("flexible", FLEXIBLE, -1))
    ]  # fmt: skip
    hot = {"do_sample": True, "temperature": arguments["temperature"], "top_p": 0.95, "top_k": 0}
    drawn = hot if arguments["temperature"] else {"do_sample": False}
    task = ConfigurableTask(
        config={
            "task": "same_problems",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": arguments["rows"]}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "num_fewshot": 0,
            "generation_kwargs": {
                "until": ["<|im_end|>"], **drawn, "max_gen_toks": arguments["max_tokens"],
            },
            "filter_list": filters,
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True,
                             "regexes_to_ignore": IGNORED, "ignore_case": True}],
        }
    )  # fmt: skip
    return model, task


def evaluate(model: Any, task: Any) -> dict[str, Any]:
    from lm_eval import evaluate as lm_eval_evaluate

    started, worked = time.perf_counter(), sum(os.times()[:4])
    found = lm_eval_evaluate(model, {"same_problems": task}, log_samples=True)
    seconds = {
        "seconds": time.perf_counter() - started,
        "processor_seconds": sum(os.times()[:4]) - worked,
    }
    scores = found["results"]["same_problems"]
    texts = [
        sample["resps"][0][0]
        for sample in found["samples"]["same_problems"]
        if sample["filter"] == "strict"
    ]
    return seconds | {
        "strict": scores["exact_match,strict"], "flexible": scores["exact_match,flexible"],
        "characters": sum(map(len, texts)),
    }  # fmt: skip


def rules(path: str) -> dict[str, Any]:
    """For each text: the answers of the strict and the flexible filter, and whether each is correct."""
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters.extraction import RegexFilter

    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - runs where nothing of the project is
        rows = [json.loads(line) for line in file]
    found: dict[str, Any] = {}
    for name, pattern, at in (("strict", STRICT, 0), ("flexible", FLEXIBLE, -1)):
        taken = RegexFilter(pattern, at).apply([[row["text"]] for row in rows], [{}] * len(rows))
        found[name] = [
            (
                one[0],
                bool(
                    exact_match_hf_evaluate(
                        [one[0]], [row["reference"]], regexes_to_ignore=IGNORED, ignore_case=True
                    )["exact_match"]
                ),
            )
            for one, row in zip(taken, rows, strict=True)
        ]
    return found


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer of ours
    state: Any = None
    for line in sys.stdin:
        arguments = json.loads(line)
        answer: dict[str, Any] = {}
        if arguments["do"] == "load":
            state = load(arguments)
        elif arguments["do"] == "evaluate":
            answer = evaluate(*state)
        else:
            answer = rules(arguments["rows"])
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()

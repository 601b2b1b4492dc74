"""Make the files of `data/quickstart/`: problems, a tokenizer, a tiny teacher, three tiny base students.

    python scripts/make_quickstart.py                 # all, about 40 minutes on two cores
    python scripts/make_quickstart.py --only problems teacher

The teacher learns worked solutions with the habits of real teachers: it makes mistakes and says "Wait", it sometimes
checks a finished solution several times, and sometimes it loops until it is truncated. The bases learn chains of
equations, retelling of stories, one-step stories with reasoning, and longer stories with only the answer. So they know
all parts, but not how to combine them. Everything is drawn from one seed. On another processor the last bits of the
weights can differ, and so can the accuracies.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from quickstart_problems import Story, draw_story, is_test_story, reasoning, response
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2Tokenizer,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

OUT = Path(__file__).parent.parent / "data" / "quickstart"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
VOCABULARY_SIZE = 512  # bytes, special tokens, and as many merges of the BPE as fit
MAX_POSITIONS = 1024
NUM_TRAIN_PROBLEMS, NUM_TEST_PROBLEMS = 6000, 1000
NUM_STEPS = {  # of 64 texts
    "teacher": 2000,
    "student-qwen": 1600,
    "student-llama": 2600,
    "student-small": 2600,
}
NUM_LAYERS = {"teacher": 4}  # others have 3
HIDDEN_SIZE = {"student-small": 64}  # others have 128; heads are of 32
STEP_WEIGHTS = {2: 35, 3: 35, 4: 20, 5: 10}

CHAT_TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and message.reasoning_content %}
{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def chat(problem: str, completion: str) -> str:
    """A training text, as the chat template renders it (`make_tokenizer` checks that)."""
    return f"<|im_start|>user\n{problem}<|im_end|>\n<|im_start|>assistant\n{completion}<|im_end|>\n"


def thought(reasoning_text: str, response_text: str) -> str:
    return f"<think>\n{reasoning_text}\n</think>\n\n{response_text}"


# ---------------------------------------------------------------- training texts


def draw_train_story(rng: random.Random, num_steps: int | None = None) -> Story:
    """A story outside the test share."""
    num_steps = num_steps or rng.choices(list(STEP_WEIGHTS), weights=STEP_WEIGHTS.values())[0]
    while is_test_story(story := draw_story(rng, num_steps)):
        pass
    return story


def teacher_text(rng: random.Random) -> str:
    """One worked solution; some have mistakes, some are checked several times, a few loop."""
    story = draw_train_story(rng)
    draw = rng.random()
    worked = reasoning(story, rng, slip_probability=0.08)
    if draw < 0.08:
        again = worked.partition("\n")[2]
        worked += "".join(f"\nLet me check.\n{again}" for _ in range(rng.randint(1, 3)))
    elif draw < 0.12:
        lines = worked.split("\n")
        lines = lines[: rng.randint(2, len(lines))]
        worked = "\n".join(lines) + f"\nWait.\n{lines[-1]}" * 12
        return chat(story.problem, f"<think>\n{worked}").removesuffix("<|im_end|>\n")
    return chat(story.problem, thought(worked, response(story)))


def base_text(rng: random.Random) -> str:
    """A training text of a base: chains of equations, a retold story, a single step, or a bare answer."""
    draw = rng.random()
    story = draw_train_story(rng)
    if draw < 0.5:
        stories = [story, draw_train_story(rng), draw_train_story(rng)]
        steps = [step for each_story in stories for step in each_story.steps]
        pairs = [pair for step in steps for pair in zip(step.equations, step.results, strict=True)]
        return "\n".join(f"{left}={result}." for left, result in pairs) + "<|endoftext|>"
    if draw < 0.65:
        facts = story.problem.rpartition("How many")[0]
        retold = [f"{story.name} starts with {story.start}.", *(f"{s.label}." for s in story.steps)]
        return chat(f"{facts}What happens?", "\n".join(retold))
    if draw < 0.8:
        story = draw_train_story(rng, 1)
        return chat(story.problem, thought(reasoning(story, rng), response(story)))
    return chat(story.problem, response(story))


# ---------------------------------------------------------------- problems and tokenizer


def make_problems(seed: int) -> None:
    """Write distinct problems: test problems use the number sequences reserved for testing, train the others."""
    rng = random.Random(seed)
    sizes = {"train": NUM_TRAIN_PROBLEMS, "test": NUM_TEST_PROBLEMS}
    rows: dict[str, dict[str, dict[str, object]]] = {"train": {}, "test": {}}
    test_numbers: set[tuple[int, ...]] = set()
    while any(len(rows[split]) < sizes[split] for split in sizes):
        num_steps = rng.choices(list(STEP_WEIGHTS), weights=STEP_WEIGHTS.values())[0]
        story = draw_story(rng, num_steps)
        split = "test" if is_test_story(story) else "train"
        if len(rows[split]) == sizes[split] or story.numbers in test_numbers:
            continue
        if split == "test":
            test_numbers.add(story.numbers)
        row = {"problem": story.problem, "answer": str(story.answer), "num_steps": num_steps}
        rows[split][story.problem] = row
    for split, by_problem in rows.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in by_problem.values()]
        (OUT / f"problems-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_tokenizer(seed: int) -> Qwen2Tokenizer:
    """A byte-level BPE with the pattern of Qwen2, so that AutoTokenizer loads exactly this tokenizer."""
    rng = random.Random(seed)
    corpus = [teacher_text(rng) for _ in range(8000)] + ["What happens?"] * 8000
    for special in SPECIAL_TOKENS:
        corpus = [text.replace(special, "") for text in corpus]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    state = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=state["vocab"],
        merges=[tuple(merge) for merge in state["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[:3])})
    tokenizer.add_tokens(list(SPECIAL_TOKENS[3:]))
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = MAX_POSITIONS
    _check_template(tokenizer)
    return tokenizer


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "user", "content": "p"},
        {"role": "assistant", "reasoning_content": "r", "content": "a"},
    ]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    if rendered != chat("p", thought("r", "a")):
        raise ValueError(f"the chat template and the training text differ: {rendered!r}")


# ---------------------------------------------------------------- models


def new_model(name: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model of the named kind with fresh weights."""
    hidden_size = HIDDEN_SIZE.get(name, 128)
    shape = {
        "vocab_size": math.ceil(len(tokenizer) / 64) * 64,
        "hidden_size": hidden_size,
        "num_hidden_layers": NUM_LAYERS.get(name, 3),
        "num_attention_heads": hidden_size // 32,
        "num_key_value_heads": hidden_size // 64,
        "intermediate_size": 3 * hidden_size,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }
    config = LlamaConfig(**shape) if name == "student-llama" else Qwen2Config(**shape)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def batches(
    draw_text: Callable[[random.Random], str],
    tokenizer: PreTrainedTokenizerBase,
    rng: random.Random,
    batch_size: int,
) -> Iterator[torch.Tensor]:
    """An endless sequence of new batches of rows of similar length, right-padded with -1: (batch, tokens)."""
    while True:
        rows = tokenizer([draw_text(rng) for _ in range(batch_size * 32)])["input_ids"]
        rows = sorted(rows, key=len)
        starts = list(range(0, len(rows), batch_size))
        rng.shuffle(starts)
        for start in starts:
            chunk = [torch.tensor(row) for row in rows[start : start + batch_size]]
            yield torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True, padding_value=-1)


def train(name: str, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """Train one model from scratch, loss on every token: cosine schedule, AdamW, bf16 autocast."""
    torch.manual_seed(seed)
    rng = random.Random(f"{seed} {name}")
    model = new_model(name, tokenizer)
    draw_text = teacher_text if name == "teacher" else base_text
    num_steps = NUM_STEPS[name]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / num_steps)),
    )
    started, num_tokens = time.monotonic(), 0
    stream = batches(draw_text, tokenizer, rng, batch_size=64)
    for step in range(num_steps):
        ids = next(stream)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids.clamp(min=0)).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=-1
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        num_tokens += int((ids >= 0).sum())
        if step % 100 == 99:
            rate = num_tokens / (time.monotonic() - started)
            say(f"{name}: step {step + 1}/{num_steps}, loss {loss:.4f}, {rate:,.0f} tokens/s")
    return model.to(torch.bfloat16)


@torch.inference_mode()
def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, temperature: float, limit: int
) -> float:
    """The share of the first `limit` test problems whose completion ends with the correct box."""
    lines = (OUT / "problems-test.jsonl").read_text(encoding="utf-8").splitlines()[:limit]
    rows = [json.loads(line) for line in lines]
    model = model.float().eval()
    tokenizer.padding_side = "left"
    num_correct = 0
    for start in range(0, len(rows), 250):
        chunk = rows[start : start + 250]
        prompts = [
            f"<|im_start|>user\n{row['problem']}<|im_end|>\n<|im_start|>assistant\n"
            for row in chunk
        ]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        sampling = {"temperature": temperature, "top_p": 0.95, "top_k": 0} if temperature else {}
        output = model.generate(
            **inputs, max_new_tokens=192, do_sample=temperature > 0, cache_implementation="static",
            disable_compile=True, **sampling
        )  # fmt: skip
        texts = tokenizer.batch_decode(output, skip_special_tokens=True)
        pairs = zip(texts, chunk, strict=True)
        num_correct += sum(t.strip().endswith(f"\\boxed{{{r['answer']}}}") for t, r in pairs)
    return num_correct / len(rows)


def say(text: str) -> None:
    print(text, flush=True)


def make_model(name: str, seed: int) -> None:
    """Train and save one model on one thread, since two models in parallel use two cores better."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(OUT / name)
    model = train(name, tokenizer, seed)
    model.save_pretrained(OUT / name)
    for temperature in (0.0, 0.6, 1.0):
        score = accuracy(model, tokenizer, temperature, NUM_TEST_PROBLEMS)
        say(f"{name}: {score:.3f} correct at temperature {temperature}")


def main() -> None:
    """Make the parts named by --only."""
    model_names = tuple(NUM_STEPS)
    parts = ("problems", "tokenizer", *model_names)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    OUT.mkdir(parents=True, exist_ok=True)
    if "problems" in arguments.only:
        make_problems(arguments.seed)
    if "tokenizer" in arguments.only:
        for name in model_names:
            make_tokenizer(arguments.seed).save_pretrained(OUT / name)
    processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=processes) as pool:
        names = [name for name in model_names if name in arguments.only]
        list(pool.map(make_model, names, [arguments.seed] * len(names)))


if __name__ == "__main__":
    main()

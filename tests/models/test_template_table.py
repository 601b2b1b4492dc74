"""Chat templates of many families: each is learnt, refused with a reason, or known to be without reasoning.

The templates of the installed trl package are read where they are. Those in `data` are small ones of our own that
do what the templates of other families do.
"""

import functools
import importlib.util
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.options import TemplateOptions
from distillpipe.base.records import Message
from distillpipe.base.thinking import split
from distillpipe.models.chat import Chat, load_chat
from distillpipe.models.modes import Modes, learn_modes
from distillpipe.models.rendering import Renderer

OWN = Path(__file__).parent / "data"
THINK = "<think> </think>"
GEMMA = "<|channel>thought <channel|>, on: enable_thinking=True"
HARMONY = (
    "<|channel|>analysis<|message|> <|end|> <|start|>assistant<|channel|>final<|message|>, "
    "reads thinking, by the clock"
)
MUSE = "to=self<|message|> <|eom|> <|start|>assistant to=user<|message|>, reads reasoning_content, by the clock"
READS, DROPS = f"{THINK}, reads reasoning_content", "without reasoning"
SWITCHED = f"{READS}, off: enable_thinking=False"
OPENED = f"opened {SWITCHED}"
NO_TEXT = "refused: does not render the text of all messages"

OF_TRL = {
    "cohere": DROPS, "cohere2": DROPS, "deepseek_r1_distill": f"opened {THINK}",
    "deepseekv3": f"opened {THINK}", "diffusion_gemma": f"{GEMMA}, reads reasoning_content",
    "gemma": DROPS, "gemma3": DROPS, "gemma4": GEMMA, "gemma4_v2": GEMMA, "gemma4_v3": GEMMA,
    "gemma4_v4": GEMMA, "gemma4_v5": f"{GEMMA}, reads reasoning_content", "glm4moe": SWITCHED,
    "gptoss": HARMONY, "idefics3": NO_TEXT, "lfm2": DROPS, "lfm2_2_5": f"{THINK}, reads thinking",
    "lfm2_2_5_v2": READS, "lfm2_2_5_vl": READS, "lfm2_v2": DROPS, "llama3": DROPS,
    "llama3_1": DROPS, "llama3_2": f"{DROPS}, by the clock", "llava_next": NO_TEXT,
    "muse_glimmer": MUSE, "nemotron_3_5_lightning": OPENED, "nemotron_3_nano": OPENED,
    "nemotron_3_super": OPENED, "nemotron_3_ultra": OPENED, "phi3": DROPS, "phi3_5": DROPS,
    "qwen2_5": DROPS, "qwen2_5_vl": DROPS, "qwen3": SWITCHED,
    "qwen3_5_nothink": f"opened {THINK}, reads reasoning_content, on: enable_thinking=True",
    "qwen3_5_think": OPENED, "qwen3_6": OPENED, "qwen3_8": OPENED, "qwen3_instruct_2507": DROPS,
    "qwen3_vl": DROPS, "smolvlm": NO_TEXT,
}  # fmt: skip
"By the template's name without `_training`: TRL's variants for training render the same."

OF_OUR_OWN = {
    "answer-tags": f"{THINK} <answer>, reads reasoning_content",
    "apertus": "<|inner_prefix|> <|inner_suffix|>, reads blocks",
    "apriel": "opened Here are my reasoning steps: [BEGIN FINAL RESPONSE] to [END FINAL RESPONSE]",
    "apriel-shown": "opened Here are my reasoning steps: [BEGIN FINAL RESPONSE] to [END FINAL RESPONSE], "
    "reads reasoning_content",
    "command-a-reasoning": "<|START_THINKING|> <|END_THINKING|> <|START_RESPONSE|> to <|END_RESPONSE|>, "
    "reads thinking parts, off: reasoning=False",
    "deepseek-v3.1": f"opened {THINK}, on: thinking=True",
    "effort-none": "[THINK] [/THINK], reads reasoning, on: reasoning_effort=high",
    "exaone-4": f"opened {THINK}, reads reasoning_content, on: enable_thinking=True",
    "exaone-deep": "opened <thought> </thought>",
    "glm": OPENED,
    "granite-3.3": f"{DROPS}, on: thinking=True, by the clock",
    "harmony": "<|channel|>analysis<|message|> <|end|> <|start|>assistant<|channel|>final<|message|>, "
    "reads thinking",
    "kimi-vl": "◁think▷ ◁/think▷, reads reasoning_content",
    "llama-2": DROPS,
    "magistral": "[THINK] [/THINK], reads lists of thinking parts",
    "minimax-m2": f"opened {READS}",
    "ministral-3": "[THINK] [/THINK], reads thinking parts",
    "mode-names": f"opened {READS}, on: thinking_mode=thinking",
    "negated": f"{THINK}, reads reasoning, off: disable_thinking=True",
    "off-closes": f"opened {THINK}, on: thinking=True",
    "r1-strict": f"opened {THINK}",
    "refused-closed": "closed <think> </think>",
    "refused-mention": "refused: writes '<|thought_begin|>' for reasoning, but does not show how",
    "refused-open-alone": "refused: writes '[MUSING]' for reasoning, but does not show what closes a thought",
    "refused-other-turn": "refused: ends a prompt with '<|fim|>', but begins the same turn with '<think>'",
    "refused-prompt-mark": "refused: ends a prompt with 'Let me reflect:', which a turn that it writes does not",
    "seed-oss": "<seed:think> </seed:think>, reads reasoning_content",
    "smollm3": f"{DROPS}, off: enable_thinking=False, by the clock",
}


def trl_templates() -> list[Path]:
    spec = importlib.util.find_spec("trl")
    return sorted(Path(spec.origin).parent.rglob("*.jinja")) if spec and spec.origin else []


@pytest.fixture(scope="module")
def modes_of(repository) -> Callable[[Path], Modes]:
    """Learns the modes of a template; the tokenizer gives its names for begin and end."""
    tokenizer = load_chat(repository / "data" / "quickstart" / "teacher", "teacher").tokenizer
    tokenizer.bos_token = "<|endoftext|>"
    renderer = Renderer(tokenizer)

    @functools.cache
    def learn(path: Path) -> Modes:
        tokenizer.chat_template = path.read_text("utf-8")
        now = datetime(2026, 1, 2)
        return learn_modes(renderer, tokenizer.chat_template, path.stem, TemplateOptions(), now)

    return learn


def summary(modes: Modes) -> str:
    """What was learnt, in the words of the tables."""
    mode = modes.thinking or modes.plain
    turn = mode.turn
    marks = " ".join(filter(None, (*turn.tags, turn.answer.after_thought)))
    marks += f" to {turn.answer.end}" if turn.answer.end and turn.tags.open != "<think>" else ""
    shown = f"opened {marks}" if turn.opened else marks if modes.thinking else f"closed {marks}"
    if shown == THINK and mode.form is None:
        shown = DROPS
    parts = [shown]
    if mode.form is not None:
        parts.append(f"reads {mode.form.name}")
    parts += [f"on: {name}={value}" for name, value in modes.switched_on.items()]
    if modes.plain is not None and modes.thinking is not None:
        parts += [f"off: {name}={value}" for name, value in modes.plain.variables.items()]
    return ", ".join([*parts, "by the clock"] if modes.reads_clock else parts)


def outcome(modes_of: Callable[[Path], Modes], path: Path) -> str:
    try:
        return summary(modes_of(path))
    except UsageError as error:
        return f"refused: {str(error).removeprefix(f'{path.stem} ')}"


def parts_of(text: str) -> list[str]:
    """A summary without the order of its parts."""
    return sorted(text.split(", "))


@pytest.mark.parametrize("path", trl_templates(), ids=lambda path: path.stem)
def test_each_template_of_trl_stands_in_the_table(modes_of, path) -> None:
    expected = OF_TRL[path.stem.removesuffix("_training")]
    found = outcome(modes_of, path)
    if expected.startswith("refused"):
        assert found.startswith(expected)
    else:
        assert parts_of(found) == parts_of(expected)


def test_the_table_names_no_template_that_trl_lacks() -> None:
    if not trl_templates():
        pytest.skip("trl is not installed")
    assert OF_TRL.keys() == {path.stem.removesuffix("_training") for path in trl_templates()}


@pytest.mark.parametrize("path", sorted(OWN.glob("*.jinja")), ids=lambda path: path.stem)
def test_each_template_of_other_families_stands_in_the_table(modes_of, path) -> None:
    expected, found = OF_OUR_OWN[path.stem], outcome(modes_of, path)
    if expected.startswith("refused"):
        assert found.startswith(expected)
    else:
        assert parts_of(found) == parts_of(expected)


LEARNT = [*trl_templates(), *sorted(OWN.glob("*.jinja"))]


@pytest.mark.parametrize("path", LEARNT, ids=lambda path: path.stem)
def test_what_a_turn_is_written_as_is_split_again(modes_of, path) -> None:
    try:
        modes = modes_of(path)
    except UsageError:
        return
    for mode in filter(None, (modes.thinking, modes.plain)):
        turn = mode.turn
        for reasoning in ("14+6=20.\n\nSo it is 20.", "") if mode is modes.thinking else ("",):
            ending = turn.answer.end and f"\n{turn.answer.end}\n"
            text = turn.completion(reasoning, "It is \\boxed{20}.") + ending
            parts = split(text, opened=turn.opened, tags=turn.tags, answer=turn.answer)
            assert parts.reasoning == reasoning
            assert parts.response.lstrip() == "It is \\boxed{20}."
            assert "".join(parts) == text


@pytest.mark.parametrize("path", LEARNT, ids=lambda path: path.stem)
def test_a_prompt_never_closes_a_thought_before_a_thought(modes_of, path) -> None:
    try:
        modes = modes_of(path)
    except UsageError:
        return
    if modes.thinking is None:
        return
    turn = modes.thinking.turn
    assert turn.tags.close not in turn.opening
    assert turn.middle.count(turn.tags.close) == 1


@pytest.mark.parametrize("path", LEARNT, ids=lambda path: path.stem)
def test_rows_equal_what_a_template_renders_with_reasoning(modes_of, path, repository) -> None:
    try:
        modes = modes_of(path)
    except UsageError:
        return
    if modes.thinking is None or modes.thinking.form is None:
        return
    chat = Chat(plain_tokenizer(repository, path), path.stem)
    question = Message(role="user", content="What is 14+6?")
    answer = Message(role="assistant", content="It is 20.", reasoning_content="14+6=20.")
    row = chat.prompt([question]) + chat.turn.completion("14+6=20.", "It is 20.")
    assert chat.render([question, answer], add_generation_prompt=False).startswith(row)


def plain_tokenizer(repository: Path, path: Path):
    tokenizer = load_chat(repository / "data" / "quickstart" / "teacher", "teacher").tokenizer
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = path.read_text("utf-8")
    return tokenizer


HARMONY_ANSWER = "<|channel|>final<|message|>It is 20."
COMPLETIONS = {
    "gpt-oss": (
        "harmony",
        f"<|channel|>analysis<|message|>14+6=20.<|end|><|start|>assistant{HARMONY_ANSWER}",
        "14+6=20.",
    ),
    "gpt-oss, twice in thought": (
        "harmony",
        "<|channel|>analysis<|message|>14+6<|end|><|start|>assistant<|channel|>analysis<|message|>=20"
        f"<|end|><|start|>assistant{HARMONY_ANSWER}",
        "14+6<|end|><|start|>assistant<|channel|>analysis<|message|>=20",
    ),
    "gpt-oss, no thought": ("harmony", HARMONY_ANSWER, ""),
    "gpt-oss, cut": ("harmony", "<|channel|>analysis<|message|>14+6", "14+6"),
    "EXAONE Deep": ("exaone-deep", "14+6=20.\n</thought>\n\nIt is 20.", "14+6=20."),
    "EXAONE Deep, repeated": (
        "exaone-deep",
        "<thought>\n14+6=20.\n</thought>\n\nIt is 20.",
        "14+6=20.",
    ),
    "Apriel": (
        "apriel",
        "14+6=20.\n[BEGIN FINAL RESPONSE]\nIt is 20.\n[END FINAL RESPONSE]\n",
        "14+6=20.",
    ),
    "Command A Reasoning": (
        "command-a-reasoning",
        "<|START_THINKING|>14+6=20.<|END_THINKING|><|START_RESPONSE|>It is 20.<|END_RESPONSE|>",
        "14+6=20.",
    ),
    "Command A Reasoning, no thought": (
        "command-a-reasoning",
        "<|START_RESPONSE|>It is 20.<|END_RESPONSE|>",
        "",
    ),
    "Ministral 3": ("ministral-3", "[THINK]14+6=20.[/THINK]It is 20.", "14+6=20."),
    "Apertus": ("apertus", "<|inner_prefix|>14+6=20.<|inner_suffix|>It is 20.", "14+6=20."),
    "Kimi-VL": ("kimi-vl", "◁think▷14+6=20.◁/think▷It is 20.", "14+6=20."),
    "DeepSeek V3.1": ("deepseek-v3.1", "14+6=20.</think>It is 20.", "14+6=20."),
    "Seed-OSS": ("seed-oss", "<seed:think>14+6=20.</seed:think>It is 20.", "14+6=20."),
    "GLM": ("glm", "14+6=20.</think>\nIt is 20.", "14+6=20."),
}
OF_TRL_COMPLETIONS = {
    "gemma4_v2": "<|channel>thought\n14+6=20.\n<channel|>It is 20.",
    "gemma4_v5": "<|channel>thought\n14+6=20.\n<channel|>It is 20.",
    "muse_glimmer": " to=self<|message|>14+6=20.<|eom|><|start|>assistant to=user<|message|>It is 20.",
    "gptoss": "<|channel|>analysis<|message|>14+6=20.<|end|><|start|>assistant"
    "<|channel|>final<|message|>It is 20.",
    "glm4moe": "\n<think>14+6=20.</think>\nIt is 20.",
    "nemotron_3_nano": "14+6=20.\n</think>\nIt is 20.",
}


@pytest.mark.parametrize(
    ("template", "text", "reasoning"), COMPLETIONS.values(), ids=COMPLETIONS.keys()
)
def test_a_family_s_completion_is_split(modes_of, template, text, reasoning) -> None:
    turn = modes_of(OWN / f"{template}.jinja").thinking.turn
    parts = split(text, opened=turn.opened, tags=turn.tags, answer=turn.answer)
    assert parts.reasoning == reasoning
    assert parts.response == ("It is 20." if "It is 20." in text else "")


@pytest.mark.parametrize(("template", "text"), OF_TRL_COMPLETIONS.items())
def test_a_completion_of_a_family_of_trl_is_split(modes_of, template, text) -> None:
    path = next((one for one in trl_templates() if one.stem == template), None)
    if path is None:
        pytest.skip("trl is not installed")
    turn = modes_of(path).thinking.turn
    parts = split(text, opened=turn.opened, tags=turn.tags, answer=turn.answer)
    assert (parts.reasoning, parts.response) == ("14+6=20.", "It is 20.")

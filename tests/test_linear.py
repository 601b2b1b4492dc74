r"""Time is linear in the input: extractors, verifiers, rules and readers, on texts made to be slow.

One call of a pattern holds the interpreter, so what takes minutes cannot be ended by a signal. A text eight times as
long takes at most 16 times the processor time, best of five, whatever unit it repeats.
"""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from distillpipe import filters
from distillpipe.base import assistant
from distillpipe.base.filter_options import FilterOptions
from distillpipe.base.records import Message, TokenCounts, Trace
from distillpipe.data.formats import fields, incoming, traces, turns
from distillpipe.filters import cut, decontaminate, near_duplicates, problems, rules, scripts
from distillpipe.filters import rules as final_answers
from distillpipe.filters.words import diagram_numbers, words_of
from distillpipe.models import chat
from distillpipe.models.steps import find_steps
from distillpipe.reports import dataset_text as views
from distillpipe.verify import choice, choice_letters, extract
from distillpipe.verify.code import extract as code_extract
from distillpipe.verify.code import imports, values
from distillpipe.verify.math import compare, latex, numeric, rationals
from distillpipe.verify.math import numeric as exact
from distillpipe.verify.math import verifier as math

UNITS = [
    "\\", "\\\\", "\\boxed{", "\\boxed", "\\boxed 1", "\\boxed{A}, ", "\\framebox[", "<|begin_of_box|>",
    "<|begin_of_box|>A<|end_of_box|>", "{", "}", "{}", "<think>", "</think>", "`", "```\n", "```python\n", "~~~\n", "\n", " ", " \n", "\u3000",
    "1", "1,", ",000", "1 ", "1.", "1/", "-", "=", "x=", "\\frac", "\\frac{", "\\frac{1}{2}", "Answer:", "answer is ", "the answer ",
    "is ", "A and ", "A, ", "(A) ", "A", "(A", "B. ", "option ", "answer: A or ", "I choose ", "$", "$$", "$ ", "\\(", "\\[", "(", "()", "[", "*",
    "**", "** ", "_", "#", "####\n", "\n####a ", "#### 1 ", "答案", "中", "选A", "\u0301", "a", "ab ", "a.", "a'", "word, ", "\\text{", "\\text{a}", "\\text{and}",
    "\\text ", "\\quad ", " and ", "or ", ",", ";", ":", "|", "<|", "<<", "^", "_{", "x^{", "^\\circ", "!", "%", "\\%", "\\,", "{,}", "\\left", "\\sqrt{",
    "\\begin{pmatrix}", "&", "\\sin 1", "\\log", "\\pm", "\\cup", "\\le", "[asy]", "\u043f\u0440\u0438 ", "\u05d0", "I'm sorry ", "as an AI ", "<answer>",
    "User:\n", "p1.", "- ", "1) ", "?\n", "Wait\n", "not ", "if ", "x is the answer ", "\x00", "½", "🙂", "\x1b[31m", "import os\n", "9e9",
]  # fmt: skip
WORST = ["\\", "\n", " ", "A, ", "{", "1"]
FRAMES = [("", ""), ("", "x"), ("The answer is ", " b"), ("\\boxed{1", "}"), ("\\text{", "}"), ("#### 1", "b"), ("```\n", "\n")]  # fmt: skip
OPTIONS = ["Paris", "London", "3.50", "a cat", "Dd", "dd", "A"]
LIMIT = math.MAX_CHARACTERS
MOST = 16.0
FLOOR_SECONDS = 0.0005  # below it the clock decides
LONG_FLOOR_SECONDS = 0.002  # of texts so long that they leave the caches of the processor
EXPONENTIAL = 40  # characters, of which more would take for ever where time doubles with each unit
RULES = FilterOptions(
    verdicts=("correct",), verifier=None, min_reasoning_tokens=0, max_reasoning_tokens=None, dedup="none",
    per_problem=None, seed=0, max_repetition=0.5, max_foreign_letters=10,
)  # fmt: skip
BENCHMARK = [
    ("b", "1", "What is the sum of 3 and 4 and the product of 9 and 8, if the square is red?"),
    ("b", "2", "1 2 3"),
    ("b", "3", "x"),
]
CHOICES = traces.Choices("auto")


def _trace(reasoning: str, response: str, verifier: str = "math") -> Trace:
    return Trace(
        id="a/b", problem_id="a", row_key="b", sample=0, benchmark=None, problem="What?", reference_answer="42",
        verifier=verifier, domain=None, finish_reason="stop", teacher=None, seed=None,
        messages=[
            Message(role="user", content="What?"),
            Message(role="assistant", content=response, reasoning_content=reasoning),
        ],
        num_tokens=TokenCounts(prompt=1, reasoning=1000, response=1, total=1002),
    )  # fmt: skip


def _imported(reader: str, row: Callable[[str], dict[str, Any]]) -> Callable[[str], object]:
    return lambda text: list(
        traces.imported(row(text), incoming.FORMATS[reader], CHOICES)  # type: ignore[index]
    )


def _turns(name: str, text: str) -> list[dict[str, str]]:
    keys = ("role", "content") if name == "messages" else ("from", "value")
    roles = ("user", "assistant") if name == "messages" else ("human", "gpt")
    return [{keys[0]: role, keys[1]: text} for role in roles]


def _all_steps(text: str) -> list[bool]:
    steps = find_steps(text, len(text))
    return [steps.is_whole(end) for end in steps.ends]


def _counted(trace: Trace) -> TokenCounts:
    return TokenCounts(prompt=1, reasoning=len(trace.reasoning) // 40, response=1, total=3)


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "boxed_answer": extract.boxed_answer,
    "boxed_answers": extract.boxed_answers,
    "stated_answer": extract.stated_answer,
    "any_answer": extract.any_answer,
    "extract_code": code_extract.extract_code,
    "imports_for": imports.imports_for,
    "equal_output": lambda text: values.equal_output(text, text + "a"),
    "chosen": choice.chosen,
    "chosen of options": lambda text: choice.chosen(text, OPTIONS, "A"),
    "options_of": lambda text: choice.options_of(json.dumps({"options": [text]})),
    "options_of what is no JSON": choice.options_of,
    "simple_number": rationals.simple_number,
    "same_text": lambda text: exact.same_text(text, text + " a"),
    "same_value, too long": lambda text: math.same_value(text + " " * LIMIT, "42"),
    "split": chat.split,
    "read_message": lambda text: assistant.read_assistant({"content": text}),
    "read_message, apart": lambda text: assistant.read_assistant(
        {"content": text, "reasoning": text}
    ),
    "final_answer": fields.final_answer,
    "parts_of": lambda text: turns.parts_of(text, text),
    "import messages": _imported("messages", lambda text: {"messages": _turns("messages", text)}),
    "import openthoughts": _imported(
        "openthoughts",
        lambda text: {"conversations": _turns("sharegpt", f"<|begin_of_thought|>{text}")},
    ),
    "import openr1": _imported(
        "openr1", lambda text: {"problem": text, "generations": [text], "solution": text}
    ),
    "import s1k": _imported(
        "s1k",
        lambda text: {"question": "q", "deepseek_thinking_trajectory": text, "solution": text},
    ),
    "import deepseek": _imported(
        "deepseek", lambda text: {"problem": "q", "reasoning_content": text, "content": text}
    ),
    "import raw": _imported("raw", lambda text: {"problem": "q", "raw": text, "answer": text}),
    "import solution": _imported("solution", lambda text: {"problem": "q", "solution": text}),
    "detect": lambda text: incoming.detect([{"problem": text, "raw": text, "answer": text}]),
    **{
        f"rule {name}": lambda text, rule=rule: rule(_trace(text, text), RULES)
        for name, rule in filters.ROW_RULES.items()
    },
    "num_foreign_letters": lambda text: scripts.num_foreign_letters(text + "中文" * len(text)),
    "contradicting_answers": lambda text: final_answers.contradicting_answers(
        _trace("", f"\\boxed{{1}} {text} \\boxed{{{text}}} \\boxed{{2}}"), RULES
    ),
    "answer_only_in_reasoning": lambda text: final_answers.answer_only_in_reasoning(
        _trace(f"\\boxed{{1}} {text}", text), RULES
    ),
    "breaks_off": rules.breaks_off,
    "unfinished_response in a block": lambda text: rules.unfinished_response(
        _trace("", f"```{text}"), RULES
    ),
    "find_steps": _all_steps,
    "find_cut": lambda text: cut.find_cut(_trace(text, "x"), len(text) // 80, _counted),
    "conclusion": lambda text: cut.conclusion(text + "the answer is 5", "math"),
    "judged_conclusion": lambda text: cut.judged_conclusion(_trace(text, "", "choice"), RULES),
    "unclear_problem": problems.unclear_problem,
    "words_of": words_of,
    "diagram_numbers": diagram_numbers,
    "decontaminate": decontaminate.Decontaminator(BENCHMARK).match,
    "decontaminate by ngrams": decontaminate.Decontaminator(BENCHMARK, "ngram8").match,
    "decontaminate, the row": lambda text: decontaminate.Decontaminator([("b", "1", text)]).match(
        text
    ),
    "near_duplicates": lambda text: near_duplicates.near_duplicates(
        [("a", text), ("b", text + " x")], 0.5, 0
    ),
    "show": lambda text: list(views.row_lines(_trace(text, text), whole=True)),
}
TO_A_LIMIT: dict[str, Callable[[str], object]] = {  # of characters of an answer
    "same_choice": lambda text: choice.same_choice(text, "A", OPTIONS),
    "same_choice, the reference": lambda text: choice.same_choice("A", text),
    "same_choice, an option": lambda text: choice.same_choice(text, "A", [text, "x"]),
    "text_chosen": lambda text: choice.text_chosen(text, OPTIONS),
    "number": numeric.number,
    "same_number": lambda text: numeric.same_number(text, "4"),
    "letters": lambda text: choice_letters.letters(text, OPTIONS),
    "normalized": latex.normalized,
    "same_answer": lambda text: compare.same_answer(text, "42"),
    "same_answer, the reference": lambda text: compare.same_answer("x+y", text),
    "same_answer, an equation": lambda text: compare.same_answer("x=1", f"y={text}"),
    "same_answer, itself": lambda text: compare.same_answer(text, f"{text}+1"),
}


def _seconds(function: Callable[[str], object], text: str) -> float:
    math.clear_caches()
    choice_letters.clear_caches()
    start = time.process_time()
    function(text)
    return time.process_time() - start


def _growth(
    function: Callable[[str], object], short: str, long: str, floor: float, many: int = 5
) -> float:
    """How many times as long the longer text takes: one try, best of `many` where that is too much."""
    times = _seconds(function, short), _seconds(function, long)
    for _ in range(many - 1):
        if times[1] <= MOST * times[0] or times[1] < floor:
            return 0.0
        times = min(times[0], _seconds(function, short)), times[1]
        if times[1] < 5.0:  # a first call may have loaded what others find there
            times = times[0], min(times[1], _seconds(function, long))
    return times[1] / times[0] if times[1] > MOST * times[0] else 0.0


def _slow_units(
    function: Callable[[str], object],
    units: list[str],
    num_frames: int,
    sizes: list[int],
    floor: float = FLOOR_SECONDS,
) -> dict[tuple[str, str], str]:
    """The units, with the frame they stand in, for which time grows too fast, and how fast."""
    found = {}
    for unit in units:
        for before, after in FRAMES[:num_frames]:
            probe = (before + unit * EXPONENTIAL + after)[:EXPONENTIAL]
            if _seconds(function, probe) > 0.5:
                found[unit, before] = f"over half a second for {EXPONENTIAL} characters"
                continue
            texts = [before + unit * max(1, size // len(unit)) + after for size in sizes]
            for short, long in itertools.pairwise(texts):
                if len(long) > 4 * len(short) and (growth := _growth(function, short, long, floor)):
                    found[unit, before] = f"{growth:.0f} times from {len(short):,} to {len(long):,}"
                    break
    return found


def _some(name: str) -> list[str]:
    """A sample of the units: the worst for all functions, and others for each."""
    return [*WORST, *UNITS[sum(name.encode()) % 20 :: 20]]


ALL = {**FUNCTIONS, **TO_A_LIMIT}


def _sizes(name: str, *sizes: int) -> list[int]:
    return [LIMIT // 16, LIMIT // 2] if name in TO_A_LIMIT else list(sizes)


@pytest.mark.parametrize("name", ALL)
def test_a_text_eight_times_as_long_takes_at_most_16_times(name: str) -> None:
    assert _slow_units(ALL[name], _some(name), 1, _sizes(name, 500, 4_000)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_time_is_linear_for_every_unit(name: str) -> None:
    assert _slow_units(ALL[name], UNITS, 2, _sizes(name, 500, 4_000)) == {}


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_time_is_linear_for_every_unit_in_every_frame(name: str) -> None:
    sizes = _sizes(name, 128, 1_024, 8_192, 65_536)
    assert _slow_units(ALL[name], UNITS, 9, sizes, LONG_FLOOR_SECONDS) == {}

r"""Mutated real answers, responses and programs: nothing raises, and verdicts keep their invariants.

A missing answer is never correct, a readable answer equals itself, and the same call gives the same result twice.
The seeds are fixed. Each run makes a few hundred calls; the slow run 150,000 of extraction, choice and numbers,
30,000 of math and 300 of programs; the long run ten times as many.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from distillpipe.base import workers as processes
from distillpipe.base.errors import DataError
from distillpipe.base.records import Message, Trace
from distillpipe.verify import VERIFIERS, Question, judgement, verified
from distillpipe.verify.choice import chosen, options_of, same_choice
from distillpipe.verify.choice_letters import letters
from distillpipe.verify.code import problem_tests
from distillpipe.verify.code.extract import extract_code
from distillpipe.verify.code.sandbox import Sandbox
from distillpipe.verify.code.verifier import judge_code
from distillpipe.verify.extract import any_answer, boxed_answer, boxed_answers, stated_answer
from distillpipe.verify.math import verifier as math
from distillpipe.verify.math import workers
from distillpipe.verify.math.compare import same_answer
from distillpipe.verify.math.numeric import number, same_number

VERDICTS = {"correct", "wrong", "unverifiable"}
GOLDS = [
    "42", "-7", "3.50", "1,234,567", "\\frac{1}{2}", "\\frac{14}{3}", "2\\frac{3}{4}", "0.\\overline{36}", "50\\%", "\\$32,348", "5 \\text{ cm}^2",
    "9:30", "8 \\text{ a.m.}", "1.5 \\times 10^{-3}", "2^{10}", "10^{400}", "9^{9^{9}}", "3!", "\\binom{9}{3}", "\\sqrt{2}", "\\sqrt[3]{-8}", "3\\sqrt{13}",
    "\\frac{\\log 2}{\\log 2-\\log 3}", "\\log_{10} 5", "3\\log 2", "\\ln 2", "e^{-1}", "\\pi", "\\frac{\\pi}{6}", "\\sin 30^\\circ", "\\arctan \\frac{1}{2}",
    "90^\\circ", "(-2, 1)", "[0, 1)", "(-\\infty, -5) \\cup (5, \\infty)", "\\{1, 2, 3\\}", "1, -2", "x = 1, y = 2", "x=1 \\text{ or } x=2", "x^2+2x+1",
    "(x+1)(x-1)", "y = 2x + 3", "x < 5", "-2 \\le x \\le 7", "a^2+b^2=c^2", "3 \\pm 2\\sqrt{2}", "1 \\pm \\sqrt{19}", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
    "3+4i", "i^{99}", "\\frac{1-i}{4}", "(1+i) \\cdot 17 \\cdot 10^{307}", "\\infty", "-\\infty", "\\emptyset", "\\text{no solution}", "\\text{Evelyn}", "\\text{east}",
    "2:3", "4210_5", "A6_{16}", "\\lfloor 2.5 \\rfloor", "|x-1|", "f(x) = x^2", "\\frac{dx}{dt} = kx", "x' + 2x = 0", "2^{10000000}=2^{10000000}", "1.2345678",
    "\\pi^{10000000}", "\\pi \\cdot 10^{-999999999999}", "C", "(B)", "A, C", "\\text{both A and D}", "½", "3 apples", "0", "1e999", "0.1e-999", "1/0",
]  # fmt: skip
RESPONSES = [
    "So $x = 3$.\n\n**Final Answer**\n\n\\[\n\\boxed{\\frac{14}{3}}\n\\]",
    "We get \\(\\boxed{6}\\) and \\(\\boxed{8}\\).",
    "The answer is (C).",
    "**Answer: D**",
    "The relation is \\boxed{\\langle H\\rangle \\ll \\Delta E}.\n\n**Answer: D**",
    "<|begin_of_box|>A<|end_of_box|>",
    "\\boxed{\\text{A and C}}",
    "\\framebox[3cm]{7}",
    "First I thought the answer is A. But the correct option is **B) London**, not C.",
    "Option A is wrong because F = ma. Option C is correct.",
    "所以正确答案是 A和C。",
    "La respuesta es 12. Die Antwort ist (B).",
    "14 + 6 = <<14+6=20>>20\n#### 20",
    "Here is the program.\n\n```python\nimport sys\nprint(sum(map(int, sys.stdin.read().split())))\n```\nIt adds.",
    "```\ndef f(x):\n    return x\n```\n~~~\nno\n~~~\n    ```py\n    x\n    ```",
    "Therefore the answer is $\\frac{1}{2}$, that is 50%.\n- Step 1: `x`\n- Step 2: \\[y = 2\\]",
    "\\boxed{a = \\boxed{20}} and \\boxed 7, \\fbox{9}",
    "I would go with (d), since none of the above fits.",
    "<answer>C</answer>",
]
UNITS = [
    "\\", "\\boxed{", "\\fbox{", "{", "}", "<|begin_of_box|>", "<|end_of_box|>", "(", ")", "[", "]", "$", "\\(", "\\)", ",", ";", ":", "=", "<", "+", "-", "/", "*",
    "^", "_", "!", "|", "%", "\\%", "\\text{", "\\frac", "\\sqrt{", "\\log ", "\\ln ", "\\sin ", "\\pm ", "\\cup ", "\\infty ", "\\le ", "\\in ", "i", "x", "e", "A", "I",
    "\\begin{pmatrix}", "\\\\", "&", "0", "9", ".", "e9", "10^{", "**", "`", "```\n", "\n", " ", "\t", "\x00", "\ud800", "İ", "\u0131", "½", "٣", "²", "和", "、", "答案是", "\u0301",
    " and ", " or ", "not ", "The answer is ", "Option ", "\\framebox[", "\\overline{", "\\binom{", "'", '"', "apples", "cm", "a.m.", "\u202e", "🙂", "nan", "inf",
]  # fmt: skip
OPTIONS = [
    None, ["red", "green", "blue", "white"], ["A", "B", "AB", "O"], ["1", "2", "3", "None of the above"], ["$\\log 2$", "$\\log 3$", "3\\log 2", "10^{400}"],
    ["A) x", "B) y"], [f"option {number}" for number in range(12)], ["E. coli", "", "\\boxed{", "C"], ["x"] * 30,
]  # fmt: skip


class Mutator:
    """Mutated texts, drawn with a fixed seed."""

    def __init__(self, seed: int, texts: list[str]) -> None:
        self.draw = random.Random(seed)
        self._texts = texts

    def text(self) -> str:
        """One of the texts with up to four changes, now and then none."""
        text = self.draw.choice(self._texts)
        for _ in range(self.draw.choice((0, 1, 1, 2, 3, 4))):
            text = self._changed(text)
        return text

    def _changed(self, text: str) -> str:
        draw = self.draw
        start, end = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
        end = min(end, start + 12)
        other = draw.choice(self._texts)
        at = draw.randint(0, len(other))
        return draw.choice(
            (
                text[:start] + text[end:],
                text[:start] + draw.choice(UNITS) + text[start:],
                text[:start] + draw.choice(UNITS) + text[end:],
                text[:start] + draw.choice(UNITS) * draw.randint(2, 60) + text[start:],
                text[:end] + text[start:],
                text[:start] + other[at : at + 12] + text[end:],
                text[:start] + text[start:end].swapcase() + text[end:],
                text[:start] + str(draw.randint(0, 10**6)) + text[end:],
                f"{text} {other}",
            )
        )


def _counts(*ordinary: int) -> list[Any]:
    """The number of calls: small in each run, a tenth of a large number in the slow run, ten times it in the long run."""
    few, many = ordinary
    return [
        few,
        pytest.param(many // 10, marks=pytest.mark.slow),
        pytest.param(10 * many, marks=pytest.mark.long),
    ]


@pytest.mark.parametrize("num_calls", _counts(300, 80_000))
def test_extraction_of_mutated_responses_never_raises(num_calls: int) -> None:
    mutator = Mutator(11, [*RESPONSES, *GOLDS])
    for _ in range(num_calls):
        response = mutator.text()
        result = _extracted(response)
        assert _extracted(response) == result, response
        assert all(answer is None or isinstance(answer, str) for answer in result), response
        assert result[1] == result[0] or result[0] is None, response
        assert bool(boxed_answers(response)) is (result[0] is not None), response


def _extracted(response: str) -> list[str | None]:
    return [
        extract(response) for extract in (boxed_answer, any_answer, stated_answer, extract_code)
    ]


@pytest.mark.parametrize("num_calls", _counts(200, 30_000))
def test_choices_of_mutated_responses_keep_their_promises(num_calls: int) -> None:
    mutator = Mutator(12, [*RESPONSES, *GOLDS])
    for _ in range(num_calls):
        response, options = mutator.text(), mutator.draw.choice(OPTIONS)
        reference = mutator.draw.choice(["A", "B", "D", "AC", "red", mutator.text()])
        trace = _trace(response, reference, options, mutator.draw)
        judged = verified(trace, "choice")
        assert verified(trace, "choice") == judged, response
        assert judged.verdict in VERDICTS, response
        assert judged.answer is not None or judged.verdict != "correct", response
        answer = chosen(response, options, reference)
        if answer is not None and letters(answer, options):
            assert same_choice(answer, answer, options) == "correct", answer


def _trace(response: str, reference: str, options: Any, draw: random.Random) -> Trace:
    extra: dict[str, Any] = {} if options is None else {"options": options}
    if options is not None and draw.random() < 0.3:
        order = list(range(len(options)))
        draw.shuffle(order)
        extra["option_order"] = draw.choice((order, list(map(str, order)), [1, True], [[]], None))
    return Trace(
        id="a/b", problem_id="a", row_key="b", sample=0, benchmark=None, problem="Which?", reference_answer=reference,
        verifier="choice", domain=None, finish_reason="stop", teacher=None, seed=None, num_tokens=None,
        extra=draw.choice((json.dumps(extra), json.dumps(extra)[:-1], "[" * 5000)) if draw.random() < 0.1 else json.dumps(extra),
        messages=[Message(role="user", content="Which?"), Message(role="assistant", content=response)],
    )  # fmt: skip


@pytest.mark.parametrize("num_calls", _counts(300, 40_000))
def test_numbers_in_mutated_answers_keep_their_promises(num_calls: int) -> None:
    mutator = Mutator(13, GOLDS)
    for _ in range(num_calls):
        answer, reference = mutator.text(), mutator.text()
        verdict = same_number(answer, reference)
        assert verdict == same_number(answer, reference), (answer, reference)
        assert verdict in VERDICTS, (answer, reference)
        assert (number(reference) is None) is (verdict == "unverifiable"), (answer, reference)
        if number(answer) is not None:
            assert same_number(answer, answer) == "correct", answer


@pytest.mark.parametrize("num_calls", _counts(200, 30_000))
def test_values_of_mutated_answers_keep_their_promises(
    num_calls: int, impatient: Callable[[], None]
) -> None:
    mutator = Mutator(14, GOLDS)
    for number_of_call in range(num_calls):
        answer, reference = mutator.text(), mutator.text()
        same = same_answer(answer, reference)
        assert same_answer(reference, answer) is same, (answer, reference)
        assert same_answer(answer, answer) is not False, answer
        if number_of_call % 20 == 0:  # math-verify may be asked, which takes longer
            result = judgement(answer, Question(reference), "math")
            assert result == judgement(answer, Question(reference), "math"), (answer, reference)
            assert result.verdict in VERDICTS, (answer, reference)
            assert judgement(answer, Question(answer), "math").verdict != "wrong", answer


@pytest.fixture(scope="module")
def impatient() -> Iterator[None]:
    """Questions to math-verify get one second instead of five."""
    seconds, workers.CPU_SECONDS = workers.CPU_SECONDS, 1.0
    math.clear_caches()
    yield
    workers.CPU_SECONDS = seconds
    processes.close()
    math.clear_caches()


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_no_answer_is_never_correct(verifier: str) -> None:
    mutator = Mutator(15, [*GOLDS, *RESPONSES])
    for _ in range(200):
        question = Question(
            mutator.text(), extra=json.dumps({"options": mutator.draw.choice(OPTIONS)})
        )
        assert judgement(None, question, verifier).verdict in ("wrong", "unverifiable")


@pytest.mark.parametrize("extra", ["[" * 100_000, "{", '{"options": "["}', "\ud800", "1e9", '{"option_order": [9]}'])  # fmt: skip
def test_other_keys_that_cannot_be_read_hold_no_options(extra: str) -> None:
    assert options_of(extra) is None


# ---------------------------------------------------------------- programs

PROGRAMS = [
    "def double(x):\n    return x + x\n",
    "class Solution:\n    def double(self, x: List[int]):\n        return 2 * x\n",
    "def double(x):\n    return [[x], {1: (x, 2)}, {3, 4}, 1.5, None, 10 ** 50, 'é', b'x', 1j]\n",
    "import sys\nprint(sum(map(int, sys.stdin.read().split())))\n",
    "def double(x):\n    y = []\n    for _ in range(3000):\n        y = [y]\n    return y\n",
]
ROWS: list[dict[str, Any]] = [
    {"test_list": ["assert double(2) == 4", "assert double([1]) == [1, 1]"]},
    {
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "double",
        "prompt": "x",
    },
    {"input_output": json.dumps({"inputs": ["1 2\n", "3\n"], "outputs": ["3\n", "3\n"]})},
    {"input_output": {"inputs": [[2], [3]], "outputs": [4, 6], "fn_name": "double"}},
    {"public_test_cases": json.dumps([{"input": "1 2", "output": "3"}]), "metadata": "{}"},
    {"tests": {"functional": "def check(c):\n    assert c(2) == 4\ncheck(double)\n"}},
]
PROGRAM_UNITS = [
    "\ud800",
    "\x00",
    "(",
    "[" * 300,
    "1e999",
    "9" * 5000,
    "\n",
    "return",
    "''",
    "\u202e",
    "-" * 300,
    "0",
]


@pytest.mark.parametrize("num_calls", _counts(4, 300))
def test_mutated_programs_and_tests_get_a_verdict(num_calls: int, sandbox: Sandbox) -> None:
    draw = random.Random(16)
    num_judged = 0
    while num_judged < num_calls:
        row = json.dumps(draw.choice(ROWS))
        program = _mutated_program(draw.choice(PROGRAMS), draw)
        if draw.random() < 0.5:
            row = _mutated_program(row, draw)
        try:
            tests = problem_tests.tests_of(row, "x")
        except DataError:
            continue
        num_judged += 1
        result = judge_code(program, tests, sandbox=sandbox, test_seconds=1.0)
        assert result.verdict in VERDICTS, (program, row)
        assert (result.verdict == "correct") is (result.num_passed == result.num_tests), program


def _mutated_program(text: str, draw: random.Random) -> str:
    for _ in range(draw.choice((0, 1, 1, 2))):
        start = draw.randint(0, len(text))
        end = min(len(text), start + draw.randint(0, 6))
        text = draw.choice(
            (text[:start] + text[end:], text[:start] + draw.choice(PROGRAM_UNITS) + text[end:],
             text[:end] + text[start:])
        )  # fmt: skip
    return text

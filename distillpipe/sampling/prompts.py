"""What a model is asked: the text of a problem with what has to be seen beside it.

    Which of these is prime?

    A) 21
    B) 23
    C) 25

The options of a choice stand in another order for each sample, drawn by seed, question and sample: no
letter is right by habit, and two models that are compared see the same. Problem, options and reference
stay as they are; a row says in `extra` which order it was asked in, {"option_order": [2, 0, 1]}: what
stands under A is option 2, counted from 0.
"""

import re

from distillpipe.base.decoding import json_object
from distillpipe.base.encoding import is_utf8
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.options import Prompting
from distillpipe.base.records import Message, Problem
from distillpipe.verify.choice import options_of
from distillpipe.verify.choice_letters import LETTERS

Order = tuple[int, ...]


def option_order(problem: Problem, seed: int, sample: int) -> Order | None:
    """In which order a sample sees the options; None where there are none, or the text lists them.

    Raises DataError for more options than there are letters.
    """
    options = _options(problem)
    if options is None:
        return None
    return tuple(
        sorted(
            range(len(options)),
            key=lambda number: uniform(seed, problem.problem, options, sample, number),
        )
    )


def asked(problem: Problem, order: Order | None = None) -> str:
    """The text that stands for `{problem}` in a prompt."""
    if order is not None:
        options = _options(problem) or []
        lines = [
            f"{letter}) {options[number]}" for letter, number in zip(LETTERS, order, strict=False)
        ]
        return "\n".join([problem.problem, "", *lines])
    if problem.verifier == "code" and problem.extra:
        return "\n\n".join([problem.problem, *_beside(problem.extra)])
    return problem.problem


def livecodebench_format(problem: Problem) -> str:
    """What LiveCodeBench says behind a problem, word for word: the code to begin with, or how input comes."""
    code = json_object(problem.extra).get("starter_code")
    if isinstance(code, str) and code:
        return (
            "You will use the following starter code to write the solution to the problem and enclose "
            f"your code within delimiters.\n```python\n{code}\n```\n\n"
        )
    return (
        "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly "
        "test on the sample inputs). Enclose your code within delimiters as follows. Ensure that when "
        "the python program runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
        "\n```python\n# YOUR CODE HERE\n```\n\n"
    )


def _options(problem: Problem) -> list[str] | None:
    options = options_of(problem.extra) if problem.verifier == "choice" else None
    if options is None or _are_listed(problem.problem, options):
        return None
    if len(options) > len(LETTERS):
        raise DataError(
            f"problem {problem.problem_id}: {len(options)} options, and letters for {len(LETTERS)}: "
            "leave the problem out"
        )
    return options


def _are_listed(text: str, options: list[str]) -> bool:
    """Whether a question has its options in it, each behind its letter."""
    return all(
        re.search(rf"\b{letter}[).:\]]\s*{re.escape(option.strip())}", text)
        for letter, option in zip(LETTERS, options, strict=False)
    )


def _beside(extra: str) -> list[str]:
    """Tests that name the function, the code to begin with, or how a program gets its input."""
    shown = json_object(extra)
    if isinstance(asserts := shown.get("test_list"), list) and asserts:
        tests = "\n".join(map(str, asserts))
        return [f"The program has to pass these tests:\n\n```python\n{tests}\n```"]
    if isinstance(code := shown.get("starter_code"), str) and code.strip():
        return [f"Begin with this code:\n\n```python\n{code.rstrip()}\n```"]
    if shown.get("public_test_cases"):
        return ["The program reads standard input and writes the answer to standard output."]
    return []


PROBLEM, CODE_FORMAT = "{problem}", "{livecodebench_format}"
"What a prompt template may have: the problem's text, and how LiveCodeBench asks for a program."
_PLACES = re.compile("|".join(map(re.escape, (PROBLEM, CODE_FORMAT))))


def conversation(question: str, prompting: Prompting, code_format: str = "") -> list[Message]:
    """The messages that ask for a solution of a problem, `question` being what is asked.

    `code_format` is what stands for `CODE_FORMAT` in the prompt template.
    """
    values = {PROBLEM: question, CODE_FORMAT: code_format}
    content = _PLACES.sub(lambda place: values[place[0]], prompting.prompt_template)
    asked = Message(role="user", content=content)
    if prompting.system_prompt is None:
        return [asked]
    return [Message(role="system", content=prompting.system_prompt), asked]


def check_prompt_template(template: str) -> None:
    """Refuse a prompt template that leaves the problem out, or is no text."""
    if not is_utf8(template):
        raise UsageError(
            f"--prompt-template {template!r} is not UTF-8: type it in a UTF-8 terminal"
        )
    if PROBLEM not in template:
        raise UsageError(f"--prompt-template {template!r} has no {{problem}} in it")

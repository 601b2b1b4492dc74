"""Builds the messages of a prompt: question, options or code format, prompt template, system prompt.

    Which of these is prime?

    A) 21
    B) 23
    C) 25

Multiple-choice options are shuffled for each sample, with a hash of seed, question and sample. So no letter is
right more often, and two models that are compared see the same order. Problem, options and reference answer are
stored unshuffled. The row stores the order in `extra`: {"option_order": [2, 0, 1]} means that A shows option 2,
counted from 0.
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
    """The order of the options for a sample; None without options, or if the question text lists them.

    Raises DataError for more options than letters.
    """
    options = _options_to_show(problem)
    if options is None:
        return None
    return tuple(
        sorted(
            range(len(options)),
            key=lambda number: uniform(seed, problem.problem, options, sample, number),
        )
    )


def question_text(problem: Problem, order: Order | None = None) -> str:
    """The text that replaces `{problem}` in a prompt template."""
    if order is not None:
        options = _options_to_show(problem) or []
        lines = [
            f"{letter}) {options[number]}" for letter, number in zip(LETTERS, order, strict=False)
        ]
        return "\n".join([problem.problem, "", *lines])
    if problem.verifier == "code" and problem.extra:
        return "\n\n".join([problem.problem, *_code_hints(problem.extra)])
    return problem.problem


def livecodebench_format(problem: Problem) -> str:
    """LiveCodeBench's text after a problem, verbatim: the starter code, or how to read input."""
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


def _options_to_show(problem: Problem) -> list[str] | None:
    options = options_of(problem.extra) if problem.verifier == "choice" else None
    if options is None:
        return None
    is_listed = all(  # the question text already has each option after its letter
        re.search(rf"\b{letter}[).:\]]\s*{re.escape(option.strip())}", problem.problem)
        for letter, option in zip(LETTERS, options, strict=False)
    )
    if is_listed:
        return None
    if len(options) > len(LETTERS):
        raise DataError(
            f"problem {problem.problem_id} has {len(options)} options, at most {len(LETTERS)} are "
            "supported: remove the problem"
        )
    return options


def _code_hints(extra: str) -> list[str]:
    """For a code problem: tests that name the function, the starter code, or how to read input."""
    hints = json_object(extra)
    if isinstance(asserts := hints.get("test_list"), list) and asserts:
        tests = "\n".join(map(str, asserts))
        return [f"The program has to pass these tests:\n\n```python\n{tests}\n```"]
    if isinstance(code := hints.get("starter_code"), str) and code.strip():
        return [f"Begin with this code:\n\n```python\n{code.rstrip()}\n```"]
    if hints.get("public_test_cases"):
        return ["The program reads standard input and writes the answer to standard output."]
    return []


PROBLEM, CODE_FORMAT = "{problem}", "{livecodebench_format}"
"Placeholders of a prompt template: the question text, and LiveCodeBench's format instructions."
_PLACEHOLDERS = re.compile("|".join(map(re.escape, (PROBLEM, CODE_FORMAT))))


def conversation(question: str, prompting: Prompting, code_format: str = "") -> list[Message]:
    """The messages of a prompt. `question` and `code_format` replace the placeholders of the template."""
    values = {PROBLEM: question, CODE_FORMAT: code_format}
    content = _PLACEHOLDERS.sub(lambda match: values[match[0]], prompting.prompt_template)
    user = Message(role="user", content=content)
    if prompting.system_prompt is None:
        return [user]
    return [Message(role="system", content=prompting.system_prompt), user]


def check_prompt_template(template: str) -> None:
    """Raises UsageError for a prompt template without `{problem}`, or one that is not UTF-8."""
    if not is_utf8(template):
        raise UsageError(
            f"--prompt-template {template!r} is not UTF-8: type it in a UTF-8 terminal"
        )
    if PROBLEM not in template:
        raise UsageError(f"--prompt-template {template!r} must contain {{problem}}")

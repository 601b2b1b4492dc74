"""Perturbed problems, as in contamination and near-duplicates.

Every perturbation is `(problem, random) -> problem`. `SPELLINGS` keep all words of the problem and were used to tune
the rules. `HELD_OUT` keep them too; `EDITS` change some words. Both were made only for the report. `other_numbers`
makes a different problem.
"""

# ruff: noqa: RUF001 - signs that look like others are what this is about

import random
import re
from collections.abc import Callable
from itertools import cycle

Perturbation = Callable[[str, random.Random], str]

WRAPPERS = [
    "{}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "Solve the following problem and put your answer in \\boxed{{}}:\n\n{}",
    "Question: {}\nAnswer:",
    "Solve the following math problem efficiently and clearly. The last line of your response should be of the "
    "form Therefore, the final answer is: $\\boxed{{ANSWER}}$. I hope it is correct.\n\n{}\n\nThink it through.",
]
OTHER_WRAPPERS = [
    "Problem 12 (2019 qualifier). {} [5 points]",
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "3) {} (Show all of your work; no calculators.)",
    "My daughter was given this at school and none of us can do it. {} Could somebody explain, as if to a child?",
    "**Exercise.** *{}*\n\n---\nHint: draw a picture.",
    '{{"role": "user", "content": "{}"}}',
    "A farmer has 17 sheep and all but 9 run away; how many are left? Then go on to the next one. {}",
]


def case(problem: str, draw: random.Random) -> str:
    """Upper case, lower case, title case, or random case."""
    how = draw.choice([str.upper, str.lower, str.title, None])
    if how is not None:
        return how(problem)
    return "".join(draw.choice([mark.upper(), mark.lower()]) for mark in problem)


def spacing(problem: str, draw: random.Random) -> str:
    """White space doubled or as line breaks; space around the signs of formulas added or removed."""
    around = draw.choice([" ", ""])
    problem = re.sub(r"(?<=[\w)}]) ?([+=<>]) ?(?=[\w({\\])", rf"{around}\1{around}", problem)
    return re.sub(r"\s+", lambda _: draw.choice([" ", "  ", "\n", "\n\n", "\t"]), problem)


def latex(problem: str, draw: random.Random) -> str:
    """The same formulas with other commands, delimiters and braces."""
    fraction = draw.choice([r"\\frac", r"\\dfrac", r"\\tfrac"])
    problem = re.sub(r"\\[dt]?frac(?![a-z])", fraction, problem)
    problem = re.sub(r"\\(?:cdot|times)(?![a-z])", draw.choice([r"\\cdot", r"\\times"]), problem)
    problem = re.sub(r"\\leq?(?![a-z])", draw.choice([r"\\le", r"\\leq"]), problem)
    problem = re.sub(r"\\geq?(?![a-z])", draw.choice([r"\\ge", r"\\geq"]), problem)
    problem = re.sub(r"\\[lc]?dots(?![a-z])", draw.choice([r"\\ldots", r"\\dots"]), problem)
    if draw.random() < 0.5:
        problem = re.sub(r"\^\{(\d|[a-z])\}", r"^\1", problem)
    else:
        problem = re.sub(r"\^(\d|[a-z])", r"^{\1}", problem)
    if draw.random() < 0.5:
        problem = re.sub(r"\\(?:left|right)(?![a-z])\s*", "", problem)
    else:
        problem = re.sub(
            r"(?<!\\left)(?<!\\)\((?=[^()]*\))([^()]*)\)", r"\\left(\1\\right)", problem
        )
    problem = problem.replace(r"\text{", draw.choice([r"\text{", r"\mathrm{", r"\mbox{"]))
    problem = re.sub(r"(\d),\\!(\d{3})", draw.choice([r"\1,\2", r"\1{,}\2", r"\1\2"]), problem)
    return _delimited(problem, draw)


def _delimited(problem: str, draw: random.Random) -> str:
    begin, end = draw.choice([("$", "$"), (r"\(", r"\)"), (r"$\displaystyle ", "$")])
    inline = cycle([begin, end])
    problem = re.sub(r"(?<![\\$])\$(?!\$)", lambda _: next(inline), problem)
    begin, end = draw.choice(
        [("$$", "$$"), (r"\[", r"\]"), ("\n\\begin{equation*}", "\\end{equation*}\n")]
    )
    shown = cycle([begin, end])
    problem = re.sub(r"\$\$", lambda _: next(shown), problem)
    problem = re.sub(r"(?<!\\)\\\[", lambda _: begin, problem)
    return re.sub(r"(?<!\\)\\\](?!\[)", lambda _: end, problem)


def wrapped(problem: str, draw: random.Random) -> str:
    """Inside a prompt for a model."""
    return draw.choice(WRAPPERS).format(problem)


def wrapped_otherwise(problem: str, draw: random.Random) -> str:
    """On an exam sheet, in a chat template, in a forum, after another problem."""
    return draw.choice(OTHER_WRAPPERS).format(problem)


_PLAIN = {
    r"\leq": "≤", r"\le": "≤", r"\geq": "≥", r"\ge": "≥", r"\neq": "≠", r"\cdot": "·", r"\times": "×",
    r"\pi": "π", r"\infty": "∞", r"^\circ": "°", r"^{\circ}": "°", r"\theta": "θ", r"\alpha": "α",
    r"\angle": "∠", r"\ldots": "…", r"\dots": "…", r"\cdots": "…", "^{2}": "²", "^2": "²", "^{3}": "³",
    "^3": "³", r"\triangle": "△", r"\cup": "∪", r"\cap": "∩", "$": "", r"\(": "", r"\)": "",
}  # fmt: skip


def plain(problem: str, _draw: random.Random) -> str:
    """Unicode instead of LaTeX, fractions with a slash."""
    problem = re.sub(r"(?<=\d)(?=\\[dt]?frac)", " ", problem)
    problem = re.sub(r"\\[dt]?frac\{(\w+)\}\{(\w+)\}", r"\1/\2", problem)
    for command, mark in _PLAIN.items():
        end = r"(?![a-zA-Z])" if command[-1].isalpha() else ""
        problem = re.sub(re.escape(command) + end, lambda _, mark=mark: mark, problem)
    return problem


def unpunctuated(problem: str, draw: random.Random) -> str:
    """Without commas after words, full stops and question marks, or with other ones."""
    return re.sub(
        r"(?<=[a-z$])[.,;:?](?=\s|\$|\Z)", lambda _: draw.choice(["", " ", ";", "."]), problem
    )


def other_verb(problem: str, draw: random.Random) -> str:
    """Compute instead of find, what is instead of evaluate."""
    verbs = ["Find", "Compute", "Calculate", "Determine", "Evaluate", "What is"]
    return re.sub(
        r"\b(?:Find|Compute|Evaluate|Determine|Calculate|What is)\b", draw.choice(verbs), problem
    )


def typo(problem: str, draw: random.Random) -> str:
    """A wrong letter in one of twenty long words."""

    def mistyped(found: re.Match[str]) -> str:
        word = found.group()
        at = draw.randrange(1, len(word))
        return word[:at] + draw.choice("aeinrst") + word[at + 1 :]

    return _some_words(problem, draw, 20, mistyped)


def other_word(problem: str, draw: random.Random) -> str:
    """One of twelve long words replaced: other people, other things."""
    return _some_words(
        problem, draw, 12, lambda _: draw.choice(["Alice", "marbles", "object", "certain"])
    )


def _some_words(
    problem: str, draw: random.Random, one_in: int, change: Callable[[re.Match[str]], str]
) -> str:
    found = list(re.finditer(r"(?<![\\a-zA-Z{])[a-zA-Z]{4,}", problem))
    number = -(-len(problem.split()) // one_in)
    for match in sorted(draw.sample(found, min(number, len(found))), key=lambda one: -one.start()):
        problem = problem[: match.start()] + change(match) + problem[match.end() :]
    return problem


def other_names(problem: str, _draw: random.Random) -> str:
    """Every capitalized word within a sentence replaced with Quentin."""
    return re.sub(r"(?<=[a-z,] )[A-Z][a-z]{2,}", "Quentin", problem)


def truncated(problem: str, draw: random.Random) -> str:
    """The first 70 to 90% of the characters."""
    return problem[: int(len(problem) * draw.uniform(0.7, 0.9))]


def without_diagram(problem: str, _draw: random.Random) -> str:
    return re.sub(r"\[asy\].*?\[/asy\]", "", problem, flags=re.DOTALL)


def other_numbers(problem: str, draw: random.Random) -> str:
    """All numbers of two or more digits, and one of the others, replaced; unchanged without numbers."""
    found = list(re.finditer(r"\d+", problem))
    if not found:
        return problem
    chosen = {draw.choice(found).start()} | {one.start() for one in found if len(one.group()) > 1}
    return re.sub(
        r"\d+",
        lambda one: (
            str(int(one.group()[:18]) + draw.randint(1, 9))
            if one.start() in chosen
            else one.group()
        ),
        problem,
    )


SPELLINGS: list[Perturbation] = [case, spacing, latex, wrapped]
HELD_OUT: list[Perturbation] = [plain, unpunctuated, other_verb, wrapped_otherwise, without_diagram]
EDITS: list[Perturbation] = [typo, other_word, other_names, truncated]


def spelled_otherwise(problem: str, seed: int, kinds: list[Perturbation]) -> str:
    """The problem after all perturbations, in order; `seed` fixes their random choices."""
    draw = random.Random(seed)
    for perturb in kinds:
        problem = perturb(problem, draw)
    return problem

"""Word problems with worked solutions, for the tiny models that ship in `data/quickstart/`.

A story has a start and one to five steps on small integers. A hash of its numbers, in order and without names and
things, decides whether the story is reserved for testing (`is_test_story`). So by construction no test problem occurs
in training, not even with other names.

    Tom has 14 coins. Tom finds 6 coins. Tom gets 3 boxes with 4 coins each. Then the number of coins
    doubles. How many coins does Tom have now?
"""

import hashlib
import random
from dataclasses import dataclass

NAMES = ("Mia", "Tom", "Ana", "Ben", "Lea", "Sam", "Zoe", "Max", "Ida", "Leo", "Eva", "Jon")
THINGS = (
    "apples", "books", "coins", "cards", "shells", "pens",
    "stones", "cakes", "stamps", "balls", "keys", "cups",
)  # fmt: skip
LARGEST_NUMBER = 150
TEST_SHARE = 6  # one number sequence in six is kept for testing


@dataclass(frozen=True)
class Step:
    """One event of a story: its sentence in the problem, and its part of the solution."""

    story: str
    "the sentence of the problem"
    label: str
    "how the solution names the step"
    equations: tuple[str, ...]
    "left sides: `14+6`"
    results: tuple[int, ...]
    "right sides, one per equation; the last one is the new number of things"
    numbers: tuple[int, ...]
    "the operands that the story gives"


@dataclass(frozen=True)
class Story:
    """A problem and its solution."""

    name: str
    thing: str
    start: int
    steps: tuple[Step, ...]

    @property
    def answer(self) -> int:
        return self.steps[-1].results[-1]

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.start, *(number for step in self.steps for number in step.numbers))

    @property
    def problem(self) -> str:
        events = " ".join(step.story for step in self.steps)
        question = f"How many {self.thing} does {self.name} have now?"
        return f"{self.name} has {self.start} {self.thing}. {events} {question}"


def is_test_story(story: Story) -> bool:
    """Whether the number sequence of `story` belongs to the test share."""
    text = " ".join(map(str, story.numbers))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % TEST_SHARE == 0


def draw_story(rng: random.Random, num_steps: int) -> Story:
    """A story of `num_steps` steps that stays between 1 and LARGEST_NUMBER."""
    name, friend = rng.sample(NAMES, 2)
    thing = rng.choice(THINGS)
    start = rng.randint(3, 40)
    number, steps = start, []
    while len(steps) < num_steps:
        step = _draw_step(rng, name, friend, thing, number)
        if step is None or not 1 <= step.results[-1] <= LARGEST_NUMBER:
            continue
        steps.append(step)
        number = step.results[-1]
    return Story(name, thing, start, tuple(steps))


def _draw_step(rng: random.Random, name: str, friend: str, thing: str, number: int) -> Step | None:
    kind = rng.choices(("add", "take", "boxes", "times", "share"), weights=(30, 30, 15, 15, 10))[0]
    if kind == "add":
        more = rng.randint(2, 30)
        label, story = rng.choice((
            ("Buys", f"{name} buys {more} more {thing}."),
            ("Finds", f"{name} finds {more} {thing}."),
            ("Gets", f"{friend} gives {name} {more} {thing}."),
        ))  # fmt: skip
        return Step(story, f"{label} {more}", (f"{number}+{more}",), (number + more,), (more,))
    if kind == "take":
        less = rng.randint(2, 30)
        label, story = rng.choice((
            ("Gives", f"{name} gives {less} {thing} to {friend}."),
            ("Loses", f"{name} loses {less} {thing}."),
            ("Sells", f"{name} sells {less} {thing}."),
        ))  # fmt: skip
        return Step(story, f"{label} {less}", (f"{number}-{less}",), (number - less,), (less,))
    if kind == "boxes":
        boxes, each = rng.randint(2, 9), rng.randint(2, 9)
        product = boxes * each
        return Step(
            f"{name} gets {boxes} boxes with {each} {thing} each.",
            f"{boxes} boxes with {each}",
            (f"{boxes}*{each}", f"{number}+{product}"),
            (product, number + product),
            (boxes, each),
        )
    if kind == "times":
        factor, verb = rng.choice(((2, "doubles"), (3, "triples")))
        story = f"Then the number of {thing} {verb}."
        label = verb.capitalize()
        return Step(story, label, (f"{number}*{factor}",), (number * factor,), (factor,))
    parts = rng.choice((2, 3, 4, 5))
    if number % parts:
        return None
    story = f"{name} puts the {thing} in {parts} equal bags and keeps one bag."
    label = f"{parts} bags"
    return Step(story, label, (f"{number}/{parts}",), (number // parts,), (parts,))


def reasoning(story: Story, rng: random.Random, slip_probability: float = 0.0) -> str:
    """The worked solution, one line per step; some steps have a mistake, then "Wait" and the correction."""
    lines = [f"{story.name} starts with {story.start}."]
    lines += [_worked(step, rng, slip_probability) for step in story.steps]
    return "\n".join(lines)


def _worked(step: Step, rng: random.Random, slip_probability: float) -> str:
    worked = []
    for left, result in zip(step.equations, step.results, strict=True):
        equation = f"{left}={result}"
        if rng.random() < slip_probability:
            slipped = abs(result + rng.choice((-10, -2, -1, 1, 2, 10)))
            equation = f"{left}={slipped}. Wait, {equation}"
        worked.append(equation)
    return f"{step.label}: {', '.join(worked)}."


def response(story: Story) -> str:
    return f"{story.name} has {story.answer} {story.thing} now.\n\n\\boxed{{{story.answer}}}"

r"""Problems that a model which reads text only cannot work on, or that are several: s1's rules.

    problem_needs_picture     "[asy]\ndraw(circle(A, 2)); ..."     also ![Image]; AIME's [asy] is kept
    several_problems          "p1. Find all ... p2. Prove ..."
    label_in_problem          "**B6** Let f be ..."

Source: the selection of s1K (arXiv 2501.19393, 3.1, and data/filter.ipynb of simplescaling/s1).
"""

import re

from distillpipe.base.decoding import json_object
from distillpipe.filters.rules import Drop

SOURCE_KEYS = ("source", "source_type")  # where datasets say what a problem comes from
PICTURE_CODE, PICTURE = "[asy]", "![Image]"
NUMBERED = re.compile(r"p[1-9]\d{0,2}\.", re.ASCII)
BOLD = re.compile(r"\*\*[^\s\]]*\*\*")


def unclear_problem(problem: str, source: str = "") -> Drop | None:
    """Why a problem is no good for a model that reads, with the text that says so; null where it is.

    AIME's problems keep their pictures as code, and nothing else is asked of those: so s1 has it.
    """
    if PICTURE_CODE in problem:
        return None if "AIME" in source else Drop("problem_needs_picture", PICTURE_CODE)
    if PICTURE in problem:
        return Drop("problem_needs_picture", PICTURE)
    if found := NUMBERED.search(problem):
        return Drop("several_problems", found[0])
    if label := _label(problem):
        return Drop("label_in_problem", label)
    return None


def source_of(*extras: str | None) -> str:
    """What a problem comes from, as the first of its other keys says that names it; "" if none does."""
    for extra in extras:
        values = json_object(extra)
        for key in SOURCE_KEYS:
            if isinstance(value := values.get(key), str) and value:
                return value
    return ""


def _label(problem: str) -> str | None:
    """Bold text in one piece that has a digit in it or behind it on its line."""
    for line in problem.split("\n"):
        bold = BOLD.search(line)
        if bold and re.compile(r"\d").search(line, bold.start() + 2):
            return bold[0]
    return None

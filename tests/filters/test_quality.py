"""s1's rules for the quality of a problem, as golden cases, and against the published conditions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.filters.problems import source_of, unclear_problem
from distillpipe.filters.rules import Drop

# What s1 keeps and drops (data/filter.ipynb of simplescaling/s1): the text, what it comes from, the reason, the part.
GOLDEN = [
    ("How many coins does Tom have now?", "", None, None),
    ("Let $f(x)=2^{**}$ be odd for 7 values.", "", None, None),
    ("In the figure, [asy] draw((0,0)--(1,1)); [/asy] find AB.", "", "problem_needs_picture", "[asy]"),
    ("[asy] draw((0,0)); [/asy] find AB.", "qq8933/AIME_1983_2024", None, None),
    ("[asy] draw((0,0)); [/asy] p1. Find **B6** AB.", "qq8933/AIME_1983_2024", None, None),
    ("Find x in ![Image](https://example.org/7.png).", "", "problem_needs_picture", "![Image]"),
    ("Find x in ![Image](7.png).", "qq8933/AIME_1983_2024", "problem_needs_picture", "![Image]"),
    ("Find x in ![image](7.png).", "", None, None),
    ("p1. Find all x. p2. Prove it.", "", "several_problems", "p1."),
    ("See p999. Then go on.", "", "several_problems", "p999."),
    ("See p1000. Then go on.", "", None, None),
    ("See p0. and p01. Then go on.", "", None, None),
    ("The top1. of the list", "", "several_problems", "p1."),
    ("p 1. Find all x. P1. p1, p1", "", None, None),
    ("**B6** Let f be continuous.", "", "label_in_problem", "**B6**"),
    ("**Example** Let 7 be a prime.", "", "label_in_problem", "**Example**"),
    ("**Example** Let\n7 be a prime.", "", None, None),
    ("7 is prime. **Example** Let it be.", "", None, None),
    ("**two words 7** Let it be.", "", None, None),
    ("**[7]** Let it be.", "", None, None),
    ("**[7** Let it be.", "", "label_in_problem", "**[7**"),
    ("a ** 7 ** b", "", None, None),
    ("****7", "", "label_in_problem", "****"),
    ("", "", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "source", "reason", "measured"), GOLDEN)
def test_what_s1_drops_is_dropped_with_what_was_found(problem, source, reason, measured) -> None:
    expected = None if reason is None else Drop(reason, measured)
    assert unclear_problem(problem, source) == expected


PIECES = st.sampled_from(
    ["**", "*", "]", "[", "7", "٣", " ", "\n", "\r", "\t", "\x0b", "a", "p1.", "p", "1", "0", ".",
     "[asy]", "![Image]", "Ā"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(["", "AIME", "aime"]))
def test_any_text_is_kept_or_dropped_as_by_the_published_conditions(problem, source) -> None:
    is_plain = (
        "[asy]" not in problem
        and "![Image]" not in problem
        and not any(f"p{number}." in problem for number in range(1, 1000))
        and not re.search(r"\*\*(?=.*\d)[^\s\]]*\*\*", problem)
    )
    is_kept = is_plain or ("[asy]" in problem and "AIME" in source)
    assert (unclear_problem(problem, source) is None) == is_kept


def test_a_megabyte_of_asterisks_takes_no_time() -> None:
    assert unclear_problem("**a** " * 200_000) is None
    assert unclear_problem("*" * 1_000_000 + "\n7") is None
    assert unclear_problem("**a " * 250_000 + "7") is None


@pytest.mark.parametrize(
    ("extras", "source"),
    [
        ([], ""),
        ([None, None], ""),
        (['{"level": 3}', None], ""),
        (['{"source": "aops_forum"}'], "aops_forum"),
        (['{"source_type": "Idavidrein/gpqa"}'], "Idavidrein/gpqa"),
        (['{"source_type": "b", "source": "a"}'], "a"),
        (['{"source": ""}', '{"source": "of the problem"}'], "of the problem"),
        (['{"source": 7}', '{"source": ["x"]}'], ""),
        (["no JSON", '["source"]', '{"source": "a"}'], "a"),
    ],
)  # fmt: skip
def test_the_source_is_what_the_other_keys_of_row_or_problem_call_it(extras, source) -> None:
    assert source_of(*extras) == source


def test_other_keys_nested_beyond_reading_name_no_source() -> None:
    assert source_of("[" * 100_000, '{"source": "AIME"}') == "AIME"

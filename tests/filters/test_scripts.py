"""Mixed scripts: what counts is a slip into another script, not a formula, a name, a quote or the problem."""

import pytest

from distillpipe.filters.rules import Drop
from distillpipe.filters.scripts import mixed_scripts, num_foreign_letters

ENGLISH = (
    "First we count the marbles in each of the three bags, and then we add the ones on the table. "
)
CHINESE = "首先我们数一数三个袋子里的弹珠然后加上桌子上的弹珠所以总数是二十个。" * 3
RUSSIAN = "Сначала мы посчитаем шарики в каждом мешке, потом прибавим те, что на столе. "


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (ENGLISH, 0),
        (ENGLISH + "People mistakenly认为 more specific scenarios are likelier.", 2),
        (ENGLISH + "You get taller until青春期. But then you stop.", 3),
        (ENGLISH + "So 所以总数是二十 is the total.", 7),
        (ENGLISH + "So \u043f\u043e\u0442\u043e\u043c we add them.", 5),
        (ENGLISH + "그래서 the total is 20.", 3),
        (ENGLISH + "यह the total is 20.", 2),
        (CHINESE, 0),
        (CHINESE + "But wait, maybe the total is not twenty after all. " + CHINESE, 36),
        (RUSSIAN + "所以 " + RUSSIAN, 2),
    ],
)
def test_letters_of_another_script_are_counted(text, count) -> None:
    assert num_foreign_letters(text) == count


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH + "The angle is β + θ ≤ π, so Δx → 0 and Σ is ∞.",
        ENGLISH + "Let \\(\\text{总数} = 20\\) and $总数 = x$.",
        ENGLISH + 'The phrase for it is "每天增加一倍", which means a doubling.',
        ENGLISH + "Tokyo (東京) is the capital.",
        ENGLISH + "张伟 has 3, then 张伟 gets 2, so 张伟 has 5.",
        ENGLISH + "The term is doubling, which is 倍, so maybe.",
        ENGLISH + "```python\nprint('你好世界')\n```",
        ENGLISH + "Let Ш be the group.",
        CHINESE + "用 Python 的 sorted 函数, sin(x) 和 print(total).",
        CHINESE + "单位是 km per hour。",
        CHINESE + "\\(x = \\text{the number of marbles that are left in it}\\)",
    ],
)
def test_formulas_names_quotes_and_single_letters_do_not_count(text) -> None:
    assert num_foreign_letters(text) == 0


def test_what_the_problem_says_does_not_count() -> None:
    text = ENGLISH + "The word 白日依山尽 begins the poem."
    assert num_foreign_letters(text, problem="Who wrote 白日依山尽?") == 0
    assert num_foreign_letters(text) == 5


@pytest.mark.parametrize(
    ("limit", "drop"), [(None, None), (3, None), (2, Drop("mixed_scripts", "3"))]
)
def test_more_than_the_limit_is_dropped(make_trace, make_options, limit, drop) -> None:
    trace = make_trace(reasoning=ENGLISH + "taller until青春期. But then you stop.")
    assert mixed_scripts(trace, make_options(max_foreign_letters=limit)) == drop


def test_surrogates_and_control_characters_are_no_letters(make_trace, make_options) -> None:
    trace = make_trace(reasoning="\ud800\x00\x1b[0m é \u2013 \u2019 \udfff", response="\ud83d 20")
    assert mixed_scripts(trace, make_options(max_foreign_letters=0)) is None


@pytest.mark.reference
def test_the_mixed_traces_among_the_real_ones_are_these(real_traces, make_options) -> None:
    options = make_options(max_foreign_letters=1)
    drops = {number: mixed_scripts(trace, options) for number, (_, trace) in real_traces.items()}
    assert {number: drop.measured for number, drop in drops.items() if drop} == {
        "riddles_qwq-0072": "2",
        "riddles_qwq-0142": "3",
    }

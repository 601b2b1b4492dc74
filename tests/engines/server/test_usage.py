"""Token counts of a server: every field, every malformed value; what is stored, booked and warned of."""

import json
from itertools import product
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from distillpipe.base.options import Sampling
from distillpipe.base.records import Message, TokenCounts
from distillpipe.base.redaction import guard
from distillpipe.engines.base import Request
from distillpipe.engines.server.usage import Usage, UsageBounds, read_usage, usage_bounds

MESSAGE = Message(role="assistant", content="four", reasoning_content="12345678")  # 12 bytes
MOST = UsageBounds(prompt=600, believed_prompt=700, completion=512)
OWN = (600, 12 + 16)  # our own count: of the prompt, and of the text with its delimiters


def read(
    usage: Any, message: Message = MESSAGE, most: UsageBounds = MOST, ids: int | None = None
) -> Usage:
    content = usage if isinstance(usage, str) else json.dumps(usage)
    return read_usage(Raw(content.encode()), message, most, ids)


def counts(prompt: int, completion: int, reasoning: int) -> TokenCounts:
    return TokenCounts(
        prompt=prompt, reasoning=reasoning, response=completion - reasoning, total=prompt + completion
    )  # fmt: skip


class Odd(NamedTuple):
    """A way for a value to be odd, and what becomes of a usage with one in a field that is paid for."""

    name: str
    json: str | None
    "null: the field is missing"
    books: str
    is_said: bool


ODD = [
    Odd("missing", None, "own", False),
    Odd("null", "null", "own", False),
    Odd("text", '"12"', "worst", True),
    Odd("true", "true", "worst", True),
    Odd("a float that is whole", "12.0", "worst", True),
    Odd("a float", "12.5", "worst", True),
    Odd("beyond all floats", "1e400", "worst", True),
    Odd("beyond all integers", "9" * 5000, "worst", True),
    Odd("a list", "[12]", "worst", True),
    Odd("an object", '{"n": 12}', "worst", True),
    Odd("a deep list", "[" * 200 + "]" * 200, "worst", True),
    Odd("negative", "-1", "worst", True),
    Odd("very negative", "-1" + "0" * 26, "worst", True),
    Odd("too large by one", "MOST+1", "worst", True),
    Odd("too large by orders", "1" + "0" * 26, "worst", True),
]
LIMITS = {"prompt_tokens": 700, "completion_tokens": 512}


@pytest.mark.parametrize("field", list(LIMITS))
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_an_odd_count_is_not_stored_and_books_the_more(field: str, odd: Odd) -> None:
    good = {"prompt_tokens": "50", "completion_tokens": "20"}
    value = str(LIMITS[field] + 1) if odd.json == "MOST+1" else odd.json
    fields = {name: one for name, one in (good | {field: value}).items() if one is not None}
    usage = read("{" + ",".join(f'"{name}": {one}' for name, one in fields.items()) + "}")
    own = (OWN[0], 20) if field == "prompt_tokens" else (50, OWN[1])

    assert (usage.stored, usage.is_billed) == (None, False)
    assert usage.booked == {"own": own, "worst": None}[odd.books]
    assert [field in one.text and "\n" not in one.text for one in usage.warnings] == [
        True
    ] * odd.is_said


@pytest.mark.parametrize(
    "field", ["total_tokens", "reasoning_tokens", "completion_tokens_details.reasoning_tokens"]
)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_an_odd_count_beside_them_is_passed_over(field: str, odd: Odd) -> None:
    limit = 700 + 512 if field == "total_tokens" else 512
    value = str(limit + 1) if odd.json == "MOST+1" else odd.json
    inner = field.removeprefix("completion_tokens_details.")
    text = "" if value is None else f'"{inner}": {value}'
    if inner != field:
        text = f'"completion_tokens_details": {{{text}}}'
    usage = read(
        '{"prompt_tokens": 50, "completion_tokens": 20' + (f", {text}" if text else "") + "}"
    )

    assert usage.stored == counts(50, 20, 13)
    assert (usage.booked, usage.is_billed) == ((50, 20), True)
    assert [field in one.text for one in usage.warnings] == [True] * odd.is_said


@pytest.mark.parametrize(
    "pair", product(ODD, ODD), ids=lambda pair: f"{pair[0].name}-{pair[1].name}"
)
def test_of_two_odd_counts_the_worse_decides(pair: tuple[Odd, Odd]) -> None:
    limits = list(LIMITS.values())
    texts = [
        f'"{name}": {limit + 1 if odd.json == "MOST+1" else odd.json}'
        for name, limit, odd in zip(LIMITS, limits, pair, strict=True)
        if odd.json is not None
    ]
    usage = read("{" + ",".join(texts) + "}")

    is_worst = any(odd.books == "worst" for odd in pair)
    assert (usage.stored, usage.booked) == (None, None if is_worst else OWN)
    assert (len(usage.warnings), usage.is_billed) == (is_worst, False)


@pytest.mark.parametrize(
    "usage", ["null", "{}", "[]", "5", '"no"', "false", '[{"prompt_tokens": 1}]']
)
def test_a_usage_that_is_none_is_booked_by_our_own_count(usage: str) -> None:
    assert read(usage) == Usage(None, OWN, is_billed=False)


@pytest.mark.parametrize("details", ["null", "[]", "5", '"x"', "{}", '{"audio_tokens": 0}', "[[]]"])
def test_odd_details_change_nothing(details: str) -> None:
    text = (
        f'{{"prompt_tokens": 50, "completion_tokens": 20, "completion_tokens_details": {details}}}'
    )
    assert read(text) == Usage(counts(50, 20, 13), (50, 20), is_billed=True)


@pytest.mark.parametrize(
    ("completion", "reasoning", "total", "stored", "is_said"),
    [
        (20, None, None, (20, 13), False),
        (20, 12, 70, (20, 12), False),
        (20, 20, 70, (20, 20), False),
        (0, 60, None, (60, 60), True),  # nothing of the thought was counted
        (20, 60, None, (60, 60), True),
        (20, 60, 130, (80, 60), True),  # a thought that is counted in the total alone
        (20, None, 100, (50, 33), True),
        (20, None, 60, (20, 13), True),  # a total that is less than its parts
        (20, None, 0, (20, 13), True),
        (20, None, 50 + 512, (512, 341), True),
        (20, None, 50 + 513, (20, 13), True),  # more than the request allows: not that
        (20, 513, None, (20, 13), True),
        (1, 0, 51, (1, 1), False),
    ],
)
def test_of_counts_that_disagree_the_largest_possible_holds(
    completion: int,
    reasoning: int | None,
    total: int | None,
    stored: tuple[int, int],
    is_said: bool,
) -> None:
    given = {"prompt_tokens": 50, "completion_tokens": completion, "total_tokens": total}
    for place in (
        {"reasoning_tokens": reasoning},
        {"completion_tokens_details": {"reasoning_tokens": reasoning}},
    ):
        usage = read(given | place)
        assert usage.stored == counts(50, *stored)
        assert (usage.booked, usage.is_billed) == ((50, stored[0]), True)
        assert len(usage.warnings) == is_said


def test_no_tokens_for_a_text_is_no_count() -> None:
    usage = read({"prompt_tokens": 50, "completion_tokens": 0})
    assert (usage.stored, usage.booked, usage.is_billed) == (None, (50, 28), False)
    assert "too few for the text" in usage.warnings[0].text
    nothing = Message(role="assistant", content="")
    assert read({"prompt_tokens": 50, "completion_tokens": 0}, nothing).stored == counts(50, 0, 0)


def test_ids_in_hand_are_counted_by_themselves() -> None:
    good = {"prompt_tokens": 50, "completion_tokens": 100}
    assert read(good, ids=100).booked == (50, 100)
    assert read({}, ids=100).booked == (600, 100)
    assert read(good | {"completion_tokens": 3}, ids=100).booked == (50, 100)


def test_a_thing_is_said_once_whatever_its_figures() -> None:
    kinds = {
        warning.kind
        for number in (-1, -2, -(10**30))
        for warning in read({"prompt_tokens": number, "completion_tokens": 1}).warnings
    }
    assert len(kinds) == 1


def test_a_key_in_the_place_of_a_count_is_left_out_before_it_is_cut() -> None:
    key = "sk-proj-" + "".join(f"{number:02x}" for number in range(64))
    guard(key)
    (warning,) = read({"prompt_tokens": key, "completion_tokens": 1}).warnings
    assert "([key], which is not an integer)" in warning.text


def test_what_a_request_can_have_had_is_known_of_it() -> None:
    asked = [Message(role="user", content="1+1?")]
    request = Request("key", [], Sampling(temperature=0.6, top_p=0.95, max_tokens=64), 0, asked)
    assert usage_bounds(request, 10**9, is_bounded=True) == UsageBounds(516, 516 + 8192, 64)
    assert usage_bounds(request, 4096, is_bounded=True) == UsageBounds(516, 4096, 64)
    assert usage_bounds(request, 16, is_bounded=True) == UsageBounds(516, 516, 64)
    assert usage_bounds(request, 10**9, is_bounded=False) == UsageBounds(516, 516 + 8192, 64 + 516)
    rendered = request._replace(prompt_ids=[1, 2, 3], limit=9)
    assert usage_bounds(rendered, 10**9, is_bounded=True) == UsageBounds(3, 3 + 8192, 9)


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens"]


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(NAMES, ANY_VALUE | st.integers(-5, 1000)),
            "completion_tokens_details": ANY_VALUE
            | st.fixed_dictionaries({"reasoning_tokens": ANY_VALUE}),
        },
    )
)
def test_whatever_comes_is_within_what_the_request_can_have(given_usage: Any) -> None:
    usage = read(given_usage)

    if usage.booked is not None:
        assert 0 <= usage.booked[0] <= MOST.believed_prompt
        assert 0 <= usage.booked[1] <= MOST.completion
    assert usage.is_billed == (usage.stored is not None)
    if usage.stored is not None:
        stored = usage.stored
        assert usage.booked == (stored.prompt, stored.total - stored.prompt)
        assert min(stored.prompt, stored.reasoning, stored.response) >= 0
        assert stored.total == stored.prompt + stored.reasoning + stored.response

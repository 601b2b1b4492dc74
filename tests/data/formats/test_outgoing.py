"""Each export format: the row of a trace, and the text read back from it."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillpipe.base.records import Message, Trace
from distillpipe.base.thinking import split
from distillpipe.data.formats.outgoing import FORMATS, Format, ReasoningAs, inline, turns_of

ASKED = [{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}]
INLINE = {"role": "assistant", "content": "<think>\n1 and 1.\n</think>\n\n\\boxed{2}"}
FIELD = {"role": "assistant", "content": "\\boxed{2}", "reasoning_content": "1 and 1."}
HUMAN = [{"from": "system", "value": "Think."}, {"from": "human", "value": "1+1?"}]


@pytest.fixture
def trace(make_trace: Callable[..., Trace]) -> Trace:
    messages = [
        Message(role="system", content="Think."),
        Message(role="user", content="1+1?"),
        Message(role="assistant", content="\\boxed{2}", reasoning_content="1 and 1."),
    ]
    return make_trace(messages=messages)


@pytest.mark.parametrize(
    ("layout", "reasoning", "row"),
    [
        ("trl", "inline", {"prompt": ASKED, "completion": [INLINE]}),
        ("trl", "field", {"prompt": ASKED, "completion": [FIELD]}),
        ("openai", "inline", {"messages": [*ASKED, INLINE]}),
        ("openai", "field", {"messages": [*ASKED, FIELD]}),
        (
            "sharegpt",
            "inline",
            {"conversations": [*HUMAN, {"from": "gpt", "value": INLINE["content"]}]},
        ),
        (
            "sharegpt",
            "field",
            {"conversations": [*HUMAN, {"from": "gpt", "value": "\\boxed{2}",
                                        "reasoning_content": "1 and 1."}]},
        ),
    ],
)  # fmt: skip
def test_a_trace_as_a_row(
    trace: Trace, layout: Format, reasoning: ReasoningAs, row: dict[str, object]
) -> None:
    assert FORMATS[layout](turns_of(trace, reasoning)) == row


@pytest.mark.parametrize("reasoning", [None, ""])
def test_without_reasoning_the_reasoning_field_is_empty_text(
    make_trace: Callable[..., Trace], reasoning: str | None
) -> None:
    bare = make_trace(reasoning=reasoning, response="2")

    assert turns_of(bare, "inline")[-1] == {"role": "assistant", "content": "2"}
    assert turns_of(bare, "field")[-1] == {
        "role": "assistant", "content": "2", "reasoning_content": "",
    }  # fmt: skip


def test_a_thought_that_was_cut_off_stays_open() -> None:
    assert inline(Message(role="assistant", content="", reasoning_content="1 and")) == (
        "<think>\n1 and"
    )


plain = st.text().map(str.strip).filter(lambda text: "think>" not in text)


@given(reasoning=plain.filter(bool), response=plain)
def test_what_is_written_inline_is_split_again(reasoning: str, response: str) -> None:
    found = split(inline(Message(role="assistant", content=response, reasoning_content=reasoning)))

    assert (found.reasoning, found.response) == (reasoning, response)

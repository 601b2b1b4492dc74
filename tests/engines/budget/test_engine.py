r"""Budgets on an engine that says what it is told to: the very text of every round, in real tokens.

Of the shipped teacher's tokens "\n14+6=20.\n" are 9, and so are those of "Wait," 2 and of "\n" one.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import seed_of
from distillpipe.base.options import Budget, Sampling
from distillpipe.engines.base import Completion, Failure, Refusal, Request
from distillpipe.engines.budget.engine import BudgetedEngine
from distillpipe.models.chat import Chat

END = "<|im_end|>"
LOOP = -1  # said where the engine finds a loop
NONE = Budget(
    num_waits=0, min_reasoning_tokens=0, max_reasoning_tokens=None, wait_text="Wait,", end_text="",
    end_at="step",
)  # fmt: skip


def budget(waits: int = 0, low: int = 0, high: int | None = None, **changes: object) -> Budget:
    asked = {"num_waits": waits, "min_reasoning_tokens": low, "max_reasoning_tokens": high}
    return msgspec.structs.replace(NONE, **asked, **changes)


def encode(chat: Chat, text: str) -> list[int]:
    return chat.tokenizer(text, add_special_tokens=False)["input_ids"]


class ToldEngine:
    """Samples what `say(request)` tells it, as far as the request lets it; keeps what it was asked."""

    description = "a script"

    def __init__(
        self, chat: Chat, say: Callable[[Request], list[int] | str], context_length: int = 2000
    ) -> None:
        self.context_length = context_length
        self.asked: list[Request] = []
        self._end_ids, self._say = chat.end_ids, say

    def complete(self, requests: Iterator[Request | None]) -> Iterator[Completion | Failure]:
        for request in requests:
            assert request is not None  # nothing is in flight
            self.asked.append(request)
            said = self._say(request)
            if isinstance(said, str):
                yield Failure(request.key, said)
                continue
            limit = min(request.max_tokens, self.context_length - len(request.prompt_ids))
            assert limit > 0
            ends = {*self._end_ids, *request.stop_ids, LOOP}
            end = next((at for at, token in enumerate(said[:limit]) if token in ends), None)
            if end is None:
                assert len(said) >= limit, f"there is room for {limit - len(said)} tokens more"
                yield Completion(request.key, said[:limit], "length")
            elif said[end] == LOOP:
                yield Completion(request.key, said[:end], "repetition")
            else:
                yield Completion(request.key, said[: end + 1], "stop")


class Said(NamedTuple):
    """A completion, and the rounds in which it was sampled."""

    text: str
    num_reasoning: int
    completion: Completion
    rounds: list[Request]


def run(
    chat: Chat, asked: Budget, rounds: list[str], max_tokens: int = 200, context_length: int = 2000
) -> Said:
    """Sample one completion of a model that says `rounds`, one after the other."""
    texts = iter(rounds)

    def say(_: Request) -> list[int]:
        text = next(texts)
        return encode(chat, text.removesuffix("(loop)")) + [LOOP] * text.endswith("(loop)")

    engine = ToldEngine(chat, say, context_length)
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=max_tokens)
    request = Request("key", [5, 6, 7], sampling, 17)
    (found,) = BudgetedEngine(engine, chat, asked).complete(iter([request]))
    assert isinstance(found, Completion)
    assert found.key == "key"
    assert len(found.token_ids) <= max_tokens
    assert not list(texts)
    text = chat.text(found.token_ids)
    counted = chat.count([], found.token_ids, chat.split(text))
    return Said(text, counted.reasoning, found, engine.asked)


# budget, what the model says in each round, the completion, waits, whether its end was forced, how it ended
RUNS = {
    "within the budget": (
        budget(high=20), ["14+6=20.\n</think>\n\n\\boxed{20}" + END],
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}", 0, False, "stop"),
    "the response goes on beyond the limit of the thought": (
        budget(high=12), ["14+6=20.\n</think>\n\n\\boxed{20}", "20}" + END],
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}", 0, False, "stop"),
    "one end is replaced": (
        budget(1), ["14+6=20.\n</think>", " 2.\n</think>\n\n\\boxed{2}" + END],
        "<think>\n14+6=20.\nWait, 2.\n</think>\n\n\\boxed{2}", 1, False, "stop"),
    "two ends are replaced": (
        budget(2), ["1.\n</think>", " 2.\n</think>", " 3.\n</think>\n\n\\boxed{3}" + END],
        "<think>\n1.\nWait, 2.\nWait, 3.\n</think>\n\n\\boxed{3}", 2, False, "stop"),
    "the end token in the thought is an end": (
        budget(1), ["1." + END, " 2.\n</think>\n\n\\boxed{2}" + END],
        "<think>\n1.Wait, 2.\n</think>\n\n\\boxed{2}", 1, False, "stop"),
    "the end token in a thought that may end gets a response": (
        budget(high=20, end_text="So "), ["1." + END, "\\boxed{1}" + END],
        "<think>\n1.\n</think>\n\nSo \\boxed{1}", 0, True, "stop"),
    "an end before the minimum is replaced until it is reached": (
        budget(low=12), ["1.\n</think>", " 2.\n</think>", " 3.\n</think>", "\n\n\\boxed{3}" + END],
        "<think>\n1.\nWait, 2.\nWait, 3.\n</think>\n\n\\boxed{3}", 2, False, "stop"),
    "the maximum falls on the last whole step": (
        budget(high=20), ["14+6=20.\n20+1=21.\n21+5=26", "\\boxed{21}" + END],
        "<think>\n14+6=20.\n20+1=21.\n</think>\n\n\\boxed{21}", 0, True, "stop"),
    "or on the token": (
        budget(high=20, end_at="token"), ["14+6=20.\n20+1=21.\n21+5=", "\\boxed{21}" + END],
        "<think>\n14+6=20.\n20+1=21.\n21\n</think>\n\n\\boxed{21}", 0, True, "stop"),
    "a step before the minimum is none to end at": (
        budget(0, 19, 20), ["14+6=20.\n20+1=21.\n21+5=", "\\boxed{21}" + END],
        "<think>\n14+6=20.\n20+1=21.\n21\n</think>\n\n\\boxed{21}", 0, True, "stop"),
    "no step is whole": (
        budget(high=6), ["14+6=20+3=", "\\boxed{21}" + END],
        "<think>\n14+6\n</think>\n\n\\boxed{21}", 0, True, "stop"),
    "an announced wait is no whole step": (
        budget(high=20), ["14+6=20.\nWait.\n20+1+1+1+1+1+1=", "\\boxed{21}" + END],
        "<think>\n14+6=20.\n</think>\n\n\\boxed{21}", 0, True, "stop"),
    "the thought ends by itself at the maximum": (
        budget(high=9), ["14+6=20.\n</think>\n\n\\boxed", "\n\n\\boxed{20}" + END],
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}", 0, False, "stop"),
    "the end text begins the response": (
        budget(high=9, end_text="So "), ["14+6=20.\n20+1=", "\\boxed{20}" + END],
        "<think>\n14+6=20.\n</think>\n\nSo \\boxed{20}", 0, True, "stop"),
    "nothing for the thought": (
        budget(high=0), ["\\boxed{20}" + END],
        "<think></think>\n\n\\boxed{20}", 0, True, "stop"),
    "a thought of exactly so many tokens, which ends too early": (
        budget(0, 12, 12, end_at="token"), ["14+6=20.\n</think>", "7+8", "\\boxed{20}" + END],
        "<think>\n14+6=20.\nWait,\n</think>\n\n\\boxed{20}", 1, True, "stop"),
    "a wait before the minimum is cut to what fits": (
        budget(0, 11, 11, end_at="token"), ["14+6=20.\n</think>", "\\boxed{20}" + END],
        "<think>\n14+6=20.\nWait\n</think>\n\n\\boxed{20}", 1, True, "stop"),
    "the maximum wins over a wait": (
        budget(1, 0, 9), ["14+6=20.\n</think>", "\n\n\\boxed{20}" + END],
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}", 0, False, "stop"),
    "without a maximum the thought is cut by the limit of the completion": (
        budget(1), ["14" * 120], "<think>\n" + "14" * 99, 0, False, "length"),
    "a response is cut by the limit of the completion": (
        budget(high=20), ["14+6=20.\n</think>\n\n" + "14" * 120, "14" * 120],
        "<think>\n14+6=20.\n</think>\n\n" + "14" * 5 + "14" * 89, 0, False, "length"),
    "a loop in the thought ends it all": (
        budget(1, 0, 50), ["14+6=20.\n(loop)"], "<think>\n14+6=20.\n", 0, False, "repetition"),
    "a loop before the minimum is led out of": (
        budget(low=12), ["14+6=20.\n(loop)", " 20.\n</think>", "\n\n\\boxed{20}" + END],
        "<think>\n14+6=20.\nWait, 20.\n</think>\n\n\\boxed{20}", 1, False, "stop"),
    "a loop in the response ends it": (
        budget(high=20), ["1.\n</think>\n\n14(loop)"], "<think>\n1.\n</think>\n\n14", 0, False, "repetition"),
    "another end of a thought in the response is text": (
        budget(high=20), ["1.\n</think>\n\n2</think>\n\n3" + END],
        "<think>\n1.\n</think>\n\n2</think>\n\n3", 0, False, "stop"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "rounds", "text", "waits", "forced", "reason"), RUNS.values(), ids=RUNS.keys()
)
def test_what_becomes_of_a_completion(
    teacher_chat: Chat, asked, rounds, text, waits, forced, reason
) -> None:
    said = run(teacher_chat, asked, rounds)
    assert said.text == text
    found = said.completion
    assert (found.num_waits, found.forced_end, found.finish_reason) == (waits, forced, reason)
    if asked.max_reasoning_tokens is not None:
        assert said.num_reasoning <= asked.max_reasoning_tokens
    if reason == "stop":
        assert said.num_reasoning >= asked.min_reasoning_tokens


def test_each_round_asks_for_what_stands_and_has_a_seed_of_its_own(teacher_chat: Chat) -> None:
    rounds = ["1.\n</think>", " 2.\n20+1+1+1+1+1=", "\\boxed{2}" + END]
    first, second, third = run(teacher_chat, budget(1, 0, 12), rounds, max_tokens=60).rounds

    (close,) = encode(teacher_chat, "</think>")
    begun = [5, 6, 7, *encode(teacher_chat, "<think>\n")]
    assert (first.prompt_ids, first.seed, first.stop_ids) == (begun, 17, (close,))
    waiting = [*begun, *encode(teacher_chat, "1.\n"), *encode(teacher_chat, "Wait,")]
    assert (second.prompt_ids, second.seed, second.stop_ids) == (waiting, seed_of(17, 1), ())
    kept = [*waiting, *encode(teacher_chat, " 2"), *encode(teacher_chat, ".")]
    answering = [*kept, *encode(teacher_chat, "\n</think>\n\n")]
    assert (third.prompt_ids, third.seed, third.stop_ids) == (answering, seed_of(17, 2), ())
    assert [first.limit, second.limit] == [12 - 1 + 1, 12 - 5 + 1]
    assert third.limit == 60 - len(answering) + 3


@pytest.mark.parametrize(
    "family", ["opened", pytest.param("r1-distill-qwen", marks=pytest.mark.reference)]
)
def test_a_thought_that_the_prompt_opens_is_not_opened_again(family_chat, family) -> None:
    chat = family_chat(family)
    rounds = ["14+6=20.\n</think>", " Right.\n</think>\n\n\\boxed{20}" + chat.tokenizer.eos_token]
    said = run(chat, budget(1, wait_text="Wait."), rounds)
    assert said.text == "14+6=20.\nWait. Right.\n</think>\n\n\\boxed{20}"
    assert said.rounds[0].prompt_ids == [5, 6, 7]
    assert said.num_reasoning == len(encode(chat, "14+6=20.\nWait. Right.\n"))


# where the tokenizer knows no tags "</think>" is "</", "think", ">", and "</" merges with what is before it
PLAIN = {
    "the end is found in the text, and what follows it is taken back": (
        budget(1), ["14+6=20.</think>\n\n\\boxed{20}" + END, " 2.</think>\n\n\\boxed{2}" + END],
        "<think>\n14+6=20.Wait, 2.</think>\n\n\\boxed{2}"),
    "the maximum falls into the delimiter, which the model may finish": (
        budget(high=9), ["14+6=20.\n</think>\n\n20=14+7 is it", "6, it is" + END],
        "<think>\n14+6=20.\n</think>\n\n20=14+6, it is"),
    "the maximum falls before the delimiter, which is written for the model": (
        budget(high=7, end_at="token"),
        ["14+6=20.\n</think>\n\n\\boxed{20} is it", "\\boxed{20}" + END],
        "<think>\n14+6=20\n</think>\n\n\\boxed{20}"),
}  # fmt: skip


@pytest.mark.parametrize("family", ["spelt", pytest.param("qwen2.5", marks=pytest.mark.reference)])
@pytest.mark.parametrize(("asked", "rounds", "text"), PLAIN.values(), ids=PLAIN.keys())
def test_tags_that_are_plain_text(family_chat, family, asked, rounds, text) -> None:
    chat = family_chat(family)
    said = run(chat, asked, rounds)
    assert said.text == text
    assert said.num_reasoning <= (asked.max_reasoning_tokens or 200)
    assert all(request.stop_ids == () for request in said.rounds)


@pytest.mark.parametrize(
    ("family", "begun", "wait"),
    [
        ("tagged", " app", "les"),
        pytest.param("qwen3", " some", "thing", marks=pytest.mark.reference),
    ],
)
def test_a_wait_that_would_merge_leaves_what_was_sampled(family_chat, family, begun, wait) -> None:
    chat = family_chat(family)
    assert len(encode(chat, begun + wait)) == 1
    rounds = [f"It is{begun}</think>", ".\n</think>\n\nYes" + chat.tokenizer.eos_token]
    said = run(chat, budget(1, wait_text=wait), rounds)
    assert said.text == f"<think>\nIt is{begun}{wait}.\n</think>\n\nYes"
    sampled, added = encode(chat, f"<think>\nIt is{begun}"), encode(chat, wait)
    assert said.completion.token_ids[: len(sampled) + len(added)] == sampled + added


@pytest.mark.parametrize(
    ("family", "length"), [("tagged", 4), pytest.param("qwen3", 3, marks=pytest.mark.reference)]
)
def test_a_character_of_several_tokens_is_not_torn(family_chat, family, length) -> None:
    chat = family_chat(family)
    torn = "1𓀀2𓀀3𓀀4𓀀5𓀀6𓀀7𓀀8𓀀9𓀀"
    assert len(encode(chat, "𓀀")) == length
    rounds = [torn * 3, "\\boxed{20}" + chat.tokenizer.eos_token]
    for high in range(4, 16):
        said = run(chat, budget(high=high, end_at="token"), rounds)
        assert "\ufffd" not in said.text
        assert high - 3 <= said.num_reasoning <= high


def test_a_prompt_that_leaves_no_room_for_the_budget_is_refused_and_the_others_are_done(
    teacher_chat: Chat,
) -> None:
    whole = encode(teacher_chat, "14+6=20.\n</think>\n\n\\boxed{20}" + END)
    engine = ToldEngine(teacher_chat, lambda _: whole, context_length=400)
    sampling = Sampling(temperature=0.6, top_p=0.95, max_tokens=300)
    requests = [Request(str(size), [5] * size, sampling, 0) for size in (10, 395, 20)]
    found = list(BudgetedEngine(engine, teacher_chat, budget(0, 5, 50)).complete(iter(requests)))
    assert [one.key for one in found] == ["10", "395", "20"]
    assert found[1] == Refusal("395", "prompt_too_long", "395")
    assert [one.finish_reason for one in (found[0], found[2])] == ["stop", "stop"]


def test_a_round_that_fails_fails_the_row(teacher_chat: Chat) -> None:
    answers = iter([encode(teacher_chat, "1.\n</think>"), "the server is gone"])
    engine = ToldEngine(teacher_chat, lambda _: next(answers))
    request = Request("key", [5], Sampling(temperature=1, top_p=1, max_tokens=99), 0)
    found = list(BudgetedEngine(engine, teacher_chat, budget(1)).complete(iter([request])))
    assert found == [Failure("key", "the server is gone")]


def test_a_budget_beyond_the_limit_of_the_completion_is_refused(teacher_chat: Chat) -> None:
    with pytest.raises(UsageError, match="--max-reasoning-tokens 200 leaves no room"):
        run(teacher_chat, budget(high=200), [])


# ---------------------------------------------------------------- whatever a model says


EOS = "<\uff5cend\u2581of\u2581sentence\uff5c>"
PIECES = {
    "shipped": ["14", "+", "6=20.\n", "\n", " ", "Wait", "</think>", "</think>", "<think>", END],
    # no white space alone: here each is a token, and a thought that ends in five of them has five tokens fewer
    "spelt": ["14", ".\n", "é", "𓀀", "</think>", ".</", "think>", END, "<th"],
    "opened": ["14", ".\n", "𓀀", " Wait", "</think>", "<think>", "<|over|>"],
}  # fmt: skip
REAL = {
    "qwen2.5": [*PIECES["spelt"], "\n\n", " "],
    "r1-distill-qwen": [*PIECES["opened"][:-1], EOS],
}


@pytest.mark.parametrize(
    ("family", "said"),
    [
        *PIECES.items(),
        *(pytest.param(*one, marks=pytest.mark.reference) for one in REAL.items()),
    ],
    ids=[*PIECES, *REAL],
)
@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**9), waits=st.integers(0, 3), low=st.integers(0, 40),
    more=st.none() | st.integers(3, 40), ending=st.sampled_from(["step", "token"]),
    wait_text=st.sampled_from(["Wait", "\nWait, ", ".", "7"]), rare=st.integers(1, 60),
)  # fmt: skip
@example(seed=7861, waits=0, low=0, more=None, ending="step", wait_text="Wait", rare=58)
def test_no_completion_leaves_its_budget_whatever_the_model_says(
    family, said, teacher_chat, family_chat, seed, waits, low, more, ending, wait_text, rare
) -> None:
    chat = teacher_chat if family == "shipped" else family_chat(family)
    rng = random.Random(seed)
    pieces = [encode(chat, piece)[-4:] for piece in said]
    weights = [rare if not any(mark in piece for mark in "<>") else 1 for piece in said]

    def say(request: Request) -> list[int]:
        ids: list[int] = []
        while len(ids) < request.max_tokens:
            ids += rng.choices(pieces, weights)[0]
        return ids

    high = None if more is None else low + more
    asked = budget(waits, low, high, wait_text=wait_text, end_at=ending)
    engine = ToldEngine(chat, say)
    request = Request("key", [5], Sampling(temperature=1, top_p=1, max_tokens=400), seed)
    (found,) = BudgetedEngine(engine, chat, asked).complete(iter([request]))
    text = chat.text(found.token_ids)
    num_reasoning = chat.count([], found.token_ids, chat.split(text)).reasoning
    assert len(found.token_ids) <= 400
    if high is not None:
        assert low <= num_reasoning <= high
    elif found.finish_reason == "stop":
        assert num_reasoning >= low
        assert found.num_waits >= waits

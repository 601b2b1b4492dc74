"""Labels go to the tokens whose text they belong to, whatever the templates and tokenizers do around it."""

import functools
import random
from collections.abc import Callable

import numpy as np
import pytest

from distillpipe.base.records import Message
from distillpipe.models.chat import Chat
from distillpipe.models.vocabulary import counterparts, token_bytes, vocabulary_of
from distillpipe.training.teachers.alignment import NO_LABEL, SpelledTokens, label_positions, spell

Chats = Callable[[str], Chat]
REASONING = "Tom has 14 coins, and finds 6.\n\n14 + 6 = 20. Wait, 20 ≈ 20.0? Yes."
RESPONSE = "Tom has **20** coins: \\boxed{20}"


class Pair:
    """A teacher and a student, and the completions that both make of one answer."""

    def __init__(self, teacher: Chat, student: Chat) -> None:
        self.teacher, self.student = teacher, student
        self.known = counterparts(vocabulary_of(teacher), vocabulary_of(student))
        self.bytes_of = token_bytes(teacher.tokenizer), token_bytes(student.tokenizer)

    def completions(
        self, reasoning: str = REASONING, response: str = RESPONSE
    ) -> list[SpelledTokens]:
        message = Message(role="assistant", content=response, reasoning_content=reasoning)
        return [
            spell(np.array(chat.completion_ids(message)), known)
            for chat, known in zip((self.teacher, self.student), self.bytes_of, strict=True)
        ]


REAL = {"spelt": "qwen2.5", "tagged": "qwen3", "opened": "r1-distill-qwen"}


@pytest.fixture(scope="module")
def real_pair(family_chat: Chats) -> Callable[[str, str], Pair]:
    """Of the real families that ours stand for."""
    return functools.cache(
        lambda teacher, student: Pair(family_chat(REAL[teacher]), family_chat(REAL[student]))
    )


@pytest.fixture(scope="module", params=["own", pytest.param("real", marks=pytest.mark.reference)])
def pair(request: pytest.FixtureRequest, family_chat: Chats) -> Callable[[str, str], Pair]:
    if request.param == "real":
        return request.getfixturevalue("real_pair")
    return functools.cache(
        lambda teacher, student: Pair(family_chat(teacher), family_chat(student))
    )


def test_one_tokenizer_and_template_label_every_token(pair) -> None:
    both = pair("tagged", "tagged")
    teacher, student = both.completions()
    found = label_positions(student, teacher, both.known, REASONING, RESPONSE)
    assert found.tolist() == list(range(len(student.ids)))


def test_a_tag_that_the_teachers_prompt_wrote_has_no_label_and_shifts_nothing(pair) -> None:
    both = pair("opened", "tagged")
    teacher, student = both.completions()
    found = label_positions(student, teacher, both.known, REASONING, RESPONSE)
    tags = 2  # <think> and the line feed behind it
    assert found.tolist() == [NO_LABEL] * tags + list(range(len(student.ids) - tags))
    assert student.ids[-1] == both.student.ending_id
    assert teacher.ids[found[-1]] == both.teacher.ending_id


def test_tags_that_the_student_spells_out_have_no_label(pair) -> None:
    both = pair("opened", "spelt")
    teacher, student = both.completions()
    found = label_positions(student, teacher, both.known, REASONING, RESPONSE)
    labelled = found != NO_LABEL
    assert np.array_equal(both.known[teacher.ids[found[labelled]]], student.ids[labelled])
    unlabelled = b"|".join(both.bytes_of[1][token] for token in student.ids[~labelled].tolist())
    assert unlabelled == b"<th|ink|>\n|</|think|>\n\n"
    # the tokens of </think>, and what merges with its bracket, are the only ones of the teacher left out
    assert len(set(found[labelled])) == len(teacher.ids) - 2


def test_text_that_the_teacher_cut_into_other_tokens_has_no_label_there(pair) -> None:
    both = pair("tagged", "tagged")
    teacher, student = both.completions()
    at = next(i for i, token in enumerate(teacher.ids) if both.bytes_of[0][token] == b" coins")
    letters = [
        both.teacher.tokenizer(c, add_special_tokens=False)["input_ids"][0] for c in " coins"
    ]
    odd = spell(
        np.concatenate([teacher.ids[:at], letters, teacher.ids[at + 1 :]]), both.bytes_of[0]
    )
    found = label_positions(student, odd, both.known, REASONING, RESPONSE)
    expected = [*range(at), NO_LABEL, *range(at + 6, len(odd.ids))]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("reasoning", "cut_off"),
    [(REASONING, " Wait, 20 ≈ 20.0? Yes."), ("十四加六等于二十。再检查一遍。", "再检查一遍。")],
    ids=["with spaces", "without"],
)
def test_a_cut_thought_keeps_the_labels_of_what_is_left_and_what_follows_has_none(
    pair, reasoning: str, cut_off: str
) -> None:
    both = pair("tagged", "tagged")
    teacher, _ = both.completions(reasoning)
    shorter = reasoning.removesuffix(cut_off)
    _, student = both.completions(reasoning=shorter)
    found = label_positions(student, teacher, both.known, shorter, RESPONSE)
    last = int((student.starts <= student.content.index(b"\n</think>")).sum()) - 1
    assert found[:last].tolist() == list(range(last))
    assert found[last] == NO_LABEL  # ".\n": here the teacher went on
    assert (found[last:] == NO_LABEL).all()  # which the teacher said after more


@pytest.mark.parametrize("delimiter", ["◁/think▷", "[/THINK]\n\n", "\n<|im_start|>answer\n"])
def test_other_delimiters_of_the_teacher_are_no_cut(pair, delimiter: str) -> None:
    both = pair("tagged", "tagged")
    ids = [both.teacher.ids(text) for text in (REASONING, delimiter, RESPONSE)]
    teacher = spell(np.concatenate(ids).astype(np.int64), both.bytes_of[0])
    _, student = both.completions()
    found = label_positions(student, teacher, both.known, REASONING, RESPONSE)
    at = int(np.searchsorted(student.starts, student.content.index(RESPONSE.encode())))
    first = len(ids[0]) + len(ids[1])
    assert found[at : at + len(ids[2])].tolist() == list(range(first, first + len(ids[2])))


@pytest.mark.parametrize("without", ["the beginning of the thought", "all of the thought"])
def test_a_text_that_lost_its_beginning_has_no_labels(pair, without: str) -> None:
    both = pair("tagged", "tagged")
    teacher, _ = both.completions()
    left = "" if without.startswith("all") else REASONING.partition("14 + 6 ")[2]
    _, student = both.completions(reasoning=left)
    found = label_positions(student, teacher, both.known, left, RESPONSE)
    assert (found == NO_LABEL).all()


def test_an_answer_that_lost_its_beginning_has_no_labels(pair) -> None:
    both = pair("tagged", "tagged")
    teacher, _ = both.completions()
    _, student = both.completions(response="\\boxed{20}")
    found = label_positions(student, teacher, both.known, REASONING, "\\boxed{20}")
    at = int(np.searchsorted(student.starts, student.content.index(b"\\boxed")))
    assert found[:at].tolist() == list(range(at))
    assert (found[at:] == NO_LABEL).all()


@pytest.mark.parametrize("is_ended", [True, False])
def test_an_answer_that_the_cut_thought_said_too_takes_no_label_from_there(
    pair, is_ended: bool
) -> None:
    both = pair("tagged", "tagged")
    stated = "Tom has 14.\n\nThe answer is 20."
    teacher, _ = both.completions(f"{stated}\n\n{RESPONSE}\n\nOnce more: {RESPONSE}", RESPONSE)
    _, student = both.completions(stated, RESPONSE)
    if not is_ended:  # a row that was cut off ends with its text
        teacher, student = (
            spell(side.ids[:-1], known)
            for side, known in zip((teacher, student), both.bytes_of, strict=True)
        )
    found = label_positions(student, teacher, both.known, stated, RESPONSE)
    at = int(np.searchsorted(student.starts, student.content.index(RESPONSE.encode())))
    assert (found[at:] == NO_LABEL).all()


@pytest.mark.parametrize("response", [">", "im_end"])
def test_an_answer_like_the_end_token_is_labelled_where_it_stands(pair, response: str) -> None:
    both = pair("tagged", "tagged")
    teacher, student = both.completions(response=response)
    found = label_positions(student, teacher, both.known, REASONING, response)
    assert found.tolist() == list(range(len(student.ids)))


def test_an_answer_without_reasoning_is_labelled_too(pair) -> None:
    both = pair("spelt", "spelt")
    teacher, student = both.completions(reasoning="")
    found = label_positions(student, teacher, both.known, "", RESPONSE)
    assert found.tolist() == list(range(len(student.ids)))


def test_labels_of_another_text_are_not_taken(pair) -> None:
    both = pair("tagged", "tagged")
    teacher, _ = both.completions()
    _, student = both.completions(reasoning="Another thought.")
    assert label_positions(student, teacher, both.known, "Another thought.", RESPONSE) is None


@pytest.mark.reference
def test_every_label_belongs_to_its_text_in_real_traces(real_pair, reference_rows) -> None:
    both = real_pair("opened", "tagged")
    rows = [row for row in reference_rows("traces/r1_mmlu_pro_mcq.jsonl") if row.get("reasoning")]
    for row in random.Random(0).sample(rows, 40):
        reasoning, response = row["reasoning"].strip(), row["answer_text"].strip()
        teacher, student = both.completions(reasoning, response)
        found = label_positions(student, teacher, both.known, reasoning, response)
        assert found is not None
        labelled = found != NO_LABEL
        assert labelled.sum() == len(student.ids) - 2
        left = teacher.content.index(reasoning.encode()) - student.content.index(reasoning.encode())
        assert np.array_equal(student.starts[labelled] + left, teacher.starts[found[labelled]])

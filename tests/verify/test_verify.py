"""From a trace to a verdict: which text is read, what is `wrong` and what is `unverifiable`."""

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.verify import VERIFIERS, Question, judge, judgement, verified

COMPARING = ["exact", "numeric", "math", "choice"]


@pytest.mark.parametrize(
    ("verifier", "answer", "reference", "verdict"),
    [
        ("exact", "20.0", "20", "wrong"),
        ("numeric", "20.0", "20", "correct"),
        ("math", "20.0", "20", "correct"),
        ("exact", "1+x", "x+1", "wrong"),
        ("numeric", "1+x", "x+1", "unverifiable"),
        ("math", "1+x", "x+1", "correct"),
    ],
)
def test_each_verifier_is_found_by_its_name(verifier, answer, reference, verdict) -> None:
    assert judge(answer, reference, verifier) == verdict


@pytest.mark.parametrize("verifier", COMPARING)
def test_no_answer_is_wrong(verifier: str) -> None:
    assert judge(None, "20", verifier) == "wrong"


@pytest.mark.parametrize("verifier", COMPARING)
@pytest.mark.parametrize("reference", [None, "", " \n"])
@pytest.mark.parametrize("answer", [None, "", "20"])
def test_without_a_reference_nothing_can_be_verified(verifier, reference, answer) -> None:
    assert judge(answer, reference, verifier) == "unverifiable"


@pytest.mark.parametrize("verifier", COMPARING)
def test_equal_numbers_are_correct_and_an_empty_answer_is_wrong(verifier: str) -> None:
    assert judge("20", "20", verifier) == "correct"
    assert judge("", "20", verifier) == "wrong"


@pytest.mark.parametrize(("answer", "reference"), [("20", "20"), (None, None), ("20", "")])
def test_an_unknown_verifier_is_a_usage_error_for_any_answer(answer, reference) -> None:
    with pytest.raises(
        UsageError, match="no verifier 'maths': there are exact, numeric, math, choice, code"
    ):
        judge(answer, reference, "maths")


@pytest.mark.parametrize(
    ("response", "answer", "verdict"),
    [
        ("So it is \\boxed{20}.", "20", "correct"),
        ("So it is \\boxed{21}.", "21", "wrong"),
        ("First \\boxed{20}, no: \\boxed{21}", "21", "wrong"),
        ("So it is 20.", None, "wrong"),
        ("So it is \\boxed{20", None, "wrong"),
        ("\\boxed{}", "", "wrong"),
        ("", None, "wrong"),
    ],
)
def test_the_answer_is_taken_from_the_response(make_trace, response, answer, verdict) -> None:
    judged = verified(make_trace(response=response))
    assert (judged.answer, judged.verdict) == (answer, verdict)


def test_an_answer_inside_the_reasoning_does_not_count(make_trace) -> None:
    judged = verified(make_trace(reasoning="It is \\boxed{20}.", response="Done."))
    assert (judged.answer, judged.verdict) == (None, "wrong")


@pytest.mark.parametrize("finish_reason", ["length", "repetition"])
def test_a_truncated_completion_has_no_answer(make_trace, finish_reason: str) -> None:
    judged = verified(make_trace(response="\\boxed{20} but", finish_reason=finish_reason))
    assert (judged.answer, judged.verdict) == (None, "wrong")


def test_without_a_reference_an_answer_is_kept_and_unverifiable(make_trace) -> None:
    judged = verified(make_trace(reference_answer=None))
    assert (judged.answer, judged.verdict) == ("20", "unverifiable")


def test_an_old_verdict_is_made_anew(make_trace) -> None:
    judged = verified(make_trace(answer="99", verdict="wrong"))
    assert (judged.answer, judged.verdict) == ("20", "correct")
    assert verified(judged) == judged


def test_the_verifier_argument_overrides_the_rows_own(make_trace) -> None:
    trace = make_trace(response="\\boxed{20.0}", verifier="exact")
    assert verified(trace).verdict == "wrong"
    judged = verified(trace, "numeric")
    assert (judged.verdict, judged.verifier) == ("correct", "numeric")


def test_nothing_but_answer_verdict_and_verifier_changes(make_trace) -> None:
    trace = make_trace()
    judged = verified(trace, "numeric")
    changed = {
        name for name in trace.__struct_fields__ if getattr(trace, name) != getattr(judged, name)
    }
    assert changed == {"answer", "verdict", "verifier"}


def test_every_verifier_has_its_tests_here() -> None:
    assert list(VERIFIERS) == [*COMPARING, "code"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response": "I do not know."}, "no_answer"),
        ({"finish_reason": "length"}, "truncated"),
        ({"reference_answer": None}, "no_reference"),
        ({"reference_answer": None, "finish_reason": "length"}, "no_reference"),
        ({}, None),
        ({"response": "\\boxed{21}"}, None),
        ({"reference_answer": "\\frac{1}{"}, "unreadable_reference: \\frac{1}{"),
    ],
)
def test_a_verdict_says_why_where_the_answer_does_not(make_trace, changes, reason) -> None:
    assert verified(make_trace(**changes)).verdict_reason == reason


def test_an_answer_without_a_box_counts_in_any_form_only(make_trace) -> None:
    trace = make_trace(response="The final answer is 20.")
    assert verified(trace).verdict_reason == "no_answer"
    judged = verified(trace, answer_form="any")
    assert (judged.answer, judged.verdict) == ("20", "correct")


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (None, "no_tests: no tests: the row has none of the fields of a known benchmark"),
        ("{}", "no_tests: no tests: the row has none of the fields of a known benchmark"),
        ('{"public_test_cases": "[]"}',
         "no_tests: no tests: the row has none of the fields of a known benchmark"),
        ("no json", "no_tests: the tests cannot be read: JSONDecodeError("
         "'Expecting value: line 1 column 1 (char 0)')"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("program", [None, "x = 1"])
def test_a_program_without_tests_is_unverifiable_and_never_run(program, extra, reason) -> None:
    assert judgement(program, Question("", extra=extra), "code") == ("unverifiable", reason)

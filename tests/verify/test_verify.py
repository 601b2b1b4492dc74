"""From a trace to a verdict: which text is looked at, and what is wrong and what is unverifiable."""

import pytest

from distillpipe.errors import UsageError
from distillpipe.verify import VERIFIERS, judge, verified


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


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_no_answer_is_wrong(verifier: str) -> None:
    assert judge(None, "20", verifier) == "wrong"


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize("reference", [None, "", " \n"])
@pytest.mark.parametrize("answer", [None, "", "20"])
def test_without_a_reference_nothing_can_be_verified(verifier, reference, answer) -> None:
    assert judge(answer, reference, verifier) == "unverifiable"


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_equal_numbers_are_correct_and_an_empty_answer_is_wrong(verifier: str) -> None:
    assert judge("20", "20", verifier) == "correct"
    assert judge("", "20", verifier) == "wrong"


@pytest.mark.parametrize(("answer", "reference"), [("20", "20"), (None, None), ("20", "")])
def test_an_unknown_verifier_is_the_users_mistake_whatever_the_answer(answer, reference) -> None:
    with pytest.raises(
        UsageError, match="no verifier 'maths': there are exact, numeric, math, choice"
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


def test_without_a_reference_the_answer_is_kept_and_the_verdict_is_unverifiable(make_trace) -> None:
    judged = verified(make_trace(reference_answer=None))
    assert (judged.answer, judged.verdict) == ("20", "unverifiable")


def test_an_old_verdict_is_made_anew(make_trace) -> None:
    judged = verified(make_trace(answer="99", verdict="wrong"))
    assert (judged.answer, judged.verdict) == ("20", "correct")
    assert verified(judged) == judged


def test_the_given_verifier_overrides_the_rows_own_and_is_recorded(make_trace) -> None:
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

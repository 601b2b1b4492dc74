"""Retry delays and the adaptive limit on concurrent requests."""

import pytest

from distillpipe.engines.server.retry import Throttle, retry_after_seconds, retry_delay

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110


@pytest.mark.parametrize(
    ("tries", "longest"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (8, 60), (99, 60)]
)
def test_waits_double_up_to_a_minute_and_jitter_takes_off_up_to_half(
    tries: int, longest: float
) -> None:
    assert retry_delay(tries, None, 0.0) == longest
    assert retry_delay(tries, None, 0.999999) == pytest.approx(longest / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, 1.0), (0.0, 1.0), (0.5, 1.0), (30.0, 30.0), (1e9, 3600.0)]
)
def test_a_wait_is_at_least_what_the_server_asks_for(asked: float | None, expected: float) -> None:
    assert retry_delay(1, asked, 0.0) == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("12", 12.0), ("0.5", 0.5), ("-3", None), ("soon", None), ("", None),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0), ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0), ("Sun Nov  6 08:49:47 1994", 10.0),
        ("1e300", None), ("inf", None), ("nan", None), ("1_000", None), ("\uff11\uff12", None),
        ("\u0663", None), ("9" * 5000, None), ("999999999999", 999999999999.0), (" 7 ", 7.0), ("1, 2", None),
        ("Sun, 06 Nov 99999 08:49:47 GMT", None), ("Sun, 99 Nov 1994 08:49:47 GMT", None), ("Sun, 06 Nov 1994 08:49:47 +999999", None),
        ("Sun, 06 Nov 1994 99:99:99 GMT", None), ("\x00", None), ("," * 999, None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


def answers(throttle: Throttle, busy: int, well: int) -> int:
    sent_after = throttle.num_halvings
    for number in range(busy + well):
        throttle.record(sent_after, is_busy=number < busy)
    return throttle.limit


def test_a_burst_halves_the_limit_once() -> None:
    assert answers(Throttle(64), busy=64, well=0) == 32


def test_a_stray_busy_answer_changes_nothing() -> None:
    assert answers(Throttle(64), busy=15, well=49) == 64


def test_calm_rounds_let_in_more_slowly_up_to_what_was_asked_for() -> None:
    throttle = Throttle(64)
    answers(throttle, busy=16, well=0)
    limits = [answers(throttle, busy=0, well=throttle.limit) for _ in range(20)]

    assert limits[:4] == [34, 36, 38, 40]
    assert limits[-1] == 64


def test_a_round_that_is_neither_calm_nor_a_burst_holds() -> None:
    throttle = Throttle(64)
    answers(throttle, busy=16, well=0)
    assert answers(throttle, busy=6, well=26) == 32


def test_one_request_is_always_let_in() -> None:
    throttle = Throttle(3)
    for _ in range(5):
        answers(throttle, busy=1, well=0)
    assert throttle.limit == 1
    assert answers(throttle, busy=0, well=1) == 2

"""Progress goes to a terminal only: rate and time left there, nothing where there is none."""

from collections.abc import Callable

import pytest

from distillpipe.base.progress import progress, say

STAGE = """
import time
from distillpipe.base.progress import progress

with progress("generate", total=3, done=1) as advance:
    for _ in range(2):
        time.sleep(0.3)
        advance(1, 50)
"""


def test_nothing_is_shown_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("generate", total=2) as advance:
        advance(1, 10)
        advance(1)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_label_rows_rate_and_time_left(
    shown_on_terminal: Callable[..., bytes],
) -> None:
    shown = shown_on_terminal(STAGE)

    for part in (b"generate", b"2/3", b"tokens/s", b"0:00:0"):
        assert part in shown


def test_talk_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    say("3 rows")
    assert capfd.readouterr() == ("", "3 rows\n")

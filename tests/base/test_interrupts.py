"""Ctrl-C and SIGTERM: held back while something is being written, raised right after it."""

import signal
from collections.abc import Iterator

import pytest

from distillpipe.base import interrupts
from distillpipe.base.errors import Interrupted
from distillpipe.base.interrupts import shielded

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """Our handlers, and those from before again after the test."""
    before = {number: signal.getsignal(number) for number, _ in SIGNALS}
    interrupts.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_a_signal_outside_a_shield_is_raised_at_once(number: int, exit_code: int) -> None:
    with pytest.raises(Interrupted) as raised:
        signal.raise_signal(number)
    assert raised.value.exit_code == exit_code


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_a_signal_inside_a_shield_is_raised_when_the_block_ends(
    number: int, exit_code: int
) -> None:
    done = []
    with pytest.raises(Interrupted) as raised, shielded():
        done.append("first half")
        signal.raise_signal(number)
        done.append("second half")

    assert done == ["first half", "second half"]
    assert raised.value.exit_code == exit_code


def test_a_signal_inside_nested_shields_waits_for_the_outermost() -> None:
    done = []
    with pytest.raises(Interrupted), shielded():
        with shielded():
            signal.raise_signal(signal.SIGINT)
        done.append("after the inner block")
        with shielded():
            done.append("in another inner block")

    assert done == ["after the inner block", "in another inner block"]


def test_a_signal_is_raised_once_however_often_it_came() -> None:
    with pytest.raises(Interrupted), shielded():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with shielded():
        done = "nothing is left over from before"
    assert done


def test_an_error_inside_the_block_comes_with_the_signal() -> None:
    error = OSError("disk full")
    with pytest.raises(Interrupted) as raised, shielded():
        signal.raise_signal(signal.SIGINT)
        raise error

    assert raised.value.__context__ is error


def test_an_error_without_a_signal_passes_and_the_shield_is_down_again() -> None:
    with pytest.raises(OSError, match="disk full"), shielded():
        raise OSError("disk full")

    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)


def test_no_handler_for_errors_swallows_a_signal() -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:  # noqa: BLE001 - the point of the test
            pytest.fail("swallowed")

    with pytest.raises(Interrupted):
        work()

"""Retry delays with exponential backoff, and the adaptive limit on concurrent requests."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_TRIES = 8
FIRST_DELAY = 1.0  # seconds
LONGEST_DELAY = 60.0
LONGEST_RETRY_AFTER = 3600.0
HALVE_SHARE, GROW_SHARE = 1 / 4, 1 / 8  # of the responses in a round that said "busy"
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?")
GROWTH = 16  # after a calm round the limit grows by a 16th


def retry_delay(tries: int, retry_after: float | None, draw: float) -> float:
    """Seconds to wait after the given number of tries (1, 2, ...), at least what the server asks for.

    Doubles from `FIRST_DELAY` to `LONGEST_DELAY`. Jitter: `draw` in [0, 1) takes off up to half, so that
    requests that failed together are not sent again together.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (tries - 1))
    return max(longest * (1 - draw / 2), min(retry_after or 0.0, LONGEST_RETRY_AFTER))


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds in a Retry-After header: a number, or an HTTP date (RFC 9110, 10.2.3).

    `now` is in seconds since 1970. None if there is no header or it cannot be read: words, digits of another
    script, exponents, dates that do not exist.
    """
    if header is None:
        return None
    if _SECONDS.fullmatch(header.strip()):
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class Throttle:
    """The limit on concurrent requests: halved when many of them are turned away, then grown slowly.

    Responses are counted in rounds of `limit`. Single "busy" responses change nothing; a share of
    `HALVE_SHARE` halves the limit. Responses to requests sent before the last halving are ignored, because they
    say nothing about the new limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = self._max_limit = limit
        self.num_halvings = 0
        "each request notes this number when it is sent"
        self._num_responses = self._num_busy = 0

    def record(self, sent_after: int, *, is_busy: bool) -> None:
        """Count the response to a request that was sent after this many halvings."""
        if sent_after != self.num_halvings:
            return
        self._num_responses += 1
        self._num_busy += is_busy
        if is_busy and self._num_busy >= self.limit * HALVE_SHARE:
            self.limit = max(1, self.limit // 2)
            self.num_halvings += 1
        elif self._num_responses < self.limit:
            return
        elif self._num_busy < self._num_responses * GROW_SHARE:
            self.limit = min(self._max_limit, self.limit + max(1, self.limit // GROWTH))
        self._num_responses = self._num_busy = 0

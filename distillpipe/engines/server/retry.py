"""How long to wait before a request is made again, and how many are made at once."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_TRIES = 8
FIRST_DELAY = 1.0  # seconds
LONGEST_DELAY = 60.0
LONGEST_RETRY_AFTER = 3600.0
HALVE_SHARE, GROW_SHARE = 1 / 4, 1 / 8  # of the answers of a round that said "busy"
_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?")
GROWTH = 16  # a calm round lets in one request more for so many


def delay(tries: int, retry_after: float | None, drawn: float) -> float:
    """Seconds to wait after the given number of tries (1, 2, ...), at least what the server asks for.

    Doubles from `FIRST_DELAY` to `LONGEST_DELAY`; `drawn` in [0, 1) takes up to half of it off, so that
    requests that failed together do not come back together.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (tries - 1))
    return max(longest * (1 - drawn / 2), min(retry_after or 0.0, LONGEST_RETRY_AFTER))


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or an HTTP date (RFC 9110, 10.2.3).

    `now` is in seconds since 1970. None where there is no header, or none that can be read: words, another
    script's digits, powers of ten, a date that no calendar has.
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
    """How many requests may be under way: halved when a burst of them is turned away, then grown slowly.

    Answers are counted in rounds of `limit`. A stray "busy" changes nothing: a share of `HALVE_SHARE` is
    a burst. What was sent before the last halving says nothing of the limit that came of it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = self._most = limit
        self.num_halvings = 0
        "every request notes it when it is sent"
        self._answers = self._busy = 0

    def answered(self, sent_after: int, *, is_busy: bool) -> None:
        """Count an answer to a request that was sent after so many halvings."""
        if sent_after != self.num_halvings:
            return
        self._answers += 1
        self._busy += is_busy
        if is_busy and self._busy >= self.limit * HALVE_SHARE:
            self.limit = max(1, self.limit // 2)
            self.num_halvings += 1
        elif self._answers < self.limit:
            return
        elif self._busy < self._answers * GROW_SHARE:
            self.limit = min(self._most, self.limit + max(1, self.limit // GROWTH))
        self._answers = self._busy = 0

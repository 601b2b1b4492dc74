"""The process that asks math-verify: one JSON line in, one out, until its input ends.

    {"answer": "x+1", "reference": "1+x", "cpu_seconds": 5}  ->  {"outcome": "same"}

Outcomes: same | different | unreadable_answer | unreadable_reference | failed. It is killed by the kernel
where a question takes more CPU time than allowed, in C code too, and where its parent ends; a question
that takes its memory or its stack costs the process and nothing else.
"""

import contextlib
import functools
import json
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

from distillpipe.base.interrupts import leave_with_parent

MEMORY_BYTES = 2 * 2**30
_ROUNDING = 12  # decimals: the default of 6 calls 1e-7 and 2e-7 equal
_PRECISION = 50  # digits: the default of 15 cuts what is smaller to zero


def main() -> None:
    """Serve the parent whose process id is the first argument."""
    leave_with_parent(int(sys.argv[1]))
    with contextlib.suppress(ValueError):  # macOS has no such limit; the time limit holds there too
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what a library prints is no message of ours
        try:
            import math_verify  # noqa: F401 - loaded before the first question is asked
        except ImportError as error:
            _send(out, {"outcome": "missing", "error": str(error)})
            return
        _send(out, {"outcome": "ready"})
        for line in sys.stdin.buffer:
            question = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, question["cpu_seconds"])
            outcome = compared(question["answer"], question["reference"])
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(out, {"outcome": outcome})


def compared(answer: str, reference: str) -> str:
    """What math-verify says; anything that it raises is `failed`."""
    from math_verify import verify

    wanted = _parsed(reference)
    if not wanted:
        return "unreadable_reference"
    given = _parsed(answer)
    if not given:
        return "unreadable_answer"
    try:
        same = verify(
            wanted,
            given,
            float_rounding=_ROUNDING,
            numeric_precision=_PRECISION,
            timeout_seconds=None,
            raise_on_error=True,
        )
    except Exception:  # noqa: BLE001 - sympy raises anything; the caller asks about the reference then
        return "failed"
    return "same" if same else "different"


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> list[Any]:
    """As one LaTeX expression: never the last number of a sentence."""
    from math_verify import LatexExtractionConfig, parse

    found: list[Any] = parse(
        f"\\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return found


def _send(out: BinaryIO, message: dict[str, str]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main()

"""Worker process that runs math-verify: reads one JSON line per question, writes one per outcome.

    {"answer": "x+1", "reference": "1+x", "cpu_seconds": 5}  ->  {"outcome": "same"}

Outcomes: same | different | unreadable_answer | unreadable_reference | failed. The process ends with its
input. The kernel kills it when a question exceeds its CPU time, even in C code, and when the parent ends.
A question that exhausts memory or stack costs this process only.
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
_ROUNDING = 12  # decimal places; with the default of 6, 1e-7 equals 2e-7
_PRECISION = 50  # digits; with the default of 15, smaller values become zero


def main() -> None:
    """Answer the questions of the parent process, whose id is the first argument."""
    leave_with_parent(int(sys.argv[1]))
    with contextlib.suppress(ValueError):  # macOS has no memory limit, only the time limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what a library prints must not mix with the outcomes
        try:
            import math_verify  # noqa: F401 - loaded before the first question, whose time is limited
        except ImportError as error:
            _send(out, {"outcome": "missing", "error": str(error)})
            return
        _send(out, {"outcome": "ready"})
        for line in sys.stdin.buffer:
            question = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, question["cpu_seconds"])
            outcome = compare(question["answer"], question["reference"])
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(out, {"outcome": outcome})


def compare(answer: str, reference: str) -> str:
    """The outcome of math-verify for a pair; `failed` if it raises."""
    from math_verify import verify

    parsed_reference = _parse(reference)
    if not parsed_reference:
        return "unreadable_reference"
    parsed_answer = _parse(answer)
    if not parsed_answer:
        return "unreadable_answer"
    try:
        is_same = verify(
            parsed_reference,
            parsed_answer,
            float_rounding=_ROUNDING,
            numeric_precision=_PRECISION,
            timeout_seconds=None,
            raise_on_error=True,
        )
    except Exception:  # noqa: BLE001 - sympy may raise anything; the caller then checks the reference
        return "failed"
    return "same" if is_same else "different"


@functools.lru_cache(maxsize=16)
def _parse(text: str) -> list[Any]:
    """The text as one LaTeX expression, so that math-verify does not take the last number of a sentence."""
    from math_verify import LatexExtractionConfig, parse

    expressions: list[Any] = parse(
        f"\\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    )
    return expressions


def _send(out: BinaryIO, message: dict[str, str]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main()

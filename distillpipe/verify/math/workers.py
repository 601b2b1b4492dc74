"""Asks math-verify whether an answer equals a reference, in a worker process.

The worker limits the CPU time of a question. `ask` limits the wall-clock time, for a question that sleeps.
"""

from typing import Literal, cast

from distillpipe.base import workers
from distillpipe.base.errors import EngineError, MissingDependencyError
from distillpipe.base.requirements import install_command
from distillpipe.base.workers import NotStartedError, Program

CPU_SECONDS = 5.0
WALL_SECONDS = 20.0  # longer, since a busy machine gives less CPU; a question that sleeps uses none

_PROGRAM = Program("distillpipe.verify.math.worker")

Outcome = Literal["same", "different", "unreadable_answer", "unreadable_reference", "failed"]


def ask(answer: str, reference: str) -> Outcome:
    """The outcome of math-verify for a pair; `failed` if it raised, ran out of time or its process died.

    Raises MissingDependencyError or EngineError where no worker can be started at all.
    """
    question = {"answer": answer, "reference": reference, "cpu_seconds": CPU_SECONDS}
    try:
        reply = workers.ask(_PROGRAM, question, WALL_SECONDS)
    except NotStartedError as error:
        if error.reply is None:
            raise EngineError(
                f"the process that runs math-verify did not start (exit code {error.status}): "
                f"to see its error, run {error.command}"
            ) from None
        raise MissingDependencyError(
            f"the verifier math needs math-verify ({error.reply['error']}): "
            + install_command("math-verify")
        ) from None
    return "failed" if reply is None else cast(Outcome, reply["outcome"])

"""What math-verify says of an answer and a reference: asked in a process that can be killed.

A question is killed by the worker's own clock of CPU time, and by a clock of ours that also sees one that
sleeps.
"""

from typing import Literal, cast

from distillpipe.base import workers
from distillpipe.base.errors import EngineError, MissingDependencyError
from distillpipe.base.requirements import install_command
from distillpipe.base.workers import NotStartedError, Program

CPU_SECONDS = 5.0
WALL_SECONDS = 20.0  # a busy machine gives less CPU, and a question that sleeps needs none

_PROGRAM = Program("distillpipe.verify.math.worker")

Outcome = Literal["same", "different", "unreadable_answer", "unreadable_reference", "failed"]


def ask(answer: str, reference: str) -> Outcome:
    """What math-verify says of a pair; `failed` where it raised, ran out of time or lost its process.

    Raises MissingDependencyError or EngineError where no worker can be started at all.
    """
    question = {"answer": answer, "reference": reference, "cpu_seconds": CPU_SECONDS}
    try:
        reply = workers.ask(_PROGRAM, question, WALL_SECONDS)
    except NotStartedError as error:
        if error.reply is None:
            raise EngineError(
                f"the process that compares answers did not start ({error.status}): try {error.command}"
            ) from None
        raise MissingDependencyError(
            f"the verifier math needs math-verify ({error.reply['error']}): "
            + install_command("math-verify")
        ) from None
    return "failed" if reply is None else cast(Outcome, reply["outcome"])

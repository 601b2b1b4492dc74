"""A row as the rules see it that look at all rows at once: what they need to know, without the text."""

import sys
from typing import NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.records import Trace, Verdict

NO_DOMAIN = ""  # of a row that names none


class Candidate(NamedTuple):
    """A row that no rule has dropped so far."""

    id: str
    problem_id: str
    content: str
    "hash of problem and completion"
    num_reasoning_tokens: int | None = None
    domain: str = NO_DOMAIN
    source: str = ""
    "what the problem comes from, where that matters"
    verdict: Verdict | None = None

    @classmethod
    def of(cls, trace: Trace, domain: str | None = None, source: str = "") -> "Candidate":
        """The candidate of a judged trace, with what is known of its problem."""
        return cls(
            trace.id,
            trace.problem_id,
            content_hash(trace.problem, trace.messages[-1]),
            None if trace.num_tokens is None else trace.num_tokens.reasoning,
            sys.intern(domain or NO_DOMAIN),
            source,
            trace.verdict,
        )

    def length_for(self, option: str) -> int:
        """Its reasoning tokens; a UsageError names the option that needs them where none were counted."""
        if self.num_reasoning_tokens is None:
            raise UsageError(
                f"row {self.id} has no token counts, which {option} needs: import it again with "
                "`distill import --tokenizer MODEL`"
            )
        return self.num_reasoning_tokens

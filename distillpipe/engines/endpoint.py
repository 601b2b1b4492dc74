"""Which door of a server is knocked at, and what is handed in and out there.

/chat/completions takes messages: the server renders them, reads the reasoning and counts. /completions takes
the ids of a prompt that was rendered here and gives ids back, so that a completion can be gone on with.
"""

from typing import Any, NamedTuple

from distillpipe.base.errors import EngineError
from distillpipe.engines.base import Answer, Completion, Request
from distillpipe.engines.bodies import Dialect, body_of, body_of_rendered
from distillpipe.engines.replies import Again, Reply, Response
from distillpipe.engines.usage import Most, most_of


class Endpoint(NamedTuple):
    """How one model is asked."""

    model: str
    context_length: int
    end_ids: frozenset[int] | None
    "of the chat that renders prompts here; null where the server does"

    @property
    def path(self) -> str:
        return "/chat/completions" if self.end_ids is None else "/completions"

    def body(self, request: Request, dialect: Dialect, *, is_bounded: bool) -> dict[str, Any]:
        """The JSON of a request. Unless `is_bounded`, the server may go on to the end of its context."""
        if self.end_ids is not None:
            room = self.context_length - len(request.prompt_ids)
            limited = request._replace(limit=min(request.max_tokens, room))
            return body_of_rendered(self.model, limited, dialect, self.end_ids)
        is_bounded = is_bounded and request.max_tokens < self.context_length
        return body_of(self.model, request, dialect, is_bounded=is_bounded)

    def most(self, request: Request, *, is_bounded: bool) -> Most:
        """What a request can have had; see `body`."""
        return most_of(request, self.context_length, is_bounded=is_bounded)

    def checked(self, request: Request, response: Response, *, is_proven: bool) -> Response:
        """The response; where the prompt was rendered here, a bad answer unless it holds ids of the right number.

        Until one answer has held ids, one without is left to `outcome`.
        """
        if self.end_ids is None or not isinstance(response, Reply):
            return response
        ids = response.token_ids
        if response.has_odd_ids or (ids is None and is_proven):
            return Again("the answer holds no token ids", may_be_billed=True)
        if ids is not None and len(ids) > request.max_tokens:
            reason = f"the answer has {len(ids):,} token ids, {request.max_tokens:,} were allowed"
            return Again(reason, may_be_billed=True)
        return response

    def outcome(self, request: Request, reply: Reply, *, is_proven: bool) -> Answer | Completion:
        """What a reply gives; an EngineError where it holds no ids, or of another prompt than was sent.

        The latter is asked of the first answer alone: what a server counts later is no reason to end a run.
        """
        key, reason = request.key, reply.finish_reason
        if self.end_ids is None:
            return Answer(key, reply.message, reason, reply.usage.stored, reply.served_by)
        if reply.token_ids is None:
            raise EngineError(
                f"{self.model}: the server returns no token ids, which --tokenizer needs: serve the model "
                "with vLLM, or leave --tokenizer and the budget out"
            )
        counted = None if reply.usage.stored is None else reply.usage.stored.prompt
        if not is_proven and counted and counted != len(request.prompt_ids):
            raise EngineError(
                f"{self.model}: the server counts {counted:,} tokens in a prompt of "
                f"{len(request.prompt_ids):,}: give the --tokenizer of the model that it serves"
            )
        return Completion(key, reply.token_ids, reason, served_by=reply.served_by)

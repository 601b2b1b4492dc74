"""The JSON of a request to a server, in the dialect that it takes.

{"model": "qwen", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0.6, "top_p": 0.95,
 "seed": 17, "max_tokens": 32768, "chat_template_kwargs": {"enable_thinking": true}}

Where the prompt was rendered here, it is a list of token ids, and ids are asked for (vLLM since 0.10):

{"model": "qwen", "prompt": [151644, 872], "max_tokens": 900, "stop_token_ids": [151645, 151668],
 "return_token_ids": true, "skip_special_tokens": false, ...}
"""

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe.base.errors import EngineError
from distillpipe.engines.base import Answer, Completion, Request
from distillpipe.engines.server.replies import Again, Reply, Response
from distillpipe.engines.server.usage import Most, most_of


class Dialect(NamedTuple):
    """What a server takes of the fields that not all servers know."""

    has_seed: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    "the field of the limit: OpenAI's reasoning models refuse the older name"


def adapted(dialect: Dialect, said: str) -> Dialect | None:
    """The dialect that a refusal asks for; None where it asks for none."""
    if dialect.limit == "max_tokens" and "max_completion_tokens" in said:
        return dialect._replace(limit="max_completion_tokens")
    if dialect.has_seed and "seed" in said.lower():
        return dialect._replace(has_seed=False)  # servers without seeds draw as they like anyway
    return None


def body_of(model: str, request: Request, dialect: Dialect, *, is_bounded: bool) -> dict[str, Any]:
    """The JSON of a request; `extra_body` adds fields, and takes away those that it sets to null.

    Unless `is_bounded`, the server may go on to the end of its context.
    """
    asked = [{"role": one.role, "content": one.content} for one in request.messages]
    limit: dict[str, Any] = {dialect.limit: request.max_tokens} if is_bounded else {}
    return _body_of(model, request, dialect, {"messages": asked, **limit})


def body_of_rendered(
    model: str, request: Request, dialect: Dialect, end_ids: Collection[int]
) -> dict[str, Any]:
    """The JSON of a request whose prompt is token ids, for /completions."""
    return _body_of(model, request, dialect, {
        "prompt": request.prompt_ids, "max_tokens": request.max_tokens,
        "stop_token_ids": sorted({*end_ids, *request.stop_ids}),
        "return_token_ids": True, "skip_special_tokens": False,
    })  # fmt: skip


def _body_of(
    model: str, request: Request, dialect: Dialect, asked: dict[str, Any]
) -> dict[str, Any]:
    sampling = request.sampling
    body = {
        "model": model, **asked, "temperature": sampling.temperature, "top_p": sampling.top_p,
    }  # fmt: skip
    if dialect.has_seed:
        body["seed"] = request.seed
    if sampling.extra_body is not None:
        body |= msgspec.json.decode(sampling.extra_body)
        body = {name: value for name, value in body.items() if value is not None}
    return body


# Which door of a server is knocked at, and what is handed in and out there.
#
# /chat/completions takes messages: the server renders them, reads the reasoning and counts. /completions takes
# the ids of a prompt that was rendered here and gives ids back, so that a completion can be gone on with.


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

"""Builds the JSON body of a request for the endpoint and the field names that the server supports.

/chat/completions takes messages; the server renders the prompt, separates the reasoning and counts tokens:

{"model": "qwen", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0.6, "top_p": 0.95,
 "seed": 17, "max_tokens": 32768, "stream": true, "stream_options": {"include_usage": true}, "chat_template_kwargs": {"enable_thinking": true}}

/completions takes a prompt as token ids, which we rendered, and returns token ids (vLLM since 0.10), so that a
completion can be continued:

{"model": "qwen", "prompt": [151644, 872], "max_tokens": 900, "stop_token_ids": [151645, 151668],
 "return_token_ids": true, "skip_special_tokens": false, ...}
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe.base.errors import EngineError
from distillpipe.engines.base import Answer, Completion, Request
from distillpipe.engines.server.replies import Reply, Response, Retry
from distillpipe.engines.server.usage import UsageBounds, usage_bounds

TEMPLATE_VARIABLES = "chat_template_kwargs"
_STREAM = re.compile(r"\bstream(ing|ed|s)?\b", re.IGNORECASE)


class Dialect(NamedTuple):
    """Request fields that not all servers support."""

    has_seed: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    "name of the limit field: OpenAI's reasoning models refuse the older name"
    stream: Literal["usage", "plain", "no"] = "usage"
    "whether the answer is streamed, and its token counts are asked for"

    @property
    def is_streamed(self) -> bool:
        return self.stream != "no"


def adapt_dialect(dialect: Dialect, detail: str) -> Dialect | None:
    """The dialect that a refusal asks for; None if its text names no field that can change."""
    if dialect.stream == "usage" and ("stream_options" in detail or "include_usage" in detail):
        return dialect._replace(stream="plain")
    if dialect.is_streamed and _STREAM.search(detail):
        return dialect._replace(stream="no")
    if dialect.limit == "max_tokens" and "max_completion_tokens" in detail:
        return dialect._replace(limit="max_completion_tokens")
    if dialect.has_seed and "seed" in detail.lower():
        return dialect._replace(has_seed=False)  # such a server samples without a seed anyway
    return None


def change_of(old: Dialect, new: Dialect) -> str:
    """What is sent otherwise from now on."""
    if old.stream != new.stream:
        return "without streaming" if new.stream == "no" else "without stream_options"
    return f"with {new.limit}" if old.limit != new.limit else "without seeds"


class Endpoint(NamedTuple):
    """The endpoint for one model: its path, its request bodies and what its replies give."""

    model: str
    context_length: int
    end_ids: frozenset[int] | None
    "end tokens of the chat that renders prompts here; null if the server renders them"
    template_variables: Mapping[str, Any] = MappingProxyType({})
    "for the chat template of the server"

    @property
    def path(self) -> str:
        return "/chat/completions" if self.end_ids is None else "/completions"

    def body(self, request: Request, dialect: Dialect, *, is_bounded: bool) -> dict[str, Any]:
        """The JSON of a request; `extra_body` adds fields, and removes those that it sets to null.

        Unless `is_bounded`, no limit is sent and the server may continue to the end of its context.
        """
        sampling = request.sampling
        prompt: dict[str, Any]
        if self.end_ids is None:
            messages = [{"role": item.role, "content": item.content} for item in request.messages]
            prompt = {"messages": messages}
            if self.template_variables:
                prompt[TEMPLATE_VARIABLES] = dict(self.template_variables)
            if is_bounded and request.max_tokens < self.context_length:
                prompt[dialect.limit] = request.max_tokens
        else:
            prompt = {
                "prompt": request.prompt_ids,
                "max_tokens": min(
                    request.max_tokens, self.context_length - len(request.prompt_ids)
                ),
                "stop_token_ids": sorted({*self.end_ids, *request.stop_ids}),
                "return_token_ids": True,
                "skip_special_tokens": False,
            }
        body = {
            "model": self.model, **prompt, "temperature": sampling.temperature, "top_p": sampling.top_p,
        }  # fmt: skip
        if dialect.has_seed:
            body["seed"] = request.seed
        if dialect.is_streamed:
            body["stream"] = True
        if dialect.stream == "usage":
            body["stream_options"] = {"include_usage": True}
        if sampling.extra_body is not None:
            extra = msgspec.json.decode(sampling.extra_body)
            if isinstance(more := extra.get(TEMPLATE_VARIABLES), dict):
                extra[TEMPLATE_VARIABLES] = {**self.template_variables, **more}
            body |= extra
            body = {name: value for name, value in body.items() if value is not None}
        return body

    def usage_bounds(self, request: Request, *, is_bounded: bool) -> UsageBounds:
        """Upper bounds on the usage of a request; `is_bounded` as in `body`."""
        return usage_bounds(request, self.context_length, is_bounded=is_bounded)

    def check_token_ids(self, request: Request, response: Response, *, is_proven: bool) -> Response:
        """The response. If we rendered the prompt, an answer without valid token ids becomes a `Retry`.

        Until the first answer with ids (`is_proven`), an answer without ids passes: `outcome` raises for it.
        """
        if self.end_ids is None or not isinstance(response, Reply):
            return response
        ids = response.token_ids
        if response.has_invalid_ids or (ids is None and is_proven):
            return Retry("the answer holds no token ids", may_be_billed=True)
        if ids is not None and len(ids) > request.max_tokens:
            reason = f"the answer has {len(ids):,} token ids, {request.max_tokens:,} were allowed"
            return Retry(reason, may_be_billed=True)
        return response

    def outcome(self, request: Request, reply: Reply, *, is_proven: bool) -> Answer | Completion:
        """The outcome of a reply. Raises EngineError if it holds no ids, or ids of another tokenizer.

        The tokenizer is checked with the first answer only: a wrong count later does not end a run.
        """
        key, reason = request.key, reply.finish_reason
        if self.end_ids is None:
            return Answer(
                key, reply.message, reason, reply.usage.stored, reply.served_by, reply.notes
            )
        if reply.token_ids is None:
            raise EngineError(
                f"{self.model}: the server returns no token ids, which --tokenizer needs: serve the model "
                "with vLLM, or leave out --tokenizer and the budget"
            )
        num_prompt = None if reply.usage.stored is None else reply.usage.stored.prompt
        if not is_proven and num_prompt and num_prompt != len(request.prompt_ids):
            raise EngineError(
                f"{self.model}: the server counts {num_prompt:,} tokens in a prompt of "
                f"{len(request.prompt_ids):,}: give the --tokenizer of the model that it serves"
            )
        return Completion(key, reply.token_ids, reason, served_by=reply.served_by)

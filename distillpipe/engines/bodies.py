"""The JSON of a request to a server, in the dialect that it takes.

{"model": "qwen", "messages": [{"role": "user", "content": "1+1?"}], "temperature": 0.6, "top_p": 0.95,
 "seed": 17, "max_tokens": 32768, "chat_template_kwargs": {"enable_thinking": true}}
"""

from typing import Any, Literal, NamedTuple

import msgspec

from distillpipe.engines.base import Request


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
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if dialect.has_seed:
        body["seed"] = request.seed
    if is_bounded:
        body[dialect.limit] = sampling.max_tokens
    if sampling.extra_body is not None:
        body |= msgspec.json.decode(sampling.extra_body)
        body = {name: value for name, value in body.items() if value is not None}
    return body

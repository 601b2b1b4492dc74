"""Where tokens come from. Each engine's module has one heavy import, and is imported only when it is used."""

from distillpipe import models
from distillpipe.chat import Chat
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.engines.billing import Billing
from distillpipe.engines.choice import choose
from distillpipe.engines.server_options import asks_for_server
from distillpipe.errors import UsageError
from distillpipe.models import AnyModel, Served
from distillpipe.progress import say
from distillpipe.records import EngineOptions
from distillpipe.spending import Ledger, prices_of
from distillpipe.versions import Draft

CONCURRENCY = 256  # where none is asked for, and the engine has no figure of its own

__all__ = ["Completion", "Engine", "Request", "check_soft_labels", "find_model", "open_engine"]


def find_model(
    reference: str, option: str, options: EngineOptions, *, weights: bool = True
) -> AnyModel:
    """The model that `reference` names, on disk, on the hub or behind a server; see `models.find`.

    Raises UsageError for options of an engine that do not fit together.
    """
    if asks_for_server(options):
        return Served(reference)
    return models.find(reference, option, weights=weights)


def open_engine(
    model: AnyModel,
    chat: Chat | None,
    options: EngineOptions,
    draft: Draft | None = None,
    soft_labels: int | None = None,
) -> Engine:
    """The engine that `options` ask for, its model loaded; what a server costs is kept in `draft`.

    `soft_labels` is the most that a request will ask for; see `check_soft_labels`.
    """
    if soft_labels is not None:
        check_soft_labels(model, soft_labels)
    if isinstance(model, Served):
        return _open_server(model, chat, options, draft)
    assert chat is not None  # only a server renders by itself
    match choose(options):
        case "transformers":
            from distillpipe.engines.transformers import TransformersEngine

            num_slots = options.concurrency or CONCURRENCY
            return TransformersEngine(model, chat, num_slots, options.max_model_len)
        case "vllm":
            from distillpipe.engines.vllm import VllmEngine

            return VllmEngine(model, chat.end_ids, options, soft_labels)
        case unknown:
            raise UsageError(f"no engine {unknown!r}: there are auto, openai, transformers, vllm")


def check_soft_labels(model: AnyModel, soft_labels: int) -> None:
    """Raises UsageError for a server, and for more labels a token than the model's vocabulary has tokens."""
    if isinstance(model, Served):
        raise UsageError(
            "--soft-labels: a server does not give the distribution of its tokens by their ids: sample "
            "without it, then `distill label TRACES --teacher MODEL --soft-labels K` with the model's files"
        )
    size = models.vocab_size(model)
    if soft_labels > size:
        raise UsageError(
            f"--soft-labels {soft_labels}: the vocabulary of {model.name} has {size} tokens: "
            "20 hold nearly all of the distribution"
        )


def _open_server(
    model: Served, chat: Chat | None, options: EngineOptions, draft: Draft | None
) -> Engine:
    from distillpipe.engines.openai import OpenAIEngine
    from distillpipe.engines.server import Server

    assert options.base_url is not None  # or there were no served model
    if options.engine == "auto":
        say("engine: openai (--base-url)")
    server = Server(options.base_url, model.name, options.api_key_env)
    server.check()
    billing = None
    if draft is not None and (prices := prices_of(options)) is not None:
        billing = Billing(Ledger(draft, prices, options.max_cost))
    return OpenAIEngine(
        server,
        options.concurrency or CONCURRENCY,
        billing,
        needs_reasoning=not options.allow_no_reasoning,
        end_ids=None if chat is None else chat.end_ids,
    )

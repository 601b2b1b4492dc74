"""Opens the engine that samples completions: transformers, vLLM or an OpenAI-compatible server.

Each engine's module has one heavy import and is imported only when it is used.
"""

from importlib.util import find_spec

from distillpipe.base.errors import MissingDependencyError, UsageError
from distillpipe.base.options import NO_TEMPLATE_OPTIONS, EngineOptions, TemplateOptions
from distillpipe.base.progress import say
from distillpipe.base.requirements import install_command
from distillpipe.data.store.spending import Ledger, prices_of
from distillpipe.data.store.versions import Draft
from distillpipe.engines.base import Completion, Engine, Request
from distillpipe.engines.server.billing import Billing
from distillpipe.engines.server.options import asks_for_server
from distillpipe.models import lookup
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import AnyModel, Served

CONCURRENCY = 256  # if --concurrency is not given and the engine has no default of its own

__all__ = [
    "Completion",
    "Engine",
    "Request",
    "check_soft_labels",
    "find_model",
    "open_engine",
]


def find_model(
    reference: str, option: str, options: EngineOptions, *, weights: bool = True
) -> AnyModel:
    """The model that `reference` names, on disk, on the hub or behind a server; see `lookup.find`.

    Raises UsageError for engine options that contradict each other.
    """
    if asks_for_server(options):
        return Served(reference)
    return lookup.find(reference, option, weights=weights)


def open_engine(
    model: AnyModel,
    chat: Chat | None,
    options: EngineOptions,
    draft: Draft | None = None,
    soft_labels: int | None = None,
    template: TemplateOptions = NO_TEMPLATE_OPTIONS,
) -> Engine:
    """Load the model and open the engine that `options` select. The cost of a server is kept in `draft`.

    `soft_labels` is the largest number that a request will ask for; see `check_soft_labels`. `template` goes to a
    server that renders prompts itself.
    """
    if soft_labels is not None:
        check_soft_labels(model, soft_labels)
    if isinstance(model, Served):
        return _open_server(model, chat, options, draft, template)
    assert chat is not None  # only a server renders prompts itself
    match choose_engine(options):
        case "transformers":
            from distillpipe.engines.transformers.engine import TransformersEngine

            num_slots = options.concurrency or CONCURRENCY
            return TransformersEngine(model, chat, num_slots, options.max_model_len)
        case "vllm":
            from distillpipe.engines.vllm.engine import VllmEngine

            return VllmEngine(model, chat.end_ids, options, soft_labels)
        case unknown:
            raise UsageError(
                f"--engine {unknown!r} does not exist: use auto, openai, transformers or vllm"
            )


def check_soft_labels(model: AnyModel, soft_labels: int) -> None:
    """Raises UsageError for a server, and for more labels per token than the vocabulary has tokens."""
    if isinstance(model, Served):
        raise UsageError(
            "--soft-labels: a server does not return log-probabilities by token id: sample without it, "
            "then run `distill label TRACES --teacher MODEL --soft-labels K` with the model's files"
        )
    size = lookup.vocab_size(model)
    if soft_labels > size:
        raise UsageError(
            f"--soft-labels {soft_labels}: the vocabulary of {model.name} has {size} tokens: "
            "give a smaller number; 20 hold nearly all of the distribution"
        )


def _open_server(
    model: Served,
    chat: Chat | None,
    options: EngineOptions,
    draft: Draft | None,
    template: TemplateOptions,
) -> Engine:
    from distillpipe.engines.server.engine import OpenAIEngine, Timeouts
    from distillpipe.engines.server.server import Server

    assert options.base_url is not None  # otherwise the model would not be a served one
    if options.engine == "auto":
        say("engine: openai (--base-url)")
    server = Server(options.base_url, model.name, options.api_key_env, template.variables)
    server.check()
    billing = None
    if draft is not None and (prices := prices_of(options)) is not None:
        billing = Billing(Ledger(draft, prices, options.max_cost))
    return OpenAIEngine(
        server,
        options.concurrency or CONCURRENCY,
        billing,
        Timeouts(stall_seconds=options.stall_seconds),
        needs_reasoning=not (options.allow_no_reasoning or template.no_thinking),
        end_ids=None if chat is None else chat.end_ids,
    )


def choose_engine(options: EngineOptions) -> str:
    """The name of the engine. `auto` takes vllm if vLLM and CUDA are there, else transformers, and says so.

    Raises UsageError for options that only vLLM has, MissingDependencyError if it is not installed.
    """
    name: str = options.engine
    if name == "auto":
        name, reason = _best_engine()
        say(f"engine: {name} ({reason})")
    if name == "vllm" and not find_spec("vllm"):
        raise MissingDependencyError(
            f"--engine vllm needs vLLM, which is not installed: {install_command('vllm')}"
        )
    if name != "vllm" and (options.replicas > 1 or options.tensor_parallel_size > 1):
        raise UsageError(
            f"--replicas and --tensor-parallel-size need --engine vllm; the engine is {name}"
        )
    return name


def _best_engine() -> tuple[str, str]:
    """The fastest engine that this machine has, and the reason for the choice."""
    import torch

    has_cuda = torch.cuda.is_available()
    if not find_spec("vllm"):
        hint = f"; it is many times faster: {install_command('vllm')}" if has_cuda else ""
        return "transformers", f"vLLM is not installed{hint}"
    if not has_cuda:
        return "transformers", "there is no CUDA GPU"
    return "vllm", "vLLM is installed and there is a CUDA GPU"

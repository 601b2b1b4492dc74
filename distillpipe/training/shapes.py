"""The shapes of a model's weights, from config.json, without torch or transformers.

The common families are written out below. The shapes of other families come from the headers of their safetensors
files; their activations are then estimated from the widths of the matrices.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.models import lookup

GEMMA = {"gemma", "gemma2", "gemma3", "gemma3_text"}
TIED = {*GEMMA, "smollm3"}  # families whose embeddings are tied if the config does not say
DENSE = {
    "llama", "mistral", "ministral", "qwen2", "qwen3", "phi3", "granite", *TIED,
}  # fmt: skip
EXPERTS = {"qwen3_moe", "qwen2_moe", "mixtral", "gpt_oss", "deepseek_v3"}
QUERY_NORMS = {"qwen3", "qwen3_moe", "gemma3", "gemma3_text"}
FOUR_NORMS = {"gemma2", "gemma3", "gemma3_text"}
KEY_VALUE_HEADS = {"mistral": 8, "gemma": 16, "gemma2": 4, "gemma3_text": 4, "gemma3": 4}
HEAD_SIZES = {"qwen3": 128, **dict.fromkeys(GEMMA, 256)}
EAGER = {"gpt_oss"}  # attention sinks need eager attention, which keeps the attention scores
_LAYER = re.compile(r"\blayers\.(\d+)\.")

Linear = tuple[int, int]
"inputs and outputs"


class Layer(NamedTuple):
    """One layer: counts of weights, and of activation values a token."""

    linears: tuple[Linear, ...]
    "linear layers, which lora adapts and qlora quantizes"
    num_experts_weights: int = 0
    "weights of all experts and routers, which are neither adapted nor quantized"
    num_active: int = 0
    "of these, the weights that a token uses"
    num_vectors: int = 0
    "weights of norms and biases"
    norms: int = 2
    "norms over the hidden size, each of which keeps its input"
    queries: int = 0
    "values a token of all query heads; `keys` and `values` likewise"
    keys: int = 0
    values: int = 0
    normed: int = 0
    "values of queries and keys that go through a norm"
    inner: int = 0
    "values a token between the two halves of the MLP, of all experts that a token uses"
    num_routed: int = 0
    "experts that a token uses"
    heads: int = 0
    scores: bool = False
    "whether the attention scores are kept"

    @property
    def num_weights(self) -> int:
        return (
            sum(math.prod(layer) for layer in self.linears)
            + self.num_experts_weights
            + self.num_vectors
        )


class Shapes(NamedTuple):
    """The shapes that memory and operations of training depend on."""

    layers: tuple[Layer, ...]
    hidden: int
    vocabulary: int
    tied: bool
    "whether the output head shares the weights of the embedding"
    head_size: int

    @property
    def num_embeddings(self) -> int:
        """Weights of the embedding; an untied head has as many again."""
        return self.vocabulary * self.hidden

    @property
    def num_weights(self) -> int:
        tables = self.num_embeddings * (1 if self.tied else 2)
        return tables + self.hidden + sum(layer.num_weights for layer in self.layers)

    def num_adapter(self, rank: int) -> int:
        """Weights of an adapter around every linear layer but the head."""
        return rank * sum(sum(pair) for layer in self.layers for pair in layer.linears)


def read_shapes(config: Mapping[str, Any], folder: Path, name: str) -> Shapes:
    """The shapes of a text model. Raises UsageError if the config lacks a needed field.

    `folder` holds the weights, if they are on disk; `name` is the model's name in error messages.
    """
    kind = str(config.get("model_type"))
    if kind not in DENSE | EXPERTS:
        return _from_headers(config, folder, name)
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        size = config.get("head_dim") or HEAD_SIZES.get(kind) or hidden // heads
        layers = tuple(
            _layer(config, kind, index, size) for index in range(config["num_hidden_layers"])
        )
        tied = bool(config.get("tie_word_embeddings", kind in TIED))
        return Shapes(layers, hidden, config["vocab_size"], tied, size)
    except KeyError as error:
        raise UsageError(
            f"{name}: config.json has no {error.args[0]}, so its memory cannot be computed: copy config.json again"
        ) from error


def _layer(config: Mapping[str, Any], kind: str, index: int, size: int) -> Layer:
    """The layer with the 0-based number `index`, of a common family."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    pairs = config.get("num_key_value_heads") or KEY_VALUE_HEADS.get(kind, heads)
    queries, keys = heads * size, pairs * size
    values = keys
    if kind == "deepseek_v3":
        linears, queries, values, vectors = _latent_attention(config)
        keys = queries
    else:
        linears = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
        if kind == "phi3":
            linears[:3] = [(hidden, queries + 2 * keys)]
        biased = kind.startswith("qwen2") or config.get("attention_bias")
        vectors = queries + 2 * keys if biased else 0
        vectors += hidden if config.get("attention_bias") else 0
    norms = 4 if kind in FOUR_NORMS else 2
    vectors += norms * hidden + (2 * size if kind in QUERY_NORMS else 0)
    vectors += heads if kind in EAGER else 0  # attention sinks
    normed = queries + keys if kind in QUERY_NORMS else 0
    attention = Layer(
        (), num_vectors=vectors, norms=norms, queries=queries, keys=keys, values=values,
        normed=normed, heads=heads, scores=kind in EAGER,
    )  # fmt: skip
    if kind in EXPERTS and index >= (config.get("first_k_dense_replace") or 0):
        return _with_experts(attention, linears, config, kind)
    inner = config["intermediate_size"]
    mlp = [(hidden, inner), (hidden, inner), (inner, hidden)]
    if kind == "phi3":
        mlp[:2] = [(hidden, 2 * inner)]
    biases = 2 * inner + hidden if config.get("mlp_bias") else 0
    return attention._replace(linears=(*linears, *mlp), num_vectors=vectors + biases, inner=inner)


def _with_experts(
    attention: Layer, linears: list[Linear], config: Mapping[str, Any], kind: str
) -> Layer:
    """A layer whose MLP is a mixture of experts."""
    hidden = config["hidden_size"]
    num_experts = next(
        config[key]
        for key in ("num_experts", "num_local_experts", "n_routed_experts")
        if key in config
    )
    active = config["num_experts_per_tok"]
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    expert_weights = 3 * hidden * inner + (2 * inner + hidden if kind == "gpt_oss" else 0)
    router = num_experts * hidden + (num_experts if kind == "gpt_oss" else 0)
    shared = inner * (config.get("n_shared_experts") or 0)
    gate: list[Linear] = []
    if kind == "qwen2_moe":
        shared, gate = config["shared_expert_intermediate_size"], [(hidden, 1)]
    common: list[Linear] = [(hidden, shared)] * 2 + [(shared, hidden)] if shared else []
    return attention._replace(
        linears=(*linears, *common, *gate),
        num_experts_weights=num_experts * expert_weights + router,
        num_active=active * expert_weights + router,
        inner=active * inner + shared,
        num_routed=active,
    )


def _latent_attention(config: Mapping[str, Any]) -> tuple[list[Linear], int, int, int]:
    """DeepSeek's multi-head latent attention: linear layers, query and value sizes a token, and norm weights."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    unrotated, rotated = config["qk_nope_head_dim"], config["qk_rope_head_dim"]
    value_size, rank, query_rank = (
        config["v_head_dim"],
        config["kv_lora_rank"],
        config["q_lora_rank"],
    )
    queries = heads * (unrotated + rotated)
    query_linears = (
        [(hidden, queries)] if query_rank is None else [(hidden, query_rank), (query_rank, queries)]
    )
    linears = [
        *query_linears, (hidden, rank + rotated), (rank, heads * (unrotated + value_size)), (heads * value_size, hidden),
    ]  # fmt: skip
    return linears, queries, heads * value_size, rank + (query_rank or 0)


def _from_headers(config: Mapping[str, Any], folder: Path, name: str) -> Shapes:
    """The shapes of any other family, from the headers of its weight files."""
    tensors = lookup.tensor_shapes(folder)
    table = max(
        (shape for key, shape in tensors.items() if "embed" in key), key=math.prod, default=()
    )
    if len(table) != 2:
        raise UsageError(
            f"{name}: the memory of a {config.get('model_type')} can only be computed from its weights: give "
            "a folder that holds them"
        )
    by_layer: dict[int, dict[str, tuple[int, ...]]] = {}
    others = Counter[str]()
    for key, shape in tensors.items():
        if match := _LAYER.search(key):
            by_layer.setdefault(int(match[1]), {})[key] = shape
        else:
            others[key] = math.prod(shape)
    vocabulary, hidden = table
    tied = not any("lm_head" in key for key in others)
    layers = tuple(_measured_layer(shape, hidden) for _, shape in sorted(by_layer.items()))
    size = config.get("head_dim") or hidden // (config.get("num_attention_heads") or 1)
    return Shapes(layers, hidden, vocabulary, tied, size)


def _measured_layer(tensors: Mapping[str, tuple[int, ...]], hidden: int) -> Layer:
    """A layer from its tensors: matrices count as linear layers, and outputs of other widths as inner activations."""
    linears = tuple(
        (shape[1], shape[0])
        for key, shape in tensors.items()
        if key.endswith(".weight") and len(shape) == 2
    )
    blocks = sum(math.prod(shape) for shape in tensors.values() if len(shape) > 2)
    vectors = sum(math.prod(shape) for shape in tensors.values() if len(shape) < 2)
    widths = sum(out for _, out in linears if out != hidden)
    return Layer(linears, blocks, blocks, vectors, queries=hidden, inner=widths // 2)

"""The output head: from the last hidden states to logits, as the model itself computes them.

Some families change the output of the last linear layer: Granite divides it, Cohere and Falcon-H1 multiply it, Gemma
caps it softly. Greedy tokens stay, but probabilities do not. The kinds of change are known; which of them a model
makes is found by trying them against its own logits.
"""

from itertools import product
from typing import Any, NamedTuple

import torch

from distillpipe.base.errors import EngineError

TEST_IDS = (1, 2, 3)
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}  # of the largest logit
DIVISORS = ("logits_scaling",)  # fields of configs
FACTORS = ("logit_scale", "lm_head_multiplier", "output_multiplier")
CAP = "final_logit_softcapping"


class LogitChange(NamedTuple):
    """What is done with the outputs of the last linear layer."""

    scale: float = 1.0
    cap: float | None = None
    "logits lie between -cap and cap: cap * tanh(logits / cap)"

    def __call__(self, outputs: torch.Tensor) -> torch.Tensor:
        logits = outputs.float() if self.scale == 1.0 else outputs.float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


class OutputHead(torch.nn.Module):
    """Hidden states (..., hidden size) -> logits (..., vocabulary) in fp32."""

    def __init__(self, linear: torch.nn.Module, change: LogitChange) -> None:
        super().__init__()
        self.linear = linear
        self.change = change

    @property
    def num_embeddings(self) -> int:
        """Size of the vocabulary, padding included."""
        return len(self.linear.get_parameter("weight"))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.change(self.linear(hidden))


def output_head(model: Any, name: str) -> OutputHead:
    """The head of a causal language model, found by one forward pass over three tokens.

    Raises EngineError for a model that changes its logits in a way that is not known. `name` names it in the error.
    """
    linear = model.get_output_embeddings()
    if getattr(model, "is_quantized", False):
        # A pass without gradients would repack weights of 4 bits on the CPU, so the config is believed.
        return OutputHead(linear, _changes(model.config)[0])
    was_training = model.training
    model.eval()
    ids = torch.tensor([TEST_IDS], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits.float()
        base_outputs = model.base_model(input_ids=ids, use_cache=False)
        hidden = getattr(base_outputs, "last_hidden_state", None)
        outputs = logits if hidden is None else linear(hidden)
    model.train(was_training)
    if hidden is None:
        raise EngineError(
            f"{name}: a {model.config.model_type} does not show its last hidden state: it is not supported here; "
            "give --engine vllm to sample from it"
        )
    if not logits.isfinite().all():  # each completion fails with its own error
        return OutputHead(linear, LogitChange())
    allowed = TOLERANCE.get(outputs.dtype, 3e-2) * float(logits.abs().max())
    for change in _changes(model.config):
        if float((change(outputs) - logits).abs().max()) <= allowed:
            return OutputHead(linear, change)
    raise EngineError(
        f"{name}: a {model.config.model_type} changes its logits in a way that is not known here: give "
        "--engine vllm to sample from it; it cannot be trained"
    )


def _changes(config: Any) -> list[LogitChange]:
    """All changes that the config suggests, the most specific first."""
    text = config.get_text_config()
    scales: list[float] = []
    for key in (*DIVISORS, *FACTORS):
        value = getattr(text, key, None) or getattr(config, key, None)
        if isinstance(value, int | float) and value:
            scales += (1 / value, value) if key in DIVISORS else (value, 1 / value)
    caps = [getattr(text, CAP, None), None]
    unique = dict.fromkeys(LogitChange(scale, cap) for scale, cap in product([*scales, 1.0], caps))
    return list(unique)

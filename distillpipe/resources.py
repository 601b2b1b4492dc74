"""What a run of a model took: time, memory, and the bytes of its weights."""

from typing import Any

from distillpipe.base.memory import peak_gpu_memory, peak_memory
from distillpipe.data.store.counts import Counts
from distillpipe.models.lookup import AnyModel, Served


def used(counts: Counts, tokens_before: int, model: AnyModel) -> dict[str, Any]:
    """The part `resources` of metrics.json; null for what is not known, as of a model behind a server.

    Tokens and seconds are sums over all runs of the version, without loading; memory is the peak of this
    run, if it sampled anything: `tokens_before` were sampled when it began.
    """
    sampled, seconds = counts.tokens_sampled, counts.seconds_working
    runs_here = counts.tokens_sampled > tokens_before and not isinstance(model, Served)
    return {
        "tokens_sampled": sampled,
        "seconds_sampling": seconds,
        "tokens_per_second": sampled / seconds if sampled and seconds else None,
        "peak_memory_bytes": peak_memory() if runs_here else None,
        "peak_gpu_memory_bytes": peak_gpu_memory() if runs_here else None,
        "model_bytes": model_bytes(model),
    }


def model_bytes(model: AnyModel) -> int | None:
    """Bytes of the weights on disk, of an adapter with those of its base; null where they are not here."""
    if isinstance(model, Served):
        return None
    folders = {model.folder, model.weights_folder}
    sizes = [path.stat().st_size for one in folders for path in one.glob("*.safetensors")]
    return sum(sizes) if sizes else None

"""What a run took: known of a model on this machine, null of one behind a server."""

from pathlib import Path

from distillpipe.data.store.counts import Counts
from distillpipe.models.lookup import Model, Served
from distillpipe.reports.scoring import resources_used

COUNTS = Counts(tokens_sampled=1000, seconds_working=4.0)


def test_of_a_served_model_only_what_was_seen_of_it_is_known() -> None:
    served = Served("deepseek-reasoner")
    assert resources_used(COUNTS, 0, served) == {
        "tokens_sampled": 1000, "seconds_sampling": 4.0, "tokens_per_second": 250.0,
        "peak_memory_bytes": None, "peak_gpu_memory_bytes": None, "model_bytes": None,
    }  # fmt: skip


def test_an_adapter_weighs_what_it_adds_to_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder, sizes in ((base, (700, 300)), (adapter, (24,))):
        folder.mkdir()
        for number, size in enumerate(sizes):
            (folder / f"model-{number}.safetensors").write_bytes(bytes(size))
    (adapter / "merged").mkdir()
    (adapter / "merged" / "model.safetensors").write_bytes(bytes(1000))
    found = resources_used(COUNTS, 0, Model("student", adapter, "local:1", base))
    assert found["model_bytes"] == 1024
    assert resources_used(COUNTS, 0, Model("teacher", base, "local:2"))["model_bytes"] == 1000
    assert found["peak_memory_bytes"] > 2**20

"""README.md of a version: a header that `datasets` and the hub read, and the lineage of the version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from distillpipe.base.records import Trace
from distillpipe.data.store.cards import dataset_card, model_card
from distillpipe.data.store.counts import Counts, TeacherCounts
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed, ResolvedOption

MANIFEST = Manifest(
    kind="traces",
    stage="generate",
    version="v2",
    fingerprint="f",
    takes_over=True,
    options={},
    inputs=[InputDataset("problems.jsonl", None, "01"), InputDataset("runs/traces", "v3", "23")],
    models=[ModelUsed("teacher", "data/quickstart/teacher", "local:45")],
    created="2026-02-03T04:05:06+00:00",
    counts=Counts(rows_kept=4812, rows_rejected=1, tokens_kept=1234567),
)

# The features of a trace as `datasets` writes them into the header of a card.
FEATURES = [
    {"name": "schema", "dtype": "string"},
    {"name": "id", "dtype": "string"},
    {"name": "problem_id", "dtype": "string"},
    {"name": "row_key", "dtype": "string"},
    {"name": "sample", "dtype": "int64"},
    {"name": "benchmark", "dtype": "string"},
    {"name": "problem", "dtype": "string"},
    {"name": "reference_answer", "dtype": "string"},
    {"name": "verifier", "dtype": "string"},
    {"name": "domain", "dtype": "string"},
    {
        "name": "messages",
        "list": [
            {"name": "role", "dtype": "string"},
            {"name": "content", "dtype": "string"},
            {"name": "reasoning_content", "dtype": "string"},
        ],
    },
    {"name": "finish_reason", "dtype": "string"},
    {
        "name": "num_tokens",
        "struct": [
            {"name": "prompt", "dtype": "int64"},
            {"name": "reasoning", "dtype": "int64"},
            {"name": "response", "dtype": "int64"},
            {"name": "total", "dtype": "int64"},
        ],
    },
    {"name": "teacher", "dtype": "string"},
    {"name": "served_by", "dtype": "string"},
    {"name": "seed", "dtype": "int64"},
    {"name": "num_waits", "dtype": "int64"},
    {"name": "forced_end", "dtype": "bool"},
    {"name": "verdict", "dtype": "string"},
    {"name": "verdict_reason", "dtype": "string"},
    {"name": "answer", "dtype": "string"},
    {
        "name": "soft_labels",
        "struct": [
            {"name": "file", "dtype": "string"},
            {"name": "offset", "dtype": "int64"},
            {"name": "length", "dtype": "int64"},
            {"name": "k", "dtype": "int64"},
        ],
    },
    {"name": "extra", "dtype": "string"},
]


def header_and_text(card: str) -> tuple[Any, str]:
    before, header, text = card.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(header), text


def test_the_header_of_a_dataset_card_lists_files_and_features() -> None:
    header, _ = header_and_text(dataset_card(MANIFEST))

    assert header == {
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "part-*.jsonl"}],
            }
        ],
        "dataset_info": {"features": FEATURES},
    }


def test_the_features_are_the_keys_of_a_row_in_their_order() -> None:
    header, _ = header_and_text(dataset_card(MANIFEST))

    names = tuple(feature["name"] for feature in header["dataset_info"]["features"])
    assert names == Trace.__struct_fields__


def test_the_files_that_the_header_names_are_the_kept_rows(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Manifest],
) -> None:
    kept, dropped = make_traces(2)
    write_dataset(tmp_path, [kept], [(dropped, "duplicate", None)])
    header, _ = header_and_text((tmp_path / "v1/README.md").read_text())

    pattern = header["configs"][0]["data_files"][0]["path"]
    assert [path.name for path in (tmp_path / "v1").glob(pattern)] == ["part-00000.jsonl"]


def test_a_dataset_card_says_how_much_there_is_and_where_it_came_from() -> None:
    _, text = header_and_text(dataset_card(MANIFEST))

    assert text == (
        "# traces v2\n"
        "\n"
        "Made by `distill generate`: 4,812 rows kept, 1 rejected, 1,234,567 completion tokens.\n"
        "\n"
        "- teacher: data/quickstart/teacher\n"
        "- input: problems.jsonl\n"
        "- input: runs/traces v3\n"
        "\n"
        "All options, hashes and counts: `manifest.json`.\n"
    )


def test_a_model_card_says_what_was_trained_on_what_by_whom_and_how() -> None:
    manifest = msgspec.structs.replace(
        MANIFEST,
        kind="checkpoint",
        stage="sft",
        models=[ModelUsed("student", "data/quickstart/student-qwen", "local:67")],
        inputs=MANIFEST.inputs[1:],
        licences=["mit"],
        options={"epochs": ResolvedOption(5, "default"), "method": ResolvedOption("lora", "flag")},
        counts=Counts(
            rows_kept=4812,
            tokens_kept=1234567,
            teachers={
                "R1": TeacherCounts(rows_kept=4811),
                "QwQ": TeacherCounts(rows_kept=1),
                "dropped": TeacherCounts(dropped={"over_length": 3}),
            },
        ),
    )
    header, text = header_and_text(model_card(manifest, ["Loss: 2 to 1.", "Sampling: 0.6."]))

    assert header == {"library_name": "transformers", "pipeline_tag": "text-generation"}
    assert text == (
        "# checkpoint v2\n"
        "\n"
        "Made by `distill sft` from 4,812 traces, 1,234,567 supervised tokens in all epochs.\n"
        "\n"
        "- teacher: QwQ, 1 traces\n"
        "- teacher: R1, 4,811 traces\n"
        "- student: data/quickstart/student-qwen\n"
        "- input: runs/traces v3\n"
        "- licence of the teachers: mit\n"
        "\n"
        "All options, hashes and counts: `manifest.json`.\n"
        "\n"
        "Loss: 2 to 1.\n"
        "\n"
        "Sampling: 0.6.\n"
        "\n"
        "| option | value | from |\n"
        "|---|---|---|\n"
        "| epochs | `5` | default |\n"
        "| method | `lora` | flag |\n"
    )


def test_a_model_card_names_a_base_of_the_hub_as_the_hub_wants_it() -> None:
    student = ModelUsed("student", "Qwen/Qwen2.5-1.5B", "hub:Qwen/Qwen2.5-1.5B@abc")
    header, _ = header_and_text(model_card(msgspec.structs.replace(MANIFEST, models=[student]), []))
    assert header["base_model"] == "Qwen/Qwen2.5-1.5B"

"""README.md of a version: a dataset card that `datasets` and the hub can read, or a model card."""

from collections.abc import Sequence
from typing import Any

from msgspec import inspect

from distillpipe.base.markdown import code, inline, yaml_value
from distillpipe.base.records import Trace
from distillpipe.data.store.manifest import Manifest

_DTYPES = {
    inspect.StrType: "string",
    inspect.LiteralType: "string",
    inspect.IntType: "int64",
    inspect.FloatType: "float64",
    inspect.BoolType: "bool",
}


def dataset_card(manifest: Manifest) -> str:
    """The card of a dataset of traces: its header names the files and the features."""
    counts = manifest.counts
    features = "\n".join(_feature_lines(inspect.type_info(Trace), indent=2))
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: part-*.jsonl",
        "dataset_info:",
        "  features:",
        features,
        "---",
        f"# {manifest.kind} {inline(manifest.version)}",
        "",
        f"Made by {code(f'distill {manifest.stage}')}: {counts.rows_kept:,} rows kept, "
        f"{counts.rows_rejected:,} rejected, {counts.tokens_kept:,} completion tokens.",
        "",
        *_lineage(manifest),
    ]
    return "\n".join(lines) + "\n"


def model_card(manifest: Manifest, facts: Sequence[str]) -> str:
    """The card of a checkpoint: what it was trained from and on, and how; `facts` are paragraphs besides.

    `base_model` stands in the header only where the student is one of the hub, as the hub wants it.
    """
    counts = manifest.counts
    hub_students = [one.name for one in manifest.models if one.identity.startswith("hub:")]
    teachers = [
        f"- teacher: {inline(name)}, {found.rows_kept:,} traces"
        for name, found in sorted(counts.teachers.items())
        if found.rows_kept
    ]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        *(f"base_model: {yaml_value(name)}" for name in hub_students),
        "---",
        f"# checkpoint {inline(manifest.version)}",
        "",
        f"Made by `distill sft` from {counts.rows_kept:,} traces, "
        f"{counts.tokens_kept:,} supervised tokens in all epochs.",
        "",
        *teachers,
        *_lineage(manifest),
        *(line for fact in facts for line in ("", fact)),
        "",
        "| option | value | from |",
        "|---|---|---|",
        *(
            f"| {name} | {code(str(option.value))} | {option.source} |"
            for name, option in manifest.options.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _lineage(manifest: Manifest) -> list[str]:
    models = [f"- {inline(used.role)}: {inline(used.name)}" for used in manifest.models]
    inputs = [
        f"- input: {inline(' '.join(filter(None, (given.path, given.version))))}"
        for given in manifest.inputs
    ]
    licences = [f"- licence of the teachers: {inline(one)}" for one in manifest.licences]
    return [*models, *inputs, *licences, "", "All options, hashes and counts: `manifest.json`."]


def _feature_lines(info: inspect.Type, indent: int) -> list[str]:
    """YAML lines of the features of a struct, in the form `datasets` writes them itself."""
    lines: list[str] = []
    pad = " " * indent
    for field in _fields(info):
        lines.append(f"{pad}- name: {field.encode_name}")
        kind = _not_null(field.type)
        if isinstance(kind, inspect.ListType):
            lines += [f"{pad}  list:", *_feature_lines(kind.item_type, indent + 2)]
        elif isinstance(kind, inspect.StructType):
            lines += [f"{pad}  struct:", *_feature_lines(kind, indent + 2)]
        else:
            lines.append(f"{pad}  dtype: {_DTYPES[type(kind)]}")
    return lines


def _fields(info: inspect.Type) -> Any:
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"a feature list is made from a struct, got {info}")
    return info.fields


def _not_null(kind: inspect.Type) -> inspect.Type:
    if isinstance(kind, inspect.UnionType):
        (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind

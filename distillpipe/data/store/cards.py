"""README.md of a version: a dataset card that `datasets` and the hub can read, or a model card."""

from collections.abc import Sequence

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
    """The card of a dataset of traces. Its YAML header lists files and features."""
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
    """The card of a checkpoint: base model, data, options. `facts` are further paragraphs.

    The header has `base_model` only for a student from the hub, because the hub looks the name up.
    """
    counts = manifest.counts
    hub_students = [model.name for model in manifest.models if model.identity.startswith("hub:")]
    teachers = [
        f"- teacher: {inline(name)}, {teacher.rows_kept:,} traces"
        for name, teacher in sorted(counts.teachers.items())
        if teacher.rows_kept
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
        f"- input: {inline(' '.join(filter(None, (dataset.path, dataset.version))))}"
        for dataset in manifest.inputs
    ]
    licences = [f"- licence of the teachers: {inline(licence)}" for licence in manifest.licences]
    return [*models, *inputs, *licences, "", "All options, hashes and counts: `manifest.json`."]


def _feature_lines(info: inspect.Type, indent: int) -> list[str]:
    """YAML lines of the features of a struct, in the form that `datasets` writes."""
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"a feature list is made from a struct, got {info}")
    lines: list[str] = []
    pad = " " * indent
    for field in info.fields:
        lines.append(f"{pad}- name: {field.encode_name}")
        kind = field.type
        if isinstance(kind, inspect.UnionType):  # `X | None`
            (kind,) = (part for part in kind.types if not isinstance(part, inspect.NoneType))
        if isinstance(kind, inspect.ListType):
            lines += [f"{pad}  list:", *_feature_lines(kind.item_type, indent + 2)]
        elif isinstance(kind, inspect.StructType):
            lines += [f"{pad}  struct:", *_feature_lines(kind, indent + 2)]
        else:
            lines.append(f"{pad}  dtype: {_DTYPES[type(kind)]}")
    return lines

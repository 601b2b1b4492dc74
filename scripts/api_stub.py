"""Write the signatures of the Python API for type checkers and the documentation: distillpipe/api.pyi.

python scripts/api_stub.py           rewrites the file; a test checks that it is up to date
"""

import json
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

from distillpipe import api
from distillpipe.base.option import Field
from distillpipe.cli.parameters import Command

STUB = Path(api.__file__).with_suffix(".pyi")
COMMANDS = {
    "generate": api.generate_command, "filter": api.filter_command, "label": api.label_command,
    "sft": api.sft_command, "evaluate": api.eval_command,
}  # fmt: skip
HEAD = '''\
"""The Python API as type checkers see it: written by scripts/api_stub.py."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

from distillpipe.base.records import Trace
from distillpipe.data.forecast import Forecast
from distillpipe.data.store.manifest import Manifest
from distillpipe.reports.comparison_text import Comparison

Reference = str | os.PathLike[str]

class Result:
    path: Path
    manifest: Manifest
    up_to_date: bool
    @property
    def metrics(self) -> dict[str, Any]: ...
    def __fspath__(self) -> str: ...

class Evaluation(Result):
    @property
    def pass_at_1(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...

def compare(
    predictions: Sequence[Reference], *, pass_at: Sequence[int] = ()
) -> list[Comparison]: ...
def read_traces(reference: Reference) -> Iterator[Trace]: ...
'''


def stub() -> str:
    """The whole file, formatted."""
    parts = [HEAD]
    shared = _optional(api.generate_command) & _optional(api.eval_command)
    parts += _options("_SamplingOptions(TypedDict, total=False)", sorted(shared))
    for name, command in COMMANDS.items():
        fields = [field for field, _ in api.parameters_of(command) if field.name != "dry_run"]
        required = [field for field in fields if field.is_required]
        options, own = f"_{name.capitalize()}Options", _optional(command)
        base = "_SamplingOptions" if own >= shared else "TypedDict"
        own -= shared if own >= shared else set()
        parts += _options(f"{options}({base}, total=False)", sorted(own))
        results = ("Evaluation", "Forecast") if name == "evaluate" else ("Result", "Forecast")
        for dry_run, result in zip(("Literal[False] = ...", "Literal[True]"), results, strict=True):
            for many in (False, True) if name == "evaluate" else (False,):
                parameters = [f"{field.name}: {_type(field, many=many)}" for field in required]
                parameters.insert(1, "*")
                parameters += [f"dry_run: {dry_run}", f"**options: Unpack[{options}]"]
                returned = f"list[{result}]" if many else result
                parts += ["@overload", f"def {name}({', '.join(parameters)}) -> {returned}: ..."]
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", "api.pyi", "-"]
    text = "\n".join(parts)
    return subprocess.run(
        ruff, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout


def _optional(command: Command) -> set[tuple[str, str, str]]:
    """Name, type and help of each keyword that has a default."""
    return {
        (field.name, _type(field), field.option.help)
        for field, _ in api.parameters_of(command)
        if not field.is_required and field.name != "dry_run"
    }


def _options(head: str, options: list[tuple[str, str, str]]) -> list[str]:
    lines = [f"class {head}:"]
    for name, kind, text in options:
        lines += [f"    {name}: {kind}", f"    {json.dumps(text)}"]
    return lines


def _type(field: Field, *, many: bool = False) -> str:
    """The type of a keyword; with `many` the benchmarks are a list, otherwise a single reference."""
    item = field.item
    if field.name == "verifier":
        return "str | Callable[..., Any] | None"
    if field.name == "rule":
        return "Sequence[str | Callable[..., Any]] | None"
    if field.is_list and field.is_required:
        is_benchmark = field.name == "benchmark"
        if is_benchmark:
            return "list[str]" if many else "Reference"
        return "Reference | Sequence[Reference]"
    if field.is_required or item is Path:
        return "Reference" if item in (str, Path) else _text(item)
    if field.is_list:
        table = " | Mapping[str, Any]" if field.option.read else ""
        return f"Sequence[{_text(item)}]{table} | None"
    is_model = field.name in ("teacher", "tokenizer", "adapter")
    return "Reference | None" if is_model else _text(item)


def _text(kind: Any) -> str:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " | ".join(map(_text, typing.get_args(kind)))
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    return text.replace("typing.", "").replace("pathlib.", "").replace("NoneType", "None")


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")

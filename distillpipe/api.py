"""The Python API, stable: the commands as functions with the same words, defaults, checks and errors.

    import distillpipe as dp

    traces = dp.generate("problems.jsonl", teacher="Qwen/QwQ-32B", out="runs/traces", num_samples=4)
    clean = dp.filter(traces, out="runs/clean", max_reasoning_tokens=8192)
    student = dp.sft(clean, student="Qwen/Qwen2.5-7B", out="runs/student", method="lora")
    result = dp.evaluate(student, benchmark="math500", out="runs/eval", num_samples=4)
    print(result.pass_at_1, result.interval)

Datasets and models are a path, a reference (`PATH@v1`, `hub:ORG/NAME`) or an earlier `Result`. A keyword is the
flag with underscores; a list is given as a list. With `dry_run=True` a function returns the forecast and writes
nothing. A verifier or a rule of your own is a function at the top level of a module, or `"FILE.py:FUNCTION"`.
A mistake raises a `DistillError`. Signatures are made from the same options as the flags; type checkers
read them from api.pyi, which `python scripts/api_stub.py` writes.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distillpipe.base.option import Field
from distillpipe.base.records import Trace
from distillpipe.base.user_code.functions import reference_to
from distillpipe.cli.eval import evaluate as eval_command
from distillpipe.cli.filter import filter_traces as filter_command
from distillpipe.cli.generate import generate as generate_command
from distillpipe.cli.label import label as label_command
from distillpipe.cli.parameters import NOT_IN_PYTHON, Command
from distillpipe.cli.sft import sft as sft_command
from distillpipe.data.forecast import Forecast
from distillpipe.data.store import dataset
from distillpipe.data.store.manifest import Manifest
from distillpipe.stages import run

if TYPE_CHECKING:  # it loads numpy
    from distillpipe.reports.comparison_text import Comparison

F = TypeVar("F", bound=Callable[..., Any])

Reference = str | os.PathLike[str]
"A path, a reference or an earlier `Result`."


class Result:
    """What came of a command: the version that now is what was asked for. It stands for its path."""

    def __init__(self, found: run.Result) -> None:
        self.path: Path = found.path
        self.manifest: Manifest = found.manifest
        self.up_to_date: bool = found.up_to_date

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of an evaluation or a training; empty for traces."""
        return self.manifest.metrics or {}

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"


class Evaluation(Result):
    """The result of `evaluate`: predictions and their score."""

    @property
    def pass_at_1(self) -> float:
        """Share of correct completions, averaged over the problems."""
        return float(self.metrics["pass@1"])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval of `pass_at_1`."""
        low, high = self.metrics["interval"]
        return float(low), float(high)


def parameters_of(command: Command) -> list[tuple[Field, inspect.Parameter]]:
    """What the function of a command takes: arguments by place, the rest as keywords; what prints is left out."""
    found = []
    for field in command.fields.values():
        if field.name in NOT_IN_PYTHON:
            continue
        by_place = field.option.is_argument
        default = None if field.is_list and not field.is_required else field.default
        place = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD if by_place else inspect.Parameter.KEYWORD_ONLY
        )
        found.append((field, inspect.Parameter(field.name, place, default=default)))
    return sorted(found, key=lambda one: one[1].kind)


def _like(command: Command) -> Callable[[F], F]:
    """Give a function the signature of a command, and its keywords to its docstring."""

    def decorate(function: F) -> F:
        parameters = parameters_of(command)
        lines = [f"    {field.name}: {field.option.help}" for field, _ in parameters]
        function.__signature__ = inspect.Signature([one for _, one in parameters])  # type: ignore[attr-defined]
        function.__doc__ = "\n".join(
            [inspect.cleandoc(function.__doc__ or ""), "", "Args:", *lines]
        )
        return function

    return decorate


def _call(command: Command, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Run a command. An option that takes several references also takes a single one.

    The functions `verifier` and `rule` are handed on as FILE.py:FUNCTION: other processes import them.
    """
    given = command.bound(arguments, keywords)
    if callable(given.get("verifier")):
        given["verifier"] = reference_to(given["verifier"])
    if (rules := given.get("rule")) is not None:
        rules = [rules] if callable(rules) or isinstance(rules, str) else rules
        given["rule"] = [reference_to(rule, "rule") if callable(rule) else rule for rule in rules]
    for field in command.own:
        if field.is_list and isinstance(given.get(field.name), str | os.PathLike):
            given[field.name] = [given[field.name]]
    return command.call(**given)


def _one(command: Command, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    (found,) = _call(command, arguments, keywords)
    return found if isinstance(found, Forecast) else Result(found)


@_like(generate_command)
def generate(*arguments: Any, **keywords: Any) -> Any:
    """Sample reasoning traces of a teacher, as `distill generate`."""
    return _one(generate_command, arguments, keywords)


@_like(filter_command)
def filter(*arguments: Any, **keywords: Any) -> Any:
    """Verify, bound and clean traces, as `distill filter`."""
    return _one(filter_command, arguments, keywords)


@_like(label_command)
def label(*arguments: Any, **keywords: Any) -> Any:
    """Give existing traces a teacher's soft labels, as `distill label`."""
    return _one(label_command, arguments, keywords)


@_like(sft_command)
def sft(*arguments: Any, **keywords: Any) -> Any:
    """Fine-tune a student on traces, as `distill sft`."""
    return _one(sft_command, arguments, keywords)


@_like(eval_command)
def evaluate(*arguments: Any, **keywords: Any) -> Any:
    """Score a model on a benchmark, as `distill eval`; for a list of benchmarks a list comes back."""
    found = [
        one if isinstance(one, Forecast) else Evaluation(one)
        for one in _call(eval_command, arguments, keywords)
    ]
    is_single = isinstance(keywords.get("benchmark"), str | os.PathLike)
    return found[0] if is_single else found


def compare(predictions: Sequence[Reference], *, pass_at: Sequence[int] = ()) -> "list[Comparison]":
    """Compare models problem by problem, each with the first, as `distill compare`: one for each benchmark.

    Args:
        predictions: Two or more datasets of predictions, results of `evaluate`, or OUT folders of it.
        pass_at: k of pass@k; none: powers of two.
    """
    from distillpipe.stages.compare import compare as stage

    return stage([os.fspath(one) for one in predictions], list(pass_at))


def read_traces(reference: Reference) -> Iterator[Trace]:
    """The rows that a dataset of traces or predictions keeps, one after the other.

    Args:
        reference: A dataset (`PATH`, `PATH@v1`), a .jsonl file or an earlier result.
    """
    return dataset.read_traces(os.fspath(reference))

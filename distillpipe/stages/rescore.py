"""`rescore`: the completions of a finished eval are judged and scored anew; no model is looked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from distillpipe import verify
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.options import AnswerForm, Judging
from distillpipe.base.records import Problem, Trace
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data import sources
from distillpipe.data.store import dataset, integrity, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest, ResolvedOption
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer
from distillpipe.reports import protocols, scoring
from distillpipe.sampling.sampler import with_problem
from distillpipe.stages.eval import finish_scored
from distillpipe.stages.run import (
    Result,
    Run,
    check_internal_errors,
    code_packages,
    say_up_to_date,
    user_code,
)


def rescore(
    predictions: str,
    run: Run,
    answer_form: AnswerForm | None = None,
    verifier: str | None = None,
    judging: Judging = Judging(),
) -> Result:
    """Judge the rows of a version of predictions by today's rules; the scores are a new version beside it.

    Form of the answers and verifier are those of the version where none are given. Needs neither the model
    nor the benchmark: prompts, completions and problems lie in the version. Raises UsageError for what
    holds no finished predictions.
    """
    folder = versions.resolve(predictions)
    before = _finished_predictions(folder)
    given = {"answer_form": answer_form, "verifier": verifier}
    options = before.options | {
        name: ResolvedOption(value, "flag") for name, value in given.items() if value is not None
    }

    def value(option: str, otherwise: Any) -> Any:
        return options[option].value if option in options else otherwise

    form: Any = value("answer_form", "boxed")
    name, own = _verifier(folder, value("verifier", None), verifier)
    rules: Any = value("code_rules", "plain")
    packages = tuple(value("code_packages", None) or ())
    programs = verify.Programs(rules, packages, judging.unsafe)
    header = Header(
        kind="predictions",
        stage="eval",
        content={
            "rows": _rows_id(folder), "answer_form": form, "verifier": name,
            "rules": [verify.CODE_VERSION], "code_rules": rules, **code_packages(packages), **user_code(own),
        },
        inputs=before.inputs,
        models=before.models,
        options=options,
        fresh=run.fresh,
        accept_errors=True,  # what was given up then is not asked again
        licences=tuple(before.licences),
    )  # fmt: skip
    if (finished := versions.up_to_date(folder.parent, header)) is not None:
        return say_up_to_date(finished)
    if own is not None:
        own.check()

    problems = dict(_problems(folder, name))
    verify.check_runnable({one.verifier for one in problems.values()}, programs, own)

    def judged(trace: Trace) -> Trace:
        problem = _problem_of(trace, problems, folder)
        trace = with_problem(trace, problem, trace.sample)
        return verify.verified(
            trace, extra=problem.extra, answer_form=form, programs=programs, own=own
        )  # fmt: skip

    with (
        versions.draft(folder.parent, header) as draft,
        Writer(draft) as writer,
        verify.Judge(judging.num_workers) as judge,
    ):
        rows = dataset.read_traces(str(folder))
        for trace in judge.map(judged, rows):
            if trace.id not in writer.done:
                writer.append(trace)
                writer.counts.rows_reused += 1
        for row in dataset.read_rejected(str(folder)):
            trace = with_problem(row, _problem_of(row, problems, folder), row.sample)
            if trace.id not in writer.done:
                writer.reject(trace, row.reason, row.measured)
        check_internal_errors(
            writer, accepted=True
        )  # they are counted and said; the rows are there
        writer.counts.rows_read = before.counts.rows_read
        writer.counts.rows_within_budget = before.counts.rows_within_budget
        draft.manifest.user_code = user_code(own).get("user_code", {})
        metrics = before.metrics or {}
        facts = {
            "num_duplicates": metrics.get("num_duplicates"),
            **protocols.protocol_after_rescore(metrics, {"answer_form": form, "verifier": name}),
            "budget": scoring.budget_metrics(writer.counts),
            **code_packages(packages),
            **user_code(own),
            "resources": metrics.get("resources"),
        }
        benchmark = metrics.get("benchmark", folder.parent.name)
        model = before.models[0].name
        return finish_scored(writer, model, benchmark, lambda: iter(problems.values()), facts)


def _verifier(
    folder: Path, before: str | None, given: str | None
) -> tuple[str | None, UserFunction | None]:
    """Name and function of the verifier that rows are judged by now; null where each names its own.

    Raises UsageError where that was a user's own and its file is not given: no manifest says what code to run.
    """
    if given is None and before is not None and ":" in before:
        raise UsageError(
            f"{folder} was judged by {before}, a verifier of the user's own: give its file again, "
            "--verifier FILE.py:FUNCTION, or another verifier"
        )
    return verify.find_own(given if given is not None else before)


def _finished_predictions(folder: Path) -> Manifest:
    found = manifests.read(folder)
    if found.kind != "predictions":
        raise UsageError(f"{folder} holds {found.kind}, not predictions: `distill eval` makes them")
    if found.finished is None:
        raise UsageError(f"{folder} is unfinished: run the command that makes it again")
    return found


class _Key(msgspec.Struct):
    """What of a row says which completion it is."""

    row_key: str


def _rows_id(folder: Path) -> str:
    """Equal for versions with the same completions, however these were judged."""
    integrity.check_content(folder)
    return content_hash(
        *(
            sorted(row.row_key for row in dataset.scan(folder, _Key, prefix))
            for prefix in ("part", "rejected")
        )
    )


def _problems(folder: Path, verifier: str | None) -> Iterator[tuple[str, Problem]]:
    """The problems of a version by their ids there, as another verifier has them where one is given."""
    for problem in dataset.read_problems(str(folder)):
        verifier_now = verifier or problem.verifier
        yield problem.problem_id, sources.judged_by(problem, verifier_now)


def _problem_of(trace: Trace, problems: dict[str, Problem], folder: Path) -> Problem:
    if trace.problem_id not in problems:
        raise DataError(f"{folder}: row {trace.id} is of a problem that is not in problems.jsonl")
    return problems[trace.problem_id]

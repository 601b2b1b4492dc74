"""`rescore`: judge and score the completions of a finished eval again, without its model."""

from pathlib import Path
from typing import Any

import msgspec

from distillpipe import verify
from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.options import AnswerForm, Judging
from distillpipe.base.records import Problem, RejectedTrace, Trace
from distillpipe.data import sources
from distillpipe.data.store import dataset, integrity, versions
from distillpipe.data.store.dataset import Dataset
from distillpipe.data.store.manifest import ResolvedOption
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
    predictions: Dataset,
    run: Run,
    answer_form: AnswerForm | None = None,
    verifier: str | None = None,
    judging: Judging = Judging(),
) -> Result:
    """Judge the rows of a version of predictions by today's rules; the scores are a new version beside it.

    Without `answer_form` or `verifier`, those of the version are used. Needs neither the model nor the benchmark:
    prompts, completions and problems are in the version. Raises UsageError for what holds no finished predictions.
    """
    folder, out = predictions.path, predictions.path.parent
    source_manifest = scoring.manifest_of(predictions)
    flags = {"answer_form": answer_form, "verifier": verifier}
    options = source_manifest.options | {
        name: ResolvedOption(value, "flag") for name, value in flags.items() if value is not None
    }

    def value(option: str, default: Any) -> Any:
        return options[option].value if option in options else default

    form: Any = value("answer_form", "boxed")
    stored_verifier = value("verifier", None)
    if verifier is None and stored_verifier is not None and ":" in stored_verifier:
        raise UsageError(  # no manifest says what code to run
            f"{folder} was judged by {stored_verifier}, a verifier of the user's own: give its file again, "
            "--verifier FILE.py:FUNCTION, or another verifier"
        )
    name, own = verify.find_own(stored_verifier if verifier is None else verifier)
    rules: Any = value("code_rules", "plain")
    packages = tuple(value("code_packages", None) or ())
    header = Header(
        kind="predictions",
        stage="eval",
        content={
            "rows": _rows_id(folder), "answer_form": form, "verifier": name,
            "rules": [verify.CODE_VERSION], "code_rules": rules, **code_packages(packages), **user_code(own),
        },
        inputs=source_manifest.inputs,
        models=source_manifest.models,
        options=options,
        fresh=run.fresh,
        accept_errors=True,  # rows that were given up are not requested again
        licences=tuple(source_manifest.licences),
    )  # fmt: skip
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    if own is not None:
        own.check()

    # The problems by their ids in the version, with the verifier of today.
    problems = {
        problem.problem_id: sources.judged_by(problem, name or problem.verifier)
        for problem in dataset.read_problems(predictions)
    }
    programs = verify.Programs(rules, packages, judging.unsafe)
    verify.check_runnable({problem.verifier for problem in problems.values()}, programs, own)

    def judged(trace: Trace) -> Trace:
        problem = _problem_of(trace, problems, folder)
        return verify.verified(
            with_problem(trace, problem, trace.sample),
            extra=problem.extra, answer_form=form, programs=programs, own=own,
        )  # fmt: skip

    with (
        versions.draft(out, header) as draft,
        Writer(draft) as writer,
        verify.Judge(judging.num_workers) as judge,
    ):
        # Judge the kept rows again; rejected rows keep their reason.
        for trace in judge.map(judged, dataset.scan(predictions, Trace)):
            if trace.id not in writer.done:
                writer.append(trace)
                writer.counts.rows_reused += 1
        for row in dataset.scan(predictions, RejectedTrace, "rejected"):
            trace = with_problem(row, _problem_of(row, problems, folder), row.sample)
            if trace.id not in writer.done:
                writer.reject(trace, row.reason, row.measured)
        check_internal_errors(writer, accepted=True)  # prints their number

        # Score. What only the run of eval could measure is copied.
        writer.counts.rows_read = source_manifest.counts.rows_read
        writer.counts.rows_within_budget = source_manifest.counts.rows_within_budget
        draft.manifest.user_code = user_code(own).get("user_code", {})
        metrics = source_manifest.metrics or {}
        facts = {
            "num_duplicates": metrics.get("num_duplicates"),
            **protocols.protocol_after_rescore(metrics, {"answer_form": form, "verifier": name}),
            "budget": scoring.budget_metrics(writer.counts),
            **code_packages(packages),
            **user_code(own),
            "resources": metrics.get("resources"),
        }
        benchmark = metrics.get("benchmark", out.name)
        model = source_manifest.models[0].name
        return finish_scored(writer, model, benchmark, lambda: iter(problems.values()), facts)


class _Key(msgspec.Struct):
    """The field of a row that identifies its completion."""

    row_key: str


def _rows_id(folder: Path) -> str:
    """A hash that is equal for versions with the same completions, however they were judged."""
    integrity.check_content(folder)
    return content_hash(
        *(
            sorted(row.row_key for row in dataset.scan(folder, _Key, prefix))
            for prefix in ("part", "rejected")
        )
    )


def _problem_of(trace: Trace, problems: dict[str, Problem], folder: Path) -> Problem:
    if trace.problem_id not in problems:
        raise DataError(f"{folder}: row {trace.id} is of a problem that is not in problems.jsonl")
    return problems[trace.problem_id]

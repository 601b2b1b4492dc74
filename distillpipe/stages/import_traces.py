"""`import`: traces that others made, as a dataset; rows that do not fit are rejected with the reason.

A row's id is a hash of its content, so a completion that is in the source twice is read once. A problem is written
once, with the fields of its first row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.files import readable
from distillpipe.data.formats.incoming import CODE_VERSION, FORMATS, Reader, detect
from distillpipe.data.formats.traces import (
    Choices,
    Imported,
    ImportedProblems,
    ImportOptions,
    failed_row,
    imported,
)
from distillpipe.data.sources import Problems
from distillpipe.data.store import versions
from distillpipe.data.store.jsonl import rewrite
from distillpipe.data.store.versions import Draft, Header
from distillpipe.data.store.writer import Writer
from distillpipe.models import lookup
from distillpipe.models.chat import load_chat
from distillpipe.models.lookup import Model
from distillpipe.models.tokens import counted, find_tokenizer
from distillpipe.stages.run import (
    Result,
    Run,
    check_internal_errors,
    content_of,
    funnel,
    say_finished,
    say_up_to_date,
)
from distillpipe.verify import find_own

FIRST_ROWS = 20  # rows from which the format is detected


@dataclass
class ImportPlan:
    """What `import` is asked for: a run executes it, a dry run reports it.

    A reference is looked up once, when it is first used.
    """

    reference: str
    out: Path
    options: ImportOptions
    run: Run

    def __post_init__(self) -> None:
        name, self.verifier = find_own(self.options.choices.verifier)
        choices = msgspec.structs.replace(self.options.choices, verifier=name)
        self.options = msgspec.structs.replace(self.options, choices=choices)

    @cached_property
    def source(self) -> Problems:
        """The file, hub dataset or benchmark with the traces. Raises UsageError for a dataset of ours."""
        if sources.is_dataset(self.reference):
            raise UsageError(
                f"{self.reference} is a dataset already: give it to `distill filter` or `distill sft` as it is"
            )
        return sources.find(self.reference)

    @cached_property
    def tokenizer(self) -> Model | None:
        """The tokenizer that counts tokens; null if none is counted."""
        return None if self.options.tokenizer is None else find_tokenizer(self.options.tokenizer)

    @cached_property
    def header(self) -> Header:
        options, tokenizer, source = self.options, self.tokenizer, self.source
        return Header(
            kind="traces",
            stage="import",
            content=content_of(options=options, rules=[CODE_VERSION]),
            inputs=[sources.describe(source, self.out)],
            models=[] if tokenizer is None else [lookup.used("tokenizer", tokenizer, self.out)],
            options=self.run.options,
            fresh=self.run.fresh,
            accept_errors=self.run.accept_errors,
            licences=() if options.teacher_licence is None else (options.teacher_licence,),
        )


def import_traces(reference: str, out: Path, options: ImportOptions, run: Run) -> Result:
    """Write the traces of a file or of a hub dataset as a new version under `out`.

    Raises UsageError if no format fits; DataError, with the funnel, if no row fits the format: the draft then
    stays, unfinished.
    """
    plan = ImportPlan(reference, out, options, run)
    if (finished := versions.up_to_date(out, plan.header)) is not None:
        return say_up_to_date(finished)
    if plan.verifier is not None:
        plan.verifier.check()  # it judges nothing here, but whoever filters the rows needs it

    with versions.draft(out, plan.header) as draft, Writer(_without_errors(draft)) as writer:
        # Detect the format.
        options, tokenizer = plan.options, plan.tokenizer
        rows = (row for _, row in islice(sources.rows_and_unreadable(plan.source), options.limit))
        first = list(islice(rows, FIRST_ROWS))
        reader = _reader(reference, first, options.choices)
        chat = None if tokenizer is None else load_chat(tokenizer.folder, tokenizer.name)

        # Convert each row; reject rows that do not fit.
        def reject(trace: Trace, error: InternalError) -> None:
            writer.reject(trace, REASON, error.description)

        problems = ImportedProblems(draft.path)
        completions = _distinct(chain(first, rows), reader, plan)
        fitting = _fitting(completions, problems, writer)
        for trace in fitting if chat is None else counted(fitting, chat, reject):
            writer.append(trace)

        # Report and finish.
        counts = writer.counts
        counts.rows_read = counts.rows_kept + counts.rows_rejected
        writer.sync()
        lines = funnel(draft.manifest)
        if not counts.rows_kept:
            raise DataError(f"{reference}: no row of {counts.rows_read:,} fits the format:", *lines)
        check_internal_errors(writer, accepted=run.accept_errors)
        if counts.rows_rejected:
            num_rejected, num_rows = counts.rows_rejected, counts.rows_read
            say(f"import: rejected {num_rejected:,} of {num_rows:,} rows", *lines)
        return say_finished(writer.finish(problems), out)


def _without_errors(draft: Draft) -> Draft:
    """The draft without the rows that met an internal error, which are read again."""
    rewrite(draft.path, "rejected", f'"reason":"{REASON}"'.encode(), lambda *_: None)
    return draft


def forecast_import(reference: str, out: Path, options: ImportOptions, run: Run) -> Forecast:
    """What `import_traces` would do."""
    plan = ImportPlan(reference, out, options, run)
    if plan.verifier is not None:
        plan.verifier.check()
    result = forecast.begin("import", out, run.options, [sources.place_of(reference)])
    with forecast.noting(result):
        forecast.add_output(result, out, plan.header)
    return result


def _reader(reference: str, first: list[object], choices: Choices) -> Reader:
    """The reader of the format in the options, or of the one that fits most of the first rows."""
    objects = [row for row in first if isinstance(row, dict)]
    if not objects:  # another kind of file: raise for its first line that cannot be read
        for row in first:
            readable(row)
    if any(str(row.get("schema")).startswith("trace/") for row in objects):
        raise UsageError(
            f"{reference} holds traces of distillpipe already: "
            "give it to `distill filter` or `distill sft` as it is"
        )
    name = detect(first) if choices.format == "auto" else choices.format
    if name is None:
        keys = ", ".join(objects[0]) if objects else "no object"
        raise UsageError(
            f"{reference}: no format fits its first rows ({keys}): give --format, one of "
            f"{', '.join(FORMATS)}, or --problem-field; problems alone go to `distill generate`"
        )
    if choices.format == "auto":
        say(f"import: {reference} looks like --format {name}")
    return FORMATS[name]


def _fitting(
    completions: Iterator[Imported], problems: ImportedProblems, writer: Writer
) -> Iterator[Trace]:
    """The traces to keep that are not yet written; others are rejected here."""
    for completion in completions:
        trace, problem = completion.trace, completion.problem
        added = guarded(problems.add, problem, trace) if problem else trace
        trace = trace if isinstance(added, InternalError) else added
        if trace.id in writer.done:
            continue
        if isinstance(added, InternalError):
            writer.reject(trace, REASON, added.description)
        elif completion.rejection is None:
            yield trace
        else:
            writer.reject(trace, *completion.rejection)


def _distinct(rows: Iterator[object], reader: Reader, plan: ImportPlan) -> Iterator[Imported]:
    """The completions of the rows, each once."""
    choices = plan.options.choices
    benchmark = None if plan.source.benchmark is None else plan.source.name

    def read(row: object) -> list[Imported]:
        return [*imported(row, reader, choices, benchmark)]

    seen: set[str] = set()
    num_repeated = 0
    for row in rows:
        completions = guarded(read, row)
        if isinstance(completions, InternalError):
            completions = [failed_row(row, completions, choices)]
        for completion in completions:
            if completion.trace.id in seen:
                num_repeated += 1
                continue
            seen.add(completion.trace.id)
            yield completion
    if num_repeated:
        say(
            f"import: {num_repeated:,} rows stand twice (the same problem and completion): read once"
        )

"""`import`: traces that others made, as a dataset; rows that do not fit are rejected with the reason.

A row's id is a hash of its content, so a completion that is in the source twice is read once. A problem is written
once, with the fields of its first row.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.data import forecast, sources
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.columns import thought_columns
from distillpipe.data.formats.fields import with_paths
from distillpipe.data.formats.files import Unreadable, readable, text_lines
from distillpipe.data.formats.incoming import CODE_VERSION, FORMATS, Format, detect, reader_for
from distillpipe.data.formats.token_estimate import estimated_counts
from distillpipe.data.formats.traces import (
    Choices,
    Imported,
    ImportedProblems,
    ImportOptions,
    References,
    failed_row,
    imported,
    question,
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

TABLES = (".jsonl", ".json", ".csv", ".parquet", ".gz")  # files that hold rows, not lines of text
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
    def answers(self) -> References | None:
        """The reference answers of `--answers`, from any reference that `generate` takes."""
        if self.options.answers is None:
            return None
        answers = sources.find(self.options.answers)
        references = References(sources.read_problems(answers, Prompting(), None))
        if not references:
            raise DataError(
                f"--answers {self.options.answers} holds no reference answer: expected rows with problem and answer"
            )
        return references

    @cached_property
    def header(self) -> Header:
        options, tokenizer = self.options, self.tokenizer
        inputs = [self.source]
        if options.answers is not None:
            inputs.append(sources.find(options.answers))
        return Header(
            kind="traces",
            stage="import",
            content=content_of(options=options, rules=[CODE_VERSION]),
            inputs=[sources.describe(one, self.out) for one in inputs],
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
        result = say_up_to_date(finished)
        if result.manifest.counts.rows_uncounted:  # made before tokens were counted by default
            say("import: its rows have no token counts: --fresh reads them again, with counts")
        return result
    if plan.verifier is not None:
        plan.verifier.check()  # it judges nothing here, but whoever filters the rows needs it

    with versions.draft(out, plan.header) as draft, Writer(_without_errors(draft)) as writer:
        options, tokenizer = plan.options, plan.tokenizer
        problems = ImportedProblems(draft.path)
        if options.choices.format == "lines":
            return _import_lines(plan, problems, writer)

        # Detect the format.
        rows = (row for _, row in islice(sources.rows_and_unreadable(plan.source), options.limit))
        first = list(islice(rows, FIRST_ROWS))
        format_name = _format(reference, first, options.choices)
        chat = None if tokenizer is None else load_chat(tokenizer.folder, tokenizer.name)

        # Convert each row; reject rows that do not fit.
        def reject(trace: Trace, error: InternalError) -> None:
            writer.reject(trace, REASON, error.description)

        completions = _distinct(chain(first, rows), format_name, plan)
        fitting = _fitting(completions, problems, writer)
        for trace in map(_estimated, fitting) if chat is None else counted(fitting, chat, reject):
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
        if chat is None:
            say(
                "import: tokens are estimated as Qwen's tokenizer counts them (to some 3%); --tokenizer MODEL "
                "counts those of another exactly"
            )
        return say_finished(writer.finish(problems), out)


def _estimated(trace: Trace) -> Trace:
    counts = estimated_counts(trace.messages, is_truncated=trace.is_truncated)
    return msgspec.structs.replace(trace, num_tokens=counts)


def _import_lines(plan: ImportPlan, problems: ImportedProblems, writer: Writer) -> Result:
    """Write the questions of a text, one a line, as problems for `generate`: there are no traces yet."""
    reference, options = plan.reference, plan.options
    path = Path(reference)
    if not path.is_file():
        raise UsageError(
            f"{reference} does not exist: --format lines takes a text file, one question a line"
        )
    if path.suffix in TABLES:
        raise UsageError(
            f"{reference}: --format lines is for a text with one question a line: give {path.suffix} files to "
            "`distill generate`, or leave --format out"
        )
    seen = set()
    for _, row in islice(text_lines(path), options.limit):
        if isinstance(row, Unreadable):
            say(f"import: {row.error}")
            continue
        problem = question(row["problem"], options.choices, plan.answers)
        if problem.problem_id not in seen:
            seen.add(problem.problem_id)
            problems.add_alone(problem)
    if not seen:
        raise DataError(f"{reference} holds no question: expected one a line")
    say(f"import: {len(seen):,} problems: give {plan.out} to `distill generate`")
    return say_finished(writer.finish(problems), plan.out)


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


def _format(reference: str, first: list[object], choices: Choices) -> Format:
    """The format in the options, or the one that fits most of the first rows."""
    objects = [row for row in first if isinstance(row, dict)]
    if not objects:  # another kind of file: raise for its first line that cannot be read
        for row in first:
            readable(row)
    if any(str(row.get("schema")).startswith("trace/") for row in objects):
        raise UsageError(
            f"{reference} holds traces of distillpipe already: "
            "give it to `distill filter` or `distill sft` as it is"
        )
    if choices.format != "auto":
        return choices.format
    fields = choices.fields
    objects = [with_paths(row, fields.named) for row in objects]
    name = detect(objects, fields)
    if name is None:
        keys = ", ".join(objects[0]) if objects else "no object"
        thoughts = list(
            dict.fromkeys(key for row in objects for key in thought_columns(row, fields))
        )
        hint = f" ({', '.join(thoughts)} may hold the reasoning)" if thoughts else ""
        raise UsageError(
            f"{reference}: no format fits its first rows ({keys}): give --format, one of "
            f"{', '.join(FORMATS)}, or name its columns by --problem-field, --reasoning-field and "
            f"--response-field{hint}; problems alone go to `distill generate`"
        )
    say(f"import: {reference} looks like --format {name}")
    return name


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


def _distinct(rows: Iterator[object], format_name: Format, plan: ImportPlan) -> Iterator[Imported]:
    """The completions of the rows, each once; says at the end what was changed in reading them."""
    choices = plan.options.choices
    fields = choices.fields
    benchmark = None if plan.source.benchmark is None else plan.source.name

    def read(row: object) -> list[Imported]:
        reader = FORMATS[format_name]
        if choices.format == "auto" and isinstance(row, dict):
            reader = reader_for(with_paths(row, fields.named), format_name, fields)
        return [*imported(row, reader, choices, benchmark, plan.answers)]

    seen: set[str] = set()
    notes: Counter[str] = Counter()
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
            notes.update(completion.notes)
            yield completion
    for note, count in notes.items():
        say(f"import: {count:,} rows: {note}")
    if num_repeated:
        say(
            f"import: {num_repeated:,} rows stand twice (the same problem and completion): read once"
        )

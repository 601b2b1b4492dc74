"""`import`: traces that others made, as a dataset; what does not fit stands beside, with the reason.

Rows are known by their content, so a completion that stands twice in the source is read once. A problem
is written once, with what its rows say of it.
"""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data import forecast, sources
from distillpipe.data.benchmarks import BENCHMARKS
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.files import readable
from distillpipe.data.formats.incoming import CODE_VERSION, FORMATS, Reader, detect
from distillpipe.data.formats.traces import (
    Choices,
    Imported,
    ImportOptions,
    Problems,
    failed_row,
    imported,
)
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

FIRST_ROWS = 20  # that the format is told from


def import_traces(reference: str, out: Path, options: ImportOptions, run: Run) -> Result:
    """Write the traces of a file or of a hub dataset as a new version under `out`.

    Raises UsageError where no format fits; DataError, with the funnel, where no row fits the format: the
    draft then stays, unfinished.
    """
    options, own = _with_verifier(options)
    tokenizer = _tokenizer(options)
    header = _header(reference, tokenizer, out, options, run)
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)
    if own is not None:
        own.check()  # it judges nothing here, but whoever filters the rows needs it

    with versions.draft(out, header) as draft, Writer(_without_errors(draft)) as writer:
        rows = (row for _, row in islice(sources.rows_and_unreadable(reference), options.limit))
        first = list(islice(rows, FIRST_ROWS))
        reader = _reader(reference, first, options.choices)
        chat = None if tokenizer is None else load_chat(tokenizer.folder, tokenizer.name)
        problems = Problems(draft.path)
        found = _distinct(chain(first, rows), reader, reference, options)
        fitting = _fitting(found, problems, writer)

        def failed(trace: Trace, error: InternalError) -> None:
            writer.reject(trace, REASON, error.description)

        for trace in fitting if chat is None else counted(fitting, chat, failed):
            writer.append(trace)
        counts = writer.counts
        counts.rows_read = counts.rows_kept + counts.rows_rejected
        writer.sync()
        report = funnel(draft.manifest)
        if not counts.rows_kept:
            raise DataError(
                f"{reference}: no row of {counts.rows_read:,} fits the format:", *report
            )
        check_internal_errors(writer, accepted=run.accept_errors)
        if counts.rows_rejected:
            say(f"import: rejected {counts.rows_rejected:,} of {counts.rows_read:,} rows", *report)
        return say_finished(writer.finish(problems), out)


def _without_errors(draft: Draft) -> Draft:
    """The draft without rows that met an internal error: they are read again."""
    rewrite(draft.path, "rejected", f'"reason":"{REASON}"'.encode(), lambda *_: None)
    return draft


def forecast_import(reference: str, out: Path, options: ImportOptions, run: Run) -> Forecast:
    """What `import_traces` would do."""
    options, own = _with_verifier(options)
    if own is not None:
        own.check()
    found = forecast.begin("import", out, run.options, [sources.place_of(reference)])
    with forecast.noting(found):
        tokenizer = _tokenizer(options)
        forecast.add_output(found, out, _header(reference, tokenizer, out, options, run))
    return found


def _with_verifier(options: ImportOptions) -> tuple[ImportOptions, UserFunction | None]:
    """The options with the verifier's name as rows have it, and its function where it is the user's own."""
    name, own = find_own(options.choices.verifier)
    choices = msgspec.structs.replace(options.choices, verifier=name)
    return msgspec.structs.replace(options, choices=choices), own


def _tokenizer(options: ImportOptions) -> Model | None:
    return None if options.tokenizer is None else find_tokenizer(options.tokenizer)


def _header(
    reference: str, tokenizer: Model | None, out: Path, options: ImportOptions, run: Run
) -> Header:
    if sources.is_dataset(reference):
        raise UsageError(
            f"{reference} is a dataset already: give it to `distill filter` or `distill sft` as it is"
        )
    return Header(
        kind="traces",
        stage="import",
        content=content_of(options=options, rules=[CODE_VERSION]),
        inputs=[sources.describe(reference, out)],
        models=[] if tokenizer is None else [lookup.used("tokenizer", tokenizer, out)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=run.accept_errors,
        licences=() if options.teacher_licence is None else (options.teacher_licence,),
    )


def _reader(reference: str, first: list[object], choices: Choices) -> Reader:
    """The format that was given, or the one that fits most of the first rows."""
    objects = [row for row in first if isinstance(row, dict)]
    if not objects:  # not one bad line among good ones, but another kind of file
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


def _fitting(found: Iterator[Imported], problems: Problems, writer: Writer) -> Iterator[Trace]:
    """The traces that are to be kept and not yet written; what does not fit is rejected here."""
    for one in found:
        added = guarded(problems.add, one.problem, one.trace) if one.problem else one.trace
        trace = one.trace if isinstance(added, InternalError) else added
        if trace.id in writer.done:
            continue
        if isinstance(added, InternalError):
            writer.reject(trace, REASON, added.description)
        elif one.rejection is None:
            yield trace
        else:
            writer.reject(trace, *one.rejection)


def _distinct(
    rows: Iterator[object], reader: Reader, reference: str, options: ImportOptions
) -> Iterator[Imported]:
    """What the rows hold, each completion once."""
    benchmark = reference if reference in BENCHMARKS else None
    seen: set[str] = set()
    num_again = 0
    for row in rows:
        made = guarded(lambda given: [*imported(given, reader, options.choices, benchmark)], row)
        if isinstance(made, InternalError):
            made = [failed_row(row, made, options.choices)]
        for found in made:
            if found.trace.id in seen:
                num_again += 1
                continue
            seen.add(found.trace.id)
            yield found
    if num_again:
        say(f"import: {num_again:,} rows stand twice (the same problem and completion): read once")

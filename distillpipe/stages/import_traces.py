"""`import`: traces that others made, as a dataset; what does not fit stands beside, with the reason.

Rows are known by their content, so a completion that stands twice in the source is read once. A problem
is written once, with what its rows say of it.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import msgspec

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import Prompting
from distillpipe.base.progress import say
from distillpipe.base.records import Trace
from distillpipe.base.rowguard import REASON, InternalError, guarded
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data import forecast, sources
from distillpipe.data.benchmarks import BENCHMARKS
from distillpipe.data.forecast import Forecast
from distillpipe.data.formats.columns import thought_columns
from distillpipe.data.formats.fields import with_paths
from distillpipe.data.formats.files import Unreadable, readable, text_lines
from distillpipe.data.formats.incoming import CODE_VERSION, FORMATS, Format, detect, reader_for
from distillpipe.data.formats.token_estimate import estimated_counts
from distillpipe.data.formats.traces import (
    Choices,
    Imported,
    ImportOptions,
    Problems,
    References,
    failed_row,
    imported,
    question,
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
        return _say_up_to_date(finished)
    if own is not None:
        own.check()  # it judges nothing here, but whoever filters the rows needs it

    references = _references(options.answers)
    with versions.draft(out, header) as draft, Writer(_without_errors(draft)) as writer:
        problems = Problems(draft.path)
        if options.choices.format == "lines":
            return _import_lines(reference, out, options, references, problems, writer)
        rows = (row for _, row in islice(sources.rows_and_unreadable(reference), options.limit))
        first = list(islice(rows, FIRST_ROWS))
        format_name = _format(reference, first, options.choices)
        chat = None if tokenizer is None else load_chat(tokenizer.folder, tokenizer.name)
        notes: Counter[str] = Counter()
        found = _distinct(chain(first, rows), format_name, reference, options, references, notes)
        fitting = _fitting(found, problems, writer)

        def failed(trace: Trace, error: InternalError) -> None:
            writer.reject(trace, REASON, error.description)

        for trace in map(_estimated, fitting) if chat is None else counted(fitting, chat, failed):
            writer.append(trace)
        for note, count in notes.items():
            say(f"import: {count:,} rows: {note}")
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
        if chat is None:
            say(
                "import: tokens are estimated as Qwen's tokenizer counts them (to some 3%); --tokenizer MODEL "
                "counts those of another exactly"
            )
        return say_finished(writer.finish(problems), out)


def _say_up_to_date(finished: Path) -> Result:
    result = say_up_to_date(finished)
    if result.manifest.counts.rows_uncounted:  # made before tokens were counted by default
        say("import: its rows have no token counts: --fresh reads them again, with counts")
    return result


def _estimated(trace: Trace) -> Trace:
    counts = estimated_counts(trace.messages, is_truncated=trace.is_truncated)
    return msgspec.structs.replace(trace, num_tokens=counts)


def _import_lines(
    reference: str,
    out: Path,
    options: ImportOptions,
    references: References | None,
    problems: Problems,
    writer: Writer,
) -> Result:
    """Write the questions of a text, one a line, as problems for `generate`: there are no traces yet."""
    path = Path(reference)
    if not path.is_file():
        raise UsageError(
            f"{reference} does not exist: --format lines takes a text file, one question a line"
        )
    seen = set()
    for _, row in islice(text_lines(path), options.limit):
        if isinstance(row, Unreadable):
            say(f"import: {row.error}")
            continue
        problem = question(row["problem"], options.choices, references)
        if problem.problem_id not in seen:
            seen.add(problem.problem_id)
            problems.add_alone(problem)
    if not seen:
        raise DataError(f"{reference} holds no question: expected one a line")
    say(f"import: {len(seen):,} problems: give {out} to `distill generate`")
    return say_finished(writer.finish(problems), out)


def _references(answers: str | None) -> References | None:
    """The reference answers of `--answers`, which may be any reference that `generate` takes."""
    if answers is None:
        return None
    references = References(sources.read_problems(answers, Prompting(), None))
    if not references:
        raise DataError(
            f"--answers {answers} holds no reference answer: expected rows with problem and answer"
        )
    return references


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
        inputs=[
            sources.describe(one, out) for one in (reference, options.answers) if one is not None
        ],
        models=[] if tokenizer is None else [lookup.used("tokenizer", tokenizer, out)],
        options=run.options,
        fresh=run.fresh,
        accept_errors=run.accept_errors,
        licences=() if options.teacher_licence is None else (options.teacher_licence,),
    )


def _format(reference: str, first: list[object], choices: Choices) -> Format:
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
    rows: Iterator[object],
    format_name: Format,
    reference: str,
    options: ImportOptions,
    references: References | None,
    notes: Counter[str],
) -> Iterator[Imported]:
    """What the rows hold, each completion once. `notes` counts what was changed in reading them."""
    benchmark = reference if reference in BENCHMARKS else None
    choices, fields = options.choices, options.choices.fields
    seen: set[str] = set()
    num_again = 0

    def read(row: object) -> list[Imported]:
        reader = FORMATS[format_name]
        if choices.format == "auto" and isinstance(row, dict):
            reader = reader_for(with_paths(row, fields.named), format_name, fields)
        return [*imported(row, reader, choices, benchmark, references)]

    for row in rows:
        made = guarded(read, row)
        if isinstance(made, InternalError):
            made = [failed_row(row, made, choices)]
        for found in made:
            if found.trace.id in seen:
                num_again += 1
                continue
            seen.add(found.trace.id)
            notes.update(found.notes)
            yield found
    if num_again:
        say(f"import: {num_again:,} rows stand twice (the same problem and completion): read once")

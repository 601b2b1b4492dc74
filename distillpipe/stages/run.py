"""What all stages share: how a command was called, the content of fingerprints, and the messages at the end."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec

from distillpipe.base import rowguard
from distillpipe.base.errors import UsageError
from distillpipe.base.option import Option, Options, hashed
from distillpipe.base.options import RUN, AcceptErrors, SamplingOptions
from distillpipe.base.progress import say
from distillpipe.base.terminal import printable
from distillpipe.base.user_code.functions import UserFunction
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.manifest import Manifest, ResolvedOption
from distillpipe.data.store.spending import say_spent
from distillpipe.data.store.writer import Writer
from distillpipe.reports.dataset_text import teacher_lines
from distillpipe.verify import find_own
from distillpipe.verify.code.packages import versions_of


class Run(Options, frozen=True):
    """How a command was called: options that several commands have."""

    options: dict[str, ResolvedOption] = msgspec.field(default_factory=dict)
    "all options of the command, with the source of each value"
    fresh: Annotated[bool, Option("Make a new version and take nothing over.", RUN)] = False
    accept_errors: AcceptErrors = False
    allow_benchmark_training: Annotated[
        bool, Option("Take rows of a benchmark as training data.", RUN)
    ] = False


class Result(NamedTuple):
    """The result of a stage: the version that was asked for."""

    path: Path
    manifest: Manifest
    up_to_date: bool
    "whether it existed before"


def content_of(**parts: Any) -> dict[str, Any]:
    """Structs and values as plain data, for a fingerprint.

    Options that were added to a struct later are left out at their defaults, so that finished versions stay up to
    date.
    """
    return {name: msgspec.to_builtins(hashed(part)) for name, part in parts.items()}


def code_packages(
    names: tuple[str, ...], options: Mapping[str, ResolvedOption] = MappingProxyType({})
) -> dict[str, dict[str, str]]:
    """The packages that programs may import, with their versions; an empty dict without packages.

    `options` are those of the command: if --protocol has set the packages, an error says so.
    """
    try:
        return {"code_packages": versions_of(names)} if names else {}
    except UsageError as error:
        if "code_packages" in options and options["code_packages"].source == "protocol":
            protocol = options["protocol"].value
            raise UsageError(
                f"--protocol {protocol} lets programs import packages: {error};"
                " or name others with --code-packages"
            ) from None
        raise


def with_verifier(options: SamplingOptions) -> tuple[SamplingOptions, UserFunction | None]:
    """The options with the verifier's name as rows store it, and the function of a verifier of the user's own.

    Raises UsageError for a verifier that does not exist.
    """
    name, own = find_own(options.prompting.verifier)
    prompting = msgspec.structs.replace(options.prompting, verifier=name)
    return msgspec.structs.replace(options, prompting=prompting), own


def user_code(*functions: UserFunction | None) -> dict[str, dict[str, str]]:
    """Names and hashes of the functions of the user's own that decide on rows; an empty dict without any."""
    digests = {function.name: function.digest for function in functions if function is not None}
    return {"user_code": digests} if digests else {}


def say_up_to_date(path: Path) -> Result:
    """Print that the finished version in `path` is up to date."""
    manifest = manifests.read(path)
    say(f"{manifest.stage}: up to date: {path}")
    return Result(path, manifest, up_to_date=True)


def check_internal_errors(writer: Writer, *, accepted: bool) -> None:
    """Print how many rows of a version met internal errors. Raises InternalErrors if they are too many to finish it."""
    counts, draft = writer.counts, writer.draft
    draft.save()
    num_errors, num_rows = counts.num_internal_errors, counts.rows_kept + counts.rows_rejected
    is_finished = accepted or not rowguard.too_many(num_errors, num_rows)
    folder = draft.out / draft.manifest.version if is_finished else draft.path
    rowguard.check_share(
        num_errors,
        num_rows,
        accepted=accepted,
        first=writer.failed_said,
        show=f"distill show {folder} --row {writer.failed_row}",
        way_out=f"{draft.path} stays unfinished, with all that is in it. When it is mended the same command "
        "goes on; with --accept-errors it finishes as it is",
    )


def say_finished(manifest: Manifest, out: Path) -> Result:
    """Print what a stage has written, and how fast."""
    counts = manifest.counts
    parts = [f"{counts.rows_kept:,} rows"]
    if counts.rows_rejected:
        parts.append(f"{counts.rows_rejected:,} rejected")
    uncounted = f" ({counts.rows_uncounted:,} rows not counted)" if counts.rows_uncounted else ""
    parts.append(f"{counts.tokens_kept:,} tokens{uncounted}")
    parts.append(f"{counts.seconds:.1f} s")
    tokens = counts.tokens_sampled or counts.tokens_scored
    if manifest.kind == "checkpoint":
        tokens = counts.tokens_kept
    if counts.seconds_working and tokens:
        parts.append(f"{tokens / counts.seconds_working:,.0f} tokens/s")
    if spent := say_spent(counts):
        parts.append(spent)
    if counts.rows_with_key:
        parts.append(f"{counts.rows_with_key:,} of the rows hold the API key")
    path = out / manifest.version
    say(f"{manifest.stage}: {', '.join(parts)}: {path}")
    return Result(path, manifest, up_to_date=False)


def funnel(manifest: Manifest) -> list[str]:
    """Lines with the rows and tokens that each reason dropped, most rows first, then with those of each teacher."""
    by_rows = sorted(manifest.counts.dropped.items(), key=lambda item: -item[1].rows)
    reasons = [
        printable(f"  {dropped.rows:>8,} rows  {dropped.tokens:>10,} tokens  {reason}")
        for reason, dropped in by_rows
    ]
    return reasons + [f"  {line}" for line in teacher_lines(manifest.counts)]


def overlap(reasons: Iterable[list[str]]) -> list[str]:
    """Lines with the number of rows that each reason drops, and that it drops alone; `reasons` are those of each row."""
    rows, alone = Counter[str](), Counter[str]()
    for of_row in reasons:
        rows.update(of_row)
        if len(of_row) == 1:
            alone.update(of_row)
    return [
        printable(f"  {number:>8,} rows  {alone[reason]:>10,} by it alone  {reason}")
        for reason, number in rows.most_common()
    ]

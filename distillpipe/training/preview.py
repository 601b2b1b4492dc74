r"""The report of pre-flight: a few lines on all rows, and single rows as the student sees them.

    --- row 3f9a.../7c41...: 91 tokens of prompt, no loss on them
    <|im_start|>user
    ...
    --- 858 supervised tokens
    <think>
    ...
    \boxed{42}<|im_end|>
    ---

On a terminal the supervised part is also green.
"""

import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from distillpipe.base.progress import say
from distillpipe.base.terminal import printable, printable_text
from distillpipe.models.chat import Chat
from distillpipe.training.preflight import Preflight
from distillpipe.training.rows.rows import Row
from distillpipe.training.rows.template import writes_rows_exactly

SHOWN_CHARACTERS = 600  # of the start and of the end of a long text


class ShownRow(msgspec.Struct, frozen=True):
    """A row as text."""

    id: str
    prompt_tokens: int
    supervised_tokens: int
    prompt: str
    supervised: str
    "with the end token, unless the row was cut"
    trains_prompt: bool = False
    "whether the prompt has a loss too; `supervised_tokens` does not count the prompt"


class Preview(msgspec.Struct, frozen=True):
    """The summary of pre-flight, and some rows."""

    summary: list[str]
    rows: list[ShownRow]


def preview_of(check: Preflight) -> Preview:
    """The report of pre-flight, with the rows that it kept for display."""
    trains_prompt = check.options.train_on_prompt
    return Preview(summary(check), [_shown(row, check.chat, trains_prompt) for row in check.shown])


def _shown(row: Row, chat: Chat, trains_prompt: bool) -> ShownRow:
    prompt, supervised = row.ids[: row.num_prompt], row.ids[row.num_prompt :]
    return ShownRow(
        id=row.id,
        prompt_tokens=len(prompt),
        supervised_tokens=len(supervised),
        prompt=chat.decode(prompt),
        trains_prompt=trains_prompt,
        supervised=chat.decode(supervised),
    )


def log_preview(preview: Preview) -> None:
    """Print the summary, and the rows without the middle of long texts, to stderr."""
    for line in preview.summary:
        say(f"sft: {line}")
    show(preview.rows, sys.stderr, whole=False)


def print_preview(preview: Preview) -> None:
    """Print the summary to stderr and the whole rows to stdout."""
    for line in preview.summary:
        say(f"sft: {line}")
    show(preview.rows, sys.stdout, whole=True)


def show(rows: Sequence[ShownRow], file: TextIO, *, whole: bool) -> None:
    """Print rows, in colour on a terminal; unless `whole`, long texts lose their middle."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False, soft_wrap=True)
    for row in rows:
        prompt, supervised = (
            printable_text(part if whole else _without_middle(part))
            for part in (row.prompt, row.supervised)
        )
        loss = "supervised too" if row.trains_prompt else "no loss on them"
        console.print(
            Text(f"--- row {printable(row.id)}: {row.prompt_tokens:,} tokens of prompt, {loss}\n"),
            Text(prompt.rstrip("\n") + "\n", style="green" if row.trains_prompt else "dim"),
            Text(f"--- {row.supervised_tokens:,} supervised tokens\n"),
            Text(supervised.rstrip("\n") + "\n", style="green"),
            Text("---"),
            sep="",
        )


def summary(check: Preflight) -> list[str]:
    """Lines on the rows, their lengths, and how the student's tokenizer writes end tokens and reasoning tags."""
    counts, turn = check.counts, check.chat.turn
    bare = counts.rows_kept - check.num_reasoned - counts.rows_cut
    lines = [
        f"{counts.rows_kept:,} rows, {check.num_supervised:,} supervised tokens an epoch, "
        f"the longest row has {check.longest:,} tokens",
        f"{_end_tokens(check.chat)}; {turn.tags.close} is supervised in {check.num_reasoned:,} rows"
        + (f", {bare:,} have no reasoning" if bare else ""),
    ]
    if bare and check.chat.plain is not None:
        lines.append(
            f"{bare:,} rows without reasoning train the mode without thinking, {check.num_reasoned:,} the one with it "
            "(`distill eval --no-thinking` measures the former)"
        )
    if check.options.train_on_prompt:
        lines.append(
            "the prompts are supervised too (--train-on-prompt): the student learns to write problems"
        )
    if counts.rows_cut or counts.rows_rejected:
        dropped = sum(dropped_rows.tokens for dropped_rows in counts.dropped.values())
        lines.append(
            f"over --max-length: {counts.rows_rejected:,} rows ({dropped:,} supervised tokens) dropped, "
            f"{counts.rows_cut:,} rows cut by {counts.tokens_cut:,} tokens"
        )
    if counts.tokens_taught:
        share = counts.tokens_taught / check.num_supervised
        lines.append(
            f"with teacher targets: {counts.rows_taught:,} of {counts.rows_kept:,} rows, {share:.1%} of the "
            "supervised tokens; all other tokens train on the hard loss only"
        )
    pieces = {tag: len(check.chat.ids(tag)) for tag in turn.tags}
    if max(pieces.values()) > 1:
        split_tags = " and ".join(f"{tag} ({number} ids)" for tag, number in pieces.items())
        lines.append(
            f"not single tokens of the student: {split_tags}; they are trained as text, no token is added"
        )
    if not writes_rows_exactly(check.chat):
        lines.append(
            "the student's chat template does not render these rows; the template that is saved does"
        )
    return lines


def _end_tokens(chat: Chat) -> str:
    """The end token that is trained, and the others that the student stops at."""
    name = chat.tokenizer.convert_ids_to_tokens
    trained = chat.ending_ids[-1]
    eos = chat.tokenizer.eos_token_id
    others = [
        f"{name(token)} ({token}, {'the tokenizer' if token == eos else 'generation_config'}'s)"
        for token in sorted(chat.end_ids - {trained})
    ]
    agree = ", as in the tokenizer" if trained == eos else ""
    more = f"; it also stops at {' and '.join(others)}" if others else ""
    return f"rows end with {name(trained)} ({trained}){agree}{more}"


def _without_middle(text: str) -> str:
    left_out = len(text) - 2 * SHOWN_CHARACTERS
    if left_out <= 0:
        return text
    start, end = text[:SHOWN_CHARACTERS], text[-SHOWN_CHARACTERS:]
    return f"{start}\n[... {left_out:,} characters ...]\n{end}"

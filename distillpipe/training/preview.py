r"""What pre-flight says: a few lines on all rows, and single rows as the student sees them.

    --- row 3f9a.../7c41...: 91 tokens of prompt, no loss on them
    <|im_start|>user
    ...
    --- 858 supervised tokens
    <think>
    ...
    \boxed{42}<|im_end|>
    ---

The marks stand on a terminal too, where the supervised part is green besides.
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
from distillpipe.training.rows.template import keeps_turns

SHOWN_CHARACTERS = 600  # of each end of a part, where not all of it is shown


class ShownRow(msgspec.Struct, frozen=True):
    """A row for a person."""

    id: str
    prompt_tokens: int
    supervised_tokens: int
    prompt: str
    supervised: str
    "up to and with the end token, where the row was not cut"
    trains_prompt: bool = False
    "whether the prompt has a loss too: `supervised_tokens` are without it"


class Preview(msgspec.Struct, frozen=True):
    """What pre-flight has found."""

    summary: list[str]
    rows: list[ShownRow]


def preview_of(check: Preflight) -> Preview:
    """What pre-flight has found, and the rows that it kept to be shown."""
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


def say_preview(found: Preview) -> None:
    """Say what was found, and show the rows without the middle of long parts: all on stderr."""
    for line in found.summary:
        say(f"sft: {line}")
    show(found.rows, sys.stderr, whole=False)


def put_preview(found: Preview) -> None:
    """The summary on stderr, the rows, whole, on stdout."""
    for line in found.summary:
        say(f"sft: {line}")
    show(found.rows, sys.stdout, whole=True)


def show(rows: Sequence[ShownRow], file: TextIO, *, whole: bool) -> None:
    """Print rows, in colour on a terminal; not `whole`: long parts without their middle."""
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
    """Lines that say what was checked, and what a user may want to know of the student's tokens."""
    counts, turn = check.counts, check.chat.turn
    bare = counts.rows_kept - check.num_reasoned - counts.rows_cut
    lines = [
        f"{counts.rows_kept:,} rows, {check.num_supervised:,} supervised tokens an epoch, "
        f"the longest row has {check.longest:,} tokens",
        f"{_end_tokens(check.chat)}; {turn.tags.close} is supervised in {check.num_reasoned:,} rows"
        + (f", {bare:,} have no reasoning" if bare else ""),
    ]
    if check.options.train_on_prompt:
        lines.append(
            "the prompts are supervised too (--train-on-prompt): the student learns to write problems"
        )
    if counts.rows_cut or counts.rows_rejected:
        dropped = sum(one.tokens for one in counts.dropped.values())
        lines.append(
            f"over --max-length: {counts.rows_rejected:,} rows ({dropped:,} supervised tokens) dropped, "
            f"{counts.rows_cut:,} rows cut by {counts.tokens_cut:,} tokens"
        )
    if counts.tokens_taught:
        share = counts.tokens_taught / check.num_supervised
        lines.append(
            f"learnt from a teacher: {counts.rows_taught:,} of {counts.rows_kept:,} rows, {share:.1%} of the "
            "supervised tokens; all others train on the hard loss"
        )
    pieces = {tag: len(check.chat.ids(tag)) for tag in turn.tags}
    if max(pieces.values()) > 1:
        spelt = " and ".join(f"{tag} ({number} ids)" for tag, number in pieces.items())
        lines.append(
            f"no single tokens of the student: {spelt}; they are learnt as text, none is added"
        )
    if not keeps_turns(check.chat):
        lines.append(
            "the student's chat template would not write these rows; the one that is saved does"
        )
    return lines


def _end_tokens(chat: Chat) -> str:
    """Which end token is trained, and which others the student stops at."""
    name = chat.tokenizer.convert_ids_to_tokens
    trained = chat.ending_ids[-1]
    eos = chat.tokenizer.eos_token_id
    others = [
        f"{name(one)} ({one}, {'the tokenizer' if one == eos else 'generation_config'}'s)"
        for one in sorted(chat.end_ids - {trained})
    ]
    agree = ", as the tokenizer says" if trained == eos else ""
    more = f"; it also stops at {' and '.join(others)}" if others else ""
    return f"rows end with {name(trained)} ({trained}){agree}{more}"


def _without_middle(text: str) -> str:
    left_out = len(text) - 2 * SHOWN_CHARACTERS
    if left_out <= 0:
        return text
    start, end = text[:SHOWN_CHARACTERS], text[-SHOWN_CHARACTERS:]
    return f"{start}\n[... {left_out:,} characters ...]\n{end}"

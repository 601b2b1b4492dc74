"""`sft`: fine-tune a student on traces; the version that it writes is a checkpoint that loads as it is."""

from pathlib import Path

from distillpipe import dataset, models, versions
from distillpipe.cards import model_card
from distillpipe.chat import Chat, load_chat
from distillpipe.errors import UsageError
from distillpipe.hashing import content_hash, file_sha256
from distillpipe.interrupts import shielded
from distillpipe.manifest import FileEntry, Manifest, ModelUsed
from distillpipe.progress import progress, say
from distillpipe.records import TrainingOptions
from distillpipe.stages.run import Run, content_of, say_up_to_date
from distillpipe.training import preflight
from distillpipe.training.rows import Row, row_of
from distillpipe.versions import Draft, Header


def sft(
    inputs: list[str], student: str, out: Path, options: TrainingOptions, run: Run, save_every: int
) -> Manifest:
    """Train `student` on all rows of `inputs`; a new version under `out` holds the checkpoint.

    Raises DataError before any training where a row would have to be cut or has nothing to learn from.
    """
    model = models.find(student, "--student")
    if (model.folder / "adapter_config.json").is_file():
        raise UsageError(
            f"--student {student} is an adapter: give the model that it belongs to, "
            "or merge the two and give the merged model"
        )
    header = Header(
        kind="checkpoint",
        stage="sft",
        content=content_of(options=options),
        inputs=[versions.describe_input(reference) for reference in inputs],
        models=[ModelUsed("student", student, model.identity)],
        options=run.options,
        fresh=run.fresh,
    )
    if (finished := versions.up_to_date(out, header)) is not None:
        return say_up_to_date(finished)

    with versions.draft(out, header) as draft:
        chat = load_chat(model.folder, student)
        rows = _rows(inputs, chat)
        preflight.check(rows, options.max_length)
        counts = draft.manifest.counts
        counts.rows_read = counts.rows_kept = len(rows)
        supervised = sum(row.num_supervised for row in rows)
        say(f"sft: {len(rows):,} rows, {supervised:,} supervised tokens an epoch")

        from distillpipe.training import loop  # torch, only where there is something to train

        trained = loop.train(model, rows, draft.path, options, save_every)
        counts.tokens_kept = trained.supervised_tokens
        counts.seconds_working = trained.seconds
        chat.tokenizer.save_pretrained(draft.path)
        loop.save_generation_config(draft.path, chat.end_ids)
        with shielded():
            loop.remove_states(draft.path)
            manifest = _finish(draft)
    rate = trained.supervised_tokens / trained.seconds
    say(f"sft: {counts.seconds:.1f} s, {rate:,.0f} supervised tokens/s: {out / manifest.version}")
    return manifest


def _rows(inputs: list[str], chat: Chat) -> list[Row]:
    """Every row of the inputs once, as the student sees it."""
    total = dataset.count_rows(inputs)
    rows: dict[str, Row] = {}
    with progress("reading", total) as advance:
        for trace in dataset.read_training_traces(inputs):
            row = row_of(trace, chat)
            if rows.setdefault(trace.id, row) != row:
                raise dataset.conflict(trace.id)
            advance(1)
    return list(rows.values())


def _finish(draft: Draft) -> Manifest:
    draft.manifest.files = [
        FileEntry(file.name, None, file.stat().st_size, file_sha256(file))
        for file in versions.content_files(draft.path)
    ]
    weights = [
        (entry.name, entry.sha256) for entry in draft.manifest.files if entry.name != "losses.jsonl"
    ]
    draft.manifest.id = content_hash(weights)
    return draft.finish(model_card(draft.manifest))

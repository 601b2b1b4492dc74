"""What is checked before any training: rows that would be cut, rows that teach nothing."""

from collections.abc import Sequence

from distillpipe.errors import DataError
from distillpipe.training.rows import Row

NUM_NAMED = 3  # rows named in an error


def check(rows: Sequence[Row], max_length: int) -> None:
    """Refuse, with the counts, what training would have to cut or leave out."""
    if not rows:
        raise DataError("no rows to train on: every input is empty")
    too_long = [row for row in rows if len(row.ids) > max_length]
    if too_long:
        longest = max(len(row.ids) for row in too_long)
        over = sum(len(row.ids) - max_length for row in too_long)
        named = ", ".join(row.id for row in too_long[:NUM_NAMED])
        raise DataError(
            f"{len(too_long):,} of {len(rows):,} rows are longer than --max-length {max_length:,} "
            f"tokens, {over:,} tokens in all (the longest row has {longest:,}; {named}, ...): "
            f"give --max-length {longest}, or drop them with `distill filter --max-reasoning-tokens`"
        )
    bare = [row for row in rows if row.num_supervised == 0]
    if bare:
        raise DataError(f"{len(bare):,} rows have nothing to learn from: {bare[0].id}, ...")

"""Which tokens of one model are tokens of another: what labels need to be carried over.

Families share a vocabulary and differ in what was added to it: R1-Distill-Qwen has Qwen2.5's 151,643 ordinary
tokens under the same ids, other special ones, and its embedding is padded to another size. So ordinary
tokens have to be the same, byte for byte and id for id; special ones are mapped by their role (end of
the turn, opening and closing tag of the thought), then by their text; what has no counterpart is masked.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import bytes_hash
from distillpipe.data.store.labels import Vocabulary
from distillpipe.models.chat import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOT_THERE = -1


def vocabulary_of(chat: Chat) -> Vocabulary:
    """What `counterparts` compares; a few tenths of a second for 150,000 tokens."""
    added = {token: str(text) for token, text in chat.tokenizer.added_tokens_decoder.items()}
    by_text = {text: token for token, text in added.items()}
    pieces = sorted(
        (token, piece) for piece, token in chat.tokenizer.get_vocab().items() if token not in added
    )
    listed = "\n".join(f"{token} {piece}" for token, piece in pieces)
    first = chat.ending_id
    return Vocabulary(
        ordinary=bytes_hash(listed.encode()),
        num_ordinary=len(pieces),
        special=added,
        ends=(first, *sorted(chat.end_ids - {first})),
        think_open=by_text.get(chat.turn.tags.open),
        think_close=by_text.get(chat.turn.tags.close),
    )


def counterparts(
    teacher: Vocabulary, student: Vocabulary, whose: str = "the teacher"
) -> npt.NDArray[np.int64]:
    """The student's id of each of the teacher's tokens, NOT_THERE where it has none.

    Raises UsageError where the ordinary tokens are others; `whose` says there whose they are.
    """
    if teacher.ordinary != student.ordinary:
        raise UsageError(
            f"{whose}: another vocabulary than the student's ({teacher.num_ordinary:,} ordinary tokens, "
            f"the student has {student.num_ordinary:,}, or other ones): take a student of the teacher's "
            "family, or train without it"
        )
    found = np.arange(max([*teacher.special, teacher.num_ordinary - 1]) + 1)
    found[list(teacher.special)] = NOT_THERE
    by_role = [
        (teacher.ends[0], student.ends[0]),
        (teacher.think_open, student.think_open),
        (teacher.think_close, student.think_close),
    ]
    by_text = {text: token for token, text in student.special.items()}
    mapped = {token: counterpart for token, counterpart in by_role if token is not None}
    for token, text in teacher.special.items():
        if token not in mapped and by_text.get(text) not in mapped.values():
            mapped[token] = by_text.get(
                text
            )  # never two tokens on one: their mass would count twice
    for token, counterpart in mapped.items():
        found[token] = NOT_THERE if counterpart is None else counterpart
    return found


def token_bytes(tokenizer: "PreTrainedTokenizerBase") -> dict[int, bytes]:
    """The bytes that each token stands for, of a byte-level tokenizer or one with byte fallback."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    added = {token: str(text) for token, text in tokenizer.added_tokens_decoder.items()}
    pieces = {token: piece for piece, token in tokenizer.get_vocab().items() if token not in added}
    byte_level = all(character in byte_of for piece in pieces.values() for character in piece)
    found = {token: text.encode() for token, text in added.items()}
    for token, piece in pieces.items():
        if byte_level:
            found[token] = bytes(byte_of[character] for character in piece)
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            found[token] = bytes([int(piece[3:5], 16)])
        else:
            found[token] = piece.replace("▁", " ").encode()
    return found

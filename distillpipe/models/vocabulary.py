"""Map the tokens of a teacher to those of a student, so that the teacher's soft labels can be used.

Models of a family share their ordinary tokens and differ in special tokens: R1-Distill-Qwen has Qwen2.5's 151,643
ordinary tokens with the same ids, other special tokens, and another padding of the embedding. So ordinary tokens
must be equal, in bytes and ids. Special tokens are mapped by role (end of turn, opening and closing thinking tag),
then by text. Tokens without a counterpart are masked.
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
    """The vocabulary of a tokenizer, for `counterparts`. Takes some 0.3 s for 150,000 tokens."""
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
    """The student's token id for each of the teacher's, `NOT_THERE` if there is none. Shape (teacher ids,).

    Raises UsageError if the ordinary tokens differ. `whose` names the owner of the teacher's vocabulary there.
    """
    if teacher.ordinary != student.ordinary:
        raise UsageError(
            f"{whose}: another vocabulary than the student's ({teacher.num_ordinary:,} ordinary tokens, the "
            f"student has {student.num_ordinary:,}, or other ones): choose a student of the teacher's "
            "family, or train without it"
        )
    student_ids = np.arange(max([*teacher.special, teacher.num_ordinary - 1]) + 1)
    student_ids[list(teacher.special)] = NOT_THERE
    by_role = [
        (teacher.ends[0], student.ends[0]),
        (teacher.think_open, student.think_open),
        (teacher.think_close, student.think_close),
    ]
    by_text = {text: token for token, text in student.special.items()}
    mapped = {token: counterpart for token, counterpart in by_role if token is not None}
    for token, text in teacher.special.items():
        # Never map two tokens to one: the probability of the student's token would count twice.
        if token not in mapped and by_text.get(text) not in mapped.values():
            mapped[token] = by_text.get(text)
    for token, counterpart in mapped.items():
        student_ids[token] = NOT_THERE if counterpart is None else counterpart
    return student_ids


def token_bytes(tokenizer: "PreTrainedTokenizerBase") -> dict[int, bytes]:
    """The bytes of each token, of a byte-level tokenizer or a tokenizer with byte fallback."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    added = {token: str(text) for token, text in tokenizer.added_tokens_decoder.items()}
    pieces = {token: piece for piece, token in tokenizer.get_vocab().items() if token not in added}
    is_byte_level = all(character in byte_of for piece in pieces.values() for character in piece)
    bytes_of = {token: text.encode() for token, text in added.items()}
    for token, piece in pieces.items():
        if is_byte_level:
            bytes_of[token] = bytes(byte_of[character] for character in piece)
        elif len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            bytes_of[token] = bytes([int(piece[3:5], 16)])
        else:
            bytes_of[token] = piece.replace("▁", " ").encode()
    return bytes_of

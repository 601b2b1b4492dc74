"""Why a completion ended, in the words of all vendors. One table for servers and for imported rows.

Each word stands as it is compared: in lower case, with `_` for spaces and hyphens, without `finish_reason_` before it.
"""

import re
from typing import Literal

from distillpipe.base.records import FinishReason

Ending = FinishReason | Literal["filtered", "failed", "tool_call"]
"""`filtered`: the server withheld the answer; `failed`: it broke off and may succeed when asked again; `tool_call`:
the model called a tool, which is an answer only if there is text beside the call."""

_WORDS: dict[Ending, str] = {
    "stop": "stop stopped eos eos_token end_token stop_token stop_word stop_str stop_sequence stop_sequences "
    "end_turn end_of_turn end_of_sequence end_of_text end ended complete completed completion done finish "
    "finished success natural normal matched_stop stop_reason_stop endturn im_end",
    "length": "length max_tokens max_token max_length max_new_tokens max_output_tokens max_completion_tokens "
    "max_tokens_reached max_tokens_exceeded model_length token_limit token_limit_reached error_limit limit "
    "context_length context_limit context_window context_length_exceeded context_window_exceeded "
    "model_context_window_exceeded model_context_length_exceeded truncated incomplete max_time time_limit timeout "
    "abort aborted cancel cancelled canceled user_cancelled pause_turn budget_exceeded length_limit",
    "repetition": "repetition repetition_detected repetitive loop",
    "filtered": "content_filter content_filtered filter filtered safety unsafe recitation blocklist "
    "prohibited_content spii image_safety language refusal refused sensitive error_toxic guardrail_intervened "
    "guardrail guardrails blocked block moderation risk policy_violation data_inspection_failed",
    "failed": "error failed failure internal_error server_error network_error insufficient_system_resource "
    "unexpected_tool_call malformed_response",
    "tool_call": "tool_calls tool_call tool_use function_call malformed_function_call",
}  # fmt: skip
ENDINGS: dict[str, Ending] = {
    word: kind for kind, words in _WORDS.items() for word in words.split()
}

_SEPARATORS = re.compile(r"[\s.-]+")


def ending(reason: object) -> Ending | None:
    """What a recorded reason means; None for a word that is not in the table, null and what is no text."""
    if not isinstance(reason, str):
        return None
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason.strip()[:80])  # maxTokens, endTurn
    word = _SEPARATORS.sub("_", spaced).lower().removeprefix("finish_reason_")
    return ENDINGS.get(word.strip("_"))

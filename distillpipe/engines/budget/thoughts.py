"""Reads and edits reasoning as token ids: carries out what `budget.policy` decides.

Sampled tokens are kept and added text is tokenized separately. Only if a cut falls inside a token is the rest
of that token tokenized again. Token counts are those of `Chat.count`, which the row stores.
"""

from bisect import bisect_right
from typing import NamedTuple

from distillpipe.base.options import Budget
from distillpipe.engines.budget.policy import DelimiterTokens, TokenLimits
from distillpipe.models.chat import Chat
from distillpipe.models.steps import find_steps


class Thought(NamedTuple):
    """The reasoning of a completion so far."""

    ids: list[int]
    "the completion up to the end of its reasoning: with the opening delimiter, without the closing one"
    num_reasoning: int
    is_closed: bool
    "whether the model has written the closing delimiter"


class ThoughtEditor:
    """Reads, continues and ends reasoning for one chat template and one budget."""

    def __init__(self, chat: Chat, budget: Budget) -> None:
        self._chat = chat
        self._budget = budget
        turn = chat.turn
        self.opening_ids = chat.start_ids(turn.opening)
        "the start of a completion: opens the reasoning if the prompt does not"
        self.wait_ids = chat.more_ids(budget.wait_text)
        self.stop_ids: tuple[int, ...] = () if chat.close_id is None else (chat.close_id,)
        "tokens that end reasoning; empty if the delimiter is several tokens, which are found in the text"
        self.delimiters = DelimiterTokens(
            len(self.opening_ids),
            len(chat.more_ids(turn.middle + budget.end_text)),
            1 if self.stop_ids else len(turn.tags.close),
        )

    def read(self, ids: list[int]) -> Thought:
        """The reasoning of a completion, without an end token."""
        text = self._chat.text(ids)
        parts = self._chat.split(text)
        # closing the reasoning strips its trailing white space, so it is not counted
        parts = parts._replace(reasoning=parts.reasoning.rstrip())
        num_reasoning = self._chat.count([], ids, parts).reasoning
        if not parts.middle:
            thought = ids[:-1] if ids and ids[-1] in self._chat.end_ids else ids
            return Thought(thought, num_reasoning, is_closed=False)
        end = text.find(
            self._chat.turn.tags.close, len(parts.opening) + len(parts.reasoning.rstrip())
        )
        if end < 0:  # an answer without a thought, behind its own mark
            return Thought(self.opening_ids, 0, is_closed=True)
        return Thought(self._cut(ids, text, end), num_reasoning, is_closed=True)

    def close(self, thought: list[int]) -> list[int]:
        """Append the closing delimiter and the text that begins the response."""
        middle = self._chat.turn.middle
        if self._chat.text(thought)[-1:].isspace():
            middle = middle.lstrip()
        return thought + self._chat.more_ids(middle + self._budget.end_text)

    def force_end(self, thought: list[int], limits: TokenLimits) -> list[int]:
        """Cut reasoning to the limit and close it: after the last whole step if possible, else at a token."""
        assert limits.thought is not None
        high, low = limits.thought, self._budget.min_reasoning_tokens
        if not high:  # no white space either, it would count as reasoning
            turn = self._chat.turn
            empty = turn.opening.rstrip() + turn.middle.lstrip()
            return self._chat.start_ids(empty + self._budget.end_text)
        text = self._chat.text(thought)
        if self._budget.end_at == "step":
            start = len(self._chat.split(text).opening)
            steps = find_steps(text[start:], len(text) - start)
            num_fitting = bisect_right(
                steps.ends,
                high,
                key=lambda end: self.num_reasoning(
                    self.close(self._cut(thought, text, start + end))
                ),
            )
            for end in reversed(steps.ends[:num_fitting]):
                if not steps.is_whole(end):  # cheap; counting reads the whole reasoning
                    continue
                closed = self.close(self._cut(thought, text, start + end))
                num_reasoning = self.num_reasoning(closed)
                if num_reasoning < max(low, 1):
                    break
                if num_reasoning <= high:
                    return closed
        return self._force_end_at_token(thought, text, high)

    def num_reasoning(self, ids: list[int]) -> int:
        return self._chat.count([], ids, self._chat.split(self._chat.text(ids))).reasoning

    def _force_end_at_token(self, thought: list[int], text: str, high: int) -> list[int]:
        """The longest prefix that fits, closed. It ends inside a character only to reach the minimum."""
        low, torn = self._budget.min_reasoning_tokens, None
        whole = text.rstrip("\ufffd")  # sampling may have stopped inside a character of four tokens
        length = len(thought)
        while length > len(self.opening_ids):
            closed = self.close(thought[:length])
            num_reasoning = self.num_reasoning(closed)
            if num_reasoning > high:
                length -= max(1, (num_reasoning - high) // 2)
                continue
            if whole.startswith(self._chat.text(thought[:length])):
                return closed if torn is None or num_reasoning >= low else torn
            torn = torn or closed  # the last token holds only a part of a character
            length -= 1
        return torn or self.close(self.opening_ids)

    def _cut(self, ids: list[int], text: str, end: int) -> list[int]:
        """Ids whose text is `text[:end]`; `text` is the text of `ids`."""
        before = ids[: ids.index(self.stop_ids[0])] if ids[-1:] == list(self.stop_ids) else ids
        if len(self._chat.text(before)) == end:  # nearly always: sampling stopped there
            return before
        length = bisect_right(
            range(len(ids)), end, key=lambda number: len(self._chat.text(ids[: number + 1]))
        )
        while not text.startswith(prefix := self._chat.text(ids[:length])) or len(prefix) > end:
            length -= 1
        return ids[:length] + self._chat.more_ids(text[len(prefix) : end])

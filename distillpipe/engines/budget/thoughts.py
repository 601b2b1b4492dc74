"""Thoughts in token ids: read, taken up again and ended. What `budget` decides is carried out here.

Sampled tokens stay as they are and what is added is encoded by itself; only where a thought is cut inside
of a token is the rest of that token encoded anew. Counts are those of `Chat.count`, which the row will say.
"""

from bisect import bisect_right
from typing import NamedTuple

from distillpipe.base.options import Budget
from distillpipe.engines.budget.policy import Delimiters, Limits
from distillpipe.models.chat import Chat
from distillpipe.models.steps import find_steps


class Thought(NamedTuple):
    """What a completion has thought so far."""

    ids: list[int]
    "the completion up to the end of its thought, opening delimiter included, without the closing one"
    num_reasoning: int
    is_closed: bool
    "the model has written the closing delimiter"


class Thoughts:
    """Reads and writes the thoughts of one chat under one budget."""

    def __init__(self, chat: Chat, budget: Budget) -> None:
        self._chat = chat
        self._budget = budget
        turn = chat.turn
        self.opening_ids = self._chat.ids(turn.opening)
        "what a completion begins with: a thought is opened for the model where the prompt does not"
        self.wait_ids = self._chat.ids(budget.wait_text)
        self.stop_ids: tuple[int, ...] = () if chat.close_id is None else (chat.close_id,)
        "end a thought; none where the delimiter is several tokens: it is found in the text then"
        self.around = Delimiters(
            len(self.opening_ids),
            len(self._chat.ids(turn.middle + budget.end_text)),
            1 if self.stop_ids else len(turn.tags.close),
        )

    def read(self, ids: list[int]) -> Thought:
        """The thought of a completion; an end token is no part of it."""
        text = self._chat.text(ids)
        parts = self._chat.split(text)
        parts = parts._replace(reasoning=parts.reasoning.rstrip())  # what is left once it is closed
        counted = self._chat.count([], ids, parts)
        if not parts.middle:
            thought = ids[:-1] if ids and ids[-1] in self._chat.end_ids else ids
            return Thought(thought, counted.reasoning, is_closed=False)
        end = text.index(self._chat.turn.tags.close, len(parts.opening))
        return Thought(self._cut(ids, text, end), counted.reasoning, is_closed=True)

    def closed(self, thought: list[int]) -> list[int]:
        """A thought with its end and what begins the response."""
        middle = self._chat.turn.middle
        if self._chat.text(thought)[-1:].isspace():
            middle = middle.lstrip()
        return thought + self._chat.ids(middle + self._budget.end_text)

    def ended(self, thought: list[int], allowed: Limits) -> list[int]:
        """A thought ended for the model: no longer than allowed, if possible at the last whole step."""
        assert allowed.thought is not None
        most, low = allowed.thought, self._budget.min_reasoning_tokens
        if not most:  # white space, too, would be reasoning
            turn = self._chat.turn
            empty = turn.opening.rstrip() + turn.middle.lstrip()
            return self._chat.ids(empty + self._budget.end_text)
        text = self._chat.text(thought)
        if self._budget.end_at == "step":
            start = len(self._chat.split(text).opening)
            steps = find_steps(text[start:], len(text) - start)
            num_fitting = bisect_right(
                steps.ends, most, key=lambda end: self._num_up_to(thought, text, start + end)
            )
            for end in reversed(steps.ends[:num_fitting]):
                if not steps.is_whole(end):  # cheap, where counting takes as long as the thought
                    continue
                ended = self.closed(self._cut(thought, text, start + end))
                num_reasoning = self.num_reasoning(ended)
                if num_reasoning < max(low, 1):
                    break
                if num_reasoning <= most:
                    return ended
        return self._ended_at_token(thought, text, most)

    def num_reasoning(self, ids: list[int]) -> int:
        return self._chat.count([], ids, self._chat.split(self._chat.text(ids))).reasoning

    def _num_up_to(self, thought: list[int], text: str, end: int) -> int:
        """Tokens of reasoning of a thought that is ended at a character."""
        return self.num_reasoning(self.closed(self._cut(thought, text, end)))

    def _ended_at_token(self, thought: list[int], text: str, most: int) -> list[int]:
        """The longest beginning of a thought that fits; half a character only where the minimum needs it."""
        low, torn = self._budget.min_reasoning_tokens, None
        whole = text.rstrip("\ufffd")  # sampling may have stopped inside a character of four tokens
        number = len(thought)
        while number > len(self.opening_ids):
            ended = self.closed(thought[:number])
            num_reasoning = self.num_reasoning(ended)
            if num_reasoning > most:
                number -= max(1, (num_reasoning - most) // 2)
                continue
            if whole.startswith(self._chat.text(thought[:number])):
                return ended if torn is None or num_reasoning >= low else torn
            torn = torn or ended
            number -= 1
        return torn or self.closed(self.opening_ids)

    def _cut(self, ids: list[int], text: str, end: int) -> list[int]:
        """Ids whose text is `text[:end]`, `text` being that of `ids`."""
        before = ids[: ids.index(self.stop_ids[0])] if ids[-1:] == list(self.stop_ids) else ids
        if len(self._chat.text(before)) == end:  # nearly always: it is what sampling stopped at
            return before
        number = bisect_right(
            range(len(ids)), end, key=lambda number: len(self._chat.text(ids[: number + 1]))
        )
        while not text.startswith(kept := self._chat.text(ids[:number])) or len(kept) > end:
            number -= 1
        return ids[:number] + self._chat.ids(text[len(kept) : end])

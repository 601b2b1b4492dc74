"""Which rows a run wants of a model: known by their keys before one of them is sampled."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.options import SamplingOptions, row_key
from distillpipe.base.progress import say
from distillpipe.base.records import Message, Problem, trace_id
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data import sources
from distillpipe.data.formats.fields import extra_of
from distillpipe.data.store import spending
from distillpipe.data.store.jsonl import Spool
from distillpipe.models.chat import Chat, load_chat, with_template_text
from distillpipe.models.lookup import AnyModel, Model
from distillpipe.models.tokens import find_tokenizer
from distillpipe.sampling.prompts import (
    CODE_FORMAT,
    Order,
    asked,
    conversation,
    livecodebench_format,
    option_order,
)


def content_of_sampling(options: SamplingOptions) -> dict[str, object]:
    """What decides the rows of a version, for its fingerprint."""
    bounded_by = {} if options.budget is None else {"budget": options.budget}
    labelled = {} if options.soft_labels is None else {"soft_labels": options.soft_labels}
    return {
        "prompting": with_template_text(options.prompting),
        "plan": options.plan,
        "sampling": options.sampling,
        **bounded_by,
        **labelled,
    }


class Wanted(NamedTuple):
    number: int
    "of the problem in the plan"
    sample: int


class Asked(NamedTuple):
    problem: Problem
    sample: int
    messages: list[Message]
    prompt_ids: list[int]
    extra: str | None
    "what the row says besides: in which order it was shown the options"


class _Prompt(NamedTuple):
    messages: list[Message]
    ids: list[int]


class _Planned(msgspec.Struct, frozen=True):
    """What is kept of a problem."""

    problem: Problem
    prompt_ids: list[int]
    "of its prompt; that of one whose samples are shown options in their own orders is rendered for each"


class LeftOut(msgspec.Struct, frozen=True):
    """A problem that no row could be planned of, and why."""

    problem: Problem
    error: str


class RowPlan:
    """The rows that one run wants of one model, by row key. Problems lie on disk, in `folder`."""

    def __init__(
        self, model: AnyModel, chat: Chat | None, options: SamplingOptions, folder: Path
    ) -> None:
        self.model = model
        self.chat = chat
        self.options = options
        self.wanted: dict[str, Wanted] = {}
        self.num_duplicates = 0
        self._planned = Spool(folder, _Planned)
        self.left_out = Spool(folder, LeftOut)
        "problems whose reading or rendering met an internal error"
        self._problem_ids: list[str] = []

    def plan(self, problems: Iterator[Problem]) -> None:
        """Want `num_samples` rows of each problem; rows with equal keys are wanted once."""
        for problem in problems:
            prompts = guarded(self._prompts, problem)
            if isinstance(prompts, InternalError):
                self.leave_out(problem, prompts)
                continue
            keys = [self._key(prompt, sample) for sample, prompt in enumerate(prompts)]
            new = {key: sample for sample, key in enumerate(keys) if key not in self.wanted}
            self.num_duplicates += len(keys) - len(new)
            if new:
                number = len(self._planned)
                self._planned.append(_Planned(problem, prompts[0].ids))
                self._problem_ids.append(problem.problem_id)
                self.wanted.update((key, Wanted(number, sample)) for key, sample in new.items())
        if self.num_duplicates:
            say(f"{self.num_duplicates:,} rows were asked for twice (equal prompts): sampled once")

    def read(self, reference: str) -> None:
        """Plan the problems of a reference; one whose reading meets an internal error is left out."""
        prompting, limit = self.options.prompting, self.options.plan.limit
        self.plan(sources.read_problems(reference, prompting, limit, self.leave_out))

    def leave_out(self, problem: Problem, error: InternalError) -> None:
        """Note a problem that no row can be planned of."""
        self.left_out.append(LeftOut(problem, error.description))

    def problems(self) -> Iterator[Problem]:
        """The distinct problems, in their order; those that were left out last."""
        yield from self._planned_problems()
        yield from (self.left_out[number].problem for number in range(len(self.left_out)))

    def _planned_problems(self) -> Iterator[Problem]:
        seen: set[str] = set()
        for number, problem_id in enumerate(self._problem_ids):
            if problem_id not in seen:
                seen.add(problem_id)
                yield self._planned[number].problem

    def most_prompt_tokens(self) -> int:
        """Of any prompt of the plan, as a server may count."""
        prompts = (
            self._messages(problem, self._order(problem, 0)) for problem in self._planned_problems()
        )
        return max(map(spending.most_prompt_tokens, prompts), default=0)

    def row_id(self, key: str) -> str:
        """The id of a row that is wanted."""
        return trace_id(self._problem_ids[self.wanted[key].number], key)

    def problem_of(self, key: str) -> Problem:
        """The problem of a row that is wanted."""
        return self._planned[self.wanted[key].number].problem

    def asked(self, key: str) -> Asked:
        """What is asked for a row that is wanted."""
        number, sample = self.wanted[key]
        problem, prompt_ids = msgspec.structs.astuple(self._planned[number])
        order = self._order(problem, sample)
        messages = self._messages(problem, order)
        if order is None:
            return Asked(problem, sample, messages, prompt_ids, None)
        extra = extra_of({"option_order": order})
        return Asked(problem, sample, messages, self._prompt_ids(messages), extra)

    def drawn(self, number: int) -> list[str]:
        """Keys of a few of the rows: of as many problems as there are, drawn by the seed of the run.

        What is drawn for a smaller number is part of what is drawn for a larger one.
        """

        def place(key: str) -> tuple[int, float]:
            return self.wanted[key].sample, uniform(self.options.plan.seed, key)

        return heapq.nsmallest(number, self.wanted, place)

    def _prompts(self, problem: Problem) -> list[_Prompt]:
        """What each sample of a problem is asked; most have one prompt, which is rendered once."""
        found: dict[Order | None, _Prompt] = {}
        orders = [self._order(problem, sample) for sample in range(self.options.plan.num_samples)]
        for order in orders:
            if order not in found:
                messages = self._messages(problem, order)
                found[order] = _Prompt(messages, self._prompt_ids(messages))
        return [found[order] for order in orders]

    def _key(self, prompt: _Prompt, sample: int) -> str:
        return row_key(
            prompt.ids or prompt.messages,
            self.options.sampling,
            self.model.identity,
            seed=self.options.plan.seed,
            sample=sample,
            budget=self.options.budget,
        )

    def _order(self, problem: Problem, sample: int) -> Order | None:
        return option_order(problem, self.options.plan.seed, sample)

    def _messages(self, problem: Problem, order: Order | None) -> list[Message]:
        prompting = self.options.prompting
        if CODE_FORMAT in prompting.prompt_template:
            return conversation(problem.problem, prompting, livecodebench_format(problem))
        return conversation(asked(problem, order), prompting)

    def _prompt_ids(self, messages: list[Message]) -> list[int]:
        """Ids of the rendered messages; none where a server renders them."""
        return [] if self.chat is None else self.chat.prompt_ids(messages)


def load_model_chat(model: AnyModel, options: SamplingOptions) -> Chat | None:
    """The chat of a model; null for a served one whose server renders and reads by itself.

    Raises UsageError for options that a server does not know, or that only a server knows.
    """
    prompting, sampling = options.prompting, options.sampling
    if isinstance(model, Model):
        if sampling.extra_body is not None:
            raise UsageError("--extra-body is for a server: give --base-url, or leave it out")
        if prompting.tokenizer is not None:
            raise UsageError("--tokenizer is for a server: a model that is loaded has its own")
        return load_chat(model.tokenizer_folder, model.name, prompting.chat_template)
    is_rendered_here = prompting.tokenizer is not None
    ours = {
        "--chat-template": None if is_rendered_here else prompting.chat_template,
        "--max-model-len": sampling.max_model_len,
        "--stop-loops": sampling.stop_loops,
    }
    if given := [flag for flag, value in ours.items() if value]:
        raise UsageError(f"{', '.join(given)}: not for a server, which has its own: leave it out")
    if prompting.tokenizer is not None:
        tokenizer = find_tokenizer(prompting.tokenizer)
        return load_chat(tokenizer.folder, tokenizer.name, prompting.chat_template)
    if options.budget is not None:
        raise UsageError(
            "a budget of the thought on a server needs --tokenizer MODEL: prompts are then rendered here "
            "and thoughts continued over its /completions. A server with a cap of its own takes it in "
            "--extra-body, as vLLM with a --reasoning-config does: "
            '{"thinking_token_budget": 4096}'
        )
    return None

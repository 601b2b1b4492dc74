"""The row plan: the keys of all rows that a run samples from a model, computed before sampling."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.hashing import uniform
from distillpipe.base.options import SamplingOptions, row_key
from distillpipe.base.progress import say
from distillpipe.base.records import Message, Problem, trace_id
from distillpipe.base.rowguard import InternalError, guarded
from distillpipe.data import sources
from distillpipe.data.formats.fields import extra_of
from distillpipe.data.sources import Problems
from distillpipe.data.store import spending
from distillpipe.data.store.jsonl import Spool
from distillpipe.models.chat import Chat, load_chat, with_template_text
from distillpipe.models.lookup import AnyModel, Model
from distillpipe.models.tokens import find_tokenizer
from distillpipe.sampling.prompts import (
    CODE_FORMAT,
    Order,
    conversation,
    livecodebench_format,
    option_order,
    question_text,
)


def content_of_sampling(options: SamplingOptions) -> dict[str, object]:
    """The options that decide the rows of a version, for its fingerprint."""
    # absent options leave no key, so that fingerprints of older versions stay the same
    budget = {} if options.budget is None else {"budget": options.budget}
    soft_labels = {} if options.soft_labels is None else {"soft_labels": options.soft_labels}
    return {
        "prompting": with_template_text(options.prompting),
        "plan": options.plan,
        "sampling": options.sampling,
        **budget,
        **soft_labels,
    }


class PlannedRow(NamedTuple):
    """A row of the plan: its problem and which sample of the problem it is."""

    problem_number: int
    "position of the problem in the plan"
    sample: int


class RowPrompt(NamedTuple):
    """The prompt of one row, and what the row stores besides the completion."""

    problem: Problem
    sample: int
    messages: list[Message]
    prompt_ids: list[int]
    extra: str | None
    "JSON for the row's `extra`: the order of the options in the prompt"


class _Prompt(NamedTuple):
    messages: list[Message]
    ids: list[int]


class _PlannedProblem(msgspec.Struct, frozen=True):
    """A problem of the plan, as stored on disk."""

    problem: Problem
    prompt_ids: list[int]
    "of the first sample; with shuffled options the prompt of each sample is rendered again"


class SkippedProblem(msgspec.Struct, frozen=True):
    """A problem that met an internal error while it was read or rendered."""

    problem: Problem
    error: str


class RowPlan:
    """The rows that one run samples from one model, by row key. Problems are stored on disk, in `folder`."""

    def __init__(
        self, model: AnyModel, chat: Chat | None, options: SamplingOptions, folder: Path
    ) -> None:
        self.model = model
        self.chat = chat
        self.options = options
        self.rows: dict[str, PlannedRow] = {}
        self.num_duplicates = 0
        self.skipped = Spool(folder, SkippedProblem)
        self._planned = Spool(folder, _PlannedProblem)
        self._problem_ids: list[str] = []

    def add(self, problems: Iterator[Problem]) -> None:
        """Plan `num_samples` rows of each problem; rows with equal keys are planned once."""
        for problem in problems:
            prompts = guarded(self._prompts, problem)
            if isinstance(prompts, InternalError):
                self.skip(problem, prompts)
                continue
            keys = [self._key(prompt, sample) for sample, prompt in enumerate(prompts)]
            new = {key: sample for sample, key in enumerate(keys) if key not in self.rows}
            self.num_duplicates += len(keys) - len(new)
            if new:
                number = len(self._planned)
                self._planned.append(_PlannedProblem(problem, prompts[0].ids))
                self._problem_ids.append(problem.problem_id)
                self.rows.update((key, PlannedRow(number, sample)) for key, sample in new.items())
        if self.num_duplicates:
            say(
                f"{self.num_duplicates:,} rows have the same prompt as another row: each is sampled once"
            )

    def read(self, problems: Problems) -> None:
        """Read and plan problems; one that meets an internal error is skipped."""
        prompting, limit = self.options.prompting, self.options.plan.limit
        self.add(sources.read_problems(problems, prompting, limit, self.skip))

    def skip(self, problem: Problem, error: InternalError) -> None:
        """Record a problem that cannot be planned."""
        self.skipped.append(SkippedProblem(problem, error.description))

    def problems(self) -> Iterator[Problem]:
        """The distinct problems in input order, then the skipped ones."""
        yield from self._planned_problems()
        yield from (self.skipped[number].problem for number in range(len(self.skipped)))

    def _planned_problems(self) -> Iterator[Problem]:
        seen: set[str] = set()
        for number, problem_id in enumerate(self._problem_ids):
            if problem_id not in seen:
                seen.add(problem_id)
                yield self._planned[number].problem

    def max_prompt_tokens(self) -> int:
        """Upper bound on the tokens of the longest prompt, as a server may count them."""
        prompts = (
            self._messages(problem, self._order(problem, 0)) for problem in self._planned_problems()
        )
        return max(map(spending.most_prompt_tokens, prompts), default=0)

    def row_id(self, key: str) -> str:
        """The id of a planned row."""
        return trace_id(self._problem_ids[self.rows[key].problem_number], key)

    def problem_of(self, key: str) -> Problem:
        """The problem of a planned row."""
        return self._planned[self.rows[key].problem_number].problem

    def prompt(self, key: str) -> RowPrompt:
        """The prompt of a planned row."""
        number, sample = self.rows[key]
        problem, prompt_ids = msgspec.structs.astuple(self._planned[number])
        order = self._order(problem, sample)
        messages = self._messages(problem, order)
        if order is None:
            return RowPrompt(problem, sample, messages, prompt_ids, None)
        extra = extra_of({"option_order": order})
        return RowPrompt(problem, sample, messages, self._prompt_ids(messages), extra)

    def pilot_keys(self, number: int) -> list[str]:
        """Keys of `number` rows for a pilot, drawn by the run's seed from as many problems as possible.

        A smaller pilot is part of a larger one.
        """

        def rank(key: str) -> tuple[int, float]:
            return self.rows[key].sample, uniform(self.options.plan.seed, key)

        return heapq.nsmallest(number, self.rows, rank)

    def _prompts(self, problem: Problem) -> list[_Prompt]:
        """The prompt of each sample of a problem. Equal prompts are rendered once."""
        by_order: dict[Order | None, _Prompt] = {}
        orders = [self._order(problem, sample) for sample in range(self.options.plan.num_samples)]
        for order in orders:
            if order not in by_order:
                messages = self._messages(problem, order)
                by_order[order] = _Prompt(messages, self._prompt_ids(messages))
        return [by_order[order] for order in orders]

    def _key(self, prompt: _Prompt, sample: int) -> str:
        rendered: Any = prompt.ids or prompt.messages
        if given := self.options.prompting.template.template_option:
            rendered = (rendered, given)
        return row_key(
            rendered,
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
        return conversation(question_text(problem, order), prompting)

    def _prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of the rendered messages; empty if a server renders them."""
        return [] if self.chat is None else self.chat.prompt_ids(messages)


def load_model_chat(model: AnyModel, options: SamplingOptions) -> Chat | None:
    """The chat template of a model; None if a server renders prompts and separates reasoning itself.

    Raises UsageError for options that a server does not support, or that need a server.
    """
    prompting, sampling = options.prompting, options.sampling
    if prompting.template.no_thinking and options.budget is not None:
        raise UsageError(
            "--no-thinking leaves no reasoning to bound: leave out the options of budget forcing"
        )
    if isinstance(model, Model):
        if sampling.extra_body is not None:
            raise UsageError("--extra-body needs a server: give --base-url, or leave it out")
        if prompting.tokenizer is not None:
            raise UsageError(
                "--tokenizer needs a server: a local model has its own tokenizer, leave it out"
            )
        return load_chat(
            model.tokenizer_folder, model.name, prompting.chat_template, prompting.template
        )
    is_rendered_here = prompting.tokenizer is not None
    local_only = {
        "--chat-template": None if is_rendered_here else prompting.chat_template,
        "--template-name": None if is_rendered_here else prompting.template.template_name,
        "--think-open": None if is_rendered_here else prompting.template.think_open,
        "--think-close": None if is_rendered_here else prompting.template.think_close,
        "--max-model-len": sampling.max_model_len,
    }
    if flags := [flag for flag, value in local_only.items() if value]:
        raise UsageError(f"{', '.join(flags)}: a server uses its own setting: leave the option out")
    if prompting.tokenizer is not None:
        tokenizer = find_tokenizer(prompting.tokenizer)
        return load_chat(
            tokenizer.folder, tokenizer.name, prompting.chat_template, prompting.template
        )
    if prompting.template.no_thinking and not prompting.template.template_option:
        raise UsageError(
            "--no-thinking: which variable of the server's chat template switches thinking off is not known: give "
            "--tokenizer MODEL to learn it, or name it with --template-option KEY=VALUE"
        )
    if options.budget is not None:
        raise UsageError(
            "budget forcing on a server needs --tokenizer MODEL: prompts are then rendered here and reasoning "
            "is continued over the server's /completions. A server with its own limit takes it in "
            "--extra-body; vLLM with --reasoning-config takes "
            '{"thinking_token_budget": 4096}'
        )
    return None

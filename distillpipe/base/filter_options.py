"""The options of `filter`."""

import typing
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.option import Option, Options, check_names, nearest
from distillpipe.base.options import (
    AcceptErrors,
    AnswerFormOption,
    CodePackages,
    CodeRulesOption,
    EndText,
    EngineOptions,
    Sampling,
    Seed,
    Verifier,
)
from distillpipe.base.records import Verdict

Preference = Literal["random", "shortest", "longest"]
Strategy = Literal["random", "shortest", "longest", "diverse", "s1"]

RULES, SELECTION, FORCING = "Rules", "Difficulty and selection", "Forcing"


class StrategyOptions(Options, frozen=True, kw_only=True):
    """The keys of `--strategy-option KEY=VALUE`, which reproduce the selection of s1K."""

    preselect: tuple[str, ...] = ()
    "sources whose correct rows are taken before any row is drawn"
    preselect_min_tokens: tuple[int, ...] = ()
    "minimum reasoning tokens of such a row, for each source"
    follow: tuple[str, ...] = ()
    "sources that set the probabilities of the domains for the last rows"
    follow_weight: tuple[float, ...] = ()
    "weight of each of these sources; empty: equal weights"
    num_follow: int = 0
    "number of these last rows"


def read_strategy(arguments: Sequence[str]) -> StrategyOptions:
    """Parse `["preselect=AIME,gpqa", "num_follow=3"]`. Raises UsageError for an unknown key or a wrong value."""
    fields = {field.name: field for field in msgspec.structs.fields(StrategyOptions)}
    values: dict[str, object] = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--strategy-option {text}: give KEY=VALUE, for example num_follow=3")
        if key not in fields:
            raise UsageError(f"--strategy-option {text}: no key {key!r}{nearest(key, fields)}")
        if key in values:
            raise UsageError(
                f"--strategy-option {key} is given twice: separate its values by commas"
            )
        kind = fields[key].type
        is_list = typing.get_origin(kind) is tuple
        try:
            parts = [item.strip() for item in value.split(",")] if is_list else value.strip()
            if "" in (parts if is_list else [parts]):
                raise msgspec.ValidationError("a value is empty")
            values[key] = msgspec.convert(parts, kind, strict=False)
        except msgspec.ValidationError:
            item = typing.get_args(kind)[0] if is_list else kind
            plural = {str: "names", int: "whole numbers", float: "numbers"}[item]
            expected = f"{plural}, separated by commas" if is_list else "a whole number"
            raise UsageError(f"--strategy-option {text}: expected {expected}") from None
    if values.get("num_follow", 0) < 0:  # type: ignore[operator]
        raise UsageError(f"--strategy-option num_follow={values['num_follow']}: give 0 or more")
    return StrategyOptions(**values)  # type: ignore[arg-type]


class FilterOptions(Options, frozen=True, kw_only=True):
    """Which rows `filter` keeps."""

    verdicts: Annotated[
        tuple[Verdict, ...],
        Option(
            "Verdict to keep: correct, wrong or unverifiable. Repeat the flag for several. Default: correct.",
            name="verdict",
            kind=tuple[str, ...],
            check=lambda names: check_names(names, typing.get_args(Verdict)),
        ),
    ] = ("correct",)
    verifier: Verifier = None
    ADDED_LATER: ClassVar = frozenset(
        {
            "code_rules", "code_packages", "answer_form", "over_budget", "ignored_rules", "explain",
            "decontaminate_mode", "prefer", "min_pass_rate", "max_pass_rate", "select", "strategy",
            "num_clusters", "strategy_options", "rules",
        }
    )  # fmt: skip
    code_rules: CodeRulesOption = "plain"
    code_packages: CodePackages = ()
    answer_form: AnswerFormOption = "boxed"
    min_reasoning_tokens: Annotated[
        int, Option("Drop rows with fewer reasoning tokens.", RULES, min=0)
    ] = 1
    max_reasoning_tokens: Annotated[
        int | None, Option("Drop rows with more reasoning tokens (see --over-budget).", min=1)
    ] = None
    over_budget: Annotated[
        Literal["drop", "cut", "force"],
        Option(
            "What to do with longer reasoning. drop: drop the row. cut: keep the steps that fit, if they "
            "reach the correct answer. force: keep the steps that fit, and let --teacher write the response.",
            RULES,
        ),
    ] = "drop"
    max_repetition: Annotated[
        float,
        Option(
            "Drop traces that repeat themselves: maximum share of repeated text in the most repetitive "
            "2,000 bytes (repeated: it occurred four times before). 1 keeps all.",
            RULES,
            min=0,
            max=1,
        ),
    ] = 0.3
    max_foreign_letters: Annotated[
        int | None,
        Option(
            "Drop traces with more letters of another script, such as Chinese in an English trace. Formulas, "
            "quotes and names do not count.",
            RULES,
            min=0,
        ),
    ] = 1
    ignored_rules: Annotated[
        tuple[str, ...],
        Option(
            "Turn off this rule, for example unfinished_response. Repeat the flag for several.",
            RULES,
            name="ignore_rule",
        ),
    ] = ()
    rules: Annotated[
        tuple[str, ...],
        Option(
            "Rule of your own, FILE.py:FUNCTION: drops the rows that it rejects. Repeat the flag for several.",
            RULES,
            name="rule",
        ),
    ] = ()
    dedup: Annotated[
        Literal["exact", "near", "none"],
        Option(
            "Duplicates to remove. exact: rows with the same problem and completion. near: also rows whose "
            "problems have nearly the same words.",
            RULES,
        ),
    ] = "exact"
    near_threshold: Annotated[
        float,
        Option(
            "With --dedup near: minimum share of common word pairs. 0.9 removes only very similar problems.",
            RULES,
            min=0.5,
            max=1,
        ),
    ] = 0.7
    decontaminate_mode: Annotated[
        Literal["share", "ngram8"],
        Option(
            "How to find problems of a benchmark. share: the same question, also in other words. ngram8: eight "
            "consecutive words in common, the rule of s1 and open-r1.",
            RULES,
        ),
    ] = "share"
    explain: Annotated[
        bool,
        Option("Apply all rules to each row, and record every rule that would drop it.", RULES),
    ] = False
    per_problem: Annotated[int | None, Option("Keep at most N rows per problem.", RULES, min=1)] = (
        None
    )
    prefer: Annotated[
        Preference, Option("Rows to keep with --per-problem, by length of reasoning.", RULES)
    ] = "random"
    min_pass_rate: Annotated[
        float | None,
        Option(
            "Drop problems with a lower pass rate (needs --difficulty).", SELECTION, min=0, max=1
        ),
    ] = None
    max_pass_rate: Annotated[
        float | None,
        Option(
            "Drop problems with a higher pass rate (needs --difficulty). Default with --strategy s1: 0.",
            SELECTION,
            min=0,
            max=1,
        ),
    ] = None
    select: Annotated[
        int | None, Option("Select N of the rows that passed all rules.", SELECTION, min=1)
    ] = None
    strategy: Annotated[
        Strategy,
        Option(
            "Rows that --select keeps. random. shortest, longest: by reasoning. diverse: equally many per domain. "
            "s1: domains at random, long reasoning preferred, unclear problems dropped.",
            SELECTION,
        ),
    ] = "random"
    strategy_options: Annotated[
        StrategyOptions,
        Option(
            "KEY=VALUE for --strategy s1, to reproduce the selection of s1K: preselect, preselect_min_tokens, "
            "follow, follow_weight (values separated by commas), num_follow. Repeat the flag for several.",
            SELECTION,
            name="strategy_option",
            kind=tuple[str, ...],
            read=read_strategy,
        ),
    ] = StrategyOptions()
    num_clusters: Annotated[
        int | None,
        Option(
            "Replace the domains of the rows with N clusters of problems by their words.",
            SELECTION,
            min=2,
        ),
    ] = None
    seed: Seed = 0


class Forcing(Options, frozen=True):
    """The model that answers with `--over-budget force`, and how it samples."""

    PANEL: ClassVar = FORCING
    teacher: Annotated[
        str | None, Option("Model that writes the response with --over-budget force.")
    ] = None
    sampling: Sampling = Sampling()
    engine: EngineOptions = EngineOptions()
    end_text: EndText = ""
    tokenizer: Annotated[
        str | None,
        Option(
            "With --over-budget cut: model whose tokenizer counted the tokens of the rows, usually the teacher. "
            "With force: tokenizer of a teacher behind a server.",
        ),
    ] = None
    accept_errors: AcceptErrors = False

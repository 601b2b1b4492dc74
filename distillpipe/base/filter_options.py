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
    """What replays the drawing of s1K: keys of `--strategy-option KEY=VALUE`, values parted by commas."""

    preselect: tuple[str, ...] = ()
    "sources whose correct rows are taken before any is drawn"
    preselect_min_tokens: tuple[int, ...] = ()
    "reasoning tokens that such a row needs, one for each source"
    follow: tuple[str, ...] = ()
    "sources whose domains weigh how often the last rows draw a domain"
    follow_weight: tuple[float, ...] = ()
    "one for each source; none: all the same"
    num_follow: int = 0
    "how many rows are the last ones"


def read_strategy(given: Sequence[str]) -> StrategyOptions:
    """`["preselect=AIME,gpqa", "num_follow=3"]` as options; a UsageError names a key or value that does not fit."""
    fields = {one.name: one for one in msgspec.structs.fields(StrategyOptions)}
    found: dict[str, object] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--strategy-option {text}: give KEY=VALUE, as num_follow=3")
        if key not in fields:
            raise UsageError(f"--strategy-option {text}: no key {key!r}{nearest(key, fields)}")
        if key in found:
            raise UsageError(
                f"--strategy-option {key} is given twice: separate its values by commas"
            )
        kind = fields[key].type
        is_list = typing.get_origin(kind) is tuple
        try:
            parts = [one.strip() for one in value.split(",")] if is_list else value.strip()
            if "" in (parts if is_list else [parts]):
                raise msgspec.ValidationError("a value is empty")
            found[key] = msgspec.convert(parts, kind, strict=False)
        except msgspec.ValidationError:
            item = typing.get_args(kind)[0] if is_list else kind
            wanted = {str: "names", int: "whole numbers", float: "numbers"}[item]
            shape = f"{wanted}, separated by commas" if is_list else "a whole number"
            raise UsageError(f"--strategy-option {text}: expected {shape}") from None
    if found.get("num_follow", 0) < 0:  # type: ignore[operator]
        raise UsageError(f"--strategy-option num_follow={found['num_follow']}: give 0 or more")
    return StrategyOptions(**found)  # type: ignore[arg-type]


class FilterOptions(Options, frozen=True, kw_only=True):
    """What `filter` keeps."""

    verdicts: Annotated[
        tuple[Verdict, ...],
        Option(
            "Verdict to keep: correct, wrong or unverifiable; repeat for several. Default: correct.",
            name="verdict",
            given=tuple[str, ...],
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
    min_reasoning_tokens: Annotated[int, Option("Drop shorter reasoning.", RULES, min=0)] = 1
    max_reasoning_tokens: Annotated[int | None, Option("Drop longer reasoning.", min=1)] = None
    over_budget: Annotated[
        Literal["drop", "cut", "force"],
        Option(
            "What becomes of longer reasoning. cut: end it at the last whole step that fits, if the "
            "correct answer was reached there. force: end it there, and have --teacher answer.",
            RULES,
        ),
    ] = "drop"
    max_repetition: Annotated[
        float,
        Option(
            "Drop traces that go in circles: share of the worst 2,000 bytes that was said four times "
            "before; 1 keeps all.",
            RULES,
            min=0,
            max=1,
        ),
    ] = 0.3
    max_foreign_letters: Annotated[
        int | None,
        Option(
            "Drop traces with more letters of another script; formulas, quotes and names do not count.",
            RULES,
            min=0,
        ),
    ] = 1
    ignored_rules: Annotated[
        tuple[str, ...],
        Option(
            "Drop no row by this rule, for example unfinished_response; repeat for several.",
            RULES,
            name="ignore_rule",
        ),
    ] = ()
    rules: Annotated[
        tuple[str, ...],
        Option(
            "Drop what a rule of your own rejects, FILE.py:FUNCTION; repeat for several.",
            RULES,
            name="rule",
        ),
    ] = ()
    dedup: Annotated[
        Literal["exact", "near", "none"],
        Option(
            "exact: of rows with the same problem and completion keep one. near: also of problems in "
            "nearly the same words.",
            RULES,
        ),
    ] = "exact"
    near_threshold: Annotated[
        float,
        Option(
            "Share of word pairs in common from which problems are near; 0.9 is strict.",
            RULES,
            min=0.5,
            max=1,
        ),
    ] = 0.7
    decontaminate_mode: Annotated[
        Literal["share", "ngram8"],
        Option(
            "share: the same question in other spelling; ngram8: eight words in common, the rule of "
            "s1 and open-r1.",
            RULES,
        ),
    ] = "share"
    explain: Annotated[
        bool,
        Option("Ask every rule about every row: which others would have dropped it too.", RULES),
    ] = False
    per_problem: Annotated[
        int | None, Option("Keep at most N rows of a problem.", RULES, min=1)
    ] = None
    prefer: Annotated[
        Preference, Option("Which rows of a problem stay, by length of reasoning.", RULES)
    ] = "random"
    min_pass_rate: Annotated[
        float | None, Option("Drop harder problems.", SELECTION, min=0, max=1)
    ] = None
    max_pass_rate: Annotated[
        float | None,
        Option(
            "Drop easier problems; 0 with --strategy s1 if no bound is given.",
            SELECTION,
            min=0,
            max=1,
        ),
    ] = None
    select: Annotated[int | None, Option("Keep N rows in the end.", SELECTION, min=1)] = None
    strategy: Annotated[
        Strategy,
        Option(
            "Which rows --select keeps: random, by length; diverse: as many of each domain; s1: of "
            "each domain, long ones first, of clear problems.",
            SELECTION,
        ),
    ] = "random"
    strategy_options: Annotated[
        StrategyOptions,
        Option(
            "KEY=VALUE, repeated, for --strategy s1: preselect, preselect_min_tokens, follow, "
            "follow_weight (values separated by commas), num_follow. They replay the drawing of s1K.",
            SELECTION,
            name="strategy_option",
            given=tuple[str, ...],
            read=read_strategy,
        ),
    ] = StrategyOptions()
    num_clusters: Annotated[
        int | None,
        Option(
            "Make N domains from the words of the problems, in place of the rows' own.",
            SELECTION,
            min=2,
        ),
    ] = None
    seed: Seed = 0


class Forcing(Options, frozen=True):
    """Who answers with `--over-budget force`, and how."""

    PANEL: ClassVar = FORCING
    teacher: Annotated[str | None, Option("Model that answers with --over-budget force.")] = None
    sampling: Sampling = Sampling()
    engine: EngineOptions = EngineOptions()
    end_text: EndText = ""
    tokenizer: Annotated[
        str | None,
        Option(
            "With --over-budget cut: model whose tokens are counted, by which the rows were counted, "
            "usually the teacher. With force: tokenizer of a served teacher.",
        ),
    ] = None
    accept_errors: AcceptErrors = False

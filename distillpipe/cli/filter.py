"""`distill filter`."""

from typing import Annotated, Literal, cast, get_args

import typer

from distillpipe.base.options import EngineOptions, FilterOptions, Preference, Sampling, Strategy
from distillpipe.base.records import Verdict
from distillpipe.cli import budgets
from distillpipe.cli import options as shared

RULES = "Rules"
SELECTION = "Difficulty and selection"


def _check_verdicts(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if name not in get_args(Verdict):
            raise typer.BadParameter(f"{name!r}: choose from {', '.join(get_args(Verdict))}")
    return names


def _check_rules(names: list[str] | None) -> list[str] | None:
    if not names:
        return names
    from distillpipe.filters import ROW_RULES

    for name in names:
        if name not in ROW_RULES:
            raise typer.BadParameter(f"{name!r}: choose from {', '.join(ROW_RULES)}")
    return names


def filter_traces(
    ctx: typer.Context,
    traces: Annotated[
        list[str], typer.Argument(help="Datasets (PATH, PATH@v1) or .jsonl files of traces.")
    ],
    out: shared.Out,
    verifier: shared.Verifier = None,
    code_rules: shared.CodeRulesOption = "plain",
    code_packages: shared.CodePackages = None,
    answer_form: shared.AnswerFormOption = "boxed",
    verdict: Annotated[
        list[str] | None,
        shared.option(
            help="Verdict to keep: correct, wrong or unverifiable; repeat for several. "
            "correct if none is given.",
            callback=_check_verdicts,
            rich_help_panel=RULES,
        ),
    ] = None,
    min_reasoning_tokens: Annotated[
        int, shared.option(min=0, help="Drop shorter reasoning.", rich_help_panel=RULES)
    ] = 1,
    max_reasoning_tokens: Annotated[
        int | None, shared.option(min=1, help="Drop longer reasoning.", rich_help_panel=RULES)
    ] = None,
    over_budget: Annotated[
        Literal["drop", "cut", "force"],
        shared.option(
            help="What becomes of longer reasoning; cut: it ends at the last whole step that fits, if it "
            "had reached the right answer there; force: it ends there, and --teacher answers.",
            rich_help_panel=RULES,
        ),
    ] = "drop",
    tokenizer: Annotated[
        str | None,
        shared.option(
            help="Model whose tokens --over-budget cut counts: the one by which the rows were counted, "
            "usually the teacher. With force: that of a served teacher.",
            rich_help_panel=RULES,
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        shared.option(
            help="Model that answers with --over-budget force; the options of sampling, engine and "
            "server are for it.",
            rich_help_panel=RULES,
        ),
    ] = None,
    end_text: budgets.EndText = "",
    temperature: shared.Temperature = 0.6,
    top_p: shared.TopP = 0.95,
    max_tokens: shared.MaxTokens = 32768,
    engine: shared.EngineName = "auto",
    concurrency: shared.Concurrency = None,
    tensor_parallel_size: shared.TensorParallelSize = 1,
    replicas: shared.Replicas = 1,
    max_model_len: shared.MaxModelLen = None,
    base_url: shared.BaseUrl = None,
    api_key_env: shared.ApiKeyEnv = "OPENAI_API_KEY",
    price_input: shared.PriceInput = None,
    price_output: shared.PriceOutput = None,
    max_cost: shared.MaxCost = None,
    accept_errors: shared.AcceptErrors = False,
    max_repetition: Annotated[
        float,
        shared.option(
            min=0.0,
            max=1.0,
            help="Drop traces that go in circles: share of the worst 2,000 bytes that was said four times "
            "before; 1 keeps all.",
            rich_help_panel=RULES,
        ),
    ] = 0.3,
    max_foreign_letters: Annotated[
        int,
        shared.option(
            min=0,
            help="Drop traces with more letters of another script; formulas, quotes and names aside.",
            rich_help_panel=RULES,
        ),
    ] = 1,
    ignore_rule: Annotated[
        list[str] | None,
        shared.option(
            help="Drop no row by this rule, say unfinished_response; repeat for several.",
            callback=_check_rules,
            rich_help_panel=RULES,
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        shared.option(
            metavar="FILE.py:FUNCTION",
            help="Drop what a rule of your own says; repeat for several.",
            rich_help_panel=RULES,
        ),
    ] = None,
    dedup: Annotated[
        Literal["exact", "near", "none"],
        shared.option(
            help="Same problem and completion: keep one; near: of problems in nearly the same words, too.",
            rich_help_panel=RULES,
        ),
    ] = "exact",
    near_threshold: Annotated[
        float,
        shared.option(
            min=0.5,
            max=1.0,
            help="Share of word pairs in common from which problems are near; 0.9 is strict.",
            rich_help_panel=RULES,
        ),
    ] = 0.7,
    decontaminate: Annotated[
        list[str] | None,
        shared.option(
            help="Drop problems of this benchmark (math500), file or dataset; repeat for several.",
            rich_help_panel=RULES,
        ),
    ] = None,
    decontaminate_mode: Annotated[
        Literal["share", "ngram8"],
        shared.option(
            help="share: the same question in other spelling; ngram8: eight words in common, the rule of "
            "s1 and open-r1.",
            rich_help_panel=RULES,
        ),
    ] = "share",
    per_problem: Annotated[
        int | None,
        shared.option(min=1, help="Keep at most so many a problem.", rich_help_panel=RULES),
    ] = None,
    prefer: Annotated[
        Preference,
        shared.option(help="Which rows of a problem stay, by reasoning.", rich_help_panel=RULES),
    ] = "random",
    difficulty: Annotated[
        list[str] | None,
        shared.option(
            help="Predictions of a model for the same problems, or the OUT of its eval; repeat for "
            "several models: the best counts.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    min_pass_rate: Annotated[
        float | None,
        shared.option(min=0.0, max=1.0, help="Drop harder problems.", rich_help_panel=SELECTION),
    ] = None,
    max_pass_rate: Annotated[
        float | None,
        shared.option(
            min=0.0,
            max=1.0,
            help="Drop easier problems; 0 with --strategy s1 if no bound is given.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    select: Annotated[
        int | None,
        shared.option(min=1, help="Keep so many rows in the end.", rich_help_panel=SELECTION),
    ] = None,
    strategy: Annotated[
        Strategy,
        shared.option(
            help="Which: by length; diverse: as many of each domain; s1: of each domain, long ones "
            "first, of clear problems.",
            rich_help_panel=SELECTION,
        ),
    ] = "random",
    num_clusters: Annotated[
        int | None,
        shared.option(
            min=2,
            help="Make so many domains from the words of the problems, in place of the rows' own.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    preselect: Annotated[
        list[str] | None,
        shared.option(
            help="s1: take all right rows of this source first; repeat for several.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    preselect_min_tokens: Annotated[
        list[int] | None,
        shared.option(
            help="Reasoning tokens that they need; one for each --preselect.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    follow: Annotated[
        list[str] | None,
        shared.option(
            help="s1: draw domains for the last rows as often as this source has them; repeat for "
            "several.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    follow_weight: Annotated[
        list[float] | None,
        shared.option(help="Weight of the source; one for each.", rich_help_panel=SELECTION),
    ] = None,
    num_follow: Annotated[
        int, shared.option(min=0, help="How many rows are the last.", rich_help_panel=SELECTION)
    ] = 0,
    explain: Annotated[
        bool,
        shared.option(
            "--explain",
            help="Ask every rule of every row: which others would have dropped it too.",
            rich_help_panel=RULES,
        ),
    ] = False,
    seed: shared.Seed = 0,
    num_workers: Annotated[
        int | None,
        shared.option(
            min=1, help="Rows judged at a time; else one a core.", rich_help_panel=shared.RUN
        ),
    ] = None,
    allow_benchmark_training: shared.AllowBenchmarkTraining = False,
    unsafe_run_model_code_without_sandbox: shared.UnsafeCode = False,
    dry_run: shared.DryRun = False,
    as_json: shared.Json = False,
    fresh: shared.Fresh = False,
) -> None:
    """Verify, bound and clean traces.

    What is dropped stands beside what is kept, in rejected-*.jsonl, with the
    reason and the measured value.

    \b
    Example:
      distill filter runs/example/traces --max-reasoning-tokens 120 \\
        --out runs/example/clean
    """
    from distillpipe.filters.force import Forcing
    from distillpipe.filters.problems import FilterInputs
    from distillpipe.stages.filter import filter_traces as stage
    from distillpipe.stages.filter import forecast_filter

    options = FilterOptions(
        verdicts=tuple(cast("list[Verdict]", verdict or ["correct"])),
        verifier=verifier,
        rules=tuple(rule or ()),
        code_rules=code_rules,
        code_packages=tuple(code_packages or ()),
        answer_form=answer_form,
        min_reasoning_tokens=min_reasoning_tokens,
        max_reasoning_tokens=max_reasoning_tokens,
        over_budget=over_budget,
        max_repetition=max_repetition,
        max_foreign_letters=max_foreign_letters,
        ignored_rules=tuple(ignore_rule or ()),
        dedup=dedup,
        near_threshold=near_threshold,
        decontaminate_mode=decontaminate_mode,
        explain=explain,
        per_problem=per_problem,
        prefer=prefer,
        min_pass_rate=min_pass_rate,
        max_pass_rate=max_pass_rate,
        select=select,
        strategy=strategy,
        num_clusters=num_clusters,
        preselect=tuple(preselect or ()),
        preselect_min_tokens=tuple(preselect_min_tokens or ()),
        follow=tuple(follow or ()),
        follow_weight=tuple(follow_weight or ()),
        num_follow=num_follow,
        seed=seed,
    )
    forcing = None
    if teacher is not None:
        sampling, server = shared.struct_of(Sampling, ctx), shared.struct_of(EngineOptions, ctx)
        forcing = Forcing(teacher, sampling, server, end_text, accept_errors, tokenizer)
    given = (
        traces,
        out,
        options,
        shared.run_of(ctx),
        FilterInputs(
            difficulty or [],
            decontaminate or [],
            None if over_budget == "force" else tokenizer,
        ),
        forcing,
    )
    if dry_run:
        shared.put_forecasts([forecast_filter(*given)], as_json=as_json)
    else:
        shared.put_results([stage(*given)], as_json=as_json)

r"""Evaluation protocols as they were published: which options they set, and what they measured.

    r1       DeepSeek-R1: 64 completions a problem at temperature 0.6
    openr1   open-r1's rerun of its models with lighteval: fewer completions, prompts of its own
    s1       s1 without budget forcing: greedy, the bare question
    greedy   one greedy completion, our prompts: quick, and the same every time

A protocol sets only what the command's user left alone. How many completions a problem are the custom
differs from benchmark to benchmark, so without a protocol the number is --num-samples for all. Prompts
are cited word for word, since a score depends on them; where none was published, it is that of the table
of benchmarks, and the output says so (`not_published`), as it does for a benchmark that the team did not
measure on.

What the sources leave open, or what is not done here as there:

    r1       its README says 64 completions for all, its paper "between 4 and 64, depending on the test set
             size". Its paper takes GPQA's prompt from simple-evals, and others from "their creators":
             LiveCodeBench has a prompt for these very models, and puts a system prompt before it that
             DeepSeek's README advises against, so we leave that out.
    openr1   lighteval's copy of LiveCodeBench's harness is of February 2025 and has no `sys.stdin.buffer`:
             a program that reads it is wrong there, and judged as LiveCodeBench itself does here. It looks
             for the program in the thought too; here it is taken from the response.
             Its v4_v5 is two files of LiveCodeBench's; rows do not say their file, so days stand for it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from distillpipe.base.errors import UsageError
from distillpipe.base.options import MATH_PROMPT, SamplingOptions
from distillpipe.data.benchmarks import (
    BENCHMARKS,
    LIVECODEBENCH_PROMPT,
    SIMPLE_EVALS_CHOICE_PROMPT,
)
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.reports.published import published_score

PROMPT, NUM_SAMPLES = "prompt_template", "num_samples"
BENCHMARK = "benchmark"
"Stands among what is not published where a team did not measure on the benchmark."
PARTS = ("limit", "min_date", "max_date")
"Options that leave problems out."
FORCING = ("num_waits", "min_reasoning_tokens", "max_reasoning_tokens", "stop_loops")
"Options that change completions, and that no protocol here has."


class Protocol(NamedTuple):
    """How a team measured its models."""

    name: str
    source: str
    settings: dict[str, Any]
    "values of options"
    prompts: dict[str, str]
    "by verifier"
    num_samples: dict[str, int] | int
    "completions a problem, or by benchmark; others as the table of benchmarks says"
    measured: tuple[str, ...] = ()
    "the benchmarks on which the team gives scores; empty for a protocol of ours"
    by_benchmark: Mapping[str, dict[str, Any]] = MappingProxyType({})
    "values of options for one benchmark, its prompt too: they come before the others"
    unlisted: Mapping[str, Any] = MappingProxyType({})
    "values of options for a file of the user's own: how its programs are judged"


R1_SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768, "answer_form": "boxed"}
LIVECODEBENCH_RULES = {
    "code_rules": "livecodebench",
    "code_packages": ("numpy", "sympy", "sortedcontainers"),
}
"How both teams judged programs: numpy is loaded by the harness, others were found where it was installed."
LIVECODEBENCH = LIVECODEBENCH_RULES | {
    PROMPT: LIVECODEBENCH_PROMPT, "min_date": "2024-08-01", "max_date": "2025-01-31",
}  # fmt: skip
GREEDY = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 32768}

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "r1",
            "README of deepseek-ai/DeepSeek-R1 at 0cf7856 (2025-04-09), Evaluation Results and Usage "
            "Recommendations; problems and prompts by arXiv:2501.12948, section 3: openai/simple-evals at "
            "83ed764, LiveCodeBench/LiveCodeBench at 28fef95",
            R1_SAMPLING | {"system_prompt": None},
            {"math": MATH_PROMPT},
            64,
            ("aime24", "math500", "gpqa_diamond", "livecodebench", "mmlu_pro"),
            {
                "gpqa_diamond": {PROMPT: SIMPLE_EVALS_CHOICE_PROMPT},
                "livecodebench": LIVECODEBENCH,
            },
            LIVECODEBENCH_RULES,
        ),
        Protocol(
            "openr1",
            "README of huggingface/open-r1 at 1416fa0 (2026-04-02), Reproducing Deepseek's evaluation "
            "results; prompts of huggingface/lighteval at 50c78a2 (2025-06-26), the same at d3da6b9, which "
            "open-r1 installs",
            R1_SAMPLING,
            {
                "math": "Solve the following math problem efficiently and clearly.  The last line of "
                "your response should be of the following format: 'Therefore, the final answer is: "
                "$\\boxed{ANSWER}$. I hope it is correct' (without quotes) where ANSWER is just the "
                "final number or expression that solves the problem. Think step by step before "
                "answering.\n\n{problem}",
                "choice": SIMPLE_EVALS_CHOICE_PROMPT,
            },
            {"aime24": 64, "math500": 4, "gpqa_diamond": 8, "livecodebench": 16},
            ("aime24", "math500", "gpqa_diamond", "livecodebench"),
            {"livecodebench": LIVECODEBENCH},
            LIVECODEBENCH_RULES,
        ),
        Protocol(
            "s1",
            "arXiv:2501.19393v3 and eval/ of simplescaling/s1 at 77272c6 (2025-06-25); its answers were "
            "taken out by gpt-4o-mini, here by rule",
            GREEDY | {"answer_form": "any"},
            {"math": "{problem}", "choice": "{problem}"},
            1,
            ("aime24", "math500", "gpqa_diamond"),
        ),
        Protocol("greedy", "ours", GREEDY, {}, 1),
    )
}


def settled(given: Mapping[str, ResolvedOption], benchmark: str) -> dict[str, ResolvedOption]:
    """The options of an evaluation on one benchmark: what was left alone is set by the protocol and the table.

    `given` has the options as the command resolved them, `protocol` among them.
    """
    listed = BENCHMARKS.get(benchmark)
    found = dict(given)
    if listed is not None:
        _set(found, {PROMPT: listed.prompt}, "benchmark")
    if (protocol := _protocol(given)) is not None:
        verifier = found["verifier"].value or (listed.verifier if listed else "math")
        wanted = _values(protocol, benchmark, verifier)
        if listed is None and isinstance(protocol.num_samples, dict):
            wanted.pop(NUM_SAMPLES, None)  # no custom is known: --num-samples
        _set(found, {**wanted}, "protocol", but=given)
    return found


def with_settled(options: SamplingOptions, found: Mapping[str, ResolvedOption]) -> SamplingOptions:
    """The options of a command with the values of `found`."""

    def changed(part: msgspec.Struct) -> Any:
        fields = {name: found[name].value for name in part.__struct_fields__ if name in found}
        return msgspec.structs.replace(part, **fields)

    return msgspec.structs.replace(
        options,
        prompting=changed(options.prompting),
        plan=changed(options.plan),
        sampling=changed(options.sampling),
    )


def report(
    given: Mapping[str, ResolvedOption], options: SamplingOptions, model: str, benchmark: str
) -> dict[str, Any]:
    """Two parts of metrics.json: the `protocol` that was used, and the score `published` for it, or null."""
    protocol = _protocol(given)
    parts = [options.prompting, options.plan, options.sampling, options.budget]
    used = {
        name: value
        for part in parts
        if isinstance(part, msgspec.Struct)
        for name, value in msgspec.structs.asdict(part).items()
    }
    plain = msgspec.json.decode(msgspec.json.encode(used))  # as it is read again: lists, no tuples
    found: dict[str, Any] = {
        "protocol": {"name": None, "source": None, "settings": plain},
        "published": None,
    }
    if protocol is None:
        return found
    listed = BENCHMARKS.get(benchmark)
    verifier = options.prompting.verifier or (listed.verifier if listed else "math")
    wanted = _values(protocol, benchmark, verifier)
    changed = [name for name in wanted if used.get(name, wanted[name]) != wanted[name]]
    changed += [name for name in (*PARTS, *FORCING) if used.get(name) and name not in wanted]
    unknown = [PROMPT] if PROMPT not in wanted and protocol.measured else []
    if protocol.measured and benchmark not in protocol.measured:
        unknown.append(BENCHMARK)
    found["protocol"] |= {
        "name": protocol.name, "source": protocol.source, "asked": wanted, "changed": changed,
        "not_published": unknown,
    }  # fmt: skip
    if (score := published_score(protocol.name, model, benchmark)) is not None:
        found["published"] = {**score._asdict(), "differs": [*changed, *unknown]}
    return found


def rejudged(metrics: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The parts `protocol` and `published` of a metrics.json after options that judge were changed."""
    before = metrics.get("protocol") or {"name": None, "source": None, "settings": {}}
    published = metrics.get("published")
    after = before | {"settings": before["settings"] | changes}
    if (protocol := PROTOCOLS.get(before["name"])) is not None:
        settings = protocol.settings
        differs = {name for name in changes if settings.get(name, changes[name]) != changes[name]}
        others = [name for name in before["changed"] if name not in changes]
        after["changed"] = others + sorted(differs)
        if published is not None:
            published = published | {"differs": after["changed"] + before["not_published"]}
    return {"protocol": after, "published": published}


def _protocol(given: Mapping[str, ResolvedOption]) -> Protocol | None:
    name = given["protocol"].value if "protocol" in given else None
    if name is None:
        return None
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name}: there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _values(protocol: Protocol, benchmark: str, verifier: str) -> dict[str, Any]:
    """What a protocol asks for on a benchmark, by option; no prompt where it publishes none."""
    found = dict(protocol.settings)
    if verifier in protocol.prompts:
        found[PROMPT] = protocol.prompts[verifier]
    if benchmark not in BENCHMARKS:
        found |= protocol.unlisted
        if verifier != "code":  # packages must be installed: not asked of who judges no programs
            found.pop("code_packages", None)
    found |= protocol.by_benchmark.get(benchmark, {})
    if isinstance(protocol.num_samples, int):
        found[NUM_SAMPLES] = protocol.num_samples
    elif benchmark in protocol.num_samples:
        found[NUM_SAMPLES] = protocol.num_samples[benchmark]
    elif benchmark in BENCHMARKS:
        found[NUM_SAMPLES] = BENCHMARKS[benchmark].num_samples
    return found


def _set(
    found: dict[str, ResolvedOption],
    values: Mapping[str, Any],
    source: Any,
    but: Mapping[str, ResolvedOption] | None = None,
) -> None:
    """Set what was left at its default, in `but` where that is given, of the options that there are."""
    for name, value in values.items():
        if name in found and (but or found)[name].source == "default":
            found[name] = ResolvedOption(value, source)

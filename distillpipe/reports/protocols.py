r"""Published evaluation protocols: the options that they set, and the benchmarks that they measured.

    r1       DeepSeek-R1: 64 completions a problem at temperature 0.6
    openr1   open-r1's evaluation with lighteval: fewer completions, and its own prompts
    s1       s1 without budget forcing: greedy decoding, the bare question
    greedy   one greedy completion with our prompts: fast and reproducible

A protocol sets only options that the user left at their defaults. The usual number of completions a problem differs
between benchmarks, so without a protocol --num-samples applies to all. We cite prompts word for word, because scores
depend on them. If a team published no prompt, we use that of the table of benchmarks and report it (`not_published`), as
we report a benchmark that the team did not measure.

What the sources leave open, and where we differ:

    r1       its README says 64 completions for all, its paper "between 4 and 64, depending on the test set
             size". The paper takes GPQA's prompt from simple-evals, and others from "their creators".
             LiveCodeBench has a prompt for these models with a system prompt, which DeepSeek's README advises
             against; we leave the system prompt out.
    openr1   lighteval's copy of LiveCodeBench's harness is of February 2025 and has no `sys.stdin.buffer`, so it
             fails programs that read it; we judge them as LiveCodeBench itself does. It also looks for the program
             in the reasoning; we take it from the response.
             Its v4_v5 is two files of LiveCodeBench; rows do not name their file, so we select by date.
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
"An entry of `not_published`, if the team did not measure on the benchmark."
PARTS = ("limit", "min_date", "max_date")
"Options that select a part of the problems."
FORCING = ("num_waits", "min_reasoning_tokens", "max_reasoning_tokens", "stop_loops")
"Options that change completions and that no protocol sets."


class Protocol(NamedTuple):
    """The evaluation settings of a team."""

    name: str
    source: str
    settings: dict[str, Any]
    "option values"
    prompts: dict[str, str]
    "prompt templates by verifier"
    num_samples: dict[str, int] | int
    "completions a problem, or by benchmark; other benchmarks use the table of benchmarks"
    measured: tuple[str, ...] = ()
    "benchmarks for which the team published scores; empty for our own protocol"
    by_benchmark: Mapping[str, dict[str, Any]] = MappingProxyType({})
    "option values and prompt for single benchmarks, which override the others"
    unlisted: Mapping[str, Any] = MappingProxyType({})
    "option values for a user's own benchmark file: how its programs are judged"


R1_SAMPLING = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768, "answer_form": "boxed"}
LIVECODEBENCH_RULES = {
    "code_rules": "livecodebench",
    "code_packages": ("numpy", "sympy", "sortedcontainers"),
}
"How both teams judged programs: the harness loads numpy, and other installed packages could be imported."
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


def resolve_options(
    from_command: Mapping[str, ResolvedOption], benchmark: str
) -> dict[str, ResolvedOption]:
    """The options of an evaluation on one benchmark, with defaults replaced by those of protocol and benchmark.

    `from_command` has the options as the command resolved them, including `protocol`.
    """
    entry = BENCHMARKS.get(benchmark)
    resolved = dict(from_command)
    if entry is not None:
        _set(resolved, {PROMPT: entry.prompt}, "benchmark")
    if (protocol := _protocol(from_command)) is not None:
        verifier = resolved["verifier"].value or (entry.verifier if entry else "math")
        protocol_values = _values(protocol, benchmark, verifier)
        if entry is None and isinstance(protocol.num_samples, dict):
            protocol_values.pop(NUM_SAMPLES, None)  # unknown for this file: --num-samples applies
        _set(resolved, {**protocol_values}, "protocol", original=from_command)
    return resolved


def apply_options(
    options: SamplingOptions, resolved: Mapping[str, ResolvedOption]
) -> SamplingOptions:
    """The options of a command with the values of `resolved`."""

    def changed(part: msgspec.Struct) -> Any:
        fields = {name: resolved[name].value for name in part.__struct_fields__ if name in resolved}
        return msgspec.structs.replace(part, **fields)

    return msgspec.structs.replace(
        options,
        prompting=changed(options.prompting),
        plan=changed(options.plan),
        sampling=changed(options.sampling),
    )


def report(
    resolved: Mapping[str, ResolvedOption], options: SamplingOptions, model: str, benchmark: str
) -> dict[str, Any]:
    """The parts `protocol` and `published` (null without a published score) of metrics.json."""
    protocol = _protocol(resolved)
    parts = [options.prompting, options.plan, options.sampling, options.budget]
    used = {
        name: value
        for part in parts
        if isinstance(part, msgspec.Struct)
        for name, value in msgspec.structs.asdict(part).items()
    }
    # lists instead of tuples, as in the file
    plain = msgspec.json.decode(msgspec.json.encode(used))
    content: dict[str, Any] = {
        "protocol": {"name": None, "source": None, "settings": plain},
        "published": None,
    }
    if protocol is None:
        return content
    entry = BENCHMARKS.get(benchmark)
    verifier = options.prompting.verifier or (entry.verifier if entry else "math")
    protocol_values = _values(protocol, benchmark, verifier)
    changed = [
        name
        for name in protocol_values
        if used.get(name, protocol_values[name]) != protocol_values[name]
    ]
    changed += [
        name for name in (*PARTS, *FORCING) if used.get(name) and name not in protocol_values
    ]
    unknown = [PROMPT] if PROMPT not in protocol_values and protocol.measured else []
    if protocol.measured and benchmark not in protocol.measured:
        unknown.append(BENCHMARK)
    content["protocol"] |= {
        "name": protocol.name, "source": protocol.source, "asked": protocol_values, "changed": changed,
        "not_published": unknown,
    }  # fmt: skip
    if (score := published_score(protocol.name, model, benchmark)) is not None:
        content["published"] = {**score._asdict(), "differs": [*changed, *unknown]}
    return content


def protocol_after_rescore(
    metrics: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts `protocol` and `published` of metrics.json after `rescore` changed options of judging."""
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


def _protocol(resolved: Mapping[str, ResolvedOption]) -> Protocol | None:
    name = resolved["protocol"].value if "protocol" in resolved else None
    if name is None:
        return None
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name}: there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _values(protocol: Protocol, benchmark: str, verifier: str) -> dict[str, Any]:
    """The option values of a protocol on a benchmark; without a prompt if none is published."""
    values = dict(protocol.settings)
    if verifier in protocol.prompts:
        values[PROMPT] = protocol.prompts[verifier]
    if benchmark not in BENCHMARKS:
        values |= protocol.unlisted
        if verifier != "code":  # do not require packages if no programs are judged
            values.pop("code_packages", None)
    values |= protocol.by_benchmark.get(benchmark, {})
    if isinstance(protocol.num_samples, int):
        values[NUM_SAMPLES] = protocol.num_samples
    elif benchmark in protocol.num_samples:
        values[NUM_SAMPLES] = protocol.num_samples[benchmark]
    elif benchmark in BENCHMARKS:
        values[NUM_SAMPLES] = BENCHMARKS[benchmark].num_samples
    return values


def _set(
    resolved: dict[str, ResolvedOption],
    values: Mapping[str, Any],
    source: Any,
    original: Mapping[str, ResolvedOption] | None = None,
) -> None:
    """Set options that exist and have their default value (in `original`, if given)."""
    for name, value in values.items():
        if name in resolved and (original or resolved)[name].source == "default":
            resolved[name] = ResolvedOption(value, source)

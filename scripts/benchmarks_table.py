"""The tables of benchmarks and protocols as markdown; scripts/docs_pages.py writes them into the documentation."""

from distillpipe.data.benchmarks import BENCHMARKS, Benchmark
from distillpipe.reports.protocols import PROMPT, PROTOCOLS, Protocol


def tables() -> str:
    """Both tables, one below the other."""
    return "\n".join(
        [
            "| name | verifier | problems | samples by custom | public since | licence | where it stands; its file in `DISTILL_DATA` | read and judged here |",
            "|---|---|---|---|---|---|---|---|",
            *map(_benchmark, BENCHMARKS.values()),
            "",
            "| protocol | temperature, top_p, tokens | samples | prompt is its own for | source |",
            "|---|---|---|---|---|",
            *map(_protocol, PROTOCOLS.values()),
        ]
    )


def _benchmark(one: Benchmark) -> str:
    cells = [
        one.name, one.verifier, f"{one.num_problems:,}", str(one.num_samples), one.public_since,
        one.licence, f"`{one.reference}`; `{one.file}`", one.tried,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _protocol(one: Protocol) -> str:
    settings = one.settings
    samples = one.num_samples
    if isinstance(samples, dict):
        samples = ", ".join(f"{name} {number}" for name, number in samples.items())
        samples += "; others by custom"
    cells = [
        f"`{one.name}`",
        f"{settings['temperature']}, {settings['top_p']}, {settings['max_tokens']:,}",
        str(samples),
        ", ".join(
            [*one.prompts, *(name for name, found in one.by_benchmark.items() if PROMPT in found)]
        )
        or "none",
        one.source,
    ]
    return f"| {' | '.join(cells)} |"

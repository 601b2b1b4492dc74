"""The tables of benchmarks and protocols in markdown; scripts/docs_pages.py writes them into the documentation."""

from distillpipe.data.benchmarks import BENCHMARKS, Benchmark
from distillpipe.reports.protocols import PROMPT, PROTOCOLS, Protocol


def tables() -> str:
    """Both tables, one below the other."""
    return "\n".join(
        [
            "| name | verifier | problems | usual samples | public since | licence | location; its file in `DISTILL_DATA` | read and judged here |",
            "|---|---|---|---|---|---|---|---|",
            *map(_benchmark, BENCHMARKS.values()),
            "",
            "| protocol | temperature, top_p, tokens | samples | own prompts for | source |",
            "|---|---|---|---|---|",
            *map(_protocol, PROTOCOLS.values()),
        ]
    )


def _benchmark(entry: Benchmark) -> str:
    cells = [
        entry.name, entry.verifier, f"{entry.num_problems:,}", str(entry.num_samples), entry.public_since,
        entry.licence, f"`{entry.reference}`; `{entry.file}`", entry.tried,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _protocol(protocol: Protocol) -> str:
    settings = protocol.settings
    samples = protocol.num_samples
    if isinstance(samples, dict):
        samples = ", ".join(f"{name} {number}" for name, number in samples.items())
        samples += "; others as usual"
    with_prompt = [name for name, values in protocol.by_benchmark.items() if PROMPT in values]
    cells = [
        f"`{protocol.name}`",
        f"{settings['temperature']}, {settings['top_p']}, {settings['max_tokens']:,}",
        str(samples),
        ", ".join([*protocol.prompts, *with_prompt]) or "none",
        protocol.source,
    ]
    return f"| {' | '.join(cells)} |"

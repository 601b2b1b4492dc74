"""The tables of benchmarks and protocols as markdown, between two marks of README.md.

python scripts/benchmarks_table.py            rewrites them
"""

import re
from pathlib import Path

from distillpipe.data.benchmarks import BENCHMARKS, Benchmark
from distillpipe.reports.protocols import PROMPT, PROTOCOLS, Protocol

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def tables() -> str:
    """Both tables with the marks around them."""
    return "\n".join(
        [
            BEGIN,
            "| name | verifier | problems | samples by custom | public since | licence | where it stands; its file in `DISTILL_DATA` | read and judged here |",
            "|---|---|---|---|---|---|---|---|",
            *map(_benchmark, BENCHMARKS.values()),
            "",
            "| protocol | temperature, top_p, tokens | samples | prompt is its own for | source |",
            "|---|---|---|---|---|",
            *map(_protocol, PROTOCOLS.values()),
            END,
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


def main() -> None:
    """Rewrite the tables."""
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(f"{BEGIN}.*{END}", lambda _: tables(), text, count=1, flags=re.DOTALL),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()

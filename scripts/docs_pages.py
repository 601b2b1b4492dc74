"""The pages of the documentation that are made from the code. Git ignores them; `make docs` writes them first.

python scripts/docs_pages.py                  writes docs/reference/commands.md and docs/reference/benchmarks.md
"""

import argparse
from pathlib import Path

from benchmarks_table import tables
from command_reference import reference

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
COMMANDS = """# Commands

This page is made from the help of the commands. `distill COMMAND -h` prints the same in a terminal.

An option is taken from the command line, else from the environment (`DISTILL_GENERATE_SEED=7`), else from the
recipe, else from its default. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 incomplete (run the same command
again), 130 stopped with Ctrl-C, 143 stopped by SIGTERM. After the last two the same command continues, too.
"""
BENCHMARKS = """# Benchmarks and protocols

This page is made from the tables in the code. [Evaluate like the R1 paper](../how-to/evaluate.md) shows how to use
them.

`--benchmark` takes a name of the first table, a file of your own, `hub:ORG/NAME[:CONFIG][:SPLIT]`, or
`hub:ORG/NAME/FILE`. A name is looked up in the folder that the environment variable `DISTILL_DATA` names, then on
the hub. Only raw files are read (JSON lines, JSON, CSV, Parquet); the script of a dataset never runs. Rows of a
benchmark are refused as training data.

- **samples by custom**: how many samples a problem are usual. A protocol sets it; without one, `--num-samples`
  holds for all benchmarks.
- **public since**: the month of the newest problem, or of the paper. A model that was trained later may have seen
  the problems.
- **read and judged here**: whether we read the whole file and judged its references. *Part* means 413 questions of
  MMLU-Pro and one of LiveCodeBench. GPQA has to be asked for, so its columns were tried on made-up rows. We read the
  files that were at hand: aime25 as evalchemy has it; amc23, minerva and olympiadbench (675 problems there) as
  Qwen2.5-Math has them. No download from the hub itself was tried.

"""


def main() -> None:
    """Write both pages into the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=REFERENCE)
    folder = parser.parse_args().folder
    for name, text in {
        "commands.md": f"{COMMANDS}\n{reference()}",
        "benchmarks.md": f"{BENCHMARKS}{tables()}\n",
    }.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write the pages of the documentation that are generated from the code. Git ignores them; `make docs` runs this first.

python scripts/docs_pages.py                  writes docs/reference/commands.md and docs/reference/benchmarks.md
"""

import argparse
from pathlib import Path

from benchmarks_table import tables
from command_reference import reference

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
COMMANDS = """# Commands

This page is generated from the help of the commands. `distill COMMAND -h` prints the same in a terminal.

An option is taken from the command line, else from the environment (`DISTILL_GENERATE_SEED=7`), else from the
recipe, else from its default. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 incomplete (run the same command
again), 130 stopped by Ctrl-C, 143 stopped by SIGTERM. After 130 and 143 the same command continues the run.
"""
BENCHMARKS = """# Benchmarks and protocols

This page is generated from the tables in the code. [Evaluate like the R1 paper](../how-to/evaluate.md) shows how to use
them.

`--benchmark` takes a name of the first table, a file of your own, `hub:ORG/NAME[:CONFIG][:SPLIT]`, or
`hub:ORG/NAME/FILE`. A name is looked up first in the folder of the environment variable `DISTILL_DATA`, then on
the hub. Only raw files are read (JSON lines, JSON, CSV, Parquet); the script of a dataset never runs. Rows of a
benchmark are refused as training data.

- **usual samples**: the usual number of samples per problem. A protocol sets it; without a protocol,
  `--num-samples` applies to all benchmarks.
- **public since**: the month of the newest problem, or of the paper. A model that was trained later may have seen
  the problems.
- **read and judged here**: whether we read the whole file and judged its references. *Part* means 413 questions of
  MMLU-Pro and one of LiveCodeBench. GPQA is available on request only, so we tested its columns with made-up rows.
  We read these copies: aime25 from evalchemy; amc23, minerva and olympiadbench (675 problems there) from
  Qwen2.5-Math. We have not tested a download from the hub.

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

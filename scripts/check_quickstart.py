"""Fail where the quickstart did not come out as it was measured: runs/quickstart against the figures here.

python scripts/check_quickstart.py
"""

import json
import sys
from pathlib import Path

RUNS = Path(__file__).parent.parent / "runs" / "quickstart"
MEASURED_STUDENT = 0.755  # Pass@1 of the Qwen student, docs/log.md
MIN_GAIN = 0.3  # student - base
MAX_ERRORS_BELOW = 3  # standard errors that the student may lie under what was measured


def metrics(name: str) -> dict[str, float]:
    """metrics.json of the latest version of an eval."""
    path = RUNS / name / "problems-test" / "latest" / "metrics.json"
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Print the scores, exit 1 with what is wrong."""
    teacher, base, student = (
        metrics(name) for name in ("eval-teacher", "eval-base-qwen", "eval-student-qwen")
    )
    for name, found in (("teacher", teacher), ("base", base), ("student", student)):
        print(f"{name}: Pass@1 {found['pass@1']:.3f}, standard error {found['standard_error']:.4f}")
    gain = student["pass@1"] - base["pass@1"]
    if gain < MIN_GAIN:
        sys.exit(f"the student gained {gain:.3f} on its base, under {MIN_GAIN}")
    floor = MEASURED_STUDENT - MAX_ERRORS_BELOW * student["standard_error"]
    if student["pass@1"] < floor:
        sys.exit(f"the student's {student['pass@1']:.3f} is under {floor:.3f}")


if __name__ == "__main__":
    main()

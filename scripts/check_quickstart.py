"""Fail if the scores of the quickstart in runs/quickstart are below the measured ones.

python scripts/check_quickstart.py
"""

import json
import sys
from pathlib import Path

RUNS = Path(__file__).parent.parent / "runs" / "quickstart"
MEASURED_STUDENT = 0.755  # Pass@1 of the Qwen student, docs/log.md
MIN_GAIN = 0.3  # student - base
MAX_ERRORS_BELOW = 3  # standard errors by which the student may be below the measured score


def metrics(name: str) -> dict[str, float]:
    """metrics.json of the latest version of an eval."""
    path = RUNS / name / "problems-test" / "latest" / "metrics.json"
    content: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return content


def main() -> None:
    """Print the scores; exit with 1 if they are too low."""
    teacher, base, student = (
        metrics(name) for name in ("eval-teacher", "eval-base-qwen", "eval-student-qwen")
    )
    for name, score in (("teacher", teacher), ("base", base), ("student", student)):
        print(f"{name}: Pass@1 {score['pass@1']:.3f}, standard error {score['standard_error']:.4f}")
    gain = student["pass@1"] - base["pass@1"]
    if gain < MIN_GAIN:
        sys.exit(f"the student gained {gain:.3f} over its base, less than {MIN_GAIN}")
    floor = MEASURED_STUDENT - MAX_ERRORS_BELOW * student["standard_error"]
    if student["pass@1"] < floor:
        sys.exit(f"Pass@1 of the student is {student['pass@1']:.3f}, less than {floor:.3f}")


if __name__ == "__main__":
    main()

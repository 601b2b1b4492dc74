"""Fail for an extra that pyproject.toml does not have: pip would only warn, and install nothing for it.

python scripts/check_extras.py vllm,wandb
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Exit 1 with the names that there are."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    for name in filter(None, map(str.strip, sys.argv[1].split(","))):
        if name not in known:
            sys.exit(f"EXTRAS={sys.argv[1]}: no extra {name!r}: there are {', '.join(known)}")


if __name__ == "__main__":
    main()

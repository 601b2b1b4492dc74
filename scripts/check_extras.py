"""Fail for an extra that pyproject.toml does not have, because pip only warns and does not install it.

python scripts/check_extras.py vllm,wandb
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Exit with 1 and the known names."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    for name in filter(None, map(str.strip, sys.argv[1].split(","))):
        if name not in known:
            sys.exit(f"EXTRAS={sys.argv[1]}: no extra {name!r}: there are {', '.join(known)}")


if __name__ == "__main__":
    main()

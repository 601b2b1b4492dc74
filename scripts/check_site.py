"""Check that the built documentation works from the disk without a network.

python scripts/check_site.py [FOLDER]         prints faults and exits with 1; default folder: build/site
"""

import json
import re
import sys
from pathlib import Path

SITE = Path(__file__).parent.parent / "build" / "site"
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|icon|preload|preconnect))[^>]*?\bhref=["']?((?:https?:)?//[^"'\s>]+)"""
)
SHIM = "assets/iframe-worker.js"
SEARCH = Path("search", "search_index.js")


def faults(site: Path) -> list[str]:
    """Files that are fetched from another server, and faults of the search from the disk."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site}: no page: run `make docs`"]
    messages = []
    for page in pages:
        text, name = page.read_text(encoding="utf-8"), page.relative_to(site).as_posix()
        messages += [f"{name}: fetches {a or b}" for a, b in FETCHED.findall(text)]
        if SHIM not in text:
            messages.append(
                f"{name}: does not load {SHIM}, so search fails when opened from the disk"
            )
    if not (site / SHIM).is_file():
        messages.append(f"{SHIM} is not in the site")
    return messages + _missing_from_search(site, pages)


def _missing_from_search(site: Path, pages: list[Path]) -> list[str]:
    """Pages that are not in the search index, which is a script that sets a variable."""
    if not (site / SEARCH).is_file():
        return [f"no {SEARCH}: is the plugin `offline` on?"]
    _, _, index = (site / SEARCH).read_text(encoding="utf-8").partition("=")
    indexed = {
        entry["location"].partition("#")[0] for entry in json.loads(index.strip(" ;\n"))["docs"]
    }
    names = {page.relative_to(site).as_posix() for page in pages} - {"404.html"}
    return [f"{name}: not in the search index" for name in sorted(names - indexed)]


def main() -> None:
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE
    messages = faults(site)
    for message in messages:
        print(message, file=sys.stderr)
    sys.exit(bool(messages))


if __name__ == "__main__":
    main()

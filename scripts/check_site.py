"""Whether the built documentation works from the disk without a network.

python scripts/check_site.py [FOLDER]         prints what is wrong and exits with 1; FOLDER is build/site
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
    """What is fetched from another server, and what the search from the disk lacks."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site}: no page: run `make docs`"]
    wrong = []
    for page in pages:
        text, name = page.read_text(encoding="utf-8"), page.relative_to(site).as_posix()
        wrong += [f"{name}: fetches {a or b}" for a, b in FETCHED.findall(text)]
        if SHIM not in text:
            wrong.append(f"{name}: does not load {SHIM}, so search fails when opened from the disk")
    if not (site / SHIM).is_file():
        wrong.append(f"{SHIM} is not in the site")
    return wrong + _missing_from_search(site, pages)


def _missing_from_search(site: Path, pages: list[Path]) -> list[str]:
    """Pages that the search index, a script that sets a variable, does not hold."""
    if not (site / SEARCH).is_file():
        return [f"no {SEARCH}: is the plugin `offline` on?"]
    _, _, index = (site / SEARCH).read_text(encoding="utf-8").partition("=")
    found = {
        entry["location"].partition("#")[0] for entry in json.loads(index.strip(" ;\n"))["docs"]
    }
    names = {page.relative_to(site).as_posix() for page in pages} - {"404.html"}
    return [f"{name}: not in the search index" for name in sorted(names - found)]


def main() -> None:
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else SITE
    wrong = faults(site)
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""What scripts/check_site.py finds wrong with a built site."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SHIM = '<script src="assets/iframe-worker.js"></script>'
CDN = '<script src="https://cdn.example.org/shim.js"></script>'
STYLE = '<link rel="stylesheet" href="//fonts.example.org/css">'
LINK = (
    '<a href="https://example.org">elsewhere</a><link rel="canonical" href="https://example.org">'
)


@pytest.fixture
def faults(tmp_path: Path, load_script: Callable[[str], Any]) -> Callable[..., list[str]]:
    """`faults(page, found=[...])`: of a site of one page, with what its search index holds."""

    def check(page: str, found: tuple[str, ...] = ("index.html", "index.html#part")) -> list[str]:
        (tmp_path / "search").mkdir()
        (tmp_path / "assets").mkdir()
        (tmp_path / "assets" / "iframe-worker.js").write_text("")
        (tmp_path / "index.html").write_text(page)
        index = json.dumps({"docs": [{"location": location} for location in found]})
        (tmp_path / "search" / "search_index.js").write_text(f"var __index = {index}")
        return load_script("check_site.py").faults(tmp_path)

    return check


def test_a_site_that_fetches_nothing_is_good(faults: Callable[..., list[str]]) -> None:
    assert faults(SHIM + LINK) == []


def test_what_another_server_sends_is_found(faults: Callable[..., list[str]]) -> None:
    assert faults(SHIM + CDN + STYLE) == [
        "index.html: fetches https://cdn.example.org/shim.js",
        "index.html: fetches //fonts.example.org/css",
    ]


def test_a_page_without_the_search_shim_is_found(faults: Callable[..., list[str]]) -> None:
    assert faults("") == [
        "index.html: does not load assets/iframe-worker.js, so search fails when opened from the disk"
    ]


def test_a_page_that_search_lacks_is_found(faults: Callable[..., list[str]]) -> None:
    assert faults(SHIM, found=("other.html",)) == ["index.html: not in the search index"]


def test_a_folder_without_pages_is_found(tmp_path: Path, load_script: Callable[[str], Any]) -> None:
    assert load_script("check_site.py").faults(tmp_path) == [
        f"{tmp_path}: no page: run `make docs`"
    ]

"""Every text of the product is UTF-8, whatever the locale: files, pipes, and what is said."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for folder in ("distillpipe", "scripts") for path in (ROOT / folder).rglob("*.py")
)
READERS = {"read_text": 0, "write_text": 1, "open": 2, "NamedTemporaryFile": 2, "TemporaryFile": 2}
"functions and methods, with the place of `encoding` among their arguments, one less for a method"


def texts_without_an_encoding(source: str) -> list[int]:
    """Lines of the calls that read or write text in the encoding of the locale."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and _is_text(node) and not _names_encoding(node)
    ]


def _is_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    keywords = {one.arg: one.value for one in call.keywords}
    if name in ("run", "Popen", "check_output", "check_call"):
        return "text" in keywords or "universal_newlines" in keywords
    if name in ("read_text", "write_text"):
        return True
    if name in ("open", "fdopen", "TextIOWrapper"):
        is_method = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) not in (
            "os",
            "io",
            "gzip",
            "codecs",
        )
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func) in (
            "os.open",
            "gzip.open",
        ):
            return False
        places = call.args if is_method else call.args[1:]
        mode = keywords.get("mode", places[0] if places else None)
        if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
            return "b" not in mode.value
        return mode is None and (is_method or bool(call.args))
    return False


def _names_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    place = {"read_text": 0, "write_text": 1}.get(name)
    by_place = place is not None and len(call.args) > place
    return by_place or any(one.arg == "encoding" for one in call.keywords)


@pytest.mark.parametrize(
    ("source", "is_found"),
    [
        ("(a / 'b').write_text(c)", True),
        ("(a / 'b').write_text(c, encoding='utf-8')", False),
        ("path.read_text('utf-8', 'replace')", False),
        ("path.open()", True),
        ("path.open('rb')", False),
        ("path.open('a')", True),
        ("open(path)", True),
        ("open(path, 'wb')", False),
        ("os.open(path, flags, 0o644)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, text=True, encoding='utf-8')", False),
        ("os.fdopen(1, 'w')", True),
    ],
)
def test_a_call_that_leaves_the_encoding_to_the_locale_is_seen(source: str, is_found: bool) -> None:
    assert bool(texts_without_an_encoding(source)) is is_found


def test_no_text_is_read_or_written_in_the_locales_encoding() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in texts_without_an_encoding(path.read_text(encoding="utf-8"))
    }
    assert sorted(found) == []

r"""What reaches a terminal: names, errors and rows are data, and no character of theirs acts on it.

Escape sequences clear a screen, change its title and write the clipboard; a line feed in a name forges a
line of ours; marks of direction reorder what is read. They are written out: `\x1b`, `\n`, `\u202e`. A line
of ours is one string: a line feed inside of it came from data, so `say` and `put` take lines.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from distillpipe.base.encoding import document
from distillpipe.base.redaction import redact

_BYTES = range(0xDC80, 0xDD00)  # bytes of a file name that are not UTF-8, as Python keeps them
_ACTING = (
    *range(0x20), *range(0x7F, 0xA0),  # C0, DEL and C1
    0x2028, 0x2029,  # line and paragraph separator
    *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # overrides and isolates of direction
    *range(0xD800, 0xE000),  # surrogates, which no encoding has
)  # fmt: skip


def _written_out(code: int) -> str:
    if code == ord("\n"):
        return "\\n"
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_LINE = {code: _written_out(code) for code in _ACTING if code != ord("\t")}
_TEXT = {code: text for code, text in _LINE.items() if code != ord("\n")}
_JSON = {code: f"\\u{code:04x}" for code in _ACTING if code >= 0x7F}


def printable(line: str) -> str:
    """A line with the characters that act on a terminal written out, line feeds too."""
    return line.translate(_LINE)


def printable_text(text: str) -> str:
    """The same of a text of several lines."""
    return text.translate(_TEXT)


def put(lines: Iterable[str]) -> None:
    """Lines on stdout, in UTF-8 whatever the locale: text of models holds any character."""
    _write("".join(f"{printable(line)}\n" for line in lines))


def put_json(content: Any) -> None:
    """One JSON object on stdout; no text in it acts on a terminal."""
    _write(json_escaped(document(content)))


def json_escaped(encoded: bytes) -> str:
    """The same JSON, with the characters of its texts escaped that JSON may leave and a terminal obeys."""
    return encoded.decode().translate(_JSON)


def _write(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


class _Record(logging.LogRecord):
    def getMessage(self) -> str:
        return printable_text(redact(super().getMessage()))


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    return f"{filename}:{lineno}: {category.__name__}: {printable_text(redact(str(message)))}\n"


def _print_error(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    sys.stderr.write(
        printable_text(redact("".join(traceback.format_exception(kind, error, trace))))
    )


def guard() -> None:
    """Have what Python itself prints, logs, warnings and tracebacks, written out too, keys left out."""
    logging.setLogRecordFactory(_Record)
    warnings.formatwarning = _warning
    sys.excepthook = _print_error

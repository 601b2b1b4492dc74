r"""Output to a terminal: control characters in names, errors and rows are escaped.

Escape sequences can clear the screen, change its title and write the clipboard. A line feed in a name can forge a
line of our output, and Unicode direction marks reorder it. We print them as `\x1b`, `\n`, `\u202e`. `say` and
`put` take one string for each line, so a line feed within a string comes from data and is escaped.
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

_BYTES = range(
    0xDC80, 0xDD00
)  # surrogates in which Python keeps the bytes of a file name that are not UTF-8
_CONTROL = (
    *range(0x20), *range(0x7F, 0xA0),  # C0, DEL and C1
    0x2028, 0x2029,  # line and paragraph separator
    *range(0x202A, 0x202F), *range(0x2066, 0x206A),  # direction overrides and isolates
    *range(0xD800, 0xE000),  # surrogates, which cannot be encoded
)  # fmt: skip


def _escape(code: int) -> str:
    if code == ord("\n"):
        return "\\n"
    if code in _BYTES:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_LINE = {code: _escape(code) for code in _CONTROL if code != ord("\t")}
_TEXT = {code: text for code, text in _LINE.items() if code != ord("\n")}
_JSON = {code: f"\\u{code:04x}" for code in _CONTROL if code >= 0x7F}


def printable(line: str) -> str:
    """The line with control characters escaped, line feeds too."""
    return line.translate(_LINE)


def printable_text(text: str) -> str:
    """A text of several lines with control characters escaped, except for line feeds."""
    return text.translate(_TEXT)


def put(lines: Iterable[str]) -> None:
    """Print lines on stdout, in UTF-8 whatever the locale is."""
    _write("".join(f"{printable(line)}\n" for line in lines))


def put_json(content: Any) -> None:
    """Print one JSON object on stdout, with control characters escaped."""
    _write(json_escaped(document(content)))


def json_escaped(encoded: bytes) -> str:
    """The same JSON with those control characters escaped that JSON allows and a terminal obeys."""
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
    """Escape control characters and redact keys in logs, warnings and tracebacks too."""
    logging.setLogRecordFactory(_Record)
    warnings.formatwarning = _warning
    sys.excepthook = _print_error

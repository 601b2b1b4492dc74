"""Hints in the source of a chat template: names and texts that are worth a try when it is rendered.

What a template does is learnt from what it renders, see `delimiters` and `switches`. Its source only says what to
try: the variables that may switch thinking on, the values that they are compared with, and the texts that may be
delimiters.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_TEXTS = 40  # candidates for delimiters that are tried
MAX_VALUES = 6  # values of a variable that are tried
LONGEST_MARK = 64  # characters
SWITCH = re.compile(r"think|reason|effort", re.IGNORECASE)
MARK = re.compile(r"<[^<>\n]{2,60}>|\[[^\[\]\n]{2,60}\]|◁[^◁▷\n]{1,60}▷")
"A delimiter as families write them: `<think>`, `<|end|>`, `[THINK]`, `◁think▷`."
THOUGHT_MARK = re.compile(r"think|thought|reason|inner", re.IGNORECASE)
_FIRST_NAMES = ("enable_thinking", "thinking")
_PLAIN = re.compile(r"[\w\s.,:;-]*")


class Hints(NamedTuple):
    """What the source of a template suggests to try."""

    switches: dict[str, list[str]]
    "variables whose names speak of thinking, with the texts that they are compared with"
    marks: list[str]
    "texts that may be delimiters, in the order of the source"
    names: frozenset[str]
    "all names in the source; empty if it cannot be read"


def hints_of(template: str) -> Hints:
    """Read the hints of a template. Nothing is rendered; a template that cannot be read gives none."""
    import jinja2  # not where only help or `doctor` is wanted

    try:
        tokens = [
            (one.type, str(one.value)) for one in jinja2.Environment().lexer.tokenize(template)
        ]
    except (jinja2.TemplateError, RecursionError, ValueError):
        return Hints({}, [], frozenset())
    switches: dict[str, list[str]] = {name: [] for name in _FIRST_NAMES}
    marks: dict[str, None] = {}
    for position, (kind, value) in enumerate(tokens):
        is_field = position > 0 and tokens[position - 1][0] == "dot"
        if kind == "name" and not is_field and SWITCH.search(value):
            values = switches.setdefault(value, [])
            values += [text for text in _compared(tokens, position) if text not in values]
        elif kind in ("string", "data"):
            texts = [value.strip()] if kind == "string" else []
            marks |= dict.fromkeys([*texts, *MARK.findall(value)])
    names = frozenset(value for kind, value in tokens if kind == "name")
    known = {name: values[:MAX_VALUES] for name, values in switches.items() if name in names}
    return Hints(known, list(filter(_may_be_mark, marks))[:MAX_TEXTS], names)


def _compared(tokens: list[tuple[str, str]], position: int) -> Iterator[str]:
    """The texts that a variable is compared with: `effort == 'high'`, `effort in ['low', 'high']`."""
    kinds = [kind for kind, _ in tokens[position + 1 : position + 3]]
    if kinds in (["eq", "string"], ["ne", "string"]):
        yield tokens[position + 2][1]
    words = [value for kind, value in tokens[position + 1 : position + 3] if kind == "name"]
    is_list = words[:1] == ["in"] or words == ["not", "in"]
    if is_list:
        for kind, value in tokens[position + 2 : position + 20]:
            if kind == "string":
                yield value
            elif kind in ("rbracket", "rparen", "block_end", "variable_end"):
                return


def _may_be_mark(text: str) -> bool:
    return 3 <= len(text) <= LONGEST_MARK and "\n" not in text and not _PLAIN.fullmatch(text)

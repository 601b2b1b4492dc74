r"""Detect texts that were cut off, from their last characters.

The recorded finish reason is not enough: imported rows say `stop` for completions that were cut off, and reasoning
that was cut off may be followed by a closing tag and an answer. A text is cut off if it ends within a word, a
sentence, `\boxed{`, a formula or a code block. It is complete if it ends with a whole sentence or formula, or
with a value or name that is stated as the answer. A cut between two sentences is not detected.
"""

import re

_LAST = 2_000  # last characters that are searched for an open formula
_TAIL = 160  # last characters that are searched for an answer
NUM_SHOWN = 40
_MAX_WORDS = 5  # in a response that consists of its answer only
ANSWER_TAG = re.compile(r"</?answer>")
_OPENING = frozenset(",;:([{=+-\u2013\u2014\xd7·÷/\\&<^≈≠≤≥\u2212→@\u201c\u2018")
_RULE = re.compile(r"[-=_*]{3,}\Z")
_FENCE = re.compile(r"^[^\S\n]*+(?:```|~~~)", re.MULTILINE)
_FORMULA = re.compile(r"(?<!\\)\\([\[\]()])")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{[a-zA-Z]+\*?\}")
_STUCK = re.compile(r"[.!?)*][a-z]{1,2}\Z")  # Qwen3.5 ends thoughts with "Ready.cw"
_VALUE = re.compile(
    r"(?:[=≈:#]|\bis|\bare|\band|\bor)\W{0,4}\d[\d.,:/^%\xd7xeE+-]*\Z", re.IGNORECASE
)
_ANSWER = re.compile(
    r"(?:(?:answer|solution|result|choice|option|output|conclusion|答案)\W{0,2}(?:\s+is\b|\s*[:\uff1a=是])|####)"
    r"\W*(?:[^\s.?!]+\s*){0,5}\W*\Z"
    r"|[=≈]\s*\w{1,20}\Z",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(
    r"(?:\A|\s)(?:~ ?\w[\w.]*(?: \w+)?|-[A-Za-z][\w.]{5,})\Z"
)  # "~ name" or "-name": authors sign their solutions
_LIST = re.compile(r"(?:\A|[:*\s])(?:(\w+)(?:\s+\1){2,}|\w+(?: \w+)?(?:, \w+(?: \w+)?){3,})\Z")
_BULLET = re.compile(r"\A(?:[*•#-]+|\d+[.)])\Z|\s[*•]\Z|:\*{1,2}\Z")
_CLOSING = frozenset(")]\"'$\u201d\u2019")
_SENTENCE_WORDS = 8


def breaks_off(text: str) -> bool:
    """Whether `text` ends within a sentence or a formula. False for blank text."""
    last = text[-_LAST:].rstrip()
    if not last:
        return False
    if _is_open_formula(last):
        return True
    if last[-1] in ".!?" and not last[-2:-1].isdigit():
        return False
    line = last[last.rfind("\n") + 1 :].strip()
    tail = line[-_TAIL:]
    if any(pattern.search(tail) for pattern in (_ANSWER, _RULE, _LIST, _SIGNATURE)):
        return False
    if line[-1] in _OPENING or _BULLET.search(line) or _is_bold_open(line):
        return True
    if line[-1] in _CLOSING:
        return _is_inside_sentence(line)
    if not line[-1].isalnum() or _STUCK.search(tail):
        return False
    if line[-1].isdigit() and _VALUE.search(tail):
        return line.count("(") > line.count(")")
    is_one_line = len(text) < _TAIL and len(line) == len(text.strip())
    return not (is_one_line and len(ANSWER_TAG.sub("", line).split()) <= _MAX_WORDS)


def _is_bold_open(line: str) -> bool:
    return line.count("**") % 2 == 1 and "`" not in line and "****" not in line


def _is_inside_sentence(line: str) -> bool:
    """Whether a quote, bracket or formula is closed, but the sentence around it is not."""
    inside = line.rstrip("".join(_CLOSING) + "\\ ")
    is_formula = line.endswith(("\\]", "$$"))
    if is_formula or not inside or not inside[-1].isalnum() or "=" in line[-NUM_SHOWN:]:
        return False
    return len(line.split()) >= _SENTENCE_WORDS


def is_open_block(text: str) -> bool:
    r"""Whether a code block or the last `\boxed{` is not closed."""
    box = text.rfind("\\boxed{")
    if box >= 0:
        inside = text[box : box + _LAST]
        if len(inside) < _LAST and inside.count("{") > inside.count("}"):
            return True
    return ("```" in text or "~~~" in text) and len(_FENCE.findall(text)) % 2 == 1


def _is_open_formula(text: str) -> bool:
    """Whether the last paragraph ends within a formula."""
    text = text[text.rfind("\n\n") + 1 :]
    if "\\" not in text and "$" not in text:
        return False
    marks = _FORMULA.findall(text)
    if marks and marks[-1] in "[(":
        return True
    environments = _ENVIRONMENT.findall(text)
    if environments and environments[-1] == "begin":
        return True
    line = text[text.rfind("\n") + 1 :]
    dollars = line.count("$") - line.count("\\$")
    return dollars % 2 == 1 and ("\\" in line[line.rfind("$") :] or line[-1] == "$")


def last_words(text: str) -> str:
    """The last characters of a text on one line, for the value measured of a drop."""
    return " ".join(text[-NUM_SHOWN:].split())

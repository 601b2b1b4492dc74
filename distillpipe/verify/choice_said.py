r"""Finds statements of the chosen option in a response: "the answer is (C)", "Option C is correct", 故选 C, `**C**`.

Negations ("the answer is not A"), conditions ("if the answer is A") and questions do not count; "A or B" is
undecided. The last statement counts. The time is linear in the length of the response.
"""

# ruff: noqa: RUF001 - full-width characters
import re
from collections.abc import Sequence

from distillpipe.verify.choice_letters import letters

_LAST_CHARACTERS = 20_000
_SHORT = 120  # characters of a response in which a letter without brackets may be the answer
_OPEN = r"[(（\[{*_$\"'\u201c`\s]{0,8}(?:\\[(\[]\s?)?(?:\\(?:text|math|bold)[a-z]{0,9}\{)?[(（\[{*_$\"'\u201c`]{0,4}"
_CLOSE = r"[)）\]}*$\"'\u201d`]{0,4}"
_NOT_IN_WORD = r"(?![A-Za-z0-9'\u2019=^>+/|-])(?!\s?(?:[=^>+]|<(?!/)))(?!\s?\\(?![)\]]))(?!_\w)"  # nor part of a formula
_ARTICLE = r"(?!\s+(?!(?:because|since|as|due|is|and|or|for|which|that|given|but|not|by|with|from|based|rather)\b)[a-z])"
_LETTER = rf"(?:[B-HJ-Z]{_NOT_IN_WORD}|[AI]{_NOT_IN_WORD}{_ARTICLE}|(?<=\()[a-z](?=\)))"
_ITEM = rf"(?>{_OPEN}{_LETTER}{_CLOSE})"
_SEPARATOR = r"\s{0,3}(?:[,、，;；&]\s{0,3}(?:and\b|or\b)?|\band\b|\bor\b|和|与|及|或)"
_ITEMS = rf"(?P<items>{_ITEM}(?:{_SEPARATOR}{_ITEM}){{0,9}}+)"  # possessive: no backtracking
_FILLER = (
    r"(?:[\s:：*_=—>→-]|\b(?:for sure|definitely|clearly|certainly|surely|therefore|thus|then|hence|indeed|actually"
    r"|obviously|simply|just|still|likely|probably|most|option|choice|letter|answer|statement|the|correct|right|best"
    r"|one|number|be|both|options|choices|answers|selection)\b|选项|应该是|应为|应是|是|为|為){0,12}+"
)
_STATEMENTS = [
    re.compile(
        r"\b(?i:answers?|options?|choices?|solution|selection|conclusion)\b(?:(?!\b[A-Z]\b)[^.\n:：?]){0,60}?"
        rf"(?i:\b(?:is|are|be)\b|[:：=→])(?i:{_FILLER}){_ITEMS}(?!\s(?:is|are|was|were|has|does|can|would)\b)"
    ),
    re.compile(rf"(?i:<answer>)\s{{0,9}}{_ITEMS}\s{{0,9}}(?i:</answer>)"),
    re.compile(rf"\b(?i:(?:final\s)?answer)[\s*_#:.-]{{0,10}}+{_ITEMS}[.*_\s]{{0,4}}(?:\n|\Z)"),
    re.compile(
        rf"(?:\b(?i:options?|choices?|answers?|statements?)\s)?{_ITEMS}\s(?i:is|are)\s"
        r"(?i:(?:both|all|therefore|thus|clearly|definitely|indeed|then|hence|also)\s)?"
        r"(?i:the\s)?(?i:only\s)?(?i:(?:most\s)?(?:correct|right|best|answers?)\b)"
    ),
    re.compile(
        r"\b(?i:I(?:'d|['\u2019]ll| would| will| shall)? (?:choose|pick|select|go with|go for|answer))"
        rf"(?i:{_FILLER}){_ITEMS}"
    ),
    re.compile(rf"(?<!不)(?:答案|故选|应选|选择|选出|选)(?!项)[^A-Za-z\n。]{{0,8}}?{_ITEMS}"),
    re.compile(
        r"\b(?i:réponse|respuesta|risposta|resposta|antwort|lösung|ответ|jawaban|jawapan|đáp án|정답|正解|答え)"
        rf"(?i:\s\w{{1,12}})?\s?(?i:est|es|é|è|ist|adalah|là|은|는|は|[:：—-])?\s?{_ITEMS}"
    ),
]
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|incorrect|wrong|false|unlikely|except|eliminate\w?|exclud\w{1,4}|rul\w{1,3} out"
    r"|one of|not sure|unsure|guess between)\b|n['\u2019]t\b|不|错",
    re.IGNORECASE,
)
_CONDITION = re.compile(
    r"\b(?:if|unless|whether|suppose|assum\w{1,5}|were|could|might|may)\b|假设|如果|是否",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.,?!;:。，？！；：\n]")
_QUESTION = re.compile(r"[^.\n!。]{0,80}[?？]")
_OR_LETTER = re.compile(r"[)\]}*\s]{0,5}(?:or|或)\s{0,3}[(*]{0,3}([A-Z])(?![A-Za-z])")
_SINGLE_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_WORDS = re.compile(r"\b(?:and|or)\b")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_UNBRACKETED = re.compile(r"(?<![A-Za-z'(\\])([B-HJ])(?![A-Za-z'\u2019=^_\\])(?!\s*[=^+<>])")


def stated_letters(response: str, options: Sequence[str] | None) -> str | None:
    """The letters that the last statement of a response names, joined by ", ", or by " or " if undecided.

    None if there is no such statement.
    """
    start = max(0, len(response) - _LAST_CHARACTERS)
    last, end = None, -1
    for statement in _STATEMENTS:
        for match in statement.finditer(response, start):
            if match.end("items") <= end or _does_not_count(response, match):
                continue
            items = re.sub(r"\\[a-z]+\{", " ", match["items"])
            named = [letter.upper() for letter in _SINGLE_LETTER.findall(_WORDS.sub(" ", items))]
            alternative = _OR_LETTER.match(response, match.end("items"))
            is_undecided = alternative or "或" in items or re.search(r"\bor\b", items)
            named = list(dict.fromkeys([*named, alternative[1]] if alternative else named))
            text = (" or " if is_undecided else ", ").join(named)
            if letters(text, options) is not None:
                last, end = text, match.end("items")
    return last


def lone_letter(response: str) -> str | None:
    """The only letter that a response names: in brackets, or also without in a short response; None if negated."""
    text = response[-_LAST_CHARACTERS:]
    mentions = list(_BRACKETED.finditer(text))
    if len(response) <= _SHORT:
        mentions += _UNBRACKETED.finditer(text)
    named = {mention[1] for mention in mentions}
    if len(named) != 1 or any(_is_negated(text, *mention.span()) for mention in mentions[:100]):
        return None
    return named.pop()


def last_line(response: str) -> str:
    """The last line of a response that is not blank."""
    return response[-_LAST_CHARACTERS:].rstrip().rsplit("\n", 1)[-1].strip()


def _does_not_count(text: str, match: re.Match[str]) -> bool:
    """Whether a statement is negated, a condition, or a question."""
    before = _clause_before(text, match.start()) + text[match.start() : match.start("items")]
    if _NEGATION.search(before) or _CONDITION.search(before):
        return True
    return "\n" not in match[0][-4:] and bool(_QUESTION.match(text, match.end()))


def _is_negated(text: str, start: int, end: int) -> bool:
    """Whether the clause around a letter is a negation, a condition, or a question."""
    clause_end = _CLAUSE_END.search(text, end, end + _SHORT)
    after = text[end : clause_end.start() if clause_end else end + _SHORT]
    if _QUESTION.match(text, end) or _CONDITION.search(_clause_before(text, start)):
        return True
    return bool(_NEGATION.search(f"{_clause_before(text, start)} {after}"))


def _clause_before(text: str, start: int) -> str:
    before = text[max(0, start - 80) : start]
    *_, first = (0, *(mark.end() for mark in _CLAUSE_END.finditer(before)))
    return before[first:]

r"""What a response says its choice is: "the answer is (C)", "Option C is correct", 故选 C, a last line `**C**`.

Only plain statements count. "The answer is not A", "if the answer is A" and "is the answer A?" say nothing,
"A or B" is undecided. Of several statements the last one counts. Time is linear in the response.
"""

# ruff: noqa: RUF001 - full-width signs
import re
from collections.abc import Sequence

from distillpipe.verify.choice_letters import letters

_LAST_CHARACTERS = 20_000
_SHORT = 120  # characters of a response in which a letter that is not bracketed may be the answer
_OPEN = r"[(（\[{*_$\"'\u201c`\s]{0,8}(?:\\[(\[]\s?)?(?:\\(?:text|math|bold)[a-z]{0,9}\{)?[(（\[{*_$\"'\u201c`]{0,4}"
_CLOSE = r"[)）\]}*$\"'\u201d`]{0,4}"
_NO_WORD = r"(?![A-Za-z0-9'\u2019=^>+/|-])(?!\s?(?:[=^>+]|<(?!/)))(?!\s?\\(?![)\]]))(?!_\w)"  # nor a symbol
_ARTICLE = r"(?!\s+(?!(?:because|since|as|due|is|and|or|for|which|that|given|but|not|by|with|from|based|rather)\b)[a-z])"
_LETTER = rf"(?:[B-HJ-Z]{_NO_WORD}|[AI]{_NO_WORD}{_ARTICLE}|(?<=\()[a-z](?=\)))"
_ITEM = rf"(?>{_OPEN}{_LETTER}{_CLOSE})"
_JOINT = r"\s{0,3}(?:[,、，;；&]\s{0,3}(?:and\b|or\b)?|\band\b|\bor\b|和|与|及|或)"
_ITEMS = rf"(?P<items>{_ITEM}(?:{_JOINT}{_ITEM}){{0,9}}+)"  # taken whole: no other way is tried
_SURELY = (
    r"(?:[\s:：*_=—>→-]|\b(?:for sure|definitely|clearly|certainly|surely|therefore|thus|then|hence|indeed|actually"
    r"|obviously|simply|just|still|likely|probably|most|option|choice|letter|answer|statement|the|correct|right|best"
    r"|one|number|be|both|options|choices|answers|selection)\b|选项|应该是|应为|应是|是|为|為){0,12}+"
)
_STATEMENTS = [
    re.compile(
        r"\b(?i:answers?|options?|choices?|solution|selection|conclusion)\b(?:(?!\b[A-Z]\b)[^.\n:：?]){0,60}?"
        rf"(?i:\b(?:is|are|be)\b|[:：=→])(?i:{_SURELY}){_ITEMS}(?!\s(?:is|are|was|were|has|does|can|would)\b)"
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
        rf"(?i:{_SURELY}){_ITEMS}"
    ),
    re.compile(rf"(?<!不)(?:答案|故选|应选|选择|选出|选)(?!项)[^A-Za-z\n。]{{0,8}}?{_ITEMS}"),
    re.compile(
        r"\b(?i:réponse|respuesta|risposta|resposta|antwort|lösung|ответ|jawaban|jawapan|đáp án|정답|正解|答え)"
        rf"(?i:\s\w{{1,12}})?\s?(?i:est|es|é|è|ist|adalah|là|은|는|は|[:：—-])?\s?{_ITEMS}"
    ),
]
_DENIED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|incorrect|wrong|false|unlikely|except|eliminate\w?|exclud\w{1,4}|rul\w{1,3} out"
    r"|one of|not sure|unsure|guess between)\b|n['\u2019]t\b|不|错",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|unless|whether|suppose|assum\w{1,5}|were|could|might|may)\b|假设|如果|是否",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"[.,?!;:。，？！；：\n]")
_QUESTION = re.compile(r"[^.\n!。]{0,80}[?？]")
_FURTHER = re.compile(r"[)\]}*\s]{0,5}(?:or|或)\s{0,3}[(*]{0,3}([A-Z])(?![A-Za-z])")
_NAMED = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
_WORDS = re.compile(r"\b(?:and|or)\b")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_BARE = re.compile(r"(?<![A-Za-z'(\\])([B-HJ])(?![A-Za-z'\u2019=^_\\])(?!\s*[=^+<>])")


def said_letters(response: str, options: Sequence[str] | None) -> str | None:
    """The letters that the last plain statement of a response names, joined by ", "; "A or C" as it is.

    None where there is no such statement.
    """
    start = max(0, len(response) - _LAST_CHARACTERS)
    last, end = None, -1
    for statement in _STATEMENTS:
        for found in statement.finditer(response, start):
            if found.end("items") <= end or _says_nothing(response, found):
                continue
            items = re.sub(r"\\[a-z]+\{", " ", found["items"])
            named = [letter.upper() for letter in _NAMED.findall(_WORDS.sub(" ", items))]
            further = _FURTHER.match(response, found.end("items"))
            is_open = further or "或" in items or re.search(r"\bor\b", items)
            named = list(dict.fromkeys([*named, further[1]] if further else named))
            text = (" or " if is_open else ", ").join(named)
            if letters(text, options) is not None:
                last, end = text, found.end("items")
    return last


def lone_letter(response: str) -> str | None:
    """The only letter that a response names: in brackets, or anywhere in a short one; no denied one."""
    text = response[-_LAST_CHARACTERS:]
    found = list(_BRACKETED.finditer(text))
    if len(response) <= _SHORT:
        found += _BARE.finditer(text)
    named = {mention[1] for mention in found}
    if len(named) != 1 or any(_is_denied(text, *mention.span()) for mention in found[:100]):
        return None
    return named.pop()


def last_line(response: str) -> str:
    """The last line of a response that is not blank."""
    return response[-_LAST_CHARACTERS:].rstrip().rsplit("\n", 1)[-1].strip()


def _says_nothing(text: str, found: re.Match[str]) -> bool:
    """Whether the clause denies, supposes or asks what the statement says."""
    before = _clause_before(text, found.start()) + text[found.start() : found.start("items")]
    if _DENIED.search(before) or _SUPPOSED.search(before):
        return True
    return "\n" not in found[0][-4:] and bool(_QUESTION.match(text, found.end()))


def _is_denied(text: str, start: int, end: int) -> bool:
    after = _CLAUSE_END.search(text, end, end + _SHORT)
    behind = text[end : after.start() if after else end + _SHORT]
    if _QUESTION.match(text, end) or _SUPPOSED.search(_clause_before(text, start)):
        return True
    return bool(_DENIED.search(f"{_clause_before(text, start)} {behind}"))


def _clause_before(text: str, start: int) -> str:
    before = text[max(0, start - 80) : start]
    *_, first = (0, *(mark.end() for mark in _CLAUSE_END.finditer(before)))
    return before[first:]

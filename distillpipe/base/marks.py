r"""Known marks of reasoning inside a text, and the parts of a completion that they separate.

Servers without a reasoning parser and published data sets hold a completion as one text. `split_marked` reads it
whatever family of models wrote it; `thinking.split` reads the tags of one chat template that is at hand.

    <think>R</think>A                                  most families, also [THINK], <thought>, <reasoning>, ...
    R</think>A                                         the prompt had opened the thought
    Sure!\\n<think>R</think>A                           text before the tag
    <think>R</think><answer>A</answer>                 a wrapper around the answer
    <|channel|>analysis<|message|>R<|end|><|start|>assistant<|channel|>final<|message|>A    gpt-oss (harmony)
    analysisRassistantfinalA                           the same without its special tokens
    to=self<|message|>R<|eom|> ... to=user<|message|>A Muse (ATEM)
"""

import re
from typing import NamedTuple


class Marked(NamedTuple):
    """A completion, split at the marks in it."""

    before: str
    "text before the opening mark,  for none; neither reasoning nor response"
    reasoning: str
    "several thoughts in a row are joined by an empty line"
    response: str
    "empty if the reasoning was not closed"
    marks: tuple[str, ...] = ()
    "opening and closing mark that were used; empty if the text has none"


# ---------------------------------------------------------------- the table of marks

_NAMES = (
    r"think|thinking|thoughts?|think_\w{1,12}|\w{1,12}[_:]think|reasoning|reason|analysis|scratchpad|reflection|cot"
    r"|chain_of_thought|inner_monologue|internal_monologue|inner_thoughts|thought_process|thinking_process|reasoning_process"
    r"|rationale|antthinking"
)
PAIRS: dict[str, tuple[str, str]] = {
    "xml": (rf"<(?P<name>{_NAMES})>", ""),  # </name>
    "mistral": (
        r"\[(?:THINK|THINKING|THOUGHT|REASONING)\]",
        r"\[/(?:THINK|THINKING|THOUGHT|REASONING)\]",
    ),
    "piped": (
        r"<\|(?:thinking|thought|reasoning|begin_of_thinking|begin_of_reasoning)\|>",
        r"<\|(?:/(?:thinking|thought|reasoning)|end_of_thinking|end_of_reasoning)\|>",
    ),
    "cohere": (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    "kimi": (r"◁think▷", r"◁/think▷"),
    "openthoughts": (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    "gemma": (r"<\|channel>thought\b", r"<channel\|>"),
    "apertus": (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    "apriel": (r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),
    "granite": (r"Here is my thought process:", r"Here is my response:"),
    "solar": (
        r"<\|think\|>",
        r"<\|/think\|>|<\|end\|>\s{0,8}<\|begin\|>\s{0,8}assistant\s{0,8}<\|content\|>",
    ),
    "clova": (
        r"/think\n",
        r"<\|im_end\|>\s{0,8}<\|im_start\|>\s{0,8}assistant\b(?!/)",
    ),
}
"Of each family: the pattern that opens a thought, and the one that closes it and begins the response."

_OPENED_BY_PROMPT = (
    r"</(?P<name>think|thinking|thoughts?|think_\w{1,12}|\w{1,12}[_:]think|reasoning)>|\[/THINK\]"
    r"|<\|END_THINKING\|>|◁/think▷|<\|end_of_thought\|>|<channel\|>|<\|inner_suffix\|>"
    r"|\[BEGIN FINAL RESPONSE\]"
)
WRAPPERS = ("answer", "response", "final_answer", "final_response", "output", "solution", "final")
"Names of tags that some models put around the whole response."
_RESPONSE_MARKS = (
    (r"<\|START_(?:RESPONSE|TEXT)\|>", r"<\|END_(?:RESPONSE|TEXT)\|>"),
    (r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>"),
    (r"\[BEGIN FINAL RESPONSE\]", r"\[END FINAL RESPONSE\]"),
)
_END_TOKENS = re.compile(
    r"(?:<\|(?:im_end|endoftext|eot_id|eom_id|end_of_text|END_OF_TURN_TOKEN|return|end|eot|eom|assistant_end)\|>"
    r"|</s>|<turn\|>|<end_of_turn>|<\uff5cend▁of▁sentence\uff5c>|\[\|endofturn\|\]|\[END FINAL RESPONSE\])\Z"
)
_STRONG = re.compile(r"think|thinking|thoughts?|think_\w+|\w+[_:]think|reasoning", re.IGNORECASE)
MAX_MARK = 64  # characters
MAX_BEFORE = (
    400  # characters of text before an opening mark; more is an answer that speaks of the mark
)

_OPEN = re.compile("|".join(f"(?P<{key}>{pair[0]})" for key, pair in PAIRS.items()), re.IGNORECASE)
_CLOSE = re.compile(_OPENED_BY_PROMPT, re.IGNORECASE)
_CLOSERS = {key: re.compile(pair[1], re.IGNORECASE) for key, pair in PAIRS.items() if key != "xml"}
_WRAPPED = re.compile(rf"\s*<(?P<name>{'|'.join(WRAPPERS)})>", re.IGNORECASE)
_RESPONSES = [(re.compile(rf"\s*{begin}"), re.compile(end)) for begin, end in _RESPONSE_MARKS]
_HARMONY = re.compile(
    r"(?:<\|start\|>\s{0,8}assistant)?\s{0,8}<\|channel\|>\s{0,8}(\w{1,20})[^<\n]{0,80}(?:<\|constrain\|>\s{0,8}\w{1,20})?<\|message\|>"
)
_HARMONY_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_HARMONY_TEXT = re.compile(r"assistant(?=(analysis|commentary|final))")
_ATEM = re.compile(r"to=(self|user)\s{0,8}<\|message\|>")
_ATEM_END = re.compile(r"<\|(?:eom|eot|header_start|start)\|>")
_SPACE = re.compile(r"\s*")


# ---------------------------------------------------------------- reading


def split_marked(text: str) -> Marked:
    """Split a completion's text at the marks in it. A text without marks is all response, as it is."""
    for read in (_harmony, _harmony_text, _atem):
        if (marked := read(text)) is not None:
            return marked
    marked = _first_thought(text)
    if not marked.marks:
        return marked._replace(response=without_wrapper(text, is_reasoned=False))
    thoughts, rest = [marked.reasoning], marked.response
    while (more := _OPEN.match(rest)) is not None:  # a second thought right behind the first
        thought, following = _closed(rest, more)
        thoughts.append(thought)
        if following is None:
            rest = ""
            break
        rest = following
    if (stray := _CLOSE.match(rest)) is not None:
        rest = rest[stray.end() :].lstrip()
    reasoning = "\n\n".join(thought for thought in thoughts if thought.strip())
    return marked._replace(reasoning=reasoning, response=without_wrapper(rest))


def without_wrapper(response: str, *, is_reasoned: bool = True) -> str:
    """The response without tags such as `<answer>` around the whole of it, and without end tokens behind it.

    Without reasoning before it (`is_reasoned`), `<output>` and `<solution>` may be what was asked for, and stay.
    """
    bare = response.rstrip()
    while (end := _END_TOKENS.search(bare, max(0, len(bare) - 40))) is not None:
        bare = response = bare[: end.start()].rstrip()
    for begin, end_mark in _RESPONSES:
        if (opened := begin.match(response)) is not None:
            closed = end_mark.search(response, opened.end())
            return response[opened.end() : closed.start() if closed else len(response)].strip()
    opened = _WRAPPED.match(response)
    if opened is None or (not is_reasoned and opened["name"].lower() not in WRAPPERS[:4]):
        return response
    close = f"</{opened['name']}>"
    inner = bare[opened.end() :]
    if not inner.lower().endswith(close.lower()):
        # cut off inside the wrapper; where text follows the closing tag, the tags are part of the answer
        return response if close.lower() in inner.lower() else inner.lstrip()
    inner = inner[: -len(close)]
    return response if close.lower() in inner.lower() else inner.strip()


def without_marks(thought: str) -> str:
    """The text of a reasoning field without marks around it: some servers leave them in."""
    opened = _OPEN.match(thought, _end_of_space(thought, 0))
    if opened is not None:
        inner, rest = _closed(thought, opened)
        return inner if not (rest or "").strip() else thought
    closed = _CLOSE.search(thought, max(0, len(thought.rstrip()) - 40))
    if closed is not None and not thought[closed.end() :].strip():
        return thought[: closed.start()].rstrip()
    return thought


def _first_thought(text: str) -> Marked:
    """Before, reasoning and response at the first thought of a text; without marks all is response."""
    start = _end_of_space(text, 0)
    opened = _OPEN.match(text, start)
    if opened is not None and _needs_closing(opened) and _closed(text, opened)[1] is None:
        return Marked("", "", text)
    if opened is None:
        closed = _CLOSE.search(text)
        found = _OPEN.search(text, start, start + MAX_BEFORE + MAX_MARK)
        if closed is not None and (found is None or closed.start() < found.start()):
            if closed[0].replace("/", "") in text[start : closed.start()]:
                return Marked("", "", text)  # a mark deep inside an answer
            reasoning = text[start : closed.start()].rstrip()
            rest = text[_end_of_space(text, closed.end()) :]
            return Marked("", reasoning, rest, ("", closed[0]))
        if found is None or not _is_thought_after(text, start, found):
            return Marked("", "", text)
        opened = found
    thought, rest_or_none = _closed(text, opened)
    closed = None if rest_or_none is None else _closer(opened).search(text, opened.end())
    before = text[start : opened.start()].strip()
    return Marked(before, thought, rest_or_none or "", (opened[0], closed[0] if closed else ""))


def _needs_closing(opened: re.Match[str]) -> bool:
    """Whether a mark is also what an ordinary answer may begin with, so that it counts only if it is closed."""
    is_weak_tag = opened["xml"] is not None and not _STRONG.fullmatch(opened["name"])
    return is_weak_tag or opened["apriel"] is not None or opened["granite"] is not None


def _is_thought_after(text: str, start: int, opened: re.Match[str]) -> bool:
    """Whether a thought begins at a mark that is not at the start: `Sure!`, then `<think>` on a line of its own."""
    before = text[start : opened.start()]
    if len(before) > MAX_BEFORE or before.count("```") % 2 or before[-1:] in ("`", '"', "'"):
        return False
    is_own_line = before.endswith("\n") or before.rstrip(" ").endswith(("\n", ".", "!", ":"))
    return is_own_line and _closer(opened).search(text, opened.end()) is not None


def _closed(text: str, opened: re.Match[str]) -> tuple[str, str | None]:
    """The thought behind an opening mark and what follows its closing one; None if it is not closed."""
    start = _end_of_space(text, opened.end())
    closed = _closer(opened).search(text, start)
    if closed is not None:
        return text[start : closed.start()].rstrip(), text[_end_of_space(text, closed.end()) :]
    # some models forget to close the thought and begin with the wrapper of the answer
    bare = text.rstrip().lower()
    for name in WRAPPERS[:4]:
        at = text.find(f"<{name}>", start)
        if at >= 0 and bare.endswith(f"</{name}>"):
            return text[start:at].rstrip(), text[at:]
    return text[start:], None


def _closer(opened: re.Match[str]) -> re.Pattern[str]:
    if opened["xml"] is not None:
        return re.compile(re.escape(f"</{opened['name']}>"), re.IGNORECASE)
    return _CLOSERS[next(key for key in _CLOSERS if opened[key] is not None)]


def mark_inside(marked: Marked) -> str | None:
    """A mark of reasoning that is left inside a part, where a student would learn to write it; None for none."""
    known = {"<think>", "</think>", *(mark for mark in marked.marks if mark[:1] in ("<", "[", "◁"))}
    parts = (marked.response, marked.reasoning)
    return next((mark for mark in sorted(known) if any(mark in part for part in parts)), None)


# ---------------------------------------------------------------- turns made of several messages


def _harmony(text: str) -> Marked | None:
    """Read gpt-oss's channels: `final` is the response, all others are reasoning."""
    if "<|channel|>" not in text or "<|message|>" not in text:
        return None
    heads = list(_HARMONY.finditer(text))
    if not heads:
        return None
    parts: list[tuple[bool, str]] = []
    for number, head in enumerate(heads):
        until = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        end = _HARMONY_END.search(text, head.end(), until)
        parts.append((head[1] == "final", text[head.end() : end.start() if end else until]))
    return _joined(parts, text[: heads[0].start()], ("<|channel|>", "<|message|>"))


def _harmony_text(text: str) -> Marked | None:
    """Read gpt-oss's channels where the special tokens were left out: `analysis...assistantfinal...`."""
    start = _end_of_space(text, 0)
    name = next((one for one in ("analysis", "commentary") if text.startswith(one, start)), None)
    if name is None:
        return None
    heads = list(_HARMONY_TEXT.finditer(text))
    first = start + len(name)
    if not heads:  # cut off while thinking: the channel's name and the first word are one
        is_cut = name == "analysis" and text[first : first + 1].isupper()
        return Marked("", text[first:], "", (name, "")) if is_cut else None
    parts = [(False, text[first : heads[0].start()])]
    for number, head in enumerate(heads):
        until = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        parts.append((head[1] == "final", text[head.end() + len(head[1]) : until]))
    return _joined(parts, "", (name, "assistantfinal"))


def _atem(text: str) -> Marked | None:
    """Read Muse's messages: those to itself are reasoning, those to the user the response."""
    if "<|message|>" not in text:
        return None
    heads = list(_ATEM.finditer(text))
    if not heads:
        return None
    parts: list[tuple[bool, str]] = []
    for number, head in enumerate(heads):
        until = heads[number + 1].start() if number + 1 < len(heads) else len(text)
        end = _ATEM_END.search(text, head.end(), until)
        parts.append((head[1] == "user", text[head.end() : end.start() if end else until]))
    return _joined(parts, "", ("to=self<|message|>", "to=user<|message|>"))


def _joined(parts: list[tuple[bool, str]], before: str, marks: tuple[str, ...]) -> Marked:
    """One completion from messages that are response (true) or reasoning."""
    response = "\n\n".join(text.strip() for is_response, text in parts if is_response)
    thoughts = [text for is_response, text in parts if not is_response and text.strip()]
    if len(thoughts) == 1 and not response:
        return Marked(before.strip(), thoughts[0].lstrip(), "", marks)
    reasoning = "\n\n".join(thought.strip() for thought in thoughts)
    return Marked(before.strip(), reasoning, without_wrapper(response), marks)


def _end_of_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start

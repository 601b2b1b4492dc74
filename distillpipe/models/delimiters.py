r"""Find out how a chat template writes an assistant's turn, by rendering test conversations.

A chat template is a program, so we look at its output; its source only says what to try, see `template_source`.
The table shows what families render for reasoning R and response C:

    family       the prompt ends with      a turn with reasoning            a turn without reasoning
    ChatML       assistant\n               <think>\nR\n</think>\n\nC        C
    Qwen3        assistant\n               <think>\nR\n</think>\n\nC        <think>\n\n</think>\n\nC
    Qwen2.5      assistant\n               C: it drops R                    C
    R1-Distill   <Assistant><think>\n      C: it drops R                    C
    gpt-oss      <|start|>assistant        <|channel|>analysis<|message|>R<|end|><|start|>assistant
                                           <|channel|>final<|message|>C     <|channel|>final<|message|>C
    Gemma 4      <|turn>model\n            <|channel>thought\nR\n<channel|>C   C

If a template drops the reasoning and shows no mark of its own, we write the turn with <think> tags anyway. A mark
that cannot be read whole is an error that quotes it; `--think-open` and `--think-close` then name the pair.
"""

from collections.abc import Callable
from itertools import takewhile
from typing import Any, NamedTuple

from distillpipe.base.errors import UsageError
from distillpipe.base.thinking import NO_MARKS, THINK, AnswerMarks, Tags
from distillpipe.models.template_source import MARK, THOUGHT_MARK, Hints


class Turn(NamedTuple):
    """The text around reasoning and response in an assistant turn, after the generation prompt."""

    tags: Tags
    opened: bool
    "the generation prompt ends inside a thought"
    opening: str
    "before the reasoning; without the tag if `opened`"
    middle: str
    "between reasoning and response"
    bare: str
    "before the response of a turn without reasoning"
    ending: str
    "after the response, up to the end of the rendered text"
    answer: AnswerMarks = NO_MARKS
    next_mark: str = ""
    "what the next turn begins with, where nothing ends this one: models of such a family stop there (GLM)"

    def completion(self, reasoning: str, response: str) -> str:
        """The text of a completion, without the end of the turn."""
        if not reasoning:
            return self.bare + response
        return self.opening + reasoning + self.middle + response


Conversation = list[dict[str, Any]]
Render = Callable[[Conversation, bool], str | None]
"Renders messages, with or without a generation prompt; None if the template cannot."

# Texts that no template contains, trims or splits.
QUESTION, REASONING, RESPONSE = "qzQuestionqz", "qzReasoningqz", "qzResponseqz"
_DUMPED = (
    "qzDumpedqz"  # in each part of a content: a template that writes it prints the list as it is
)
ASKED = {"role": "user", "content": QUESTION}
_CALL = {"id": "call12345", "type": "function", "function": {"name": "qzf", "arguments": {"a": 1}}}
_NAMED_MORE = {"<|channel>": "<|channel>thought"}
"Opening marks of which some revisions of a template show only a part (Gemma 4)."


class Form(NamedTuple):
    """How a template wants to be given the reasoning of a turn."""

    name: str
    write: Callable[[dict[str, Any], str], dict[str, Any]]
    "an assistant's message without reasoning, and the reasoning"


def _field(name: str) -> Form:
    return Form(name, lambda message, reasoning: {**message, name: reasoning})


def _parts(name: str, *parts: dict[str, Any]) -> Form:
    """Content of typed parts; R and C stand for reasoning and response."""

    def write(message: dict[str, Any], reasoning: str) -> dict[str, Any]:
        texts = {
            "R": reasoning,
            "C": message["content"],
            "RS": [{"type": "text", "text": reasoning}],
        }
        filled = [{key: texts.get(value, value) for key, value in part.items()} for part in parts]
        if reasoning == REASONING:
            filled = [{**part, "note": _DUMPED} for part in filled]
        return {**message, "content": {"blocks": filled} if name == "blocks" else filled}

    return Form(name, write)


_TEXT_PART = {"type": "text", "text": "C"}
FORMS = (
    _field("reasoning_content"),
    _field("reasoning"),
    _field("thinking"),
    _parts("thinking parts", {"type": "thinking", "thinking": "R"}, _TEXT_PART),
    _parts("lists of thinking parts", {"type": "thinking", "thinking": "RS"}, _TEXT_PART),
    _parts("reasoning parts", {"type": "reasoning", "reasoning": "R"}, _TEXT_PART),
    _parts("blocks", {"type": "thoughts", "text": "R"}, {"type": "response", "text": "C"}),
)
"The forms in which reasoning is offered to a template, until one is rendered; the last two: Cohere, Apertus."


class Learnt(NamedTuple):
    """How a template writes a turn, and what of it was seen."""

    turn: Turn
    form: Form | None
    "None: it renders no reasoning in a last turn"
    shows_marks: bool
    "whether the tags are the template's; otherwise they are the default"
    is_closed: bool = False
    "the prompt ends behind a thought, which is empty: the model is told not to think"


def learn_turn(
    render: Render,
    template: str,
    hints: Hints,
    prompt_off: str | None = None,
    tags: Tags | None = None,
) -> Learnt:
    """Find out how the template behind `render` writes an assistant turn. `template` names it in errors.

    `prompt_off` is its prompt without thinking, where it has another. `tags` are those that the user names.
    Raises UsageError if the template leaves messages out, writes text before a response that its generation
    prompt does not have, or shows a mark whose partner it does not show.
    """
    prompt, bare = render([ASKED], True), render([ASKED, _answer()], False)
    if prompt is None or bare is None or QUESTION not in prompt or RESPONSE not in bare:
        raise UsageError(
            f"{template} does not render the text of all messages: give another --chat-template"
        )
    before_response, _, ending = bare.rpartition(RESPONSE)
    before = before_response.removeprefix(prompt) if before_response.startswith(prompt) else ""
    seen = _Seen(render, template, hints, prompt, before_response, prompt_off)
    form, layout = seen.from_turns() if tags is None else seen.from_turns_in(tags)
    layout = layout or seen.from_what_it_drops()
    if layout is None:
        seen.check_no_other_mark()
    shows_marks = layout is not None
    layout = layout or _named(THINK, prompt)
    opened = layout.opened and not layout.is_closed
    close = layout.tags.close
    if opened and close not in before:
        before = layout.middle
    alone = _mark_alone(before, layout)
    if before.strip() and close not in before and not alone:
        raise UsageError(
            f"{template} writes {before!r} before a response, but not at the end of a prompt, so a model "
            "would have to sample it: give another --chat-template"
        )
    marks = AnswerMarks(layout.after_thought, alone, _mark_at_end(ending, prompt))
    next_mark = "" if ending.strip() else _next_mark(render)
    turn = Turn(
        layout.tags, opened, layout.opening, layout.middle, before, ending, marks, next_mark
    )
    return Learnt(turn, form, shows_marks, layout.is_closed)


class _Layout(NamedTuple):
    """What stands around a thought."""

    tags: Tags
    opened: bool
    opening: str
    middle: str
    after_thought: str = ""
    "mark of the answer in `middle`, behind the closing tag"
    is_closed: bool = False


def _answer(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": RESPONSE, **more}


def _named(tags: Tags, prompt: str) -> _Layout:
    """The usual layout of a pair of tags, each on a line of its own."""
    opened = prompt.rstrip().endswith(tags.open)
    return _Layout(tags, opened, "" if opened else f"{tags.open}\n", f"\n{tags.close}\n\n")


class _Seen(NamedTuple):
    """What a template renders for the test conversation."""

    render: Render
    template: str
    hints: Hints
    prompt: str
    before_response: str
    "of a turn without reasoning, up to the response"
    prompt_off: str | None

    def from_turns(self) -> tuple[Form | None, _Layout | None]:
        """The first form in which the template renders the reasoning of a turn, and how; None if there is none."""
        error = None
        for form in FORMS:
            text = self.render([ASKED, form.write(_answer(), REASONING)], False)
            if text is None or _DUMPED in text:
                continue
            if 0 <= text.find(REASONING) < text.rfind(RESPONSE):
                try:
                    layout = self._from_turn(text)
                except UsageError as unclear:
                    error = error or unclear
                    continue
                if layout is not None:
                    return form, layout
        if error is not None:
            raise error
        return None, None

    def from_turns_in(self, tags: Tags) -> tuple[Form | None, _Layout]:
        """As `from_turns`, with a pair that the user names: in the usual layout, unless the template writes it."""
        try:
            form, layout = self.from_turns()
        except UsageError:
            form, layout = None, None
        if layout is not None and layout.tags == tags:
            return form, layout
        return None, _named(tags, self.prompt)

    def _from_turn(self, rendered: str) -> _Layout | None:
        """The layout of a turn that shows its reasoning. None if nothing stands around the reasoning."""
        before, _, after = rendered.partition(REASONING)
        middle, _, _ = after.rpartition(RESPONSE)
        common = _common(self.prompt, before)
        opening, rest_of_prompt = before[common:], self.prompt[common:]
        is_closed = bool(rest_of_prompt.strip())
        if not middle.strip():
            if opening.strip() and not is_closed:
                raise self._error(opening.strip(), "what closes a thought")
            return None
        close, after_thought = _first_mark(middle.strip())
        if is_closed and close not in rest_of_prompt:
            raise UsageError(
                f"{self.template} ends a prompt with {rest_of_prompt.strip()!r}, but begins the same turn with "
                f"{opening.strip()!r}: give another --chat-template"
            )
        if is_closed:
            tag = self._opening_tag(before, close)
            opening = tag if not opening.strip() else opening
            return _Layout(Tags(tag, close), False, opening, middle, after_thought, True)
        if opening.strip():
            return _Layout(Tags(opening.strip(), close), False, opening, middle, after_thought)
        tag = self._opening_tag(self.prompt, close)
        return _Layout(Tags(tag, close), True, opening, middle, after_thought)

    def from_what_it_drops(self) -> _Layout | None:
        """The layout of a thought that the last turn does not show: of a call of a tool, of the prompt, ...

        None if nothing speaks of another pair than the default.
        """
        return self._from_tool_call() or self._from_prompt() or self._from_content()

    def _from_tool_call(self) -> _Layout | None:
        """Some revisions of Gemma 4 write a thought only before the call of a tool."""
        call = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
        without = self.render([ASKED, call], False)
        for form in FORMS[:3] if without is not None else ():
            text = self.render([ASKED, form.write(call, REASONING)], False)
            if text is None or without is None or REASONING not in text:
                continue
            before, _, after = text.partition(REASONING)
            common = _common(without, before)
            rest = without[common:]
            opening, middle = before[common:], after[: len(after) - len(rest)]
            if opening.strip() and middle.strip() and after.endswith(rest):
                tags = Tags(opening.strip(), _first_mark(middle.strip())[0])
                return _Layout(tags, False, opening, middle)
        return None

    def _from_prompt(self) -> _Layout | None:
        """A thought that the prompt opens, which a turn that the template writes does not."""
        common = _common(self.prompt, self.before_response)
        tag = self.prompt[common:].strip()
        off = self.prompt_off
        if not tag and off is not None and off.startswith(self.prompt) and is_closing(off):
            tag = _last_mark(self.prompt) or ""
        if not tag:
            return None
        if off is not None and off.startswith(self.prompt) and is_closing(off[len(self.prompt) :]):
            middle = off[len(self.prompt) :]  # the prompt without thinking closes it at once
            return _Layout(Tags(tag, middle.strip()), True, "", middle)
        close = _closing_form(tag)
        dropped = [mark for mark in self.hints.marks if mark != tag and self._drops(tag, mark)]
        if close not in dropped and dropped:
            close = max(dropped, key=len)
        if close is None:
            raise UsageError(
                f"{self.template} ends a prompt with {tag!r}, which a turn that it writes does not have: if it opens "
                "a thought, name what closes it with --think-open TEXT --think-close TEXT; else give another "
                "--chat-template"
            )
        shown = self.before_response[common:]  # DeepSeek V3.1 closes the thought that it drops
        middle = shown if shown.strip() == close else f"\n{close}\n" + "\n" * ("/" in close)
        return _Layout(Tags(tag, close), True, "", middle)

    def _from_content(self) -> _Layout | None:
        """A thought that the template cuts out of the content of a turn."""
        for close in self.hints.marks:
            for start in (_opening_form(close), *filter(_is_partner(close), self.hints.marks)):
                if start is not None and self._drops(start, close):
                    tag = _NAMED_MORE.get(start, start)
                    after = "" if tag != start else "\n\n"
                    return _Layout(Tags(tag, close), False, f"{tag}\n", f"\n{close}{after}")
        return None

    def _drops(self, start: str, close: str) -> bool:
        """Whether the template cuts a thought in these marks out of the content of a turn."""
        inline = f"{start}\n{REASONING}\n{close}\n\n{RESPONSE}"
        text = self.render([ASKED, _answer() | {"content": inline}], False)
        return text is not None and RESPONSE in text and REASONING not in text

    def check_no_other_mark(self) -> None:
        """Raise UsageError if the source has a mark of thoughts that is not the default, and renders none."""
        for mark in self.hints.marks:
            whole = MARK.fullmatch(mark)
            if whole and THOUGHT_MARK.search(mark) and mark not in THINK and _is_tag(mark):
                raise self._error(mark, "how a thought is written with it")

    def _opening_tag(self, text: str, close: str) -> str:
        """The tag that a rendered text ends with. Raises UsageError if it cannot be told from what is before it."""
        text = text.rstrip()
        start = _opening_form(close)
        if start is not None and text.endswith(start):
            return start
        common = _common(text, self.before_response)
        if tag := text[common:].strip():
            return tag
        partner = next((mark for mark in filter(_is_partner(close), self.hints.marks)), None)
        if partner is not None and text.endswith(partner):
            return partner
        if start is not None:  # the prompt is followed by the thought at once
            return start
        last_line = text[text.rfind("\n") + 1 :]
        if (last := _last_mark(text)) or (" " in last_line and not MARK.search(last_line)):
            return last or last_line
        raise self._error(close, "what opens the thought that it closes")

    def _error(self, mark: str, missing: str) -> UsageError:
        return UsageError(
            f"{self.template} writes {mark!r} for reasoning, but does not show {missing}: name the pair with "
            "--think-open TEXT --think-close TEXT, or give another --chat-template"
        )


def _common(one: str, other: str) -> int:
    """The length of the common beginning of two texts, without a part of a mark."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    length = sum(1 for _ in pairs)
    cut = [
        mark.start()
        for text in (one, other)
        for mark in MARK.finditer(text)
        if mark.start() < length < mark.end()
    ]
    return min(cut, default=length)


def _first_mark(text: str) -> tuple[str, str]:
    """The first mark of a text that consists of marks, and what follows it; else the whole text."""
    first = MARK.match(text)
    if first is None or first.end() == len(text):
        return text, ""
    return first[0], text[first.end() :].strip()


def _last_mark(text: str) -> str | None:
    marks = list(MARK.finditer(text.rstrip()))
    return marks[-1][0] if marks and marks[-1].end() == len(text.rstrip()) else None


def _mark_alone(before: str, layout: _Layout) -> str:
    """The mark before an answer without a thought: behind a thought, too, it stands before the answer."""
    text = before.strip()
    if layout.tags.close in text:
        text = text.rpartition(layout.tags.close)[2].strip()
    return text if text and layout.after_thought.endswith(text) else ""


def _mark_at_end(ending: str, prompt: str) -> str:
    """What closes an answer: the first of two marks at the end of a turn, if it ends no turn of the user."""
    marks = [mark[0] for mark in MARK.finditer(ending)]
    if len(marks) != 2 or MARK.sub("", ending).strip():
        return ""
    after_question = prompt.rpartition(QUESTION)[2].lstrip()
    return "" if after_question.startswith(marks[0]) else marks[0]


def _next_mark(render: Render) -> str:
    """The mark that the turn of a user begins with behind an answer; "" if it is none."""
    again = {"role": "user", "content": QUESTION[::-1]}
    text = render([ASKED, _answer(), again], False) or ""
    following = text.rpartition(RESPONSE)[2].partition(QUESTION[::-1])[0]
    first = MARK.match(following.strip())
    return first[0] if first else ""


def is_closing(text: str) -> bool:
    """Whether a text ends with the closing mark of a thought: `</think>`, `[/THINK]`, `<channel|>`."""
    last = _last_mark(text)
    return last is not None and not _is_tag(last)


def _is_tag(mark: str) -> bool:
    """Whether a mark is none that closes."""
    is_closing_form = (
        mark[1:2] == "/" or mark[1:3] == "|/" or (mark[1] != "|" and mark.endswith("|>"))
    )
    words = mark.strip("<>[]|◁▷").lower()
    return not is_closing_form and not words.startswith(("end", "/")) and not words.endswith("_end")


def _closing_form(tag: str) -> str | None:
    """`</think>` of `<think>`; None for other forms."""
    whole = MARK.fullmatch(tag)
    return f"{tag[0]}/{tag[1:]}" if whole and tag[1] != "|" and _is_tag(tag) else None


def _opening_form(close: str) -> str | None:
    """`<think>` of `</think>`; None for other forms."""
    return close.replace("/", "", 1) if MARK.fullmatch(close) and "/" in close[:3] else None


def _is_partner(close: str) -> Callable[[str], bool]:
    """Whether a mark has the same letters: `<|channel>` and `<channel|>`; begin and end count as equal."""

    def letters(mark: str) -> str:
        text = "".join(filter(str.isalnum, mark.lower()))
        for word in ("begin", "start", "end"):
            text = text.replace(word, "")
        return text

    wanted = letters(close)
    return lambda mark: mark != close and letters(mark) == wanted and not is_closing(mark)

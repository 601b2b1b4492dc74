"""Pre-flight: what is refused, what is dropped or cut and counted, and what is said of the rows."""

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError
from distillpipe.base.records import Message, Trace
from distillpipe.base.rowguard import InternalErrors
from distillpipe.base.training_options import TrainingOptions
from distillpipe.data.store.counts import Counts, Dropped, TeacherCounts
from distillpipe.models.chat import Chat, load_chat
from distillpipe.training.preflight import Preflight
from distillpipe.training.preview import ShownRow, preview_of, show, summary
from distillpipe.training.rows.rows import Row, row_of
from distillpipe.training.student_config import StudentLimits

OPTIONS = TrainingOptions(
    method="full", rank=4, alpha=4, learning_rate=1e-3, scheduler="cosine", warmup=0.1,
    weight_decay=1e-4, max_grad_norm=1.0, epochs=3, max_steps=None, batch_size=4, max_length=512,
    dtype="fp32", chat_template=None, seed=1,
)  # fmt: skip
LIMITS = StudentLimits(num_positions=1024, vocabulary_size=512)


@pytest.fixture
def looked(teacher_chat: Chat) -> Callable[..., tuple[Preflight, list[Row]]]:
    """`looked(traces, over_length="cut", ...)`: the pre-flight of traces, and the rows it lets through."""

    def look(
        traces: list[Trace], limits: StudentLimits = LIMITS, num_shown: int = 1, **options: object
    ):
        changed = msgspec.structs.replace(OPTIONS, **options)
        check = Preflight(teacher_chat, changed, limits, num_shown)
        return check, list(check.rows(traces, lambda rows: None))

    return look


def lengths(traces: list[Trace], chat: Chat) -> list[int]:
    return [len(row_of(trace, chat).ids) for trace in traces]


def refused(check: Preflight) -> str:
    with pytest.raises(DataError) as error:
        check.check()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_that_fit_are_let_through_as_they_are_in_their_order(
    looked, make_traces, teacher_chat
) -> None:
    traces = make_traces(200)
    check, rows = looked(traces)
    check.check()
    assert rows == [row_of(trace, teacher_chat) for trace in traces]
    assert check.num_supervised == sum(row.num_supervised for row in rows)
    assert check.longest == max(len(row.ids) for row in rows)
    assert check.num_reasoned == 200


def test_no_rows_are_refused(looked) -> None:
    check, rows = looked([])
    assert rows == []
    assert refused(check) == "no rows to train on: all inputs are empty"


def test_a_row_that_stands_twice_is_one_row(looked, make_traces) -> None:
    traces = make_traces(3)
    check, rows = looked([*traces, traces[1]])
    assert [row.id for row in rows] == [trace.id for trace in traces]
    assert check.counts.rows_read == check.counts.rows_kept == 3


@pytest.mark.parametrize(("num_bad", "is_refused"), [(1, False), (2, True)])
def test_a_row_that_cannot_be_rendered_costs_itself(
    tmp_path: Path, repository: Path, make_traces, num_bad: int, is_refused: bool
) -> None:
    template = tmp_path / "faulty.jinja"
    template.write_text(
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
        "{% if 'BAD' in message.content %}{{ 1 // 0 }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        encoding="utf-8",
    )
    folder = repository / "data" / "quickstart" / "teacher"
    traces = make_traces(100)
    for number in range(num_bad):
        asked = msgspec.structs.replace(traces[number].messages[0], content="BAD")
        messages = [asked, traces[number].messages[1]]
        traces[number] = msgspec.structs.replace(traces[number], messages=messages)
    check = Preflight(load_chat(folder, "teacher", str(template)), OPTIONS, LIMITS)
    rows = list(check.rows(traces, lambda rows: None))

    assert [row.id for row in rows] == [trace.id for trace in traces[num_bad:]]
    assert check.counts.num_internal_errors == num_bad
    assert check.counts.dropped == {"internal_error": Dropped(rows=num_bad)}
    assert check.counts.rows_kept + check.counts.rows_rejected == check.counts.rows_read == 100
    if is_refused:
        with pytest.raises(InternalErrors, match=r"nothing was trained.*ZeroDivisionError"):
            check.check()
    else:
        check.check()


def test_one_id_with_two_contents_is_refused(looked, make_trace) -> None:
    with pytest.raises(DataError, match="is in the input twice with different content"):
        looked([make_trace(), make_trace(response="\\boxed{21}")])


@pytest.fixture
def mixed(make_traces, make_trace, teacher_chat) -> list[Trace]:
    """Three rows, of which the second is by far the longest and the third a bit longer than the first."""
    short, other = make_traces(2)
    long = make_trace(reasoning="14+6=20.\n" * 20, teacher="other")
    longer = msgspec.structs.replace(other, messages=[
        other.messages[0],
        Message(role="assistant", content="\\boxed{2} pens", reasoning_content="1+1=2. 1+1=2."),
    ])  # fmt: skip
    found = [short, long, longer]
    sizes = lengths(found, teacher_chat)
    assert sizes[0] < sizes[2] < sizes[1]
    return found


def test_rows_over_the_limit_are_refused_with_their_number_and_their_tokens(
    looked, mixed, teacher_chat
) -> None:
    sizes = lengths(mixed, teacher_chat)
    check, _ = looked(mixed, max_length=sizes[0])
    over = sizes[1] + sizes[2] - 2 * sizes[0]
    assert refused(check) == (
        f"2 of 3 rows are longer than --max-length {sizes[0]} tokens, {over} tokens in all (the longest row "
        f"has {sizes[1]}; {mixed[1].id}, {mixed[2].id}): give --max-length {sizes[1]}, shorten them with "
        "`distill filter --max-reasoning-tokens`, or give --over-length drop or cut"
    )


def test_dropped_rows_are_counted_with_their_tokens_and_their_teacher(
    looked, mixed, teacher_chat
) -> None:
    sizes = lengths(mixed, teacher_chat)
    check, rows = looked(mixed, max_length=sizes[2], over_length="drop")
    check.check()
    assert [row.id for row in rows] == [mixed[0].id, mixed[2].id]
    supervised = row_of(mixed[1], teacher_chat).num_supervised
    counts = Counts()
    check.enter(counts)
    assert (counts.rows_read, counts.rows_kept, counts.rows_rejected) == (3, 2, 1)
    assert counts.dropped == {"over_length": Dropped(1, supervised)}
    kept = sum(row.num_supervised for row in rows)
    assert counts.teachers == {
        "teacher": TeacherCounts(rows_kept=2, tokens_kept=kept),
        "other": TeacherCounts(dropped={"over_length": 1}),
    }
    assert f"1 rows ({supervised:,} supervised tokens) dropped, 0 rows cut" in summary(check)[2]


def test_a_cut_row_keeps_its_beginning_and_has_no_end_token(looked, mixed, teacher_chat) -> None:
    sizes = lengths(mixed, teacher_chat)
    check, rows = looked(mixed, max_length=sizes[2], over_length="cut")
    check.check()
    whole = row_of(mixed[1], teacher_chat)
    assert rows[1] == Row(whole.id, whole.ids[: sizes[2]], whole.num_prompt)
    assert teacher_chat.end_ids.isdisjoint(rows[1].ids[whole.num_prompt :])
    assert rows[0] == row_of(mixed[0], teacher_chat)
    assert (check.counts.rows_cut, check.counts.tokens_cut) == (1, sizes[1] - sizes[2])
    assert (check.counts.rows_kept, check.counts.rows_rejected) == (3, 0)


def test_a_row_whose_prompt_alone_fills_the_limit_is_dropped_not_cut(
    looked, make_trace, teacher_chat
) -> None:
    trace = make_trace()
    num_prompt = row_of(trace, teacher_chat).num_prompt
    check, rows = looked([trace], max_length=num_prompt, over_length="cut")
    assert rows == []
    assert refused(check) == (
        f"no rows to train on: all 1 are longer than --max-length {num_prompt}, and --over-length cut keeps none"
    )
    check, rows = looked([trace], max_length=num_prompt + 1, over_length="cut")
    check.check()
    assert [row.num_supervised for row in rows] == [1]


def test_rows_beyond_the_positions_of_the_student_are_refused_with_what_helps(
    looked, mixed, teacher_chat
) -> None:
    sizes = lengths(mixed, teacher_chat)
    positions = sizes[1] - 7
    check, _ = looked(mixed, StudentLimits(num_positions=positions, vocabulary_size=512))
    assert refused(check) == (
        f"1 of 3 rows are longer than the context of the student, {positions} positions, 7 tokens in all (the "
        f"longest row has {sizes[1]}; {mixed[1].id}): give a larger --rope-theta, which extends the context, or "
        "a smaller --max-length with --over-length drop or cut"
    )
    looked(mixed, StudentLimits(num_positions=sizes[1], vocabulary_size=512))[0].check()
    looked(mixed, StudentLimits(num_positions=None, vocabulary_size=512))[0].check()


def test_ids_without_an_embedding_are_refused_and_nothing_is_resized(looked, make_traces) -> None:
    check, rows = looked(make_traces(2), StudentLimits(num_positions=1024, vocabulary_size=300))
    largest = max(max(row.ids) for row in rows)
    assert refused(check).startswith(
        f"2 of 2 rows have token ids of up to {largest}, and the student has embeddings for 300 ("
    )


def test_a_trace_that_was_cut_off_when_it_was_sampled_is_refused(looked, make_traces) -> None:
    traces = make_traces(5)
    traces[1:] = [msgspec.structs.replace(one, finish_reason="length") for one in traces[1:]]
    check, _ = looked(traces)
    assert refused(check) == (
        "4 of 5 rows were truncated when they were sampled, so the student would learn to stop mid-sentence "
        f"({', '.join(one.id for one in traces[1:4])}, ...): drop them with `distill filter`"
    )


def test_all_that_is_wrong_is_said_at_once(looked, make_traces, make_trace) -> None:
    traces = [
        msgspec.structs.replace(make_traces(1)[0], finish_reason="length"),
        make_trace(reasoning="a<|im_end|>b"),
        make_trace(problem="7+7?", reasoning="14.</think>Is it?"),
    ]
    check, rows = looked(traces)
    said = refused(check)
    assert said.startswith("1 of 3 rows were truncated when they were sampled")
    assert f"; also, row {traces[1].id}: an end token is inside the completion" in said
    assert said.endswith("(and 1 more rows)")
    assert [row.id for row in rows] == [traces[0].id]


def test_rows_without_reasoning_are_said_to_have_none(looked, make_traces, make_trace) -> None:
    check, _ = looked([*make_traces(2), make_trace(reasoning=None)])
    check.check()
    assert summary(check)[1] == (
        "rows end with <|im_end|> (466), as in the tokenizer; </think> is supervised in 2 rows, 1 have no "
        "reasoning"
    )


REAL = ("qwen2.5", "r1-distill-qwen")


@pytest.mark.parametrize(
    "family",
    ["spelt", "opened", *(pytest.param(name, marks=pytest.mark.reference) for name in REAL)],
)
def test_what_a_student_does_otherwise_is_said(family_chat, make_traces, family) -> None:
    chat = family_chat(family)
    check = Preflight(chat, OPTIONS, StudentLimits(num_positions=32768, vocabulary_size=152064))
    rows = list(check.rows(make_traces(2), lambda rows: None))
    check.check()
    assert len(rows) == 2
    text = "\n".join(summary(check))
    assert (
        "the student's chat template does not render these rows; the template that is saved does"
        in text
    )
    spelt = (
        "not single tokens of the student: <think> (3 ids) and </think> (3 ids); they are trained as text, "
        "no token is added"
    )
    assert (spelt in text) == (family in ("spelt", "qwen2.5"))


def test_the_end_tokens_of_a_base_and_of_its_template_are_both_named(
    make_trace, repository: Path, tmp_path: Path
) -> None:
    """Qwen2.5's base models stop at <|endoftext|>, their chat template ends a turn with <|im_end|>."""
    folder = repository / "data" / "quickstart" / "student-qwen"
    for path in folder.glob("*.json*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chat_template.jinja").write_bytes((folder / "chat_template.jinja").read_bytes())
    config = (tmp_path / "tokenizer_config.json").read_text()
    (tmp_path / "tokenizer_config.json").write_text(
        config.replace('"eos_token": "<|im_end|>"', '"eos_token": "<|endoftext|>"')
    )
    chat = load_chat(tmp_path, "base")
    check = Preflight(chat, OPTIONS, LIMITS)
    list(check.rows([make_trace()], lambda rows: None))
    assert summary(check)[1].startswith(
        "rows end with <|im_end|> (466); it also stops at <|endoftext|> (467, the tokenizer's)"
    )


def test_a_row_is_shown_as_the_student_sees_it(looked, make_trace, teacher_chat) -> None:
    trace = make_trace(problem="1+1?")
    check, rows = looked([trace])
    (row,) = preview_of(check).rows
    assert row == ShownRow(
        trace.id,
        rows[0].num_prompt,
        rows[0].num_supervised,
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}<|im_end|>",
    )
    file = io.StringIO()
    show([row], file, whole=True)
    assert file.getvalue() == (
        f"--- row {trace.id}: {row.prompt_tokens} tokens of prompt, no loss on them\n"
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        "--- 18 supervised tokens\n"
        "<think>\n14+6=20.\n</think>\n\n\\boxed{20}<|im_end|>\n"
        "---\n"
    )


@pytest.mark.parametrize("cut", [False, True])
def test_a_prompt_that_is_trained_on_is_counted_and_shown_so(
    looked, make_trace, teacher_chat, cut: bool
) -> None:
    trace = make_trace(problem="1+1?")
    whole = row_of(trace, teacher_chat)
    length = len(whole.ids) - 5 if cut else 512
    check, rows = looked([trace], train_on_prompt=True, over_length="cut", max_length=length)
    check.check()
    kept = whole.ids[:length]
    assert (rows[0].ids, rows[0].num_supervised) == (kept, len(kept) - 1)
    assert check.num_supervised == len(kept) - 1
    file = io.StringIO()
    (shown,) = preview_of(check).rows
    show([shown], file, whole=True)
    assert (
        f"{whole.num_prompt} tokens of prompt, supervised too\n<|im_start|>user" in file.getvalue()
    )
    assert shown.supervised_tokens == len(kept) - whole.num_prompt
    assert "the prompts are supervised too (--train-on-prompt)" in "\n".join(summary(check))


def test_a_row_whose_prompt_alone_is_too_long_is_not_trained_on(looked, make_trace) -> None:
    check, rows = looked([make_trace()], train_on_prompt=True, over_length="cut", max_length=10)
    assert rows == []
    assert check.counts.rows_rejected == 1


class Terminal(io.StringIO):
    """What rich takes for a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_supervised_part_is_green(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    show([ShownRow("a/b", 1, 2, "prompt", "answer\x1b[31m")], file, whole=True)
    assert "\x1b[32manswer\\x1b[31m" in file.getvalue()  # what the row holds is no colour
    assert "\x1b[2mprompt" in file.getvalue()


def test_before_training_long_parts_are_shown_without_their_middle() -> None:
    file = io.StringIO()
    row = ShownRow("a/b", 1, 2, "prompt", "start" + "x" * 2000 + "end")
    show([row], file, whole=False)
    assert "start" in file.getvalue() and "end" in file.getvalue()
    assert "\n[... 808 characters ...]\n" in file.getvalue()

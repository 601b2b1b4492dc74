"""No character of data acts on a terminal, and none of it is markup in a card, wherever it comes out."""

import json
import logging
import os
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from distillpipe.base import terminal
from distillpipe.base.errors import DataError
from distillpipe.base.progress import progress, say
from distillpipe.base.records import RejectedTrace, Trace
from distillpipe.data import forecast
from distillpipe.data.store import manifest
from distillpipe.data.store.cards import dataset_card, model_card
from distillpipe.data.store.counts import Counts, Dropped, TeacherCounts
from distillpipe.data.store.manifest import InputDataset, Manifest, ModelUsed, ResolvedOption
from distillpipe.reports import comparison_text, dataset_text, disk, tables
from distillpipe.reports.comparison import Group, Pair
from distillpipe.reports.lineage import FunnelStep, Overlap
from distillpipe.stages import doctor
from distillpipe.stages.run import funnel, overlap
from distillpipe.training import preview

ACTING = (
    "\x00\a\b\n\v\f\r\x1b]52;c;aGk=\a\x1b[2J\x7f\x85\x9b2J\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    "\u2066\u2067\u2068\u2069"
)
MARKUP = "# Injected <script>x</script> | `x` [a](http://x) ![b](http://x) [red]r[/red] | \\"
HOSTILE = f"{ACTING}\n{MARKUP}"


def acts(character: str) -> bool:
    """Whether a terminal may obey a character, by its class in Unicode."""
    kind, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    embeds = direction in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return kind in {"Cc", "Cs", "Zl", "Zp"} or embeds


def acting(shown: str, but: str = "\n\t") -> set[str]:
    return {character for character in shown if acts(character) and character not in but}


# ---------------------------------------------------------------- the translation

EVERYTHING = st.text(st.characters(categories=None) | st.sampled_from(ACTING + "\ud800\udcff"))


@given(EVERYTHING)
def test_no_text_acts_on_a_terminal(data: str) -> None:
    assert not acting(terminal.printable(data), but="\t")
    assert not acting(terminal.printable_text(data))
    assert terminal.printable_text(data).count("\n") == data.count("\n")


@given(EVERYTHING)
def test_what_is_written_out_stays_as_it_is(data: str) -> None:
    once = terminal.printable(data)
    assert terminal.printable(once) == once
    harmless = "".join(one for one in data if not acts(one) or one == "\t")
    assert terminal.printable(harmless) == harmless


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r", "a\\nb\\x0d"),
        ("\x9b\u202e", "\\x9b\\u202e"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\ud83d", "\\ud83d"),
        ("é 中 \u200f\u200d 👩‍🔬\t", "é 中 \u200f\u200d 👩‍🔬\t"),
    ],
)
def test_it_is_written_out_as_it_would_be_in_python(data: str, shown: str) -> None:
    assert terminal.printable(data) == shown


# ---------------------------------------------------------------- the doors


def test_what_is_said_has_a_line_for_each_argument(capfd: pytest.CaptureFixture[str]) -> None:
    say(f"a {HOSTILE}", "b")
    shown = capfd.readouterr().err
    assert not acting(shown)
    assert shown.count("\n") == 2


def test_what_is_put_has_a_line_for_each_line(capfd: pytest.CaptureFixture[str]) -> None:
    terminal.put([f"a {HOSTILE}", "中"])
    shown = capfd.readouterr().out
    assert not acting(shown)
    assert shown.endswith("\n中\n")
    assert shown.count("\n") == 2


def test_json_says_the_same_without_acting(capfd: pytest.CaptureFixture[str]) -> None:
    terminal.put_json({HOSTILE: [HOSTILE]})
    shown = capfd.readouterr().out
    assert not acting(shown)
    assert json.loads(shown) == {HOSTILE: [HOSTILE]}


def test_logs_and_warnings_of_libraries_do_not_act(capfd: pytest.CaptureFixture[str]) -> None:
    factory, format_warning, hook = (
        logging.getLogRecordFactory(), warnings.formatwarning, sys.excepthook,
    )  # fmt: skip
    try:
        terminal.guard()
        logging.getLogger("library").error("%s", HOSTILE)
        assert not acting(warnings.formatwarning(HOSTILE, UserWarning, "library.py", 7))
        sys.excepthook(ValueError, ValueError(HOSTILE), None)
    finally:
        logging.setLogRecordFactory(factory)
        warnings.formatwarning, sys.excepthook = format_warning, hook
    assert not acting(capfd.readouterr().err)


def test_a_progress_line_shows_markup_and_escapes_as_text(
    shown_on_terminal: Callable[..., bytes],
) -> None:
    program = (
        "from distillpipe.base.progress import progress\n"
        "with progress('[red]\\x1b]0;t\\a', 2) as advance: advance(1, 5, '[bold]\\x1b]0;t\\a')\n"
    )
    shown = shown_on_terminal(program, COLUMNS="200")
    for part in (b"[red]\\x1b]0;t\\x07", b"[bold]\\x1b]0;t\\x07"):
        assert part in shown
    assert b"\x1b]0" not in shown


BAD_CALLS = [
    ["generate", HOSTILE.replace("\0", ""), "--teacher", "x", "--out", "o"],
    ["generate", "p.jsonl", "--teacher", "\x1b]0;t\a", "--out", "o"],
    ["generate", "p.jsonl", "--teacher", "x", "--seed", "\x1b[2J\n7", "--out", "o"],
    ["generate", "p.jsonl", "--teacher", "x", "--out", "o", "--\x1b[2J\n"],
    ["generate", "p.jsonl", "--teacher", "x", "--out", "o", "--engine", "\x9b2J\u202e"],
    ["\x1b[2J\u202e\n"],
    ["--recipe", "\x1b[2J", "show"],
    ["show", "\x1b[2J\r\u2028"],
]


@pytest.mark.parametrize("width", ["60", "120"])  # without and with rich's panels
@pytest.mark.parametrize("arguments", BAD_CALLS)
def test_an_error_repeats_what_was_given_without_acting(
    arguments: list[str],
    width: str,
    distill: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", width)
    done = distill(*arguments)
    assert done.code in (1, 2)
    assert done.err
    assert not acting(done.out + done.err)


def test_an_error_keeps_its_own_lines_and_no_others(
    distill: Callable[..., Any], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"\x1b[2J\nb": 1, "raw": 5}) + "\n")
    done = distill("import", rows, "--out", tmp_path / "out", "--format", "raw")
    assert done.code == 1
    assert not acting(done.err)
    assert str(DataError("a", "b")) == "a\nb"


# ---------------------------------------------------------------- what is made of data


def hostile(value: Any) -> Any:
    """The same with every text, keys too, made hostile; what is no free text is left."""
    if isinstance(value, str):
        return f"{value}{HOSTILE}"
    if isinstance(value, list):
        return [hostile(one) for one in value]
    if isinstance(value, dict):
        return {hostile(key): hostile(one) for key, one in value.items()}
    return value


GROUP = Group(2, 0.5, 0.5, 0.0, (-0.1, 0.1), 1, 1, 0)
COUNTS = Counts(
    rows_read=4,
    rows_kept=2,
    dropped=hostile({"wrong_answer": Dropped(2, 3)}),
    teachers=hostile({"a": TeacherCounts(1, 2, hostile({"wrong": 1})), "b": TeacherCounts(1, 2)}),
    verdicts=hostile({"correct": 2}),
)
MANIFEST = Manifest(
    kind="traces",
    stage=hostile("filter"),
    version=hostile("v1"),
    fingerprint="f",
    takes_over=True,
    options={"prompt": ResolvedOption(HOSTILE, "flag"), "other": ResolvedOption("a``|\n", "flag")},
    inputs=[InputDataset(hostile("in"), hostile("v1"), hostile("id"))],
    models=[ModelUsed(hostile("teacher"), hostile("m"), hostile("hub:"))],
    created=hostile("2026-02-03T04:05:06+00:00"),
    finished=hostile("2026-02-03T04:05:06+00:00"),
    licences=hostile(["mit"]),
    counts=COUNTS,
)
FOLDER = disk.Folder(HOSTILE, {HOSTILE: 1, "v2": 2}, 3, [disk.Partial(HOSTILE, None, None, 0, 1)])
STEPS = [
    FunnelStep(HOSTILE, HOSTILE, HOSTILE, "gone", "problems", HOSTILE, 1, 2, {HOSTILE: 1}, []),
    FunnelStep(HOSTILE, HOSTILE, HOSTILE, "found", "traces", HOSTILE, 1, 2, {HOSTILE: 1}, []),
    FunnelStep(HOSTILE, None, HOSTILE, "found", "checkpoint", HOSTILE, 1, 2, {}, [0, 1]),
]
PAIR = Pair(
    HOSTILE, HOSTILE, GROUP, 0.1, 0.5, 0.5, HOSTILE, 2, {"paired": 0.1, "unpaired": None}, {HOSTILE: GROUP}, {}
)  # fmt: skip


def compared() -> comparison_text.Comparison:
    metrics = {
        "benchmark": HOSTILE, "pass@1": 0.5, "interval": [0.1, 0.9], "standard_error": None,
        "standard_error_parts": None, "reasoning_tokens": None, "pass@k": {}, "maj@k": {},
        "minimum_detectable_effect": {"paired": None, "unpaired": None}, "num_problems": 2,
        "num_samples": 1, "mean_reasoning_tokens": None, "num_correct": 1, "num_wrong": 1,
        "num_truncated": 0, "num_unverifiable": 0, "upper_bound": 0.5,
        "protocol": {"name": HOSTILE},
        "published": {"score": 0.5, "differs": [HOSTILE], "note": HOSTILE, "date": "2025-01"},
    }  # fmt: skip
    seen = Overlap(1, [HOSTILE], [HOSTILE])
    models = [comparison_text.ScoredModel(HOSTILE, HOSTILE, metrics, one) for one in (seen, None)]
    return comparison_text.Comparison(HOSTILE, models, [PAIR, PAIR], [HOSTILE])


def row(make_trace: Callable[..., Trace]) -> RejectedTrace:
    texts = dict.fromkeys(("id", "problem", "answer", "teacher", "served_by", "domain"), HOSTILE)
    found = make_trace(reference_answer=HOSTILE, verifier=HOSTILE, benchmark=HOSTILE)
    built = msgspec.to_builtins(found) | texts
    return msgspec.convert(built | {"reason": HOSTILE, "measured": HOSTILE}, RejectedTrace)


def terminal_texts(make_trace: Callable[..., Trace]) -> Iterator[tuple[str, list[str]]]:
    """The name of each function that makes lines for a terminal, and what it makes of hostile data."""
    yield "details", list(dataset_text.details(HOSTILE, MANIFEST, STEPS, FOLDER))
    yield "funnel", funnel(MANIFEST)
    yield "overlap", overlap([[HOSTILE], [HOSTILE, "b"]])
    yield "comparison", list(comparison_text.terminal_lines(compared()))
    yield "scores", tables.aligned([[HOSTILE, HOSTILE], [HOSTILE, "1"]])
    plan = forecast.begin(
        "generate", Path(HOSTILE.replace("\0", "")), MANIFEST.options, ["hub:" + HOSTILE]
    )
    plan.notes, plan.writes, plan.rows = [HOSTILE], HOSTILE, {HOSTILE: 1}
    yield "forecast", forecast.lines_of(plan)
    found = msgspec.structs.replace(doctor.examine(), system=HOSTILE, model_cache=HOSTILE)
    yield "doctor", doctor.lines(found)
    rows = dataset_text.row_lines(row(make_trace), whole=True)
    yield "row", [line for part in rows for line in part.split("\n")]


def test_no_view_of_hostile_data_acts(make_trace: Callable[..., Trace]) -> None:
    for name, lines in terminal_texts(make_trace):
        assert lines, name
        assert not {one for line in lines for one in acting(line, but="\t")}, name


def test_tables_and_previews_of_hostile_data_do_not_act(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tables.print_tables([(HOSTILE, MANIFEST)])
    preview.show([preview.ShownRow(HOSTILE, 1, 1, HOSTILE, HOSTILE)], sys.stdout, whole=True)
    with progress(HOSTILE, 1) as advance:
        advance(1, 1, HOSTILE)
    shown = capfd.readouterr()
    assert "[red]" in shown.out
    assert not acting(shown.out + shown.err)


def documents() -> Iterator[tuple[str, str]]:
    """The name of each function that makes markdown, and what it makes of hostile data."""
    yield "dataset card", dataset_card(MANIFEST)
    yield "model card", model_card(MANIFEST, ["a fact"])
    yield "comparison", "\n".join(comparison_text.markdown_lines(compared()))
    yield "scores", "\n".join(tables.markdown([[HOSTILE, "b"], [HOSTILE, HOSTILE]]))


def test_no_card_takes_data_for_markup() -> None:
    reader = MarkdownIt("commonmark").enable("table")  # HTML in it would be HTML
    for name, content in documents():
        assert not acting(content), name
        header, _, body = content.rpartition("---\n# ")
        shown = reader.render(f"# {body}" if header else content)
        assert "Injected" in shown, name
        assert not any(tag in shown for tag in ("<script", "<a ", "<img")), name
        assert not any(f"<h{n}>Injected" in shown for n in range(1, 7)), name


def test_each_option_of_a_card_is_one_cell() -> None:
    shown = MarkdownIt("commonmark").enable("table").render(model_card(MANIFEST, []))
    assert shown.count("<tr>") == 1 + len(MANIFEST.options)
    assert shown.count("<td>") == 3 * len(MANIFEST.options)
    assert "<code>a``|\\n</code>" in shown


def test_the_header_of_a_card_holds_a_name_as_one_value() -> None:
    import yaml

    model = ModelUsed("student", "a/b: [c]\n# x", "hub:a/b@1")
    card = model_card(msgspec.structs.replace(MANIFEST, models=[model]), [])
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "a/b: [c]\n# x"


# ---------------------------------------------------------------- whole commands


def test_show_of_hostile_rows_does_not_act(
    distill: Callable[..., Any],
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., manifest.Manifest],
    tmp_path: Path,
) -> None:
    name = HOSTILE.replace("\0", "")
    kept = make_traces(2, teacher=HOSTILE, benchmark=HOSTILE, verdict="correct")
    kept[1] = msgspec.structs.replace(kept[1], teacher="other")
    models = [ModelUsed("teacher", HOSTILE, HOSTILE)]
    options = {"x": ResolvedOption(HOSTILE, "flag")}
    write_dataset(
        tmp_path / "out", kept, [(kept[0], HOSTILE, HOSTILE)], models=models, options=options,
        licences=(HOSTILE,), inputs=[InputDataset(name, None, HOSTILE)],
    )  # fmt: skip
    for arguments in (
        [],
        ["--json"],
        ["--sample", "2"],
        ["--sample", "2", "--json"],
        ["--reason", "x"],
    ):
        done = distill("show", tmp_path / "out", *arguments)
        assert not acting(done.out + done.err), arguments
        assert done.out or done.err
    card = (tmp_path / "out" / "v1" / "README.md").read_text("utf-8")
    assert not acting(card)


def test_tracebacks_of_our_own_mistakes_do_not_act(
    distill_process: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import distillpipe.stages.show as s\n"
        "def show(*a, **k): raise ZeroDivisionError('\\x1b]0;t\\a')\n"
        "s.show = show\n"
    )
    done = distill_process("show", "x", PYTHONPATH=str(tmp_path))
    assert done.code == 1
    assert "ZeroDivisionError: \\x1b]0;t\\x07" in done.err
    assert not acting(done.err)

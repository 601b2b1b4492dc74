"""Licences: read from the model's files or the table, passed from input to output, warned about."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.cards import dataset_card, model_card
from distillpipe.data.store.writer import Writer
from distillpipe.models import licences
from distillpipe.models.licences import Terms, all_terms, of_inputs, of_teacher, warn
from distillpipe.models.lookup import Model, Served

CARD = "---\nlanguage: en\n{}\n---\n# A model\nlicense: of no account here\n"


@pytest.fixture
def teacher(tmp_path: Path) -> Model:
    folder = tmp_path / "teacher"
    folder.mkdir()
    return Model("teacher", folder, "local:1")


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("license: apache-2.0", "apache-2.0"),
        ("license: 'mit'\ntags: [a]", "mit"),
        ("license:\n- llama3.1\ntags: [a]", "llama3.1"),
        ("license: other\nlicense_name: qwen\nlicense_link: https://x/LICENSE", "qwen"),
        ("license_name: qwen-research\nlicense: other", "qwen-research"),
    ],
)
def test_a_model_card_names_the_licence(teacher: Model, header: str, licence: str) -> None:
    (teacher.folder / "README.md").write_text(CARD.format(header))

    assert of_teacher(teacher, None) == (licence,)


def test_else_it_is_the_title_of_the_licence_file(teacher: Model) -> None:
    (teacher.folder / "README.md").write_text("no header\nlicense: none\n")
    assert of_teacher(teacher, None) == ()
    (teacher.folder / "LICENSE").write_text("\n   LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nmore\n")

    assert of_teacher(teacher, None) == ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT",)


def test_an_adapter_without_a_card_has_the_licence_of_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    adapter.mkdir()
    (base / "README.md").write_text(CARD.format("license: mit"))

    assert of_teacher(Model("a", adapter, "local:1", base), None) == ("mit",)


def test_what_the_user_says_goes_before_everything(teacher: Model) -> None:
    (teacher.folder / "README.md").write_text(CARD.format("license: llama3"))

    assert of_teacher(teacher, "by contract") == ("by contract",)
    assert of_teacher(Served("gpt-5"), "by contract") == ("by contract",)


NAMES = [
    ("gpt-4o-mini", "openai-terms"), ("openai/o3", "openai-terms"), ("o1-mini", "openai-terms"),
    ("openai/gpt-oss-120b", "apache-2.0"), ("anthropic/claude-sonnet-4", "anthropic-commercial-terms"),
    ("gemini-2.5-pro", "gemini-api-terms"), ("x-ai/grok-4", "xai-enterprise-terms"),
    ("meta-llama/Llama-3.3-70B-Instruct", "llama3.1"), ("llama3.1:8b", "llama3.1"),
    ("Llama-4-Scout", "llama4"), ("llama-4-maverick", "llama4"), ("meta-llama/Meta-Llama-3-70B", "llama3"),
    ("deepseek-reasoner", "mit"), ("deepseek/deepseek-r1:free", "mit"),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "mit"), ("deepseek-ai/DeepSeek-V3.1", "mit"),
    ("Qwen/QwQ-32B", "apache-2.0"), ("Qwen/Qwen3-235B-A22B", "apache-2.0"),
    ("Qwen/Qwen2.5-72B-Instruct", "qwen"), ("Qwen/Qwen2.5-3B-Instruct", "qwen-research"),
    ("Qwen/Qwen2.5-32B-Instruct", "apache-2.0"), ("magistral-medium-latest", "mistral-terms"),
    ("meta/muse-spark-open", "muse-model-license"), ("muse-glimmer-30b", "apache-2.0"),
    ("MiniMaxAI/MiniMax-M3", "minimax-m3-community"), ("MiniMax-M2.5", "modified-mit"),
    ("moonshotai/kimi-k3", "modified-mit"), ("zai-org/GLM-5.2", "mit"), ("deepseek-v4.1", "mit"),
    ("nvidia/nemotron-3-super", "nvidia-open-model-license"), ("qwen3.8-32b", "apache-2.0"),
    ("google/gemma-4-31b-it", "apache-2.0"), ("gemma-3-27b", "gemma"),
    ("my-own-model", None), ("teacher", None), ("qwen3-max", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "licence"), NAMES)
def test_well_known_models_behind_a_server_are_in_the_table(name: str, licence: str | None) -> None:
    assert of_teacher(Served(name), None) == (() if licence is None else (licence,))


@pytest.mark.parametrize(
    ("licence", "begin"),
    [
        ("openai-terms", "warning: licence openai-terms: no models that compete"),
        ("llama3", "warning: licence llama3: outputs may not improve"),
        ("META LLAMA 3 COMMUNITY LICENSE AGREEMENT", "warning: licence META LLAMA 3 COMM"),
        ("llama3.2", "note: licence llama3.2: a model trained on outputs needs a name"),
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT", "note: licence LLAMA 3.1 COMMUNITY"),
        ("qwen", "note: licence qwen: a model trained on outputs has to say"),
        ("Qwen RESEARCH LICENSE AGREEMENT", "note: licence Qwen RESEARCH LICENSE AGREEMENT: not"),
        ("mit", ""), ("Apache License", ""), ("by contract", ""),
    ],
)  # fmt: skip
def test_terms_that_forbid_or_ask_something_are_said(
    capsys: pytest.CaptureFixture[str], licence: str, begin: str
) -> None:
    warn([licence])
    said = capsys.readouterr().err

    assert said.startswith(begin)
    assert said.count("\n") == (1 if begin else 0)
    assert not begin or "as of 2026-11-21" in said


@pytest.mark.parametrize("terms", all_terms(), ids=lambda terms: terms.licence)
def test_every_entry_finds_itself_and_has_a_source(terms: Terms) -> None:
    found = next(one for one in all_terms() if licences._matches(one.names, terms.licence))
    assert found == terms  # so none is hidden by one before it
    assert terms.says
    assert terms.source.startswith("https://")
    assert date(2026, 1, 1) <= terms.date <= date.today()


def test_every_pattern_of_names_matches_a_model_of_this_test() -> None:
    found = {licence for _, licence in NAMES}
    assert {terms.licence for terms in all_terms()} <= found


# ---------------------------------------------------------------- from stage to stage


def test_inputs_carry_their_licences_on_each_once(
    tmp_path: Path, make_traces: Callable[..., list[Trace]], write_dataset: Callable[..., Any]
) -> None:
    for name, given in (("a", ("mit",)), ("b", ("qwen", "mit")), ("c", ())):
        write_dataset(tmp_path / name, make_traces(1), licences=given)
    (tmp_path / "d.jsonl").write_text("")

    inputs = [dataset.find(str(tmp_path / name)) for name in ("b", "a", "c", "d.jsonl")]
    assert of_inputs(inputs) == ("qwen", "mit")


def test_filter_counts_each_teacher_and_carries_all_licences(
    tmp_path: Path,
    distill: Callable[..., Any],
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Any],
) -> None:
    write_dataset(tmp_path / "r1", make_traces(5, teacher="R1"), licences=("mit",))
    wrong = make_traces(4, teacher="QwQ", reference_answer="77", row_key="another one", seed=9)
    write_dataset(tmp_path / "qwq", wrong, licences=("apache-2.0",))
    write_dataset(tmp_path / "old", make_traces(2, teacher=None, row_key="third"))
    out = tmp_path / "clean"
    done = distill(
        "filter", tmp_path / "r1", tmp_path / "qwq", tmp_path / "old", "--out", out,
        "--min-reasoning-tokens", 0, "--dedup", "none",
    )  # fmt: skip

    assert done.code == 0, done.err
    found = manifests.read(out / "v1")
    assert found.licences == ["mit", "apache-2.0"]
    counts = {
        name: (one.rows_read, one.rows_kept, one.dropped)
        for name, one in found.counts.teachers.items()
    }
    assert counts == {
        "R1": (5, 5, {}), "QwQ": (4, 0, {"wrong_answer": 4}), "unknown": (2, 2, {}),
    }  # fmt: skip
    lines = [
        "QwQ: 0 of 4 rows kept (wrong_answer 4)",
        "R1: 5 of 5 rows kept",
        "unknown: 2 of 2 rows kept",
    ]
    assert all(line in done.err for line in lines)
    assert all(line in distill("show", out).out for line in lines)
    for card in (dataset_card(found), model_card(found, [])):
        assert "- licence of the teachers: mit\n- licence of the teachers: apache-2.0\n" in card


def test_one_teacher_needs_no_line_of_its_own(
    tmp_path: Path,
    distill: Callable[..., Any],
    make_traces: Callable[..., list[Trace]],
    write_dataset: Callable[..., Any],
) -> None:
    write_dataset(tmp_path / "r1", make_traces(5, teacher="R1"))
    done = distill(
        "filter", tmp_path / "r1", "--out", tmp_path / "out", "--min-reasoning-tokens", 0
    )

    assert done.code == 0, done.err
    assert "rows kept" not in done.err


def test_counts_of_teachers_are_the_same_after_a_kill(
    tmp_path: Path,
    make_traces: Callable[..., list[Trace]],
    make_header: Callable[..., Any],
) -> None:
    rows = make_traces(3, teacher="R1")
    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        writer.append(rows[0])
        writer.reject(rows[1], "wrong_answer", "7")
    with versions.draft(tmp_path, make_header()) as draft, Writer(draft) as writer:
        writer.append(rows[2])
        (found,) = writer.counts.teachers.items()

    assert (found[0], found[1].rows_kept, found[1].dropped) == ("R1", 2, {"wrong_answer": 1})


def test_a_notice_is_shown_once_and_only_where_it_is_asked_for() -> None:
    names = ("mit", "muse-model-license", "MUSE MODEL LICENSE", "llama4", "of our own")
    muse, llama = licences.notices(names)
    assert muse.startswith("Built with Muse Spark Open")
    assert llama.startswith("Built with Llama")
    assert licences.notices(()) == []

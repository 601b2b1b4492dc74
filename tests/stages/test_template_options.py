"""What a chat template reads besides the messages: options, the clock, and the mode of thinking."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.options import EngineOptions, Plan, SamplingOptions, TemplateOptions, row_key
from distillpipe.base.records import Trace
from distillpipe.data.store import dataset, versions
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.versions import Header
from distillpipe.data.store.writer import Writer, check_plan
from distillpipe.models import lookup
from distillpipe.models.chat import load_chat
from distillpipe.models.lookup import Served
from distillpipe.sampling.plan import load_model_chat
from distillpipe.stages.generate import forecast_generate, generate
from distillpipe.stages.run import Run

CLOCK = (
    "{{- '<|im_start|>system\\nToday: ' + strftime_now('%d %B %Y') + '<|im_end|>\\n' }}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SWITCH = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{{- '<think>\\n' if enable_thinking is defined and enable_thinking else '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}"
)


@pytest.fixture
def travel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the time zone: Midway and Kiritimati are never on the same day."""

    def to(zone: str) -> None:
        monkeypatch.setenv("TZ", f"Pacific/{zone}")
        time.tzset()

    yield to
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def asked(shipped: Path, sampling: SamplingOptions, tmp_path: Path) -> Callable[..., tuple]:
    """A factory of the arguments of `generate`, with a template and the number of problems."""

    def make(template: str, limit: int, out: str = "traces", **options) -> tuple:
        path = tmp_path / "t.jinja"
        path.write_text(template, "utf-8")
        prompting = msgspec.structs.replace(
            sampling.prompting, chat_template=str(path), template=TemplateOptions(**options)
        )
        given = msgspec.structs.replace(
            sampling, prompting=prompting, plan=Plan(num_samples=1, limit=limit)
        )
        problems = str(shipped / "problems-train.jsonl")
        return problems, str(shipped / "teacher"), tmp_path / out, given, Run()

    return make


def rows_of(out: Path, version: str = "v1") -> list[Trace]:
    return list(dataset.read_traces(f"{out}@{version}"))


def test_a_run_that_goes_on_the_next_day_has_each_row_once(asked, travel) -> None:
    travel("Midway")
    given = asked(CLOCK, 4)
    forecast_generate(*given, pilot=2)
    out = given[2]
    begun = {row.id for row in dataset.scan(out / "v1.partial", Trace)}
    travel("Kiritimati")
    generate(*given)
    ids = [row.id for row in rows_of(out)]
    assert len(begun) == 2
    assert len(ids) == len(set(ids)) == 4
    assert begun <= set(ids)


def test_rows_of_another_day_are_taken_over(asked, travel) -> None:
    travel("Midway")
    first = generate(*asked(CLOCK, 2))
    travel("Kiritimati")
    given = asked(CLOCK, 3)
    wanted = forecast_generate(*given).rows
    second = generate(*given)
    assert wanted == {"wanted": 3, "there already": 2, "to sample": 1}
    assert second.manifest.counts.rows_reused == 2
    assert second.manifest.template_time == first.manifest.template_time is not None


def test_a_fresh_version_has_the_day_of_today(asked, travel) -> None:
    travel("Midway")
    first = generate(*asked(CLOCK, 1))
    travel("Kiritimati")
    *given, _ = asked(CLOCK, 1)
    second = generate(*given, Run(fresh=True))
    days = [one.manifest.template_time[:10] for one in (first, second)]
    assert days[0] < days[1]


def test_a_version_without_a_stored_day_has_that_of_its_beginning(asked, travel) -> None:
    travel("Midway")
    given = asked(CLOCK, 2)
    forecast_generate(*given, pilot=1)
    draft = given[2] / "v1.partial"
    manifest = manifests.read(draft)
    manifest.template_time = None
    manifests.write(draft, manifest)
    finished = generate(*given)
    assert len(rows_of(given[2])) == 2
    assert finished.manifest.template_time is not None


def test_a_template_without_a_clock_stores_no_time(asked) -> None:
    assert generate(*asked(SWITCH, 1)).manifest.template_time is None


def test_a_family_that_thinks_when_told_is_told_to(asked) -> None:
    thinking = asked(SWITCH, 2, "thinking")
    plain = asked(SWITCH, 2, "plain", no_thinking=True)
    generate(*thinking)
    generate(*plain)
    lengths = [
        [row.num_tokens.prompt for row in sorted(rows_of(given[2]), key=lambda row: row.problem_id)]
        for given in (thinking, plain)
    ]
    closed = 2  # tokens: a blank line and </think>, in place of a line feed
    assert [one + closed for one in lengths[0]] == lengths[1]


def test_an_option_of_the_template_is_in_the_key(asked) -> None:
    without = asked(SWITCH, 2)
    with_it = asked(SWITCH, 2, template_option=("enable_thinking=true",))
    first, second = generate(*without), generate(*with_it)
    keys = [{row.row_key for row in rows_of(without[2], version)} for version in ("v1", "v2")]
    assert second.manifest.counts.rows_reused == 0
    assert keys[0].isdisjoint(keys[1])
    assert first.manifest.fingerprint != second.manifest.fingerprint


def test_rows_without_an_option_have_the_keys_of_before(asked, shipped: Path) -> None:
    given = asked(SWITCH, 1)
    generate(*given)
    (row,) = rows_of(given[2])
    template = given[3].prompting.chat_template
    chat = load_chat(shipped / "teacher", "teacher", template)
    identity = lookup.find(str(shipped / "teacher"), "--teacher").identity
    sampling = given[3].sampling
    key = row_key(chat.prompt_ids(row.messages[:-1]), sampling, identity, seed=0, sample=0)
    assert row.row_key == key


SERVED = Served("qwen")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_thinking": True}, "--no-thinking: which variable .* give --tokenizer MODEL"),
        ({"template_name": "rag"}, "--template-name: a server uses its own setting"),
        ({"think_open": "<a>", "think_close": "</a>"}, "--think-open, --think-close: a server"),
    ],
)
def test_a_server_that_renders_is_not_told_what_it_cannot_hear(
    sampling: SamplingOptions, options, message
) -> None:
    prompting = msgspec.structs.replace(sampling.prompting, template=TemplateOptions(**options))
    given = msgspec.structs.replace(sampling, prompting=prompting, engine=EngineOptions())
    with pytest.raises(UsageError, match=message):
        load_model_chat(SERVED, given)


def test_a_server_may_be_told_which_variable_switches_thinking_off(
    sampling: SamplingOptions,
) -> None:
    template = TemplateOptions(no_thinking=True, template_option=("enable_thinking=false",))
    prompting = msgspec.structs.replace(sampling.prompting, template=template)
    assert load_model_chat(SERVED, msgspec.structs.replace(sampling, prompting=prompting)) is None


HEADER = Header("traces", "generate", {}, [], [], {})


def test_a_version_is_only_finished_as_it_was_planned(make_traces, tmp_path: Path) -> None:
    traces = make_traces(3)
    with versions.draft(tmp_path / "out", HEADER) as draft, Writer(draft) as writer:
        for trace in traces:
            writer.append(trace)
        ids = {trace.id for trace in traces}
        check_plan(writer, ids)
        with pytest.raises(DataError, match=r"1 rows that this command does not plan \(the first"):
            check_plan(writer, ids - {traces[0].id})
        with pytest.raises(DataError, match="1 rows too few"):
            check_plan(writer, ids | {"another"})
        writer.append(traces[0])
        with pytest.raises(DataError, match="holds 1 rows twice, so it is not finished: move"):
            check_plan(writer, ids)


def test_rows_of_two_days_in_one_draft_are_noticed(asked, travel) -> None:
    travel("Midway")
    given = asked(CLOCK, 2)
    forecast_generate(*given, pilot=1)
    draft = given[2] / "v1.partial"
    part = next(draft.glob("part-*.jsonl"))
    row = json.loads(part.read_text("utf-8"))
    row |= {"row_key": "0" * 32, "id": f"{row['problem_id']}/{'0' * 16}"}
    part.write_text(part.read_text("utf-8") + json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError, match="1 rows that this command does not plan"):
        generate(*given)

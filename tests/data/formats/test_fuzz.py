"""Fuzz every format and reader with mutated rows: the only error is a DataError with its place.

The seeds are fixed. Rows are those that the formats are documented with; a mutation puts one value, brackets, bytes
or a tag where they do not belong.
"""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from distillpipe.base.errors import DataError, UsageError
from distillpipe.base.hashing import content_hash
from distillpipe.base.options import Prompting
from distillpipe.base.records import Problem, Trace
from distillpipe.base.thinking import Tags, split
from distillpipe.data.formats.files import Unreadable, rows_and_unreadable
from distillpipe.data.formats.incoming import FORMATS, detect
from distillpipe.data.formats.outgoing import FORMATS as LAYOUTS
from distillpipe.data.formats.outgoing import turns_of
from distillpipe.data.formats.traces import Choices, Imported, imported
from distillpipe.data.sources import find, read_problems
from distillpipe.data.store import dataset
from distillpipe.data.store import manifest as manifests
from distillpipe.data.store.jsonl import decode, encoder

THOUGHT = "<think>\n14 + 6 = 20.\n</think>\n\nThe answer is \\boxed{20}."
MARKED = "<|begin_of_thought|>14 + 6<|end_of_thought|><|begin_of_solution|>\\boxed{20}<|end_of_solution|>"
ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Think."}, {"role": "user", "content": "14+6?"},
                  {"role": "assistant", "content": THOUGHT}], "answer": "20", "model": "R1"},
    {"prompt": [{"role": "user", "content": "14+6?"}],
     "completion": [{"role": "assistant", "content": "20", "reasoning_content": "14+6=20"}]},
    {"conversations": [{"from": "human", "value": "14+6?"}, {"from": "gpt", "value": THOUGHT}]},
    {"system": "Use marks.", "conversations": [{"from": "user", "value": "14+6?"},
                                               {"from": "assistant", "value": MARKED}]},
    {"deepseek_reasoning": "14+6", "deepseek_solution": "20", "problem": "14+6?", "domain": "math",
     "ground_truth_solution": "\\boxed{20}"},
    {"problem": "14+6?", "answer": "20", "generations": [THOUGHT, "20"], "finish_reasons": ["stop", "length"],
     "is_reasoning_complete": [True, False], "messages": [{"role": "user", "content": "14+6?"}]},
    {"question": "14+6?", "solution": "20", "deepseek_thinking_trajectory": "14+6", "deepseek_attempt": "20",
     "gemini_thinking_trajectory": "14", "gemini_attempt": "20"},
    {"question": "14+6?", "thinking_trajectories": ["14+6"], "attempt": "20", "source_type": "aime"},
    {"problem": "14+6?", "reasoning_content": "14+6=20", "content": "20", "finish_reason": "stop"},
    {"problem": "14+6?", "response": {"body": {"model": "R1", "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": THOUGHT}}]}},
     "request": {"body": {"messages": [{"role": "user", "content": "14+6?"}]}}},
    {"problem": "14+6?", "raw": THOUGHT, "gold": 20, "sample_index": 3, "options": ["1", "20"]},
    {"question": "14+6?", "answer": "14 + 6 = <<14+6=20>>20\n#### 20"},
    {"problem": "sort", "raw": "```python\nprint(1)\n```", "verifier": "code",
     "input_output": "{\"inputs\": [\"1\\n\"], \"outputs\": [\"1\\n\"]}", "starter_code": ""},
    {"prompt": "def f():\n", "test": "def check(f):\n    assert f() == 1\n", "entry_point": "f", "raw": "x"},
    {"text": "f of 1 is 1", "test_list": ["assert f(1) == 1"], "problem": "f", "output": "x", "tests": {}},
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, 2**70, -(2**70), 0.1, 1e308, "", " ", "\0", "20", "\\boxed{", THOUGHT,
    "</think>", "<think>", "\u2028", "\ufeff", "\U0001f600", "a" * 5000, "{}" * 200, "[" * 300, "#### ",
    [], [[]], [None], [""], [{}], {}, {"": ""}, {"role": "user"}, {"role": "assistant", "content": None},
    [{"role": "user", "content": "x"}], [{"from": "gpt", "value": [{"text": "x"}, "y"]}], {"text": ["a"]},
    {"body": []}, {"choices": [None]}, {"choices": [{"message": {}}]}, ["0", "1"], {"option_order": ["1", "0"]},
    {"functional": 1}, {"inputs": [1], "outputs": []}, [[[[[[1]]]]]], {"content": {"content": {}}},
]  # fmt: skip
ODD_BYTES = [
    b"\xff", b"\x00", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e999", b"\r", b"\n",
    b'"', b"\\", b"[" * 1500, b"]" * 1500, b'{"a":' * 1200, b"\xef\xbb\xbf", b"\xe2\x80\xa8", b",", b":",
]  # fmt: skip


def mutated(row: Any, draw: random.Random) -> Any:
    """The row with one to three random changes."""
    row = json.loads(json.dumps(row))
    for _ in range(draw.randint(1, 3)):
        places = list(_places(row))
        if not places:
            break
        holder, key = draw.choice(places)
        change = draw.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder[key], str):
            holder[key] = _cut(holder[key], draw)
        elif change == 2:
            _, other = draw.choice(places)
            source = draw.choice(places)[0]
            if other in source if isinstance(source, dict) else False:
                holder[key] = json.loads(json.dumps(source[other]))
        elif change == 3 and isinstance(holder, dict):
            holder[draw.choice(KEYS)] = holder.pop(key)
        else:
            holder[key] = json.loads(json.dumps(draw.choice(VALUES)))
    return row


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def _cut(text: str, draw: random.Random) -> str:
    at = draw.randint(0, len(text))
    return (
        text[:at]
        + draw.choice(["", "<think>", "</think>", "\\boxed{", "}", "\n\n", "\u2028"])
        + (text[at:] if draw.random() < 0.7 else "")
    )


KEYS = sorted({key for row in ROWS for holder, key in _places(row) if isinstance(holder, dict)})


def damaged(line: bytes, draw: random.Random) -> bytes:
    """A line with a few bytes changed."""
    for _ in range(draw.randint(1, 2)):
        at = draw.randint(0, len(line))
        until = min(len(line), at + draw.choice([0, 0, 1, 5, len(line)]))
        line = line[:at] + draw.choice([b"", *ODD_BYTES]) + line[until:]
    return line


def check_formats(num_calls: int, seed: int, rows: list[dict[str, Any]]) -> None:
    """Each row is detected and read without an error. Each completion comes once; rejected rows are kept whole."""
    draw = random.Random(seed)
    names = list(FORMATS)
    for number in range(num_calls):
        row = mutated(draw.choice(rows), draw)
        name = detect([row]) if number % 2 else draw.choice(names)
        if name is None:
            continue
        for one in imported(row, FORMATS[name], Choices(name)):
            _check_imported(row, one)


def _check_imported(row: Any, found: Imported) -> None:
    line = encoder.encode(found.trace)
    assert msgspec.json.decode(line, type=Trace) == found.trace
    if found.rejection is not None:
        assert found.trace.extra is not None or not row
        if row:
            assert content_hash(json.loads(found.trace.extra or "")) == content_hash(row)
        return
    assert found.problem is not None
    assert msgspec.json.decode(encoder.encode(found.problem), type=Problem) == found.problem
    for layout in LAYOUTS.values():
        for reasoning in ("inline", "field"):
            encoder.encode(layout(turns_of(found.trace, reasoning)))  # type: ignore[arg-type]


def check_lines(num_lines: int, seed: int, folder: Path) -> None:
    """Each line of a file is a row, or an Unreadable with the whole line and its number."""
    draw = random.Random(seed)
    good = [
        json.dumps(row, ensure_ascii=bool(number % 2)).encode() for number, row in enumerate(ROWS)
    ]
    written = [b"{}"]
    for _ in range(num_lines):
        line = draw.choice(good)
        changed = damaged(line, draw) if draw.random() < 0.7 else line
        written.append(changed.replace(b"\n", b" "))
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(written))
    read = dict(rows_and_unreadable(path))
    places = {
        f"{path}:{number}": line for number, line in enumerate(written, start=1) if line.strip()
    }
    assert list(read) == list(places)
    for where, row in read.items():
        if isinstance(row, Unreadable):
            assert row.error.startswith(f"{where}: not valid JSON (")
            assert row.content == places[where].strip().decode("utf-8", "backslashreplace")
        else:
            assert row == json.loads(places[where])
            encoder.encode(row)


def check_records(num_calls: int, seed: int, folder: Path) -> None:
    """A damaged line of ours is a DataError with its place, or a row that is written back unchanged."""
    draw = random.Random(seed)
    decoder = msgspec.json.Decoder(Trace)
    traces = [
        encoder.encode(one.trace)
        for row in ROWS
        for name in [detect([row])]
        if name is not None
        for one in imported(row, FORMATS[name], Choices(name))
    ]
    for number in range(num_calls):
        line = damaged(draw.choice(traces), draw)
        try:
            row = decode(line, decoder, f"x:{number}")
        except DataError as error:
            assert str(error).startswith(f"x:{number}: not a row of kind Trace (")
        else:
            assert decode(encoder.encode(row), decoder, "again") == row


TAGS = [Tags("<think>", "</think>"), Tags("[THINK]", "[/THINK]"), Tags("<|a|>", "<|b|>")]
PIECES = [
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "<|a|>",
    "<|b|>",
    " ",
    "\n",
    "\u2028",
    "\0",
    "a",
    "\\boxed{1}",
    "",
]


def check_splits(num_calls: int, seed: int) -> None:
    """The four parts of a completion add up to its text."""
    draw = random.Random(seed)
    for _ in range(num_calls):
        text = "".join(draw.choices(PIECES, k=draw.randint(0, 9)))
        parts = split(text, opened=draw.random() < 0.5, tags=draw.choice(TAGS))
        assert "".join(parts) == text


def check_files(num_files: int, seed: int, folder: Path) -> None:
    """A damaged file or manifest is read, or is an error that names the file."""
    draw = random.Random(seed)
    list_of = json.dumps(ROWS).encode()
    lines = b"\n".join(json.dumps(row).encode() for row in ROWS)
    table = b'problem,answer\n"14+6?",20\n"a\nb","1,2"\n'
    prompting = Prompting(problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
                          system_prompt=None, chat_template=None)  # fmt: skip
    manifest = (folder / "v1" / "manifest.json").read_bytes()
    for number in range(num_files):
        kind, content = draw.choice(
            [
                ("json", list_of),
                ("jsonl", lines),
                ("csv", table),
                ("jsonl.gz", gzip.compress(lines, mtime=0)),
            ]
        )
        path = folder / f"rows.{kind}"
        path.write_bytes(damaged(content, draw))
        try:
            rows = Counter(type(row).__name__ for _, row in rows_and_unreadable(path))
            assert rows.total()
        except DataError as error:
            assert str(path) in str(error)
        try:
            list(read_problems(find(str(path)), prompting, None))
        except (DataError, UsageError) as error:
            assert str(path) in str(error)
        if number % 4 == 0:
            (folder / "v1" / "manifest.json").write_bytes(damaged(manifest, draw))
            try:
                manifests.read(folder / "v1")
            except DataError as error:
                assert "manifest.json" in str(error)
    (folder / "v1" / "manifest.json").write_bytes(manifest)


@pytest.fixture
def folder(tmp_path: Path, make_traces: Any, write_dataset: Any) -> Path:
    """A folder with a version in it."""
    write_dataset(tmp_path, make_traces(2))
    assert next(dataset.read_traces(str(tmp_path)))
    return tmp_path


@pytest.fixture
def real(reference_data: Callable[[str], Path]) -> list[dict[str, Any]]:
    """A few rows of each file of the reference data."""
    data = reference_data("data")
    found = []
    for path in sorted(
        [*data.glob("traces/*.jsonl"), *data.glob("math/*.jsonl"), *data.glob("code/*.jsonl")]
    ):
        with path.open("rb") as file:
            rows = [json.loads(line) for line in islice(file, 5)]
        found += [row for row in rows if len(str(row)) < 20_000]
    return found


def run_all(times: int, seed: int, folder: Path, rows: list[dict[str, Any]]) -> None:
    check_formats(400 * times, seed, [*ROWS, *rows])
    check_lines(100 * times, seed, folder)
    check_records(200 * times, seed, folder)
    check_splits(200 * times, seed)
    check_files(4 * times, seed, folder)


def test_mutated_rows_are_read_or_said_to_be_unreadable(folder: Path) -> None:
    run_all(1, 0, folder, [])


@pytest.mark.slow
def test_many_mutated_rows_are_read_or_unreadable(folder: Path) -> None:
    run_all(20, 1, folder, [])


@pytest.mark.reference
@pytest.mark.slow
def test_mutated_real_rows_are_read_or_unreadable(folder: Path, real: list[dict[str, Any]]) -> None:
    run_all(10, 3, folder, real)


@pytest.mark.reference
@pytest.mark.long
def test_a_million_mutated_rows_are_read_or_said_to_be_unreadable(
    folder: Path, real: list[dict[str, Any]]
) -> None:
    run_all(1100, 2, folder, real)

"""Hostile chat templates: none exhausts memory or time, and only its own row fails."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distillpipe.base.errors import CannotRenderError, UsageError
from distillpipe.base.records import Message
from distillpipe.models import rendering
from distillpipe.models.chat import load_chat

# Templates, each with a part of the expected error. Those in LONG reach the limits on time or memory.
FAILING = {
    "{{ 1/0 }}": "ZeroDivisionError",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}": "calls itself too deeply",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}": "too deeply",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}": "too deeply",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000: "too deeply",
    "{{ 10.0 ** 400 }}": "OverflowError",
    "{% for i in range(10 ** 9) %}{% endfor %}": "Range too big",
    "{% include '/etc/passwd' %}": "no loader",
    "{{ ''.__class__.__mro__ }}": "unsafe",
    "{% debug %}": "unknown tag",
    "{{ '\udcff' }}".encode("utf-8", "surrogatepass").decode("utf-8", "replace") + "{{ 1/0 }}": "Zero",
    "{{ '\\udcff' }}": "half of a surrogate pair",
    "{{ raise_exception('no \x1b[2J') }}": "no ",
    "{{ raise_exception('') }}": "TemplateError",
    "{{ raise_exception(messages) }}": "qzQuestionqz",
    "{{ 'x' * 2000000 }}": "it writes 2,000,000 characters for 16",
}  # fmt: skip
BOMBS = {
    "{{ 'x' * 10 ** 11 }}": "memory",
    "{{ '%100000000000d' % 1 }}": "",
    "{{ ('x' * 10 ** 8) * 1000 }}": "memory",
    "{% set a = 'a' * 100000 %}{% for b in range(99999) %}{{ a }}{% endfor %}": "memory",
    "{% set n = namespace(a='x') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}": "memory",
    "{{ range(99999) | join('x' * 10 ** 6) }}": "memory",
    "{{ range(9) | batch(10 ** 10, 'x') | list }}": "memory",
    "{{ messages | tojson(indent=10 ** 10) }}": "memory",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}": "more than 1 s",
    "{{ (10 ** 10 ** 7) % 7 }}{{ 3 ** 10 ** 9 }}": "",
}
ASKED = [Message(role="user", content="How many?")]


@pytest.fixture
def teacher(repository: Path) -> Path:
    return repository / "data" / "quickstart" / "teacher"


def refused(template: str, teacher: Path, folder: Path) -> str:
    path = folder / "mine.jinja"
    path.write_bytes(template.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError) as error:
        load_chat(teacher, "m", str(path))
    said = str(error.value)
    assert said.startswith(f"--chat-template {path} ")
    assert said.endswith("give another --chat-template")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("template", FAILING, ids=range(len(FAILING)))
def test_a_template_that_fails_is_one_line(template: str, teacher: Path, tmp_path: Path) -> None:
    assert FAILING[template] in refused(template, teacher, tmp_path)


@pytest.mark.parametrize("template", BOMBS, ids=range(len(BOMBS)))
def test_a_template_that_eats_memory_or_time_is_one_line(
    template: str, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "CPU_SECONDS", 1.0)
    monkeypatch.setattr(rendering, "MEMORY_BYTES", 1 << 27)
    reason = BOMBS[template]
    assert reason in refused(template, teacher, tmp_path)


def test_a_template_fails_only_on_the_conversation_it_cannot_render(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "CPU_SECONDS", 0.3)
    spins = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    own = (teacher / "chat_template.jinja").read_text()
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{% if 'spin' in messages[0].content %}" + spins + "{% endif %}"
        "{% if 'odd' in messages[0].content %}{{ raise_exception('odd') }}{% endif %}" + own
    )
    chat, plain = load_chat(teacher, "m", str(path)), load_chat(teacher, "m")
    for content in ("spin", "odd"):
        with pytest.raises(CannotRenderError):
            chat.prompt([Message(role="user", content=content)])
        assert chat.prompt(ASKED) == plain.prompt(ASKED)


def test_threads_and_forks_share_a_renderer(teacher: Path) -> None:
    chat = load_chat(teacher, "m")
    wanted = [chat.prompt([Message(role="user", content=str(n))]) for n in range(40)]

    def prompt(number: int) -> str:
        return chat.prompt([Message(role="user", content=str(number))])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(prompt, range(40))) == wanted
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, b"1" if [prompt(n) for n in range(40)] == wanted else b"0")
        os._exit(0)
    assert [prompt(n) for n in range(40)] == wanted
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"


def test_an_interrupted_text_does_not_come_as_the_next_one(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = load_chat(teacher, "m")
    wanted = chat.prompt(ASKED)
    pipe = type(chat._renderer._fork.pipe)

    def interrupted(_self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipe, "recv", interrupted)
        with pytest.raises(KeyboardInterrupt):
            chat.prompt([Message(role="user", content="another")])
    assert chat.prompt(ASKED) == wanted


def test_a_renderer_leaves_no_process_and_no_pipe(teacher: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    chat = load_chat(teacher, "m")
    child = chat._renderer._fork.child
    del chat
    assert not Path(f"/proc/{child}").exists()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_process_that_renders_holds_nothing_of_ours(teacher: Path, tmp_path: Path) -> None:
    held = (tmp_path / "lock").open("w")
    chat = load_chat(teacher, "m")
    child = chat._renderer._fork.child
    chat.prompt(ASKED)
    links = [str(one.readlink()) for one in Path(f"/proc/{child}/fd").iterdir()]
    assert held.name not in links
    assert len(links) == 4  # the standard streams and its pipe
    assert threading.active_count() >= 1
    held.close()

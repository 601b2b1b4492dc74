r"""Answers that try to break a verifier: each costs at most its time limit, none stops a run or is unverifiable.

Questions to math-verify get one second here instead of five.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from distillpipe.base import workers as processes
from distillpipe.verify import judge, verified
from distillpipe.verify.extract import any_answer, boxed_answer
from distillpipe.verify.math import verifier as math
from distillpipe.verify.math import workers

HOSTILE = {
    "towers": "9^9^9^9",
    "towers in braces": "9^{9^{9^{9}}}",
    "a tower of powers": "x" + "^{x" * 200 + "}" * 200,
    "100,000 braces": "{" * 100_000 + "}" * 100_000,
    "a megabyte": "a1+" * 330_000,
    "a million braces": "{" * 1_000_000 + "}" * 1_000_000,
    "a million open braces": "{" * 1_000_000,
    "ten megabytes": "a1+" * 3_300_000,
    "ten megabytes of digits": "7" * 10_000_000,
    "null bytes": "\x00\x00",
    "a null byte": "42\x00",
    "control characters": "4\x1b[2J\x082",
    "surrogates": "\ud800\udfff",
    "right to left": "\u202e24",
    "a factorial": "10000!",
    "a huge factorial": "100000000!",
    "factorials of factorials": "((1000000!)!)!",
    "many factorials": "+".join(["2999!"] * 500),
    "a huge power": "(x+1)^{5000}",
    "a power with a huge exponent": "2^{10^{10^{10}}}",
    "a polynomial with many terms": "(x+y+z+1)^{300}",
    "fractions in fractions": "\\frac{" * 500 + "1" + "}{2}" * 500,
    "fractions without arguments": "\\frac" * 1000,
    "roots in roots": "\\sqrt{" * 400 + "2" + "}" * 400,
    "brackets": "(" * 1500 + "1" + ")" * 1500,
    "boxes in boxes": "\\boxed{" * 300 + "}" * 300,
    "texts in texts": "\\text{" * 300 + "}" * 300,
    "quotients": "1/" * 700 + "1",
    "minus signs": "-" * 3000 + "1",
    "a long sum": "1+" * 1400 + "1",
    "a long list": "1," * 1500,
    "a long number": "1" * 3900,
    "a long decimal": "0." + "1" * 3900,
    "a huge exponent": "9e99999999",
    "a wide matrix": "\\begin{pmatrix}" + "1&" * 900 + "1\\end{pmatrix}",
    "carets": "^" * 2000,
    "subscripts": "x_" * 1000,
    "signs": "\\pm" * 500,
    "equations": "=" * 3000,
    "backslashes": "\\" * 3000,
    "joints": " and " * 800,
    "a sum of many": "\\sum_{k=1}^{10^9} k^2",
    "a huge binomial": "\\binom{1000000}{500000}",
    "code": "__import__('os').system('touch /tmp/owned')",
    "a protocol line": '"}\n{"outcome": "same"}\n',
}
REFERENCES = ["42", r"\int_0^1 2x\,dx+\sin(x)"]  # one that rules decide, one that they do not


@pytest.fixture(autouse=True, scope="module")
def impatient() -> Iterator[None]:
    seconds, workers.CPU_SECONDS = workers.CPU_SECONDS, 1.0
    math.clear_caches()
    yield
    workers.CPU_SECONDS = seconds
    processes.close()
    math.clear_caches()


ALWAYS = [
    "towers in braces", "100,000 braces", "a megabyte", "null bytes", "surrogates", "a long list",
    "code", "a protocol line",
]  # fmt: skip
NAMES = [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow) for name in HOSTILE]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_answer_is_wrong_whatever_the_verifier(name: str) -> None:
    verdicts = {
        judge(HOSTILE[name], "42", verifier) for verifier in ("exact", "numeric", "math", "choice")
    }
    assert verdicts == {"wrong"}


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_wrong_where_math_verify_is_asked(text: str) -> None:
    assert [judge(text, reference, "math") for reference in REFERENCES] == ["wrong", "wrong"]
    assert judge("1+" + REFERENCES[1], REFERENCES[1], "math") == "wrong"  # the next one is judged


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_reference_stops_nothing(name: str) -> None:
    for verifier in ("exact", "numeric", "math", "choice"):
        assert judge("41", HOSTILE[name], verifier) in ("wrong", "unverifiable")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frame", ["The answer is {}", "\\boxed{{1}} \\boxed{{{}}}"])
def test_extraction_ends_on_hostile_responses(make_trace, name: str, frame: str) -> None:
    response = frame.format(HOSTILE[name])
    boxed_answer(response)
    any_answer(response)
    verified(make_trace(response=response), "choice", answer_form="any")


MEASURED = r"""
import json, resource, sys
from distillpipe.verify import judge
from distillpipe.verify.math import workers
workers.CPU_SECONDS = 1.0
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
verdicts = [judge(text, r"\int_0^1 2x\,dx+\sin(x)", "math") for text in json.load(sys.stdin)]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([sorted(set(verdicts)), (after - before) // 1024]))
"""


@pytest.mark.slow
def test_the_memory_of_the_run_is_bounded() -> None:
    texts = [text for text in HOSTILE.values() if len(text) < 10_000]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts, megabytes = json.loads(done.stdout)
    assert verdicts == ["wrong"]
    assert megabytes < 100

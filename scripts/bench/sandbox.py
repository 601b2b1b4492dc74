"""Short programs judged per second, compared with the rate at which the machine can start such sandboxes.

python scripts/bench/sandbox.py [--programs 60] [--pairs 9] [--threads 2]

The limit is the same bubblewrap command with an empty program (`python ... -c pass`), started and awaited by as many
threads. Both are measured in alternating pairs. Prints medians.
"""

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from distillpipe.verify.code import sandbox as sandboxes
from distillpipe.verify.code import seccomp
from distillpipe.verify.code.kinds import Call, CallTests, CodeTests, InputTests
from distillpipe.verify.code.verifier import judge_code

CALLS = CallTests("add", tuple(Call((number, 1), {}, number + 1) for number in range(5)))
INPUTS = InputTests(tuple((f"{number} 1\n", f"{number + 1}\n") for number in range(5)))
PROGRAMS: list[tuple[str, CodeTests]] = [
    ("def add(a, b):\n    return a + b\n", CALLS),
    ("a, b = map(int, input().split())\nprint(a + b)\n", INPUTS),
]


def start_empty(number: int) -> None:
    """Run an empty program in a sandbox of the same command."""
    reading, writing = os.pipe()
    os.write(writing, seccomp.filter_program())
    os.close(writing)
    command = [str(reading) if part == "{seccomp}" else part for part in command_of_sandboxes()]
    command[-1] = "pass"
    subprocess.run(command, env={}, pass_fds=[reading], check=True, start_new_session=True)
    os.close(reading)


def command_of_sandboxes() -> list[str]:
    return list(sandboxes._isolated_command(64 << 20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    sandbox = sandboxes.find_sandbox()

    def judge(number: int) -> None:
        program, tests = PROGRAMS[number % len(PROGRAMS)]
        result = judge_code(program, tests, sandbox=sandbox)
        assert result.verdict == "correct", result

    def per_second(work: Callable[[int], None]) -> float:
        with ThreadPoolExecutor(arguments.threads) as pool:
            begin = time.perf_counter()
            list(pool.map(work, range(arguments.programs)))
            return arguments.programs / (time.perf_counter() - begin)

    pairs = [(per_second(judge), per_second(start_empty)) for _ in range(arguments.pairs)]
    judged, empty = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{judged:.1f} programs/s judged ({len(CALLS.cases)} tests each), uid {os.geteuid()}")
    print(f"{empty:.1f} empty sandboxes/s; median ratio of the pairs {ratio:.2f}")
    print("pairs:", " ".join(f"{one:.1f}/{other:.1f}" for one, other in pairs))


if __name__ == "__main__":
    main()

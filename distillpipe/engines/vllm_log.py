"""What vLLM's processes write on stdout and stderr, and the one line of it that says why they died.

vLLM names the cause of a failure in the traceback of the process it happened in; the error that reaches
the caller only says that there was one.
"""

import re
import shutil
import tempfile
import textwrap
from pathlib import Path

CAUSE = re.compile(r"(?:^|[\s\]])((?:\w+\.)*\w*(?:Error|Exception)): (.*\S)(?:\n\s+(.*\S))?")
HEADLINE = re.compile(
    r"\d+ validation errors? for "
)  # of pydantic; what is wrong stands in the next line
SECOND_HAND = re.compile(
    r"initialization failed|[Ss]ee (stack trace|root cause)|died unexpectedly|EngineDeadError"
)
NOISE = re.compile(r"^Value error, | \[type=\w+, input_value=.*$")
SAID_CHARACTERS = 240  # of an error that are repeated; the log has it all
REMEDIES = {
    r"[Oo]ut of memory|memory utilization|KV cache|kv cache|for the cache blocks|Available memory": (
        "give a smaller --max-model-len or --concurrency, more --tensor-parallel-size, or free memory"
    ),
    r"tensor parallel size|tensor_parallel_size": "give another --tensor-parallel-size",
    r"max_num_seqs": "give a smaller --concurrency",
    r"max_model_len": "give a smaller --max-model-len",
    r"architecture|not (yet )?support": "--engine transformers may know the model",
}


class Log:
    """A file that a process and those that it starts write to, and a folder for its sockets beside it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="distill-vllm-"))
        self.sockets = self._folder / "sockets"
        self.sockets.mkdir()
        self.path = self._folder / "vllm.log"
        self.path.touch()

    def cause(self) -> str:
        """The first error in it that is no other's consequence, with what to do; "" if there is none."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:  # the process was asked to end, and has
            return ""
        for kind, message, next_line in CAUSE.findall(text):
            if SECOND_HAND.search(f"{kind}: {message}"):
                continue
            said = NOISE.sub("", next_line if HEADLINE.match(message) else message)
            remedies = [remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, said)]
            short = textwrap.shorten(said, SAID_CHARACTERS, placeholder=" ...")
            return "; ".join([short, *remedies[:1], f"all it said is in {self.path}"])
        return ""

    def add(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    def remove(self, *, keep_log: bool) -> None:
        """Remove the sockets, which processes that were killed leave behind, and the log if told so."""
        shutil.rmtree(self.sockets if keep_log else self._folder, ignore_errors=True)

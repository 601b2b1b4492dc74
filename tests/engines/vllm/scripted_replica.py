"""A replica without vLLM: answers each request with its key's number, and does what its key says.

`slow` waits a little, `die` ends the process, `hang` never answers. To the number of tokens that it is asked for it
says how many requests it has in hand.
"""

import os
import signal
import sys
import time
from multiprocessing.connection import Connection

from distillpipe.engines.base import Completion, Request
from distillpipe.engines.vllm.replicas import Ready


def answer(request: Request) -> Completion:
    if "die" in request.key:
        sys.stderr.write("Traceback (most recent call last):\nMemoryError: no room for it\n")
        sys.stderr.flush()
        os._exit(1)
    if "slow" in request.key:
        time.sleep(0.05)
    return Completion(request.key, [os.getpid()], "stop")


def main(connection: Connection) -> None:
    model, _, options, _ = connection.recv()
    if model.name == "broken":
        raise ValueError("the model is broken")
    connection.send(Ready(options.concurrency, 1024, "scripted"))
    while True:
        request = connection.recv()
        if "hang" not in request.key:
            connection.send([answer(request)])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    main(Connection(int(sys.argv[1])))

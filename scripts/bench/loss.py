"""Memory and time of the loss of a long row with a large vocabulary: our chunks compared with all logits at once.

    python scripts/bench/loss.py                                     32,768 tokens of 151,936, as in Qwen2.5
    python scripts/bench/loss.py --tokens 4096 --arms ours,plain     where all logits fit too
    python scripts/bench/loss.py --device cuda --dtype bfloat16 --hidden-size 1536

Each arm runs forward and backward in its own process, --rounds times in turn. Prints the peak memory above the memory
before (resident on the CPU, allocated on CUDA) and the median of the seconds.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from multiprocessing.connection import Connection

import torch

from distillpipe.training.losses.token_losses import loss_sums


def plain(
    hidden: torch.Tensor, head: torch.nn.Linear, labels: torch.Tensor
) -> torch.Tensor:  # a scalar
    """All logits of all positions, as in the loss of a model in transformers."""
    logits = head(hidden[:, :-1]).float()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )


def ours(hidden: torch.Tensor, head: torch.nn.Linear, labels: torch.Tensor) -> torch.Tensor:
    """The loss of `sft`, in chunks."""
    return loss_sums(hidden, head, labels).total


ARMS = {"ours": ours, "plain": plain}


def measure(pipe: Connection, arm: str, arguments: argparse.Namespace) -> None:
    """Send the seconds and the peak bytes of one forward and backward pass."""
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    head = torch.nn.Linear(arguments.hidden_size, arguments.vocabulary, bias=False, device=device)
    head.to(dtype)
    shape = (1, arguments.tokens)
    hidden = torch.randn(
        *shape, arguments.hidden_size, device=device, dtype=dtype, requires_grad=True
    )
    labels = torch.randint(arguments.vocabulary, shape, device=device)
    ARMS[arm](hidden[:, :64], head, labels[:, :64]).backward()  # whatever is made once
    before = peak_bytes(device)
    started = time.perf_counter()
    ARMS[arm](hidden, head, labels).backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    pipe.send((time.perf_counter() - started, peak_bytes(device) - before))


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run the arms and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", default="ours", help="of ours, plain")
    parser.add_argument("--tokens", type=int, default=32768, help="supervised positions")
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--hidden-size", type=int, default=896)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    arms = arguments.arms.split(",")
    processes = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, int]]] = {arm: [] for arm in arms}
    for number in range(arguments.rounds):
        for arm in arms if number % 2 == 0 else reversed(arms):
            receiver, sender = processes.Pipe(duplex=False)
            child = processes.Process(target=measure, args=(sender, arm, arguments))
            child.start()
            sender.close()
            try:
                found[arm].append(receiver.recv())
            except EOFError:
                print(f"{arm}: did not end: out of memory?")
            child.join()
    logits = arguments.tokens * arguments.vocabulary * 4 / 1e9
    print(
        f"{arguments.tokens:,} tokens of {arguments.vocabulary:,}: all logits are {logits:.1f} GB in fp32"
    )
    for arm in filter(found.get, arms):
        seconds = statistics.median(one for one, _ in found[arm])
        peak = statistics.median(one for _, one in found[arm])
        print(f"{arm}: {seconds:.1f} s, {peak / 1e9:.2f} GB above the start")


if __name__ == "__main__":
    main()

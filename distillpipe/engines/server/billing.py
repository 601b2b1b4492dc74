"""Bills the requests of a paid server: reserves the worst case before a request, books the cost after it."""

from distillpipe.base.progress import say
from distillpipe.data.store.spending import Ledger, dollars, most_prompt_tokens, say_dollars
from distillpipe.engines.base import Request
from distillpipe.engines.server.replies import Refused, Reply, Response, Retry
from distillpipe.engines.server.usage import Usage

HIDDEN_TOKENS = 65_536  # maximum beyond its limits that a request may have had: hidden reasoning


class Billing:
    """Keeps a ledger for the requests of a run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._extra_prompt = self._extra_completion = 0

    def reserve(self, request: Request) -> int | None:
        """Reserve the worst case of a request; None if the cap does not allow it."""
        worst = self._worst_case(request)
        return self._ledger.reserve(worst) if self._ledger.admits(worst) else None

    def sync(self) -> None:
        """Write the reservations to disk."""
        self._ledger.sync()

    def allows(self, reservation: int, request: Request, num_tokens: int) -> bool:
        """Whether an answer under way, of `num_tokens` so far, may go on.

        A server that does not stop at the limit of the request costs more than was reserved for it: we reserve
        more as long as --max-cost allows it.
        """
        prompt, completion = self._max_tokens(request)
        if num_tokens <= completion:
            return True
        # a quarter more than there is, so that not each token is a line of the journal
        worst = self._ledger.prices.cost(prompt, num_tokens + num_tokens // 4)
        least = self._ledger.prices.cost(prompt, num_tokens + 1)
        if least <= self._ledger.reserved(reservation):
            return True
        return self._ledger.grow(reservation, worst) or self._ledger.grow(reservation, least)

    def bill(self, reservation: int, request: Request, response: Response) -> None:
        """Book the cost of a request: by the server's counts if there are any, else nothing for an error.

        An error that may be billed all the same counts as its worst case.
        """
        usage = response.usage if isinstance(response, Reply | Refused) else None
        if usage is None:
            is_unknown = isinstance(response, Retry) and response.may_be_billed
            self._ledger.bill(reservation, None if is_unknown else 0)
            return
        self._raise_worst_case(request, usage)
        cost = max(self._worst_case(request), self._ledger.reserved(reservation))
        if usage.booked is not None:
            cost = self._ledger.prices.cost(*usage.booked)
        self._ledger.bill(reservation, cost, is_known=usage.is_billed)

    def used_up(self, request: Request) -> str:
        """Why a request is not admitted, and what to do."""
        cap = say_dollars(self._ledger.max_cost or 0.0)
        worst = say_dollars(dollars(self._worst_case(request)))
        return (
            f"{self._ledger.say_spent()}, of --max-cost {cap}, and the next request may cost {worst}: run "
            "the same command with a higher --max-cost to continue"
        )

    def close(self) -> None:
        """End of the run: requests that are still in flight count as their worst case."""
        self._ledger.close()

    def _worst_case(self, request: Request) -> int:
        return self._ledger.prices.cost(*self._max_tokens(request))

    def _max_tokens(self, request: Request) -> tuple[int, int]:
        prompt = len(request.prompt_ids) or most_prompt_tokens(request.messages)
        return prompt + self._extra_prompt, request.max_tokens + self._extra_completion

    def _raise_worst_case(self, request: Request, usage: Usage) -> None:
        """Reserve more from now on if a request had more tokens than its worst case.

        A count that is not plausible may be right (hidden reasoning without a limit). It raises the worst
        case unless it is beyond `HIDDEN_TOKENS`.
        """
        prompt, completion = self._max_tokens(request)
        over = (0, 0)
        if usage.booked is not None:
            over = max(0, usage.booked[0] - prompt), max(0, usage.booked[1] - completion)
        elif usage.excess is not None and max(usage.excess) <= HIDDEN_TOKENS:
            over = (
                max(0, usage.excess[0] - self._extra_prompt),
                max(0, usage.excess[1] - self._extra_completion),
            )
        if any(over):
            if not (self._extra_prompt or self._extra_completion):
                say(
                    f"warning: the server counts {sum(over):,} tokens more than the request allows: from "
                    "now on more is reserved for each request"
                )
            self._extra_prompt += over[0]
            self._extra_completion += over[1]

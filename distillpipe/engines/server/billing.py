"""What each request of a server costs: reserved before it is sent, billed when it has come back."""

from distillpipe.base.progress import say
from distillpipe.data.store.spending import Ledger, dollars, most_prompt_tokens, say_dollars
from distillpipe.engines.base import Request
from distillpipe.engines.server.replies import Again, Refused, Reply, Response
from distillpipe.engines.server.usage import Usage

HIDDEN_TOKENS = 65_536  # that a request may have had beyond its limits: reasoning that is not shown


class Billing:
    """Keeps a ledger for the requests of a run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._extra_prompt = self._extra_completion = 0

    def reserve(self, request: Request) -> int | None:
        """Set the worst case of a request aside; None where the cap does not allow it."""
        worst = self._worst_case(request)
        return self._ledger.reserve(worst) if self._ledger.admits(worst) else None

    def sync(self) -> None:
        """Make the reservations durable."""
        self._ledger.sync()

    def bill(self, reservation: int, request: Request, response: Response) -> None:
        """Book what a request cost: as the server counts, nothing for an error, else what it may have been."""
        usage = response.usage if isinstance(response, Reply | Refused) else None
        if usage is None:
            is_unknown = isinstance(response, Again) and response.may_be_billed
            self._ledger.bill(reservation, None if is_unknown else 0)
            return
        self._learn_most(request, usage)
        cost = self._worst_case(request)
        if usage.booked is not None:
            cost = self._ledger.prices.cost(*usage.booked)
        self._ledger.bill(reservation, cost, is_known=usage.is_billed)

    def used_up(self, request: Request) -> str:
        """Why a request is not admitted, and what to do."""
        cap = say_dollars(self._ledger.max_cost or 0.0)
        worst = say_dollars(dollars(self._worst_case(request)))
        return (
            f"{self._ledger.say_spent()}, of --max-cost {cap}, and the next request may cost {worst}: the "
            "same command goes on with a higher --max-cost"
        )

    def close(self) -> None:
        """Nothing more comes back: what is under way counts as the worst case."""
        self._ledger.close()

    def _worst_case(self, request: Request) -> int:
        return self._ledger.prices.cost(*self._most_tokens(request))

    def _most_tokens(self, request: Request) -> tuple[int, int]:
        prompt = len(request.prompt_ids) or most_prompt_tokens(request.messages)
        return prompt + self._extra_prompt, request.max_tokens + self._extra_completion

    def _learn_most(self, request: Request, usage: Usage) -> None:
        """Reserve more from now on, if a request had more tokens than were thought possible.

        A count that is not believed may be right all the same (reasoning that is not shown and not limited),
        unless it is beyond all measure: then nothing is learnt from it.
        """
        prompt, completion = self._most_tokens(request)
        over = (0, 0)
        if usage.booked is not None:
            over = max(0, usage.booked[0] - prompt), max(0, usage.booked[1] - completion)
        elif usage.claimed is not None and max(usage.claimed) <= HIDDEN_TOKENS:
            over = (
                max(0, usage.claimed[0] - self._extra_prompt),
                max(0, usage.claimed[1] - self._extra_completion),
            )
        if any(over):
            if not (self._extra_prompt or self._extra_completion):
                say(
                    f"warning: the server counts {sum(over):,} tokens more than a request may have: more is "
                    "reserved for each from now on, as far as its counts go"
                )
            self._extra_prompt += over[0]
            self._extra_completion += over[1]

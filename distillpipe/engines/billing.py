"""What each request of a server costs: reserved before it is sent, billed when it has come back."""

from distillpipe.engines.base import Request
from distillpipe.engines.replies import Again, Refused, Reply, Response
from distillpipe.progress import say
from distillpipe.records import TokenCounts
from distillpipe.spending import Ledger, dollars, most_prompt_tokens, say_dollars


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
        """Book what a request cost: as the server counts, nothing for an error, else the worst."""
        cost: int | None = 0
        tokens = response.num_tokens if isinstance(response, Reply | Refused) else None
        if tokens is not None:
            cost = self._ledger.prices.cost(tokens.prompt, tokens.total - tokens.prompt)
            self._learn_most(request, tokens)
        elif isinstance(response, Reply) or (
            isinstance(response, Again) and response.may_be_billed
        ):
            cost = None
        self._ledger.bill(reservation, cost)

    def used_up(self, request: Request) -> str:
        """Why a request is not admitted, and what to do."""
        spent, cap = self._ledger.spent, self._ledger.max_cost or 0.0
        return (
            f"{say_dollars(spent)} of --max-cost {say_dollars(cap)} are spent, and the next request may "
            f"cost {say_dollars(dollars(self._worst_case(request)))}: the same command goes on with a "
            "higher --max-cost"
        )

    def close(self) -> None:
        """Nothing more comes back: what is under way counts as the worst case."""
        self._ledger.close()

    def _worst_case(self, request: Request) -> int:
        return self._ledger.prices.cost(*self._most_tokens(request))

    def _most_tokens(self, request: Request) -> tuple[int, int]:
        prompt = len(request.prompt_ids) or most_prompt_tokens(request.messages)
        return prompt + self._extra_prompt, request.max_tokens + self._extra_completion

    def _learn_most(self, request: Request, tokens: TokenCounts) -> None:
        """Reserve more from now on, if a request had more tokens than were thought possible."""
        prompt, completion = self._most_tokens(request)
        over = max(0, tokens.prompt - prompt), max(0, tokens.total - tokens.prompt - completion)
        if any(over):
            say(f"warning: the server counts {sum(over):,} tokens more than a request may have")
            self._extra_prompt += over[0]
            self._extra_completion += over[1]

"""Option types of a budget, which the commands that sample share, and of the tokens that it counts."""

from typing import Annotated, Literal

from distillpipe.cli.options import SERVER, option

BUDGET = "Budget of the thought"

NumWaits = Annotated[
    int,
    option(
        min=0,
        help="Replace the first so many ends of the thought by --wait-text.",
        rich_help_panel=BUDGET,
    ),
]
MinReasoningTokens = Annotated[
    int,
    option(
        min=0,
        help="Replace an earlier end of the thought, too, as often as needed.",
        rich_help_panel=BUDGET,
    ),
]
MaxReasoningTokens = Annotated[
    int | None,
    option(min=0, help="End the thought there, and go on to the response.", rich_help_panel=BUDGET),
]
WaitText = Annotated[
    str, option(help="What a thought goes on with in place of its end.", rich_help_panel=BUDGET)
]
EndText = Annotated[
    str,
    option(
        help="What begins the response after a forced end; s1: 'Final Answer:'.",
        rich_help_panel=BUDGET,
    ),
]
EndAt = Annotated[
    Literal["step", "token"],
    option(
        help="A forced end falls on the last whole step, or on the very token.",
        rich_help_panel=BUDGET,
    ),
]
Tokenizer = Annotated[
    str | None,
    option(
        help="Of the served model: render prompts here, and ask /completions; a budget needs it.",
        rich_help_panel=SERVER,
    ),
]

"""Splits an expression into tokens: numbers, letters, function names, LaTeX commands, brackets."""

# ruff: noqa: SIM905 - word lists written in rows
import re

MAX_TOKENS = 1500
FUNCTIONS = frozenset(
    """sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth sech csch arccot arcsec
    arccsc arcsinh arccosh arctanh sgn ln exp abs floor ceil""".split()
)
GREEK_LETTERS = frozenset(
    """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho
    sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Sigma Phi Psi Omega ell hbar""".split()
)
VARIADIC = frozenset(["lcm", "gcd", "max", "min"])  # functions with any number of arguments
_SYNONYMS = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "sh": "sinh", "ch": "cosh", "th": "tanh", "cosec": "csc", "sign": "sgn",
}  # fmt: skip
# Without a backslash these are letters or a unit.
_ONLY_COMMANDS = frozenset(["tg", "ctg", "sh", "ch", "th", "sign", "min", "max"])
# Names that are functions in `\text{}` too; `sec` may be a second there.
UPRIGHT = FUNCTIONS | set(_SYNONYMS) | {"lcm", "gcd", "log", "mod"}
UPRIGHT -= {"sec", "exp", "abs", "sign", "sh", "ch", "th"}
WORDS = FUNCTIONS | VARIADIC | {"sqrt", "log", "pi", "mod"} | set(_SYNONYMS) - _ONLY_COMMANDS
_TOKEN = re.compile(r"\s*(\\[a-zA-Z]+|\\[{}]|[0-9]+(?:\.[0-9]*)?|\.[0-9]+|[a-zA-Z]+|\*\*|\S)")
_COMMANDS = frozenset(
    """frac binom dot ddot cdot times div lfloor rfloor lceil rceil prime pmod""".split()
)


class Unreadable(ValueError):
    """The text is not an expression, or has more than one reading."""


def tokenize(text: str) -> list[str]:
    """The tokens of an expression, synonyms replaced; raises Unreadable for words and long texts."""
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[1]
        if token.isascii() and token.isalpha() and token not in WORDS:
            if len(token) > 4:
                raise Unreadable(f"{token!r} is a word")
            tokens.extend(token)
        else:
            name = token.removeprefix("\\")
            tokens.extend([_SYNONYMS[name]] if name in _SYNONYMS else _separated(token))
        if len(tokens) > MAX_TOKENS:
            raise Unreadable("too long")
    return tokens


def _separated(token: str) -> list[str]:
    r"""Split `\omegat`, found in data sets that lost their spaces, into `\omega` and `t`; keep other tokens."""
    if token[:1] != "\\" or len(token) < 4 or _is_command(token[1:]):
        return [token]
    for end in range(len(token) - 1, max(2, len(token) - 4), -1):
        if _is_command(token[1:end]):
            return [token[:end], *token[end:]]
    return [token]


def _is_command(name: str) -> bool:
    return name in WORDS or name in GREEK_LETTERS or name in _COMMANDS or name in _SYNONYMS

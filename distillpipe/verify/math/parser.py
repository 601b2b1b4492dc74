r"""Parses an expression, LaTeX or plain text, into a tree; raises Unreadable if it has more than one reading.

    parse(r"1\frac{4}{5}")   ("sum", (("number", "1"), ("quotient", ("number", "4"), ("number", "5"))))
    parse("1/2x")            Unreadable: (1/2)x or 1/(2x)?

A node is a tuple whose first item names the operator, see `Node`. A number keeps its digits as text, so that
each arithmetic chooses its own number type. Depth and length are bounded: the recursion ends at `MAX_DEPTH`.
"""

from collections.abc import Callable
from typing import Any

from distillpipe.verify.math.lexer import (
    FUNCTIONS,
    GREEK_LETTERS,
    VARIADIC,
    WORDS,
    Unreadable,
    tokenize,
)

Node = tuple[Any, ...]
"""number digits | variable name | constant pi/e/i | sum nodes | product nodes | negative node |
quotient above below | power base exponent | root degree node | function name node | factorial node |
logarithm base-or-None node | binomial n k | modulo node node | lcm, gcd, max or min nodes"""

MAX_DEPTH = 40
_TIMES = frozenset(["*", r"\cdot", r"\times"])
_DIVIDED = frozenset(["/", r"\div"])
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_SPECIAL_BRACKETS = {
    r"\lfloor": (r"\rfloor", "floor"),
    r"\lceil": (r"\rceil", "ceil"),
    "|": ("|", "abs"),
}


def parse(text: str) -> Node:
    """The tree of an expression; raises Unreadable."""
    parser = _Parser(tokenize(text))
    node = parser.sum()
    if parser.next:
        raise Unreadable(f"{parser.next!r} after the end of the expression")
    return node


def variable_names(node: Node) -> set[str]:
    """The names of the variables of a tree, and `i` if the tree has the imaginary unit."""
    if node[0] == "variable" or node == ("constant", "i"):
        return {node[1]}
    return set().union(*map(variable_names, children(node)))


def contains(node: Node, subtree: Node) -> bool:
    """Whether a tree is equal to `subtree` or contains it."""
    return node == subtree or any(contains(child, subtree) for child in children(node))


def children(node: Node) -> list[Node]:
    """The operands of a node; those of a sum or product stand in a tuple of their own."""
    operands: list[Node] = []
    for part in node[1:]:
        if isinstance(part, tuple):
            operands += part if part and isinstance(part[0], tuple) else (part,)
    return operands


class _Parser:
    """A recursive descent parser with one method for each level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, ""]
        self.position = 0
        self.depth = 0
        self.num_functions = 0  # functions whose argument is being parsed
        self.closers: list[str] = []  # of the open brackets
        self.commands: dict[str, Callable[[], Node]] = {
            "frac": lambda: self.two_arguments("quotient"),
            "binom": lambda: self.two_arguments("binomial"),
            "sqrt": self.root,
            "log": self.logarithm,
            "dot": lambda: self.derivative("'"),
            "ddot": lambda: self.derivative("''"),
        }

    @property
    def next(self) -> str:
        return self.tokens[self.position]

    def take(self, expected: str | None = None) -> str:
        token = self.next
        if not token or (expected is not None and token != expected):
            raise Unreadable(f"expected {expected or 'more'}, got {token!r}")
        self.position += 1
        return token

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        terms = [self.signed_product()]
        while self.next in ("+", "-"):
            terms.append(self.signed_product())
        self.depth -= 1
        if len(terms) > 1 and any(term[0] == "modulo" for term in terms):
            raise Unreadable("a remainder of the sum or of its last term?")
        return terms[0] if len(terms) == 1 else ("sum", tuple(terms))

    def signed_product(self) -> Node:
        negative = False
        if self.next in ("+", "-"):
            negative = self.take() == "-"
        node = self.product()
        return ("negative", node) if negative else node

    def product(self) -> Node:
        factors = [self.factor()]
        divided = False
        num_quotients = 0
        while True:
            if self.next in _TIMES:
                self.take()
                factors.append(self.signed_factor())
                divided = False
            elif self.next in _DIVIDED:
                self.take()
                num_quotients += 1
                if num_quotients > MAX_DEPTH // 4:
                    raise Unreadable("too many fractions in a row")
                numerator = factors[0] if len(factors) == 1 else ("product", tuple(factors))
                factors = [("quotient", numerator, self.signed_factor())]
                divided = True
            elif self.next in ("mod", r"\mod"):
                self.take()
                value = factors[0] if len(factors) == 1 else ("product", tuple(factors))
                return ("modulo", value, self.signed_factor())
            elif self.starts_factor():
                after_bracket = self.tokens[self.position - 1] == ")"
                if divided or (self.is_number(self.next) and not after_bracket):
                    raise Unreadable(
                        "a factor without a sign before it, after a number or a quotient"
                    )
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else ("product", tuple(factors))

    def signed_factor(self) -> Node:
        if self.next in ("+", "-"):
            return ("negative", self.factor()) if self.take() == "-" else self.factor()
        return self.factor()

    def starts_factor(self) -> bool:
        token = self.next
        if self.closers and token == self.closers[-1]:
            return False
        return token in _BRACKETS or token in _SPECIAL_BRACKETS or token[:1].isalnum() or (
            token[:1] == "." and len(token) > 1
        ) or (token[:1] == "\\" and token[1:].isalpha() and self.is_operand(token[1:]))  # fmt: skip

    @staticmethod
    def is_operand(name: str) -> bool:
        return name in WORDS or name in GREEK_LETTERS or name in ("frac", "binom", "dot", "ddot")

    @staticmethod
    def is_number(token: str) -> bool:
        return token[:1] in "0123456789." and token[:1] != ""

    def factor(self) -> Node:
        """An operand with its powers and factorials."""
        node = self.operand()
        while self.next in ("^", "**", "!", "'", "°"):
            sign = self.take()
            if sign == "°":
                if self.num_functions:  # outside of a function it is a unit, which may be omitted
                    node = ("product", (node, ("quotient", ("constant", "pi"), ("number", "180"))))
            elif sign == "!":
                if node[0] == "factorial":
                    raise Unreadable("a double factorial")
                node = ("factorial", node)
            elif sign == "'":
                if node[0] != "variable":
                    raise Unreadable("a derivative of what?")
                node = ("variable", node[1] + "'")
            else:
                node = ("power", node, self.script())
                if self.next in ("^", "**"):
                    raise Unreadable("a power of a power without brackets")
        return node

    def script(self) -> Node:
        """An exponent: a group in braces, or one operand with or without a minus sign."""
        if self.next == "-":
            self.take()
            return ("negative", self.operand())
        return self.operand()

    def operand(self) -> Node:
        token = self.take()
        if self.is_number(token):
            return self.number(token)
        if token in _BRACKETS:
            return self.enclosed(_BRACKETS[token])
        if token in _SPECIAL_BRACKETS:
            end, name = _SPECIAL_BRACKETS[token]
            return ("function", name, self.enclosed(end))
        name = token.removeprefix("\\")
        if name in self.commands:
            return self.commands[name]()
        if name in FUNCTIONS:
            return self.function(name)
        if name in VARIADIC:
            return self.variadic(name)
        if name in ("pi", "e", "i"):
            return ("constant", name) if self.next != "_" else self.variable(name)
        if name in GREEK_LETTERS or (len(token) == 1 and token.isascii() and token.isalpha()):
            return self.variable(name)
        raise Unreadable(f"{token!r}")

    def two_arguments(self, kind: str) -> Node:
        first = self.argument()
        return (kind, first, self.argument())

    def enclosed(self, end: str) -> Node:
        self.closers.append(end)
        node = self.sum()
        self.take(end)
        self.closers.pop()
        return node

    def number(self, digits: str) -> Node:
        r"""A number, or a mixed number: `1\frac{4}{5}`."""
        node = ("number", digits)
        if self.next != r"\frac" or not digits.isdigit():
            return node
        position = self.position
        fraction = self.operand()
        if all(part[0] == "number" and part[1].isdigit() for part in fraction[1:]):
            return ("sum", (node, fraction))
        self.position = position
        return node

    def argument(self) -> Node:
        r"""An argument as in TeX: a group, or one character, so that `\frac12` is 1/2."""
        token = self.next
        if self.is_number(token) and len(token) > 1:
            if not token.isdigit():
                raise Unreadable("a decimal as an argument without braces")
            self.tokens[self.position : self.position + 1] = [token[0], token[1:]]
            if len(token) > 2:
                raise Unreadable("several digits as an argument without braces")
        elif token == "(":
            raise Unreadable("an argument in round brackets instead of braces")
        if self.is_number(self.next):
            return ("number", self.take())
        return self.operand()

    def root(self) -> Node:
        degree: Node = ("number", "2")
        if self.next == "[":
            self.take()
            degree = self.enclosed("]")
        return ("root", degree, self.operand())

    def variable(self, name: str) -> Node:
        if self.next == "_":
            self.take()
            if self.next == "{":
                start = self.position
                depth = 0
                while True:
                    token = self.take()
                    depth += (token == "{") - (token == "}")
                    if depth == 0:
                        break
                name += "_" + "".join(self.tokens[start + 1 : self.position - 1])
            else:
                name += "_" + self.take()
        return ("variable", name)

    def derivative(self, primes: str) -> Node:
        r"""A dotted variable: `\dot{x}_0` is the variable x'_0."""
        variable = self.argument()
        if variable[0] != "variable":
            raise Unreadable("a derivative of what?")
        return self.variable(variable[1] + primes)

    def logarithm(self) -> Node:
        base = None
        if self.next == "_":
            self.take()
            base = self.argument() if self.next == "{" else self.operand()
        return ("logarithm", base, self.applied())

    def function(self, name: str) -> Node:
        r"""A function with its argument: `\sin x`, `\sin^2 x`, `\sin^{-1} x`."""
        if self.next not in ("^", "**"):
            return ("function", name, self.applied())
        self.take()
        power = self.script()
        if power == ("negative", ("number", "1")):
            if f"arc{name}" not in FUNCTIONS:
                raise Unreadable(f"the inverse function of {name}")
            return ("function", f"arc{name}", self.applied())
        return ("power", ("function", name, self.applied()), power)

    def variadic(self, name: str) -> Node:
        r"""A function of several arguments: `\operatorname{lcm}(4,6)`."""
        begin = self.take()
        if begin not in ("(", "{", r"\{"):
            raise Unreadable(f"{name} of what?")
        end = {"(": ")", "{": "}", r"\{": r"\}"}[begin]
        values = [self.sum()]
        while self.next == ",":
            self.take()
            values.append(self.sum())
        self.take(end)
        return (name, *values)

    def applied(self) -> Node:
        """The argument of a function: a group in brackets, or the letters and numbers that follow."""
        self.num_functions += 1
        node = self.argument_of_function()
        self.num_functions -= 1
        return node

    def argument_of_function(self) -> Node:
        if self.next in _BRACKETS or self.next in _SPECIAL_BRACKETS:
            return self.factor_without_power()
        factors = [self.factor()]
        while self.starts_factor() and self.next.removeprefix("\\") not in FUNCTIONS | {"log"}:
            if not (self.next.isascii() and self.next.isalpha() and len(self.next) == 1):
                raise Unreadable("where does the argument end?")
            factors.append(self.factor())
        if self.next in _DIVIDED:
            raise Unreadable("where does the argument end?")
        return factors[0] if len(factors) == 1 else ("product", tuple(factors))

    def factor_without_power(self) -> Node:
        node = self.operand()
        if self.next in ("^", "**", "!"):
            raise Unreadable("a power of the argument or of the function?")
        return node

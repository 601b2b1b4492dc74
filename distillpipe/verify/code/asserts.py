"""Turns tests that are written as code into calls and expected values where possible.

`assert f(literals) == literal` becomes a call; other tests run as programs.
"""

import ast
import builtins
import threading
from collections.abc import Iterator
from typing import Any

from distillpipe.verify.code.imports import PROVIDED_NAMES
from distillpipe.verify.code.kinds import (
    BesideTests,
    Call,
    CallTests,
    CheckTests,
    CodeTests,
    ExpressionTests,
)

_PARSING = threading.Lock()


def _parsed(source: str) -> ast.Module:
    """The syntax tree of a source."""
    with _PARSING:  # CPython 3.11 counts the depth of the parser in one place for all threads
        return ast.parse(source)


def tests_of_check(source: str, function: str | None, prompt: str) -> CodeTests:
    """Tests in `def check(candidate)`; without `function`, the last statement of the source is `check(...)`."""
    tree = _parsed(source)
    path = function or _checked_path(tree)
    checks = [
        part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name == "check"
    ]
    if len(checks) != 1 or not checks[0].args.args:
        raise ValueError("there is no check(candidate)")
    setup = prompt if _compiles(prompt) else ""
    if calls := _calls(checks[0].body, checks[0].args.args[0].arg):
        return CallTests(path, calls, setup)
    if function is None:
        tree.body.pop()
    name = path.rpartition(".")[2]
    return CheckTests({name: path}, (f"{ast.unparse(tree)}\n\ncheck({name})\n",), setup)


def _checked_path(tree: ast.Module) -> str:
    """The argument of the last statement, `check(...)`."""
    match tree.body:
        case [*_, ast.Expr(value=ast.Call(args=[candidate, *_]))]:
            return ast.unparse(candidate)
    raise ValueError("the last statement is not check(...)")


def tests_of_asserts(texts: list[str], setup: str) -> CodeTests:
    """Tests that are asserts, after a setup; the candidate is the only name that they do not define."""
    parsed = [_parsed(text) for text in texts]
    statements = [statement for tree in parsed for statement in tree.body]
    free = _free_names([*parsed, _parsed(setup)])
    if len(free) > 1:
        free -= PROVIDED_NAMES
    if len(free) == 1:
        (name,) = free
        if calls := _calls(statements, name):
            return CallTests(name, calls, setup)
        if all(_is_plain_call(node) for tree in parsed for node in _calls_of(tree, name)):
            return CheckTests({name: name}, tuple(texts), setup)
    pairs = [_expression(statement) for statement in statements]
    if pairs and None not in pairs:
        return ExpressionTests(tuple(pair for pair in pairs if pair is not None), setup)
    return BesideTests(tuple(texts), setup)


def _calls(statements: list[ast.stmt], name: str) -> tuple[Call, ...]:
    """All statements as calls of `name`; empty unless each is `assert name(literals) == literal`."""
    calls = [_call(part, name) for part in statements if not _is_trivial(part)]
    return () if None in calls else tuple(call for call in calls if call is not None)


def _call(statement: ast.stmt, name: str) -> Call | None:
    if (pair := _sides(statement)) is None:
        return None
    call, expected = pair
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != name:
        return None
    if any(keyword.arg is None for keyword in call.keywords):
        return None
    try:
        return Call(
            tuple(map(ast.literal_eval, call.args)),
            {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords},
            ast.literal_eval(expected),
        )
    except (ValueError, TypeError):
        return None


def _expression(statement: ast.stmt) -> tuple[str, Any] | None:
    if (pair := _sides(statement)) is None:
        return None
    try:
        return ast.unparse(pair[0]), ast.literal_eval(pair[1])
    except (ValueError, TypeError):
        return None


def _sides(statement: ast.stmt) -> tuple[ast.expr, ast.expr] | None:
    """The two sides of `assert left == right`; None for other statements."""
    match statement:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            return left, right
    return None


def _is_trivial(statement: ast.stmt) -> bool:
    """Whether a statement tests nothing: `assert True`, or a constant, such as a docstring."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Constant):
        return False
    return bool(statement.test.value)


def _calls_of(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _is_plain_call(call: ast.Call) -> bool:
    """Whether no argument is a lambda or a built-in function or type."""
    called = {id(node.func) for node in ast.walk(call) if isinstance(node, ast.Call)}
    return not any(
        isinstance(node, ast.Lambda)
        or (isinstance(node, ast.Name) and hasattr(builtins, node.id) and id(node) not in called)
        for node in ast.walk(call)
    )


def _free_names(trees: list[ast.Module]) -> set[str]:
    """The names that are used, but neither defined in one of the trees nor built in."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    bound = set().union(*map(_bound_names, trees))
    return {name for name in used - bound if not hasattr(builtins, name)}


def _bound_names(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return names


def _compiles(source: str) -> bool:
    try:
        _parsed(source)
    except (SyntaxError, ValueError):
        return False
    return True

"""A recipe: a TOML file whose tables are the defaults of commands.

    [generate]
    num_samples = 2
    temperature = 0.6

Keys are the parameters of the command; the command's signature is the only schema. What Typer would take
in silence is refused here: unknown tables and keys, a list for a scalar, `true` for a number.
"""

import difflib
import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distillpipe.base.decoding import NOT_PARSED, what_is_wrong
from distillpipe.base.errors import UsageError


def read(path: Path, commands: Mapping[str, Callable[..., Any]]) -> dict[str, dict[str, Any]]:
    """The tables of the recipe at `path`, checked against the signatures of `commands`.

    Raises UsageError naming the file, the key and the nearest known name.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} cannot be read: {error}") from error
    except NOT_PARSED as error:
        raise UsageError(f"recipe {path} is not valid TOML: {what_is_wrong(error)}") from error
    for command, table in tables.items():
        if command not in commands:
            raise UsageError(f"{path}: no command {command!r}{_nearest(command, commands)}")
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {command} should be a table: [{command}]")
        parameters = _parameters(commands[command])
        for key, value in table.items():
            if key not in parameters:
                raise UsageError(f"{path}: [{command}] has no {key!r}{_nearest(key, parameters)}")
            _check_value(f"{path}: [{command}] {key}", value, parameters[key])
    return tables


def _parameters(command: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(command)
    return {name: hints[name] for name in inspect.signature(command).parameters if name != "ctx"}


def _check_value(where: str, value: Any, kind: Any) -> None:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    takes_list = any(typing.get_origin(one) is list for one in kinds)
    if isinstance(value, list) != takes_list:
        wanted = "a list" if takes_list else "a single value"
        raise UsageError(f"{where} = {value!r}: expected {wanted}")
    if isinstance(value, dict):
        raise UsageError(f"{where}: expected a single value, got a table")
    if isinstance(value, str) and {int, float} & set(kinds):
        raise UsageError(f"{where} = {value!r}: expected a number, without quotation marks")
    if isinstance(value, bool) != (bool in kinds):
        wanted = "true or false" if bool in kinds else "no truth value"
        raise UsageError(f"{where} = {str(value).lower()}: expected {wanted}")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(known)}"

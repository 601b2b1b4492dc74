"""A recipe: a TOML file whose tables are the defaults of commands.

    [generate]
    num_samples = 2
    temperature = 0.6

Keys are the parameters of the command; the command's signature is the schema. We refuse what Typer would accept
silently: unknown tables and keys, a list for a scalar, `true` for a number. A parameter of `KEY=VALUE` takes a list
or a table: `[filter.strategy_option]`.
"""

import inspect
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distillpipe.base.decoding import NOT_PARSED, what_is_wrong
from distillpipe.base.errors import UsageError
from distillpipe.base.option import declared, key_values, nearest
from distillpipe.cli.other_names import our_name

PARAMETER = "recipe"  # a parameter of every command, never a key of a recipe


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
            raise UsageError(f"{path}: no command {command!r}{nearest(command, commands)}")
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {command} should be a table: [{command}]")
        parameters = _parameters(commands[command])
        for key, value in table.items():
            if key not in parameters:
                other = our_name(key, parameters)
                hint = f": {other[0]} is {other[1]!r}" if other else nearest(key, parameters)
                raise UsageError(f"{path}: [{command}] has no {key!r}{hint}")
            kind, option = declared(parameters[key])
            if option is not None and option.read is not None and isinstance(value, dict):
                table[key] = value = key_values(value)
            _check_value(f"{path}: [{command}] {key}", value, kind)
    return tables


def _parameters(command: Callable[..., Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(command, include_extras=True)
    names = inspect.signature(command).parameters
    return {name: hints[name] for name in names if name not in ("ctx", PARAMETER)}


def _check_value(where: str, value: Any, kind: Any) -> None:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    takes_list = any(typing.get_origin(item) is list for item in kinds)
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

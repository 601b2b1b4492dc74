"""How an option is declared: one field of a frozen struct, with its default, bounds, help text and panel.

    class Sampling(Options, frozen=True, kw_only=True):
        temperature: Annotated[float, Option("0 is greedy.", SAMPLING, min=0, max=2)] = 0.6

The command line and the Python API are made from these fields. A struct may contain other structs of options; their
fields are options too. `hashed` defines how a struct enters a fingerprint or a row's key.
"""

import difflib
import functools
import inspect
import os
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import msgspec

from distillpipe.base.errors import UsageError

S = TypeVar("S", bound=msgspec.Struct)


class Option(NamedTuple):
    """The annotation that makes a field of a struct an option."""

    help: str
    panel: str | None = None
    "heading of the help that lists it; None: the basic options"
    min: float | None = None
    max: float | None = None
    check: Callable[[Any], Any] | None = None
    "returns the value to use; raises ValueError with the reason for a wrong value"
    name: str | None = None
    "name of the parameter, if it differs from the field's"
    kind: Any = None
    "type of the parameter, if it differs from the field's"
    read: Callable[[Any], Any] | None = None
    "converts the value of the parameter to that of the field"
    flag: str | None = None
    "if it is not `--` and the parameter's name"
    is_argument: bool = False
    "a positional argument of the command, without a flag"


class Options(msgspec.Struct, frozen=True):
    """A group of options; each field has a default."""

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset()
    "fields that hashes omit at their default value, so that versions made before they were added stay up to date"
    PANEL: ClassVar[str | None] = None
    "one heading for all fields, which overrides their own"


class Field(NamedTuple):
    """An option as a parameter of commands."""

    name: str
    kind: Any
    "type, without annotations"
    option: Option
    default: Any

    @property
    def is_list(self) -> bool:
        """Whether it is a repeated flag, which is a list in recipes and in Python."""
        return typing.get_origin(self.kind) in (list, tuple)

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def item(self) -> Any:
        """The type of one value."""
        return typing.get_args(self.kind)[0] if self.is_list else self.kind


@functools.cache
def _hints(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def declared(hint: Any) -> tuple[Any, Option | None]:
    """The type and the option of an annotation; None if it has no option."""
    metadata = getattr(hint, "__metadata__", ())
    option = next((item for item in metadata if isinstance(item, Option)), None)
    return (hint.__origin__ if metadata else hint), option


def _struct_in(kind: Any) -> type[Options] | None:
    """The struct of options in a field's type: X of `X` and of `X | None`."""
    kinds = typing.get_args(kind) if isinstance(kind, UnionType) else (kind,)
    structs = (part for part in kinds if isinstance(part, type) and issubclass(part, Options))
    return next(structs, None)


def fields_of(kind: type[Options], panel: str | None = None) -> Iterator[Field]:
    """The options of a struct and of the structs in it; `panel` is one heading for all of them."""
    panel = panel or kind.PANEL
    for field in msgspec.structs.fields(kind):
        hint, option = declared(_hints(kind)[field.name])
        if option is not None:
            if panel is not None:
                option = option._replace(panel=panel)
            name = option.name or field.name
            if option.kind is None:
                yield Field(name, hint, option, field.default)
            else:
                yield Field(name, option.kind, option, False if option.kind is bool else ())
        elif (inner := _struct_in(hint)) is not None:
            yield from fields_of(inner, panel)


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """A struct with the `values` of its options by name; an option without a value has its default."""
    content: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        hint, option = declared(_hints(kind)[field.name])
        if option is None:
            if (inner := _struct_in(hint)) is not None:
                content[field.name] = build(inner, values)
            continue
        name = option.name or field.name
        if name not in values:
            continue
        value = values[name]
        if isinstance(value, list):
            value = tuple(value)
        is_list = typing.get_origin(hint if option.kind is None else option.kind) is tuple
        if value is None and is_list:  # the flag was not used
            continue
        content[field.name] = value if option.read is None else option.read(value)
    return kind(**content)


def checked(field: Field, value: Any) -> Any:
    """The value of an argument of the Python API, converted as on the command line; raises UsageError."""
    is_list = field.is_list
    if is_list and isinstance(value, Mapping) and field.option.read is not None:
        value = key_values(value)
    if is_list and isinstance(value, str | os.PathLike):
        raise UsageError(f"{field.name} = {value!r}: expected a list")
    result: Any = None
    if not is_list:
        result = _converted(field, value)
    elif value is not None:
        result = [_converted(field, item) for item in value]
    if field.option.check is not None:
        try:
            result = field.option.check(result)
        except ValueError as error:
            raise UsageError(f"{field.name}: {error}") from None
    return result


def _converted(field: Field, value: Any) -> Any:
    kind = field.item
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
    if choices and value not in choices:
        raise UsageError(f"{field.name} = {value!r}: choose from {', '.join(map(str, choices))}")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    try:
        value = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{field.name} = {value!r}: {str(error).lower()}") from None
    low, high = field.option.min, field.option.max
    # `not >=` instead of `<`, which lets nan pass
    is_low = low is not None and isinstance(value, int | float) and not value >= low
    is_high = high is not None and isinstance(value, int | float) and not value <= high
    if is_low or is_high:
        bounds = [f"{bound:g}" for bound in (low, high) if bound is not None]
        span = " to ".join(bounds)
        if len(bounds) == 1:
            span += " or more" if high is None else " or less"
        raise UsageError(f"{field.name} = {value!r}: expected {span}")
    return value


def key_values(table: Mapping[str, Any]) -> list[str]:
    """`KEY=VALUE` for each entry of a table; the values of a list are separated by commas."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return [f"{key}={text(value)}" for key, value in table.items()]


@functools.cache
def _hashed_kind(kind: type[Options]) -> type[msgspec.Struct]:
    """A struct with the fields of `kind` in order, of which only those added later have a default."""
    return msgspec.defstruct(
        kind.__name__,
        [
            (field.encode_name, Any, field.default)
            if field.name in kind.ADDED_LATER
            else field.encode_name
            for field in msgspec.structs.fields(kind)
        ],
        kw_only=True, frozen=True, omit_defaults=True,
    )  # fmt: skip


def hashed(part: Any) -> Any:
    """A value as it enters a hash: options that were added later are omitted at their default.

    msgspec's own `omit_defaults` is not enough. It compares objects by identity, and a float from the command line
    is another object than an equal default.
    """
    if isinstance(part, list | tuple):
        return [hashed(item) for item in part]
    if not isinstance(part, Options):
        return part
    content = {}
    for field in msgspec.structs.fields(type(part)):
        value = getattr(part, field.name)
        is_omitted = field.name in part.ADDED_LATER and value == field.default
        content[field.encode_name] = field.default if is_omitted else hashed(value)
    return _hashed_kind(type(part))(**content)


def check_names(names: Collection[str] | None, known: Collection[str]) -> Any:
    """Return the names, or raise ValueError for the first that is not in `known`."""
    for name in names or ():
        if name not in known:
            raise ValueError(f"{name!r}: choose from {', '.join(known)}")
    return names


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar known name, or all of them."""
    similar = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {similar[0]!r}?" if similar else f": there are {', '.join(known)}"

"""How an option is declared: one field of a frozen struct, with its default, bounds, help text and panel.

    class Sampling(Options, frozen=True, kw_only=True):
        temperature: Annotated[float, Option("0 is greedy.", SAMPLING, min=0, max=2)] = 0.6

The command line and the Python API are made from these fields. A struct may hold other structs of options, whose
fields then are options too. `hashed` says how a struct enters a fingerprint or a row's key.
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
    """What stands beside the type of a field that is an option."""

    help: str
    panel: str | None = None
    "heading under which the help lists it; None: with the basic options"
    min: float | None = None
    max: float | None = None
    check: Callable[[Any], Any] | None = None
    "gives the value back, perhaps in another form; a ValueError says what is wrong with it"
    name: str | None = None
    "of the parameter, where that is not the field's"
    given: Any = None
    "type of the parameter, where that is not the field's"
    read: Callable[[Any], Any] | None = None
    "from the parameter's value to the field's"
    flag: str | None = None
    "where it is not `--` and the parameter's name"
    is_argument: bool = False
    "given by its place on the command line, without a flag"


class Options(msgspec.Struct, frozen=True):
    """A concern's options; each field has a default."""

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset()
    "fields that are left out of hashes at their default: versions made before they were added stay up to date"
    PANEL: ClassVar[str | None] = None
    "one heading for all of them, in place of their own"


class Field(NamedTuple):
    """An option as a parameter of commands."""

    name: str
    kind: Any
    "type, without what is annotated"
    option: Option
    default: Any

    @property
    def is_list(self) -> bool:
        """Whether it is a repeated flag, a list in recipes and in Python."""
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
    """The type in an annotation, and the option that stands beside it."""
    notes = getattr(hint, "__metadata__", ())
    option = next((one for one in notes if isinstance(one, Option)), None)
    return (hint.__origin__ if notes else hint), option


def _struct_in(kind: Any) -> type[Options] | None:
    """The struct of options that a field holds: X of `X` and of `X | None`."""
    kinds = typing.get_args(kind) if isinstance(kind, UnionType) else (kind,)
    found = [one for one in kinds if isinstance(one, type) and issubclass(one, Options)]
    return found[0] if found else None


def fields_of(kind: type[Options], panel: str | None = None) -> Iterator[Field]:
    """The options of a struct and of the structs in it; `panel` is a heading for all of them."""
    panel = panel or kind.PANEL
    for field in msgspec.structs.fields(kind):
        hint, option = declared(_hints(kind)[field.name])
        if option is not None:
            if panel is not None:
                option = option._replace(panel=panel)
            given = hint if option.given is None else option.given
            default = field.default if option.given is None else (False if given is bool else ())
            yield Field(option.name or field.name, given, option, default)
        elif (inner := _struct_in(hint)) is not None:
            yield from fields_of(inner, panel)


def build(kind: type[S], values: Mapping[str, Any]) -> S:
    """A struct whose options have the `values` of their names, and their defaults where there is none."""
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
        is_list = typing.get_origin(hint if option.given is None else option.given) is tuple
        if value is None and is_list:  # of a flag that was not given
            continue
        content[field.name] = value if option.read is None else option.read(value)
    return kind(**content)


def checked(field: Field, value: Any) -> Any:
    """A value that was given in Python, as the command line would have read it; raises UsageError."""
    wanted: Any = field.item
    many = field.is_list
    if many and isinstance(value, Mapping) and field.option.read is not None:
        value = key_values(value)
    if isinstance(value, str | os.PathLike) and many:
        raise UsageError(f"{field.name} = {value!r}: expected a list")
    items = [] if many and value is None else list(value) if many else [value]
    found = [_converted(field, one, wanted) for one in items]
    result: Any = found if many else found[0]
    if many and value is None:
        result = None
    if field.option.check is not None:
        try:
            result = field.option.check(result)
        except ValueError as error:
            raise UsageError(f"{field.name}: {error}") from None
    return result


def _converted(field: Field, value: Any, wanted: Any) -> Any:
    choices = typing.get_args(wanted) if typing.get_origin(wanted) is Literal else ()
    if choices and value not in choices:
        raise UsageError(f"{field.name} = {value!r}: choose from {', '.join(map(str, choices))}")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if wanted is Path and isinstance(value, str):
        return Path(value)
    try:
        value = msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise UsageError(f"{field.name} = {value!r}: {str(error).lower()}") from None
    low, high = field.option.min, field.option.max
    is_number = isinstance(value, int | float)
    if is_number and (
        (low is not None and not value >= low) or (high is not None and not value <= high)
    ):
        bounds = [f"{one:g}" for one in (low, high) if one is not None]
        span = (
            " to ".join(bounds)
            if len(bounds) > 1
            else f"{bounds[0]} or {'more' if high is None else 'less'}"
        )
        raise UsageError(f"{field.name} = {value!r}: expected {span}")
    return value


def key_values(table: Mapping[str, Any]) -> list[str]:
    """`KEY=VALUE` for each entry of a table; the values of a list are parted by commas."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return [f"{key}={text(value)}" for key, value in table.items()]


@functools.cache
def _hashed_kind(kind: type[Options]) -> type[msgspec.Struct]:
    """The fields of `kind` in their order, where only those that were added later have a default."""
    return msgspec.defstruct(
        kind.__name__,
        [
            (one.encode_name, Any, one.default) if one.name in kind.ADDED_LATER else one.encode_name
            for one in msgspec.structs.fields(kind)
        ],
        kw_only=True, frozen=True, omit_defaults=True,
    )  # fmt: skip


def hashed(part: Any) -> Any:
    """A value as it enters a hash: options that were added later are left out at their default.

    msgspec's own `omit_defaults` will not do: it knows a default by the object, and a float from the command line is
    another object than the default that it equals.
    """
    if isinstance(part, list | tuple):
        return [hashed(one) for one in part]
    if not isinstance(part, Options):
        return part
    content = {}
    for field in msgspec.structs.fields(type(part)):
        value = getattr(part, field.name)
        is_left_out = field.name in part.ADDED_LATER and value == field.default
        content[field.encode_name] = field.default if is_left_out else hashed(value)
    return _hashed_kind(type(part))(**content)


def check_names(names: Collection[str] | None, known: Collection[str]) -> Any:
    """The names, which all have to be `known`; a ValueError names the first that is not."""
    for name in names or ():
        if name not in known:
            raise ValueError(f"{name!r}: choose from {', '.join(known)}")
    return names


def nearest(name: str, known: Iterable[str]) -> str:
    """What to say behind a name that is not known: the one that is like it, else all."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": there are {', '.join(known)}"

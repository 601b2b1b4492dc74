"""Commands whose parameters are the fields of options structs, for the command line, recipes and Python.

A command is a function with a few parameters of its own; the structs add the others:

    @command(SamplingOptions, Run, without={"min_date"}, end_at="step")
    def generate(values: OptionValues, problems: Annotated[str, argument("A file.")], *, out: Out) -> list[Result]:
        return [stage(problems, out, values[SamplingOptions], values.run)]

Their fields are its parameters, except those named by `without`; keywords replace defaults of the structs.
`OptionValues` builds the structs from the values that were given.
"""

import inspect
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from distillpipe.base.errors import UsageError
from distillpipe.base.option import (
    Field,
    Option,
    Options,
    build,
    check_names,
    checked,
    declared,
    fields_of,
    nearest,
)
from distillpipe.base.options import RUN
from distillpipe.base.redaction import redact_all
from distillpipe.cli import output, recipe
from distillpipe.cli.other_names import our_name
from distillpipe.data.store.manifest import ResolvedOption
from distillpipe.engines.server.options import (
    check_address,
    check_extra_body,
    check_key_variable,
    guard_options,
)
from distillpipe.stages.run import Run
from distillpipe.training.trackers import TRACKERS
from distillpipe.verify import check_name

S = TypeVar("S", bound=Options)

NOT_STORED = ("dry_run", "as_json", "pilot", "preview")
"They change what is printed, not what is written."
NOT_IN_PYTHON = ("as_json", "preview")
"They only print."
SOURCES = {
    "COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT_MAP": "recipe", "DEFAULT": "default",
}  # fmt: skip


def argument(help: str) -> Option:
    """The option of a positional parameter."""
    return Option(help, is_argument=True)


Out = Annotated[Path, Option("Folder of the versions: v1, v2, ...")]
DryRun = Annotated[bool, Option("Print what would be read, written and spent, and stop.")]
Json = Annotated[bool, Option("Print the summary as one JSON object.", RUN, flag="--json")]


def _rules(names: list[str] | None) -> Any:
    from distillpipe.filters import ROW_RULES  # not for every command

    return check_names(names, ROW_RULES)


def _verifier(name: str) -> str:
    if ":" not in name:  # the stage finds FILE.py:FUNCTION
        check_name(name)
    return name


# Checks of values that need what lies above the structs.
CHECKS: dict[str, Callable[[Any], Any]] = {
    "verifier": _verifier,
    "base_url": check_address,
    "api_key_env": check_key_variable,
    "extra_body": check_extra_body,
    "ignore_rule": _rules,
    "report_to": lambda names: check_names(names, TRACKERS),
}


class OptionValues:
    """The values of a command's options, and where each came from."""

    def __init__(self, values: Mapping[str, Any], options: dict[str, ResolvedOption]) -> None:
        self.values = values
        self.options = options

    def __getitem__(self, kind: type[S]) -> S:
        return build(kind, self.values)

    @property
    def run(self) -> Run:
        """The options of the call, with where each value came from."""
        return msgspec.structs.replace(self[Run], options=self.options)


class Command:
    """One command: called by Typer with a context and the values of its parameters, or by `call` from Python."""

    def __init__(
        self,
        body: Callable[..., Any],
        structs: tuple[type[Options], ...],
        without: Collection[str],
        defaults: Mapping[str, Any],
    ) -> None:
        self.body = body
        self.structs = structs
        self.__name__, self.__doc__ = body.__name__, body.__doc__
        self.own = list(_own_fields(body))
        struct_fields = [field for kind in structs for field in fields_of(kind)]
        self.fields = {field.name: field for field in self.own}
        for field in struct_fields:
            if field.name not in without and field.name not in self.fields:
                default = defaults.get(field.name, field.default)
                self.fields[field.name] = _with_check(field)._replace(default=default)
        unknown = {*defaults, *without} - {field.name for field in struct_fields}
        assert not unknown, f"{self.__name__}: no struct has {unknown}"
        context = inspect.Parameter(
            "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        parameters = [context, *map(_typer_parameter, self.fields.values()), _RECIPE]
        self.__signature__ = inspect.Signature(parameters)
        self.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}

    def __call__(self, ctx: typer.Context, **values: Any) -> None:
        def source(name: str) -> str:
            place = ctx.get_parameter_source(name)
            return SOURCES.get(place.name if place else "DEFAULT", "default")

        # Typer replaces an empty list that a check returned by None; ctx.params still has the list
        params = {name: ctx.params[name] for name in self.fields}
        own = {field.name: values[field.name] for field in self.own}
        sources = {name: source(name) for name in self.fields}
        result = self._run(params, sources, own)
        output.put_result(result, as_json=bool(values.get("as_json")))

    def bound(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a call from Python gives, by name. Raises UsageError for an unknown name."""
        positional = [field.name for field in self.own if field.option.is_argument]
        if len(arguments) > len(positional):
            taken = f"{len(positional)} argument by its place: {', '.join(positional)}"
            raise UsageError(f"{self.__name__}() takes {taken}; give the others by name")
        values = dict(zip(positional, arguments, strict=False)) | dict(keywords)
        known = {name: self.fields[name] for name in self.fields if name not in NOT_IN_PYTHON}
        for name in values:
            if name not in known:
                other = our_name(name, known)
                hint = f": {other[0]} is {other[1]}" if other else nearest(name, known)
                raise UsageError(f"{self.__name__}() has no {name!r}{hint}")
        return values

    def call(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the command from Python, with the names of the flags. Returns what the function of the command returns.

        Raises DistillError.
        """
        given = self.bound(arguments, keywords)
        values, sources = {}, {}
        for name, field in self.fields.items():
            if name not in given and field.is_required:
                raise UsageError(f"{self.__name__}() needs {name}: {field.option.help}")
            is_given = name in given and not (given[name] is None and field.default is None)
            values[name] = checked(field, given[name]) if is_given else _default(field)
            sources[name] = "flag" if is_given else "default"
        return self._run(values, sources, {field.name: values[field.name] for field in self.own})

    def _run(
        self, values: dict[str, Any], sources: Mapping[str, Any], own: Mapping[str, Any]
    ) -> Any:
        guard_options(values)
        options = {}
        for name, value in values.items():
            if name not in NOT_STORED:
                stored = redact_all(str(value) if isinstance(value, Path) else value)
                options[name] = ResolvedOption(stored, sources[name])
        return self.body(OptionValues(values, options), **own)


def command(
    *structs: type[Options], without: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[..., Any]], Command]:
    """Make a command from a function, see the docstring of the module."""
    return lambda body: Command(body, structs, without, defaults)


def _own_fields(body: Callable[..., Any]) -> list[Field]:
    """The parameters of a command's function that are options."""
    hints = typing.get_type_hints(body, include_extras=True)
    fields = []
    for name, parameter in inspect.signature(body).parameters.items():
        kind, option = declared(hints[name])
        if option is not None:
            # the list of `list[str] | None`
            lists = [item for item in typing.get_args(kind) if typing.get_origin(item) is list]
            kind = lists[0] if lists else kind
            fields.append(_with_check(Field(name, kind, option, parameter.default)))
    return fields


def _with_check(field: Field) -> Field:
    check = CHECKS.get(field.name)
    if check is None:
        return field
    return field._replace(
        option=field.option._replace(check=lambda value: None if value is None else check(value))
    )


def _default(field: Field) -> Any:
    """The default as a parameter of the command line has it: none for a list and for what is read from one."""
    value = None if field.is_list and not field.is_required else field.default
    return value if field.option.check is None else field.option.check(value)


def _callback(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def callback(value: Any) -> Any:
        try:
            return check(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return callback


def _typer_parameter(field: Field) -> inspect.Parameter:
    option, kind, default = field.option, field.kind, field.default
    if field.is_list:
        kind = list[field.item]  # type: ignore[name-defined]
        if not field.is_required:
            kind, default = kind | None, None
    callback = None if option.check is None else _callback(option.check)
    if option.is_argument:
        parameter: Any = typer.Argument(
            help=option.help, callback=callback, metavar=field.name.upper()
        )
    else:
        flag = option.flag or f"--{field.name.replace('_', '-')}"
        if kind == bool | None:
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        parameter = typer.Option(
            flag, help=option.help, min=option.min, max=option.max, callback=callback,
            rich_help_panel=option.panel, show_envvar=False,
        )  # fmt: skip
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default,
        annotation=Annotated[kind, parameter, option],
    )  # fmt: skip


def _use_recipe(ctx: typer.Context, path: Path | None) -> None:
    """Set the defaults from a recipe that is given behind the command. The context's object has all commands."""
    if path is None:
        return
    parent = ctx.parent
    if parent is not None and str(parent.get_parameter_source(recipe.PARAMETER)).endswith("LINE"):
        raise UsageError("--recipe is given twice: before and behind the command; leave one out")
    ctx.default_map = recipe.read(path, ctx.obj).get(ctx.info_name or "", {})


_RECIPE = inspect.Parameter(
    recipe.PARAMETER, inspect.Parameter.KEYWORD_ONLY, default=None,
    annotation=Annotated[
        Path | None,
        typer.Option(
            callback=_use_recipe, is_eager=True, expose_value=False, show_envvar=False,
            help="TOML file whose table of the command's name has its options.",
        ),
    ],
)  # fmt: skip

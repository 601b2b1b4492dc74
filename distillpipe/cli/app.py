"""The command `distill`: its subcommands, the recipe, and how errors are printed."""

import io
import logging
import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from distillpipe import __version__
from distillpipe.base import interrupts, streams, terminal
from distillpipe.base.errors import DistillError, Interrupted
from distillpipe.base.progress import say
from distillpipe.cli import recipe
from distillpipe.cli.compare import compare
from distillpipe.cli.doctor import doctor
from distillpipe.cli.eval import evaluate
from distillpipe.cli.export import export
from distillpipe.cli.filter import filter_traces
from distillpipe.cli.generate import generate
from distillpipe.cli.help import MAX_COLUMNS, PanelCommand
from distillpipe.cli.import_traces import import_traces
from distillpipe.cli.label import label
from distillpipe.cli.parameters import Command
from distillpipe.cli.rescore import rescore
from distillpipe.cli.sft import sft
from distillpipe.cli.show import show

COMMANDS: dict[str, Command] = {
    "generate": generate, "filter": filter_traces, "sft": sft, "eval": evaluate, "show": show,
    "compare": compare, "rescore": rescore, "export": export, "import": import_traces, "label": label, "doctor": doctor,
}  # fmt: skip


class _Commands(TyperGroup):
    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        terminal.guard()  # after Typer has replaced Python's hook for tracebacks
        return super().make_context(*args, **kwargs)


app = typer.Typer(
    name="distill",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "DISTILL",
        "max_content_width": MAX_COLUMNS,
        "obj": MappingProxyType(COMMANDS),
    },
)
for _name, _command in COMMANDS.items():
    app.command(_name, cls=PanelCommand)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"distill {__version__}")
        raise typer.Exit


def _use_recipe(ctx: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        ctx.default_map = recipe.read(path, COMMANDS)
    return path


@app.callback()
def distill(
    recipe: Annotated[
        Path | None,
        typer.Option(
            callback=_use_recipe,
            is_eager=True,
            show_envvar=False,
            help="TOML file with a table of options for each command; may stand behind the command too.",
        ),
    ] = None,
    version: Annotated[
        bool | None,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            show_envvar=False,
            help="Print the version and stop.",
        ),
    ] = None,
) -> None:
    """Distil a reasoning model into a small one: generate, filter, sft, eval.

    Options come from flags, then from the environment (DISTILL_GENERATE_SEED=7), then from the recipe.
    """


def _use_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding.

    Otherwise arguments and file names would be decoded differently than on other machines, and some characters could
    not be written or printed. Characters that the terminal cannot print are escaped.
    """
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode:
        os.environ["PYTHONUTF8"] = "1"  # for the processes that we start
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run `distill`. An error that the user can correct is one line; a bug keeps its traceback."""
    streams.open_closed()
    _use_utf8()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a missing kernel
    interrupts.install()
    try:
        app(prog_name="distill")
    except DistillError as error:
        message, *more_lines = error.args
        say(f"error: {message}", *more_lines)
        sys.exit(error.exit_code)
    except Interrupted as interrupted:
        say("stopped: what was done is safe; the same command goes on from here")
        sys.exit(interrupted.exit_code)
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended
        streams.silence(sys.stdout)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(
            f"error: {where}{error.strerror or error}; finished rows are safe: remove the cause, then "
            "run the same command again"
        )
        sys.exit(1)

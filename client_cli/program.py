"""``wardline``: the terminal program without arguments, and every command with them.

Options that hold for every command may stand anywhere on the line. Other programs' parts are
loaded when they are named, so that a command starts in a fraction of a second.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from client_cli import acting, admin, checking, files, joining, reading, sending
from client_cli import shell as shells
from client_cli.failures import in_words
from client_cli.output import CommandError, Exit, Printer, warn
from client_cli.parts import part
from client_cli.session import TIMEOUT_S, Settings, settings
from client_cli.start import INTERRUPTED, default_home, terminal

ANYWHERE = MappingProxyType(
    {
        "--json": False,
        "--offline": False,
        "--as": True,
        "--home": True,
        "--pin-file": True,
        "--password-file": True,
        "--code": True,
        "--timeout": True,
    }
)
"""Options of every command, and whether a value follows."""

LAZY: Mapping[str, str] = MappingProxyType(
    {
        "duty": "client_cli.duty",
        "emergency": "client_cli.emergency",
        "officer": "client_cli.officer",
        "ward": "client_cli.ward",
    }
)
"""Commands of other modules, which are imported when they are named."""


class _Root(TyperGroup):
    """The commands here, and those that are imported when they are named."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name."""
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, imported where it is another module's."""
        if cmd_name in LAZY:
            return part(LAZY[cmd_name])
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    name="wardline",
    cls=_Root,
    help="End-to-end encrypted chat for clinicians. Without a command: the terminal program.",
    epilog="--json, --as, --home, --pin-file, --password-file, --code, --offline and --timeout "
    "may stand anywhere on the line.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (joining, sending, acting, reading, files, checking):
    app.registered_commands.extend(commands.app.registered_commands)
app.add_typer(admin.app, name="admin")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    who: Annotated[
        str | None, typer.Option("--as", help="Whose device: user, or user/device.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option("--home", help="Where profiles are [WARDLINE_HOME].")
    ] = None,
    pin_file: Annotated[
        Path | None,
        typer.Option("--pin-file", envvar="WARDLINE_PIN_FILE", help="File with the PIN."),
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="File with the password.")
    ] = None,
    code: Annotated[str | None, typer.Option("--code", help="One-time code.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read what the device has; connect to nothing.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the relay.")
    ] = TIMEOUT_S,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is, and end.")
    ] = False,
) -> None:
    """Read what holds for every command; without a command start the terminal program."""
    if version:
        _say_version(Printer(as_json))
    given = Settings(
        home=home.expanduser() if home else default_home(),
        who=who,
        pin_file=pin_file,
        password_file=password_file,
        code=code,
        as_json=as_json,
        offline=offline,
        timeout_s=timeout,
    )
    shared = shells.Current.shared
    context.obj = given if shared is None else given.within(shared.options)
    if context.invoked_subcommand is None:
        raise typer.Exit(_terminal_program(settings(context)))


def _say_version(printer: Printer) -> NoReturn:
    from importlib.metadata import version

    number = version("wardline")
    printer.result({"version": number}, f"wardline {number}")
    raise typer.Exit


@app.command()
def line(context: typer.Context) -> None:
    """Read and write a line at a time: for screen readers, and with --json for programs."""
    options = settings(context)
    face = import_module("client_cli.line")
    raise typer.Exit(
        face.main(options.home, options.who, as_json=options.as_json, pin_file=options.pin_file)
    )


@app.command()
def shell(context: typer.Context) -> None:
    """Run several commands, a line each, over one connection: one PIN, one one-time code."""
    raise typer.Exit(shells.run(settings(context), _shared_command))


def _shared_command(words: list[str], shared: shells.Shared) -> int:
    with shells.using(shared):
        return main(words)


def _terminal_program(options: Settings) -> int:
    return terminal(options.home, options.who)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the options of every command in front of the command.

    What stands behind ``--`` is text and stays where it is.
    """
    front: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if argument == "--":
            return [*front, *rest, argument, *waiting]
        name, equals, _ = argument.partition("=")
        takes_value = ANYWHERE.get(name)
        if takes_value is None:
            rest.append(argument)
            continue
        front.append(argument)
        if takes_value and not equals and waiting:
            front.append(waiting.pop(0))
    return [*front, *rest]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status."""
    given = hoisted(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given
    shared = shells.Current.shared
    printer = Printer("--json" in own or (shared is not None and shared.options.as_json))
    try:
        ended = app(given, prog_name="wardline", standalone_mode=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    except TyperException as error:
        return _not_understood(error, printer)
    except BrokenPipeError:
        # Whoever read has gone; Python would complain again while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.DONE)
    except Exception as error:
        # The last place: every error ends as a sentence.
        failure = in_words(error)
        printer.error(failure)
        return int(failure.exit)
    # A command returns nothing; a number is the status with which it chose to end.
    return ended if isinstance(ended, int) else int(Exit.DONE)


def _not_understood(error: TyperException, printer: Printer) -> int:
    """Say what is wrong with a command line, with its usage for people."""
    text = error.format_message()
    if printer.as_json:
        printer.error(CommandError(Exit.USAGE, "usage", text))
    else:
        getattr(error, "show", lambda: warn(text))()
    return int(Exit.USAGE)

"""Commands that send and fetch files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client_cli import addressing, sending
from client_cli.output import CommandError, Exit, warn
from client_cli.session import settings, with_device
from client_cli.show import message_facts

if TYPE_CHECKING:
    from client.device import Device
    from client.views import Shown

app = typer.Typer()


@app.command()
def attach(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="A person, a conversation's title, or its number.")],
    file: Annotated[Path, typer.Argument(help="The file.", exists=True, dir_okay=False)],
) -> None:
    """Send a file; it is encrypted on this device."""

    async def attached(device: Device) -> Shown:
        conversation = await sending.conversation_for(device, to)
        shown = await device.attach(conversation, file, on_progress=_progress(context))
        await device.settled(settings(context).timeout_s)
        return sending.must_show(device.message(shown.key))

    shown = with_device(context, attached)
    settings(context).printer.result(message_facts(shown), addressing.key_text(shown.key))


@app.command()
def fetch(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help="The message, as `wardline read` names it.")],
    file: Annotated[Path, typer.Argument(help="Where to write it; must not exist.")],
) -> None:
    """Write the file that a message carries, where policy lets it leave the device."""
    if file.exists():
        raise CommandError(Exit.USAGE, "exists", f"{file} is there already; nothing was written.")

    async def fetched(device: Device) -> None:
        from client.words import Attachment

        key = addressing.message_key(device, message)
        shown = device.message(key)
        if shown is not None and not isinstance(shown.content, Attachment):
            raise CommandError(Exit.UNKNOWN, "no_file", "That message carries no file.")
        await device.fetch(key, file, on_progress=_progress(context))

    with_device(context, fetched)
    settings(context).printer.result(
        {"file": str(file), "bytes": file.stat().st_size}, f"{file}: {file.stat().st_size} bytes"
    )


def _progress(context: typer.Context) -> Callable[[int, int], None]:
    """Return what shows progress on a terminal, a tenth at a time, and nothing to a program."""
    quiet = settings(context).as_json or not sys.stderr.isatty()
    shown = {"tenths": 0}

    def tell(done: int, whole: int) -> None:
        tenths = 10 * done // max(whole, 1)
        if not quiet and tenths > shown["tenths"]:
            shown["tenths"] = tenths
            warn(f"{10 * tenths} %")

    return tell

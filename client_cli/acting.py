"""Commands for what is done with messages and in groups, beyond sending: forms, answers, mute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.clocks import now_ms
from client_cli import addressing
from client_cli.output import Column
from client_cli.sending import PriorityWord
from client_cli.session import settings, with_device
from client_cli.show import date, message_facts, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.views import Shown

app = typer.Typer()

Message = Annotated[str, typer.Argument(help="The message, as `wardline read` names it.")]
Where = Annotated[str, typer.Argument(help="The conversation's title or number.")]

HISTORY = (
    Column(key="at_ms", heading="SAID", show=date),
    Column(key="text", heading="TEXT", show=printable),
)


def _done(
    context: typer.Context, work: Callable[[Device], Awaitable[Shown | None]], text: str
) -> None:
    """Do something, wait until it is sent, and say so."""

    async def worked(device: Device) -> dict[str, Any]:
        shown = await work(device)
        await device.settled(settings(context).timeout_s)
        current = None if shown is None else device.message(shown.key)
        return {"done": True} if current is None else message_facts(current)

    facts = with_device(context, worked)
    key = f"{facts['key']} " if "key" in facts else ""
    settings(context).printer.result(facts, f"{key}{text}")


def _shown(device: Device, message: str) -> Shown:
    from client_cli.sending import must_show

    return must_show(device.message(addressing.message_key(device, message)))


@app.command()
def edit(context: typer.Context, message: Message, text: Annotated[str, typer.Argument()]) -> None:
    """Change a message of yours; everybody can see what it said before."""
    from client_cli import deeds

    async def work(device: Device) -> Shown | None:
        return await deeds.edit(device, _shown(device, message), text)

    _done(context, work, "Changed.")


@app.command()
def history(context: typer.Context, message: Message) -> None:
    """Show what a message said before it was changed."""

    async def look(device: Device) -> list[dict[str, Any]]:
        shown = _shown(device, message)
        former = device.history(shown.key)
        since_ms = former[-1].until_ms if former else None
        versions = [*former, shown if since_ms is None else replace(shown, at_ms=since_ms)]
        return [{"at_ms": one.at_ms, "text": one.text} for one in versions]

    rows = with_device(context, look, must_connect=False)
    settings(context).printer.rows("versions", rows, HISTORY, none="Nothing.")


@app.command()
def react(
    context: typer.Context,
    message: Message,
    mark: Annotated[str, typer.Argument(help="One sign.")],
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away again.")] = False,
) -> None:
    """Put a sign beside a message."""
    from client_cli import deeds

    async def work(device: Device) -> Shown | None:
        return await deeds.react(device, _shown(device, message), mark, removed=remove)

    _done(context, work, "Done.")


@app.command("do")
def do_it(
    context: typer.Context,
    message: Message,
    act: Annotated[str, typer.Argument(help="What; the next step where it is left out.")] = "",
    text: Annotated[str, typer.Argument(help="The value read back, answers with | between.")] = "",
) -> None:
    """Do what a message asks for: take a task, read a value back, accept a hand-off, vouch."""
    from client_cli import deeds

    async def work(device: Device) -> Shown | None:
        return await deeds.do(device, _shown(device, message), act, text)

    _done(context, work, "Done.")


@app.command()
def new(
    context: typer.Context,
    to: Where,
    what: Annotated[str, typer.Argument(help="task, result, hand-off, check-in, location ...")],
    fields: Annotated[list[str], typer.Argument(help="As name=value; wrong names are told.")],
    *,
    priority: Annotated[PriorityWord, typer.Option("--priority", "-p")] = PriorityWord.ROUTINE,
) -> None:
    """Send a task, a critical result, a hand-off note or another form."""
    from client_cli import deeds

    async def work(device: Device) -> Shown | None:
        from client.words import Priority
        from client_cli.rows import Reading

        reading = Reading(me=device.user, now_ms=now_ms())
        conversation = addressing.conversation(device, to).conversation
        return await deeds.new(
            device,
            conversation,
            what,
            values=deeds.fields(fields),
            reading=reading,
            priority=Priority[priority.name],
        )

    _done(context, work, "Sent.")


@app.command()
def mute(
    context: typer.Context,
    to: Where,
    person: Annotated[str, typer.Argument(help="Whose messages; left out: all sounds.")] = "",
    *,
    minutes: Annotated[int, typer.Option("--minutes", min=1, help="How long.")] = 60,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
) -> None:
    """Want no sound from a conversation, or, as owner or moderator, mute somebody in it.

    STAT sounds all the same, and urgent messages of somebody muted are shown.
    """
    from client_cli import deeds

    async def work(device: Device) -> None:
        conversation = addressing.conversation(device, to).conversation
        if not person:
            await device.mute(conversation, muted=not off)
            return
        user = await addressing.person(device, person)
        length = 0 if off else minutes
        await deeds.mute(device, conversation, user, minutes=length, now_ms=now_ms())

    _done(context, work, "No longer muted." if off else "Muted.")


@app.command()
def moderators(
    context: typer.Context,
    to: Where,
    people: Annotated[list[str] | None, typer.Argument(help="Who; nobody: owners alone.")] = None,
) -> None:
    """Say who may mute others in a group that you own, beside you."""
    from client_cli import deeds

    async def work(device: Device) -> None:
        users = await addressing.people(device, people or [])
        conversation = addressing.conversation(device, to).conversation
        await deeds.moderate(device, conversation, users)

    _done(context, work, f"Moderators: {', '.join(people or []) or 'nobody'}.")


@app.command()
def owners(
    context: typer.Context,
    to: Where,
    people: Annotated[list[str], typer.Argument(help="All who own it from now on.")],
) -> None:
    """Say who may let people in and out of a group that you own: all of them, you only if named."""

    async def work(device: Device) -> None:
        users = await addressing.people(device, people)
        conversation = addressing.conversation(device, to).conversation
        await device.set_owners(conversation, users)

    _done(context, work, f"Owners: {', '.join(people)}.")

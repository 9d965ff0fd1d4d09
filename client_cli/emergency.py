"""``wardline emergency``: two colleagues let a third into a conversation for a limited time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing
from client_cli.output import Column, CommandError, Exit
from client_cli.session import settings, with_device
from client_cli.show import date, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.words import UserName

app = typer.Typer(
    help="Emergency access: two colleagues in a conversation let a third in for a limited time.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Where = Annotated[str, typer.Argument(help="The conversation's title or number.")]

GUESTS = (
    Column(key="conversation", heading="CONVERSATION"),
    Column(key="user", heading="USER"),
    Column(key="state", heading="STATE"),
    Column(key="until_ms", heading="UNTIL", show=date),
    Column(key="vouchers", heading="VOUCHED FOR BY", show=", ".join),
    Column(key="reason", heading="REASON", show=printable),
)


@app.command()
def ask(
    context: typer.Context,
    colleagues: Annotated[list[str], typer.Argument(help="Who is in it and could vouch.")],
    *,
    about: Annotated[str, typer.Option("--about", help="Which patient or conversation.")],
    reason: Annotated[str, typer.Option("--reason", help="Why you must read it now.")],
) -> None:
    """Ask colleagues to let you into a conversation that you are not in."""

    async def asked(device: Device) -> list[UserName]:
        users = await addressing.people(device, colleagues)
        await device.emergency.ask(users, about=about, reason=reason)
        await device.settled(settings(context).timeout_s)
        return users

    users = with_device(context, asked)
    text = f"Asked: {', '.join(users)}. Two of them must vouch; call them as well."
    settings(context).printer.result({"asked": users}, text)


@app.command()
def vouch(
    context: typer.Context,
    to: Where,
    person: Annotated[str, typer.Argument(help="Who is to be let in.")],
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; all in it read this.")] = "",
    minutes: Annotated[
        int, typer.Option("--minutes", min=5, max=720, help="For how long; the first one says.")
    ] = 120,
) -> None:
    """Vouch for a colleague's access to a conversation that you are in; two of you must."""

    async def vouched(device: Device) -> dict[str, Any]:
        from client_cli.deeds import SAID
        from client_cli.rows import MINUTE_MS

        conversation = addressing.conversation(device, to).conversation
        user = await addressing.person(device, person)
        second = any(
            one.user == user and one.by != device.user
            for one in device.emergency.pending(conversation)
        )
        if not (reason or second):
            text = f"Nobody has vouched for {user} yet, and you would be the first: say why, with "
            raise CommandError(Exit.USAGE, "no_reason", f'{text}--reason "..."')
        said = await device.emergency.vouch(
            conversation, user, reason=reason, stay_ms=minutes * MINUTE_MS
        )
        await device.settled(settings(context).timeout_s)
        return {"user": user, "vouched": said.value, "text": SAID[said]}

    facts = with_device(context, vouched)
    settings(context).printer.result(facts, facts.pop("text"))


@app.command("list")
def list_all(context: typer.Context) -> None:
    """List who is in your conversations by emergency access, and who waits for a second word."""

    async def looked(device: Device) -> list[dict[str, Any]]:
        return [
            row
            for one in device.conversations()
            if not one.ended
            for row in _rows(device, one.conversation, one.title)
        ]

    rows = with_device(context, looked, must_connect=False)
    settings(context).printer.rows("guests", rows, GUESTS, none="Nobody.")


def _rows(device: Device, conversation: Any, title: str) -> list[dict[str, Any]]:
    where = {"conversation": title or addressing.short(conversation)}
    inside = [
        {
            **where,
            "user": one.user,
            "state": "in",
            "until_ms": one.until_ms,
            "vouchers": list(one.vouchers),
            "reason": "",
        }
        for one in device.emergency.visits(conversation)
    ]
    waiting = [
        {
            **where,
            "user": one.user,
            "state": "needs a second colleague",
            "until_ms": one.until_ms,
            "vouchers": [one.by],
            "reason": one.reason,
        }
        for one in device.emergency.pending(conversation)
    ]
    return [*inside, *waiting]


@app.command()
def end(
    context: typer.Context,
    to: Where,
    person: Annotated[str, typer.Argument(help="Whose access; left out: your own.")] = "",
) -> None:
    """End emergency access before its time: your own, or of somebody you vouched for."""

    async def ended(device: Device) -> UserName:
        conversation = addressing.conversation(device, to).conversation
        user = await addressing.person(device, person) if person else device.user
        await device.emergency.end(conversation, user)
        await device.settled(settings(context).timeout_s)
        return user

    user = with_device(context, ended)
    settings(context).printer.result({"ended": user}, f"Emergency access of {user} is ended.")

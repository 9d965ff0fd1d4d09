"""``wardline admin wipe``, ``wipes``, ``suspend``, ``restore``, ``exposure``: lost devices."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli.asking import must_agree
from client_cli.output import Column, CommandError, Exit, say
from client_cli.people_file import end_of_day_ms
from client_cli.session import Settings, settings, with_device
from client_cli.show import date, printable
from client_cli.signing import Signed, carry_out, hand_in, pass_on, suspension

if TYPE_CHECKING:
    from client.device import Device
    from client.orders import Wipe
    from crypto.trust import DeviceIdentity

app = typer.Typer()


class ReasonWord(StrEnum):
    """Why a device is wiped, as people type it."""

    LOST = "lost"
    STOLEN = "stolen"
    DISPOSED = "disposed"
    LEFT = "left"


WIPES = (
    Column(key="device", heading="DEVICE"),
    Column(key="reason", heading="REASON"),
    Column(key="ordered_ms", heading="ORDERED", show=date),
    Column(key="stage", heading="STATE"),
    Column(key="since_ms", heading="SINCE", show=date),
)

NEVER = "never"
"""How people say that somebody's work has no end date."""

CONFIRM = "wardline admin wipe {device} --confirm"

OFFICER = (
    "{device} is an officer's. The authority destroys it for one administrator only once the "
    "officer stands\nno more in the archive's configuration and segments were shared anew without "
    "it, for an order given\nafterwards. Before that it stays shut. To destroy it all the same, "
    "with what it alone opens, a second\nadministrator says: wardline admin wipe {device} "
    "--confirm --force"
)
"""What an administrator is told whose order for an officer's device waits."""

EXPOSURE = (
    Column(key="short", heading="NUMBER"),
    Column(key="from_ms", heading="READ FROM", show=date),
    Column(key="until_ms", heading="UNTIL", show=date),
    Column(key="title", heading="TITLE", show=printable),
)


@app.command()
def wipe(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="The device: user/device.")],
    *,
    reason: Annotated[ReasonWord | None, typer.Option("--reason", help="Why; on record.")] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Sign another administrator's order as well.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --confirm: also before an officer is replaced.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Wipe a device: at once it opens nothing any more, wherever it is; it cannot be undone.

    The first order within an hour takes one administrator and the authority; each further one
    waits, suspended, until a second administrator says --confirm. An officer's device waits until
    its shares are with others, or a second administrator says --confirm --force.
    """
    if confirm is bool(reason):
        raise typer.BadParameter("give a new order its --reason; --confirm signs one that waits")
    if force and not confirm:
        raise typer.BadParameter("--force is a second administrator's, beside --confirm")
    must_agree(f"{device} loses everything for ever. Is that meant?", yes=yes)
    options = settings(context)

    async def ordered(admin: Device) -> bool:
        if reason is None:
            await _confirm(admin, device, options, force=force)
            return False
        return await _order(admin, device, reason, options)

    officers = with_device(context, ordered)
    more = "\n" + OFFICER.format(device=device) if officers else ""
    options.printer.result(
        {"device": device, "ordered": True, "officer": officers},
        f"Ordered. {device} is cut off now; how far the wipe has come: wardline admin wipes{more}",
    )


async def _order(admin: Device, device: str, reason: ReasonWord, options: Settings) -> bool:
    """Order a wipe; tell whether it is an officer's device."""
    from client.administration import REASONS, wipe

    identity = await _identity(admin, device)
    await carry_out(admin, wipe(identity, REASONS[reason.value]), options)
    return _is_officers(identity)


def _is_officers(identity: DeviceIdentity | None) -> bool:
    from client.administration import ROLES

    return identity is not None and ROLES["officer"] in identity.roles


async def _identity(admin: Device, device: str) -> DeviceIdentity:
    """Return what is proved of a device.

    Raises:
        CommandError: There is no such device.
    """
    from client.words import DeviceId, UserName

    await admin.look_up([UserName(device.partition("/")[0])])
    identity = admin.identity(DeviceId(device))
    if identity is None:
        text = f"There is no device {device}. Look: wardline admin users devices USER"
        raise CommandError(Exit.UNKNOWN, "no_device", text)
    return identity


async def _must_exist(admin: Device, device: str) -> None:
    """Make sure that a name is a device's: of one that is mistyped nothing would be told.

    Raises:
        CommandError: It is none that this device knows, or that the relay knows where it is there.
    """
    from client.words import DeviceId

    if any(one.device == device for one in admin.memberships()):
        return
    if admin.status.online:
        await _identity(admin, device)
    elif admin.identity(DeviceId(device)) is None:
        text = f"This device knows no device {device}, and the relay is not reached to ask it."
        raise CommandError(Exit.UNREACHABLE, "no_device", text)


async def _confirm(admin: Device, device: str, options: Settings, *, force: bool) -> None:
    from client.orders import Stage, wipes
    from client.words import Purpose

    if not force and _is_officers(await _identity(admin, device)):
        raise CommandError(Exit.USAGE, "officer", OFFICER.format(device=device))
    waiting = [
        one
        for one in wipes(admin.controls())
        if one.device == device and one.stage is Stage.ORDERED and one.administrators == 1
    ]
    if not waiting:
        text = f"No order to wipe {device} waits for a second administrator."
        raise CommandError(Exit.UNKNOWN, "no_order", text)
    both = await admin.statements.countersign(waiting[-1].statement, Purpose.ADMINISTRATOR)
    await hand_in(admin, both, options)


@app.command("wipes")
def list_wipes(context: typer.Context) -> None:
    """Show every wipe and how far it has come: ordered, cryptographic, delivered, confirmed."""

    async def listed(device: Device) -> list[dict[str, Any]]:
        from client.orders import wipes

        return [
            _facts(one, officer=_is_officers(device.identity(one.device)))
            for one in wipes(device.controls())
        ]

    rows = with_device(context, listed, must_connect=False)
    options = settings(context)
    options.printer.rows("wipes", rows, WIPES, none="No device was ever wiped.")
    if not options.as_json:
        for row in rows:
            if (row["stage"], row["administrators"]) == ("ordered", 1):
                device = row["device"]
                if row["officer"]:
                    say(OFFICER.format(device=device))
                    continue
                say(
                    f"{device} is shut, and waits for the authority. Where that takes longer than a"
                )
                say("minute, a second administrator signs too: " + CONFIRM.format(device=device))


def _facts(one: Wipe, *, officer: bool) -> dict[str, Any]:
    return {
        "device": one.device,
        "officer": officer,
        "order": one.id.hex(),
        "reason": one.reason.name.lower(),
        "stage": one.stage.value,
        "administrators": one.administrators,
        "since_ms": one.confirmed_ms or one.delivered_ms or one.complete_ms or one.ordered_ms,
        "ordered_ms": one.ordered_ms,
        "complete_ms": one.complete_ms,
        "delivered_ms": one.delivered_ms,
        "confirmed_ms": one.confirmed_ms,
        "entries": list(one.sequences),
    }


@app.command()
def approve(
    context: typer.Context,
    application: Annotated[str, typer.Argument(help="The text that the new device shows.")],
    of: Annotated[str, typer.Option("--of", help="An earlier device: its rights are kept.")],
    *,
    ends: Annotated[
        str, typer.Option("--ends", help="Last day of work here, 2027-01-31, or never; else kept.")
    ] = "",
    to: Annotated[
        Path | None, typer.Option("--to", help="File for the second administrator's part.")
    ] = None,
) -> None:
    """Let in a device of a person who has lost all others; a second administrator signs too.

    Also of a person who is back at work: where the earlier device's end date is over, say --ends.
    """
    options = settings(context)
    given = None if ends in ("", NEVER) else _end_of(ends)

    async def approved(admin: Device) -> Signed:
        from client import administration

        claim = administration.applicant(application)
        earlier = await _identity(admin, of)
        ends_ms = given if ends else earlier.ends_ms
        if ends_ms is not None and ends_ms <= admin.now_ms():
            text = f"That ended on {date(ends_ms)}. Give the new last day: --ends 2027-01-31"
            raise CommandError(Exit.USAGE, "ended", text)
        act = administration.approve_device(claim, of=earlier, ends_ms=ends_ms)
        return await carry_out(admin, act, options)

    signed = with_device(context, approved)
    if options.as_json:
        options.printer.result({"finished": False, "statement": signed.armour}, "")
    else:
        pass_on(signed, to)


def _end_of(day: str) -> int:
    try:
        return end_of_day_ms(day)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{day!r} is no day; write 2027-01-31, or {NEVER}") from None


@app.command()
def suspend(
    context: typer.Context,
    devices: Annotated[list[str], typer.Argument(help="Devices: user/device.")],
) -> None:
    """Suspend devices at once, any number, reversibly: nothing on them is destroyed."""
    _suspend(context, devices, lifted=False)


@app.command()
def restore(
    context: typer.Context,
    devices: Annotated[list[str], typer.Argument(help="Devices: user/device.")],
) -> None:
    """End the suspension of devices."""
    _suspend(context, devices, lifted=True)


@app.command()
def delegate(
    context: typer.Context,
    ward: Annotated[str, typer.Argument(help="The ward, as people have it in the directory.")],
    role: Annotated[str, typer.Argument(help="The role; empty for nobody any more.")] = "",
) -> None:
    """Let whoever is on call for a role suspend devices of a ward's people, day and night."""
    options = settings(context)

    async def done(admin: Device) -> None:
        from client import administration
        from client.words import InvalidError

        try:
            act = administration.delegate(ward, role or None)
        except InvalidError:
            raise typer.BadParameter("a ward has a name, and a role's is of letters") from None
        await carry_out(admin, act, options)

    with_device(context, done)
    who = f"whoever is on call for {role}" if role else "administrators alone"
    options.printer.result(
        {"ward": ward, "role": role or None},
        f"From now on {who} may suspend devices of {ward}'s people.",
    )


def _suspend(context: typer.Context, devices: list[str], *, lifted: bool) -> None:
    options = settings(context)

    async def done(admin: Device) -> None:
        await carry_out(admin, suspension(devices, lifted=lifted), options)

    with_device(context, done)
    verb = "Restored" if lifted else "Suspended"
    options.printer.result(
        {"devices": devices, "suspended": not lifted}, f"{verb}: {', '.join(devices)}"
    )


@app.command()
def exposure(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="The device: user/device.")],
) -> None:
    """Tell which conversations a device could read, and when, as far as this device knows.

    The archive's host has the whole answer; this one covers the conversations that you are in.
    """

    async def told(admin: Device) -> list[dict[str, Any]]:
        await _must_exist(admin, device)
        titles = {one.conversation: one.title for one in admin.conversations()}
        return [
            {
                "conversation": one.conversation.hex(),
                "short": one.conversation.hex()[:8],
                "title": titles.get(one.conversation, ""),
                "from_ms": one.from_ms,
                "until_ms": one.until_ms,
            }
            for one in admin.memberships()
            if one.device == device
        ]

    rows = with_device(context, told, must_connect=False)
    settings(context).printer.rows(
        "conversations", rows, EXPOSURE, none="None of the conversations that you are in."
    )

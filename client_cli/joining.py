"""Commands of a device's own life: enrol, log in, unlock, PIN, further devices."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.clocks import now_ms
from client_cli.asking import must_agree_meanwhile, typed_line
from client_cli.output import Column, CommandError, Exit, say, say_json, warn
from client_cli.session import Settings, choose, secret, settings, unlocked, with_device
from client_cli.show import date, yes_or_no
from client_cli.signing import suspension

if TYPE_CHECKING:
    from client.device import Device
    from client.enrolling import Person
    from client.profile import Profile

app = typer.Typer()

DEVICE_NAME = "device"
"""What a device is called unless its person says otherwise."""

ASK_NEW = "Password (twelve characters or more)"
ASK_KNOWN = "Your password (the one that you have; a new one only after a reset)"
"""A further device proves the person's password; only a first device or a reset sets one."""


@app.command()
def enroll(
    context: typer.Context,
    link: Annotated[
        str,
        typer.Argument(
            help="The invitation's link, WARDLINE:...; asked for where it is not given, "
            "- reads it from a pipe."
        ),
    ] = "",
    device: Annotated[
        str, typer.Option("--device", help="What to call this device: a-z, 0-9, -.")
    ] = DEVICE_NAME,
    further: Annotated[
        str,
        typer.Option("--further", help="Your user name: a further device, let in by another one."),
    ] = "",
) -> None:
    """Make this machine one of your devices, by the invitation that you were given.

    A further device, or the first after all were lost, shows a text that your other device, or two
    administrators, answer with another one: wardline vouch, wardline admin approve.
    """
    from client.connection import read

    if not (link or further) and sys.stdin.isatty():
        warn("The invitation's link (scan it, or type it):")
        link = "-"
    if bool(link) is bool(further):
        raise typer.BadParameter("give the invitation's link, or --further with your user name")
    options = settings(context)
    work = _further(options, further, device) if further else _first(options, link, device)
    profile = asyncio.run(work)
    name = read(profile).device
    options.printer.result(
        {"device": name, "profile": profile.directory.name},
        f"This machine is now {name}. Start the program with: wardline",
    )


async def _first(options: Settings, link: str, device: str) -> Profile:
    from client.enrolling import enrol

    text = await typed_line() if link == "-" else link
    return await enrol(
        text.strip().upper(), device, _person(options), root=options.home, clock=now_ms
    )


async def _further(options: Settings, user: str, device: str) -> Profile:
    from client.enrolling import Applicant
    from client.words import DeviceId

    applicant = Applicant(DeviceId(f"{user}/{device}"))
    person = _person(options, password=ASK_KNOWN)
    if options.as_json:
        say_json({"application": applicant.text})
    else:
        say(f"On your other device: wardline vouch, with this text\n\n{applicant.text}\n")
        warn("You have no other device any more? Bring the text to an administrator.")
        warn("Then paste here what is answered:")
    grant = await typed_line()
    return await applicant.enrol(grant.strip(), person, root=options.home, clock=now_ms)


def _person(options: Settings, *, password: str = ASK_NEW) -> Person:
    from client.enrolling import Person

    return Person(
        pin=new_secret("PIN (six digits or more)", options.pin_file, option="--pin-file"),
        password=new_secret(password, options.password_file, option="--password-file"),
        one_time_code=partial(_one_time_code, options),
        on_step=lambda step: None if options.as_json else warn(f"{step.value} ..."),
    )


def new_secret(what: str, file: Path | None, *, option: str) -> str:
    """Return a secret that is set now: typed twice where it is typed.

    Raises:
        CommandError: Both times differ, or there is neither file nor keyboard.
    """
    first = secret(what, file, option=option)
    if file is None and secret("The same again", None, option=option) != first:
        raise CommandError(Exit.SECRET, "differ", "These were two different ones. Start again.")
    return first


async def _one_time_code(options: Settings, totp_secret: bytes, again: bool) -> str:
    """Show a new secret for one-time codes, and ask for a code.

    A program gets the secret as a line of JSON and answers with a line; so it can keep it.
    """
    text = base64.b32encode(totp_secret).decode("ascii").rstrip("=")
    if options.as_json:
        say_json({"totp_secret": text, "again": again})
        return (await typed_line()).strip()
    if again:
        warn("That was not the code. Wait for the next one.")
    elif totp_secret:
        _show_totp(text)
    return await asyncio.to_thread(options.one_time_code)


def _show_totp(text: str) -> None:
    from client_cli.qr import terminal

    say("Scan this with your authenticator, or type its key; then give the code that it shows.")
    say(terminal(f"otpauth://totp/Wardline?secret={text}&issuer=Wardline"))
    say(f"key: {text}")


@app.command()
def vouch(
    context: typer.Context,
    application: Annotated[str, typer.Argument(help="The text that the new device shows.")],
) -> None:
    """Let in a further device of yours: read its text here, give it the answer."""
    options = settings(context)

    async def vouched(device: Device) -> tuple[str, str]:
        from client import administration
        from client.words import Purpose

        claim = administration.applicant(application)
        own = device.identity(device.me)
        if own is None:
            raise CommandError(Exit.FAULT, "no_identity", "This device does not know itself yet.")
        act = administration.vouch(claim, by=own)
        question = f"Is {claim.user}/{claim.device} yours, and before you?"
        await must_agree_meanwhile(question, yes=options.as_json)
        statement = device.statements.sign(act.kind, act.body, Purpose.DEVICE)
        return f"{claim.user}/{claim.device}", administration.granted(
            statement, address=device.address
        )

    name, grant = with_device(context, vouched, must_connect=False)
    options.printer.result({"device": name, "grant": grant}, grant)


@app.command()
def login(context: typer.Context) -> None:
    """Prove password and one-time code: after ten wrong PINs, or a long time away."""
    from client.unlocking import prove_person

    options = settings(context)
    profile, password = choose(options), options.password()
    asyncio.run(prove_person(profile, password, options.one_time_code()))
    options.printer.result({"proved": True}, "Proved. Your PIN opens this device again.")


@app.command()
def unlock(context: typer.Context) -> None:
    """Try the PIN, and let this device open without the relay for the shift, as policy says."""
    options = settings(context)
    opened = asyncio.run(unlocked(options))
    opened.store.close()
    options.printer.result(
        {"unlocked": True, "leased": opened.leased},
        "The PIN is right; the relay was not reached, an earlier lease still runs."
        if opened.leased
        else "The PIN is right.",
    )


@app.command()
def pin(
    context: typer.Context,
    new_pin_file: Annotated[
        Path | None, typer.Option("--new-pin-file", help="File with the new PIN.")
    ] = None,
) -> None:
    """Give this device another PIN; whatever interrupts that, the old or the new one opens it."""
    options = settings(context)
    old, option = options.pin(), "--new-pin-file"
    new = secret("New PIN", new_pin_file, option=option)
    if new_pin_file is None and secret("New PIN again", None, option=option) != new:
        raise CommandError(Exit.SECRET, "not_alike", "The two are not alike. Nothing was changed.")
    asyncio.run(_changed(options, old, new))
    options.printer.result({"changed": True}, "The new PIN opens this device from now on.")


async def _changed(options: Settings, old: str, new: str) -> None:
    from client.errors import OfflineError
    from client.link import Link
    from client.unlocking import change_pin, unlock

    opened = await unlock(choose(options), old, now_ms=now_ms())
    try:
        if opened.leased:
            raise OfflineError
        link = await Link.open(opened.address, opened.credentials)
        try:
            await change_pin(opened, old, new, link=link, now_ms=now_ms())
        finally:
            await link.close()
    finally:
        opened.store.close()


DEVICES = (
    Column(key="device", heading="DEVICE"),
    Column(key="this", heading="THIS", show=yes_or_no),
    Column(key="certified_until_ms", heading="CERTIFIED UNTIL", show=date),
    Column(key="revoked", heading="REVOKED", show=yes_or_no),
)


@app.command()
def relay(
    context: typer.Context,
    place: Annotated[str, typer.Argument(help="Where the relay is now: host:port.")],
    pin_hex: Annotated[
        str, typer.Option("--pin", help="SHA-256 of its TLS key, hexadecimal, as it was told you.")
    ],
) -> None:
    """Tell this device that the relay has moved or has another key, as an administrator told you.

    It connects first: where that fails, nothing is changed.
    """
    from client.connection import move

    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not re.fullmatch("[0-9a-fA-F]{64}", pin_hex):
        raise typer.BadParameter("give host:port, and --pin with 64 hexadecimal digits")
    options = settings(context)
    pin = bytes.fromhex(pin_hex)
    asyncio.run(move(choose(options), host=host, port=int(port), tls_pin=pin))
    text = f"This device connects with {place} from now on."
    options.printer.result({"relay": place, "pin": pin.hex()}, text)


@app.command()
def suspend(
    context: typer.Context,
    devices: Annotated[list[str], typer.Argument(help="Devices: user/device.")],
) -> None:
    """Suspend a device of yours that you miss, or as the ward's delegate one of the ward's people.

    At once it opens nothing any more; nothing on it is destroyed. `wardline restore` ends it.
    """
    _suspend(context, devices, lifted=False)


@app.command()
def restore(
    context: typer.Context,
    devices: Annotated[list[str], typer.Argument(help="Devices: user/device.")],
) -> None:
    """End a suspension that was not an administrator's: the device was found."""
    _suspend(context, devices, lifted=True)


NOT_YOURS = {
    False: "You suspend your own devices, and as your ward's delegate those of its people. "
    "An administrator suspends any: wardline admin suspend",
    True: "What an administrator suspended, an administrator lifts: wardline admin restore. "
    "You lift what was suspended as yours, or by your ward's delegate.",
}
"""Why the relay does not suspend devices, or does not lift that."""


def _suspend(context: typer.Context, devices: list[str], *, lifted: bool) -> None:
    options = settings(context)

    async def done(device: Device) -> None:
        from client.errors import RefusedError
        from client.words import Code

        if device.me in devices:
            text = "This is the device that you hold. To end it: wardline sign-out"
            raise CommandError(Exit.USAGE, "this_device", text)
        act = suspension(devices, lifted=lifted)
        try:
            await device.statements.request(act.body, kind=act.kind)
        except RefusedError as error:
            if error.code is not Code.INVALID:
                raise
            raise CommandError(Exit.REFUSED, "not_yours", NOT_YOURS[lifted]) from None

    with_device(context, done)
    verb = "In use again" if lifted else "Suspended"
    options.printer.result(
        {"devices": devices, "suspended": not lifted}, f"{verb}: {', '.join(devices)}"
    )


@app.command("sign-out")
def sign_out(
    context: typer.Context,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    lose_unsent: Annotated[
        bool, typer.Option("--lose-unsent", help="Also where messages have not gone out.")
    ] = False,
) -> None:
    """Leave a shared workstation: your store stays locked, or is removed, as policy says."""
    options = settings(context)

    async def left(device: Device) -> Profile | None:
        from client import signing_out

        if not signing_out.removes(device.policy, options.home):
            return None
        question = "Remove everything of yours from this workstation?"
        await must_agree_meanwhile(question, yes=yes)
        profile = choose(options)
        await signing_out.give_up(device, profile, lose_unsent=lose_unsent)
        return profile

    profile = with_device(context, left, must_connect=False)
    if profile is None:
        text = "Your store is locked and stays here: policy removes none from this workstation."
        options.printer.result({"removed": False}, text)
        return
    from client import wipe

    wipe.remove(profile)
    options.printer.result({"removed": True}, "Nothing of yours is on this workstation any more.")


@app.command()
def devices(context: typer.Context) -> None:
    """List your devices, and until when each is certified."""

    async def listed(device: Device) -> list[dict[str, Any]]:
        await device.look_up([device.user])
        return [
            {
                "device": one.device,
                "this": one.this,
                "certified_until_ms": one.certified_until_ms,
                "revoked": one.revoked,
            }
            for one in device.devices()
        ]

    rows = with_device(context, listed)
    settings(context).printer.rows("devices", rows, DEVICES, none="No device.")

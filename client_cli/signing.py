"""What every administrator's command does with an act: sign it, hand it in, or pass it on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from client_cli.output import CommandError, Exit, say, warn
from client_cli.session import Settings

if TYPE_CHECKING:
    from client.administration import Act
    from client.device import Device

SECOND_MS = 1000
OWNER_ONLY = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What came of an act.

    Attributes:
        finished: Whether it was handed in; else a second administrator signs it first.
        armour: The statement as text, for the second administrator.
    """

    finished: bool
    armour: str = field(repr=False)


def suspension(devices: Iterable[str], *, lifted: bool) -> Act:
    """Return the act that suspends devices, or lifts that.

    Raises:
        CommandError: One of them is no name of a device.
    """
    from client import administration
    from client.words import DeviceId, InvalidError

    try:
        return administration.suspend([DeviceId(one) for one in devices], lifted=lifted)
    except InvalidError:
        text = "A device is named user/device, as `wardline devices` lists yours."
        raise CommandError(Exit.USAGE, "no_device_name", text) from None


async def carry_out(device: Device, act: Act, options: Settings) -> Signed:
    """Sign an act; hand it in, unless a second administrator signs it first."""
    from client.administration import armoured
    from client.words import Purpose

    statement = device.statements.sign(act.kind, act.body, Purpose.ADMINISTRATOR)
    finished = act.administrators == 1
    if finished:
        await hand_in(device, statement, options)
    return Signed(finished=finished, armour=armoured(statement))


async def hand_in(device: Device, statement: bytes, options: Settings) -> None:
    """Hand a statement in: wait where the relay asks to, prove the person where it asks that."""
    from client.errors import RefusedError
    from client.words import Code

    proved = False
    while True:
        try:
            await device.statements.submit(statement)
        except RefusedError as refused:
            if refused.code is Code.RATE_LIMITED:
                await asyncio.sleep(refused.detail / SECOND_MS)
            elif refused.code is Code.NOT_STRONG and not proved:
                proved = True
                await device.statements.authenticate(options.password(), options.one_time_code())
            else:
                raise
        else:
            return


def pass_on(signed: Signed, to: Path | None) -> None:
    """Give the second administrator a statement to sign: in a file, or on the screen."""
    if to is None:
        say(signed.armour)
    else:
        to.touch(mode=OWNER_ONLY, exist_ok=False)
        to.write_text(signed.armour)
    where = "the text above" if to is None else str(to)
    warn(f"A second administrator signs it: wardline admin countersign, with {where}.")

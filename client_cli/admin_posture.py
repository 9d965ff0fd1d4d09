"""``wardline admin posture``: how the organisation stands, on one page for a risk assessment."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.clocks import now_ms
from client_cli.checking import FRESH_MS
from client_cli.output import CommandError, Exit
from client_cli.session import settings, with_device
from client_cli.show import date

if TYPE_CHECKING:
    from client.device import Device
    from client.views import DeviceView
    from client.words import UserName

app = typer.Typer()

CERTAIN = {
    "multi_factor": "PIN and device key; password and one-time code for acts; no setting ends it",
    "encryption": "MLS from device to device; no setting ends it",
}
"""What no policy can change, said so that nobody looks for the setting."""


@app.command()
def posture(
    context: typer.Context,
    activity: Annotated[
        Path | None,
        typer.Option("--activity", help="What `wardline-archive activity` has printed."),
    ] = None,
) -> None:
    """Tell how the organisation stands: devices, stale keys, wipes, policy, and its activity."""
    options = settings(context)
    told = _activity(activity)

    async def found(device: Device) -> dict[str, Any]:
        await device.look_up(_people(device))
        return {**stands(device, at_ms=now_ms()), **({"activity": told} if told else {})}

    facts = with_device(context, found)
    options.printer.result(facts, "\n".join(_lines(facts)))


def stands(device: Device, *, at_ms: int) -> dict[str, Any]:
    """Return the facts, as far as this administrator's device has verified them."""
    from client.orders import Stage, wipes

    people = _people(device)
    views = [view for user in people for view in device.devices(user)]
    live = [view for view in views if not view.revoked]
    orders = wipes(device.controls())
    return {
        "at_ms": at_ms,
        "version": version("wardline"),
        "people": len(people),
        "people_by_role": _roles(device, live),
        "people_without_a_device": sorted(
            set(people) - {view.device.partition("/")[0] for view in live}
        ),
        "devices": len(live),
        "devices_revoked_or_suspended": len(views) - len(live),
        "keys_stale": [
            view.device for view in live if at_ms <= view.certified_until_ms < at_ms + FRESH_MS
        ],
        "keys_ended": [view.device for view in live if view.certified_until_ms < at_ms],
        "wipes": len(orders),
        "wipes_open": [
            {"device": one.device, "stage": one.stage.value, "ordered_ms": one.ordered_ms}
            for one in orders
            if one.stage is not Stage.CONFIRMED
        ],
        "control_entries": len(device.controls()),
        "control_entries_not_verified": sum(not one.verified for one in device.controls()),
        "archived_lag_s": device.status.archived_lag_ms // 1000,
        **CERTAIN,
    }


def _people(device: Device) -> list[UserName]:
    """Return everybody: whom this device knows, and whom it has never met, as officers may be."""
    from client.administration import invited

    known = {person.user for person in device.directory()}
    return sorted(known.union(invited(device.controls())))


def _roles(device: Device, live: list[DeviceView]) -> dict[str, int]:
    """Return how many people have each role, by the certificates of their devices."""
    held = {
        (view.device.partition("/")[0], role.name.lower())
        for view in live
        if (identity := device.identity(view.device)) is not None
        for role in identity.roles
    }
    return dict(sorted(Counter(role for _, role in held).items()))


def _activity(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict):
        text = f"{path} is not what `wardline-archive activity` prints."
        raise CommandError(Exit.USAGE, "no_activity", text)
    return told


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in facts.items():
        heading = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += [f"{heading}:", *_lines(value, f"{indent}  ")]
        elif isinstance(value, list):
            lines.append(f"{heading}: {', '.join(map(_item, value)) or 'none'}")
        elif name == "at_ms":
            lines.append(f"at: {date(value)}")
        else:
            lines.append(f"{heading}: {value}")
    return lines


def _item(value: object) -> str:
    return f"{value['device']} ({value['stage']})" if isinstance(value, dict) else str(value)

"""``wardline selfcheck``: what must hold on this device, and whether a report of that is true."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.clocks import now_ms
from client_cli.output import Column, CommandError, Exit, warn
from client_cli.session import choose, settings, with_device
from client_cli.show import date, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.profile import Profile

app = typer.Typer()

DAY_MS = 24 * 3600 * 1000
FRESH_MS = 14 * DAY_MS
"""Life that a certificate must have left, in ms: it renews itself with 45 days left."""

ARCHIVED_MS = 10 * 60 * 1000
"""Longest that the archive may lack a message, in ms, before somebody should look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What.
        holds: Whether it is as it should be.
        found: What was found, in words.
    """

    name: str
    holds: bool
    found: str


CHECKS = (
    Column(key="holds", heading="", show=lambda holds: "ok" if holds else "WRONG"),
    Column(key="name", heading="CHECK", show=printable),
    Column(key="found", heading="FOUND", show=printable),
)


@app.command()
def selfcheck(
    context: typer.Context,
    report: Annotated[
        Path | None, typer.Option("--report", help="File for the same as a signed note.")
    ] = None,
) -> None:
    """Check this device: files, connection, certificate, archive, control log; 9 if one fails."""
    options = settings(context)
    profile = choose(options)

    async def checked(device: Device) -> list[Check]:
        found = [*file_checks(profile), *device_checks(device, at_ms=now_ms())]
        if report is not None:
            _write(report, device, found)
        return found

    checks = with_device(context, checked, must_connect=False)
    _show(context, [{"name": one.name, "holds": one.holds, "found": one.found} for one in checks])


@app.command("verify-report")
def verify_report(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The signed note that --report wrote.")],
    *,
    key: Annotated[str, typer.Option("--key", help="The key that the program printed.")],
) -> None:
    """Verify a report of `check` or `selfcheck` and show it; 9 if it is forged or found a fault."""
    from client.reports import UnverifiedError, verified_report

    try:
        found = verified_report(file.read_bytes(), key)
    except OSError as error:
        text = f"{file}: {error.strerror}"
        raise CommandError(Exit.UNKNOWN, "no_file", text) from None
    except UnverifiedError:
        text = f"{file} is no report that this key signed. Do not believe it."
        raise CommandError(Exit.CHECK_FAILED, "not_verified", text) from None
    warn(f"{found.program}, {date(found.at_ms)}, signed with this key")
    rows = [{"name": one.name, "holds": one.holds, "found": one.found} for one in found.checks]
    _show(context, rows)


def _show(context: typer.Context, rows: list[dict[str, Any]]) -> None:
    settings(context).printer.rows("checks", rows, CHECKS, none="")
    failed = [str(one["name"]) for one in rows if not one["holds"]]
    if failed:
        text = f"Not as it should be: {', '.join(failed)}."
        raise CommandError(Exit.CHECK_FAILED, "check_failed", text, failed=len(failed))


def _write(path: Path, device: Device, checks: list[Check]) -> None:
    from client.reports import signed_report

    found = [(one.name, one.holds, one.found) for one in checks]
    note, verifier = signed_report(device.store, found, at_ms=now_ms())
    path.write_bytes(note)
    warn(f"Signed: {path}; who has this key verifies it: {verifier}")


def file_checks(profile: Profile) -> Iterator[Check]:
    """Look at the profile's files: nobody else of this machine may read them."""
    paths = [profile.directory, *profile.directory.rglob("*")]
    open_ = sum(1 for path in paths if path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    yield Check(
        name="files are their owner's alone",
        holds=not open_,
        found=f"{len(paths)} files, {open_} open to others",
    )


def device_checks(device: Device, *, at_ms: int) -> Iterator[Check]:
    """Look at what the device knows of itself, of its conversations and of the control log."""
    status = device.status
    yield Check(
        name="connected", holds=status.online, found="online" if status.online else "offline"
    )
    yield Check(
        name="everything that came could be read",
        holds=status.faults == 0,
        found=f"{status.faults} faults" + (": see wardline status" if status.faults else ""),
    )
    yield Check(
        name="the archive keeps up",
        holds=status.archived_lag_ms <= ARCHIVED_MS,
        found=f"{status.archived_lag_ms // 1000} s behind",
    )
    yield from _certificate(device, at_ms)
    yield from _archive(device)
    wrong = sum(1 for control in device.controls() if not control.verified)
    yield Check(
        name="every entry of the control log verified", holds=not wrong, found=f"{wrong} did not"
    )


def _certificate(device: Device, at_ms: int) -> Iterator[Check]:
    for own in device.devices():
        if own.this:
            days = (own.certified_until_ms - at_ms) // DAY_MS
            fresh = own.certified_until_ms - at_ms >= FRESH_MS and not own.revoked
            yield Check(name="certificate is fresh", holds=fresh, found=f"{days} days left")


def _archive(device: Device) -> Iterator[Check]:
    going = [one for one in device.conversations() if not one.ended]
    without = sum(
        1
        for one in going
        if not any(member.is_recorder for member in device.members(one.conversation))
    )
    yield Check(
        name="the archive is in every conversation",
        holds=not without,
        found=f"{len(going)} conversations, {without} without",
    )

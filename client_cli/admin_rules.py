"""``wardline admin roles``, ``policy``, ``groups``, ``countersign``, ``log``: who may do what."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing
from client_cli.asking import must_agree_meanwhile
from client_cli.output import Column, CommandError, Exit, say, warn
from client_cli.session import settings, with_device
from client_cli.show import date, printable, yes_or_no
from client_cli.signing import carry_out, hand_in

if TYPE_CHECKING:
    from client.administration import Described
    from client.device import Device
    from client.words import Policy, UserName

app = typer.Typer()
roles = typer.Typer(help="Roles that can be paged, and who may hold them.", no_args_is_help=True)
policy = typer.Typer(help="Who may do what, and how devices are kept.", no_args_is_help=True)


class SignOutWord(StrEnum):
    """What becomes of a store on a shared workstation."""

    LOCK = "lock"
    REMOVE = "remove"


LOG_ENTRIES = 50
"""Entries of the control log that are printed unless more are asked for."""


def _names(values: list[str]) -> str:
    return ", ".join(values) or "nobody"


HOLDERS = (
    Column(key="role", heading="ROLE"),
    Column(key="holders", heading="MAY BE HELD BY", show=_names),
)
RIGHTS = (
    Column(key="action", heading="ACTION"),
    Column(key="roles", heading="ALLOWED TO", show=_names),
)
LOG = (
    Column(key="sequence", heading="NUMBER"),
    Column(key="at_ms", heading="TAKEN IN", show=date),
    Column(key="verified", heading="VERIFIED", show=yes_or_no),
    Column(key="title", heading="WHAT"),
    Column(key="lines", heading="SAYS", show=lambda lines: printable("; ".join(lines))),
)


@roles.command("list")
def list_roles(context: typer.Context) -> None:
    """List every role that can be paged, and who may hold it."""

    async def listed(device: Device) -> list[dict[str, Any]]:
        return [
            {"role": role, "holders": list(users)} for role, users in sorted(device.holders.items())
        ]

    rows = with_device(context, listed, must_connect=False)
    settings(context).printer.rows("roles", rows, HOLDERS, none="No role.")


@roles.command()
def hold(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role: a-z, 0-9, . _ -")],
    users: Annotated[list[str] | None, typer.Argument(help="Everybody who may hold it.")] = None,
    nobody: Annotated[bool, typer.Option("--nobody", help="End the role.")] = False,
) -> None:
    """Say who may hold a role, all of them; with --nobody the role ends."""
    if bool(users) is nobody:
        raise typer.BadParameter("name everybody who may hold it, or say --nobody")
    options = settings(context)

    async def held(device: Device) -> list[UserName]:
        from client.administration import hold_role
        from client.words import RoleName, UserName

        await carry_out(device, hold_role(RoleName(role), users or []), options)
        return await addressing.without_device(device, [UserName(user) for user in users or []])

    absent = with_device(context, held)
    options.printer.result(
        {"role": role, "holders": users or [], "without_device": absent},
        f"{role} may be held by {_names(users or [])}.",
    )
    if absent and not options.as_json:
        warn(f"No device yet, or mistyped: {', '.join(absent)}")


@policy.command("show")
def show_policy(context: typer.Context) -> None:
    """Show which certificates' roles may do what."""

    async def shown(device: Device) -> tuple[Policy, list[dict[str, Any]]]:
        from client.administration import ACTIONS

        rights = [
            {
                "action": word,
                "roles": [role.name.lower() for role in sorted(device.policy.roles_for(action))],
            }
            for word, action in ACTIONS.items()
        ]
        return device.policy, rights

    held, rows = with_device(context, shown, must_connect=False)
    options, rules, version = settings(context), held.devices, held.version
    if not options.as_json:
        say(f"policy {version}")
        say(
            f"devices: lease hours {rules.lease_hours}, lock minutes {rules.lock_minutes}, "
            f"keep days {rules.keep_days or 'without end'}, "
            f"hand-over hours {rules.hand_over_hours or 'none'}, "
            f"sign-out {rules.sign_out.name.lower()}"
        )
    options.printer.rows("policy", [{**row, "version": version} for row in rows], RIGHTS, none="")


@policy.command()
def allow(
    context: typer.Context,
    action: Annotated[
        str, typer.Argument(help="send, receive, view, look-up, attach, save, command, vouch.")
    ],
    who: Annotated[list[str], typer.Argument(help="Every role that may: clinician, ...")],
) -> None:
    """Set which roles may do something; the archive always may, and is added by itself.

    Sending, receiving and viewing are three rights: who may send says something, who may receive is
    in conversations, who may view reads what is said. No policy keeps a page from anybody.
    """
    options = settings(context)

    async def allowed(device: Device) -> int:
        from client import administration
        from client.words import Role

        meant = administration.ACTIONS.get(action)
        if meant is None:
            words = ", ".join(administration.ACTIONS)
            raise CommandError(Exit.USAGE, "no_action", f"An action is one of {words}.")
        named = administration.roles_of(who) | {Role.RECORDER}
        await carry_out(device, administration.allow(device.policy, meant, named), options)
        return device.policy.version + 1

    with_device(context, allowed)
    options.printer.result({"action": action, "roles": who}, f"{action}: {_names(who)}.")


@policy.command("devices")
def keep_devices(
    context: typer.Context,
    lease_hours: Annotated[
        int | None, typer.Option(help="Opens without the relay while on duty: 0 to 12 hours.")
    ] = None,
    lock_minutes: Annotated[int | None, typer.Option(help="Locks after this time unused.")] = None,
    keep_days: Annotated[int | None, typer.Option(help="Keeps messages; 0 for no end.")] = None,
    hand_over_hours: Annotated[
        int | None, typer.Option(help="A member may hand over to who came later: 0 to 72 hours.")
    ] = None,
    sign_out: Annotated[
        SignOutWord | None,
        typer.Option(help="What shared workstations do with a store at sign-out or shift's end."),
    ] = None,
) -> None:
    """Set how devices are to be kept; what is not named stays as it is."""
    options = settings(context)
    named = {
        "lease_hours": lease_hours,
        "lock_minutes": lock_minutes,
        "keep_days": keep_days,
        "hand_over_hours": hand_over_hours,
    }
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}

    async def kept(device: Device) -> dict[str, int | str]:
        from client import administration
        from client.words import SignOut

        rules = replace(device.policy.devices, **changes)
        if sign_out is not None:
            rules = replace(rules, sign_out=SignOut[sign_out.name])
        await carry_out(device, administration.keep(device.policy, rules), options)
        held = {name: getattr(rules, name) for name in named}
        return {**held, "sign_out": rules.sign_out.name.lower()}

    held = with_device(context, kept)
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in held.items())
    options.printer.result(held, f"Devices: {words}.")


@app.command()
def groups(
    context: typer.Context,
    conversation: Annotated[str, typer.Argument(help="Title, or the whole number, of a group.")],
    add: Annotated[list[str] | None, typer.Option("--add", help="Who comes in.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Who goes.")] = None,
) -> None:
    """Have people let in or out of a conversation that you do not own; its members see why."""
    options = settings(context)

    async def changed(device: Device) -> None:
        from client.administration import change_members

        act = change_members(
            addressing.conversation_id(device, conversation), add=add or [], remove=remove or []
        )
        await carry_out(device, act, options)

    with_device(context, changed)
    options.printer.result({"done": True}, "Ordered; a member's device does it within seconds.")


@app.command()
def countersign(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="The first administrator's; else a pipe.")
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without being asked.")] = False,
    to: Annotated[Path | None, typer.Option("--to", help="Write it, do not hand it in.")] = None,
) -> None:
    """Read what another administrator has signed, and sign it too."""
    options = settings(context)
    text = file.read_text() if file else sys.stdin.read()

    async def signed(device: Device) -> tuple[Described, str]:
        from client.administration import (
            armoured,
            described,
            granted,
            unarmoured,
        )
        from client.words import Purpose, StatementType

        statement = unarmoured(text)
        said = described(statement)
        if not options.as_json:
            say(f"{said.title}:")
            for line in said.lines:
                say(f"  {printable(line)}")
        await must_agree_meanwhile("Do you sign that?", yes=yes)
        both = await device.statements.countersign(statement, Purpose.ADMINISTRATOR)
        done = described(both)
        if done.kind is StatementType.DEVICE_APPROVAL:
            if not options.as_json:
                warn("Paste this on the new device, which waits for it:")
            return done, granted(both, address=device.address)
        if to is None:
            await hand_in(device, both, options)
            return done, "Signed and handed in."
        to.write_text(armoured(both))
        return done, f"Signed: {to}"

    said, answer = with_device(context, signed)
    facts = {"what": said.title, "administrators": said.administrators, "finished": said.finished}
    options.printer.result({**facts, "answer": answer}, answer)


@app.command()
def log(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = LOG_ENTRIES,
) -> None:
    """Show the control log: every administrator's act, as this device has verified it."""

    async def listed(device: Device) -> list[dict[str, Any]]:
        from client.administration import described

        said = [(one, described(one.statement)) for one in device.controls()[-limit:]]
        return [
            {
                "sequence": control.sequence,
                "at_ms": control.at_ms,
                "verified": control.verified,
                "title": words.title,
                "lines": list(words.lines),
            }
            for control, words in said
        ]

    rows = with_device(context, listed, must_connect=False)
    settings(context).printer.rows("control", rows, LOG, none="The control log is empty.")

"""``wardline admin users``: invite, import, name, reset, remove."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli.asking import must_agree
from client_cli.invitations import InvitationPages
from client_cli.output import Column, CommandError, Exit, say
from client_cli.people_file import LARGEST_BYTES, Entry, PeopleFile, end_of_day_ms, read_people
from client_cli.qr import terminal
from client_cli.session import Settings, settings, with_device
from client_cli.show import date
from client_cli.signing import Signed, carry_out, pass_on

if TYPE_CHECKING:
    from client.administration import Act, Invited
    from client.device import Device

app = typer.Typer(help="People: invite, import, name, reset, remove.", no_args_is_help=True)

PLAN = (
    Column(key="line", heading="LINE"),
    Column(key="user", heading="USER"),
    Column(key="does", heading="WHAT IS DONE"),
)


@app.command()
def invite(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="User name: a-z, 0-9, . _ -")],
    *,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="clinician, affiliate, administrator, officer."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="As colleagues say it.")] = "",
    ward: Annotated[str, typer.Option("--ward", help="Where the person works.")] = "",
    ends: Annotated[str, typer.Option("--ends", help="Last day of work here, 2027-01-31.")] = "",
    to: Annotated[
        Path | None, typer.Option("--to", help="File for the second administrator's part.")
    ] = None,
) -> None:
    """Invite a person: one device, once, within fourteen days. Hand the link over in person."""
    options = settings(context)
    ends_ms = _end(ends)

    async def invited(device: Device) -> tuple[Invited, Signed]:
        from client.administration import roles_of

        entry = Entry(
            line=0,
            user=user,
            name=name,
            ward=ward,
            roles=tuple(role or ["clinician"]),
            ends_ms=ends_ms,
        )
        roles_of(entry.roles)
        _must_last(device, ends_ms)
        return await _invite(device, entry, options)

    made, signed = with_device(context, invited)
    facts = {"user": user, "link": made.link, "finished": signed.finished}
    if options.as_json:
        options.printer.result(
            facts if signed.finished else {**facts, "statement": signed.armour}, ""
        )
        return
    say(terminal(made.link))
    say(made.link)
    if not signed.finished:
        pass_on(signed, to)


def _end(day: str) -> int | None:
    try:
        return end_of_day_ms(day) if day else None
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{day!r} is no day; write 2027-01-31") from None


def _must_last(device: Device, ends_ms: int | None) -> None:
    """Make sure that a last day of work is to come: by the invitation nobody could enrol else.

    Raises:
        InvalidError: It is over.
    """
    from client.words import InvalidError

    if ends_ms is not None and ends_ms <= device.now_ms():
        day = datetime.fromtimestamp(ends_ms / 1000, UTC).date()
        raise InvalidError(f"the last day of work is to come, and {day} is over")


async def _invite(
    device: Device, entry: Entry, options: Settings, *, pages: InvitationPages | None = None
) -> tuple[Invited, Signed]:
    """Name a person and sign the invitation; its page is on the disk before it counts."""
    from client import administration

    made = administration.invite(
        entry.user,
        roles=administration.roles_of(entry.roles),
        ends_ms=entry.ends_ms,
        address=device.address,
    )
    if entry.name:
        named = administration.name_person(entry.user, display_name=entry.name, ward=entry.ward)
        await carry_out(device, named, options)
    if pages is not None:
        pages.add(entry.user, made.link, name=entry.name, ward=entry.ward)
    return made, await carry_out(device, made.act, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an import does.

    Attributes:
        new: People who are invited.
        known: People who have a device here already: nothing is done about them.
        together: People whom two administrators invite: nothing is done about them.
    """

    new: tuple[Entry, ...]
    known: tuple[Entry, ...]
    together: tuple[Entry, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return a line for each person, in the file's order."""
        does = {
            **dict.fromkeys(self.new, "is invited"),
            **dict.fromkeys(self.known, "is here already, nothing"),
            **dict.fromkeys(self.together, "nothing: invite by hand, with a second administrator"),
        }
        ordered = sorted(does, key=lambda entry: entry.line)
        return [{"line": one.line, "user": one.user, "does": does[one]} for one in ordered]


@app.command("import")
def import_people(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: user,name,ward,roles,ends", exists=True)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    pages: Annotated[
        Path | None, typer.Option("--pages", help="File for printable invitations (HTML).")
    ] = None,
) -> None:
    """Invite everybody in a file: all of it is checked before anything is done."""
    options = settings(context)
    found = _read(file)
    if pages is None and not dry_run:
        raise typer.BadParameter("where do the invitations go? give --pages FILE.html")
    if pages is not None and not dry_run and pages.exists():
        raise typer.BadParameter(
            f"{pages} is there already, and may hold invitations that count: hand them over or "
            "name another file"
        )

    async def imported(device: Device) -> Plan:
        plan = await _planned(device, found)
        if pages is not None and not dry_run:
            with InvitationPages(pages) as paper:
                for entry in plan.new:
                    await _invite(device, entry, options, pages=paper)
        return plan

    plan = with_device(context, imported)
    options.printer.rows("people", plan.rows(), PLAN, none="The file names nobody.")
    if plan.new and not options.as_json and not dry_run:
        say(f"{len(plan.new)} invited. Print {pages}, hand the pages over, destroy the file.")


def _read(file: Path) -> PeopleFile:
    """Return a file that has no problem.

    Raises:
        CommandError: It has, or cannot be read.
    """
    if file.stat().st_size > LARGEST_BYTES:
        raise CommandError(
            Exit.USAGE, "too_large", f"{file} is no list of people: it is too large."
        )
    try:
        found = read_people(file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        text = f"{file} is not UTF-8. Save it anew as CSV UTF-8."
        raise CommandError(Exit.USAGE, "not_utf8", text) from None
    if found.problems:
        lines = "\n".join(f"  line {problem.line}: {problem.what}" for problem in found.problems)
        text = f"Nothing was done, because of\n{lines}"
        raise CommandError(Exit.USAGE, "bad_file", text, problems=len(found.problems))
    return found


async def _planned(device: Device, found: PeopleFile) -> Plan:
    """Return what is done about each person; names and roles are checked on the way."""
    from client import administration
    from client.words import UserName

    new: list[Entry] = []
    known: list[Entry] = []
    together: list[Entry] = []
    await device.look_up([UserName(entry.user) for entry in found.entries])
    for entry in found.entries:
        try:
            act = administration.invite(
                entry.user,
                roles=administration.roles_of(entry.roles),
                ends_ms=entry.ends_ms,
                address=device.address,
            ).act
            administration.name_person(entry.user, display_name=entry.name, ward=entry.ward)
            _must_last(device, entry.ends_ms)
        except Exception as error:
            text = f"Nothing was done, because of\n  line {entry.line}: {_rule(error)}"
            raise CommandError(Exit.USAGE, "bad_file", text, problems=1) from error
        here = device.devices(UserName(entry.user))
        (known if here else new if act.administrators == 1 else together).append(entry)
    return Plan(new=tuple(new), known=tuple(known), together=tuple(together))


def _rule(error: Exception) -> str:
    return str(getattr(error, "rule", type(error).__name__))


@app.command()
def name(
    context: typer.Context,
    user: str,
    display_name: Annotated[str, typer.Argument(help="As colleagues say it.")],
    ward: Annotated[str, typer.Option("--ward")] = "",
) -> None:
    """Give a person name and ward in everybody's directory."""
    from client import administration

    act = administration.name_person(user, display_name=display_name, ward=ward)
    _carry_out(context, act, f"{user} is called {display_name} now.")


@app.command()
def reset(context: typer.Context, user: str) -> None:
    """Let a person set password and one-time codes anew, with one of their devices."""
    from client import administration

    options, act = settings(context), administration.reset_account(user)

    async def done(admin: Device) -> None:
        await _must_be_here(admin, user)
        await carry_out(admin, act, options)

    with_device(context, done)
    options.printer.result({"done": True}, f"{user} sets both anew.")


async def _must_be_here(admin: Device, user: str) -> None:
    """Make sure that a name is somebody's with a device: a mistyped one would change nothing.

    Raises:
        CommandError: It is nobody's.
    """
    from client.words import UserName

    await admin.look_up([UserName(user)])
    if not admin.devices(UserName(user)):
        text = f"Nobody called {user} has a device. Look: wardline people NAME"
        raise CommandError(Exit.UNKNOWN, "no_person", text)


@app.command()
def remove(
    context: typer.Context,
    user: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a person leave: every device revoked at once, out of every conversation, and wiped.

    The first wipe of an hour is carried out at once; each further one waits, shut, until a second
    administrator confirms it.
    """
    must_agree(f"Every device of {user} loses access now. Is that meant?", yes=yes)
    options = settings(context)
    wiped, left = with_device(context, lambda admin: _removed(admin, user, options))
    more = f" Wipes ordered: {', '.join(wiped)}; see wardline admin wipes." if wiped else ""
    lines = "".join(f"\n  {line}" for line in left)
    options.printer.result(
        {"done": True, "wipes": wiped, "still_on_call": left},
        f"{user} has left.{more}" + (f" To be replaced:{lines}" if left else ""),
    )


async def _removed(admin: Device, user: str, options: Settings) -> tuple[list[str], list[str]]:
    """Remove a person, and order the wipe of every device; return these, and what they leave."""
    from client import administration, oncall_admin
    from client.orders import wipes
    from client.words import UserName

    act = administration.remove_person(user)
    await admin.look_up([UserName(user)])
    ordered = {one.device for one in wipes(admin.controls())}
    devices = [one.device for one in admin.devices(UserName(user)) if one.device not in ordered]
    known = [identity for one in devices if (identity := admin.identity(one)) is not None]
    await carry_out(admin, act, options)
    for identity in known:
        order = administration.wipe(identity, administration.REASONS["left"])
        await carry_out(admin, order, options)
    everybody = {one.user for one in admin.directory()} - {UserName(user)}
    asked = oncall_admin.absent(admin.on_call, admin.holders, everybody, at_ms=admin.now_ms())
    left = [line for line in asked if line.startswith(f"{user}:")]
    return [identity.name for identity in known], left


def _carry_out(context: typer.Context, act: Act, done: str) -> None:
    options = settings(context)
    with_device(context, lambda device: carry_out(device, act, options))
    options.printer.result({"done": True}, done)


PEOPLE = (
    Column(key="user", heading="USER"),
    Column(key="name", heading="NAME"),
    Column(key="device", heading="DEVICE"),
    Column(key="certified_until_ms", heading="CERTIFIED UNTIL", show=date),
)


@app.command()
def devices(
    context: typer.Context, user: Annotated[list[str], typer.Argument(help="User names.")]
) -> None:
    """List the devices of people."""

    async def listed(device: Device) -> list[dict[str, Any]]:
        from client.words import UserName

        users = [UserName(one) for one in user]
        await device.look_up(users)
        names = {one.user: one.name for one in device.directory()}
        return [
            {
                "user": one,
                "name": names.get(one, one),
                "device": view.device,
                "certified_until_ms": view.certified_until_ms,
                "revoked": view.revoked,
            }
            for one in users
            for view in device.devices(one)
        ]

    rows = with_device(context, listed)
    settings(context).printer.rows("devices", rows, PEOPLE, none="No device.")
    if absent := sorted(set(user) - {row["user"] for row in rows}):
        text = f"No device, or mistyped: {', '.join(absent)}. Look: wardline people NAME"
        raise CommandError(Exit.UNKNOWN, "no_device", text)

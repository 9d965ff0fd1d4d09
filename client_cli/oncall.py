"""``wardline admin oncall``: roles, schedules, overrides, imports, coverage; each change is signed.

A ward's plan is a file that people keep; what comes up from day to day are overrides, swaps and
shifts on offer. Before anything is signed, ``--what-if`` says whom it would move.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli.output import Column, CommandError, Exit, say
from client_cli.session import settings, with_device
from client_cli.show import date, printable
from client_cli.signing import carry_out

if TYPE_CHECKING:
    from client.device import Device
    from client.duty import RoleView
    from client.words import UserName

NO_ROLE = "There is no role with a plan."

app = typer.Typer(
    help="Who is on call: roles, schedules, overrides, imports, coverage.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DAY_MS = 24 * 3600 * 1000
DAYS = 28
"""Days that are looked ahead unless more are asked for: four weeks of a rota."""
SIGNS = 112
"""Signs of the picture of a role's coverage: what a wide terminal shows beside the role."""


def _listed(people: Iterable[str]) -> str:
    return ", ".join(people) or "-"


BOARD = (
    Column(key="role", heading="ROLE"),
    Column(key="on_call", heading="ON CALL", show=_listed),
    Column(key="until_ms", heading="UNTIL", show=date),
    Column(key="following", heading="THEN", show=_listed),
    Column(key="fallback", heading="ELSE", show=_listed),
    Column(key="unreachable", heading="CANNOT BE WOKEN", show=_listed),
)
MOVES = (
    Column(key="role", heading="ROLE"),
    Column(key="user", heading="WHO"),
    Column(key="gains", heading="", show=lambda gains: "comes on" if gains else "goes off"),
    Column(key="start_ms", heading="FROM", show=date),
    Column(key="end_ms", heading="TO", show=date),
)

Zone = Annotated[
    str | None, typer.Option("--zone", help="Zone of times without an offset; else the role's.")
]
WhatIf = Annotated[bool, typer.Option("--what-if", help="Say whom it would move; sign nothing.")]


class _Refused:
    """Turns what a plan or an argument breaks into an error for whoever typed it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from client.calendars.feed import FeedError
        from client.oncall_admin import UnknownRoleError
        from client.oncall_plans import PlanError
        from client.words import InvalidError

        if isinstance(error, UnknownRoleError):
            text = f"There is no role {printable(error.role)}."
            raise CommandError(Exit.UNKNOWN, "no_role", text) from None
        if isinstance(error, InvalidError):
            raise CommandError(Exit.USAGE, "rule", f"That breaks a rule: {error.rule}.") from None
        if isinstance(error, PlanError | FeedError):
            raise CommandError(Exit.USAGE, "plan", printable(str(error))) from None


def _change(context: typer.Context, make: Callable[[Device], list[Any]], *, what_if: bool) -> None:
    """Sign and hand in what ``make`` gives, or say whom it would move."""
    options = settings(context)

    async def changed(device: Device) -> tuple[int, list[dict[str, Any]], list[str]]:
        from client import oncall_admin

        with _Refused():
            commands = make(device)
            later = oncall_admin.after(device.on_call, commands, now_ms=device.now_ms())
            moves = _moves(device, later)
        if not what_if:
            for act in oncall_admin.acts(commands):
                await carry_out(device, act, options)
        return len(commands), moves, oncall_admin.unplanned(later, device.holders)

    count, moves, wrong = with_device(context, changed, must_connect=not what_if)
    if options.as_json:
        signed = 0 if what_if else count
        options.printer.result({"moves": moves, "signed": signed, "findings": wrong}, "")
    else:
        options.printer.rows("moves", moves, MOVES, none="Nobody is moved within four weeks.")
        done = "Nothing was signed." if what_if else f"{count} signed and in force."
        for line in (done, *wrong):
            say(line)


def _moves(device: Device, later: Any) -> list[dict[str, Any]]:
    from client import oncall_admin

    now_ms = device.now_ms()
    found = oncall_admin.moved(
        device.on_call, later, start_ms=now_ms, end_ms=now_ms + DAYS * DAY_MS
    )
    return [
        {
            "role": role,
            "user": move.user,
            "gains": move.gains,
            "start_ms": move.start_ms,
            "end_ms": move.end_ms,
        }
        for role, moves in found.items()
        for move in moves
    ]


def _instant(device: Device, role: str, text: str, zone: str | None) -> int:
    from client import oncall_admin

    plan = oncall_admin.plan_of(device.on_call, role)
    return oncall_admin.instant(text, zone or plan.schedule(device.now_ms()).zone)


# Seeing.


@app.command()
def now(context: typer.Context) -> None:
    """Show who is on call for every role, until when, who comes next, and who cannot be woken."""
    options = settings(context)

    async def looked(device: Device) -> list[dict[str, Any]]:
        board = device.duty.board()
        people = {user for view in board for user in view.on_call}
        wakes: Mapping[Any, bool] = {}
        if device.status.online and people:
            wakes = await device.duty.wakeable(people)
        return [
            {
                "role": view.role,
                "on_call": list(view.on_call),
                "until_ms": view.until_ms,
                "following": list(view.following),
                "fallback": list(view.fallback),
                "unreachable": [user for user in view.on_call if not wakes.get(user, True)],
            }
            for view in board
        ]

    rows = with_device(context, looked, must_connect=False)
    options.printer.rows("roles", rows, BOARD, none="No role has a schedule.")


@app.command()
def coverage(
    context: typer.Context,
    days: Annotated[int, typer.Option("--days", min=1, max=366)] = DAYS,
) -> None:
    """Show how the next weeks are covered, gaps in red, and what is wrong; ends with 9 if it is."""
    options = settings(context)

    async def looked(device: Device) -> tuple[list[dict[str, Any]], list[str]]:
        from client import oncall_admin
        from client.calendars import importing

        start_ms = device.now_ms()
        end_ms = start_ms + days * DAY_MS
        with _Refused():
            found = oncall_admin.covered(device.on_call, start_ms=start_ms, end_ms=end_ms)
            wrong = oncall_admin.lint(
                device.on_call, device.holders, start_ms=start_ms, end_ms=end_ms
            )
        wrong += await _unreachable(device)
        wrong += importing.alarms(device.store.cache, device.on_call, now_ms=start_ms)
        column_ms = -(-(end_ms - start_ms) // SIGNS)
        return [
            {
                "role": one.role,
                "percent": one.percent,
                "gaps": [[gap.start_ms, gap.end_ms] for gap in one.gaps],
                "picture": one.picture(start_ms, end_ms, column_ms=column_ms),
            }
            for one in found
        ], wrong

    rows, wrong = with_device(context, looked, must_connect=False)
    if options.as_json:
        options.printer.result({"roles": rows, "findings": wrong}, "")
    else:
        for row in rows:
            picture = row["picture"].replace("!", typer.style("!", fg="red", bold=True))
            say(f"{row['role']:<20} {row['percent']:>3} % {picture}")
        for finding in wrong:
            say(finding)
        if not rows and not wrong:
            say(NO_ROLE)
    if wrong:
        raise typer.Exit(Exit.CHECK_FAILED)


async def _unreachable(device: Device) -> list[str]:
    """Return whom no page reaches: nobody's device stands, or none hears the relay now."""
    from client import oncall_admin

    now_ms, plans = device.now_ms(), device.on_call.plans
    people = {user for plan in plans.values() for user in plan.schedule(now_ms).people()}
    people |= {user for plan in plans.values() for user in plan.fallback}
    people |= {user for users in device.holders.values() for user in users}
    if device.status.online:
        await device.look_up(sorted(user for user in people if not device.devices(user)))
    present = {user for user in people if any(not d.revoked for d in device.devices(user))}
    found = oncall_admin.absent(device.on_call, device.holders, present, at_ms=now_ms)
    on_call = {user for view in device.duty.board() for user in view.on_call} & present
    if device.status.online and on_call:
        wakes = await device.duty.wakeable(on_call)
        found += [
            f"{user}: on call, and cannot be woken" for user in sorted(on_call) if not wakes[user]
        ]
    return found


@app.command()
def who(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    at: Annotated[str, typer.Option("--at", help="When, like 2026-11-23T08:00.")],
    known: Annotated[
        str | None, typer.Option("--known", help="As it was known then; else now.")
    ] = None,
    zone: Zone = None,
) -> None:
    """Say who was on call at a time, as it was known at another."""
    options = settings(context)

    async def looked(device: Device) -> list[str]:
        from client import oncall_admin

        with _Refused():
            at_ms = _instant(device, role, at, zone)
            known_ms = device.now_ms() if known is None else _instant(device, role, known, zone)
            told = oncall_admin.as_known(device.controls(), known_ms=known_ms, trust=device.trust)
            return list(oncall_admin.who_was(told, role, at_ms=at_ms, known_ms=known_ms))

    people = with_device(context, looked, must_connect=False)
    options.printer.result({"role": role, "on_call": people}, _listed(people))


def _called(view: RoleView, users: Iterable[UserName]) -> str:
    """Return people with the number by which each is called, where there is one."""
    numbers = ((user, view.numbers.get(user)) for user in users)
    return _listed(f"{user} (tel. {number})" if number else user for user, number in numbers)


@app.command("print")
def print_sheet(context: typer.Context) -> None:
    """Print the on-call and telephone sheet on paper: who is on call, until when, who else."""

    async def looked(device: Device) -> list[str]:
        lines = [f"On call at {date(device.now_ms())}", ""]
        for view in device.duty.board():
            until = f" until {date(view.until_ms)}" if view.until_ms else ""
            own = f" (tel. {view.number})" if view.number else ""
            lines.append(f"{view.role}{own}: {_called(view, view.on_call)}{until}")
            following, fallback = _called(view, view.following), _called(view, view.fallback)
            lines.append(f"    then {following}; else {fallback}")
            lines += [f"    tel. {user}: {number}" for user, number in view.numbers.items()]
        return lines if device.duty.board() else [*lines, NO_ROLE]

    lines = with_device(context, looked, must_connect=False)
    settings(context).printer.result({"lines": lines}, "\n".join(lines))


@app.command()
def export(
    context: typer.Context,
    role: Annotated[str | None, typer.Argument(help="The role; else all.")] = None,
) -> None:
    """Write shifts as iCalendar to standard output."""

    async def looked(device: Device) -> bytes:
        from client import oncall_admin

        with _Refused():
            return oncall_admin.exported(device.on_call, role=role, now_ms=device.now_ms())

    calendar = with_device(context, looked, must_connect=False).decode()
    options = settings(context)
    if options.as_json:
        options.printer.result({"calendar": calendar}, "")
    else:
        sys.stdout.write(calendar)


# Changing.


@app.command()
def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The plan, TOML.", exists=True)],
    *,
    what_if: WhatIf = False,
) -> None:
    """Make what a plan's file says true; applying it again does nothing."""

    def make(device: Device) -> list[Any]:
        from client.oncall_plans import missing

        return missing(
            file.read_text(),
            device.on_call,
            holders=device.holders,
            owner=device.user,
            now_ms=device.now_ms(),
        )

    _change(context, make, what_if=what_if)


@app.command()
def override(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    begin: Annotated[str, typer.Option("--from", help="Start, like 2026-11-23T08:00.")],
    end: Annotated[str, typer.Option("--to", help="End.")],
    *,
    add: Annotated[str | None, typer.Option("--add", help="Who comes on call.")] = None,
    remove: Annotated[str | None, typer.Option("--remove", help="Who goes off call.")] = None,
    zone: Zone = None,
    what_if: WhatIf = False,
) -> None:
    """Add, remove or replace somebody for a while."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin
        from client.words import UserName

        return [
            oncall_admin.overridden(
                oncall_admin.plan_of(device.on_call, role),
                start_ms=_instant(device, role, begin, zone),
                end_ms=_instant(device, role, end, zone),
                added=UserName(add) if add else None,
                removed=UserName(remove) if remove else None,
            )
        ]

    _change(context, make, what_if=what_if)


@app.command("remove")
def remove_change(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    name: Annotated[str, typer.Argument(help="The change, as coverage and log name it.")],
    *,
    what_if: WhatIf = False,
) -> None:
    """Take an override or swap out; what it covered is back."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin

        return [oncall_admin.removed(oncall_admin.plan_of(device.on_call, role), name)]

    _change(context, make, what_if=what_if)


@app.command()
def swap(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    first: Annotated[str, typer.Argument(help="Whose shift it is.")],
    begin: Annotated[str, typer.Option("--from", help="Its start, like 2026-11-23T08:00.")],
    end: Annotated[str, typer.Option("--to", help="Its end.")],
    second: Annotated[str, typer.Option("--with", help="Who takes it, and gives one of theirs.")],
    their_begin: Annotated[str, typer.Option("--their-from", help="Start of theirs.")],
    their_end: Annotated[str, typer.Option("--their-to", help="End of theirs.")],
    *,
    zone: Zone = None,
    what_if: WhatIf = False,
) -> None:
    """Let two people exchange shifts."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin
        from client.words import UserName

        def at(text: str) -> int:
            return _instant(device, role, text, zone)

        plan = oncall_admin.plan_of(device.on_call, role)
        swap = oncall_admin.swap_of(
            plan,
            first=UserName(first),
            second=UserName(second),
            spans=((at(begin), at(end)), (at(their_begin), at(their_end))),
        )
        return [oncall_admin.swapped(plan, swap)]

    _change(context, make, what_if=what_if)


@app.command()
def number(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    dial: Annotated[str, typer.Argument(help="As it is dialled; empty for none.")],
    user: Annotated[str | None, typer.Option("--of", help="Whose; else the role's own.")] = None,
) -> None:
    """Say by which telephone number a role or one of its people is called."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin
        from client.words import UserName

        plan = oncall_admin.plan_of(device.on_call, role)
        return [oncall_admin.numbered(plan, user=UserName(user) if user else None, number=dial)]

    _change(context, make, what_if=False)


@app.command()
def offer(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    begin: Annotated[str, typer.Option("--from", help="Start.")],
    end: Annotated[str, typer.Option("--to", help="End.")],
    until: Annotated[
        str | None, typer.Option("--until", help="Until when it may be claimed; else its start.")
    ] = None,
    zone: Zone = None,
) -> None:
    """Offer a shift to everybody who may hold the role; the first claim has it."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin

        return [
            oncall_admin.offered(
                oncall_admin.plan_of(device.on_call, role),
                start_ms=_instant(device, role, begin, zone),
                end_ms=_instant(device, role, end, zone),
                until_ms=None if until is None else _instant(device, role, until, zone),
            )
        ]

    _change(context, make, what_if=False)


@app.command()
def withdraw(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    name: Annotated[str, typer.Argument(help="The offer.")],
) -> None:
    """Offer a shift no longer."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin

        return [oncall_admin.withdrawn(oncall_admin.plan_of(device.on_call, role), name)]

    _change(context, make, what_if=False)


@app.command("delete")
def delete_role(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    *,
    what_if: WhatIf = False,
) -> None:
    """Delete a role's schedule."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin

        return [oncall_admin.deleted(oncall_admin.plan_of(device.on_call, role))]

    _change(context, make, what_if=what_if)


@app.command("import")
def import_calendar(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    file: Annotated[Path, typer.Argument(help="What was fetched.", exists=True)],
    begin: Annotated[str, typer.Option("--from", help="Start of the span.")],
    end: Annotated[str, typer.Option("--to", help="End of the span, a quarter at most.")],
    *,
    form: Annotated[str, typer.Option("--format", help="ical, amion or csv.")] = "ical",
    service: Annotated[str | None, typer.Option("--service", help="This one alone.")] = None,
    people: Annotated[
        Path | None, typer.Option("--people", help="CSV: name in the calendar, user.")
    ] = None,
    zone: Zone = None,
    what_if: WhatIf = False,
) -> None:
    """Take shifts over from another program's calendar; every change of ours stays above them."""

    def make(device: Device) -> list[Any]:
        from client import oncall_admin
        from client.calendars import importing
        from client.calendars.feed import FeedError

        plan, now_ms = oncall_admin.plan_of(device.on_call, role), device.now_ms()
        try:
            brought = importing.brought(
                file.read_bytes(),
                plan,
                form=form,
                zone=zone or plan.schedule(now_ms).zone,
                span=(_instant(device, role, begin, zone), _instant(device, role, end, zone)),
                people=_people(device, people),
                service=service,
            )
        except FeedError as error:
            importing.note(device.store.cache, plan.role, now_ms=now_ms, error=error)
            raise
        importing.note(device.store.cache, plan.role, now_ms=now_ms)
        if brought.unknown:
            names = printable("; ".join(brought.unknown))
            raise CommandError(
                Exit.USAGE, "unknown_people", f"The calendar names people without a user: {names}."
            )
        return [brought.command] if brought.changed else []

    _change(context, make, what_if=what_if)


def _people(device: Device, file: Path | None) -> dict[str, Any]:
    """Return users by what a calendar calls them; users and display names stand for themselves."""
    from client.words import UserName

    found = {}
    for person in device.directory():
        found[person.user] = found[person.name] = person.user
    if file is not None:
        with file.open(newline="") as table:
            found.update({row[0]: UserName(row[1]) for row in csv.reader(table) if len(row) > 1})
    return found

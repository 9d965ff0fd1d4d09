"""``wardline duty``: a person's own side of on call: the board, quiet hours, shifts, calendar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing, pager
from client_cli.asking import must_agree_meanwhile
from client_cli.oncall import BOARD, _instant, _listed, _Refused
from client_cli.output import Column, CommandError, Exit
from client_cli.session import settings, with_device
from client_cli.show import date, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.words import AgreeSwap, DropSwap, Proposal

app = typer.Typer(
    help="On call: the board, your quiet hours, your shifts, shifts on offer, your calendar.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

app.registered_commands.extend(pager.app.registered_commands)

OFFERS = (
    Column(key="role", heading="ROLE"),
    Column(key="name", heading="OFFER"),
    Column(key="start_ms", heading="FROM", show=date),
    Column(key="end_ms", heading="TO", show=date),
    Column(key="until_ms", heading="CLAIM BEFORE", show=date),
)

SWAPS = (
    Column(key="role", heading="ROLE"),
    Column(key="name", heading="SWAP"),
    Column(key="first", heading="WHO"),
    Column(key="first_start_ms", heading="GIVES", show=date),
    Column(key="first_end_ms", heading="UNTIL", show=date),
    Column(key="second", heading="TO"),
    Column(key="second_start_ms", heading="FOR THE ONE OF", show=date),
    Column(key="second_end_ms", heading="UNTIL", show=date),
    Column(key="waits_for", heading="WAITS FOR"),
    Column(key="code", heading="CODE"),
)


def _try(device: Device, request: AgreeSwap | DropSwap) -> None:
    """Raise the rule that a request breaks, as this device knows the role: the relay says none."""
    device.on_call.requested(
        request, user=device.user, holders=device.holders, at_ms=device.now_ms()
    )


@app.command()
def board(context: typer.Context) -> None:
    """Show who is on call; works without network."""

    async def looked(device: Device) -> list[dict[str, Any]]:
        return [
            {
                "role": view.role,
                "on_call": list(view.on_call),
                "until_ms": view.until_ms,
                "following": list(view.following),
                "fallback": list(view.fallback),
            }
            for view in device.duty.board()
        ]

    rows = with_device(context, looked, must_connect=False)
    settings(context).printer.rows("roles", rows, BOARD[:-1], none="No role has a schedule.")


@app.command()
def quiet(
    context: typer.Context,
    hours: Annotated[str, typer.Argument(help="Like 22:00-07:00; empty for none.")] = "",
    zone: Annotated[str, typer.Option("--zone", help="Their zone.")] = "UTC",
    until: Annotated[str | None, typer.Option("--until", help="Do not disturb until then.")] = None,
) -> None:
    """Set your quiet hours: what is not urgent waits, and STAT comes through while on call."""

    async def asked(device: Device) -> None:
        from client import oncall_admin

        with _Refused():
            until_ms = None if until is None else oncall_admin.instant(until, zone)
            request = oncall_admin.quiet_hours(
                device.on_call, device.user, zone=zone, hours=hours, until_ms=until_ms
            )
        await device.statements.request(request.encode())

    with_device(context, asked)
    settings(context).printer.result({"quiet": hours}, f"Quiet: {hours or 'never'}.")


@app.command("hand-over")
def hand_over(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    to: Annotated[str, typer.Argument(help="Who takes it.")],
    begin: Annotated[str, typer.Option("--from", help="Start.")],
    end: Annotated[str, typer.Option("--to", help="End.")],
) -> None:
    """Give your own shift to somebody who may hold the role, where the role allows it."""

    async def asked(device: Device) -> None:
        from client import oncall_admin
        from client.words import UserName

        with _Refused():
            request = oncall_admin.handed_over(
                oncall_admin.plan_of(device.on_call, role),
                giver=device.user,
                to=UserName(to),
                start_ms=_instant(device, role, begin, None),
                end_ms=_instant(device, role, end, None),
            )
        await device.statements.request(request.encode())

    with_device(context, asked)
    settings(context).printer.result({"role": role, "to": to}, f"{to} has your shift.")


@app.command()
def swap(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    begin: Annotated[str, typer.Option("--from", help="Start of your shift.")],
    end: Annotated[str, typer.Option("--to", help="Its end.")],
    other: Annotated[str, typer.Option("--with", help="Who takes it, and gives one of theirs.")],
    their_begin: Annotated[str, typer.Option("--their-from", help="Start of theirs.")],
    their_end: Annotated[str, typer.Option("--their-to", help="Its end.")],
) -> None:
    """Propose to swap shifts with somebody; it holds once they have agreed, and not before."""

    async def asked(device: Device) -> str:
        from client import oncall_admin
        from client.words import AgreeSwap, UserName

        with _Refused():
            plan = oncall_admin.plan_of(device.on_call, role)
            mine, theirs = (
                (_instant(device, role, start, None), _instant(device, role, stop, None))
                for start, stop in ((begin, end), (their_begin, their_end))
            )
            made = oncall_admin.swap_of(
                plan, first=device.user, second=UserName(other), spans=(mine, theirs)
            )
            request = AgreeSwap(role=plan.role, swap=made)
            _try(device, request)
        await device.statements.request(request.encode())
        return made.name

    name = with_device(context, asked)
    text = (
        f"{name} waits for {other}, who agrees with: wardline duty agree {role} {name}\n"
        "Until then each keeps their own shift."
    )
    settings(context).printer.result({"role": role, "name": name, "with": other}, text)


@app.command()
def swaps(context: typer.Context) -> None:
    """List the swaps that wait for somebody's word."""

    async def looked(device: Device) -> list[dict[str, Any]]:
        from client import oncall_admin

        return [
            {
                "role": view.role,
                "name": one.swap.name,
                "first": one.swap.first,
                "first_start_ms": one.swap.first_start_ms,
                "first_end_ms": one.swap.first_end_ms,
                "second": one.swap.second,
                "second_start_ms": one.swap.second_start_ms,
                "second_end_ms": one.swap.second_end_ms,
                "waits_for": one.waits_for,
                "code": oncall_admin.swap_code(view.role, one.swap),
            }
            for view in device.duty.board()
            for one in view.proposals
        ]

    rows = with_device(context, looked, must_connect=False)
    settings(context).printer.rows("swaps", rows, SWAPS, none="No swap waits for anybody.")


@app.command()
def agree(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    name: Annotated[str, typer.Argument(help="The swap, as `swaps` names it.")],
    *,
    no: Annotated[bool, typer.Option("--no", help="Decline it, or take your own back.")] = False,
    code: Annotated[
        str | None, typer.Option("--only", help="Do not ask: agree to the swap of this code alone.")
    ] = None,
) -> None:
    """Agree to a swap that somebody has proposed to you: from then on it holds."""

    def outcome(found: Proposal) -> str:
        swap = found.swap
        return (
            f"{swap.second} has {role} from {date(swap.first_start_ms)}"
            f" to {date(swap.first_end_ms)}, and {swap.first}"
            f" from {date(swap.second_start_ms)} to {date(swap.second_end_ms)}."
        )

    async def asked(device: Device) -> Proposal:
        from client import oncall_admin
        from client.words import AgreeSwap, DropSwap

        with _Refused():
            plan = oncall_admin.plan_of(device.on_call, role)
            found = next((one for one in plan.proposals if one.swap.name == name), None)
            if found is None:
                text = f"No swap {printable(name)} waits: wardline duty swaps lists those that do."
                raise CommandError(Exit.UNKNOWN, "no_swap", text)
            # Whoever proposed it may have put another in its place under the same name.
            if code is not None and code != oncall_admin.swap_code(plan.role, found.swap):
                text = f"{printable(name)} is another swap now. Look again: wardline duty swaps"
                raise CommandError(Exit.REFUSED, "other_swap", text)
            told = no or code is not None
            question = f"{outcome(found)} Do you agree?"
            await must_agree_meanwhile(question, yes=told, instead="--only CODE")
            request = (
                DropSwap(role=plan.role, name=name)
                if no
                else AgreeSwap(role=plan.role, swap=found.swap)
            )
            _try(device, request)
        await device.statements.request(request.encode())
        return found

    found = with_device(context, asked)
    facts = {"role": role, "name": name, "agreed": not no}
    settings(context).printer.result(facts, f"{name} is off." if no else outcome(found))


@app.command("hand-off")
def hand_off(
    context: typer.Context,
    to: Annotated[str, typer.Argument(help="Who follows.")],
    words: Annotated[str, typer.Argument(help="What they should know.")] = "",
    *,
    subject: Annotated[str, typer.Option("--subject", help="The note's first line.")] = (
        "Shift change"
    ),
) -> None:
    """Pass your unfinished tasks and a note to whoever follows; pages pass by themselves."""
    options = settings(context)

    async def passed(device: Device) -> dict[str, Any]:
        from client import shift_change

        person = await addressing.person(device, to)
        with _Refused():
            done = await shift_change.hand_off(device, person, subject=subject, words=words)
        await device.settled(options.timeout_s)
        return {
            "to": person,
            "offered": list(done.offered),
            "kept": list(done.kept),
            "pages": done.pages,
        }

    done = with_device(context, passed)
    kept = f" These stay with you: {_listed(done['kept'])}." if done["kept"] else ""
    text = (
        f"{done['to']} has the note, and is offered {len(done['offered'])} tasks."
        f" Until they accept, all of it is yours.{kept}"
    )
    options.printer.result(done, text)


@app.command("take-over")
def take_over(
    context: typer.Context,
    *,
    look: Annotated[bool, typer.Option("--look", help="Say what waits; accept nothing.")] = False,
) -> None:
    """Accept the hand-off notes and the tasks that wait for you; pages are answered one by one."""
    options = settings(context)

    async def taken(device: Device) -> dict[str, Any]:
        from client import shift_change

        found = shift_change.waiting(device) if look else await shift_change.take_over(device)
        if not look:
            await device.settled(options.timeout_s)
        return {
            "notes": [shown.text for _, shown in found.notes],
            "tasks": [shown.text for _, shown in found.tasks],
            "pages": [{"role": page.role, "text": page.text} for page in found.pages],
        }

    found = with_device(context, taken, must_connect=not look)
    lines = [
        *(f"note: {text}" for text in found["notes"]),
        *(f"task: {text}" for text in found["tasks"]),
        *(f"page: {page['role']}: {page['text']}" for page in found["pages"]),
    ]
    options.printer.result(found, "\n".join(map(printable, lines)) or "Nothing waits for you.")


@app.command()
def offers(context: typer.Context) -> None:
    """List shifts on offer that you may take."""

    async def looked(device: Device) -> list[dict[str, Any]]:
        now_ms = device.now_ms()
        return [
            {
                "role": role,
                "name": offer.name,
                "start_ms": offer.start_ms,
                "end_ms": offer.end_ms,
                "until_ms": offer.until_ms,
            }
            for role, plan in sorted(device.on_call.plans.items())
            for offer in plan.offers
            if offer.until_ms > now_ms and device.user in device.holders.get(role, ())
        ]

    rows = with_device(context, looked, must_connect=False)
    settings(context).printer.rows("offers", rows, OFFERS, none="No shift is on offer.")


@app.command()
def claim(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    name: Annotated[str, typer.Argument(help="The offer.")],
) -> None:
    """Take a shift that is on offer; the first claim has it."""

    async def asked(device: Device) -> None:
        from client import oncall_admin

        with _Refused():
            request = oncall_admin.claimed(oncall_admin.plan_of(device.on_call, role), name)
        await device.statements.request(request.encode())

    with_device(context, asked)
    settings(context).printer.result({"role": role, "name": name}, "The shift is yours.")


@app.command()
def calendar(
    context: typer.Context,
    end: Annotated[bool, typer.Option("--end", help="End the link that there is.")] = False,
) -> None:
    """Make a link by which a calendar fetches your shifts; a new one ends the one before."""

    async def asked(device: Device) -> str:
        from client import oncall_admin

        request, secret = oncall_admin.calendar_link(device.on_call, device.user, ended=end)
        await device.statements.request(request.encode())
        where = device.address
        organisation = device.organisation.hex()
        return f"https://{where.host}:{where.port}/v1/calendars/{organisation}/{secret.hex()}"

    link = with_device(context, asked)
    text = "The link has ended." if end else link
    settings(context).printer.result({"link": None if end else link}, text)

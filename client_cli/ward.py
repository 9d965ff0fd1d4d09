"""``wardline ward``: typed messages of a ward's day, incidents from roles, and broadcasts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing
from client_cli.oncall import _Refused
from client_cli.output import CommandError, Exit
from client_cli.sending import PriorityWord, conversation_for, must_show
from client_cli.session import settings, with_device
from client_cli.show import date, message_facts, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.views import Shown
    from client.words import Content, ConversationId, Reference, UserName

app = typer.Typer(
    help="Check-ins, rooms, incidents and their timelines, broadcasts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EVENTS = 1000
"""Lines of an incident's timeline that are looked for, the newest."""

Message = Annotated[str, typer.Argument(help="The message, as `wardline read` names it.")]
To = Annotated[str, typer.Argument(help="A person, a conversation's title, or its number.")]
Zone = Annotated[str, typer.Option("--zone", help="Zone of times without an offset.")]


async def _say(
    device: Device,
    conversation: ConversationId,
    content: Content,
    *,
    timeout_s: float,
    priority: PriorityWord = PriorityWord.ROUTINE,
    ask: bool = False,
) -> Shown:
    from client.words import Priority

    shown = await device.send(
        conversation, content, priority=Priority[priority.name], acknowledgement_asked=ask
    )
    await device.settled(timeout_s)
    return must_show(shown)


def _said(context: typer.Context, shown: Shown) -> None:
    options = settings(context)
    options.printer.result(message_facts(shown), addressing.key_text(shown.key))


def _reference(device: Device, message: str) -> tuple[ConversationId, Reference]:
    from client.words import Reference

    key = addressing.message_key(device, message)
    return key.conversation, Reference(sender=key.sender, message_id=key.message_id)


# Check-ins and rooms.


@app.command("check-in")
def check_in(
    context: typer.Context,
    to: To,
    title: Annotated[str, typer.Argument(help="What it is about.")],
    questions: Annotated[list[str], typer.Argument(help="The questions, one each.")],
    *,
    answer_by: Annotated[
        str | None, typer.Option("--answer-by", help="After this it counts as unanswered.")
    ] = None,
    zone: Zone = "UTC",
) -> None:
    """Ask questions that each person answers by themselves, as before or after an operation."""
    options = settings(context)

    async def asked(device: Device) -> Shown:
        from client.oncall_admin import instant
        from client.words import CheckIn

        with _Refused():
            by_ms = 0 if answer_by is None else instant(answer_by, zone)
            content = CheckIn(title=title, questions=tuple(questions), answer_by_ms=by_ms)
        where = await conversation_for(device, to)
        return await _say(device, where, content, timeout_s=options.timeout_s)

    _said(context, with_device(context, asked))


@app.command()
def answer(
    context: typer.Context,
    message: Message,
    answers: Annotated[list[str], typer.Argument(help="One for each question.")],
) -> None:
    """Answer a check-in."""
    options = settings(context)

    async def answered(device: Device) -> Shown | None:
        from client.words import CheckInAnswer, Priority

        where, target = _reference(device, message)
        with _Refused():
            content = CheckInAnswer(target=target, answers=tuple(answers))
        shown = await device.send(where, content, priority=Priority.ROUTINE)
        await device.settled(options.timeout_s)
        return shown

    with_device(context, answered)
    options.printer.result({"answered": message}, "Answered.")


@app.command()
def room(
    context: typer.Context,
    to: To,
    name: Annotated[str, typer.Argument(help="The room or resource.")],
    begin: Annotated[str, typer.Option("--from", help="Start, like 2026-11-23T08:00.")],
    end: Annotated[str, typer.Option("--to", help="End.")],
    answer_by: Annotated[str, typer.Option("--answer-by", help="After this nobody answered.")],
    *,
    note: Annotated[str, typer.Option("--note")] = "",
    zone: Zone = "UTC",
) -> None:
    """Ask for a room or a resource, to be confirmed by a time."""
    options = settings(context)

    async def asked(device: Device) -> Shown:
        from client.oncall_admin import instant
        from client.words import RoomRequest

        with _Refused():
            content = RoomRequest(
                room=name,
                start_ms=instant(begin, zone),
                end_ms=instant(end, zone),
                answer_by_ms=instant(answer_by, zone),
                note=note,
            )
        where = await conversation_for(device, to)
        return await _say(device, where, content, timeout_s=options.timeout_s)

    _said(context, with_device(context, asked))


@app.command()
def confirm(
    context: typer.Context,
    message: Message,
    *,
    refuse: Annotated[bool, typer.Option("--refuse", help="Say no.")] = False,
) -> None:
    """Confirm a room or a resource, or refuse it."""
    options = settings(context)

    async def confirmed(device: Device) -> None:
        from client.words import Priority, RoomConfirmation

        where, target = _reference(device, message)
        content = RoomConfirmation(target=target, granted=not refuse)
        await device.send(where, content, priority=Priority.ROUTINE)
        await device.settled(options.timeout_s)

    with_device(context, confirmed)
    options.printer.result({"granted": not refuse}, "Refused." if refuse else "Confirmed.")


# Incidents.


@app.command()
def incident(
    context: typer.Context,
    title: Annotated[str, typer.Argument(help="What the incident is called.")],
    roles: Annotated[list[str], typer.Argument(help="Roles whose people on call are in it.")],
    *,
    text: Annotated[str, typer.Option("--text", help="What has happened.")],
    priority: Annotated[PriorityWord, typer.Option("--priority", "-p")] = PriorityWord.URGENT,
) -> None:
    """Open an incident with whoever is on call for some roles."""
    options = settings(context)

    async def opened(device: Device) -> ConversationId:
        from client.words import ConversationType, IncidentEvent, Stage

        users = _answering(device, roles)
        made = await device.start(ConversationType.INCIDENT, users, title=title)
        event = IncidentEvent(stage=Stage.OPENED, at_ms=device.now_ms(), text=text)
        await _say(device, made, event, timeout_s=options.timeout_s, priority=priority, ask=True)
        return made

    made = with_device(context, opened)
    short = addressing.short(made)
    options.printer.result({"conversation": made.hex(), "short": short}, f"{short} {title}")


def _answering(device: Device, roles: Iterable[str]) -> list[UserName]:
    """Return who answers for roles now, without this person."""
    board = {view.role: view for view in device.duty.board()}
    users: set[UserName] = set()
    for role in roles:
        view = board.get(role)  # type: ignore[call-overload]
        if view is None:
            text = f"There is no role {printable(role)}."
            raise CommandError(Exit.UNKNOWN, "no_role", text)
        users.update(view.on_call or view.fallback)
    return sorted(users - {device.user})


@app.command()
def event(
    context: typer.Context,
    to: To,
    text: Annotated[str, typer.Argument(help="What has happened; when closing, the report.")],
    *,
    at: Annotated[str | None, typer.Option("--at", help="When it happened; else now.")] = None,
    close: Annotated[bool, typer.Option("--close", help="Close it with this report.")] = False,
    zone: Zone = "UTC",
) -> None:
    """Add a line to an incident's timeline, or close the incident with its report."""
    options = settings(context)

    async def added(device: Device) -> Shown:
        from client.oncall_admin import instant
        from client.words import IncidentEvent, Stage

        with _Refused():
            content = IncidentEvent(
                stage=Stage.CLOSED if close else Stage.UPDATE,
                at_ms=device.now_ms() if at is None else instant(at, zone),
                text=text,
            )
        where = addressing.conversation(device, to).conversation
        return await _say(device, where, content, timeout_s=options.timeout_s)

    _said(context, with_device(context, added))


@app.command()
def timeline(context: typer.Context, to: To) -> None:
    """Print an incident's timeline, in the order in which things happened, and its report."""
    options = settings(context)

    async def looked(device: Device) -> list[dict[str, Any]]:
        from client.words import IncidentEvent

        where = addressing.conversation(device, to).conversation
        shown = device.messages(where, limit=EVENTS)
        lines = [(one, one.content) for one in shown if isinstance(one.content, IncidentEvent)]
        return [
            {
                "at_ms": content.at_ms,
                "told_ms": one.at_ms,
                "by": one.sender.partition("/")[0],
                "stage": content.stage.name.lower(),
                "text": content.text,
            }
            for one, content in sorted(lines, key=lambda pair: pair[1].at_ms)
        ]

    events = with_device(context, looked, must_connect=False)
    lines = [
        f"{date(one['at_ms'])} {one['stage']:<6} {one['by']}: {printable(one['text'])}"
        for one in events
    ]
    options.printer.result({"events": events}, "\n".join(lines) or "No incident is told there.")


# Broadcasts.


@app.command()
def broadcast(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="What is said.")],
    *,
    role: Annotated[list[str] | None, typer.Option("--role", help="Who may hold it.")] = None,
    site: Annotated[list[str] | None, typer.Option("--site", help="Who works there.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="The whole organisation.")] = False,
    title: Annotated[str, typer.Option("--title")] = "Announcement",
    priority: Annotated[PriorityWord, typer.Option("--priority", "-p")] = PriorityWord.ROUTINE,
    ask: Annotated[bool, typer.Option("--ack", help="Ask everybody to acknowledge.")] = False,
) -> None:
    """Tell roles, sites or the whole organisation; they read, and you alone write there."""
    options = settings(context)

    async def told(device: Device) -> dict[str, Any]:
        from client.words import ConversationType, Text

        users = _meant(device, roles=role or (), sites=site or (), everybody=everybody)
        with _Refused():
            content = Text(text=text)
        made = await device.start(ConversationType.ANNOUNCEMENT, users, title=title)
        shown = await _say(
            device, made, content, timeout_s=options.timeout_s, priority=priority, ask=ask
        )
        return {"conversation": made.hex(), "people": len(users), **message_facts(shown)}

    facts = with_device(context, told)
    options.printer.result(facts, f"{facts['conversation'][:8]} to {facts['people']} people")


def _meant(
    device: Device, *, roles: Iterable[str], sites: Iterable[str], everybody: bool
) -> list[UserName]:
    """Return whom a broadcast is meant for, without this person.

    Raises:
        CommandError: That is nobody.
    """
    wards = {site.casefold(): site for site in sites}
    wanted, everyone = set(roles), device.directory()
    known = {person.ward.casefold() for person in everyone}
    held = {*device.holders, *(role for person in everyone for role in person.roles)}
    # A name that is mistyped would leave out everybody of whom nobody then thinks.
    if unknown := [*sorted(wanted - held), *(wards[one] for one in sorted(wards.keys() - known))]:
        text = f"There is no role or site {printable(', '.join(unknown))}. Nothing was said."
        raise CommandError(Exit.UNKNOWN, "nobody", text)
    users = {
        person.user
        for person in everyone
        if everybody or person.ward.casefold() in wards or not wanted.isdisjoint(person.roles)
    }
    for name in wanted:
        users.update(device.holders.get(name, ()))  # type: ignore[call-overload]
    users.discard(device.user)
    if not users:
        raise CommandError(Exit.UNKNOWN, "nobody", "Nobody is meant by that.")
    return sorted(users)

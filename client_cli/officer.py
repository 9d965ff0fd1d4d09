"""``wardline officer ...``: what compliance officers do to have the archive opened, and kept."""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from client_cli.addressing import conversation_id
from client_cli.output import Column, CommandError, Exit, say
from client_cli.session import settings, with_device
from client_cli.show import date, printable, yes_or_no

if TYPE_CHECKING:
    from client.device import Device
    from client.officer import Case
    from client.officer_desk import OfficerDesk

T = TypeVar("T")

app = typer.Typer(help="Open the archive, with others: ask, approve, release; holds and keys.")

HASH_CHARACTERS = 16
"""Digits of a request's hash that commands print; as many as tell it from others will do."""

DAY_MS = 86_400_000
COLUMNS = 79
"""Of the narrowest terminal that the programs are made for, and one for the cursor."""

KEYS = (
    Column(key="bucket", heading="BUCKET"),
    Column(key="ends_ms", heading="ENDS", show=date),
    Column(key="is_over", heading="OVER", show=yes_or_no),
)
HOLDS = (
    Column(key="short", heading="HOLD"),
    Column(key="case", heading="CASE", show=printable),
    Column(
        key="from_ms",
        heading="SAID FROM",
        show=lambda at_ms: date(at_ms) if at_ms >= DAY_MS else "the beginning",
    ),
    Column(key="until_ms", heading="SAID UNTIL", show=date),
    Column(key="reason", heading="REASON", show=printable),
)
NO_HOLDS = (
    "This device knows of no hold. Those that were set before it came, the archive shows it within"
    " minutes of its coming into the officers' conversation."
)
NOTICES = (
    Column(key="at_ms", heading="TIME", show=date),
    Column(key="topic", heading="NOTICE"),
    Column(key="words", heading="", show=printable),
)

Conversations = Annotated[
    list[str] | None, typer.Argument(help="Conversations: title, number or person.")
]
Person = Annotated[
    list[str] | None, typer.Option("--person", help="Where one of these people was a member.")
]
Patient = Annotated[str, typer.Option("--patient", help="The conversation's patient reference.")]
From = Annotated[
    str,
    typer.Option("--from", help="First day or instant, as 2026-11-03T08:00; else the beginning."),
]
To = Annotated[
    str, typer.Option("--to", help="Last day, or the instant at which it ends; else now.")
]
RequestName = Annotated[str, typer.Argument(help="The request's number, or its beginning.")]
CaseName = Annotated[str, typer.Option("--case", help="The house's reference.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; every officer reads it.")]


def _at_desk(
    context: typer.Context,
    work: Callable[[OfficerDesk, Device], Awaitable[T]],
    *,
    first: Callable[[Device], None] | None = None,
) -> T:
    """Take in what has come, do ``work``, and return what came of it."""

    async def done(device: Device) -> T:
        from client.officer_desk import NoOfficersConversationError, NoQuorumError, OfficerDesk

        if first is not None:
            first(device)
        try:
            desk = OfficerDesk(device)
            await desk.sync()
            return await work(desk, device)
        except NoQuorumError:
            text = "Say first how many must agree: wardline officer begin --quorum K --officers N"
            raise CommandError(Exit.USAGE, "no_quorum", text) from None
        except NoOfficersConversationError:
            text = (
                "This device is in no officers' conversation. Where there is one, an officer who is"
                " in it lets you in: wardline add Compliance NAME. Where there is none, one of you"
                " begins it: wardline officer begin --with NAME,NAME"
            )
            raise CommandError(Exit.UNKNOWN, "no_officers_conversation", text) from None

    return with_device(context, done)


def _posting(
    context: typer.Context,
    make: Callable[[OfficerDesk, Device], Iterable[bytes]],
    text: str,
    *,
    none: str = "",
    first: Callable[[OfficerDesk], Awaitable[None]] | None = None,
) -> None:
    """Post what ``make`` gives, and say so; ``none`` where there was nothing to post.

    Args:
        context: Of the command.
        make: Returns the letters.
        text: What is said once they are out.
        none: What is said where there were none.
        first: What is waited for before.
    """
    options = settings(context)

    async def posted(desk: OfficerDesk, device: Device) -> int:
        if first is not None:
            await first(desk)
        letters = tuple(make(desk, device))
        await desk.post(letters, timeout_s=options.timeout_s)
        return len(letters)

    letters = _at_desk(context, posted)
    options.printer.result({"done": letters > 0, "letters": letters}, text if letters else none)


@app.command()
def begin(
    context: typer.Context,
    *,
    quorum: Annotated[
        int | None, typer.Option("--quorum", help="Officers who must agree, as at the ceremony.")
    ] = None,
    officers: Annotated[
        int | None, typer.Option("--officers", help="Officers in all, as at the ceremony.")
    ] = None,
    emergency: Annotated[
        int | None, typer.Option("--emergency", help="Officers who must agree in an emergency.")
    ] = None,
    others: Annotated[
        str, typer.Option("--with", help="Begin the officers' conversation with these: a,b,c.")
    ] = "",
    anew: Annotated[bool, typer.Option("--anew", help="Publish all keys once more.")] = False,
) -> None:
    """Make this officer's keys, publish them, and let the officers and the archive talk."""
    options = settings(context)

    def told(device: Device) -> None:
        from client.officer_desk import set_quorum
        from client.opening import quorum_from

        if quorum is not None:
            set_quorum(device, quorum_from(k=quorum, n=officers, emergency_k=emergency))

    async def published(desk: OfficerDesk, device: Device) -> int:
        from client.words import UserName

        keys = await desk.publish(desk.officer.begin(now_ms=desk.now_ms, anew=anew))
        if others:
            await desk.convene([UserName(name.strip()) for name in others.split(",")])
            await device.settled(options.timeout_s)
        return keys

    keys = _at_desk(context, published, first=told)
    text = (
        f"{keys} keys are published."
        if keys
        else "No key is missing. Where the archive lacks them: wardline officer begin --anew"
    )
    options.printer.result({"keys": keys}, text)


@app.command()
def keys(
    context: typer.Context,
    *,
    destroy_ended: Annotated[
        bool, typer.Option("--destroy-ended", help="Destroy the keys of buckets that are over.")
    ] = False,
    held_are_reshared: Annotated[
        bool, typer.Option("--held-are-reshared", help="Also where a hold covers a part.")
    ] = False,
) -> None:
    """Show this officer's keys, and destroy those whose end has come."""

    async def shown(desk: OfficerDesk, _: Device) -> list[dict[str, Any]]:
        if destroy_ended:
            desk.officer.destroy_ended_keys(now_ms=desk.now_ms, held_are_reshared=held_are_reshared)
        return [
            {"bucket": one.bucket.name.decode(), "ends_ms": one.ends_ms, "is_over": one.is_over}
            for one in desk.officer.keys(now_ms=desk.now_ms)
        ]

    rows = _at_desk(context, shown)
    settings(context).printer.rows("keys", rows, KEYS, none="No keys: wardline officer begin")


@app.command()
def requests(context: typer.Context) -> None:
    """Show what officers have asked for, and where each request stands."""

    async def listed(desk: OfficerDesk, _: Device) -> list[dict[str, Any]]:
        return [_facts(case) for case in desk.officer.cases(now_ms=desk.now_ms)]

    rows = _at_desk(context, listed)
    options = settings(context)
    if options.as_json or not rows:
        options.printer.rows("requests", rows, (), none="Nobody has asked for anything.")
    else:
        say("\n\n".join(map(case_text, rows)))


def case_text(row: Mapping[str, Any]) -> str:
    """Return a request as lines that a narrow terminal holds: nothing of it is left out."""
    missing = f", {row['missing']} more" if row["missing"] else ""
    urgent = "EMERGENCY  " if row["emergency"] else ""
    lines = [
        f"{urgent}{row['short']}  {row['standing']}{missing}",
        f"case {row['case']}, asked by {row['officer']}, ends {date(row['ends_ms'])}",
        f"{row['records']} records: {row['scope']['text']}",
        f"reason: {row['reason']}",
    ]
    first, *rest = (printable(line).replace("\n", " ") for line in lines)
    indent = "  "
    filled = (
        textwrap.fill(line, COLUMNS, initial_indent=indent, subsequent_indent=2 * indent)
        for line in rest
    )
    return "\n".join((first, *filled))


def _facts(case: Case) -> dict[str, Any]:
    from client.opening import told_scope

    body = case.filed.body
    return {
        "request": case.filed.hash.hex(),
        "short": case.filed.hash.hex()[:HASH_CHARACTERS],
        "case": body.case,
        "reason": body.reason,
        "officer": case.filed.officer,
        "purpose": body.purpose.name.lower(),
        "emergency": body.emergency,
        "scope": told_scope(body.scope),
        "standing": case.tally.standing.value,
        "missing": case.tally.missing,
        "approved": sorted(case.tally.approved),
        "refused": sorted(case.tally.refused),
        "waiting": sorted(case.filed.waiting),
        "records": body.most_records if case.filed.hits is None else case.filed.hits.records,
        "witnessed": case.filed.proven is not None,
        "has_shares": case.has_shares,
        "released": case.is_released,
        "ends_ms": body.ends_ms,
    }


@app.command()
def request(
    context: typer.Context,
    conversations: Conversations = None,
    *,
    case: CaseName,
    reason: Reason,
    person: Person = None,
    patient: Patient = "",
    from_: From = "",
    to: To = "",
    days: Annotated[int, typer.Option("--days", help="Days for which it may be approved.")] = 7,
    emergency: Annotated[
        bool, typer.Option("--emergency", help="By the emergency's quorum; all are told.")
    ] = False,
    reshare: Annotated[
        bool, typer.Option("--reshare", help="To share keys anew, not to read.")
    ] = False,
    count_only: Annotated[
        bool, typer.Option("--count", help="Only count what it would hit.")
    ] = False,
) -> None:
    """Ask to open conversations; a review session must wait at the archive."""
    options = settings(context)

    async def asked(desk: OfficerDesk, device: Device) -> dict[str, Any]:
        from client.opening import counted, purpose_of

        offer = await desk.offer(
            desk.scope(
                conversations=[conversation_id(device, name) for name in conversations or ()],
                people=person or (),
                patient=patient,
                from_ms=_beginning(from_),
                until_ms=_instant(to, ends=True) if to else None,
            ),
            purpose=purpose_of(reshare=reshare),
            timeout_s=options.timeout_s,
        )
        told: dict[str, Any] = counted(offer)
        if count_only:
            return told
        letters = desk.officer.request(
            offer.draft.nonce,
            case=case,
            reason=reason,
            now_ms=desk.now_ms,
            emergency=emergency,
            life_ms=days * DAY_MS,
        )
        await desk.post(letters, timeout_s=options.timeout_s)
        newest = desk.officer.cases(now_ms=desk.now_ms)[-1]
        return {**told, "request": newest.filed.hash.hex()}

    told = _at_desk(context, asked)
    name = str(told.get("request", ""))[:HASH_CHARACTERS]
    text = f"{told['records']} records in segments: {told['segments']}."
    options.printer.result(told, f"{text} Request {name} is out." if name else text)


@app.command()
def canary(context: typer.Context) -> None:
    """Ask for the quarter's opening of the canary, once the archive has offered it."""
    _posting(
        context,
        lambda desk, _: desk.officer.request_canary(desk.conversation(), now_ms=desk.now_ms),
        "Asked for. Officers approve and release it as any request.",
    )


def _beginning(text: str) -> int:
    """Return the first instant, in ms; 0 where none is said."""
    return max(0, _instant(text)) if text else 0


def _instant(text: str, *, ends: bool = False) -> int:
    """Return an instant of this machine's zone, in ms; a day's end, by the wall, where ``ends``."""
    try:
        at = datetime.fromisoformat(text)
        if ends and "T" not in text:
            at += timedelta(days=1)
        return int((at if at.tzinfo else at.astimezone()).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text} is no day or instant, as 2026-11-03T08:00") from None


def _decided(
    context: typer.Context,
    request: str,
    decide: Callable[[OfficerDesk, bytes], Iterable[bytes]],
    text: str,
    *,
    is_coming: Callable[[Case], bool],
) -> None:
    """Post what ``decide`` gives for a request, once what it needs has come from the archive."""
    timeout_s = settings(context).timeout_s

    async def come(desk: OfficerDesk) -> None:
        _found(desk, request)
        await desk.awaited(request, is_coming, timeout_s=timeout_s)

    _posting(context, lambda desk, _: decide(desk, _found(desk, request)), text, first=come)


def _found(desk: OfficerDesk, request: str) -> bytes:
    from client.words import InvalidError

    try:
        return desk.found_case(request).filed.hash
    except InvalidError:
        text = f"No one request begins with {printable(request)}. Look: wardline officer requests"
        raise CommandError(Exit.UNKNOWN, "no_request", text) from None


@app.command()
def approve(context: typer.Context, request: RequestName) -> None:
    """Approve a request, once this device has found it in a witnessed checkpoint."""
    _decided(
        context,
        request,
        lambda desk, name: desk.officer.approve(name, now_ms=desk.now_ms),
        "Approved.",
        is_coming=lambda case: case.is_unproven,
    )


@app.command()
def refuse(context: typer.Context, request: RequestName, *, reason: Reason) -> None:
    """Refuse a request, or take an approval back."""
    _decided(
        context,
        request,
        lambda desk, name: desk.officer.refuse(name, reason=reason, now_ms=desk.now_ms),
        "Refused.",
        is_coming=lambda case: case.is_unproven,
    )


@app.command()
def release(context: typer.Context, request: RequestName) -> None:
    """Release this officer's shares for an approved request, to its review session alone."""
    _decided(
        context,
        request,
        lambda desk, name: desk.officer.release(name, now_ms=desk.now_ms),
        "Released.",
        is_coming=lambda case: case.is_incomplete,
    )


@app.command()
def hold(
    context: typer.Context,
    conversations: Conversations = None,
    *,
    case: CaseName,
    reason: Reason,
    person: Person = None,
    patient: Patient = "",
    from_: From = "",
    to: To = "",
) -> None:
    """Keep what matches from being shredded, until the hold is lifted; else all of the period."""
    from client.membership import RECORDER_USER

    options = settings(context)
    # The archive is in every conversation.
    everything = not (conversations or person or patient)

    async def held(desk: OfficerDesk, device: Device) -> tuple[bytes, int]:
        scope = desk.scope(
            conversations=[conversation_id(device, name) for name in conversations or ()],
            people=(RECORDER_USER,) if everything else person or (),
            patient=patient,
            from_ms=_beginning(from_),
            until_ms=_instant(to, ends=True) if to else None,
        )
        before = set(desk.officer.holds())
        letters = desk.officer.hold(scope, case=case, reason=reason, now_ms=desk.now_ms)
        await desk.post(letters, timeout_s=options.timeout_s)
        (name,) = set(desk.officer.holds()) - before
        return name, scope.until_ms

    name, until_ms = _at_desk(context, held)
    text = f"Held until it is lifted: what was said until {date(until_ms)}."
    options.printer.result(
        {"done": True, "hold": name.hex(), "until_ms": until_ms},
        f"{text} Hold {name.hex()[:HASH_CHARACTERS]}.",
    )


@app.command()
def holds(context: typer.Context) -> None:
    """Show the holds in force."""

    async def listed(desk: OfficerDesk, _: Device) -> list[dict[str, Any]]:
        return [
            {
                "hold": name.hex(),
                "short": name.hex()[:HASH_CHARACTERS],
                "case": one.case,
                "reason": one.reason,
                "from_ms": one.scope.from_ms,
                "until_ms": one.scope.until_ms,
            }
            for name, one in desk.officer.holds().items()
        ]

    rows = _at_desk(context, listed)
    settings(context).printer.rows("holds", rows, HOLDS, none=NO_HOLDS)


@app.command()
def lift(
    context: typer.Context,
    hold: Annotated[str, typer.Argument(help="The hold's number, or its beginning.")],
    *,
    reason: Reason,
) -> None:
    """End a hold."""

    def lifted(desk: OfficerDesk, _: Device) -> Iterable[bytes]:
        found = [name for name in desk.officer.holds() if name.hex().startswith(hold.lower())]
        if len(found) != 1:
            text = f"No one hold begins with {hold}. Look: wardline officer holds"
            raise CommandError(Exit.UNKNOWN, "no_hold", text)
        return desk.officer.lift(found[0], reason=reason, now_ms=desk.now_ms)

    _posting(context, lifted, "Lifted.")


@app.command()
def liveness(context: typer.Context) -> None:
    """Show the archive that this device still holds its keys; due once a month."""
    _posting(
        context,
        lambda desk, _: desk.officer.prove_liveness(now_ms=desk.now_ms),
        "The archive's challenge is answered.",
        none="The archive has not asked this device yet. Say it again in a minute.",
    )


@app.command()
def notices(context: typer.Context) -> None:
    """Show what the archive told the officers."""

    async def listed(desk: OfficerDesk, _: Device) -> list[dict[str, Any]]:
        return [
            {
                "at_ms": at_ms,
                "topic": one.topic.name.lower(),
                "about": one.about.hex(),
                "words": one.words,
            }
            for at_ms, one in desk.officer.notices()
        ]

    rows = _at_desk(context, listed)
    settings(context).printer.rows("notices", rows, NOTICES, none="The archive has told nothing.")

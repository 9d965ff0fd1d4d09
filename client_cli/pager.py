"""``wardline duty``: pages from the command line, and whether this device can be woken."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_cli import addressing
from client_cli.asking import must_agree_meanwhile
from client_cli.oncall import _called, _instant, _Refused
from client_cli.output import CommandError, Exit, warn
from client_cli.sending import PriorityWord
from client_cli.session import settings, with_device
from client_cli.show import date, printable

if TYPE_CHECKING:
    from client.device import Device
    from client.duty import PageView

app = typer.Typer()

BELL = "\a"


class TurnWord(StrEnum):
    """Which of a role's people a page asks first."""

    NOW = "now"
    NEXT = "next"
    BACKUP = "backup"


@app.command()
def page(
    context: typer.Context,
    role: Annotated[str, typer.Argument(help="The role.")],
    text: Annotated[str, typer.Argument(help="What is the matter.")],
    *,
    priority: Annotated[PriorityWord, typer.Option("--priority", "-p")] = PriorityWord.STAT,
    turn: Annotated[
        TurnWord, typer.Option("--turn", help="Whom to ask first; then by the role's policy.")
    ] = TurnWord.NOW,
    patient: Annotated[
        str | None, typer.Option("--patient", help="Patient reference; encrypted.")
    ] = None,
) -> None:
    """Page whoever is on call for a role; says who that is, and by which number they are called."""
    options = settings(context)

    async def paged(device: Device) -> dict[str, Any]:
        from client.targets import TURNS
        from client.words import Priority, RoleName, Target

        view = next((one for one in device.duty.board() if one.role == role), None)
        if view is None:
            text_ = f"There is no role {printable(role)}."
            raise CommandError(Exit.UNKNOWN, "no_role", text_)
        kind = TURNS[turn.value]
        meant = device.duty.meant(Target(kind=kind, name=role)) or ()
        # Nobody is asked by their own page.
        asked = [user for user in meant if user != device.user]
        made = await device.duty.page(
            RoleName(role), text, priority=Priority[priority.name], patient=patient, turn=kind
        )
        await device.settled(options.timeout_s)
        return {
            "conversation": made.hex(),
            "asked": asked,
            "without_device": await addressing.without_device(device, asked),
            "on_call": list(view.on_call),
            "fallback": list(view.fallback),
            "numbers": dict(view.numbers),
            "told": _called(view, asked) if asked else "whoever comes after you in its policy",
        }

    facts = with_device(context, paged)
    told = facts.pop("told")
    options.printer.result(facts, f"{facts['conversation'][:8]} Paging {printable(told)}.")
    if facts["without_device"] and not options.as_json:
        warn(addressing.NO_DEVICE.format(", ".join(facts["without_device"])))


@app.command()
def pages(context: typer.Context) -> None:
    """List pages that you sent or were asked by, and how they go."""
    options = settings(context)

    async def looked(device: Device) -> list[dict[str, Any]]:
        return [_facts(view) for view in device.duty.pages()]

    found = with_device(context, looked, must_connect=False)
    lines = [
        f"{one['conversation'][:8]} {one['priority']} {one['role']} {date(one['started_ms'])}"
        f" {one['status']}{', the relay has missed a step' if one['silent'] else ''}:"
        f" {printable(one['text'])} ("
        + ", ".join(f"{user} {state}" for user, state in one["asked"].items())
        + ")"
        for one in found
    ]
    options.printer.result({"pages": found}, "\n".join(lines) or "There is no page.")


def _facts(view: PageView) -> dict[str, Any]:
    return {
        "conversation": view.conversation.hex(),
        "role": view.role,
        "sender": view.sender,
        "priority": view.priority.name.lower(),
        "text": view.text,
        "started_ms": view.started_ms,
        "status": view.status.name.lower(),
        "step": view.step,
        "asked": {user: state.name.lower() for user, state in view.asked.items()},
        "alerting": view.alerting,
        "leaving": list(view.leaving),
        "silent": view.silent,
        "next_ms": view.next_ms,
    }


ANSWERS = {"accept": "ACCEPT", "decline": "DECLINE", "not-mine": "NOT_MINE", "done": "FINISH"}


@app.command("answer")
def answer(
    context: typer.Context,
    word: Annotated[str, typer.Argument(help="accept, decline, not-mine or done.")],
    number: Annotated[str, typer.Argument(help="The page's number, as `pages` gives it.")],
    *,
    to: Annotated[str | None, typer.Option("--to", help="Not mine: whose; a role or person.")] = (
        None
    ),
    at: Annotated[str | None, typer.Option("--at", help="Accept: when you will be there.")] = None,
) -> None:
    """Answer a page."""
    options = settings(context)
    if word not in ANSWERS:
        raise CommandError(Exit.USAGE, "usage", f"Answers are: {', '.join(ANSWERS)}.")

    async def answered(device: Device) -> PageView:
        from client.words import PageEvent, RoleName

        found = [v for v in device.duty.pages() if v.conversation.hex().startswith(number)]
        if len(found) != 1:
            raise CommandError(Exit.UNKNOWN, "no_page", f"There is no page {printable(number)}.")
        with _Refused():
            await device.duty.answer(
                found[0].conversation,
                getattr(PageEvent, ANSWERS[word]),
                to=None if to is None else RoleName(to),
                arrival_ms=None if at is None else _instant(device, found[0].role, at, None),
            )
        return found[0]

    view = with_device(context, answered)
    options.printer.result(
        {"conversation": view.conversation.hex(), "answer": word}, f"{word}: {view.role}"
    )


@app.command("wake-test")
def wake_test(
    context: typer.Context,
    *,
    heard: Annotated[
        bool, typer.Option("--heard", help="Say that you heard it, without being asked.")
    ] = False,
) -> None:
    """Have the relay ring this device as a page would, and say that you heard it.

    The day of the last such test is shown to whoever looks at who can be woken.
    """
    options = settings(context)

    async def tested(device: Device) -> bool:
        from client.views import ChangeKind

        changes = device.watch()
        await device.duty.test_alert()
        try:
            async with asyncio.timeout(options.timeout_s):
                while (await anext(changes)).kind is not ChangeKind.ALERT:
                    pass
        except TimeoutError:
            text = "NOTHING RANG: a page may not reach this device. Try again, and tell somebody."
            raise CommandError(Exit.CHECK_FAILED, "not_rung", text) from None
        warn(f"{BELL}This is how a page rings.")
        if not (heard or await _was_heard()):
            return False
        await device.duty.heard_alert()
        return True

    done = with_device(context, tested)
    options.printer.result({"heard": done}, "Tested." if done else "Nothing was noted.")
    if not done:
        raise typer.Exit(Exit.CHECK_FAILED)


async def _was_heard() -> bool:
    if not sys.stdin.isatty():
        return False
    with contextlib.suppress(CommandError):
        await must_agree_meanwhile("Did you hear it?", yes=False)
        return True
    return False

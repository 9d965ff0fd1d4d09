"""Commands that read: conversations, messages, people; they serve without network too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from client_cli import addressing
from client_cli.output import Column, say, say_json
from client_cli.session import settings, with_device
from client_cli.show import (
    behind,
    clock,
    date,
    message_facts,
    message_line,
    printable,
    said,
    summary_facts,
    yes_or_no,
)

if TYPE_CHECKING:
    from client.device import Device
    from client.messages import MessageKey
    from client.views import Change, Shown

T = TypeVar("T")

app = typer.Typer()

MOST = 1_000_000
"""Messages that are read at most: more than any device keeps."""

MESSAGES = 20
"""Messages that are read unless more are asked for: a screenful."""


def _dash(value: object) -> str:
    return str(value) if value else "-"


CONVERSATIONS = (
    Column(key="short", heading="NUMBER"),
    Column(key="kind", heading="KIND"),
    Column(key="unread", heading="UNREAD"),
    Column(key="top_priority", heading="PRIORITY", show=_dash),
    Column(key="people", heading="PEOPLE"),
    Column(key="title", heading="TITLE", show=printable),
)

MEMBERS = (
    Column(key="user", heading="USER"),
    Column(key="name", heading="NAME", show=printable),
    Column(key="owner", heading="OWNER", show=yes_or_no),
    Column(key="archive", heading="ARCHIVE", show=yes_or_no),
    Column(key="moderator", heading="MODERATOR", show=yes_or_no),
    Column(key="muted_until_ms", heading="MUTED UNTIL", show=date),
    Column(key="guest_until_ms", heading="EMERGENCY ACCESS UNTIL", show=date),
    Column(key="certified_until_ms", heading="CERTIFIED UNTIL", show=date),
    Column(key="devices", heading="DEVICES", show=", ".join),
)

PEOPLE = (
    Column(key="user", heading="USER"),
    Column(key="name", heading="NAME", show=printable),
    Column(key="ward", heading="WARD", show=lambda ward: printable(ward) or "-"),
    Column(key="on_call", heading="ON CALL AS", show=lambda roles: ", ".join(roles) or "-"),
    Column(key="roles", heading="ROLES", show=lambda roles: ", ".join(roles) or "-"),
)


def _from_store(context: typer.Context, look: Callable[[Device], T]) -> T:
    """Return what is seen in the device's store, brought up to date where the relay is there."""

    async def looked(device: Device) -> T:
        return look(device)

    return with_device(context, looked, must_connect=False)


@app.command()
def conversations(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
) -> None:
    """List conversations, the one with the newest message first."""
    found = _from_store(context, lambda device: device.conversations())
    rows = [summary_facts(one) for one in found if everything or not one.ended]
    settings(context).printer.rows("conversations", rows, CONVERSATIONS, none="No conversation.")


@app.command()
def read(
    context: typer.Context,
    of: Annotated[str, typer.Argument(help="A person, a conversation's title, or its number.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=MOST)] = MESSAGES,
    keep_unread: Annotated[
        bool, typer.Option("--keep-unread", help="Do not tell the senders that it was read.")
    ] = False,
) -> None:
    """Print the last messages of a conversation; its senders see that you have read them."""

    async def looked(device: Device) -> list[Shown]:
        conversation = addressing.conversation(device, of).conversation
        device.rights.check_viewing(conversation)
        shown = device.messages(conversation, limit=limit)
        if shown and not keep_unread:
            await device.mark_read(conversation, shown[-1].place)
        return shown

    _print_messages(context, with_device(context, looked, must_connect=False))


@app.command()
def search(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="Words that the message has, all of them.")],
    within: Annotated[str | None, typer.Option("--in", help="One conversation alone.")] = None,
) -> None:
    """Search the messages on this device, newest first; nothing is asked of the relay."""

    def look(device: Device) -> list[Shown]:
        where = addressing.conversation(device, within).conversation if within else None
        device.rights.check_viewing(where)
        return device.search(text, conversation=where)

    _print_messages(context, _from_store(context, look))


def _print_messages(context: typer.Context, messages: list[Shown]) -> None:
    if settings(context).as_json:
        say_json({"messages": [message_facts(shown) for shown in messages]})
    else:
        for shown in messages:
            say(message_line(shown))
        if not messages:
            say("No message.")


@app.command()
def members(
    context: typer.Context,
    of: Annotated[str, typer.Argument(help="A conversation's title or number, or a person.")],
) -> None:
    """List who reads a conversation: people, their devices, and the archive."""

    def look(device: Device) -> list[dict[str, Any]]:
        conversation = addressing.conversation(device, of).conversation
        return [
            {
                "user": one.user,
                "name": one.name,
                "owner": one.is_owner,
                "archive": one.is_recorder,
                "moderator": one.is_moderator,
                "muted_until_ms": one.muted_until_ms or None,
                "guest_until_ms": one.guest_until_ms or None,
                "vouchers": list(one.vouchers),
                "certified_until_ms": one.certified_until_ms,
                "devices": list(one.devices),
            }
            for one in device.members(conversation)
        ]

    rows = _from_store(context, look)
    settings(context).printer.rows("members", rows, MEMBERS, none="Nobody.")


@app.command()
def people(
    context: typer.Context,
    like: Annotated[str, typer.Argument(help="Part of a name, role or ward.")] = "",
) -> None:
    """Search the directory; the spelling need not be right."""

    def look(device: Device) -> list[dict[str, Any]]:
        return [
            {
                "user": one.user,
                "name": one.name,
                "ward": one.ward,
                "roles": list(one.roles),
                "on_call": list(one.on_call),
            }
            for one in device.directory(like)
        ]

    rows = _from_store(context, look)
    settings(context).printer.rows("people", rows, PEOPLE, none="Nobody like that.")


@app.command()
def follow(
    context: typer.Context,
    of: Annotated[str | None, typer.Argument(help="One conversation alone.")] = None,
    *,
    count: Annotated[int, typer.Option("--count", "-c", help="End after so many; 0: never.")] = 0,
) -> None:
    """Print messages as they come, until interrupted; with --json one object a line."""
    if count < 0:
        raise typer.BadParameter("a count is 0 or more")

    async def followed(device: Device) -> None:
        where = addressing.conversation(device, of).conversation if of else None
        follower = _Follower(device, as_json=settings(context).as_json)
        async for change in device.watch():
            if where is None or change.conversation == where:
                follower.take(change)
            if count and follower.printed >= count:
                return

    with_device(context, followed)


class _Follower:
    """Prints each new message once, and changed ones again for programs.

    Attributes:
        printed: How many messages were printed.
    """

    def __init__(self, device: Device, *, as_json: bool) -> None:
        self.printed = 0
        self._device = device
        self._as_json = as_json
        self._seen: set[MessageKey] = set()

    def take(self, change: Change) -> None:
        """Print what a change brought; a page of a later step is not for this person yet."""
        if not self._is_here(change):
            return
        for key in change.messages:
            shown = self._device.message(key)
            if shown is not None and (self._as_json or key not in self._seen):
                self._print(shown)
                self._seen.add(key)

    def _is_here(self, change: Change) -> bool:
        from client.errors import NotMemberError

        try:
            return change.conversation is None or bool(self._device.summary(change.conversation))
        except NotMemberError:
            return False

    def _print(self, shown: Shown) -> None:
        if self._as_json:
            say_json({**message_facts(shown), "new": shown.key not in self._seen})
        else:
            title = printable(self._device.summary(shown.key.conversation).title)
            urgent = f" {shown.priority.name}" if shown.priority.name in ("URGENT", "STAT") else ""
            sender = f" {shown.sender}" if shown.sender else ""
            say(f"{clock(shown.at_ms)} [{title}]{urgent}{sender}: {said(shown)}")
        self.printed += shown.key not in self._seen


@app.command()
def status(context: typer.Context) -> None:
    """Say how this device stands: connected, unsent, not yet archived, faults."""

    async def looked(device: Device) -> dict[str, Any]:
        from client_cli import deeds, troubles

        now = device.status
        return {
            "device": device.me,
            "online": now.online,
            "unsent": now.unsent,
            "faults": now.faults,
            "archived_lag_ms": now.archived_lag_ms,
            "disk_full": now.disk_full,
            "troubles": [troubles.facts(one) for one in now.troubles],
            "lines": troubles.lines(now, device, deeds.reading_of(device)) if now.faults else [],
            "denied": [action.name.lower() for action in device.rights.taken],
        }

    facts = with_device(context, looked, must_connect=False)
    lines = [
        f"device: {facts['device']}",
        f"online: {yes_or_no(facts['online'])}",
        f"unsent: {facts['unsent']}",
        f"faults: {facts['faults']}",
        *(f"    {printable(line)}" for line in facts.pop("lines")),
        f"archive: {behind(facts['archived_lag_ms'])}",
    ]
    if facts["denied"]:
        words = ", ".join(facts["denied"]).replace("_", " ")
        lines.append(f"your role may not: {words}; ask your administrator")
    if facts["disk_full"]:
        lines.append("DISK FULL: nothing new is kept. Make room: the rest comes by itself.")
    settings(context).printer.result(facts, "\n".join(lines))

"""The line mode's facts: what its answers and events say, and the commands that only read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from client.duty import PageView
from client.views import Shown
from client.words import ConversationId
from client_cli import actions, addressing, troubles
from client_cli.line_words import COMMANDS, usage
from client_cli.output import CommandError, Exit
from client_cli.rows import (
    Reading,
    device_line,
    member_line,
    message_row,
    names_of,
    page_lines,
    role_line,
)
from client_cli.seat import Seat
from client_cli.show import behind, message_facts, summary_facts

if TYPE_CHECKING:
    from client.device import Device

Facts = dict[str, Any]

SHOWN = 20
"""Messages that ``show`` gives unless it is told otherwise."""


class LineReading:
    """What an open device says, as facts with the lines that a person reads."""

    def __init__(self, seat: Seat, *, clock: Callable[[], int]) -> None:
        self._seat = seat
        self._clock = clock

    # -- facts ---------------------------------------------------------------------------------

    def _reading(self) -> Reading:
        names = names_of(self._seat.directory())
        return Reading(me=self._seat.user, names=names, now_ms=self._clock())

    def _lines(self, shown: Shown) -> list[str]:
        audience = max(0, self._seat.summary(shown.key.conversation).people - 1)
        quoted = None if shown.reply_to is None else self._seat.message(shown.reply_to)
        return message_row(shown, self._reading(), quoted=quoted, audience=audience).lines()

    def _message(self, shown: Shown) -> Facts:
        row = message_row(shown, self._reading())
        return {
            **message_facts(shown),
            "kind": type(shown.content).__name__,
            "notes": list(row.notes),
            "acts": [act.name.lower() for act in actions.possible(shown, self._seat.user)],
            "lines": self._lines(shown),
        }

    def _page(self, page: PageView) -> Facts:
        return {
            "conversation": page.conversation.hex(),
            "role": page.role,
            "sender": page.sender,
            "priority": page.priority.name.lower(),
            "text": page.text,
            "started_ms": page.started_ms,
            "status": page.status.name.lower(),
            "step": page.step,
            "mine": page.mine.name.lower() if page.mine else None,
            "asked": {user: place.name.lower() for user, place in page.asked.items()},
            "next_ms": page.next_ms,
            "alerting": page.alerting,
            "leaving": list(page.leaving),
            "silent": page.silent,
            "lines": page_lines(page, self._reading()),
        }

    def _page_text(self, page: PageView) -> str:
        mark = "PAGE" if page.alerting else "page"
        return f"{mark}: " + " / ".join(page_lines(page, self._reading()))

    def _status(self) -> Facts:
        status = self._seat.status
        return {
            "online": status.online,
            "catching_up": status.catching_up,
            "unsent": status.unsent,
            "faults": status.faults,
            "archived_lag_ms": status.archived_lag_ms,
            "disk_full": status.disk_full,
            "troubles": [troubles.facts(one) for one in status.troubles],
        }

    # -- commands: reading ---------------------------------------------------------------------

    async def _do_help(self, _: Facts) -> Facts:
        return {"lines": [f"{usage(name)}: {form.what}" for name, form in COMMANDS.items()]}

    async def _do_status(self, _: Facts) -> Facts:
        facts = {"user": self._seat.user, "device": self._seat.me, **self._status()}
        status, apart = self._seat.status, ("archived_lag_ms", "troubles")
        worded = {key: value for key, value in facts.items() if key not in apart}
        lines = [f"{key.replace('_', ' ')}: {value}" for key, value in worded.items()]
        lines.append(f"archive: {behind(status.archived_lag_ms)}")
        lines += troubles.lines(status, self._seat, self._reading())
        return {**facts, "lines": lines}

    async def _do_list(self, _: Facts) -> Facts:
        found = [summary_facts(one) for one in self._seat.conversations()]
        lines = [
            f"{one['short']} {one['title'] or one['kind']}: {one['unread']} unread"
            + (f", {one['top_priority'].upper()}" if one["top_priority"] else "")
            + (f", {one['held']} held" if one["held"] else "")
            for one in found
        ]
        return {"conversations": found, "lines": lines}

    async def _do_show(self, command: Facts) -> Facts:
        conversation = self._conversation(command["in"])
        limit = int(number(command, "limit", SHOWN))
        shown = self._seat.messages(conversation, limit=limit)
        lines = [
            line
            for one in shown
            for line in (*self._lines(one), f"  {addressing.key_text(one.key)}")
        ]
        return {"messages": [self._message(one) for one in shown], "lines": lines}

    async def _do_search(self, command: Facts) -> Facts:
        where = self._conversation(command["in"]) if "in" in command else None
        found = self._seat.search(command["text"], conversation=where)
        lines = [" / ".join(self._lines(one)) for one in found]
        return {"messages": [self._message(one) for one in found], "lines": lines}

    async def _do_directory(self, command: Facts) -> Facts:
        found = self._seat.directory(command.get("text", ""))
        people = [
            {
                "user": one.user,
                "name": one.name,
                "ward": one.ward,
                "roles": list(one.roles),
                "on_call": list(one.on_call),
            }
            for one in found
        ]
        lines = [f"{one.name} ({one.user}), {one.ward or 'no ward'}" for one in found]
        return {"people": people, "lines": lines}

    async def _do_board(self, _: Facts) -> Facts:
        roles = [
            {
                "role": role.role,
                "on_call": list(role.on_call),
                "until_ms": role.until_ms,
                "following": list(role.following),
                "fallback": list(role.fallback),
                "mine": role.mine,
                "number": role.number,
                "numbers": dict(role.numbers),
            }
            for role in self._seat.duty.board()
        ]
        reading = self._reading()
        worded = [role_line(role, reading) for role in self._seat.duty.board()]
        lines = [f"{role}: {now}, then {following}" for role, now, following in worded]
        return {"roles": roles, "lines": lines}

    async def _do_devices(self, _: Facts) -> Facts:
        found = [
            {
                "device": one.device,
                "this": one.this,
                "certified_until_ms": one.certified_until_ms,
                "revoked": one.revoked,
            }
            for one in self._seat.devices()
        ]
        reading = self._reading()
        lines = [device_line(one, reading) for one in self._seat.devices()]
        return {"devices": found, "lines": lines}

    async def _do_members(self, command: Facts) -> Facts:
        members = self._seat.members(self._conversation(command["in"]))
        found = [
            {
                "user": one.user,
                "name": one.name,
                "devices": list(one.devices),
                "is_recorder": one.is_recorder,
                "is_owner": one.is_owner,
                "is_moderator": one.is_moderator,
                "guest_until_ms": one.guest_until_ms,
                "muted_until_ms": one.muted_until_ms,
            }
            for one in members
        ]
        reading = self._reading()
        return {"members": found, "lines": [member_line(one, reading) for one in members]}

    async def _do_details(self, command: Facts) -> Facts:
        shown = self._shown(command["message"])
        reading = self._reading()
        people = [
            f"{reading.name(user)}: {state.name.lower()} {reading.when(at_ms)}"
            for user, (state, at_ms) in shown.people.items()
        ]
        return {"message": self._message(shown), "lines": [*self._lines(shown), *people]}

    async def _do_pages(self, _: Facts) -> Facts:
        found = self._seat.duty.pages()
        lines = [self._page_text(page) for page in found]
        return {"pages": [self._page(page) for page in found], "lines": lines}

    # -- what is meant ------------------------------------------------------------------------

    def _conversation(self, typed: str) -> ConversationId:
        return addressing.conversation(self._device, typed).conversation

    def _shown(self, typed: str) -> Shown:
        shown = self._seat.message(addressing.message_key(self._device, typed))
        assert shown is not None  # noqa: S101 - the key is one of an existing message
        return shown

    @property
    def _device(self) -> Device:
        return cast("Device", self._seat)


def number(command: Facts, field: str, default: float) -> float:
    """Return a field that is a number.

    Raises:
        CommandError: It is none.
    """
    try:
        found = float(command.get(field, default))
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise CommandError(Exit.USAGE, "usage", f"{field} is a number.")
    return found

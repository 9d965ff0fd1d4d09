"""The authority's decisions on their way to the relay: each once, in their order, and in time."""

from __future__ import annotations

from archive import events
from archive.alarms import Alarm
from archive.authority import Authority
from archive.authority_store import Outgoing, OutgoingKind
from archive.team import Team
from client.errors import RefusedError
from client.link import Link
from crypto.statement import Purpose, claimed_statement
from crypto.trust import CLOCK_SKEW_MS
from protocol import frames
from protocol.errors import WAITS, Code
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind

_AGAIN = WAITS | {Code.NOT_STRONG}
"""Refusals after which a decision waits; any other is the relay's answer to it."""


class Decisions:
    """Hands in what the authority decided, over one connection."""

    def __init__(self, link: Link, team: Team) -> None:
        self._link = link
        self._team = team
        self._authority: Authority = team.recorder.authority

    async def hand_in(self) -> None:
        """Hand in all there is, up to the first that has to wait.

        Raises:
            LinkError: The connection ended.
        """
        # One time for all of them: of two commands, the later must not go before the earlier.
        present_ms = self._team.clock()
        relay_ms = present_ms + self._team.progress.skew_ms(present_ms)
        for outgoing in self._authority.outgoing():
            timely = self._timely(outgoing, relay_ms=relay_ms, present_ms=present_ms)
            if timely is None:
                continue
            if not await self._handed_in(timely):
                break
            self._authority.handed_in(timely.number)

    def _timely(self, outgoing: Outgoing, *, relay_ms: int, present_ms: int) -> Outgoing | None:
        """Return a decision as the relay can believe it; ``None`` while this clock is ahead of its.

        What it could not take, as it was signed by a clock that was ahead, is signed anew. Any
        other it may have taken, with its answer lost: signed anew, that would take effect twice.
        """
        latest_ms = relay_ms + CLOCK_SKEW_MS
        if outgoing.kind is not OutgoingKind.COMMAND:
            return outgoing
        claimed = claimed_statement(outgoing.body)
        if claimed.purposes != (Purpose.AUTHORITY,) or claimed.issued_ms <= latest_ms:
            return outgoing
        if present_ms > latest_ms:
            return None
        return self._authority.signed_anew(outgoing, now_ms=present_ms)

    async def _handed_in(self, outgoing: Outgoing) -> bool:
        """Hand one in; tell whether the relay has answered, and not only put it off."""
        body = outgoing.body
        try:
            if outgoing.kind is OutgoingKind.COMMAND:
                await self._link.ask(lambda ref: frames.Command(ref=ref, statement=body))
            # Its own is shown to the relay by the next Hello.
            elif outgoing.device != self._link.device:
                log = inbox_log(DeviceId(outgoing.device))
                item = Item(kind=ItemKind.CERTIFICATE, body=body).encode()
                await self._link.ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        except RefusedError as error:
            if error.code in _AGAIN:
                return False
            events.tell("refused", code=error.code.name)
            is_command = outgoing.kind is OutgoingKind.COMMAND
            if is_command and error.code is not Code.STALE_STATEMENT:
                self._team.recorder.raise_alarm(Alarm.RELAY)
        return True

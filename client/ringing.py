"""A locked device: it rings, says that it rings, and takes its person's answer; it reads nothing.

Only the connection key is there. What it is told is how urgent a page is and for which role.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from client.errors import ClosedError, LinkError, LostError, RefusedError, UnlockError
from client.link import Address, Backoff, Credentials, Link
from crypto.certificate import fingerprint
from crypto.errors import InvalidError
from crypto.statement import Purpose, Signatory, StatementType, sign_statement
from protocol import frames
from protocol.authenticated_data import Priority
from protocol.errors import Code
from protocol.frames import Frame, Ring, RingEnded, RingReason
from protocol.identifiers import ConversationId, RoleName, conversation_log, role_name
from protocol.oncall.page_event import PageAnswer
from protocol.oncall.page_state import Event
from protocol.oncall.role import Responder
from protocol.session import State

ANSWER_LIVES_MS = 15 * 60 * 1000
"""How long an answer counts, in ms: it is sent at once, or again within minutes."""

PASSING = frozenset({Code.SILENT, Code.DRAINING, Code.OVERLOADED, Code.RECONCILING})
"""Codes after which the relay serves again: what rings goes on until it says what still does."""


RINGS_MOST = 64
"""Pages that ring at one time: more than one person was ever asked for, and what a relay that lies
can make a locked device hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What a locked device may show of a page, or of an urgent message.

    Attributes:
        conversation: Which; empty for a test.
        priority: How urgent it is.
        role: The role that was paged; empty where it was none.
        reason: Why it rings.
        ended: Whether it rings no longer.
    """

    conversation: ConversationId
    priority: Priority
    role: RoleName
    reason: RingReason
    ended: bool = False


class Ringing:
    """A locked device on its relay, reconnecting until it is left."""

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        now_ms: Callable[[], int],
        on_ordered: Callable[[Link], Awaitable[None]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            address: The relay's.
            credentials: The device's; the key that signs what is said is not used.
            now_ms: The clock.
            on_ordered: Does what a wipe order says, on the connection that brings it; what it
                raises ends the ringing.
        """
        self._address = address
        self._credentials = replace(credentials, signature_key=None)
        self._now_ms = now_ms
        self._on_ordered = on_ordered
        self._link: Link | None = None
        self._told: asyncio.Queue[Rung] = asyncio.Queue()
        self._open: dict[ConversationId, Rung] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_there = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, LinkError, UnlockError):
                await self._task
        if self._link is not None:
            await self._link.close()

    @property
    def ringing(self) -> tuple[Rung, ...]:
        """What rings now, the most urgent first."""
        return tuple(sorted(self._open.values(), key=lambda rung: -rung.priority))

    @property
    def online(self) -> bool:
        """Whether the relay hears this device."""
        return self._link is not None

    async def reached(self) -> None:
        """Return once the relay hears this device."""
        await self._is_there.wait()

    async def rings(self) -> AsyncIterator[Rung]:
        """Yield what begins to ring, and what ends.

        Raises:
            ClosedError: The relay will not have this device again.
            SuspendedError: It is suspended, and no order to wipe it has come.
        """
        while True:
            get = asyncio.ensure_future(self._told.get())
            waits = {get} if self._task is None else {get, self._task}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not get.done():
                get.cancel()
                if self._task is not None:
                    await self._task
                return
            yield get.result()

    async def answer(
        self,
        conversation: ConversationId,
        event: Event,
        *,
        arrival_ms: int | None = None,
        to: Responder | None = None,
    ) -> None:
        """Say what its person says of a page: accept, decline, not mine, done.

        Raises:
            LostError: There is no connection now.
            RefusedError: The page has ended, or does not ask this person.
        """
        body = PageAnswer(conversation=conversation, event=event, arrival_ms=arrival_ms, to=to)
        await self._post(body)
        if event not in (Event.DELIVER, Event.SHOW):
            self._end(conversation)

    async def test(self) -> None:
        """Have the relay ring this device as a page would; ``heard`` confirms it.

        Raises:
            LostError: There is no connection now.
        """
        await self._there().ask(lambda ref: frames.TestAlert(ref=ref))

    async def heard(self) -> None:
        """Say that the person has heard the test.

        Raises:
            LostError: There is no connection now.
        """
        await self._there().ask(lambda ref: frames.AlertHeard(ref=ref))

    def _there(self) -> Link:
        if self._link is None:
            raise LostError
        return self._link

    async def _post(self, body: PageAnswer) -> None:
        key = self._credentials.connection_key
        statement = sign_statement(
            StatementType.PAGE_ANSWER,
            body.encode(),
            organisation=self._address.organisation,
            issued_ms=self._now_ms(),
            lifetime_ms=ANSWER_LIVES_MS,
            signatory=Signatory(
                purpose=Purpose.CONNECTION,
                fingerprint=fingerprint(self._credentials.certificate),
                key=key,
            ),
        )
        log = conversation_log(body.conversation)
        await self._there().ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            began_s, pause_ms = asyncio.get_running_loop().time(), 0
            try:
                self._link = await Link.open(self._address, self._credentials)
                if self._link.state is State.ORDERED and self._on_ordered is not None:
                    await self._on_ordered(self._link)
                self._is_there.set()
                await self._listen(self._link)
            except ClosedError as error:
                if error.code not in PASSING:
                    raise
                pause_ms = error.detail
            except LinkError:
                backoff.held(asyncio.get_running_loop().time() - began_s)
            finally:
                link, self._link = self._link, None
                self._is_there.clear()
                if link is not None:
                    await link.close()
            await asyncio.sleep(backoff.pause_s(at_least_ms=pause_ms))

    async def _listen(self, link: Link) -> None:
        # What rang before is rung again on a new connection, where it still asks.
        for conversation in tuple(self._open):
            self._end(conversation)
        while True:
            await self._take(await link.receive())

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, RingEnded):
            self._end(ConversationId(frame.conversation))
        elif isinstance(frame, Ring):
            rung = _rung(frame)
            paged = rung.reason in (RingReason.PAGE, RingReason.AGAIN)
            if paged and len(self._open) < RINGS_MOST:
                self._open[rung.conversation] = rung
            self._told.put_nowait(rung)
            if rung.reason is RingReason.PAGE:
                await self._report(rung.conversation)

    async def _report(self, conversation: ConversationId) -> None:
        """Tell the relay that the device has the page: else it calls by the second channel."""
        with contextlib.suppress(RefusedError, LostError):
            await self._post(PageAnswer(conversation=conversation, event=Event.DELIVER))

    def _end(self, conversation: ConversationId) -> None:
        rung = self._open.pop(conversation, None)
        if rung is not None:
            self._told.put_nowait(replace(rung, ended=True))


def _rung(frame: Ring) -> Rung:
    """Return what a ring says; what nobody can read of it rings all the same, and says nothing."""
    priorities = {int(priority): priority for priority in Priority}
    reasons = {int(reason): reason for reason in RingReason}
    try:
        role = role_name(frame.role)
    except InvalidError:
        # Nothing that a relay makes up stands on a lock screen.
        role = RoleName("")
    return Rung(
        conversation=ConversationId(frame.conversation),
        priority=priorities.get(frame.priority, Priority.STAT),
        role=role,
        reason=reasons.get(frame.reason, RingReason.MESSAGE),
    )

"""One connection: the session's rules, who is on the other side, where it stands in its logs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

from protocol import limits
from protocol.errors import Code, LocalProtocolError, RemoteProtocolError
from protocol.frames import (
    AlertHeard,
    Append,
    AppendCommit,
    Authenticate,
    Behind,
    Challenge,
    ClaimKeyPackage,
    Close,
    Command,
    ConfirmEnrolment,
    Deliver,
    Ended,
    Enrol,
    Frame,
    GetReach,
    GetShare,
    GetWitnessKey,
    Hello,
    Lookup,
    LookupCertificates,
    Post,
    PublishKeyPackages,
    Refused,
    Ring,
    Sender,
    Standing,
    StoreShare,
    TestAlert,
    Witness,
)
from protocol.identifiers import ConversationId, DeviceId, LogId, OrganisationId, inbox_log
from protocol.session import Session, State
from server import access, conversations
from server.access import Given
from server.handlers import HANDLERS

if TYPE_CHECKING:
    from server.directory import Device, Organisation
    from server.enrolment import Enrolment
    from server.relay import Relay

_PROVED = frozenset(
    {
        State.LOCKED,
        State.UNLOCKING,
        State.OPEN,
        State.ABSENT,
        State.ORDERED,
        State.ENROLLING,
        State.RECONCILING,
    }
)

PACED = frozenset(
    {
        Authenticate,
        Post,
        Lookup,
        LookupCertificates,
        PublishKeyPackages,
        ClaimKeyPackage,
        Command,
        StoreShare,
        GetShare,
        Enrol,
        ConfirmEnrolment,
        Witness,
        GetWitnessKey,
        Standing,
        TestAlert,
        AlertHeard,
        GetReach,
    }
)
"""Requests that cost a signature's check, an answer larger than they are, or a row on the disk: all
of a device's share one rate. Messages and Commits have rates of their own."""


class Wire(Protocol):
    """What a connection needs of its transport."""

    address: str
    congested: bool

    def send(self, payload: bytes) -> None:
        """Send one message."""

    def write(self, headed: bytes | bytearray) -> None:
        """Send messages that are headed already."""

    def tire(self) -> None:
        """Note that the peer asks faster than it may, and listen to it less."""

    def close(self) -> None:
        """Close after what was written."""


class Connection:
    """The relay's end of a connection.

    Attributes:
        stream: The transport.
        session: What may be said when.
        organisation: The peer's, from its proof on.
        device_id: The peer's, from its proof on.
        proved_at: What the wall clock and the one that nobody sets said at its proof, in ms.
        hello: The peer's opening, until it is proved.
        challenge: The relay's answer to it.
        enrolment: Where the peer has no certificate yet, how far it has come.
        behind: Logs in which entries wait for it, and the last number that it was sent.
        missed: Those of them that were appended to since they were last read.
        keeps_up: Whether entries may be written to it as they come.
        unlocked: Whether it proved the device's own key when it was opened.
        strong_until_s: Until when password and one-time code count as proved.
    """

    __slots__ = (
        "_catching_up",
        "_inbox_at",
        "_passed",
        "_relay",
        "_tasks",
        "behind",
        "challenge",
        "device_id",
        "enrolment",
        "hello",
        "keeps_up",
        "missed",
        "organisation",
        "proved_at",
        "session",
        "stream",
        "strong_until_s",
        "token",
        "unlocked",
    )

    organisation: Organisation
    device_id: DeviceId

    def __init__(self, relay: Relay, stream: Wire) -> None:
        self._relay = relay
        self.stream = stream
        self.session = Session(Sender.RELAY)
        self.hello: Hello | None = None
        self.challenge: Challenge | None = None
        self.proved_at = (0, 0)
        self.enrolment: Enrolment | None = None
        self.behind: dict[LogId, int] = {}
        self.missed: set[LogId] = set()
        self.keeps_up = False
        self.strong_until_s = 0.0
        self.token = b""
        self.unlocked = False
        self._passed: dict[LogId, int] = {}
        self._inbox_at = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._tasks = 0

    # The peer speaks.

    def receive(self, payload: bytes) -> None:
        """Act on one message of the peer's."""
        try:
            frame = self.session.receive(payload)
        except RemoteProtocolError as error:
            self.close(error.code)
            return
        kind = type(frame)
        if self.session.state in _PROVED:
            if kind in access.GUARDED and not self._permitted(frame):
                return
            if kind in PACED and not self._in_time(frame):
                return
        HANDLERS[kind](self._relay, self, frame)

    def _permitted(self, frame: Frame) -> bool:
        kind = type(frame)
        code = access.may_use(kind, self.device.identity.roles, self.organisation.policy)
        if code is None or conversations.is_of_page(self, frame):
            return True
        self._relay.refused(self, kind.__name__, code)
        if isinstance(frame, Append | AppendCommit):
            conversations.refuse_unused(self._relay, self, frame.message, code=code)
        else:
            self.refuse(getattr(frame, "ref", 0), code)
        return False

    def _in_time(self, frame: Frame) -> bool:
        wait_ms = self._relay.request_wait_ms(self)
        if wait_ms:
            self._relay.count("refused_rate_limited")
            self.refuse(getattr(frame, "ref", 0), Code.RATE_LIMITED, detail=wait_ms)
        return not wait_ms

    # The relay speaks.

    def send(self, frame: Frame) -> None:
        """Send a frame, unless the connection has ended meanwhile."""
        if self.session.state is not State.CLOSED:
            self.stream.send(self.session.send(frame))

    def refuse(self, ref: int, code: Code, *, detail: int = 0) -> None:
        """Answer that a request had no effect, and why."""
        if code is Code.RATE_LIMITED:
            self.stream.tire()
        self.send(Refused(ref=ref, code=code, detail=detail))

    def ended(self, log: LogId, code: Code) -> None:
        """Tell that the peer's cursor on a log has ended."""
        if self.is_open:
            self.send(Ended(log=log, code=code))

    def led_astray(self, log: LogId, through: int) -> None:
        """Tell the peer where its cursor stands, and read the log again from there."""
        self.stream.tire()
        self.send(Behind(log=log, through=through))
        self.rejoin(log)
        self.catch_up()

    def close(self, code: Code, *, detail: int = 0) -> None:
        """Tell the peer why, and end the connection."""
        if self.session.state is not State.CLOSED:
            self._relay.closed_with(self, code)
            self.send(Close(code=code, detail=detail))
        self.lost()
        self.stream.close()

    # Who the peer is.

    @property
    def proved(self) -> bool:
        """Whether the peer has proved who it is."""
        return self.session.state in _PROVED

    @property
    def is_open(self) -> bool:
        """Whether the peer may have content."""
        return self.session.state is State.OPEN

    @property
    def ordered(self) -> bool:
        """Whether the peer is revoked and gets its order alone."""
        return self.session.state is State.ORDERED

    @property
    def reads_inbox(self) -> bool:
        """Whether the peer may have all of its inbox, and not its order alone."""
        return self.session.state in (State.OPEN, State.ENROLLING)

    @property
    def reads_to_the_end(self) -> bool:
        """Whether the peer gets all of its inbox that it will ever get.

        A device that is locked or suspended gets an order at most, and reads the rest another day.
        """
        if self.session.state is State.ORDERED:
            return self.organisation.is_revoked(self.device)
        return self.reads_inbox

    @property
    def is_served(self) -> bool:
        """Whether the peer is let in as a device that stands, with or without content."""
        return self.session.state in (State.LOCKED, State.UNLOCKING, State.OPEN)

    @property
    def closed(self) -> bool:
        """Whether the connection has ended."""
        return self.session.state is State.CLOSED

    @property
    def gets_all(self) -> bool:
        """Whether the policy keeps nothing of what is said in conversations from the peer."""
        roles, policy = self.device.identity.roles, self.organisation.policy
        return access.given(None, roles, policy) is Given.ALL

    def given(self, log: bytes) -> Given:
        """Return how much of a log the policy lets the peer have."""
        if not log.startswith(b"c") or self.gets_all:
            return Given.ALL
        kind = self.organisation.kind_of(ConversationId(log[1:]))
        return access.given(kind, self.device.identity.roles, self.organisation.policy)

    @property
    def device(self) -> Device:
        """The peer as the directory has it now."""
        return self.organisation.devices[self.device_id]

    @property
    def device_key(self) -> tuple[OrganisationId, DeviceId]:
        """The device's name among all organisations, for rate limits."""
        return self.organisation.id, self.device_id

    # Requests that take time.

    def spawn(self, work: Coroutine[object, object, None], *, ref: int = 0) -> None:
        """Let a request go on beside the connection; a bounded number of them."""
        if self._tasks >= limits.IN_FLIGHT_REQUESTS:
            work.close()
            self.refuse(ref, Code.BUSY)
            return
        self._tasks += 1
        self._relay.run(self._finishing(work))

    async def _finishing(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except LocalProtocolError:
            # The peer was closed, or its state moved on, while the request was under way.
            self._relay.count("late_answers")
        finally:
            self._tasks -= 1

    # Where it stands in its logs.

    def begin(self) -> None:
        """Send what waits, and from then on what comes."""
        positions = self._relay.delivery.positions(self)
        self._inbox_at = positions[inbox_log(self.device_id)]
        self.behind = positions
        self.keeps_up = False
        self.catch_up()

    def offer(self, entry: Deliver, headed: bytes, *, ring: Ring | None) -> None:
        """Take an entry that cannot simply be written: the peer is locked, slow or behind.

        Args:
            entry: The entry.
            headed: The same, encoded for this peer.
            ring: What the peer gets in its stead while it is locked.
        """
        log = entry.log
        given = self.given(log)
        if not self.is_open:
            if ring is not None and given is Given.ALL and self.session.may_send(Ring):
                self.send(ring)
            return
        if entry.sequence <= self._passed.get(LogId(log), 0):
            return
        self._passed.pop(LogId(log), None)
        if log in self.behind or self.stream.congested or given is Given.NOTHING:
            self.fall_behind(LogId(log), entry.predecessor)
        else:
            self._relay.delivery.hand(self, entry, headed, given=given)
        self._judge()

    def fall_behind(self, log: LogId, predecessor: int) -> None:
        """Note that an entry was not sent: the log is read again from the one before it."""
        self.behind.setdefault(log, predecessor)
        self.missed.add(log)
        self.keeps_up = False

    def rejoin(self, log: LogId) -> None:
        """Read a log from the peer's cursor: it was let in again, and has a place there already."""
        self.behind[log] = 0
        self.missed.add(log)
        self.keeps_up = False

    def look_into_inbox(self) -> None:
        """Read the inbox from where it was read last."""
        self.fall_behind(inbox_log(self.device_id), self._inbox_at)
        self.catch_up()

    def congestion(self) -> None:
        """Note that the peer is slow."""
        self.keeps_up = False

    def writable(self) -> None:
        """Go on where a slow peer was left."""
        self.catch_up()

    def caught_up(self, log: LogId, sequence: int) -> None:
        """Note that the peer was sent a log up to its head."""
        self.behind.pop(log, None)
        if log == inbox_log(self.device_id):
            self._inbox_at = max(sequence, self._inbox_at)
        else:
            # The head may be ahead of what was published: those entries are not sent twice.
            self._passed[log] = sequence

    def catch_up(self) -> None:
        """Read from the cursors, unless that is going on."""
        self.keeps_up = False
        if self._catching_up is None and self.proved:
            self._catching_up = self._relay.run(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            while not self.closed and not self.stream.congested:
                log = self._next_behind()
                if log is None:
                    break
                await self._relay.delivery.page(self, log)
        finally:
            self._catching_up = None
            self._judge()

    def _next_behind(self) -> LogId | None:
        for log in self.behind:
            held = self._relay.delivery.is_held(self._relay.key(self, log), self.device_id)
            if not held and not self._is_withheld(log):
                return log
        return None

    def _is_withheld(self, log: bytes) -> bool:
        """Tell whether a log is kept from the peer for now; its cursor waits meanwhile."""
        if not log.startswith(b"c"):
            return False
        # Who is not open gets no conversation, and who enrols is in no directory yet.
        return not self.is_open or self.given(log) is Given.NOTHING

    def _judge(self) -> None:
        """Decide whether entries may be written as they come."""
        slow = self.behind or self._passed or self._catching_up or self.stream.congested
        self.keeps_up = self.is_open and self.gets_all and not slow

    def lost(self) -> None:
        """Forget the connection; its cursors are where it acknowledged them."""
        self.session.state = State.CLOSED
        self.keeps_up = False
        self._relay.forget(self)

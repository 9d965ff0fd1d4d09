"""The relay as one object: what its parts share, and the decisions that need several of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Coroutine, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from websockets.typing import Origin

from crypto.errors import DecodeError, InvalidError
from crypto.names import Role
from crypto.note import SignerKey
from crypto.statement import StatementType
from protocol.audit import AuditEvent, EventKind
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.errors import Code
from protocol.frames import Deliver, EntryKind
from protocol.group_context import ConversationType
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    LogId,
    OrganisationId,
    RoleName,
    UserName,
    conversation_log,
    user_of,
)
from protocol.oncall.role import meant
from protocol.routing import ContentType, Routed, target_of
from server import access, events
from server import store as storage
from server.attention import ALERT, QUIETLY, Notice, Situations
from server.attention import Word as Attended
from server.blobs import Blobs
from server.configuration import Configuration
from server.conversations import Appender
from server.delivery import Delivery
from server.directory import Device, Organisation, owed_fact
from server.pages import Pages
from server.personal import take_request
from server.rates import Limiter, network_of
from server.reachability import Reach
from server.second_channel import SecondChannel, Word
from server.store import (
    RELAY,
    Appended,
    ChangeReaders,
    CreateLog,
    Entry,
    Expire,
    LogKey,
    PutFacts,
    Reader,
    Store,
)
from server.telling import Telling
from server.tokens import Tokens
from server.transport import Keeper, Turn
from server.turnstile import Turnstile
from server.watch import Watch

if TYPE_CHECKING:
    from server.connection import Connection
    from server.secrets import Secrets

BURST = 10
"""Seconds' worth of a rate that may come at once: people and reconnections come in bursts."""

KEPT_BURST_BYTES = 64 * 1024 * 1024
"""Bytes that one device may leave for others at once: twenty times the largest Commit with its
Welcome, and more text than a ward writes in a day."""

KEPT_ENTRY_BYTES = 512
"""Bytes that an entry takes on the disk beside its body: its row, its answer, its place."""

ACCEPTED = 2
"""How many times the rate of connections an address may open sockets: some are for files and
calendars, some break off. Beyond it a socket is closed before it costs a handshake."""

CREATED = 2
"""How many times the rate of claims a device may begin conversations: each takes a key package of
the recorder's, and the relay remembers each for good."""

ASKED = 4
"""How many times the rate of connections an address may ask over HTTP: a device fetches an
attachment with a few requests. Who has a session has a rate of its own beside this."""

WRONG_PROOF_ACTS = 5
"""Connections that one with a wrong proof counts for: who guesses from an address is slowed."""

ADDRESS_MAX = 64
"""Longest address that a proxy may name, in characters: IPv6 with a zone takes fewer."""

PAUSE_MS = 2000
"""Pause, in ms, that clients are asked for when the relay cannot serve for a moment."""


class Relay:
    """What every connection and route works with.

    Attributes:
        store: The logs.
        secrets: Accounts and unlock shares.
        blobs: Attachments.
        organisations: By id.
        delivery: Who is connected, and what they get.
        appender: Messages on their way into the logs.
        keeper: Who closes what is silent.
        turnstile: Where proofs wait for each other.
        turn: What goes out at the end of a turn of the loop.
        tokens: For the attachment routes.
        pieces: Pieces of attachments that are arriving or leaving, by device.
        pin: SHA-256 of the TLS public key that clients are to see.
        witness: With which it cosigns the archive's checkpoints.
        origins: Web origins that may connect; ``None`` stands for programs, which send none.
        counters: Events counted since the start, by name.
        draining: Whether the relay is about to stop.
        despite_refusals: Whether a restored relay serves although it refused something of which it
            cannot tell whom it concerns.
        tellings: What the archives of organisations have told a restored relay, by organisation.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        store: Store,
        secrets: Secrets,
        blobs: Blobs,
        pin: bytes,
        witness: SignerKey,
        despite_refusals: bool = False,
    ) -> None:
        rates = configuration.rates
        self.configuration = configuration
        self.store = store
        self.secrets = secrets
        self.blobs = blobs
        self.pin = pin
        self.witness = witness
        self.loop = asyncio.get_running_loop()
        self.organisations: dict[bytes, Organisation] = {}
        self.situations = Situations()
        self.delivery = Delivery(store, self)
        self.appender = Appender(self)
        self.keeper = Keeper()
        self.turn = Turn(self.loop)
        self.turnstile = Turnstile(self.loop)
        self.tokens = Tokens()
        self.pieces: Counter[tuple[OrganisationId, DeviceId]] = Counter()
        self.origins: list[Origin | None] = [None, *map(Origin, configuration.listen.origins)]
        self.silent = events.silent()
        self.counters: Counter[str] = Counter()
        self._proxies = configuration.listen.believed()
        self.draining = False
        self.despite_refusals = despite_refusals
        self.tellings: dict[bytes, Telling] = {}
        self.reach = Reach(self)
        self.second_channel: SecondChannel | None = None
        self.pages = Pages(self)
        self.watch = Watch(self)
        self.take_request = take_request
        self._behind_archive: set[LogKey] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._routine, self._urgent = _limiter(rates.messages), _limiter(rates.messages)
        self._kept = {
            urgent: Limiter(rate_per_s=rates.kept_bytes, burst=KEPT_BURST_BYTES)
            for urgent in (False, True)
        }
        self._commits, self._requests = _limiter(rates.commits), _limiter(rates.requests)
        self._claims, self._connections = _limiter(rates.claims), _limiter(rates.connections)
        self._told = _limiter(rates.secrets)
        self._accepted = _limiter(rates.connections, times=ACCEPTED)
        self._personal = _limiter(rates.personal)
        self._creations = _limiter(rates.claims, times=CREATED)
        self._asked = _limiter(rates.connections, times=ASKED)
        self._secrets_tries = Limiter(rate_per_s=rates.secrets, burst=5)

    @property
    def reconciling(self) -> bool:
        """Whether an organisation's archive has yet to tell what the restored relay lacks."""
        return any(one.owed is not None for one in self.organisations.values())

    # Time and tasks.

    def now_ms(self) -> int:
        """Return the wall clock, in ms since the epoch: for certificates and for people."""
        return time.time_ns() // 1_000_000

    def now_s(self) -> float:
        """Return the monotonic clock, in seconds: for rates and timeouts."""
        return self.loop.time()

    def awake_ms(self) -> int:
        """Return a clock in ms that nobody sets, and that goes on while the host is suspended."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def run(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run something beside the connections; its failure is logged, never lost."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.count("faults")
            events.fault(task.exception())

    async def settled(self) -> None:
        """Wait until everything that runs beside the connections has ended; no timer fires more."""
        self.pages.stop()
        while self._tasks:
            await asyncio.wait(self._tasks)

    # Counting and telling.

    def count(self, name: str) -> None:
        """Count an event, by a name that says nothing of whom it befell."""
        self.counters[name] += 1

    def unproved(self, address: str, organisation: Organisation | None) -> None:
        """Note a proof that was wrong."""
        self.count("proofs_wrong")
        network = network_of(address)
        self._connections.wait_ms(network, now_s=self.now_s(), acts=WRONG_PROOF_ACTS)
        if organisation is not None and self._is_told(network):
            self.audit(organisation, EventKind.PROOF_WRONG)

    def refused(self, connection: Connection, asked: str, code: Code) -> None:
        """Note that somebody asked for what they may not do."""
        self.count(f"refused_{code.name.lower()}")
        events.note("refused", frame=asked, code=code.name)
        if self._is_told(connection.device_key):
            self.audit(connection.organisation, EventKind.REFUSED, device=connection.device_id)

    def opened(self, connection: Connection, kind: EventKind) -> None:
        """Note that a device came; one that comes again and again is noted now and then."""
        if self._is_told((*connection.device_key, kind)):
            self.audit(connection.organisation, kind, device=connection.device_id)

    def _is_told(self, whose: Hashable) -> bool:
        """Tell whether an event of this origin still goes into the audit log.

        Strangers, and a device that comes again and again, cause these events, and the log holds
        every entry until the archive has it: a few at once and then one a minute say what a
        thousand a second would.
        """
        told = not self._told.wait_ms(whose, now_s=self.now_s())
        if not told:
            self.count("audits_left_out")
        return told

    def closed_with(self, connection: Connection, code: Code) -> None:
        """Note why a connection was closed."""
        self.count(f"closed_{code.name.lower()}")
        events.note("closed", code=code.name, state=connection.session.state.value)

    def audit(
        self, organisation: Organisation, kind: EventKind, *, device: DeviceId | None = None
    ) -> None:
        """Append a security event to the organisation's audit log."""
        event = AuditEvent(kind=kind, at_ms=self.now_ms(), device=device)
        key = LogKey(organisation.id, AUDIT_LOG)
        request = storage.Append(
            log=key,
            sender=RELAY,
            message_id=0,
            at_ms=event.at_ms,
            kind=EntryKind.MESSAGE,
            priority=Priority.INFO,
            body=event.encode(),
        )
        self.store.submit([request], lambda answers: self._audited(request, answers[0]))

    def _audited(self, request: storage.Append, answer: storage.Answer) -> None:
        if not isinstance(answer, Appended):
            self.count("audit_failures")
            return
        entry = Deliver(
            log=AUDIT_LOG,
            sequence=answer.seq,
            predecessor=answer.prev,
            at_ms=request.at_ms,
            kind=request.kind,
            body=request.body,
        )
        self.delivery.publish(request.log, entry, sender=RELAY, notice=QUIETLY)

    # Connections.

    def key(self, connection: Connection, log: LogId) -> LogKey:
        """Return the key of a log of the connection's organisation."""
        return LogKey(connection.organisation.id, log)

    def forget(self, connection: Connection) -> None:
        """Let a connection go that has ended."""
        self.tokens.revoke(connection)
        if hasattr(connection, "device_id"):
            self.delivery.leave(connection)
            self.reach.left(connection)

    def is_outdated(self, connection: Connection) -> bool:
        """Tell whether a device's certificate has ended while it was connected.

        By two clocks: one that is set a year ahead would send a whole hospital away for good.
        """
        wall_ms, awake_ms = connection.proved_at
        at_ms = min(self.now_ms(), wall_ms + self.awake_ms() - awake_ms)
        end_ms = connection.device.identity.not_after_ms
        return access.may_stay(not_after_ms=end_ms, at_ms=at_ms) is not None

    def end_outdated(self) -> None:
        """End the sessions of devices whose certificate has ended since they came."""
        for connection in self.delivery.everybody():
            if connection.is_served and self.is_outdated(connection):
                connection.close(Code.OUTDATED)

    def changed(self, device: Device, *, seen_ms: int) -> Device:
        """Return a device with another day of its last visit."""
        return replace(device, seen_ms=seen_ms)

    async def join_audit(self, organisation: Organisation, device: Device) -> None:
        """Let the archive's recorder read the audit log."""
        if access.reads_audit(device.identity.roles):
            reader = Reader(device=device.id, expires=False)
            await self.store.change(ChangeReaders(LogKey(organisation.id, AUDIT_LOG), add=[reader]))

    async def begin(self, organisation: Organisation) -> None:
        """Begin to serve an organisation whose facts are loaded, unless its archive comes first."""
        self.organisations[organisation.id] = organisation
        if self.store.awaiting_archive and organisation.owed is None:
            # On the disk before anything is told, and until all is: what was the backup's own.
            head = self.store.head(LogKey(organisation.id, CONTROL_LOG))
            organisation.owed = 0 if head is None else head.seq
            await self.store.change(PutFacts(organisation.id, [owed_fact(organisation.owed)]))
        if organisation.owed is None:
            await self.prepare(organisation)
            self.start(organisation)

    async def prepare(self, organisation: Organisation) -> None:
        """Make the logs that every organisation has."""
        for log in (CONTROL_LOG, AUDIT_LOG):
            await self.store.change(CreateLog(LogKey(organisation.id, log)))

    def start(self, organisation: Organisation) -> None:
        """Take up what was under way: Commits that await their receipts, and pages."""
        for conversation, staged in organisation.staged.items():
            key = LogKey(organisation.id, LogId(b"c" + conversation))
            self.delivery.hold(key, organisation.held_back(staged))
        self.pages.begin(organisation)

    # Whom an entry disturbs.

    def notice(self, organisation: Organisation, routed: Routed) -> Notice:
        """Return what a new message has to say to people."""
        if routed.content_type is not ContentType.APPLICATION:
            return QUIETLY
        context = organisation.contexts.get(routed.conversation)
        if context is not None and context.conversation_type is ConversationType.PAGE:
            log = conversation_log(routed.conversation)
            kind = EntryKind.MESSAGE
            return self.pages.notice(organisation, log, kind, routed.data.priority)
        asked = self._meant(organisation, routed.data.target)
        return Notice(priority=routed.data.priority, asked=asked, routed=routed)

    def _meant(self, organisation: Organisation, target: Target) -> Collection[UserName] | None:
        """Return whom a message is meant to reach; the others find it when they look."""
        if target.kind is TargetKind.CONVERSATION:
            return None
        now_ms = self.now_ms()
        return meant(organisation.duty.roster(now_ms, organisation.holders), target, at_ms=now_ms)

    def common_word(self, key: LogKey, notice: Notice) -> Attended | None:
        """Return how a new entry may reach everybody; ``None`` where each is asked about."""
        if not key.id.startswith(b"c"):
            return ALERT
        if notice.priority is None or notice.asked is not None:
            return None
        alerts = notice.always or not self.organisations[key.organisation].duty.in_use
        return ALERT if alerts else None

    def word(self, connection: Connection, notice: Notice) -> Attended:
        """Return how an entry of a conversation may reach a device's person."""
        user = user_of(connection.device_id)
        return self.situations.word(connection.organisation, user, notice, now_ms=self.now_ms())

    def late_words(
        self, connection: Connection, log: LogId, entries: Sequence[Entry]
    ) -> list[Attended]:
        """Return how entries of a log may reach a device's person that reads them from it now."""
        if not log.startswith(b"c"):
            return [ALERT] * len(entries)
        organisation = connection.organisation
        context = organisation.contexts.get(ConversationId(log[1:]))
        paged = context is not None and context.conversation_type is ConversationType.PAGE
        late = self._late_page_notice if paged else self._late_notice
        # Without a schedule whoever is meant is alerted, and nearly always that is everybody.
        plainly = not (paged or organisation.duty.in_use)
        return [
            ALERT
            if plainly and _is_for_everybody(entry)
            else self.word(connection, late(organisation, log, entry))
            for entry in entries
        ]

    def _late_page_notice(self, organisation: Organisation, log: LogId, entry: Entry) -> Notice:
        if entry.kind not in (EntryKind.MESSAGE, EntryKind.PAGE):
            return QUIETLY
        return self.pages.late_notice(organisation, log, entry)

    def _late_notice(self, organisation: Organisation, _log: LogId, entry: Entry) -> Notice:
        if entry.kind not in (EntryKind.MESSAGE, EntryKind.PAGE) or entry.sender == RELAY:
            return QUIETLY
        try:
            target = target_of(entry.body)
        except (DecodeError, InvalidError):
            # Its body is gone: expired or voided.
            return QUIETLY
        return Notice(priority=Priority(entry.priority), asked=self._meant(organisation, target))

    def say(self, user: UserName, what: Word, role: RoleName) -> None:
        """Say something to a person by the second channel, where there is one."""
        if self.second_channel is not None:
            self.count("second_channel_calls")
            self.run(self.second_channel.say(user, what, role))

    # Limits.

    def pause_ms(self) -> int:
        """Return how long clients are to wait when they cannot be served for a moment."""
        return PAUSE_MS

    def address_of(self, peer: str, forwarded: str) -> str:
        """Return a client's address: its peer's, or what a proxy that is believed says of it.

        Args:
            peer: Address of the socket's other end.
            forwarded: The request's ``X-Forwarded-For``; empty without one. Its last element is
                the proxy's own word, all before it the client's.
        """
        if forwarded and peer in self._proxies:
            return forwarded.rpartition(",")[2].strip()[:ADDRESS_MAX]
        return peer

    def is_flooding(self, transport: asyncio.BaseTransport) -> bool:
        """Tell whether a socket's address opens more of them than any hospital does.

        A proxy that is believed speaks for many, and says for whom when the socket is open.
        """
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if address in self._proxies:
            return False
        if not self._accepted.wait_ms(network_of(address), now_s=self.now_s()):
            return False
        self.count("closed_flooding")
        return True

    def connection_wait_ms(self, address: str) -> int:
        """Return how long an address must wait with its next connection."""
        return self._connections.wait_ms(network_of(address), now_s=self.now_s())

    def web_wait_ms(self, address: str) -> int:
        """Return how long an address must wait with its next request over HTTP."""
        wait_ms = self._asked.wait_ms(network_of(address), now_s=self.now_s())
        if wait_ms:
            self.count("closed_asking")
        return wait_ms

    def message_wait_ms(self, connection: Connection, priority: Priority, *, size: int) -> int:
        """Return how long a device must wait with a message; urgent ones never wait for routine."""
        urgent = priority >= Priority.URGENT
        limiter = self._urgent if urgent else self._routine
        wait_ms = limiter.wait_ms(connection.device_key, now_s=self.now_s())
        wait_ms = wait_ms or self._kept_wait_ms(connection, size, urgent=urgent)
        return 0 if wait_ms and self._is_recorder(connection) else wait_ms

    def commit_wait_ms(self, connection: Connection, *, size: int) -> int:
        """Return how long a device must wait with a Commit; the steward changes many at once."""
        if self._is_recorder(connection):
            return 0
        wait_ms = self._commits.wait_ms(connection.device_key, now_s=self.now_s())
        return wait_ms or self._kept_wait_ms(connection, size, urgent=False)

    def creation_wait_ms(self, connection: Connection) -> int:
        """Return how long a device must wait until it begins another conversation."""
        return self._creations.wait_ms(connection.device_key, now_s=self.now_s())

    def personal_wait_ms(self, connection: Connection, kind: StatementType) -> int:
        """Return how long a device must wait with what its person asks for; less to suspend."""
        suspends = kind is StatementType.SUSPENSION
        limiter = self._commits if suspends else self._personal
        return limiter.wait_ms(connection.device_key, now_s=self.now_s())

    def post_wait_ms(self, connection: Connection, *, size: int) -> int:
        """Return how long a device must wait with a statement, as for an urgent message."""
        if self._is_recorder(connection):
            return 0
        return self._kept_wait_ms(connection, size, urgent=True)

    def _kept_wait_ms(self, connection: Connection, size: int, *, urgent: bool) -> int:
        """Return how long a device must wait until it leaves so many bytes for others to fetch.

        Whoever should fetch them may be away for as long as entries are kept at all. So what one
        device can fill of the disk is what it may leave at once, and the rate times that.
        """
        acts = size + KEPT_ENTRY_BYTES
        return self._kept[urgent].wait_ms(connection.device_key, now_s=self.now_s(), acts=acts)

    def request_wait_ms(self, connection: Connection) -> int:
        """Return how long a device must wait with a request; the archive's has one a Commit."""
        if self._is_recorder(connection):
            return 0
        return self._requests.wait_ms(connection.device_key, now_s=self.now_s())

    def claim_wait_ms(self, connection: Connection, device: DeviceId) -> int:
        """Return how long a device must wait until it claims a key package of another again."""
        if self._is_recorder(connection):
            return 0
        return self._claims.wait_ms((*connection.device_key, device), now_s=self.now_s())

    def _is_recorder(self, connection: Connection) -> bool:
        known = connection.organisation.devices.get(connection.device_id)
        return known is not None and Role.RECORDER in known.identity.roles

    def secret_wait_ms(self, organisation: Organisation, name: str) -> int:
        """Return how long an account must wait with the next try of a secret."""
        return self._secrets_tries.wait_ms((organisation.id, name), now_s=self.now_s())

    def is_full(self, key: LogKey, priority: Priority) -> bool:
        """Tell whether routine messages wait because the archive is too far behind."""
        return priority < Priority.URGENT and key in self._behind_archive

    async def expire(self) -> None:
        """Let go of what nobody fetched in time, and tell whoever lost its place and is here.

        Raises:
            StoreError: The store could not do it now.
        """
        await self.blobs.expire(
            after_ms=self.configuration.storage.attachment_days * 24 * 3600 * 1000,
            wall_ms=self.now_ms(),
            monotonic_ms=time.monotonic_ns() // 1_000_000,
        )
        lapsed = await self.store.change(
            Expire(
                after_ms=self.configuration.storage.expiry_days * 24 * 3600 * 1000,
                wall_ms=self.now_ms(),
                monotonic_ms=time.monotonic_ns() // 1_000_000,
            )
        )
        for one in lapsed:
            connection = self.delivery.connection(one.log.organisation, one.device)
            if connection is not None:
                connection.ended(one.log.id, Code.EXPIRED)

    def look_at_archive(self) -> None:
        """Note the conversations in which the archive is too far behind; asked now and then."""
        most = self.configuration.storage.backlog_entries
        self._behind_archive = {
            pending.log
            for organisation in self.organisations.values()
            for recorder in organisation.recorders()
            for pending in self.store.pending(organisation.id, recorder)
            if pending.waiting >= most
        }


def _is_for_everybody(entry: Entry) -> bool:
    """Tell whether an entry is a message to its whole conversation."""
    if entry.kind != EntryKind.MESSAGE or entry.sender == RELAY:
        return False
    try:
        return target_of(entry.body) is EVERYBODY
    except (DecodeError, InvalidError):
        return False


def _limiter(rate_per_s: float, *, times: int = 1) -> Limiter:
    burst = max(5, int(rate_per_s * BURST))
    return Limiter(rate_per_s=rate_per_s * times, burst=burst * times)

"""A hospital whose ward talks, whose archive records, and whose officers can open what it sealed.

The relay is left out: the officers' conversation is a list, the recorder a few calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from archive import intray
from archive.batch import Entry
from archive.casework import Casework, Officers
from archive.desk import Desk, create_desk
from archive.index import EpochPlace, Index, Place
from archive.log import Log
from archive.opening_handout import HandingOut, Permit
from archive.opening_reading import Segment
from archive.opening_session import Worker
from archive.opening_sessions import Sessions
from archive.record import RecordFlags, RecordType
from archive.roster import Roster
from archive.segment import SegmentName, seal_segment
from archive.shredding import ARCHIVE_BUCKET
from client.officer import Officer, OfficerIdentity
from client.officer_book import LogPolicy
from client.store import Store as DeviceStore
from crypto.errors import CryptoError
from crypto.mls import Add, Group
from crypto.mls.recording import EpochDecryption
from crypto.names import Role
from crypto.statement import Purpose as SignedAs
from crypto.statement import verify_statement
from crypto.statement_types import StatementType
from protocol.authenticated_data import AuthenticatedData, Priority
from protocol.content import Acknowledgement, Content, Read, Reference, Text, encode
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import DeviceId, OrganisationId, UserName
from protocol.letters import statement_of
from protocol.opening import Purpose, Scope, decode_officer_keys
from protocol.quorum import Quorum
from protocol.retention import CLINICAL, Bucket
from tests.archive.logs import Site
from tests.crypto.hospital import NOW_MS, Device, Staff
from tests.crypto.test_certified_group import key_package
from tests.crypto.test_enrolment import renewed

NAMES = ("odin", "olga", "omar", "oona", "otto")
QUORUM = Quorum(k=3, n=5, emergency_k=2)
OFFICER = frozenset({Role.CLINICIAN, Role.OFFICER})
DAY_MS = 86_400_000
WARD = b"w" * 32
CLINIC = b"x" * 32
VERIFIER = sha256(b"verifier").digest()


def accept(leaf: object, replaced: object) -> None:
    """Take any leaf: who is in a group is not these tests' matter."""


@dataclass
class Talk:
    """A conversation of two devices and the recorder, in its present epoch."""

    group_id: bytes
    speaker: Device
    listener: Device
    groups: dict[str, Group]
    epoch: int = 0
    sequence: int = 0
    sent: dict[str, int] = field(default_factory=dict)


class Archive(Staff):
    """The hospital with its archive."""

    def __init__(self, directory: Path, *, quorum: Quorum = QUORUM) -> None:
        super().__init__()
        self.now_ms = NOW_MS
        self.quorum = quorum
        self.site = Site(directory)
        self.log: Log = self.site.create()
        self.index = Index(self.log.store)
        self.recorder = self.enrol(
            "archive/recorder", self.authority, roles=frozenset({Role.RECORDER})
        )
        create_desk(directory / "desk.db", self.site.database_key)
        self.desk = Desk(directory / "desk.db", self.site.database_key)
        self.sessions = Sessions(directory / "review.db", self.site.database_key)
        self.officers: dict[str, Officer] = {}
        self.devices: dict[str, Device] = {}
        self.stores: dict[str, DeviceStore] = {}
        self.mail: list[bytes] = []
        self.directory = directory
        for name in NAMES:
            self.appoint(name)
        self.uploads: dict[str, list[bytes]] = {}
        known = (self.ada, self.bob, self.alice, self.recorder, *self.devices.values())
        self.record([self.certificate(device) for device in known])
        self.casework = self.new_casework()

    # -- people ---------------------------------------------------------------------------------

    def appoint(self, name: str) -> Officer:
        device = self.enrol(f"{name}/desk", *self.administrators, roles=OFFICER)
        store = DeviceStore.create(self.directory / f"{name}.db", bytes(32))
        self.devices[name], self.stores[name] = device, store
        self.officers[name] = self.officer_over(name)
        return self.officers[name]

    def renew(self, device: Device) -> Device:
        """Return a device with the certificate that it has after renewing it over the years."""
        while not device.identity.is_valid_at(self.now_ms):
            at_ms = device.identity.not_after_ms - DAY_MS
            device = self.know(device.keys, renewed(self, device, at_ms=at_ms), at_ms=at_ms)
        return device

    def officer_over(self, name: str) -> Officer:
        """Return an officer's program as it starts on its store."""
        identity = OfficerIdentity(
            organisation=self.organisation,
            user=UserName(name),
            signatory=self.devices[name].signs_as(SignedAs.OFFICER),
        )
        return Officer(
            self.stores[name],
            identity,
            trust=lambda: self.trust,
            policy=lambda: self.policy,
            quorum=self.quorum,
        )

    @property
    def policy(self) -> LogPolicy:
        return LogPolicy(log=self.site.signer.verifier, witnesses=(self.site.witness.key.verifier,))

    @property
    def staffing(self) -> Officers:
        names = tuple(UserName(name) for name in sorted(self.officers))
        return Officers(organisation=self.organisation, names=names, quorum=self.quorum)

    def new_casework(self) -> Casework:
        return Casework(self.desk, self.log.store, self.staffing, trust=lambda: self.trust)

    def handing_out(self) -> HandingOut:
        return HandingOut(
            self.desk, self.log.store, self.staffing, trust=lambda: self.trust, policy=self.policy
        )

    # -- recording ------------------------------------------------------------------------------

    def record(self, entries: Sequence[Entry]) -> tuple[int, ...]:
        return self.log.record(entries, now_ms=self.now_ms)

    def certificate(self, device: Device) -> Entry:
        return Entry(type=RecordType.KEY_CEREMONY, body=device.der, bucket=ARCHIVE_BUCKET)

    def take_up(self) -> None:
        """Record what was handed in; no witness has seen it yet."""
        for number, entry in intray.waiting(self.log.store, most=1000):
            with self.log.recording([entry], now_ms=self.now_ms) as recorded:
                intray.taken(self.log.store, number, recorded.indices[0])

    def witness(self) -> None:
        """Have everything cosigned."""
        note = self.log.publish()
        with self.log.store.transaction():
            self.log.store.change(
                "REPLACE INTO setting VALUES(?,?)", intray.WITNESSED, note.encode()
            )

    def tick(self) -> None:
        """Let some seconds pass at the archive, and the letters arrive."""
        self.now_ms += 1000
        for _ in range(3):
            self.take_up()
            self.witness()
            self.casework.step(self.now_ms)
            for number, letter in self.desk.outgoing():
                self.deliver(letter)
                self.desk.sent(number)

    # -- the officers' conversation -------------------------------------------------------------

    def deliver(self, letter: bytes, *, without: str = "") -> None:
        """Let a letter arrive at every officer's device."""
        self.mail.append(letter)
        for name, officer in self.officers.items():
            if name != without:
                officer.receive(letter, now_ms=self.now_ms)

    def post(self, name: str, letters: Sequence[bytes]) -> None:
        """Let an officer's letters arrive everywhere."""
        for letter in letters:
            self.mail.append(letter)
            for other, officer in self.officers.items():
                if other != name:
                    officer.receive(letter, now_ms=self.now_ms)
            self.desk.received(f"{name}/desk", letter, self.now_ms)
            self.take_keys(letter)
        self.tick()

    def take_keys(self, letter: bytes) -> None:
        """Do what the recorder does with officers' keys."""
        try:
            statement = statement_of(letter)
            if statement is None:
                return
            verified = verify_statement(
                statement,
                expected=StatementType.OFFICER_KEYS,
                trust=self.trust,
                at_ms=self.now_ms,
            )
        except CryptoError:
            return
        identity = verified.signers[0].identity
        assert identity is not None
        with self.log.store.transaction():
            for key in decode_officer_keys(verified.body).keys:
                self.index.add_officer_key(
                    identity.user, key.bucket, key.public_key, issued_ms=verified.issued_ms
                )

    def begin(self) -> None:
        """Let every officer publish keys."""
        for name, officer in self.officers.items():
            self.post(name, officer.begin(now_ms=self.now_ms, classes=[CLINICAL]))

    # -- conversations --------------------------------------------------------------------------

    def talk(self, group_id: bytes = WARD, *, listener: Device | None = None) -> Talk:
        """Return a conversation whose first epoch is sealed."""
        listener = listener or self.bob
        own = [key_package(device) for device in (self.alice, listener, self.recorder)]
        alice = Group.create(own[0], group_id=group_id)
        _, staged = alice.commit([Add(one.key_package) for one in own[1:]], authenticate=accept)
        assert staged.group is not None
        assert staged.welcome is not None
        groups = {"alice": alice.merge(staged.group)}
        for name, package in zip(("listener", "recorder"), own[1:], strict=True):
            groups[name] = Group.join(staged.welcome, package, authenticate=accept)
        talk = Talk(group_id=group_id, speaker=self.alice, listener=listener, groups=groups)
        self.seal(talk)
        return talk

    def seal(self, talk: Talk) -> None:
        """Record the sealed keys and roster of a conversation's present epoch."""
        group = talk.groups["recorder"]
        talk.epoch = group.epoch
        bucket = Bucket.at(CLINICAL, self.now_ms).name
        officers = self.index.officers(bucket, sorted(self.officers))
        sealed = seal_segment(
            EpochDecryption.of(group),
            SegmentName(
                organisation=self.organisation,
                group_id=talk.group_id,
                epoch=group.epoch,
                bucket=bucket,
            ),
            officers=officers,
            k=self.quorum.split_k,
        )
        roster = Roster(
            group_id=talk.group_id,
            epoch=group.epoch,
            context=self.context.encode(),
            members=tuple(
                (int(at), sha256(leaf.credential.certificates[0]).digest())
                for at, leaf in group.members
            ),
        )
        common = Entry(
            type=RecordType.EPOCH_KEYS,
            body=sealed.encode(),
            bucket=bucket,
            group_id=talk.group_id,
            epoch=group.epoch,
        )
        entries = [common, replace(common, type=RecordType.ROSTER, body=roster.encode())]
        with self.log.recording(entries, now_ms=self.now_ms) as recorded:
            keys, rosters = recorded.indices
            place = EpochPlace(epoch=group.epoch, keys=keys, roster=rosters, began_ms=self.now_ms)
            users = ["alice", talk.listener.identity.user, "archive"]
            self.index.add_epoch(roster, place, users=users)

    @property
    def context(self) -> WardlineContext:
        return WardlineContext(
            organisation=OrganisationId(self.organisation),
            conversation_type=ConversationType.GROUP,
            owners=(UserName("alice"),),
            recorder=DeviceId("archive/recorder"),
            retention_class=CLINICAL,
        )

    def say(self, talk: Talk, content: Content | bytes, *, who: str = "alice") -> int:
        """Send a message and record it; return its record's index."""
        talk.sequence += 1
        message_id = talk.sent[who] = talk.sent.get(who, 0) + 1
        data = AuthenticatedData(message_id=message_id, priority=Priority.URGENT).encode()
        plain = content if isinstance(content, bytes) else encode(content)
        group, message = talk.groups[who].encrypt(plain, authenticated_data=data)
        talk.groups[who] = group
        entry = Entry(
            type=RecordType.MESSAGE,
            body=message,
            bucket=Bucket.at(CLINICAL, self.now_ms).name,
            group_id=talk.group_id,
            epoch=talk.epoch,
            flags=RecordFlags.SIGNATURE_CHECKED,
        )
        self.now_ms += 1
        with self.log.recording([entry], now_ms=self.now_ms) as recorded:
            (index,) = recorded.indices
            place = Place(
                index=index,
                type=RecordType.MESSAGE,
                epoch=talk.epoch,
                sequence=talk.sequence,
                sent_ms=self.now_ms,
            )
            self.index.add_places({talk.group_id: [place]})
        return index

    def rekey(self, talk: Talk) -> None:
        """Begin the conversation's next epoch."""
        alice, staged = talk.groups["alice"].commit(authenticate=accept)
        assert staged.group is not None
        talk.groups["alice"] = alice.merge(staged.group)
        for name in ("listener", "recorder"):
            group = talk.groups[name]
            group, received = group.process(staged.message, authenticate=accept)
            talk.groups[name] = group.merge(received.group)  # type: ignore[union-attr,arg-type]
        self.seal(talk)

    # -- an opening -----------------------------------------------------------------------------

    def scope(self, *conversations: bytes, people: Sequence[str] = (), patient: str = "") -> Scope:
        return Scope(
            conversations=tuple(sorted(conversations)),
            people=tuple(UserName(name) for name in sorted(people)),
            patient=patient,
            from_ms=NOW_MS,
            until_ms=self.now_ms + 1,
        )

    def ask(
        self,
        scope: Scope,
        *,
        who: str = "olga",
        emergency: bool = False,
        session: bytes | None = None,
        life_ms: int = 7 * DAY_MS,
        purpose: Purpose = Purpose.REVIEW,
    ) -> bytes:
        """Let an officer ask for a scope; return the request's hash."""
        if session is None:
            self.desk.begin_session(self.sessions.begin(), self.now_ms)
        self.tick()
        officer = self.officers[who]
        self.post(who, officer.draft(scope, purpose=purpose))
        nonce = officer.offers()[0].draft.nonce
        letters = officer.request(
            nonce,
            case="2026-118",
            reason="Complaint of the family",
            now_ms=self.now_ms,
            emergency=emergency,
            life_ms=life_ms,
        )
        self.post(who, letters)
        return officer.cases(now_ms=self.now_ms)[-1].filed.hash

    def approve(self, request: bytes, *names: str) -> None:
        for name in names:
            self.post(name, self.officers[name].approve(request, now_ms=self.now_ms))

    def release(self, request: bytes, *names: str) -> None:
        for name in names:
            self.post(name, self.officers[name].release(request, now_ms=self.now_ms))

    def opened(
        self,
        scope: Scope,
        *,
        names: Sequence[str] = NAMES[:3],
        purpose: Purpose = Purpose.REVIEW,
    ) -> bytes:
        """Go the whole way to released shares; return the request's hash."""
        request = self.ask(scope, purpose=purpose)
        self.approve(request, *names)
        self.release(request, *names)
        return request

    def hand_out(self, request: bytes) -> list[Segment]:
        """Hand out what was released."""
        handing = self.handing_out()
        number = handing.announce(handing.permit(request, now_ms=self.now_ms), verifier=VERIFIER)
        self.take_up()
        self.witness()
        return list(handing.segments(request, number, now_ms=self.now_ms))

    @contextmanager
    def worker(self, request: bytes, *, idle_s: float = 60) -> Iterator[Worker]:
        """Run a worker with what a request opens."""
        handing = self.handing_out()
        permit = handing.permit(request, now_ms=self.now_ms)
        number = handing.announce(permit, verifier=VERIFIER)
        self.take_up()
        self.witness()
        with self.worker_over(permit, number, idle_s=idle_s) as worker:
            yield worker

    @contextmanager
    def worker_over(self, permit: Permit, number: int, *, idle_s: float = 60) -> Iterator[Worker]:
        """Run a worker with what was announced."""
        key = self.sessions.key(permit.request.session_key)
        worker = Worker(key, self.root, idle_s=idle_s)
        try:
            worker.add(self.handing_out().segments(permit.hash, number, now_ms=self.now_ms))
            yield worker
        finally:
            worker.close()

    def close(self) -> None:
        self.log.close()
        self.desk.close()
        self.sessions.close()
        for store in self.stores.values():
            store.close()


def text(words: str) -> Text:
    return Text(text=words)


def read_through(device: str, message_id: int) -> Read:
    return Read(through=Reference(sender=DeviceId(device), message_id=message_id))


def acknowledge(device: str, message_id: int) -> Acknowledgement:
    return Acknowledgement(target=Reference(sender=DeviceId(device), message_id=message_id))

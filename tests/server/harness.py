"""A relay in this process, an organisation with certified devices, and a client for tests."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect

from crypto import codec
from crypto.certificate import Root, create_root, fingerprint, pin_root
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request, issue_certificate
from crypto.identity import admit
from crypto.invitation import Invitation
from crypto.names import Role
from crypto.proof import bind_invitation
from crypto.statement import Purpose, Signatory, StatementType, sign_statement
from crypto.tls_certificate import TlsIdentity, tls_pin
from crypto.trust import Trust
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, CommitData, Priority
from protocol.commands import CommitVerdict
from protocol.frames import Frame, Sender
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    LogId,
    OrganisationId,
    UserName,
    conversation_log,
)
from protocol.inbox import Item, ItemKind
from protocol.proof import connection_proof, device_proof
from protocol.session import VERSION, Session
from server import control, directory, http, sqlite_schema, witness
from server import secrets as secret_file
from server.blobs import Blobs
from server.configuration import Configuration, Listen, OrganisationSettings, Rates, Storage
from server.connection import Connection
from server.listener import Listener
from server.relay import Relay
from server.secrets import Secrets
from server.sqlite_store import SqliteStore
from server.store import LogKey
from server.tls import tls_context
from tests.waiting import WITHIN_S

T = TypeVar("T", bound=Frame)
__all__ = ["Rates", "Storage"]
PIN = bytes(32)
RECORDER = DeviceId("archive/recorder")
FAST = Rates(
    messages=1e5,
    commits=1e4,
    requests=1e4,
    claims=1e4,
    connections=1e4,
    secrets=1e3,
    personal=1e3,
    kept_bytes=1e9,
)


def owe(site: Site, *, told: bool = False) -> None:
    """Make a relay one that was restored, and whose archives have yet to tell it what it lacks."""
    for organisation in site.relay.organisations.values():
        organisation.owed = None if told else 0


def stated(statement: bytes) -> bytes:
    """Return a statement as an inbox holds it."""
    return Item(kind=ItemKind.STATEMENT, body=statement).encode()


HOUR_MS = 3600_000


def certified(certificate: bytes) -> bytes:
    """Return a certificate as an inbox holds it."""
    return Item(kind=ItemKind.CERTIFICATE, body=certificate).encode()


def is_verdict(frame: Frame) -> bool:
    """Tell whether a frame answers a message."""
    return isinstance(frame, frames.Accepted | frames.RefusedMessage)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(kw_only=True)
class Person:
    """A device with its keys and certificate."""

    name: DeviceId
    keys: DeviceKeys
    certificate: bytes
    counter: int = 0

    def next_id(self) -> int:
        self.counter += 1
        return self.counter

    def signatory(self, purpose: Purpose) -> Signatory:
        connection = purpose is Purpose.CONNECTION
        key = self.keys.connection_key if connection else self.keys.signature_key
        return Signatory(purpose=purpose, fingerprint=fingerprint(self.certificate), key=key)


@dataclass(kw_only=True)
class Hospital:
    """An organisation: its root, its authority, and what the authority knows."""

    root: Root
    authority: SigningKey
    trust: Trust
    people: dict[str, Person] = field(default_factory=dict)

    @property
    def id(self) -> OrganisationId:
        return OrganisationId(self.root.organisation)

    def signatory(self) -> Signatory:
        return Signatory(
            purpose=Purpose.AUTHORITY, fingerprint=self.root.organisation, key=self.authority
        )

    def signed(
        self,
        kind: StatementType,
        body: bytes,
        *,
        by: Signatory,
        issued_ms: int | None = None,
        lifetime_ms: int = HOUR_MS,
    ) -> bytes:
        """Return a statement to this organisation, of this moment where no other is named."""
        return sign_statement(
            kind,
            body,
            organisation=self.id,
            issued_ms=now_ms() if issued_ms is None else issued_ms,
            lifetime_ms=lifetime_ms,
            signatory=by,
        )

    def invitation(self, user: str, *roles: Role) -> tuple[bytes, SigningKey]:
        seed = SigningKey.generate()
        body = Invitation(
            invitation_key=seed.public_key, user=user, roles=frozenset(roles), ends_ms=None
        ).encode()
        statement = self.signed(StatementType.INVITATION, body, by=self.signatory())
        return statement, seed

    def request(self, keys: DeviceKeys, statement: bytes, seed: SigningKey) -> bytes:
        binding = bind_invitation(statement, claim=keys.claim, key=seed)
        return create_request(
            keys,
            organisation=self.root.organisation,
            statement=statement,
            binding=binding,
            at_ms=now_ms(),
        )

    def enrol(self, name: str, *roles: Role) -> Person:
        user, device = name.split("/")
        keys = DeviceKeys(
            user=user,
            device=device,
            signature_key=SigningKey.generate(),
            connection_key=SigningKey.generate(),
        )
        statement, seed = self.invitation(user, *(roles or (Role.CLINICIAN,)))
        return self.certify(keys, self.request(keys, statement, seed))

    def certify(self, keys: DeviceKeys, request: bytes) -> Person:
        certificate = issue_certificate(
            request, trust=self.trust, authority=self.authority, at_ms=now_ms()
        )
        self.trust = admit(self.trust, [certificate])
        name = DeviceId(f"{keys.user}/{keys.device}")
        person = Person(name=name, keys=keys, certificate=certificate)
        self.people[name] = person
        return person


def hospital(name: str = "St. Elsewhere") -> Hospital:
    der, authority = create_root(name, at_ms=now_ms() - 1000)
    root = pin_root(der, organisation=fingerprint(der))
    made = Hospital(root=root, authority=authority, trust=Trust(root=root))
    made.enrol(RECORDER, Role.RECORDER)
    return made


class Client:
    """A device's side of a connection."""

    def __init__(self, socket: ClientConnection, person: Person, of: Hospital) -> None:
        self.socket = socket
        self.person = person
        self.hospital = of
        self.session = Session(Sender.CLIENT)
        self.early: list[Frame] = []
        self.hello: frames.Hello | None = None
        self.challenge: frames.Challenge | None = None
        self.ref = 0
        self.token = b""

    async def send(self, frame: Frame) -> None:
        await self.socket.send(self.session.send(frame))

    async def receive(self) -> Frame:
        data = await asyncio.wait_for(self.socket.recv(), WITHIN_S)
        assert isinstance(data, bytes)
        return self.session.receive(data)

    async def expect(self, kind: type[T], wanted: Callable[[T], bool] = lambda _: True) -> T:
        """Return the next frame of a kind, keeping others for later."""
        for index, frame in enumerate(self.early):
            if isinstance(frame, kind) and wanted(frame):
                del self.early[index]
                return frame
        while True:
            frame = await self.receive()
            if isinstance(frame, kind) and wanted(frame):
                return frame
            self.early.append(frame)

    async def greet(self, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "versions": (VERSION,),
            "organisation": self.hospital.id,
            "device": self.person.name,
            "nonce": secrets.token_bytes(32),
            "certificate": self.person.certificate,
            "request": b"",
        }
        self.hello = frames.Hello(**{**fields, **changes})
        await self.send(self.hello)
        self.challenge = await self.expect(frames.Challenge)

    def device_signature(self) -> bytes:
        assert self.hello is not None
        assert self.challenge is not None
        return self.person.keys.signature_key.sign(device_proof(self.hello, self.challenge))

    async def prove(self, *, unlocked: bool = True) -> Frame:
        assert self.hello is not None
        assert self.challenge is not None
        proof = connection_proof(self.hello, self.challenge)
        signature = self.device_signature() if unlocked else b""
        await self.send(
            frames.Prove(
                connection_signature=self.person.keys.connection_key.sign(proof),
                device_signature=signature,
            )
        )
        return await self.receive()

    async def answer(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer."""
        self.ref += 1
        ref = self.ref
        await self.send(make(ref))
        return await self.expect(Frame, lambda frame: getattr(frame, "ref", -1) == ref)

    async def closed(self) -> frames.Close:
        return await self.expect(frames.Close)


class Site:
    """A relay that is running, and how to reach it."""

    listener: Listener

    def __init__(self, relay: Relay, port: int, of: Hospital) -> None:
        self.relay = relay
        self.port = port
        self.hospital = of
        self.sockets: list[ClientConnection] = []
        self.clients: dict[str, Client] = {}
        self.later_ms = 0
        self.secure = False
        self._stands_ms: int | None = None

        def clock() -> int:
            return (self._stands_ms or now_ms()) + self.later_ms

        relay.now_ms = clock  # type: ignore[method-assign]

    @property
    def frozen(self) -> bool:
        """Whether the relay's clock stands, and moves by ``later_ms`` alone."""
        return self._stands_ms is not None

    @frozen.setter
    def frozen(self, stands: bool) -> None:
        self._stands_ms = now_ms() if stands else None

    def key(self, log: LogId) -> LogKey:
        return LogKey(self.hospital.id, log)

    def connection(self, client: Client) -> Connection:
        found = self.relay.delivery.connection(self.hospital.id, client.person.name)
        assert found is not None
        return found

    def make_announcement(self, conversation: ConversationId) -> None:
        contexts = self.relay.organisations[self.hospital.id].contexts
        contexts[conversation] = dataclasses.replace(
            contexts[conversation], conversation_type=ConversationType.ANNOUNCEMENT
        )

    def invited(self, user: str, *roles: Role) -> tuple[bytes, SigningKey]:
        """Return an invitation that the relay keeps, as after an administrator's command."""
        statement, seed = self.hospital.invitation(user, *roles)
        kept = (now_ms() + 24 * 3600 * 1000).to_bytes(8, "big") + statement
        self.relay.organisations[self.hospital.id].invitations[seed.public_key] = kept
        return statement, seed

    async def socket(self) -> ClientConnection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        made = await connect(
            f"{'wss' if self.secure else 'ws'}://127.0.0.1:{self.port}/v1/stream",
            ssl=context if self.secure else None,
            compression=None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            proxy=None,
        )
        self.sockets.append(made)
        return made

    async def client(self, person: Person, of: Hospital | None = None) -> Client:
        return Client(await self.socket(), person, of or self.hospital)

    async def open(self, person: Person) -> Client:
        made = await self.client(person)
        await made.greet()
        opened = await made.prove()
        assert isinstance(opened, frames.Opened), type(opened)
        made.token = opened.token
        self.clients[person.name] = made
        return made

    async def meeting(self, *names: str) -> tuple[list[Client], ConversationId]:
        """Return clients that share a confirmed conversation; the recorder is the last one."""
        people = [self.hospital.people.get(name) or self.hospital.enrol(name) for name in names]
        clients = [await self.open(person) for person in people]
        recorder = await self.open(self.hospital.people[RECORDER])
        conversation = ConversationId(secrets.token_bytes(32))
        joined = [client.person.name for client in (*clients[1:], recorder)]
        sequence = await commit(clients[0], conversation, epoch=0, added=joined)
        await confirm(recorder, conversation, sequence=sequence, epoch=1)
        for client in clients:
            await client.expect(frames.Deliver, lambda e: e.kind == frames.EntryKind.RECEIPT)
        return [*clients, recorder], conversation


def private_message(
    conversation: bytes,
    data: AuthenticatedData,
    *,
    epoch: int,
    kind: int = 1,
    body: bytes = b"sealed",
) -> bytes:
    """Return an MLSMessage as the relay sees one; what is encrypted in it is nobody's business."""
    return b"".join(
        (
            b"\x00\x01\x00\x02",
            codec.opaque(conversation),
            codec.u64(epoch),
            codec.u8(kind),
            codec.opaque(data.encode()),
            codec.opaque(b"sender"),
            codec.opaque(body),
        )
    )


def context(
    of: Hospital, owner: str, kind: ConversationType = ConversationType.GROUP
) -> WardlineContext:
    return WardlineContext(
        organisation=of.id,
        conversation_type=kind,
        owners=(UserName(owner),),
        recorder=RECORDER,
        retention_class="clinical",
    )


def commit_message(
    client: Client,
    conversation: bytes,
    *,
    epoch: int,
    added: list[DeviceId],
    removed: list[DeviceId],
    conversation_type: ConversationType = ConversationType.GROUP,
) -> tuple[int, bytes]:
    number = client.person.next_id()
    user = client.person.keys.user
    data = AuthenticatedData(
        message_id=number,
        commit=CommitData(
            added=tuple(sorted(added)),
            removed=tuple(sorted(removed)),
            context=None if epoch else context(client.hospital, user, conversation_type),
        ),
    )
    return number, private_message(conversation, data, epoch=epoch, kind=3)


async def commit(
    client: Client,
    conversation: bytes,
    *,
    epoch: int,
    added: list[DeviceId] | None = None,
    removed: list[DeviceId] | None = None,
    conversation_type: ConversationType = ConversationType.GROUP,
) -> int:
    """Commit, and return the Commit's sequence number."""
    number, message = commit_message(
        client,
        conversation,
        epoch=epoch,
        added=added or [],
        removed=removed or [],
        conversation_type=conversation_type,
    )
    welcome = b"\x00\x01\x00\x03welcome" if added else b""
    await client.send(frames.AppendCommit(message=message, welcome=welcome))
    accepted = await client.expect(frames.Accepted, lambda a: number in a.message_ids)
    return accepted.sequences[accepted.message_ids.index(number)]


async def verdict(
    client: Client,
    conversation: bytes,
    *,
    sequence: int,
    epoch: int,
    kind: StatementType,
    commit_hash: bytes,
) -> Frame:
    purpose = Purpose.RECORDER if client.person.name == RECORDER else Purpose.DEVICE
    body = CommitVerdict(
        conversation=ConversationId(conversation),
        sequence=sequence,
        epoch=epoch,
        commit_hash=commit_hash,
        confirmed_transcript_hash=bytes(32),
    ).encode()
    statement = client.hospital.signed(kind, body, by=client.person.signatory(purpose))
    log = conversation_log(ConversationId(conversation))
    return await client.answer(lambda ref: frames.Post(ref=ref, log=log, statement=statement))


def staged_hash(relay: Relay, of: Hospital, conversation: bytes) -> bytes:
    return relay.organisations[of.id].staged[ConversationId(conversation)].commit_hash


async def confirm(client: Client, conversation: bytes, *, sequence: int, epoch: int) -> None:
    """Sign the receipt of a staged Commit whose hash the test's relay tells."""
    hashes = client.hospital
    commit_hash = staged_hash(RELAYS[hashes.id], hashes, conversation)
    done = await verdict(
        client,
        conversation,
        sequence=sequence,
        epoch=epoch,
        kind=StatementType.EPOCH_RECEIPT,
        commit_hash=commit_hash,
    )
    assert isinstance(done, frames.Done), done


RELAYS: dict[bytes, Relay] = {}
"""The relay of each organisation, for tests that look behind the wire."""


def message(
    client: Client,
    conversation: bytes,
    *,
    epoch: int,
    body: bytes = b"sealed",
    priority: Priority = Priority.ROUTINE,
) -> frames.Append:
    data = AuthenticatedData(message_id=client.person.next_id(), priority=priority)
    return frames.Append(message=private_message(conversation, data, epoch=epoch, body=body))


@asynccontextmanager
async def running(
    folder: Path,
    of: Hospital,
    *others: Hospital,
    rates: Rates = FAST,
    tls: TlsIdentity | None = None,
    **settings: Any,
) -> AsyncIterator[Site]:
    """Run a relay on a store in ``folder``, which is made if it is not there."""
    path = folder / "relay.db"
    if not path.exists():
        await asyncio.to_thread(sqlite_schema.create, path)
        await asyncio.to_thread(secret_file.create_key, folder / "secrets.key")
        await asyncio.to_thread(secret_file.create, folder / "secrets.db", folder / "secrets.key")
    if not (folder / "witness.key").exists():
        await asyncio.to_thread(witness.create_key, folder / "witness.key")
    configuration = Configuration(
        data=str(folder),
        organisations=(OrganisationSettings(root="root.der"),),
        rates=rates,
        **{"listen": Listen(host="127.0.0.1", port=0), **settings},
    )
    store = await SqliteStore.open(path)
    kept = await Secrets.open(folder / "secrets.db", folder / "secrets.key")
    (folder / "attachments").mkdir(exist_ok=True)
    blobs = await Blobs.open(folder / "attachments", quota_bytes=1 << 30)
    relay = Relay(
        configuration,
        store=store,
        secrets=kept,
        blobs=blobs,
        pin=PIN if tls is None else tls_pin(tls.certificate),
        witness=witness.read_key(folder / "witness.key"),
    )
    for one in (of, *others):
        await relay.begin(directory.load(one.root, await store.facts(one.id)))
        RELAYS[one.id] = relay
    if not relay.reconciling:
        await control.redo_orders(relay)
    listener = Listener(relay, http.application(relay), tls=_context(folder, tls))
    site = Site(relay, await listener.start(), of)
    site.listener = listener
    site.secure = tls is not None
    try:
        yield site
    finally:
        for socket in site.sockets:
            await socket.close()
        await listener.drain()
        await relay.settled()
        await store.close()
        await kept.close()
        await blobs.close()


def _context(folder: Path, tls: TlsIdentity | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    (folder / "tls.pem").write_bytes(tls.certificate)
    (folder / "tls.key").write_bytes(tls.key)
    return tls_context(folder / "tls.pem", folder / "tls.key")


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()

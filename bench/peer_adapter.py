"""Wardline's relay as one of the peers that ``bench/relay.py`` measures; loaded by PEERS_EXTRA.

The relay is the real program in a process of its own. Its organisation, devices and certificates
are put into a store that ``init`` made, as enrolment would have left them; conversations are then
begun over the wire, by Commits and signed receipts, so that the archive's recorder is a reader of
each and gets every message beside the recipients. Clients are thin: what they send is framed and
headed as the protocol demands, and what is encrypted inside is opaque bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec

from crypto import codec
from crypto.certificate import fingerprint
from crypto.statement import Purpose, StatementType, sign_statement
from protocol import frames
from protocol.authenticated_data import AuthenticatedData
from protocol.commands import CommitVerdict
from protocol.frames import Frame
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    conversation_log,
    inbox_log,
)
from protocol.proof import connection_proof, device_proof
from protocol.session import VERSION
from server.directory import Device
from server.sqlite_store import SqliteStore
from server.store import (
    ChangeReaders,
    CreateLog,
    LogKey,
    PutFacts,
    Reader,
)
from tests.server.harness import RECORDER, Hospital, Person, commit_message, hospital, now_ms

if TYPE_CHECKING:
    HEAD_BYTES = PAYLOAD = 0

    class Client(asyncio.Protocol):
        """What is used here of the peers' thin client."""

        tr: asyncio.Transport
        loop: asyncio.AbstractEventLoop
        opened: asyncio.Future[None]

        def push(self, data: bytes, op: int = 2) -> None: ...

    class Adapter:
        """What is used here of the peers' base class."""

        dir: Path
        port: int
        started_before: bool

        def __init__(self, workdir: Path) -> None: ...

        async def start(self, users: list[str]) -> None: ...

else:
    from peers.adapters.ws import Client
    from peers.core import HEAD, PAYLOAD, Adapter

    HEAD_BYTES = HEAD.size

PROGRAM = Path(sys.executable).with_name("wardline-relay")

CONVERSATIONS_MAX = 500
"""Routes beyond which a workload only connects, and sends nothing."""

ARCHIVE_S = 0.02
"""Seconds for which the recorder gathers what it acknowledges, as one that syncs before would."""

TOGETHER_S = 0.05
"""Seconds for which devices that join a group are gathered into one Commit."""

ANSWER_S = 20.0
"""Seconds until an answer that does not come ends the workload."""

CONFIGURATION = """
data = "data"
log_level = "WARNING"
[[organisations]]
root = "root.der"
[listen]
host = "127.0.0.1"
port = {port}
{listen}
[rates]
messages = 1e6
commits = 1e5
requests = 1e5
claims = 1e5
connections = 1e6
kept_bytes = 1e10
"""

PLAIN, TLS = 'behind_proxy = true\npin_file = "pin"', ""
CONVERSATION = b"c"[0]

_encode = frames.encode
_decode = msgspec.msgpack.Decoder(frames.FromRelay).decode
Token = tuple[bytes, int]


class Line(Client):
    """One device's connection: opened in full, then as thin as it gets."""

    def __init__(self, person: Person, of: Hospital, *, gather_s: float = 0.0) -> None:
        super().__init__()
        self.person = person
        self.hospital = of
        self.gather_s = gather_s
        self.opening: asyncio.Queue[Frame] | None = asyncio.Queue()
        self.pending: dict[int, asyncio.Future[int]] = {}
        self.answers: dict[int, asyncio.Future[Frame]] = {}
        self.callback: Callable[[bytes, Token], None] | None = None
        self.early: list[tuple[bytes, Token]] = []
        self.acknowledged: dict[bytes, int] = {}
        self.flushing = False
        self.ref = 0
        self.envelopes: dict[bytes, tuple[bytes, bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tr = cast("asyncio.Transport", transport)
        self.tr.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Version: 13\r\n\r\n"
        )

    def lost(self) -> None:
        for message in self.pending.values():
            message.cancel()
        for request in self.answers.values():
            request.cancel()
        if self.opening is not None:
            self.opening.put_nowait(frames.Close(code=0, detail=0))

    # What the relay says.

    def frame(self, data: bytes) -> None:
        frame = _decode(data)
        kind = type(frame)
        if kind is frames.Deliver:
            self.deliver(cast("frames.Deliver", frame))
        elif kind is frames.Accepted:
            accepted = cast("frames.Accepted", frame)
            for number, sequence in zip(accepted.message_ids, accepted.sequences, strict=True):
                future = self.pending.pop(number)
                if not future.done():
                    future.set_result(sequence)
        else:
            self.told(frame)

    def told(self, frame: Frame) -> None:
        if self.opening is not None:
            self.opening.put_nowait(frame)
        elif isinstance(frame, frames.RefusedMessage):
            refusal = RuntimeError(f"message refused with {frame.code}, {frame.detail}")
            self.pending.pop(frame.message_id).set_exception(refusal)
        elif isinstance(frame, frames.Done | frames.Refused):
            self.answers.pop(frame.ref).set_result(frame)
        else:
            sys.stderr.write(f"{self.person.name}: {frame}\n")

    def deliver(self, entry: frames.Deliver) -> None:
        token = (entry.log, entry.sequence)
        if self.gather_s or entry.kind or entry.log[0] != CONVERSATION:
            # The recorder's, or what a program takes in by itself: Commits, receipts, Welcomes.
            self.acknowledge(token)
            return
        body = entry.body
        start = len(body) - PAYLOAD
        head = body[start : start + HEAD_BYTES]
        if self.callback is None:
            self.early.append((head, token))
        else:
            self.callback(head, token)

    # What the device says.

    def acknowledge(self, token: Token) -> None:
        """Acknowledge an entry and all before it, together with what else comes in this turn."""
        self.acknowledged[token[0]] = token[1]
        if self.flushing:
            return
        self.flushing = True
        if self.gather_s:
            self.loop.call_later(self.gather_s, self.flush)
        else:
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self.flushing = False
        moved, self.acknowledged = self.acknowledged, {}
        for log, through in moved.items():
            self.push(_encode(frames.Acknowledge(log=log, through=through)))

    def message(self, conversation: Conversation, body: bytes) -> asyncio.Future[int]:
        number = self.person.next_id()
        before, after = self.envelopes.get(conversation.id) or self.envelope(conversation)
        message = before + number.to_bytes(8, "big") + after + body
        self.push(_encode(frames.Append(message=message)))
        future = self.pending[number] = self.loop.create_future()
        return future

    def envelope(self, conversation: Conversation) -> tuple[bytes, bytes]:
        """Return the bytes of a PrivateMessage before its message id, and those behind."""
        data = AuthenticatedData(message_id=1).encode()
        before = b"".join(
            (
                b"\x00\x01\x00\x02",
                codec.opaque(conversation.id),
                codec.u64(conversation.epoch),
                codec.u8(1),
                codec.opaque(data)[: -len(data)],
                data[:4],
            )
        )
        after = data[12:] + codec.opaque(bytes(28)) + codec.opaque(bytes(PAYLOAD))[:-PAYLOAD]
        self.envelopes[conversation.id] = before, after
        return before, after

    async def open(self) -> None:
        """Prove both keys."""
        await asyncio.wait_for(self.opened, ANSWER_S)
        queue = cast("asyncio.Queue[Frame]", self.opening)
        hello = frames.Hello(
            versions=(VERSION,),
            organisation=self.hospital.id,
            device=self.person.name,
            nonce=secrets.token_bytes(32),
            certificate=self.person.certificate,
            request=b"",
        )
        self.push(_encode(hello))
        challenge = await asyncio.wait_for(queue.get(), ANSWER_S)
        if not isinstance(challenge, frames.Challenge):
            raise RuntimeError(f"{challenge} instead of a challenge")
        keys = self.person.keys
        proof = frames.Prove(
            connection_signature=keys.connection_key.sign(connection_proof(hello, challenge)),
            device_signature=keys.signature_key.sign(device_proof(hello, challenge)),
        )
        self.push(_encode(proof))
        opened = await asyncio.wait_for(queue.get(), ANSWER_S)
        if not isinstance(opened, frames.Opened):
            raise RuntimeError(f"{opened} instead of being let in")
        self.opening = None

    async def commit(self, conversation: Conversation, joining: list[DeviceId]) -> CommitVerdict:
        """Commit, and return what its receipt is to say."""
        number, message = commit_message(
            cast("Any", self),
            conversation.id,
            epoch=conversation.epoch,
            added=joining,
            removed=[],
        )
        staged = self.pending[number] = self.loop.create_future()
        welcome = b"\x00\x01\x00\x03" + bytes(1000)
        self.push(_encode(frames.AppendCommit(message=message, welcome=welcome)))
        return CommitVerdict(
            conversation=ConversationId(conversation.id),
            sequence=await asyncio.wait_for(staged, ANSWER_S),
            epoch=conversation.epoch + 1,
            commit_hash=hashlib.sha256(message).digest(),
            confirmed_transcript_hash=bytes(32),
        )

    async def confirm(self, verdict: CommitVerdict) -> None:
        """Post the receipt of a Commit."""
        statement = sign_statement(
            StatementType.EPOCH_RECEIPT,
            verdict.encode(),
            organisation=self.hospital.id,
            issued_ms=now_ms(),
            lifetime_ms=3600_000,
            signatory=self.person.signatory(Purpose.RECORDER),
        )
        self.ref += 1
        done = self.answers[self.ref] = self.loop.create_future()
        log = conversation_log(verdict.conversation)
        self.push(_encode(frames.Post(ref=self.ref, log=log, statement=statement)))
        answer = await asyncio.wait_for(done, ANSWER_S)
        if not isinstance(answer, frames.Done):
            raise RuntimeError(f"receipt refused with {cast('frames.Refused', answer).code}")


@dataclass(slots=True)
class Conversation:
    """A conversation as its members know it."""

    id: bytes
    founder: Line
    epoch: int = 0


class Wardline(Adapter):
    name = "wardline"
    note = "the whole relay, the archive's recorder a reader of every conversation"
    listen = PLAIN

    def __init__(self, workdir: Path) -> None:
        super().__init__(workdir)
        self.hospital = hospital()
        self.tls: ssl.SSLContext | None = None
        self.recorder: Line | None = None
        self.routes: dict[tuple[str, str], Conversation] = {}
        self.groups: dict[str, Conversation] = {}
        self.joining: dict[str, dict[DeviceId, asyncio.Future[None]]] = {}

    # The server.

    async def start(self, users: list[str]) -> None:
        if not self.started_before:
            await self.found(users)
        await super().start(users)

    def configure(self) -> tuple[list[str], dict[str, str]]:
        return [str(PROGRAM), "--config", str(self.dir / "relay.toml"), "run"], {}

    async def found(self, users: list[str]) -> None:
        """Make configuration, files and organisation, with every user's device enrolled."""
        settings = CONFIGURATION.format(port=self.port, listen=self.listen)
        (self.dir / "relay.toml").write_text(settings)
        (self.dir / "root.der").write_bytes(self.hospital.root.der)
        (self.dir / "pin").write_text(bytes(32).hex())
        command = [str(PROGRAM), "--config", str(self.dir / "relay.toml"), "init"]
        await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
        for user in users:
            self.hospital.enrol(f"{user}/1")
        store = await SqliteStore.open(self.dir / "data/relay.db")
        try:
            await self.enter(store)
        finally:
            await store.close()

    async def enter(self, store: SqliteStore) -> None:
        of, people = self.hospital, list(self.hospital.people.values())
        control, audit = LogKey(of.id, CONTROL_LOG), LogKey(of.id, AUDIT_LOG)
        inboxes = (
            store.change(
                CreateLog(LogKey(of.id, inbox_log(p.name)), readers=[Reader(device=p.name)])
            )
            for p in people
        )
        logs = [store.change(CreateLog(control)), store.change(CreateLog(audit))]
        await asyncio.gather(*logs, *inboxes)
        recorder = Reader(device=RECORDER, expires=False)
        await store.change(ChangeReaders(audit, add=[recorder]))
        readers = [Reader(device=p.name) for p in people if p.name != RECORDER]
        await store.change(ChangeReaders(control, add=[*readers, recorder]))
        await store.change(PutFacts(of.id, [self.device(person).fact() for person in people]))

    def device(self, person: Person) -> Device:
        identity = self.hospital.trust.devices[fingerprint(person.certificate)]
        return Device(identity=identity, certificate=person.certificate, seen_ms=now_ms())

    # The clients.

    async def line(self, person: Person, *, gather_s: float = 0.0) -> Line:
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: Line(person, self.hospital, gather_s=gather_s),
            "127.0.0.1",
            self.port,
            ssl=self.tls,
        )
        await line.open()
        return line

    async def connect(self, user: str, receiver: bool = True) -> Line:  # noqa: ARG002 - the interface
        return await self.line(self.hospital.people[f"{user}/1"])

    async def disconnect(self, session: Line) -> None:
        session.push(b"\x03\xe8", 8)
        session.tr.close()

    async def archive(self) -> Line:
        if self.recorder is None:
            self.recorder = await self.line(self.hospital.people[RECORDER], gather_s=ARCHIVE_S)
        return self.recorder

    async def prepare(self, routes: list[tuple[str, str]], offline: bool) -> None:  # noqa: ARG002 - the interface
        if len(routes) > CONVERSATIONS_MAX:
            return
        founders = {sender: await self.connect(sender) for sender in {s for s, _ in routes}}
        for sender, recipient in routes:
            made = await self.begin(founders[sender], [DeviceId(f"{recipient}/1")])
            self.routes[sender, recipient] = made
        await asyncio.sleep(TOGETHER_S)
        for founder in founders.values():
            await self.disconnect(founder)

    async def begin(self, founder: Line, joining: list[DeviceId]) -> Conversation:
        conversation = Conversation(secrets.token_bytes(32), founder)
        await self.change(conversation, [*joining, RECORDER])
        return conversation

    async def change(self, conversation: Conversation, joining: list[DeviceId]) -> None:
        recorder = await self.archive()
        verdict = await conversation.founder.commit(conversation, sorted(joining))
        await recorder.confirm(verdict)
        conversation.epoch = verdict.epoch

    def send(
        self, session: Line, dest: str, body: bytes, group: bool = False
    ) -> asyncio.Future[int]:
        user = session.person.keys.user
        return session.message(self.groups[dest] if group else self.routes[user, dest], body)

    def receive(self, session: Line, callback: Callable[[bytes, Token], None]) -> None:
        session.callback = callback
        early, session.early = session.early, []
        for head, token in early:
            callback(head, token)

    def ack(self, session: Line, token: Token) -> None:
        session.acknowledge(token)

    async def join_group(self, session: Line, group: str) -> None:
        if group not in self.groups:
            self.groups[group] = await self.begin(session, [])
            self.joining[group] = {}
            return
        waiting = self.joining[group]
        joined = waiting[session.person.name] = session.loop.create_future()
        if len(waiting) == 1:
            await asyncio.sleep(TOGETHER_S)
            self.joining[group] = {}
            await self.change(self.groups[group], list(waiting))
            for future in waiting.values():
                future.set_result(None)
        await joined


class WardlineTls(Wardline):
    name = "wardline-tls"
    note = "the same behind TLS 1.3"
    params: ClassVar[dict[str, dict[str, int]]] = {"W4": {"conns": 500}}
    listen = TLS

    async def found(self, users: list[str]) -> None:
        await super().found(users)
        self.tls = ssl.create_default_context(cafile=self.dir / "data/tls.pem")
        self.tls.check_hostname = False
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_3

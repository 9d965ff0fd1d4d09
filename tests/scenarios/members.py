"""Devices that run MLS over a relay, as small as a client can be, and the archive's recorder.

What a member keeps in its attributes stands for its disk: it outlives every connection, and a
relay that was killed is met again with exactly that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from websockets.exceptions import ConnectionClosed

from crypto.errors import DecodeError, EpochError, InvalidError, VerificationError
from crypto.identity import verify_entering_leaf
from crypto.mls import (
    Add,
    ApplicationMessage,
    Capabilities,
    Credential,
    Group,
    KeyPackage,
    KeyPackageSecrets,
    LeafContent,
    OwnMessage,
    Remove,
    StagedCommit,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.leaf_node import Extension, LeafNode
from crypto.mls.tree_math import LeafIndex
from crypto.statement import Purpose, StatementType, verify_statement
from protocol import frames
from protocol.authenticated_data import AuthenticatedData, CommitData, Priority
from protocol.commands import CommitVerdict, decode_verdict
from protocol.errors import Code
from protocol.frames import Deliver, EntryKind, Frame
from protocol.group_context import EXTENSION_TYPE, ConversationType, WardlineContext
from protocol.identifiers import (
    ConversationId,
    DeviceId,
    OrganisationId,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.routing import route
from tests.scenarios.process import Installation
from tests.server.harness import RECORDER, Client, Person, now_ms

WAIT_S = 60.0
"""Seconds in which something that must come has come, also on a machine that is busy."""

BAD = (DecodeError, InvalidError, VerificationError)


def context_of(person: Person, organisation: OrganisationId) -> WardlineContext:
    return WardlineContext(
        organisation=organisation,
        conversation_type=ConversationType.GROUP,
        owners=(UserName(person.keys.user),),
        recorder=RECORDER,
        retention_class="clinical",
    )


@dataclass(kw_only=True)
class Staged:
    """A Commit that awaits its verdict.

    Attributes:
        sequence: Its number; 0 while that is not known.
        epoch: The epoch that it begins.
        group: This device's state in that epoch; none for whom it removes, or before its Welcome.
        failed: Whether it makes no sense to this device.
    """

    sequence: int
    epoch: int
    commit_hash: bytes
    group: Group | None = None
    failed: bool = False


@dataclass(kw_only=True)
class Outgoing:
    """Something that was sent and is not accepted yet."""

    conversation: ConversationId
    text: bytes = b""
    priority: Priority = Priority.ROUTINE
    frame: frames.Append | frames.AppendCommit | None = None
    staged: Staged | None = None
    stale: bool = False


@dataclass(kw_only=True)
class Talk:
    """A conversation as one device has it.

    Attributes:
        position: Everything up to this number has been taken in.
        seen: The hash of every entry that was delivered, by number.
        own: Numbers of what this device appended.
        shown: What its person saw, in order.
        shown_at: The same and what its person wrote, by number.
        unreadable: Numbers of what was of an epoch before this device's.
        repeats: Entries that were delivered once more.
        reencrypted: Message ids that were refused as stale and encrypted again.
        waiting: What came before the Welcome that opens it.
        voids: Commits that were voided.
        ended: Why its cursor has ended, where it has.
        jumps: Numbers that do not follow their predecessors, as after a restore, with those.
        comes_back: The epoch in which it is in again after a removal, until it has its receipt;
            what lies before that is not all its own.
    """

    group: Group | None = None
    staged: Staged | None = None
    position: int = 0
    seen: dict[int, bytes] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    shown: list[bytes] = field(default_factory=list)
    shown_at: dict[int, bytes] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)
    repeats: int = 0
    reencrypted: list[int] = field(default_factory=list)
    waiting: list[Deliver] = field(default_factory=list)
    voids: int = 0
    ended: Code | None = None
    jumps: set[tuple[int, int]] = field(default_factory=set)
    comes_back: int = 0

    @property
    def mls(self) -> Group:
        assert self.group is not None
        return self.group

    def advance(self) -> None:
        while True:
            after = min((n for n, before in self.jumps if before <= self.position < n), default=0)
            if after:
                self.position = after
            elif self.position + 1 in self.seen or self.position + 1 in self.own:
                self.position += 1
            else:
                return

    @property
    def is_whole(self) -> bool:
        """Whether no number is missing before the last that is known."""
        return self.position == max([self.position, *self.seen, *self.own])


NOT_NOW = (Code.NO_KEY_PACKAGE, Code.RATE_LIMITED)


class NoKeyPackageError(Exception):
    """A device has no key package left, or too many were asked for: it is added another time."""


class Member:
    """A device with its conversations."""

    def __init__(self, person: Person, at: Installation) -> None:
        self.person = person
        self.at = at
        self.client: Client | None = None
        self.acknowledges = True
        self.talks: dict[ConversationId, Talk] = {}
        self.offers: list[KeyPackageSecrets] = []
        self.outbox: dict[int, Outgoing] = {}
        self.accepted: dict[int, tuple[ConversationId, int]] = {}
        self.refused: dict[int, tuple[Code, int]] = {}
        self.inbox: list[int] = []
        self.kept: dict[ConversationId, dict[int, Deliver]] = {}
        self.closed_with: Code | None = None
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._moved = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    @property
    def name(self) -> DeviceId:
        return self.person.name

    # Connections.

    async def connect(self) -> None:
        """Connect, and send again what was not answered."""
        client = await self.at.opened(self.person)
        self.client, self.closed_with = client, None
        self._pump = asyncio.create_task(self._receive(client))
        for outgoing in list(self.outbox.values()):
            await self._transmit(outgoing)

    async def served(self) -> None:
        """Connect as soon as the relay serves: whoever comes before is told to come again."""
        async with asyncio.timeout(WAIT_S):
            while self.client is None:
                with contextlib.suppress(AssertionError, ConnectionError):
                    await self.connect()
                await asyncio.sleep(0.2)

    async def disconnect(self) -> None:
        if self.client is not None:
            await self.client.socket.close()
        await self.lost()

    async def lost(self) -> None:
        """Wait until what the connection still held has been taken in."""
        if self._pump is not None:
            await self._pump
        self.client = self._pump = None

    async def _receive(self, client: Client) -> None:
        try:
            while True:
                data = await client.socket.recv()
                assert isinstance(data, bytes)
                await self._take(client.session.receive(data))
                self._moved.set()
        except ConnectionClosed:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError())
            self._answers.clear()
            self._moved.set()

    async def send(self, frame: Frame) -> None:
        """Send a frame if there is a connection; what matters is sent again by the next one."""
        if self.client is not None and self.closed_with is None:
            with contextlib.suppress(ConnectionClosed):
                await self.client.send(frame)

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        """Send a request and return its answer."""
        assert self.client is not None
        self.client.ref += 1
        ref = self.client.ref
        if self.closed_with is not None or self.client.socket.close_code is not None:
            raise ConnectionError
        answer = self._answers[ref] = asyncio.get_running_loop().create_future()
        await self.send(make(ref))
        return await asyncio.wait_for(answer, WAIT_S)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; where the relay sends everybody home, come again."""
        async with asyncio.timeout(WAIT_S):
            while not holds():
                if self.closed_with is Code.DRAINING:
                    await self.lost()
                    await self.served()
                    continue
                assert self.closed_with is None, self.closed_with
                self._moved.clear()
                await self._moved.wait()

    async def sees(self, conversation: ConversationId, text: bytes) -> None:
        """Wait until this person was shown a text."""
        await self.until(lambda: text in self.talks[conversation].shown)

    async def joins(self, conversation: ConversationId) -> None:
        """Wait until this device reads a conversation's log."""
        await self.until(lambda: conversation in self.talks and self.talks[conversation].seen)

    async def reaches(self, conversation: ConversationId, epoch: int) -> None:
        """Wait until this device is in an epoch."""
        await self.until(lambda: self.talks[conversation].mls.epoch == epoch)

    # What the relay says.

    async def _take(self, frame: Frame) -> None:
        if isinstance(frame, Deliver):
            await self._delivered(frame)
        elif isinstance(frame, frames.Accepted):
            for number, sequence in zip(frame.message_ids, frame.sequences, strict=True):
                self._landed(number, sequence)
        elif isinstance(frame, frames.RefusedMessage):
            await self._refused(frame)
        elif isinstance(frame, frames.Ended):
            self.talks[ConversationId(frame.log[1:])].ended = Code(frame.code)
        elif isinstance(frame, frames.Close):
            self.closed_with = Code(frame.code)
        elif (ref := getattr(frame, "ref", None)) in self._answers:
            self._answers.pop(ref).set_result(frame)

    async def _delivered(self, entry: Deliver) -> None:
        if entry.log[:1] == b"c":
            await self._entry(entry)
        elif entry.log[:1] == b"i":
            if entry.kind == EntryKind.WELCOME and entry.sequence not in self.inbox:
                await self._welcomed(entry.body)
            self.inbox.append(entry.sequence)
            await self._acknowledge(entry.log, entry.sequence)

    async def take(self, entry: Deliver) -> None:
        """Take in an entry that came another way than from the relay."""
        await self._delivered(entry)

    async def _acknowledge(self, log: bytes, through: int) -> None:
        if self.acknowledges:
            await self.send(frames.Acknowledge(log=log, through=through))

    async def acknowledge_all(self) -> None:
        """Acknowledge everything that was taken in, and wait until the relay has heard it."""
        self.acknowledges = True
        for conversation, talk in self.talks.items():
            talk.advance()
            await self._acknowledge(conversation_log(conversation), talk.position)
        if self.inbox:
            await self._acknowledge(inbox_log(self.name), max(self.inbox))
        await self.ask(lambda ref: frames.Lookup(ref=ref, users=()))

    async def _entry(self, entry: Deliver) -> None:
        conversation = ConversationId(entry.log[1:])
        talk = self.talks.setdefault(conversation, Talk())
        digest = hashlib.sha256(entry.body).digest()
        if entry.sequence in talk.seen:
            # One number, one entry, for ever: or the log has forked.
            assert digest == talk.seen[entry.sequence] or entry.kind == EntryKind.VOIDED
            talk.repeats += 1
            return
        if not talk.seen and not talk.own:
            talk.position = entry.predecessor
        talk.seen[entry.sequence] = digest
        if entry.sequence != entry.predecessor + 1:
            talk.jumps.add((entry.sequence, entry.predecessor))
        self.kept.setdefault(conversation, {})[entry.sequence] = entry
        if talk.group is None and not self.judges:
            talk.waiting.append(entry)
        else:
            await self._act(conversation, talk, entry)
        talk.advance()
        await self._acknowledge(entry.log, talk.position)

    async def _act(self, conversation: ConversationId, talk: Talk, entry: Deliver) -> None:
        if entry.kind == EntryKind.MESSAGE:
            self._message(talk, entry)
        elif entry.kind == EntryKind.COMMIT:
            await self._commit(conversation, talk, entry)
        elif entry.kind == EntryKind.RECEIPT:
            await self._receipt(conversation, talk, entry)
        elif entry.kind == EntryKind.VOID:
            talk.staged = None
            talk.voids += 1

    def _own(self, body: bytes) -> int | None:
        """Return the id of what is on its way, where this is it, come back."""
        for number, outgoing in self.outbox.items():
            if outgoing.frame is not None and outgoing.frame.message == body:
                return number
        return None

    def _message(self, talk: Talk, entry: Deliver) -> None:
        own = self._own(entry.body)
        if own is not None:
            self._landed(own, entry.sequence)
            return
        try:
            talk.group, received = talk.mls.process(entry.body, authenticate=self.judge)
        except EpochError:
            talk.unreadable.append(entry.sequence)
            return
        if isinstance(received, OwnMessage):
            assert entry.sequence in talk.own
        else:
            assert isinstance(received, ApplicationMessage)
            talk.shown.append(received.data)
            talk.shown_at[entry.sequence] = received.data

    async def _commit(self, conversation: ConversationId, talk: Talk, entry: Deliver) -> None:
        own = self._own(entry.body)
        if own is not None:
            self._landed(own, entry.sequence)
            return
        if entry.sequence in talk.own:
            return
        staged = Staged(
            sequence=entry.sequence,
            epoch=route(entry.body).epoch + 1,
            commit_hash=hashlib.sha256(entry.body).digest(),
            group=talk.group,
        )
        if talk.group is not None and talk.group.epoch < staged.epoch:
            try:
                talk.group, received = talk.group.process(entry.body, authenticate=self.judge)
                assert isinstance(received, StagedCommit)
                staged.group = received.group
            except EpochError:
                return  # Of a time before this device came back.
            except BAD:
                staged.group, staged.failed = None, True
        talk.staged = staged
        await self._judge(conversation, talk)

    async def _receipt(self, conversation: ConversationId, talk: Talk, entry: Deliver) -> None:
        verified = verify_statement(
            entry.body,
            expected=StatementType.EPOCH_RECEIPT,
            trust=self.at.hospital.trust,
            at_ms=now_ms(),
        )
        verdict = decode_verdict(verified.body)
        if talk.comes_back == verdict.epoch:
            talk.position, talk.comes_back = max(talk.position, entry.predecessor), 0
        for number, outgoing in list(self.outbox.items()):
            # The answer to the Commit was lost with its connection; its receipt was not.
            if outgoing.staged and outgoing.staged.commit_hash == verdict.commit_hash:
                self._landed(number, verdict.sequence)
        staged, talk.staged = talk.staged, None
        if talk.mls.epoch < verdict.epoch and staged is not None and staged.group is not None:
            assert (staged.commit_hash, staged.sequence) == (verdict.commit_hash, verdict.sequence)
            talk.group = talk.mls.merge(staged.group)
        if talk.mls.epoch == verdict.epoch:
            assert talk.mls.context.confirmed_transcript_hash == verdict.confirmed_transcript_hash
        for number, outgoing in list(self.outbox.items()):
            if outgoing.stale and outgoing.conversation == conversation:
                await self._again(number, outgoing)

    async def _welcomed(self, welcome: bytes) -> None:
        for offer in self.offers:
            try:
                group = Group.join(welcome, offer, authenticate=self.judge)
            except BAD:
                continue
            conversation = ConversationId(group.group_id)
            talk = self.talks.setdefault(conversation, Talk())
            talk.group, talk.ended = group, None
            talk.comes_back = group.epoch if talk.seen else 0
            if talk.staged is not None:
                talk.staged.group = group
            self.offers.remove(offer)
            waiting, talk.waiting = talk.waiting, []
            for entry in waiting:
                await self._act(conversation, talk, entry)
            await self._judge(conversation, talk)
            return

    def judge(self, leaf: LeafNode, _replaced: LeafNode | None) -> None:
        """Judge a leaf by its certificate."""
        verify_entering_leaf(
            leaf.credential.certificates,
            signature_key=leaf.signature_key,
            trust=self.at.hospital.trust,
            at_ms=now_ms(),
        )

    judges = False

    async def _judge(self, conversation: ConversationId, talk: Talk) -> None:
        """Say what becomes of a staged Commit: for the recorder alone."""

    # What it sends.

    def _landed(self, number: int, sequence: int) -> None:
        outgoing = self.outbox.pop(number, None)
        if outgoing is None:
            assert self.accepted[number][1] == sequence
            return
        self.accepted[number] = (outgoing.conversation, sequence)
        talk = self.talks[outgoing.conversation]
        talk.own.add(sequence)
        if outgoing.staged is not None:
            outgoing.staged.sequence = sequence
            talk.staged = outgoing.staged
        else:
            talk.shown_at[sequence] = outgoing.text
        talk.advance()

    async def _refused(self, refusal: frames.RefusedMessage) -> None:
        number, outgoing = refusal.message_id, self.outbox.get(refusal.message_id)
        assert outgoing is not None
        if refusal.code == Code.STALE_EPOCH and outgoing.staged is None:
            outgoing.stale = True
            if self.talks[outgoing.conversation].mls.epoch >= refusal.detail:
                await self._again(number, outgoing)
            return
        del self.outbox[number]
        self.refused[number] = (Code(refusal.code), refusal.detail)

    async def _again(self, number: int, outgoing: Outgoing) -> None:
        """Encrypt a message for the epoch that there is now, under the id that it had."""
        outgoing.stale = False
        self.talks[outgoing.conversation].reencrypted.append(number)
        self._encrypt(number, outgoing)
        await self._transmit(outgoing)

    def _encrypt(self, number: int, outgoing: Outgoing) -> None:
        talk = self.talks[outgoing.conversation]
        data = AuthenticatedData(message_id=number, priority=outgoing.priority)
        talk.group, message = talk.mls.encrypt(outgoing.text, authenticated_data=data.encode())
        outgoing.frame = frames.Append(message=message)

    async def _transmit(self, outgoing: Outgoing) -> None:
        if outgoing.frame is not None and not outgoing.stale:
            await self.send(outgoing.frame)

    async def say(
        self,
        conversation: ConversationId,
        text: bytes,
        *,
        priority: Priority = Priority.ROUTINE,
    ) -> int:
        """Send a message, and return its id."""
        number = self.person.next_id()
        outgoing = Outgoing(conversation=conversation, text=text, priority=priority)
        self.outbox[number] = outgoing
        self._encrypt(number, outgoing)
        await self._transmit(outgoing)
        return number

    async def told(self, conversation: ConversationId, text: bytes) -> bytes:
        """Send a message, wait until it is accepted, and return it as it was encrypted."""
        number = await self.say(conversation, text)
        sent = self.outbox[number]
        await self.until(lambda: number in self.accepted or number in self.refused)
        assert number in self.accepted, self.refused[number]
        assert sent.frame is not None
        return sent.frame.message

    def offer(self, count: int) -> list[KeyPackageSecrets]:
        """Make key packages, which nobody knows yet."""
        content = LeafContent(
            credential=Credential.x509([self.person.certificate]),
            capabilities=Capabilities.of(SUITE, extensions=(EXTENSION_TYPE,), credentials=(2,)),
        )
        made = [
            KeyPackageSecrets.generate(
                SUITE,
                content,
                signer=self.person.keys.signature_key,
                not_before_s=now_ms() // 1000 - 60,
                not_after_s=now_ms() // 1000 + 86_400,
            )
            for _ in range(count)
        ]
        self.offers += made
        return made

    async def publish(self, count: int) -> None:
        """Publish key packages."""
        made = self.offer(count)
        packages = tuple(offer.key_package.encode() for offer in made)
        done = await self.ask(
            lambda ref: frames.PublishKeyPackages(ref=ref, packages=packages, last_resort=b"")
        )
        assert isinstance(done, frames.Done), done

    async def claim(self, device: DeviceId) -> Add:
        """Take a key package of a device, and propose to add it."""
        answer = await self.ask(lambda ref: frames.ClaimKeyPackage(ref=ref, device=device))
        if isinstance(answer, frames.Refused) and answer.code in NOT_NOW:
            raise NoKeyPackageError
        assert isinstance(answer, frames.KeyPackage), answer
        return Add(KeyPackage.decode(answer.package))

    def begin(self) -> ConversationId:
        """Make a group of one, which the relay does not know yet."""
        conversation = ConversationId(secrets.token_bytes(32))
        context = context_of(self.person, self.at.hospital.id)
        extension = Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode())
        own = self.offers.pop()
        group = Group.create(own, group_id=conversation, extensions=(extension,))
        self.talks[conversation] = Talk(group=group)
        return conversation

    def leaf_of(self, conversation: ConversationId, device: DeviceId) -> LeafIndex:
        """Return where a device stands in the tree."""
        certificate = self.at.hospital.people[device].certificate
        members = self.talks[conversation].mls.members
        (found,) = [at for at, leaf in members if leaf.credential.certificates == (certificate,)]
        return found

    async def stage(
        self,
        conversation: ConversationId,
        *,
        add: Sequence[DeviceId] = (),
        remove: Sequence[DeviceId] = (),
        garble: bool = False,
    ) -> int:
        """Send a Commit, which only says that it has these effects if it is garbled."""
        adds = [await self.claim(device) for device in sorted(add)]
        removes = [Remove(self.leaf_of(conversation, device)) for device in remove]
        talk, number = self.talks[conversation], self.person.next_id()
        context = context_of(self.person, self.at.hospital.id) if talk.mls.epoch == 0 else None
        change = CommitData(
            added=tuple(sorted(add)), removed=tuple(sorted(remove)), context=context
        )
        data = AuthenticatedData(message_id=number, commit=change).encode()
        talk.group, staged = talk.mls.commit(
            [*adds, *removes], authenticate=self.judge, authenticated_data=data
        )
        message = garbled(staged.message) if garble else staged.message
        outgoing = Outgoing(
            conversation=conversation,
            frame=frames.AppendCommit(message=message, welcome=staged.welcome or b""),
            staged=Staged(
                sequence=0,
                epoch=talk.mls.epoch + 1,
                commit_hash=hashlib.sha256(message).digest(),
                group=staged.group,
            ),
        )
        self.outbox[number] = outgoing
        await self._transmit(outgoing)
        return number

    async def change(
        self,
        conversation: ConversationId,
        *,
        add: Sequence[DeviceId] = (),
        remove: Sequence[DeviceId] = (),
    ) -> None:
        """Commit, and wait until the receipt has opened the next epoch."""
        talk = self.talks[conversation]
        before = talk.mls.epoch
        number = await self.stage(conversation, add=add, remove=remove)
        await self.until(lambda: number in self.refused or talk.mls.epoch == before + 1)
        assert number not in self.refused, self.refused[number]


class Recorder(Member):
    """The archive's recorder: it reads everything and says which Commits count.

    Attributes:
        silent: Whether it keeps its verdicts to itself for now.
    """

    judges = True

    def __init__(self, person: Person, at: Installation) -> None:
        super().__init__(person, at)
        self.silent = False
        self.posts: set[asyncio.Task[Frame]] = set()

    async def connect(self) -> None:
        """Connect, and judge again what may not have been heard."""
        await super().connect()
        await self.speak()

    async def speak(self) -> None:
        """Say what was withheld."""
        self.silent = False
        for conversation, talk in self.talks.items():
            await self._judge(conversation, talk)

    async def _welcomed(self, welcome: bytes) -> None:
        known = len(self.offers)
        await super()._welcomed(welcome)
        for conversation, talk in self.talks.items():
            if talk.staged is not None and talk.group is None and len(self.offers) == known:
                talk.staged.failed = True
                await self._judge(conversation, talk)

    async def _judge(self, conversation: ConversationId, talk: Talk) -> None:
        staged = talk.staged
        if staged is None or self.silent or self.client is None:
            return
        if staged.group is None and not staged.failed:
            return  # The first Commit of a conversation: its Welcome is on its way.
        following = staged.group
        kind = StatementType.VOID if following is None else StatementType.EPOCH_RECEIPT
        hashed = bytes(32) if following is None else following.context.confirmed_transcript_hash
        body = CommitVerdict(
            conversation=conversation,
            sequence=staged.sequence,
            epoch=staged.epoch,
            commit_hash=staged.commit_hash,
            confirmed_transcript_hash=hashed,
        ).encode()
        statement = self.at.hospital.signed(kind, body, by=self.person.signatory(Purpose.RECORDER))
        log = conversation_log(conversation)
        # Not awaited here: the answer comes through the pump that this runs in.
        post = asyncio.create_task(
            self.ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
        )
        self.posts.add(post)
        post.add_done_callback(self._posted)

    def _posted(self, post: asyncio.Task[Frame]) -> None:
        self.posts.discard(post)
        if not post.cancelled():
            post.exception()


def garbled(message: bytes) -> bytes:
    """Return a message whose header is as it was and whose ciphertext is not."""
    return message[:-32] + secrets.token_bytes(32)

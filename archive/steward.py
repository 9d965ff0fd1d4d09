"""The steward: what the recorder changes in conversations by Commits of its own, and says there.

It adds certified devices of people who are members, removes revoked and expired ones, does what a
signed command or a device's request asks, renews an epoch once a day where a conversation is in
use, and asks to be added again where it cannot read. What it sends stands on the disk before, and
is sent again by the next connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from archive.recorder import Recorder
from archive.roster import context_of
from client.errors import RefusedError
from client.followed import StagedCommit, View
from client.judging import Leaves
from client.link import Link
from client.pace import is_due, is_over
from client.rules import Demand, setting
from client.views import Roster
from crypto.certificate import DAY_MS, fingerprint
from crypto.ed25519 import SigningKey
from crypto.errors import CryptoError, InvalidError
from crypto.mls import (
    Add,
    Capabilities,
    Credential,
    Group,
    KeyPackage,
    KeyPackageSecrets,
    LeafContent,
    Remove,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.tree_math import LeafIndex
from crypto.statement import Purpose, Signatory, StatementType, sign_statement
from protocol import frames
from protocol.audit import EventKind, decode_event
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.commands import ChangeMembers, decode_command
from protocol.emergency import still_to_come
from protocol.frames import Deliver, Sender
from protocol.group_context import EXTENSION_TYPE, WardlineContext
from protocol.identifiers import (
    AUDIT_LOG,
    ConversationId,
    DeviceId,
    conversation_log,
    user_of,
)
from protocol.requests import DeviceRequest, RequestKind, decode_request

PACKAGES = 60
"""Key packages that are published at once."""

FEWEST_PACKAGES = 30
"""Unused packages below which more are published."""

PACKAGE_DAYS = 90
"""Days for which a package can be used."""

ANEW_MS = 30 * DAY_MS
"""Age of packages, in ms, from which others are published in their place."""

COMMITS = 32
"""Commits of the steward's in one step: others are heard in between."""

SCAN_MS = 30_000
"""How often, in ms, every conversation is looked at; what is known to be due is done at once."""

RENEWAL_MS = DAY_MS
"""Age of an epoch, in ms, from which a conversation that is in use gets a new one."""

REJOIN_MS = 60_000
"""How often, in ms, the recorder asks in a conversation to be added again."""

RETRY_MS = 2_000
"""First pause, in ms, before a device without key packages is tried again; it doubles."""

LONGEST_RETRY_MS = 3_600_000

_LAST_ID = "last message id"
_PUBLISHED = "key packages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one Commit is to do.

    Attributes:
        add: Devices to add.
        remove: Devices to remove; those in both lose their leaf and get another.
        cite: Hash of the statement that asks for it.
        renews: Whether it is made even if it changes nobody.
        context: The conversation's after it, where guests' entries go with them.
    """

    add: tuple[DeviceId, ...] = ()
    remove: tuple[DeviceId, ...] = ()
    cite: bytes | None = None
    renews: bool = False
    context: WardlineContext | None = None


@dataclass(kw_only=True)
class _Pause:
    """When something is tried again."""

    until_ms: int = 0
    length_ms: int = field(default=RETRY_MS)

    def is_over(self, now_ms: int) -> bool:
        return is_over(self.until_ms, now_ms=now_ms, longest_ms=LONGEST_RETRY_MS)


class Steward:
    """The steward of every conversation of one organisation."""

    def __init__(
        self, recorder: Recorder, *, signature_key: SigningKey, certificate: Callable[[], bytes]
    ) -> None:
        self._recorder = recorder
        self._key = signature_key
        self._certificate = certificate
        self._link: Link | None = None
        self._sent: dict[int, bytes] = {}
        self._active: set[ConversationId] = set()
        self._pauses: dict[DeviceId, _Pause] = {}
        self._asked_ms: dict[ConversationId, int] = {}
        self._seen: set[DeviceId] = set()
        self._trust = recorder.authority.trust
        self._scan_ms = 0
        self._left: set[ConversationId] = set()

    @property
    def me(self) -> DeviceId:
        """The recorder's device."""
        return self._recorder.me.device

    # A connection's life.

    async def begin(self, link: Link) -> None:
        """Begin with a connection: publish key packages, send again what was not answered.

        Raises:
            LinkError: It ended.
        """
        self._link = link
        self._sent = {}
        self._scan_ms = 0
        await self._publish()
        for message_id, encoded in self._recorder.live.outbox().items():
            frame = frames.decode(encoded, sender=Sender.CLIENT)
            if isinstance(frame, frames.Append | frames.AppendCommit):
                self._recorder.expect(frame.message, message_id=message_id)
                self._sent[message_id] = frame.message
                await link.send(frame)

    def unpublish(self) -> None:
        """Publish all key packages anew: a restored relay gives such as were used, or are lost.

        Whoever adds the recorder by one of those makes a Commit that nobody can confirm.
        """
        live = self._recorder.live
        with self._recorder.log.store.transaction():
            live.put_setting(_PUBLISHED, b"")

    async def _publish(self) -> None:
        """Publish all key packages anew where few are left, and when it is time."""
        if self._link is None or self._is_published():
            return
        live, resort = self._recorder.live, self._package()
        made = [self._package() for _ in range(PACKAGES)]
        # What is published has its secrets on the disk before.
        with self._recorder.log.store.transaction():
            live.add_packages(made, last_resort=resort, now_s=self._recorder.now_ms // 1000)
        packages = tuple(own.key_package.encode() for own in made)
        last = resort.key_package.encode()
        # In the place of all that the relay has: that may be of a former life of this archive,
        # whose secrets a restored one has not.
        await self._link.ask(
            lambda ref: frames.PublishKeyPackages(
                ref=ref, packages=packages, last_resort=last, replace=True
            )
        )
        made_ms = self._recorder.now_ms.to_bytes(8, "big")
        with self._recorder.log.store.transaction():
            live.put_setting(_PUBLISHED, made_ms + resort.key_package.reference(SUITE))

    def _is_published(self) -> bool:
        """Tell whether the relay has packages enough, of which none is old."""
        live = self._recorder.live
        published = live.setting(_PUBLISHED) or b""
        made_ms, now_ms = int.from_bytes(published[:8], "big"), self._recorder.now_ms
        return (
            published[8:] == live.last_resort()
            # One of the future was made by a clock that was wrong, and opens nothing until then.
            and not is_due(made_ms, now_ms=now_ms, each_ms=ANEW_MS)
            and live.packages() >= FEWEST_PACKAGES
        )

    def _package(self) -> KeyPackageSecrets:
        now_s = self._recorder.now_ms // 1000
        return KeyPackageSecrets.generate(
            SUITE,
            self._content(),
            signer=self._key,
            not_before_s=now_s - 300,
            not_after_s=now_s + PACKAGE_DAYS * 86_400,
        )

    def _content(self) -> LeafContent:
        return LeafContent(
            credential=Credential.x509([self._certificate()]),
            capabilities=Capabilities.of(SUITE, extensions=(EXTENSION_TYPE,), credentials=(2,)),
        )

    def heard(self, entries: Iterable[Deliver]) -> None:
        """Note what came in: who is in use, and who has just connected."""
        for entry in entries:
            if entry.log.startswith(b"c"):
                self._active.add(ConversationId(entry.log[1:]))
            elif entry.log == AUDIT_LOG:
                self._opened(entry.body)

    def _opened(self, body: bytes) -> None:
        """A device that opens has published key packages, or is about to."""
        try:
            event = decode_event(body)
        except CryptoError:
            return
        device = event.device
        if event.kind is not EventKind.OPENED or device is None:
            return
        if device in self._pauses or device not in self._seen:
            self._pauses.pop(device, None)
            self._seen.add(device)
            self._scan_ms = 0

    def sent(self, message_id: int) -> bytes | None:
        """Return a message that was accepted, once."""
        return self._sent.pop(message_id, None)

    def refused(self, message_id: int) -> None:
        """Let go of a message that was not taken in; what is still due is found again."""
        message = self._sent.pop(message_id, None)
        if message is not None:
            self._recorder.refused(message, now_ms=self._recorder.now_ms)
            self._scan_ms = 0

    def ended(self, log: bytes) -> None:
        """The recorder's cursor on a log has ended, which nobody may bring about."""
        self._recorder.rejoining.add(ConversationId(log[1:]))

    # What is due.

    async def step(self, *, now_ms: int) -> bool:
        """Do some of what is due; tell whether more of it is left.

        Raises:
            LinkError: The connection ended.
        """
        await self._publish()
        await self._rejoin(now_ms)
        self._restore(now_ms)
        due = self._left | self._recorder.demands
        due |= {one for one, end_ms in self._recorder.visits.items() if end_ms <= now_ms}
        if self._trust is not self._recorder.authority.trust or any(
            pause.is_over(now_ms) for pause in self._pauses.values()
        ):
            # Somebody was certified or revoked, or is due to be tried again.
            self._trust = self._recorder.authority.trust
            self._scan_ms = 0
        if is_due(self._scan_ms, now_ms=now_ms, each_ms=SCAN_MS):
            self._scan_ms = now_ms
            due |= self._scanned(now_ms)
        count, self._left = 0, due
        for conversation in sorted(due):
            if count >= COMMITS:
                break
            self._left.discard(conversation)
            count += await self._see_to(conversation, now_ms=now_ms)
        # Those still due were not wanted any more, or everything was looked at but them.
        for device in [one for one, pause in self._pauses.items() if pause.is_over(now_ms)]:
            del self._pauses[device]
        return bool(self._left)

    def _restore(self, now_ms: int) -> None:
        """Have people who have a device again come back where they left for want of one alone.

        By a command of the authority's, which every member reads and the Commit cites: so nobody is
        led to accept somebody whom no member and no statement lets in.
        """
        recorder = self._recorder
        standing = recorder.standing_devices(now_ms)
        for user, conversations in recorder.live.bereft().items():
            if not standing.get(user):
                continue
            for conversation in conversations:
                command = ChangeMembers(conversation=conversation, added=(user,), removed=())
                recorder.authority.command(command.encode(), now_ms=now_ms)
            with recorder.log.store.transaction():
                recorder.live.forget_bereft(user)

    def _scanned(self, now_ms: int) -> set[ConversationId]:
        found = set()
        for log, known in self._recorder.followed().items():
            if log.startswith(b"c") and known.readers:
                conversation = ConversationId(log[1:])
                change = self._wanted(known.readers, now_ms=now_ms)
                if change is not None or self._is_old(conversation, known.epoch, now_ms):
                    found.add(conversation)
        return found

    def _is_old(self, conversation: ConversationId, epoch: int, now_ms: int) -> bool:
        if conversation not in self._active:
            return False
        began_ms = self._recorder.index.began_ms(conversation, epoch)
        return began_ms is not None and now_ms - began_ms >= RENEWAL_MS

    def _wanted(self, readers: Sequence[DeviceId], *, now_ms: int) -> Change | None:
        """Return what certificates and revocations ask of a conversation with these readers."""
        people = {user_of(device) for device in readers}
        standing = self._recorder.standing_devices(now_ms)
        add = sorted(
            device
            for user in people
            for device in standing.get(user, ())
            if device not in readers and self._is_ready(device, now_ms)
        )
        remove = sorted(
            device
            for device in readers
            if device != self.me and device not in standing.get(user_of(device), ())
        )
        return Change(add=tuple(add), remove=tuple(remove)) if add or remove else None

    def _is_ready(self, device: DeviceId, now_ms: int) -> bool:
        pause = self._pauses.get(device)
        return pause is None or pause.is_over(now_ms)

    async def _see_to(self, conversation: ConversationId, *, now_ms: int) -> int:
        """Make the one Commit that a conversation needs now; return how many were made."""
        view = self._recorder.live.view(conversation)
        group = view.group
        if group is None:
            self._recorder.demands.discard(conversation)
            return 0
        if any(not one.welcome for one in view.staged):
            return 0  # Decided first, then looked at again.
        change = self._change(view, group, now_ms=now_ms)
        if change is None:
            return 0
        return await self._commit(view, group, change, now_ms=now_ms)

    def _change(self, view: View, group: Group, *, now_ms: int) -> Change | None:
        members = self._recorder.members(group)
        for demand in view.demands.values():
            change = self._demanded(demand, members, now_ms=now_ms)
            if change is not None:
                return change
        if not any(self._waits(one, members, now_ms=now_ms) for one in view.demands.values()):
            self._recorder.demands.discard(view.conversation)
        change = self._shown_out(group, members, now_ms=now_ms)
        if change is None:
            change = self._wanted(members, now_ms=now_ms)
        if change is None and self._is_old(view.conversation, group.epoch, now_ms):
            return Change(renews=True)
        return change

    def _shown_out(
        self, group: Group, members: Sequence[DeviceId], *, now_ms: int
    ) -> Change | None:
        """Return what ends emergency access whose time is over."""
        context = context_of(group)
        staying = still_to_come(context.guests, at_ms=now_ms)
        over = {guest.user for guest in context.guests} - {guest.user for guest in staying}
        if not over:
            return None
        leaving = tuple(device for device in members if user_of(device) in over)
        return Change(remove=leaving, context=replace(context, guests=staying))

    def _demanded(
        self, demand: Demand, members: Sequence[DeviceId], *, now_ms: int
    ) -> Change | None:
        """Return what a statement still asks for, or ``None`` once it was done or is too old."""
        if now_ms - demand.at_ms > DAY_MS or demand.hash in self._recorder.done:
            return None
        try:
            if demand.kind is StatementType.COMMAND:
                return self._commanded(demand, members, now_ms=now_ms)
            return self._requested(demand, members)
        except CryptoError:
            return None

    def _waits(self, demand: Demand, members: Sequence[DeviceId], *, now_ms: int) -> bool:
        """Tell whether a command still asks for a device that has no key package as yet."""
        if demand.kind is not StatementType.COMMAND or now_ms - demand.at_ms > DAY_MS:
            return False
        command = decode_command(demand.body)
        if not isinstance(command, ChangeMembers) or demand.hash in self._recorder.done:
            return False
        standing = self._recorder.standing_devices(now_ms)
        wanted = {device for user in command.added for device in standing.get(user, ())}
        return bool(wanted & self._pauses.keys() - set(members))

    def _commanded(
        self, demand: Demand, members: Sequence[DeviceId], *, now_ms: int
    ) -> Change | None:
        command = decode_command(demand.body)
        if not isinstance(command, ChangeMembers):
            return None
        standing = self._recorder.standing_devices(now_ms)
        add = tuple(
            device
            for user in command.added
            for device in standing.get(user, ())
            if device not in members and self._is_ready(device, now_ms)
        )
        gone = set(command.removed)
        remove = tuple(device for device in members if user_of(device) in gone)
        return Change(add=add, remove=remove, cite=demand.hash) if add or remove else None

    def _requested(self, demand: Demand, members: Sequence[DeviceId]) -> Change | None:
        request, device = decode_request(demand.body), demand.by
        if device is None or device == self.me:
            return None
        if request.kind is RequestKind.LEAVE:
            leaving = tuple(one for one in members if user_of(one) == user_of(device))
            return Change(remove=leaving, cite=demand.hash) if leaving else None
        known = device in members
        if not known:
            return None
        return Change(add=(device,), remove=(device,), cite=demand.hash)

    # Commits.

    async def _commit(self, view: View, group: Group, change: Change, *, now_ms: int) -> int:
        adds = [(device, await self._claimed(device, now_ms)) for device in change.add]
        found = {device: package for device, package in adds if package is not None}
        missing = set(change.add) - found.keys()
        change = replace(
            change,
            add=tuple(sorted(found)),
            remove=tuple(sorted(set(change.remove) - missing)),
        )
        if not (change.add or change.remove or change.renews or change.context):
            return 0
        current = self._recorder.live.view(view.conversation)
        if current.group is not group or current.staged != view.staged:
            return 0  # Something came while key packages were asked for.
        await self._send_commit(view, group, change, found, now_ms=now_ms)
        return 1

    async def _claimed(self, device: DeviceId, now_ms: int) -> KeyPackage | None:
        assert self._link is not None  # noqa: S101 - a step runs on a connection
        try:
            answer = await self._link.ask(
                lambda ref: frames.ClaimKeyPackage(ref=ref, device=device)
            )
            if not isinstance(answer, frames.KeyPackage):
                raise InvalidError("a claim is answered with a key package")
            package = KeyPackage.decode(answer.package)
            self._pauses.pop(device, None)
            return package
        except (RefusedError, CryptoError):
            pause = self._pauses.setdefault(device, _Pause())
            pause.until_ms = now_ms + pause.length_ms
            pause.length_ms = min(2 * pause.length_ms, LONGEST_RETRY_MS)
            return None

    async def _send_commit(
        self,
        view: View,
        group: Group,
        change: Change,
        packages: dict[DeviceId, KeyPackage],
        *,
        now_ms: int,
    ) -> None:
        message_id = self._next_id()
        said = CommitData(
            added=change.add,
            removed=change.remove,
            statement_hash=change.cite,
            context=change.context,
        )
        data = AuthenticatedData(message_id=message_id, commit=said)
        removes = [Remove(leaf) for leaf in self._leaves(group, change.remove)]
        sets = [] if change.context is None else [setting(change.context)]
        try:
            after, made = group.commit(
                [*(Add(package) for package in packages.values()), *removes, *sets],
                authenticate=Leaves(self._recorder.judge.as_of(now_ms), entering_at_ms=now_ms),
                leave_out=tuple(group.pending),
                content=self._content(),
                authenticated_data=data.encode(),
            )
        except CryptoError:
            self._pause_all(change.add, now_ms)
            return
        staged = StagedCommit(
            reference=sha256(made.message).digest(),
            epoch=group.epoch + 1,
            committer=self.me,
            at_ms=now_ms,
            message_id=message_id,
            roster=Roster(by=self.me, added=change.add, removed=change.remove),
            group=made.group,
        )
        frame = frames.AppendCommit(message=made.message, welcome=made.welcome or b"")
        following = replace(view, group=after, staged=(*view.staged, staged))
        await self._send(following, message_id, frame)
        if change.cite is not None:
            self._recorder.done.add(change.cite)
        self._active.discard(view.conversation)

    def _pause_all(self, devices: Iterable[DeviceId], now_ms: int) -> None:
        """A device whose key package cannot be used is tried later, as one without any."""
        for device in devices:
            self._pauses[device] = _Pause(until_ms=now_ms + RETRY_MS, length_ms=2 * RETRY_MS)

    def _leaves(self, group: Group, devices: Iterable[DeviceId]) -> list[LeafIndex]:
        wanted = set(devices)
        found = []
        for at, leaf in group.members:
            identity = self._recorder.judge.device_of(leaf)
            if identity is not None and identity.name in wanted:
                found.append(at)
        return found

    async def say(self, conversation: ConversationId, plaintext: bytes) -> bool:
        """Send an application message; tell whether there is a group to send it to.

        Raises:
            LinkError: The connection ended; it is sent by the next.
        """
        view = self._recorder.live.view(conversation)
        if view.group is None:
            return False
        message_id = self._next_id()
        data = AuthenticatedData(message_id=message_id)
        after, message = view.group.encrypt(plaintext, authenticated_data=data.encode())
        await self._send(replace(view, group=after), message_id, frames.Append(message=message))
        return True

    async def _send(
        self, view: View, message_id: int, frame: frames.Append | frames.AppendCommit
    ) -> None:
        self._recorder.prepared(
            view, frame.message, message_id=message_id, frame=frames.encode(frame)
        )
        self._sent[message_id] = frame.message
        if self._link is not None:
            await self._link.send(frame)

    def _next_id(self) -> int:
        live = self._recorder.live
        known = int.from_bytes(live.setting(_LAST_ID) or b"", "big")
        following = max(known, 0 if self._link is None else self._link.last_id) + 1
        with self._recorder.log.store.transaction():
            live.put_setting(_LAST_ID, following.to_bytes(8, "big"))
        return following

    # Asking to be added again.

    async def _rejoin(self, now_ms: int) -> None:
        for conversation in sorted(self._recorder.rejoining):
            asked_ms = self._asked_ms.get(conversation, 0)
            if not is_due(asked_ms, now_ms=now_ms, each_ms=REJOIN_MS):
                continue
            self._asked_ms[conversation] = now_ms
            await self._ask_again(conversation, now_ms)

    async def _ask_again(self, conversation: ConversationId, now_ms: int) -> None:
        assert self._link is not None  # noqa: S101 - a step runs on a connection
        me = self._recorder.me
        statement = sign_statement(
            StatementType.DEVICE_REQUEST,
            DeviceRequest(kind=RequestKind.RE_ADD, conversation=conversation).encode(),
            organisation=me.organisation,
            issued_ms=now_ms,
            lifetime_ms=DAY_MS,
            signatory=Signatory(
                purpose=Purpose.DEVICE,
                fingerprint=fingerprint(self._certificate()),
                key=self._key,
            ),
        )
        log = conversation_log(conversation)
        try:
            await self._link.ask(lambda ref: frames.Post(ref=ref, log=log, statement=statement))
        except RefusedError:
            return

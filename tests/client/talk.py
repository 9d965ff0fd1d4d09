"""Members of a conversation and its log, without relay and without stores: for the pure rules."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from client.follow import follow
from client.followed import Followed, StagedCommit, View
from client.joining import Welcomed, open_welcome, welcomed
from client.judging import Judge, Leaves
from client.views import Roster
from crypto.mls import (
    Add,
    Capabilities,
    Credential,
    Group,
    KeyPackageSecrets,
    LeafContent,
    Remove,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.leaf_node import Extension
from crypto.mls.proposal import GroupContextExtensions, Proposal
from crypto.mls.tree_math import LeafIndex
from crypto.statement import Purpose, StatementType
from protocol.authenticated_data import AuthenticatedData, CommitData
from protocol.commands import CommitVerdict
from protocol.frames import Deliver, EntryKind
from protocol.group_context import EXTENSION_TYPE, ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_log
from protocol.requests import DeviceRequest, RequestKind
from tests.server.harness import RECORDER, Hospital, Person, now_ms

HOUR_MS = 3600_000


@dataclass(kw_only=True)
class Change:
    """What a Commit is to do, and what it is to say of it.

    Attributes:
        says: In the place of what is true.
        leaves_out: Whether the Commit's change of context is not told.
    """

    add: Sequence[Talker] = ()
    remove: Sequence[str] = ()
    cite: bytes | None = None
    context: WardlineContext | None = None
    says: CommitData | None = None
    proposals: Sequence[Proposal] = ()


class Talker:
    """A device in a conversation."""

    def __init__(self, person: Person, of: Hospital, conversation: ConversationId) -> None:
        self.person = person
        self.hospital = of
        self.view = View(conversation=conversation, group=None)
        self.packages: list[KeyPackageSecrets] = []
        self.counter = 0
        self.previous = 0
        self.made: list[Followed] = []

    @property
    def name(self) -> DeviceId:
        return self.person.name

    @property
    def judge(self) -> Judge:
        return Judge(trust=self.hospital.trust, me=self.name)

    @property
    def group(self) -> Group:
        assert self.view.group is not None
        return self.view.group

    def package(self) -> KeyPackageSecrets:
        content = LeafContent(
            credential=Credential.x509([self.person.certificate]),
            capabilities=Capabilities.of(SUITE, extensions=(EXTENSION_TYPE,), credentials=(2,)),
        )
        own = KeyPackageSecrets.generate(
            SUITE,
            content,
            signer=self.person.keys.signature_key,
            not_before_s=now_ms() // 1000 - 60,
            not_after_s=now_ms() // 1000 + 86_400,
        )
        self.packages.append(own)
        return own

    def leaf(self, name: str) -> LeafIndex:
        certificate = self.hospital.people[name].certificate
        return next(
            at for at, leaf in self.group.members if leaf.credential.certificates == (certificate,)
        )

    def say(self, text: str, *, skip: int = 0) -> bytes:
        """Return a message; with ``skip``, it names one before it that was never sent."""
        self.counter += 1 + skip
        data = AuthenticatedData(
            message_id=self.counter, previous_id=self.previous + skip if skip else self.previous
        )
        self.previous = self.counter
        group, message = self.group.encrypt(text.encode(), authenticated_data=data.encode())
        self.view = replace(self.view, group=group)
        return message

    def commit(self, change: Change) -> tuple[bytes, bytes]:
        """Return a Commit and its Welcome; it waits in this member's view."""
        adds = [Add(one.package().key_package) for one in change.add]
        removes = [Remove(self.leaf(name)) for name in change.remove]
        sets = [_setting(change.context)] if change.context else []
        said = change.says or CommitData(
            added=tuple(sorted(one.name for one in change.add)),
            removed=tuple(sorted(DeviceId(name) for name in change.remove)),
            statement_hash=change.cite,
            context=change.context,
        )
        self.counter += 1
        data = AuthenticatedData(message_id=self.counter, commit=said)
        leaves = Leaves(self.hospital.trust, entering_at_ms=now_ms())
        group, staged = self.group.commit(
            [*adds, *removes, *sets, *change.proposals],
            authenticate=leaves,
            authenticated_data=data.encode(),
        )
        own = StagedCommit(
            reference=hashlib.sha256(staged.message).digest(),
            epoch=group.epoch + 1,
            committer=self.name,
            at_ms=now_ms(),
            roster=Roster(by=self.name),
            group=staged.group,
        )
        self.view = replace(self.view, group=group, staged=(*self.view.staged, own))
        return staged.message, staged.welcome or b""

    def take(self, entry: Deliver, *, patient: bool = False, late_ms: int = 0) -> Followed:
        """Follow one entry, and go on from what comes of it."""
        followed = follow(
            self.view, entry, judge=self.judge, now_ms=now_ms() + HOUR_MS, patient=patient
        )
        self.view = followed.view
        self.made.append(followed)
        return followed

    def welcome(self, message: bytes) -> Welcomed:
        found = open_welcome(message, self.packages[-1], judge=self.judge, at_ms=now_ms())
        if found.stages is not None:
            self.view, _ = welcomed(self.view, found.stages)
        return found


def _setting(context: WardlineContext) -> GroupContextExtensions:
    return GroupContextExtensions(
        extensions=(Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode()),)
    )


@dataclass(kw_only=True)
class Ward:
    """A conversation: its members, the recorder among them, and its log."""

    hospital: Hospital
    conversation: ConversationId
    context: WardlineContext
    talkers: dict[str, Talker] = field(default_factory=dict)
    sequence: int = 0
    at_ms: int = field(default_factory=now_ms)

    def talker(self, name: str) -> Talker:
        """Return a device that is not in the conversation."""
        person = self.hospital.people.get(name) or self.hospital.enrol(name)
        return Talker(person, self.hospital, self.conversation)

    def people(self, *names: str) -> list[Person]:
        return [self.hospital.people[name] for name in names]

    def __getitem__(self, name: str) -> Talker:
        return self.talkers[name]

    @property
    def recorder(self) -> Talker:
        return self.talkers[RECORDER]

    def entry(self, body: bytes, kind: EntryKind = EntryKind.MESSAGE) -> Deliver:
        self.sequence += 1
        return Deliver(
            log=conversation_log(self.conversation),
            sequence=self.sequence,
            predecessor=self.sequence - 1,
            at_ms=self.at_ms,
            kind=kind,
            body=body,
        )

    def verdict(
        self,
        staged: StagedCommit,
        *,
        by: Talker | None = None,
        void: bool = False,
        transcript: bytes | None = None,
        sequence: int | None = None,
    ) -> Deliver:
        """Return a receipt or a void as an entry."""
        signer = by or self.recorder
        confirmed = bytes(32)
        if not void and staged.group is not None:
            confirmed = staged.group.context.confirmed_transcript_hash
        body = CommitVerdict(
            conversation=self.conversation,
            sequence=sequence or staged.sequence or 1,
            epoch=staged.epoch,
            commit_hash=staged.reference,
            confirmed_transcript_hash=transcript or confirmed,
        ).encode()
        records = signer.name.endswith("/recorder")
        purpose = Purpose.RECORDER if records else Purpose.DEVICE
        statement = self.hospital.signed(
            StatementType.VOID if void else StatementType.EPOCH_RECEIPT,
            body,
            by=signer.person.signatory(purpose),
            issued_ms=self.at_ms,
        )
        return self.entry(statement, EntryKind.VOID if void else EntryKind.RECEIPT)

    def note(self, by: Talker, kind: RequestKind) -> Deliver:
        """Return a device's request as an entry."""
        statement = self.hospital.signed(
            StatementType.DEVICE_REQUEST,
            DeviceRequest(kind=kind, conversation=self.conversation).encode(),
            by=by.person.signatory(Purpose.DEVICE),
            issued_ms=self.at_ms,
        )
        return self.entry(statement)

    def change(self, by: str, change: Change) -> None:
        """Let a member commit, everybody follow it, and the recorder confirm it."""
        committer = self.talkers[by]
        message, welcome = committer.commit(change)
        entry = self.entry(message, EntryKind.COMMIT)
        for one in self.talkers.values():
            if one is not committer:
                one.take(entry)
        for one in change.add:
            one.welcome(welcome)
            self.talkers[one.name] = one
        staged = next(one for one in committer.view.staged if not one.welcome)
        receipt = self.verdict(staged)
        for one in self.talkers.values():
            one.take(receipt)
        self.talkers = {name: one for name, one in self.talkers.items() if one.view.group}

    def tell(self, by: str, text: str) -> dict[str, Followed]:
        """Let a member say something, and return what the others make of it."""
        entry = self.entry(self.talkers[by].say(text))
        return {name: one.take(entry) for name, one in self.talkers.items() if name != by}


def assembled(
    of: Hospital,
    *names: str,
    kind: ConversationType = ConversationType.GROUP,
    owners: Sequence[str] = (),
) -> Ward:
    """Return a ward in its first epoch; the first name is its creator and an owner."""
    conversation = ConversationId(secrets.token_bytes(32))
    user = UserName(names[0].partition("/")[0])
    context = WardlineContext(
        organisation=of.id,
        conversation_type=kind,
        owners=tuple(sorted({user, *(UserName(owner) for owner in owners)})),
        recorder=RECORDER,
        retention_class="clinical",
    )
    ward = Ward(hospital=of, conversation=conversation, context=context)
    creator = ward.talker(names[0])
    extension = Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode())
    group = Group.create(creator.package(), group_id=conversation, extensions=(extension,))
    creator.view = View(conversation=conversation, group=group)
    ward.talkers[creator.name] = creator
    others = [ward.talker(name) for name in (*names[1:], RECORDER)]
    ward.change(creator.name, Change(add=others))
    return ward

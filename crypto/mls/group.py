"""A group as one member sees it (RFC 9420, sections 11, 12 and 15).

``Group`` is an immutable value. Every operation verifies everything first and then returns a new
value; the old one stays as it was, whatever failed. Save ``changes`` of the new value *before* a
ciphertext is sent or a plaintext shown: what is saved then no longer holds the key that was used.

A Commit, one's own or another's, is staged: it gives the group of the next epoch beside the present
one, both usable. ``merge`` goes over to it; to drop it is to forget it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crypto.errors import InvalidError, UsageError
from crypto.mls import joining, state
from crypto.mls.cipher_suite import Signer
from crypto.mls.commit import (
    CommitBase,
    Committed,
    Pending,
    PendingProposals,
    Plan,
    applied_for,
    make_commit,
    process_commit,
    resolve,
)
from crypto.mls.epoch import Epoch, Own, begin_epoch, end_epoch
from crypto.mls.framing import (
    AuthenticatedContent,
    PrivateMessage,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_message,
    encode_message,
)
from crypto.mls.group_info import GroupContext, Welcome
from crypto.mls.key_package_secrets import KeyPackageSecrets
from crypto.mls.key_schedule import FindPSK, epoch_secrets, exported_secret
from crypto.mls.leaf_node import Extensions, LeafContent, LeafNode, sign_leaf_node
from crypto.mls.messages import Opened, open_message, own_sender, protect, sign
from crypto.mls.proposal import Commit, ExternalPSK, PreSharedKeyID, Proposal, Update
from crypto.mls.ratchet_tree import RatchetTree
from crypto.mls.secret_tree import SecretTree
from crypto.mls.state import GroupState
from crypto.mls.tree_math import LeafIndex, NodeIndex
from crypto.mls.validation import (
    Authenticate,
    SentProposal,
    check_group_extensions,
    check_proposal,
    check_tree,
    preferred,
)

PAST_EPOCHS = 5
"""Epochs whose late messages can still be read; with none, every Commit would lose some."""

MAX_PENDING = 256
"""Proposals that wait for a Commit: a member cannot fill another's memory with more."""

PSKs = Mapping[bytes, bytes]
"""External pre-shared keys by their ids."""

_NO_PSKS: PSKs = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationMessage:
    """A decrypted message.

    Attributes:
        sender: The sender's leaf in ``epoch``.
        leaf: What stood there: credential and signature key.
        generation: The sender's counter of application messages in ``epoch``.
    """

    epoch: int
    sender: LeafIndex
    leaf: LeafNode
    generation: int
    data: bytes = field(repr=False)
    authenticated_data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedProposal:
    """A proposal that now waits for a Commit."""

    sender: Sender
    proposal: Proposal
    reference: bytes
    authenticated_data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnMessage:
    """A message that names this member as its sender: usually one's own, come back.

    It is not opened, for its key is gone. Whether it is one's own is for the caller to see, by
    comparing it with what was sent: any member could name another in it.
    """

    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCommit:
    """A verified Commit that is not applied yet.

    Attributes:
        committer: Its leaf in the next epoch.
        external: Whether the committer joins by it.
        group: The group in the next epoch; None where the Commit removes this member.
        message: The Commit to send, for one's own; empty for another's.
        welcome: The Welcome to send, for one's own that adds somebody.
    """

    committer: LeafIndex
    external: bool
    proposals: tuple[SentProposal, ...]
    added: tuple[LeafIndex, ...]
    updated: tuple[LeafIndex, ...]
    removed: tuple[LeafIndex, ...]
    authenticated_data: bytes = field(repr=False)
    group: Group | None = field(repr=False)
    message: bytes = field(default=b"", repr=False)
    welcome: bytes | None = field(default=None, repr=False)


Received = ApplicationMessage | ReceivedProposal | OwnMessage | StagedCommit


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Group(GroupState):
    """One member's state of a group.

    Attributes:
        current: The present epoch.
        secret_tree: What is left of its message keys.
        past: The last epochs, newest first, at most ``PAST_EPOCHS``.
        pending: Proposals that wait for a Commit, oldest first.
    """

    # -- how a group begins, rests and wakes ---------------------------------------------------

    @classmethod
    def create(
        cls, own: KeyPackageSecrets, *, group_id: bytes, extensions: Extensions = ()
    ) -> Group:
        """Return a group of one member.

        Args:
            own: The creator's key package; not to be used again.
            group_id: Random, and unique to the group.
            extensions: Of the GroupContext.

        Raises:
            InvalidError: The creator does not itself support what the extensions ask.
            DecodeError: An extension is malformed.

        Source: RFC 9420, section 11.
        """
        suite = own.suite
        tree = RatchetTree(suite, [own.key_package.leaf_node])
        check_group_extensions(extensions)
        check_tree(tree, extensions)
        context = GroupContext(
            cipher_suite=suite.value,
            group_id=group_id,
            epoch=0,
            tree_hash=tree.tree_hash(),
            confirmed_transcript_hash=b"",
            extensions=extensions,
        )
        kept, encryption_secret = epoch_secrets(suite, secrets.token_bytes(suite.hash_bytes))
        epoch = begin_epoch(
            context,
            kept,
            tree=tree,
            confirmation_tag=suite.mac(kept.confirmation_key, b""),
            own=Own(
                leaf=LeafIndex(0),
                signer=own.signer,
                private_keys={NodeIndex(0): own.encryption_key},
            ),
            follows=b"",
        )
        return cls.begin(epoch, encryption_secret)

    @classmethod
    def join(
        cls,
        welcome: bytes,
        own: KeyPackageSecrets,
        *,
        authenticate: Authenticate,
        ratchet_tree: bytes | None = None,
        psks: PSKs = _NO_PSKS,
    ) -> Group:
        """Return the group that a Welcome lets its reader into.

        Args:
            welcome: An MLSMessage.
            own: The key package that was added; erase it once the group is saved.
            authenticate: Judges every member's credential.
            ratchet_tree: The tree, where it is not inside the Welcome.
            psks: External pre-shared keys.

        Raises:
            InvalidError: A rule is broken. That the group is not one already joined is for the
                caller to see.
            VerificationError: Something does not open or verify.
            DecodeError: Something is malformed.

        Source: RFC 9420, section 12.4.3.1.
        """
        body = decode_message(welcome)
        if not isinstance(body, Welcome):
            raise InvalidError("MLSMessage is no Welcome (6)")
        epoch, schedule = joining.join(
            body,
            own,
            ratchet_tree=ratchet_tree,
            find_psk=lambda psk: external_psk(psk, psks),
            authenticate=authenticate,
        )
        return cls.begin(epoch, schedule.encryption_secret)

    @classmethod
    def begin(cls, epoch: Epoch, encryption_secret: bytes) -> Group:
        """Return the group at the start of an epoch; for this package's own use."""
        tree = SecretTree(
            suite=epoch.suite, leaf_count=epoch.tree.leaf_count, root=encryption_secret
        )
        return cls(current=epoch, secret_tree=tree)

    def changes(self, since: GroupState | None) -> dict[str, bytes | None]:
        """Return what to save, by record key, to come from ``since`` to here.

        Args:
            since: The value that is saved, or None for everything.

        Returns:
            The records to write, all in one transaction; None is a record to delete. One message
            is a record or a few, however many members there are.
        """
        return GroupState.changes(self, since)

    @classmethod
    def load(cls, records: Mapping[str, bytes]) -> Group:
        """Return the group that ``changes`` saved.

        Raises:
            DecodeError: A record is malformed.
            InvalidError: Records are missing, or do not belong together.
            VerificationError: The epoch's confirmation tag does not verify.
        """
        saved = state.load(records)
        return cls(
            current=saved.current,
            secret_tree=saved.secret_tree,
            past=saved.past,
            pending=saved.pending,
        )

    # -- what it is ----------------------------------------------------------------------------

    @property
    def context(self) -> GroupContext:
        """What all members of the epoch agree on."""
        return self.current.context

    @property
    def members(self) -> list[tuple[LeafIndex, LeafNode]]:
        """All members, with their places."""
        return list(self.current.tree.leaves())

    @property
    def ratchet_tree(self) -> bytes:
        """The public tree, for joiners whose Welcome is without it."""
        return self.current.tree.encode()

    @property
    def epoch_authenticator(self) -> bytes:
        """A secret equal for all members of the epoch and no one else (8.7)."""
        return self.current.secrets.epoch_authenticator

    def export(self, label: str, context: bytes, length: int) -> bytes:
        """Return a secret of ``length`` bytes that all members of the epoch can make (8.5).

        Raises:
            UsageError: ``length`` is more than 255 hashes.
        """
        if not 0 <= length <= 255 * self.current.suite.hash_bytes:
            raise UsageError("an exported secret has at most 255 hashes")
        return exported_secret(
            self.current.suite,
            self.current.secrets.exporter_secret,
            label=label,
            context=context,
            length=length,
        )

    def group_info(self, *, external_join: bool = False, with_tree: bool = True) -> bytes:
        """Return the epoch as an MLSMessage(GroupInfo), signed by this member (12.4.3).

        Args:
            external_join: Whether to let its readers join by external commit.
            with_tree: Whether to put the tree inside.
        """
        extensions: Extensions = ()
        if external_join:
            extensions += (joining.external_pub_extension(self.current),)
        if with_tree:
            extensions += (joining.tree_extension(self.current),)
        return encode_message(joining.sign_group_info(self.current, extensions))

    # -- sending -------------------------------------------------------------------------------

    def encrypt(self, data: bytes, *, authenticated_data: bytes = b"") -> tuple[Group, bytes]:
        """Return the group without the key used, and an MLSMessage of application data.

        Commit what waits in ``pending`` before: the RFC (12.4) asks for it, so that nobody whose
        removal is proposed reads on.

        Args:
            data: What the members read.
            authenticated_data: What everyone reads and nobody can change.

        Source: RFC 9420, section 15.
        """
        private = WireFormat.PRIVATE_MESSAGE
        message = sign(self, data, authenticated_data=authenticated_data, wire_format=private)
        return protect(self, message)

    def propose(
        self, proposal: Proposal, *, authenticated_data: bytes = b"", public: bool = False
    ) -> tuple[Group, bytes]:
        """Return the group with a proposal pending, and the MLSMessage that proposes it.

        Args:
            proposal: Anything but an Update, for which ``propose_update`` makes the key.
            authenticated_data: What everyone reads and nobody can change.
            public: Whether to send it signed but not encrypted.

        Raises:
            InvalidError: The proposal breaks a rule.
            UsageError: It is an Update.

        Source: RFC 9420, section 12.1.
        """
        if isinstance(proposal, Update):
            raise UsageError("propose_update makes Updates")
        return self._propose(Pending(sent=self._own(proposal)), authenticated_data, public=public)

    def propose_update(
        self,
        content: LeafContent | None = None,
        *,
        signer: Signer | None = None,
        authenticated_data: bytes = b"",
        public: bool = False,
    ) -> tuple[Group, bytes]:
        """Propose fresh keys for this member's leaf (RFC 9420, section 12.1.2).

        Args:
            content: A new credential and the rest; None keeps what is there.
            signer: A new signature key; None keeps the present one.
            authenticated_data: What everyone reads and nobody can change.
            public: Whether to send it signed but not encrypted.
        """
        suite = self.current.suite
        private, public_key = suite.hpke.generate_key_pair()
        leaf_node = sign_leaf_node(
            suite,
            content or self._own_content(),
            signer=signer or self.current.signer,
            encryption_key=public_key,
            source=None,
            position=(self.group_id, self.own_leaf),
        )
        pending = Pending(sent=self._own(Update(leaf_node)), encryption_key=private, signer=signer)
        return self._propose(pending, authenticated_data, public=public)

    def commit(
        self,
        proposals: Sequence[Proposal] = (),
        *,
        authenticate: Authenticate,
        leave_out: Collection[bytes] = (),
        with_path: bool = True,
        with_tree: bool = True,
        content: LeafContent | None = None,
        signer: Signer | None = None,
        psks: PSKs = _NO_PSKS,
        authenticated_data: bytes = b"",
        public: bool = False,
    ) -> tuple[Group, StagedCommit]:
        """Return the group without the key used, and a Commit, staged.

        Args:
            proposals: Changes by value.
            authenticate: Judges every leaf that enters or changes.
            leave_out: References of waiting proposals that this Commit does not take; ``pending``
                for none of them. All else that waits is taken, as far as it goes with
                ``proposals``; of proposals that exclude each other, one. Whoever holds a key
                package can propose to be added, so look at what waits before you commit it.
            with_path: Whether to bring fresh keys even where nothing demands them.
            with_tree: Whether the Welcome holds the tree; else joiners need ``ratchet_tree``.
            content: This member's new credential and the rest; None keeps what is there.
            signer: This member's new signature key; None keeps the present one.
            psks: External pre-shared keys.
            authenticated_data: What everyone reads and nobody can change.
            public: Whether to send it signed but not encrypted.

        Raises:
            InvalidError: The Commit would break a rule.
            DecodeError: An extension that is proposed is malformed.
            VerificationError: A key package's signature does not verify.

        Source: RFC 9420, section 12.4.1.
        """
        own = [self._own(proposal) for proposal in proposals]
        chosen = [
            (ref, pending.sent) for ref, pending in self.pending.items() if ref not in leave_out
        ]
        waiting = preferred(chosen, self.own_leaf, beside=own)
        sent = [*(item for _, item in waiting), *own]
        base = CommitBase.of(self.current)
        applied = applied_for(base, sent, self.own_leaf, authenticate=authenticate)
        plan = Plan(
            sender=own_sender(self),
            leaf=self.own_leaf,
            proposals=(*(ref for ref, _ in waiting), *proposals),
            sent=tuple(sent),
            with_path=with_path or content is not None or signer is not None,
            content=content or self._own_content(),
            signer=self.current.signer,
            next_signer=signer or self.current.signer,
            wire_format=_wire_format(public=public),
            authenticated_data=authenticated_data,
        )
        committed = make_commit(
            base,
            plan,
            applied,
            old_keys=self.current.private_keys,
            find_psk=self._find_psk(psks),
            authenticate=authenticate,
        )
        group, message = protect(self, committed.message)
        return group, staged(committed, plan, message=message, with_tree=with_tree)

    def merge(self, following: Group) -> Group:
        """Go over to the next epoch, as ``StagedCommit.group`` has it.

        Raises:
            UsageError: ``following`` does not follow from this epoch.
        """
        if following.current.follows != self.current.interim_transcript_hash:
            raise UsageError("the staged group does not follow from this epoch")
        ended = end_epoch(self.current, self.secret_tree, following.current.tree)
        return replace(following, past=(ended, *self.past)[:PAST_EPOCHS])

    # -- receiving -----------------------------------------------------------------------------

    def process(
        self, message: bytes, *, authenticate: Authenticate, psks: PSKs = _NO_PSKS
    ) -> tuple[Group, Received]:
        """Return the group without the key used, and what a message from the group means.

        Args:
            message: An MLSMessage.
            authenticate: Judges every leaf that a Commit lets in or changes.
            psks: External pre-shared keys.

        Raises:
            DecodeError: It is no message, or something inside is malformed.
            InvalidError: A rule is broken.
            VerificationError: Something does not open or verify.
            EpochError: It is of an epoch that is not, or no longer, readable.
            KeyUsedError: It was read before.
        """
        body = decode_message(message)
        if not isinstance(body, PublicMessage | PrivateMessage):
            raise InvalidError("MLSMessage is not for a group (6)")
        group, opened = open_message(self, body)
        if opened is None:
            return group, OwnMessage(epoch=body.epoch)
        content = opened.message.content.content
        if isinstance(content, bytes):
            return group, _application(opened, content)
        if isinstance(content, Commit):
            return group, self._stage(opened.message, content, authenticate, psks)
        waiting, proposal = self._receive(opened.message, content)
        return replace(group, pending=waiting), proposal

    def _receive(
        self, message: AuthenticatedContent, proposal: Proposal
    ) -> tuple[PendingProposals, ReceivedProposal]:
        sent = SentProposal(proposal, message.content.sender)
        waiting, reference = self._remember(message, Pending(sent=sent))
        return waiting, ReceivedProposal(
            sender=sent.sender,
            proposal=proposal,
            reference=reference,
            authenticated_data=message.content.authenticated_data,
        )

    def _remember(
        self, message: AuthenticatedContent, pending: Pending
    ) -> tuple[PendingProposals, bytes]:
        """Return the pending proposals with one more, and its reference (5.2)."""
        suite = self.current.suite
        check_proposal(self.context, self.current.tree, pending.sent)
        reference = suite.ref_hash("MLS 1.0 Proposal Reference", message.encode())
        if len(self.pending) >= MAX_PENDING and reference not in self.pending:
            raise InvalidError("too many proposals are pending")
        return {**self.pending, reference: pending}, reference

    def _stage(
        self, message: AuthenticatedContent, commit: Commit, authenticate: Authenticate, psks: PSKs
    ) -> StagedCommit:
        sender = message.content.sender
        processed = process_commit(
            self.current,
            message,
            resolve(commit, sender, self.pending),
            pending=self.pending,
            find_psk=self._find_psk(psks),
            authenticate=authenticate,
        )
        following = None
        if processed.epoch is not None and processed.schedule is not None:
            following = Group.begin(processed.epoch, processed.schedule.encryption_secret)
        return StagedCommit(
            committer=processed.committer,
            external=sender.sender_type is SenderType.NEW_MEMBER_COMMIT,
            proposals=processed.sent,
            added=tuple(leaf for leaf, _ in processed.applied.added),
            updated=processed.applied.updated,
            removed=processed.applied.removed,
            authenticated_data=message.content.authenticated_data,
            group=following,
        )

    # -- shared --------------------------------------------------------------------------------

    def _own(self, proposal: Proposal) -> SentProposal:
        return SentProposal(proposal, own_sender(self))

    def _own_content(self) -> LeafContent:
        leaf = self.current.tree.leaf(self.own_leaf)
        assert leaf is not None  # noqa: S101 - a member has a leaf
        return LeafContent(
            credential=leaf.credential, capabilities=leaf.capabilities, extensions=leaf.extensions
        )

    def _find_psk(self, psks: PSKs) -> FindPSK:
        """Return a look-up of external keys and of this group's own past."""
        epochs = {past.number: past.resumption_psk for past in self.past}
        epochs[self.epoch] = self.current.secrets.resumption_psk

        def find(psk: PreSharedKeyID) -> bytes | None:
            if isinstance(psk, ExternalPSK):
                return psks.get(psk.psk_id)
            return epochs.get(psk.psk_epoch) if psk.psk_group_id == self.group_id else None

        return find

    def _propose(
        self, pending: Pending, authenticated_data: bytes, *, public: bool
    ) -> tuple[Group, bytes]:
        message = sign(
            self,
            pending.sent.proposal,
            authenticated_data=authenticated_data,
            wire_format=_wire_format(public=public),
        )
        waiting, _ = self._remember(message, pending)
        group, encoded = protect(self, message)
        return replace(group, pending=waiting), encoded


def _application(opened: Opened, data: bytes) -> ApplicationMessage:
    framed, leaf = opened.message.content, opened.leaf
    assert leaf is not None  # noqa: S101 - application data come from members only
    return ApplicationMessage(
        epoch=framed.epoch,
        sender=LeafIndex(framed.sender.index),
        leaf=leaf,
        generation=opened.generation,
        data=data,
        authenticated_data=framed.authenticated_data,
    )


def _wire_format(*, public: bool) -> WireFormat:
    return WireFormat.PUBLIC_MESSAGE if public else WireFormat.PRIVATE_MESSAGE


def external_psk(psk: PreSharedKeyID, psks: PSKs) -> bytes | None:
    """Look an external pre-shared key up; for this package's own use."""
    return psks.get(psk.psk_id) if isinstance(psk, ExternalPSK) else None


def staged(
    committed: Committed, plan: Plan, *, message: bytes, with_tree: bool = False
) -> StagedCommit:
    """Return one's own Commit, staged; for this package's own use."""
    following = committed.epoch
    extensions: Extensions = ()
    if with_tree and committed.applied.added:
        extensions = (joining.tree_extension(following),)
    return StagedCommit(
        committer=plan.leaf,
        external=plan.sender.sender_type is SenderType.NEW_MEMBER_COMMIT,
        proposals=plan.sent,
        added=tuple(leaf for leaf, _ in committed.applied.added),
        updated=committed.applied.updated,
        removed=committed.applied.removed,
        authenticated_data=plan.authenticated_data,
        group=Group.begin(following, committed.schedule.encryption_secret),
        message=message,
        welcome=joining.make_welcome(committed, extensions),
    )

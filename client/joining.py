"""What a Welcome leads to: pure. It counts only once a receipt names the same epoch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from client import rules
from client.follow import judgement_on, members_of
from client.followed import Cause, Judgement, StagedCommit, View
from client.judging import Judge, Leaves, everybody_wanted
from client.views import Roster
from crypto.errors import CryptoError, DecodeError, InvalidError
from crypto.mls import Group, KeyPackageSecrets, joining
from crypto.mls.framing import decode_message
from crypto.mls.group_info import Welcome
from crypto.mls.tree_math import LeafIndex
from crypto.trust import DeviceIdentity
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """What comes of a Welcome.

    Attributes:
        conversation: Where to; ``None`` where it does not open.
        stages: What waits for the receipt.
        knows: Devices that were not known before, proved.
        wants: People whose devices must be looked up first.
        certificates: Fingerprints of certificates that must be looked up first.
        fault: Why nothing came of it.
    """

    conversation: ConversationId | None = None
    stages: StagedCommit | None = None
    knows: tuple[DeviceIdentity, ...] = ()
    wants: frozenset[UserName] = frozenset()
    certificates: frozenset[bytes] = frozenset()
    fault: Cause | None = None


def package_references(welcome: bytes) -> tuple[bytes, ...]:
    """Return for which key packages a Welcome is; none where it is no Welcome."""
    try:
        body = decode_message(welcome)
    except DecodeError:
        return ()
    if not isinstance(body, Welcome):
        return ()
    return tuple(one.new_member for one in body.secrets)


def open_welcome(
    welcome: bytes, own: KeyPackageSecrets, *, judge: Judge, at_ms: int, patient: bool = True
) -> Welcomed:
    """Return the group that a Welcome lets this device into.

    Args:
        welcome: An MLSMessage.
        own: The key package that it was made for.
        judge: Whom this device trusts, and who it is.
        at_ms: When it came into the inbox.
        patient: Whether people who are wanted can still be looked up.
    """
    leaves = Leaves(judge.trust, entering_at_ms=None)
    try:
        committer = _signer(welcome, own)
        group = Group.join(welcome, own, authenticate=leaves)
        conversation = conversation_id(group.group_id)
        context = rules.context_of(group.context.extensions)
        members = members_of(group, Judge(trust=leaves.trust, me=judge.me))
        rules.check_joined(context, members, me=judge.me)
    except CryptoError:
        if leaves.wants and patient:
            wants = everybody_wanted(
                leaves.trust, lambda look: Group.join(welcome, own, authenticate=look)
            )
            return Welcomed(wants=wants | leaves.wants)
        return Welcomed(fault=Cause.WELCOME_LOST)
    if context.organisation != judge.trust.root.organisation or len(members) != len(group.members):
        return Welcomed(fault=Cause.UNLAWFUL)
    leaf = group.current.tree.leaf(committer)
    signer = None if leaf is None else Judge(trust=leaves.trust, me=judge.me).device_of(leaf)
    if signer is None:
        return Welcomed(fault=Cause.WELCOME_LOST)
    found = rules.people(members, context.recorder)
    guests = [guest for guest in context.guests if guest.user in found]
    known = leaves.trust.devices
    strangers = {signer for guest in guests for signer in guest.signers} - known.keys()
    if strangers and patient:
        # Who vouched may have signed with a later certificate than the one in their leaf.
        return Welcomed(certificates=frozenset(strangers))
    words = {name for one in guests for name in rules.vouchers(one, members, known)}
    staged = StagedCommit(
        reference=hashlib.sha256(welcome).digest(),
        welcome=True,
        epoch=group.epoch,
        committer=DeviceId(""),
        at_ms=at_ms,
        roster=Roster(
            by=DeviceId(""),
            joined=tuple(sorted(found)),
            added=tuple(sorted(members)),
            guests={guest.user: guest.until_ms for guest in guests},
            vouchers=tuple(sorted(words)),
        ),
        group=group,
    )
    return Welcomed(conversation=conversation, stages=staged, knows=tuple(leaves.seen))


def welcomed(view: View, staged: StagedCommit) -> tuple[View, Judgement | None]:
    """Return what is known with a Welcome that waits, and what its Commit can now be told."""
    after = replace(view, staged=(*view.staged, staged))
    for commit in view.staged:
        if not commit.welcome and commit.group is None and commit.epoch == staged.epoch:
            return after, judgement_on(after, commit)
    return after, None


def _signer(welcome: bytes, own: KeyPackageSecrets) -> LeafIndex:
    """Return the place of whoever signed a Welcome's GroupInfo, whose signature joining verifies.

    Raises:
        CryptoError: It does not open.
    """
    body = decode_message(welcome)
    if not isinstance(body, Welcome):
        raise InvalidError("MLSMessage is no Welcome (6)")
    return joining.open_welcome(body, own, lambda _: None).info.signer

"""Who may change what in a conversation: pure, and the same for every member and the recorder.

A Commit that breaks a rule is refused by all alike, so that the recorder voids it and nobody is
parted from the others. What counts is the Commit's real effect, not what it says of itself.

=====================  ===========================================================================
change                 who may make it
=====================  ===========================================================================
fresh keys             every member, for its own leaf
a person in or out     the conversation's owners; whoever cites a signed command that demands it
a further device in    every member, for people who are in the conversation
a device out           its own person; every member, where it is revoked or expired
out and in again       owners, its own person and the recorder; whoever cites the device's request
out, as asked          every member that cites the person's request
a guest in             every member, with the signatures of two who are in; once each
a guest out            every member once the time is over; the two who vouched, at any time
the recorder out       nobody; out and in again in one Commit is well
the context            owners, but never organisation, type or recorder; guests as above
=====================  ===========================================================================

The changes that every member may make are the steward's work. The recorder does it; a member waits
until the recorder has been silent, which nobody else could check, and which is no rule therefore.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from crypto.errors import DecodeError, InvalidError
from crypto.mls.leaf_node import Extension, Extensions, find_extension
from crypto.mls.proposal import Add, GroupContextExtensions, Proposal, Remove
from crypto.names import Role
from crypto.statement import VerifiedStatement
from crypto.statement_types import StatementType
from crypto.trust import DeviceIdentity, Revocations
from protocol.authenticated_data import CommitData
from protocol.commands import ChangeMembers, decode_command
from protocol.emergency import Granting, Guest, check_guests, still_to_come
from protocol.group_context import EXTENSION_TYPE, ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName
from protocol.requests import RequestKind, decode_request

DIRECT_PEOPLE = 2
"""People in a direct conversation: that it is between two is what its type says."""

Members = Mapping[DeviceId, DeviceIdentity]
"""The devices with a leaf."""


class Fate(IntEnum):
    """What a Commit does to a device."""

    ADDED = 1
    REMOVED = 2
    RENEWED = 3
    """Removed and added again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A signed statement that asks for a change of members; a Commit cites it by its hash.

    Attributes:
        hash: SHA-256 of the statement.
        kind: ``COMMAND`` or ``DEVICE_REQUEST``.
        by: The device that signed a request; ``None`` for a command.
        body: The statement's body.
        at_ms: When the log took it in.
    """

    hash: bytes
    kind: StatementType
    by: DeviceId | None
    body: bytes = field(repr=False)
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Proposed:
    """A Commit, as it is judged.

    Attributes:
        conversation: Where.
        committer: Whose it is.
        members: Before it.
        added: Devices of leaves that come.
        removed: Devices of leaves that go.
        context: Before it.
        changed: After it; ``None`` where it stays.
        data: What it says of itself.
        demand: What it cites; ``None`` for nothing, or for what is not known here.
        revocations: Those that held when it was made.
        at_ms: When it came into the log.
        vouched: Statements of vouchers in the changed context that verified, by their bytes.
        known: Every device that is known here, by its certificate's fingerprint.
    """

    conversation: ConversationId
    committer: DeviceIdentity
    members: Members
    added: tuple[DeviceIdentity, ...]
    removed: tuple[DeviceIdentity, ...]
    context: WardlineContext
    changed: WardlineContext | None
    data: CommitData
    demand: Demand | None
    revocations: Revocations
    at_ms: int
    vouched: Mapping[bytes, VerifiedStatement] = field(default_factory=dict)
    known: Mapping[bytes, DeviceIdentity] = field(default_factory=dict)


def check_commit(proposed: Proposed) -> None:
    """Refuse a Commit that its committer may not make.

    Raises:
        InvalidError: A rule is broken, which is named.
    """
    _check_said(proposed)
    _check_devices(proposed)
    _check_recorder(proposed)
    _check_context(proposed)
    _check_direct(proposed)
    for device, (identity, fate) in _fates(proposed).items():
        if not _may(proposed, device, identity, fate):
            raise InvalidError("nobody changes the members but those who may")


def is_well_once_told(proposed: Proposed) -> bool:
    """Tell whether a refused Commit breaks no rule if those whom it removes are revoked.

    Revocations come by another log: one that the committer had read may not be here as yet.
    """
    revocations = proposed.revocations
    for one in proposed.removed:
        revocations = revocations.with_device(one.name, at_ms=proposed.at_ms)
    try:
        check_commit(replace(proposed, revocations=revocations))
    except InvalidError:
        return False
    return True


def check_joined(context: WardlineContext, members: Members, *, me: DeviceId) -> None:
    """Refuse to come into a group that is no conversation of ours.

    Raises:
        InvalidError: A rule is broken, which is named.
    """
    recorder = members.get(context.recorder)
    if recorder is None or Role.RECORDER not in recorder.roles:
        raise InvalidError("the archive's recorder is a member of every conversation")
    if recorder.organisation != context.organisation or me not in members:
        raise InvalidError("a conversation is of this organisation, and with this device")
    if context.conversation_type is ConversationType.DIRECT:
        _check_people(people(members, context.recorder))


def people(members: Members, recorder: DeviceId) -> set[UserName]:
    """Return who is in a conversation, the recorder left out."""
    return {UserName(one.user) for name, one in members.items() if name != recorder}


def vouchers(
    guest: Guest, members: Members, known: Mapping[bytes, DeviceIdentity]
) -> tuple[UserName, ...]:
    """Return who vouched for a guest, as far as they are still in the conversation.

    A leaf keeps the certificate with which its device came in, and a statement names the one with
    which it was signed, which may be a later one: it is the device that must be the same.

    Args:
        guest: Whom a statement let in.
        members: The devices with a leaf.
        known: Every device that is known here, by its certificate's fingerprint.
    """
    signers = (known.get(one) for one in guest.signers)
    found = {UserName(one.user) for one in signers if one is not None and one.name in members}
    return tuple(sorted(found))


def strangers(proposed: Proposed) -> frozenset[bytes]:
    """Return the certificates that are not known here and that a Commit about guests is judged by.

    Of those who vouched for whom it lets in, or takes out.
    """
    gone = {one.user for one in proposed.removed}
    after = () if proposed.changed is None else proposed.changed.guests
    asked = [guest for guest in after if guest not in proposed.context.guests]
    asked += [guest for guest in proposed.context.guests if guest.user in gone]
    signers = {signer for guest in asked for signer in guest.signers}
    return frozenset(signers - proposed.known.keys())


def overstaying(context: WardlineContext, members: Members, *, at_ms: int) -> set[DeviceId]:
    """Return devices of guests whose time is over."""
    staying = still_to_come(context.guests, at_ms=at_ms)
    over = {guest.user for guest in context.guests} - {guest.user for guest in staying}
    return {device for device, one in members.items() if one.user in over}


def check_proposals(proposals: Iterable[Proposal]) -> None:
    """Refuse what a Commit of ours never holds.

    Raises:
        InvalidError: Something else than adding, removing and the context's extension.
    """
    if not all(isinstance(one, Add | Remove | GroupContextExtensions) for one in proposals):
        raise InvalidError("a Commit adds, removes and sets the context")


def context_of(extensions: Extensions) -> WardlineContext:
    """Return a group's context.

    Raises:
        DecodeError: The extension is malformed.
        InvalidError: It is missing, or not the only one.
    """
    data = find_extension(extensions, EXTENSION_TYPE)
    if data is None or len(extensions) != 1:
        raise InvalidError("a conversation's GroupContext holds Wardline's extension alone")
    return WardlineContext.decode(data)


def setting(context: WardlineContext) -> GroupContextExtensions:
    """Return the proposal that gives a group its context."""
    extension = Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode())
    return GroupContextExtensions(extensions=(extension,))


# -- what holds for every Commit ---------------------------------------------------------------


def _check_said(proposed: Proposed) -> None:
    data = proposed.data
    if list(data.added) != sorted(one.name for one in proposed.added):
        raise InvalidError("a Commit says whom it adds")
    if list(data.removed) != sorted(one.name for one in proposed.removed):
        raise InvalidError("a Commit says whom it removes")
    if data.context != proposed.changed:
        raise InvalidError("a Commit says how it changes the context, and only then")
    if data.statement_hash is not None and proposed.demand is None:
        raise InvalidError("a Commit cites a statement that its readers have")


def _check_devices(proposed: Proposed) -> None:
    staying = proposed.members.keys() - {one.name for one in proposed.removed}
    added = [one.name for one in proposed.added]
    if len(set(added)) != len(added) or staying & set(added):
        raise InvalidError("a device has one leaf")
    if proposed.committer.name in set(added):
        raise InvalidError("nobody adds themself")


def _check_recorder(proposed: Proposed) -> None:
    recorder = proposed.context.recorder
    gone = any(one.name == recorder for one in proposed.removed)
    back = [one for one in proposed.added if one.name == recorder]
    if gone and not back:
        raise InvalidError("nobody removes the recorder")
    if any(Role.RECORDER not in one.roles for one in back):
        raise InvalidError("the recorder is certified as one")


def _check_context(proposed: Proposed) -> None:
    before, after = proposed.context, proposed.changed
    if after is None:
        return
    if (after.organisation, after.conversation_type, after.recorder) != (
        before.organisation,
        before.conversation_type,
        before.recorder,
    ):
        raise InvalidError("organisation, type and recorder never change")
    _check_guests(proposed, after)
    if not _is_owner(proposed) and replace(after, guests=before.guests) != before:
        raise InvalidError("owners set the context")


def _check_guests(proposed: Proposed, after: WardlineContext) -> None:
    recorder = proposed.context.recorder
    granting = Granting(
        conversation=proposed.conversation,
        people=people(proposed.members, recorder),
        devices=proposed.members.keys(),
        staying=people(_after(proposed), recorder),
        verified=proposed.vouched,
        at_ms=proposed.at_ms,
    )
    check_guests(proposed.context.guests, after.guests, granting)


def _check_direct(proposed: Proposed) -> None:
    if proposed.context.conversation_type is not ConversationType.DIRECT:
        return
    _check_people(people(_after(proposed), proposed.context.recorder))


def _after(proposed: Proposed) -> Members:
    """Return the devices with a leaf after a Commit."""
    gone = {one.name for one in proposed.removed}
    kept = {name: one for name, one in proposed.members.items() if name not in gone}
    return {**kept, **{DeviceId(one.name): one for one in proposed.added}}


def _check_people(found: set[UserName]) -> None:
    if len(found) > DIRECT_PEOPLE:
        raise InvalidError("a direct conversation is between two")


# -- who may -----------------------------------------------------------------------------------


def _fates(proposed: Proposed) -> dict[DeviceId, tuple[DeviceIdentity, Fate]]:
    fates = {DeviceId(one.name): (one, Fate.REMOVED) for one in proposed.removed}
    for one in proposed.added:
        name = DeviceId(one.name)
        fates[name] = (one, Fate.RENEWED if name in fates else Fate.ADDED)
    return fates


def _may(proposed: Proposed, device: DeviceId, identity: DeviceIdentity, fate: Fate) -> bool:
    if _is_owner(proposed) or _is_commanded(proposed, identity, fate):
        return True
    if fate is Fate.ADDED:
        present = {one.user for one in proposed.members.values()}
        return identity.user in present | _let_in(proposed)
    if identity.user == proposed.committer.user or _is_asked(proposed, device, identity, fate):
        return True
    if fate is Fate.REMOVED:
        return _is_out(proposed, identity) or _is_shown_out(proposed, device, identity)
    return proposed.committer.name == proposed.context.recorder


def _is_owner(proposed: Proposed) -> bool:
    return proposed.committer.user in proposed.context.owners


def _let_in(proposed: Proposed) -> set[UserName]:
    """Return the guests whom a Commit lets in; their statements are checked with the context."""
    after = () if proposed.changed is None else proposed.changed.guests
    return {guest.user for guest in after if guest not in proposed.context.guests}


def _is_shown_out(proposed: Proposed, device: DeviceId, identity: DeviceIdentity) -> bool:
    """Tell whether a guest's time is over, or one who vouched ends it."""
    if device in overstaying(proposed.context, proposed.members, at_ms=proposed.at_ms):
        return True
    return any(
        guest.user == identity.user
        and proposed.committer.user in vouchers(guest, proposed.members, proposed.known)
        for guest in proposed.context.guests
    )


def _is_out(proposed: Proposed, identity: DeviceIdentity) -> bool:
    """Tell whether a device is revoked or expired."""
    revoked_ms = proposed.revocations.since_ms(identity)
    return revoked_ms is not None or not identity.is_valid_at(proposed.at_ms)


def _is_asked(proposed: Proposed, device: DeviceId, identity: DeviceIdentity, fate: Fate) -> bool:
    """Tell whether the device, or its person, has asked for this in the log."""
    demand = proposed.demand
    if demand is None or demand.kind is not StatementType.DEVICE_REQUEST or demand.by is None:
        return False
    try:
        request = decode_request(demand.body)
    except DecodeError:
        return False
    if request.conversation != proposed.conversation:
        return False
    if request.kind is RequestKind.RE_ADD:
        return fate is Fate.RENEWED and demand.by == device
    return fate is Fate.REMOVED and demand.by.partition("/")[0] == identity.user


def _is_commanded(proposed: Proposed, identity: DeviceIdentity, fate: Fate) -> bool:
    """Tell whether an administrators' command demands this."""
    demand = proposed.demand
    if demand is None or demand.kind is not StatementType.COMMAND:
        return False
    try:
        command = decode_command(demand.body)
    except (DecodeError, InvalidError):
        return False
    if not isinstance(command, ChangeMembers) or command.conversation != proposed.conversation:
        return False
    user = UserName(identity.user)
    if fate is Fate.ADDED:
        return user in command.added
    return fate is Fate.REMOVED and user in command.removed

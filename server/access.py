"""Every "may X do Y" of the relay, and nothing else.

Each function answers one question from facts that its caller hands in, and gives ``None`` for yes
or the error code for no. Nothing here changes anything, so each answer is tested by a table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType

from crypto.names import Role
from crypto.statement import StatementType
from protocol import frames, limits
from protocol.errors import Code
from protocol.frames import Frame
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import DeviceId, user_of
from protocol.policy import Action, Policy
from protocol.routing import ContentType

ABSENCE_MS = 30 * 24 * 3600 * 1000
"""Time away, in ms, after which a device proves password and one-time code again."""

STRONG_MS = 15 * 60 * 1000
"""How long, in ms, a proof of password and one-time code covers an administrator's acts."""


class Standing(Enum):
    """What a proved device is to the relay."""

    CURRENT = "current"
    ABSENT = "absent"
    EXPIRED = "expired"
    ENDED = "ended"


ACTIONS: Mapping[type[Frame], Action] = MappingProxyType(
    {
        frames.Append: Action.SEND,
        frames.AppendCommit: Action.SEND,
        frames.Lookup: Action.LOOK_UP,
        frames.LookupCertificates: Action.LOOK_UP,
        frames.GetReach: Action.LOOK_UP,
        frames.PublishKeyPackages: Action.RECEIVE,
        frames.ClaimKeyPackage: Action.SEND,
        frames.Command: Action.COMMAND,
    }
)
"""The frames that a policy can allow or deny."""

_RECORDERS = frozenset({Role.RECORDER})

ROLES: Mapping[type[Frame], frozenset[Role]] = MappingProxyType(
    {
        frames.Witness: _RECORDERS,
        frames.GetWitnessKey: _RECORDERS,
        frames.Standing: frozenset(Role) - {Role.WITNESS},
    }
)
"""The frames that are some roles' own, whatever a policy says."""

GUARDED = ACTIONS.keys() | ROLES.keys()
"""The frames that ask for a role; the others are a device's own affair."""

TO_RECORDER = frozenset(
    {
        StatementType.OFFICER_KEYS,
        StatementType.PAGE_ANSWER,
        StatementType.DEVICE_REQUEST,
        StatementType.COSIGNATURE,
    }
)
"""What an open device states to a recorder, through its inbox."""

TO_DEVICE = frozenset({StatementType.ARCHIVED, StatementType.CHECKPOINT})
"""What a recorder states to a device, through its inbox."""

SIGNERS: Mapping[StatementType, frozenset[Role]] = MappingProxyType(
    {
        StatementType.INVITATION: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
        StatementType.COMMAND: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
        StatementType.SUSPENSION: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
        StatementType.WIPE_ORDER: frozenset({Role.ADMINISTRATOR, Role.RECORDER}),
        StatementType.REVOCATION_LIST: frozenset({Role.RECORDER}),
    }
)
"""Who may hand in which statement for the control log; its signatures are verified beside this.
The authority's come through the archive's recorder."""

_STRONG_ROLES = frozenset({Role.ADMINISTRATOR, Role.OFFICER})


def standing(
    *, revoked: bool, suspended: bool, valid: bool, away_ms: int, person: bool
) -> Standing:
    """Return what a device is, once its connection key is proved.

    Args:
        revoked: Whether it, its certificate or its user has been revoked.
        suspended: Whether an administrator has suspended it.
        valid: Whether its certificate's dates hold now.
        away_ms: How long it was away.
        person: Whether a person holds it; the archive's own devices have no password.
    """
    if revoked or suspended:
        return Standing.ENDED
    if not valid:
        return Standing.EXPIRED
    if person and away_ms > ABSENCE_MS:
        return Standing.ABSENT
    return Standing.CURRENT


def may_stay(*, not_after_ms: int, at_ms: int) -> Code | None:
    """May a session go on that began while its certificate was valid?

    Args:
        not_after_ms: The end of the certificate that the device has now.
        at_ms: A time that has surely come.
    """
    return Code.OUTDATED if at_ms > not_after_ms + limits.CLOCK_SKEW_MS else None


def is_person(roles: Collection[Role]) -> bool:
    """Tell whether a device of these roles is held by a person, with password and code."""
    return not set(roles) <= {Role.RECORDER, Role.WITNESS}


def may_use(kind: type[Frame], roles: frozenset[Role], policy: Policy) -> Code | None:
    """May a device of these roles send this frame at all?"""
    if kind in ROLES and not roles & ROLES[kind]:
        return Code.FORBIDDEN
    action = ACTIONS.get(kind)
    return None if action is None else may_act(action, roles, policy)


def may_act(action: Action, roles: frozenset[Role], policy: Policy) -> Code | None:
    """May a device of these roles do what a policy decides on?"""
    return None if roles & policy.roles_for(action) else Code.FORBIDDEN


def may_append(
    device: DeviceId,
    content_type: ContentType,
    *,
    reads: bool,
    context: WardlineContext | None,
) -> Code | None:
    """May a device append this message to a conversation?

    Args:
        device: The sender.
        content_type: Application or proposal; Commits are asked about by ``may_commit``.
        reads: Whether it has a cursor on the conversation.
        context: The conversation's, where it exists.
    """
    if not reads or context is None or content_type is ContentType.COMMIT:
        return Code.NO_SUCH
    announces = context.conversation_type is ConversationType.ANNOUNCEMENT
    if not announces or content_type is not ContentType.APPLICATION:
        return None
    speaks = user_of(device) in context.owners or device == context.recorder
    return None if speaks else Code.FORBIDDEN


def may_create(
    device: DeviceId,
    context: WardlineContext,
    *,
    added: Collection[DeviceId],
    recorders: Collection[DeviceId],
) -> Code | None:
    """May a device create a conversation of this context, adding these devices?"""
    if context.recorder not in recorders or (
        context.recorder != device and context.recorder not in added
    ):
        return Code.INVALID
    if user_of(device) not in context.owners or context.guests:
        return Code.INVALID
    return None


def may_commit(
    context: WardlineContext | None,
    changed: WardlineContext | None,
    *,
    reads: bool,
    added: Collection[DeviceId],
    removed: Collection[DeviceId],
) -> Code | None:
    """May a reader's Commit, with this change of members and context, enter a conversation?

    Whether its sender may make the change is for the members, who alone see who signed it. The
    relay refuses what no member could accept: a conversation without its recorder. One that was
    restored, and so lost its state, goes and comes back in one Commit.
    """
    if not reads or context is None:
        return Code.NO_SUCH
    if context.recorder in removed and context.recorder not in added:
        return Code.INVALID
    if changed is not None and (
        changed.recorder != context.recorder or changed.organisation != context.organisation
    ):
        return Code.INVALID
    return None


def may_confirm(
    device: DeviceId,
    context: WardlineContext,
    *,
    committer: DeviceId,
    silence_ms: int,
    silence_limit_ms: int,
    reads: bool,
) -> Code | None:
    """May a device sign the receipt of a Commit that was staged ``silence_ms`` ago?"""
    if not reads and device != context.recorder:
        return Code.NO_SUCH
    if device == context.recorder:
        return None
    if silence_ms < silence_limit_ms or user_of(device) == user_of(committer):
        return Code.FORBIDDEN
    return None


def may_void(device: DeviceId, context: WardlineContext) -> Code | None:
    """May a device void a staged Commit?"""
    return None if device == context.recorder else Code.NO_SUCH


def may_command(kind: StatementType, roles: frozenset[Role], *, strong: bool) -> Code | None:
    """May a device hand in a statement of this type for the control log?

    Args:
        kind: The statement's type.
        roles: The device's.
        strong: Whether password and one-time code were proved within ``STRONG_MS``.
    """
    if not roles & SIGNERS.get(kind, frozenset()):
        return Code.FORBIDDEN
    if roles & _STRONG_ROLES and not strong:
        return Code.NOT_STRONG
    return None


def may_certify(roles: frozenset[Role]) -> Code | None:
    """May a device bring the authority's certificates for others?"""
    return None if Role.RECORDER in roles else Code.NO_SUCH


def may_state(kind: StatementType, *, by: frozenset[Role], to: frozenset[Role]) -> Code | None:
    """May a device put a statement of this type into another's inbox?

    Args:
        kind: The statement's type.
        by: Roles of the device that posts it.
        to: Roles of the device whose inbox it is.
    """
    if Role.RECORDER in by and kind in TO_DEVICE:
        return None
    if Role.RECORDER not in to:
        return Code.NO_SUCH
    return None if kind in TO_RECORDER else Code.INVALID


def may_note(*, user_reads: bool) -> Code | None:
    """May a device leave a signed note in a conversation that its person reads?"""
    return None if user_reads else Code.NO_SUCH


def reads_control(roles: Collection[Role]) -> bool:
    """Tell whether a device of these roles reads the control log: each that acts on commands."""
    return not set(roles) <= {Role.WITNESS}


def reads_audit(roles: Collection[Role]) -> bool:
    """Tell whether a device of these roles reads the audit log: the archive's recorder."""
    return Role.RECORDER in roles


def may_reconcile(roles: Collection[Role], *, revoked: bool) -> bool:
    """May a device tell a restored relay what it lacks? The archive's recorder alone."""
    return Role.RECORDER in roles and not revoked

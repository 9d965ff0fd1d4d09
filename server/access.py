"""Every "may X do Y" of the relay, and nothing else.

Each function answers one question from facts that its caller hands in, and gives ``None`` for yes
or the error code for no. Nothing here changes anything, so each answer is tested by a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from types import MappingProxyType

from crypto.names import Role
from crypto.statement import StatementType
from protocol import frames, limits
from protocol.errors import Code
from protocol.frames import Frame
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import DeviceId, UserName, user_of
from protocol.policy import Action, Policy, is_ruled
from protocol.routing import ContentType

ABSENCE_MS = 30 * 24 * 3600 * 1000
"""Time away, in ms, after which a device proves password and one-time code again."""

STRONG_MS = 15 * 60 * 1000
"""How long, in ms, a proof of password and one-time code covers an administrator's acts."""


class Given(Enum):
    """How much of a conversation's log a device gets."""

    NOTHING = "nothing"
    """Its cursor waits until the policy lets it have something again."""
    COURSE = "course"
    """What keeps it in step: Commits, receipts, notes, and of messages that there was one."""
    ALL = "all"


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
        frames.GetReach: Action.LOOK_UP,
        frames.Command: Action.COMMAND,
    }
)
"""The frames that a policy can allow or deny."""

ROUTES: Mapping[str, frozenset[Action]] = MappingProxyType(
    {
        "POST": frozenset({Action.ATTACH, Action.SEND}),
        "PATCH": frozenset({Action.ATTACH, Action.SEND}),
        "HEAD": frozenset({Action.ATTACH}),
        "GET": frozenset({Action.ATTACH, Action.RECEIVE, Action.VIEW}),
        "DELETE": frozenset({Action.ATTACH}),
    }
)
"""What a policy must allow, all of it, for each method of the attachment routes."""

_RECORDERS = frozenset({Role.RECORDER})
_MEMBERS = frozenset(Role) - {Role.WITNESS}

ROLES: Mapping[type[Frame], frozenset[Role]] = MappingProxyType(
    {
        frames.Witness: _RECORDERS,
        frames.GetWitnessKey: _RECORDERS,
        frames.Standing: _MEMBERS,
        # Whom a device meets in conversations it must know, or it could not follow these.
        frames.Lookup: _MEMBERS,
        # Without these a device could not tell who signed the policy that gives it a right back.
        frames.LookupCertificates: _MEMBERS,
        # A page begins with somebody's key package, and no policy silences a page.
        frames.PublishKeyPackages: _MEMBERS,
        frames.ClaimKeyPackage: _MEMBERS,
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


def may_attach(method: str, roles: frozenset[Role], policy: Policy) -> Code | None:
    """May a device of these roles use a method of the attachment routes?"""
    allowed = all(may_act(action, roles, policy) is None for action in ROUTES[method])
    return None if allowed else Code.FORBIDDEN


def given(kind: ConversationType | None, roles: frozenset[Role], policy: Policy) -> Given:
    """Return how much of a conversation's log a device of these roles gets.

    Args:
        kind: The conversation's; ``None`` where that is not known.
        roles: The device's.
        policy: What holds now.
    """
    if not is_ruled(kind):
        return Given.ALL
    if may_act(Action.RECEIVE, roles, policy) is not None:
        return Given.NOTHING
    return Given.ALL if may_act(Action.VIEW, roles, policy) is None else Given.COURSE


def may_bring(
    kind: ConversationType,
    newcomers: Iterable[frozenset[Role]],
    policy: Policy,
    *,
    by: frozenset[Role],
) -> Code | None:
    """May a device let these devices of new people into a conversation?

    Args:
        kind: The conversation's.
        newcomers: The roles of each device of a person who has none in it yet.
        policy: What holds now.
        by: Roles of the device that lets them in; the recorder puts right what has happened.
    """
    if Role.RECORDER in by or not is_ruled(kind):
        return None
    barred = any(may_act(Action.RECEIVE, roles, policy) is not None for roles in newcomers)
    return Code.FORBIDDEN if barred else None


def may_know(users: Iterable[UserName], met: Collection[UserName]) -> Code | None:
    """May a device that may not look people up ask for these all the same?

    Args:
        users: Who is asked for.
        met: Its own person, the archive, whoever is in a conversation with it and whoever can be
            paged: of these it must know the devices, or it could neither follow nor page.
    """
    return None if set(users) <= set(met) else Code.FORBIDDEN


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
    if changed is not None and _identity(changed) != _identity(context):
        return Code.INVALID
    return None


def _identity(context: WardlineContext) -> tuple[object, ...]:
    """Return what of a context no Commit changes: a group does not become a page, either."""
    return context.organisation, context.conversation_type, context.recorder


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

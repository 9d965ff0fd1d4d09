"""What administrators sign: each act as a value before it is signed, and in words once it is.

Nothing here signs, sends or reads a clock. A face makes an ``Act``, has ``client.statements`` sign
it and hand it in; where two administrators are wanted, the first one's signature travels as text
(``armoured``) to the second, who reads ``described`` before adding theirs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from functools import singledispatch
from types import MappingProxyType

from client.link import Address
from client.views import Control
from crypto.certificate import DeviceClaim
from crypto.errors import DecodeError, InvalidError
from crypto.invitation import Invitation, create_link, decode_invitation
from crypto.names import AUTHORITY_ROLES, QUORUM_ROLES, TIME_MAX_MS, Role
from crypto.proof import DeviceGrant, decode_grant
from crypto.statement import ClaimedStatement, claimed_statement
from crypto.statement_types import Purpose, StatementType
from crypto.trust import DeviceIdentity
from protocol.commands import (
    ChangeMembers,
    Command,
    RemoveUser,
    ResetAccount,
    SetDelegate,
    SetHolders,
    SetLogPolicy,
    SetPerson,
    SetPolicy,
    Suspension,
    WipeOrder,
    WipeReason,
    decode_command,
    decode_suspension,
    decode_wipe_order,
    decode_wipe_receipt,
)
from protocol.device_codes import Grant, grant_text, read_application
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName, role_name, user_name
from protocol.oncall.commands import OnCallCommand
from protocol.policy import Action, DeviceRules, Policy, SignOut

ARMOUR_BEGIN = "-----BEGIN WARDLINE STATEMENT-----"
ARMOUR_END = "-----END WARDLINE STATEMENT-----"
ARMOUR_COLUMNS = 64
"""Characters on a line of armour (RFC 7468, section 2): it survives mail and paper."""

UNREADABLE = "its content cannot be read by this program: do not sign it"

ROLES: Mapping[str, Role] = MappingProxyType({role.name.lower(): role for role in Role})
"""Roles by the word that people type."""

REASONS: Mapping[str, WipeReason] = MappingProxyType(
    {reason.name.lower(): reason for reason in WipeReason}
)
"""Why a device is wiped, by the word that people type."""

ACTIONS: Mapping[str, Action] = MappingProxyType(
    {action.name.lower().replace("_", "-"): action for action in Action}
)
"""What a policy allows or denies, by the word that people type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What one administrator, or two together, are about to sign.

    Attributes:
        kind: The statement's type.
        body: Its body.
        administrators: How many administrators it takes, 1 or 2.
    """

    kind: StatementType
    body: bytes = field(repr=False)
    administrators: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Invited:
    """An invitation: what is signed, and the secret that only the invited person gets.

    Attributes:
        act: To be signed and handed in.
        link: For the person alone, as text or QR code; who has it first enrols.
    """

    act: Act
    link: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What a statement says, in words, for whoever signs it next.

    Attributes:
        kind: What it claims to be.
        title: What it is.
        lines: What it says, a fact a line.
        administrators: How many administrators have signed it.
        finished: Whether it has all the signatures that its type asks.
    """

    kind: StatementType
    title: str
    lines: tuple[str, ...] = field(repr=False)
    administrators: int
    finished: bool


def roles_of(words: Iterable[str]) -> frozenset[Role]:
    """Return the roles that these words name.

    Raises:
        InvalidError: One names no role that an administrator can grant, or there is none.
    """
    try:
        roles = frozenset(ROLES[word.strip().lower()] for word in words)
    except KeyError:
        raise InvalidError(f"a role is one of {', '.join(grantable())}") from None
    if not roles or roles & AUTHORITY_ROLES:
        raise InvalidError(f"a role is one of {', '.join(grantable())}")
    return roles


def grantable() -> list[str]:
    """Return the roles that administrators can grant, as words."""
    return [word for word, role in ROLES.items() if role not in AUTHORITY_ROLES]


def invite(user: str, *, roles: frozenset[Role], ends_ms: int | None, address: Address) -> Invited:
    """Return an invitation of a person's first device, with a fresh link.

    Args:
        user: The person.
        roles: What the device's certificate will carry.
        ends_ms: Date after which no certificate is issued, or None.
        address: Where the relay is.

    Raises:
        InvalidError: The name, the date or the roles break a rule.
    """
    if roles & AUTHORITY_ROLES or not roles:
        raise InvalidError("only the authority makes a recorder or a witness")
    link = create_link(
        host=address.host,
        port=address.port,
        tls_pin=address.tls_pin,
        organisation=address.organisation,
    )
    body = Invitation(
        invitation_key=link.key.public_key, user=user, roles=roles, ends_ms=ends_ms
    ).encode()
    act = Act(kind=StatementType.INVITATION, body=body, administrators=_administrators(roles))
    return Invited(act=act, link=link.encode())


def approve_device(
    claim: DeviceClaim,
    *,
    of: DeviceIdentity,
    ends_ms: int | None,
    roles: frozenset[Role] | None = None,
) -> Act:
    """Return the approval of a device for a person who has lost all others: two sign it.

    Args:
        claim: The new device, as it names itself.
        of: Any earlier device of that person: the new one continues its origin.
        ends_ms: Date after which no certificate is issued, or None; that of the earlier one, or
            another where the person's work here was prolonged or taken up again.
        roles: What its certificate will carry; those of the earlier one where None.

    Raises:
        InvalidError: The devices are of two people, or the date is none.
    """
    if claim.user != of.user:
        raise InvalidError("an approved device continues the same person's devices")
    body = DeviceGrant(
        claim=claim, roles=roles or of.roles, ends_ms=ends_ms, origin=of.origin
    ).encode()
    return Act(kind=StatementType.DEVICE_APPROVAL, body=body, administrators=2)


def vouch(claim: DeviceClaim, *, by: DeviceIdentity) -> Act:
    """Return what a person's device signs to let in a further one of the same person.

    Raises:
        InvalidError: The devices are of two people.
    """
    roles = by.roles - AUTHORITY_ROLES
    grant = approve_device(claim, of=by, ends_ms=by.ends_ms, roles=roles)
    return Act(kind=StatementType.DEVICE_VOUCHING, body=grant.body)


def applicant(text: str) -> DeviceClaim:
    """Return the device that asks, by its text, to be let in.

    Raises:
        DecodeError: It is no such text, or mistyped.
        InvalidError: A name or key breaks its rule.
    """
    return read_application(text)


def granted(statement: bytes, *, address: Address) -> str:
    """Return the text that the new device goes on with, once everybody has signed.

    Raises:
        InvalidError: The relay's address breaks a rule.
    """
    return grant_text(
        Grant(
            host=address.host,
            port=address.port,
            tls_pin=address.tls_pin,
            organisation=address.organisation,
            statement=statement,
        )
    )


def name_person(user: str, *, display_name: str, ward: str) -> Act:
    """Return the command that gives a person name and ward in the directory.

    Raises:
        InvalidError: A name breaks its rule.
    """
    return _command(SetPerson(user=user_name(user), display_name=display_name, ward=ward))


def delegate(ward: str, role: str | None) -> Act:
    """Return the command by which whoever answers for a role may suspend a ward's devices.

    Args:
        ward: As people have it in the directory.
        role: The role, or ``None`` for nobody any more.

    Raises:
        InvalidError: A name breaks its rule.
    """
    return _command(SetDelegate(ward=ward, role=None if role is None else role_name(role)))


def remove_person(user: str) -> Act:
    """Return the command by which a person leaves: all devices revoked, the account deleted.

    Raises:
        InvalidError: The name breaks its rule.
    """
    return _command(RemoveUser(user=user_name(user)))


def reset_account(user: str) -> Act:
    """Return the command by which a person sets password and one-time codes anew.

    Raises:
        InvalidError: The name breaks its rule.
    """
    return _command(ResetAccount(user=user_name(user)))


def hold_role(role: RoleName, users: Collection[str]) -> Act:
    """Return the command that says who may hold a role that can be paged.

    Raises:
        InvalidError: A name breaks its rule.
    """
    return _command(SetHolders(role=role, users=_ascending(users)))


def change_members(
    conversation: ConversationId, *, add: Collection[str], remove: Collection[str]
) -> Act:
    """Return the command that lets people in and out of a conversation.

    Raises:
        InvalidError: A name breaks its rule, or nobody is named.
    """
    if not add and not remove:
        raise InvalidError("a change of members names somebody")
    return _command(
        ChangeMembers(conversation=conversation, added=_ascending(add), removed=_ascending(remove))
    )


def allow(policy: Policy, action: Action, roles: frozenset[Role]) -> Act:
    """Return the command that sets who may do ``action``, everything else as it is.

    Args:
        policy: The policy in force.
        action: What.
        roles: Who may, from the next version on.

    Raises:
        InvalidError: That goes beyond what the program allows, or takes rights that must stay.
    """
    rights = {**policy.rights, action: roles}
    return _command(SetPolicy(policy=replace(policy, version=policy.version + 1, rights=rights)))


def keep(policy: Policy, rules: DeviceRules) -> Act:
    """Return the command that sets how devices are to be kept, everything else as it is.

    Args:
        policy: The policy in force.
        rules: What holds from the next version on.
    """
    return _command(SetPolicy(policy=replace(policy, version=policy.version + 1, devices=rules)))


def suspend(devices: Collection[DeviceId], *, lifted: bool = False) -> Act:
    """Return the suspension of any number of devices, or the end of it.

    Raises:
        InvalidError: A name breaks its rule, or there is none.
    """
    if not devices:
        raise InvalidError("a suspension names a device")
    body = Suspension(devices=tuple(sorted(set(devices))), lifted=lifted).encode()
    return Act(kind=StatementType.SUSPENSION, body=body)


def wipe(device: DeviceIdentity, reason: WipeReason) -> Act:
    """Return the order that a device destroy what it holds; the authority signs it last.

    Raises:
        InvalidError: The device's name breaks its rule.
    """
    body = WipeOrder(
        device=DeviceId(device.name), connection_key=device.connection_key, reason=reason
    ).encode()
    return Act(kind=StatementType.WIPE_ORDER, body=body)


def armoured(statement: bytes) -> str:
    """Return a statement as text, for a file or a message to the next signer."""
    lines = textwrap.wrap(base64.b64encode(statement).decode("ascii"), ARMOUR_COLUMNS)
    return "\n".join((ARMOUR_BEGIN, *lines, ARMOUR_END)) + "\n"


def unarmoured(text: str) -> bytes:
    """Return the statement in a text, whatever stands around it.

    Raises:
        DecodeError: There is none, or it is damaged.
    """
    _, begin, rest = text.partition(ARMOUR_BEGIN)
    inside, end, _ = rest.partition(ARMOUR_END)
    if not begin or not end:
        raise DecodeError("Armour", 0)
    try:
        return base64.b64decode("".join(inside.split()), validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("Armour", len(ARMOUR_BEGIN)) from None


def described(statement: bytes) -> Described:
    """Return what a statement says, in words; nothing about it is verified.

    Raises:
        DecodeError: It is no statement.
    """
    claimed = claimed_statement(statement)
    lines, finished = _read(claimed)
    dates = f"issued {_date(claimed.issued_ms)}, counts until {_date(claimed.expires_ms)}"
    return Described(
        kind=claimed.type,
        title=claimed.type.name.lower().replace("_", " "),
        lines=(*lines, dates),
        administrators=claimed.purposes.count(Purpose.ADMINISTRATOR),
        finished=finished,
    )


def invited(controls: Iterable[Control]) -> list[UserName]:
    """Return whom the control log's invitations name and nothing has removed, ascending."""
    users: set[UserName] = set()
    removed: set[UserName] = set()
    for control in controls:
        if not control.verified:
            continue
        body = claimed_statement(control.statement).body
        # That it is signed was verified, not that an administrator's program made it well.
        with contextlib.suppress(DecodeError, InvalidError):
            if control.type is StatementType.INVITATION:
                users.add(user_name(decode_invitation(body).user))
            elif control.type is StatementType.COMMAND:
                command = decode_command(body)
                if isinstance(command, RemoveUser):
                    removed.add(command.user)
    return sorted(users - removed)


def _read(claimed: ClaimedStatement) -> tuple[list[str], bool]:
    """Return what a statement's body says, and whether nobody else signs it."""
    describe = _WORDS.get(claimed.type)
    try:
        lines = [] if describe is None else describe(claimed.body)
        return lines, claimed.is_finished and not _wants_another(claimed)
    except (DecodeError, InvalidError):
        return [UNREADABLE], False


def _wants_another(claimed: ClaimedStatement) -> bool:
    """Say whether what the body grants takes a second administrator who is missing."""
    if Purpose.AUTHORITY in claimed.purposes or claimed.type is not StatementType.INVITATION:
        return False
    roles = decode_invitation(claimed.body).roles
    return len(claimed.purposes) < _administrators(roles)


def _administrators(roles: frozenset[Role]) -> int:
    return 2 if roles & QUORUM_ROLES else 1


def _command(body: Command) -> Act:
    return Act(kind=StatementType.COMMAND, body=body.encode())


def _ascending(users: Collection[str]) -> tuple[UserName, ...]:
    return tuple(sorted({user_name(user) for user in users}))


def _date(at_ms: int) -> str:
    if at_ms > TIME_MAX_MS:
        return "never"
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nobody"


def _roles(roles: Iterable[Role]) -> str:
    return _listed(role.name.lower() for role in sorted(roles))


def _end(ends_ms: int | None) -> str:
    return "no end date" if ends_ms is None else f"ends {_date(ends_ms)}"


def _invitation(body: bytes) -> list[str]:
    invitation = decode_invitation(body)
    roles = _roles(invitation.roles)
    return [f"invites {invitation.user} as {roles}", _end(invitation.ends_ms)]


def _grant(body: bytes) -> list[str]:
    grant = decode_grant(body)
    claim = grant.claim
    return [
        f"lets in the device {claim.user}/{claim.device} as {_roles(grant.roles)}",
        f"whose key is {claim.signature_key.hex()}",
        _end(grant.ends_ms),
    ]


def _suspension(body: bytes) -> list[str]:
    suspension = decode_suspension(body)
    verb = "lifts the suspension of" if suspension.lifted else "suspends"
    return [f"{verb} {_listed(suspension.devices)}"]


def _wipe_order(body: bytes) -> list[str]:
    order = decode_wipe_order(body)
    return [f"wipes {order.device}, because it is {order.reason.name.lower()}"]


def _wipe_said(words: str) -> Callable[[bytes], list[str]]:
    """Return what puts into words what a device says of its wipe."""
    return lambda body: [f"{decode_wipe_receipt(body).device} {words}"]


def _administrative(body: bytes) -> list[str]:
    return _said(decode_command(body))


@singledispatch
def _said(command: object) -> list[str]:
    """Return a command in words; its class's name where it has words of its own elsewhere."""
    return [type(command).__name__]


@_said.register
def _(command: RemoveUser) -> list[str]:
    return [f"removes {command.user}: every device revoked, the account deleted"]


@_said.register
def _(command: ResetAccount) -> list[str]:
    return [f"lets {command.user} set password and one-time codes anew"]


@_said.register
def _(command: SetPolicy) -> list[str]:
    rules = command.policy.devices
    kept = f"for {rules.keep_days} days" if rules.keep_days else "as long as there is room"
    return [
        f"policy {command.policy.version}",
        *_rights(command.policy),
        f"devices open without the relay for {rules.lease_hours} hours at most while on duty",
        f"devices lock after {rules.lock_minutes} minutes without use",
        f"devices keep messages {kept}",
        f"{rules.hand_over_hours or 'no'} hours of a conversation may be handed over",
        "shared workstations lock a store at sign-out and at the end of the shift"
        if rules.sign_out is SignOut.LOCK
        else "shared workstations remove a store at sign-out and at the end of the shift",
    ]


@_said.register
def _(command: SetHolders) -> list[str]:
    return [f"the role {command.role} may be held by {_listed(command.users)}"]


@_said.register
def _(command: SetPerson) -> list[str]:
    return [f"{command.user} is called {command.display_name}, {command.ward or 'no ward'}"]


@_said.register
def _(command: SetLogPolicy) -> list[str]:
    witnesses = len(command.witness_keys) + len(command.officer_keys)
    return [f"the archive's log and its {witnesses} witnesses, version {command.version}"]


@_said.register
def _(command: SetDelegate) -> list[str]:
    who = f"whoever answers for {command.role}" if command.role else "nobody but administrators"
    return [f"{who} may suspend the devices of {command.ward}"]


@_said.register
def _(command: ChangeMembers) -> list[str]:
    return [
        f"conversation {command.conversation.hex()}",
        f"adds {_listed(command.added)}, removes {_listed(command.removed)}",
    ]


@_said.register
def _(command: OnCallCommand) -> list[str]:
    """Return an on-call command as its own values say it: it names roles, people and times."""
    values = [(field.name, getattr(command, field.name)) for field in fields(command)]  # type: ignore[arg-type]
    kind = type(command).__name__
    return [f"on call, {kind}", *(f"{name}: {_shown(name, value)}" for name, value in values)]


def _shown(name: str, value: object) -> str:
    """Return one value: an instant in UTC, people as a list, what is larger by its own words."""
    if name in ("delay_ms", "re_arm_ms") and isinstance(value, int):
        return f"{value // 1000} s"
    if name.endswith("_ms") and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, tuple) and all(isinstance(one, str) for one in value):
        return _listed(value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
        return "; ".join(
            f"{part} {_shown(part, one)}" for part, one in parts if one not in (None, ())
        )
    if isinstance(value, tuple):
        return " | ".join(_shown("", one) for one in value)
    return value.name.lower() if isinstance(value, IntEnum) else str(value)


def _rights(policy: Policy) -> list[str]:
    return [
        f"{word}: {_roles(policy.roles_for(action))}"
        for word, action in ACTIONS.items()
        if action in policy.rights
    ]


_WORDS: Mapping[StatementType, Callable[[bytes], list[str]]] = MappingProxyType(
    {
        StatementType.INVITATION: _invitation,
        StatementType.DEVICE_VOUCHING: _grant,
        StatementType.DEVICE_APPROVAL: _grant,
        StatementType.COMMAND: _administrative,
        StatementType.SUSPENSION: _suspension,
        StatementType.WIPE_ORDER: _wipe_order,
        StatementType.WIPE_DELIVERY: _wipe_said("has its order to wipe, and begins"),
        StatementType.WIPE_RECEIPT: _wipe_said("has destroyed what it held"),
    }
)

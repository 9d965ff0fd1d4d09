"""What a device holds true of its organisation, from signed statements alone: pure.

Devices and revocations, policy, who may hold which role, people's names. Each statement is judged
as of the time at which the control log took it in, which lies within the statement's own times. A
verified value goes into the store as a row of its own, so that a start verifies nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NewType, TypeVar

import msgspec

from client import on_call
from client.rules import Demand
from crypto.codec import decode
from crypto.errors import CryptoError, DecodeError, InvalidError, VerificationError
from crypto.identity import admit, wanted_certificates
from crypto.names import Role
from crypto.revocation import decode_revocations, encode_revocations
from crypto.statement import (
    RULES,
    Purpose,
    StatementType,
    VerifiedStatement,
    statement_signers,
    statement_type,
    verify_outcast_statement,
    verify_statement,
    verify_unfinished_statement,
)
from crypto.trust import DeviceIdentity, Revocations, Trust
from protocol.commands import (
    ChangeMembers,
    Command,
    RemoveUser,
    SetDelegate,
    SetHolders,
    SetLogPolicy,
    SetPerson,
    SetPolicy,
    check_signers,
    decode_command,
    decode_suspension,
    decode_wipe_order,
)
from protocol.identifiers import DeviceId, RoleName, UserName, user_of
from protocol.oncall.commands import ROLE_COMMANDS
from protocol.oncall.configuration import Configuration
from protocol.policy import Action, Policy, read_policy
from protocol.standing import standing_key
from protocol.suspending import Rights

T = TypeVar("T")

Kind = NewType("Kind", str)

DEVICE = Kind("device")
REVOKED = Kind("revoked")
SUSPENDED = Kind("suspended")
MILD = Kind("mildly suspended")
GONE = Kind("gone")
POLICY = Kind("policy")
POLICY_SIGNED = Kind("policy as signed")
HOLDERS = Kind("holders")
PERSON = Kind("person")
LOG_POLICY = Kind("log policy")
COMMAND = Kind("command")
DEMAND = Kind("demand")
ON_CALL = Kind("on call")
APPLIED = Kind("applied")
ASKED = Kind("asked")
KINDS = (
    DEVICE,
    REVOKED,
    SUSPENDED,
    MILD,
    GONE,
    POLICY,
    POLICY_SIGNED,
    HOLDERS,
    PERSON,
    LOG_POLICY,
    COMMAND,
    DEMAND,
    ON_CALL,
    APPLIED,
    ASKED,
)
"""The kinds of rows in which all of it rests."""

Rows = Mapping[tuple[Kind, bytes], bytes]
"""What is to be written, by kind and key."""

_ONE = b""
"""The key of a row that is the only one of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """How a person is displayed."""

    name: str
    ward: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A command that stands, for whoever knows its kind: the on-call configuration.

    Attributes:
        at_ms: When the control log took it in.
        body: The verified body of its statement.
    """

    at_ms: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trusted:
    """What is held true.

    Attributes:
        trust: The pinned root, devices, revocations.
        policy: Which roles may do what.
        signed_policy: The statement that says so, for a relay that has forgotten it; empty where it
            was taken in by an older version of this program.
        holders: Who may hold each role that can be paged.
        people: How people are displayed.
        log_policy: The archive's log and its witnesses, once it is known.
        suspended: Devices that are suspended.
        mild: Those of them whose suspension their person or a delegate may end.
        gone: People who were removed, and when: all that they have is revoked.
        commands: Commands of other kinds that stand, by the key under which they stand.
        demands: Changes of members that were commanded, by the hash of the statement.
        on_call: Who is on call for what.
        applied: When the command that stands under each key was taken in: an older one that is
            told later changes nothing.
        asked: Until when each of the newest requests of people is known again, by its id.
        asked_ms: When the newest was taken in: what had ended by then is not taken in any more.
    """

    trust: Trust
    policy: Policy = field(default_factory=Policy)
    signed_policy: bytes = b""
    holders: Mapping[RoleName, tuple[UserName, ...]] = field(default_factory=dict)
    people: Mapping[UserName, Person] = field(default_factory=dict)
    log_policy: SetLogPolicy | None = None
    suspended: frozenset[DeviceId] = frozenset()
    mild: frozenset[DeviceId] = frozenset()
    gone: Mapping[UserName, int] = field(default_factory=dict)
    commands: Mapping[bytes, Standing] = field(default_factory=dict)
    demands: Mapping[bytes, Demand] = field(default_factory=dict)
    on_call: Configuration = field(default_factory=Configuration)
    applied: Mapping[bytes, int] = field(default_factory=dict)
    asked: Mapping[bytes, int] = field(default_factory=dict)
    asked_ms: int = 0

    def devices_of(self, user: UserName) -> list[DeviceIdentity]:
        """Return a person's devices, each by its newest certificate, ascending."""
        newest: dict[str, DeviceIdentity] = {}
        for one in self.trust.devices.values():
            known = newest.get(one.name)
            if one.user == user and (known is None or known.not_after_ms < one.not_after_ms):
                newest[one.name] = one
        return [newest[name] for name in sorted(newest)]

    def may(self, device: DeviceId, action: Action) -> bool:
        """Tell whether the policy lets a device do something; an unknown one may nothing."""
        known = (one for one in self.devices_of(user_of(device)) if one.name == device)
        return any(one.roles & self.policy.roles_for(action) for one in known)

    def is_usable(self, identity: DeviceIdentity, *, at_ms: int) -> bool:
        """Tell whether a device may be let into a conversation now."""
        return self.trust.revocations.since_ms(identity) is None and identity.is_valid_at(at_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What comes of a statement.

    Attributes:
        trusted: What is held true after it.
        rows: What to write.
        type: What the statement claims to be.
        verified: Whether everything about it was right.
    """

    trusted: Trusted
    rows: Rows = field(default_factory=dict, repr=False)
    type: StatementType
    verified: bool


def unknown_signers(statement: bytes, trust: Trust) -> tuple[bytes, ...]:
    """Return the fingerprints of signers whose certificates must be looked up first."""
    try:
        signers = statement_signers(statement)
    except DecodeError:
        return ()
    known = {trust.root.organisation, *trust.devices}
    return tuple(one for one in signers if one not in known)


def wanted_for(certificates: Iterable[bytes], trust: Trust) -> tuple[bytes, ...]:
    """Return the fingerprints of proofs' signers that must be looked up first."""
    wanted: dict[bytes, None] = {}
    for der in certificates:
        try:
            wanted.update(dict.fromkeys(wanted_certificates(der, trust=trust)))
        except CryptoError:
            continue  # No certificate of ours; it is refused when it is admitted.
    given = {hashlib.sha256(der).digest() for der in certificates}
    return tuple(one for one in wanted if one not in given)


def taken_in(trusted: Trusted, statement: bytes, *, at_ms: int) -> Taken:
    """Return what is held true after a statement of the control log.

    Args:
        trusted: Before it.
        statement: As it stands in the log; its signers were looked up.
        at_ms: When the log took it in.

    Raises:
        DecodeError: It is no statement.
    """
    kind = statement_type(statement)
    take = _TAKERS.get(kind)
    if take is None:
        return Taken(trusted=trusted, type=kind, verified=_verifies(statement, trusted, at_ms))
    try:
        after, rows = take(trusted, statement, at_ms)
    except (DecodeError, InvalidError, VerificationError):
        return Taken(trusted=trusted, type=kind, verified=False)
    return Taken(trusted=after, rows=rows, type=kind, verified=True)


def learned(trusted: Trusted, certificates: Iterable[bytes]) -> tuple[Trusted, Rows]:
    """Return what is held true with more devices, as far as their certificates are right.

    The order does not matter: what waits for another one of them is tried again.
    """
    trust, left = trusted.trust, list(certificates)
    while left:
        later = []
        for der in left:
            try:
                trust = admit(trust, [der])
            except CryptoError:
                later.append(der)
        if len(later) == len(left):
            break
        left = later
    new = [one for key, one in trust.devices.items() if key not in trusted.trust.devices]
    return knowing(trusted, new)


def knowing(trusted: Trusted, devices: Iterable[DeviceIdentity]) -> tuple[Trusted, Rows]:
    """Return what is held true with more proved devices; those of people who are gone, revoked."""
    new = list(devices)
    if not new:
        return trusted, {}
    trust = trusted.trust.knowing(new)
    rows = {(DEVICE, one.fingerprint): _encode(_device_row(one)) for one in new}
    after = replace(trusted, trust=trust)
    revocations = trust.revocations
    for one in new:
        if UserName(one.user) in trusted.gone:
            gone_ms = trusted.gone[UserName(one.user)]
            revocations = revocations.with_device(one.name, at_ms=gone_ms)
    if revocations is trust.revocations:
        return after, rows
    after, more = _revoked(after, revocations)
    return after, {**rows, **more}


# -- one kind of statement each ----------------------------------------------------------------

_Take = Callable[[Trusted, bytes, int], tuple[Trusted, Rows]]


def _verified(
    trusted: Trusted, statement: bytes, at_ms: int, kind: StatementType
) -> VerifiedStatement:
    return verify_statement(statement, expected=kind, trust=trusted.trust, at_ms=at_ms)


def _verifies(statement: bytes, trusted: Trusted, at_ms: int) -> bool:
    kind = statement_type(statement)
    # A wiped device is revoked when it sends its receipt.
    verify = verify_outcast_statement if RULES[kind].outcast else verify_statement
    try:
        verify(statement, expected=kind, trust=trusted.trust, at_ms=at_ms)
    except CryptoError:
        return False
    return True


def _revoked(trusted: Trusted, revocations: Revocations) -> tuple[Trusted, Rows]:
    after = replace(trusted, trust=trusted.trust.revoking(revocations))
    return after, {(REVOKED, _ONE): encode_revocations(revocations)}


def _take_list(trusted: Trusted, statement: bytes, at_ms: int) -> tuple[Trusted, Rows]:
    verified = _verified(trusted, statement, at_ms, StatementType.REVOCATION_LIST)
    listed, held = decode_revocations(verified.body), trusted.trust.revocations
    if listed.number < held.number:
        # The log is read behind what stands, which is told first: nothing is wrong with it, and
        # whoever says an old list again takes nothing off the newer one.
        return trusted, {}
    return _revoked(trusted, held.with_list(listed))


def _take_suspension(trusted: Trusted, statement: bytes, at_ms: int) -> tuple[Trusted, Rows]:
    verified = _verified(trusted, statement, at_ms, StatementType.SUSPENSION)
    suspension, (signer, *_) = decode_suspension(verified.body), verified.signers
    named = frozenset(suspension.devices)
    if signer.purpose is not Purpose.DEVICE or signer.identity is None:
        return _suspended(trusted, named, lifted=suspension.lifted, mild=frozenset())
    rights = suspending_rights(trusted, at_ms=at_ms)
    rights.check(suspension, by=UserName(signer.identity.user))
    # What an administrator suspended before stays an administrator's to lift.
    mild = named - (trusted.suspended - trusted.mild)
    return _suspended(trusted, named, lifted=suspension.lifted, mild=mild)


def suspending_rights(trusted: Trusted, *, at_ms: int) -> Rights:
    """Return what decides who, beside administrators, may suspend whose devices."""
    delegates = {}
    for standing in trusted.commands.values():
        command = decode_command(standing.body)
        if isinstance(command, SetDelegate) and command.role is not None:
            delegates[command.ward] = command.role
    return Rights(
        wards={user: person.ward for user, person in trusted.people.items() if person.ward},
        delegates=delegates,
        roster=trusted.on_call.roster(at_ms, trusted.holders),
        at_ms=at_ms,
        mild=trusted.mild,
    )


def _suspended(
    trusted: Trusted, named: frozenset[DeviceId], *, lifted: bool, mild: frozenset[DeviceId]
) -> tuple[Trusted, Rows]:
    kept = trusted.suspended - named if lifted else trusted.suspended | named
    mildly = trusted.mild - named if lifted else (trusted.mild - named) | mild
    rows = {(SUSPENDED, _ONE): _encode(sorted(kept)), (MILD, _ONE): _encode(sorted(mildly))}
    return replace(trusted, suspended=kept, mild=mildly), rows


def _take_wipe(trusted: Trusted, statement: bytes, at_ms: int) -> tuple[Trusted, Rows]:
    """Revoke at the complete order; the first signature alone suspends."""
    kind = StatementType.WIPE_ORDER
    try:
        verified = _verified(trusted, statement, at_ms, kind)
    except InvalidError:
        half = verify_unfinished_statement(
            statement, expected=kind, trust=trusted.trust, at_ms=at_ms
        )
        device = decode_wipe_order(half.statement.body).device
        return _suspended(trusted, frozenset({device}), lifted=False, mild=frozenset())
    device = decode_wipe_order(verified.body).device
    return _revoked(trusted, trusted.trust.revocations.with_device(device, at_ms=at_ms))


def _take_command(trusted: Trusted, statement: bytes, at_ms: int) -> tuple[Trusted, Rows]:
    verified = _verified(trusted, statement, at_ms, StatementType.COMMAND)
    command = decode_command(verified.body)
    check_signers(command, [signer.purpose for signer in verified.signers])
    key = standing_key(StatementType.COMMAND, verified.body)
    if key is None:
        return _obey(trusted, command, verified, statement=statement, at_ms=at_ms)
    if at_ms < trusted.applied.get(key, 0):
        return trusted, {}
    after, rows = _obey(trusted, command, verified, statement=statement, at_ms=at_ms)
    after = replace(after, applied={**after.applied, key: at_ms})
    return after, {**rows, (APPLIED, key): _encode(at_ms)}


def _obey(
    trusted: Trusted,
    command: Command,
    verified: VerifiedStatement,
    *,
    statement: bytes,
    at_ms: int,
) -> tuple[Trusted, Rows]:
    if isinstance(command, RemoveUser):
        return _remove(trusted, command.user, at_ms)
    if isinstance(command, ChangeMembers):
        demand = Demand(
            hash=hashlib.sha256(statement).digest(),
            kind=StatementType.COMMAND,
            by=None,
            body=verified.body,
            at_ms=at_ms,
        )
        demands = {**trusted.demands, demand.hash: demand}
        return replace(trusted, demands=demands), {(DEMAND, demand.hash): _encode(demand)}
    return _set(trusted, command, verified, statement=statement, at_ms=at_ms)


def _set(
    trusted: Trusted,
    command: Command,
    verified: VerifiedStatement,
    *,
    statement: bytes,
    at_ms: int,
) -> tuple[Trusted, Rows]:
    """Take in a command that stands until the next of its kind and name."""
    if isinstance(command, SetPolicy):
        if command.policy.version < trusted.policy.version:
            raise InvalidError("a policy's version never goes back")
        after = replace(trusted, policy=command.policy, signed_policy=statement)
        rows = {(POLICY, _ONE): command.policy.encode(), (POLICY_SIGNED, _ONE): statement}
        return after, rows
    if isinstance(command, SetLogPolicy):
        known = trusted.log_policy
        if known is not None and command.version < known.version:
            raise InvalidError("a log policy's version never goes back")
        return replace(trusted, log_policy=command), {(LOG_POLICY, _ONE): verified.body}
    if isinstance(command, SetHolders):
        holders = {**trusted.holders, command.role: command.users}
        rows = {(HOLDERS, command.role.encode("ascii")): _encode(command.users)}
        return replace(trusted, holders=holders), rows
    if isinstance(command, SetPerson):
        person = Person(name=command.display_name, ward=command.ward)
        people = {**trusted.people, command.user: person}
        return replace(trusted, people=people), {
            (PERSON, command.user.encode("ascii")): _encode(person)
        }
    if isinstance(command, ROLE_COMMANDS):
        return _plan(trusted, *on_call.commanded(trusted.on_call, command, at_ms=at_ms))
    key = standing_key(StatementType.COMMAND, verified.body)
    if key is None:
        return trusted, {}
    standing = Standing(at_ms=at_ms, body=verified.body)
    commands = {**trusted.commands, key: standing}
    return replace(trusted, commands=commands), {(COMMAND, key): _encode(standing)}


def _take_request(trusted: Trusted, statement: bytes, at_ms: int) -> tuple[Trusted, Rows]:
    """Do what a person asked for, once: nothing in it says after what it comes, as a version would.

    It may be told again after a crash, or by a relay that gives back a shift from it.
    """
    verified = _verified(trusted, statement, at_ms, StatementType.DEVICE_REQUEST)
    if verified.id in trusted.asked or verified.replay_until_ms < trusted.asked_ms:
        return trusted, {}
    changed = on_call.requested(trusted.on_call, verified, holders=trusted.holders, at_ms=at_ms)
    after, rows = _plan(trusted, *changed)
    kept = {one: until_ms for one, until_ms in trusted.asked.items() if until_ms >= at_ms}
    asked = {**kept, verified.id: verified.replay_until_ms}
    asked_ms = max(trusted.asked_ms, at_ms)
    after = replace(after, asked=asked, asked_ms=asked_ms)
    return after, {**rows, (ASKED, _ONE): _encode((asked_ms, asked))}


def _plan(
    trusted: Trusted, configuration: Configuration, rows: on_call.Rows
) -> tuple[Trusted, Rows]:
    kept = {(ON_CALL, key): value for key, value in rows.items()}
    return replace(trusted, on_call=configuration), kept


def _remove(trusted: Trusted, user: UserName, at_ms: int) -> tuple[Trusted, Rows]:
    revocations = trusted.trust.revocations
    for one in trusted.devices_of(user):
        revocations = revocations.with_device(one.name, at_ms=at_ms)
    gone = {user: at_ms, **trusted.gone}
    after, rows = _revoked(replace(trusted, gone=gone), revocations)
    return after, {**rows, (GONE, user.encode("ascii")): _encode(gone[user])}


_TAKERS: Mapping[StatementType, _Take] = MappingProxyType(
    {
        StatementType.REVOCATION_LIST: _take_list,
        StatementType.SUSPENSION: _take_suspension,
        StatementType.WIPE_ORDER: _take_wipe,
        StatementType.COMMAND: _take_command,
        StatementType.DEVICE_REQUEST: _take_request,
    }
)


# -- rows --------------------------------------------------------------------------------------

_SERIAL_BYTES = 20
"""Of a certificate's serial, more than MessagePack's integers have (RFC 5280, 4.1.2.2)."""


class _DeviceRow(msgspec.Struct, frozen=True, array_like=True):
    organisation: bytes
    user: str
    device: str
    roles: list[int]
    serial: bytes
    fingerprint: bytes
    signature_key: bytes
    connection_key: bytes
    not_before_ms: int
    not_after_ms: int
    ends_ms: int | None
    origin: bytes


def loaded(trust: Trust, rows: Rows) -> Trusted:
    """Return what rows hold, over a pinned root.

    Raises:
        DecodeError: A row is none that was written here.
        InvalidError: Rows do not belong together.
    """
    by_kind: dict[Kind, dict[bytes, bytes]] = {kind: {} for kind in KINDS}
    for (kind, key), value in rows.items():
        by_kind[kind][key] = value
    try:
        return _loaded(trust, by_kind)
    except (msgspec.MsgspecError, ValueError):
        raise DecodeError("Trusted", 0) from None


def _loaded(trust: Trust, rows: Mapping[Kind, Mapping[bytes, bytes]]) -> Trusted:
    trust = trust.knowing(_read_device(value) for value in rows[DEVICE].values())
    if _ONE in rows[REVOKED]:
        trust = trust.revoking(decode_revocations(rows[REVOKED][_ONE]))
    policy = rows[POLICY].get(_ONE)
    log_policy = rows[LOG_POLICY].get(_ONE)
    suspended, mild = rows[SUSPENDED].get(_ONE), rows[MILD].get(_ONE)
    standing = decode_command(log_policy) if log_policy else None
    asked_ms, asked = _decode(rows[ASKED].get(_ONE, _UNASKED), tuple[int, dict[bytes, int]])
    return Trusted(
        trust=trust,
        policy=decode(policy, "Policy", read_policy) if policy else Policy(),
        signed_policy=rows[POLICY_SIGNED].get(_ONE, b""),
        holders={
            RoleName(role.decode()): tuple(map(UserName, _decode(value, list[str])))
            for role, value in rows[HOLDERS].items()
        },
        people={
            UserName(user.decode()): _decode(value, Person) for user, value in rows[PERSON].items()
        },
        log_policy=standing if isinstance(standing, SetLogPolicy) else None,
        suspended=frozenset(map(DeviceId, _decode(suspended or _NOBODY, list[str]))),
        mild=frozenset(map(DeviceId, _decode(mild or _NOBODY, list[str]))),
        gone={UserName(user.decode()): _decode(value, int) for user, value in rows[GONE].items()},
        commands={key: _decode(value, Standing) for key, value in rows[COMMAND].items()},
        demands={key: _decode(value, Demand) for key, value in rows[DEMAND].items()},
        on_call=on_call.loaded(rows[ON_CALL]),
        applied={key: _decode(value, int) for key, value in rows[APPLIED].items()},
        asked=asked,
        asked_ms=asked_ms,
    )


def _device_row(one: DeviceIdentity) -> _DeviceRow:
    return _DeviceRow(
        one.organisation,
        one.user,
        one.device,
        sorted(one.roles),
        one.serial.to_bytes(_SERIAL_BYTES, "big"),
        one.fingerprint,
        one.signature_key,
        one.connection_key,
        one.not_before_ms,
        one.not_after_ms,
        one.ends_ms,
        one.origin,
    )


def _read_device(data: bytes) -> DeviceIdentity:
    row = _decode(data, _DeviceRow)
    return DeviceIdentity(
        organisation=row.organisation,
        user=row.user,
        device=row.device,
        roles=frozenset(map(Role, row.roles)),
        serial=int.from_bytes(row.serial, "big"),
        fingerprint=row.fingerprint,
        signature_key=row.signature_key,
        connection_key=row.connection_key,
        not_before_ms=row.not_before_ms,
        not_after_ms=row.not_after_ms,
        ends_ms=row.ends_ms,
        origin=row.origin,
    )


def _decode(data: bytes, kind: type[T]) -> T:
    return msgspec.msgpack.decode(data, type=kind)


_encode = msgspec.msgpack.encode
_NOBODY, _UNASKED = _encode([]), _encode((0, {}))

"""Signed commands: verified, written to the control log with what they change, then in force.

A command's entry, the facts that it changes and the memory of its id are one transaction, so a
command is in the log exactly if it is in force. The relay decides nothing here: it does what a
statement says that it could not have made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import msgspec

from crypto.errors import CryptoError, InvalidError
from crypto.revocation import decode_revocations
from crypto.statement import (
    Purpose,
    StatementType,
    VerifiedStatement,
    claimed_statement,
    statement_type,
    verify_statement,
    verify_unfinished_statement,
)
from crypto.trust import Revocations
from protocol.audit import EventKind
from protocol.commands import (
    ChangeMembers,
    RemoveUser,
    ResetAccount,
    SetDelegate,
    SetHolders,
    SetLogPolicy,
    SetPerson,
    SetPolicy,
    Suspension,
    check_signers,
    decode_command,
    decode_suspension,
    decode_wipe_order,
)
from protocol.commands import Command as AnyCommand
from protocol.errors import Code
from protocol.frames import Command, Frame, StandingEntry
from protocol.identifiers import CONTROL_LOG, DeviceId, UserName, inbox_log, user_of
from protocol.inbox import Item, ItemKind
from protocol.oncall.commands import RoleCommand, decode_request
from protocol.oncall.configuration import Configuration
from protocol.standing import command_key, standing_key
from protocol.suspending import Rights
from server import access, accounts, invitations, oncall, posts
from server.answers import Refusal, answer, ensure
from server.directory import (
    HOLDERS,
    LAST_RESORT,
    LOG_POLICY,
    POLICY,
    REPLAY,
    KeyPackages,
    Organisation,
    held_fact,
    mild_fact,
    one_time_key,
    revocations_fact,
    standing_fact,
)
from server.secrets import Order
from server.store import (
    EndDevice,
    Fact,
    LogKey,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


async def _nothing() -> None:
    """Do nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command changes.

    Attributes:
        before: What must be on disk before the command is in the log.
        facts: Written together with its entry.
        ends: Devices whose sessions it ends.
        apply: Makes it true in memory, once the entry is on disk.
        afterwards: What follows from it elsewhere.
    """

    before: Callable[[], Awaitable[None]] = field(default=_nothing)
    facts: tuple[Fact, ...] = ()
    ends: tuple[DeviceId, ...] = ()
    apply: Callable[[], None] = lambda: None
    afterwards: Callable[[], Awaitable[None]] = field(default=_nothing)


def command(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Take a signed command."""
    asked = cast("Command", frame)
    work = _command(relay, connection, asked.statement)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _command(relay: Relay, connection: Connection, statement: bytes) -> None:
    kind, organisation = statement_type(statement), connection.organisation
    strong = relay.now_s() < connection.strong_until_s
    ensure(access.may_command(kind, connection.device.identity.roles, strong=strong))
    forgotten_ms = _forgotten_policy_ms(relay, organisation, kind, statement)
    at_ms = relay.now_ms() if forgotten_ms is None else forgotten_ms
    await take_in(relay, organisation, statement, at_ms=at_ms, by=connection.device_id)


def _forgotten_policy_ms(
    relay: Relay, organisation: Organisation, kind: StatementType, statement: bytes
) -> int | None:
    """Return when a policy was signed that relay and archive have both forgotten, or ``None``.

    Its day may be over, so it is judged as of then. Whoever hands it in has just proved password
    and code, and could sign a new one.
    """
    if kind is not StatementType.COMMAND or not relay.store.was_restored:
        return None
    claimed = claimed_statement(statement)
    body = decode_command(claimed.body)
    is_later = isinstance(body, SetPolicy) and body.policy.version > organisation.policy.version
    return min(claimed.issued_ms, relay.now_ms()) if is_later else None


async def take_in(
    relay: Relay,
    organisation: Organisation,
    statement: bytes,
    *,
    at_ms: int,
    by: DeviceId | None = None,
) -> None:
    """Let a signed command take effect, once.

    Args:
        relay: The relay.
        organisation: Whose command it is.
        statement: The command.
        at_ms: Now, or when the archive took it in.
        by: The device that hands it in; ``None`` where it is taken in on the archive's word.

    Raises:
        Refusal: It was taken in before, or is of a type that changes nothing here.
        CryptoError: It is not what it should be.
        StoreError: The store refuses it or failed.
    """
    kind = statement_type(statement)
    prepare = _CHANGES.get(kind)
    if prepare is None:
        raise Refusal(Code.INVALID)
    async with organisation.changes:
        if by is not None and organisation.has_ended(organisation.devices[by]):
            # It waited behind the command that ended its session: who expects to be suspended
            # would else have the end of that in the queue already.
            raise Refusal(Code.FORBIDDEN)
        verified, finished = _verify(organisation, statement, kind=kind, at_ms=at_ms)
        memory = _memory_key(verified, finished=finished)
        if memory in organisation.seen:
            raise Refusal(Code.STALE_STATEMENT)
        change = (
            prepare(relay, organisation, verified, statement, at_ms)
            if finished
            else _first_signature(relay, organisation, verified)
        )
        forgotten = _forgotten(organisation, at_ms=at_ms)
        until = verified.replay_until_ms
        remembered = Fact(key=REPLAY + memory, value=until.to_bytes(8, "big"))
        stands = _stands(organisation, verified, statement, at_ms=at_ms) if finished else {}
        facts = (
            *change.facts,
            remembered,
            *(standing_fact(*one) for one in stands.items()),
            *(Fact(key=REPLAY + k, value=None) for k in forgotten),
        )
        key = LogKey(organisation.id, CONTROL_LOG)

        def settled() -> None:
            organisation.seen[memory] = until
            organisation.standing.update(stands)
            for old in forgotten:
                del organisation.seen[old]
            _take_effect(relay, organisation, change)

        await change.before()
        await posts.append_own(relay, key, statement, facts=facts, at_ms=at_ms, settled=settled)
    await change.afterwards()


def _verify(
    organisation: Organisation, statement: bytes, *, kind: StatementType, at_ms: int
) -> tuple[VerifiedStatement, bool]:
    """Return a verified statement, and whether it has all its signatures.

    Only a wipe order may lack its last one: the first signature already suspends the device.
    """
    trust = organisation.trust
    try:
        return verify_statement(statement, expected=kind, trust=trust, at_ms=at_ms), True
    except CryptoError:
        if kind is not StatementType.WIPE_ORDER:
            raise
    unfinished = verify_unfinished_statement(statement, expected=kind, trust=trust, at_ms=at_ms)
    return unfinished.statement, False


def _stands(
    organisation: Organisation, verified: VerifiedStatement, statement: bytes, *, at_ms: int
) -> dict[bytes, StandingEntry]:
    """Return the statement under the key of the one whose place it takes, if it is to stand."""
    key = standing_key(verified.type, verified.body)
    if key is None:
        return {}
    number = max((entry.number for entry in organisation.standing.values()), default=0) + 1
    return {key: StandingEntry(number, at_ms, statement)}


def _memory_key(verified: VerifiedStatement, *, finished: bool) -> bytes:
    # An order comes several times under one id: with one signature, with two, and complete.
    return verified.id + (b"" if finished else bytes([len(verified.signers)]))


def _forgotten(organisation: Organisation, *, at_ms: int) -> list[bytes]:
    if organisation.owed is not None:
        # The archive may tell all again, and what was acted on must be known then however old.
        return []
    return [key for key, until in organisation.seen.items() if until < at_ms]


def _invitation(
    relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    statement: bytes,
    _at_ms: int,
) -> Change:
    facts = invitations.facts(organisation, verified, statement, now_ms=relay.now_ms())
    return Change(facts=facts, apply=lambda: invitations.apply(organisation, facts))


def _suspension(
    relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    _statement: bytes,
    at_ms: int,
) -> Change:
    body, signer = decode_suspension(verified.body), verified.signers[0]
    mild = signer.purpose is Purpose.DEVICE and signer.identity is not None
    if mild and signer.identity is not None:
        rights(organisation, body, at_ms=at_ms).check(body, by=UserName(signer.identity.user))
    change = suspending(relay, organisation, body.devices, suspended=not body.lifted, mild=mild)
    return _releasing(organisation, body.devices, change) if body.lifted else change


def _releasing(organisation: Organisation, devices: tuple[DeviceId, ...], change: Change) -> Change:
    """Let a person's further devices in as well, where they were held with one that is restored."""
    names = organisation.held & {*devices, *map(user_of, devices)}

    def apply() -> None:
        organisation.held -= names
        change.apply()

    released = [held_fact(name, held=False) for name in sorted(names)]
    return replace(change, facts=(*released, *change.facts), apply=apply)


def rights(organisation: Organisation, body: Suspension, *, at_ms: int) -> Rights:
    """Return what decides whether somebody who is no administrator may give a suspension."""
    wards = {}
    for user in {UserName(user_of(device)) for device in body.devices}:
        person = _standing(organisation, SetPerson.KIND, user)
        if isinstance(person, SetPerson) and person.ward:
            wards[user] = person.ward
    delegates = {}
    for ward in set(wards.values()):
        delegate = _standing(organisation, SetDelegate.KIND, ward.encode().hex())
        if isinstance(delegate, SetDelegate) and delegate.role is not None:
            delegates[ward] = delegate.role
    return Rights(
        wards=wards,
        delegates=delegates,
        roster=organisation.duty.roster(at_ms, organisation.holders),
        at_ms=at_ms,
        mild=organisation.mild,
    )


def _standing(organisation: Organisation, kind: int, name: str) -> AnyCommand | None:
    """Return the command that stands under a name, verified when it came."""
    entry = organisation.standing.get(command_key(kind, name))
    return None if entry is None else decode_command(claimed_statement(entry.statement).body)


def suspending(
    relay: Relay,
    organisation: Organisation,
    devices: tuple[DeviceId, ...],
    *,
    suspended: bool,
    mild: bool = False,
) -> Change:
    """Return the change that suspends devices, or lets them in again.

    Args:
        relay: The relay.
        organisation: Whose devices.
        devices: Which.
        suspended: Whether they are suspended, or let in again.
        mild: Whether their person or a delegate says so, who may end it again. What an
            administrator suspended before stays an administrator's to lift.

    Raises:
        Refusal: There is no such device.
    """
    changed = {
        device: replace(organisation.devices[device], suspended=suspended)
        for device in devices
        if device in organisation.devices
    }
    if len(changed) != len(devices):
        raise Refusal(Code.NO_SUCH)

    async def afterwards() -> None:
        for device in devices:
            await accounts.withhold(relay, organisation, device, withheld=suspended)
            relay.audit(
                organisation,
                EventKind.SUSPENDED if suspended else EventKind.RESTORED,
                device=device,
            )

    gentle = {
        device
        for device in devices
        if suspended
        and mild
        and (device in organisation.mild or not organisation.devices[device].suspended)
    }

    def apply() -> None:
        for device in changed.values():
            organisation.keep(device)
        organisation.mild.difference_update(devices)
        organisation.mild.update(gentle)

    return Change(
        facts=(
            *(device.fact() for device in changed.values()),
            *(mild_fact(device, mild=device in gentle) for device in devices),
        ),
        ends=devices,
        apply=apply,
        afterwards=afterwards,
    )


def _take_effect(relay: Relay, organisation: Organisation, change: Change) -> None:
    """Make a change true in memory, and for those who are connected."""
    policy = organisation.policy
    change.apply()
    if organisation.policy is not policy:
        for connection in relay.delivery.connections(organisation.id):
            connection.catch_up()
    # Before thousands of others are told: nothing of a stolen device is taken meanwhile.
    _close(relay, organisation, change.ends)
    relay.pages.gone(organisation, {user_of(device) for device in change.ends})


def _close(relay: Relay, organisation: Organisation, devices: Iterable[DeviceId]) -> None:
    """End devices' connections, and with them their sessions everywhere."""
    for device in devices:
        connection = relay.delivery.connection(organisation.id, device)
        if connection is not None:
            connection.close(Code.REVOKED)


def _revocation_list(
    relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    _statement: bytes,
    _at_ms: int,
) -> Change:
    revocations = organisation.trust.revocations.with_list(decode_revocations(verified.body))
    return _revoking(relay, organisation, revocations)


def _revoking(relay: Relay, organisation: Organisation, revocations: Revocations) -> Change:
    """Change the revocations, and end what the newly revoked devices have."""
    trust = organisation.trust.revoking(revocations)
    ended = [
        device.id
        for device in organisation.devices.values()
        if revocations.since_ms(device.identity) is not None and not organisation.is_revoked(device)
    ]

    def apply() -> None:
        organisation.trust = trust
        for device in ended:
            organisation.key_packages.pop(device, None)

    async def afterwards() -> None:
        for device in ended:
            await end_device(relay, organisation, device)

    withdrawn = [fact for device in ended for fact in _withdrawn(organisation, device)]
    facts = (revocations_fact(revocations), *withdrawn)
    return Change(facts=facts, ends=tuple(ended), apply=apply, afterwards=afterwards)


def _withdrawn(organisation: Organisation, device: DeviceId) -> list[Fact]:
    """Return the removal of a device's key packages."""
    kept = organisation.key_packages.get(device, KeyPackages())
    facts = [Fact(key=one_time_key(device, number), value=None) for number in kept.one_time]
    return [*facts, Fact(key=LAST_RESORT + device.encode(), value=None)]


async def end_device(relay: Relay, organisation: Organisation, device: DeviceId) -> None:
    """End a revoked device's sessions, unlock share and cursors; its inbox stays for its order."""
    _close(relay, organisation, [device])
    await accounts.withhold(relay, organisation, device, withheld=True)
    await relay.store.change(EndDevice(organisation.id, device))
    await relay.blobs.end_device(organisation.id, device)
    relay.audit(organisation, EventKind.REVOKED, device=device)


def _wipe_order(
    relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    statement: bytes,
    _at_ms: int,
) -> Change:
    """Revoke the device, destroy its share, and put the order where it finds it.

    The share goes first: from then on the device's store stays shut whatever befalls the relay,
    and what follows is done again at the next start.
    """
    order = decode_wipe_order(verified.body)
    _check_meant(organisation, order.device, order.connection_key)
    revocations = organisation.trust.revocations.with_device(order.device, at_ms=verified.issued_ms)
    change = _revoking(relay, organisation, revocations)
    number = verified.issued_ms
    noted = Order(
        organisation=organisation.id, device=order.device, number=number, statement=statement
    )
    return replace(
        change,
        before=lambda: relay.secrets.wipe(organisation.id, order.device, number, statement),
        afterwards=lambda: finish_order(relay, organisation, noted),
    )


def _check_meant(organisation: Organisation, device: DeviceId, connection_key: bytes) -> None:
    known = organisation.devices.get(device)
    if known is None:
        raise Refusal(Code.NO_SUCH)
    if known.identity.connection_key != connection_key:
        raise InvalidError("an order names the key of the device that it means")


def _first_signature(
    relay: Relay, organisation: Organisation, verified: VerifiedStatement
) -> Change:
    """Suspend the device of a wipe order that still lacks a signature."""
    order = decode_wipe_order(verified.body)
    _check_meant(organisation, order.device, order.connection_key)
    return suspending(relay, organisation, (order.device,), suspended=True)


def _administrative(
    relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    _statement: bytes,
    at_ms: int,
) -> Change:
    body = decode_command(verified.body)
    check_signers(body, [signer.purpose for signer in verified.signers])
    if isinstance(body, RemoveUser):
        return _remove_user(relay, organisation, body, at_ms=verified.issued_ms)
    if isinstance(body, ResetAccount):
        return Change(afterwards=lambda: accounts.forget(relay, organisation, body.user))
    if isinstance(body, SetPolicy):
        return _set_policy(organisation, body, restored=relay.store.was_restored)
    if isinstance(body, SetHolders):
        return _set_holders(organisation, body)
    if isinstance(body, SetPerson | SetDelegate):
        return Change()
    if isinstance(body, SetLogPolicy):
        return _set_log_policy(organisation, body)
    if isinstance(body, RoleCommand):
        return _on_call(
            organisation, *oncall.commanded(configured(organisation), body, at_ms=at_ms)
        )
    return _change_members(organisation, body)


def _remove_user(
    relay: Relay, organisation: Organisation, body: RemoveUser, *, at_ms: int
) -> Change:
    devices = [device.id for device in organisation.of_user(body.user)]
    unused = invitations.withdrawing(organisation, body.user)
    # A restored relay may be told of somebody whose invitation has ended since, unused.
    if not devices and not unused and organisation.owed is None:
        raise Refusal(Code.NO_SUCH)
    change = _revoking(relay, organisation, organisation.revoking(devices, now_ms=at_ms))

    def apply() -> None:
        change.apply()
        invitations.apply(organisation, unused)

    async def afterwards() -> None:
        await change.afterwards()
        await accounts.forget(relay, organisation, body.user)

    return replace(change, facts=(*change.facts, *unused), apply=apply, afterwards=afterwards)


def _set_policy(organisation: Organisation, body: SetPolicy, *, restored: bool) -> Change:
    version, known = body.policy.version, organisation.policy.version
    # To a restored relay any later one is: one that was refused must not keep out all that follow,
    # and devices may know of some that the archive was set back behind as well.
    if version != known + 1 and not (restored and version > known):
        raise InvalidError("a policy's version is the next one")

    def apply() -> None:
        organisation.policy = body.policy

    return Change(facts=(Fact(key=POLICY, value=body.policy.encode()),), apply=apply)


def _set_log_policy(organisation: Organisation, body: SetLogPolicy) -> Change:
    known = organisation.log_policy
    # The authority's alone, and it leaves some out where devices may know of what it has forgotten.
    if body.version <= (known.version if known else 0):
        raise InvalidError("a log policy's version is a later one")

    def apply() -> None:
        organisation.log_policy = body

    return Change(facts=(Fact(key=LOG_POLICY, value=body.encode()),), apply=apply)


def _set_holders(organisation: Organisation, body: SetHolders) -> Change:
    def apply() -> None:
        if body.users:
            organisation.holders[body.role] = body.users
        else:
            organisation.holders.pop(body.role, None)
        organisation.duty.forget()

    value = msgspec.msgpack.encode(body.users) if body.users else None
    return Change(facts=(Fact(key=HOLDERS + body.role.encode(), value=value),), apply=apply)


def configured(organisation: Organisation) -> Configuration:
    """Return who is on call for what."""
    return organisation.duty.configuration


def _on_call(organisation: Organisation, changed: Configuration, fact: Fact) -> Change:
    return Change(facts=(fact,), apply=lambda: organisation.duty.change(changed))


def _personal(
    _relay: Relay,
    organisation: Organisation,
    verified: VerifiedStatement,
    _statement: bytes,
    at_ms: int,
) -> Change:
    """Do what a person asks for themself: their quiet, their shift, a shift on offer."""
    identity = verified.signers[0].identity
    if identity is None:
        raise Refusal(Code.INVALID)
    changed, fact = oncall.requested(
        configured(organisation),
        decode_request(verified.body),
        user=UserName(identity.user),
        holders=organisation.holders,
        at_ms=at_ms,
    )
    return _on_call(organisation, changed, fact)


def _change_members(organisation: Organisation, body: ChangeMembers) -> Change:
    """Carry the command: members see it in the control log, and one of them does it."""
    if body.conversation not in organisation.contexts and organisation.owed is None:
        raise Refusal(Code.NO_SUCH)
    return Change()


async def finish_order(relay: Relay, organisation: Organisation, order: Order) -> None:
    """Do what a wipe order causes beyond the secrets and the control log; harmless if repeated."""
    await end_device(relay, organisation, order.device)
    inbox = LogKey(organisation.id, inbox_log(order.device))
    item = Item(kind=ItemKind.STATEMENT, body=order.statement)
    await posts.append_own(relay, inbox, item.encode(), expires=False)
    relay.audit(organisation, EventKind.WIPED, device=order.device)
    await relay.secrets.finish(organisation.id, order.device, order.number)


async def redo_orders(relay: Relay) -> None:
    """Finish, at the start or after a restore, what a stop has interrupted of orders and ends.

    What an order asks was verified before it was noted: one that does not verify any more, because
    who signed it has been revoked since, is finished all the same.
    """
    for order in await relay.secrets.orders():
        organisation = relay.organisations.get(order.organisation)
        if organisation is None or organisation.owed is not None:
            continue
        try:
            await take_in(relay, organisation, order.statement, at_ms=order.number)
        except (Refusal, CryptoError):
            # It had reached the control log: only what follows from it is missing.
            await finish_order(relay, organisation, order)
        await relay.secrets.finish(order.organisation, order.device, order.number)
    ended = (
        relay.store.change(EndDevice(organisation.id, device.id))
        for organisation in relay.organisations.values()
        if organisation.owed is None
        for device in organisation.devices.values()
        if organisation.is_revoked(device)
    )
    await asyncio.gather(*ended)


Prepare = Callable[["Relay", Organisation, VerifiedStatement, bytes, int], Change]
"""From a verified statement, its bytes and when it was taken in to what it changes."""

_CHANGES: Mapping[StatementType, Prepare] = MappingProxyType(
    {
        StatementType.INVITATION: _invitation,
        StatementType.COMMAND: _administrative,
        StatementType.SUSPENSION: _suspension,
        StatementType.WIPE_ORDER: _wipe_order,
        StatementType.REVOCATION_LIST: _revocation_list,
        StatementType.DEVICE_REQUEST: _personal,
    }
)

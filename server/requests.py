"""What a device asks of the directory: other people's devices, and key packages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from protocol import limits
from protocol.errors import Code
from protocol.frames import (
    ClaimKeyPackage,
    Directory,
    DirectoryEntry,
    Frame,
    KeyPackage,
    Lookup,
    LookupCertificates,
    PublishKeyPackages,
    Standing,
    StandingEntry,
    Statements,
)
from protocol.identifiers import DeviceId, UserName, conversation_log, user_of
from protocol.policy import Action
from server import access
from server.answers import Refusal, answer, answered
from server.directory import LAST_RESORT, KeyPackages, one_time_key
from server.store import (
    Fact,
    PutFacts,
)

if TYPE_CHECKING:
    from server.connection import Connection
    from server.relay import Relay


def lookup(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give the certificates of users' devices that stand."""
    asked, organisation = cast("Lookup", frame), connection.organisation
    roles = connection.device.identity.roles
    code = access.may_act(Action.LOOK_UP, roles, organisation.policy)
    if code is not None:
        code = access.may_know(map(UserName, asked.users), _met(relay, connection, asked.users))
    if code is not None:
        relay.refused(connection, "Lookup", code)
        connection.refuse(asked.ref, code)
        return
    found = [device for user in dict.fromkeys(asked.users) for device in organisation.of_user(user)]
    devices = tuple(
        DirectoryEntry(device.id, device.certificate) for device in found[: limits.LOOKUP_DEVICES]
    )
    connection.send(Directory(ref=asked.ref, devices=devices))


def _met(relay: Relay, connection: Connection, asked: Iterable[str]) -> set[UserName]:
    """Return whom a device meets: its person, the archive, and who is where it is or is to be.

    And those of ``asked`` who can be paged, as a page is sealed to them.
    """
    organisation, own = connection.organisation, connection.device_id
    found = {user_of(own), *map(user_of, organisation.recorders())}
    duty, holders, now_ms = organisation.duty, organisation.holders, relay.now_ms()
    found.update(user for user in map(UserName, asked) if duty.concerning(user, now_ms, holders))
    for conversation in organisation.contexts.keys() | organisation.staged.keys():
        staged = organisation.staged.get(conversation)
        joins = () if staged is None else staged.joins
        key = relay.key(connection, conversation_log(conversation))
        here = {*relay.store.readers(key), *map(DeviceId, joins)}
        if own in here:
            found.update(map(user_of, here))
    return found


def certificates(_relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give certificates by fingerprint, whatever has become of them."""
    asked, organisation = cast("LookupCertificates", frame), connection.organisation
    known = map(organisation.of_certificate, dict.fromkeys(asked.fingerprints))
    found = tuple(DirectoryEntry(one.id, one.certificate) for one in known if one is not None)
    connection.send(Directory(ref=asked.ref, devices=found))


def standing(_relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give the statements that stand, as many as fit into one answer.

    Who asks behind a number that was never given was told it by a relay that lied, or that lost
    what came last: they are told everything.
    """
    asked, organisation = cast("Standing", frame), connection.organisation
    newest = max((entry.number for entry in organisation.standing.values()), default=0)
    after = asked.after if asked.after <= newest else 0
    waiting = sorted(
        (entry for entry in organisation.standing.values() if entry.number > after),
        key=lambda entry: entry.number,
    )
    entries: list[StandingEntry] = []
    room = limits.STANDING_BYTES
    for entry in waiting:
        room -= len(entry.statement)
        if entries and room < 0:
            break
        entries.append(entry)
    more = len(entries) < len(waiting)
    connection.send(Statements(ref=asked.ref, entries=tuple(entries), more=more))


def publish(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Keep a device's key packages."""
    asked = cast("PublishKeyPackages", frame)
    work = _publish(relay, connection, asked)
    connection.spawn(answer(relay, connection, asked.ref, work), ref=asked.ref)


async def _publish(relay: Relay, connection: Connection, asked: PublishKeyPackages) -> None:
    organisation, device = connection.organisation, connection.device_id
    async with organisation.changes:
        kept = organisation.key_packages.setdefault(device, KeyPackages())
        dropped = list(kept.one_time) if asked.replace else []
        room = limits.KEY_PACKAGES - len(kept.one_time) + len(dropped)
        if len(asked.packages) > room:
            raise Refusal(Code.QUOTA, room)
        first = max(kept.one_time, default=0) + 1
        added = dict(enumerate(asked.packages, start=first))
        facts = [Fact(key=one_time_key(device, n), value=None) for n in dropped]
        facts += [Fact(key=one_time_key(device, n), value=value) for n, value in added.items()]
        if asked.last_resort:
            facts.append(Fact(key=LAST_RESORT + device.encode(), value=asked.last_resort))
        await relay.store.change(PutFacts(organisation.id, facts))
        for number in dropped:
            kept.one_time.pop(number, None)
        kept.one_time.update(added)
        kept.last_resort = asked.last_resort or kept.last_resort


def claim(relay: Relay, connection: Connection, frame: Frame) -> None:
    """Give one key package of a device to one claimant."""
    asked = cast("ClaimKeyPackage", frame)
    work = _claim(relay, connection, asked)
    connection.spawn(answered(relay, connection, asked.ref, work), ref=asked.ref)


async def _claim(relay: Relay, connection: Connection, asked: ClaimKeyPackage) -> KeyPackage:
    package = await _take(relay, connection, DeviceId(asked.device))
    return KeyPackage(ref=asked.ref, package=package)


async def _take(relay: Relay, connection: Connection, device: DeviceId) -> bytes:
    """Take a one-time key package out of the directory before it is given away.

    Removed first, given after: of two claimants who come together each gets another one, and one
    whose answer is lost has cost a package, never shared it.
    """
    organisation = connection.organisation
    known = organisation.devices.get(device)
    if known is None or organisation.is_revoked(known):
        raise Refusal(Code.NO_SUCH)
    # Only names that exist are counted: made-up ones would crowd everybody else's counts out.
    wait_ms = relay.claim_wait_ms(connection, device)
    if wait_ms:
        raise Refusal(Code.RATE_LIMITED, wait_ms)
    async with organisation.changes:
        kept = organisation.key_packages.get(device, KeyPackages())
        if not kept.one_time:
            if not kept.last_resort:
                raise Refusal(Code.NO_KEY_PACKAGE)
            return kept.last_resort
        number = min(kept.one_time)
        await relay.store.change(
            PutFacts(organisation.id, [Fact(key=one_time_key(device, number), value=None)])
        )
        return kept.one_time.pop(number)

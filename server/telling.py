"""What the archive tells a restored relay, and against whom it was directed where it is refused.

A suspension or an order that cannot be taken in must not leave its device free: whoever it names,
by its own word and unverified, is *held*. That takes nothing from anybody for good, as an
administrator restores a device that was held for no reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from crypto.certificate import decode_certificate
from crypto.errors import CryptoError
from crypto.revocation import decode_revocations
from crypto.statement import ClaimedStatement, StatementType, claimed_statement
from protocol.commands import (
    RemoveUser,
    ResetAccount,
    SetPolicy,
    decode_command,
    decode_suspension,
    decode_wipe_order,
)
from protocol.identifiers import DeviceId, LogId
from protocol.inbox import Item, ItemKind
from server.directory import Organisation
from server.store import Fact


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Told:
    """One thing that was told.

    Attributes:
        item: A certificate, or a statement of the control log.
        at_ms: When it was taken in.
        sequence: Its number in the control log; 0 for a certificate.
    """

    item: Item
    at_ms: int
    sequence: int


@dataclass(slots=True, kw_only=True, repr=False)
class Telling:
    """What one connection of an organisation's archive has told a restored relay.

    Attributes:
        teller: Who tells: never held by its own word.
        facts: Of the logs that it told.
        items: Certificates and commands, in order.
        missing: Logs that were told and could not be taken over.
        refused: How many things were refused.
        unplaced: How many of them say neither whom they concern nor that they harm nobody.
        reported: Whether the archive has heard of that.
        taking: Held while it is taken in.
    """

    teller: DeviceId
    facts: list[Fact] = field(default_factory=list)
    items: list[Told] = field(default_factory=list)
    missing: set[LogId] = field(default_factory=set)
    refused: int = 0
    unplaced: int = 0
    reported: bool = False
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


def concerned(item: Item, organisation: Organisation) -> frozenset[str] | None:
    """Return the devices and users against whom an item was directed; ``None`` for anybody.

    Empty for what takes nothing from anybody: without it somebody has less, never more.
    """
    try:
        if item.kind is ItemKind.CERTIFICATE:
            return _of_certificate(item.body, organisation)
        return _of_statement(claimed_statement(item.body), organisation)
    except CryptoError:
        return None


def _of_certificate(der: bytes, organisation: Organisation) -> frozenset[str]:
    """A device whose newest certificate is refused may have fewer roles than the relay knows."""
    try:
        claim = decode_certificate(der, root=organisation.trust.root).claim
    except CryptoError:
        # The organisation's root says nothing of it, so nobody has it.
        return frozenset()
    return frozenset({f"{claim.user}/{claim.device}"})


def _of_statement(claimed: ClaimedStatement, organisation: Organisation) -> frozenset[str] | None:
    if claimed.type is StatementType.SUSPENSION:
        suspension = decode_suspension(claimed.body)
        return frozenset() if suspension.lifted else frozenset(suspension.devices)
    if claimed.type is StatementType.WIPE_ORDER:
        return frozenset({decode_wipe_order(claimed.body).device})
    if claimed.type is StatementType.REVOCATION_LIST:
        return _of_revocations(claimed.body, organisation)
    if claimed.type is StatementType.COMMAND:
        return _of_command(claimed.body)
    return frozenset()


def _of_revocations(body: bytes, organisation: Organisation) -> frozenset[str] | None:
    listed = decode_revocations(body)
    known = organisation.trust.devices
    if not listed.certificates.keys() <= known.keys():
        return None
    certified = (known[fingerprint].name for fingerprint in listed.certificates)
    return frozenset((*listed.devices, *certified))


def _of_command(body: bytes) -> frozenset[str] | None:
    command = decode_command(body)
    if isinstance(command, RemoveUser | ResetAccount):
        return frozenset({command.user})
    # What a role may do is narrowed by the next policy: without it everybody has what they had.
    return None if isinstance(command, SetPolicy) else frozenset()

"""The registry of signed statements: what there is to say, and who must sign it.

``crypto.statement`` makes and verifies them; ``protocol/`` defines the bodies of commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from crypto.certificate import DAY_MS
from crypto.names import Role


class StatementType(IntEnum):
    """What a statement is; signed with it, so that none passes for another."""

    INVITATION = 1
    """A person may enrol a first device."""
    DEVICE_VOUCHING = 2
    """A person's device lets in a further one of that person."""
    DEVICE_APPROVAL = 3
    """Two administrators let in a device of a person who has lost all."""
    REVOCATION_LIST = 4
    """Devices and certificates that are revoked."""
    COMMAND = 5
    """An administrator changes people, groups, schedules or policy."""
    SUSPENSION = 6
    """Devices are suspended, reversibly, or that is lifted: by an administrator, a ward's delegate,
    or a person for their own."""
    WIPE_ORDER = 7
    """A device is to destroy what it holds."""
    WIPE_RECEIPT = 8
    """A device has done so; signed by its connection key, its last one."""
    PAGE_ANSWER = 9
    """A device accepts or declines a page, locked or not."""
    DEVICE_REQUEST = 10
    """A person asks for what everybody may change for themself."""
    EPOCH_RECEIPT = 11
    """A member or the recorder confirms an epoch."""
    VOID = 12
    """The recorder discards a Commit."""
    OFFICER_KEYS = 13
    """An officer's keys for coming retention buckets."""
    OPENING_REQUEST = 14
    """An officer asks to open conversations, with a reason."""
    OPENING_APPROVAL = 15
    """An officer approves a request as found in a witnessed checkpoint."""
    SHARE_RELEASE = 16
    """An officer's device has released shares for a scope."""
    LEGAL_HOLD = 17
    """An officer sets or releases a hold."""
    OFFICER_LIVENESS = 20
    """An officer's device shows that it still opens what is sealed to it."""
    ARCHIVED = 18
    """The recorder shows a sender that messages are in the archive's log."""
    EMERGENCY = 21
    """Two colleagues let a third into a conversation for a limited time."""
    WIPE_DELIVERY = 22
    """A device has its order to wipe, and begins; signed by its connection key."""
    CHECKPOINT = 23
    """The recorder asks an officer's device to cosign a checkpoint of the archive's log."""
    COSIGNATURE = 24
    """An officer's device says what it holds of that log, cosigned."""


class Purpose(IntEnum):
    """As what a signer signs; it decides which key and which role count."""

    AUTHORITY = 1
    """The root's own key."""
    ADMINISTRATOR = 2
    OFFICER = 3
    RECORDER = 4
    DEVICE = 5
    """Any certified device, by its signature key."""
    CONNECTION = 6
    """Any certified device, by its connection key."""


PURPOSE_ROLES: Mapping[Purpose, Role] = MappingProxyType(
    {
        Purpose.ADMINISTRATOR: Role.ADMINISTRATOR,
        Purpose.OFFICER: Role.OFFICER,
        Purpose.RECORDER: Role.RECORDER,
    }
)
"""The role that a signer's certificate must carry, for the purposes that ask one."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for every statement of a type.

    Attributes:
        lifetime_ms: Longest time from issue to expiry.
        forms: The permitted lists of purposes, in signing order.
        outcast: Whether a revoked or expired device still has something to say by it.
    """

    lifetime_ms: int
    forms: tuple[tuple[Purpose, ...], ...]
    outcast: bool = False


_AUTHORITY = (Purpose.AUTHORITY,)
_ONE_ADMINISTRATOR = (Purpose.ADMINISTRATOR,)
_TWO_ADMINISTRATORS = (Purpose.ADMINISTRATOR, Purpose.ADMINISTRATOR)
_OFFICER = (Purpose.OFFICER,)
_RECORDER = (Purpose.RECORDER,)
_DEVICE = (Purpose.DEVICE,)
_TWO_DEVICES = (Purpose.DEVICE, Purpose.DEVICE)
_CONNECTION = (Purpose.CONNECTION,)

RULES: Mapping[StatementType, Rule] = MappingProxyType(
    {
        # A new colleague begins within two weeks, or is invited again.
        StatementType.INVITATION: Rule(
            14 * DAY_MS, (_AUTHORITY, _ONE_ADMINISTRATOR, _TWO_ADMINISTRATORS)
        ),
        # Both devices lie on the table; the authority may be down for a night.
        StatementType.DEVICE_VOUCHING: Rule(DAY_MS, (_DEVICE,)),
        # Two administrators and the person meet within a week.
        StatementType.DEVICE_APPROVAL: Rule(7 * DAY_MS, (_AUTHORITY, _TWO_ADMINISTRATORS)),
        # Outlives the certificates that it names, whatever the authority's outage.
        StatementType.REVOCATION_LIST: Rule(90 * DAY_MS, (_AUTHORITY,)),
        StatementType.COMMAND: Rule(DAY_MS, (_AUTHORITY, _ONE_ADMINISTRATOR, _TWO_ADMINISTRATORS)),
        # Who may, as a device's person, suspend which: protocol.suspending.
        StatementType.SUSPENSION: Rule(DAY_MS, (_AUTHORITY, _ONE_ADMINISTRATOR, _DEVICE)),
        # Waits for a device in a drawer; names are not used again, so a late replay finds nothing.
        StatementType.WIPE_ORDER: Rule(
            10 * 365 * DAY_MS,
            ((*_ONE_ADMINISTRATOR, *_AUTHORITY), (*_TWO_ADMINISTRATORS, *_AUTHORITY)),
        ),
        # The device is revoked by then: see verify_outcast_statement.
        StatementType.WIPE_RECEIPT: Rule(90 * DAY_MS, (_CONNECTION,), outcast=True),
        StatementType.WIPE_DELIVERY: Rule(90 * DAY_MS, (_CONNECTION,), outcast=True),
        StatementType.PAGE_ANSWER: Rule(DAY_MS, (_CONNECTION, _DEVICE)),
        StatementType.DEVICE_REQUEST: Rule(DAY_MS, (_DEVICE,)),
        # As long as an entry waits in a log.
        StatementType.EPOCH_RECEIPT: Rule(30 * DAY_MS, (_RECORDER, _DEVICE)),
        StatementType.VOID: Rule(30 * DAY_MS, (_RECORDER,)),
        # Certified four quarters ahead.
        StatementType.OFFICER_KEYS: Rule(500 * DAY_MS, (_OFFICER,)),
        StatementType.OPENING_REQUEST: Rule(30 * DAY_MS, (_OFFICER,)),
        StatementType.OPENING_APPROVAL: Rule(30 * DAY_MS, (_OFFICER,)),
        StatementType.SHARE_RELEASE: Rule(30 * DAY_MS, (_OFFICER,)),
        StatementType.LEGAL_HOLD: Rule(30 * DAY_MS, (_OFFICER,)),
        # A challenge is answered within the month, and asked anew in the next.
        StatementType.OFFICER_LIVENESS: Rule(31 * DAY_MS, (_OFFICER,)),
        # As long as it waits in an inbox for the device.
        StatementType.ARCHIVED: Rule(30 * DAY_MS, (_RECORDER,)),
        # Waits in an inbox for a device that is away; the answer, for an archive that is down.
        StatementType.CHECKPOINT: Rule(30 * DAY_MS, (_RECORDER,)),
        StatementType.COSIGNATURE: Rule(30 * DAY_MS, (_OFFICER,)),
        # The second colleague is at hand, or it is no emergency any more.
        StatementType.EMERGENCY: Rule(DAY_MS // 24, (_TWO_DEVICES,)),
    }
)
"""Every type's rules. What a body asks beyond them (a command for which two administrators are
wanted) its reader checks by ``VerifiedStatement.signers``."""

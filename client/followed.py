"""What following a log takes and gives: values without behaviour, for devices and the recorder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType

from client.rules import Demand
from client.views import Roster
from crypto.mls import Group
from crypto.trust import DeviceIdentity
from protocol.authenticated_data import AuthenticatedData
from protocol.commands import CommitVerdict
from protocol.frames import Deliver
from protocol.identifiers import ConversationId, DeviceId, UserName

GENERATION = 32
"""Bits of a number within a generation; a relay that was restored begins the next one."""


def has_forgotten(entry: Deliver, position: int) -> bool:
    """Tell whether a relay was restored, and names as the last it knows less than was read.

    Args:
        entry: Of a log.
        position: How far that was read before.
    """
    return entry.predecessor < position and position >> GENERATION < entry.sequence >> GENERATION


class Cause(IntEnum):
    """Why an entry could not have its effect; a code for people who look after devices."""

    BEFORE_JOINING = 1
    """It is of an epoch before this device came: not for it, no fault."""
    EPOCH_LOST = 2
    """An epoch began that this device cannot enter: the Commit made no sense to it alone."""
    DAMAGED = 3
    """It is no message, does not open, or its signature does not verify."""
    FORGED = 4
    """It names this device as its sender, and this device did not send it."""
    KEY_USED = 5
    """It was read before under another number: a replay."""
    UNLAWFUL = 7
    """A Commit that its sender may not make."""
    UNSIGNED = 8
    """A verdict or a note whose signature, signer or time is not right."""
    FORKED = 9
    """A receipt confirms another Commit than the one that this device was given."""
    WELCOME_LOST = 10
    """This device was added, and its Welcome did not come or does not open."""
    HOLE = 11
    """The log skips a number, or a sender's message before this one never came."""
    SPLIT_VIEW = 12
    """Two members were shown different archives."""
    REVOKED = 13
    """Its sender was revoked when it came."""
    UNTOLD = 14
    """A Commit that rests on what this device was never given: what stood before it came, a
    revocation, or a voucher's certificate."""
    NOT_AGAIN = 15
    """What this device had said was lost, and is not said again: somebody has come in since."""
    WITHHELD = 16
    """A message without its content, which no policy that this device knows of keeps from it."""


class Action(IntEnum):
    """What heals it."""

    NONE = 1
    REJOIN = 2
    """Ask in the log to be removed and added again."""
    READ_AGAIN = 3
    """Connect again and read from the cursor."""
    REPORT = 4
    """Tell people; nothing that a device does by itself would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An entry that did not have its effect; the others go on.

    Attributes:
        missing: For a hole in a sender's messages, the id that never came.
    """

    cause: Cause
    action: Action
    missing: int = 0


def misses(faults: Iterable[Fault], *, returning: bool) -> list[Fault]:
    """Return what a person misses of what had no effect: nothing that was said before they came.

    Args:
        faults: Of one entry.
        returning: Whether the device has lost its keys of the conversation, and is being let in
            again: what it cannot open then was for it.
    """
    told = []
    for fault in faults:
        if fault.cause is not Cause.BEFORE_JOINING:
            told.append(fault)
        elif returning:
            told.append(replace(fault, cause=Cause.EPOCH_LOST))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCommit:
    """A Commit, or a Welcome, that waits for its receipt.

    Attributes:
        reference: SHA-256 of the Commit, or of the Welcome.
        welcome: Whether it is a Welcome.
        sequence: Number of the Commit in the log; 0 for one's own that is not accepted yet, and
            for a Welcome.
        epoch: The epoch that it begins.
        committer: Whose it is; for a Welcome, who signed its GroupInfo.
        at_ms: When it came into the log.
        message_id: The committer's.
        roster: What changes.
        refused: Why it can never count for this device; ``None`` where it can.
        group: This device's state in the next epoch; ``None`` where the Commit removes it or is
            refused.
    """

    reference: bytes
    welcome: bool = False
    sequence: int = 0
    epoch: int
    committer: DeviceId
    at_ms: int
    message_id: int = 0
    roster: Roster
    refused: Cause | None = None
    group: Group | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A sender's messages in one conversation, as they name each other.

    Attributes:
        last: Id of the newest.
        missing: Ids that were named as the one before and never came.
    """

    last: int
    missing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is known of a conversation before an entry.

    Attributes:
        group: The present epoch; ``None`` before a Welcome counted, and after removal.
        staged: Commits and Welcomes that wait.
        chains: For each sending device, what came of it.
        demands: Statements that a Commit may cite, by hash.
        withheld: How many messages of this epoch the policy kept from this device.
    """

    conversation: ConversationId
    group: Group | None = field(repr=False)
    staged: tuple[StagedCommit, ...] = ()
    chains: Mapping[DeviceId, Chain] = field(default_factory=lambda: MappingProxyType({}))
    demands: Mapping[bytes, Demand] = field(default_factory=lambda: MappingProxyType({}))
    withheld: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that opened, whose sender's signature and leaf are right.

    Attributes:
        at_ms: When it came into the log, by the relay's clock.
        message_hash: SHA-256 of the MLSMessage, as the archive records it.
    """

    sender: DeviceId
    data: AuthenticatedData
    plaintext: bytes = field(repr=False)
    sequence: int
    epoch: int
    at_ms: int
    message_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the recorder would sign of a Commit; a member may sign a receipt when it is silent.

    Attributes:
        confirms: Receipt or void.
        verdict: The body to sign.
        committer: Whose Commit it is: nobody confirms a Commit of their own person's.
    """

    confirms: bool
    verdict: CommitVerdict
    committer: DeviceId


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """What an entry needs before it can be followed; nothing of it was taken in.

    Attributes:
        users: People whose devices must be looked up.
        signers: Whether the signers of the statement in the entry must be looked up.
        certificates: Fingerprints of certificates that must be looked up.
        statement: Hash of a statement that a Commit cites.
        revocation: Whether a revocation must have come first.
        welcome: Whether a Welcome must have come first.
        silence: Whether the recorder must have been silent for longer.
        policy: Whether a policy must have come first that keeps it from this device.
    """

    users: frozenset[UserName] = frozenset()
    signers: bool = False
    certificates: frozenset[bytes] = frozenset()
    statement: bytes | None = None
    revocation: bool = False
    welcome: bool = False
    silence: bool = False
    policy: bool = False

    @property
    def looked_up(self) -> bool:
        """Whether the relay's directory can tell it."""
        return bool(self.users or self.signers or self.certificates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What comes of an entry.

    Attributes:
        view: What is known after it.
        wants: What is needed first; then all else is empty, and the entry is followed again.
        stages: A Commit that now waits.
        drops: References of staged ones that were merged or voided.
        said: A message for people, or for programs.
        roster: A change of members that now counts.
        settled: The Commit that a verdict decided, where it was known here.
        judgement: What is to be signed of the Commit that this entry was.
        demand: A request that stands in the log, for the steward.
        knows: Devices that were not known before, proved.
        joined: Whether this device came in by a Welcome.
        removed: Whether it is no longer a member.
        faults: What did not have its effect.
        forks: Whether the others are in another epoch of the number of this device's: they read
            nothing of what it says in that.
    """

    view: View
    wants: Wants | None = None
    stages: StagedCommit | None = None
    drops: tuple[bytes, ...] = ()
    said: Said | None = None
    roster: Roster | None = None
    settled: StagedCommit | None = None
    judgement: Judgement | None = None
    demand: Demand | None = None
    knows: tuple[DeviceIdentity, ...] = ()
    joined: bool = False
    removed: bool = False
    faults: tuple[Fault, ...] = ()
    forks: bool = False

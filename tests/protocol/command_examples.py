"""One body of each kind, for the document's examples."""

from __future__ import annotations

from protocol.audit import AuditEvent, EventKind
from protocol.commands import (
    ChangeMembers,
    CommitVerdict,
    RemoveUser,
    ResetAccount,
    SetHolders,
    SetPerson,
    SetPolicy,
    Suspension,
    WipeOrder,
    WipeReason,
    WipeReceipt,
)
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName
from protocol.policy import Policy

_CONVERSATION = ConversationId(bytes(range(32)))

EXAMPLES = (
    RemoveUser(user=UserName("ann")),
    ResetAccount(user=UserName("ann")),
    SetPolicy(policy=Policy(version=1)),
    SetHolders(role=RoleName("cardiology"), users=(UserName("ann"), UserName("bob"))),
    ChangeMembers(conversation=_CONVERSATION, added=(UserName("ann"),), removed=()),
    SetPerson(user=UserName("ann"), display_name="Dr. Änn Example", ward="Ward 4"),
    Suspension(devices=(DeviceId("ann/phone"),), lifted=False),
    WipeOrder(
        device=DeviceId("ann/phone"),
        connection_key=bytes(range(32)),
        reason=WipeReason.STOLEN,
    ),
    WipeReceipt(device=DeviceId("ann/phone"), order=bytes(range(32))),
    CommitVerdict(
        conversation=_CONVERSATION,
        sequence=7,
        epoch=3,
        commit_hash=bytes(range(32)),
        confirmed_transcript_hash=bytes(range(32)),
    ),
    AuditEvent(kind=EventKind.REFUSED, at_ms=1_700_000_000_000, device=DeviceId("ann/phone")),
)

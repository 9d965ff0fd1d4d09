"""One body of each kind, for the document's examples."""

from __future__ import annotations

from crypto.ed25519 import SigningKey
from crypto.note import SignatureType, SignerKey
from protocol.audit import AuditEvent, EventKind
from protocol.commands import (
    ChangeMembers,
    CommitVerdict,
    RemoveUser,
    ResetAccount,
    SetHolders,
    SetLogPolicy,
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

_LOG = SignerKey(
    name="archive.example/log",
    kind=SignatureType.ED25519,
    key=SigningKey.from_seed(bytes(range(32))),
).verifier
_WITNESS = SignerKey(
    name="wardline-relay/00112233",
    kind=SignatureType.COSIGNATURE,
    key=SigningKey.from_seed(bytes(range(32, 64))),
).verifier

EXAMPLES = (
    RemoveUser(user=UserName("ann")),
    ResetAccount(user=UserName("ann")),
    SetPolicy(policy=Policy(version=1)),
    SetHolders(role=RoleName("cardiology"), users=(UserName("ann"), UserName("bob"))),
    ChangeMembers(conversation=_CONVERSATION, added=(UserName("ann"),), removed=()),
    SetPerson(user=UserName("ann"), display_name="Dr. Änn Example", ward="Ward 4"),
    SetLogPolicy(version=1, log_key=_LOG.encode(), witness_keys=(_WITNESS.encode(),)),
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

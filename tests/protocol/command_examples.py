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
    SetDelegate,
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
from protocol.oncall import commands as oncall
from protocol.oncall.escalation import Policy as EscalationPolicy
from protocol.oncall.escalation import Step
from protocol.oncall.hours import EVERY_DAY, Hours
from protocol.oncall.override import FixedShift, Override, TemporarySchedule
from protocol.oncall.role import Reach, Responder
from protocol.oncall.schedule import Layer, Schedule
from protocol.policy import Policy

_ICU = RoleName("icu")
_DAY_MS = 1_798_761_600_000
_HOUR_MS = 3_600_000
_NIGHTS = Layer(
    name="nights",
    hours=(Hours(weekdays=EVERY_DAY, start_minute=1200, end_minute=480),),
    users=(UserName("ann"),),
)
_STEP = Step(delay_ms=60_000, responders=(Responder(reach=Reach.ROLE, name="icu"),))

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
_OFFICER = SignerKey(
    name="wardline-officer/olga/desk",
    kind=SignatureType.COSIGNATURE,
    key=SigningKey.from_seed(bytes(range(64, 96))),
).verifier

EXAMPLES = (
    RemoveUser(user=UserName("ann")),
    ResetAccount(user=UserName("ann")),
    SetPolicy(policy=Policy(version=1)),
    SetHolders(role=RoleName("cardiology"), users=(UserName("ann"), UserName("bob"))),
    ChangeMembers(conversation=_CONVERSATION, added=(UserName("ann"),), removed=()),
    SetPerson(user=UserName("ann"), display_name="Dr. Änn Example", ward="Ward 4"),
    SetDelegate(ward="Ward 4", role=RoleName("night-charge")),
    SetLogPolicy(
        version=1,
        log_key=_LOG.encode(),
        witness_keys=(_WITNESS.encode(),),
        officer_keys=(_OFFICER.encode(),),
    ),
    oncall.SetRole(role=_ICU, version=1, fallback=(UserName("bob"),), owner=UserName("chief")),
    oncall.SetSchedule(
        role=_ICU,
        version=2,
        effective_ms=_DAY_MS,
        schedule=Schedule(zone="Europe/Berlin", layers=(_NIGHTS,)),
    ),
    oncall.SetLayer(role=_ICU, version=3, effective_ms=_DAY_MS, layer=_NIGHTS),
    oncall.RemoveLayer(role=_ICU, version=4, effective_ms=_DAY_MS, name="nights"),
    oncall.AddChange(
        role=_ICU,
        version=5,
        change=Override(
            name="ill",
            start_ms=_DAY_MS,
            end_ms=_DAY_MS + 8 * _HOUR_MS,
            removed=UserName("ann"),
            added=UserName("bob"),
        ),
    ),
    oncall.RemoveChange(role=_ICU, version=6, name="ill"),
    oncall.SetImported(
        role=_ICU,
        version=7,
        plan=TemporarySchedule(
            name=oncall.IMPORTED,
            start_ms=_DAY_MS,
            end_ms=_DAY_MS + 24 * _HOUR_MS,
            shifts=(
                FixedShift(
                    start_ms=_DAY_MS, end_ms=_DAY_MS + 24 * _HOUR_MS, users=(UserName("ann"),)
                ),
            ),
        ),
    ),
    oncall.SetEscalationPolicy(
        role=_ICU, version=8, policy=EscalationPolicy(steps=(_STEP,), last_resort=_STEP)
    ),
    oncall.OfferShift(
        role=_ICU,
        version=9,
        name="open-1",
        start_ms=_DAY_MS,
        end_ms=_DAY_MS + 8 * _HOUR_MS,
        until_ms=_DAY_MS,
    ),
    oncall.WithdrawShift(role=_ICU, version=10, name="open-1"),
    oncall.SetNumbers(
        role=_ICU,
        version=11,
        numbers=(
            oncall.Number(user=None, number="4711"),
            oncall.Number(user=UserName("ann"), number="+49 30 450 50"),
        ),
    ),
    oncall.DeleteRole(role=_ICU, version=12),
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

"""Bodies of signed statements: one encoding each, and a documented error for everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from crypto import codec
from crypto.ed25519 import SigningKey
from crypto.errors import DecodeError, InvalidError
from crypto.names import Role, write_text
from crypto.note import SignatureType, SignerKey
from protocol import commands, policy
from protocol.audit import AuditEvent, EventKind, decode_event
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
from protocol.oncall.commands import RoleCommand
from protocol.policy import ALLOWED, Action, DeviceRules, Policy
from tests.protocol.command_examples import EXAMPLES
from tests.protocol.strategies import COUNTERS, DEVICES, HASHES, NAMES, mutated

Body = (
    RemoveUser
    | ResetAccount
    | SetPolicy
    | SetHolders
    | ChangeMembers
    | SetPerson
    | SetDelegate
    | SetLogPolicy
    | Suspension
    | WipeOrder
    | WipeReceipt
    | CommitVerdict
    | AuditEvent
    | RoleCommand
)

USERS = NAMES.map(UserName)
CONVERSATIONS = HASHES.map(ConversationId)


def ascending(names: SearchStrategy[str]) -> SearchStrategy[tuple[str, ...]]:
    return st.sets(names, max_size=4).map(lambda found: tuple(sorted(found)))


def shown() -> SearchStrategy[str]:
    texts = st.text(max_size=16).map(str.strip)
    return texts.filter(lambda text: text.isprintable() and text == text.strip())


def policies() -> SearchStrategy[Policy]:
    right = st.sampled_from(Action).flatmap(
        lambda action: st.tuples(
            st.just(action),
            st.sets(st.sampled_from(sorted(ALLOWED[action]))).map(
                lambda roles: frozenset(
                    roles | ({Role.RECORDER, Role.ADMINISTRATOR} & ALLOWED[action])
                )
            ),
        )
    )
    devices = st.builds(
        DeviceRules,
        lease_hours=st.integers(0, policy.LEASE_HOURS),
        lock_minutes=st.integers(1, policy.LOCK_MINUTES),
        keep_days=st.integers(0, policy.KEEP_DAYS),
        hand_over_hours=st.integers(0, policy.HAND_OVER_HOURS),
        sign_out=st.sampled_from(policy.SignOut),
    )
    rights = st.lists(right, max_size=4).map(dict)
    return st.builds(Policy, version=COUNTERS, rights=rights, devices=devices)


def verifier_keys(kind: SignatureType, *, of: str = "") -> SearchStrategy[str]:
    seeds = st.integers(0, 255).map(lambda n: SigningKey.from_seed(bytes([n]) * 32))
    return st.builds(
        lambda name, key: SignerKey(name=of + name, kind=kind, key=key).verifier.encode(),
        NAMES,
        seeds,
    )


ADMINISTRATIVE: SearchStrategy[Body] = st.one_of(
    st.builds(RemoveUser, user=USERS),
    st.builds(ResetAccount, user=USERS),
    st.builds(SetPolicy, policy=policies()),
    st.builds(SetHolders, role=NAMES.map(RoleName), users=ascending(USERS)),
    st.builds(
        ChangeMembers, conversation=CONVERSATIONS, added=ascending(USERS), removed=ascending(USERS)
    ),
    st.builds(SetPerson, user=USERS, display_name=shown().filter(bool), ward=shown()),
    st.builds(SetDelegate, ward=shown().filter(bool), role=st.none() | NAMES.map(RoleName)),
    st.builds(
        SetLogPolicy,
        version=COUNTERS,
        log_key=verifier_keys(SignatureType.ED25519),
        witness_keys=ascending(verifier_keys(SignatureType.COSIGNATURE)),
        # A key stands in one of the two lists alone.
        officer_keys=ascending(verifier_keys(SignatureType.COSIGNATURE, of="officer/")),
    ),
)
SUSPENSIONS = st.builds(Suspension, devices=ascending(DEVICES), lifted=st.booleans())
ORDERS = st.builds(
    WipeOrder, device=DEVICES, connection_key=HASHES, reason=st.sampled_from(WipeReason)
)
RECEIPTS = st.builds(WipeReceipt, device=DEVICES, order=HASHES)
VERDICTS = st.builds(
    CommitVerdict,
    conversation=CONVERSATIONS,
    sequence=COUNTERS,
    epoch=COUNTERS,
    commit_hash=HASHES,
    confirmed_transcript_hash=HASHES,
)
EVENTS = st.builds(
    AuditEvent,
    kind=st.sampled_from(EventKind),
    at_ms=st.integers(0, 1 << 50),
    device=st.none() | DEVICES,
)
CASES: list[tuple[SearchStrategy[Body], Callable[[bytes], Body]]] = [
    (ADMINISTRATIVE, commands.decode_command),
    (SUSPENSIONS, commands.decode_suspension),
    (ORDERS, commands.decode_wipe_order),
    (RECEIPTS, commands.decode_wipe_receipt),
    (VERDICTS, commands.decode_verdict),
    (EVENTS, decode_event),
]
IDS = ["command", "suspension", "wipe-order", "wipe-receipt", "verdict", "event"]


@pytest.mark.parametrize(("values", "decode"), CASES, ids=IDS)
@given(data=st.data())
def test_what_is_encoded_decodes_to_the_same_value(
    values: SearchStrategy[Body], decode: Callable[[bytes], Body], data: st.DataObject
) -> None:
    value = data.draw(values)
    assert decode(value.encode()) == value


@pytest.mark.parametrize(("values", "decode"), CASES, ids=IDS)
@given(data=st.data())
def test_any_bytes_give_a_value_of_one_encoding_or_a_documented_error(
    values: SearchStrategy[Body], decode: Callable[[bytes], Body], data: st.DataObject
) -> None:
    encodings = values.map(lambda value: value.encode())
    encoded = data.draw(st.one_of(st.binary(max_size=80), mutated(encodings)))
    try:
        value = decode(encoded)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == encoded


def test_what_was_kept_before_a_field_was_added_reads_as_it_was_meant() -> None:
    """Every device, relay and authority has them on its disk."""
    rules = bytes.fromhex("030000000000000001000c0a000000")
    assert commands.decode_command(rules) == SetPolicy(policy=Policy(version=1))
    (known,) = (one for one in EXAMPLES if isinstance(one, SetLogPolicy))
    witness = codec.vector(map(write_text, known.witness_keys))
    before = codec.u8(6) + codec.u64(1) + write_text(known.log_key) + witness
    assert commands.decode_command(before) == replace(known, officer_keys=())
    # And what is left out has no other encoding.
    for written in (rules + b"\x00", before + codec.vector(())):
        with pytest.raises(DecodeError):
            commands.decode_command(written)


def test_names_out_of_order_or_malformed_are_refused() -> None:
    for users in (("b", "a"), ("a", "a"), ("Not a name",)):
        with pytest.raises(InvalidError):
            SetHolders(role=RoleName("icu"), users=tuple(map(UserName, users)))
    with pytest.raises(InvalidError):
        Suspension(devices=(DeviceId("nodevice"),), lifted=False)


@pytest.mark.parametrize(
    "name",
    ["", " Ann", "Ann ", "Ann\x1b[2J", "Ann\nBob", "\u202eAnn", "x" * 129, "ä" * 65, "\ud800"],
)
def test_a_display_name_that_is_empty_too_long_or_not_printable_is_refused(name: str) -> None:
    with pytest.raises(InvalidError):
        SetPerson(user=UserName("ann"), display_name=name, ward="")


def test_a_display_name_that_is_no_utf_8_decodes_to_nothing() -> None:
    good = SetPerson(user=UserName("ann"), display_name="Ann", ward="").encode()
    with pytest.raises(DecodeError):
        commands.decode_command(good.replace(b"Ann", b"A\xff\xfe"))


def test_no_name_of_a_person_stands_in_a_repr() -> None:
    assert "Ann" not in repr(SetPerson(user=UserName("x"), display_name="Ann", ward="Ann"))


def test_hashes_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidError):
        WipeOrder(device=DeviceId("a/b"), connection_key=bytes(31), reason=WipeReason.LOST)
    with pytest.raises(InvalidError):
        WipeReceipt(device=DeviceId("a/b"), order=bytes(33))
    good = {
        "conversation": ConversationId(bytes(32)),
        "sequence": 1,
        "epoch": 1,
        "commit_hash": bytes(32),
        "confirmed_transcript_hash": bytes(32),
    }
    CommitVerdict(**good)  # type: ignore[arg-type]
    for field, bad in (("sequence", 0), ("epoch", 1 << 64), ("commit_hash", b"")):
        with pytest.raises(InvalidError):
            CommitVerdict(**{**good, field: bad})  # type: ignore[arg-type]


def test_a_policy_grants_nothing_new_and_takes_nothing_from_archive_and_administrators() -> None:
    for rights in (
        {Action.COMMAND: frozenset({Role.ADMINISTRATOR, Role.RECORDER, Role.CLINICIAN})},
        {Action.SEND: frozenset({Role.CLINICIAN})},
        {Action.COMMAND: frozenset({Role.RECORDER})},
    ):
        with pytest.raises(InvalidError):
            Policy(version=1, rights=rights)
    assert Policy().roles_for(Action.SEND) == policy.ALLOWED[Action.SEND]

"""What a device holds true, statement by statement, and after a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.trusted import (
    Taken,
    Trusted,
    learned,
    loaded,
    taken_in,
    unknown_signers,
    wanted_for,
)
from crypto.certificate import fingerprint
from crypto.errors import DecodeError
from crypto.names import Role
from crypto.revocation import encode_revocations
from crypto.statement import Purpose, Signatory, StatementType
from crypto.trust import Revocations, Trust
from protocol.commands import (
    ChangeMembers,
    Command,
    RemoveUser,
    SetDelegate,
    SetHolders,
    SetPerson,
    SetPolicy,
    Suspension,
    WipeOrder,
    WipeReason,
)
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName
from protocol.policy import Policy
from tests.client.people import further, ghost
from tests.flipped import flipped
from tests.server.harness import Hospital, hospital, now_ms

HOUR_MS = 3600_000
ANN, BOB = UserName("ann"), UserName("bob")


@pytest.fixture
def of() -> Hospital:
    made = hospital()
    made.enrol("ada/desk", Role.ADMINISTRATOR)
    made.enrol("bob/phone")
    return made


def trusted_of(of: Hospital) -> Trusted:
    return learned(Trusted(trust=Trust(root=of.root)), certificates(of))[0]


def certificates(of: Hospital) -> list[bytes]:
    return [person.certificate for person in of.people.values()]


def signed(of: Hospital, kind: StatementType, body: bytes, *, by: Signatory | None = None) -> bytes:
    return of.signed(kind, body, by=by or of.people["ada/desk"].signatory(Purpose.ADMINISTRATOR))


def commanded(of: Hospital, trusted: Trusted, command: Command, *, at_ms: int = 0) -> Taken:
    statement = signed(of, StatementType.COMMAND, command.encode())
    return taken_in(trusted, statement, at_ms=at_ms or now_ms())


def test_every_standing_command_is_there_after_a_restart(of: Hospital) -> None:
    rows = dict(learned(Trusted(trust=Trust(root=of.root)), certificates(of))[1])
    trusted = trusted_of(of)
    commands: list[Command] = [
        SetPolicy(policy=Policy(version=1)),
        SetHolders(role=RoleName("cardiology"), users=(ANN, BOB)),
        SetPerson(user=ANN, display_name="Dr. Änn", ward="Ward 4"),
        RemoveUser(user=BOB),
        ChangeMembers(conversation=ConversationId(bytes(32)), added=(ANN,), removed=()),
    ]
    for command in commands:
        taken = commanded(of, trusted, command)
        assert taken.verified
        trusted = taken.trusted
        rows.update(taken.rows)
    suspension = Suspension(devices=(DeviceId("ada/desk"),), lifted=False)
    taken = taken_in(
        trusted, signed(of, StatementType.SUSPENSION, suspension.encode()), at_ms=now_ms()
    )
    rows.update(taken.rows)
    again = loaded(Trust(root=of.root), rows)
    assert again.policy.version == 1
    assert again.holders == {"cardiology": (ANN, BOB)}
    assert again.people[ANN].name == "Dr. Änn"
    assert again.suspended == {"ada/desk"}
    assert set(again.gone) == {BOB}
    assert [one.kind for one in again.demands.values()] == [StatementType.COMMAND]
    assert again.trust.devices.keys() == trusted.trust.devices.keys()
    (bob,) = again.devices_of(BOB)
    assert again.trust.revocations.since_ms(bob) is not None
    assert not again.is_usable(bob, at_ms=now_ms())


def test_a_device_of_a_person_who_was_removed_is_revoked_whenever_it_is_met(of: Hospital) -> None:
    before = trusted_of(of)
    laptop = further(of, of.people["bob/phone"], "laptop")
    taken = commanded(of, before, RemoveUser(user=BOB), at_ms=now_ms() + 1000)
    after, _ = learned(taken.trusted, [laptop.certificate])
    identity = after.trust.devices[fingerprint(laptop.certificate)]
    assert after.trust.revocations.since_ms(identity) is not None


def test_an_older_command_that_is_told_later_changes_nothing(of: Hospital) -> None:
    new = SetHolders(role=RoleName("cardiology"), users=(BOB,))
    old = SetHolders(role=RoleName("cardiology"), users=(ANN,))
    trusted = commanded(of, trusted_of(of), new, at_ms=now_ms()).trusted
    taken = commanded(of, trusted, old, at_ms=now_ms() - 1000)
    assert taken.verified
    assert taken.trusted.holders == {"cardiology": (BOB,)}


def test_the_same_policy_told_twice_is_as_good_as_once(of: Hospital) -> None:
    statement = signed(of, StatementType.COMMAND, SetPolicy(policy=Policy(version=3)).encode())
    first = taken_in(trusted_of(of), statement, at_ms=now_ms())
    assert taken_in(first.trusted, statement, at_ms=now_ms()).verified
    lower = commanded(of, first.trusted, SetPolicy(policy=Policy(version=2)))
    assert lower.trusted.policy.version == 3


def test_a_policy_is_kept_as_it_was_signed_for_a_relay_that_forgets_it(of: Hospital) -> None:
    statement = signed(of, StatementType.COMMAND, SetPolicy(policy=Policy(version=3)).encode())
    taken = taken_in(trusted_of(of), statement, at_ms=now_ms())
    assert taken.trusted.signed_policy == statement
    kept = loaded(Trust(root=of.root), taken.rows)
    assert (kept.policy, kept.signed_policy) == (Policy(version=3), statement)


def test_what_nobody_signed_who_may_is_not_believed(of: Hospital) -> None:
    clinician = of.people["bob/phone"].signatory(Purpose.DEVICE)
    trusted = trusted_of(of)
    statement = signed(of, StatementType.COMMAND, RemoveUser(user=ANN).encode())
    stranger = Trusted(trust=Trust(root=of.root))
    assert not taken_in(stranger, statement, at_ms=now_ms()).verified
    garbled = flipped(statement)
    assert not taken_in(trusted, garbled, at_ms=now_ms()).verified
    late = taken_in(trusted, statement, at_ms=now_ms() + 2 * HOUR_MS)
    assert not late.verified
    assert clinician.key
    with pytest.raises(DecodeError):
        taken_in(trusted, b"nothing", at_ms=now_ms())


def test_one_signature_of_a_wipe_suspends_and_two_revoke(of: Hospital) -> None:
    trusted = trusted_of(of)
    keys = of.people["bob/phone"].keys
    body = WipeOrder(
        device=DeviceId("bob/phone"),
        connection_key=keys.connection_key.public_key,
        reason=WipeReason.LOST,
    ).encode()
    half = signed(of, StatementType.WIPE_ORDER, body)
    taken = taken_in(trusted, half, at_ms=now_ms())
    assert taken.trusted.suspended == {"bob/phone"}
    assert not taken.trusted.trust.revocations.devices


def suspended(of: Hospital, trusted: Trusted, by: str, *devices: str, lifted: bool) -> Taken:
    body = Suspension(devices=tuple(map(DeviceId, devices)), lifted=lifted).encode()
    purpose = Purpose.ADMINISTRATOR if by == "ada/desk" else Purpose.DEVICE
    signatory = of.people[by].signatory(purpose)
    statement = signed(of, StatementType.SUSPENSION, body, by=signatory)
    return taken_in(trusted, statement, at_ms=now_ms())


def test_a_person_ends_what_they_suspended_themself_and_nothing_that_an_administrator_did(
    of: Hospital,
) -> None:
    further(of, of.people["bob/phone"], "desk")
    of.enrol("ann/phone")
    trusted = trusted_of(of)
    own = suspended(of, trusted, "bob/desk", "bob/phone", lifted=False)
    assert own.verified
    assert own.trusted.suspended == own.trusted.mild == {"bob/phone"}
    assert loaded(Trust(root=of.root), own.rows).mild == {"bob/phone"}
    ended = suspended(of, own.trusted, "bob/desk", "bob/phone", lifted=True)
    assert not ended.trusted.suspended | ended.trusted.mild
    assert not suspended(of, trusted, "ann/phone", "bob/phone", lifted=False).verified
    # What an administrator says stands above what the person has said, before and after.
    hard = suspended(of, own.trusted, "ada/desk", "bob/phone", lifted=False).trusted
    for trusted in (hard, suspended(of, hard, "bob/desk", "bob/phone", lifted=False).trusted):
        assert not suspended(of, trusted, "bob/desk", "bob/phone", lifted=True).verified
        assert trusted.suspended == {"bob/phone"}


def test_a_delegates_suspension_counts_by_ward_and_role(of: Hospital) -> None:
    of.enrol("ann/phone")
    trusted = trusted_of(of)
    for command in (
        SetPerson(user=BOB, display_name="Bob", ward="Ward 4"),
        SetHolders(role=RoleName("charge"), users=(ANN,)),
    ):
        trusted = commanded(of, trusted, command).trusted
    assert not suspended(of, trusted, "ann/phone", "bob/phone", lifted=False).verified
    delegate = SetDelegate(ward="Ward 4", role=RoleName("charge"))
    trusted = commanded(of, trusted, delegate).trusted
    taken = suspended(of, trusted, "ann/phone", "bob/phone", lifted=False)
    assert taken.trusted.mild == {"bob/phone"}
    trusted = commanded(of, trusted, SetDelegate(ward="Ward 4", role=None)).trusted
    assert not suspended(of, trusted, "ann/phone", "bob/phone", lifted=False).verified


def listed(of: Hospital, revocations: Revocations) -> bytes:
    body = encode_revocations(revocations)
    return signed(of, StatementType.REVOCATION_LIST, body, by=of.signatory())


def test_revocation_lists_never_go_back(of: Hospital) -> None:
    newer = replace(Revocations().with_device("bob/phone", at_ms=1), number=2)
    taken = taken_in(trusted_of(of), listed(of, newer), at_ms=now_ms())
    assert taken.verified
    assert taken.trusted.trust.revocations.devices == {"bob/phone": 1}
    older = taken_in(taken.trusted, listed(of, Revocations(number=1)), at_ms=now_ms())
    assert older.trusted is taken.trusted
    assert older.rows == {}


def test_a_list_that_is_read_behind_a_newer_one_was_right_and_a_forged_one_was_not(
    of: Hospital,
) -> None:
    newer = replace(Revocations().with_device("bob/phone", at_ms=1), number=2)
    held = taken_in(trusted_of(of), listed(of, newer), at_ms=now_ms()).trusted
    older = listed(of, Revocations(number=1))
    assert taken_in(held, older, at_ms=now_ms()).verified
    assert not taken_in(held, flipped(older), at_ms=now_ms()).verified
    assert not taken_in(held, listed(hospital(), Revocations(number=1)), at_ms=now_ms()).verified


def test_devices_are_learned_in_any_order_and_signers_are_named(of: Hospital) -> None:
    phone = of.people["bob/phone"]
    laptop = further(of, phone, "laptop")
    bare = Trusted(trust=Trust(root=of.root))
    assert wanted_for([laptop.certificate], bare.trust) == (fingerprint(phone.certificate),)
    assert wanted_for([laptop.certificate, phone.certificate], bare.trust) == ()
    after, rows = learned(bare, [laptop.certificate, phone.certificate])
    assert [one.name for one in after.devices_of(BOB)] == ["bob/laptop", "bob/phone"]
    assert len(rows) == 2
    statement = signed(of, StatementType.COMMAND, RemoveUser(user=ANN).encode())
    admin = of.people["ada/desk"].certificate
    assert unknown_signers(statement, bare.trust) == (fingerprint(admin),)
    assert unknown_signers(statement, trusted_of(of).trust) == ()
    assert unknown_signers(b"", bare.trust) == ()


def test_a_second_first_device_is_never_learned(of: Hospital) -> None:
    trusted = trusted_of(of)
    slipped = ghost(of, "bob/ghost")
    after, rows = learned(trusted, [slipped.certificate, b"no certificate"])
    assert after is trusted
    assert not rows


def test_rows_that_were_not_written_here_are_refused(of: Hospital) -> None:
    _, rows = learned(Trusted(trust=Trust(root=of.root)), certificates(of))
    broken = {key: value[:-1] for key, value in rows.items()}
    with pytest.raises(DecodeError):
        loaded(Trust(root=of.root), broken)

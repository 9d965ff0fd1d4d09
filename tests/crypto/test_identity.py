"""Leaves: who is accepted, and the ghost devices that are not (attacks.md, rows 1 and 2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import certificate, enrolment, identity, proof
from crypto.certificate import DAY_MS, LIFETIME_MS, Proof
from crypto.codec import decode
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys
from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.mls.leaf_node import Credential
from crypto.names import TIME_MAX_MS, Role
from crypto.proof import DeviceGrant
from crypto.statement import Purpose, StatementType
from crypto.trust import CLOCK_SKEW_MS, DeviceIdentity, Revocations, Trust

from .hospital import ADMINISTRATOR, CLINICIAN, NOW_MS, Device, Hospital, Staff, new_keys

GRANT = DeviceGrant(
    claim=new_keys("alice", "tablet").claim,
    roles=ADMINISTRATOR,
    ends_ms=NOW_MS,
    origin=bytes(range(32)),
)


@pytest.fixture
def staff() -> Staff:
    return Staff()


def entering(der: bytes, keys: DeviceKeys, trust: Trust, *, at_ms: int = NOW_MS) -> DeviceIdentity:
    key = keys.signature_key.public_key
    return identity.verify_entering_leaf([der], signature_key=key, trust=trust, at_ms=at_ms)


def fooled_authority(
    staff: Staff,
    keys: DeviceKeys,
    statement: bytes,
    binding: bytes = b"",
    *,
    roles: frozenset[Role] = CLINICIAN,
    ends_ms: int | None = None,
    proved_at_ms: int = NOW_MS,
) -> bytes:
    """Return what an authority would issue that believes every proof."""
    request = enrolment.CertificateRequest(
        organisation=staff.organisation,
        claim=keys.claim,
        requested_ms=NOW_MS,
        statement=statement,
        binding=binding,
    )
    leaf = enrolment._certificate(
        request,
        Proof(statement=statement, binding=binding, proved_at_ms=proved_at_ms),
        roles=roles,
        ends_ms=ends_ms,
        at_ms=NOW_MS,
    )
    return certificate.encode_certificate(leaf, root=staff.root, authority=staff.authority_key)


def refused(staff: Staff, der: bytes, keys: DeviceKeys) -> str:
    """Return the rule by which a client refuses a leaf that the authority certified."""
    with pytest.raises(InvalidError) as caught:
        entering(der, keys, staff.trust)
    return caught.value.rule


def tablet_of(staff: Staff, owner: Device) -> Device:
    keys = new_keys(owner.identity.user, "tablet")
    return staff.issue(keys, staff.request(keys, staff.vouch(owner, keys)))


# What is accepted


def test_a_client_that_knows_only_the_root_accepts_a_device_through_its_proofs(
    staff: Staff,
) -> None:
    tablet = tablet_of(staff, staff.alice)
    known = {d.identity.fingerprint: d.der for d in (staff.ada, staff.bob, staff.alice)}
    trust, missing = Trust(root=staff.root), [tablet.der]
    while missing:
        wanted = identity.wanted_certificates(missing[-1], trust=trust)
        if wanted:
            missing += [known[fingerprint] for fingerprint in wanted]
        else:
            trust = identity.admit(trust, [missing.pop()])
    assert set(trust.origins) == {"ada", "alice"}
    found = entering(tablet.der, tablet.keys, trust)
    assert found.name == "alice/tablet"
    assert found.roles == CLINICIAN
    assert found.origin == staff.alice.identity.origin
    assert found == tablet.identity


def test_a_proof_of_signers_nobody_knows_is_refused_until_they_are_admitted(
    staff: Staff,
) -> None:
    trust = Trust(root=staff.root)
    with pytest.raises(InvalidError):
        entering(staff.alice.der, staff.alice.keys, trust)
    trust = identity.admit(trust, [staff.ada.der])
    assert entering(staff.alice.der, staff.alice.keys, trust).user == "alice"


def test_a_person_who_lost_all_devices_returns_by_two_administrators(staff: Staff) -> None:
    keys = new_keys("alice", "phone-2")
    approval = staff.grant(
        keys,
        StatementType.DEVICE_APPROVAL,
        *staff.administrators,
        origin=staff.alice.identity.origin,
    )
    revoked = staff.trust.revocations.with_device("alice/phone", at_ms=NOW_MS)
    staff.trust = staff.trust.revoking(revoked)
    found = staff.issue(keys, staff.request(keys, approval)).identity
    assert found.origin == staff.alice.identity.origin


def test_the_archives_host_replaces_a_lost_last_administrator(staff: Staff) -> None:
    keys = new_keys("ada", "desk-2")
    approval = staff.grant(
        keys,
        StatementType.DEVICE_APPROVAL,
        staff.authority,
        origin=staff.ada.identity.origin,
        roles=ADMINISTRATOR,
    )
    found = staff.issue(keys, staff.request(keys, approval)).identity
    assert Role.ADMINISTRATOR in found.roles


def test_a_device_changes_its_keys_by_vouching_for_itself(staff: Staff) -> None:
    keys = new_keys("alice", "phone")
    renewed = staff.issue(keys, staff.request(keys, staff.vouch(staff.alice, keys)))
    assert renewed.identity.name == staff.alice.identity.name
    assert renewed.identity.signature_key != staff.alice.identity.signature_key


def test_two_administrators_make_an_administrator_and_an_officer(staff: Staff) -> None:
    roles = frozenset({Role.ADMINISTRATOR, Role.OFFICER})
    found = staff.enrol("carol/desk", *staff.administrators, roles=roles)
    assert found.identity.roles == roles


# Ghosts


def test_ghost_the_relay_cannot_certify_a_device(staff: Staff) -> None:
    relay = Staff()
    with pytest.raises(VerificationError):
        entering(relay.alice.der, relay.alice.keys, staff.trust)


def test_ghost_a_single_administrator_invites_a_person_who_is_here_already(
    staff: Staff,
) -> None:
    with pytest.raises(InvalidError):
        staff.enrol("alice/ghost", staff.ada.signs_as(Purpose.ADMINISTRATOR))
    keys, link = new_keys("alice", "ghost"), staff.link()
    invitation = staff.invite("alice", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link)
    binding = proof.bind_invitation(invitation, claim=keys.claim, key=link.key)
    ghost = fooled_authority(staff, keys, invitation, binding)
    assert "one first device" in refused(staff, ghost, keys)


def test_ghost_a_device_that_a_ghost_vouches_for_is_refused_with_it(staff: Staff) -> None:
    forgetful = Staff.__new__(Staff)
    forgetful.root, forgetful.authority_key = staff.root, staff.authority_key
    forgetful.trust = identity.admit(Trust(root=staff.root), [staff.ada.der])
    ghost = forgetful.enrol("alice/ghost", staff.ada.signs_as(Purpose.ADMINISTRATOR))
    second = tablet_of(forgetful, ghost)
    assert "known device" in refused(staff, second.der, second.keys)
    with pytest.raises(InvalidError):
        identity.admit(staff.trust, [ghost.der, second.der])


def test_ghost_an_invitation_is_used_for_a_second_device(staff: Staff) -> None:
    link = staff.link()
    invitation = staff.invite("dora", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link)
    first, ghost = new_keys("dora", "phone"), new_keys("dora", "ghost")
    staff.issue(first, staff.request(first, invitation, link=link))
    with pytest.raises(InvalidError):
        staff.issue(ghost, staff.request(ghost, invitation, link=link))
    binding = proof.bind_invitation(invitation, claim=ghost.claim, key=link.key)
    der = fooled_authority(staff, ghost, invitation, binding)
    assert "one first device" in refused(staff, der, ghost)


def test_ghost_two_first_devices_in_one_commit_are_refused(staff: Staff) -> None:
    link = staff.link()
    invitation = staff.invite("dora", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link)
    found = []
    for device in ("phone", "ghost"):
        keys = new_keys("dora", device)
        binding = proof.bind_invitation(invitation, claim=keys.claim, key=link.key)
        der = fooled_authority(staff, keys, invitation, binding)
        found.append(entering(der, keys, staff.trust))
    with pytest.raises(InvalidError):
        staff.trust.knowing(found)


def test_ghost_a_single_administrator_approves_a_device(staff: Staff) -> None:
    keys = new_keys("alice", "ghost")
    approval = staff.grant(
        keys,
        StatementType.DEVICE_APPROVAL,
        staff.ada.signs_as(Purpose.ADMINISTRATOR),
        origin=staff.alice.identity.origin,
    )
    assert "signatures" in refused(staff, fooled_authority(staff, keys, approval), keys)
    with pytest.raises(InvalidError):
        staff.issue(keys, staff.request(keys, approval))


def test_ghost_a_single_administrator_approves_a_device_twice(staff: Staff) -> None:
    ada = staff.ada.signs_as(Purpose.ADMINISTRATOR)
    keys = new_keys("alice", "ghost")
    approval = staff.grant(
        keys, StatementType.DEVICE_APPROVAL, ada, ada, origin=staff.alice.identity.origin
    )
    assert "different people" in refused(staff, fooled_authority(staff, keys, approval), keys)


def test_ghost_an_administrators_own_device_vouches_for_another_person(staff: Staff) -> None:
    keys = new_keys("alice", "ghost")
    for origin in (staff.alice.identity.origin, staff.ada.identity.origin):
        vouching = staff.grant(
            keys,
            StatementType.DEVICE_VOUCHING,
            staff.ada.signs_as(Purpose.DEVICE),
            origin=origin,
        )
        assert "that person's" in refused(staff, fooled_authority(staff, keys, vouching), keys)


def test_ghost_a_single_administrator_cannot_make_a_second_administrator(staff: Staff) -> None:
    for role in (Role.ADMINISTRATOR, Role.OFFICER):
        keys, link = new_keys("puppet", "desk"), staff.link()
        roles = frozenset({role})
        invitation = staff.invite(
            "puppet", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link, roles=roles
        )
        binding = proof.bind_invitation(invitation, claim=keys.claim, key=link.key)
        der = fooled_authority(staff, keys, invitation, binding, roles=roles)
        assert "two administrators" in refused(staff, der, keys)


def test_ghost_administrators_cannot_make_a_recorder_or_a_witness(staff: Staff) -> None:
    for role in (Role.RECORDER, Role.WITNESS):
        keys = new_keys("archive-2", "recorder")
        roles = frozenset({role})
        approval = staff.grant(
            keys,
            StatementType.DEVICE_APPROVAL,
            *staff.administrators,
            origin=bytes(32),
            roles=roles,
        )
        der = fooled_authority(staff, keys, approval, roles=roles)
        assert "only the authority" in refused(staff, der, keys)


def test_ghost_a_proof_is_moved_to_other_keys_or_another_name(staff: Staff) -> None:
    tablet = new_keys("alice", "tablet")
    vouching = staff.vouch(staff.alice, tablet)
    for keys in (
        replace(tablet, signature_key=SigningKey.generate()),
        replace(tablet, connection_key=SigningKey.generate()),
        replace(tablet, device="ghost"),
        replace(tablet, user="dora"),
    ):
        der = fooled_authority(staff, keys, vouching)
        assert "this device and these keys" in refused(staff, der, keys)


def test_ghost_an_invitation_is_bound_to_the_device_that_used_it(staff: Staff) -> None:
    link, keys = staff.link(), new_keys("dora", "phone")
    invitation = staff.invite("dora", staff.ada.signs_as(Purpose.ADMINISTRATOR), link=link)
    binding = proof.bind_invitation(invitation, claim=keys.claim, key=link.key)
    for wrong, exchanged in (
        (binding, replace(keys, signature_key=SigningKey.generate())),
        (binding, replace(keys, connection_key=SigningKey.generate())),
        (binding, replace(keys, device="ghost")),
        (SigningKey.generate().sign(b"anything"), keys),
        (b"", keys),
    ):
        with pytest.raises(VerificationError):
            entering(fooled_authority(staff, exchanged, invitation, wrong), exchanged, staff.trust)
    other = replace(keys, user="alice")
    der = fooled_authority(staff, other, invitation, binding)
    assert "whom it names" in refused(staff, der, other)


def test_only_an_invitation_has_a_binding(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    der = fooled_authority(staff, keys, staff.vouch(staff.alice, keys), bytes(64))
    assert "only an invitation" in refused(staff, der, keys)


def test_another_statement_is_no_proof(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    grant = DeviceGrant(
        claim=keys.claim, roles=CLINICIAN, ends_ms=None, origin=staff.alice.identity.origin
    )
    signer = staff.alice.signs_as(Purpose.DEVICE)
    request = staff.state(StatementType.DEVICE_REQUEST, grant.encode(), signer)
    assert "allowed by" in refused(staff, fooled_authority(staff, keys, request), keys)


def test_a_voucher_passes_on_no_more_than_it_has(staff: Staff) -> None:
    contractor = staff.enrol(
        "carl/phone", staff.ada.signs_as(Purpose.ADMINISTRATOR), ends_ms=NOW_MS + DAY_MS
    )
    recorder = staff.enrol("archive/recorder", roles=frozenset({Role.RECORDER}))
    for voucher, roles, ends_ms, origin, rule in (
        (contractor, CLINICIAN, None, contractor.identity.origin, "ends when"),
        (contractor, CLINICIAN, NOW_MS + 2 * DAY_MS, contractor.identity.origin, "ends when"),
        (staff.alice, ADMINISTRATOR, None, staff.alice.identity.origin, "no role"),
        (staff.alice, CLINICIAN, None, bytes(32), "origin"),
        (recorder, recorder.identity.roles, None, recorder.identity.origin, "no role"),
    ):
        keys = new_keys(voucher.identity.user, "second")
        vouching = staff.grant(
            keys,
            StatementType.DEVICE_VOUCHING,
            voucher.signs_as(Purpose.DEVICE),
            origin=origin,
            roles=roles,
            ends_ms=ends_ms,
        )
        der = fooled_authority(staff, keys, vouching, roles=roles, ends_ms=ends_ms)
        assert rule in refused(staff, der, keys)


def test_a_certificate_carries_no_more_than_its_proof(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    vouching = staff.vouch(staff.alice, keys)
    der = fooled_authority(staff, keys, vouching, roles=ADMINISTRATOR)
    assert "no role" in refused(staff, der, keys)
    der = fooled_authority(staff, keys, vouching, ends_ms=NOW_MS + DAY_MS)
    assert "end date" in refused(staff, der, keys)


def test_an_approval_continues_the_persons_origin(staff: Staff) -> None:
    keys = new_keys("alice", "phone-2")
    approval = staff.grant(
        keys, StatementType.DEVICE_APPROVAL, *staff.administrators, origin=bytes(32)
    )
    der = fooled_authority(staff, keys, approval)
    assert "one first device" in refused(staff, der, keys)


def test_a_proof_is_judged_as_of_when_the_authority_accepted_it(staff: Staff) -> None:
    tablet = tablet_of(staff, staff.alice)
    bare = identity.admit(Trust(root=staff.root), [staff.ada.der, staff.alice.der])
    for revoked_ms, accepted in ((NOW_MS + 1, True), (NOW_MS, False)):
        revocations = Revocations().with_device("alice/phone", at_ms=revoked_ms)
        trust = bare.revoking(revocations)
        if accepted:
            entering(tablet.der, tablet.keys, trust, at_ms=NOW_MS + DAY_MS)
        else:
            with pytest.raises(InvalidError):
                entering(tablet.der, tablet.keys, trust, at_ms=NOW_MS + DAY_MS)


def test_a_proof_that_was_accepted_outside_its_time_is_refused(staff: Staff) -> None:
    keys = new_keys("alice", "tablet")
    early = staff.vouch(staff.alice, keys, at_ms=NOW_MS - 2 * DAY_MS)
    assert "expired" in refused(staff, fooled_authority(staff, keys, early), keys)


# Dates, revocation, and the leaf itself


@pytest.mark.parametrize(
    ("at_ms", "enters"),
    [
        (NOW_MS - CLOCK_SKEW_MS - 1000, False),
        (NOW_MS - CLOCK_SKEW_MS, True),
        (NOW_MS + LIFETIME_MS, True),
        (NOW_MS + LIFETIME_MS + CLOCK_SKEW_MS + 1000, False),
    ],
)
def test_dates_count_on_entering_and_not_for_a_leaf_that_stands(
    staff: Staff, at_ms: int, enters: bool
) -> None:
    key = staff.alice.identity.signature_key
    for trust in (staff.trust, identity.admit(Trust(root=staff.root), [staff.ada.der])):
        standing = identity.verify_standing_leaf([staff.alice.der], signature_key=key, trust=trust)
        assert standing == staff.alice.identity
        if enters:
            assert entering(staff.alice.der, staff.alice.keys, trust, at_ms=at_ms) == standing
        else:
            with pytest.raises(InvalidError):
                entering(staff.alice.der, staff.alice.keys, trust, at_ms=at_ms)


def test_a_certificates_dates_hold_both_their_ends(staff: Staff) -> None:
    alice = staff.alice.identity
    first_ms, last_ms = alice.not_before_ms - CLOCK_SKEW_MS, alice.not_after_ms + CLOCK_SKEW_MS
    held = [alice.is_valid_at(t) for t in (first_ms - 1, first_ms, last_ms, last_ms + 1)]
    assert held == [False, True, True, False]


@pytest.mark.parametrize("by_name", [True, False])
def test_a_revoked_device_neither_enters_nor_stands(staff: Staff, by_name: bool) -> None:
    revocations = (
        Revocations().with_device("alice/phone", at_ms=NOW_MS)
        if by_name
        else Revocations().with_certificate(staff.alice.identity.fingerprint, at_ms=NOW_MS)
    )
    trust = staff.trust.revoking(revocations)
    key = staff.alice.identity.signature_key
    with pytest.raises(InvalidError):
        identity.verify_standing_leaf([staff.alice.der], signature_key=key, trust=trust)
    with pytest.raises(InvalidError):
        entering(staff.alice.der, staff.alice.keys, trust)


def test_a_credential_holds_the_leaf_alone(staff: Staff) -> None:
    key = staff.alice.identity.signature_key
    for chain in ([], [staff.alice.der, staff.root.der], [staff.root.der]):
        with pytest.raises(InvalidError):
            identity.verify_standing_leaf(chain, signature_key=key, trust=staff.trust)


def test_a_leaf_has_the_key_of_its_certificate(staff: Staff) -> None:
    for key in (staff.alice.identity.connection_key, staff.ada.identity.signature_key, b""):
        with pytest.raises(InvalidError):
            identity.verify_standing_leaf([staff.alice.der], signature_key=key, trust=staff.trust)


def test_a_device_of_another_organisation_is_refused(staff: Staff) -> None:
    other = Hospital()
    stranger = other.enrol("alice/phone")
    with pytest.raises(VerificationError):
        entering(stranger.der, stranger.keys, staff.trust)


def test_nothing_of_an_organisation_is_needed_but_its_root_and_the_certificates(
    staff: Staff,
) -> None:
    root = certificate.pin_root(staff.root.der, organisation=staff.organisation)
    trust = identity.admit(Trust(root=root), [staff.ada.der, staff.bob.der, staff.alice.der])
    assert trust.devices == staff.trust.devices
    assert trust.origins == staff.trust.origins


# The body of a vouching or an approval


def test_a_grants_body_re_encodes_and_every_truncation_is_refused() -> None:
    body = GRANT.encode()
    assert proof.decode_grant(body) == GRANT
    for end in range(len(body)):
        with pytest.raises(DecodeError):
            proof.decode_grant(body[:end])


@given(st.integers(0, 130), st.integers(0, 9), st.binary(max_size=9))
def test_any_changed_grant_is_a_documented_error_or_re_encodes(
    at: int, cut: int, put: bytes
) -> None:
    body = GRANT.encode()
    data = body[:at] + put + body[at + cut :]
    try:
        value = proof.decode_grant(data)
    except (DecodeError, InvalidError):
        return
    assert value.encode() == data


def test_a_grant_has_a_whole_origin_and_an_end_that_a_certificate_can_say() -> None:
    with pytest.raises(InvalidError):
        replace(GRANT, origin=bytes(31))
    with pytest.raises(InvalidError):
        replace(GRANT, ends_ms=TIME_MAX_MS + 1)


def test_a_credential_of_the_group_is_verified_as_it_stands_in_the_leaf(staff: Staff) -> None:
    encoded = Credential.x509([staff.alice.der]).encode()
    credential = decode(encoded, "Credential", Credential.read)
    found = identity.verify_standing_leaf(
        credential.certificates,
        signature_key=staff.alice.identity.signature_key,
        trust=staff.trust,
    )
    assert found == staff.alice.identity

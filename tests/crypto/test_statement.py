"""Signed statements: who may say what, for how long, and that none passes for another."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import certificate, codec, statement
from crypto.certificate import DAY_MS, LIFETIME_MS
from crypto.enrolment import REQUEST_LABEL
from crypto.errors import DecodeError, InvalidError, UsageError, VerificationError
from crypto.names import Role
from crypto.proof import BINDING_LABEL
from crypto.statement import (
    RULES,
    STATEMENT_LABEL,
    Purpose,
    Signatory,
    StatementType,
    claimed_statement,
    countersign_statement,
    sign_statement,
    statement_id,
    verify_countersigned_statement,
    verify_outcast_statement,
    verify_statement,
    verify_unfinished_statement,
)
from crypto.trust import CLOCK_SKEW_MS, Revocations
from tests.flipped import flipped

from .hospital import NOW_MS, Device, Hospital, Staff, new_keys

BODY = b"what is said"
STAFF = Staff()
EVE = STAFF.enrol(
    "eve/office", *STAFF.administrators, roles=frozenset({Role.CLINICIAN, Role.OFFICER})
)
RECORDER = STAFF.enrol("archive/recorder", roles=frozenset({Role.RECORDER}))
SIGNERS: dict[Purpose, tuple[Device, ...]] = {
    Purpose.ADMINISTRATOR: (STAFF.ada, STAFF.bob),
    Purpose.OFFICER: (EVE,),
    Purpose.RECORDER: (RECORDER,),
    Purpose.DEVICE: (STAFF.alice, STAFF.bob),
    Purpose.CONNECTION: (STAFF.alice,),
}
FORMS = [(kind, form) for kind, rule in RULES.items() for form in rule.forms]


def signatories(form: tuple[Purpose, ...]) -> list[Signatory]:
    seen = dict.fromkeys(Purpose, 0)
    found = []
    for purpose in form:
        if purpose is Purpose.AUTHORITY:
            found.append(STAFF.authority)
        else:
            found.append(SIGNERS[purpose][seen[purpose]].signs_as(purpose))
        seen[purpose] += 1
    return found


def stated(kind: StatementType, form: tuple[Purpose, ...] | None = None) -> bytes:
    return STAFF.state(kind, BODY, *signatories(form or RULES[kind].forms[0]))


def verified(
    data: bytes, kind: StatementType, *, at_ms: int = NOW_MS
) -> statement.VerifiedStatement:
    return verify_statement(data, expected=kind, trust=STAFF.trust, at_ms=at_ms)


def refused(data: bytes, kind: StatementType, *, at_ms: int = NOW_MS) -> str:
    """Return the rule by which ``data`` is refused."""
    with pytest.raises(InvalidError) as caught:
        verified(data, kind, at_ms=at_ms)
    return caught.value.rule


def unchecked(
    kind: StatementType, *signers: Signatory, issued_ms: int = NOW_MS, lifetime_ms: int = 1000
) -> bytes:
    """Return what signers without scruples would sign."""
    content = statement._Content(
        type=kind,
        organisation=STAFF.organisation,
        nonce=bytes(16),
        issued_ms=issued_ms,
        expires_ms=issued_ms + lifetime_ms,
        body=BODY,
    )
    value = statement._Statement(content=content, signatures=())
    for signer in signers:
        message = statement._signed_bytes(
            value, purpose=signer.purpose, fingerprint=signer.fingerprint
        )
        signature = statement._Signature(
            purpose=signer.purpose,
            fingerprint=signer.fingerprint,
            signature=signer.key.sign(message),
        )
        value = replace(value, signatures=(*value.signatures, signature))
    return value.encode()


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_every_permitted_form_of_every_type_verifies(
    kind: StatementType, form: tuple[Purpose, ...]
) -> None:
    data = stated(kind, form)
    found = verified(data, kind)
    assert (found.type, found.body) == (kind, BODY)
    assert tuple(signer.purpose for signer in found.signers) == form
    assert statement.statement_signers(data) == tuple(s.fingerprint for s in found.signers)
    assert found.id == statement.statement_id(data)
    assert found.expires_ms - found.issued_ms == RULES[kind].lifetime_ms
    assert found.replay_until_ms == found.expires_ms + CLOCK_SKEW_MS


@pytest.mark.parametrize(("kind", "other"), list(itertools.permutations(StatementType, 2)))
def test_no_type_of_statement_passes_for_another(kind: StatementType, other: StatementType) -> None:
    data = stated(kind)
    assert "another type" in refused(data, other)
    renamed = data[:1] + codec.u16(other) + data[3:]
    with pytest.raises((InvalidError, VerificationError)):
        verified(renamed, other)


def test_no_kind_of_signed_bytes_begins_as_another_does() -> None:
    labels = (STATEMENT_LABEL, REQUEST_LABEL, BINDING_LABEL, b"MLS 1.0 LeafNodeTBS")
    beginnings = [
        *(codec.opaque(label) for label in labels),
        certificate._split(STAFF.alice.der)[0][:1],
        b"cosignature/v1\n",
    ]
    for one, other in itertools.permutations(beginnings, 2):
        assert not one.startswith(other)


@pytest.mark.parametrize(
    ("kind", "purpose"),
    [
        (kind, purpose)
        for kind in StatementType
        for purpose in Purpose
        if (purpose,) not in RULES[kind].forms
    ],
)
def test_a_signer_of_no_permitted_purpose_is_refused(kind: StatementType, purpose: Purpose) -> None:
    (signatory,) = signatories((purpose,))
    assert "signatures" in refused(unchecked(kind, signatory), kind)


@pytest.mark.parametrize("purpose", [Purpose.ADMINISTRATOR, Purpose.OFFICER, Purpose.RECORDER])
def test_a_signer_without_the_role_is_refused(purpose: Purpose) -> None:
    kind = next(kind for kind, rule in RULES.items() if (purpose,) in rule.forms)
    assert "role" in refused(unchecked(kind, STAFF.alice.signs_as(purpose)), kind)


def test_a_statement_without_signature_is_refused() -> None:
    data = unchecked(StatementType.COMMAND)
    assert "signatures" in refused(data, StatementType.COMMAND)
    with pytest.raises(InvalidError):
        verify_unfinished_statement(
            data, expected=StatementType.COMMAND, trust=STAFF.trust, at_ms=NOW_MS
        )


def test_only_the_root_is_the_authority() -> None:
    impostor = replace(STAFF.authority, fingerprint=STAFF.ada.identity.fingerprint)
    assert "root" in refused(unchecked(StatementType.COMMAND, impostor), StatementType.COMMAND)
    impostor = replace(STAFF.authority, key=STAFF.ada.keys.signature_key)
    with pytest.raises(VerificationError):
        verified(unchecked(StatementType.COMMAND, impostor), StatementType.COMMAND)


def test_the_root_is_no_device() -> None:
    signatory = replace(STAFF.authority, purpose=Purpose.DEVICE)
    data = unchecked(StatementType.DEVICE_REQUEST, signatory)
    assert "known device" in refused(data, StatementType.DEVICE_REQUEST)


def test_a_signer_whom_nobody_knows_is_refused_and_can_be_looked_up() -> None:
    stranger = replace(STAFF.ada.signs_as(Purpose.ADMINISTRATOR), fingerprint=bytes(32))
    data = unchecked(StatementType.COMMAND, stranger)
    assert "known device" in refused(data, StatementType.COMMAND)
    assert statement.statement_signers(data) == (bytes(32),)


def test_the_connection_key_signs_only_as_such() -> None:
    keys = STAFF.alice.keys
    as_connection = STAFF.alice.signs_as(Purpose.CONNECTION)
    for signatory, kind in (
        (replace(as_connection, key=keys.signature_key), StatementType.WIPE_RECEIPT),
        (replace(as_connection, purpose=Purpose.DEVICE), StatementType.DEVICE_REQUEST),
    ):
        with pytest.raises(VerificationError):
            verified(unchecked(kind, signatory), kind)


@pytest.mark.parametrize(
    ("at_ms", "rule"),
    [
        (NOW_MS - CLOCK_SKEW_MS - 1, "future"),
        (NOW_MS - CLOCK_SKEW_MS, None),
        (NOW_MS + DAY_MS + CLOCK_SKEW_MS, None),
        (NOW_MS + DAY_MS + CLOCK_SKEW_MS + 1, "expired"),
    ],
)
def test_a_statement_counts_in_its_time_only(at_ms: int, rule: str | None) -> None:
    data = stated(StatementType.SUSPENSION, (Purpose.AUTHORITY,))
    if rule is None:
        verified(data, StatementType.SUSPENSION, at_ms=at_ms)
    else:
        assert rule in refused(data, StatementType.SUSPENSION, at_ms=at_ms)


@pytest.mark.parametrize("lifetime_ms", [0, -1, DAY_MS + 1])
def test_a_life_beyond_the_types_is_refused(lifetime_ms: int) -> None:
    data = unchecked(StatementType.COMMAND, STAFF.authority, lifetime_ms=lifetime_ms)
    assert "allows" in refused(data, StatementType.COMMAND)


def test_a_statement_of_another_organisation_is_refused() -> None:
    other = Hospital()
    data = other.state(StatementType.COMMAND, BODY, other.authority)
    assert "organisation" in refused(data, StatementType.COMMAND)


def test_two_devices_of_one_administrator_are_one_signature() -> None:
    staff = Staff()
    keys = new_keys("ada", "laptop")
    vouching = staff.grant(
        keys,
        StatementType.DEVICE_VOUCHING,
        staff.ada.signs_as(Purpose.DEVICE),
        origin=staff.ada.identity.origin,
        roles=staff.ada.identity.roles,
    )
    laptop = staff.issue(keys, staff.request(keys, vouching))
    with pytest.raises(InvalidError) as caught:
        verify_statement(
            staff.state(
                StatementType.DEVICE_APPROVAL,
                BODY,
                staff.ada.signs_as(Purpose.ADMINISTRATOR),
                laptop.signs_as(Purpose.ADMINISTRATOR),
            ),
            expected=StatementType.DEVICE_APPROVAL,
            trust=staff.trust,
            at_ms=NOW_MS,
        )
    assert "different people" in caught.value.rule


def revoking(name: str, at_ms: int) -> Revocations:
    return Revocations().with_device(name, at_ms=at_ms)


def test_a_revoked_signer_counts_for_what_was_signed_before() -> None:
    data = stated(StatementType.COMMAND, (Purpose.ADMINISTRATOR,))
    trust = STAFF.trust.revoking(revoking("ada/desk", NOW_MS + 10))
    kind = StatementType.COMMAND
    verify_statement(data, expected=kind, trust=trust, at_ms=NOW_MS + 9)
    with pytest.raises(InvalidError):
        verify_statement(data, expected=kind, trust=trust, at_ms=NOW_MS + 10)


def test_a_revoked_and_stolen_key_cannot_date_a_command_back() -> None:
    revoked_ms = NOW_MS + DAY_MS
    data = STAFF.state(
        StatementType.COMMAND, BODY, *signatories((Purpose.ADMINISTRATOR,)), at_ms=revoked_ms - 5
    )
    with pytest.raises(InvalidError):
        verify_statement(
            data,
            expected=StatementType.COMMAND,
            trust=STAFF.trust.revoking(revoking("ada/desk", revoked_ms)),
            at_ms=revoked_ms + 5,
        )


def test_a_signer_signs_within_its_certificates_dates() -> None:
    for at_ms in (NOW_MS - CLOCK_SKEW_MS - DAY_MS, NOW_MS + LIFETIME_MS + CLOCK_SKEW_MS + DAY_MS):
        (signatory,) = signatories((Purpose.ADMINISTRATOR,))
        data = unchecked(StatementType.COMMAND, signatory, issued_ms=at_ms)
        assert "valid when it signs" in refused(data, StatementType.COMMAND, at_ms=at_ms)


def test_a_wipe_order_outlives_the_certificate_of_who_signed_it() -> None:
    data = stated(StatementType.WIPE_ORDER)
    found = verified(data, StatementType.WIPE_ORDER, at_ms=NOW_MS + 3 * LIFETIME_MS)
    assert found.signers[0].identity == STAFF.ada.identity
    assert found.signers[1].identity is None


def test_the_authority_does_not_countersign_for_a_revoked_administrator() -> None:
    data = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    with pytest.raises(InvalidError):
        countersign_statement(
            data,
            trust=STAFF.trust.revoking(revoking("ada/desk", NOW_MS)),
            at_ms=NOW_MS,
            signatory=STAFF.authority,
        )


def test_an_unfinished_wipe_order_is_no_wipe_order() -> None:
    data = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    assert "signatures" in refused(data, StatementType.WIPE_ORDER)
    found = verify_unfinished_statement(
        data, expected=StatementType.WIPE_ORDER, trust=STAFF.trust, at_ms=NOW_MS
    )
    assert found.statement.body == BODY


def test_an_unfinished_statement_is_checked_as_a_complete_one_is() -> None:
    kind = StatementType.WIPE_ORDER
    ada = STAFF.ada.signs_as(Purpose.ADMINISTRATOR)
    data = STAFF.state(kind, BODY, ada)
    other = Hospital()
    for expected, trust, at_ms in (
        (StatementType.SUSPENSION, STAFF.trust, NOW_MS),
        (StatementType.COMMAND, STAFF.trust, NOW_MS),
        (kind, other.trust, NOW_MS),
        (kind, STAFF.trust, NOW_MS - CLOCK_SKEW_MS - 1),
        (kind, STAFF.trust, NOW_MS + RULES[kind].lifetime_ms + CLOCK_SKEW_MS + 1),
        (kind, STAFF.trust, NOW_MS + LIFETIME_MS + CLOCK_SKEW_MS),
        (kind, STAFF.trust.revoking(revoking("ada/desk", NOW_MS)), NOW_MS),
    ):
        with pytest.raises(InvalidError):
            verify_unfinished_statement(data, expected=expected, trust=trust, at_ms=at_ms)
    for signatory in (ada, replace(ada, fingerprint=STAFF.alice.identity.fingerprint)):
        command = unchecked(StatementType.COMMAND, signatory)
        with pytest.raises(InvalidError):
            verify_unfinished_statement(command, expected=kind, trust=STAFF.trust, at_ms=NOW_MS)
    long = unchecked(kind, ada, lifetime_ms=RULES[kind].lifetime_ms + 1)
    foreign = replace(
        codec.decode(data, "Statement", statement._read_statement).content,
        organisation=other.organisation,
    )
    resigned = statement._signed(statement._Statement(content=foreign, signatures=()), ada)
    for data in (long, resigned.encode()):
        with pytest.raises(InvalidError):
            verify_unfinished_statement(data, expected=kind, trust=STAFF.trust, at_ms=NOW_MS)


def test_a_complete_statement_is_not_unfinished() -> None:
    data = stated(StatementType.WIPE_ORDER)
    with pytest.raises(InvalidError):
        verify_unfinished_statement(
            data, expected=StatementType.WIPE_ORDER, trust=STAFF.trust, at_ms=NOW_MS
        )
    with pytest.raises(InvalidError):
        countersign_statement(data, trust=STAFF.trust, at_ms=NOW_MS, signatory=STAFF.authority)


@pytest.mark.parametrize("kind", [kind for kind in StatementType if RULES[kind].outcast])
@pytest.mark.parametrize("late_ms", [0, 3 * LIFETIME_MS])
def test_a_revoked_or_expired_device_is_heard_and_nothing_else(
    kind: StatementType, late_ms: int
) -> None:
    at_ms = NOW_MS + late_ms
    (signatory,) = signatories((Purpose.CONNECTION,))
    data = STAFF.state(kind, BODY, signatory, at_ms=at_ms)
    trust = STAFF.trust.revoking(revoking("alice/phone", NOW_MS))
    with pytest.raises(InvalidError):
        verify_statement(data, expected=kind, trust=trust, at_ms=at_ms)
    found = verify_outcast_statement(data, expected=kind, trust=trust, at_ms=at_ms)
    assert found.statement.signers[0].identity == STAFF.alice.identity
    forged = flipped(data)
    with pytest.raises(VerificationError):
        verify_outcast_statement(forged, expected=kind, trust=trust, at_ms=at_ms)
    for other in (NOW_MS - DAY_MS, at_ms + 100 * DAY_MS):
        with pytest.raises(InvalidError):
            verify_outcast_statement(data, expected=kind, trust=trust, at_ms=other)


def test_an_outcasts_statement_is_complete() -> None:
    data = unchecked(StatementType.WIPE_RECEIPT)
    with pytest.raises(InvalidError):
        verify_outcast_statement(
            data, expected=StatementType.WIPE_RECEIPT, trust=STAFF.trust, at_ms=NOW_MS
        )


def test_only_what_a_device_says_of_its_wipe_comes_from_an_outcast() -> None:
    outcast = {kind for kind in StatementType if RULES[kind].outcast}
    assert outcast == {StatementType.WIPE_DELIVERY, StatementType.WIPE_RECEIPT}
    for kind in set(StatementType) - outcast:
        with pytest.raises(UsageError):
            verify_outcast_statement(stated(kind), expected=kind, trust=STAFF.trust, at_ms=NOW_MS)


def test_a_countersignature_covers_the_signatures_before_it() -> None:
    kind = StatementType.WIPE_ORDER
    value = codec.decode(stated(kind), "Statement", statement._read_statement)
    bob = STAFF.bob.signs_as(Purpose.ADMINISTRATOR)
    bare = statement._Statement(content=value.content, signatures=())
    swapped = statement._signed(bare, bob).signatures + value.signatures[1:]
    with pytest.raises(VerificationError):
        verified(replace(value, signatures=swapped).encode(), kind)


def test_the_id_stays_when_signatures_are_added_and_differs_for_equal_words() -> None:
    first = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    second = countersign_statement(
        first, trust=STAFF.trust, at_ms=NOW_MS, signatory=STAFF.authority
    )
    assert statement.statement_id(first) == statement.statement_id(second)
    assert statement.statement_id(first) != statement.statement_id(stated(StatementType.WIPE_ORDER))


@pytest.mark.parametrize("kind", [StatementType.COMMAND, StatementType.WIPE_ORDER])
def test_every_flipped_bit_and_every_truncation_of_a_statement_is_refused(
    kind: StatementType,
) -> None:
    data = stated(kind)
    for at in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises((DecodeError, InvalidError, VerificationError)):
            verified(bytes(flipped), kind)
    for end in range(len(data)):
        with pytest.raises((DecodeError, InvalidError)):
            verified(data[:end], kind)
    with pytest.raises(DecodeError):
        verified(data + b"\x00", kind)


@given(st.binary(max_size=400) | st.binary(max_size=60).map(lambda b: b"\x01\x00\x05" + b))
def test_any_bytes_are_a_documented_error_or_re_encode(data: bytes) -> None:
    try:
        value = codec.decode(data, "Statement", statement._read_statement)
    except DecodeError:
        return
    assert value.encode() == data


@given(
    st.sampled_from(StatementType),
    st.binary(max_size=100),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(st.tuples(st.sampled_from(Purpose), st.binary(min_size=64, max_size=64)), max_size=3),
)
def test_any_wellformed_statement_re_encodes_and_is_refused_for_a_documented_reason(
    kind: StatementType,
    body: bytes,
    issued_ms: int,
    expires_ms: int,
    signatures: list[tuple[Purpose, bytes]],
) -> None:
    value = statement._Statement(
        content=statement._Content(
            type=kind,
            organisation=STAFF.organisation,
            nonce=bytes(16),
            issued_ms=issued_ms,
            expires_ms=expires_ms,
            body=body,
        ),
        signatures=tuple(
            statement._Signature(
                purpose=purpose, fingerprint=STAFF.ada.identity.fingerprint, signature=signature
            )
            for purpose, signature in signatures
        ),
    )
    data = value.encode()
    assert codec.decode(data, "Statement", statement._read_statement) == value
    with pytest.raises((InvalidError, VerificationError)):
        verified(data, kind)


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_what_a_statement_claims_is_read_without_being_verified(
    kind: StatementType, form: tuple[Purpose, ...]
) -> None:
    data = stated(kind, form)
    claimed = claimed_statement(flipped(data))
    assert (claimed.type, claimed.body, claimed.purposes) == (kind, BODY, form)
    assert claimed.id == verified(data, kind).id
    assert (claimed.issued_ms, claimed.expires_ms) == (NOW_MS, NOW_MS + RULES[kind].lifetime_ms)
    assert claimed.is_finished
    with pytest.raises(DecodeError):
        claimed_statement(data[:-1])


def test_a_wipe_order_without_the_authority_claims_to_be_unfinished() -> None:
    order = stated(StatementType.WIPE_ORDER, (Purpose.ADMINISTRATOR,))
    assert not claimed_statement(order).is_finished


def test_a_signer_cannot_sign_out_of_turn() -> None:
    data = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    with pytest.raises(UsageError):
        countersign_statement(
            data,
            trust=STAFF.trust,
            at_ms=NOW_MS,
            signatory=STAFF.alice.signs_as(Purpose.DEVICE),
        )
    with pytest.raises(UsageError):
        STAFF.state(StatementType.VOID, BODY, STAFF.alice.signs_as(Purpose.DEVICE))


@pytest.mark.parametrize(
    ("organisation", "issued_ms", "lifetime_ms"),
    [
        (bytes(32), NOW_MS, 0),
        (bytes(32), NOW_MS, DAY_MS + 1),
        (bytes(31), NOW_MS, 1000),
        (bytes(32), -1, 1000),
    ],
)
def test_our_own_caller_cannot_sign_what_no_one_would_accept(
    organisation: bytes, issued_ms: int, lifetime_ms: int
) -> None:
    with pytest.raises(UsageError):
        sign_statement(
            StatementType.COMMAND,
            BODY,
            organisation=organisation,
            issued_ms=issued_ms,
            lifetime_ms=lifetime_ms,
            signatory=STAFF.authority,
        )


def test_every_type_has_rules_and_no_form_repeats() -> None:
    assert set(RULES) == set(StatementType)
    for rule in RULES.values():
        assert rule.forms
        assert len(set(rule.forms)) == len(rule.forms)


def test_no_repr_shows_a_body_or_a_key() -> None:
    found = verified(stated(StatementType.COMMAND), StatementType.COMMAND)
    shown = repr((found, found.signers, STAFF.authority))
    assert "said" not in shown
    assert STAFF.authority_key.seed.hex() not in shown


# Countersigned.


def countersigned_order() -> bytes:
    data = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    return countersign_statement(data, trust=STAFF.trust, at_ms=NOW_MS, signatory=STAFF.authority)


def test_the_root_alone_verifies_what_the_authority_has_signed_last() -> None:
    data = countersigned_order()
    found = verify_countersigned_statement(
        data, expected=StatementType.WIPE_ORDER, root=STAFF.trust.root, at_ms=NOW_MS
    )
    assert (found.body, found.id) == (BODY, statement_id(data))


def test_what_the_authority_has_not_signed_last_is_not_countersigned() -> None:
    single = STAFF.state(StatementType.WIPE_ORDER, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    command = STAFF.state(StatementType.COMMAND, BODY, STAFF.ada.signs_as(Purpose.ADMINISTRATOR))
    genuine, root = countersigned_order(), STAFF.trust.root
    order = StatementType.WIPE_ORDER
    late = NOW_MS + RULES[order].lifetime_ms + CLOCK_SKEW_MS + 1
    for data, expected, asked, at_ms in (
        (single, order, root, NOW_MS),
        (command, StatementType.COMMAND, root, NOW_MS),
        (genuine, StatementType.COMMAND, root, NOW_MS),
        (genuine, order, Hospital().trust.root, NOW_MS),
        (genuine, order, root, late),
    ):
        with pytest.raises(InvalidError):
            verify_countersigned_statement(data, expected=expected, root=asked, at_ms=at_ms)
    forged = flipped(genuine)
    with pytest.raises(VerificationError):
        verify_countersigned_statement(forged, expected=order, root=root, at_ms=NOW_MS)

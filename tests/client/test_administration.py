"""What administrators sign: what is made here is what the protocol's own readers accept."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import administration
from client.administration import Act, armoured, described, unarmoured
from client.link import Address
from client.views import Control
from crypto import certificate, identity, invitation
from crypto.certificate import DAY_MS
from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.names import Role
from crypto.statement import Signatory, claimed_statement, verify_statement
from crypto.statement_types import RULES, Purpose, StatementType
from crypto.trust import CLOCK_SKEW_MS
from protocol.commands import SetPolicy, WipeReason, decode_command, decode_wipe_order
from protocol.device_codes import application_text, read_grant_text
from protocol.identifiers import ConversationId, DeviceId, OrganisationId, RoleName
from protocol.policy import Action, Policy
from tests.crypto.hospital import CLINICIAN, NOW_MS, Staff, new_keys

STAFF = Staff()
ADDRESS = Address(
    host="relay.example.org",
    port=443,
    tls_pin=bytes(32),
    organisation=OrganisationId(STAFF.organisation),
)


def signed(act: Act, *signatories: Signatory) -> bytes:
    return STAFF.state(act.kind, act.body, *signatories)


def administrators(count: int) -> tuple[Signatory, ...]:
    return STAFF.administrators[:count]


def words(act: Act, signers: int = 1) -> str:
    return "\n".join(described(signed(act, *administrators(signers))).lines)


def test_an_invited_person_enrols_with_the_link_alone() -> None:
    made = administration.invite("carol", roles=CLINICIAN, ends_ms=None, address=ADDRESS)
    link = invitation.decode_link(made.link)
    assert (link.host, link.port, link.organisation) == (
        "relay.example.org",
        443,
        STAFF.organisation,
    )
    keys = new_keys("carol", "phone")
    allowing = signed(made.act, *administrators(made.act.administrators))
    device = STAFF.issue(keys, STAFF.request(keys, allowing, link=link))
    assert device.identity.roles == CLINICIAN


def noted(statement: bytes, *, verified: bool = True) -> Control:
    kind = claimed_statement(statement).type
    return Control(sequence=1, at_ms=NOW_MS, type=kind, statement=statement, verified=verified)


def test_whoever_was_invited_and_not_removed_is_in_the_house_whether_met_or_not() -> None:
    made = {
        user: administration.invite(user, roles=roles, ends_ms=None, address=ADDRESS).act
        for user, roles in [
            ("olga", frozenset({Role.OFFICER})),
            ("carol", CLINICIAN),
            ("dora", CLINICIAN),
            ("eve", CLINICIAN),
        ]
    }
    log = [
        noted(signed(act, *administrators(act.administrators)), verified=user != "eve")
        for user, act in made.items()
    ]
    assert administration.invited(log) == ["carol", "dora", "olga"]
    left = noted(signed(administration.remove_person("dora"), *administrators(1)))
    unreadable = noted(STAFF.state(StatementType.INVITATION, b"", *administrators(1)))
    assert administration.invited([*log, left, unreadable]) == ["carol", "olga"]


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.OFFICER])
def test_an_administrator_or_officer_is_invited_by_two(role: Role) -> None:
    roles = frozenset({Role.CLINICIAN, role})
    act = administration.invite("dora", roles=roles, ends_ms=None, address=ADDRESS).act
    assert act.administrators == 2
    assert not described(signed(act, *administrators(1))).finished
    assert described(signed(act, *administrators(2))).finished


@pytest.mark.parametrize(
    "roles", [frozenset(), frozenset({Role.RECORDER}), frozenset({Role.WITNESS})]
)
def test_administrators_invite_no_recorder_no_witness_and_nobody_without_a_role(
    roles: frozenset[Role],
) -> None:
    with pytest.raises(InvalidError):
        administration.invite("eve", roles=roles, ends_ms=None, address=ADDRESS)


def test_two_links_are_never_the_same() -> None:
    links = {
        administration.invite("carol", roles=CLINICIAN, ends_ms=None, address=ADDRESS).link
        for _ in range(8)
    }
    assert len(links) == 8


def test_no_repr_shows_a_link_or_what_is_signed() -> None:
    made = administration.invite("carol", roles=CLINICIAN, ends_ms=None, address=ADDRESS)
    shown = repr(made) + repr(made.act) + repr(described(signed(made.act, *administrators(1))))
    assert made.link not in shown
    assert "carol" not in shown


def test_an_approved_device_continues_its_persons_origin_and_roles() -> None:
    hospital = Staff()
    keys = new_keys("alice", "new-phone")
    act = administration.approve_device(keys.claim, of=hospital.alice.identity, ends_ms=None)
    statement = hospital.state(act.kind, act.body, *hospital.administrators)
    device = hospital.issue(keys, hospital.request(keys, statement))
    assert device.identity.origin == hospital.alice.identity.origin
    assert device.identity.roles == hospital.alice.identity.roles
    one = hospital.state(act.kind, act.body, hospital.administrators[0])
    with pytest.raises(InvalidError):
        hospital.issue(keys, hospital.request(keys, one))


def test_a_contractor_who_is_back_ends_at_the_new_date_and_stays_the_same_person() -> None:
    hospital = Staff()
    ada = hospital.ada.signs_as(Purpose.ADMINISTRATOR)
    former = hospital.enrol("carl/phone", ada, ends_ms=NOW_MS + DAY_MS)
    back_ms, ends_ms = NOW_MS + 20 * DAY_MS, NOW_MS + 40 * DAY_MS
    keys = new_keys("carl", "back")
    act = administration.approve_device(keys.claim, of=former.identity, ends_ms=ends_ms)
    statement = hospital.state(act.kind, act.body, *hospital.administrators, at_ms=back_ms)
    back = hospital.issue(keys, hospital.request(keys, statement, at_ms=back_ms), at_ms=back_ms)
    assert not former.identity.is_valid_at(back_ms)
    assert back.identity.is_valid_at(back_ms)
    assert (back.identity.ends_ms, back.identity.origin) == (ends_ms, former.identity.origin)
    assert not back.identity.is_valid_at(ends_ms + CLOCK_SKEW_MS + 1)
    one = hospital.state(act.kind, act.body, hospital.administrators[0], at_ms=back_ms)
    with pytest.raises(InvalidError):
        hospital.issue(keys, hospital.request(keys, one, at_ms=back_ms), at_ms=back_ms)
    kept = administration.approve_device(keys.claim, of=former.identity, ends_ms=NOW_MS + DAY_MS)
    late = hospital.state(kept.kind, kept.body, *hospital.administrators, at_ms=back_ms)
    with pytest.raises(InvalidError):
        hospital.issue(keys, hospital.request(keys, late, at_ms=back_ms), at_ms=back_ms)


def test_a_device_is_approved_for_its_own_person_alone() -> None:
    with pytest.raises(InvalidError):
        administration.approve_device(
            new_keys("bob", "x").claim, of=STAFF.alice.identity, ends_ms=None
        )


def test_a_further_device_is_let_in_by_text_and_keeps_origin_and_roles() -> None:
    hospital = Staff()
    keys = new_keys("alice", "tablet")
    claim = administration.applicant(application_text(keys.claim))
    act = administration.vouch(claim, by=hospital.alice.identity)
    statement = hospital.state(act.kind, act.body, hospital.alice.signs_as(Purpose.DEVICE))
    grant = read_grant_text(administration.granted(statement, address=ADDRESS))
    assert (grant.host, grant.port, grant.statement) == (ADDRESS.host, ADDRESS.port, statement)
    device = hospital.issue(keys, hospital.request(keys, grant.statement))
    assert device.identity.origin == hospital.alice.identity.origin
    with pytest.raises(InvalidError):
        administration.vouch(new_keys("bob", "x").claim, by=hospital.alice.identity)


def test_a_wipe_names_the_devices_own_key_and_why() -> None:
    act = administration.wipe(STAFF.alice.identity, WipeReason.STOLEN)
    order = decode_wipe_order(act.body)
    assert order.device == "alice/phone"
    assert order.connection_key == STAFF.alice.keys.connection_key.public_key
    assert order.reason is WipeReason.STOLEN
    one = signed(act, *administrators(1))
    complete = signed(act, *administrators(1), STAFF.authority)
    assert not described(one).finished
    assert described(complete).finished
    verify_statement(complete, expected=act.kind, trust=STAFF.trust, at_ms=NOW_MS)


def test_a_policy_changes_one_right_and_counts_up() -> None:
    policy = Policy(version=4, rights={Action.ATTACH: frozenset({Role.CLINICIAN, Role.RECORDER})})
    roles = frozenset({Role.CLINICIAN, Role.OFFICER, Role.ADMINISTRATOR, Role.RECORDER})
    act = administration.allow(policy, Action.SEND, roles)
    command = decode_command(act.body)
    assert isinstance(command, SetPolicy)
    assert command.policy.version == 5
    assert command.policy.rights == {**policy.rights, Action.SEND: roles}
    with pytest.raises(InvalidError):
        administration.allow(policy, Action.SEND, frozenset({Role.CLINICIAN}))


def test_words_name_the_roles_that_administrators_grant_and_no_others() -> None:
    assert administration.roles_of(["clinician", " Officer "]) == {Role.CLINICIAN, Role.OFFICER}
    assert "recorder" not in administration.grantable()
    for bad in ([], ["recorder"], ["witness"], ["nurse"], [""]):
        with pytest.raises(InvalidError):
            administration.roles_of(bad)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (administration.remove_person("carol"), "removes carol"),
        (administration.reset_account("carol"), "carol set password"),
        (administration.hold_role(RoleName("icu"), ["bob", "ann", "bob"]), "ann, bob"),
        (administration.hold_role(RoleName("icu"), []), "nobody"),
        (administration.name_person("carol", display_name="Dr. C", ward="W4"), "Dr. C, W4"),
        (
            administration.change_members(ConversationId(bytes(32)), add=["ann"], remove=[]),
            "adds ann, removes nobody",
        ),
        (
            administration.allow(
                Policy(), Action.LOOK_UP, frozenset({Role.CLINICIAN, Role.RECORDER})
            ),
            "look-up: clinician, recorder",
        ),
        (administration.suspend([DeviceId("a/b")]), "suspends a/b"),
        (administration.suspend([DeviceId("a/b")], lifted=True), "lifts the suspension of a/b"),
        (
            administration.wipe(STAFF.alice.identity, WipeReason.LOST),
            "alice/phone, because it is lost",
        ),
    ],
)
def test_the_second_signer_reads_what_is_signed(act: Act, said: str) -> None:
    assert said in words(act)


def test_an_invitation_and_a_devices_key_are_read_by_the_second_signer() -> None:
    invited = administration.invite("carol", roles=CLINICIAN, ends_ms=NOW_MS, address=ADDRESS)
    assert "invites carol as clinician" in words(invited.act)
    assert "ends 2027" in words(invited.act)
    keys = new_keys("alice", "new")
    approval = words(
        administration.approve_device(keys.claim, of=STAFF.alice.identity, ends_ms=None)
    )
    assert keys.signature_key.public_key.hex() in approval
    assert "alice/new" in approval


def test_nobody_is_changed_or_suspended_by_an_empty_list() -> None:
    with pytest.raises(InvalidError):
        administration.change_members(ConversationId(bytes(32)), add=[], remove=[])
    with pytest.raises(InvalidError):
        administration.suspend([])


def test_commands_are_accepted_with_one_administrators_signature() -> None:
    act = administration.remove_person("carol")
    verified = verify_statement(
        signed(act, *administrators(1)),
        expected=StatementType.COMMAND,
        trust=STAFF.trust,
        at_ms=NOW_MS + RULES[act.kind].lifetime_ms,
    )
    assert verified.signers[0].purpose is Purpose.ADMINISTRATOR


@given(st.binary(max_size=600), st.text(max_size=20), st.text(max_size=20))
def test_armour_carries_any_statement_through_any_text(
    statement: bytes, before: str, after: str
) -> None:
    text = before + armoured(statement) + after
    if administration.ARMOUR_BEGIN not in before:
        assert unarmoured(text) == statement
    assert unarmoured("> ".join(["", armoured(statement).replace("\n", "\r\n")])) == statement


@pytest.mark.parametrize(
    "text",
    [
        "",
        administration.ARMOUR_BEGIN,
        f"{administration.ARMOUR_BEGIN}\n%%%\n{administration.ARMOUR_END}",
        f"{administration.ARMOUR_BEGIN}\nQUJ\n{administration.ARMOUR_END}",
        f"{administration.ARMOUR_END}\nQUJD\n{administration.ARMOUR_BEGIN}",
    ],
)
def test_damaged_armour_is_a_documented_error(text: str) -> None:
    with pytest.raises(DecodeError):
        unarmoured(text)


@given(st.binary(max_size=300), st.sampled_from(StatementType))
def test_describing_any_bytes_gives_words_or_a_documented_error(
    data: bytes, kind: StatementType
) -> None:
    with contextlib.suppress(DecodeError):
        described(data)
    form = RULES[kind].forms[0]
    if form[0] in (Purpose.ADMINISTRATOR, Purpose.AUTHORITY):
        signer = STAFF.authority if form[0] is Purpose.AUTHORITY else STAFF.administrators[0]
        assert described(STAFF.state(kind, data, signer, lifetime_ms=1000)).lines


def test_nobody_is_asked_to_sign_what_cannot_be_read() -> None:
    statement = STAFF.state(StatementType.COMMAND, b"\xff", STAFF.administrators[0])
    said = described(statement)
    assert said.lines[0] == administration.UNREADABLE
    assert not said.finished


def test_a_link_of_another_organisation_is_refused_by_the_authority() -> None:
    other = Staff()
    made = administration.invite("carol", roles=CLINICIAN, ends_ms=None, address=ADDRESS)
    keys = new_keys("carol", "phone")
    allowing = signed(made.act, *administrators(1))
    request = other.request(keys, allowing, link=invitation.decode_link(made.link))
    with pytest.raises((InvalidError, VerificationError)):
        other.issue(keys, request)


def test_what_is_certified_by_an_invitation_verifies_for_every_client() -> None:
    made = administration.invite("frank", roles=CLINICIAN, ends_ms=None, address=ADDRESS)
    keys = new_keys("frank", "phone")
    link = invitation.decode_link(made.link)
    device = STAFF.issue(keys, STAFF.request(keys, signed(made.act, *administrators(1)), link=link))
    leaf = certificate.decode_certificate(device.der, root=STAFF.root)
    assert leaf.claim.user == "frank"
    identity.verify_entering_leaf(
        [device.der],
        signature_key=keys.signature_key.public_key,
        trust=STAFF.trust,
        at_ms=NOW_MS,
    )

"""The authority: what it certifies, what it refuses, and what it decides but once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archive import configuration, founding
from archive.authority import (
    LIST_AGE_MS,
    MINUTE_MS,
    WIPE_INTERVAL_MS,
    Address,
    Authority,
    Invited,
    Refusal,
)
from archive.authority_store import AuthorityStore, Outgoing, OutgoingKind
from archive.configuration import ConfigurationError, RelaySettings
from archive.errors import DamagedError
from archive.founding import RECORDER, Plan, found
from crypto.certificate import DAY_MS, decode_certificate, fingerprint
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.errors import CryptoError, InvalidError, UsageError, VerificationError
from crypto.invitation import decode_link
from crypto.names import Role
from crypto.note import SignatureType, SignerKey
from crypto.proof import bind_invitation
from crypto.revocation import verify_revocation_list
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    claimed_statement,
    countersign_statement,
    sign_statement,
    verify_statement,
)
from protocol.commands import (
    RemoveUser,
    SetLogPolicy,
    Suspension,
    WipeOrder,
    WipeReason,
    decode_command,
)
from protocol.identifiers import DeviceId, UserName
from tests.flipped import flipped

NOW_MS = 1_800_000_000_000
AT = Address(host="relay.example", port=8443, tls_pin=bytes(32))
PLAN = Plan(
    name="St. Elsewhere",
    relay=RelaySettings(host=AT.host, port=AT.port, pin=AT.tls_pin.hex()),
    administrators=["ada", "bo"],
    officers=["o1", "o2", "o3", "o4"],
    k=2,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "archive" / "archive.toml"
    found(path, PLAN, now_ms=NOW_MS)
    return path


def opened(file: Path) -> AuthorityStore:
    files = founding.files_of(file, configuration.read(file))
    return AuthorityStore(files.authority, founding.database_key(files))


@pytest.fixture
def store(file: Path) -> Iterator[AuthorityStore]:
    store = opened(file)
    yield store
    store.close()


@pytest.fixture
def authority(store: AuthorityStore) -> Authority:
    authority = Authority(store)
    for outgoing in authority.outgoing():
        authority.handed_in(outgoing.number)
    return authority


class Enrolled:
    """A device with its keys."""

    def __init__(
        self, authority: Authority, name: str, *roles: Role, ends_ms: int | None = None
    ) -> None:
        user, device = name.split("/")
        self.keys = DeviceKeys(
            user=user,
            device=device,
            signature_key=SigningKey.generate(),
            connection_key=SigningKey.generate(),
        )
        invited = authority.invite(user, roles, at=AT, now_ms=NOW_MS, ends_ms=ends_ms)
        self.statement = invited.statement
        self.binding = bind_invitation(
            invited.statement, claim=self.keys.claim, key=invited.link.key
        )
        self.request = self.asking(authority, NOW_MS)
        self.certificate = authority.certify(self.request, now_ms=NOW_MS)

    def asking(self, authority: Authority, at_ms: int) -> bytes:
        return create_request(
            self.keys,
            organisation=authority.root.organisation,
            statement=self.statement,
            binding=self.binding,
            at_ms=at_ms,
        )

    def signatory(self) -> Signatory:
        return Signatory(
            purpose=Purpose.ADMINISTRATOR,
            fingerprint=fingerprint(self.certificate),
            key=self.keys.signature_key,
        )

    def order(self, authority: Authority, target: Enrolled, *, at_ms: int = NOW_MS) -> bytes:
        order = WipeOrder(
            device=DeviceId(f"{target.keys.user}/{target.keys.device}"),
            connection_key=target.keys.connection_key.public_key,
            reason=WipeReason.LOST,
        )
        return sign_statement(
            StatementType.WIPE_ORDER,
            order.encode(),
            organisation=authority.root.organisation,
            issued_ms=at_ms,
            lifetime_ms=365 * DAY_MS,
            signatory=self.signatory(),
        )


def bodies(authority: Authority, kind: OutgoingKind) -> list[Outgoing]:
    return [one for one in authority.outgoing() if one.kind is kind]


def follow(
    authority: Authority, order: bytes, *, now_ms: int = NOW_MS, replaced: str = ""
) -> Refusal | None:
    return authority.follow(
        order,
        StatementType.WIPE_ORDER,
        taken_ms=now_ms,
        now_ms=now_ms,
        is_replaced=lambda user: user == replaced,
    )


def test_a_founded_organisation_has_root_recorder_and_invitations_that_only_the_owner_reads(
    file: Path,
) -> None:
    folder = file.parent
    made = {path for path in folder.rglob("*") if path.is_file()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in made)
    settings = configuration.read(file)
    assert fingerprint((folder / "root.der").read_bytes()).hex() == settings.organisation
    assert configuration.write(settings) == file.read_text()
    for user in (*PLAN.administrators, *PLAN.officers):
        link = decode_link((folder / "invitations" / f"{user}.txt").read_text().strip())
        assert (link.host, link.port, link.tls_pin) == (AT.host, AT.port, AT.tls_pin)
        assert link.organisation.hex() == settings.organisation
        assert (folder / "invitations" / f"{user}.svg").read_bytes().startswith(b"<?xml")


def test_what_was_founded_is_not_founded_again(file: Path) -> None:
    before = {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError):
        found(file, PLAN, now_ms=NOW_MS)
    after = {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    ("administrators", "officers", "k"),
    [
        (["ada"], PLAN.officers, 2),
        (["ada", "ada"], PLAN.officers, 2),
        (["ada", "o1"], PLAN.officers, 2),
        (["ada", "archive"], PLAN.officers, 2),
        (["ada", "bo"], ["o1", "o2", "o3"], 2),
        (["ada", "bo"], PLAN.officers, 3),
    ],
)
def test_too_few_or_repeated_people_found_nothing(
    tmp_path: Path, administrators: list[str], officers: list[str], k: int
) -> None:
    plan = Plan(name="X", relay=PLAN.relay, administrators=administrators, officers=officers, k=k)
    with pytest.raises((UsageError, InvalidError)):
        found(tmp_path / "archive.toml", plan, now_ms=NOW_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_that_others_can_read_is_refused(file: Path) -> None:
    files = founding.files_of(file, configuration.read(file))
    files.key.chmod(0o644)
    with pytest.raises(ConfigurationError):
        founding.database_key(files)


def test_the_authoritys_database_shows_no_key_and_opens_with_its_own_alone(file: Path) -> None:
    files = founding.files_of(file, configuration.read(file))
    with pytest.raises(DamagedError):
        AuthorityStore(files.authority, bytes(32))
    store = opened(file)
    secrets = [store.secret(name) for name in (founding.LOG_KEY, "root key", "root")]
    store.close()
    data = files.authority.read_bytes()
    assert all(secret and secret not in data for secret in secrets)


def test_the_first_out_are_the_recorders_certificate_the_list_and_every_invitation(
    store: AuthorityStore,
) -> None:
    authority = Authority(store)
    kinds = [one.kind for one in authority.outgoing()]
    people = len(PLAN.administrators) + len(PLAN.officers)
    assert kinds == [OutgoingKind.CERTIFICATE, *[OutgoingKind.COMMAND] * (1 + people)]
    certificate = authority.outgoing()[0]
    assert certificate.device == RECORDER
    assert decode_certificate(certificate.body, root=authority.root).roles == {Role.RECORDER}


def test_an_invited_device_is_certified_once_however_often_it_asks(authority: Authority) -> None:
    device = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    assert authority.certify(device.request, now_ms=NOW_MS + DAY_MS) == device.certificate
    assert {one.body for one in bodies(authority, OutgoingKind.CERTIFICATE)} == {device.certificate}


def test_a_device_that_lost_its_certificate_on_the_way_gets_the_same_one(
    authority: Authority,
) -> None:
    device = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    again = device.asking(authority, NOW_MS + DAY_MS)
    assert again != device.request
    assert authority.certify(again, now_ms=NOW_MS + DAY_MS) == device.certificate


def test_an_invitation_makes_no_second_device(authority: Authority) -> None:
    first = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    keys = DeviceKeys(
        user="cy",
        device="tablet",
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )
    request = create_request(
        keys,
        organisation=authority.root.organisation,
        statement=first.statement,
        binding=first.binding,
        at_ms=NOW_MS,
    )
    with pytest.raises((InvalidError, VerificationError)):
        authority.certify(request, now_ms=NOW_MS)
    assert "cy/tablet" not in authority.certificates()


def test_a_device_renews_its_certificate_with_its_own_keys_and_roles(authority: Authority) -> None:
    device = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    later = NOW_MS + 46 * DAY_MS
    renewed = authority.certify(device.asking(authority, later), now_ms=later)
    assert renewed != device.certificate
    assert authority.certificates()["cy/phone"] == renewed
    assert decode_certificate(renewed, root=authority.root).roles == {Role.CLINICIAN}


def test_a_contractors_certificate_ends_at_its_date_and_no_other_follows(
    authority: Authority,
) -> None:
    ends_ms = NOW_MS + 60 * DAY_MS
    device = Enrolled(authority, "cy/phone", Role.AFFILIATE, ends_ms=ends_ms)
    certificate = decode_certificate(device.certificate, root=authority.root)
    assert (certificate.ends_ms, certificate.not_after_ms) == (ends_ms, ends_ms)
    identity = authority.device_of(device.certificate)
    assert identity.is_valid_at(ends_ms - 1)
    assert not identity.is_valid_at(ends_ms + DAY_MS)
    with pytest.raises(InvalidError):
        authority.certify(device.asking(authority, ends_ms + DAY_MS), now_ms=ends_ms + DAY_MS)


def test_a_revoked_device_is_not_renewed(authority: Authority) -> None:
    device = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    authority.revoke(["cy/phone"], now_ms=NOW_MS)
    later = NOW_MS + 46 * DAY_MS
    with pytest.raises(InvalidError):
        authority.certify(device.asking(authority, later), now_ms=later)


def test_an_authority_that_starts_again_knows_what_it_decided(
    file: Path, store: AuthorityStore, authority: Authority
) -> None:
    device = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    authority.revoke(["cy/phone"], now_ms=NOW_MS)
    out = authority.outgoing()
    store.close()
    again = Authority(opened(file))
    assert again.trust == authority.trust
    assert again.outgoing() == out
    assert fingerprint(device.certificate) in again.trust.devices


def test_revocation_lists_count_up_and_verify(authority: Authority) -> None:
    Enrolled(authority, "cy/phone", Role.CLINICIAN)
    number = authority.trust.revocations.number
    authority.revoke(["cy/phone"], now_ms=NOW_MS)
    authority.revoke(["cy/phone"], now_ms=NOW_MS + 1)
    assert authority.trust.revocations.number == number + 1
    trust = authority.trust
    newest = bodies(authority, OutgoingKind.COMMAND)[-1].body
    taken = verify_revocation_list(newest, trust=trust, at_ms=NOW_MS)
    assert taken.revocations.devices == {"cy/phone": NOW_MS}


def test_the_list_is_signed_anew_before_it_ends_and_not_earlier(authority: Authority) -> None:
    number = authority.trust.revocations.number
    authority.renew_list(now_ms=NOW_MS + LIST_AGE_MS - 1)
    assert authority.trust.revocations.number == number
    authority.renew_list(now_ms=NOW_MS + LIST_AGE_MS)
    assert authority.trust.revocations.number == number + 1


def test_a_person_who_leaves_has_every_device_revoked_also_by_a_command_that_waited(
    authority: Authority,
) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    Enrolled(authority, "cy/phone", Role.CLINICIAN)
    command = sign_statement(
        StatementType.COMMAND,
        RemoveUser(user=UserName("cy")).encode(),
        organisation=authority.root.organisation,
        issued_ms=NOW_MS,
        lifetime_ms=DAY_MS,
        signatory=ada.signatory(),
    )
    authority.follow(
        command,
        StatementType.COMMAND,
        taken_ms=NOW_MS,
        now_ms=NOW_MS + 5 * DAY_MS,
        is_replaced=lambda _: False,
    )
    assert set(authority.trust.revocations.devices) == {"cy/phone"}


def test_an_invitation_that_was_not_used_lets_nobody_in_who_has_left_since(
    authority: Authority,
) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    unused = authority.invite("cy", [Role.CLINICIAN], at=AT, now_ms=NOW_MS)
    keys = DeviceKeys(
        user="cy",
        device="phone",
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )

    def asks(invited: Invited, at_ms: int) -> bytes:
        return create_request(
            keys,
            organisation=authority.root.organisation,
            statement=invited.statement,
            binding=bind_invitation(invited.statement, claim=keys.claim, key=invited.link.key),
            at_ms=at_ms,
        )

    # The earlier one is read later: a relay had it so, or gave it again.
    for issued_ms in (NOW_MS + 1, NOW_MS - 1):
        command = sign_statement(
            StatementType.COMMAND,
            RemoveUser(user=UserName("cy")).encode(),
            organisation=authority.root.organisation,
            issued_ms=issued_ms,
            lifetime_ms=DAY_MS,
            signatory=ada.signatory(),
        )
        authority.follow(
            command,
            StatementType.COMMAND,
            taken_ms=NOW_MS + 1,
            now_ms=NOW_MS + 1,
            is_replaced=lambda _: False,
        )
    with pytest.raises(InvalidError, match="before they left"):
        authority.certify(asks(unused, NOW_MS + 2), now_ms=NOW_MS + 2)
    assert "cy/phone" not in authority.certificates()
    # Who is invited again comes in.
    anew = authority.invite("cy", [Role.CLINICIAN], at=AT, now_ms=NOW_MS + 3)
    authority.certify(asks(anew, NOW_MS + 4), now_ms=NOW_MS + 4)
    assert "cy/phone" in authority.certificates()


@pytest.mark.parametrize(
    ("devices", "lifted", "revoked"),
    [
        (("cy/phone",), False, {"cy/phone"}),
        (("cy/tablet",), False, set()),
        (("cy/phone", "cy/tablet"), False, set()),
        (("cy/phone",), True, set()),
    ],
)
def test_a_device_that_suspends_itself_alone_is_revoked(
    authority: Authority, devices: tuple[str, ...], *, lifted: bool, revoked: set[str]
) -> None:
    cy = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    body = Suspension(devices=tuple(map(DeviceId, devices)), lifted=lifted).encode()
    statement = sign_statement(
        StatementType.SUSPENSION,
        body,
        organisation=authority.root.organisation,
        issued_ms=NOW_MS,
        lifetime_ms=DAY_MS,
        signatory=replace(cy.signatory(), purpose=Purpose.DEVICE),
    )
    authority.follow(
        statement,
        StatementType.SUSPENSION,
        taken_ms=NOW_MS,
        now_ms=NOW_MS + 5 * DAY_MS,
        is_replaced=lambda _: False,
    )
    assert set(authority.trust.revocations.devices) == revoked


def test_one_administrator_has_one_device_wiped_an_hour(authority: Authority) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    first, second = (Enrolled(authority, f"{user}/phone", Role.CLINICIAN) for user in ("cy", "di"))
    order = ada.order(authority, first)
    follow(authority, order)
    follow(authority, order, now_ms=NOW_MS + 1)
    refused = ada.order(authority, second)
    assert follow(authority, refused, now_ms=NOW_MS + WIPE_INTERVAL_MS - 1) is Refusal.LIMIT
    assert set(authority.trust.revocations.devices) == {"cy/phone"}
    later = NOW_MS + WIPE_INTERVAL_MS + 1
    follow(authority, refused, now_ms=later)  # decided once: it stays refused
    assert set(authority.trust.revocations.devices) == {"cy/phone"}
    follow(authority, ada.order(authority, second, at_ms=later), now_ms=later)
    assert set(authority.trust.revocations.devices) == {"cy/phone", "di/phone"}


def test_a_second_administrators_signature_lifts_the_limit(authority: Authority) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    bo = Enrolled(authority, "bo/desk", Role.ADMINISTRATOR)
    phones = [Enrolled(authority, f"{user}/phone", Role.CLINICIAN) for user in ("cy", "di", "ed")]
    for phone in phones:
        order = ada.order(authority, phone)
        follow(authority, order)
        both = countersign_statement(
            order, trust=authority.trust, at_ms=NOW_MS, signatory=bo.signatory()
        )
        follow(authority, both)
    assert set(authority.trust.revocations.devices) == {"cy/phone", "di/phone", "ed/phone"}


def test_a_countersigned_order_verifies_and_revokes_by_the_list_too(authority: Authority) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    phone = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    follow(authority, ada.order(authority, phone))
    complete, newest = bodies(authority, OutgoingKind.COMMAND)[-2:]
    verified = verify_statement(
        complete.body, expected=StatementType.WIPE_ORDER, trust=authority.trust, at_ms=NOW_MS
    )
    assert [signer.purpose for signer in verified.signers] == [
        Purpose.ADMINISTRATOR,
        Purpose.AUTHORITY,
    ]
    taken = verify_revocation_list(newest.body, trust=authority.trust, at_ms=NOW_MS)
    assert "cy/phone" in taken.revocations.devices
    out = authority.outgoing()
    follow(authority, complete.body)  # its own, come back by the control log
    assert authority.outgoing() == out


def test_an_officers_device_is_wiped_after_sharing_anew_or_by_two_administrators(
    authority: Authority,
) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    bo = Enrolled(authority, "bo/desk", Role.ADMINISTRATOR)
    officer = Enrolled(authority, "o1/desk", Role.OFFICER)
    order = ada.order(authority, officer)
    assert follow(authority, order, replaced="o2") is Refusal.OFFICER
    assert follow(authority, order, replaced="o1") is None  # decided once: it stays refused
    assert not authority.trust.revocations.devices
    replaced = Enrolled(authority, "o2/desk", Role.OFFICER)
    assert follow(authority, ada.order(authority, replaced), replaced="o2") is None
    assert set(authority.trust.revocations.devices) == {"o2/desk"}
    both = countersign_statement(
        order, trust=authority.trust, at_ms=NOW_MS, signatory=bo.signatory()
    )
    assert follow(authority, both) is None
    assert set(authority.trust.revocations.devices) == {"o1/desk", "o2/desk"}


def test_an_officer_who_was_replaced_counts_for_the_hour_too(authority: Authority) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    first, second = (Enrolled(authority, f"{user}/desk", Role.OFFICER) for user in ("o1", "o2"))
    assert follow(authority, ada.order(authority, first), replaced="o1") is None
    refused = follow(authority, ada.order(authority, second), replaced="o2")
    assert refused is Refusal.LIMIT


def test_an_order_for_another_key_or_by_no_administrator_wipes_nothing(
    authority: Authority,
) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    cy = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    order = WipeOrder(
        device=DeviceId("cy/phone"), connection_key=bytes(31) + b"\1", reason=WipeReason.LOST
    )
    wrong = sign_statement(
        StatementType.WIPE_ORDER,
        order.encode(),
        organisation=authority.root.organisation,
        issued_ms=NOW_MS,
        lifetime_ms=DAY_MS,
        signatory=ada.signatory(),
    )
    right = ada.order(authority, cy)
    for bad in (wrong, cy.order(authority, cy), flipped(right)):
        with pytest.raises((InvalidError, VerificationError)):
            follow(authority, bad)
    assert not authority.trust.revocations.devices
    out = bodies(authority, OutgoingKind.COMMAND)
    assert not [one for one in out if claimed_statement(one.body).type is StatementType.WIPE_ORDER]


def test_an_administrator_who_was_revoked_wipes_nothing(authority: Authority) -> None:
    ada = Enrolled(authority, "ada/desk", Role.ADMINISTRATOR)
    cy = Enrolled(authority, "cy/phone", Role.CLINICIAN)
    authority.revoke(["ada/desk"], now_ms=NOW_MS)
    with pytest.raises(InvalidError):
        follow(authority, ada.order(authority, cy, at_ms=NOW_MS - 1), now_ms=NOW_MS + 1)


def test_what_is_handed_in_is_let_go_of_and_nothing_else(authority: Authority) -> None:
    Enrolled(authority, "cy/phone", Role.CLINICIAN)
    first, *others = authority.outgoing()
    authority.handed_in(first.number)
    assert authority.outgoing() == others


def test_a_log_policy_counts_up_when_it_changes_and_is_signed_anew_when_it_was_lost(
    authority: Authority,
) -> None:
    log = SignerKey.generate("a.example/log", SignatureType.ED25519).verifier.encode()
    witnesses = [
        SignerKey.generate(f"w{n}.example", SignatureType.COSIGNATURE).verifier.encode()
        for n in range(2)
    ]
    authority.repeat_log_policy(now_ms=NOW_MS)
    assert authority.outgoing() == []
    versions = []
    for relays, officers in ((1, 0), (1, 0), (2, 0), (1, 1), (1, 1)):
        keys, devices = witnesses[:relays], witnesses[2 - officers :]
        authority.set_log_policy(log, keys, officer_keys=devices, now_ms=NOW_MS)
        versions.append(len(authority.outgoing()))
    assert versions == [1, 1, 2, 3, 3]
    authority.repeat_log_policy(now_ms=NOW_MS)
    assert len(authority.outgoing()) == 3
    for outgoing in authority.outgoing():
        authority.handed_in(outgoing.number)
    later = NOW_MS + 3 * DAY_MS
    authority.repeat_log_policy(now_ms=later)
    (again,) = authority.outgoing()
    verified = verify_statement(
        again.body, expected=StatementType.COMMAND, trust=authority.trust, at_ms=later
    )
    command = decode_command(verified.body)
    assert isinstance(command, SetLogPolicy)
    assert (command.version, command.witness_keys) == (3, tuple(witnesses[:1]))
    assert command.officer_keys == tuple(witnesses[1:])


def test_a_restored_authority_names_its_log_behind_the_policy_that_the_relay_has(
    authority: Authority,
) -> None:
    mine, other = (
        SignerKey.generate(f"{name}.example/log", SignatureType.ED25519).verifier.encode()
        for name in "ab"
    )
    witness = SignerKey.generate("w.example", SignatureType.COSIGNATURE).verifier.encode()
    authority.set_log_policy(mine, [witness], officer_keys=[], now_ms=NOW_MS)
    (outgoing,) = authority.outgoing()
    authority.handed_in(outgoing.number)
    later = SetLogPolicy(version=7, log_key=other, witness_keys=(witness,), officer_keys=())
    body = later.encode()
    told = authority.sign(StatementType.COMMAND, body, now_ms=NOW_MS)

    def version() -> int:
        authority.repeat_log_policy(now_ms=NOW_MS)
        (again,) = authority.outgoing()
        authority.handed_in(again.number)
        policy = decode_command(claimed_statement(again.body).body)
        assert isinstance(policy, SetLogPolicy)
        assert policy.log_key == mine
        return policy.version

    # What stands there of others' changes nothing, and neither does its own, come back.
    authority.outdo_log_policy(outgoing.body)
    with pytest.raises(CryptoError):
        authority.outdo_log_policy(told[:-1] + bytes([told[-1] ^ 1]))
    assert version() == 1
    authority.outdo_log_policy(told)
    authority.outdo_log_policy(told)
    assert version() == 8


def test_a_new_log_is_named_by_a_version_behind_all_that_devices_can_know(
    authority: Authority,
) -> None:
    """Relay and archive may both have been set back behind a policy that devices have read."""
    logs = [
        SignerKey.generate(f"{name}.example/log", SignatureType.ED25519).verifier.encode()
        for name in "abc"
    ]
    witness, device = (
        SignerKey.generate(name, SignatureType.COSIGNATURE).verifier.encode()
        for name in ("w.example", "d.example")
    )
    versions = []
    for hours, log in enumerate((logs[0], logs[1], logs[1], logs[2])):
        devices = [device] if hours == 2 else []
        authority.set_log_policy(
            log, [witness], officer_keys=devices, now_ms=NOW_MS + hours * 60 * MINUTE_MS
        )
        policy = decode_command(claimed_statement(authority.outgoing()[-1].body).body)
        assert isinstance(policy, SetLogPolicy)
        versions.append(policy.version)
    second = NOW_MS // MINUTE_MS + 60
    assert versions == [1, second, second + 1, second + 120]
    # One that was set back to the first names the third log behind all of them, a minute later.
    assert max(versions) < (NOW_MS + 181 * MINUTE_MS) // MINUTE_MS

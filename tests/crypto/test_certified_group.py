"""MLS groups whose every leaf carries the hospital's certificate: the attacks that this stops."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from crypto.codec import opaque
from crypto.errors import InvalidError, VerificationError
from crypto.identity import verify_entering_leaf
from crypto.mls import (
    Add,
    ApplicationMessage,
    Capabilities,
    Credential,
    Group,
    KeyPackageSecrets,
    LeafContent,
    StagedCommit,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.framing import AuthenticatedContent
from crypto.mls.leaf_node import LeafNode
from crypto.mls.recording import EpochDecryption
from crypto.mls.validation import Authenticate
from crypto.statement import Purpose, StatementType
from tests.crypto.hospital import NOW_MS, Device, Staff, new_keys
from tests.crypto.test_identity import fooled_authority


@dataclass(frozen=True)
class Member:
    """A device in a group."""

    device: Device
    group: Group


def key_package(device: Device) -> KeyPackageSecrets:
    content = LeafContent(
        credential=Credential.x509([device.der]),
        capabilities=Capabilities.of(SUITE, credentials=(2,)),
    )
    return KeyPackageSecrets.generate(
        SUITE,
        content,
        signer=device.keys.signature_key,
        not_before_s=NOW_MS // 1000,
        not_after_s=NOW_MS // 1000 + 86_400,
    )


def judge(staff: Staff) -> Authenticate:
    """Judge leaves as a client does: by certificate, and an update by its device's name."""

    def authenticate(leaf: LeafNode, replaced: LeafNode | None) -> None:
        def named(node: LeafNode) -> str:
            return verify_entering_leaf(
                node.credential.certificates,
                signature_key=node.signature_key,
                trust=staff.trust,
                at_ms=NOW_MS,
            ).name

        if replaced is not None and named(leaf) != named(replaced):
            raise InvalidError("an update by another device")
        named(leaf)

    return authenticate


@pytest.fixture
def staff() -> Staff:
    return Staff()


@pytest.fixture
def ward(staff: Staff) -> tuple[Group, Group]:
    """Alice's and Ada's devices in one conversation."""
    alice, ada = key_package(staff.alice), key_package(staff.ada)
    group = Group.create(alice, group_id=b"ward 7")
    group, staged = group.commit([Add(ada.key_package)], authenticate=judge(staff))
    assert staged.group is not None
    assert staged.welcome is not None
    return group.merge(staged.group), Group.join(staged.welcome, ada, authenticate=judge(staff))


def ghost(staff: Staff) -> Device:
    """Return a second device for Alice, certified on the word of one administrator alone."""
    keys = new_keys("alice", "ghost")
    approval = staff.grant(
        keys,
        StatementType.DEVICE_APPROVAL,
        staff.ada.signs_as(Purpose.ADMINISTRATOR),
        origin=staff.alice.identity.origin,
    )
    return replace(staff.alice, keys=keys, der=fooled_authority(staff, keys, approval))


def test_a_ghost_device_does_not_enter_by_add_welcome_or_update(
    staff: Staff, ward: tuple[Group, Group]
) -> None:
    anna, _ = ward
    intruder = key_package(ghost(staff))
    with pytest.raises(InvalidError):
        anna.commit([Add(intruder.key_package)], authenticate=judge(staff))
    # A member who lets it in all the same is refused by everybody else, and by a joiner.
    _, staged = anna.commit([Add(intruder.key_package)], authenticate=lambda leaf, old: None)
    before = ward[1].changes(None)
    with pytest.raises(InvalidError):
        ward[1].process(staged.message, authenticate=judge(staff))
    assert ward[1].changes(None) == before
    assert staged.welcome is not None
    with pytest.raises(InvalidError):
        Group.join(staged.welcome, intruder, authenticate=judge(staff))


def test_a_member_cannot_take_anothers_name_by_update(
    staff: Staff, ward: tuple[Group, Group]
) -> None:
    alice, ada = ward
    stolen = LeafContent(
        credential=Credential.x509([staff.bob.der]),
        capabilities=Capabilities.of(SUITE, credentials=(2,)),
    )
    signer = staff.bob.keys.signature_key
    _, staged = alice.commit(authenticate=lambda leaf, old: None, content=stolen, signer=signer)
    with pytest.raises(InvalidError):
        ada.process(staged.message, authenticate=judge(staff))


def test_a_revoked_device_enters_no_conversation(staff: Staff, ward: tuple[Group, Group]) -> None:
    alice, _ = ward
    lost = key_package(staff.bob)
    trust = staff.trust
    staff.trust = trust.revoking(trust.revocations.with_device("bob/desk", at_ms=NOW_MS))
    with pytest.raises(InvalidError):
        alice.commit([Add(lost.key_package)], authenticate=judge(staff))


def test_a_renewed_certificate_goes_into_the_leaf_with_a_commit(
    staff: Staff, ward: tuple[Group, Group]
) -> None:
    alice, ada = ward
    content = LeafContent(
        credential=Credential.x509([staff.alice.der]),
        capabilities=Capabilities.of(SUITE, credentials=(2,)),
    )
    alice, staged = alice.commit(authenticate=judge(staff), content=content)
    _, received = ada.process(staged.message, authenticate=judge(staff))
    assert isinstance(received, StagedCommit)
    assert received.group is not None


def test_a_report_is_proved_off_line_and_a_forged_one_is_not(
    staff: Staff, ward: tuple[Group, Group]
) -> None:
    alice, ada = ward
    secrets = EpochDecryption.of(ada)
    said = b"give 5 mg"
    _, message = alice.encrypt(said)
    _, received = ada.process(message, authenticate=judge(staff))
    assert isinstance(received, ApplicationMessage)
    # Whoever holds the ciphertext and the epoch's secrets proves who wrote what, without a server.
    _, leaf, content = secrets.open(message, secrets.start())
    author = dict(ada.members)[leaf]
    secrets.verify(content, author.signature_key)
    assert author.credential.certificates == (staff.alice.der,)
    # A recipient can forge neither the text nor the author.
    forged = replace(content.content, content=b"give 50 mg", body=opaque(b"give 50 mg"))
    for report, key in (
        (replace(content, content=forged), author.signature_key),
        (content, staff.ada.keys.signature_key.public_key),
        (_resigned(staff, content), author.signature_key),
    ):
        with pytest.raises(VerificationError):
            secrets.verify(report, key)


def _resigned(staff: Staff, content: AuthenticatedContent) -> AuthenticatedContent:
    return replace(content, signature=staff.ada.keys.signature_key.sign(content.content.encode()))

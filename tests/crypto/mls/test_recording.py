"""The recorder's view of an epoch."""

from __future__ import annotations

import pytest

from crypto.errors import DecodeError, InvalidError, KeyUsedError, UsageError, VerificationError
from crypto.mls import (
    Add,
    ApplicationMessage,
    Capabilities,
    Credential,
    Group,
    KeyPackageSecrets,
    LeafContent,
)
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.recording import EpochDecryption
from tests.vectors.cases import accept


def key_package(name: str) -> KeyPackageSecrets:
    content = LeafContent(
        credential=Credential.basic(name.encode()),
        capabilities=Capabilities.of(SUITE, credentials=(1,)),
    )
    return KeyPackageSecrets.generate(
        SUITE,
        content,
        signer=SUITE.signature.generate(),
        not_before_s=0,
        not_after_s=1 << 40,
    )


@pytest.fixture
def pair() -> tuple[Group, Group]:
    nurse, recorder = key_package("nurse"), key_package("recorder")
    group = Group.create(nurse, group_id=b"ward 7")
    _, staged = group.commit([Add(recorder.key_package)], authenticate=accept)
    assert staged.group is not None
    assert staged.welcome is not None
    return group.merge(staged.group), Group.join(staged.welcome, recorder, authenticate=accept)


def test_an_epochs_secrets_open_each_of_its_messages_and_name_the_signer(
    pair: tuple[Group, Group],
) -> None:
    nurse, recorder = pair
    sealed = EpochDecryption.of(recorder).encode()
    messages = []
    for text in (b"bp 90/60", b"bp 100/70"):
        nurse, message = nurse.encrypt(text)
        messages.append(message)
        recorder, received = recorder.process(message, authenticate=accept)
        assert isinstance(received, ApplicationMessage)
    opened = EpochDecryption.decode(sealed)
    assert opened.encode() == sealed
    keys = opened.start()
    for message, text in zip(messages, (b"bp 90/60", b"bp 100/70"), strict=True):
        keys, leaf, content = opened.open(message, keys)
        assert (leaf, content.content.content) == (nurse.own_leaf, text)
        opened.verify(content, nurse.current.signer.public_key)
        with pytest.raises(VerificationError):
            opened.verify(content, recorder.current.signer.public_key)
    with pytest.raises(KeyUsedError):
        opened.open(messages[0], keys)


def test_a_state_that_has_read_gives_no_epoch_secrets_away(pair: tuple[Group, Group]) -> None:
    nurse, recorder = pair
    _, message = nurse.encrypt(b"seen")
    recorder, _ = recorder.process(message, authenticate=accept)
    with pytest.raises(UsageError):
        EpochDecryption.of(recorder)


def test_only_application_messages_of_the_epoch_are_opened(pair: tuple[Group, Group]) -> None:
    nurse, recorder = pair
    secrets = EpochDecryption.of(recorder)
    _, commit = nurse.commit(authenticate=accept)
    with pytest.raises(InvalidError):
        secrets.open(commit.message, secrets.start())
    with pytest.raises(InvalidError):
        secrets.open(nurse.group_info(), secrets.start())
    assert commit.group is not None
    _, later = nurse.merge(commit.group).encrypt(b"next epoch")
    with pytest.raises(VerificationError):
        secrets.open(later, secrets.start())


def test_a_sender_beyond_the_tree_is_refused(pair: tuple[Group, Group]) -> None:
    _, recorder = pair
    whole = EpochDecryption.of(recorder)
    alone = EpochDecryption(
        cipher_suite=whole.cipher_suite,
        group_context=whole.group_context,
        leaf_count=1,
        sender_data_secret=whole.sender_data_secret,
        encryption_secret=whole.encryption_secret,
    )
    _, message = recorder.encrypt(b"from leaf 1")
    with pytest.raises(InvalidError):
        alone.open(message, alone.start())


@pytest.mark.parametrize("leaf_count", [0, 3, 1 << 17])
def test_a_tree_of_impossible_size_does_not_decode(
    pair: tuple[Group, Group], leaf_count: int
) -> None:
    secrets = EpochDecryption.of(pair[0])
    wrong = EpochDecryption(
        cipher_suite=secrets.cipher_suite,
        group_context=secrets.group_context,
        leaf_count=leaf_count,
        sender_data_secret=secrets.sender_data_secret,
        encryption_secret=secrets.encryption_secret,
    )
    with pytest.raises(DecodeError):
        EpochDecryption.decode(wrong.encode())

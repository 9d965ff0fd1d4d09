"""Key packages and the secrets that they promise."""

from __future__ import annotations

import pytest

from crypto.codec import opaque, u16, vector
from crypto.errors import DecodeError, InvalidError, UsageError
from crypto.mls import Group, KeyPackage, KeyPackageSecrets
from crypto.mls.leaf_node import MLS10, LeafNode, sign_leaf_node
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import SUITE, key_package, said_of


def signed(own: KeyPackageSecrets, leaf: LeafNode, init_key: bytes) -> KeyPackage:
    """Return a key package of any parts, rightly signed."""
    parts = (u16(MLS10), u16(SUITE.value), opaque(init_key), leaf.encode(), vector([]))
    content = b"".join(parts)
    signature = SUITE.sign_with_label(own.signer, "KeyPackageTBS", content)
    return KeyPackage.decode(content + opaque(signature))


def test_secrets_are_saved_with_their_package_and_read_back() -> None:
    own = key_package("Osei")
    again = KeyPackageSecrets.decode(own.encode())
    assert again == own
    assert again.encode() == own.encode()
    own.key_package.verify(SUITE)


@pytest.mark.parametrize("field", ["init_key", "encryption_key", "signer"])
def test_a_private_key_that_is_not_the_packages_is_refused(field: str) -> None:
    own, other = key_package("Osei"), key_package("Osei")
    parts = {"init_key": own.init_key, "encryption_key": own.encryption_key}
    parts["signer"] = own.signer.seed
    parts[field] = other.signer.seed if field == "signer" else getattr(other, field)
    data = own.key_package.encode() + b"".join(map(opaque, parts.values()))
    with pytest.raises(InvalidError):
        KeyPackageSecrets.decode(data)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_private_keys_of_another_length_are_refused(length: int) -> None:
    own = key_package("Osei")
    for parts in (
        (bytes(length), own.encryption_key, own.signer.seed),
        (own.init_key, bytes(length), own.signer.seed),
        (own.init_key, own.encryption_key, bytes(length)),
    ):
        with pytest.raises(InvalidError):
            KeyPackageSecrets.decode(own.key_package.encode() + b"".join(map(opaque, parts)))


def test_secrets_of_a_suite_that_is_not_spoken_here_are_refused() -> None:
    data = bytearray(key_package("Osei").encode())
    data[2:4] = u16(0x0002)
    with pytest.raises(InvalidError):
        KeyPackageSecrets.decode(bytes(data))
    with pytest.raises(DecodeError):
        KeyPackageSecrets.decode(key_package("Osei").encode() + b"\x00")


def test_a_package_whose_leaf_is_of_an_update_is_refused() -> None:
    own = key_package("Osei")
    leaf = sign_leaf_node(
        SUITE,
        said_of("Osei"),
        signer=own.signer,
        encryption_key=own.key_package.leaf_node.encryption_key,
        source=None,
        position=(b"", LeafIndex(0)),
    )
    with pytest.raises(InvalidError):
        signed(own, leaf, own.key_package.init_key).verify(SUITE)


def test_a_package_that_uses_one_key_twice_is_refused() -> None:
    own = key_package("Osei")
    leaf = own.key_package.leaf_node
    signed(own, leaf, own.key_package.init_key).verify(SUITE)
    with pytest.raises(InvalidError):
        signed(own, leaf, leaf.encryption_key).verify(SUITE)


def test_no_more_is_exported_than_the_key_derivation_gives() -> None:
    group = Group.create(key_package("Osei"), group_id=b"ward")
    assert len(group.export("label", b"context", 255 * 32)) == 255 * 32
    for length in (-1, 255 * 32 + 1):
        with pytest.raises(UsageError):
            group.export("label", b"context", length)

"""HPKE against RFC 9180's own vectors and against another implementation, both ways."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import InvalidError, UsageError, VerificationError
from crypto.hpke import (
    AES_128_GCM,
    CHACHA20_POLY1305,
    HKDF_SHA256,
    KEM_X25519_HKDF_SHA256,
    X25519,
    Aead,
    Hpke,
)
from tests.crypto.low_order import LOW_ORDER_X25519


def _suite(aead: Aead) -> Hpke:
    return Hpke(
        kem_id=KEM_X25519_HKDF_SHA256,
        group=X25519(),
        kem_kdf=HKDF_SHA256,
        kdf=HKDF_SHA256,
        aead=aead,
    )


OURS = {"AES-128-GCM": _suite(AES_128_GCM), "ChaCha20-Poly1305": _suite(CHACHA20_POLY1305)}
THEIRS = {
    "AES-128-GCM": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM),
    "ChaCha20-Poly1305": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
}
both_suites = pytest.mark.parametrize("name", OURS)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One base-mode vector of RFC 9180, appendix A; hexadecimal."""

    suite: str
    ikm_e: str
    sk_e: str
    enc: str
    ikm_r: str
    sk_r: str
    pk_r: str
    shared_secret: str
    key: str
    base_nonce: str
    ciphertext: str
    exported: dict[str, str]


INFO = bytes.fromhex("4f6465206f6e2061204772656369616e2055726e")
PLAINTEXT = bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")
PUBLISHED = [
    Published(  # A.1.1
        suite="AES-128-GCM",
        ikm_e="7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
        sk_e="52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
        enc="37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
        ikm_r="6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037",
        sk_r="4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
        pk_r="3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
        shared_secret="fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
        key="4531685d41d65f03dc48f6b8302c05b0",
        base_nonce="56d890e5accaaf011cff4b7d",
        ciphertext="f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07b"
        "ea87e13c512a",
        exported={
            "": "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee",
            "00": "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5",
            "54657374436f6e74657874": "e9e43065102c3836401bed8c3c3c75ae"
            "46be1639869391d62c61f1ec7af54931",
        },
    ),
    Published(  # A.2.1
        suite="ChaCha20-Poly1305",
        ikm_e="909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
        sk_e="f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
        enc="1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        ikm_r="1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df",
        sk_r="8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        pk_r="4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
        shared_secret="0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7",
        key="ad2744de8e17f4ebba575b3f5f5a8fa1f69c2a07f6e7500bc60ca6e3e3ec1c91",
        base_nonce="5c4d98150661b848853b547f",
        ciphertext="1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce8188"
        "3d2dd1b51a28",
        exported={
            "": "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e",
            "54657374436f6e74657874": "5acb09211139c43b3090489a9da433e8"
            "a30ee7188ba8b0a9a1ccf0c229283e53",
        },
    ),
]
published = pytest.mark.parametrize("vector", PUBLISHED, ids=lambda v: v.suite)


@published
def test_key_pairs_derive_as_the_rfc_publishes_them(vector: Published) -> None:
    hpke = OURS[vector.suite]
    private, public = hpke.derive_key_pair(bytes.fromhex(vector.ikm_e))
    assert (private.hex(), public.hex()) == (vector.sk_e, vector.enc)
    private, public = hpke.derive_key_pair(bytes.fromhex(vector.ikm_r))
    assert (private.hex(), public.hex()) == (vector.sk_r, vector.pk_r)


@published
def test_the_recipients_key_schedule_is_the_one_that_the_rfc_publishes(vector: Published) -> None:
    hpke = OURS[vector.suite]
    private, public = bytes.fromhex(vector.sk_r), bytes.fromhex(vector.pk_r)
    shared_secret = hpke._decapsulate(private, public, bytes.fromhex(vector.enc))
    assert shared_secret.hex() == vector.shared_secret
    key, nonce = hpke._key(shared_secret, INFO)
    assert (key.hex(), nonce.hex()) == (vector.key, vector.base_nonce)
    opened = hpke.aead.open(key, nonce, b"Count-0", bytes.fromhex(vector.ciphertext))
    assert opened == PLAINTEXT


@published
def test_exported_secrets_are_those_that_the_rfc_publishes(vector: Published) -> None:
    for context, value in vector.exported.items():
        exported = OURS[vector.suite].receive_export(
            bytes.fromhex(vector.sk_r),
            bytes.fromhex(vector.pk_r),
            enc=bytes.fromhex(vector.enc),
            info=INFO,
            label=bytes.fromhex(context),
            length=32,
        )
        assert exported.hex() == value


@both_suites
@given(info=st.binary(max_size=64), plaintext=st.binary(max_size=256))
def test_the_other_implementation_opens_what_is_sealed_here(
    name: str, info: bytes, plaintext: bytes
) -> None:
    private, public = OURS[name].generate_key_pair()
    enc, ciphertext = OURS[name].seal(public, info=info, plaintext=plaintext)
    opened = THEIRS[name].decrypt(
        enc + ciphertext, X25519PrivateKey.from_private_bytes(private), info
    )
    assert opened == plaintext


@both_suites
@given(info=st.binary(max_size=64), plaintext=st.binary(max_size=256))
def test_what_the_other_implementation_seals_opens_here(
    name: str, info: bytes, plaintext: bytes
) -> None:
    private, public = OURS[name].generate_key_pair()
    sealed = THEIRS[name].encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info)
    opened = OURS[name].open(private, public, enc=sealed[:32], info=info, ciphertext=sealed[32:])
    assert opened == plaintext


@both_suites
def test_both_ends_export_one_secret_and_another_for_each_label(name: str) -> None:
    hpke = OURS[name]
    private, public = hpke.generate_key_pair()
    enc, sent = hpke.send_export(public, info=b"ward", label=b"seven", length=48)
    heard = {
        label: hpke.receive_export(private, public, enc=enc, info=b"ward", label=label, length=48)
        for label in (b"seven", b"eight")
    }
    assert heard[b"seven"] == sent
    assert heard[b"eight"] != sent


@both_suites
def test_another_info_or_a_changed_ciphertext_does_not_open(name: str) -> None:
    hpke = OURS[name]
    private, public = hpke.generate_key_pair()
    enc, ciphertext = hpke.seal(public, info=b"ward", plaintext=b"text")
    with pytest.raises(VerificationError):
        hpke.open(private, public, enc=enc, info=b"hall", ciphertext=ciphertext)
    for at in range(len(ciphertext)):
        changed = ciphertext[:at] + bytes([ciphertext[at] ^ 1]) + ciphertext[at + 1 :]
        with pytest.raises(VerificationError):
            hpke.open(private, public, enc=enc, info=b"ward", ciphertext=changed)
        with pytest.raises(VerificationError):
            hpke.open(private, public, enc=enc, info=b"ward", ciphertext=ciphertext[:at])


@pytest.mark.parametrize("point", LOW_ORDER_X25519, ids=bytes.hex)
def test_a_low_order_key_is_refused_by_every_operation_that_takes_one(point: bytes) -> None:
    hpke = OURS["ChaCha20-Poly1305"]
    private, public = hpke.generate_key_pair()
    with pytest.raises(InvalidError):
        hpke.seal(point, info=b"", plaintext=b"")
    with pytest.raises(InvalidError):
        hpke.send_export(point, info=b"", label=b"", length=32)
    with pytest.raises(InvalidError):
        hpke.open(private, public, enc=point, info=b"", ciphertext=bytes(16))
    with pytest.raises(InvalidError):
        hpke.receive_export(private, public, enc=point, info=b"", label=b"", length=32)
    with pytest.raises(InvalidError):
        hpke.group.check_public_key(point)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    group = X25519()
    private = group.generate()
    wrong = secrets.token_bytes(size)
    with pytest.raises(InvalidError):
        group.check_public_key(wrong)
    with pytest.raises(InvalidError):
        group.exchange(private, wrong)
    with pytest.raises(InvalidError):
        group.exchange(wrong, group.public_key(private))
    with pytest.raises(InvalidError):
        group.public_key(wrong)


def test_an_ordinary_key_passes_the_check_that_low_order_ones_fail() -> None:
    group = X25519()
    for _ in range(32):
        group.check_public_key(group.public_key(group.generate()))


def test_hkdf_gives_as_many_blocks_as_it_can_and_no_more() -> None:
    # RFC 5869, A.1, and its prefix and limit.
    prk = HKDF_SHA256.extract(bytes(range(13)), b"\x0b" * 22)
    okm = HKDF_SHA256.expand(prk, bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )
    most = 255 * 32
    assert HKDF_SHA256.expand(prk, b"", most)[:7] == HKDF_SHA256.expand(prk, b"", 7)
    with pytest.raises(UsageError):
        HKDF_SHA256.expand(prk, b"", most + 1)

"""The cipher suites of RFC 9420, section 17.1, beyond the two that the product speaks.

They exist for the vectors alone: five suites more exercise the same protocol code seven times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey, Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crypto.errors import InvalidError, VerificationError
from crypto.hpke import AES_128_GCM, CHACHA20_POLY1305, HKDF_SHA256, Aead, Hpke, Kdf, LabeledKdf
from crypto.mls.cipher_suite import CipherSuite, Signer, cipher_suite

HKDF_SHA384 = Kdf(kdf_id=2, hash_name="sha384", hash_bytes=48)
HKDF_SHA512 = Kdf(kdf_id=3, hash_name="sha512", hash_bytes=64)
AES_256_GCM = Aead(aead_id=2, key_bytes=32, cipher=AESGCM)


@dataclass(frozen=True)
class NistCurve:
    """Diffie-Hellman on a NIST curve (RFC 9180, section 7.1)."""

    curve: ec.EllipticCurve
    private_bytes: int
    mask: int = 0xFF

    def _load(self, private_key: bytes) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(private_key, "big"), self.curve)

    def generate(self) -> bytes:
        number = ec.generate_private_key(self.curve).private_numbers().private_value
        return number.to_bytes(self.private_bytes, "big")

    def derive(self, ikm: bytes, kdf: LabeledKdf) -> bytes:
        prk = kdf.extract(b"", b"dkp_prk", ikm)
        for counter in range(256):
            candidate = bytearray(
                kdf.expand(prk, b"candidate", bytes([counter]), self.private_bytes)
            )
            candidate[0] &= self.mask
            try:
                self._load(bytes(candidate))
            except ValueError:
                continue
            return bytes(candidate)
        raise InvalidError("no key pair derives from this (RFC 9180, 7.1.3)")

    def public_key(self, private_key: bytes) -> bytes:
        return (
            self._load(private_key)
            .public_key()
            .public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        )

    def exchange(self, private_key: bytes, public_key: bytes) -> bytes:
        try:
            peer = ec.EllipticCurvePublicKey.from_encoded_point(self.curve, public_key)
        except ValueError:
            raise InvalidError("not a point of the curve") from None
        return self._load(private_key).exchange(ec.ECDH(), peer)

    def check_public_key(self, public_key: bytes) -> None:
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(self.curve, public_key)
        except ValueError:
            raise InvalidError("not a point of the curve") from None


class X448:
    """Diffie-Hellman on Curve448 (RFC 9180, section 7.1)."""

    def generate(self) -> bytes:
        return X448PrivateKey.generate().private_bytes_raw()

    def derive(self, ikm: bytes, kdf: LabeledKdf) -> bytes:
        return kdf.expand(kdf.extract(b"", b"dkp_prk", ikm), b"sk", b"", 56)

    def public_key(self, private_key: bytes) -> bytes:
        return X448PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()

    def exchange(self, private_key: bytes, public_key: bytes) -> bytes:
        try:
            peer = X448PublicKey.from_public_bytes(public_key)
            return X448PrivateKey.from_private_bytes(private_key).exchange(peer)
        except ValueError:
            raise InvalidError("malformed or low-order X448 key") from None

    def check_public_key(self, public_key: bytes) -> None:
        if len(public_key) != 56:
            raise InvalidError("malformed X448 key")


@dataclass(frozen=True)
class EcdsaSigner:
    seed: bytes
    curve: NistCurve
    digest: hashes.HashAlgorithm

    @property
    def public_key(self) -> bytes:
        return self.curve.public_key(self.seed)

    def sign(self, message: bytes) -> bytes:
        private = ec.derive_private_key(int.from_bytes(self.seed, "big"), self.curve.curve)
        return private.sign(message, ec.ECDSA(self.digest))


@dataclass(frozen=True)
class Ecdsa:
    curve: NistCurve
    digest: hashes.HashAlgorithm

    def generate(self) -> Signer:
        return self.load(self.curve.generate())

    def load(self, seed: bytes) -> Signer:
        return EcdsaSigner(seed, self.curve, self.digest)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(self.curve.curve, public_key)
            key.verify(signature, message, ec.ECDSA(self.digest))
        except (ValueError, InvalidSignature):
            raise VerificationError from None


@dataclass(frozen=True)
class Ed448Signer:
    seed: bytes

    @property
    def public_key(self) -> bytes:
        return Ed448PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        return Ed448PrivateKey.from_private_bytes(self.seed).sign(message)


class Ed448:
    def generate(self) -> Signer:
        return self.load(Ed448PrivateKey.generate().private_bytes_raw())

    def load(self, seed: bytes) -> Signer:
        return Ed448Signer(seed)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        try:
            Ed448PublicKey.from_public_bytes(public_key).verify(signature, message)
        except (ValueError, InvalidSignature):
            raise VerificationError from None


P256 = NistCurve(ec.SECP256R1(), 32)
P384 = NistCurve(ec.SECP384R1(), 48)
P521 = NistCurve(ec.SECP521R1(), 66, mask=0x01)


def _nist(
    value: int, kem_id: int, *, curve: NistCurve, kdf: Kdf, aead: Aead, digest: hashes.HashAlgorithm
) -> CipherSuite:
    hpke = Hpke(kem_id=kem_id, group=curve, kem_kdf=kdf, kdf=kdf, aead=aead)
    return CipherSuite(value=value, hpke=hpke, aead=aead, kdf=kdf, signature=Ecdsa(curve, digest))


def _x448(value: int, aead: Aead) -> CipherSuite:
    hpke = Hpke(kem_id=0x0021, group=X448(), kem_kdf=HKDF_SHA512, kdf=HKDF_SHA512, aead=aead)
    return CipherSuite(value=value, hpke=hpke, aead=aead, kdf=HKDF_SHA512, signature=Ed448())


_TEST_SUITES: dict[int, Callable[[], CipherSuite]] = {
    2: lambda: _nist(
        2, 0x0010, curve=P256, kdf=HKDF_SHA256, aead=AES_128_GCM, digest=hashes.SHA256()
    ),
    4: lambda: _x448(4, AES_256_GCM),
    5: lambda: _nist(
        5, 0x0012, curve=P521, kdf=HKDF_SHA512, aead=AES_256_GCM, digest=hashes.SHA512()
    ),
    6: lambda: _x448(6, CHACHA20_POLY1305),
    7: lambda: _nist(
        7, 0x0011, curve=P384, kdf=HKDF_SHA384, aead=AES_256_GCM, digest=hashes.SHA384()
    ),
}


def suite_for(value: int) -> CipherSuite:
    """Return the product's suite of a number, or one that exists for the vectors."""
    make = _TEST_SUITES.get(value)
    return make() if make else cipher_suite(value)

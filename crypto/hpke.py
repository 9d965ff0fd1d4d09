"""Hybrid public key encryption (RFC 9180), base mode, as MLS uses it.

``cryptography`` offers HPKE in one shot only; MLS also needs ``DeriveKeyPair`` and the export of a
secret, so the key schedule stands here, on libsodium's X25519 and ``cryptography``'s AEADs. The
tests hold it against ``cryptography``'s own HPKE and the RFC's vectors.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import CryptoError as NaClError

from crypto.errors import InvalidError, UsageError, VerificationError

NONCE_BYTES = 12
"""Nonce length of every AEAD in RFC 9180, section 7.3."""

TAG_BYTES = 16
"""Tag length of every AEAD in RFC 9180, section 7.3."""

_MODE_BASE = b"\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kdf:
    """HKDF with one hash (RFC 5869; RFC 9180, section 7.2)."""

    kdf_id: int
    hash_name: str
    hash_bytes: int

    def extract(self, salt: bytes, ikm: bytes) -> bytes:
        """Return ``hash_bytes`` pseudorandom bytes (RFC 5869, section 2.2)."""
        return hmac.digest(salt, ikm, self.hash_name)

    def expand(self, prk: bytes, info: bytes, length: int) -> bytes:
        """Return ``length`` bytes bound to ``info`` (RFC 5869, section 2.3).

        Raises:
            UsageError: More than 255 blocks are asked for.
        """
        block = hmac.digest(prk, info + b"\x01", self.hash_name)
        if length <= self.hash_bytes:
            return block[:length]
        if length > 255 * self.hash_bytes:
            raise UsageError("HKDF gives at most 255 blocks")
        output = block
        counter = 2
        while len(output) < length:
            block = hmac.digest(prk, block + info + counter.to_bytes(1, "big"), self.hash_name)
            output += block
            counter += 1
        return output[:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aead:
    """An AEAD of RFC 9180, section 7.3."""

    aead_id: int
    key_bytes: int
    cipher: Callable[[bytes], AESGCM | ChaCha20Poly1305]

    def seal(self, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        """Return ciphertext and tag."""
        return self.cipher(key).encrypt(nonce, plaintext, aad)

    def open(self, key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext.

        Raises:
            VerificationError: The tag does not verify.
        """
        try:
            return self.cipher(key).decrypt(nonce, ciphertext, aad)
        except InvalidTag:
            raise VerificationError from None


class DiffieHellman(Protocol):
    """A Diffie-Hellman group as RFC 9180, section 4.1, wants it; private keys are bytes."""

    def generate(self) -> bytes:
        """Return a fresh private key."""

    def derive(self, ikm: bytes, kdf: LabeledKdf) -> bytes:
        """Return the private key derived from ``ikm`` (RFC 9180, section 7.1.3)."""

    def public_key(self, private_key: bytes) -> bytes:
        """Return the encoded public key."""

    def exchange(self, private_key: bytes, public_key: bytes) -> bytes:
        """Return the shared secret; ``InvalidError`` for a key of low order or off the curve."""

    def check_public_key(self, public_key: bytes) -> None:
        """Refuse, with ``InvalidError``, a key that no exchange could use."""


@dataclass(frozen=True, slots=True)
class LabeledKdf:
    """``LabeledExtract`` and ``LabeledExpand`` for one suite (RFC 9180, section 4)."""

    kdf: Kdf
    suite_id: bytes

    def extract(self, salt: bytes, label: bytes, ikm: bytes) -> bytes:
        """Return ``LabeledExtract(salt, label, ikm)``."""
        return self.kdf.extract(salt, b"HPKE-v1" + self.suite_id + label + ikm)

    def expand(self, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
        """Return ``LabeledExpand(prk, label, info, length)``."""
        labeled = length.to_bytes(2, "big") + b"HPKE-v1" + self.suite_id + label + info
        return self.kdf.expand(prk, labeled, length)


_P = 2**255 - 19
_ORDER_8 = (  # the two u-coordinates of points of order 8 (RFC 7748, section 7; cr.yp.to/ecdh.html)
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_LOW_ORDER = frozenset(
    (u + high).to_bytes(32, "little")
    for u in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1)
    for high in (0, 2**255)
)


class X25519:
    """X25519 by libsodium, which refuses every low-order public key."""

    public_key_bytes = 32

    def generate(self) -> bytes:
        """Return a fresh private key."""
        return secrets.token_bytes(32)

    def derive(self, ikm: bytes, kdf: LabeledKdf) -> bytes:
        """Return the private key derived from ``ikm`` (RFC 9180, section 7.1.3)."""
        return kdf.expand(kdf.extract(b"", b"dkp_prk", ikm), b"sk", b"", 32)

    def public_key(self, private_key: bytes) -> bytes:
        """Return the public key.

        Raises:
            InvalidError: The private key, read back from a store, has another length.
        """
        if len(private_key) != self.public_key_bytes:
            raise InvalidError("HPKE private key has the wrong length (RFC 9180, 7.1.2)")
        return crypto_scalarmult_base(private_key)

    def exchange(self, private_key: bytes, public_key: bytes) -> bytes:
        """Return the shared secret.

        Raises:
            InvalidError: A key has another length, or the public one is of low order (RFC 7748,
                6.1). libsodium would read beyond a private key that is too short.
        """
        if len(private_key) != self.public_key_bytes:
            raise InvalidError("HPKE private key has the wrong length (RFC 9180, 7.1.2)")
        if len(public_key) != self.public_key_bytes:
            raise InvalidError("HPKE public key has the wrong length (RFC 9180, 7.1.1)")
        try:
            return crypto_scalarmult(private_key, public_key)
        except NaClError:
            raise InvalidError("HPKE public key is of low order (RFC 9180, 7.1.4)") from None

    def check_public_key(self, public_key: bytes) -> None:
        """Refuse, without an exchange, the keys that ``exchange`` would refuse.

        Raises:
            InvalidError: The key has another length, or is of low order.
        """
        if len(public_key) != self.public_key_bytes:
            raise InvalidError("HPKE public key has the wrong length (RFC 9180, 7.1.1)")
        if public_key in _LOW_ORDER:
            raise InvalidError("HPKE public key is of low order (RFC 9180, 7.1.4)")


class Hpke:
    """One suite of RFC 9180: DHKEM over ``group``, HKDF and an AEAD, in base mode."""

    __slots__ = ("_kem", "_schedule", "aead", "group", "psk_id_hash", "secret_bytes")

    def __init__(
        self, *, kem_id: int, group: DiffieHellman, kem_kdf: Kdf, kdf: Kdf, aead: Aead
    ) -> None:
        ids = [n.to_bytes(2, "big") for n in (kem_id, kdf.kdf_id, aead.aead_id)]
        self.group = group
        self.aead = aead
        self.secret_bytes = kem_kdf.hash_bytes
        self._kem = LabeledKdf(kem_kdf, b"KEM" + ids[0])
        self._schedule = LabeledKdf(kdf, b"HPKE" + b"".join(ids))
        self.psk_id_hash = self._schedule.extract(b"", b"psk_id_hash", b"")

    def generate_key_pair(self) -> tuple[bytes, bytes]:
        """Return a fresh (private key, public key)."""
        private = self.group.generate()
        return private, self.group.public_key(private)

    def derive_key_pair(self, ikm: bytes) -> tuple[bytes, bytes]:
        """Return the (private key, public key) that ``ikm`` determines.

        Source: RFC 9180, section 4, DeriveKeyPair.
        """
        private = self.group.derive(ikm, self._kem)
        return private, self.group.public_key(private)

    def _shared_secret(self, dh: bytes, kem_context: bytes) -> bytes:
        """Source: RFC 9180, section 4.1, ExtractAndExpand."""
        prk = self._kem.extract(b"", b"eae_prk", dh)
        return self._kem.expand(prk, b"shared_secret", kem_context, self.secret_bytes)

    def _encapsulate(self, public_key: bytes) -> tuple[bytes, bytes]:
        """Source: RFC 9180, section 4.1, Encap; gives (shared_secret, enc)."""
        private, enc = self.generate_key_pair()
        dh = self.group.exchange(private, public_key)
        return self._shared_secret(dh, enc + public_key), enc

    def _decapsulate(self, private_key: bytes, public_key: bytes, enc: bytes) -> bytes:
        """Source: RFC 9180, section 4.1, Decap."""
        dh = self.group.exchange(private_key, enc)
        return self._shared_secret(dh, enc + public_key)

    def _context(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
        """Source: RFC 9180, section 5.1, KeySchedule; gives (secret, key_schedule_context)."""
        schedule = self._schedule
        context = _MODE_BASE + self.psk_id_hash + schedule.extract(b"", b"info_hash", info)
        return schedule.extract(shared_secret, b"secret", b""), context

    def _key(self, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
        secret, context = self._context(shared_secret, info)
        key = self._schedule.expand(secret, b"key", context, self.aead.key_bytes)
        return key, self._schedule.expand(secret, b"base_nonce", context, NONCE_BYTES)

    def seal(self, public_key: bytes, *, info: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
        """Encrypt once to ``public_key``, with empty associated data.

        Returns:
            The KEM output and the ciphertext.

        Raises:
            InvalidError: ``public_key`` is malformed or of low order.
        """
        shared_secret, enc = self._encapsulate(public_key)
        key, nonce = self._key(shared_secret, info)
        return enc, self.aead.seal(key, nonce, b"", plaintext)

    def open(
        self, private_key: bytes, public_key: bytes, *, enc: bytes, info: bytes, ciphertext: bytes
    ) -> bytes:
        """Decrypt what ``seal`` made for the key pair.

        Args:
            private_key: The recipient's.
            public_key: The recipient's; given because deriving it costs half an exchange.
            enc: The KEM output.
            info: As at ``seal``.
            ciphertext: As ``seal`` gave it.

        Raises:
            InvalidError: ``enc`` is malformed or of low order.
            VerificationError: The ciphertext does not open.
        """
        key, nonce = self._key(self._decapsulate(private_key, public_key, enc), info)
        return self.aead.open(key, nonce, b"", ciphertext)

    def _export(self, shared_secret: bytes, info: bytes, label: bytes, length: int) -> bytes:
        secret, context = self._context(shared_secret, info)
        exporter_secret = self._schedule.expand(
            secret, b"exp", context, self._schedule.kdf.hash_bytes
        )
        return self._schedule.expand(exporter_secret, b"sec", label, length)

    def send_export(
        self, public_key: bytes, *, info: bytes, label: bytes, length: int
    ) -> tuple[bytes, bytes]:
        """Return (KEM output, secret of ``length`` bytes shared with the key's holder).

        Raises:
            InvalidError: ``public_key`` is malformed or of low order.
        """
        shared_secret, enc = self._encapsulate(public_key)
        return enc, self._export(shared_secret, info, label, length)

    def receive_export(
        self,
        private_key: bytes,
        public_key: bytes,
        *,
        enc: bytes,
        info: bytes,
        label: bytes,
        length: int,
    ) -> bytes:
        """Return the secret that ``send_export`` gave its caller.

        Raises:
            InvalidError: ``enc`` is malformed or of low order.
        """
        shared_secret = self._decapsulate(private_key, public_key, enc)
        return self._export(shared_secret, info, label, length)


HKDF_SHA256 = Kdf(kdf_id=1, hash_name="sha256", hash_bytes=32)
AES_128_GCM = Aead(aead_id=1, key_bytes=16, cipher=AESGCM)
CHACHA20_POLY1305 = Aead(aead_id=3, key_bytes=32, cipher=ChaCha20Poly1305)
KEM_X25519_HKDF_SHA256 = 0x0020
"""DHKEM(X25519, HKDF-SHA256) (RFC 9180, section 7.1)."""

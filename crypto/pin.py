"""PIN keys: the key of a device's store, from a PIN and the share that the relay gives for it.

::

    stretched = Argon2id(PIN, salt, cost)                               on the device
    proof     = HKDF-Expand(stretched, "Wardline 1 pin proof")          sent to the relay
    store_key = HKDF-Expand(HKDF-Extract(share, stretched), "Wardline 1 store key")
    key_check = HKDF-Expand(store_key, "Wardline 1 store key check")    kept beside the store

Who can guess what:

- The stolen device alone (its disk: salt, cost and encrypted store) cannot test a guess at all: the
  store key also hangs on 32 random bytes that are not there.
- The relay alone (verifier, share, and the proofs that it is sent) cannot test a guess either: it
  lacks the salt, 16 random bytes that never leave the device.
- The relay *and* the disk together try one PIN for each run of Argon2id: at 0.3 s a million PINs of
  six digits take three or four days on one core, less on many. So it needs a longer PIN where that
  matters, and the wipe deletes the share.
- The key check tells a wrong key from a damaged store, and a thief no more than the store itself
  does: either shows a right guess to whoever has the share.
- The proof does not help towards the store key: both are outputs of HKDF under different labels,
  and the store key needs the share besides.

Source: RFC 9106 (Argon2id); RFC 5869 (HKDF); RFC 8265, section 4.2, for the normalised PIN, here
with NFKC so that full-width digits are digits.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass, field

from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13
from nacl.exceptions import CryptoError as NaClError

from crypto import codec
from crypto.errors import InvalidError
from crypto.hpke import HKDF_SHA256
from crypto.pin_proof import PROOF_BYTES, SHARE_BYTES

VERSION = 1
SALT_BYTES = 16
STORE_KEY_BYTES = 32
STRETCHED_BYTES = 32
KEY_CHECK_BYTES = 32

MIN_PIN_CHARACTERS = 6
"""Shortest PIN: ten guesses at the relay find one of six digits once in 100,000 times."""

MAX_PIN_CHARACTERS = 64
"""Longest PIN, after normalisation: room for a phrase, a bound for what is hashed."""

MAX_PIN_INPUT = 256
"""Longest PIN before normalisation, in characters, so that a pasted book is not normalised."""

MIN_PASSES = 2
MIN_MEMORY_KIB = 65_536
"""Floor of the cost, in KiB with ``MIN_PASSES``: libsodium's interactive profile."""

MAX_PASSES = 16
MAX_MEMORY_KIB = 524_288
"""Ceiling of the cost: an altered header must not make a telephone compute or swap for minutes."""

DEFAULT_PASSES = 3
DEFAULT_MEMORY_KIB = 131_072
"""Cost of a new PIN, 128 MiB: 0.23 to 0.29 s as measured on one core; wanted 0.4 s at most."""

_TEST_PASSES = 1
_TEST_MEMORY_KIB = 8
_PROOF_LABEL = b"Wardline 1 pin proof"
_STORE_LABEL = b"Wardline 1 store key"
_CHECK_LABEL = b"Wardline 1 store key check"
_FORMER_LABEL = b"Wardline 1 former store key"


@dataclass(frozen=True, slots=True, kw_only=True)
class PinParameters:
    """Salt and cost of one PIN, kept on the device beside its store, not secret from its owner.

    Attributes:
        passes: Argon2id's t.
        memory_kib: Argon2id's m, in KiB; its p is 1.
        salt: ``SALT_BYTES`` random bytes, which the relay must not learn.
    """

    passes: int
    memory_kib: int
    salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        in_range = (
            MIN_PASSES <= self.passes <= MAX_PASSES
            and MIN_MEMORY_KIB <= self.memory_kib <= MAX_MEMORY_KIB
        )
        if not in_range or len(self.salt) != SALT_BYTES:
            raise InvalidError("PIN parameters have a salt, and a cost between floor and ceiling")

    @classmethod
    def fresh(cls) -> PinParameters:
        """Return the default cost with a new salt."""
        return cls(
            passes=DEFAULT_PASSES,
            memory_kib=DEFAULT_MEMORY_KIB,
            salt=secrets.token_bytes(SALT_BYTES),
        )

    @classmethod
    def minimum_for_tests(cls) -> PinParameters:
        """Return the least cost that Argon2id has, for tests that try many PINs.

        It is no setting: the constructor and ``decode`` refuse that cost, so a header that was
        written with it is never read.
        """
        parameters = cls.fresh()
        # The one way around the floor, so that nothing but this name leads below it.
        object.__setattr__(parameters, "passes", _TEST_PASSES)
        object.__setattr__(parameters, "memory_kib", _TEST_MEMORY_KIB)
        return parameters

    def encode(self) -> bytes:
        """Return ``uint8 version; uint8 passes; uint32 memory_kib; opaque salt[16]``."""
        return bytes([VERSION, self.passes]) + codec.u32(self.memory_kib) + self.salt

    @classmethod
    def decode(cls, data: bytes) -> PinParameters:
        """Return the parameters in a device's header.

        Raises:
            DecodeError: The bytes are none.
            InvalidError: They are of another version, below the floor (where an attacker who can
                write to the disk would like them) or above the ceiling.
        """
        return codec.decode(data, "PinParameters", _read_parameters)


def _read_parameters(reader: codec.Reader) -> PinParameters:
    version = reader.u8()
    parameters = PinParameters(
        passes=reader.u8(), memory_kib=reader.u32(), salt=reader.take(SALT_BYTES)
    )
    if version != VERSION:
        raise InvalidError("PIN parameters of a known version")
    return parameters


@dataclass(frozen=True, slots=True)
class PinKey:
    """A stretched PIN, to be held only while the store is opened; no ``repr`` shows it."""

    _stretched: bytes = field(repr=False)

    def proof(self) -> bytes:
        """Return the ``PROOF_BYTES`` that show the relay that the PIN is right.

        The relay keeps only ``pin_proof.verifier`` of it.
        """
        prk = HKDF_SHA256.extract(b"", self._stretched)
        return HKDF_SHA256.expand(prk, _PROOF_LABEL, PROOF_BYTES)

    def store_key(self, share: bytes) -> bytes:
        """Return the ``STORE_KEY_BYTES`` key of the device's store.

        Args:
            share: ``SHARE_BYTES`` bytes from the relay.

        Raises:
            InvalidError: The share, which comes from outside, has another length.

        Source: RFC 5869, with the share as the extractor's salt: HMAC is a pseudorandom function
            of either input while the other is unknown (Bellare and Lysyanskaya, 2015).
        """
        if len(share) != SHARE_BYTES:
            raise InvalidError("the relay's share has 32 bytes")
        prk = HKDF_SHA256.extract(share, self._stretched)
        return HKDF_SHA256.expand(prk, _STORE_LABEL, STORE_KEY_BYTES)


def normalise_pin(pin: str) -> bytes:
    """Return the PIN as it is hashed, the same however a keyboard composed it.

    Raises:
        InvalidError: It is shorter than ``MIN_PIN_CHARACTERS``, longer than ``MAX_PIN_CHARACTERS``,
            or holds a character that does not print. Nothing of the PIN is in the error.

    Source: RFC 8265, section 4.2 (OpaqueString).
    """
    normal = unicodedata.normalize("NFKC", pin[: MAX_PIN_INPUT + 1])
    # One typed character may normalise to eighteen, and is still one to guess.
    shortest = min(len(pin), len(normal))
    length_fits = shortest >= MIN_PIN_CHARACTERS and len(normal) <= MAX_PIN_CHARACTERS
    if len(pin) > MAX_PIN_INPUT or not length_fits or not normal.isprintable():
        raise InvalidError("a PIN has 6 to 64 printable characters")
    return normal.encode()


def stretch(pin: str, parameters: PinParameters) -> PinKey:
    """Return the key of a PIN, after some tenths of a second and ``memory_kib`` of memory.

    Raises:
        InvalidError: It cannot be a PIN.
        MemoryError: The device has not the memory that the parameters ask for.

    Source: RFC 9106, Argon2id version 1.3.
    """
    try:
        stretched = crypto_pwhash_alg(
            STRETCHED_BYTES,
            normalise_pin(pin),
            parameters.salt,
            opslimit=parameters.passes,
            memlimit=parameters.memory_kib * 1024,
            alg=crypto_pwhash_ALG_ARGON2ID13,
        )
    except NaClError:
        raise MemoryError from None
    return PinKey(stretched)


def key_check(store_key: bytes) -> bytes:
    """Return 32 bytes that show whether a key is the store's, to be kept beside the store.

    Args:
        store_key: ``STORE_KEY_BYTES`` bytes, as ``PinKey.store_key`` gives them.

    Source: RFC 5869, section 2.3; the key is an output of HKDF, so it is uniform.
    """
    return HKDF_SHA256.expand(store_key, _CHECK_LABEL, KEY_CHECK_BYTES)


def mask_former_key(former: bytes, *, key: bytes) -> bytes:
    """Return a store's former key hidden under the one that follows it, or the key from that.

    For the moments of a PIN change in which it is not known under which of the two the store
    stands. Applied twice it gives back what it was given; ``key_check`` tells whether it is right.

    Args:
        former: ``STORE_KEY_BYTES`` bytes, or what this function made of them.
        key: The key that follows, fresh by its salt and share: it masks one former key ever.

    Raises:
        InvalidError: The hidden key, which is read from the disk, has another length.

    Source: RFC 5869, section 2.3, whose output is a one-time pad here.
    """
    if len(former) != STORE_KEY_BYTES:
        raise InvalidError("a store's key has 32 bytes")
    pad = HKDF_SHA256.expand(key, _FORMER_LABEL, STORE_KEY_BYTES)
    return bytes(a ^ b for a, b in zip(former, pad, strict=True))

"""The errors of the package, split by whose fault it is and what the caller does next.

Bytes from outside raise ``DecodeError``, ``InvalidError``, ``VerificationError``, ``EpochError``
or ``KeyUsedError`` and nothing else; ``UsageError`` is a bug of our own caller and no bytes from
outside can raise it. No error carries a key, a plaintext or an identity.
"""

from __future__ import annotations


class CryptoError(Exception):
    """Base of every error that this package raises."""


class DecodeError(CryptoError):
    """Bytes that are no encoding of the struct: drop them, they can never become valid.

    Attributes:
        struct: Name of the struct that was being decoded.
        offset: Offset in bytes at which decoding failed.
    """

    def __init__(self, struct: str, offset: int) -> None:
        super().__init__(f"not a valid {struct}: at offset {offset}")
        self.struct = struct
        self.offset = offset


class InvalidError(CryptoError):
    """Well-formed input that breaks a named rule of its standard: refuse it.

    Attributes:
        rule: The rule, with the section of the standard that states it.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class VerificationError(CryptoError):
    """A signature, tag, proof or certificate does not verify. It says nothing more, ever."""

    def __init__(self) -> None:
        super().__init__("verification failed")


class EpochError(CryptoError):
    """A message of an epoch that this group state cannot read: wait, catch up, or rejoin.

    Attributes:
        have: The epoch of the state.
        got: The epoch of the message.
    """

    def __init__(self, have: int, got: int) -> None:
        super().__init__(f"message of epoch {got}, state in epoch {have}")
        self.have = have
        self.got = got


class KeyUsedError(CryptoError):
    """The key of this message was used and is gone: a replay, or a message seen before."""

    def __init__(self) -> None:
        super().__init__("the key of this message is already used")


class UsageError(CryptoError):
    """Our own caller asked for what cannot be done; a bug there, not an attack."""

"""The revocation list: who is revoked, signed by the authority, in lists that only grow newer."""

from __future__ import annotations

from types import MappingProxyType
from typing import TypeVar

from crypto import codec, names
from crypto.certificate import FINGERPRINT_BYTES
from crypto.codec import Reader
from crypto.errors import InvalidError
from crypto.statement import StatementType, VerifiedStatement, verify_statement
from crypto.trust import Revocations, Trust

K = TypeVar("K", str, bytes)


def encode_revocations(revocations: Revocations) -> bytes:
    """Return the body of a ``REVOCATION_LIST`` statement: number, devices, certificates.

    Both lists are ascending, so that there is one encoding.
    """
    devices = (
        names.write_text(name) + codec.u64(time)
        for name, time in sorted(revocations.devices.items())
    )
    certificates = (
        fingerprint + codec.u64(time)
        for fingerprint, time in sorted(revocations.certificates.items())
    )
    return codec.u64(revocations.number) + codec.vector(devices) + codec.vector(certificates)


def decode_revocations(body: bytes) -> Revocations:
    """Decode the body of a ``REVOCATION_LIST`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A list is not ascending, or a name is malformed.
    """
    return codec.decode(body, "RevocationList", _read_revocations)


def verify_revocation_list(data: bytes, *, trust: Trust, at_ms: int) -> Trust:
    """Return ``trust`` with the revocations of a signed list taken in.

    Raises:
        DecodeError: The bytes are no statement, or its body no list.
        InvalidError: It breaks a rule, which is named, or is older than one taken in before.
        VerificationError: The authority did not sign it.
    """
    statement = verify_statement(
        data, expected=StatementType.REVOCATION_LIST, trust=trust, at_ms=at_ms
    )
    return _taken_in(statement, trust)


def _taken_in(statement: VerifiedStatement, trust: Trust) -> Trust:
    newer = decode_revocations(statement.body)
    return trust.revoking(trust.revocations.with_list(newer))


def _read_revocations(reader: Reader) -> Revocations:
    number = reader.u64()
    devices = reader.vector(_read_device)
    certificates = reader.vector(_read_certificate)
    for name, _ in devices:
        names.check_full_name(name)
    _check_ascending([name for name, _ in devices])
    _check_ascending([fingerprint for fingerprint, _ in certificates])
    return Revocations(
        number=number,
        devices=MappingProxyType(dict(devices)),
        certificates=MappingProxyType(dict(certificates)),
    )


def _check_ascending(keys: list[K]) -> None:
    if keys != sorted(set(keys)):
        raise InvalidError("a revocation list is ascending and without repeats")


def _read_device(reader: Reader) -> tuple[str, int]:
    return names.read_text(reader), reader.u64()


def _read_certificate(reader: Reader) -> tuple[bytes, int]:
    return reader.take(FINGERPRINT_BYTES), reader.u64()

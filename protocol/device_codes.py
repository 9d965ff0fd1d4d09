"""What two devices show each other when a person gets a further one: a text, or a QR code.

The new device shows an *application*: its name and its public keys. The person's other device, or
two administrators where all are lost, sign a statement that lets in these keys and no others; what
comes back is a *grant*: that statement, and where the relay is. Neither is secret. Both end with a
checksum, so that what was mistyped is refused before anybody signs it.

In capitals, as an invitation's link is, for the smaller QR code.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from crypto import codec
from crypto.certificate import FINGERPRINT_BYTES, DeviceClaim, read_claim
from crypto.codec import Reader
from crypto.errors import DecodeError, InvalidError
from crypto.invitation import CHECKSUM_BYTES, TLS_PIN_BYTES
from crypto.names import read_text, write_text

APPLICATION_PREFIX = "WARDLINE-DEVICE:"
GRANT_PREFIX = "WARDLINE-GRANT:"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a new device is given: why it may exist, and whom to ask for its certificate.

    Attributes:
        host: The relay's DNS name or address, in lower case.
        port: The relay's port.
        tls_pin: SHA-256 of the relay's SubjectPublicKeyInfo.
        organisation: Fingerprint of the root.
        statement: The signed ``DEVICE_VOUCHING`` or ``DEVICE_APPROVAL``.
    """

    host: str
    port: int
    tls_pin: bytes = field(repr=False)
    organisation: bytes = field(repr=False)
    statement: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.port < 1 << 16:
            raise InvalidError("a port is 1 to 65535")
        if (len(self.tls_pin), len(self.organisation)) != (TLS_PIN_BYTES, FINGERPRINT_BYTES):
            raise InvalidError("a pin and a fingerprint have 32 bytes each")

    def encode(self) -> bytes:
        """Return what the text holds."""
        return b"".join(
            (
                self.tls_pin,
                self.organisation,
                codec.u16(self.port),
                write_text(self.host),
                codec.opaque(self.statement),
            )
        )


def application_text(claim: DeviceClaim) -> str:
    """Return the text by which a new device asks to be let in."""
    return _text(APPLICATION_PREFIX, claim.encode())


def read_application(text: str) -> DeviceClaim:
    """Return the device that a text asks for; white space around and within it is left out.

    Raises:
        DecodeError: It is no such text, or mistyped.
        InvalidError: A name or key breaks its rule.
    """
    return codec.decode(_payload(APPLICATION_PREFIX, text), "DeviceApplication", read_claim)


def grant_text(grant: Grant) -> str:
    """Return the text that lets a new device go on."""
    return _text(GRANT_PREFIX, grant.encode())


def read_grant_text(text: str) -> Grant:
    """Return what a text grants; white space around and within it is left out.

    Raises:
        DecodeError: It is no such text, or mistyped.
        InvalidError: A field breaks its rule.
    """
    return codec.decode(_payload(GRANT_PREFIX, text), "DeviceGrantText", _read_grant)


def _text(prefix: str, payload: bytes) -> str:
    versioned = codec.u8(VERSION) + payload
    encoded = base64.b32encode(versioned + _checksum(prefix, versioned)).decode("ascii")
    return prefix + encoded.rstrip("=")


def _payload(prefix: str, text: str) -> bytes:
    joined = "".join(text.split())
    if not joined.startswith(prefix):
        raise DecodeError("DeviceText", 0)
    encoded = joined.removeprefix(prefix)
    try:
        data = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except (binascii.Error, ValueError):
        raise DecodeError("DeviceText", len(prefix)) from None
    versioned, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(prefix, versioned) != checksum or versioned[:1] != codec.u8(VERSION):
        raise DecodeError("DeviceText", len(versioned))
    if _text(prefix, versioned[1:]) != joined:
        raise DecodeError("DeviceText", len(joined))
    return versioned[1:]


def _checksum(prefix: str, payload: bytes) -> bytes:
    return hashlib.sha256(prefix.encode("ascii") + payload).digest()[:CHECKSUM_BYTES]


def _read_grant(reader: Reader) -> Grant:
    pin, organisation = reader.take(TLS_PIN_BYTES), reader.take(FINGERPRINT_BYTES)
    return Grant(
        tls_pin=pin,
        organisation=organisation,
        port=reader.u16(),
        host=read_text(reader),
        statement=reader.opaque(),
    )

"""Invitations: the signed statement that admits a person, and the link that the person scans.

The link holds a secret seed, the statement only the seed's public key: the relay, which carries
the statement, cannot use it, and who scans the link can check everything that the relay answers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass, field

from crypto import codec, ed25519, names
from crypto.certificate import FINGERPRINT_BYTES
from crypto.codec import Reader
from crypto.ed25519 import SigningKey
from crypto.errors import DecodeError, InvalidError
from crypto.names import Role

LINK_PREFIX = "WARDLINE:"
"""Scheme of the link, in capitals: a QR code stores capitals, digits and ``:`` in 5.5 bits each
(ISO/IEC 18004, alphanumeric mode), where base64url would take 8. So base32 makes the smaller code
although it has more characters, and it survives being typed or read out."""

LINK_VERSION = 1
CHECKSUM_BYTES = 4
"""Bytes of SHA-256 at a link's end: a mistyped link is refused before anything is contacted."""
HOST_CHARACTERS = 253
"""Longest DNS name in text (RFC 1035, section 2.3.4, less the root's length octet and dot)."""
TLS_PIN_BYTES = 32

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f]*:[0-9a-f:.]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InvitationLink:
    """What the invited person scans: whom to contact, whom to believe, and the one-time secret.

    Attributes:
        host: The relay's DNS name or address, in lower case.
        port: The relay's port.
        tls_pin: SHA-256 of the relay's SubjectPublicKeyInfo (RFC 7469, section 2.4).
        organisation: Fingerprint of the root.
        seed: Ed25519 seed of the invitation's key.
    """

    host: str
    port: int
    tls_pin: bytes
    organisation: bytes
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.host) > HOST_CHARACTERS or not _HOST.fullmatch(self.host):
            raise InvalidError("a relay is named by a DNS name or address in lower case")
        if not 0 < self.port < 1 << 16:
            raise InvalidError("a port is 1 to 65535")
        sizes = (len(self.tls_pin), len(self.organisation), len(self.seed))
        if sizes != (TLS_PIN_BYTES, FINGERPRINT_BYTES, ed25519.SEED_BYTES):
            raise InvalidError("a pin, a fingerprint and a seed have 32 bytes each")

    @property
    def key(self) -> SigningKey:
        """The invitation's key, used once: to sign the device's certificate request."""
        return SigningKey.from_seed(self.seed)

    def encode(self) -> str:
        """Return the link."""
        payload = b"".join(
            (
                codec.u8(LINK_VERSION),
                self.seed,
                self.organisation,
                self.tls_pin,
                codec.u16(self.port),
                names.write_text(self.host),
            )
        )
        return _link(payload)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Invitation:
    """Body of an ``INVITATION`` statement: who may enrol a first device, with what.

    Attributes:
        invitation_key: Public key of the link's seed.
        user: The person.
        roles: What the device's certificate will carry.
        ends_ms: Date after which no certificate is issued, where the person's work here ends.
    """

    invitation_key: bytes
    user: str
    roles: frozenset[Role]
    ends_ms: int | None

    def __post_init__(self) -> None:
        ed25519.check_public_key(self.invitation_key)
        names.check_user_name(self.user)
        if self.ends_ms is not None:
            names.check_time(self.ends_ms)

    def encode(self) -> bytes:
        """Return the statement's body."""
        return b"".join(
            (
                self.invitation_key,
                names.write_text(self.user),
                names.write_roles(self.roles),
                codec.optional(None if self.ends_ms is None else codec.u64(self.ends_ms)),
            )
        )


def create_link(*, host: str, port: int, tls_pin: bytes, organisation: bytes) -> InvitationLink:
    """Return a link with a fresh seed; the invitation names ``link.key.public_key``.

    Raises:
        InvalidError: The address is malformed, or a hash has another length.
    """
    return InvitationLink(
        host=host,
        port=port,
        tls_pin=tls_pin,
        organisation=organisation,
        seed=secrets.token_bytes(ed25519.SEED_BYTES),
    )


def decode_link(link: str) -> InvitationLink:
    """Return what a link says, in exactly the spelling that ``InvitationLink.encode`` gives.

    Raises:
        DecodeError: It is no link, or mistyped.
        InvalidError: A field breaks its rule.
    """
    payload = _payload(link)
    value = codec.decode(payload, "InvitationLink", _read_link)
    if _link(payload) != link:
        raise DecodeError("InvitationLink", 0)
    return value


def decode_invitation(body: bytes) -> Invitation:
    """Decode the body of an ``INVITATION`` statement.

    Raises:
        DecodeError: The bytes are no encoding of it.
        InvalidError: A field breaks its rule.
    """
    return codec.decode(body, "Invitation", _read_invitation)


def _link(payload: bytes) -> str:
    text = base64.b32encode(payload + _checksum(payload)).decode("ascii")
    return LINK_PREFIX + text.rstrip("=")


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(b"Wardline 1.0 InvitationLink" + payload).digest()[:CHECKSUM_BYTES]


def _payload(link: str) -> bytes:
    if not link.startswith(LINK_PREFIX):
        raise DecodeError("InvitationLink", 0)
    text = link.removeprefix(LINK_PREFIX)
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise DecodeError("InvitationLink", len(LINK_PREFIX)) from None
    payload, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if _checksum(payload) != checksum:
        raise DecodeError("InvitationLink", len(payload))
    return payload


def _read_link(reader: Reader) -> InvitationLink:
    if reader.u8() != LINK_VERSION:
        raise reader.fail()
    return InvitationLink(
        seed=reader.take(ed25519.SEED_BYTES),
        organisation=reader.take(FINGERPRINT_BYTES),
        tls_pin=reader.take(TLS_PIN_BYTES),
        port=reader.u16(),
        host=names.read_text(reader),
    )


def _read_invitation(reader: Reader) -> Invitation:
    return Invitation(
        invitation_key=reader.take(ed25519.PUBLIC_KEY_BYTES),
        user=names.read_text(reader),
        roles=names.read_roles(reader),
        ends_ms=reader.optional(Reader.u64),
    )

"""What a device signs to prove itself on a connection, bound to that connection alone.

Both proofs cover the two opening frames as they were sent: organisation, device, both nonces, the
versions offered and taken, and the pin of the relay's TLS key as the client itself saw it. So a
proof made for one relay, connection or version is worth nothing at another.
"""

from __future__ import annotations

import hashlib

from crypto.codec import opaque, u64
from protocol import frames
from protocol.frames import Challenge, Hello

_CONNECTION = b"Wardline 1 connection key proof"
_DEVICE = b"Wardline 1 device key proof"
_INVITATION = b"Wardline 1 invitation key proof"


def _transcript(label: bytes, hello: Hello, challenge: Challenge) -> bytes:
    opening = opaque(frames.encode(hello)) + opaque(frames.encode(challenge))
    return opaque(label) + hashlib.sha256(opening).digest()


def connection_proof(hello: Hello, challenge: Challenge) -> bytes:
    """Return the bytes that the connection key signs."""
    return _transcript(_CONNECTION, hello, challenge)


def device_proof(hello: Hello, challenge: Challenge) -> bytes:
    """Return the bytes that the certificate's key signs."""
    return _transcript(_DEVICE, hello, challenge)


def invitation_proof(*, organisation: bytes, pin: bytes, at_ms: int) -> bytes:
    """Return the bytes that an invitation's key signs to be given the invitation.

    Args:
        organisation: Fingerprint of the root.
        pin: SHA-256 of the TLS key that the device sees, so that it counts at no other relay.
        at_ms: Now.
    """
    return opaque(_INVITATION) + opaque(organisation) + opaque(pin) + u64(at_ms)

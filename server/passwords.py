"""Passwords and one-time codes: how they are judged, without where they are kept.

Source: NIST SP 800-63B-4, section 3.1.1 (length and blocklist, no composition rules); RFC 9106
(Argon2id); RFC 6238 (TOTP).
"""

from __future__ import annotations

import base64
import hmac
import secrets
import unicodedata
from importlib.resources import files
from itertools import pairwise

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from protocol import limits

TOTP_SECRET_BYTES = 20
"""Bytes of a secret for one-time codes (RFC 4226, section 4: 160 bits are recommended)."""

TOTP_STEP_MS = 30_000
"""Time step of one-time codes, in ms (RFC 6238, section 5.2)."""

TOTP_DIGITS = 6

_DRIFT_STEPS = 1
"""Steps by which a person's clock may be off (RFC 6238, section 5.2: one)."""

_hasher = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
"""RFC 9106's second recommendation with one lane: 64 MiB, some 100 ms of one core."""

_ABSENT = _hasher.hash(secrets.token_hex(16))
"""What an unknown account's password is compared with, so that it takes as long."""


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _folded(password: str) -> str:
    """Return a password with what people vary removed: case, and what is not a letter."""
    return "".join(c for c in _normal(password).casefold() if c.isalpha())


def _blocklist() -> frozenset[str]:
    lines = (files("server") / "blocklist.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


BLOCKED = _blocklist()


def is_acceptable(password: str, *, user: str) -> bool:
    """Tell whether a password may be set: long enough, not common, not made of the name.

    Args:
        password: As typed.
        user: The person's name in the organisation.
    """
    normal = _normal(password)
    if not limits.PASSWORD_MIN <= len(normal) <= limits.PASSWORD_MAX:
        return False
    folded = _folded(password)
    words = (word for word in user.replace("-", ".").replace("_", ".").split(".") if len(word) > 3)
    rest = folded
    for word in (*words, "wardline"):
        rest = rest.replace(word, "")
    varied = len(set(normal.casefold())) > 4 and not _is_run(normal.casefold())
    own = len(folded) > 0 and len(rest) < len(folded) and len(normal) - len(folded) + len(rest) < 8
    return varied and not own and normal.casefold() not in BLOCKED and folded not in BLOCKED


def _is_run(text: str) -> bool:
    """Tell whether most of a text counts up, down or stays: ``abcdefgh``, ``87654321``."""
    steps = [ord(b) - ord(a) for a, b in pairwise(text)]
    return sum(abs(step) <= 1 for step in steps) * 4 >= len(steps) * 3


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password, in PHC form."""
    return _hasher.hash(_normal(password))


def is_password(password: str, stored: str | None) -> bool:
    """Tell whether a password is the stored one; an account that is not there takes as long."""
    try:
        return _hasher.verify(stored or _ABSENT, _normal(password)) and stored is not None
    except (VerificationError, InvalidHashError):
        return False


def new_totp_secret() -> bytes:
    """Return a fresh secret for one-time codes."""
    return secrets.token_bytes(TOTP_SECRET_BYTES)


def totp(secret: bytes, *, step: int) -> str:
    """Return the one-time code of a time step.

    Source: RFC 4226, section 5.3; RFC 6238, section 4.
    """
    return pyotp.HOTP(base64.b32encode(secret).decode(), digits=TOTP_DIGITS).at(step)


def match_totp(secret: bytes, code: str, *, last_step: int, now_ms: int) -> int | None:
    """Return the time step whose code this is, if it is newer than the last one used.

    Args:
        secret: The person's.
        code: As typed.
        last_step: The newest step that was ever accepted: no code is accepted twice.
        now_ms: Now.
    """
    now = now_ms // TOTP_STEP_MS
    found = None
    for step in range(now - _DRIFT_STEPS, now + _DRIFT_STEPS + 1):
        same = hmac.compare_digest(totp(secret, step=step).encode(), code.encode())
        if same and step > last_step:
            found = step
    return found

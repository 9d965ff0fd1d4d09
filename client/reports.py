"""What a device found when it checked itself, signed with a key that it keeps for nothing else.

Relay and archive sign what they find in the same way; whoever has the key verifies it here.
"""

from __future__ import annotations

from collections.abc import Iterable

from client.store import Store
from crypto.errors import CryptoError
from crypto.note import Note, SignatureType, SignerKey, VerifierKey
from protocol.report import Check, Report, verify_report

PROGRAM = "wardline"
REPORT_KEY = "report key"


class UnverifiedError(Exception):
    """A report that the key did not sign, or what is none."""


def report_key(store: Store) -> SignerKey:
    """Return the key of this device's reports, made at the first one."""
    kept = store.settings.get(REPORT_KEY)
    if kept is not None:
        try:
            return SignerKey.decode(kept.decode())
        except (CryptoError, UnicodeDecodeError):
            pass  # What a damaged setting signed cannot be told any more: a new key begins.
    key = SignerKey.generate(PROGRAM, SignatureType.ED25519)
    store.settings.put(REPORT_KEY, key.encode().encode())
    return key


def signed_report(
    store: Store, checks: Iterable[tuple[str, bool, str]], *, at_ms: int
) -> tuple[bytes, str]:
    """Return a report as a signed note, and the key that verifies it.

    Args:
        store: The device's.
        checks: What was looked at, whether it holds, and what was found; at least one.
        at_ms: Now.
    """
    key = report_key(store)
    found = tuple(Check(name=name, holds=holds, found=text) for name, holds, text in checks)
    report = Report(program=PROGRAM, at_ms=at_ms, checks=found)
    return report.sign(key).encode(), key.verifier.encode()


def verified_report(note: bytes, verifier: str) -> Report:
    """Return the report in a note, of whichever program.

    Args:
        note: As ``--report`` wrote it.
        verifier: The key that the program printed, had from there by another way than the note.

    Raises:
        UnverifiedError: The key did not sign it, or one of the two is none.
    """
    try:
        return verify_report(Note.decode(note), VerifierKey.decode(verifier))
    except CryptoError:
        raise UnverifiedError from None

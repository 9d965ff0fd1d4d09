"""What a device found when it checked itself, signed with a key that it keeps for nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from client.store import Store
from crypto.errors import CryptoError
from crypto.note import SignatureType, SignerKey
from protocol.report import Check, Report

PROGRAM = "wardline"
REPORT_KEY = "report key"


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

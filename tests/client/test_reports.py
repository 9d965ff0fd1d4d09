"""A device's report of itself: signed by a key of its own, the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.reports import REPORT_KEY, signed_report
from client.store import Store
from crypto.errors import VerificationError
from crypto.note import Note, SignatureType, SignerKey, VerifierKey
from protocol.report import verify_report

CHECKS = [("connected", True, "online"), ("certificate is fresh", False, "3 days left")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store.db", bytes(32))


def test_a_report_says_what_was_found_and_verifies_under_the_devices_key(store: Store) -> None:
    note, verifier = signed_report(store, CHECKS, at_ms=1_800_000_000_000)
    report = verify_report(Note.decode(note), VerifierKey.decode(verifier))
    assert [(one.name, one.holds, one.found) for one in report.checks] == CHECKS
    assert signed_report(store, CHECKS, at_ms=1)[1] == verifier
    store.close()


def test_another_key_or_another_word_does_not_verify(store: Store) -> None:
    note, verifier = signed_report(store, CHECKS, at_ms=1)
    other = SignerKey.generate("wardline", SignatureType.ED25519).verifier
    with pytest.raises(VerificationError):
        verify_report(Note.decode(note), other)
    changed = note.replace(b"WRONG", b"ok")
    with pytest.raises(VerificationError):
        verify_report(Note.decode(changed), VerifierKey.decode(verifier))
    store.close()


def test_a_key_that_was_damaged_is_followed_by_a_new_one(store: Store) -> None:
    _, before = signed_report(store, CHECKS, at_ms=1)
    store.settings.put(REPORT_KEY, b"\xff")
    _, after = signed_report(store, CHECKS, at_ms=1)
    assert after != before
    store.close()

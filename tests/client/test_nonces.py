"""No key with one nonce twice, whatever crashes and whatever copy of a store is started.

Five hundred messages in the suite; with ``WARDLINE_DEPTH`` above 1 they are a hundred thousand.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from client.store import Draft, Sealed, Store
from crypto.errors import KeyUsedError
from crypto.hpke import Aead
from crypto.mls import ApplicationMessage, Group
from tests.client.ward import ANN, KEY, PATH, WARD, assembled, said, saved, send
from tests.crypto.mls.clients import accept
from tests.depth import DEPTH

MESSAGES = 100_000 if DEPTH > 1 else 500
EACH = 50
"""Messages between two accidents, at most."""

Sealing = set[tuple[bytes, bytes]]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> Sealing:
    """Every key with its nonce that anything was sealed with; a second time is an error."""
    seen: Sealing = set()
    seal = Aead.seal

    def watched(aead: Aead, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
        assert (key, nonce) not in seen
        seen.add((key, nonce))
        return seal(aead, key, nonce, aad, plaintext)

    monkeypatch.setattr(Aead, "seal", watched)
    return seen


def killed_while_sending(store: Store) -> None:
    """Let the process end after it sealed, before that is on the disk."""
    before = saved(store)

    def seal(message_id: int, previous_id: int) -> Sealed:
        before.encrypt(b"never kept")
        raise Killed

    with pytest.raises(Killed):
        store.sending(WARD, before, Draft(sender=ANN, at_ms=1, content=said("x")), seal=seal)


def opened_again(store: Store, path: Path) -> Store:
    store.close()
    return Store.open(path, KEY)


def test_no_key_and_nonce_seal_twice_through_crashes_and_old_copies(
    tmp_path: Path, sealing: Sealing
) -> None:
    chance = random.Random(MESSAGES)
    path, copy = tmp_path / PATH, tmp_path / "copy.db"
    ann, bob = assembled()
    store = Store.create(path, KEY)
    store.began(WARD, ann)
    sent, crashes, copies = 0, 0, 0
    left: list[bytes] = []
    while sent < MESSAGES:
        count = min(chance.randrange(1, EACH), MESSAGES - sent)
        for number in range(count):
            send(store, f"message {sent + number}")
        sent += count
        left += _handed_out(store)
        accident = chance.randrange(3)
        if accident == 0:
            killed_while_sending(store)
            crashes += 1
        if accident == 1 and not copy.exists():
            store = opened_again(store, path)
            shutil.copy(path, copy)
        elif accident == 1:
            # A copy of an older time writes on, beside the newer, with keys that were used since.
            older = Store.open(copy, KEY)
            for number in range(chance.randrange(1, 20)):
                send(older, f"older {number}")
            older.close()
            copy.unlink()
            copies += 1
        store = opened_again(store, path)
    store.close()
    assert crashes > 0
    assert copies > 0
    # Two seals a message: what it says, and who says it.
    assert len(sealing) >= 2 * MESSAGES
    assert len(left) == MESSAGES
    assert _read(bob, left) == [f"message {number}" for number in range(MESSAGES)]


def _handed_out(store: Store) -> list[bytes]:
    """Let the relay have everything that waits; return it."""
    found = []
    last = 0
    while waiting := store.outbox.to_send(0, after=last):
        found += [one.sealed for one in waiting]
        last = waiting[-1].message_id
        store.accepted({one.message_id: one.message_id for one in waiting})
    return found


def _read(bob: Group, sealed: list[bytes]) -> list[str]:
    """Return what a peer reads, to whom no key comes twice."""
    texts = []
    for number, message in enumerate(sealed):
        before = bob
        bob, received = bob.process(message, authenticate=accept)
        assert isinstance(received, ApplicationMessage)
        texts.append(received.data.decode())
        if number % 1_000 == 0:
            with pytest.raises(KeyUsedError):
                bob.process(message, authenticate=accept)
        assert bob is not before
    return texts

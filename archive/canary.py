"""The canary: a letter of the archive's whose hash it knows, opened each quarter on purpose.

The archive writes it into the officers' own conversation and keeps its hash alone. When nothing was
opened for a quarter, a process of its own offers it to the officers (``review canary``): one of
them asks, k approve and release, each on their own device and on purpose. Then it is opened like
anything else, compared with the hash, and the outcome is on record.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec

from archive.desk import Desk
from archive.store import Store
from protocol.letters import Notice, Topic, encode_letter
from protocol.opening import HASH_BYTES

WORD_BYTES = 32
"""Random bytes of a canary: nobody tells its hash without having read it."""

ASKED_MS = 14 * 24 * 3_600_000
"""After so long without an opening it is offered anew: a request's own time is over."""

_NAME = "canary"
"""Of the setting."""

_NOTHING = bytes(HASH_BYTES)


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the canary.

    Attributes:
        conversation: Where it is.
        hash: SHA-256 of its letter.
        planted_ms: When it was written.
        session: Key of the review session for which it was offered; empty before that.
        asked_ms: When that was.
        opened_ms: When one was opened last, this or an earlier one; 0 for never.
        is_right: Whether it was what was written.
    """

    conversation: bytes
    hash: bytes
    planted_ms: int
    session: bytes = b""
    asked_ms: int = 0
    opened_ms: int = 0
    is_right: bool = True


def known(store: Store) -> Canary | None:
    """Return what is known of the canary, or ``None`` before there is one."""
    rows = store.rows("SELECT value FROM setting WHERE name=?", _NAME)
    return msgspec.msgpack.decode(rows[0][0], type=Canary) if rows else None


def keep(store: Store, canary: Canary) -> None:
    """Keep what is known."""
    with store.transaction():
        store.change("REPLACE INTO setting VALUES(?,?)", _NAME, msgspec.msgpack.encode(canary))


def plant(store: Store, desk: Desk, conversation: bytes, *, now_ms: int) -> None:
    """Write a canary into a conversation: its letter goes out, its hash stays."""
    before = known(store)
    words = secrets.token_hex(WORD_BYTES)
    (letter,) = encode_letter(Notice(topic=Topic.CANARY, about=_NOTHING, words=words))
    with desk.transaction():
        desk.post((letter,))
    # After the letter: killed in between, another is written, and this one is never asked for.
    keep(
        store,
        Canary(
            conversation=conversation,
            hash=sha256(letter).digest(),
            planted_ms=now_ms,
            # A clock that was ahead then says nothing of this one, which would be wanted anew, and
            # anew again.
            opened_ms=0 if before is None else min(before.opened_ms, now_ms),
            is_right=before is None or before.is_right,
        ),
    )


def is_wanted(store: Store, conversation: bytes) -> bool:
    """Tell whether another is to be written: none is there, or only one that was opened."""
    canary = known(store)
    return (
        canary is None
        or canary.conversation != conversation
        or canary.opened_ms > canary.planted_ms
    )


class Reviewing:
    """Starts the process that offers and opens the canary, one at a time."""

    def __init__(self, file: Path) -> None:
        """Take the archive's configuration file."""
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless the last one is still at work."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
                [sys.executable, "-m", "archive", "review", "canary", "--config", self._file],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def close(self) -> None:
        """End it; what it had not done is done another time."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def failed(store: Store) -> bool:
    """Tell whether the last one that was opened was not what was written."""
    canary = known(store)
    return canary is not None and not canary.is_right

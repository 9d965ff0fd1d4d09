"""Fetching attachments: the ciphertext as it was uploaded, kept beside the log.

The message that names an attachment holds its key and hashes, sealed with its epoch; the file is
nothing without it. So it is kept as it came, under the relay's name of it, and whoever opens the
message checks that it is the file that was meant. The relay forgets it once it is on this disk.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from archive import events, uploads
from archive.index import Index
from archive.store import Store
from client.errors import UnreachableError
from client.https import Https
from client.link import Link
from protocol import limits
from storage.files import sync_directory

PATH = "/v1/attachments"

AT_ONCE = 20
"""Attachments that are fetched before others are looked for."""

PUT_OFF_S, LONGEST_PUT_OFF_S = 600.0, 86_400.0
"""Seconds after which an attachment is tried again that the relay did not give, doubling from the
first to the longest: others must not wait behind it."""

TRIES = 40
"""Tries in vain after which an attachment counts as gone: they take longer than the relay keeps one
that nobody fetched. What it does not have today may be an upload that a member holds back until the
archive has looked."""

_OK = 200
_WAITS = frozenset({401, 429})
"""Answers that say nothing of the attachment: the token ended, or it was asked too often."""


class Attachments:
    """The attachments of one archive."""

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        copies: Sequence[Path] = (),
        elsewhere: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Keep attachments in ``folder``.

        Args:
            store: The log's.
            folder: Where.
            copies: Where each of them must be as well before the relay may forget it.
            elsewhere: Brings one to another machine; the relay may forget it once that returns.
        """
        self._store = store
        self._index = Index(store)
        self._folder = folder
        self._copies = copies
        self._elsewhere = elsewhere
        self._put_off: dict[str, float] = {}

    async def fetch(self, link: Link) -> int:
        """Fetch what messages have named and is not here yet; return how many were tried.

        Raises:
            UnreachableError: The relay broke off; what has come stays.
        """
        wanted = self._wanted(time.monotonic())
        if not wanted:
            return 0
        self._folder.mkdir(mode=0o700, exist_ok=True)
        https = Https(link.address)
        try:
            for blob in wanted:
                await self._fetch(https, link, blob)
        finally:
            https.close()
        return len(wanted)

    def _wanted(self, now_s: float) -> list[str]:
        """Return what is to be tried now."""
        self._put_off = {blob: at_s for blob, at_s in self._put_off.items() if at_s > now_s}
        found = self._index.unfetched(most=AT_ONCE + len(self._put_off))
        return [blob for blob in found if blob not in self._put_off][:AT_ONCE]

    async def _fetch(self, https: Https, link: Link, blob: str) -> None:
        headers = {"Authorization": f"Bearer {link.token.hex()}"}
        if (self._folder / blob).exists() or await self._came(https, headers, blob):
            for folder in self._copies:
                # In a thread: it may be large, and others wait for their turn.
                await asyncio.to_thread(uploads.copy, self._folder, folder, [blob])
            if self._elsewhere is not None:
                await self._elsewhere(blob)
            self._note(blob)
            await https.request("DELETE", f"{PATH}/{blob}", headers=headers)

    async def _came(self, https: Https, headers: dict[str, str], blob: str) -> bool:
        """Fetch one; tell whether the relay gave it."""
        part = self._folder / f"{blob}{uploads.PART}"
        part.touch(mode=0o600)
        while True:
            offset = part.stat().st_size
            answer = await https.request(
                "GET",
                f"{PATH}/{blob}?offset={offset}",
                headers=headers,
                most=limits.ATTACHMENT_CHUNK_BYTES,
            )
            if answer.status in _WAITS:
                raise UnreachableError
            if answer.status != _OK or offset + len(answer.body) > limits.ATTACHMENT_BYTES:
                part.unlink()
                self._missed(blob)
                return False
            if not answer.body:
                break
            _append(part, answer.body)
        part.rename(self._folder / blob)
        sync_directory(self._folder)
        return True

    def _missed(self, blob: str) -> None:
        """Let an attachment be tried later; once it counts as gone the message says what it was."""
        with self._store.transaction():
            tries = self._index.missed(blob)
            if tries >= TRIES:
                events.warn("attachment_gone")
                self._index.fetched(blob, gone=True)
        pause_s = min(PUT_OFF_S * 2 ** min(tries - 1, 16), LONGEST_PUT_OFF_S)
        self._put_off[blob] = time.monotonic() + pause_s

    def _note(self, blob: str) -> None:
        with self._store.transaction():
            self._index.fetched(blob)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

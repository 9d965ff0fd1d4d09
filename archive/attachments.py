"""Fetching attachments: the ciphertext as it was uploaded, kept beside the log.

The message that names an attachment holds its key and hashes, sealed with its epoch; the file is
nothing without it. So it is kept as it came, under the relay's name of it, and whoever opens the
message checks that it is the file that was meant. The relay forgets it once it is on this disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
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

_OK, _GONE = 200, 404


class Attachments:
    """The attachments of one archive."""

    def __init__(self, store: Store, folder: Path, *, copies: Sequence[Path] = ()) -> None:
        """Keep attachments in ``folder``.

        Args:
            store: The log's.
            folder: Where.
            copies: Where each of them must be as well before the relay may forget it.
        """
        self._store = store
        self._index = Index(store)
        self._folder = folder
        self._copies = copies

    async def fetch(self, link: Link) -> int:
        """Fetch what messages have named and is not here yet; return how many were fetched.

        Raises:
            UnreachableError: The relay broke off; what has come stays.
        """
        wanted = self._index.unfetched(most=AT_ONCE)
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

    async def _fetch(self, https: Https, link: Link, blob: str) -> None:
        headers = {"Authorization": f"Bearer {link.token.hex()}"}
        if blob in uploads.kept(self._folder) or await self._came(https, headers, blob):
            for folder in self._copies:
                # In a thread: it may be large, and others wait for their turn.
                await asyncio.to_thread(uploads.copy, self._folder, folder, [blob])
            self._note(blob)
            await https.request("DELETE", f"{PATH}/{blob}", headers=headers)

    async def _came(self, https: Https, headers: dict[str, str], blob: str) -> bool:
        """Fetch one; tell whether the relay still had it."""
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
            if answer.status == _GONE:
                # Withdrawn, or expired while the archive was away: the message says what it was.
                events.warn("attachment_gone")
                part.unlink()
                self._note(blob, gone=True)
                return False
            if answer.status != _OK:
                raise UnreachableError
            if not answer.body:
                break
            _append(part, answer.body)
        part.rename(self._folder / blob)
        sync_directory(self._folder)
        return True

    def _note(self, blob: str, *, gone: bool = False) -> None:
        with self._store.transaction():
            self._index.fetched(blob, gone=gone)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

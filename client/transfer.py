"""Attachments on their way: sealed into a file, sent and fetched in pieces, whole or not there.

A file is encrypted chunk by chunk into the profile's ``files`` before anything is sent: the message
needs its hash, and only a stream that lies still can be sent on from where a connection broke. What
comes is kept there too, still encrypted, until somebody saves it. A piece at most is in memory.

Beside a stream that is being sent lies ``.blob``: where the relay keeps it, so that the next start
goes on. A stream that is being fetched is ``.part`` until its hash is right.

The token ends with the connection that it came with, so each try asks the caller for the newest.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from client.errors import (
    ActError,
    AlteredError,
    FailedError,
    ForbiddenError,
    FullError,
    GoneError,
    ImpostorError,
    TooLargeError,
    UnreachableError,
)
from client.https import Answer, Https
from client.link import Address, Backoff
from crypto.attachment import AttachmentRef, AttachmentSealer, open_attachment
from crypto.attachment_layout import CHUNK_BYTES, chunk_offset, size_class
from crypto.errors import UsageError, VerificationError
from protocol.identifiers import ConversationId
from protocol.limits import ATTACHMENT_BYTES, ATTACHMENT_CHUNK_BYTES
from storage.files import NO_ROOM, create_private, replace_private, sync_directory

PATH = "/v1/attachments"
BLOB, PART = ".blob", ".part"

NAME_CHARACTERS = 64
"""Longest name of a blob."""

READ_BYTES = 256 * 1024
"""What is read at once where a file is only encrypted, decrypted or hashed."""

_DIGITS = 12
"""Longest number in a header: far beyond the largest attachment."""

_AGAIN = frozenset({401, 429, 503, 507})
"""Answers after which the same is tried again: a token that ended, a relay that rests, or has no
room now."""

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


def unheard(done: int, of: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A file that is ready to be sent.

    Attributes:
        ref: For the message.
        stream: The encrypted file.
    """

    ref: AttachmentRef
    stream: Path


class Transfers:
    """Sends and fetches the attachments of one profile."""

    def __init__(
        self, address: Address, *, files: Path, token: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Prepare.

        Args:
            address: The relay.
            files: Where streams are kept: the profile's ``files``.
            token: Returns the token of an open connection, waiting for one if need be.
        """
        self._https = Https(address)
        self._files = files
        self._token = token

    def close(self) -> None:
        """Let go of the connection; what is under way goes on over another."""
        self._https.close()

    async def seal(self, source: Path, *, on_progress: Progress) -> Sealed:
        """Return a file, encrypted under a fresh key.

        Raises:
            TooLargeError: It is larger than an attachment may be.
            FullError: There is no room for the encrypted copy.
            FailedError: The disk fails.
            OSError: The file cannot be read.
        """
        if _stream_bytes(_size(source)) > ATTACHMENT_BYTES:
            raise TooLargeError
        stream = self._files / secrets.token_hex(16)
        ref = await asyncio.to_thread(_seal, source, stream, on_progress)
        return Sealed(ref=ref, stream=stream)

    async def upload(
        self, stream: Path, conversation: ConversationId, *, on_progress: Progress
    ) -> str:
        """Return where the relay keeps a stream, once all of it is there.

        However often the connection breaks, it goes on; who gives up cancels, and calls again.

        Raises:
            TooLargeError: The relay's quota is used up, or too many uploads are under way.
            ForbiddenError: The policy does not let this device attach files.
            GoneError: This device is not in the conversation.
            ImpostorError: Something else than the pinned relay is there.
            UnreachableError: The relay answers what makes no sense.
            FullError: There is no room to note where the stream is.
        """
        size = _size(stream)
        blob, offset = await self._place(stream, conversation, size)
        with stream.open("rb") as file:
            while offset < size:
                on_progress(offset, size)
                piece = await asyncio.to_thread(_piece, file, offset)
                try:
                    offset = await self._send(blob, offset, piece)
                except GoneError:
                    # The relay was set back, or waited too long for it.
                    _remove(stream, BLOB)
                    blob, offset = await self._place(stream, conversation, size)
        on_progress(size, size)
        return blob

    async def download(self, blob: str, ref: AttachmentRef, *, on_progress: Progress) -> Path:
        """Return the stream of an attachment, on this disk and as its message says.

        Raises:
            GoneError: The relay has it no more, or never had it for this device.
            AlteredError: What the relay has is not what the message says.
            ForbiddenError: The policy does not let this device have it.
            ImpostorError: Something else than the pinned relay is there.
            FullError: There is no room for it.
            FailedError: The disk fails.
        """
        stream = self._files / _named(blob)
        if not stream.exists():
            await self._fetch(blob, ref, on_progress)
            await self._fetched(blob)
        return stream

    async def discard(self, stream: Path) -> None:
        """Delete a stream that is not needed any more."""
        for suffix in (BLOB, PART, ""):
            _remove(stream, suffix)

    # Sending.

    async def _place(
        self, stream: Path, conversation: ConversationId, size: int
    ) -> tuple[str, int]:
        """Return where the relay keeps a stream, and how much of it is there."""
        noted = stream.with_name(stream.name + BLOB)
        kept = noted.read_text().split() if noted.exists() else []
        if len(kept) == 2 and kept[0] == conversation.hex():
            answer = await self._ask("HEAD", f"{PATH}/{kept[1]}")
            if answer.status == 204:
                return kept[1], _offset(answer, size)
        answer = await self._ask(
            "POST",
            PATH,
            headers={"Upload-Length": str(size), "Wardline-Conversation": conversation.hex()},
        )
        if answer.status != 201:
            raise _refusal(answer.status)
        blob = _named(answer.headers.get("location", "").removeprefix(PATH + "/"))
        with _disk():
            replace_private(noted, f"{conversation.hex()} {blob}".encode())
        return blob, 0

    async def _send(self, blob: str, offset: int, piece: bytes) -> int:
        answer = await self._ask(
            "PATCH", f"{PATH}/{blob}", headers={"Upload-Offset": str(offset)}, body=piece
        )
        if answer.status not in (204, 409):
            raise _refusal(answer.status)
        return _offset(answer, offset + len(piece))

    # Fetching.

    async def _fetch(self, blob: str, ref: AttachmentRef, on_progress: Progress) -> None:
        part = self._files / (blob + PART)
        resumed = part.exists()
        await self._fill(part, blob, ref, on_progress)
        right = await asyncio.to_thread(_hash, part) == ref.ciphertext_hash
        if not right and resumed:
            # What a crash left of it may not be what was written: once more, from the beginning.
            part.unlink()
            await self._fill(part, blob, ref, on_progress)
            right = await asyncio.to_thread(_hash, part) == ref.ciphertext_hash
        if not right:
            part.unlink()
            raise AlteredError
        with _disk():
            part.replace(self._files / blob)
            sync_directory(self._files)

    async def _fill(self, part: Path, blob: str, ref: AttachmentRef, on_progress: Progress) -> None:
        size = ref.stream_bytes
        with _disk(), _appending(part) as file:
            while (offset := file.tell()) < size:
                on_progress(offset, size)
                answer = await self._ask(
                    "GET", f"{PATH}/{blob}?offset={offset}", most=ATTACHMENT_CHUNK_BYTES
                )
                if answer.status != 200:
                    raise _refusal(answer.status)
                if not 0 < len(answer.body) <= size - offset:
                    raise AlteredError
                await asyncio.to_thread(_append, file, answer.body)
            await asyncio.to_thread(_sync, file)
        on_progress(size, size)

    async def _fetched(self, blob: str) -> None:
        """Tell the relay that this device has it; that it was told already is as good."""
        await self._ask("DELETE", f"{PATH}/{blob}")

    # One request, again until it is answered.

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        most: int = 0,
    ) -> Answer:
        backoff = Backoff()
        while True:
            token = await self._token()
            authorised = {"Authorization": f"Bearer {token.hex()}", **(headers or {})}
            try:
                answer = await self._https.request(
                    method, path, headers=authorised, body=body, most=most
                )
            except ImpostorError:
                raise
            except UnreachableError:
                pass
            else:
                if answer.status not in _AGAIN:
                    return answer
            await asyncio.sleep(backoff.pause_s())


def _named(blob: str) -> str:
    """Return the name of a blob, which becomes part of paths here and there.

    Raises:
        GoneError: No relay gives such names.
    """
    if not (blob.isascii() and blob.isalnum() and len(blob) <= NAME_CHARACTERS):
        raise GoneError
    return blob


def _stream_bytes(size: int) -> int:
    """Return the length of a file's stream.

    Raises:
        TooLargeError: It is beyond the largest class.
    """
    try:
        return chunk_offset(size_class(size) // CHUNK_BYTES)
    except UsageError:
        raise TooLargeError from None


def _refusal(status: int) -> ActError | UnreachableError:
    if status == 413:
        return TooLargeError()
    if status == 403:
        return ForbiddenError()
    if status == 404:
        return GoneError()
    return UnreachableError()


def _offset(answer: Answer, size: int) -> int:
    """Return where the relay says to go on.

    Raises:
        UnreachableError: It says nothing that makes sense.
    """
    text = answer.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > _DIGITS or int(text) > size:
        raise UnreachableError
    return int(text)


# The disk.


@contextmanager
def _disk() -> Iterator[None]:
    """Tell a full disk from one that fails."""
    try:
        yield
    except OSError as error:
        raise FullError if error.errno in NO_ROOM else FailedError from None


def _seal(source: Path, stream: Path, on_progress: Progress) -> AttachmentRef:
    sealer = AttachmentSealer()
    with source.open("rb") as plain:
        size = os.fstat(plain.fileno()).st_size
        try:
            with _disk():
                create_private(stream)
                with stream.open("wb") as file:
                    for piece in sealer.seal(_read(plain, size, on_progress)):
                        file.write(piece)
                    _sync(file)
                sync_directory(stream.parent)
        except BaseException:
            stream.unlink(missing_ok=True)
            raise
    return sealer.ref


def _read(file: BinaryIO, size: int, on_progress: Progress) -> Iterator[bytes]:
    done = 0
    while piece := file.read(READ_BYTES):
        on_progress(done, size)
        done += len(piece)
        yield piece
    on_progress(done, max(done, size))


def save(ref: AttachmentRef, stream: Path, target: Path) -> None:
    """Write an attachment's plaintext to ``target``, where it appears whole or not at all.

    It is outside the profile from then on, and no wipe reaches it: whoever calls this has asked
    policy and person. Blocks; a large one belongs into a thread.

    Raises:
        FileExistsError: There is a file of that name.
        AlteredError: The stream is not the one that the message names; there is no file then.
        OSError: The stream cannot be read, or the file not be written.
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    create_private(beside)
    try:
        with stream.open("rb") as sealed, beside.open("wb") as file:
            for chunk in open_attachment(ref, iter(lambda: sealed.read(READ_BYTES), b"")):
                file.write(chunk)
            _sync(file)
        # A rename would take the place of what is there.
        os.link(beside, target)
        sync_directory(target.parent)
    except VerificationError:
        raise AlteredError from None
    finally:
        beside.unlink()


def _appending(part: Path) -> BinaryIO:
    if not part.exists():
        create_private(part)
    return part.open("ab")


def _size(path: Path) -> int:
    return path.stat().st_size


def _piece(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.read(ATTACHMENT_CHUNK_BYTES)


def _append(file: BinaryIO, data: bytes) -> None:
    with _disk():
        file.write(data)
        # What counts as there is asked of the file's length after a crash.
        file.flush()


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _remove(stream: Path, suffix: str) -> None:
    stream.with_name(stream.name + suffix).unlink(missing_ok=True)

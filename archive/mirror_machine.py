"""The machine of a mirror: it listens inside the hospital's network, for its archive alone.

It has no key that opens or signs anything of the log, connects to nobody, and believes nothing: a
checkpoint is confirmed once it is the log's own, what is here leads to it, and it is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
import ssl
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from archive import events, founding, mirror_frames, uploads
from archive.errors import ArchiveError, HistoryError
from archive.mirror_frames import (
    Answer,
    Asked,
    Confirm,
    Confirmed,
    FileKind,
    Frame,
    Gone,
    Have,
    Hello,
    Known,
    Lacking,
    Leaves,
    Piece,
    Reason,
    Refused,
    Rows,
    Stored,
)
from archive.mirror_store import Copy
from client.clocks import now_ms
from crypto.errors import CryptoError, InvalidError
from crypto.note import Note, VerifierKey
from storage.files import sync_directory

HELLO_S = 10.0
"""Seconds in which a connection must have shown its token: nobody else is to hold one open."""

SILENT_S = 180.0
"""Seconds without a frame after which a connection has ended: an archive confirms each minute."""

HELLO_BYTES = 1024
"""Longest frame of who has not shown the token."""

FILES = {
    FileKind.AUTHORITY: founding.AUTHORITY_FILE,
    FileKind.DESK: founding.DESK_FILE,
    FileKind.ROOT: founding.ROOT_FILE,
    FileKind.LOG_KEY: founding.LOG_KEY_FILE,
    FileKind.WITNESS_KEYS: founding.WITNESS_KEY_FILE,
    FileKind.SETTINGS: "archive.toml",
}
"""Under which name each file is kept."""

_ATTACHMENT = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Whom the mirror listens to.

    Attributes:
        token_hash: SHA-256 of the archive's token.
        log_key: Of the one log that it mirrors.
    """

    token_hash: bytes
    log_key: VerifierKey

    def admits(self, hello: Hello) -> bool:
        """Tell whether it is the archive that this mirror was made for."""
        return hmac.compare_digest(hashlib.sha256(hello.token).digest(), self.token_hash)


class Desk:
    """What an archive's frames do to a mirror's directory."""

    def __init__(self, data: Path, copy: Copy) -> None:
        self._data = data
        self._copy = copy
        self._part: Path | None = None

    def take(self, frame: Asked) -> Answer | None:
        """Do what a frame asks; return what is answered, if anything is.

        Raises:
            CryptoError: The frame says what cannot be.
            HistoryError: The log was rewritten, set back or forked.
            ArchiveError: The disk is full, or failed.
            OSError: A file cannot be written.
        """
        match frame:
            case Leaves():
                self._copy.take_leaves(frame.first, frame.records)
            case Rows():
                self._copy.take_rows(frame.rows)
            case Gone():
                self._copy.drop_rows(frame.names)
            case Confirm():
                note = Note.decode(frame.note)
                self._copy.confirm(frame.size, note, frame.proof, now_ms=now_ms())
                return Confirmed(size=frame.size)
            case Have():
                here = uploads.kept(self._data / uploads.FOLDER)
                return Lacking(names=[name for name in frame.names if name not in here])
            case Piece():
                return self._take_piece(frame)
            case Hello():
                raise InvalidError("an archive says once who it is")
        return None

    def _take_piece(self, piece: Piece) -> Stored | None:
        target = self._place(piece)
        part = target.with_name(f"{target.name}{uploads.PART}")
        if self._part != part:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            part.unlink(missing_ok=True)
            part.touch(mode=0o600)
            self._part = part
        with part.open("ab") as file:
            file.write(piece.data)
            if not piece.last:
                return None
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync_directory(target.parent)
        self._part = None
        return Stored()

    def _place(self, piece: Piece) -> Path:
        if piece.kind is not FileKind.ATTACHMENT:
            return self._data / FILES[piece.kind]
        if not _ATTACHMENT.fullmatch(piece.name):
            raise InvalidError("an attachment's name is a file's")
        return self._data / uploads.FOLDER / piece.name


class Machine:
    """Serves one archive, over one connection at a time: the newest that shows the token."""

    def __init__(self, data: Path, copy: Copy, pairing: Pairing) -> None:
        self._data, self._copy, self._pairing = data, copy, pairing
        self._turn = asyncio.Lock()
        self._current: StreamWriter | None = None
        self._open: dict[StreamWriter, asyncio.Task[None] | None] = {}

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection to its end, whatever comes over it."""
        self._open[writer] = asyncio.current_task()
        try:
            await self._serve(reader, writer)
        except (OSError, IncompleteReadError, TimeoutError, InvalidError, ArchiveError):
            events.tell("disconnected")
        finally:
            del self._open[writer]
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """End every connection; what was not confirmed is forgotten."""
        serving = [task for task in self._open.values() if task is not None]
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        async with asyncio.timeout(HELLO_S):
            hello = mirror_frames.decode_asked(
                await mirror_frames.receive(reader, most=HELLO_BYTES)
            )
        if not isinstance(hello, Hello) or not self._pairing.admits(hello):
            events.warn("stranger")
            return
        if hello.log_key != self._pairing.log_key.encode():
            await _answer(writer, Refused(reason=Reason.OTHER_LOG))
            return
        # The archive's older connection may be dead without either side knowing.
        if self._current is not None:
            self._current.transport.abort()
        self._current = writer
        async with self._turn:
            # Where the last connection ended with the disk, this is still to be done.
            self._copy.forget()
            try:
                await _answer(writer, Known(size=self._copy.size, held=self._copy.held))
                await self._follow(reader, writer)
            finally:
                self._copy.forget()

    async def _follow(self, reader: StreamReader, writer: StreamWriter) -> None:
        events.tell("connected")
        desk = Desk(self._data, self._copy)
        while True:
            async with asyncio.timeout(SILENT_S):
                data = await mirror_frames.receive(reader)
            answer = _judged(lambda: desk.take(mirror_frames.decode_asked(data)))  # noqa: B023
            if answer is not None:
                await _answer(writer, answer)
            if isinstance(answer, Refused):
                return


def _judged(take: Callable[[], Answer | None]) -> Answer | None:
    """Return what is answered, a refusal with its reason included."""
    try:
        return take()
    except HistoryError:
        reason = Reason.NOT_CONSISTENT
    except CryptoError:
        reason = Reason.INVALID
    except (ArchiveError, OSError):
        reason = Reason.DISK
    events.warn("refused", code=reason.name)
    return Refused(reason=reason)


async def _answer(writer: StreamWriter, frame: Frame) -> None:
    writer.write(mirror_frames.encode(frame))
    await writer.drain()


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the listener's context: TLS 1.3 and nothing older."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context

"""The archive's side of a mirror on another machine: it connects outward, and brings what is new.

Nothing of it is in the way of recording: it runs beside the connection to the relay, follows the
newest cosigned checkpoint, and says what the mirror has confirmed. Who must wait for that, waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from archive import configuration, events, founding, mirror_frames, mirror_rows, uploads
from archive.authority_store import AuthorityStore
from archive.body import open_body
from archive.configuration import ConfigurationError, MirrorHost
from archive.desk import Desk
from archive.log import Log
from archive.mirror import AUTHORITYS, OFFICERS
from archive.mirror_frames import (
    NAMES,
    PIECE_BYTES,
    TOKEN_BYTES,
    Answer,
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
from archive.record import Record, RecordType
from client.errors import UnreachableError
from client.link import check_pin, tls_context
from client.pace import is_due
from crypto.checkpoint import Checkpoint
from crypto.errors import InvalidError
from crypto.note import Note

STEP = 500
"""Records that go over before the mirror is asked to confirm them, where many are missing there."""

ROWS_BYTES = 1 << 20
"""Bytes of rows in one frame, but for a row that is longer."""

REST_MS = 60_000
"""How often, in ms, it is looked for what changed beside the records."""

CONNECT_S, ANSWER_S = 10.0, 60.0
"""Seconds that the mirror gets to be reached, and to answer: it syncs what may be 500 records."""

AGAIN_S = 1.0
"""Seconds to the next attempt: the mirror has one archive, which is near."""

T = TypeVar("T")


class AwayError(Exception):
    """The mirror is not reached, breaks off, or does not answer: try again later."""


class RefusedError(Exception):
    """The mirror does not go on.

    Attributes:
        reason: Why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What goes over.

    Attributes:
        log: The open log.
        file: The configuration file, which goes over with what lies beside it.
        data: The archive's data directory.
        key: Of the databases; it does not go over.
    """

    log: Log
    file: Path
    data: Path
    key: bytes = field(repr=False)


class Bringing:
    """One connection to the mirror, and what was brought over it."""

    def __init__(self, sources: Sources, streams: tuple[StreamReader, StreamWriter]) -> None:
        self._sources = sources
        self._store = sources.log.store
        self._rows = mirror_rows.Rows(sources.key)
        self._reader, self._writer = streams
        self._size = self._held = 0
        self._sent: dict[bytes, int] = {}
        self._files: dict[FileKind, object] = {}
        self._rest_ms = 0

    async def begin(self, token: bytes) -> None:
        """Say who this is, and bring the attachments that are missing there.

        Raises:
            RefusedError: It mirrors another log.
        """
        log_key = founding.log_key(self._sources.file).encode()
        await self._send(Hello(token=token, log_key=log_key))
        known = await self._answer(Known)
        self._size, self._held = known.size, known.held
        names = sorted(uploads.kept(self._sources.data / uploads.FOLDER))
        for at in range(0, len(names), NAMES):
            await self._send(Have(names=names[at : at + NAMES]))
            for name in (await self._answer(Lacking)).names:
                await self.bring_attachment(name)

    async def bring(self, note: Note, *, now_ms: int) -> None:
        """Have the mirror confirm all that ``note`` covers.

        Raises:
            RefusedError: It finds that the log was rewritten, set back or forked, or cannot write.
        """
        size = Checkpoint.decode(note.text).size
        while self._size + STEP < size:
            end = self._size + STEP
            await self._bring_records(self._size, end)
            await self._confirm(note, end, size=size)
        # From here to the last row nothing else is recorded in between: what is said to be read
        # is there. Records that no checkpoint covers yet go with it.
        end, kinds = self._store.size(), self._kinds(self._held)
        frames = [*self._records(self._size, end), *self._index(self._held, end)]
        if is_due(self._rest_ms, now_ms=now_ms, each_ms=REST_MS):
            self._rest_ms = now_ms
            frames += self._rest()
        await self._send(*frames)
        await self._bring_files(kinds)
        await self._confirm(note, size, size=size)
        self._size, self._held = max(self._size, end), end

    async def _bring_records(self, first: int, end: int) -> None:
        await self._send(*self._records(first, end))
        self._size = end

    async def _confirm(self, note: Note, at: int, *, size: int) -> None:
        proof: tuple[bytes, ...] = ()
        if at < size:
            proof = self._sources.log.consistency_proof(old_size=at, size=size)
        await self._send(Confirm(size=at, note=note.encode(), proof=list(proof)))
        await self._answer(Confirmed)

    # What goes over.

    def _records(self, first: int, end: int) -> Iterator[Frame]:
        """Yield records and what stands beside each."""
        query = """SELECT leaf.idx, record, ciphertext, record_key FROM leaf
            LEFT JOIN body USING(idx) LEFT JOIN record_key USING(idx)
            WHERE leaf.idx >= ? AND leaf.idx < ? ORDER BY leaf.idx"""
        rows = self._store.rows(query, first, end)
        for at in range(0, len(rows), NAMES):
            part = rows[at : at + NAMES]
            yield Leaves(first=first + at, records=[row[1] for row in part])
            yield Rows(rows=[self._rows.seal("seen", row) for row in self._seen(part)])
        for table in mirror_rows.BY_INDEX:
            which = "idx >= :first AND idx < :end"
            yield from self._sealed(table, which, first=first, end=end)
        if RecordType.SHRED in self._kinds(first, end):
            yield from self._gone()

    def _seen(self, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[bytes, int]]:
        """Yield the hash of each record's body, with its index."""
        shredded = set()
        for index, record, ciphertext, record_key in rows:
            if ciphertext is None:
                shredded.add(index)
                continue
            body = open_body(ciphertext, record_key=record_key, record=Record.decode(record))
            yield sha256(body).digest(), index
        if shredded:
            # Found by their hash alone, so all are looked through: where a mirror begins late.
            yield from ((name, at) for name, at in self._store.all_seen().items() if at in shredded)

    def _index(self, first: int, end: int) -> Iterator[Frame]:
        """Yield what finds records."""
        for table, which in mirror_rows.BY_CONVERSATION.items():
            yield from self._sealed(table, which, first=first, end=end)
        yield from self._sealed("followed", mirror_rows.FOLLOWED, first=first, end=end)
        for log in mirror_rows.OWN_LOGS:
            yield from self._sealed("followed", "log = :log", log=log)
        yield from self._sealed("officer_key", "true")

    def _rest(self) -> Iterator[Frame]:
        for table in mirror_rows.WHOLE:
            yield from self._sealed(table, "true")

    def _sealed(self, table: str, which: str, **values: object) -> Iterator[Frame]:
        """Yield the rows of a table that the mirror does not have as they are."""
        query = f"SELECT * FROM {table} WHERE {which}"  # noqa: S608 - names from this package
        part: list[tuple[bytes, bytes]] = []
        size = 0
        for row in self._store.named_rows(query, values):
            if table not in mirror_rows.ONCE and not self._is_new(table, row):
                continue
            sealed = self._rows.seal(table, row)
            part.append(sealed)
            size += len(sealed[1])
            if size >= ROWS_BYTES or len(part) == NAMES:
                yield Rows(rows=part)
                part, size = [], 0
        if part:
            yield Rows(rows=part)

    def _is_new(self, table: str, row: Sequence[object]) -> bool:
        name, value = self._rows.name_of(table, row), hash(tuple(row))
        was, self._sent[name] = self._sent.get(name), value
        return was != value

    def _gone(self) -> Iterator[Frame]:
        rows = self._store.rows("SELECT idx FROM leaf WHERE idx NOT IN (SELECT idx FROM body)")
        names = [self._rows.name_of(table, row) for row in rows for table in mirror_rows.SHREDDED]
        for at in range(0, len(names), NAMES):
            yield Gone(names=names[at : at + NAMES])

    def _kinds(self, first: int, end: int | None = None) -> set[RecordType]:
        """Return the types of records."""
        query = "SELECT DISTINCT substr(record, 2, 1) FROM leaf WHERE idx >= ? AND idx < ?"
        last = self._store.size() if end is None else end
        return {RecordType(row[0][0]) for row in self._store.rows(query, first, last)}

    # Files.

    async def _bring_files(self, kinds: set[RecordType]) -> None:
        """Bring the databases beside the log where a record tells of them, or they changed."""
        for kind, name, records in (
            (FileKind.AUTHORITY, founding.AUTHORITY_FILE, AUTHORITYS),
            (FileKind.DESK, founding.DESK_FILE, OFFICERS),
        ):
            path = self._sources.data / name
            stamp = _stamp(path)
            if kinds & records or self._files.get(kind) != stamp:
                await self._send_file(kind, self._database(kind, path))
                self._files[kind] = stamp
        folder = self._sources.file.parent
        for kind, path in (
            (FileKind.ROOT, folder / founding.ROOT_FILE),
            (FileKind.LOG_KEY, folder / founding.LOG_KEY_FILE),
            (FileKind.WITNESS_KEYS, folder / founding.WITNESS_KEY_FILE),
            (FileKind.SETTINGS, self._sources.file),
        ):
            if path.exists() and self._files.get(kind) != (data := path.read_bytes()):
                await self._send_file(kind, data)
                self._files[kind] = data

    def _database(self, kind: FileKind, path: Path) -> bytes:
        """Return a copy of a database, under its key."""
        made = self._sources.data / f"{path.name}.mirror"
        made.unlink(missing_ok=True)
        opener: type[AuthorityStore] | type[Desk] = (
            AuthorityStore if kind is FileKind.AUTHORITY else Desk
        )
        with contextlib.closing(opener(path, self._sources.key)) as store:
            store.copy_to(made, self._sources.key)
        data = made.read_bytes()
        made.unlink()
        return data

    async def _send_file(self, kind: FileKind, data: bytes) -> None:
        for at in range(0, max(len(data), 1), PIECE_BYTES):
            last = at + PIECE_BYTES >= len(data)
            await self._send(Piece(kind=kind, name="", data=data[at : at + PIECE_BYTES], last=last))
        await self._answer(Stored)

    async def bring_attachment(self, name: str) -> None:
        """Bring an attachment, as it was uploaded.

        Raises:
            RefusedError: The mirror cannot write it.
        """
        path = self._sources.data / uploads.FOLDER / name
        left = path.stat().st_size
        with path.open("rb") as file:
            while True:
                data = await asyncio.to_thread(file.read, PIECE_BYTES)
                left -= len(data)
                last = left <= 0
                await self._send(Piece(kind=FileKind.ATTACHMENT, name=name, data=data, last=last))
                if last:
                    break
        await self._answer(Stored)

    # Frames.

    async def _send(self, *frames: Frame) -> None:
        for frame in frames:
            self._writer.write(mirror_frames.encode(frame))
            # It may have said why it does not go on, and closed: that is found by reading.
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()

    async def _answer(self, kind: type[T]) -> T:
        async with asyncio.timeout(ANSWER_S):
            data = await mirror_frames.receive(self._reader)
        answer: Answer = mirror_frames.decode_answer(data)
        if isinstance(answer, Refused):
            raise RefusedError(answer.reason)
        if not isinstance(answer, kind):
            raise InvalidError("the answer to what was asked")
        return answer


def _stamp(path: Path) -> object:
    """Return what differs once a database has changed."""
    files = [path, path.with_name(f"{path.name}-wal")]
    return [(one.stat().st_mtime_ns, one.stat().st_size) for one in files if one.exists()]


class SecondMachine:
    """The mirror on another machine, as the archive's process keeps it up to date.

    Attributes:
        waits: Whether receipts wait for it.
    """

    def __init__(
        self, host: MirrorHost, sources: Sources, *, tell: Callable[[int | None], None]
    ) -> None:
        """Take what goes over.

        Args:
            host: Where it is.
            sources: What goes over.
            tell: Told how many records it has confirmed, or ``None`` where it is away.

        Raises:
            ConfigurationError: The token's file cannot be used.
        """
        self.waits = host.wait
        self._host, self._sources, self._tell = host, sources, tell
        self._token = read_token(configuration.resolve(sources.file, host.token_file))
        self._wanted: Note | None = None
        self._attachments: dict[str, asyncio.Future[None]] = {}
        self._held = 0
        self._news = asyncio.Event()
        self._confirmed = asyncio.Condition()

    def follow(self, note: Note) -> None:
        """Have the mirror brought up to a checkpoint, as soon as it can be."""
        self._wanted = note
        self._news.set()

    async def until_held(self, size: int) -> None:
        """Wait until the mirror has confirmed so many records."""
        async with self._confirmed:
            await self._confirmed.wait_for(lambda: self._held >= size)

    async def hold_attachment(self, name: str) -> None:
        """Bring an attachment; where receipts wait for the mirror, wait until it has it."""
        waiting = self._attachments.setdefault(name, asyncio.get_running_loop().create_future())
        self._news.set()
        if self.waits:
            await asyncio.shield(waiting)

    async def run(self, now_ms: Callable[[], int]) -> None:
        """Follow until cancelled: connect, and connect again."""
        while True:
            try:
                await self._connected(now_ms)
            except RefusedError as error:
                events.warn("mirror_refused", code=error.reason.name)
            except (AwayError, InvalidError, OSError, IncompleteReadError, TimeoutError) as error:
                events.warn("mirror_away", error=type(error).__name__)
            self._tell(None)
            await asyncio.sleep(AGAIN_S)

    async def _connected(self, now_ms: Callable[[], int]) -> None:
        async with self._opened() as streams:
            bringing = Bringing(self._sources, streams)
            await bringing.begin(self._token)
            while True:
                await self._news.wait()
                self._news.clear()
                for name in [*self._attachments]:
                    await bringing.bring_attachment(name)
                    if not (waiting := self._attachments.pop(name)).done():
                        waiting.set_result(None)
                if self._wanted is not None:
                    await self._bring(bringing, self._wanted, now_ms())

    async def _bring(self, bringing: Bringing, note: Note, now_ms: int) -> None:
        await bringing.bring(note, now_ms=now_ms)
        held = Checkpoint.decode(note.text).size
        self._tell(held)
        async with self._confirmed:
            self._held = held
            self._confirmed.notify_all()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        """Connect to the pinned machine; nothing is said to another."""
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                self._host.host, self._host.port, ssl=tls_context()
            )
        try:
            try:
                check_pin(writer.get_extra_info("ssl_object"), bytes.fromhex(self._host.pin))
            except UnreachableError:
                raise AwayError from None
            # After each new connection what is wanted goes over, also where nothing is new.
            self._news.set()
            yield reader, writer
        finally:
            writer.transport.abort()


def read_token(path: Path) -> bytes:
    """Return the token by which the mirror knows this archive.

    Raises:
        ConfigurationError: The file is missing, too open, or holds none.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
        token = bytes.fromhex(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except ValueError:
        token = b""
    if len(token) != TOKEN_BYTES or mode & 0o077:
        raise ConfigurationError(f"{path}: a mirror's token that only its owner reads is wanted")
    return token

"""Attachments: ciphertext on its way, uploaded in pieces, gone when all who should have it do.

A blob is three files under a random name that the relay makes; nothing that a client says is ever
part of a path. ``.data`` is the ciphertext, ``.sums`` one record for each piece that was
acknowledged, ``.meta`` who uploaded it and who is still to fetch it. A piece is acknowledged when
its data and then its sum are synced, so after a crash the sums alone say how far the upload came,
and a flipped bit is an error.

Source: the architecture, section 4 (attachments).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from secrets import token_hex
from struct import Struct as Layout
from typing import NewType, TypeVar

from msgspec import Struct

from protocol import limits
from protocol.identifiers import DeviceId, OrganisationId
from server import records
from server.ageing import AgeClock
from server.store import (
    READERS_MAX,
    DamagedError,
    LimitError,
    RefusedError,
    StoreError,
    StoreFailedError,
    StoreFullError,
)
from storage.files import sync_directory

BlobId = NewType("BlobId", str)
"""A blob's name, made by the relay: 32 hexadecimal digits."""

BLOB_ID_BYTES = 16
"""Random bytes in a name: nobody finds a blob by trying."""

UPLOADS_OPEN = 8
"""Unfinished uploads of one device: each holds room that nobody can use yet."""

SHARE = 10
"""Part of an organisation's quota that one device may take: a stolen one takes it from nobody."""

PIECES_MAX = 4 * limits.ATTACHMENT_BYTES // limits.ATTACHMENT_CHUNK_BYTES
"""Pieces of one upload: four times as many as the largest needs. Each costs memory and a sum."""

SIDE = 1
"""Row number under which a side file's record is sealed: it has only one."""

_NAME = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SUM = Layout(">I16s")

T = TypeVar("T")


class UnknownBlobError(RefusedError):
    """There is no such blob, or it is not the device's to read: the two are answered alike."""

    def __init__(self) -> None:
        super().__init__("no such blob")


class OffsetError(RefusedError):
    """A piece that does not follow what is there.

    Attributes:
        expected: Where the next piece must begin, in bytes.
    """

    def __init__(self, expected: int) -> None:
        super().__init__(f"the next piece begins at {expected}")
        self.expected = expected


class Progress(Struct, frozen=True, kw_only=True):
    """How far an upload has come, in bytes."""

    offset: int
    size: int


class _Blob:
    """A blob as the thread knows it."""

    __slots__ = ("born_ms", "home", "name", "organisation", "owner", "pieces", "readers", "size")

    def __init__(
        self,
        home: Path,
        name: BlobId,
        *,
        organisation: OrganisationId,
        owner: DeviceId,
        size: int,
        born_ms: int,
        readers: set[DeviceId],
    ) -> None:
        self.home = home
        self.name = name
        self.organisation = organisation
        self.owner = owner
        self.size = size
        self.born_ms = born_ms
        self.readers = readers
        self.pieces: list[tuple[int, bytes]] = []

    def path(self, suffix: str) -> Path:
        """Give one of its files."""
        return self.home / f"{self.name}.{suffix}"

    @property
    def offset(self) -> int:
        """Bytes acknowledged."""
        return sum(length for length, _ in self.pieces)

    def meta(self) -> bytes:
        """Give the ``.meta`` file's record."""
        return records.seal_values(
            "blob",
            SIDE,
            self.name,
            self.organisation,
            self.owner,
            self.size,
            self.born_ms,
            sorted(self.readers),
        )


class Blobs:
    """The directory of attachments; every method returns when its effect is durable.

    All of them raise ``StoreFullError`` without room and ``StoreFailedError`` where the disk fails.
    """

    def __init__(self, root: Path, quota_bytes: int) -> None:
        self._root = root
        self._quota_bytes = quota_bytes
        self._blobs: dict[tuple[OrganisationId, str], _Blob] = {}
        # Counted as they come and go: a look at all of them for each new one is for the asking.
        self._held: Counter[OrganisationId] = Counter()
        self._of_owner: Counter[tuple[OrganisationId, DeviceId]] = Counter()
        self._unfinished: Counter[tuple[OrganisationId, DeviceId]] = Counter()
        self._clock = AgeClock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="blobs")

    @classmethod
    async def open(cls, root: Path, *, quota_bytes: int) -> Blobs:
        """Open the directory ``root``, which exists, and clear away what a crash left half-made.

        Args:
            root: A directory for blobs alone.
            quota_bytes: Most bytes of attachments that one organisation may have waiting.
        """
        blobs = cls(root, quota_bytes)
        await blobs._do(blobs._load)
        return blobs

    async def create(
        self,
        organisation: OrganisationId,
        owner: DeviceId,
        *,
        size: int,
        readers: Sequence[DeviceId],
    ) -> BlobId:
        """Begin an upload of ``size`` bytes for ``readers``, and give its name.

        Raises:
            LimitError: Size, readers, unfinished uploads, the organisation's quota or the device's
                share of it are exceeded.
        """
        return await self._do(lambda: self._create(organisation, owner, size, frozenset(readers)))

    async def progress(self, organisation: OrganisationId, blob: str, owner: DeviceId) -> Progress:
        """Tell the uploader where to go on.

        Raises:
            UnknownBlobError: There is none, or another's.
        """
        return await self._do(lambda: _progress(self._owned(organisation, blob, owner)))

    async def write(
        self, organisation: OrganisationId, blob: str, owner: DeviceId, *, offset: int, data: bytes
    ) -> Progress:
        """Append a piece.

        Raises:
            UnknownBlobError: There is none, or another's.
            OffsetError: The piece does not follow what is there; a repeat learns so where to go on.
            LimitError: It is empty, too long, one too many, or passes the size that was announced.
        """
        return await self._do(lambda: self._write(organisation, blob, owner, offset, data))

    async def read(
        self, organisation: OrganisationId, blob: str, device: DeviceId, *, offset: int
    ) -> bytes:
        """Give the verified bytes from ``offset`` to the end of its piece; none at the blob's end.

        Raises:
            UnknownBlobError: There is none that is whole, or it is not this device's to fetch.
            LimitError: The offset is out of range.
            DamagedError: The bytes are not those that were uploaded.
        """
        return await self._do(lambda: self._read(organisation, blob, device, offset))

    async def fetched(self, organisation: OrganisationId, blob: str, device: DeviceId) -> None:
        """Note that a device has the blob on its own disk; the last one's word deletes it."""
        await self._do(lambda: self._fetched(organisation, blob, device))

    async def end_device(self, organisation: OrganisationId, device: DeviceId) -> None:
        """Wait for a device no longer; what it was uploading goes."""
        await self._do(lambda: self._end_device(organisation, device))

    async def expire(self, *, after_ms: int, wall_ms: int, monotonic_ms: int) -> int:
        """Delete what is older than ``after_ms`` as ``AgeClock`` counts it; give how many were."""
        return await self._do(lambda: self._expire(after_ms, wall_ms, monotonic_ms))

    async def held_bytes(self, organisation: OrganisationId) -> int:
        """Give what the organisation's blobs take of its quota."""
        return await self._do(lambda: self._held[organisation])

    async def close(self) -> None:
        """Finish what was begun and stop."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _translated, work)

    # What follows runs in the thread.

    def _load(self) -> None:
        clock = self._root / "clock"
        if clock.exists():
            # One that cannot be read starts anew: everything stays longer, nothing goes early.
            with suppress(DamagedError):
                self._clock = AgeClock(*records.unseal_values("clock", SIDE, clock.read_bytes()))
        for home in self._root.iterdir():
            if home.is_dir():
                for meta in sorted(home.glob("*.meta")):
                    self._take_in(home, meta)
                self._clear(home)

    def _take_in(self, home: Path, meta: Path) -> None:
        try:
            name, organisation, owner, size, born_ms, readers = records.unseal_values(
                "blob", SIDE, meta.read_bytes()
            )
        except DamagedError:
            return  # who should have it is not known any more: it is cleared away
        blob = _Blob(
            home,
            BlobId(name),
            organisation=OrganisationId(organisation),
            owner=DeviceId(owner),
            size=size,
            born_ms=born_ms,
            readers=set(readers),
        )
        sums = blob.path("sums")
        if name != meta.stem or not sums.exists() or not blob.path("data").exists():
            return
        whole = sums.read_bytes()
        whole = whole[: len(whole) - len(whole) % _SUM.size]
        blob.pieces = [(length, digest) for length, digest in _SUM.iter_unpack(whole)]
        _cut(blob)
        self._keep(blob)

    def _clear(self, home: Path) -> None:
        known = {blob.name for blob in self._blobs.values() if blob.home == home}
        for file in home.iterdir():
            if file.name.partition(".")[0] not in known or file.suffix == ".part":
                file.unlink()

    def _create(
        self,
        organisation: OrganisationId,
        owner: DeviceId,
        size: int,
        readers: frozenset[DeviceId],
    ) -> BlobId:
        if not 0 < size <= limits.ATTACHMENT_BYTES:
            raise LimitError("size")
        if not 0 < len(readers) <= READERS_MAX:
            raise LimitError("readers")
        share = max(limits.ATTACHMENT_BYTES, self._quota_bytes // SHARE)
        if (
            self._held[organisation] + size > self._quota_bytes
            or self._of_owner[organisation, owner] + size > share
        ):
            raise LimitError("quota")
        if self._unfinished[organisation, owner] >= UPLOADS_OPEN:
            raise LimitError("uploads")
        home = self._root / organisation.hex()
        if not home.exists():
            home.mkdir(mode=0o700)
            sync_directory(self._root)
        blob = _Blob(
            home,
            BlobId(token_hex(BLOB_ID_BYTES)),
            organisation=organisation,
            owner=owner,
            size=size,
            born_ms=self._clock.age_ms,
            readers=set(readers),
        )
        for suffix in ("data", "sums"):
            _append(blob.path(suffix), b"")
        _replace(blob.path("meta"), blob.meta())
        self._keep(blob)
        return blob.name

    def _keep(self, blob: _Blob) -> None:
        self._blobs[blob.organisation, blob.name] = blob
        self._count(blob, 1)

    def _count(self, blob: _Blob, times: int) -> None:
        """Add a blob to what is counted, or take it away."""
        of = (blob.organisation, blob.owner)
        self._held[blob.organisation] += times * blob.size
        self._of_owner[of] += times * blob.size
        self._unfinished[of] += times * (blob.offset < blob.size)

    def _find(self, organisation: OrganisationId, name: str) -> _Blob:
        blob = self._blobs.get((organisation, name)) if _NAME.fullmatch(name) else None
        if blob is None:
            raise UnknownBlobError
        return blob

    def _owned(self, organisation: OrganisationId, name: str, owner: DeviceId) -> _Blob:
        blob = self._find(organisation, name)
        if blob.owner != owner:
            raise UnknownBlobError
        return blob

    def _write(
        self, organisation: OrganisationId, name: str, owner: DeviceId, offset: int, data: bytes
    ) -> Progress:
        blob = self._owned(organisation, name, owner)
        if offset != blob.offset:
            raise OffsetError(blob.offset)
        if not 0 < len(data) <= limits.ATTACHMENT_CHUNK_BYTES or offset + len(data) > blob.size:
            raise LimitError("data")
        if len(blob.pieces) >= PIECES_MAX:
            raise LimitError("pieces")
        digest = records.body_sum(data)
        try:
            # The sum says that the piece is there: it must not reach the disk before the piece.
            _append(blob.path("data"), data)
            _append(blob.path("sums"), _SUM.pack(len(data), digest))
        except OSError:
            _cut(blob)
            raise
        self._count(blob, -1)
        blob.pieces.append((len(data), digest))
        self._count(blob, 1)
        return _progress(blob)

    def _read(
        self, organisation: OrganisationId, name: str, device: DeviceId, offset: int
    ) -> bytes:
        blob = self._find(organisation, name)
        if device not in blob.readers or blob.offset < blob.size:
            raise UnknownBlobError
        if not 0 <= offset <= blob.size:
            raise LimitError("offset")
        ends = accumulate(length for length, _ in blob.pieces)
        for end, (length, digest) in zip(ends, blob.pieces, strict=True):
            if offset < end:
                with blob.path("data").open("rb") as file:
                    file.seek(end - length)
                    piece = file.read(length)
                if records.body_sum(piece) != digest:
                    raise DamagedError("blob")
                return piece[offset - (end - length) :]
        return b""

    def _fetched(self, organisation: OrganisationId, name: str, device: DeviceId) -> None:
        blob = self._blobs.get((organisation, name))
        # Who is told of a blob that is not whole yet cannot have it.
        if blob is None or device not in blob.readers or blob.offset < blob.size:
            return
        self._without(blob, device)

    def _without(self, blob: _Blob, device: DeviceId) -> None:
        blob.readers.discard(device)
        if blob.readers:
            _replace(blob.path("meta"), blob.meta())
        else:
            self._delete(blob)

    def _end_device(self, organisation: OrganisationId, device: DeviceId) -> None:
        for blob in [b for b in self._blobs.values() if b.organisation == organisation]:
            if blob.owner == device and blob.offset < blob.size:
                self._delete(blob)
            elif device in blob.readers:
                self._without(blob, device)

    def _expire(self, after_ms: int, wall_ms: int, monotonic_ms: int) -> int:
        self._clock.tick(wall_ms=wall_ms, monotonic_ms=monotonic_ms)
        clock = records.seal_values("clock", SIDE, self._clock.age_ms, self._clock.wall_ms)
        _replace(self._root / "clock", clock)
        limit = self._clock.age_ms - after_ms
        overdue = [blob for blob in self._blobs.values() if blob.born_ms < limit]
        for blob in overdue:
            self._delete(blob)
        return len(overdue)

    def _delete(self, blob: _Blob) -> None:
        """Take a blob away; what says that it exists goes first, the rest is cleared at start."""
        del self._blobs[blob.organisation, blob.name]
        self._count(blob, -1)
        for suffix in ("meta", "sums", "data"):
            blob.path(suffix).unlink(missing_ok=True)
        sync_directory(blob.home)


def _progress(blob: _Blob) -> Progress:
    return Progress(offset=blob.offset, size=blob.size)


def _append(path: Path, data: bytes) -> None:
    """Append to a file, made with its directory's entry where it is new, and sync it."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_directory(path.parent)


def _replace(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of a file's content: all of it or, after a crash, the old."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    _append(part, data)
    part.rename(path)
    sync_directory(path.parent)


def _cut(blob: _Blob) -> None:
    """Cut off what was written of a piece that was not acknowledged."""
    os.truncate(blob.path("sums"), len(blob.pieces) * _SUM.size)
    if blob.path("data").stat().st_size > blob.offset:
        os.truncate(blob.path("data"), blob.offset)


def _translated(work: Callable[[], T]) -> T:
    with _translating():
        return work()


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        failure: StoreError = StoreFullError() if error.errno in _FULL else StoreFailedError()
        raise failure from None

"""What the directory of attachments promises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol import limits
from server import blobs as blobs_module
from server.blobs import SHARE, UPLOADS_OPEN, Blobs, OffsetError, UnknownBlobError
from server.store import DamagedError, LimitError, StoreFullError
from tests.server.stores import ANN, BOB, CAT, ORGANISATION, OTHER

DAY_MS = 24 * 3600 * 1000
PIECE = bytes(range(256)) * 16


@asynccontextmanager
async def opened(root: Path, *, quota_bytes: int = 1 << 30) -> AsyncIterator[Blobs]:
    blobs = await Blobs.open(root, quota_bytes=quota_bytes)
    try:
        yield blobs
    finally:
        await blobs.close()


async def uploaded(blobs: Blobs, *, pieces: int = 2) -> str:
    blob = await blobs.create(ORGANISATION, ANN, size=pieces * len(PIECE), readers=[BOB, CAT])
    for piece in range(pieces):
        offset = piece * len(PIECE)
        await blobs.write(ORGANISATION, blob, ANN, offset=offset, data=PIECE)
    return blob


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != "clock"]


def named(root: Path, suffix: str) -> Path:
    [found] = root.rglob(f"*.{suffix}")
    return found


async def test_what_was_uploaded_is_read_piece_by_piece_from_any_offset(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        blob = await uploaded(blobs)
        whole = b""
        while piece := await blobs.read(ORGANISATION, blob, BOB, offset=len(whole)):
            whole += piece
        assert whole == PIECE * 2
        assert await blobs.read(ORGANISATION, blob, BOB, offset=7) == PIECE[7:]


async def test_an_upload_goes_on_after_a_restart_where_it_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as blobs:
        blob = await blobs.create(ORGANISATION, ANN, size=3 * len(PIECE), readers=[BOB])
        await blobs.write(ORGANISATION, blob, ANN, offset=0, data=PIECE)
    # A piece that was being written when the power went, and half of its sum.
    append(named(tmp_path, "data"), b"torn")
    append(named(tmp_path, "sums"), b"torn")
    async with opened(tmp_path) as blobs:
        progress = await blobs.progress(ORGANISATION, blob, ANN)
        assert progress.offset == len(PIECE)
        with pytest.raises(OffsetError) as error:
            await blobs.write(ORGANISATION, blob, ANN, offset=0, data=PIECE)
        assert error.value.expected == len(PIECE)
        for offset in (len(PIECE), 2 * len(PIECE)):
            await blobs.write(ORGANISATION, blob, ANN, offset=offset, data=PIECE)
        assert await blobs.read(ORGANISATION, blob, BOB, offset=len(PIECE)) == PIECE


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_it_is_deleted_when_all_have_it_and_not_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        blob = await uploaded(blobs)
        await blobs.fetched(ORGANISATION, blob, BOB)
        await blobs.fetched(ORGANISATION, blob, BOB)
        with pytest.raises(UnknownBlobError):
            await blobs.read(ORGANISATION, blob, BOB, offset=0)
    async with opened(tmp_path) as blobs:
        assert await blobs.read(ORGANISATION, blob, CAT, offset=0) == PIECE
        await blobs.fetched(ORGANISATION, blob, CAT)
        assert files(tmp_path) == []
        assert await blobs.held_bytes(ORGANISATION) == 0


async def test_what_is_too_old_goes_and_a_clock_that_jumps_takes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        blob = await uploaded(blobs)
        tick = {"after_ms": 30 * DAY_MS}
        for wall_ms in (1, 10**15, 1):
            assert await blobs.expire(**tick, wall_ms=wall_ms, monotonic_ms=1) == 0
    async with opened(tmp_path) as blobs:
        assert await blobs.expire(**tick, wall_ms=10**15, monotonic_ms=1) == 0
        assert await blobs.read(ORGANISATION, blob, BOB, offset=0) == PIECE
        assert await blobs.expire(**tick, wall_ms=10**15, monotonic_ms=31 * DAY_MS) == 1
        assert files(tmp_path) == []


async def test_a_revoked_device_is_not_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        await uploaded(blobs)
        await blobs.create(ORGANISATION, BOB, size=9, readers=[CAT])
        await blobs.end_device(ORGANISATION, BOB)
        await blobs.end_device(ORGANISATION, CAT)
        assert files(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "A" * 32, "0" * 31, "0" * 33, "0" * 31 + "/", "0" * 32]
)
async def test_a_clients_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as blobs:
        for attempt in (
            blobs.read(ORGANISATION, name, ANN, offset=0),
            blobs.write(ORGANISATION, name, ANN, offset=0, data=b"x"),
            blobs.progress(ORGANISATION, name, ANN),
        ):
            with pytest.raises(UnknownBlobError):
                await attempt
        await blobs.fetched(ORGANISATION, name, ANN)
        assert files(tmp_path) == []


async def test_others_can_neither_write_nor_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        blob = await blobs.create(ORGANISATION, ANN, size=len(PIECE), readers=[BOB])
        with pytest.raises(UnknownBlobError):
            await blobs.write(ORGANISATION, blob, CAT, offset=0, data=PIECE)
        with pytest.raises(UnknownBlobError):
            await blobs.write(OTHER, blob, ANN, offset=0, data=PIECE)
        with pytest.raises(UnknownBlobError):
            await blobs.read(ORGANISATION, blob, BOB, offset=0)  # not whole yet
        await blobs.fetched(ORGANISATION, blob, BOB)
        await blobs.write(ORGANISATION, blob, ANN, offset=0, data=PIECE)
        with pytest.raises(UnknownBlobError):
            await blobs.read(ORGANISATION, blob, CAT, offset=0)
        assert await blobs.read(ORGANISATION, blob, BOB, offset=0) == PIECE


async def test_limits_and_the_quota_hold(tmp_path: Path) -> None:
    async with opened(tmp_path, quota_bytes=100) as blobs:
        for size, readers in (
            (0, [BOB]),
            (limits.ATTACHMENT_BYTES + 1, [BOB]),
            (9, []),
            (101, [BOB]),
        ):
            with pytest.raises(LimitError):
                await blobs.create(ORGANISATION, ANN, size=size, readers=readers)
        blob = await blobs.create(ORGANISATION, ANN, size=60, readers=[BOB])
        with pytest.raises(LimitError):
            await blobs.create(ORGANISATION, ANN, size=60, readers=[BOB])
        await blobs.create(OTHER, ANN, size=60, readers=[BOB])
        for data in (b"", b"x" * 61):
            with pytest.raises(LimitError):
                await blobs.write(ORGANISATION, blob, ANN, offset=0, data=data)
        for _ in range(UPLOADS_OPEN - 1):
            await blobs.create(ORGANISATION, ANN, size=1, readers=[BOB])
        with pytest.raises(LimitError):
            await blobs.create(ORGANISATION, ANN, size=1, readers=[BOB])


async def test_one_device_takes_no_more_than_its_share_and_gets_it_back(tmp_path: Path) -> None:
    most = limits.ATTACHMENT_BYTES
    async with opened(tmp_path, quota_bytes=2 * most * SHARE) as blobs:
        for _ in range(2):
            await blobs.create(ORGANISATION, ANN, size=most, readers=[BOB])
    async with opened(tmp_path, quota_bytes=2 * most * SHARE) as blobs:
        with pytest.raises(LimitError):
            await blobs.create(ORGANISATION, ANN, size=1, readers=[BOB])
        await blobs.create(ORGANISATION, BOB, size=most, readers=[ANN])
        await blobs.create(OTHER, ANN, size=most, readers=[BOB])
        assert await blobs.held_bytes(ORGANISATION) == 3 * most
        await blobs.end_device(ORGANISATION, ANN)
        assert await blobs.held_bytes(ORGANISATION) == 0
        await blobs.create(ORGANISATION, ANN, size=most, readers=[BOB])


async def test_an_upload_has_a_bounded_number_of_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "PIECES_MAX", 3)
    async with opened(tmp_path) as blobs:
        blob = await blobs.create(ORGANISATION, ANN, size=9, readers=[BOB])
        for offset in range(3):
            await blobs.write(ORGANISATION, blob, ANN, offset=offset, data=b"x")
        with pytest.raises(LimitError):
            await blobs.write(ORGANISATION, blob, ANN, offset=3, data=b"x")
        largest = -(-limits.ATTACHMENT_BYTES // limits.ATTACHMENT_CHUNK_BYTES)
    monkeypatch.undo()
    assert 2 * largest < blobs_module.PIECES_MAX


@pytest.mark.parametrize("suffix", ["data", "sums", "meta"])
async def test_a_flipped_bit_is_named_or_the_blob_is_gone(tmp_path: Path, suffix: str) -> None:
    async with opened(tmp_path) as blobs:
        blob = await uploaded(blobs)
    flip(named(tmp_path, suffix))
    async with opened(tmp_path) as blobs:
        with pytest.raises((DamagedError, UnknownBlobError)):
            await blobs.read(ORGANISATION, blob, BOB, offset=0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


async def test_a_full_disk_leaves_the_upload_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        append(path, data[: len(data) // 2])
        raise OSError(28, "no space")

    async with opened(tmp_path) as blobs:
        blob = await blobs.create(ORGANISATION, ANN, size=len(PIECE), readers=[BOB])
        with monkeypatch.context() as patched:
            patched.setattr(blobs_module, "_append", full)
            with pytest.raises(StoreFullError):
                await blobs.write(ORGANISATION, blob, ANN, offset=0, data=PIECE)
        assert (await blobs.write(ORGANISATION, blob, ANN, offset=0, data=PIECE)).offset == len(
            PIECE
        )
        assert await blobs.read(ORGANISATION, blob, BOB, offset=0) == PIECE


async def test_what_a_crash_left_half_made_is_cleared_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        await uploaded(blobs)
    home = named(tmp_path, "meta").parent
    for name in ("f" * 32 + ".data", "f" * 32 + ".sums", "e" * 32 + ".meta.part"):
        append(home / name, b"half")
    async with opened(tmp_path):
        assert len(files(tmp_path)) == 3

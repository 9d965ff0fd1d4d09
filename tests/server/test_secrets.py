"""What the file of secrets promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protocol.identifiers import UserName
from server import secrets
from server.secrets import Account, ChangedError, KeyFileError, Secrets, Share, WipedError
from server.store import AwaitingArchiveError, DamagedError
from tests.server.stores import ANN, BOB, ORGANISATION, OTHER

USER = UserName("ann")
ACCOUNT = Account(password_hash="CANARY-hash", totp_secret=b"CANARY-totp")
SHARE = Share(share=b"CANARY-share", pin_verifier=b"CANARY-pin")


@asynccontextmanager
async def opened(directory: Path, name: str = "secrets.db") -> AsyncIterator[Secrets]:
    prepare(directory, name)
    kept = await Secrets.open(directory / name, directory / "key")
    try:
        yield kept
    finally:
        await kept.close()


def prepare(directory: Path, name: str) -> None:
    if not (directory / "key").exists():
        secrets.create_key(directory / "key")
    if not (directory / name).exists():
        secrets.create(directory / name, directory / "key")


def everything(directory: Path) -> bytes:
    return b"".join(file.read_bytes() for file in directory.iterdir())


async def test_what_was_put_is_there_after_a_restart_and_in_no_file_readable(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as kept:
        await kept.put_account(ORGANISATION, USER, ACCOUNT, was=None)
        await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        assert b"CANARY" not in everything(tmp_path)
    async with opened(tmp_path) as kept:
        assert await kept.account(ORGANISATION, USER) == ACCOUNT
        assert await kept.share(ORGANISATION, ANN) == SHARE
        assert await kept.account(OTHER, USER) is None
        assert await kept.share(OTHER, ANN) is None


async def test_of_many_guesses_at_once_each_counts(tmp_path: Path) -> None:
    async def guess(kept: Secrets) -> None:
        while True:
            was = await kept.share(ORGANISATION, ANN)
            assert was is not None
            more = Share(share=was.share, pin_verifier=was.pin_verifier, failures=was.failures + 1)
            try:
                await kept.put_share(ORGANISATION, ANN, more, was=was)
            except ChangedError:
                continue
            return

    async with opened(tmp_path) as kept:
        await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        await asyncio.gather(*(guess(kept) for _ in range(10)))
        found = await kept.share(ORGANISATION, ANN)
        assert found is not None
        assert found.failures == 10


async def test_one_code_opens_one_session(tmp_path: Path) -> None:
    used = Account(password_hash="h", totp_secret=b"s", totp_last_step=7)
    async with opened(tmp_path) as kept:
        await kept.put_account(ORGANISATION, USER, ACCOUNT, was=None)
        answers = await asyncio.gather(
            *(kept.put_account(ORGANISATION, USER, used, was=ACCOUNT) for _ in range(2)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [type(None), ChangedError]


async def test_a_wiped_device_never_has_a_share_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        await kept.put_share(ORGANISATION, BOB, SHARE, was=None)
        await kept.wipe(ORGANISATION, ANN, 3, b"order")
        await kept.wipe(ORGANISATION, ANN, 3, b"order")
        assert await kept.share(ORGANISATION, ANN) is None
        with pytest.raises(WipedError):
            await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        assert await kept.share(ORGANISATION, BOB) == SHARE
    async with opened(tmp_path) as kept:
        [order] = await kept.orders()
        assert (order.organisation, order.device, order.number) == (ORGANISATION, ANN, 3)
        assert order.statement == b"order"
        await kept.finish(ORGANISATION, ANN, 3)
        assert await kept.orders() == []
        with pytest.raises(WipedError):
            await kept.put_share(ORGANISATION, ANN, SHARE, was=None)


def journals(folder: Path) -> set[int]:
    """Return how many bytes the write-ahead logs hold."""
    return {path.stat().st_size for path in folder.glob("*-wal")}


async def test_what_was_deleted_is_in_no_journal_when_it_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        await kept.wipe(ORGANISATION, ANN, 3, b"order")
        assert journals(tmp_path) == {0}


async def test_an_old_backup_revives_no_share_and_no_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        await kept.put_share(ORGANISATION, ANN, SHARE, was=None)
        await kept.put_share(ORGANISATION, BOB, SHARE, was=None)
        await kept.backup(tmp_path / "old.db")
        await kept.wipe(ORGANISATION, ANN, 1, b"order")
        assert not await kept.awaiting_archive()
        with pytest.raises(FileExistsError):
            await kept.backup(tmp_path / "old.db")
    assert b"CANARY" not in everything(tmp_path)
    async with opened(tmp_path, "old.db") as kept:
        assert await kept.awaiting_archive()
        for device in (ANN, BOB):
            with pytest.raises(AwaitingArchiveError):
                await kept.share(ORGANISATION, device)
            with pytest.raises(AwaitingArchiveError):
                await kept.put_share(ORGANISATION, device, None, was=SHARE)
        await kept.wipe(ORGANISATION, ANN, 1, b"order")
        await kept.resume()
        assert await kept.share(ORGANISATION, ANN) is None
        assert await kept.share(ORGANISATION, BOB) == SHARE


async def test_no_flipped_byte_is_believed(tmp_path: Path) -> None:
    async with opened(tmp_path) as kept:
        await kept.put_account(ORGANISATION, USER, ACCOUNT, was=None)
    path = tmp_path / "secrets.db"
    whole = read(path)
    for at in range(0, len(whole), len(whole) // 100):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        write(path, bytes(flipped))
        with pytest.raises(DamagedError):
            await Secrets.open(path, tmp_path / "key")


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_another_key_opens_nothing_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path):
        pass
    secrets.create_key(tmp_path / "other")
    with pytest.raises(DamagedError):
        await Secrets.open(tmp_path / "secrets.db", tmp_path / "other")
    assert capfd.readouterr() == ("", "")


async def test_a_key_file_that_others_can_read_or_that_is_cut_short_is_refused(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path):
        pass
    key = tmp_path / "key"
    key.chmod(0o640)
    with pytest.raises(KeyFileError):
        await Secrets.open(tmp_path / "secrets.db", key)
    key.chmod(0o600)
    write(key, read(key)[:-1])
    with pytest.raises(KeyFileError):
        await Secrets.open(tmp_path / "secrets.db", key)


async def test_a_file_that_was_never_made_is_not_made_by_opening(tmp_path: Path) -> None:
    secrets.create_key(tmp_path / "key")
    with pytest.raises(FileNotFoundError):
        await Secrets.open(tmp_path / "secrets.db", tmp_path / "key")


def test_no_secret_is_in_a_repr() -> None:
    order = secrets.Order(organisation=ORGANISATION, device=ANN, number=1, statement=b"CANARY")
    for value in (ACCOUNT, SHARE, order):
        assert "CANARY" not in repr(value)

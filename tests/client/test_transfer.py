"""Attachments: sent and fetched through a network that breaks, whole or not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client import transfer
from client.errors import (
    AlteredError,
    FailedError,
    FullError,
    GoneError,
    ImpostorError,
    TooLargeError,
)
from client.link import Address
from client.transfer import Sealed, Transfers, save
from crypto.attachment import AttachmentRef
from protocol.identifiers import ConversationId, OrganisationId
from protocol.limits import ATTACHMENT_BYTES
from tests.client.cutting import breaking
from tests.client.relay import address_of, serving
from tests.server import harness
from tests.server.harness import Client, Site

Told = list[tuple[int, int]]
MEBIBYTE = 1 << 20


def token_of(client: Client) -> Callable[[], Awaitable[bytes]]:
    async def token() -> bytes:
        return client.token

    return token


def transfers(site: Site, client: Client, files: Path, *, port: int = 0) -> Transfers:
    files.mkdir(exist_ok=True)
    address = replace(address_of(site), port=port or site.port)
    return Transfers(address, files=files, token=token_of(client))


def source(folder: Path, size: int) -> Path:
    path = folder / "scan.dcm"
    path.write_bytes(os.urandom(size))
    return path


@pytest.mark.parametrize("size", [0, 1, 65_536, 3 * MEBIBYTE])
async def test_what_is_sent_is_fetched_whole_by_another_and_then_gone(
    tmp_path: Path, size: int
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        path = source(tmp_path, size)
        told: Told = []

        def tell(done: int, of: int) -> None:
            told.append((done, of))

        ours = transfers(site, ann, tmp_path / "ann")
        sealed = await ours.seal(path, on_progress=tell)
        assert told[-1] == (size, size)
        assert path.read_bytes()[:32] not in sealed.stream.read_bytes() or size < 32
        told.clear()
        blob = await ours.upload(sealed.stream, conversation, on_progress=tell)
        assert told[-1] == (sealed.ref.stream_bytes,) * 2
        assert told == sorted(told)
        for client in (bob, recorder):
            theirs = transfers(site, client, tmp_path / client.person.keys.user)
            stream = await theirs.download(blob, sealed.ref, on_progress=tell)
            save(sealed.ref, stream, tmp_path / f"{client.person.keys.user}.dcm")
            saved = tmp_path / f"{client.person.keys.user}.dcm"
            assert saved.read_bytes() == path.read_bytes()
            assert saved.stat().st_mode & 0o777 == 0o600
            # Once more costs nothing: it is here.
            assert await theirs.download(blob, sealed.ref, on_progress=tell) == stream
            theirs.close()
        assert await site.relay.blobs.held_bytes(site.hospital.id) == 0
        late = transfers(site, recorder, tmp_path / "late")
        with pytest.raises(GoneError):
            await late.download(blob, sealed.ref, on_progress=tell)
        await ours.discard(sealed.stream)
        assert list((tmp_path / "ann").iterdir()) == []
        ours.close()
        late.close()


async def test_a_network_that_breaks_three_times_repeats_no_more_than_a_piece_each(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        path = source(tmp_path, 14 * MEBIBYTE)
        cuts = [n * MEBIBYTE + 300_000 for n in (3, 7, 11)]
        async with breaking(site.port, *cuts) as network:
            ours = transfers(site, ann, tmp_path / "ann", port=network.port)
            sealed = await ours.seal(path, on_progress=lambda *_: None)
            blob = await ours.upload(sealed.stream, conversation, on_progress=lambda *_: None)
            assert network.cuts == []
            assert network.made == 4
            size = sealed.ref.stream_bytes
            assert network.passed < size + 4 * MEBIBYTE
            ours.close()
        async with breaking(site.port, *cuts) as network:
            theirs = transfers(site, bob, tmp_path / "bob", port=network.port)
            stream = await theirs.download(blob, sealed.ref, on_progress=lambda *_: None)
            assert network.cuts == []
            assert network.passed < size + 4 * MEBIBYTE
            save(sealed.ref, stream, tmp_path / "saved")
            assert (tmp_path / "saved").read_bytes() == path.read_bytes()
            theirs.close()


async def test_an_upload_and_a_download_go_on_after_the_program_has_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        path = source(tmp_path, 10 * MEBIBYTE)
        first = transfers(site, ann, tmp_path / "ann")
        sealed = await first.seal(path, on_progress=lambda *_: None)
        reached = await stopped(
            lambda tell: first.upload(sealed.stream, conversation, on_progress=tell), at=4
        )
        again = transfers(site, ann, tmp_path / "ann")
        told: Told = []
        blob = await again.upload(
            sealed.stream, conversation, on_progress=lambda *step: told.append(step)
        )
        assert told[0][0] >= reached - MEBIBYTE > 0
        reader = transfers(site, bob, tmp_path / "bob")
        reached = await stopped(
            lambda tell: reader.download(blob, sealed.ref, on_progress=tell), at=4
        )
        told.clear()
        later = transfers(site, bob, tmp_path / "bob")
        stream = await later.download(blob, sealed.ref, on_progress=lambda *step: told.append(step))
        assert told[0][0] >= reached - MEBIBYTE > 0
        save(sealed.ref, stream, tmp_path / "saved")
        assert (tmp_path / "saved").read_bytes() == path.read_bytes()
        for one in (first, again, reader, later):
            one.close()


async def stopped(begin: Callable[[transfer.Progress], Awaitable[object]], *, at: int) -> int:
    """Begin something, stop it after so many MiB, and return how far it came."""
    reached = 0

    class Stopped(BaseException):
        pass

    def tell(done: int, _: int) -> None:
        nonlocal reached
        reached = done
        if done > at * MEBIBYTE:
            raise Stopped

    with pytest.raises(Stopped):
        await begin(tell)
    return reached


async def test_what_a_crash_garbled_is_fetched_again_and_what_the_relay_garbled_is_not_kept(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        path = source(tmp_path, 3 * MEBIBYTE)
        ours = transfers(site, ann, tmp_path / "ann")
        sealed = await ours.seal(path, on_progress=lambda *_: None)
        blob = await ours.upload(sealed.stream, conversation, on_progress=lambda *_: None)
        theirs = transfers(site, bob, tmp_path / "bob")
        part = tmp_path / "bob" / (blob + transfer.PART)
        other = replace(sealed.ref, ciphertext_hash=bytes(32))
        with pytest.raises(AlteredError):
            await theirs.download(blob, other, on_progress=lambda *_: None)
        smaller = replace(sealed.ref, size=1)
        with pytest.raises(AlteredError):
            await theirs.download(blob, smaller, on_progress=lambda *_: None)
        part.write_bytes(bytes(MEBIBYTE))
        stream = await theirs.download(blob, sealed.ref, on_progress=lambda *_: None)
        assert not part.exists()
        # A stream that decays afterwards saves nothing.
        data = bytearray(stream.read_bytes())
        data[len(data) // 2] ^= 1
        stream.write_bytes(data)
        with pytest.raises(AlteredError):
            save(sealed.ref, stream, tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
        assert hidden(tmp_path) == []
        ours.close()
        theirs.close()


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


async def test_a_file_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, _), _ = await site.meeting("ann/phone")
        path = source(tmp_path, 100)
        ours = transfers(site, ann, tmp_path / "ann")
        sealed = await ours.seal(path, on_progress=lambda *_: None)
        (tmp_path / "saved").write_text("mine")
        with pytest.raises(FileExistsError):
            save(sealed.ref, sealed.stream, tmp_path / "saved")
        assert (tmp_path / "saved").read_text() == "mine"
        ours.close()


async def test_the_largest_class_that_the_relay_takes_is_sealed_and_one_byte_more_is_not(
    tmp_path: Path,
) -> None:
    assert transfer._stream_bytes(256 * MEBIBYTE) == ATTACHMENT_BYTES
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, _), _ = await site.meeting("ann/phone")
        ours = transfers(site, ann, tmp_path / "ann")
        for size in (256 * MEBIBYTE + 1, 5 << 30):
            path = tmp_path / "large"
            with path.open("wb") as file:
                file.truncate(size)
            with pytest.raises(TooLargeError):
                await ours.seal(path, on_progress=lambda *_: None)
        assert list((tmp_path / "ann").iterdir()) == []
        ours.close()


async def test_who_is_not_in_the_conversation_sends_and_fetches_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, _), conversation = await site.meeting("ann/phone")
        eve = await site.open(site.hospital.enrol("eve/phone"))
        path = source(tmp_path, 100)
        ours = transfers(site, ann, tmp_path / "ann")
        sealed = await ours.seal(path, on_progress=lambda *_: None)
        blob = await ours.upload(sealed.stream, conversation, on_progress=lambda *_: None)
        hers = transfers(site, eve, tmp_path / "eve")
        with pytest.raises(GoneError):
            await hers.download(blob, sealed.ref, on_progress=lambda *_: None)
        with pytest.raises(GoneError):
            await hers.upload(sealed.stream, conversation, on_progress=lambda *_: None)
        for name in ("", "..", "a/b", "../ann/x", "é", "x" * 65):
            with pytest.raises(GoneError):
                await hers.download(name, sealed.ref, on_progress=lambda *_: None)
        ours.close()
        hers.close()


async def test_a_blob_that_the_relay_lost_is_sent_from_the_beginning(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        path = source(tmp_path, 10 * MEBIBYTE)
        ours = transfers(site, ann, tmp_path / "ann")
        sealed = await ours.seal(path, on_progress=lambda *_: None)
        lost = False

        def lose(done: int, _: int) -> None:
            nonlocal lost
            if done > 4 * MEBIBYTE and not lost:
                lost = True
                site.relay.blobs._blobs.clear()

        blob = await ours.upload(sealed.stream, conversation, on_progress=lose)
        theirs = transfers(site, bob, tmp_path / "bob")
        stream = await theirs.download(blob, sealed.ref, on_progress=lambda *_: None)
        save(sealed.ref, stream, tmp_path / "saved")
        assert (tmp_path / "saved").read_bytes() == path.read_bytes()
        # Another conversation's place is not taken for this one's.
        assert await ours.upload(sealed.stream, conversation, on_progress=lose) == blob
        with pytest.raises(GoneError):
            await ours.upload(sealed.stream, ConversationId(bytes(32)), on_progress=lose)
        ours.close()
        theirs.close()


async def test_a_token_that_ended_is_asked_for_again(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, _), conversation = await site.meeting("ann/phone")
        tokens = [bytes(32), ann.token, bytes(32), ann.token]
        asked = 0

        async def token() -> bytes:
            nonlocal asked
            asked += 1
            return tokens[min(asked - 1, 3)]

        (tmp_path / "ann").mkdir()
        ours = Transfers(address_of(site), files=tmp_path / "ann", token=token)
        sealed = await ours.seal(source(tmp_path, 100), on_progress=lambda *_: None)
        await ours.upload(sealed.stream, conversation, on_progress=lambda *_: None)
        assert asked >= 4
        ours.close()


async def test_another_relay_is_given_no_token(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        (ann, _), conversation = await site.meeting("ann/phone")
        (tmp_path / "ann").mkdir()
        pinned = replace(address_of(site), tls_pin=bytes(32))
        ours = Transfers(pinned, files=tmp_path / "ann", token=token_of(ann))
        sealed = await ours.seal(source(tmp_path, 100), on_progress=lambda *_: None)
        with pytest.raises(ImpostorError):
            await ours.upload(sealed.stream, conversation, on_progress=lambda *_: None)
        with pytest.raises(ImpostorError):
            await ours.download("abc", sealed.ref, on_progress=lambda *_: None)
        ours.close()


@pytest.mark.parametrize(("number", "error"), [(28, FullError), (5, FailedError)])
async def test_a_disk_without_room_or_that_fails_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, "")

    (tmp_path / "files").mkdir()
    address = Address(host="localhost", port=1, tls_pin=bytes(32), organisation=ORGANISATION)
    ours = Transfers(address, files=tmp_path / "files", token=nobody)
    monkeypatch.setattr(transfer, "_sync", failing)
    with pytest.raises(error):
        await ours.seal(source(tmp_path, 100), on_progress=lambda *_: None)
    assert list((tmp_path / "files").iterdir()) == []
    with pytest.raises(FileNotFoundError):
        await ours.seal(tmp_path / "missing", on_progress=lambda *_: None)


ORGANISATION = OrganisationId(bytes(32))


async def nobody() -> bytes:
    await asyncio.sleep(3600)
    return b""


def test_what_is_printed_of_a_sealed_file_holds_no_key(tmp_path: Path) -> None:
    ref = AttachmentRef(key=b"k" * 32, size=1, plaintext_hash=b"h" * 32, ciphertext_hash=b"c" * 32)
    assert "kkkk" not in repr(Sealed(ref=ref, stream=tmp_path))

"""Attachments: whole, in every copy before the relay may forget them, and found missing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from archive import attachments, copying, founding, uploads
from archive.attachments import Attachments
from archive.index import Index
from archive.mirror import Mirror
from client.errors import UnreachableError
from client.https import Answer
from client.link import Link
from protocol import limits
from tests.archive.recording import Ward, ward
from tests.server.harness import now_ms

DATA = bytes(range(256)) * 40
PIECE = 4096


class Relay:
    """The relay's side of HTTPS: some uploads, given in pieces.

    Attributes:
        kept: Uploads by name.
        broken: Pieces after which it breaks off, once.
        copies: Where an upload must be whole when it is to be forgotten.
    """

    address = None
    token = b"token"

    def __init__(self) -> None:
        self.kept = {"one": DATA, "two": DATA[::-1]}
        self.broken = 0
        self.copies: list[Path] = []

    def __call__(self, _address: object) -> Relay:
        return self

    async def request(
        self, method: str, path: str, *, headers: dict[str, str], most: int = 0
    ) -> Answer:
        assert headers["Authorization"] == f"Bearer {self.token.hex()}"
        assert most in (0, limits.ATTACHMENT_CHUNK_BYTES)
        name, _, offset = path.rpartition("/")[2].partition("?offset=")
        if method == "DELETE":
            data = self.kept.pop(name)
            assert all((folder / name).read_bytes() == data for folder in self.copies)
            return Answer(status=204, headers={}, body=b"")
        if name not in self.kept:
            return Answer(status=404, headers={}, body=b"")
        if self.broken == 1:
            self.broken = 0
            raise UnreachableError
        self.broken = max(0, self.broken - 1)
        body = self.kept[name][int(offset) : int(offset) + PIECE]
        return Answer(status=200, headers={}, body=body)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Relay:
    made = Relay()
    monkeypatch.setattr(attachments, "Https", made)
    return made


def named(made: Ward, *names: str) -> None:
    """Let messages name uploads."""
    index = Index(made.log.store)
    with made.log.store.transaction():
        for name in names:
            index.add_attachment(name, b"w" * 32)


async def fetched(made: Ward, folder: Path, relay: Relay, *copies: Path) -> None:
    relay.copies = [folder, *copies]
    fetching = Attachments(made.log.store, folder, copies=copies)
    while await fetching.fetch(cast("Link", relay)):
        pass


async def test_the_relay_forgets_an_attachment_once_it_is_in_every_copy(
    tmp_path: Path, relay: Relay
) -> None:
    with ward(tmp_path / "archive", senders=0) as made:
        named(made, "one", "two", "gone")
        relay.broken = 2
        with pytest.raises(UnreachableError):
            await fetched(made, tmp_path / "own", relay, tmp_path / "mirror")
        assert relay.kept.keys() == {"one", "two"}
        await fetched(made, tmp_path / "own", relay, tmp_path / "mirror")
        assert relay.kept == {}
        assert uploads.kept(tmp_path / "own") == uploads.kept(tmp_path / "mirror")
        assert uploads.missing(made.log.store, tmp_path / "own") == []
        assert {path.suffix for path in (tmp_path / "own").iterdir()} == {""}
        (tmp_path / "own" / "two").unlink()
        assert uploads.missing(made.log.store, tmp_path / "own") == ["two"]


async def test_what_is_here_already_is_not_fetched_again(tmp_path: Path, relay: Relay) -> None:
    """Killed between the file and its note, or restored from a mirror that was ahead of it."""
    with ward(tmp_path / "archive", senders=0) as made:
        named(made, "one")
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "one").write_bytes(DATA)
        relay.broken = 1
        await fetched(made, tmp_path / "own", relay)
        assert relay.broken == 1
        assert "one" not in relay.kept
        assert Index(made.log.store).unfetched(most=9) == []


async def test_backup_and_mirror_hold_attachments_and_a_restored_archive_has_them(
    tmp_path: Path, relay: Relay
) -> None:
    with ward(tmp_path / "archive", senders=0) as made:
        archive = made.archive
        key = founding.database_key(archive.files)
        own = archive.data / uploads.FOLDER
        named(made, "one")
        await fetched(made, own, relay)
        with closing(Mirror(tmp_path / "mirror", archive.files, key)) as mirror:
            named(made, "two")
            await fetched(made, own, relay, mirror.attachments)
            mirror.follow(made.publish(), now_ms=now_ms())
        assert uploads.kept(tmp_path / "mirror" / uploads.FOLDER) == {"one", "two"}
        copying.backup(archive.file.parent, archive.files, key, tmp_path / "backup")
        (tmp_path / "backup" / uploads.FOLDER / "two").unlink()
        for name, lacking in (("mirror", []), ("backup", ["two"])):
            file = tmp_path / name / "archive.toml"
            settings = archive.settings
            files = founding.files_of(file, settings)
            copying.restore(file.parent, files, tmp_path / name, key=key)
            with closing(made.log.store.__class__(files.log.log, key)) as store:
                assert Index(store).unfetched(most=9) == lacking
            assert (files.authority.parent / uploads.FOLDER / "one").read_bytes() == DATA

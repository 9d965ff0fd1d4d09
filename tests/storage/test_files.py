"""Files are their owner's alone, whole, and there after a power cut."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("write", [files.write_private, files.replace_private])
def test_what_is_written_is_its_owners_alone_whatever_the_processs_mask(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "key"
    before = os.umask(0)
    try:
        write(path, b"secret")
    finally:
        os.umask(before)
    assert (path.read_bytes(), mode(path)) == (b"secret", 0o600)


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"first")
    for make in (files.create_private, lambda path: files.write_private(path, b"second")):
        with pytest.raises(FileExistsError):
            make(path)
    assert path.read_bytes() == b"first"


def test_a_file_is_synced_before_its_name_is(
    tmp_path: Path, synced: list[tuple[str, bytes | None]]
) -> None:
    files.write_private(tmp_path / "key", b"secret")
    assert synced == [("key", b"secret"), (tmp_path.name, None)]


def test_a_replacement_is_whole_on_the_disk_before_it_takes_the_name(
    tmp_path: Path, synced: list[tuple[str, bytes | None]]
) -> None:
    path = tmp_path / "state"
    files.write_private(path, b"old")
    synced.clear()
    files.replace_private(path, b"new")
    assert synced == [("state.new", b"new"), (tmp_path.name, None)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_what_an_interrupted_replacement_left_does_not_hinder_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    (tmp_path / "state.new").write_bytes(b"longer than what follows")
    files.replace_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert not (tmp_path / "state.new").exists()


def test_a_replacement_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def fail(_descriptor: int) -> None:
        raise OSError

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError):  # noqa: PT011 - the test's own, without text or number
        files.replace_private(path, b"new")
    assert path.read_bytes() == b"old"

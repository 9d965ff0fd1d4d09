"""A log that cannot go on: a new one takes its place, whenever the power fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from archive import copying, founding
from archive.copying import Renewal
from archive.record import Record, RecordType
from archive.store import Store
from tests.archive.recording import Ward, ward
from tests.server.harness import now_ms

CALLS = ("rename", "replace", "unlink", "mkdir", "rmdir", "fsync")


class PowerCutError(BaseException):
    """The process is no more."""


def cut_before(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the power fail before a call that changes the disk."""
    left = [call]

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCutError
            return real(*arguments, **options)

        return act

    for name in CALLS:
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    # It takes errors for what is not so bad, and goes on.
    monkeypatch.setattr(shutil, "rmtree", failing(shutil.rmtree))


def renew(made: Ward) -> None:
    """Do what a restored archive does at its start, once it knows that its log cannot go on."""
    files = made.archive.files
    renewal = Renewal(folder=made.archive.file.parent, files=files, known=100)
    copying.renew(renewal, made.archive.store, founding.database_key(files), now_ms=now_ms())


def held(made: Ward, path: Path) -> tuple[bytes, list[Record]]:
    with closing(Store(path, founding.database_key(made.archive.files))) as store:
        return store.log_id, [Record.decode(leaf) for _, leaf in store.leaves()]


def bodies(records: list[Record]) -> int:
    return sum(record.type is RecordType.MESSAGE for record in records)


def test_the_power_fails_at_any_step_and_the_new_log_stands_in_the_end(tmp_path: Path) -> None:
    cuts, died = 0, True
    while died:
        folder = tmp_path / str(cuts)
        folder.mkdir()
        died = renewed_with_a_cut(folder, cuts)
        cuts += 1
    assert cuts > 10, "it changes the disk that often"


def renewed_with_a_cut(folder: Path, cut: int) -> bool:
    """Renew a log, dying once, and look at what there is then; tell whether it did die."""
    with ward(folder) as made:
        talk = made.conversation()
        made.take([talk.say(number) for number in range(3)])
        made.publish()
        files = made.archive.files
        before = held(made, files.log.log)
        made.die()
        marker = files.authority.parent / copying.RESTORED
        marker.write_bytes(b"")
        died = False
        with pytest.MonkeyPatch.context() as patched:
            cut_before(cut, patched)
            try:
                renew(made)
            except PowerCutError:
                died = True
        if copying.is_restored(made.archive.files):
            renew(made)
        after = held(made, files.log.log)
        assert not copying.is_restored(files)
        assert after[0] != before[0]
        assert bodies(after[1]) == bodies(before[1]) == 3
        assert after[1][0].type is RecordType.RESTORE_OR_GAP
        former = files.authority.parent / "former" / "0"
        assert held(made, former / founding.LOG_FILE) == before
        assert (former / founding.HEAD_FILE).stat().st_size
        assert not (files.authority.parent / "former" / "1").exists()
        told = (made.archive.file.parent / founding.LOG_KEY_FILE).read_text().strip()
        assert told == founding.log_signer(made.archive.store).verifier.encode()
        made.live()
        assert made.log.size == len(after[1])
        return died


def test_a_second_restored_log_that_cannot_go_on_gets_an_origin_of_its_own_too(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as made:
        files = made.archive.files
        made.die()
        origins = {held(made, files.log.log)[0]}
        for _ in range(3):
            (files.authority.parent / copying.RESTORED).write_bytes(b"")
            renew(made)
            origins.add(held(made, files.log.log)[0])
        assert len(origins) == 4
        made.live()

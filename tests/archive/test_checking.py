"""What ``check`` finds of an installation, and that its report is signed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from archive import checking, configuration, founding, program
from archive.checking import report, report_key
from archive.index import Index
from archive.watch import STATUS_FILE
from bench.recorder import OFFICERS
from crypto.errors import VerificationError
from crypto.note import Note
from protocol.report import verify_report
from tests.archive.recording import Ward, ward
from tests.server.harness import now_ms


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Ward]:
    """An archive of which all holds."""
    with ward(tmp_path, senders=0) as made:
        founding.pin_witness(made.archive.file, made.witness.key.verifier)
        made.publish()
        yield made


def wrong(made: Ward, *, at_ms: int = 0) -> set[str]:
    return {check.name for check in report(made.archive, now_ms=at_ms or now_ms()).failed}


def lose_attachment(made: Ward) -> None:
    index = Index(made.log.store)
    with made.log.store.transaction():
        index.add_attachment("one", b"w" * 32)
        index.fetched("one")


def open_to_all(made: Ward) -> None:
    (made.archive.data / "desk.db").chmod(0o644)


def lose_officers(made: Ward) -> None:
    with made.log.store.transaction():
        made.log.store.change("DELETE FROM officer_key WHERE officer=?", OFFICERS[0])


def another_key(made: Ward) -> None:
    path = made.archive.file.parent / founding.LOG_KEY_FILE
    path.write_text(made.witness.key.verifier.encode() + "\n")


def no_witness(made: Ward) -> None:
    (made.archive.file.parent / founding.WITNESS_KEY_FILE).unlink()


def broken_desk(made: Ward) -> None:
    (made.archive.data / "desk.db").write_bytes(b"nothing" * 1000)


FAULTS: dict[str, tuple[Callable[[Ward], None], str]] = {
    "an attachment is gone": (lose_attachment, "attachments"),
    "a file is open to all": (open_to_all, "files are their owner's alone"),
    "an officer lost the keys": (lose_officers, "officers with keys of this quarter"),
    "the key is another's": (another_key, "log key"),
    "no witness is pinned": (no_witness, "witness"),
    "a database is damaged": (broken_desk, "databases"),
}


def test_of_an_installation_that_is_well_nothing_is_wrong(made: Ward) -> None:
    assert wrong(made) == set()


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named(made: Ward, name: str) -> None:
    break_it, expected = FAULTS[name]
    break_it(made)
    assert wrong(made) == {expected}


def test_a_certificate_that_was_not_renewed_and_a_full_disk_are_named(
    made: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "CERTIFICATE_LEFT_MS", 10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert wrong(made) == {"recorder's certificate", "disk"}


def test_a_report_is_verified_by_its_key_and_by_no_other(made: Ward) -> None:
    key = report_key(made.archive.file.parent)
    assert report_key(made.archive.file.parent).verifier == key.verifier
    found = report(made.archive, now_ms=now_ms())
    note = Note.decode(found.sign(key).encode())
    assert verify_report(note, key.verifier) == found
    with pytest.raises(VerificationError):
        verify_report(note, founding.log_key(made.archive.file))


def test_before_it_has_ever_run_status_says_so(
    made: Ward, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["wardline-archive", "status", "--config", str(made.archive.file)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    assert "NOT RUNNING" in capsys.readouterr().out


def test_the_status_tells_times_as_people_read_them(
    made: Ward, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    at_ms = now_ms()
    told = {"at_ms": at_ms, "records": 7, "witnessed_ms": 0, "canary_opened_ms": 1_000}
    settings = made.archive.settings
    folder = configuration.resolve(made.archive.file, settings.data)
    (folder / STATUS_FILE).write_text(json.dumps({**told, "alarms": {}}))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    arguments = ["wardline-archive", "status", "--config", str(made.archive.file)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        program.main()
    monkeypatch.undo()
    time.tzset()
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code in (0, None)
    assert "records 7" in lines
    assert "witnessed_at never" in lines
    assert "canary_opened_at 1970-01-01 01:00:01+01:00" in lines
    (at,) = (line.removeprefix("at ") for line in lines if line.startswith("at "))
    assert datetime.fromisoformat(at).timestamp() == at_ms // 1000

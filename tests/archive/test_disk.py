"""What stands on the archive's disk without its keys, and what a kill leaves there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from archive.batch import Entry
from archive.record import RecordType
from tests.archive import driver
from tests.archive.logs import BUCKET, NOW_MS, Site
from tests.archive.test_segment import GROUP, SEALED, SECRETS
from tests.depth import DEPTH
from tests.server.crash.tracing import ROOT, STRACE, WRITES, run

CANARY = b"canary-of-the-ward-0451"
POINTS = 24 * DEPTH
"""Writes and syncs at which the driver is killed."""


def test_the_disk_without_keys_shows_nothing_that_was_recorded(site: Site) -> None:
    log = site.create()
    _, sealed = GROUP.encrypt(CANARY)
    entries = [
        Entry(type=RecordType.MESSAGE, body=sealed, bucket=BUCKET, group_id=CANARY),
        Entry(type=RecordType.EPOCH_KEYS, body=SEALED.encode(), bucket=BUCKET, group_id=CANARY),
        Entry(type=RecordType.ROSTER, body=b"who: " + CANARY, bucket=CANARY),
    ]
    log.append(entries, now_ms=NOW_MS)
    secrets = [
        CANARY,
        sealed[8:40],
        SECRETS.encryption_secret,
        SECRETS.sender_data_secret,
        site.database_key,
        site.signer.key.seed,
    ]
    for _ in range(2):  # with the journal, and after it was brought into the file
        disk = b"".join(path.read_bytes() for path in site.directory.iterdir())
        assert len(disk) > 10_000
        assert [secret for secret in secrets if secret in disk] == []
        log.close()


def test_the_archive_with_its_keys_reads_no_content_without_the_officers(site: Site) -> None:
    log = site.create()
    _, sealed = GROUP.encrypt(CANARY)
    entries = [
        Entry(type=RecordType.MESSAGE, body=sealed, bucket=BUCKET),
        Entry(type=RecordType.EPOCH_KEYS, body=SEALED.encode(), bucket=BUCKET),
    ]
    log.append(entries, now_ms=NOW_MS)
    everything = b"".join(log.body(index) for index in range(log.size))
    for secret in (CANARY, SECRETS.encryption_secret, SECRETS.sender_data_secret):
        assert secret not in everything


def told(output: bytes) -> list[int]:
    """Return the numbers of the messages that got a receipt."""
    numbers = []
    for line in output.splitlines():
        try:
            numbers += json.loads(line)
        except ValueError:
            break  # cut in the middle of a line
    return numbers


@pytest.mark.skipif(STRACE is None and "CI" not in os.environ, reason="strace is not installed")
@pytest.mark.parametrize("call", WRITES.split(","))
def test_killed_at_any_write_the_log_keeps_what_got_a_receipt_and_goes_on(
    tmp_path: Path, call: str
) -> None:
    kills = 0
    for number in range(1, POINTS // 4 * 12, 12):
        site = driver.prepare(tmp_path / str(number))
        output = run(
            ["tests.archive.driver", str(site.directory)],
            inject=f"signal=KILL:when={number}",
            calls=call,
        )
        kills += not output.endswith(driver.END)
        log = site.open()
        acknowledged = told(output.removesuffix(driver.END))
        log.publish()
        held = {log.body(index) for index in range(log.size) if log.has_body(index)}
        assert {driver.body_of(one) for one in acknowledged} <= held
        assert site.audit(log.signed).findings == ()
        log.append([driver.entry(9999)], now_ms=NOW_MS)
        log.close()
        assert site.audit(log.signed).findings == ()
    assert kills


def test_the_driver_that_is_not_killed_acknowledges_everything(tmp_path: Path) -> None:
    site = driver.prepare(tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, "-m", "tests.archive.driver", str(site.directory)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert done.stdout.endswith(driver.END)
    assert told(done.stdout.removesuffix(driver.END)) == list(range(driver.MESSAGES))

"""What the archive's log reaches: JSON lines, exit status 1 where a wanted value is missed.

python -m bench.archive [directory]     QUICK=1 ends within a minute

Appending is recording and signing: sealed, chained, hashed, synced, under a signed checkpoint. What
a record costs before it comes here (the relay, MLS) and the witness's network are not in it. The
wanted values hold for a second of one core's time, so that a busy machine does not count; what the
clock said is told beside them.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from archive.batch import Entry
from archive.log import MAX_BATCH, Log, LogFiles, LogKeys, create_log
from archive.record import RecordFlags, RecordType
from archive.store import Store
from archive.verify import audit, audit_leaves
from bench.report import Figure, report
from crypto.checkpoint import Checkpoint, cosign
from crypto.merkle import EMPTY_ROOT
from crypto.note import NoteSignature, SignatureType, SignerKey
from crypto.witness import AddCheckpoint, TreeHead, admit

QUICK = bool(os.environ.get("QUICK"))
RECORDS = 30_000 if QUICK else 300_000
ROUNDS = 3
CONVERSATIONS = 100
BODY_BYTES = 1024
NOW_MS = 1_800_000_000_000
ORIGIN = "archive.hospital.example/log"

WANTED_APPENDS = 10_000
WANTED_LEAVES = 200_000


class Witness:
    """Follows tlog-witness in this process, without a network."""

    def __init__(self, log: SignerKey) -> None:
        self.log = log.verifier
        self.key = SignerKey.generate("relay.example", SignatureType.COSIGNATURE)
        self.head = TreeHead()

    def __call__(self, request: AddCheckpoint) -> NoteSignature:
        self.head = admit(request, key=self.log, stored=self.head)
        return cosign(request.note, self.key, at_ms=NOW_MS)


def batches(count: int) -> Iterator[list[Entry]]:
    groups = [secrets.token_bytes(32) for _ in range(CONVERSATIONS)]
    for first in range(0, count, MAX_BATCH):
        yield [
            Entry(
                type=RecordType.MESSAGE,
                body=secrets.token_bytes(BODY_BYTES),
                bucket=b"clinical 2027Q1",
                group_id=groups[number % CONVERSATIONS],
                epoch=number // 1000,
                flags=RecordFlags.SIGNATURE_CHECKED,
            )
            for number in range(first, first + MAX_BATCH)
        ]


def appended(log: Log, count: int, *, receipts: bool) -> tuple[float, float]:
    """Return records a second by the clock and by CPU time, the making of the bodies left out."""
    wall = cpu = 0.0
    for entries in batches(count):
        started, used = time.perf_counter(), time.process_time()
        if receipts:
            log.append(entries, now_ms=NOW_MS)
        else:
            log.record(entries, now_ms=NOW_MS)
            log.sign()
        wall += time.perf_counter() - started
        cpu += time.process_time() - used
    return count / wall, count / cpu


def figures(directory: Path) -> Iterator[Figure]:
    signer = SignerKey.generate(ORIGIN, SignatureType.ED25519)
    witness = Witness(signer)
    keys = LogKeys(database=secrets.token_bytes(32), signer=signer, witness=witness.key.verifier)
    files = LogFiles(log=directory / "log.db", head=directory / "head.db")
    create_log(files, keys)
    log = Log(files, keys, cosigner=witness)
    yield from appending(log)
    last = log.signed
    log.close()
    yield from verifying(files, keys, last)


def appending(log: Log) -> Iterator[Figure]:
    what = f"of {BODY_BYTES} bytes at batch {MAX_BATCH}"
    runs = [appended(log, RECORDS // ROUNDS, receipts=False) for _ in range(ROUNDS)]
    told = f"1/s, median of {ROUNDS} runs of {RECORDS // ROUNDS}"
    yield Figure(
        name=f"records {what} synced and signed",
        value=statistics.median(wall for wall, _ in runs),
        unit=told,
    )
    yield Figure(
        name=f"records {what} synced and signed, per second of CPU",
        value=statistics.median(cpu for _, cpu in runs),
        unit=told,
        wanted=WANTED_APPENDS,
        at_least=True,
    )
    wall, _ = appended(log, RECORDS // 10, receipts=True)
    yield Figure(
        name=f"records {what} to receipts, witness in the same process",
        value=wall,
        unit=f"1/s, one run of {RECORDS // 10}",
    )


def verifying(files: LogFiles, keys: LogKeys, last: Checkpoint) -> Iterator[Figure]:
    store = Store(files.log, keys.database)
    rates = []
    for _ in range(ROUNDS):
        started = time.process_time()
        found = audit_leaves(store)
        rates.append(found.size / (time.process_time() - started))
        assert found.size == last.size
        assert found.findings == ()
    store.close()
    yield Figure(
        name="leaves re-hashed, tiles and chains checked, per second of CPU",
        value=statistics.median(rates),
        unit=f"1/s, median of {ROUNDS} runs over {last.size}",
        wanted=WANTED_LEAVES,
        at_least=True,
    )
    empty = Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)
    started = time.perf_counter()
    whole = audit(files, database_key=keys.database, log_key=keys.signer.verifier, last=empty)
    rate = last.size / (time.perf_counter() - started)
    assert whole.findings == ()
    yield Figure(name="records audited with their bodies", value=rate, unit="1/s, one run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        sys.exit(report(figures(Path(name))))

"""A log that is filled and shredded until somebody kills it.

python -m tests.archive.driver DIRECTORY

Prints the numbers of a batch's messages once each has its receipt, and at the end ``END``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from archive.batch import Entry
from archive.record import RecordType
from archive.shredding import shred
from crypto.ed25519 import SigningKey
from crypto.note import SignatureType, SignerKey
from tests.archive.logs import BUCKET, NOW_MS, ORIGIN, Site

END = b"end\n"
MESSAGES = 60
BATCH = 6


def body_of(number: int) -> bytes:
    return b"body %d " % number * (10 + number)


def entry(number: int) -> Entry:
    return Entry(type=RecordType.MESSAGE, body=body_of(number), bucket=BUCKET, group_id=b"w" * 32)


def site_of(directory: Path) -> Site:
    """Return the driver's log, under keys that the test knows as well."""
    key = SigningKey.from_seed(b"s" * 32)
    signer = SignerKey(name=ORIGIN, kind=SignatureType.ED25519, key=key)
    return Site(directory, signer=signer, database_key=b"d" * 32)


def prepare(directory: Path) -> Site:
    """Do what ``init`` does, long before anything goes wrong."""
    directory.mkdir()
    site = site_of(directory)
    site.create().close()
    return site


def main(directory: Path) -> None:
    log = site_of(directory).open()
    passing = Entry(type=RecordType.MESSAGE, body=b"passing", bucket=b"passing")
    log.append([passing], now_ms=NOW_MS)
    for first in range(0, MESSAGES, BATCH):
        numbers = list(range(first, first + BATCH))
        log.append([entry(number) for number in numbers], now_ms=NOW_MS)
        os.write(1, json.dumps(numbers).encode() + b"\n")
        if first == MESSAGES // 2:
            shred(log, b"passing", now_ms=NOW_MS)
            log.publish()
    log.close()
    os.write(1, END)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

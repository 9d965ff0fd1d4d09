"""Logs to test: their keys, a witness that follows the specification, and what is put in."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from archive.batch import Entry
from archive.log import Log, LogFiles, LogKeys, create_log
from archive.record import RecordFlags, RecordType
from archive.verify import Audit, audit
from crypto.checkpoint import Checkpoint, cosign
from crypto.merkle import EMPTY_ROOT
from crypto.note import NoteSignature, SignatureType, SignerKey, VerifierKey
from crypto.witness import AddCheckpoint, TreeHead, admit

ORIGIN = "archive.hospital.example/log"
NOW_MS = 1_800_000_000_000
BUCKET = b"clinical 2027Q1"
WARD = b"w" * 32
CLINIC = b"c" * 32


@dataclass
class Witness:
    """The relay as a witness: one head, changed only by ``admit``."""

    log: VerifierKey
    key: SignerKey = field(
        default_factory=lambda: SignerKey.generate("relay.example", SignatureType.COSIGNATURE)
    )
    head: TreeHead = field(default_factory=TreeHead)

    def __call__(self, request: AddCheckpoint) -> NoteSignature:
        request = AddCheckpoint.decode(request.encode())
        self.head = admit(request, key=self.log, stored=self.head)
        return cosign(request.note, self.key, at_ms=NOW_MS)


@dataclass
class Site:
    """A directory with a log, and all who know it."""

    directory: Path
    signer: SignerKey = field(
        default_factory=lambda: SignerKey.generate(ORIGIN, SignatureType.ED25519)
    )
    database_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def __post_init__(self) -> None:
        self.witness = Witness(self.signer.verifier)
        self.keys = LogKeys(
            database=self.database_key, signer=self.signer, witness=self.witness.key.verifier
        )
        self.files = LogFiles(log=self.directory / "log.db", head=self.directory / "head.db")

    def create(self) -> Log:
        create_log(self.files, self.keys)
        return self.open()

    def open(self) -> Log:
        return Log(self.files, self.keys, cosigner=self.witness)

    def audit(self, last: Checkpoint | None = None) -> Audit:
        return audit(
            self.files,
            database_key=self.database_key,
            log_key=self.signer.verifier,
            last=last or self.empty,
        )

    def copied(self, *, head: bool = False) -> Site:
        """Return a copy of the log under the same keys, with the same head or a copy of it."""
        directory = Path(mkdtemp(dir=self.directory))
        copy = Site(directory, signer=self.signer, database_key=self.database_key)
        copy.witness, copy.keys = self.witness, self.keys
        for path in self.directory.glob("log.db*"):
            shutil.copy(path, directory / path.name)
        if head:
            shutil.copy(self.files.head, copy.files.head)
        else:
            copy.files = LogFiles(log=copy.files.log, head=self.files.head)
        return copy

    @property
    def empty(self) -> Checkpoint:
        return Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)


def message(number: int, *, group_id: bytes = WARD, bucket: bytes = BUCKET) -> Entry:
    return Entry(
        type=RecordType.MESSAGE,
        body=b"message %d " % number + b"of the ward " * (number % 7),
        bucket=bucket,
        group_id=group_id,
        epoch=number // 10,
        flags=RecordFlags.SIGNATURE_CHECKED,
    )


def messages(first: int, count: int) -> list[Entry]:
    """Messages of two conversations in turn."""
    return [
        message(number, group_id=(WARD, CLINIC)[number % 2])
        for number in range(first, first + count)
    ]


def fill(log: Log, count: int, *, first: int = 0) -> Checkpoint:
    """Record, publish, and return the checkpoint."""
    for at in range(first, first + count, 100):
        log.append(messages(at, min(100, first + count - at)), now_ms=NOW_MS + at)
    return log.signed

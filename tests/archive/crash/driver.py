"""The archive's process without its network, put through everything that others then rest on.

python -m tests.archive.crash.driver DIRECTORY SCRIPT

Recorder, log and authority take in a script of entries: messages, Commits good and bad, requests
for certificates, wipe orders, the relay's own events, a record that another process handed in. A
line of JSON is printed once something has left the process: a checkpoint that the witness keeps, an
acknowledgement, a verdict, what the authority decided. Whoever kills it compares these with what is
found.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from archive import founding, installation
from archive.errors import ArchiveError, StoreFullError
from crypto.checkpoint import cosign
from crypto.ed25519 import SigningKey
from crypto.note import NoteSignature, SignatureType, SignerKey
from crypto.witness import AddCheckpoint, RefusedError, TreeHead, admit
from protocol.frames import Deliver, EntryKind

FILE = "archive.toml"
NOW_MS = 1_800_000_000_000

AT_ONCE = 5
"""Entries in one transaction: few, so that there are many."""

LIVES = 20
"""Starts after which everything must have been taken in, however the disk failed meanwhile."""

WITNESS = SignerKey(
    name="relay.example",
    kind=SignatureType.COSIGNATURE,
    key=SigningKey.from_seed(b"w" * 32),
)

Tell = Callable[..., None]


def tell(what: str, **fields: Any) -> None:
    """Say what has left the process."""
    os.write(1, json.dumps({"what": what, **fields}).encode() + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What happens, in the order in which the relay has it.

    Attributes:
        entries: Of all logs; one without a body is where the recorder's own verdict will stand.
        now_ms: When.
    """

    entries: tuple[Deliver, ...]
    now_ms: int

    @property
    def slots(self) -> list[int]:
        """Places of the recorder's verdicts."""
        verdicts = (EntryKind.RECEIPT, EntryKind.VOID)
        return [at for at, one in enumerate(self.entries) if one.kind in verdicts and not one.body]

    def write(self, path: Path) -> None:
        """Keep it for another process."""
        rows = [(e.log, e.sequence, e.predecessor, e.kind, e.body) for e in self.entries]
        path.write_bytes(msgspec.msgpack.encode((self.now_ms, rows)))

    @classmethod
    def read(cls, path: Path) -> Script:
        """Return what was written."""
        now_ms, rows = msgspec.msgpack.decode(path.read_bytes())
        entries = tuple(
            Deliver(
                log=log, sequence=sequence, predecessor=before, at_ms=now_ms, kind=kind, body=body
            )
            for log, sequence, before, kind, body in rows
        )
        return cls(entries=entries, now_ms=now_ms)


@dataclass
class Outside:
    """What others know, and keep whatever becomes of the archive.

    Attributes:
        head: The witness's.
        acknowledged: Entries of the script that the relay has let go of.
        verdicts: Those that were posted, in their order.
        decided: Statements and certificates that the authority handed in.
    """

    head: TreeHead = field(default_factory=TreeHead)
    acknowledged: int = 0
    verdicts: list[bytes] = field(default_factory=list)
    decided: list[bytes] = field(default_factory=list)

    def take(self, output: bytes) -> Outside:
        """Take in what a process said before it died; a line that was cut was never said."""
        for text in output.split(b"\n")[:-1]:
            line = json.loads(text)
            if line["what"] == "cosigned":
                self.head = TreeHead(size=line["size"], root=bytes.fromhex(line["root"]))
            elif line["what"] == "acknowledged":
                self.acknowledged = line["count"]
            elif line["what"] == "verdict":
                self.verdicts.append(bytes.fromhex(line["statement"]))
            elif line["what"] == "decided":
                self.decided.append(bytes.fromhex(line["body"]))
        return self


class Box:
    """One life of the archive over its files."""

    def __init__(self, archive: installation.Installation, outside: Outside, tell: Tell) -> None:
        self.outside = outside
        self.log = archive.open_log(WITNESS.verifier)
        self.recorder = archive.recorder(self.log)
        self.recorder.begin_again(bereft=False)
        self._log_key = founding.log_signer(archive.store).verifier
        self._tell = tell

    def run(self, script: Script) -> None:
        """Take in what the relay still has, and let out what follows from it."""
        at = self.outside.acknowledged
        while at < len(script.entries):
            batch = self._batch(script, at)
            self.recorder.take(batch, now_ms=script.now_ms)
            at += len(batch)
            self.recorder.take_wanted(most=20, now_ms=script.now_ms)
            # Not each time: what is recorded and not yet witnessed is killed as well.
            if not batch or at % 2:
                self.publish(at)
            self._hand_in()
            self.log.store.truncate_journal_now()
        self.publish(at)

    def _batch(self, script: Script, at: int) -> list[Deliver]:
        """Return what comes next, up to the first verdict that is yet to be posted."""
        filled = dict(zip(script.slots, self.outside.verdicts, strict=False))
        batch: list[Deliver] = []
        for place in range(at, min(at + AT_ONCE, len(script.entries))):
            entry = script.entries[place]
            if not entry.body and place not in filled:
                break
            batch.append(_with_body(entry, filled[place]) if place in filled else entry)
        return batch

    def publish(self, at: int) -> None:
        """Witness what is recorded; then acknowledge it, and post the verdicts."""
        request = self.log.request()
        try:
            signature = self._cosigned(request)
        except RefusedError as refusal:
            self.log.correct(refusal)
            request = self.log.request()
            signature = self._cosigned(request)
        self.log.accept(request.note, signature)
        if at > self.outside.acknowledged:
            self._tell("acknowledged", count=at)
            self.outside.acknowledged = at
        live = self.recorder.live
        for verdict in live.verdicts(below=self.log.size):
            if verdict.statement not in self.outside.verdicts:
                self._tell("verdict", statement=verdict.statement.hex())
                self.outside.verdicts.append(verdict.statement)
            with self.log.store.transaction():
                live.drop_verdict(verdict)

    def _cosigned(self, request: AddCheckpoint) -> NoteSignature:
        head = admit(request, key=self._log_key, stored=self.outside.head)
        self._tell("cosigned", size=head.size, root=head.root.hex())
        self.outside.head = head
        return cosign(request.note, WITNESS, at_ms=NOW_MS)

    def _hand_in(self) -> None:
        authority = self.recorder.authority
        for outgoing in authority.outgoing():
            if outgoing.body not in self.outside.decided:
                self._tell("decided", body=outgoing.body.hex())
                self.outside.decided.append(outgoing.body)
            authority.handed_in(outgoing.number)

    def close(self) -> None:
        """Let go of the files."""
        self.log.close()


def _with_body(slot: Deliver, statement: bytes) -> Deliver:
    return Deliver(
        log=slot.log,
        sequence=slot.sequence,
        predecessor=slot.predecessor,
        at_ms=slot.at_ms,
        kind=slot.kind,
        body=statement,
    )


def live(file: Path, script: Script, outside: Outside, tell: Tell) -> None:
    """Begin from what is on the disk, and go on to the script's end.

    Raises:
        ArchiveError: The disk was full or failed; everything may be begun again.
    """
    with (
        installation.opened(file) as archive,
        closing(Box(archive, outside, tell)) as box,
    ):
        while True:
            try:
                box.run(script)
            except StoreFullError:
                tell("again")
            else:
                return


def main(directory: Path, path: Path) -> None:
    script, outside = Script.read(path), Outside()
    for _ in range(LIVES):
        try:
            live(directory / FILE, script, outside, tell)
        except ArchiveError:
            # As the service manager does with a program that ended.
            tell("again")
        else:
            tell("closed")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""A recorder without a relay: its organisation, conversations to record, and lives that end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from archive import installation
from archive.configuration import RelaySettings
from archive.errors import HistoryError
from archive.founding import Plan, found, log_signer
from archive.installation import Installation, record_certificates
from archive.log import Log
from archive.recorder import HoleError, Recorder
from bench.archive import Witness
from bench.recorder import OFFICERS, Conversation, Device, certified
from crypto.certificate import fingerprint
from crypto.mls import Group
from crypto.note import Note
from crypto.statement import Purpose, Signatory, StatementType, sign_statement
from crypto.witness import RefusedError
from crypto.xwing import XWingKey
from protocol.commands import CommitVerdict
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import LogId
from protocol.retention import Bucket
from tests.server.harness import HOUR_MS, now_ms


class Ward:
    """An archive's files, its witness, devices, and one recorder after another."""

    def __init__(self, archive: Installation, senders: int = 3) -> None:
        self.archive = archive
        self.witness = Witness(log_signer(archive.store))
        self.devices: list[Device] = [
            certified(archive, f"user-{number}/phone") for number in range(senders)
        ]
        self.acknowledged: dict[LogId, int] = {}
        self._acks: list[tuple[int, dict[LogId, int]]] = []
        self.live()
        record_certificates(self.recorder, now_ms=now_ms())
        self.give_keys()

    def live(self) -> None:
        """Begin a life from what is on the disk."""
        self.log: Log = self.archive.open_log(self.witness.key.verifier)
        self.recorder: Recorder = self.archive.recorder(self.log)
        self.recorder.begin_again(bereft=False)
        self._acks = []

    def die(self) -> None:
        """End this life; what was not committed is gone."""
        self.log.close()

    def give_keys(self) -> None:
        """Let the officers have keys of the present bucket."""
        bucket = Bucket.at("clinical", now_ms()).name
        with self.log.store.transaction():
            for officer in OFFICERS:
                key = XWingKey.generate().public_key
                self.recorder.index.add_officer_key(officer, bucket, key, issued_ms=1)

    def conversation(self) -> Conversation:
        """Return a conversation of all devices, in its first epoch."""
        return Conversation(self.archive, self.recorder, self.devices)

    def signed(
        self,
        kind: StatementType,
        body: bytes,
        *,
        by: Signatory,
        at_ms: int | None = None,
    ) -> bytes:
        """Return a statement to the archive's organisation."""
        return sign_statement(
            kind,
            body,
            organisation=self.archive.organisation,
            issued_ms=now_ms() if at_ms is None else at_ms,
            lifetime_ms=HOUR_MS,
            signatory=by,
        )

    def confirmed(
        self, talk: Conversation, commit: Deliver, group: Group, *, by: int, at_ms: int
    ) -> Deliver:
        """Return the receipt of a Commit by one of the members."""
        device = self.devices[by]
        body = CommitVerdict(
            conversation=talk.id,
            sequence=commit.sequence,
            epoch=group.epoch,
            commit_hash=sha256(commit.body).digest(),
            confirmed_transcript_hash=group.context.confirmed_transcript_hash,
        ).encode()
        signatory = Signatory(
            purpose=Purpose.DEVICE,
            fingerprint=fingerprint(device.certificate),
            key=device.keys.signature_key,
        )
        statement = self.signed(StatementType.EPOCH_RECEIPT, body, by=signatory, at_ms=at_ms)
        return replace(talk.entry(statement, EntryKind.RECEIPT), at_ms=at_ms)

    def take(self, entries: Sequence[Deliver]) -> bool:
        """Let the recorder take entries in; tell whether none was missing before them."""
        try:
            taken = self.recorder.take(entries, now_ms=now_ms())
        except HoleError:
            return False
        self._acks.append((self.log.size, dict(taken)))
        return True

    def publish(self) -> Note:
        """Witness what is recorded; what is under it is acknowledged."""
        request = self.log.request()
        try:
            signature = self.witness(request)
        except RefusedError as refusal:
            self.log.correct(refusal)
            request = self.log.request()
            try:
                signature = self.witness(request)
            except RefusedError:
                raise HistoryError from None
        note = self.log.accept(request.note, signature)
        for _, logs in self._acks:
            self.acknowledged |= logs
        self._acks = []
        return note


@contextmanager
def ward(folder: Path, senders: int = 3) -> Iterator[Ward]:
    """Found an organisation and begin to record."""
    file = folder / "archive.toml"
    plan = Plan(
        name="Ward",
        relay=RelaySettings(host="relay.example", port=8443, pin="00" * 32),
        administrators=["ada", "bo"],
        officers=OFFICERS,
        k=2,
    )
    found(file, plan, now_ms=now_ms() - 2000)
    with installation.opened(file) as archive:
        made = Ward(archive, senders)
        try:
            yield made
        finally:
            made.die()

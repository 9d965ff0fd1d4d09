"""Random runs of a conversation with its archive, over a relay that lies to each of its readers.

``python -m tests.archive.walk FIRST COUNT [directory]`` runs ``COUNT`` seeds from ``FIRST`` on,
prints which failed and of what, appends a line to the evidence (``make sim-archive``), and ends
with status 1 where one failed.

In each run, devices speak and commit, some Commits are garbage, the archive is killed between any
two steps; the relay leaves out, delays, repeats and reorders what it delivers, and keeps some
messages from one reader for ever. At the end, what the devices showed and what the archive holds
is compared by the ciphertexts' hashes: whatever is missing somewhere was reported there, and
nothing else was.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from archive.evidence import Evidence as Kept
from archive.evidence import Gap
from archive.founding import RECORDER, database_key, log_signer
from archive.record import Record, RecordFlags, RecordType
from archive.recorder import HOLE_TRIES
from archive.verify import audit
from bench.recorder import Device
from client.followed import View
from crypto.mls import Group
from crypto.mls.leaf_node import Extension
from crypto.statement import StatementType, statement_type
from protocol.frames import Deliver, EntryKind
from protocol.group_context import EXTENSION_TYPE, ConversationType, WardlineContext
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_log, inbox_log
from release.evidence import Evidence, append
from tests.archive.phones import Lies, Phone, Relay, Vault, unheard
from tests.archive.recording import Ward, ward
from tests.client.talk import Change, Talker
from tests.scenarios.blackbox import Organisation, organisation_of
from tests.server.harness import now_ms

NAMES = ("ann/phone", "ben/phone", "cat/phone")
STEPS = 70
"""Things that happen in a run before everything is read to its end."""

ROUNDS = 200
"""Connections after which everything must have been read."""

PER_ARCHIVE = 100
"""Runs in one archive: its files stay small, and most of a run is not its founding."""

TOLD = 20
"""Failed seeds that the evidence names."""

SPEAK, SEND, COMMIT, READ, RECORD, PUBLISH, DIE = range(7)
WEIGHTS = {SPEAK: 30, SEND: 40, COMMIT: 4, READ: 30, RECORD: 20, PUBLISH: 10, DIE: 1}


class Clinic:
    """One organisation's archive and devices, in which run after run happens."""

    def __init__(self, made: Ward) -> None:
        self.ward = made
        self.organisation: Organisation = organisation_of(made.archive, NAMES)
        self._inbox = inbox_log(DeviceId(RECORDER))

    def welcome(self, body: bytes) -> Deliver:
        """Return a Welcome as the recorder's inbox brings it."""
        before = self.ward.recorder.position(self._inbox)
        return Deliver(
            log=self._inbox,
            sequence=before + 1,
            predecessor=before,
            at_ms=now_ms(),
            kind=EntryKind.WELCOME,
            body=body,
        )

    def recorder(self, conversation: ConversationId) -> Vault:
        """Return the recorder, to be added to a conversation."""
        archive = self.ward.archive
        device = Device(keys=archive.keys, certificate=archive.certificate())
        own = device.package()
        with self.ward.log.store.transaction():
            self.ward.recorder.live.add_packages(
                [own], last_resort=device.package(), now_s=now_ms() // 1000
            )
        return Vault(own, of=self.organisation, conversation=conversation)


class Walk:
    """One run, reproducible by its seed but for the keys."""

    def __init__(self, clinic: Clinic, seed: int) -> None:
        self.chosen = random.Random(seed)
        self.clinic = clinic
        self.ward = clinic.ward
        self.conversation = ConversationId(secrets.token_bytes(32))
        self.log = conversation_log(self.conversation)
        self.relay = Relay(self.log, self.chosen)
        people, of = clinic.organisation.people, clinic.organisation
        self.phones = [Phone(Talker(people[DeviceId(n)], of, self.conversation)) for n in NAMES]
        self.lies = Lies(most=HOLE_TRIES - 2)
        self.start = self.ward.log.size
        self._read: list[Deliver] = []

    def run(self) -> list[str]:
        """Return what was not as it must be."""
        self.begin()
        kinds = self.chosen.choices(list(WEIGHTS), weights=list(WEIGHTS.values()), k=STEPS)
        for number, step in enumerate(kinds):
            self._step(step, number)
        self._finish()
        return list(self._complaints())

    def begin(self) -> None:
        """Bring everybody into the first epoch."""
        creator, *others = self.phones
        context = WardlineContext(
            organisation=self.clinic.organisation.id,
            conversation_type=ConversationType.GROUP,
            owners=(UserName(creator.talker.person.keys.user),),
            recorder=DeviceId(RECORDER),
            retention_class="clinical",
        )
        extension = Extension(extension_type=EXTENSION_TYPE, extension_data=context.encode())
        package = creator.talker.package()
        group = Group.create(package, group_id=self.conversation, extensions=(extension,))
        creator.talker.view = View(conversation=self.conversation, group=group)
        recorder = self.clinic.recorder(self.conversation)
        added = [*(one.talker for one in others), recorder]
        message, welcome = creator.talker.commit(Change(add=added))
        creator.committed(self.relay, message)
        for one in others:
            one.talker.welcome(welcome)
        assert self.ward.take([self.clinic.welcome(welcome)])
        while self.relay.epoch == 0:
            self._record()
            self._publish()
        for phone in self.phones:
            while phone.position < len(self.relay.entries):
                phone.read(self.relay)
        while self.ward.recorder.position(self.log) < len(self.relay.entries):
            self._record()
        self._publish()

    def _step(self, step: int, number: int) -> None:
        phone = self.chosen.choice(self.phones)
        if step == SPEAK:
            phone.say(f"{number}")
        elif step == SEND:
            self._send(phone)
        elif step == COMMIT:
            phone.commit(self.relay, garbage=self.chosen.random() < 0.3)
        elif step == READ:
            phone.read(self.relay)
        elif step == RECORD:
            self._record()
        elif step == PUBLISH:
            self._publish()
        else:
            self._die()

    def _send(self, phone: Phone) -> None:
        """Let a message go out; now and then one reader is never to have it."""
        before = len(self.relay.entries)
        phone.send(self.relay)
        if len(self.relay.entries) > before and self.chosen.random() < 0.04:
            readers = [one.lies for one in self.phones if one is not phone]
            self.chosen.choice([self.lies, *readers]).lost.add(before + 1)

    def _record(self) -> None:
        if not self._read:
            after = self.ward.acknowledged.get(self.log, 0)
            self._read = self.relay.connection(after, self.lies)
        size = self.chosen.randint(1, 12)
        batch, self._read = self._read[:size], self._read[size:]
        if not self.ward.take(batch):
            self._read = []

    def _publish(self) -> None:
        """Witness what is recorded; post the verdicts, and tell the senders."""
        self.ward.publish()
        live, size = self.ward.recorder.live, self.ward.log.size
        verdicts = live.verdicts(below=size)
        untold = live.untold(below=size, most=1000)
        if not verdicts and not untold:
            return
        for verdict in verdicts:
            confirms = statement_type(verdict.statement) is StatementType.EPOCH_RECEIPT
            self.relay.verdict(verdict.statement, confirms=confirms)
        for phone in self.phones:
            phone.archived |= {one.sequence for one in untold if one.device == phone.talker.name}
        with self.ward.log.store.transaction():
            live.told(untold)
            for verdict in verdicts:
                live.drop_verdict(verdict)

    def _die(self) -> None:
        self.ward.die()
        self.ward.live()
        self._read = []

    def _finish(self) -> None:
        """Let everything out, say a last word each, and read all of it to its end."""
        for phone in self.phones:
            phone.say("the last word")
        for _ in range(ROUNDS):
            for phone in self.phones:
                phone.send(self.relay)
                phone.read(self.relay)
            self._record()
            self._publish()
            if self._is_finished():
                return
        raise AssertionError("somebody never read to the end")

    def _is_finished(self) -> bool:
        last = len(self.relay.entries)
        return (
            self.relay.pending is None
            and all(phone.is_quiet and phone.position == last for phone in self.phones)
            and self.ward.recorder.position(self.log) == last
        )

    # What was shown, and what is held.

    def _complaints(self) -> Iterator[str]:
        said = {
            entry.sequence: hashlib.sha256(entry.body).digest()
            for entry in self.relay.entries
            if entry.kind == EntryKind.MESSAGE
        }
        senders = {
            number: (phone.talker.name, sent)
            for phone in self.phones
            for number, sent in phone.ids.items()
        }
        for phone in self.phones:
            yield from self._shown(phone, said, senders)
        yield from self._held(said, senders)

    def _shown(
        self, phone: Phone, said: dict[int, bytes], senders: Mapping[int, tuple[str, int]]
    ) -> Iterator[str]:
        name, lost = phone.talker.name, phone.lies.lost
        if phone.shown != {number: said[number] for number in said.keys() - lost}:
            yield f"{name} showed another set"
        if sorted(phone.holes) != sorted(lost):
            yield f"{name} reported holes {phone.holes} for {sorted(lost)}"
        others = {number: one for number, one in senders.items() if one[0] != name}
        if sorted(phone.unheard) != sorted(sent for _, sent in unheard(others, lost).values()):
            yield f"{name} missed {phone.unheard} of the senders"
        if phone.faults:
            yield f"{name} found {phone.faults}"
        if phone.archived != phone.ids.keys() - self.lies.lost:
            yield f"{name} was told of another set"

    def _held(
        self, said: dict[int, bytes], senders: Mapping[int, tuple[str, int]]
    ) -> Iterator[str]:
        log, recorder, lost = self.ward.log, self.ward.recorder, self.lies.lost
        places = recorder.index.places(self.conversation)
        messages = {one.sequence: one.index for one in places if one.type is RecordType.MESSAGE}
        if messages != {number: log.index_of(said[number]) for number in said.keys() - lost}:
            yield "the archive holds another set"
        if any(log.index_of(said[number]) is not None for number in lost):
            yield "the archive holds what never came"
        commits = [one for one in self.relay.entries if one.kind == EntryKind.COMMIT]
        for entry in (*commits, *self.relay.voided):
            if log.index_of(hashlib.sha256(entry.body).digest()) is None:
                yield f"the archive lacks the Commit {entry.sequence}"
        records = [log.read(index) for index in range(self.start, log.size)]
        checked = [
            one.flags & RecordFlags.SIGNATURE_CHECKED
            for one in records
            if one.type is RecordType.MESSAGE
        ]
        if len(checked) != len(messages) or not all(checked):
            yield "the archive holds a message twice, or unchecked"
        if self._gaps(records) != sorted(lost):
            yield f"the archive reported gaps {self._gaps(records)} for {sorted(lost)}"
        evidence = {one.sequence for one in self._evidence(records)}
        expected = {one.sequence for one in self.relay.voided} | unheard(senders, lost).keys()
        if evidence != expected:
            yield f"the archive has evidence of {sorted(evidence)} for {sorted(expected)}"

    def _gaps(self, records: list[Record]) -> list[int]:
        bodies = [
            self.ward.log.body(one.index)
            for one in records
            if one.type is RecordType.RESTORE_OR_GAP
        ]
        gaps = map(Gap.decode, bodies)
        return [number for gap in gaps for number in range(gap.after + 1, gap.before)]

    def _evidence(self, records: list[Record]) -> list[Kept]:
        bodies = [
            self.ward.log.body(one.index)
            for one in records
            if one.type is RecordType.FAULT_EVIDENCE
        ]
        return [Kept.decode(body) for body in bodies]


def walked(made: Clinic, seeds: Iterable[int]) -> dict[int, str]:
    """Run seeds in one archive, and audit it; return what failed, by seed."""
    failures: dict[int, str] = {}
    last = -1
    for last in seeds:
        try:
            complaints = Walk(made, last).run()
        except Exception:
            complaints = [traceback.format_exc()]
        if complaints:
            failures[last] = "; ".join(complaints)
    archive = made.ward.archive
    signer = log_signer(archive.store)
    found = audit(
        archive.files.log,
        database_key=database_key(archive.files),
        log_key=signer.verifier,
        last=made.ward.log.signed,
    )
    if found.findings:
        failures.setdefault(last, f"the audit found {found.findings}")
    return failures


@contextmanager
def clinic(folder: Path) -> Iterator[Clinic]:
    """Found an organisation for runs."""
    with ward(folder, senders=0) as made:
        yield Clinic(made)


def main(first: int, count: int, directory: str | None) -> int:
    """Run seeds, and print what came of them."""
    began_s = time.perf_counter()
    failures: dict[int, str] = {}
    for start in range(first, first + count, PER_ARCHIVE):
        seeds = range(start, min(start + PER_ARCHIVE, first + count))
        with (
            tempfile.TemporaryDirectory(dir=directory) as folder,
            clinic(Path(folder)) as made,
        ):
            failures |= walked(made, seeds)
    for seed, failure in failures.items():
        sys.stdout.write(f"seed {seed}: {failure}\n")
    run = Evidence(
        run="sim-archive",
        seed=first,
        count=count,
        failures=len(failures),
        duration_s=time.perf_counter() - began_s,
        more={"failed": sorted(failures)[:TOLD]},
    )
    sys.stdout.write(append(run) + "\n")
    return 1 if failures else 0


if __name__ == "__main__":
    first, count, *where = sys.argv[1:]
    sys.exit(main(int(first), int(count), where[0] if where else None))

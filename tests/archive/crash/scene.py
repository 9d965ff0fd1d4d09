"""An archive in one flat directory, and the script of what will happen to it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from archive import configuration, founding, installation
from archive.batch import Entry
from archive.configuration import RelaySettings
from archive.founding import RECORDER, Plan, found
from archive.intray import Intray
from archive.record import RecordType
from archive.shredding import ARCHIVE_BUCKET
from bench.recorder import OFFICERS
from crypto.certificate import DAY_MS
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys
from crypto.names import Role
from crypto.statement import Purpose, StatementType, sign_statement
from protocol.commands import WipeOrder, WipeReason
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import AUDIT_LOG, CONTROL_LOG, DeviceId, LogId, inbox_log
from protocol.inbox import Item, ItemKind
from tests.archive.crash.driver import FILE, Script
from tests.archive.recording import Ward
from tests.archive.walk import Clinic, Walk
from tests.client.talk import Change
from tests.scenarios.blackbox import Organisation
from tests.server.harness import Person, now_ms

SUBMITTED = b"handed in by another process"
NEW = ("dora/phone", "emil/phone")
"""Devices that ask for a certificate."""

LOST = ("yan/phone", "zoe/phone")
"""Devices that one administrator wants wiped: within an hour, the first of them alone is."""


class Logs:
    """The relay's logs, in which things happen at the same time."""

    def __init__(self, positions: Mapping[LogId, int], at_ms: int) -> None:
        self._last = dict(positions)
        self._at_ms = at_ms
        self._entries: dict[LogId, list[Deliver]] = {}

    def add(self, log: LogId, body: bytes, kind: EntryKind = EntryKind.MESSAGE) -> None:
        """Append an entry; one without a body is where the recorder's verdict will stand."""
        before = self._last.get(log, 0)
        self._last[log] = before + 1
        entry = Deliver(
            log=log,
            sequence=before + 1,
            predecessor=before,
            at_ms=self._at_ms,
            kind=kind,
            body=body,
        )
        self._entries.setdefault(log, []).append(entry)

    def mixed(self) -> tuple[Deliver, ...]:
        """Return all of them, each log in its order."""
        chosen, found = random.Random(1), list[Deliver]()
        waiting = {log: list(entries) for log, entries in sorted(self._entries.items())}
        while any(waiting.values()):
            log = chosen.choices(list(waiting), [len(one) for one in waiting.values()])[0]
            found.append(waiting[log].pop(0))
        return tuple(found)


def flat(folder: Path) -> Path:
    """Found an organisation whose files lie in one directory; return its configuration file."""
    file = folder / FILE
    plan = Plan(
        name="Ward",
        relay=RelaySettings(host="relay.example", port=8443, pin="00" * 32),
        administrators=["ada", "bo"],
        officers=OFFICERS,
        k=2,
    )
    found(file, plan, now_ms=now_ms() - 2000)
    for path in (folder / "data").iterdir():
        path.rename(folder / path.name)
    (folder / "data").rmdir()
    shutil.rmtree(folder / founding.INVITATIONS)
    settings = configuration.read(file)
    kept = {name: getattr(settings, name) for name in settings.__struct_fields__}
    moved = configuration.Configuration(**{**kept, "data": ".", "head": Path(settings.head).name})
    file.write_text(configuration.write(moved))
    return file


def prepare(folder: Path) -> Script:
    """Do everything that happened long before; return what will happen."""
    file = flat(folder)
    at_ms = now_ms()
    with installation.opened(file) as archive:
        ward = Ward(archive, 0)
        clinic = Clinic(ward)
        walk = Walk(clinic, 1)
        walk.begin()
        lost = [clinic.organisation.enrol(name) for name in LOST]
        followed = ward.recorder.followed().items()
        logs = Logs({log: known.through for log, known in followed}, at_ms)
        _talk(walk, logs)
        _affairs(clinic.organisation, logs, lost=lost, at_ms=at_ms)
        for outgoing in archive.authority.outgoing():
            archive.authority.handed_in(outgoing.number)
        ward.die()
        key = founding.database_key(archive.files)
        with closing(Intray(archive.files.log.log, key)) as intray:
            intray.submit(Entry(type=RecordType.VIEW, body=SUBMITTED, bucket=ARCHIVE_BUCKET))
    return Script(entries=logs.mixed(), now_ms=at_ms)


def _talk(walk: Walk, logs: Logs) -> None:
    """Messages of two epochs, a Commit between them, and one that is garbage."""
    ann, ben = (phone.talker for phone in walk.phones[:2])
    for number in range(8):
        logs.add(walk.log, (ann, ben)[number % 2].say(f"number {number} " * (number + 1)))
    garbage, _ = ben.commit(Change())
    ben.view = replace(ben.view, staged=())
    logs.add(walk.log, garbage[:-16] + bytes(16), EntryKind.COMMIT)
    logs.add(walk.log, ann.say("while it is judged"))
    logs.add(walk.log, b"", EntryKind.VOID)
    logs.add(walk.log, ben.say("no harm done"))
    commit, _ = ann.commit(Change())
    logs.add(walk.log, commit, EntryKind.COMMIT)
    logs.add(walk.log, ben.say("still the first epoch"))
    logs.add(walk.log, b"", EntryKind.RECEIPT)
    (staged,) = ann.view.staged
    assert staged.group is not None
    ann.view = replace(ann.view, staged=(), group=ann.group.merge(staged.group))
    for number in range(6):
        logs.add(walk.log, ann.say(f"number {number} of the second epoch"))


def _affairs(of: Organisation, logs: Logs, *, lost: Sequence[Person], at_ms: int) -> None:
    """Devices that come, devices that are lost, and what the relay saw of it."""
    for name in NEW:
        user, device = name.split("/")
        keys = DeviceKeys(
            user=user,
            device=device,
            signature_key=SigningKey.generate(),
            connection_key=SigningKey.generate(),
        )
        statement, seed = of.invitation(user, Role.CLINICIAN)
        request = of.request(keys, statement, seed)
        item = Item(kind=ItemKind.REQUEST, body=request).encode()
        logs.add(inbox_log(DeviceId(RECORDER)), item)
    for person in lost:
        order = WipeOrder(
            device=person.name,
            connection_key=person.keys.connection_key.public_key,
            reason=WipeReason.LOST,
        )
        statement = sign_statement(
            StatementType.WIPE_ORDER,
            order.encode(),
            organisation=of.id,
            issued_ms=at_ms,
            lifetime_ms=365 * DAY_MS,
            signatory=of.people[DeviceId("ada/desk")].signatory(Purpose.ADMINISTRATOR),
        )
        logs.add(CONTROL_LOG, statement)
    for _ in range(4):
        logs.add(AUDIT_LOG, b"somebody knocked")

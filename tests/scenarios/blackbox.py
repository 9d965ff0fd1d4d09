"""An organisation that its own archive founded, the archive's process, and officers with keys."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from archive import configuration, founding, installation
from archive.configuration import RelaySettings
from archive.founding import RECORDER, Plan, found
from archive.intray import Intray
from archive.record import Record, RecordType
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys
from crypto.names import Role
from crypto.statement import Purpose, StatementType
from crypto.tls_certificate import tls_pin
from crypto.xwing import XWingKey
from protocol import frames
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind
from protocol.opening import BucketKey, OfficerKeys
from protocol.retention import CLINICAL, NOTICE, Bucket
from tests.scenarios.members import Member
from tests.scenarios.process import Installation, Program
from tests.server.harness import Hospital, Person, now_ms

PROGRAM = Path(sys.executable).with_name("wardline-archive")
STOP_S = 60.0
WAIT_S = 60.0
K = 2
OFFICERS = ["o1", "o2", "o3", "o4"]


class Organisation(Hospital):
    """An organisation whose authority is the archive's."""

    archive: installation.Installation

    def certify(self, keys: DeviceKeys, request: bytes) -> Person:
        certificate = self.archive.authority.certify(request, now_ms=now_ms())
        self.trust = self.archive.authority.trust
        name = DeviceId(f"{keys.user}/{keys.device}")
        person = Person(name=name, keys=keys, certificate=certificate)
        self.people[name] = person
        return person


def found_in(folder: Path) -> Path:
    """Found an organisation; return its configuration file."""
    file = folder / "archive.toml"
    plan = Plan(
        name="St. Elsewhere",
        relay=RelaySettings(host="127.0.0.1", port=1, pin="00" * 32),
        administrators=["ada", "bo"],
        officers=OFFICERS,
        k=K,
    )
    found(file, plan, now_ms=now_ms() - 2000)
    return file


def organisation_of(archive: installation.Installation, people: Sequence[str]) -> Organisation:
    """Return an organisation with devices of people and officers, certified already."""
    authority = archive.authority
    made = Organisation(
        root=authority.root,
        authority=SigningKey.from_seed(archive.store.secret("root key") or b""),
        trust=authority.trust,
    )
    made.archive = archive
    made.people[RECORDER] = Person(
        name=DeviceId(RECORDER), keys=archive.keys, certificate=archive.certificate()
    )
    made.enrol("ada/desk", Role.ADMINISTRATOR)
    made.enrol("bo/desk", Role.ADMINISTRATOR)
    for officer in OFFICERS:
        made.enrol(f"{officer}/desk", Role.OFFICER)
    for name in people:
        made.enrol(name)
    return made


def point_at(file: Path, at: Installation) -> None:
    """Tell an archive where the relay is, once that is known."""
    settings = configuration.read(file)
    pin = tls_pin((at.data / "tls.pem").read_bytes())
    relay = RelaySettings(host="127.0.0.1", port=at.port, pin=pin.hex())
    kept = {name: getattr(settings, name) for name in settings.__struct_fields__}
    changed = {**kept, "relay": relay, "log_level": "DEBUG"}
    file.write_text(configuration.write(configuration.Configuration(**changed)))


async def publish(
    organisation: Organisation, at: Installation, officer: str
) -> dict[tuple[str, bytes], XWingKey]:
    """Let an officer publish keys for what people say, now and next; return the keys."""
    person = organisation.people[f"{officer}/desk"]
    present = [Bucket.at(name, now_ms()) for name in (CLINICAL, NOTICE)]
    names = sorted(one.name for bucket in present for one in (bucket, bucket.next))
    made = {name: XWingKey.generate() for name in names}
    body = OfficerKeys(
        keys=tuple(BucketKey(bucket=name, public_key=key.public_key) for name, key in made.items())
    ).encode()
    statement = organisation.signed(
        StatementType.OFFICER_KEYS,
        body,
        by=person.signatory(Purpose.OFFICER),
        lifetime_ms=24 * 3600_000,
    )
    member = Member(person, at)
    await member.connect()
    item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
    log = inbox_log(DeviceId(RECORDER))
    async with asyncio.timeout(WAIT_S):
        # Until the archive has connected for the first time it has no inbox.
        while True:
            answer = await member.ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
            if isinstance(answer, frames.Done):
                break
            await asyncio.sleep(0.1)
    await member.disconnect()
    return {(officer, name): key for name, key in made.items()}


async def published(
    organisation: Organisation, at: Installation, archive: installation.Installation
) -> dict[tuple[str, bytes], XWingKey]:
    """Let every officer publish keys, and wait until the archive has them; return the keys."""
    keys: dict[tuple[str, bytes], XWingKey] = {}
    for officer in OFFICERS:
        keys |= await publish(organisation, at, officer)
    intray = Intray(archive.files.log.log, founding.database_key(archive.files))
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                await asyncio.sleep(0.05)
                if len(intray.store.rows("SELECT 1 FROM officer_key")) == len(keys):
                    return keys
    finally:
        intray.close()


class BlackBox(Program):
    """The archive's process on its files, and what the test's officers hold."""

    def __init__(self, file: Path, at: Installation) -> None:
        super().__init__(file.parent / "archive.log")
        self.file = file
        self.at = at
        self.keys: dict[tuple[str, bytes], XWingKey] = {}

    def start(self) -> None:
        """Start the process."""
        self.spawn(PROGRAM, "run", "--config", self.file)

    def running(self) -> bool:
        """Tell whether the process goes on."""
        return self.process is not None and self.process.poll() is None

    def words(self) -> str:
        """Return what the process has logged."""
        return self.log.read_text() if self.log.exists() else ""

    async def until_it_says(self, event: str) -> None:
        """Wait until the process has logged an event."""
        ends_s = time.monotonic() + WAIT_S
        while f'"{event}"' not in self.words():
            assert time.monotonic() < ends_s, self.words()[-3000:]
            await asyncio.sleep(0.05)

    async def command(self, *arguments: str, code: int | None = 0) -> str:
        """Run one of the program's commands to its end, and return what it prints."""
        ended = await asyncio.to_thread(self._command, arguments)
        assert code is None or ended.returncode == code, (ended.stdout, ended.stderr)
        return ended.stdout

    async def is_lost_and_restored(self, copy: Path, lost: Path) -> None:
        """Lose the data, as with a disk, and put a backup in their place; nothing is started."""
        if self.process is not None:
            self.kill()
        shutil.move(self.file.parent / "data", lost)
        await self.command("restore", str(copy))

    def _command(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, *arguments, "--config", self.file],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    # What it holds.

    def intray(self) -> Intray:
        files = founding.files_of(self.file, configuration.read(self.file))
        return Intray(files.log.log, founding.database_key(files))

    def records(self) -> list[Record]:
        """Return what is recorded: nothing in the moment in which a new log takes its place."""
        try:
            intray = self.intray()
        except FileNotFoundError:
            return []
        try:
            return [Record.decode(leaf) for _, leaf in intray.store.leaves()]
        finally:
            intray.close()

    def hashes(self) -> set[bytes]:
        """Return the hash of every body: none in the moment in which a new log takes its place."""
        try:
            intray = self.intray()
        except FileNotFoundError:
            return set()
        try:
            return set(intray.store.all_seen())
        finally:
            intray.close()

    async def until_it_holds(self, hashes: set[bytes]) -> None:
        """Wait until bodies of these hashes are recorded."""
        ends_s = time.monotonic() + WAIT_S
        while not hashes <= self.hashes():
            assert time.monotonic() < ends_s, self.words()[-3000:]
            await asyncio.sleep(0.1)

    async def until_there_are(self, kind: RecordType, count: int) -> list[Record]:
        """Wait until there are records of a type."""
        ends_s = time.monotonic() + WAIT_S
        while len(found := [r for r in self.records() if r.type is kind]) < count:
            assert time.monotonic() < ends_s, self.words()[-3000:]
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def hospital_without_archive(
    folder: Path, people: Sequence[str]
) -> AsyncIterator[tuple[Organisation, Installation, installation.Installation]]:
    """A founded organisation and its relay; the archive's files are open, nobody records."""
    file = found_in(folder / "archive")
    with installation.opened(file) as archive:
        organisation = organisation_of(archive, people)
        at = Installation(folder / "relay", organisation)
        at.command("init")
        await at.start()
        try:
            point_at(file, at)
            yield organisation, at, dataclasses.replace(archive, settings=configuration.read(file))
        finally:
            if at.process is not None:
                at.kill()


@asynccontextmanager
async def hospital_with_archive(
    folder: Path, people: Sequence[str]
) -> AsyncIterator[tuple[Organisation, Installation, BlackBox]]:
    """A founded organisation, its relay and its archive, both running; officers have keys."""
    async with hospital_without_archive(folder, people) as (organisation, at, archive):
        box = BlackBox(archive.file, at)
        box.start()
        try:
            box.keys = await published(organisation, at, archive)
            yield organisation, at, box
        finally:
            if box.process is not None:
                box.kill()

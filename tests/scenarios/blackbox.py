"""An organisation that its own archive founded, the archive's process, and officers with keys."""

from __future__ import annotations

import asyncio
import os
import signal
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
from crypto.statement import Purpose, StatementType, sign_statement
from crypto.tls_certificate import tls_pin
from crypto.xwing import XWingKey
from protocol import frames
from protocol.identifiers import DeviceId, inbox_log
from protocol.inbox import Item, ItemKind
from protocol.opening import BucketKey, OfficerKeys
from protocol.retention import Bucket
from server.__main__ import FORGETTING
from tests.scenarios.members import Member
from tests.scenarios.process import Installation
from tests.server.harness import Hospital, Person, now_ms

PROGRAM = Path(sys.executable).with_name("wardline-archive")
STOP_S = 20.0
WAIT_S = 30.0
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


def founded(folder: Path, people: Sequence[str]) -> tuple[Organisation, Path]:
    """Found an organisation, with devices of people and officers that are certified already."""
    file = folder / "archive.toml"
    plan = Plan(
        name="St. Elsewhere",
        relay=RelaySettings(host="127.0.0.1", port=1, pin="00" * 32),
        administrators=["ada", "bo"],
        officers=OFFICERS,
        k=K,
    )
    found(file, plan, now_ms=now_ms() - 2000)
    with installation.opened(file) as archive:
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
    return made, file


class BlackBox:
    """The archive's process on its files, and what the test's officers hold."""

    def __init__(self, file: Path, at: Installation) -> None:
        self.file = file
        self.at = at
        self.log = file.parent / "archive.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.keys: dict[tuple[str, bytes], XWingKey] = {}

    def configure(self) -> None:
        """Tell the archive where the relay is, once that is known."""
        settings = configuration.read(self.file)
        pin = tls_pin((self.at.data / "tls.pem").read_bytes())
        relay = RelaySettings(host="127.0.0.1", port=self.at.port, pin=pin.hex())
        changed = configuration.Configuration(
            **{
                **{name: getattr(settings, name) for name in settings.__struct_fields__},
                "relay": relay,
                "log_level": "DEBUG",
            }
        )
        self.file.write_text(configuration.write(changed))

    def start(self) -> None:
        """Start the process."""
        assert self.process is None
        inherited = {k: v for k, v in os.environ.items() if k not in FORGETTING}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "run", "--config", self.file], env=inherited, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End the process between two instructions."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process = None

    async def stop(self) -> int:
        """Ask the process to end, and return its exit status."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(process.wait, STOP_S)

    def words(self) -> str:
        """Return what the process has logged."""
        return self.log.read_text() if self.log.exists() else ""

    async def until_it_says(self, event: str) -> None:
        """Wait until the process has logged an event."""
        ends_s = time.monotonic() + WAIT_S
        while f'"{event}"' not in self.words():
            assert time.monotonic() < ends_s, self.words()[-3000:]
            await asyncio.sleep(0.05)

    # What it holds.

    def intray(self) -> Intray:
        files = founding.files_of(self.file, configuration.read(self.file))
        return Intray(files.log.log, founding.database_key(files))

    def records(self) -> list[Record]:
        intray = self.intray()
        try:
            return [Record.decode(leaf) for _, leaf in intray.store.leaves()]
        finally:
            intray.close()

    def hashes(self) -> set[bytes]:
        """Return the hash of every body."""
        intray = self.intray()
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

    # Its officers.

    async def publish_keys(self, organisation: Organisation) -> None:
        """Let every officer publish keys of the present bucket and the next."""
        for officer in OFFICERS:
            await self._publish(organisation, officer)

    async def _publish(self, organisation: Organisation, officer: str) -> None:
        person = organisation.people[f"{officer}/desk"]
        bucket = Bucket.at("clinical", now_ms())
        made = {one.name: XWingKey.generate() for one in (bucket, bucket.next)}
        self.keys |= {(officer, name): key for name, key in made.items()}
        body = OfficerKeys(
            keys=tuple(
                BucketKey(bucket=name, public_key=key.public_key) for name, key in made.items()
            )
        ).encode()
        statement = sign_statement(
            StatementType.OFFICER_KEYS,
            body,
            organisation=organisation.id,
            issued_ms=now_ms(),
            lifetime_ms=24 * 3600_000,
            signatory=person.signatory(Purpose.OFFICER),
        )
        member = Member(person, self.at)
        await member.connect()
        item = Item(kind=ItemKind.STATEMENT, body=statement).encode()
        log = inbox_log(DeviceId(RECORDER))
        done = await member.ask(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        assert isinstance(done, frames.Done), done
        await member.disconnect()


@asynccontextmanager
async def hospital_with_archive(
    folder: Path, people: Sequence[str]
) -> AsyncIterator[tuple[Organisation, Installation, BlackBox]]:
    """A founded organisation, its relay and its archive, both running; officers have keys."""
    organisation, file = founded(folder / "archive", people)
    at = Installation(folder / "relay", organisation)
    at.command("init")
    await at.start()
    box = BlackBox(file, at)
    box.configure()
    box.start()
    try:
        await box.until_it_says("connected")
        await box.publish_keys(organisation)
        await box.until_there_are(RecordType.KEY_CEREMONY, len(organisation.people) + 1 + 4)
        yield organisation, at, box
    finally:
        if box.process is not None:
            box.kill()
        if at.process is not None:
            at.kill()

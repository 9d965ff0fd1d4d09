"""The hospital of one run: its relay, its archive, its devices, and what may happen to each."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import random
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

from archive import configuration, copying, founding, installation
from archive.configuration import RelaySettings
from archive.founding import Plan, found
from archive.installation import Installation
from archive.running import serve
from archive.verify import Audit, audit
from archive.watch import STATUS_FILE
from bench.recorder import certified
from client import link
from client.device import Device
from client.link import Address, Credentials
from client.store import Store
from crypto.certificate import Root, fingerprint
from crypto.checkpoint import Checkpoint
from crypto.enrolment import create_request
from crypto.note import SignerKey
from crypto.proof import DeviceGrant
from crypto.statement import Purpose, StatementType, sign_statement
from crypto.witness import TreeHead
from crypto.xwing import XWingKey
from protocol.identifiers import DeviceId, OrganisationId
from protocol.retention import Bucket
from server import directory, witness
from server import secrets as secret_file
from server.blobs import Blobs
from server.configuration import Configuration, OrganisationSettings
from server.relay import Relay
from server.secrets import Secrets
from server.store import GENERATION_MS
from tests.client.devices import KEY, Running
from tests.client.people import new_keys
from tests.server.harness import FAST, Person, now_ms
from tests.server.memory_store import MemoryStore, restarted
from tests.simulation.network import Network

DEVICES = tuple(
    map(DeviceId, ("anna/phone", "ben/phone", "ben/laptop", "clara/phone", "david/phone"))
)
"""The first of each person, and a further one."""

ARCHIVE = "archive"
OFFICERS = ["olga", "omar", "otto", "oona"]
ONLINE_S = 600.0
KEYS_AHEAD_MS = 90 * 24 * 3600 * 1000

PLACE = Path("/dev/shm")
"""Where a run has its files, if it is there: in memory, for syncing is what would take the time."""


class World:
    """What runs, and how it stands.

    Attributes:
        devices: The devices that run, by name.
        archive: The archive's program, where it runs.
        ahead_ms: By how much each device's wall clock, and ``ARCHIVE``'s, is wrong.
        crashes: What has ended by itself, which nothing may.
        relay_copies: Of the relay's store, oldest first.
        archive_copies: Directories of the archive's copies, oldest first.
    """

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.network = Network(dice)
        self.store = MemoryStore()
        self.devices: dict[str, Running] = {}
        self.archive: asyncio.Task[None] | None = None
        self.ahead_ms: dict[str, int] = {}
        self.crashes: list[str] = []
        self.relay_copies: list[MemoryStore] = []
        self.archive_copies: list[Path] = []
        self._restored_minute = 0
        self._lost = 0
        self._folder = folder
        self._people: dict[str, Person] = {}
        self._root: Root
        self._open = ExitStack()
        self._secrets: Secrets
        self._blobs: Blobs
        self._witness: SignerKey

    @property
    def _archive_file(self) -> Path:
        return self._folder / "archive" / "archive.toml"

    async def begin(self) -> None:
        """Found the organisation, enrol everybody, and start everything."""
        await self._install_relay()
        (self._folder / "archive").mkdir()
        plan = Plan(
            name="St. Elsewhere",
            relay=RelaySettings(host=ARCHIVE, port=1, pin=bytes(32).hex()),
            administrators=["ada", "boris"],
            officers=OFFICERS,
            k=2,
        )
        found(self._archive_file, plan, now_ms=now_ms() - 2000)
        with installation.opened(self._archive_file) as archive:
            self._root = archive.authority.root
            self._give_keys(archive)
            for name in DEVICES:
                self._people[name] = self._enrolled(archive, name)
        await self.start_relay()
        await self.start_archive()
        for name in DEVICES:
            # One after another: a further device is let in by what is known of the first.
            self.start(name)
            await self.devices[name].device.online(ONLINE_S)

    async def end(self) -> None:
        """End everything."""
        for name in list(self.devices):
            await self.kill(name)
        await self.kill_archive()
        await self.kill_relay()
        await self._secrets.close()
        await self._blobs.close()

    # People.

    def _give_keys(self, archive: Installation) -> None:
        """Let the officers have keys, without which the archive confirms nothing."""
        with contextlib.closing(archive.open_log(self._witness.verifier)) as log:
            recorder = archive.recorder(log)
            with log.store.transaction():
                for at_ms in (now_ms(), now_ms() + KEYS_AHEAD_MS):
                    bucket = Bucket.at("clinical", at_ms).name
                    for officer in OFFICERS:
                        key = XWingKey.generate().public_key
                        recorder.index.add_officer_key(officer, bucket, key, issued_ms=1)

    def _enrolled(self, archive: Installation, name: str) -> Person:
        user, _, _ = name.partition("/")
        first = self._people.get(f"{user}/phone")
        if first is not None:
            return self._further(archive, first, name)
        made = certified(archive, name)
        return Person(name=DeviceId(name), keys=made.keys, certificate=made.certificate)

    def _further(self, archive: Installation, voucher: Person, name: str) -> Person:
        authority = archive.authority
        known = authority.trust.devices[fingerprint(voucher.certificate)]
        keys = new_keys(name)
        grant = DeviceGrant(
            claim=keys.claim, roles=known.roles, ends_ms=known.ends_ms, origin=known.origin
        )
        statement = sign_statement(
            StatementType.DEVICE_VOUCHING,
            grant.encode(),
            organisation=archive.organisation,
            issued_ms=now_ms(),
            lifetime_ms=3600_000,
            signatory=voucher.signatory(Purpose.DEVICE),
        )
        request = create_request(
            keys,
            organisation=archive.organisation,
            statement=statement,
            binding=b"",
            at_ms=now_ms(),
        )
        certificate = authority.certify(request, now_ms=now_ms())
        return Person(name=DeviceId(name), keys=keys, certificate=certificate)

    # The relay.

    async def _install_relay(self) -> None:
        folder = self._folder / "relay"
        folder.mkdir()
        secret_file.create_key(folder / "secrets.key")
        secret_file.create(folder / "secrets.db", folder / "secrets.key")
        witness.create_key(folder / "witness.key")
        self._witness = witness.read_key(folder / "witness.key")
        self._secrets = await Secrets.open(folder / "secrets.db", folder / "secrets.key")
        (folder / "attachments").mkdir()
        self._blobs = await Blobs.open(folder / "attachments", quota_bytes=1 << 30)

    async def start_relay(self) -> None:
        """Start the relay on what it has on disk."""
        organisation = OrganisationSettings(root="root.der")
        relay = Relay(
            Configuration(data=str(self._folder), organisations=(organisation,), rates=FAST),
            store=restarted(self.store),
            secrets=self._secrets,
            blobs=self._blobs,
            pin=bytes(32),
            witness=self._witness,
        )
        facts = await self.store.facts(OrganisationId(self._root.organisation))
        await relay.begin(directory.load(self._root, facts))
        self.network.relay = relay

    async def kill_relay(self) -> None:
        """End the relay; what it had under way besides is done or not, as its store has it."""
        relay = self.network.relay
        self.network.relay_dies()
        if relay is not None:
            await relay.settled()

    def copy_relay(self) -> None:
        """Keep a copy of the relay's store."""
        self.relay_copies.append(copy.deepcopy(self.store))

    @property
    def may_restore(self) -> bool:
        """Whether the clock tells a restore now from the last one."""
        return now_ms() // GENERATION_MS > self._restored_minute

    def restore_relay(self, kept: MemoryStore) -> None:
        """Lose the relay's disk, and put a copy in its place; it does not run meanwhile."""
        self._restored_minute = now_ms() // GENERATION_MS
        self.store = copy.deepcopy(kept)
        self.store.awaiting_archive = True
        self._witness = witness.new_key()

    def waiting(self) -> int:
        """Return how many entries of conversations the relay still has."""
        logs = self.store.logs.items()
        return sum(len(log.held) for key, log in logs if key.id.startswith(b"c"))

    def kept(self) -> bytes:
        """Return every entry that the relay has, as bytes to search."""
        logs = self.store.logs.values()
        return b"".join(held.entry.body for log in logs for held in log.held.values())

    # The archive.

    async def start_archive(self) -> None:
        """Start the archive's program on what it has on disk."""
        archive = self._open.enter_context(installation.opened(self._archive_file))
        work = serve(archive, clock=lambda: now_ms() + self.ahead_ms.get(ARCHIVE, 0))
        self.archive = asyncio.get_running_loop().create_task(work)

    async def kill_archive(self) -> None:
        """End the archive's program, wherever it is."""
        if self.archive is not None:
            self.archive.cancel()
            try:
                await self.archive
            except asyncio.CancelledError:
                pass
            except Exception as error:
                self.crashes.append(f"the archive ended by itself: {_told(error)}")
            self.archive = None
            self._open.close()

    def copy_archive(self) -> None:
        """Keep a copy of the archive, as its backup makes it."""
        folder, files = self._archive_files()
        target = folder.parent / f"copy-{len(self.archive_copies)}"
        copying.backup(folder, files, founding.database_key(files), target)
        self.archive_copies.append(target)

    def restore_archive(self, kept: Path) -> None:
        """Lose the archive's data, and put a copy in its place; it does not run meanwhile."""
        folder, files = self._archive_files()
        self._lost += 1
        shutil.move(files.authority.parent, folder.parent / f"lost-{self._lost}")
        copying.restore(folder, files, kept, key=founding.database_key(files))

    def _archive_files(self) -> tuple[Path, founding.Files]:
        settings = configuration.read(self._archive_file)
        return self._archive_file.parent, founding.files_of(self._archive_file, settings)

    def alarms(self) -> set[str]:
        """Return the alarms that the archive says stand."""
        data = configuration.read(self._archive_file).data
        said = json.loads((self._archive_file.parent / data / STATUS_FILE).read_bytes())
        return set(said["alarms"])

    def audited(self) -> Audit:
        """Return what an audit of the archive's whole log finds, held against the relay's word.

        The archive does not run meanwhile.
        """
        files = founding.files_of(self._archive_file, configuration.read(self._archive_file))
        log_key = founding.log_key(self._archive_file)
        relay = self.network.relay
        heads = {} if relay is None else relay.organisations[self._root.organisation].tree_heads
        head = heads.get(log_key.name, TreeHead())
        last = Checkpoint(origin=log_key.name, size=head.size, root=head.root)
        key = founding.database_key(files)
        return audit(files.log, database_key=key, log_key=log_key, last=last)

    # Devices.

    def start(self, name: str) -> None:
        """Start a device's program on what it has on disk."""
        address = Address(
            host=name,
            port=1,
            tls_pin=bytes(32),
            organisation=OrganisationId(self._root.organisation),
        )
        person = self._people[name]
        path = self._folder / f"{name.replace('/', '-')}.db"
        store = Store.open(path, KEY) if path.exists() else Store.create(path, KEY)
        store.settings.put("root", self._root.der)
        device = Device.over(
            store,
            credentials=Credentials(
                device=person.name,
                certificate=person.certificate,
                connection_key=person.keys.connection_key,
                signature_key=person.keys.signature_key,
            ),
            address=address,
            clock=lambda: now_ms() + self.ahead_ms.get(name, 0),
        )
        running = Running(device)
        running.task = asyncio.get_running_loop().create_task(device.run())
        self.devices[name] = running

    async def kill(self, name: str) -> None:
        """End a device's program, wherever it is."""
        running = self.devices.pop(name)
        try:
            await running.end()
        except Exception as error:
            self.crashes.append(f"{name} ended by itself: {_told(error)}")
        running.device.close()


def _told(error: Exception) -> str:
    """Return what happened and where, in a line."""
    places = traceback.extract_tb(error.__traceback__)[-12:]
    where = ", ".join(f"{Path(one.filename).name}:{one.lineno}" for one in places)
    return f"{error!r} at {where}"


@contextmanager
def installed(dice: random.Random) -> Iterator[World]:
    """Return a world whose files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="wardline-sim-", dir=PLACE if PLACE.is_dir() else None))
    world = World(folder, dice)
    try:
        with mock.patch.object(link, "_connected", world.network.connect):
            yield world
    finally:
        shutil.rmtree(folder, ignore_errors=True)

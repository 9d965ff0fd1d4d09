"""An archive's log and officers' devices that witness it; the relay's inboxes are left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from archive.authority_store import AuthorityStore, create_authority_store
from archive.cosigning import Asking, Cosigners, statement_for
from archive.log import Log
from client.book import Book
from client.gossip import Gossip
from client.key_packages import Identity
from client.store import Store
from client.witness import Witness
from crypto.names import Role
from crypto.note import Note
from crypto.statement import Purpose
from crypto.witness import AddCheckpoint
from protocol.commands import SetLogPolicy
from tests.archive.logs import Site, fill
from tests.client.relay import credentials_of
from tests.server.harness import RECORDER, Hospital, hospital, now_ms

KEY = bytes(range(32))


class Desk(Witness):
    """An officer's device as a witness, and what a test sees behind it."""

    store: Store
    trusted: Any


@dataclass
class House:
    """A hospital whose archive has a log, and whose officers have devices."""

    folder: Path
    of: Hospital = field(default_factory=hospital)
    stores: list[Any] = field(default_factory=list)
    devices: dict[str, Store] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "log").mkdir()
        self.site = Site(self.folder / "log")
        self.log = self.site.create()
        self.stores.append(self.log)
        self.cosigners = self.witnesses("authority")

    def witnesses(self, name: str, *officers: str) -> Cosigners:
        """Return what an archive knows of its officers' devices, at first nothing."""
        path = self.folder / f"{name}.db"
        create_authority_store(path, KEY, held={})
        self.stores.append(AuthorityStore(path, KEY))
        return Cosigners(self.stores[-1], officers or ("olga", "omar"))

    def opened(self, site: Site) -> Log:
        self.stores.append(site.open())
        return cast("Log", self.stores[-1])

    def policy(self) -> SetLogPolicy:
        return SetLogPolicy(
            version=1,
            log_key=self.site.signer.verifier.encode(),
            witness_keys=(self.site.witness.key.verifier.encode(),),
        )

    def device(self, name: str = "olga/desk") -> Desk:
        """Return an officer's device, enrolled where it is new, or started again over its store."""
        person = self.of.people.get(name) or self.of.enrol(name, Role.OFFICER)
        path = self.folder / f"{name.replace('/', '-')}.db"
        if name in self.devices:
            self.devices[name].close()
        store = Store.open(path, KEY) if path.exists() else Store.create(path, KEY)
        self.devices[name] = store
        identity = Identity.of(credentials_of(person), store=store, root=self.of.root)
        trusted = SimpleNamespace(log_policy=self.policy(), trust=self.of.trust)
        book = cast("Book", SimpleNamespace(trusted=trusted, find_signers=_found))
        made = Desk(store, book, Gossip(store), identity=identity)
        made.store, made.trusted = store, trusted
        return made

    def asked(self, request: AddCheckpoint, *, by: str = RECORDER) -> bytes:
        """Return a question as a recorder signs it."""
        signatory = self.of.people[by].signatory(Purpose.RECORDER)
        asking = Asking(organisation=self.of.id, signatory=signatory)
        return statement_for(request, asking, now_ms=now_ms())

    def round(
        self, witness: Witness, name: str = "olga/desk", *, log: Log | None = None, more: int = 10
    ) -> bytes:
        """Let a log grow, and ask a device about it; return its answer."""
        log = log or self.log
        fill(log, more, first=log.size)
        return self.answer(witness, log.publish(), name, log=log)

    def answer(
        self, witness: Witness, note: Note, name: str = "olga/desk", *, log: Log | None = None
    ) -> bytes:
        question = self.cosigners.question(cast("Any", name), log or self.log, note)
        return witness.answer(self.asked(question), now_ms=now_ms()).statement

    def takes(self, answer: bytes, *, log: Log | None = None) -> str:
        """Let the archive take an answer in."""
        return self.cosigners.answered(answer, log or self.log, self.of.trust, at_ms=now_ms())

    def close(self) -> None:
        for one in (*self.stores, *self.devices.values()):
            one.close()


async def _found(*_: object, **__: object) -> None:
    """Whoever signs is known."""

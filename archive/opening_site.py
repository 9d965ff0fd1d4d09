"""The files of an installation as a review opens them: nothing of the authority's is among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from archive import configuration, founding
from archive.body import open_body
from archive.casework import Officers
from archive.desk import Desk
from archive.errors import DamagedError
from archive.opening_handout import HandingOut
from archive.opening_sessions import Sessions
from archive.record import Record, RecordType, view
from archive.store import Store
from archive.uploads import FOLDER
from client.officer_book import LogPolicy
from crypto.certificate import Root, pin_root
from crypto.errors import CryptoError
from crypto.identity import admit
from crypto.trust import Trust
from protocol.identifiers import UserName

SESSIONS_FILE = "review.db"
ROOT_FILE = "root.der"


@dataclass(kw_only=True)
class Site:
    """What a review works on.

    Attributes:
        data: Directory of the archive's data.
        store: The log's database; read, and its intray handed to.
        desk: Officers' letters and statements.
        sessions: Keys of review sessions.
        root: The pinned root.
        policy: The configured keys of log and witnesses.
        officers: Who they are.
    """

    data: Path
    store: Store = field(repr=False)
    desk: Desk = field(repr=False)
    sessions: Sessions = field(repr=False)
    root: Root
    policy: LogPolicy
    officers: Officers

    @cached_property
    def trust(self) -> Trust:
        """The devices whose certificates are recorded."""
        return recorded_trust(self.store, self.root)

    @property
    def handing_out(self) -> HandingOut:
        """By which record keys leave the archive."""
        return HandingOut(
            self.desk, self.store, self.officers, trust=lambda: self.trust, policy=self.policy
        )

    def attachment(self, name: str) -> Iterable[bytes] | None:
        """Return the ciphertext of an upload, where the archive has it."""
        path = self.data / FOLDER / name
        return [path.read_bytes()] if path.is_file() else None


@contextmanager
def opened_site(file: Path) -> Iterator[Site]:
    """Open an installation's files for a review, and close them in the end.

    Args:
        file: The archive's configuration.

    Raises:
        ConfigurationError: The configuration or the key cannot be used.
        ArchiveError: A file is damaged.
        FileNotFoundError: A file is missing.
    """
    settings = configuration.read(file)
    files = founding.files_of(file, settings)
    key = founding.database_key(files)
    data = configuration.resolve(file, settings.data)
    organisation = bytes.fromhex(settings.organisation)
    store = Store(files.log.log, key)
    desk = Desk(files.desk, key)
    sessions = Sessions(data / SESSIONS_FILE, key)
    try:
        yield Site(
            data=data,
            store=store,
            desk=desk,
            sessions=sessions,
            root=pin_root((file.parent / ROOT_FILE).read_bytes(), organisation=organisation),
            policy=LogPolicy(log=founding.log_key(file), witnesses=founding.witness_keys(file)),
            officers=Officers(
                organisation=organisation,
                names=tuple(map(UserName, settings.quorum.officers)),
                quorum=settings.quorum.rule,
            ),
        )
    finally:
        sessions.close()
        desk.close()
        store.close()


def recorded_trust(store: Store, root: Root) -> Trust:
    """Return the trust that rests on the certificates that are recorded, in their order.

    Who signed a statement was judged when it was recorded, revocations included; here it is only
    looked up again.

    Args:
        store: The log's database.
        root: The pinned root.

    Raises:
        DamagedError: A record is not what was written.
    """
    trust = Trust(root=root)
    for _, leaf in store.leaves():
        seen = view(leaf)
        if seen is None or seen.type != RecordType.KEY_CEREMONY:
            continue
        kept = store.body(seen.place)
        if kept is None:
            continue
        try:
            body = open_body(kept[0], record_key=kept[1], record=Record.decode(leaf))
        except CryptoError:
            raise DamagedError("body") from None
        try:
            trust = admit(trust, [body])
        except CryptoError:
            continue  # officers' keys and the root stand among them; a lie is believed by nobody
    return trust

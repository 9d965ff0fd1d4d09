"""What the relay must keep secret: password hashes, TOTP secrets, unlock shares, and wipes to redo.

One SQLCipher file, apart from the logs, under a key in a file of its own. It is small and changes
seldom, so each change is one transaction, synced and checkpointed before it is answered: a share
that was deleted is in no page and no journal afterwards.

A wipe commits here first. From then on the device's share is gone for good, whatever happens to the
relay before it has told the logs; ``orders`` says at every start what is still to be told. Changes
are compare-and-swap, as two guesses at once must not count as one, nor one code open two sessions.

Source: the architecture, sections 3 (locked store, password and TOTP) and 6 (wipe).
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_bytes
from typing import Any, TypeVar

from msgspec import Struct

from protocol.identifiers import DeviceId, OrganisationId, UserName
from server.database import translated
from server.store import AwaitingArchiveError, DamagedError, StoreError
from storage import encrypted
from storage.database import DATABASE_ERRORS, transaction
from storage.encrypted import KEY_BYTES, Schema
from storage.files import create_private, sync_directory, write_private

VERSION = 1
"""Of the tables."""

_STATEMENTS = (
    """CREATE TABLE account(organisation BLOB, user TEXT, password_hash TEXT NOT NULL,
    totp_secret BLOB NOT NULL, totp_last_step INTEGER NOT NULL, failures INTEGER NOT NULL,
    retry_at_ms INTEGER NOT NULL, PRIMARY KEY(organisation, user)) WITHOUT ROWID""",
    """CREATE TABLE share(organisation BLOB, device TEXT, share BLOB NOT NULL,
    pin_verifier BLOB NOT NULL, failures INTEGER NOT NULL, retry_at_ms INTEGER NOT NULL,
    withheld INTEGER NOT NULL, PRIMARY KEY(organisation, device)) WITHOUT ROWID""",
    """CREATE TABLE wipe(organisation BLOB, device TEXT, number INTEGER, statement BLOB NOT NULL,
    redo INTEGER NOT NULL, PRIMARY KEY(organisation, device, number)) WITHOUT ROWID""",
    "CREATE TABLE state(id INTEGER PRIMARY KEY, awaiting INTEGER NOT NULL)",
)
SCHEMA = Schema(statements=_STATEMENTS, version=VERSION)

T = TypeVar("T")


class Account(Struct, frozen=True, kw_only=True):
    """A person's log-in.

    Attributes:
        password_hash: Opaque here.
        totp_secret: The one-time code's secret.
        totp_last_step: The last time step that was used, 0 for none.
        failures: Wrong attempts since the last right one.
        retry_at_ms: Wall-clock time before which no attempt counts.
    """

    password_hash: str
    totp_secret: bytes
    totp_last_step: int = 0
    failures: int = 0
    retry_at_ms: int = 0

    def __repr__(self) -> str:
        return "Account(...)"


class Share(Struct, frozen=True, kw_only=True):
    """The relay's part of what opens a device's locked store.

    Attributes:
        share: Given for a right PIN proof.
        pin_verifier: What the proof is checked with.
        failures: Wrong PINs since the last right one.
        retry_at_ms: Wall-clock time before which no attempt counts.
        withheld: Given to nobody for now: the device is suspended, or its wipe is begun.
    """

    share: bytes
    pin_verifier: bytes
    failures: int = 0
    retry_at_ms: int = 0
    withheld: bool = False

    def __repr__(self) -> str:
        return "Share(...)"


class Order(Struct, frozen=True, kw_only=True):
    """A wipe that this file has carried out and the logs may not know yet."""

    organisation: OrganisationId
    device: DeviceId
    number: int
    statement: bytes

    def __repr__(self) -> str:
        return "Order(...)"


class ChangedError(StoreError):
    """What was to be changed is no longer what the caller read: read it again and decide anew."""

    def __init__(self) -> None:
        super().__init__("changed meanwhile")


class WipedError(StoreError):
    """The device was wiped: it never has a share again."""

    def __init__(self) -> None:
        super().__init__("the device was wiped")


class KeyFileError(StoreError):
    """The key file does not hold a key, or others can read it.

    Attributes:
        rule: What it must be.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class Secrets:
    """The open file; every method returns when its effect is durable.

    All of them raise ``StoreFullError`` without room, ``DamagedError`` where a page fails its
    authentication, and ``StoreFailedError`` where the disk fails.
    """

    def __init__(self, db: Any, thread: ThreadPoolExecutor) -> None:
        self._db = db
        self._thread = thread

    @classmethod
    async def open(cls, path: Path, key_path: Path) -> Secrets:
        """Open the file that ``create`` made.

        Raises:
            FileNotFoundError: There is none, or no key file.
            KeyFileError: The key file is not one.
            DamagedError: The key is another's, or the file is damaged.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="secrets")
        loop = asyncio.get_running_loop()
        try:
            db = await loop.run_in_executor(thread, _open, path, key_path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(db, thread)

    async def account(self, organisation: OrganisationId, user: UserName) -> Account | None:
        """Give a person's log-in, or ``None``."""
        return await self._do(lambda db: _account(db, organisation, user))

    async def put_account(
        self,
        organisation: OrganisationId,
        user: UserName,
        account: Account | None,
        *,
        was: Account | None,
    ) -> None:
        """Replace the log-in ``was`` by ``account``; ``None`` stands for none.

        Raises:
            ChangedError: It is no longer ``was``.
        """

        def change(db: Any) -> None:
            if _account(db, organisation, user) != was:
                raise ChangedError
            db.execute("DELETE FROM account WHERE organisation=? AND user=?", (organisation, user))
            if account is not None:
                _insert(db, "account", organisation, user, account)

        await self._do(change)

    async def share(self, organisation: OrganisationId, device: DeviceId) -> Share | None:
        """Give a device's unlock share, or ``None``.

        Raises:
            AwaitingArchiveError: The file was restored, and an order may have deleted the share
                since.
        """

        def look(db: Any) -> Share | None:
            if _awaiting(db):
                raise AwaitingArchiveError
            return _share(db, organisation, device)

        return await self._do(look)

    async def put_share(
        self,
        organisation: OrganisationId,
        device: DeviceId,
        share: Share | None,
        *,
        was: Share | None,
    ) -> None:
        """Replace the unlock share ``was`` by ``share``; ``None`` stands for none.

        Raises:
            ChangedError: It is no longer ``was``.
            WipedError: The device was wiped.
            AwaitingArchiveError: The file was restored.
        """

        def change(db: Any) -> None:
            if _awaiting(db):
                raise AwaitingArchiveError
            if _share(db, organisation, device) != was:
                raise ChangedError
            if share is not None and _is_wiped(db, organisation, device):
                raise WipedError
            _delete_share(db, organisation, device)
            if share is not None:
                _insert(db, "share", organisation, device, share)

        await self._do(change)

    async def wipe(
        self, organisation: OrganisationId, device: DeviceId, number: int, statement: bytes
    ) -> None:
        """Delete a device's share for good and note the order, before anything else learns of it.

        A repeat changes nothing. Works on a restored file, as this is how orders come back to it.
        """

        def change(db: Any) -> None:
            _delete_share(db, organisation, device)
            db.execute(
                "INSERT OR IGNORE INTO wipe VALUES(?,?,?,?,1)",
                (organisation, device, number, statement),
            )

        await self._do(change)

    async def orders(self) -> list[Order]:
        """Give the wipes that are to be redone against the logs, oldest number first."""
        query = """SELECT organisation, device, number, statement FROM wipe
            WHERE redo ORDER BY organisation, number"""
        rows = await self._do(lambda db: db.execute(query).fetchall())
        return [
            Order(organisation=organisation, device=device, number=number, statement=statement)
            for organisation, device, number, statement in rows
        ]

    async def finish(self, organisation: OrganisationId, device: DeviceId, number: int) -> None:
        """Note that the logs know of a wipe: it need not be redone, and is never forgotten."""
        query = "UPDATE wipe SET redo=0 WHERE organisation=? AND device=? AND number=?"
        await self._do(lambda db: db.execute(query, (organisation, device, number)).rowcount)

    async def awaiting_archive(self) -> bool:
        """Tell whether the file was restored and gives no share."""
        return await self._do(_awaiting)

    async def resume(self) -> None:
        """Give shares again, once every order has been fed in through ``wipe``."""
        await self._do(lambda db: db.execute("UPDATE state SET awaiting=0").rowcount)

    async def backup(self, target: Path) -> None:
        """Write a copy under the same key to ``target``; opened, it awaits the archive.

        Raises:
            FileExistsError: ``target`` exists.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, _backup, self._db, target)

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        self._thread.shutdown()

    async def _do(self, work: Callable[[Any], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, _transact, self._db, work
        )


def create_key(path: Path) -> None:
    """Write a new random key to ``path``, for its owner alone.

    Raises:
        FileExistsError: There is a file.
    """
    write_private(path, token_bytes(KEY_BYTES))


def create(path: Path, key_path: Path) -> None:
    """Make an empty file of secrets at ``path``, durable when this returns.

    Raises:
        FileExistsError: There is a file.
        KeyFileError: The key file is not one.
        StoreFullError: There is no room.
        StoreFailedError: The disk failed.
    """
    key = _read_key(key_path)
    with _translating(), encrypted.creating(SCHEMA, path, key) as db:
        db.execute("INSERT INTO state VALUES(1, 0)")


def _read_key(path: Path) -> bytes:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError("a key file is readable by its owner alone")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise KeyFileError("a key file holds 32 bytes")
    return key


def _open(path: Path, key_path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(path.name)
    key = _read_key(key_path)
    with _translating():
        db = encrypted.open_with(SCHEMA, path, key)
        try:
            # The check reads the file alone: a page that a power cut tore is whole in the log.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if db.execute("PRAGMA cipher_integrity_check").fetchall():
                raise DamagedError("secrets")
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        raise translated(error, "secrets") from None


def _transact(db: Any, work: Callable[[Any], T]) -> T:
    with _translating():
        before = db.total_changes
        with transaction(db):
            value = work(db)
        if db.total_changes != before:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return value


def _insert(db: Any, table: str, organisation: bytes, name: str, value: Account | Share) -> None:
    fields = [getattr(value, field) for field in value.__struct_fields__]
    db.execute(
        f"INSERT INTO {table} VALUES(?,?,?,?,?,?,?)",
        (organisation, name, *fields),
    )


def _account(db: Any, organisation: bytes, user: str) -> Account | None:
    row = db.execute(
        """SELECT password_hash, totp_secret, totp_last_step, failures, retry_at_ms FROM account
        WHERE organisation=? AND user=?""",
        (organisation, user),
    ).fetchone()
    if row is None:
        return None
    return Account(
        password_hash=row[0],
        totp_secret=row[1],
        totp_last_step=row[2],
        failures=row[3],
        retry_at_ms=row[4],
    )


def _share(db: Any, organisation: bytes, device: str) -> Share | None:
    row = db.execute(
        """SELECT share, pin_verifier, failures, retry_at_ms, withheld FROM share
        WHERE organisation=? AND device=?""",
        (organisation, device),
    ).fetchone()
    if row is None:
        return None
    return Share(
        share=row[0],
        pin_verifier=row[1],
        failures=row[2],
        retry_at_ms=row[3],
        withheld=bool(row[4]),
    )


def _delete_share(db: Any, organisation: bytes, device: str) -> None:
    db.execute("DELETE FROM share WHERE organisation=? AND device=?", (organisation, device))


def _is_wiped(db: Any, organisation: bytes, device: str) -> bool:
    query = "SELECT 1 FROM wipe WHERE organisation=? AND device=? LIMIT 1"
    return db.execute(query, (organisation, device)).fetchone() is not None


def _awaiting(db: Any) -> bool:
    row = db.execute("SELECT awaiting FROM state WHERE id=1").fetchone()
    return row is None or bool(row[0])


def _backup(db: Any, target: Path) -> None:
    if target.exists():
        raise FileExistsError(target.name)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    create_private(part)
    try:
        with _translating():
            _copy(db, part)
        part.rename(target)
        sync_directory(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _copy(db: Any, part: Path) -> None:
    """Export under the file's own key, and have the copy await the archive."""
    db.execute("ATTACH DATABASE ? AS copy", (str(part),))
    try:
        db.execute("PRAGMA copy.synchronous=EXTRA").fetchall()
        db.execute("SELECT sqlcipher_export('copy')").fetchall()
        db.execute(f"PRAGMA copy.user_version={SCHEMA.version}")
        db.execute("UPDATE copy.state SET awaiting=1")
    finally:
        db.execute("DETACH DATABASE copy")

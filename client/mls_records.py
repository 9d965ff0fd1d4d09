"""MLS state on the disk: groups, staged Commits beside them, key packages, the device's keys.

A group is saved as the difference from the value that was saved before. ``Groups`` hands out one
value for each conversation and takes a next one only for that very value, so that no caller can go
on from a state whose keys were used since.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from client.database import Database
from client.errors import DamagedError
from crypto.errors import DecodeError, InvalidError, UsageError
from crypto.mls import Group, KeyPackageSecrets
from protocol.identifiers import ConversationId

GROUPS_IN_MEMORY = 256
"""Groups that are kept loaded: those in use at once; one of 200 members takes about a megabyte."""

_FORMER = 2
"""What the column says of a package of last resort that was replaced; 1 of the one in use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A Commit that waits for its receipt.

    Attributes:
        reference: What the caller knows it by, unique in the conversation.
        about: What the caller needs when it is merged, as it wrote it.
        group: The group of the next epoch; None where the Commit removes this device.
    """

    reference: bytes
    about: bytes = field(repr=False)
    group: Group | None = field(repr=False)


class Groups:
    """The saved groups of a store; changes are made by ``Store`` inside its transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._saved: OrderedDict[ConversationId, Group] = OrderedDict()

    def conversations(self) -> list[ConversationId]:
        """Return the conversations in which this device has a leaf."""
        rows = self._database.rows("SELECT conversation FROM mls WHERE part='epoch'")
        return [ConversationId(row[0]) for row in rows]

    def get(self, conversation: ConversationId) -> Group | None:
        """Return the saved group, or None; the same value until the next is saved.

        Raises:
            DamagedError: Its records do not belong together.
        """
        group = self._saved.get(conversation)
        if group is None:
            rows = self._database.rows(
                "SELECT part, record FROM mls WHERE conversation=?", conversation
            )
            if not rows:
                return None
            group = _loaded(dict(rows))
            self.remember(conversation, group)
        self._saved.move_to_end(conversation)
        return group

    def staged(self, conversation: ConversationId) -> list[Staged]:
        """Return the Commits of a conversation that wait for their receipts.

        Raises:
            DamagedError: Records do not belong together.
        """
        rows = self._database.rows(
            "SELECT reference, about, removes FROM staged WHERE conversation=?", conversation
        )
        return [
            Staged(
                reference=reference,
                about=about,
                group=None if removes else self._staged_group(conversation, reference),
            )
            for reference, about, removes in rows
        ]

    def staged_conversations(self) -> list[ConversationId]:
        """Return the conversations in which a Commit or a Welcome waits."""
        rows = self._database.rows("SELECT DISTINCT conversation FROM staged")
        return [ConversationId(row[0]) for row in rows]

    def require(self, conversation: ConversationId, before: Group | None) -> None:
        """Refuse a change that does not go on from what is saved.

        Raises:
            UsageError: ``before`` is another value than ``get`` gives.
        """
        if self.get(conversation) is not before:
            raise UsageError("a group is changed from its saved value only")

    def save(self, conversation: ConversationId, after: Group | None) -> None:
        """Write what leads from the saved value to ``after``; None deletes the group.

        The value in memory stays until ``remember``, once the transaction has held.

        Raises:
            UsageError: ``after`` is the group of another conversation.
        """
        if after is None:
            self._database.change("DELETE FROM mls WHERE conversation=?", conversation)
            self.drop(conversation, None)
            return
        if after.group_id != conversation:
            raise UsageError("a group is saved under its own id")
        changes = after.changes(self.get(conversation))
        gone = [(conversation, part) for part, record in changes.items() if record is None]
        kept = [
            (conversation, part, record) for part, record in changes.items() if record is not None
        ]
        self._database.change_many("DELETE FROM mls WHERE conversation=? AND part=?", gone)
        self._database.change_many("INSERT OR REPLACE INTO mls VALUES(?,?,?)", kept)

    def remember(self, conversation: ConversationId, group: Group | None) -> None:
        """Take ``group`` as what is saved."""
        if group is None:
            self._saved.pop(conversation, None)
            return
        self._saved[conversation] = group
        self._saved.move_to_end(conversation)
        if len(self._saved) > GROUPS_IN_MEMORY:
            self._saved.popitem(last=False)

    def stage(self, conversation: ConversationId, staged: Staged) -> None:
        """Write a staged Commit beside its group."""
        key = (conversation, staged.reference)
        removes = int(staged.group is None)
        self.drop(conversation, staged.reference)
        self._database.change("INSERT INTO staged VALUES(?,?,?,?)", *key, staged.about, removes)
        if staged.group is not None:
            records = staged.group.changes(None).items()
            self._database.change_many(
                "INSERT INTO staged_mls VALUES(?,?,?,?)",
                [(*key, part, record) for part, record in records],
            )

    def drop(self, conversation: ConversationId, reference: bytes | None) -> None:
        """Delete a staged Commit with its keys, or all of the conversation."""
        for table in ("staged", "staged_mls"):
            sql = f"DELETE FROM {table} WHERE conversation=?"  # noqa: S608 - a name from above
            if reference is None:
                self._database.change(sql, conversation)
            else:
                self._database.change(sql + " AND reference=?", conversation, reference)

    def forget_all(self) -> None:
        """Delete every group, staged Commit and key package."""
        for table in ("mls", "staged", "staged_mls", "key_package"):
            self._database.change(f"DELETE FROM {table}")  # noqa: S608 - a name from above

    def forget_memory(self) -> None:
        """Let go of what is loaded."""
        self._saved.clear()

    def _staged_group(self, conversation: ConversationId, reference: bytes) -> Group:
        rows = self._database.rows(
            "SELECT part, record FROM staged_mls WHERE conversation=? AND reference=?",
            conversation,
            reference,
        )
        return _loaded(dict(rows))


def _loaded(records: dict[str, bytes]) -> Group:
    try:
        return Group.load(records)
    except (DecodeError, InvalidError):
        raise DamagedError("database") from None


class Keys:
    """Key packages that wait for a Welcome, and the device's own keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_packages(
        self, packages: Iterable[KeyPackageSecrets], *, last_resort: KeyPackageSecrets | None = None
    ) -> None:
        """Keep key packages; publish them only afterwards.

        Args:
            packages: Each for one Welcome.
            last_resort: Takes the place of the one before, whose secrets stay until its time is
                over: a Welcome to it may be on its way.
        """
        rows = [(own.key_package.reference(own.suite), own.encode(), 0) for own in packages]
        with self._database.transaction():
            if last_resort is not None:
                former = "UPDATE key_package SET last_resort=? WHERE last_resort"
                self._database.change(former, _FORMER)
                reference = last_resort.key_package.reference(last_resort.suite)
                rows.append((reference, last_resort.encode(), 1))
            self._database.change_many("INSERT INTO key_package VALUES(?,?,?)", rows)

    def package(self, reference: bytes) -> KeyPackageSecrets | None:
        """Return the secrets for a Welcome, or None where they were used or never here.

        Raises:
            DamagedError: They do not decode.
        """
        row = self._database.row("SELECT secrets FROM key_package WHERE reference=?", reference)
        if row is None:
            return None
        return _package(row[0])

    def package_references(self) -> list[bytes]:
        """Return which packages for one use are left."""
        rows = self._database.rows("SELECT reference FROM key_package WHERE NOT last_resort")
        return [row[0] for row in rows]

    def expire_packages(self, now_s: int) -> None:
        """Delete the secrets of packages whose time is over, in seconds since the epoch."""
        found = self._database.rows("SELECT reference, secrets FROM key_package")
        ended = [(row[0],) for row in found if _ends_s(row[1]) < now_s]
        with self._database.transaction():
            self._database.change_many("DELETE FROM key_package WHERE reference=?", ended)

    def use_package(self, reference: bytes) -> None:
        """Delete a package's secrets; one of last resort stays until its time is over.

        Raises:
            UsageError: There is none, so it was used already.
        """
        if self._database.row("SELECT 1 FROM key_package WHERE reference=?", reference) is None:
            raise UsageError("a key package is used once")
        self._database.change(
            "DELETE FROM key_package WHERE reference=? AND NOT last_resort", reference
        )

    def put(self, name: str, secret: bytes) -> None:
        """Keep one of the device's keys under a name."""
        with self._database.transaction():
            self._database.change("INSERT OR REPLACE INTO device_key VALUES(?,?)", name, secret)

    def get(self, name: str) -> bytes | None:
        """Return one of the device's keys, or None."""
        row = self._database.row("SELECT secret FROM device_key WHERE name=?", name)
        return None if row is None else bytes(row[0])

    def remove(self, name: str) -> None:
        """Delete one of the device's keys; its bytes are overwritten."""
        with self._database.transaction():
            self._database.change("DELETE FROM device_key WHERE name=?", name)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the device's keys that begin with ``prefix``, in order."""
        rows = self._database.rows("SELECT name FROM device_key ORDER BY name")
        return [row[0] for row in rows if row[0].startswith(prefix)]


def _package(secrets: bytes) -> KeyPackageSecrets:
    try:
        return KeyPackageSecrets.decode(secrets)
    except (DecodeError, InvalidError):
        raise DamagedError("database") from None


def _ends_s(secrets: bytes) -> int:
    """Return until when a key package may be used."""
    lifetime = _package(secrets).key_package.leaf_node.lifetime
    return 0 if lifetime is None else lifetime.not_after

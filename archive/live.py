"""The recorder's live state: its groups, what waits in them, key packages, what it has to say yet.

It stands in the log's database, so that a message's key, its record and its epoch's sealed keys are
one transaction. A group is saved as the difference from the value that was saved before, and only
from that very value: no caller can go on from a state whose keys were used since.

Of what is written here, old pages stay in the write-ahead log until it is emptied, deleted keys
among them: whoever runs this does so every second (``Store.truncate_journal``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import msgspec

from archive.errors import DamagedError
from archive.store import Store
from client.followed import Cause, Chain, StagedCommit, View
from client.rules import Demand
from client.views import Roster
from crypto import codec
from crypto.certificate import DAY_MS
from crypto.errors import CryptoError
from crypto.mls import Group, KeyPackageSecrets
from crypto.statement_types import StatementType
from protocol.identifiers import CONVERSATION_ID_BYTES, ConversationId, DeviceId, UserName

T = TypeVar("T")

VIEWS_IN_MEMORY = 512
"""Conversations that are kept loaded: those in use at once; one of 200 members is a megabyte."""

_ONCE, _LAST_RESORT, _FORMER = 0, 1, 2
"""Kinds of key packages; ``_FORMER`` is added once the relay gives them out no more."""


class _Chain(msgspec.Struct, frozen=True, array_like=True):
    last: int
    missing: tuple[int, ...]


class _Demand(msgspec.Struct, frozen=True, array_like=True):
    hash: bytes
    kind: int
    by: str | None
    body: bytes
    at_ms: int


class _View(msgspec.Struct, frozen=True, array_like=True):
    chains: dict[str, _Chain]
    demands: tuple[_Demand, ...]


class _About(msgspec.Struct, frozen=True, array_like=True):
    """A staged Commit or Welcome but for its group."""

    welcome: bool
    sequence: int
    epoch: int
    committer: str
    at_ms: int
    message_id: int
    refused: int | None
    joined: tuple[str, ...]
    left: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A receipt or void to be posted once its record is witnessed.

    Attributes:
        conversation: Where.
        statement: Signed.
        index: Of the record that must be witnessed before.
    """

    conversation: ConversationId
    statement: bytes = field(repr=False)
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """A message whose sender has not been told that it is archived.

    Attributes:
        index: Of its record.
        device: The sender.
        conversation: Where.
        sequence: Its number there.
        salt: Of the record's commitment.
    """

    index: int
    device: DeviceId
    conversation: ConversationId
    sequence: int
    salt: bytes = field(repr=False)


class Live:
    """The live state in an open store; what changes it is called inside the store's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views: OrderedDict[ConversationId, View] = OrderedDict()

    # Conversations.

    def view(self, conversation: ConversationId) -> View:
        """Return what is known of a conversation; of one never heard of, nothing.

        Raises:
            DamagedError: Its records do not belong together.
        """
        view = self._views.get(conversation)
        if view is None:
            view = self._loaded(conversation)
            self.remember([view])
        return view

    def conversations(self) -> list[ConversationId]:
        """Return the conversations in which the recorder has a leaf."""
        rows = self._store.rows("SELECT conversation FROM mls WHERE part='epoch'")
        return [ConversationId(row[0]) for row in rows]

    def waiting(self) -> list[ConversationId]:
        """Return the conversations in which a Commit or Welcome waits for its receipt."""
        rows = self._store.rows("SELECT DISTINCT conversation FROM staged")
        return [ConversationId(row[0]) for row in rows]

    def save(self, view: View) -> None:
        """Write what leads from the saved view of a conversation to this one.

        What is in memory stays until ``remember``, once the transaction has held.
        """
        before = self.view(view.conversation)
        conversation = view.conversation
        self._save_group(conversation, before.group, view.group)
        self._save_staged(before, view)
        if (view.chains, view.demands) != (before.chains, before.demands):
            self._store.change("REPLACE INTO view VALUES(?,?)", conversation, _encoded(view))

    def remember(self, views: Iterable[View]) -> None:
        """Take views as what is saved."""
        for view in views:
            self._views[view.conversation] = view
            self._views.move_to_end(view.conversation)
        while len(self._views) > VIEWS_IN_MEMORY:
            self._views.popitem(last=False)

    def forget_memory(self) -> None:
        """Let go of what is loaded, after a transaction that did not hold."""
        self._views.clear()

    def _save_group(
        self, conversation: ConversationId, before: Group | None, after: Group | None
    ) -> None:
        if after is before:
            return
        if after is None:
            self._store.change("DELETE FROM mls WHERE conversation=?", conversation)
            return
        changes = after.changes(before)
        self._store.change_many(
            "DELETE FROM mls WHERE conversation=? AND part=?",
            [(conversation, part) for part, record in changes.items() if record is None],
        )
        self._store.change_many(
            "REPLACE INTO mls VALUES(?,?,?)",
            [
                (conversation, part, record)
                for part, record in changes.items()
                if record is not None
            ],
        )

    def _save_staged(self, before: View, view: View) -> None:
        old = {one.reference: one for one in before.staged}
        new = {one.reference: one for one in view.staged}
        for reference, one in old.items():
            if new.get(reference) is not one:
                self._unstage(view.conversation, reference)
        for reference, one in new.items():
            if old.get(reference) is not one:
                self._stage(view.conversation, one)

    def _unstage(self, conversation: ConversationId, reference: bytes) -> None:
        key = (conversation, reference)
        self._store.change("DELETE FROM staged WHERE conversation=? AND reference=?", *key)
        self._store.change("DELETE FROM staged_mls WHERE conversation=? AND reference=?", *key)

    def _stage(self, conversation: ConversationId, staged: StagedCommit) -> None:
        key = (conversation, staged.reference)
        about = msgspec.msgpack.encode(_about(staged))
        self._store.change("INSERT INTO staged VALUES(?,?,?)", *key, about)
        if staged.group is not None:
            records = staged.group.changes(None).items()
            self._store.change_many(
                "INSERT INTO staged_mls VALUES(?,?,?,?)",
                [(*key, part, record) for part, record in records if record is not None],
            )

    def _loaded(self, conversation: ConversationId) -> View:
        rows = self._store.rows("SELECT part, record FROM mls WHERE conversation=?", conversation)
        kept = self._store.rows("SELECT value FROM view WHERE conversation=?", conversation)
        value = _decoded(kept[0][0]) if kept else _View(chains={}, demands=())
        return View(
            conversation=conversation,
            group=_group(dict(rows)) if rows else None,
            staged=self._staged(conversation),
            chains=MappingProxyType(
                {
                    DeviceId(name): Chain(last=one.last, missing=frozenset(one.missing))
                    for name, one in value.chains.items()
                }
            ),
            demands=MappingProxyType({one.hash: _demand(one) for one in value.demands}),
        )

    def _staged(self, conversation: ConversationId) -> tuple[StagedCommit, ...]:
        rows = self._store.rows(
            "SELECT reference, about FROM staged WHERE conversation=?", conversation
        )
        found = [
            _staged(reference, about, self._staged_group(conversation, reference))
            for reference, about in rows
        ]
        return tuple(sorted(found, key=lambda one: (one.epoch, one.at_ms)))

    def _staged_group(self, conversation: ConversationId, reference: bytes) -> Group | None:
        rows = self._store.rows(
            "SELECT part, record FROM staged_mls WHERE conversation=? AND reference=?",
            conversation,
            reference,
        )
        return _group(dict(rows)) if rows else None

    # Key packages.

    def add_packages(
        self, packages: Iterable[KeyPackageSecrets], *, last_resort: KeyPackageSecrets, now_s: int
    ) -> None:
        """Keep key packages, before they are published in the place of all others.

        The secrets of those others stay until their time is over: a Welcome to one may be on its
        way, or be made of what was claimed a moment ago.
        """
        former = self._store.rows(
            "SELECT reference, secrets FROM key_package WHERE last_resort>=?", _FORMER
        )
        ended = [(row[0],) for row in former if _ends_s(row[1]) < now_s]
        self._store.change_many("DELETE FROM key_package WHERE reference=?", ended)
        self._store.change(
            "UPDATE key_package SET last_resort=last_resort+? WHERE last_resort<?", _FORMER, _FORMER
        )
        rows = [(own.key_package.reference(own.suite), own.encode(), _ONCE) for own in packages]
        reference = last_resort.key_package.reference(last_resort.suite)
        self._store.change_many(
            "INSERT INTO key_package VALUES(?,?,?)",
            [*rows, (reference, last_resort.encode(), _LAST_RESORT)],
        )

    def last_resort(self) -> bytes | None:
        """Return the reference of the package of last resort, or ``None`` without one."""
        rows = self._store.rows(
            "SELECT reference FROM key_package WHERE last_resort=?", _LAST_RESORT
        )
        return rows[0][0] if rows else None

    def package(self, references: Iterable[bytes]) -> KeyPackageSecrets | None:
        """Return the secrets for a Welcome to one of these packages, or ``None``."""
        for reference in references:
            rows = self._store.rows("SELECT secrets FROM key_package WHERE reference=?", reference)
            if rows:
                return KeyPackageSecrets.decode(rows[0][0])
        return None

    def use_package(self, own: KeyPackageSecrets) -> None:
        """Delete a package's secrets; one of last resort stays until its time is over."""
        reference = own.key_package.reference(own.suite)
        self._store.change(
            "DELETE FROM key_package WHERE reference=? AND last_resort IN (?,?)",
            reference,
            _ONCE,
            _ONCE + _FORMER,
        )

    def packages(self) -> int:
        """Return how many packages for one use are left of those that were published last."""
        found = self._store.rows("SELECT count(*) FROM key_package WHERE last_resort=?", _ONCE)
        return int(found[0][0])

    # What is still to be said.

    def put_verdict(self, verdict: Verdict) -> None:
        """Keep a verdict; a conversation awaits one at most."""
        self._store.change(
            "REPLACE INTO verdict VALUES(?,?,?)",
            verdict.conversation,
            verdict.statement,
            verdict.index,
        )

    def verdicts(self, *, below: int) -> list[Verdict]:
        """Return the verdicts whose records lie below an index."""
        rows = self._store.rows(
            "SELECT conversation, statement, idx FROM verdict WHERE idx<?", below
        )
        return [
            Verdict(conversation=ConversationId(conversation), statement=statement, index=index)
            for conversation, statement, index in rows
        ]

    def renew_verdict(self, verdict: Verdict, statement: bytes) -> None:
        """Keep a verdict as it was signed anew, unless another has taken its place."""
        self._store.change(
            "UPDATE verdict SET statement=? WHERE conversation=? AND statement=?",
            statement,
            verdict.conversation,
            verdict.statement,
        )

    def drop_verdict(self, verdict: Verdict) -> None:
        """Forget a verdict that was posted or has no effect any more."""
        self._store.change(
            "DELETE FROM verdict WHERE conversation=? AND statement=?",
            verdict.conversation,
            verdict.statement,
        )

    def drop_verdicts(self, conversation: ConversationId) -> None:
        """Forget what was to be said of a Commit that is decided."""
        self._store.change("DELETE FROM verdict WHERE conversation=?", conversation)

    def add_untold(self, messages: Iterable[Untold]) -> None:
        """Note messages whose senders are to be told."""
        self._store.change_many(
            "INSERT OR IGNORE INTO untold VALUES(?,?,?,?,?)",
            [(m.index, m.device, m.conversation, m.sequence, m.salt) for m in messages],
        )

    def untold(self, *, below: int, most: int) -> list[Untold]:
        """Return messages below an index whose senders are to be told, oldest first."""
        rows = self._store.rows(
            "SELECT idx, device, conversation, sequence, salt FROM untold WHERE idx<? "
            "ORDER BY idx LIMIT ?",
            below,
            most,
        )
        return [_untold(row) for row in rows]

    def untold_devices(self, *, after: str, most: int) -> list[DeviceId]:
        """Return devices that are to be told of messages, ascending, those behind ``after``."""
        found: list[DeviceId] = []
        while len(found) < most:
            # One look into the index for each: there may be a million messages of one device.
            query = "SELECT min(device) FROM untold WHERE device>?"
            (device,) = self._store.rows(query, after)[0]
            if device is None:
                break
            found.append(DeviceId(device))
            after = device
        return found

    def untold_of(self, device: DeviceId, *, below: int, most: int) -> list[Untold]:
        """Return a device's messages below an index of which it is to be told, oldest first."""
        rows = self._store.rows(
            "SELECT idx, device, conversation, sequence, salt FROM untold "
            "WHERE device=? AND idx<? ORDER BY idx LIMIT ?",
            device,
            below,
            most,
        )
        return [_untold(row) for row in rows]

    def untold_count(self) -> int:
        """Return how many messages' senders are still to be told."""
        return int(self._store.rows("SELECT count(*) FROM untold")[0][0])

    def told(self, messages: Iterable[Untold]) -> None:
        """Forget messages whose sender was told."""
        self._store.change_many("DELETE FROM untold WHERE idx=?", [(m.index,) for m in messages])

    def outbox(self) -> dict[int, bytes]:
        """Return what was encrypted and has no answer yet, by message id."""
        return dict(self._store.rows("SELECT message_id, frame FROM outbox ORDER BY message_id"))

    def put_outbox(self, message_id: int, frame: bytes) -> None:
        """Keep an encoded frame before it is sent."""
        self._store.change("INSERT INTO outbox VALUES(?,?)", message_id, frame)

    def drop_outbox(self, message_id: int) -> None:
        """Forget a frame that was answered."""
        self._store.change("DELETE FROM outbox WHERE message_id=?", message_id)

    # Who is to come back, and who was let in again.

    def add_bereft(self, user: UserName, conversation: ConversationId) -> None:
        """Note that a person left a conversation because no device of theirs stands any more."""
        name = _BEREFT + user
        known = self.setting(name) or b""
        if conversation not in _split(known):
            self.put_setting(name, known + conversation)

    def bereft(self) -> dict[UserName, list[ConversationId]]:
        """Return who left so, and where they are to come back once they have a device again."""
        rows = self._store.rows(
            "SELECT name, value FROM setting WHERE substr(name, 1, ?)=?", len(_BEREFT), _BEREFT
        )
        return {UserName(name.removeprefix(_BEREFT)): _split(value) for name, value in rows}

    def forget_bereft(self, user: UserName) -> None:
        """Forget where a person is to come back: it is on its way."""
        self._store.change("DELETE FROM setting WHERE name=?", _BEREFT + user)

    def add_let_in(self, demand: Demand) -> None:
        """Note that a request or a command was followed, for as long as one is."""
        over_ms = max(0, demand.at_ms - DAY_MS)
        self._store.change(
            "DELETE FROM setting WHERE substr(name, 1, ?)=? AND value < ?",
            len(_LET_IN),
            _LET_IN,
            codec.u64(over_ms),
        )
        self.put_setting(_LET_IN + demand.hash.hex(), codec.u64(demand.at_ms))

    def let_in(self) -> set[bytes]:
        """Return the hashes of those requests."""
        rows = self._store.rows(
            "SELECT name FROM setting WHERE substr(name, 1, ?)=?", len(_LET_IN), _LET_IN
        )
        return {bytes.fromhex(name.removeprefix(_LET_IN)) for (name,) in rows}

    # Settings.

    def setting(self, name: str) -> bytes | None:
        """Return a value that ``put_setting`` kept, or ``None``."""
        rows = self._store.rows("SELECT value FROM setting WHERE name=?", name)
        return bytes(rows[0][0]) if rows else None

    def put_setting(self, name: str, value: bytes) -> None:
        """Keep a value."""
        self._store.change("REPLACE INTO setting VALUES(?,?)", name, value)


_BEREFT = "bereft "
_LET_IN = "let in "


def _split(ids: bytes) -> list[ConversationId]:
    size = CONVERSATION_ID_BYTES
    return [ConversationId(ids[at : at + size]) for at in range(0, len(ids), size)]


def _untold(row: tuple[int, str, bytes, int, bytes]) -> Untold:
    index, device, conversation, sequence, salt = row
    return Untold(
        index=index,
        device=DeviceId(device),
        conversation=ConversationId(conversation),
        sequence=sequence,
        salt=salt,
    )


def _ends_s(secrets: bytes) -> int:
    lifetime = KeyPackageSecrets.decode(secrets).key_package.leaf_node.lifetime
    return 0 if lifetime is None else lifetime.not_after


def _group(records: Mapping[str, bytes]) -> Group:
    try:
        return Group.load(records)
    except CryptoError:
        raise DamagedError("mls") from None


def _encoded(view: View) -> bytes:
    chains = {
        str(name): _Chain(last=one.last, missing=tuple(sorted(one.missing)))
        for name, one in view.chains.items()
    }
    demands = tuple(
        _Demand(hash=one.hash, kind=int(one.kind), by=one.by, body=one.body, at_ms=one.at_ms)
        for one in view.demands.values()
    )
    return msgspec.msgpack.encode(_View(chains=chains, demands=demands))


def _decoded(value: bytes) -> _View:
    return _damage_told(lambda: msgspec.msgpack.decode(value, type=_View))


def _demand(one: _Demand) -> Demand:
    return Demand(
        hash=one.hash,
        kind=StatementType(one.kind),
        by=None if one.by is None else DeviceId(one.by),
        body=one.body,
        at_ms=one.at_ms,
    )


def _about(staged: StagedCommit) -> _About:
    roster = staged.roster
    return _About(
        welcome=staged.welcome,
        sequence=staged.sequence,
        epoch=staged.epoch,
        committer=staged.committer,
        at_ms=staged.at_ms,
        message_id=staged.message_id,
        refused=None if staged.refused is None else int(staged.refused),
        joined=roster.joined,
        left=roster.left,
        added=roster.added,
        removed=roster.removed,
    )


def _staged(reference: bytes, about: bytes, group: Group | None) -> StagedCommit:
    kept = _damage_told(lambda: msgspec.msgpack.decode(about, type=_About))
    return StagedCommit(
        reference=reference,
        welcome=kept.welcome,
        sequence=kept.sequence,
        epoch=kept.epoch,
        committer=DeviceId(kept.committer),
        at_ms=kept.at_ms,
        message_id=kept.message_id,
        refused=None if kept.refused is None else Cause(kept.refused),
        roster=Roster(
            by=DeviceId(kept.committer),
            joined=tuple(map(UserName, kept.joined)),
            left=tuple(map(UserName, kept.left)),
            added=tuple(map(DeviceId, kept.added)),
            removed=tuple(map(DeviceId, kept.removed)),
        ),
        group=group,
    )


def _damage_told(read: Callable[[], T]) -> T:
    try:
        return read()
    except (msgspec.DecodeError, ValueError):
        raise DamagedError("live state") from None

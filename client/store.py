"""A device's store: everything that it knows, under one key, changed in one order only.

What came from the relay is on the disk, with the MLS key that read it gone, before ``received``
gives it back to be shown and acknowledged. What is sent is on the disk, with the key that sealed it
gone, before ``Outbox.to_send`` can give its bytes. Each such step is one transaction: after a crash
both its halves are there or neither.

One thread uses a store, and one process: a second one that opens it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from client import schema
from client.caches import Cache, Settings
from client.database import Database
from client.errors import DamagedError
from client.evidence import Evidence
from client.faults import Faults
from client.messages import (
    PLAIN,
    WAITING_PLACE,
    Content,
    Effect,
    Message,
    MessageKey,
    Messages,
    NewMessage,
    Retraction,
    Revision,
    Standing,
    State,
)
from client.mls_records import Groups, Keys, Staged
from client.outbox import Outbox, Outgoing, Waiting
from client.records import decode_source, source_of
from crypto.errors import UsageError
from crypto.mls import Group
from protocol.identifiers import ConversationId, DeviceId, LogId, conversation_log
from protocol.limits import IN_FLIGHT_MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a log, and all that it changes in one conversation.

    Attributes:
        log: Where it stands: the conversation's log, or the device's inbox for a Welcome.
        before: The group as ``Groups.get`` gives it; None where this device is no member yet.
        after: What came of it: the same value where nothing was decrypted, a merged one where a
            staged Commit got its receipt, None where this device was removed.
        effects: On the messages that people see.
        stages: A Commit that now waits for its receipt.
        drops: Staged Commits that were merged or voided.
        key_package: Reference of the one that a Welcome used.
        faults: What did not have its effect: cause and detail.
        forks: Whether from here on the others are in another epoch of the same number: they read
            nothing of what this device sends, though the relay takes it.
        late: Whether something else stood under its number, which the cursor has passed.
    """

    log: LogId
    sequence: int
    conversation: ConversationId
    before: Group | None = field(repr=False)
    after: Group | None = field(repr=False)
    effects: tuple[Effect, ...] = field(default=(), repr=False)
    stages: Staged | None = None
    drops: tuple[bytes, ...] = ()
    key_package: bytes | None = None
    faults: tuple[tuple[int, int], ...] = ()
    at_ms: int = 0
    forks: bool = False
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What is on the disk now.

    Attributes:
        messages: New or changed ones, in order: to be shown.
        through: The cursor of each log: to be acknowledged.
    """

    messages: tuple[Message, ...]
    through: Mapping[LogId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to be sent.

    Attributes:
        sender: This device.
        at_ms: Now, milliseconds since the epoch.
        content: A new message; None where it is none, as for a Commit or a read mark.
        effects: What it does to other messages here.
        standing: Of the new message among the others.
        source: What to seal from, kept until the relay has it, to seal again.
        held: Whether it is not to go out before it was sealed again.
    """

    sender: DeviceId
    at_ms: int
    content: Content | None = field(default=None, repr=False)
    effects: tuple[Effect, ...] = field(default=(), repr=False)
    standing: Standing = PLAIN
    source: bytes = field(default=b"", repr=False)
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What sealing a draft gives.

    Attributes:
        group: Without the key that was used.
        message: An MLSMessage.
        welcome: For a Commit that adds somebody.
        stages: The Commit, where it is one.
    """

    group: Group = field(repr=False)
    message: bytes = field(repr=False)
    welcome: bytes = field(default=b"", repr=False)
    stages: Staged | None = None


_NO_STATES: Mapping[ConversationId, bytes] = {}

Seal = Callable[[int, int], Sealed]
"""Seals under a message id, naming the device's message before it in the conversation (0: none)."""


class Store:
    """An open store.

    Every method raises ``DamagedError`` where the disk gives back what was not written,
    ``FullError`` without room, and ``FailedError`` where the disk fails.

    Attributes:
        groups: MLS state, to be read.
        keys: Key packages and the device's keys.
        messages: To be read and searched.
        outbox: What waits to be sent.
        evidence: Which own messages the archive has proved to have.
        faults: What did not have its effect.
        cache: Directory, on-call sheet and the like.
        settings: By name.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.groups = Groups(database)
        self.keys = Keys(database)
        self.messages = Messages(database)
        self.outbox = Outbox(database)
        self.evidence = Evidence(database, self.messages)
        self.faults = Faults(database)
        self.cache = Cache(database)
        self.settings = Settings(database)

    @classmethod
    def create(cls, path: Path, key: bytes) -> Store:
        """Return a new store.

        Raises:
            FileExistsError: There is a file.
        """
        return cls._over(Database.create(path, key))

    @classmethod
    def open(cls, path: Path, key: bytes) -> Store:
        """Return the store in ``path``, brought to this program's schema version.

        Raises:
            DamagedError: It is missing or damaged, or the key is another's.
            NewerVersionError: A newer program wrote it.
            InUseError: Another process has it open.
        """
        database = Database.open(path, key)
        # To SQLite an empty file is an empty database, and no key is wrong for it.
        if schema.version_of(database) == 0:
            database.close()
            raise DamagedError("database")
        return cls._over(database)

    @classmethod
    def _over(cls, database: Database) -> Store:
        try:
            schema.migrate(database)
        except BaseException:
            database.close()
            raise
        return cls(database)

    # -- what comes ----------------------------------------------------------------------------

    def cursor(self, log: LogId) -> int:
        """Return the last sequence number of a log whose effect is on this disk, 0 for none."""
        row = self._database.row("SELECT sequence FROM cursor WHERE log=?", log)
        return 0 if row is None else int(row[0])

    def has_begun(self, log: LogId) -> bool:
        """Tell whether anything of a log had its effect, also where it is read anew since."""
        return self._database.row("SELECT 1 FROM cursor WHERE log=?", log) is not None

    def received(
        self, entries: Sequence[Entry], *, states: Mapping[ConversationId, bytes] = _NO_STATES
    ) -> Received:
        """Keep what entries changed, all of them or none; then show it and acknowledge it.

        Args:
            entries: In the order of their logs. Several in one call cost one synced transaction:
                so a device catches up.
            states: What is known of conversations after them, as the caller wrote it.

        Raises:
            UsageError: An entry is not beyond its log's cursor, or goes on from a group that is not
                the saved one. Nothing is changed.
        """
        groups = self._follow(entries)
        touched: dict[MessageKey, None] = {}
        with self._database.transaction():
            for conversation, group in groups.items():
                self.groups.save(conversation, group)
            for log, sequence in self._last(entries).items():
                self._advance(log, sequence)
            for entry in entries:
                touched.update(dict.fromkeys(self._keep(entry)))
            for conversation, state in states.items():
                self._database.change(
                    "INSERT OR REPLACE INTO followed VALUES(?,?)", conversation, state
                )
        for conversation, group in groups.items():
            self.groups.remember(conversation, group)
        found = (self.messages.get(key) for key in touched)
        return Received(
            messages=tuple(message for message in found if message is not None),
            through={entry.log: self.cursor(entry.log) for entry in entries},
        )

    def passed(self, log: LogId, sequence: int) -> int:
        """Note that entries which change no conversation had their effect; return the cursor.

        Raises:
            UsageError: It is not beyond the log's cursor.
        """
        with self._database.transaction():
            self._advance(log, sequence)
        return self.cursor(log)

    def led_back(self, log: LogId, sequence: int, *, cause: int, at_ms: int) -> None:
        """Have a log followed again from behind an entry, and note why, in one transaction."""
        with self._database.transaction():
            self.faults.add(log, sequence + 1, cause=cause, detail=0, at_ms=at_ms)
            self._database.change(
                "UPDATE cursor SET sequence=? WHERE log=? AND sequence>?", sequence, log, sequence
            )
            self._database.change("DELETE FROM own_entry WHERE log=? AND sequence>?", log, sequence)

    def followed(self, conversation: ConversationId) -> bytes | None:
        """Return what was known of a conversation after its last entry, or None."""
        row = self._database.row("SELECT state FROM followed WHERE conversation=?", conversation)
        return None if row is None else bytes(row[0])

    def owns(self, log: LogId, sequence: int) -> bool:
        """Tell whether an entry beyond the cursor is known to be this device's own."""
        row = self._database.row(
            "SELECT 1 FROM own_entry WHERE log=? AND sequence=?", log, sequence
        )
        return row is not None

    def all_followed(self) -> dict[ConversationId, bytes]:
        """Return the same of every conversation, those that have ended too."""
        rows = self._database.rows("SELECT conversation, state FROM followed")
        return {ConversationId(row[0]): bytes(row[1]) for row in rows}

    def note(self, conversation: ConversationId, state: bytes) -> None:
        """Keep what is known of a conversation, where no entry brought it."""
        with self._database.transaction():
            self._database.change(
                "INSERT OR REPLACE INTO followed VALUES(?,?)", conversation, state
            )

    def left(self, conversation: ConversationId, state: bytes) -> None:
        """Let go of the keys of a conversation that this device is no longer in."""
        with self._database.transaction():
            self.groups.save(conversation, None)
            self._database.change(
                "INSERT OR REPLACE INTO followed VALUES(?,?)", conversation, state
            )
        self.groups.remember(conversation, None)

    def began(self, conversation: ConversationId, group: Group) -> None:
        """Keep a group that this device created.

        Raises:
            UsageError: The conversation has one.
        """
        self.groups.require(conversation, None)
        with self._database.transaction():
            self.groups.save(conversation, group)
        self.groups.remember(conversation, group)

    # -- what goes -----------------------------------------------------------------------------

    def sending(
        self, conversation: ConversationId, before: Group, draft: Draft, *, seal: Seal
    ) -> Message | None:
        """Seal a draft and let it wait in the outbox; return the message to show, if it has one.

        Args:
            conversation: Where to.
            before: The group as ``Groups.get`` gives it.
            draft: What to send.
            seal: Called once; what it raises leaves everything as it was, the id unused.

        Raises:
            UsageError: ``before`` is not the saved group.
        """
        self.groups.require(conversation, before)
        with self._database.transaction():
            message_id = self.outbox.next_id()
            previous_id = self.outbox.last_in(conversation)
            sealed = seal(message_id, previous_id)
            self.groups.save(conversation, sealed.group)
            # A Commit may be voided, and what is held gets its place when it goes: neither is
            # named by the message after it.
            if sealed.stages is None and not draft.held:
                self.outbox.chain(conversation, message_id)
            key = MessageKey(conversation=conversation, sender=draft.sender, message_id=message_id)
            number = self._show(key, draft)
            waiting = Waiting(
                conversation=conversation,
                previous_id=previous_id,
                reference=sealed.stages.reference if sealed.stages else None,
                message=number,
                draft=draft.source,
                held=draft.held,
            )
            self._let_wait(message_id, waiting, sealed)
        self.groups.remember(conversation, sealed.group)
        return self.messages.get(key)

    def resending(
        self, message_id: int, before: Group, *, seal: Seal, relay_last_id: int | None = None
    ) -> int:
        """Seal a waiting message again: the relay refused it as stale, or it was held so far.

        What was held gets a new id where its own is too old for the relay, which has not seen it.

        Args:
            message_id: Of the message.
            before: The group as ``Groups.get`` gives it.
            seal: As for ``sending``.
            relay_last_id: The last id that the relay has, where nothing goes out before this.

        Returns:
            Its id from now on.

        Raises:
            UsageError: No such message waits, or ``before`` is not the saved group.
        """
        waiting = self.outbox.find(message_id)
        if waiting is None:
            raise UsageError("no such message waits")
        conversation = waiting.conversation
        self.groups.require(conversation, before)
        with self._database.transaction():
            now_id, previous_id = message_id, waiting.previous_id
            if waiting.held:
                newest = self.outbox.last_id if relay_last_id is None else relay_last_id
                now_id = self._renumbered(message_id, waiting, newest=newest)
                previous_id = self.outbox.last_in(conversation)
                self.outbox.chain(conversation, now_id)
            sealed = seal(now_id, previous_id)
            self.groups.save(conversation, sealed.group)
            self.outbox.remove(message_id)
            if waiting.reference is not None:
                self.groups.drop(conversation, waiting.reference)
            again = Waiting(
                conversation=conversation,
                previous_id=previous_id,
                reference=sealed.stages.reference if sealed.stages else None,
                message=waiting.message,
                draft=waiting.draft,
            )
            self._let_wait(now_id, again, sealed)
        self.groups.remember(conversation, sealed.group)
        return now_id

    def forgotten(self, relay_last_id: int) -> list[int]:
        """Let wait again what the relay had taken and was set back behind; return its ids.

        What the archive has proved is not lost. The ids stay: who has a message shows it once.

        Args:
            relay_last_id: The last id that the relay knows to have accepted of this device.
        """
        found = []
        with self._database.transaction():
            for message_id, again in self.evidence.forgotten(relay_last_id).items():
                if self.outbox.find(message_id) is not None:
                    continue
                self.evidence.forget(message_id, again)
                if again.message is not None:
                    self.messages.wait_again(again.message, message_id)
                conversation = again.conversation
                self.outbox.break_chain(conversation)
                outgoing = Outgoing(
                    message_id=message_id, conversation=conversation, sealed=b"", welcome=b""
                )
                self.outbox.add(outgoing, again)
                found.append(message_id)
        return found

    def not_again(self, message_id: int, waiting: Waiting, *, cause: int, at_ms: int) -> None:
        """Show that what had gone out before does not go out once more, and note why."""
        log = conversation_log(waiting.conversation)
        with self._database.transaction():
            self.outbox.remove(message_id)
            if waiting.message is not None:
                self.messages.settle(waiting.message, state=State.REFUSED)
            self.faults.add(log, 0, cause=cause, detail=message_id, at_ms=at_ms)

    def drop(self, conversation: ConversationId, reference: bytes) -> None:
        """Let a staged Commit wait no longer: a relay that was restored has lost it."""
        with self._database.transaction():
            self.groups.drop(conversation, reference)

    def accepted(self, sequences: Mapping[int, int]) -> None:
        """Note that the relay has messages, by id, under these sequence numbers of their logs.

        What does not wait any more is left as it is: an answer may come twice.
        """
        with self._database.transaction():
            for message_id, sequence in sequences.items():
                waiting = self.outbox.find(message_id)
                if waiting is None:
                    continue
                if waiting.message is not None:
                    self.messages.settle(waiting.message, state=State.STORED, place=sequence)
                sealed = self.outbox.sealed(message_id)
                self.evidence.keep(message_id, waiting, sequence, sealed)
                self.outbox.remove(message_id)
                self._own(conversation_log(waiting.conversation), sequence)

    def refused(self, message_id: int) -> None:
        """Note that the relay will never take a message; its staged Commit is dropped."""
        waiting = self.outbox.find(message_id)
        if waiting is None:
            return
        with self._database.transaction():
            self.outbox.remove(message_id)
            self.outbox.skip(message_id, waiting)
            if waiting.reference is not None:
                self.groups.drop(waiting.conversation, waiting.reference)
            if waiting.message is not None:
                self.messages.settle(waiting.message, state=State.REFUSED)

    # -- what ends -----------------------------------------------------------------------------

    def purge(self, before_ms: int, conversation: ConversationId | None = None) -> int:
        """Delete messages from before a time, with words, history and states; return how many.

        Args:
            before_ms: By the time that messages carry, milliseconds since the epoch.
            conversation: In one only.
        """
        with self._database.transaction():
            return self.messages.purge(before_ms, conversation)

    def start_over(self, relay_last_id: int) -> None:
        """Let go of all MLS state and of the outbox, as an old copy must; messages stay.

        The device asks to be added again to its conversations, with new key packages.

        Args:
            relay_last_id: The last id that the relay has accepted of this device.
        """
        with self._database.transaction():
            self.messages.give_up_waiting()
            self.groups.forget_all()
            self.outbox.start_over(relay_last_id)
            self._database.change("DELETE FROM own_entry")
        self.groups.forget_memory()

    def destroy_keys(self) -> None:
        """Delete every private key: the first step of a wipe, where the store is open."""
        with self._database.transaction():
            self.groups.forget_all()
            self._database.change("DELETE FROM device_key")
            self._database.change("DELETE FROM outbox")
        self.groups.forget_memory()

    def rekey(self, key: bytes) -> None:
        """Encrypt the store under another key, all of it or nothing.

        Raises:
            UsageError: The key has another length.
        """
        self._database.rekey(key)

    def verify(self) -> None:
        """Read and authenticate every page.

        Raises:
            DamagedError: One is not what was written.
        """
        self._database.verify()

    def close(self) -> None:
        """Let go of file and key; end the process too, where the device locks."""
        self.groups.forget_memory()
        self._database.close()

    # -- parts of transactions -----------------------------------------------------------------

    def _follow(self, entries: Iterable[Entry]) -> dict[ConversationId, Group | None]:
        """Return what each group comes to, having checked each step from the saved value."""
        groups: dict[ConversationId, Group | None] = {}
        for entry in entries:
            if entry.conversation not in groups:
                self.groups.require(entry.conversation, entry.before)
            elif groups[entry.conversation] is not entry.before:
                raise UsageError("an entry goes on from what the one before it came to")
            groups[entry.conversation] = entry.after
        return groups

    def _last(self, entries: Iterable[Entry]) -> dict[LogId, int]:
        """Return the last number of each log, having checked that they ascend."""
        last: dict[LogId, int] = {}
        for entry in (one for one in entries if not one.late):
            before = last.get(entry.log) or self.cursor(entry.log)
            if entry.sequence <= before:
                raise UsageError("an entry has its effect once")
            last[entry.log] = entry.sequence
        return last

    def _advance(self, log: LogId, sequence: int) -> None:
        if sequence <= self.cursor(log):
            raise UsageError("an entry has its effect once")
        self._database.change("DELETE FROM own_entry WHERE log=? AND sequence<=?", log, sequence)
        # What this device appended itself had its effect already.
        while self._database.change(
            "DELETE FROM own_entry WHERE log=? AND sequence=?", log, sequence + 1
        ):
            sequence += 1
        self._database.change("INSERT OR REPLACE INTO cursor VALUES(?,?)", log, sequence)

    def _own(self, log: LogId, sequence: int) -> None:
        """Note an entry that this device appended, which is not delivered to it."""
        cursor = self.cursor(log)
        if sequence == cursor + 1:
            self._advance(log, sequence)
        elif sequence > cursor:
            self._database.change("INSERT OR IGNORE INTO own_entry VALUES(?,?)", log, sequence)

    def _renumbered(self, message_id: int, waiting: Waiting, *, newest: int) -> int:
        if newest - message_id < IN_FLIGHT_MESSAGES:
            return message_id
        again = self.outbox.next_id()
        if waiting.message is not None:
            self.messages.wait_again(waiting.message, again)
        return again

    def _put_back(self, conversation: ConversationId, *, behind: int, epoch: int) -> None:
        """Let what was sent behind a place, and what waits, wait to be sealed for another epoch.

        Under new ids, as the relay answers for those that it has seen; whoever has read it knows it
        by its first.
        """
        found = self.evidence.behind(conversation, behind, epoch=epoch)
        for message_id, said in found.items():
            self.evidence.forget(message_id, said)
        waiting = list(found.values())
        for message_id in self.outbox.waiting_in(conversation):
            one = self.outbox.find(message_id)
            if one is None:
                continue
            self.outbox.remove(message_id)
            draft = one.draft if one.message is None else self._as_it_stands(one.message, epoch)
            if draft:
                waiting.append(replace(one, draft=draft))
        self.outbox.break_chain(conversation)
        for one in waiting:
            again = self.outbox.next_id()
            if one.message is not None:
                self.messages.wait_again(one.message, again)
            outgoing = Outgoing(
                message_id=again, conversation=conversation, sealed=b"", welcome=b""
            )
            self.outbox.add(outgoing, replace(one, previous_id=0, held=True))

    def _keep(self, entry: Entry) -> Collection[MessageKey]:
        for reference in entry.drops:
            self.groups.drop(entry.conversation, reference)
        if entry.stages is not None:
            self.groups.stage(entry.conversation, entry.stages)
        if entry.key_package is not None:
            self.keys.use_package(entry.key_package)
        for cause, detail in entry.faults:
            self.faults.add(
                entry.log, entry.sequence, cause=cause, detail=detail, at_ms=entry.at_ms
            )
        if entry.forks and entry.before is not None:
            epoch = entry.before.epoch
            self._put_back(entry.conversation, behind=entry.sequence, epoch=epoch)
        return [
            effect.key if isinstance(effect, NewMessage) else effect.target
            for effect in entry.effects
            if self.messages.apply(effect, place=entry.sequence, state=State.STORED) is not None
        ]

    def _show(self, key: MessageKey, draft: Draft) -> int | None:
        place = WAITING_PLACE + key.message_id
        for effect in draft.effects:
            number = self.messages.apply(effect, place=place, state=State.WAITING)
            if number is not None and isinstance(effect, Revision | Retraction):
                self._redraft(number)
        if draft.content is None:
            return None
        new = NewMessage(key=key, at_ms=draft.at_ms, content=draft.content, standing=draft.standing)
        return self.messages.apply(new, place=place, state=State.WAITING)

    def _redraft(self, number: int) -> None:
        """Have what is held sealed as it stands now, and not at all once it was taken back.

        Else the others would be shown what its sender has corrected, or taken back, until the
        change came, and for good where that is lost.
        """
        message_id = self.outbox.held_for(number)
        if message_id is None:
            return
        waiting = self.outbox.find(message_id)
        assert waiting is not None  # noqa: S101 - it was found
        draft = self._as_it_stands(number, decode_source(waiting.draft).said_in)
        if draft:
            self.outbox.redraft(message_id, draft)
        else:
            self.outbox.remove(message_id)

    def _as_it_stands(self, number: int, said_in: int | None) -> bytes:
        """Return what a message is sealed from; empty where it says nothing any more."""
        message = self.messages.said(number)
        return b"" if message is None else source_of(message, said_in=said_in)

    def _let_wait(self, message_id: int, waiting: Waiting, sealed: Sealed) -> None:
        outgoing = Outgoing(
            message_id=message_id,
            conversation=waiting.conversation,
            sealed=sealed.message,
            welcome=sealed.welcome,
        )
        if sealed.stages is not None:
            self.groups.stage(waiting.conversation, sealed.stages)
        self.outbox.add(outgoing, waiting)

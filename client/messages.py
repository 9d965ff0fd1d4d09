"""Messages as a device keeps them: typed content, searchable text, who has read what, for how long.

Content is bytes that the caller encoded; beside it stands the text by which people find it. What
happens to messages is an ``Effect``; the store applies effects together with the MLS state that
they came with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from client.database import Database, Row
from client.errors import DamagedError
from crypto.errors import InvalidError
from protocol.authenticated_data import EVERYBODY, Priority, Target, TargetKind
from protocol.identifiers import ConversationId, DeviceId, UserName

NUMBER_MAX = (1 << 63) - 1
"""SQLite's integers; the relay refuses larger message ids as well."""

WAITING_PLACE = 1 << 62
"""Messages that wait to be sent stand behind all of the log, in the order of their ids."""

LOCAL_KINDS = 1000
"""Kinds from which on a row is the program's own and no message of anybody's."""

SEARCH_LIMIT = 200
"""Most hits of one search: more is not looked through, and newer ones come first."""

SEARCH_WORDS = 16
"""Most words of one search; each costs a look-up."""

BULK_PURGE = 200
"""Messages above which a purge rewrites the whole index of words: one by one each costs 0.7 ms,
the index of 100,000 messages some 300 ms."""

_SECURE_DELETE = "INSERT INTO words(words, rank) VALUES('secure-delete', ?)"

# FTS5 must be told the text that it indexed; it does not keep it.
_UNINDEX = """INSERT INTO words(words, rowid, text, tag)
SELECT 'delete', number, text, tag FROM message WHERE"""

_OLD = """at_ms<? AND (? IS NULL OR conversation=?)
AND number NOT IN (SELECT message FROM outbox WHERE message IS NOT NULL)"""

_COLUMNS = """message.number, conversation, sender, message_id, place, at_ms, state, kind, content,
(SELECT count(*) FROM revision WHERE revision.message=message.number),
priority, target_kind, target, asked, hidden"""

_UNMARKED = """SELECT conversation, sender, message_id FROM message
WHERE conversation=? AND place<=? AND NOT hidden AND substr(sender, 1, length(?))=?
AND NOT EXISTS(SELECT 1 FROM person_state
WHERE message=number AND person=? AND person_state.state>=?) ORDER BY place DESC LIMIT ?"""


class State(IntEnum):
    """Where a message stands.

    ``STORED`` is in the conversation's log; ``RETRACTED`` has no content any more.
    """

    WAITING = 0
    STORED = 1
    REFUSED = 2
    RETRACTED = 3


class PersonState(IntEnum):
    """How far a message got with one person; it only rises."""

    DELIVERED = 1
    READ = 2
    ACKNOWLEDGED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKey:
    """One message, the same on all devices."""

    conversation: ConversationId
    sender: DeviceId
    message_id: int

    def __post_init__(self) -> None:
        _check_number(self.message_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a message says.

    Attributes:
        kind: The caller's number of the type.
        data: The caller's encoding.
        text: What a search finds; empty for none.
    """

    kind: int
    data: bytes = field(repr=False)
    text: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_number(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a message stands among the others, beside what it says; no edit changes it.

    Attributes:
        priority: How urgently people were told.
        target: Whom it was meant to reach.
        acknowledgement_asked: Whether its sender wants a person's acknowledgement.
        about: The message that it answers or changes; forgotten where that one is not here.
        hidden: Whether it is kept but is no message of its own to people, as a reaction is.
    """

    priority: Priority = Priority.ROUTINE
    target: Target = EVERYBODY
    acknowledgement_asked: bool = False
    about: MessageKey | None = None
    hidden: bool = False


PLAIN = Standing()
"""A routine message to everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message of somebody, for the first time; a second one of the same key changes nothing.

    Attributes:
        message_hash: SHA-256 of the MLSMessage that brought it; empty for an own one.
    """

    key: MessageKey
    at_ms: int
    content: Content = field(repr=False)
    standing: Standing = PLAIN
    message_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Other content for a message; what it said before stays in its history."""

    target: MessageKey
    at_ms: int
    content: Content = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """No content any more for a message, nor in its history: the archive keeps the original."""

    target: MessageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonMark:
    """A person got, read or acknowledged a message."""

    target: MessageKey
    person: UserName
    state: PersonState
    at_ms: int


Effect = NewMessage | Revision | Retraction | PersonMark
"""Whether the sender of an effect may have it is judged before it comes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it is shown.

    Attributes:
        place: Orders the conversation.
        at_ms: When it was sent, milliseconds since the epoch.
        revisions: How many former versions ``Messages.history`` has.
        standing: Without ``about``, which is asked the other way round.
    """

    key: MessageKey
    place: int
    at_ms: int
    state: State
    content: Content = field(repr=False)
    revisions: int
    standing: Standing = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The last message of a conversation.

    Attributes:
        answered: Whether other messages are about it.
    """

    message: Message
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What somebody has not read yet.

    Attributes:
        count: Messages of others.
        top_priority: The highest among them, None for none.
    """

    count: int
    top_priority: Priority | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerVersion:
    """What a message said before it was edited, from ``at_ms`` on and until ``until_ms``."""

    at_ms: int
    until_ms: int
    content: Content = field(repr=False)


class Messages:
    """The messages of a store; ``Store`` makes the changes inside its transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- reading -------------------------------------------------------------------------------

    def get(self, key: MessageKey) -> Message | None:
        """Return one message, or None."""
        number = self._number(key)
        return None if number is None else self._by_number(number)

    def page(
        self, conversation: ConversationId, *, limit: int, before: int | None = None
    ) -> list[Message]:
        """Return the last messages of a conversation, oldest first.

        Args:
            conversation: Which.
            limit: Most messages.
            before: A place: only messages before it.
        """
        rows = self._database.rows(
            f"""SELECT {_COLUMNS}, text FROM message WHERE conversation=? AND place<? AND NOT hidden
            ORDER BY place DESC LIMIT ?""",  # noqa: S608 - constant columns
            conversation,
            NUMBER_MAX if before is None else before,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    def hash_of(self, key: MessageKey) -> bytes | None:
        """Return the hash by which the archive finds a message, or None where it is not known."""
        row = self._database.row(
            """SELECT hash FROM origin WHERE message=? UNION ALL
            SELECT hash FROM evidence WHERE message=? LIMIT 1""",
            *[self._number(key)] * 2,
        )
        return None if row is None else bytes(row[0])

    def about(self, key: MessageKey) -> list[Message]:
        """Return what answers or changes a message, hidden or not, in the order of the log."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS}, text FROM message WHERE about=? ORDER BY place",  # noqa: S608 - constant columns
            self._number(key),
        )
        return [_message(row) for row in rows]

    def of_kind(self, conversation: ConversationId, kind: int, *, limit: int) -> list[Message]:
        """Return the last messages of one kind, hidden or not, in the order of the log."""
        rows = self._database.rows(
            f"""SELECT {_COLUMNS}, text FROM message WHERE conversation=? AND kind=?
            ORDER BY place DESC LIMIT ?""",  # noqa: S608 - constant columns
            conversation,
            kind,
            limit,
        )
        return [_message(row) for row in reversed(rows)]

    def newest(self) -> dict[ConversationId, Newest]:
        """Return the last message of every conversation that is followed and has one."""
        rows = self._database.rows(
            f"""SELECT EXISTS(SELECT 1 FROM message AS answer WHERE answer.about=message.number),
            {_COLUMNS}, text FROM message WHERE number IN (SELECT (SELECT number FROM message
            WHERE message.conversation=followed.conversation AND NOT hidden
            ORDER BY place DESC LIMIT 1) FROM followed)"""  # noqa: S608 - constant columns
        )
        found = (Newest(message=_message(row[1:]), answered=bool(row[0])) for row in rows)
        return {one.message.key.conversation: one for one in found}

    def recent(self, messages: int) -> dict[ConversationId, int]:
        """Return when the newest message of each conversation was sent, the newest first.

        Args:
            messages: Among how many of the last ones it looks; others have no conversation here.
        """
        rows = self._database.rows(
            """SELECT conversation, max(at_ms) FROM (SELECT conversation, at_ms FROM message
            WHERE NOT hidden ORDER BY at_ms DESC LIMIT ?) GROUP BY conversation ORDER BY 2 DESC""",
            messages,
        )
        return {ConversationId(conversation): int(at_ms) for conversation, at_ms in rows}

    def stat(self) -> dict[ConversationId, int]:
        """Return in which conversations something is STAT, and the last place of it."""
        # The priority is written out, or SQLite would not see that the index has it.
        rows = self._database.rows(
            f"""SELECT conversation, max(place) FROM message WHERE priority={Priority.STAT:d}
            GROUP BY conversation"""  # noqa: S608 - a constant
        )
        return {ConversationId(conversation): int(place) for conversation, place in rows}

    def newest_of_kind(self, kind: int) -> dict[ConversationId, bytes]:
        """Return what the last message of one kind says in each followed conversation with one."""
        rows = self._database.rows(
            """SELECT conversation, content FROM message WHERE number IN (SELECT (SELECT number
            FROM message WHERE message.conversation=followed.conversation AND kind=?
            ORDER BY place DESC LIMIT 1) FROM followed)""",
            kind,
        )
        return {ConversationId(conversation): bytes(data) for conversation, data in rows}

    def unread(self, conversation: ConversationId, *, after: int, reader: UserName) -> Unread:
        """Return what others said after a place, as far as it is shown at all."""
        row = self._database.row(
            """SELECT count(*), max(priority) FROM message WHERE conversation=? AND place>?
            AND NOT hidden AND state<>? AND kind<? AND substr(sender, 1, length(?))<>?""",
            conversation,
            after,
            State.RETRACTED,
            LOCAL_KINDS,
            *_of_person(reader),
        )
        count, top = row if row is not None else (0, None)
        return Unread(count=count, top_priority=None if top is None else Priority(top))

    def unmarked(
        self,
        conversation: ConversationId,
        *,
        author: UserName,
        person: UserName,
        state: PersonState,
        through: int,
        limit: int,
    ) -> list[MessageKey]:
        """Return the newest messages that did not get that far with a person yet.

        Args:
            conversation: Where.
            author: Whose messages.
            person: With whom.
            state: How far.
            through: A place: none behind it.
            limit: Most messages.
        """
        rows = self._database.rows(
            _UNMARKED, conversation, through, *_of_person(author), person, state, limit
        )
        return [MessageKey(conversation=c, sender=s, message_id=i) for c, s, i in rows]

    def search(
        self, text: str, *, conversation: ConversationId | None = None, limit: int = SEARCH_LIMIT
    ) -> list[Message]:
        """Return messages that have every word of ``text``, or words that begin so; newest first.

        Args:
            text: As it was typed; nothing in it is an operator.
            conversation: Search in one only.
            limit: Most hits, at most ``SEARCH_LIMIT``.
        """
        query = _query(text, conversation)
        if query is None:
            return []
        rows = self._database.rows(
            f"""SELECT {_COLUMNS}, message.text FROM words
            JOIN message ON message.number=words.rowid
            WHERE words MATCH ? ORDER BY words.rowid DESC LIMIT ?""",  # noqa: S608 - constant columns
            query,
            min(limit, SEARCH_LIMIT),
        )
        return [_message(row) for row in rows]

    def history(self, key: MessageKey) -> list[FormerVersion]:
        """Return what a message said before it was edited, oldest first."""
        rows = self._database.rows(
            """SELECT message.at_ms, revision.at_ms, revision.kind, revision.content, revision.text
            FROM revision JOIN message ON message.number=revision.message
            WHERE revision.message=? ORDER BY version""",
            self._number(key),
        )
        # Each row has until when it said so: that is from when on it said the next.
        began_ms = [at_ms for at_ms, *_ in rows[:1]] + [until_ms for _, until_ms, *_ in rows]
        return [
            FormerVersion(
                at_ms=from_ms,
                until_ms=until_ms,
                content=Content(kind=kind, data=data, text=text),
            )
            for from_ms, (_, until_ms, kind, data, text) in zip(began_ms, rows, strict=False)
        ]

    def people(self, key: MessageKey) -> dict[UserName, tuple[PersonState, int]]:
        """Return how far a message got with each person, and since when."""
        rows = self._database.rows(
            "SELECT person, state, at_ms FROM person_state WHERE message=?", self._number(key)
        )
        return {UserName(person): (PersonState(state), at) for person, state, at in rows}

    def numbered(self, kind: int, *, after: int) -> list[tuple[int, Message]]:
        """Return messages of one kind in the order in which they came, behind a number."""
        rows = self._database.rows(
            f"""SELECT {_COLUMNS}, text FROM message WHERE kind=? AND number>?
            ORDER BY number""",  # noqa: S608 - constant columns
            kind,
            after,
        )
        return [(int(row[0]), _message(row)) for row in rows]

    # -- changes, inside the store's transactions ----------------------------------------------

    def apply(self, effect: Effect, *, place: int, state: State) -> int | None:
        """Do what an effect says; return the number of the message, None where there is none.

        Args:
            effect: One on a message that is not (or no longer) here does nothing.
            place: Of a new message.
            state: Of a new message.
        """
        if isinstance(effect, NewMessage):
            return self._add(effect, place=place, state=state)
        number = self._number(effect.target)
        if number is None:
            return None
        if isinstance(effect, Revision):
            self._revise(number, effect)
        elif isinstance(effect, Retraction):
            self._retract(number)
        else:
            self._mark(number, effect)
        return number

    def settle(self, number: int, *, state: State, place: int | None = None) -> None:
        """Note what became of a message that waited to be sent."""
        self._database.change(
            "UPDATE message SET place=coalesce(?, place) WHERE number=?", place, number
        )
        # What was retracted meanwhile stays so.
        self._database.change(
            "UPDATE message SET state=? WHERE number=? AND state=?", state, number, State.WAITING
        )

    def stored(self, number: int) -> Message | None:
        """Return an own message that the relay has, or None where it says nothing any more."""
        found = self._by_number(number)
        return found if found is not None and found.state is State.STORED else None

    def said(self, number: int) -> Message | None:
        """Return a message as it stands, or None where it says nothing any more."""
        found = self._by_number(number)
        return None if found is None or found.state is State.RETRACTED else found

    def wait_again(self, number: int, message_id: int) -> None:
        """Let a message wait under an id for the relay; its conversation knows it by its first."""
        # What was retracted meanwhile stays so.
        self._database.change(
            """UPDATE message SET place=?, state=CASE state WHEN ? THEN ? ELSE state END
            WHERE number=?""",
            WAITING_PLACE + message_id,
            State.STORED,
            State.WAITING,
            number,
        )

    def give_up_waiting(self) -> None:
        """Show what waits as refused: the person may send it again."""
        self._database.change(
            "UPDATE message SET state=? WHERE state=?", State.REFUSED, State.WAITING
        )

    def purge(self, before_ms: int, conversation: ConversationId | None = None) -> int:
        """Delete messages that are older, but none that still waits; return how many."""
        old = (before_ms, conversation, conversation)
        row = self._database.row(f"SELECT count(*) FROM message WHERE {_OLD}", *old)  # noqa: S608 - constant condition
        count = int(row[0]) if row else 0
        if count > BULK_PURGE:
            self._database.change(_SECURE_DELETE, 0)
        self._database.change(
            f"{_UNINDEX} {_OLD}",
            *old,
        )
        self._database.change(f"DELETE FROM message WHERE {_OLD}", *old)  # noqa: S608 - constant condition
        if count > BULK_PURGE:
            self._database.change("INSERT INTO words(words) VALUES('optimize')")
            self._database.change(_SECURE_DELETE, 1)
        return count

    def _add(self, new: NewMessage, *, place: int, state: State) -> int | None:
        if self._number(new.key) is not None:
            return None
        number = self._database.insert(
            """INSERT INTO message(conversation, sender, message_id, place, at_ms, state, kind,
            content, text, priority, target_kind, target, asked, about, hidden)
            VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)""",
            new.key.conversation,
            new.key.sender,
            new.key.message_id,
            place,
            new.at_ms,
            state,
            new.content.kind,
            new.content.data,
            new.content.text,
            *self._columns(new.standing),
        )
        self._index(number)
        if new.message_hash:
            self._database.change("INSERT INTO origin VALUES(?,?)", number, new.message_hash)
        return number

    def _columns(self, standing: Standing) -> tuple[str | int | None, ...]:
        return (
            standing.priority,
            standing.target.kind,
            standing.target.name,
            standing.acknowledgement_asked,
            None if standing.about is None else self._number(standing.about),
            standing.hidden,
        )

    def _revise(self, number: int, revision: Revision) -> None:
        changed = self._database.change(
            """INSERT INTO revision SELECT number,
            (SELECT count(*) FROM revision WHERE message=number), ?, kind, content, text
            FROM message WHERE number=? AND state<>?""",
            revision.at_ms,
            number,
            State.RETRACTED,
        )
        if changed:
            self._replace(number, revision.content)

    def _retract(self, number: int) -> None:
        self._replace(number, Content(kind=0, data=b"", text=""))
        self._database.change("DELETE FROM revision WHERE message=?", number)
        self._database.change("UPDATE message SET state=? WHERE number=?", State.RETRACTED, number)

    def _mark(self, number: int, mark: PersonMark) -> None:
        self._database.change(
            """INSERT INTO person_state VALUES(?,?,?,?) ON CONFLICT DO UPDATE
            SET state=excluded.state, at_ms=excluded.at_ms WHERE excluded.state>state""",
            number,
            mark.person,
            mark.state,
            mark.at_ms,
        )

    def _replace(self, number: int, content: Content) -> None:
        self._unindex(number)
        self._database.change(
            "UPDATE message SET kind=?, content=?, text=? WHERE number=?",
            content.kind,
            content.data,
            content.text,
            number,
        )
        self._index(number)

    def _index(self, number: int) -> None:
        self._database.change(
            """INSERT INTO words(rowid, text, tag) SELECT number, text, tag FROM message
            WHERE number=?""",
            number,
        )

    def _unindex(self, number: int) -> None:
        self._database.change(
            f"{_UNINDEX} number=?",
            number,
        )

    def _number(self, key: MessageKey) -> int | None:
        row = self._database.row(
            "SELECT number FROM message WHERE conversation=? AND sender=? AND message_id=?",
            key.conversation,
            key.sender,
            key.message_id,
        )
        return None if row is None else int(row[0])

    def id_of(self, number: int | None) -> int:
        """Return the id by which its conversation knows a message, 0 where there is none."""
        # Asked for each message that the relay has taken: nothing else of it is read.
        row = self._database.row("SELECT message_id FROM message WHERE number=?", number)
        return 0 if row is None else int(row[0])

    def _by_number(self, number: int) -> Message | None:
        row = self._database.row(
            f"SELECT {_COLUMNS}, text FROM message WHERE number=?",  # noqa: S608 - constant columns
            number,
        )
        return None if row is None else _message(row)


def _message(row: Row) -> Message:
    _, conversation, sender, message_id, place, at_ms, state, kind, content, revisions, *rest = row
    *standing, text = rest
    try:
        key = MessageKey(conversation=conversation, sender=sender, message_id=message_id)
        return Message(
            key=key,
            place=place,
            at_ms=at_ms,
            state=State(state),
            content=Content(kind=kind, data=content, text=text),
            revisions=revisions,
            standing=_standing(standing),
        )
    except (ValueError, InvalidError):
        raise DamagedError("database") from None


def _standing(columns: list[Any]) -> Standing:
    priority, target_kind, target, asked, hidden = columns
    return Standing(
        priority=Priority(priority),
        target=Target(kind=TargetKind(target_kind), name=target),
        acknowledgement_asked=bool(asked),
        hidden=bool(hidden),
    )


def _of_person(person: UserName) -> tuple[str, str]:
    """Return how a sender's device begins, twice: for its length and to compare."""
    return f"{person}/", f"{person}/"


def _query(text: str, conversation: ConversationId | None) -> str | None:
    """Return FTS5's query for typed text: each word quoted, each as a beginning; None for none."""
    words = "".join(c if c.isalnum() else " " for c in text).split()[:SEARCH_WORDS]
    if not words:
        return None
    query = "text : ({})".format(" AND ".join(f'"{word}"*' for word in words))
    return query if conversation is None else f'{query} AND tag : "{conversation.hex()}"'


def _check_number(number: int) -> None:
    if not 0 <= number <= NUMBER_MAX:
        raise InvalidError("a stored number has 63 bits")

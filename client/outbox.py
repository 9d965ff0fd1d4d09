"""What waits to be sent, in order, each under one message id for ever.

The ids are a counter over all that the device sends. An id is given, its key used and its
ciphertext written in one transaction, so after a restart the same bytes go out under the same id,
and the relay knows a repeat. The bytes are handed out only for the relay's own count of this
device's messages: where that is ahead, this store is an old copy, and whatever it sealed since may
have used a key that the other copy used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from client.database import Database
from client.errors import RolledBackError
from protocol.identifiers import ConversationId
from protocol.limits import IN_FLIGHT_MESSAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message as it goes to the relay.

    Attributes:
        sealed: An MLSMessage.
        welcome: For a Commit that adds somebody, else empty.
    """

    message_id: int
    conversation: ConversationId
    sealed: bytes = field(repr=False)
    welcome: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the store knows of a message in the outbox beside its bytes.

    Attributes:
        reference: Of the staged Commit that it carries, if it is one.
        message: Number of the message that is shown for it, if one is.
        draft: What it is sealed from, as the caller wrote it.
        held: Whether it was never sent and is not to be, until it is sealed again.
    """

    conversation: ConversationId
    previous_id: int
    reference: bytes | None
    message: int | None
    draft: bytes = field(default=b"", repr=False)
    held: bool = False


class Outbox:
    """The outbox of a store; ``Store`` makes the changes inside its transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def last_id(self) -> int:
        """The last message id that was given, 0 before the first."""
        row = self._database.row("SELECT last_id FROM counter")
        return int(row[0]) if row else 0

    def to_send(
        self, relay_last_id: int, *, after: int = 0, limit: int = IN_FLIGHT_MESSAGES
    ) -> list[Outgoing]:
        """Return what waits, in the order of ids; ask again after each reconnection.

        Args:
            relay_last_id: The last id that the relay has accepted of this device, as it said when
                this connection was opened.
            after: Leave out ids up to this one: those that went out on this connection.
            limit: Most messages.

        Raises:
            RolledBackError: The relay is ahead of this store.
        """
        if relay_last_id > self.last_id:
            raise RolledBackError(have=self.last_id, seen=relay_last_id)
        rows = self._database.rows(
            """SELECT message_id, conversation, sealed, welcome FROM outbox WHERE message_id>?
            AND NOT held ORDER BY message_id LIMIT ?""",
            after,
            limit,
        )
        return [
            Outgoing(message_id=number, conversation=conversation, sealed=sealed, welcome=welcome)
            for number, conversation, sealed, welcome in rows
        ]

    def find(self, message_id: int) -> Waiting | None:
        """Return what is known of a message that waits, or None where none with this id does."""
        row = self._database.row(
            """SELECT conversation, previous_id, reference, message, draft, held FROM outbox
            WHERE message_id=?""",
            message_id,
        )
        if row is None:
            return None
        return Waiting(
            conversation=row[0],
            previous_id=row[1],
            reference=row[2],
            message=row[3],
            draft=row[4],
            held=bool(row[5]),
        )

    def sealed(self, message_id: int) -> bytes | None:
        """Return the bytes that go out under an id, or None where none wait."""
        row = self._database.row("SELECT sealed FROM outbox WHERE message_id=?", message_id)
        return None if row is None else bytes(row[0])

    def waiting_in(self, conversation: ConversationId) -> list[int]:
        """Return the ids that wait in a conversation, Commits left out, ascending."""
        rows = self._database.rows(
            """SELECT message_id FROM outbox WHERE conversation=? AND reference IS NULL
            ORDER BY message_id""",
            conversation,
        )
        return [row[0] for row in rows]

    def waiting_anywhere(self) -> set[ConversationId]:
        """Return the conversations in which something waits that may have gone out."""
        rows = self._database.rows("SELECT DISTINCT conversation FROM outbox WHERE NOT held")
        return {ConversationId(row[0]) for row in rows}

    def held_in(self) -> list[ConversationId]:
        """Return the conversations in which messages are held."""
        rows = self._database.rows("SELECT DISTINCT conversation FROM outbox WHERE held")
        return [ConversationId(row[0]) for row in rows]

    @property
    def size(self) -> int:
        """How many messages wait."""
        row = self._database.row("SELECT count(*) FROM outbox")
        return int(row[0]) if row else 0

    @property
    def said(self) -> int:
        """How many of those say something: Commits left out."""
        row = self._database.row("SELECT count(*) FROM outbox WHERE reference IS NULL")
        return int(row[0]) if row else 0

    def waits_after(self, message_id: int) -> bool:
        """Tell whether a message that was said after another one waits."""
        query = "SELECT 1 FROM outbox WHERE message_id>? LIMIT 1"
        return self._database.row(query, message_id) is not None

    # -- changes, inside the store's transactions ----------------------------------------------

    def next_id(self) -> int:
        """Count up."""
        message_id = self.last_id + 1
        self._database.change("UPDATE counter SET last_id=?", message_id)
        return message_id

    def last_in(self, conversation: ConversationId) -> int:
        """Return this device's last message id in a conversation, 0 for none."""
        row = self._database.row("SELECT message_id FROM sent WHERE conversation=?", conversation)
        return 0 if row is None else int(row[0])

    def chain(self, conversation: ConversationId, message_id: int) -> None:
        """Let the next message of a conversation name this one."""
        self._database.change("INSERT OR REPLACE INTO sent VALUES(?,?)", conversation, message_id)

    def add(self, outgoing: Outgoing, waiting: Waiting) -> None:
        """Let a message wait."""
        self._database.change(
            "INSERT INTO outbox VALUES(?,?,?,?,?,?,?,?,?)",
            outgoing.message_id,
            outgoing.conversation,
            waiting.previous_id,
            outgoing.sealed,
            outgoing.welcome,
            waiting.reference,
            waiting.message,
            waiting.draft,
            int(waiting.held),
        )

    def held_for(self, message: int) -> int | None:
        """Return the id under which a message that is shown is held, or None."""
        row = self._database.row("SELECT message_id FROM outbox WHERE message=? AND held", message)
        return None if row is None else int(row[0])

    def redraft(self, message_id: int, draft: bytes) -> None:
        """Let something else be sealed under an id than was said first."""
        self._database.change("UPDATE outbox SET draft=? WHERE message_id=?", draft, message_id)

    def remove(self, message_id: int) -> None:
        """Let it wait no longer."""
        self._database.change("DELETE FROM outbox WHERE message_id=?", message_id)

    def skip(self, message_id: int, waiting: Waiting) -> None:
        """Let the next message name the one before this, which never came into its log."""
        self._database.change(
            "UPDATE sent SET message_id=? WHERE conversation=? AND message_id=?",
            waiting.previous_id,
            waiting.conversation,
            message_id,
        )
        self._database.change("DELETE FROM sent WHERE message_id=0")

    def break_chain(self, conversation: ConversationId) -> None:
        """Let the next message of a conversation name none: nobody has got the last ones."""
        self._database.change("DELETE FROM sent WHERE conversation=?", conversation)

    def start_over(self, last_id: int) -> None:
        """Forget what waits and go on counting after ``last_id``."""
        self._database.change("DELETE FROM outbox")
        # What was given up never comes into its log: the next message names none before it.
        self._database.change("DELETE FROM sent")
        self._database.change("UPDATE counter SET last_id=max(last_id, ?)", last_id)

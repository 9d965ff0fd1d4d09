"""Which own messages the archive has proved to have."""

from __future__ import annotations

import hashlib

from client.database import Database
from client.messages import MessageKey
from client.outbox import Waiting
from protocol.identifiers import ConversationId
from protocol.routing import epoch_of


class Evidence:
    """The hash of each own message as it went out, and whether the archive's log holds it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def hash_of(self, conversation: ConversationId, sequence: int) -> bytes | None:
        """Return the hash of the own message at a place of a log, or None."""
        row = self._database.row(
            "SELECT hash FROM evidence WHERE conversation=? AND sequence=?", conversation, sequence
        )
        return None if row is None else bytes(row[0])

    def is_archived(self, key: MessageKey) -> bool:
        """Tell whether the archive has proved that it has a message."""
        row = self._database.row(
            """SELECT archived FROM evidence JOIN message ON number=evidence.message
            WHERE message.conversation=? AND sender=? AND message_id=?""",
            key.conversation,
            key.sender,
            key.message_id,
        )
        return row is not None and bool(row[0])

    def oldest_ms(self) -> int | None:
        """Return when the oldest message was sent that is not proved yet."""
        row = self._database.row("SELECT min(at_ms) FROM evidence WHERE NOT archived")
        return None if row is None else row[0]

    def unproved(
        self, *, after: int, before_ms: int, most: int
    ) -> list[tuple[int, ConversationId, int, bytes]]:
        """Return own messages that are not proved: number, conversation, place and hash.

        Args:
            after: Behind this number.
            before_ms: Sent before this time, milliseconds since the epoch.
            most: How many at most; in the order of their numbers.
        """
        rows = self._database.rows(
            """SELECT message, conversation, sequence, hash FROM evidence
            WHERE NOT archived AND message>? AND at_ms<? ORDER BY message LIMIT ?""",
            after,
            before_ms,
            most,
        )
        return [(row[0], ConversationId(row[1]), row[2], bytes(row[3])) for row in rows]

    def prove(self, conversation: ConversationId, sequence: int) -> MessageKey | None:
        """Note that the archive has a message; return which, or None where it was known."""
        with self._database.transaction():
            changed = self._database.change(
                """UPDATE evidence SET archived=1 WHERE conversation=? AND sequence=?
                AND NOT archived""",
                conversation,
                sequence,
            )
        if not changed:
            return None
        row = self._database.row(
            """SELECT sender, message_id FROM evidence JOIN message ON number=evidence.message
            WHERE evidence.conversation=? AND sequence=?""",
            conversation,
            sequence,
        )
        if row is None:
            return None
        return MessageKey(conversation=conversation, sender=row[0], message_id=row[1])

    def behind(self, conversation: ConversationId, sequence: int, *, epoch: int) -> list[int]:
        """Return the numbers of own messages of an epoch behind a place of a log, in their order.

        What the archive has proved is left out: it was in that epoch.
        """
        rows = self._database.rows(
            """SELECT message FROM evidence WHERE conversation=? AND sequence>? AND epoch=?
            AND NOT archived ORDER BY sequence""",
            conversation,
            sequence,
            epoch,
        )
        return [row[0] for row in rows]

    def forgotten(self, relay_last_id: int) -> list[tuple[int, int, int]]:
        """Return own messages that the relay has forgotten and nobody has proved.

        Of each its id, its number, and the epoch that it went out in.

        Args:
            relay_last_id: The last id that the relay knows to have accepted of this device.
        """
        rows = self._database.rows(
            """SELECT message_id, number, epoch FROM evidence
            JOIN message ON number=evidence.message
            WHERE NOT archived AND message_id>? ORDER BY message_id""",
            relay_last_id,
        )
        return [(row[0], row[1], row[2]) for row in rows]

    # -- changes, inside the store's transactions ----------------------------------------------

    def forget(self, number: int) -> None:
        """Forget how a message is known to the archive: it goes out once more."""
        self._database.change("DELETE FROM evidence WHERE message=?", number)

    def keep(self, waiting: Waiting, sequence: int, sealed: bytes | None) -> None:
        """Keep what a message is known by, once the relay has it."""
        self._database.change(
            """INSERT OR REPLACE INTO evidence
            SELECT number, conversation, ?, ?, at_ms, 0, ? FROM message WHERE number=?""",
            sequence,
            hashlib.sha256(sealed or b"").digest(),
            epoch_of(sealed) if sealed else -1,
            waiting.message,
        )

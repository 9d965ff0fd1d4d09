"""Which own messages the archive has proved to have, and what is to be said once more."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from client.database import Database
from client.messages import MessageKey, Messages
from client.outbox import Waiting
from client.records import decode_source, encode_source, source_of
from crypto.errors import DecodeError, InvalidError
from protocol.content import Acknowledgement, Delivered, Edit, Read, Retraction, decode
from protocol.identifiers import ConversationId
from protocol.routing import epoch_of


class Evidence:
    """The hash of each own message as it went out, and whether the archive's log holds it.

    And what else this device said, until it does: it goes out again where a relay has lost it.
    """

    def __init__(self, database: Database, messages: Messages) -> None:
        self._database = database
        self._messages = messages

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
            WHERE message.conversation=? AND sender=? AND message.message_id=?""",
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
            self._database.change(
                "DELETE FROM change WHERE conversation=? AND sequence=?", conversation, sequence
            )
        if not changed:
            return None
        row = self._database.row(
            """SELECT sender, message.message_id
            FROM evidence JOIN message ON number=evidence.message
            WHERE evidence.conversation=? AND sequence=?""",
            conversation,
            sequence,
        )
        if row is None:
            return None
        return MessageKey(conversation=conversation, sender=row[0], message_id=row[1])

    def behind(
        self, conversation: ConversationId, sequence: int, *, epoch: int
    ) -> dict[int, Waiting]:
        """Return what this device said in an epoch behind a place of a log, by ids, in its order.

        What the archive has proved is left out: it was in that epoch.
        """
        return self._again(
            "conversation=? AND sequence>? AND epoch=?", conversation, sequence, epoch
        )

    def forgotten(self, relay_last_id: int) -> dict[int, Waiting]:
        """Return what the relay has forgotten and nobody has proved, by ids, in its order.

        Args:
            relay_last_id: The last id that the relay knows to have accepted of this device.
        """
        return self._again("message_id>?", relay_last_id)

    def _again(self, which: str, *values: bytes | int) -> dict[int, Waiting]:
        """Return what is to wait once more: messages as they stand, changes as they were said."""
        rows = self._database.rows(
            f"""SELECT message_id, conversation, epoch, message, draft FROM (
            SELECT coalesce(nullif(evidence.message_id, 0), message.message_id) AS message_id,
            message.conversation AS conversation, epoch, message, x'' AS draft, sequence
            FROM evidence JOIN message ON number=message WHERE NOT archived
            UNION ALL SELECT message_id, conversation, epoch, NULL, draft, sequence FROM change
            ) WHERE {which} ORDER BY message_id""",  # noqa: S608 - this module's own words
            *values,
        )
        found = {}
        for message_id, conversation, epoch, number, kept in rows:
            draft = self._draft(number, kept, epoch)
            if draft:
                found[message_id] = Waiting(
                    conversation=ConversationId(conversation),
                    previous_id=0,
                    reference=None,
                    message=number,
                    draft=draft,
                    held=True,
                )
        return found

    def _draft(self, number: int | None, kept: bytes, epoch: int) -> bytes:
        if number is None:
            return encode_source(replace(decode_source(bytes(kept)), said_in=epoch))
        message = self._messages.stored(number)
        return b"" if message is None else source_of(message, said_in=epoch)

    # -- changes, inside the store's transactions ----------------------------------------------

    def forget(self, message_id: int, waiting: Waiting) -> None:
        """Forget how something is known to the archive: it goes out once more."""
        self._database.change("DELETE FROM evidence WHERE message=?", waiting.message)
        self._database.change("DELETE FROM change WHERE message_id=?", message_id)

    def keep(self, message_id: int, waiting: Waiting, sequence: int, sealed: bytes | None) -> None:
        """Keep what something is known by, once the relay has it; of a Commit nothing."""
        if waiting.message is None:
            self._keep_change(message_id, waiting, sequence, sealed)
            return
        self._database.change(
            """INSERT OR REPLACE INTO evidence
            SELECT number, conversation, ?, ?, at_ms, 0, ?, ? FROM message WHERE number=?""",
            sequence,
            hashlib.sha256(sealed or b"").digest(),
            epoch_of(sealed) if sealed else -1,
            message_id,
            waiting.message,
        )

    def _keep_change(
        self, message_id: int, waiting: Waiting, sequence: int, sealed: bytes | None
    ) -> None:
        is_change = sealed and waiting.draft and waiting.reference is None
        subject = _subject(waiting.draft) if is_change else ""
        if sealed and subject:
            self._database.change(
                "INSERT OR REPLACE INTO change VALUES(?,?,?,?,?,?)",
                waiting.conversation,
                subject,
                message_id,
                sequence,
                epoch_of(sealed),
                waiting.draft,
            )


def _subject(draft: bytes) -> str:
    """Return what a change is about: the last about the same is all that is to be said again.

    An older text that came after the newer one would stand in its place.
    """
    try:
        content = decode(decode_source(draft).plaintext)
    except (DecodeError, InvalidError):
        return ""
    if isinstance(content, Read | Delivered):
        return type(content).__name__
    if isinstance(content, Edit | Retraction):
        return f"text {content.target.sender} {content.target.message_id}"
    if isinstance(content, Acknowledgement):
        return f"acknowledged {content.target.sender} {content.target.message_id}"
    return ""

"""The tables of a device's store, and how an older store becomes a newer one.

``MIGRATIONS[n]`` leads from version n to n + 1; ``PRAGMA user_version`` says where a store stands.
What has been released is never edited: the next change is appended.
"""

from __future__ import annotations

from collections.abc import Sequence

from client.database import Database
from client.errors import NewerVersionError

Migration = tuple[str, ...]

MIGRATIONS: tuple[Migration, ...] = (
    (
        # MLS records by conversation and record key; one staged Commit's own beside them.
        """CREATE TABLE mls(conversation BLOB, part TEXT, record BLOB NOT NULL,
        PRIMARY KEY(conversation, part)) WITHOUT ROWID""",
        """CREATE TABLE staged(conversation BLOB, reference BLOB, about BLOB NOT NULL,
        removes INTEGER NOT NULL, PRIMARY KEY(conversation, reference)) WITHOUT ROWID""",
        """CREATE TABLE staged_mls(conversation BLOB, reference BLOB, part TEXT,
        record BLOB NOT NULL, PRIMARY KEY(conversation, reference, part)) WITHOUT ROWID""",
        """CREATE TABLE key_package(reference BLOB PRIMARY KEY, secrets BLOB NOT NULL,
        last_resort INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE TABLE device_key(name TEXT PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE cursor(log BLOB PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID",
        # place orders a conversation: the log's sequence number, or beyond all of them while it
        # waits to be sent.
        """CREATE TABLE message(number INTEGER PRIMARY KEY, conversation BLOB NOT NULL,
        sender TEXT NOT NULL, message_id INTEGER NOT NULL, place INTEGER NOT NULL,
        at_ms INTEGER NOT NULL, state INTEGER NOT NULL, kind INTEGER NOT NULL,
        content BLOB NOT NULL, text TEXT NOT NULL,
        tag TEXT AS (lower(hex(conversation))) VIRTUAL)""",
        "CREATE UNIQUE INDEX message_key ON message(conversation, sender, message_id)",
        "CREATE INDEX message_place ON message(conversation, place)",
        "CREATE INDEX message_age ON message(at_ms)",
        """CREATE TABLE revision(message INTEGER REFERENCES message ON DELETE CASCADE,
        version INTEGER, at_ms INTEGER NOT NULL, kind INTEGER NOT NULL, content BLOB NOT NULL,
        text TEXT NOT NULL, PRIMARY KEY(message, version)) WITHOUT ROWID""",
        """CREATE TABLE person_state(message INTEGER REFERENCES message ON DELETE CASCADE,
        person TEXT, state INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY(message, person)) WITHOUT ROWID""",
        # tag is in the index so that a search in one conversation passes over all others.
        """CREATE VIRTUAL TABLE words USING fts5(text, tag, content='message',
        content_rowid='number', tokenize='unicode61 remove_diacritics 2', prefix='2 3')""",
        # Or a deleted word would stay in the index until two of its parts happen to be merged.
        "INSERT INTO words(words, rank) VALUES('secure-delete', 1)",
        # previous_id is the sender's message before in that conversation, 0 for none.
        """CREATE TABLE outbox(message_id INTEGER PRIMARY KEY, conversation BLOB NOT NULL,
        previous_id INTEGER NOT NULL, sealed BLOB NOT NULL, welcome BLOB NOT NULL,
        reference BLOB, message INTEGER)""",
        """CREATE TABLE sent(conversation BLOB PRIMARY KEY, message_id INTEGER NOT NULL)
        WITHOUT ROWID""",
        "CREATE TABLE counter(id INTEGER PRIMARY KEY CHECK(id = 1), last_id INTEGER NOT NULL)",
        "INSERT INTO counter VALUES(1, 0)",
        """CREATE TABLE cached(kind TEXT, key BLOB, value BLOB NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY(kind, key)) WITHOUT ROWID""",
        "CREATE TABLE setting(name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
    (
        # How a message stands among the others. about is set to none and never deletes: a deleted
        # row must leave the index of words first.
        "ALTER TABLE message ADD COLUMN priority INTEGER NOT NULL DEFAULT 2",
        "ALTER TABLE message ADD COLUMN target_kind INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN target TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE message ADD COLUMN asked INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE message ADD COLUMN about INTEGER REFERENCES message ON DELETE SET NULL",
        "CREATE INDEX message_about ON message(about) WHERE about IS NOT NULL",
        "CREATE INDEX message_kind ON message(conversation, kind, place)",
    ),
    (
        # What a message in the outbox is sealed from, to seal it again; held: never sent so far.
        "ALTER TABLE outbox ADD COLUMN draft BLOB NOT NULL DEFAULT x''",
        "ALTER TABLE outbox ADD COLUMN held INTEGER NOT NULL DEFAULT 0",
        # Entries of this device's own beyond the cursor: nobody delivers them to their sender.
        """CREATE TABLE own_entry(log BLOB, sequence INTEGER, PRIMARY KEY(log, sequence))
        WITHOUT ROWID""",
        # What was known of a conversation when its last entry had its effect.
        "CREATE TABLE followed(conversation BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE fault(log BLOB, sequence INTEGER, cause INTEGER, detail INTEGER,
        at_ms INTEGER NOT NULL, PRIMARY KEY(log, sequence, cause, detail)) WITHOUT ROWID""",
        # By which an own message is known again in the archive's log.
        """CREATE TABLE evidence(message INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
        conversation BLOB NOT NULL, sequence INTEGER NOT NULL, hash BLOB NOT NULL,
        at_ms INTEGER NOT NULL, archived INTEGER NOT NULL DEFAULT 0)""",
        "CREATE INDEX evidence_place ON evidence(conversation, sequence)",
        "CREATE INDEX evidence_waits ON evidence(at_ms) WHERE NOT archived",
    ),
    (
        # By which another's message is known again in the archive's log, where it is handed over.
        """CREATE TABLE origin(message INTEGER PRIMARY KEY REFERENCES message ON DELETE CASCADE,
        hash BLOB NOT NULL)""",
    ),
    (
        # What is STAT is shown above every list, and is asked for each time one is drawn.
        "CREATE INDEX message_stat ON message(conversation, place) WHERE priority=4",
    ),
    (
        # The epoch that an own message went out in: whoever came in later is not sent it again.
        "ALTER TABLE evidence ADD COLUMN epoch INTEGER NOT NULL DEFAULT -1",
    ),
    (
        # What this device said that is no message of its own, until the archive has proved that it
        # has it: else a relay that was restored may have lost it. The last of each subject.
        """CREATE TABLE change(conversation BLOB, subject TEXT, message_id INTEGER NOT NULL,
        sequence INTEGER NOT NULL, epoch INTEGER NOT NULL, draft BLOB NOT NULL,
        PRIMARY KEY(conversation, subject)) WITHOUT ROWID""",
    ),
    (
        # The id under which the relay has an own message, 0 for the one that it is known by.
        "ALTER TABLE evidence ADD COLUMN message_id INTEGER NOT NULL DEFAULT 0",
    ),
)


def migrate(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring a store to the newest version, each step whole or not at all.

    Raises:
        NewerVersionError: A newer program wrote it; nothing is touched.
        DamagedError: It cannot be read.
    """
    version = version_of(database)
    if version > len(migrations):
        raise NewerVersionError(found=version, known=len(migrations))
    for number, statements in enumerate(migrations[version:], start=version + 1):
        with database.transaction():
            for statement in statements:
                database.change(statement)
            database.change(f"PRAGMA user_version={number}")


def version_of(database: Database) -> int:
    """Return the schema version of a store, 0 for an empty one."""
    row = database.row("PRAGMA user_version")
    return int(row[0]) if row else 0

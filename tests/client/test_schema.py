"""Schema versions: an old store becomes a new one step by step; a newer one is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from client import schema
from client.database import Database
from client.errors import DamagedError, NewerVersionError
from client.schema import MIGRATIONS, migrate, version_of
from client.store import Store
from crypto.mls import Group
from tests.client.ward import KEY, PATH, hear, texts

# A next version as one will be: a column whose value comes from what is there, and an index.
NEXT = (
    "ALTER TABLE message ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
    "UPDATE message SET size=length(content)",
    "CREATE INDEX message_size ON message(size)",
)


@pytest.fixture
def path(store: Store, bob: Group, tmp_path: Path) -> Path:
    """A closed store of the present version with a message in it."""
    _, message = bob.encrypt(b"kept")
    hear(store, message, 1)
    store.close()
    return tmp_path / PATH


def test_an_older_store_is_migrated_with_all_that_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, NEXT))
    database = Database.open(path, KEY)
    migrate(database, schema.MIGRATIONS)
    assert version_of(database) == len(MIGRATIONS) + 1
    assert database.rows("SELECT size FROM message") == [(5,)]
    migrate(database, schema.MIGRATIONS)
    database.close()
    with pytest.raises(NewerVersionError) as refused:
        Store.open(path, KEY)
    assert (refused.value.found, refused.value.known) == (len(MIGRATIONS) + 1, len(MIGRATIONS))


def test_a_newer_store_is_refused_and_not_touched(path: Path) -> None:
    database = Database.open(path, KEY)
    migrate(database, (*MIGRATIONS, NEXT))
    database.close()
    content = path.read_bytes()
    with pytest.raises(NewerVersionError):
        Store.open(path, KEY)
    assert path.read_bytes() == content


def test_a_migration_that_fails_leaves_the_version_before(path: Path) -> None:
    database = Database.open(path, KEY)
    with pytest.raises(DamagedError):
        migrate(database, (*MIGRATIONS, (*NEXT, "UPDATE missing SET x=1")))
    assert version_of(database) == len(MIGRATIONS)
    assert database.rows("SELECT name FROM sqlite_master WHERE name='message_size'") == []
    database.close()
    store = Store.open(path, KEY)
    assert texts(store) == ["kept"]
    store.close()

"""Messages: found by their words, edited with history, retracted for good, gone when old."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.messages import (
    NUMBER_MAX,
    Content,
    Effect,
    MessageKey,
    NewMessage,
    PersonMark,
    PersonState,
    Retraction,
    Revision,
    State,
)
from client.store import Store
from crypto.errors import InvalidError, UsageError
from tests.client.ward import (
    BOB,
    CAT,
    KEY,
    PATH,
    THEATRE,
    WARD,
    assembled,
    bobs,
    mute,
    said,
    saved,
    send,
    texts,
)


def keep(store: Store, sequence: int, *effects: Effect) -> list[str]:
    """Keep effects; return the texts to be shown."""
    received = store.received([replace(mute(store, sequence), effects=effects)])
    return [message.content.text for message in received.messages]


def new(number: int, text: str, at_ms: int = 1_000) -> NewMessage:
    return NewMessage(key=bobs(number), at_ms=at_ms, content=said(text))


def found(store: Store, text: str) -> list[str]:
    return [message.content.text for message in store.messages.search(text)]


def dump(store: Store) -> bytes:
    """Return every value of every table, the index's own among them."""
    database = store._database
    tables = [row[0] for row in database.rows("SELECT name FROM sqlite_master WHERE type='table'")]
    rows = [row for table in tables for row in database.rows(f"SELECT * FROM {table}")]
    return b"|".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )


def test_a_search_finds_every_word_or_beginning_whatever_case_or_accent(store: Store) -> None:
    keep(store, 1, new(1, "Müller bekommt Amoxicillin"), new(2, "Mueller nicht"), new(3, "amo"))
    assert found(store, "muller") == ["Müller bekommt Amoxicillin"]
    assert found(store, "AMOX mül") == ["Müller bekommt Amoxicillin"]
    assert found(store, "amo") == ["amo", "Müller bekommt Amoxicillin"]
    assert found(store, "amoxicillin nicht") == []
    assert found(store, " ") == []
    assert store.messages.search("amo", conversation=THEATRE) == []
    assert len(store.messages.search("amo", conversation=WARD)) == 2
    assert len(store.messages.search("amo", conversation=WARD, limit=1)) == 1
    assert found(store, WARD.hex()) == []


@pytest.mark.parametrize(
    "typed", ['"', 'a" OR "b', "text:amo", "amo*", "NOT amo", "a AND", "(", "'; --", "\0", "^amo"]
)
def test_nothing_typed_is_an_operator_or_an_error(store: Store, typed: str) -> None:
    keep(store, 1, new(1, "something else"))
    assert found(store, typed) == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that many searches share."""
    store = Store.create(tmp_path_factory.mktemp("shelf") / PATH, KEY)
    store.began(WARD, assembled()[0])
    keep(store, 1, new(1, "one message"))
    yield store
    store.close()


@given(typed=st.text(max_size=40))
def test_any_typed_text_is_searched_for_without_an_error(shelf: Store, typed: str) -> None:
    shelf.messages.search(typed)
    assert shelf.messages.search(f"{typed} nowhere") == []


def test_an_edit_shows_the_new_words_keeps_the_old_and_is_found_by_the_new(store: Store) -> None:
    keep(store, 1, new(1, "give 10 mg"))
    edit = Revision(target=bobs(1), at_ms=5_000, content=said("give five mg", kind=2))
    assert keep(store, 2, edit) == ["give five mg"]
    keep(store, 3, replace(edit, at_ms=9_000, content=said("give six mg")))
    history = store.messages.history(bobs(1))
    first = store.messages.get(bobs(1))
    assert first is not None
    assert [version.at_ms for version in history] == [first.at_ms, 5_000]
    assert [version.until_ms for version in history] == [5_000, 9_000]
    assert [version.content.text for version in history] == ["give 10 mg", "give five mg"]
    assert [version.content.kind for version in history] == [1, 2]
    message = store.messages.get(bobs(1))
    assert message is not None
    assert (message.content.text, message.revisions) == ("give six mg", 2)
    assert (found(store, "ten"), found(store, "10"), found(store, "six")) == (
        [],
        [],
        ["give six mg"],
    )


def test_a_retraction_leaves_no_word_of_any_version(store: Store) -> None:
    keep(store, 1, new(1, "canaryfirst"), new(2, "other"))
    keep(store, 2, Revision(target=bobs(1), at_ms=2, content=said("canarysecond")))
    assert b"canaryfirst" in dump(store)
    assert keep(store, 3, Retraction(target=bobs(1))) == [""]
    assert b"canary" not in dump(store)
    keep(store, 4, Revision(target=bobs(1), at_ms=2, content=said("canarythird")))
    message = store.messages.get(bobs(1))
    assert message is not None
    assert (message.state, message.content) == (State.RETRACTED, Content(kind=0, data=b"", text=""))
    assert store.messages.history(bobs(1)) == []
    assert texts(store) == ["", "other"]


def test_an_effect_on_a_message_that_is_not_here_does_nothing(store: Store) -> None:
    effects = (
        Revision(target=bobs(9), at_ms=1, content=said("x")),
        Retraction(target=bobs(9)),
        PersonMark(target=bobs(9), person=CAT, state=PersonState.READ, at_ms=1),
    )
    assert keep(store, 1, *effects) == []
    assert store.messages.people(bobs(9)) == {}
    assert store.messages.history(bobs(9)) == []


def test_how_far_a_message_got_with_a_person_only_rises(store: Store) -> None:
    keep(store, 1, new(1, "read me"))
    for at_ms, state in ((5, PersonState.DELIVERED), (6, PersonState.READ), (7, PersonState.READ)):
        keep(store, at_ms, PersonMark(target=bobs(1), person=CAT, state=state, at_ms=at_ms))
    late = PersonMark(target=bobs(1), person=CAT, state=PersonState.DELIVERED, at_ms=9)
    assert keep(store, 9, late) == ["read me"]
    assert store.messages.people(bobs(1)) == {CAT: (PersonState.READ, 6)}


def test_a_page_ends_where_the_next_begins(store: Store) -> None:
    for sequence in range(1, 8):
        keep(store, sequence, new(sequence, str(sequence)))
    last = store.messages.page(WARD, limit=3)
    assert [message.place for message in last] == [5, 6, 7]
    page = store.messages.page(WARD, limit=3, before=last[0].place)
    assert [message.place for message in page] == [2, 3, 4]
    assert store.messages.page(THEATRE, limit=3) == []


@pytest.mark.parametrize("bulk", [0, 200])
def test_what_is_purged_leaves_no_word_version_or_state(
    store: Store, monkeypatch: pytest.MonkeyPatch, bulk: int
) -> None:
    monkeypatch.setattr("client.messages.BULK_PURGE", bulk)
    keep(store, 1, new(1, "canaryold", at_ms=10), new(2, "young", at_ms=20))
    keep(store, 2, Revision(target=bobs(1), at_ms=30, content=said("canarynew")))
    mark = PersonMark(target=bobs(1), person=CAT, state=PersonState.READ, at_ms=30)
    keep(store, 3, mark)
    assert store.purge(20, THEATRE) == 0
    assert store.purge(20, WARD) == 1
    assert store.purge(20) == 0
    assert texts(store) == ["young"]
    assert found(store, "canarynew") == []
    assert b"canary" not in dump(store)
    assert str(CAT).encode() not in dump(store)
    assert found(store, "young") == ["young"]
    keep(store, 4, new(3, "canarylater"), Retraction(target=bobs(3)))
    assert b"canary" not in dump(store)


def test_what_still_waits_to_be_sent_is_not_purged(store: Store) -> None:
    send(store, "waiting", at_ms=1)
    assert store.purge(1_000) == 0
    store.accepted({1: 5})
    assert store.purge(1_000) == 1


@pytest.mark.parametrize("number", [-1, NUMBER_MAX + 1, 1 << 64])
def test_a_number_that_does_not_fit_is_refused_before_it_is_stored(number: int) -> None:
    with pytest.raises(InvalidError):
        MessageKey(conversation=WARD, sender=BOB, message_id=number)
    with pytest.raises(InvalidError):
        Content(kind=number, data=b"", text="")


def test_what_the_database_cannot_hold_changes_nothing(store: Store) -> None:
    before = saved(store)
    surrogate = Content(kind=1, data=b"", text="\ud800")
    for effect in (replace(new(1, ""), content=surrogate), new(1, "x", at_ms=1 << 70)):
        with pytest.raises(UsageError):
            keep(store, 1, effect)
    assert saved(store) is before
    assert keep(store, 1, new(1, "fits")) == ["fits"]

"""What a device asks of the relay's directory, and keeps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client.book import Book
from client.store import Store
from protocol import frames, limits
from protocol.frames import Frame
from protocol.identifiers import user_of
from tests.client.people import further
from tests.client.ward import ANN
from tests.server.harness import hospital, now_ms


async def test_people_of_whom_one_answer_has_no_room_are_asked_for_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOOKUP_DEVICES", 3)
    of = hospital()
    phones = [of.enrol(f"{user}/phone") for user in ("bob", "cat", "dan", "eve", "fay")]
    devices = [one for phone in phones for one in (phone, further(of, phone, "laptop"))]

    async def ask(make: Callable[[int], Frame]) -> Frame:
        asked = make(1)
        assert isinstance(asked, frames.Lookup)
        found = [one for one in devices if user_of(one.name) in asked.users]
        entries = [frames.DirectoryEntry(one.name, one.certificate) for one in found]
        return frames.Directory(ref=1, devices=tuple(entries[: limits.LOOKUP_DEVICES]))

    book = Book(store, root=of.root, me=ANN)
    users = [user_of(phone.name) for phone in phones]
    await book.look_up(users, ask, now_ms=now_ms())
    assert [len(book.trusted.devices_of(one)) for one in users] == [2, 2, 2, 2, 2]
    assert all(book.is_fresh(one, now_ms=now_ms()) for one in users)

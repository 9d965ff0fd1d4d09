"""The lock screen: a PIN opens, a wrong one is told, and a page is answered without opening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from client.errors import LostError, OfflineError, SuspendedError, WrongPinError
from client.words import ConversationId, PageEvent, Priority, RoleName
from client_cli import terminal
from client_cli.door import Door, RingAlert
from tests.client_cli.fake_ward import PAGE, example_ward
from tests.client_cli.pilot import QUIET_S, desk, flat, keys, shows, typed, until

OPENED = object()
ICU = RoleName("icu-registrar")


@dataclass(frozen=True)
class Rung:
    """A page that rings."""

    conversation: ConversationId = PAGE
    priority: Priority = Priority.STAT
    role: RoleName | None = ICU
    ended: bool = False


@dataclass
class Bell:
    """A locked device's connection, which rings when the test says so."""

    queue: asyncio.Queue[Rung] = field(default_factory=asyncio.Queue)
    answered: list[tuple[ConversationId, PageEvent]] = field(default_factory=list)
    connected: list[int] = field(default_factory=list)
    error: Exception | None = None
    refuses: Exception | None = None

    @asynccontextmanager
    async def connect(self, place: int) -> AsyncIterator[Bell]:
        self.connected.append(place)
        yield self

    async def rings(self) -> AsyncIterator[Rung]:
        if self.refuses is not None:
            raise self.refuses
        while True:
            yield await self.queue.get()

    async def reached(self) -> None:
        if self.refuses is not None:
            await asyncio.Event().wait()

    async def answer(self, conversation: ConversationId, event: PageEvent) -> None:
        if self.error is not None:
            raise self.error
        self.answered.append((conversation, event))


async def unlock(place: int, pin: str) -> object:
    """Open the second person's device by 2468, and nobody's without network."""
    if pin == "0000":
        raise OfflineError
    if pin != "2468":
        raise WrongPinError(tries_left=9, wait_ms=0)
    return OPENED if place == 1 else place


async def test_a_wrong_pin_is_told_and_the_right_one_opens() -> None:
    door = Door(["ann/desk"], unlock)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await typed(pilot, "1111")
        assert "1111" not in flat(door)
        await keys(pilot, "enter")
        assert "not this device's PIN. 9 tries are left" in flat(door)
        await typed(pilot, "0000")
        await keys(pilot, "enter")
        assert "relay is not reached" in flat(door)
        await typed(pilot, "2468")
        await keys(pilot, "enter")
    assert door.return_value == 0


async def test_what_was_typed_before_the_terminal_was_the_programs_counts() -> None:
    """A terminal that is nobody's yet makes a new line of Enter."""
    door = Door(["ann/desk"], unlock)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await typed(pilot, "2468")
        await keys(pilot, "ctrl+j")
    assert door.return_value == 0


async def test_a_shared_workstation_asks_whose_device() -> None:
    door = Door(["ann/desk", "ben/desk"], unlock)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "ben/desk" in flat(door)
        await keys(pilot, "shift+tab", "down", "enter")
        await typed(pilot, "2468")
        await keys(pilot, "enter")
    assert door.return_value is OPENED


async def test_a_suspended_device_says_when_it_is_in_use_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client_cli.door.SUSPENDED_S", 0.01)
    bell = Bell(refuses=SuspendedError())
    door = Door(["ann/phone"], unlock, ringing=bell.connect)
    async with door.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "This device is suspended.")
        bell.refuses = None
        await shows(pilot, "This device is in use again: its PIN opens it.")
        assert "suspended" not in flat(door)
        await typed(pilot, "2468")
        await keys(pilot, "enter")
    assert door.return_value == 0


async def test_a_suspended_device_says_so_asks_for_its_order_again_and_ends_once_it_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client_cli.door.SUSPENDED_S", 0.01)
    monkeypatch.setattr("client_cli.door.AGAIN_S", 3600.0)
    bell = Bell(refuses=SuspendedError())
    door = Door(["ann/desk"], unlock, ringing=bell.connect)
    async with door.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "This device is suspended.")
        await until(pilot, lambda: len(bell.connected) > 2)
        door.leave()
    assert (door.wiped, door.return_value) == (True, None)


@pytest.mark.parametrize(("key", "event"), [("a", PageEvent.ACCEPT), ("d", PageEvent.DECLINE)])
async def test_a_locked_device_rings_with_priority_and_role_and_takes_one_deliberate_key(
    key: str, event: PageEvent
) -> None:
    bell = Bell()
    door = Door(["ann/desk"], unlock, ringing=bell.connect, quiet_s=QUIET_S)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        bell.queue.put_nowait(Rung())
        await shows(pilot, "*** STAT *** for icu-registrar")
        await shows(pilot, "a accept d decline")
        await keys(pilot, key)
        await until(pilot, lambda: bell.answered == [(PAGE, event)])
        assert not isinstance(door.screen, RingAlert)


@pytest.mark.parametrize(("key", "word"), [("a", "NOT ACCEPTED"), ("d", "NOT DECLINED")])
async def test_an_answer_that_did_not_get_through_is_never_said_to_be_given(
    key: str, word: str
) -> None:
    bell = Bell(error=LostError())
    door = Door(["ann/desk"], unlock, ringing=bell.connect, quiet_s=QUIET_S)
    async with door.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        bell.queue.put_nowait(Rung())
        await shows(pilot, "a accept d decline")
        await keys(pilot, key)
        await shows(pilot, f"{word}: The connection broke.")
        assert "Accepted." not in flat(door)
        assert "Declined." not in flat(door)
        assert door.is_running


async def test_the_more_urgent_of_two_pages_is_shown_and_the_other_after_it() -> None:
    bell = Bell()
    door = Door(["ann/desk"], unlock, ringing=bell.connect, quiet_s=QUIET_S)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        first, second, third = (ConversationId(bytes([n]) * 32) for n in range(3))
        bell.queue.put_nowait(Rung(conversation=first, priority=Priority.URGENT))
        await shows(pilot, "*** URGENT ***")
        bell.queue.put_nowait(Rung(conversation=second))
        await shows(pilot, "*** STAT ***")
        bell.queue.put_nowait(Rung(conversation=third, priority=Priority.URGENT))
        await shows(pilot, "a accept d decline")
        await keys(pilot, "a")
        await shows(pilot, "*** URGENT ***")
        bell.queue.put_nowait(Rung(conversation=third, ended=True))
        await shows(pilot, "a accept d decline")
        await keys(pilot, "a")
        await until(pilot, lambda: len(bell.answered) == 2)
        assert [where for where, _ in bell.answered] == [second, first]
        await until(pilot, lambda: not isinstance(door.screen, RingAlert))


async def test_whoever_is_typing_a_pin_answers_no_page() -> None:
    bell = Bell()
    door = Door(["ann/desk"], unlock, ringing=bell.connect, quiet_s=5.0)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        bell.queue.put_nowait(Rung())
        await pilot.pause()
        await typed(pilot, "adad")
        assert bell.answered == []
        bell.queue.put_nowait(Rung(ended=True))


async def test_a_page_that_has_ended_goes_from_the_screen() -> None:
    bell = Bell()
    door = Door(["ann/desk"], unlock, ringing=bell.connect, quiet_s=QUIET_S)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        bell.queue.put_nowait(Rung())
        await until(pilot, lambda: isinstance(door.screen, RingAlert))
        bell.queue.put_nowait(Rung(ended=True))
        await until(pilot, lambda: not isinstance(door.screen, RingAlert))


async def test_no_connection_rings_while_a_pin_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    # The relay ends the earlier of a device's connections, which would be the one that asks it.
    monkeypatch.setattr("client_cli.door.SILENCE_S", 60.0)
    bell, ended, tried = Bell(), asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def connect(place: int) -> AsyncIterator[Bell]:
        async with bell.connect(place) as ringer:
            try:
                yield ringer
            finally:
                await ended.wait()

    async def opening(place: int, pin: str) -> object:
        assert ended.is_set()
        tried.set()
        return await unlock(place, pin)

    door = Door(["ann/desk"], opening, ringing=connect)
    async with door.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bell.connected == [0])
        await typed(pilot, "2468")
        await keys(pilot, "enter")
        assert not tried.is_set()
        before = door._rings
        # As it happens where the PIN was typed before the screen was whole.
        door._begin()
        assert door._rings is before
        ended.set()
        await until(pilot, tried.is_set)


async def test_quitting_opens_nothing() -> None:
    door = Door(["ann/desk"], unlock)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await keys(pilot, "ctrl+q")
    assert door.return_value is None


async def test_a_store_that_goes_at_the_end_of_a_shift_ends_the_lock_screen_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client_cli.door.TEND_S", 0.02)
    gone = False
    door = Door(["ann/desk", "ben/desk"], unlock, tend=lambda: gone)
    async with door.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await typed(pilot, "2")
        gone = True
        await pilot.pause(0.1)
        # Somebody is typing a PIN.
        assert not door.gone
        await keys(pilot, "backspace")
        await until(pilot, lambda: door.gone)
    assert door.return_value is None


async def test_whose_device_it_is_is_chosen_where_the_pin_is_typed() -> None:
    door = Door(["ann/desk", "ben/desk"], unlock)
    async with door.run_test(size=(80, 24)) as pilot:
        await shows(pilot, "Up, Down: whose device")
        await keys(pilot, "up", "down", "down")
        await typed(pilot, "2468")
        await keys(pilot, "enter")
    assert door.return_value is OPENED


async def test_a_screen_that_was_made_light_is_light_the_next_time(tmp_path: Path) -> None:
    kept = partial(terminal._keep_light, tmp_path)
    for now in (True, False):
        door = Door(["ann/desk"], unlock, light=not now, keep_light=kept)
        async with door.run_test(size=(80, 24)) as pilot:
            await keys(pilot, "f9")
        assert (tmp_path / terminal.LIGHT).exists() is now
    async with desk(example_ward(), keep_light=kept) as pilot:
        await keys(pilot, "f9")
    assert (tmp_path / terminal.LIGHT).exists()

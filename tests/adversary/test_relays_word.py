"""What a relay says and nobody has signed costs a device its connection, and nothing that lasts.

Each frame for itself; ``test_made_up_frames.py`` has them all among each other, by seeds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client import delivering, engine, following, sending, steward
from client import link as links
from client.errors import AbsentError, ClosedError
from client.link import Address, Credentials, Link
from client.messages import State
from protocol import frames, limits
from protocol.errors import Code
from protocol.frames import Deliver, EntryKind, Frame
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_log
from protocol.policy import Policy
from protocol.session import State as Stands
from tests.adversary.liar import Liar, altered, honest, is_message
from tests.client.devices import WAIT_S, Running, Ward, ward
from tests.server.harness import hospital
from tests.waiting import comes_true


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what lasts a while last a moment."""
    monkeypatch.setattr(following, "WAIT_MS", 200)
    monkeypatch.setattr(engine, "SHUT_OUT_MS", 100)
    monkeypatch.setattr(sending, "STALE_S", 0.2)
    monkeypatch.setattr(links, "FIRST_PAUSE_S", 0.05)
    # Nobody tells that a message came, so that what each says is what passes.
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Liar:
    """Lies to Bob's phone."""
    return Liar(monkeypatch, "bob/phone")


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[tuple[Ward, ConversationId]]:
    async with ward(folder, hospital(), "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone")
        await here["ann/phone"].say(conversation, "before")
        await here["bob/phone"].sees(conversation, "before")
        yield here, conversation


async def both_hear(here: Ward, conversation: ConversationId) -> None:
    """Let each say something that the other hears, in the epoch that there was."""
    ann, bob = here["ann/phone"], here["bob/phone"]
    await ann.say(conversation, "do you hear me")
    await bob.sees(conversation, "do you hear me")
    await bob.say(conversation, "I hear you")
    await ann.sees(conversation, "I hear you")
    assert bob.epoch(conversation) == 1


async def is_shut_out(bob: Running, kind: type[Exception]) -> None:
    """Wait until the device says why it is not let in; whoever waits for it is told at once."""
    await bob.until(lambda: isinstance(bob.device.status.shut_out, kind))
    with pytest.raises(kind):
        await bob.device.online(WAIT_S)


@pytest.mark.parametrize("code", [Code.REPLACED, Code.VERSION, Code.NOT_PROVED, Code.OUTDATED])
async def test_a_device_that_is_not_let_in_says_so_and_asks_again(
    tmp_path: Path, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob, opening = here["bob/phone"], Link.open
        lies = True

        async def opened(address: Address, credentials: Credentials) -> Link:
            if lies and credentials.device == "bob/phone":
                raise ClosedError(code)
            return await opening(address, credentials)

        monkeypatch.setattr(Link, "open", opened)
        there = here.site.relay.delivery.connection(here.hospital.id, DeviceId("bob/phone"))
        assert there is not None
        there.close(code)
        await is_shut_out(bob, ClosedError)
        lies = False
        await both_hear(here, conversation)
        assert bob.device.status.shut_out is None


async def test_a_device_that_is_said_to_have_been_away_asks_again(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob, opening = here["bob/phone"], Link.open
        lies = True

        async def opened(address: Address, credentials: Credentials) -> Link:
            link = await opening(address, credentials)
            if lies and credentials.device == "bob/phone":
                link._session.state = Stands.ABSENT
            return link

        monkeypatch.setattr(Link, "open", opened)
        await liar.cut()
        await is_shut_out(bob, AbsentError)
        lies = False
        await both_hear(here, conversation)


async def test_a_place_that_is_said_to_have_lapsed_is_there_again_where_nobody_says_so(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob = here["bob/phone"]

        async def kept(*_: object) -> bool:
            return True  # As a relay says that keeps the request to itself.

        monkeypatch.setattr(bob.engine.steward, "_request", kept)
        liar.inject(frames.Ended(log=conversation_log(conversation), code=Code.EXPIRED))
        await here["ann/phone"].say(conversation, "with a lie")
        known = bob.engine.rooms.get(conversation)
        await bob.until(lambda: known.known.lapsed)
        waiting = await bob.say(conversation, "it waits")
        assert waiting.state is State.WAITING
        await liar.cut()
        await here["ann/phone"].sees(conversation, "it waits")
        await both_hear(here, conversation)


async def test_a_request_to_be_let_in_again_is_made_again_though_the_relay_says_that_it_has_it(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 200)
    monkeypatch.setattr(steward, "RANK_MS", 20)
    monkeypatch.setattr(steward, "AGAIN_MS", 200)
    monkeypatch.setattr(steward, "LOOK_MS", 100)
    async with talking(tmp_path) as (here, conversation):
        bob = here["bob/phone"]
        request = bob.engine.steward._request
        kept: list[object] = []

        async def once(*given: object) -> bool:
            if not kept:
                kept.append(given)
                return True
            return await request(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(bob.engine.steward, "_request", once)
        liar.inject(frames.Ended(log=conversation_log(conversation), code=Code.EXPIRED))
        await here["ann/phone"].say(conversation, "with a lie")
        await bob.in_epoch(conversation, 2)
        await bob.say(conversation, "back")
        await here["ann/phone"].sees(conversation, "back")
        assert kept


def instead_of_the_answer(*given: Callable[[frames.Accepted], Frame]) -> Callable[..., list[Frame]]:
    """Return what tells a device something else than that the relay has its messages, once each."""
    left = list(given)

    def change(frame: Frame) -> list[Frame]:
        if isinstance(frame, frames.Accepted) and left:
            return [left.pop(0)(frame)]
        return [frame]

    return change


@pytest.mark.parametrize("epoch", [0, 9])
async def test_a_message_that_is_said_to_be_stale_goes_out_on_another_connection(
    tmp_path: Path, liar: Liar, epoch: int
) -> None:
    async with talking(tmp_path) as (here, conversation):
        liar.change = instead_of_the_answer(
            lambda frame: frames.RefusedMessage(
                message_id=frame.message_ids[0], code=Code.STALE_EPOCH, detail=epoch
            )
        )
        before = liar.connections
        bob = here["bob/phone"]
        shown = await bob.say(conversation, "it is not stale")

        def stored() -> bool:
            found = bob.device.message(shown.key)
            return found is not None and found.state is State.STORED

        await bob.until(stored)
        assert liar.connections == before + 1
        await both_hear(here, conversation)


async def test_a_message_that_is_not_answered_goes_out_on_another_connection(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "ANSWER_S", 1.0)
    async with talking(tmp_path) as (here, conversation):
        liar.change = instead_of_the_answer(lambda _: frames.RingEnded(conversation=bytes(32)))
        bob = here["bob/phone"]
        await bob.say(conversation, "did you get it")
        await bob.until(lambda: not bob.engine.sending.unsent)
        assert bob.texts(conversation) == ["before", "did you get it"]
        await both_hear(here, conversation)


async def test_what_is_said_under_a_number_that_the_relay_called_this_devices_own_is_shown(
    tmp_path: Path, liar: Liar
) -> None:
    async with talking(tmp_path) as (here, conversation):
        ann, bob = here["ann/phone"], here["bob/phone"]
        ahead = [2, 3]

        def next_ones(frame: frames.Accepted) -> Frame:
            last = bob.engine.cursor(conversation)
            return frames.Accepted(message_ids=frame.message_ids, sequences=(last + ahead.pop(),))

        liar.change = instead_of_the_answer(next_ones, next_ones)
        for text in ("mine", "mine too"):
            shown = await bob.say(conversation, text)
            await ann.sees(conversation, text)
            await bob.device.settled(WAIT_S)
            assert shown.text == text
        liar.change = honest
        texts = [f"after {number}" for number in range(5)]
        for text in texts:
            await ann.say(conversation, text)
        await bob.sees(conversation, *texts)
        assert [text for text in bob.texts(conversation) if text in texts] == texts


@pytest.mark.parametrize("kind", [EntryKind.MESSAGE, EntryKind.COMMIT, EntryKind.EXPIRED, 99])
async def test_what_comes_under_a_number_that_something_made_up_had_is_not_lost(
    tmp_path: Path, liar: Liar, kind: int
) -> None:
    async with talking(tmp_path) as (here, conversation):
        forged = 0

        def first_a_lie(frame: Frame) -> list[Frame]:
            nonlocal forged
            if isinstance(frame, Deliver) and is_message(frame):
                forged += 1
                return [altered(frame, kind=kind, body=b"of nobody"), frame]
            return [frame]

        liar.change = first_a_lie
        texts = [f"message {number}" for number in range(4)]
        for text in texts:
            await here["ann/phone"].say(conversation, text)
        bob = here["bob/phone"]
        await bob.until(lambda: bob.texts(conversation) == ["before", *texts])
        liar.change = honest
        assert forged >= len(texts)
        await both_hear(here, conversation)


async def test_a_policy_comes_though_another_statement_had_its_number(
    tmp_path: Path, liar: Liar
) -> None:
    async with talking(tmp_path) as (here, _):

        def first_a_lie(frame: Frame) -> list[Frame]:
            if isinstance(frame, Deliver) and frame.log == b"o":
                return [altered(frame, body=b"of nobody"), frame]
            return [frame]

        liar.change = first_a_lie
        await here.govern(Policy(version=1))


async def test_a_number_of_what_stands_that_never_was_keeps_nothing_from_a_device(
    tmp_path: Path, liar: Liar
) -> None:
    async with ward(tmp_path, hospital(), "ann/phone") as here:
        await here.govern(Policy(version=1))

        def far(frame: Frame) -> Frame:
            if not isinstance(frame, frames.Statements):
                return frame
            entry = frames.StandingEntry(number=1 << 61, at_ms=1, statement=b"of nobody")
            return frames.Statements(ref=frame.ref, entries=(entry,), more=False)

        def spoilt(frame: Frame) -> list[Frame]:
            if isinstance(frame, Deliver) and frame.log == b"o":
                return [altered(frame, body=b"of nobody")]
            return [frame]

        liar.answer, liar.change = far, spoilt
        await here.come("bob/phone")
        bob = here["bob/phone"]
        assert bob.device.policy.version == 0
        liar.answer, liar.change = (lambda frame: frame), honest
        await liar.cut()
        await bob.until(lambda: bob.device.policy.version == 1)


async def test_a_relay_that_says_it_is_ahead_beyond_measure_costs_the_connection(
    tmp_path: Path, liar: Liar
) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob, before = here["bob/phone"], liar.connections
        liar.ahead = 1 << 40
        await liar.cut()
        await comes_true(lambda: liar.connections >= before + 3)
        liar.ahead = 0
        await both_hear(here, conversation)
        assert bob.device.status.faults == 0


async def test_a_device_without_its_keys_waits_once_for_all_that_its_welcome_is_missing_for(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(tmp_path) as (here, conversation):
        ann, bob = here["ann/phone"], here["bob/phone"]
        await here.come("cat/phone")
        await bob.end()
        # As after a relay's word that another copy is ahead; and it keeps the request to itself.
        bob.engine._start_over(bob.engine.store.outbox.last_id)

        async def kept(*_: object) -> bool:
            return True

        monkeypatch.setattr(bob.engine.steward, "_request", kept)
        cat = UserName("cat")
        for change in range(4):
            add, remove = ([cat], []) if change % 2 == 0 else ([], [cat])
            await ann.device.change_members(conversation, add=add, remove=remove)
            await ann.in_epoch(conversation, change + 2)
        before = liar.connections
        await bob.begin()
        await bob.until(lambda: bob.engine.cursor(conversation) >= ann.engine.cursor(conversation))
        assert liar.connections - before <= 2

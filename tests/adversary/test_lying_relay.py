"""A relay that lies to a device: nothing forged is shown, every hole is told, and it heals.

Rows 1 to 6 and 12 of the list of attacks; ``tests/client/test_follow.py`` has the same rules bare.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from client import delivering, following, steward
from client.followed import Cause
from client.link import Link
from client.messages import State
from protocol import frames, limits
from protocol.frames import Deliver, EntryKind, Frame
from protocol.identifiers import ConversationId, UserName, inbox_log
from tests.adversary.liar import Liar, altered, honest, is_entry, is_message
from tests.client.devices import WAIT_S, Running, Ward, garble, ward
from tests.client.people import ghost
from tests.client.talk import Change, assembled
from tests.server.harness import hospital

CAT, DAN = UserName("cat"), UserName("dan")


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Liar:
    """Lies to Bob's phone."""
    monkeypatch.setattr(following, "WAIT_MS", 200)
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 200)
    monkeypatch.setattr(steward, "RANK_MS", 20)
    # Only what people say is to pass the liar, so that each test knows what it hides.
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    return Liar(monkeypatch, "bob/phone")


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[tuple[Ward, ConversationId]]:
    async with ward(folder, hospital(), "ann/phone", "bob/phone", "cat/phone") as here:
        yield here, await here.talk("ann/phone", "bob/phone", "cat/phone")


def causes(running: Running) -> set[Cause]:
    return {Cause(fault.cause) for fault in running.engine.store.faults.all()}


async def said(here: Ward, conversation: ConversationId, count: int) -> list[str]:
    """Let Ann say things, and wait until Cat, to whom nobody lies, has them."""
    texts = [f"message {number}" for number in range(count)]
    for text in texts:
        await here["ann/phone"].say(conversation, text)
    await here["cat/phone"].sees(conversation, *texts)
    return texts


def dropping(which: Callable[[Frame], bool], times: int) -> Callable[[Frame], list[Frame]]:
    left = [times]

    def change(frame: Frame) -> list[Frame]:
        if which(frame) and left[0]:
            left[0] -= 1
            return []
        return [frame]

    return change


async def test_what_was_dropped_is_read_again(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        liar.change = dropping(is_message, 3)
        texts = await said(here, conversation, 6)
        bob = here["bob/phone"]
        await bob.until(lambda: bob.texts(conversation) == texts)
        assert liar.connections == 2
        assert bob.device.status.faults == 0


async def test_a_relay_that_promises_more_and_gives_nothing_is_not_asked_for_ever(
    tmp_path: Path, liar: Liar
) -> None:
    asked = 0

    def answer(frame: Frame) -> Frame:
        nonlocal asked
        if not isinstance(frame, frames.Statements):
            return frame
        asked += 1
        return frames.Statements(ref=frame.ref, entries=(), more=True)

    liar.answer = answer
    async with talking(tmp_path) as (here, conversation):
        texts = await said(here, conversation, 2)
        await here["bob/phone"].sees(conversation, *texts)
        assert 0 < asked <= liar.connections


async def test_what_stays_dropped_is_told_and_stops_nothing(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        first: list[bytes] = []

        def change(frame: Frame) -> list[Frame]:
            if is_message(frame) and isinstance(frame, Deliver):
                first.append(frame.body)
                if frame.body == first[0]:
                    return []
            return [frame]

        liar.change = change
        texts = await said(here, conversation, 3)
        bob = here["bob/phone"]
        await bob.sees(conversation, *texts[1:])
        assert bob.texts(conversation) == texts[1:]
        assert Cause.HOLE in causes(bob)


@pytest.mark.parametrize("kind", [EntryKind.RECEIPT, EntryKind.COMMIT])
async def test_a_withheld_verdict_or_commit_is_missed_with_the_next_entry(
    tmp_path: Path, liar: Liar, kind: EntryKind
) -> None:
    async with talking(tmp_path) as (here, conversation):
        liar.change = dropping(lambda frame: is_entry(frame, kind), 1)
        await here["ann/phone"].device.change_members(conversation, remove=[CAT])
        await here["ann/phone"].in_epoch(conversation, 2)
        await here["ann/phone"].say(conversation, "in the new epoch")
        bob = here["bob/phone"]
        await bob.sees(conversation, "in the new epoch")
        assert bob.device.status.faults == 0


async def test_a_withheld_void_is_missed_with_the_next_entry(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob, cat = here["bob/phone"], here["cat/phone"]
        dropped: list[Frame] = []

        def change(frame: Frame) -> list[Frame]:
            if is_entry(frame, EntryKind.VOID) and not dropped:
                dropped.append(frame)
                return []
            return [frame]

        liar.change = change
        garble(here["ann/phone"])
        await here["ann/phone"].device.change_members(conversation, remove=[DAN, CAT])
        await cat.say(conversation, "it stops nobody")
        await bob.sees(conversation, "it stops nobody")
        # Ann's program makes an honest Commit of it, once the garbage is voided.
        await cat.until(lambda: cat.device.summary(conversation).ended)
        await bob.in_epoch(conversation, 2)
        await here["ann/phone"].say(conversation, "two of us")
        await bob.sees(conversation, "two of us")
        assert dropped
        assert bob.texts(conversation) == ["it stops nobody", "two of us"]


async def test_what_a_rolled_back_relay_gives_a_used_number_is_missed_and_read_again(
    tmp_path: Path, liar: Liar
) -> None:
    async with talking(tmp_path) as (here, conversation):
        ann, bob = here["ann/phone"], here["bob/phone"]
        texts = await said(here, conversation, 3)
        await bob.sees(conversation, *texts)
        used = next(one for one in liar.seen if is_message(one)).sequence

        def change(frame: Frame) -> list[Frame]:
            if is_message(frame) and isinstance(frame, Deliver):
                return [altered(frame, sequence=used, predecessor=used - 1)]
            return [frame]

        liar.change = change
        await ann.say(conversation, "under an old number")
        await here["cat/phone"].sees(conversation, "under an old number")
        liar.change = honest
        await ann.say(conversation, "and the next")
        await bob.until(
            lambda: bob.texts(conversation) == [*texts, "under an old number", "and the next"]
        )
        assert bob.device.status.faults == 0


async def test_a_relay_that_says_it_is_ahead_costs_a_new_start_and_loses_nothing_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 200)
    monkeypatch.setattr(steward, "RANK_MS", 20)
    liar = Liar(monkeypatch, "ann/phone")
    async with talking(tmp_path) as (here, conversation):
        ann, bob = here["ann/phone"], here["bob/phone"]
        liar.ahead = 5
        await ann.end()
        waiting = await ann.say(conversation, "not sent yet")
        await ann.begin()
        liar.ahead = 0
        await ann.until(lambda: ann.epoch(conversation) >= 2)
        shown = ann.device.message(waiting.key)
        # What cannot go out any more is told to the person, to be said again.
        assert shown is not None
        assert shown.state is State.REFUSED
        await ann.say(conversation, "said again")
        await bob.sees(conversation, "said again")
        assert bob.texts(conversation) == ["said again"]
        assert bob.device.status.faults == 0


async def test_what_is_said_while_a_device_is_let_in_again_is_told_as_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 200)
    monkeypatch.setattr(steward, "RANK_MS", 20)
    liar = Liar(monkeypatch, "bob/phone")
    async with talking(tmp_path) as (here, conversation):
        ann, bob = here["ann/phone"], here["bob/phone"]
        await ann.say(conversation, "before")
        await bob.sees(conversation, "before")
        await bob.end()
        await ann.say(conversation, "meanwhile")
        await ann.until(lambda: not ann.device.status.unsent)
        liar.ahead = 5
        await bob.begin()
        liar.ahead = 0
        await bob.until(lambda: bob.epoch(conversation) >= 2)
        await ann.say(conversation, "after")
        await bob.sees(conversation, "after")
        assert bob.texts(conversation) == ["before", "after"]
        assert [fault.cause for fault in bob.engine.store.faults.all()] == [Cause.EPOCH_LOST]


async def test_replays_are_shown_once(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):

        def change(frame: Frame) -> list[Frame]:
            if isinstance(frame, Deliver):
                again = random.sample(liar.seen, min(3, len(liar.seen)))
                return [frame, *again, frame]
            return [frame]

        liar.change = change
        texts = await said(here, conversation, 10)
        bob = here["bob/phone"]
        await bob.sees(conversation, *texts)
        assert bob.texts(conversation) == texts
        await liar.cut()
        await here["ann/phone"].say(conversation, "after")
        await bob.sees(conversation, "after")
        assert bob.texts(conversation) == [*texts, "after"]
        assert bob.device.status.faults == 0


async def test_a_replay_under_a_new_number_is_never_shown(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        texts = await said(here, conversation, 2)
        bob = here["bob/phone"]
        await bob.sees(conversation, *texts)
        last = [one for one in liar.seen if is_message(one)][-1]
        liar.inject(
            altered(last, sequence=last.sequence + 1, predecessor=last.sequence),
        )
        await here["ann/phone"].say(conversation, "next")
        await bob.until(lambda: Cause.KEY_USED in causes(bob))
        assert bob.texts(conversation).count(texts[-1]) == 1


async def test_what_comes_in_another_order_is_shown_in_the_logs(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        kept: list[Frame] = []

        def change(frame: Frame) -> list[Frame]:
            if not is_message(frame):
                return [frame]
            kept.append(frame)
            if len(kept) < 4:
                return []
            mixed, kept[:] = random.sample(kept, len(kept)), []
            return mixed

        liar.change = change
        texts = await said(here, conversation, 12)
        bob = here["bob/phone"]
        await bob.until(lambda: bob.texts(conversation) == texts)
        assert bob.device.status.faults == 0


async def test_no_altered_byte_is_shown_and_the_device_comes_back(
    tmp_path: Path, liar: Liar
) -> None:
    async with talking(tmp_path) as (here, conversation):

        def change(frame: Frame) -> list[Frame]:
            if not is_message(frame) or not isinstance(frame, Deliver):
                return [frame]
            body = bytearray(frame.body)
            body[random.randrange(len(body))] ^= 1 << random.randrange(8)
            return [altered(frame, body=bytes(body))]

        liar.change = change
        texts = await said(here, conversation, 20)
        bob = here["bob/phone"]
        await bob.until(lambda: len(bob.engine.store.faults.all()) >= len(texts))
        assert bob.texts(conversation) == []
        liar.change = honest
        await here["ann/phone"].say(conversation, "true")
        await bob.sees(conversation, "true")
        # Each that was lost is told, by its number in the log.
        assert len({fault.sequence for fault in bob.engine.store.faults.all()}) >= len(texts)


async def test_an_invented_commit_or_verdict_changes_nothing(tmp_path: Path, liar: Liar) -> None:
    async with talking(tmp_path) as (here, conversation):
        bob = here["bob/phone"]
        members = bob.device.members(conversation)
        last = max(one.sequence for one in liar.seen if one.log[1:] == conversation)
        for number, kind in enumerate((EntryKind.COMMIT, EntryKind.RECEIPT, EntryKind.VOID)):
            liar.inject(
                Deliver(
                    log=b"c" + conversation,
                    sequence=last + 1 + number,
                    predecessor=last + number,
                    at_ms=0,
                    kind=kind,
                    body=secrets.token_bytes(300),
                )
            )
        await here["ann/phone"].say(conversation, "one")
        await bob.until(lambda: len(bob.engine.store.faults.all()) >= 3)
        assert bob.device.members(conversation) == members
        assert bob.epoch(conversation) == 1


async def test_a_group_that_an_insider_made_up_never_takes_a_conversations_place(
    tmp_path: Path, liar: Liar
) -> None:
    """Eve makes a group of the same id with Bob and the recorder in it, and signs its receipt."""
    async with talking(tmp_path) as (here, conversation):
        bob = here["bob/phone"]
        forged = assembled(here.hospital, "eve/phone", "mal/phone")
        forged.conversation = conversation
        eve = forged["eve/phone"]
        own = bob.engine.identity.own_package(here.recorder.device.now_ms())
        bob.engine.store.keys.add_packages([own])
        victim = forged.talker("bob/phone")
        victim.packages.append(own)
        victim.package = lambda: own  # type: ignore[method-assign]
        _, welcome = eve.commit(Change(add=[victim]))
        inbox = inbox_log(bob.device.me)
        last = bob.engine.store.cursor(inbox)
        liar.inject(
            Deliver(
                log=inbox,
                sequence=last + 1,
                predecessor=last,
                at_ms=bob.device.now_ms(),
                kind=EntryKind.WELCOME,
                body=welcome,
            )
        )
        await here["ann/phone"].say(conversation, "one")
        await bob.sees(conversation, "one")
        before = bob.epoch(conversation)
        staged = eve.view.staged[-1]
        receipt = forged.verdict(staged, by=forged["mal/phone"])
        cursor = bob.engine.cursor(conversation)
        liar.inject(
            altered(receipt, log=b"c" + conversation, sequence=cursor + 1, predecessor=cursor)
        )
        await here["ann/phone"].say(conversation, "two")
        await bob.until(lambda: bob.device.status.faults)
        assert bob.epoch(conversation) == before
        assert {view.user for view in bob.device.members(conversation)} == {
            "ann",
            "bob",
            "cat",
            "archive",
        }


async def test_a_welcome_that_was_dropped_is_read_on_the_next_connection_and_nothing_is_missed(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WAIT_MS", 2_000)
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone", "cat/phone") as here:
        conversation = await here.talk("ann/phone", "cat/phone")
        dropped: list[Frame] = []

        def once(frame: Frame) -> list[Frame]:
            if not dropped and isinstance(frame, Deliver) and frame.kind == EntryKind.WELCOME:
                dropped.append(frame)
                return []
            return [frame]

        liar.change = once
        await here["ann/phone"].device.change_members(conversation, add=[UserName("bob")])
        await here["ann/phone"].in_epoch(conversation, 2)
        await here["ann/phone"].say(conversation, "the first that you may read")
        bob = here["bob/phone"]
        await bob.sees(conversation, "the first that you may read")
        assert dropped
        assert Cause.WELCOME_LOST not in causes(bob)


async def test_a_withheld_welcome_is_asked_for_again(
    tmp_path: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for an honest Welcome on a busy machine.
    monkeypatch.setattr(following, "WAIT_MS", 2_000)
    async with ward(tmp_path, hospital(), "ann/phone", "bob/phone", "cat/phone") as here:
        conversation = await here.talk("ann/phone", "cat/phone")

        def withheld(frame: Frame) -> list[Frame]:
            hides = isinstance(frame, Deliver) and frame.kind == EntryKind.WELCOME
            if hides and isinstance(frame, Deliver):
                return [altered(frame, kind=EntryKind.EXPIRED, body=b"")]
            return [frame]

        liar.change = withheld
        await here["ann/phone"].device.change_members(conversation, add=[UserName("bob")])
        await here["ann/phone"].in_epoch(conversation, 2)
        bob = here["bob/phone"]
        await bob.until(lambda: Cause.WELCOME_LOST in causes(bob))
        liar.change = honest
        await bob.until(lambda: bob.epoch(conversation) > 0)
        await here["ann/phone"].say(conversation, "now you read")
        await bob.sees(conversation, "now you read")


async def test_a_forked_log_is_noticed_and_left(tmp_path: Path, liar: Liar) -> None:
    """Bob is given another Commit than everybody else; the receipt tells him, and he comes back."""
    async with talking(tmp_path) as (here, conversation):

        def forked(frame: Frame) -> list[Frame]:
            if is_entry(frame, EntryKind.COMMIT) and isinstance(frame, Deliver):
                body = frame.body[:-32] + secrets.token_bytes(32)
                return [altered(frame, body=body)]
            return [frame]

        liar.change = forked
        await here["ann/phone"].device.change_members(conversation, remove=[CAT])
        bob = here["bob/phone"]
        await bob.until(lambda: Cause.FORKED in causes(bob))
        liar.change = honest
        await bob.until(lambda: bob.epoch(conversation) >= 3)
        await bob.say(conversation, "I am back")
        await here["ann/phone"].sees(conversation, "I am back")


async def test_no_device_that_the_relay_slips_into_the_directory_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One administrator has invited a second first device of Bob; the relay shows it to Ann."""
    liar = Liar(monkeypatch, "ann/phone")
    of = hospital()
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        conversation = await here.talk("ann/phone", "bob/phone")
        slipped = ghost(of, "bob/ghost")
        entry = frames.DirectoryEntry(device=slipped.name, certificate=slipped.certificate)

        def answer(frame: Frame) -> Frame:
            if isinstance(frame, frames.Directory):
                return frames.Directory(ref=frame.ref, devices=(entry, *frame.devices))
            return frame

        liar.answer = answer
        ann = here["ann/phone"]
        await ann.device.look_up([UserName("bob")])
        assert [view.device for view in ann.device.devices(UserName("bob"))] == ["bob/phone"]
        again = await here.talk("ann/phone", "bob/phone")
        for one in (conversation, again):
            devices = {name for view in ann.device.members(one) for name in view.devices}
            assert devices == {"ann/phone", "bob/phone", "archive/recorder"}


async def test_an_own_message_that_is_given_back_is_not_shown_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = Liar(monkeypatch, "ann/phone")
    others = Liar(monkeypatch, "bob/phone")
    async with talking(tmp_path) as (here, conversation):
        ann = here["ann/phone"]
        await ann.say(conversation, "mine")
        await here["bob/phone"].sees(conversation, "mine")
        await ann.device.settled(WAIT_S)
        mine = [entry for entry in others.seen if is_message(entry)][-1]
        cursor = ann.engine.cursor(conversation)
        for number in (mine.sequence, cursor + 1):
            liar.inject(altered(mine, sequence=number, predecessor=number - 1))
        await here["bob/phone"].say(conversation, "yours")
        await ann.until(lambda: Cause.FORGED in causes(ann))
        assert ann.texts(conversation).count("mine") == 1


async def test_what_was_sent_and_not_answered_is_known_again_when_it_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = Liar(monkeypatch, "ann/phone")
    async with talking(tmp_path) as (here, conversation):
        ann = here["ann/phone"]
        liar.change = lambda _: []
        # Before it stands what Ann has not acknowledged: so the relay gives hers back, too.
        await here["cat/phone"].say(conversation, "before")
        await here["bob/phone"].sees(conversation, "before")
        shown = await ann.say(conversation, "mine")
        await here["bob/phone"].sees(conversation, "mine")
        liar.change = honest
        sending = ann.engine.sending
        pump = sending.pump

        async def late(link: Link) -> None:
            # The relay's entries come before this device has sent anything again.
            await asyncio.sleep(0.3)
            await pump(link)

        monkeypatch.setattr(sending, "pump", late)
        await liar.cut()

        def stored() -> bool:
            found = ann.device.message(shown.key)
            return found is not None and found.state is State.STORED

        await ann.until(stored)
        assert ann.texts(conversation) == ["before", "mine"]
        assert ann.device.status.faults == 0

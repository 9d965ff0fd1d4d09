"""Emergency access over a relay: two colleagues vouch, all see it, and it ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client import emergency, membership, steward
from client.emergency import Emergencies, Vouched, direct_with
from client.errors import EndedError, ForbiddenError, NotMemberError, UnknownUserError
from client.membership import Intent
from client.views import Roster
from crypto.errors import InvalidError
from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import limits
from protocol.content import EmergencyRequest, EmergencyVouch
from protocol.emergency import EMERGENCY_MS, Emergency
from protocol.group_context import ConversationType, WardlineContext
from protocol.identifiers import ConversationId, UserName
from tests.client.devices import WAIT_S, Running, Ward, ward
from tests.server.harness import Hospital, hospital, now_ms

ANN, BOB, CAT, DAN = (UserName(name) for name in ("ann", "bob", "cat", "dan"))
STAY_MS = 3_600_000
HOME = ("ann/phone", "bob/phone", "cat/phone")


@pytest.fixture
def of() -> Hospital:
    return hospital()


def people(running: Running, conversation: ConversationId) -> set[str]:
    return {str(member.user) for member in running.device.members(conversation)} - {"archive"}


def is_in(running: Running, conversation: ConversationId) -> Callable[[], bool]:
    """Return whether a device is a member now."""

    def holds() -> bool:
        room = running.engine.rooms.get(conversation)
        return running.engine.rooms.group(conversation) is not None and not room.known.ended

    return holds


async def let_in(here: Ward, conversation: ConversationId, *, stay_ms: int = STAY_MS) -> None:
    """Let dan in on the word of bob and cat, neither of whom owns the conversation."""
    bob, cat, dan = here["bob/phone"], here["cat/phone"], here["dan/phone"]
    vouching = Emergencies(bob.device)
    said = await vouching.vouch(conversation, DAN, reason="Arrest in bed 7", stay_ms=stay_ms)
    assert said is Vouched.FIRST
    await cat.until(lambda: Emergencies(cat.device).pending(conversation))
    assert await Emergencies(cat.device).vouch(conversation, DAN) is Vouched.SECOND
    await dan.until(is_in(dan, conversation))


async def test_two_colleagues_let_a_third_in_and_everybody_sees_it(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, *HOME, "dan/phone") as here:
        conversation = await here.talk(*HOME)
        await here["ann/phone"].say(conversation, "before")
        await let_in(here, conversation)
        await here["ann/phone"].say(conversation, "after")
        await here["dan/phone"].sees(conversation, "after")
        assert "before" not in here["dan/phone"].texts(conversation)
        for name in (*HOME, "dan/phone"):
            running = here[name]
            await running.until(lambda: len(people(running, conversation)) == 4)  # noqa: B023 - awaited here
            (visit,) = Emergencies(running.device).visits(conversation)
            assert (visit.user, visit.vouchers) == (DAN, (BOB, CAT))
            (guest,) = [m for m in running.device.members(conversation) if m.guest_until_ms]
            assert (guest.user, guest.guest_until_ms) == (DAN, visit.until_ms)
            told = [m.content for m in running.device.messages(conversation, limit=99)]
            (roster,) = [one for one in told if isinstance(one, Roster) and one.guests]
            assert roster.guests == {DAN: visit.until_ms}
            assert roster.vouchers == (BOB, CAT)
            assert running.device.status.faults == 0
        shown = here["ann/phone"].shown(conversation)
        (vouch,) = [one for one in shown if isinstance(one.content, EmergencyVouch)]
        assert "Arrest in bed 7" in vouch.text


async def test_a_guest_learns_the_title_from_who_lets_them_in_while_the_first_device_is_away(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, *HOME, "dan/phone") as here:
        conversation = await here.talk(*HOME, title="Bed 7")
        await here["cat/phone"].until(
            lambda: here["cat/phone"].device.summary(conversation).title == "Bed 7"
        )
        await here.go("ann/phone")
        await let_in(here, conversation)
        dan = here["dan/phone"]
        await dan.until(lambda: dan.device.summary(conversation).title == "Bed 7")


async def test_one_colleague_alone_lets_nobody_in(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ward(tmp_path, of, *HOME, "bob/laptop", "dan/phone") as here:
        conversation = await here.talk(*HOME, "bob/laptop")
        vouching = Emergencies(here["bob/phone"].device)
        assert await vouching.vouch(conversation, DAN, reason="once") is Vouched.FIRST
        laptop = here["bob/laptop"]
        await laptop.until(lambda: Emergencies(laptop.device).pending(conversation))
        again = await Emergencies(laptop.device).vouch(conversation, DAN, reason="twice")
        assert again is Vouched.FIRST
        monkeypatch.setattr(membership, "AGAIN_MS", 10)
        (first, _) = Emergencies(laptop.device).pending(conversation)
        twice = await laptop.device.statements.countersign(first.statement, Purpose.DEVICE)
        laptop.engine.membership.want(conversation, Intent(guests=(twice,)))
        await laptop.device.settled(WAIT_S)
        await here["ann/phone"].say(conversation, "go on")
        await laptop.sees(conversation, "go on")
        assert people(laptop, conversation) == {ANN, BOB, CAT}


async def test_access_ends_by_itself_where_the_recorder_does_nothing(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steward, "RANK_MS", 100)
    async with ward(tmp_path, of, *HOME, "dan/phone") as here:
        conversation = await here.talk(*HOME)
        await let_in(here, conversation)
        monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 300)
        for name in HOME:
            here[name].engine.steward.start_over()
            here[name].engine.steward.remind()
        here.later(STAY_MS)
        ann, dan = here["ann/phone"], here["dan/phone"]
        await dan.until(lambda: not is_in(dan, conversation)())
        with pytest.raises(EndedError):
            await dan.say(conversation, "still here")
        await ann.until(lambda: people(ann, conversation) == {ANN, BOB, CAT})
        await ann.until(lambda: not context_of(ann, conversation).guests)
        await ann.say(conversation, "among ourselves")
        await here["bob/phone"].sees(conversation, "among ourselves")
        assert "among ourselves" not in dan.texts(conversation)


def context_of(running: Running, conversation: ConversationId) -> WardlineContext:
    found = running.engine.rooms.context(running.engine.rooms.get(conversation))
    assert found is not None
    return found


async def test_nothing_is_sent_to_a_guest_whose_time_is_over(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, *HOME, "dan/phone") as here:
        conversation = await here.talk(*HOME)
        await let_in(here, conversation)
        ann, dan = here["ann/phone"], here["dan/phone"]
        (visit,) = Emergencies(ann.device).visits(conversation)
        here.site.later_ms += STAY_MS
        assert here.clock() >= visit.until_ms
        await ann.say(conversation, "too late for a guest")
        await here["bob/phone"].sees(conversation, "too late for a guest")
        assert people(ann, conversation) == {ANN, BOB, CAT}
        assert "too late for a guest" not in dan.texts(conversation)


async def test_who_vouched_ends_it_and_no_other_member_does(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, *HOME, "eve/phone", "dan/phone") as here:
        conversation = await here.talk(*HOME, "eve/phone")
        await let_in(here, conversation)
        eve, cat = here["eve/phone"], here["cat/phone"]
        with pytest.raises(ForbiddenError):
            await Emergencies(eve.device).end(conversation, DAN)
        await Emergencies(cat.device).end(conversation, DAN)
        await cat.until(lambda: people(cat, conversation) == {ANN, BOB, CAT, "eve"})
        assert not Emergencies(cat.device).visits(conversation)
        await eve.until(lambda: people(eve, conversation) == {ANN, BOB, CAT, "eve"})
        with pytest.raises(InvalidError):
            await Emergencies(cat.device).end(conversation, DAN)


async def test_a_guest_asks_colleagues_and_leaves_when_done(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ward(tmp_path, of, *HOME, "dan/phone") as here:
        conversation = await here.talk(*HOME)
        bob, dan = here["bob/phone"], here["dan/phone"]
        await Emergencies(dan.device).ask([BOB], about="bed 7", reason="I am the one on call")
        direct = await direct_with(dan.device, BOB)
        await bob.until(
            lambda: any(
                isinstance(one.content, EmergencyRequest)
                for found in bob.device.conversations()
                for one in bob.shown(found.conversation)
            )
        )
        assert await direct_with(bob.device, DAN) == direct
        await let_in(here, conversation)
        with pytest.raises(InvalidError):
            await Emergencies(dan.device).vouch(conversation, UserName("eve"), reason="me too")
        monkeypatch.setattr(limits, "RECEIPT_SILENCE_MS", 100)
        monkeypatch.setattr(steward, "RANK_MS", 100)
        await Emergencies(dan.device).end(conversation, DAN)
        await bob.until(lambda: people(bob, conversation) == {ANN, BOB, CAT})


async def test_what_members_would_refuse_is_refused_before_it_is_said(
    tmp_path: Path, of: Hospital
) -> None:
    of.enrol("adam/desk", Role.ADMINISTRATOR)
    async with ward(tmp_path, of, *HOME, "adam/desk", "dan/phone") as here:
        conversation = await here.talk(*HOME, "adam/desk")
        bob, dan, adam = here["bob/phone"], here["dan/phone"], here["adam/desk"]
        vouching = Emergencies(bob.device)
        for user in (BOB, CAT):
            with pytest.raises(InvalidError):
                await vouching.vouch(conversation, user, reason="in already")
        for stay_ms in (emergency.SHORTEST_MS - 1, EMERGENCY_MS + 1):
            with pytest.raises(InvalidError):
                await vouching.vouch(conversation, DAN, reason="no time", stay_ms=stay_ms)
        with pytest.raises(UnknownUserError):
            await vouching.vouch(conversation, UserName("nobody"), reason="who")
        with pytest.raises(ForbiddenError):
            await Emergencies(adam.device).vouch(conversation, DAN, reason="by rank")
        with pytest.raises(NotMemberError):
            await Emergencies(dan.device).vouch(conversation, ANN, reason="from outside")
        direct = await here.talk("ann/phone", "bob/phone", kind=ConversationType.DIRECT)
        with pytest.raises(InvalidError):
            await vouching.vouch(direct, DAN, reason="between two")


async def test_nobody_signs_something_else_than_they_read(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, *HOME, "dan/phone", "eve/phone") as here:
        conversation = await here.talk(*HOME)
        bob, cat = here["bob/phone"], here["cat/phone"]
        until_ms = now_ms() + 3_600_000
        body = Emergency(conversation=conversation, user=UserName("eve"), until_ms=until_ms)
        signed = bob.device.statements.sign(StatementType.EMERGENCY, body.encode(), Purpose.DEVICE)
        says = EmergencyVouch(user=DAN, until_ms=until_ms, reason="dan", statement=signed)
        shown = await bob.device.send(conversation, says)
        assert shown is not None
        await cat.until(lambda: cat.device.message(shown.key))
        assert Emergencies(cat.device).pending(conversation) == []

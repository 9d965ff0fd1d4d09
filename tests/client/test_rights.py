"""Each right of a policy, by each role, allowed and denied: everything is tried at real devices.

``NEEDS`` is the expectation, as in ``tests/server/test_rights.py``: what must be allowed for each
thing that a person may try. What is refused is refused by the device itself, which says which right
it lacks; what is allowed is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from client import follow, following, history
from client.errors import BarredError, KeptInsideError, NotAllowedError, RefusedError
from client.followed import Cause
from client.messages import MessageKey
from client.views import WITHHELD_TEXT, Withheld
from crypto.errors import InvalidError
from crypto.mls import secret_tree
from crypto.names import Role
from protocol.authenticated_data import Priority
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName, conversation_log
from protocol.oncall.page_state import Event, Status
from protocol.policy import ALLOWED, Action, DeviceRules, Policy
from tests.client.devices import Running, Ward, ward
from tests.client.test_paging_devices import ICU, TEXT, scheduled, texts
from tests.server.harness import Hospital, hospital
from tests.server.test_rights import PEOPLE, denials
from tests.waiting import WITHIN_S

ZOE = UserName("zoe")
SECRET = "potassium 6.8"
TITLE = "Mrs Miller"
TALK = {Action.SEND, Action.RECEIVE, Action.VIEW}


@pytest.fixture
def of() -> Hospital:
    return hospital()


@dataclass(kw_only=True)
class Place:
    """A device of the role that is tried, and another person's.

    Attributes:
        group: A conversation of both, with a message, a file and a title by the other.
        own: One that the tried device owns.
        page: A page of both.
        file: On the tried person's disk.
        sent: The other's file.
        strangers: People of whom the tried device has not heard.
    """

    here: Ward
    one: Running
    other: Running
    group: ConversationId
    own: ConversationId
    page: ConversationId
    file: Path
    sent: MessageKey
    strangers: list[UserName] = field(default_factory=list)


async def refused_by(deed: Awaitable[object]) -> set[Action]:
    """Do something; return the right that is lacking, nothing where it was done."""
    try:
        await deed
    except NotAllowedError as error:
        return {error.action}
    except KeptInsideError:
        return {Action.SAVE}
    except BarredError:
        return {Action.RECEIVE}
    return set()


async def say(place: Place) -> set[Action]:
    return await refused_by(place.one.say(place.group, "said"))


async def say_in_page(place: Place) -> set[Action]:
    return await refused_by(place.one.say(place.page, "said"))


async def begin(place: Place) -> set[Action]:
    others = [place.other.device.user]
    return await refused_by(place.one.device.start(ConversationType.GROUP, others))


async def begin_a_page(place: Place) -> set[Action]:
    others = [place.other.device.user]
    return await refused_by(place.one.device.start(ConversationType.PAGE, others))


async def change_members(place: Place) -> set[Action]:
    return await refused_by(place.one.device.change_members(place.own, remove=[ZOE]))


async def change_owners(place: Place) -> set[Action]:
    return await refused_by(place.one.device.set_owners(place.own, [place.one.device.user]))


async def be_added(place: Place) -> set[Action]:
    others = [place.one.device.user]
    return await refused_by(place.other.device.start(ConversationType.GROUP, others))


async def be_added_to_a_page(place: Place) -> set[Action]:
    others = [place.one.device.user]
    return await refused_by(place.other.device.start(ConversationType.PAGE, others))


async def send_a_file(place: Place) -> set[Action]:
    return await refused_by(place.one.device.attach(place.group, place.file))


async def save_a_file(place: Place) -> set[Action]:
    key = place.sent
    to_path = place.file.with_name("saved")
    to_path.unlink(missing_ok=True)
    lacks = await refused_by(place.one.device.fetch(key, to_path))
    assert to_path.exists() is not bool(lacks)
    return lacks


async def look_a_stranger_up(place: Place) -> set[Action]:
    user = place.strangers.pop()
    lacks = await refused_by(place.one.device.look_up([user]))
    assert bool(place.one.device.devices(user)) is not bool(lacks)
    return lacks


async def vouch(place: Place) -> set[Action]:
    return await refused_by(place.one.device.emergency.vouch(place.group, ZOE, reason="bed 4"))


async def command(place: Place) -> set[Action]:
    async def submit() -> None:
        with contextlib.suppress(RefusedError):
            await place.one.device.statements.submit(b"nothing that is signed")

    return await refused_by(submit())


async def hand_over(place: Place) -> set[Action]:
    async def hand() -> None:
        assert SECRET.encode() in b"".join(
            one.content for one in history.originals(place.one.device, place.group, hours=1)
        )

    return await refused_by(hand())


async def read(place: Place) -> set[Action]:
    """Look everywhere at what the other said; return the right without which nothing is shown."""
    device = place.one.device
    shown = [one for one in device.messages(place.group, limit=99) if not one.own and one.sender]
    there = [
        any(SECRET in one.text for one in shown),
        any(SECRET in one.text for one in device.search("potassium", conversation=place.group)),
        any(isinstance(device.message(one.key).content, Withheld) for one in shown) is False,  # type: ignore[union-attr]
        device.summary(place.group).title == TITLE,
        device.handing_over.count(place.group) > 0,
        any(WITHHELD_TEXT in one.text for one in shown) is False,
    ]
    assert len(set(there)) == 1, there
    return set() if there[0] else {Action.VIEW}


async def read_a_page(place: Place) -> set[Action]:
    shown = place.one.device.messages(place.page, limit=99)
    return set() if any(SECRET in one.text for one in shown) else {Action.VIEW}


NEEDS: Mapping[Callable[[Place], Awaitable[set[Action]]], frozenset[Action]] = MappingProxyType(
    {
        say: frozenset({Action.SEND, Action.RECEIVE}),
        begin: frozenset({Action.SEND, Action.RECEIVE}),
        change_members: frozenset({Action.SEND, Action.RECEIVE}),
        change_owners: frozenset({Action.SEND, Action.RECEIVE}),
        be_added: frozenset({Action.RECEIVE}),
        send_a_file: frozenset({Action.SEND, Action.RECEIVE, Action.ATTACH}),
        save_a_file: frozenset({Action.VIEW, Action.RECEIVE, Action.ATTACH, Action.SAVE}),
        look_a_stranger_up: frozenset({Action.LOOK_UP}),
        vouch: frozenset({Action.VOUCH, Action.SEND, Action.RECEIVE}),
        command: frozenset({Action.COMMAND}),
        read: frozenset({Action.VIEW}),
        hand_over: frozenset({Action.VIEW}),
        # What no policy takes from anybody.
        say_in_page: frozenset(),
        begin_a_page: frozenset(),
        be_added_to_a_page: frozenset(),
        read_a_page: frozenset(),
    }
)


def test_every_right_is_needed_for_something() -> None:
    assert frozenset().union(*NEEDS.values()) == set(Action)


async def placed(here: Ward, folder: Path) -> Place:
    """Return everybody, while nothing is denied."""
    one, other = here["one/phone"], here["other/phone"]
    group = await here.talk("other/phone", "one/phone", title=TITLE)
    page = await here.talk("other/phone", "one/phone", kind=ConversationType.PAGE)
    own = await here.talk("one/phone", "other/phone")
    await one.device.look_up([ZOE])
    scan = folder / "scan.png"
    scan.write_bytes(bytes(1_000))
    await other.say(group, SECRET)
    await other.say(page, SECRET)
    shown = await other.device.attach(group, scan, caption="scan")
    await one.until(lambda: one.device.message(shown.key) is not None)
    await one.sees(group, SECRET)
    await one.until(lambda: SECRET in one.texts(page))
    return Place(
        here=here, one=one, other=other, group=group, own=own, page=page, file=scan, sent=shown.key
    )


@pytest.mark.parametrize("role", PEOPLE)
async def test_each_role_is_told_by_its_own_device_which_right_it_lacks(
    tmp_path: Path, of: Hospital, role: Role
) -> None:
    another = Role.CLINICIAN if role is not Role.CLINICIAN else Role.OFFICER
    of.enrol("one/phone", role)
    of.enrol("other/phone", another)
    of.enrol("zoe/phone", another)
    rules = DeviceRules(hand_over_hours=12)
    async with ward(tmp_path, of, "other/phone", "one/phone", "zoe/phone") as here:
        place = await placed(here, tmp_path)
        for version, denied in enumerate(denials(role), 1):
            rights = {} if denied is None else {denied: ALLOWED[denied] - {role}}
            stranger = UserName(f"stranger{version}")
            await (await here.site.open(of.enrol(f"{stranger}/phone"))).socket.close()
            place.strangers.append(stranger)
            await here.govern(Policy(version=version, rights=rights, devices=rules))
            may = {action for action in Action if role in ALLOWED[action] and action != denied}
            for tried, needed in NEEDS.items():
                async with asyncio.timeout(WITHIN_S):
                    lacks = await tried(place)
                assert bool(lacks) is not (needed <= may), (denied, tried.__name__)
                assert lacks <= needed - may, (denied, tried.__name__)
        for name in ("one/phone", "other/phone"):
            assert here[name].device.status.faults == 0


async def test_who_may_view_again_reads_on_and_no_hole_is_named(
    tmp_path: Path, of: Hospital
) -> None:
    of.enrol("bob/phone", Role.AFFILIATE)
    names = ("ann/phone", "bob/phone", "cat/phone", "dan/phone")
    async with ward(tmp_path, of, *names) as here:
        ann, bob, dan = here["ann/phone"], here["bob/phone"], UserName("dan")
        group = await here.talk(*names)
        await ann.say(group, "before")
        await bob.sees(group, "before")
        without = {Action.VIEW: ALLOWED[Action.VIEW] - {Role.AFFILIATE}}
        for round_, goes in enumerate((False, True), 1):
            await here.govern(Policy(version=2 * round_ - 1, rights=without))
            assert "before" not in bob.texts(group)
            await ann.say(group, f"hidden {round_}")
            # Another epoch: the device follows the keys of what it may not read.
            await ann.device.change_members(
                group, add=[dan] if goes else [], remove=[] if goes else [dan]
            )
            await bob.in_epoch(group, 1 + round_)
            last = await ann.say(group, f"hidden {round_} too")
            await here["cat/phone"].sees(group, f"hidden {round_}", f"hidden {round_} too")
            await bob.until(lambda who=bob: caught_up(here, who, group))  # type: ignore[misc]
            assert bob.device.message(last.key) is None
            await bob.say(group, f"said blind {round_}")
            await ann.sees(group, f"said blind {round_}")
            if goes:
                await here.go("bob/phone")
                await here.come("bob/phone")
                bob = here["bob/phone"]
            await here.govern(Policy(version=2 * round_))
            for text in (f"after {round_}", f"and again {round_}"):
                await ann.say(group, text)
                await bob.sees(group, text)
            assert "before" in bob.texts(group)
            assert bob.device.message(last.key) is None
            assert bob.device.status.faults == 0


def caught_up(here: Ward, running: Running, conversation: ConversationId) -> bool:
    """Tell whether a device has taken in all that its conversation's log holds."""
    head = here.site.relay.store.head(here.site.key(conversation_log(conversation)))
    return head is not None and running.engine.cursor(conversation) == head.seq


async def test_who_may_receive_again_gets_what_waited(tmp_path: Path, of: Hospital) -> None:
    of.enrol("bob/phone", Role.AFFILIATE)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        group = await here.talk("ann/phone", "bob/phone", "cat/phone")
        without = {Action.RECEIVE: ALLOWED[Action.RECEIVE] - {Role.AFFILIATE}}
        await here.govern(Policy(version=1, rights=without))
        await ann.say(group, "waits")
        await ann.device.change_members(group, remove=[UserName("cat")])
        await ann.in_epoch(group, 2)
        await ann.say(group, "waits as well")
        assert bob.epoch(group) == 1
        await here.govern(Policy(version=2))
        await bob.sees(group, "waits", "waits as well")
        await bob.say(group, "here again")
        await ann.sees(group, "here again")
        assert bob.device.status.faults == 0


def causes(running: Running) -> list[Cause]:
    return [Cause(one.cause) for one in running.engine.store.faults.all()]


async def test_what_a_relay_keeps_back_without_a_policy_is_noted(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WAIT_MS", 100)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        group = await here.talk("ann/phone", "bob/phone")
        there = here.site.relay.organisations[of.id]
        honest, lying = (
            there.policy,
            Policy(version=1, rights={Action.VIEW: frozenset({Role.RECORDER})}),
        )

        def obey(policy: Policy) -> None:
            there.policy = policy
            for connection in here.site.relay.delivery.connections(of.id):
                connection.catch_up()

        obey(lying)
        await ann.say(group, "kept back")
        await bob.until(lambda: causes(bob) == [Cause.WITHHELD])
        obey(honest)
        await ann.say(group, "heard")
        await bob.sees(group, "heard")


async def test_what_was_kept_back_before_a_policy_changed_is_read_whole_the_next_time(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WAIT_MS", 100)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        group = await here.talk("ann/phone", "bob/phone")
        there = here.site.relay.organisations[of.id]
        before, there.policy = (
            there.policy,
            Policy(version=1, rights={Action.VIEW: frozenset({Role.RECORDER})}),
        )
        for connection in here.site.relay.delivery.connections(of.id):
            connection.catch_up()
        await ann.say(group, "in between")
        await bob.until(lambda: bob.engine.following.waits)
        there.policy = before
        await bob.sees(group, "in between")
        assert causes(bob) == []


async def test_who_missed_more_than_the_keys_go_on_without_asks_to_be_let_in_again(
    tmp_path: Path, of: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret_tree, "MAX_FORWARD", 3)
    monkeypatch.setattr(follow, "MAX_FORWARD", 3)
    of.enrol("bob/phone", Role.AFFILIATE)
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        group = await here.talk("ann/phone", "bob/phone", "cat/phone")
        without = {Action.VIEW: ALLOWED[Action.VIEW] - {Role.AFFILIATE}}
        await here.govern(Policy(version=1, rights=without))
        for number in range(5):
            await ann.say(group, f"hidden {number}")
        await ann.device.settled(WITHIN_S)
        await bob.until(lambda: caught_up(here, bob, group))
        await here.govern(Policy(version=2))
        await ann.say(group, "too far ahead")
        await bob.until(lambda: causes(bob) == [Cause.EPOCH_LOST])
        assert bob.engine.rooms.get(group).known.away
        await ann.until(
            lambda: (
                [one.by for one in ann.engine.rooms.get(group).known.demands.values()]
                == [bob.device.me]
            )
        )


async def test_no_policy_silences_a_page(tmp_path: Path, of: Hospital) -> None:
    async with ward(tmp_path, of, "nurse/phone", "intern/phone", "registrar/phone") as here:
        await scheduled(here)
        nurse, intern = here["nurse/phone"], here["intern/phone"]
        only = frozenset({Role.RECORDER, Role.ADMINISTRATOR})
        taken = [*TALK, Action.LOOK_UP, Action.ATTACH]
        await here.govern(Policy(version=1, rights=dict.fromkeys(taken, only)))
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await intern.until(lambda: texts(intern) == [TEXT])
        await intern.sees(page, TEXT)
        await intern.device.duty.answer(page, Event.ACCEPT)
        await nurse.until(lambda: nurse.device.duty.pages()[0].status is Status.ACCEPTED)
        await intern.say(page, "on my way")
        await nurse.sees(page, "on my way")


async def test_nobody_is_told_that_something_was_read_by_who_may_not(
    tmp_path: Path, of: Hospital
) -> None:
    of.enrol("bob/phone", Role.AFFILIATE)
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        group = await here.talk("ann/phone", "bob/phone")
        shown = await ann.say(group, "seen")
        await bob.sees(group, "seen")
        place = bob.shown(group)[-1].place
        for version, action in enumerate((Action.VIEW, Action.SEND), 1):
            rights = {action: ALLOWED[action] - {Role.AFFILIATE}}
            await here.govern(Policy(version=version, rights=rights))
            await bob.device.mark_read(group, place)
            assert bob.device.summary(group).unread == 0
        await ann.device.settled(WITHIN_S)
        found = ann.device.message(shown.key)
        assert found is not None
        assert all(state.name != "READ" for state, _ in found.people.values())


def test_a_policy_takes_nothing_from_the_recorder() -> None:
    for action in Action:
        with pytest.raises(InvalidError):
            Policy(rights={action: ALLOWED[action] - {Role.RECORDER}})

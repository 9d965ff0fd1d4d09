"""A group of many devices, two of each person, on the relay's real process.

Eight devices in the suite; ``WARDLINE_DEPTH`` above 1 makes it sixteen, above 19 two hundred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from client import delivering, thread
from client.errors import EndedError
from client.messages import MessageKey, PersonState, State
from client.views import Shown
from protocol.content import Edit, Reaction, Reply, Text
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, DeviceId, UserName, user_of
from tests.client.devices import Running
from tests.depth import DEPTH
from tests.scenarios.devices import RealWard, real_ward
from tests.server.harness import RECORDER, hospital

PEOPLE = 100 if DEPTH >= 20 else 8 if DEPTH > 1 else 4
WITHIN_S = 600.0 if DEPTH >= 20 else 120.0

USERS = [UserName(f"user{number}") for number in range(PEOPLE)]
LATE, GONE = USERS[1], USERS[2]


def devices_of(users: Iterable[UserName]) -> list[str]:
    return [f"{user}/{device}" for user in users for device in ("phone", "laptop")]


async def all_see(
    here: RealWard, names: Iterable[str], conversation: ConversationId, text: str
) -> None:
    async with asyncio.TaskGroup() as group:
        for name in names:
            seeing = here[name].until(
                lambda name=name: text in here[name].texts(conversation),  # type: ignore[misc]
                within_s=WITHIN_S,
            )
            group.create_task(seeing)


async def in_epoch(running: Running, conversation: ConversationId, epoch: int) -> None:
    await running.until(lambda: running.epoch(conversation) >= epoch, within_s=WITHIN_S)


def message(running: Running, key: MessageKey) -> Shown:
    shown = running.device.message(key)
    assert shown is not None
    return shown


async def told(running: Running, key: MessageKey, which: Callable[[Shown], bool]) -> None:
    await running.until(lambda: which(message(running, key)), within_s=WITHIN_S)


async def acted_upon(
    here: RealWard, names: Sequence[str], conversation: ConversationId, key: MessageKey
) -> None:
    """Edit, retract, reply, react and acknowledge, and see that everybody sees it."""
    author, other = here[names[0]], here[names[-1]]
    await author.device.send(conversation, Edit(target=thread.reference(key), text="good evening"))
    await all_see(here, names, conversation, "good evening")
    await other.device.send(conversation, Reply(to=thread.reference(key), text="and to you"))
    await all_see(here, names, conversation, "and to you")
    await other.device.send(conversation, Reaction(target=thread.reference(key), mark="+1"))
    asked = await author.device.send(
        conversation, Text(text="read this"), acknowledgement_asked=True
    )
    wrong = await author.say(conversation, "wrong ward")
    assert asked is not None
    await all_see(here, names, conversation, "wrong ward")
    await author.device.recall(wrong.key)
    await other.device.acknowledge(asked.key)
    for name in names:
        running = here[name]
        await told(running, key, lambda one: one.reactions == {"+1": (user_of(other.device.me),)})
        await told(running, wrong.key, lambda one: one.state is State.RETRACTED)
        assert message(running, key).edited == 1
        assert [one.text for one in running.device.history(key)] == ["good morning"]

    def acknowledged(one: Shown) -> bool:
        state, _ = one.people.get(user_of(other.device.me), (None, 0))
        return state is PersonState.ACKNOWLEDGED

    await told(author, asked.key, acknowledged)


async def test_a_group_of_people_with_two_devices_each_does_all_that_people_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    laptop = DeviceId(f"{LATE}/laptop")
    names = [name for name in devices_of(USERS) if name != laptop]
    async with real_ward(tmp_path, hospital(), *names) as here:
        first = here[names[0]]
        conversation = await first.device.start(ConversationType.GROUP, USERS[1:], title="Ward 4")
        for name in (*names, RECORDER):
            await in_epoch(here[name], conversation, 1)
        said = await first.say(conversation, "good morning")
        await all_see(here, (*names, RECORDER), conversation, "good morning")

        # A device that is added later reads from then on.
        await here.come(laptop)
        phone = here[f"{LATE}/phone"]
        await phone.device.look_up([LATE])
        phone.engine.steward.adopt(laptop)
        await in_epoch(here[laptop], conversation, 2)
        await first.say(conversation, "for the laptop too")
        await all_see(here, (*names, laptop, RECORDER), conversation, "for the laptop too")
        assert here[laptop].texts(conversation) == ["for the laptop too"]

        await acted_upon(here, names, conversation, said.key)

        # Who is removed reads nothing more, on neither device.
        await first.device.change_members(conversation, remove=[GONE])
        rest = [name for name in (*names, laptop) if user_of(DeviceId(name)) != GONE]
        for name in rest:
            await in_epoch(here[name], conversation, 3)
        await first.say(conversation, "not for everybody")
        await all_see(here, (*rest, RECORDER), conversation, "not for everybody")
        for name in devices_of([GONE]):
            gone = here[name]
            await gone.until(
                lambda gone=gone: gone.device.summary(conversation).ended,  # type: ignore[misc]
                within_s=WITHIN_S,
            )
            assert "not for everybody" not in gone.texts(conversation)
            with pytest.raises(EndedError):
                await gone.say(conversation, "hello?")
        for running in here.running.values():
            assert running.device.status.faults == 0

"""The relay's process is killed at any moment and met again with what the devices kept."""

from __future__ import annotations

import asyncio
import operator
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from protocol.errors import Code
from protocol.identifiers import ConversationId
from tests.depth import DEPTH
from tests.scenarios.members import Member, NoKeyPackageError, Talk
from tests.scenarios.process import serving
from tests.scenarios.ward import assembled, ward
from tests.server import harness

ROUNDS = 12 * DEPTH
BUSY_S = 0.25
"""Most seconds from a round's begin to its kill: some hundred messages, a few Commits."""

UNANSWERED_MAX = 100
"""Messages that a device sends ahead; below the relay's window."""


class Day:
    """Members who talk and change their group until the relay goes away, and what they said."""

    def __init__(self, members: Sequence[Member], conversation: ConversationId) -> None:
        self.members = members
        self.conversation = conversation
        self.said: list[bytes] = []
        self.over = False

    async def talk(self, member: Member) -> None:
        """Send messages with random pauses."""
        while not self.over:
            if len(member.outbox) < UNANSWERED_MAX:
                text = f"{member.name} {len(self.said)}".encode()
                self.said.append(text)
                await member.say(self.conversation, text)
            await asyncio.sleep(random.random() * 0.005)

    async def administer(self, member: Member, guest: Member) -> None:
        """Change keys, let a guest in and show them out, again and again."""
        while not self.over:
            talk = member.talks[self.conversation]
            busy = talk.staged or any(outgoing.staged for outgoing in member.outbox.values())
            if not busy:
                await self._change(member, guest)
            await asyncio.sleep(random.random() * 0.01)

    async def _change(self, member: Member, guest: Member) -> None:
        inside = any(
            leaf.credential.certificates == (guest.person.certificate,)
            for _, leaf in member.talks[self.conversation].mls.members
        )
        try:
            if random.random() < 0.5:
                await member.stage(self.conversation)
            elif inside:
                await member.stage(self.conversation, remove=[guest.name])
            else:
                await member.stage(self.conversation, add=[guest.name])
        except NoKeyPackageError:
            return  # the guest stays outside for now
        except ConnectionError:
            self.over = True

    def begin(self, guest: Member) -> asyncio.Future[list[None]]:
        """Let everybody begin, the guest apart."""
        self.over = False
        administrator = self.members[0]
        return asyncio.gather(
            *(self.talk(member) for member in self.members),
            self.administer(administrator, guest),
        )


def check(day: Day, guest: Member) -> None:
    """Everything that was said was shown to all, once, in one order, in one epoch."""
    talks = [member.talks[day.conversation] for member in day.members]
    for talk in talks:
        assert talk.is_whole
        assert talk.shown_at == talks[0].shown_at
        assert talk.mls.epoch_authenticator == talks[0].mls.epoch_authenticator
        assert talk.unreadable == []
    assert sorted(talks[0].shown_at.values()) == sorted(day.said)
    for sequence, text in guest.talks[day.conversation].shown_at.items():
        assert talks[0].shown_at[sequence] == text


async def settled(day: Day) -> None:
    """Wait until everything is answered and everybody has everything."""
    for member in day.members:
        await member.until(partial(operator.not_, member.outbox))
    talks = [member.talks[day.conversation] for member in day.members]
    last = max(number for talk in talks for number in (*talk.seen, *talk.own))
    for member, talk in zip(day.members, talks, strict=True):
        await member.until(partial(stands_at, talk, last))


def stands_at(talk: Talk, last: int) -> bool:
    return talk.position >= last and talk.staged is None


async def test_no_kill_loses_repeats_or_forks_anything(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "relay", harness.hospital()) as at,
        ward(at, "ann/phone", "bob/phone", "carl/phone") as (ann, bob, guest, recorder),
    ):
        everybody = (ann, bob, guest, recorder)
        day = Day([ann, bob, recorder], await assembled([ann, bob, recorder]))
        for _ in range(ROUNDS):
            # What the guest has used up is replaced, so that it can always be let in again.
            await guest.publish(max(0, 40 - len(guest.offers)))
            working = day.begin(guest)
            await asyncio.sleep(random.random() * BUSY_S)
            at.kill()
            day.over = True
            await working
            for member in everybody:
                await member.lost()
            await at.start()
            for member in everybody:
                await member.connect()
        await settled(day)
        assert len(day.said) > ROUNDS
        check(day, guest)
        # The kills struck: entries came again whose acknowledgement had not reached the disk.
        assert sum(member.talks[day.conversation].repeats for member in day.members) > 0


async def test_a_relay_that_is_asked_to_end_tells_everybody_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async with (
        serving(tmp_path / "relay", harness.hospital()) as at,
        ward(at, "ann/phone", "bob/phone", "carl/phone") as (ann, bob, guest, recorder),
    ):
        everybody = (ann, bob, guest, recorder)
        day = Day([ann, bob, recorder], await assembled([ann, bob, recorder]))
        for _ in range(3):
            working = day.begin(guest)
            await asyncio.sleep(BUSY_S)
            status = await at.stop()
            day.over = True
            await working
            for member in everybody:
                await member.lost()
            assert status == 0
            assert {member.closed_with for member in everybody} == {Code.DRAINING}
            await at.start()
            for member in everybody:
                await member.connect()
        await settled(day)
        check(day, guest)

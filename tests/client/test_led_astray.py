"""A relay that made up numbers makes no device deaf: it reads on once the relay is honest."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.followed import Cause
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import CONTROL_LOG, LogId, conversation_log, inbox_log
from protocol.policy import Policy
from tests.client.devices import Running, ward
from tests.server.harness import Hospital, hospital

AHEAD = 1 << 40
"""A number that no log comes to."""


@pytest.fixture
def of() -> Hospital:
    return hospital()


async def lied_to(victim: Running, log: LogId) -> None:
    """Give a device an entry of nobody's with a number far ahead, as a relay can."""
    engine = victim.engine
    forged = Deliver(
        log=log,
        sequence=AHEAD,
        predecessor=engine.store.cursor(log),
        kind=EntryKind.MESSAGE,
        at_ms=engine.clock(),
        body=b"of nobody",
    )
    assert engine.link is not None
    await engine.following.take([forged], engine.link.ask, now_ms=engine.clock())
    assert engine.store.cursor(log) == AHEAD


async def test_what_is_said_after_a_number_that_never_was_is_read(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann, bob = here["ann/phone"], here["bob/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await ann.say(conversation, "before")
        await bob.sees(conversation, "before")
        log = conversation_log(conversation)
        await lied_to(bob, log)
        await ann.say(conversation, "after")
        await bob.sees(conversation, "before", "after")
        assert bob.engine.store.cursor(log) < AHEAD
        causes = {Cause(one.cause) for one in bob.engine.store.faults.all() if one.log == log}
        assert Cause.HOLE in causes
        await bob.say(conversation, "I hear you")
        await ann.sees(conversation, "before", "after", "I hear you")
        assert bob.texts(conversation) == ["before", "after", "I hear you"]


async def test_what_is_said_across_a_new_connection_is_read_too(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        await lied_to(here["bob/phone"], conversation_log(conversation))
        await here.go("bob/phone")
        await ann.say(conversation, "while you were away")
        await here.come("bob/phone")
        await here["bob/phone"].sees(conversation, "while you were away")


async def test_a_welcome_comes_by_an_inbox_whose_numbers_were_made_up(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        bob = here["bob/phone"]
        await here.talk("ann/phone", "bob/phone")
        inbox = inbox_log(bob.engine.identity.device)
        await lied_to(bob, inbox)
        conversation = await here.talk("ann/phone", "bob/phone")
        await here["ann/phone"].say(conversation, "of another")
        await bob.sees(conversation, "of another")
        assert bob.engine.store.cursor(inbox) < AHEAD


async def test_a_policy_comes_by_a_control_log_whose_numbers_were_made_up(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        bob = here["bob/phone"]
        await lied_to(bob, CONTROL_LOG)
        await here.govern(Policy(version=1))
        assert bob.device.policy.version == 1
        assert bob.engine.store.cursor(CONTROL_LOG) < AHEAD


async def test_a_log_that_is_read_anew_from_its_beginning_leaves_nothing_out_unsaid(
    tmp_path: Path, of: Hospital
) -> None:
    async with ward(tmp_path, of, "ann/phone", "bob/phone") as here:
        bob = here["bob/phone"]
        await here.talk("ann/phone", "bob/phone")
        engine, link = bob.engine, bob.engine.link
        assert link is not None
        inbox = inbox_log(engine.identity.device)
        times = []
        for sequence in (8, 16):
            engine.store.passed(inbox, sequence - 2)
            engine.following.led_back(inbox, 0, now_ms=engine.clock())
            entry = Deliver(
                log=inbox,
                sequence=sequence,
                predecessor=sequence - 1,
                kind=EntryKind.MESSAGE,
                at_ms=engine.clock(),
                body=b"of nobody",
            )
            await engine.following.take([entry], link.ask, now_ms=engine.clock())
            # It waits for what it leaves out, which is on record then.
            assert engine.following.waits
            assert engine.store.cursor(inbox) == 0
            times += [one.at_ms for one in engine.store.faults.all() if one.log == inbox]
            here.site.later_ms += 1_000
            engine.following.lost()
        assert len(times) == 2
        assert times[0] < times[1]

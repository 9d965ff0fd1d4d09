"""Pages under way at a relay that comes out of a backup: none is lost unsaid, none wakes anybody
long after; and what another version of the program has kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from crypto.errors import CryptoError, DecodeError
from protocol import frames
from protocol.errors import Code
from protocol.identifiers import ConversationId, conversation_log
from protocol.oncall import kept
from protocol.oncall.next_steps import Alarm
from protocol.oncall.page_state import Event, Status
from server.directory import PAGE
from server.live_page import read_head, read_state
from tests.server import harness
from tests.server.harness import RECORDER
from tests.server.paging import MINUTE, Floor
from tests.server.test_pages import TEAM, paged
from tests.server.test_reconcile import adopted, backed_up, resume, telling

HOUR = 60 * MINUTE
DAY = 24 * HOUR
READERS = ("nurse/phone", *(f"{name}/phone" for name in TEAM), RECORDER)


@dataclass
class Backup:
    """What there was when the backup was made, and what the archive knows beyond it."""

    of: harness.Hospital
    page: ConversationId
    later: ConversationId
    lasts: dict[ConversationId, int]
    contexts: dict[ConversationId, bytes]
    folder: Path

    def adopt(self, page: ConversationId) -> frames.Adopt:
        return frames.Adopt(
            ref=0,
            log=conversation_log(page),
            last=self.lasts[page],
            epoch=1,
            context=self.contexts[page],
            readers=tuple(sorted(READERS)),
        )


async def backup(folder: Path) -> Backup:
    """Page the intern, make a backup, let them finish it, and page once more; then lose it all."""
    of = harness.hospital()
    (folder / "live").mkdir()
    async with paged(folder / "live", of) as (ward, page):
        await backed_up(ward.site, folder / "old")
        for event in (Event.ACCEPT, Event.FINISH):
            assert isinstance(await ward.say("intern", page, event), frames.Done)
        later = await ward.conversation("nurse", *TEAM)
        await ward.page("nurse", later, "intern")
        await ward.expect("intern")
        heads = {one: ward.relay.store.head(ward.site.key(conversation_log(one)))
                 for one in (page, later)}  # fmt: skip
        return Backup(
            of=of,
            page=page,
            later=later,
            lasts={one: head.seq for one, head in heads.items() if head is not None},
            contexts={one: ward.organisation.contexts[one].encode() for one in (page, later)},
            folder=folder / "old",
        )


@asynccontextmanager
async def restored(made: Backup, *, later_ms: int) -> AsyncIterator[Floor]:
    """Run a relay from the backup some time later, told by the archive, with all devices back."""
    async with harness.running(made.folder, made.of) as site:
        site.later_ms += later_ms
        site.frozen = True
        recorder = await telling(site, made.of)
        for page in (made.page, made.later):
            assert isinstance(await adopted(recorder, made.adopt(page)), frames.Done)
        assert isinstance(await resume(recorder), frames.Done)
        ward = Floor(site)
        await ward.settle()
        await ward.open("nurse", *TEAM)
        yield ward


async def test_a_restored_relay_goes_on_with_the_pages_of_its_backup_and_loses_none_unsaid(
    tmp_path: Path,
) -> None:
    made = await backup(tmp_path)
    async with restored(made, later_ms=0) as ward:
        await ward.drain()
        # It was done since, which nobody here knows: whoever is next is asked, and nobody twice.
        await ward.wait(ward.due_in_ms(made.page))
        assert "registrar" in await ward.drain()
        assert isinstance(await ward.say("registrar", made.page, Event.ACCEPT), frames.Done)
        assert isinstance(await ward.say("registrar", made.page, Event.FINISH), frames.Done)
        assert ward.relay.pages._live == {}
        # The one that began later is said to be unknown, and its conversation can page again.
        answer = await ward.say("intern", made.later, Event.ACCEPT)
        assert isinstance(answer, frames.Refused)
        assert answer.code == Code.NO_SUCH
        await ward.drain()
        assert isinstance(await ward.page("nurse", made.later, "intern"), frames.Accepted)
        await ward.expect("intern")


async def test_a_page_of_an_old_backup_wakes_nobody_after_its_end(tmp_path: Path) -> None:
    made = await backup(tmp_path)
    async with restored(made, later_ms=10 * DAY) as ward:
        await ward.wait(0)
        await ward.expect()
        await ward.wait(HOUR)
        await ward.expect()
        assert ward.state(made.page).status is Status.EXPIRED
        last = ward.events[made.page][-1]
        assert [a.users for a in last.actions if isinstance(a, Alarm)] == [()]
        assert ward.relay.pages._live == {}
    # A start after that knows it as over.
    async with harness.running(made.folder, made.of) as site:
        assert site.relay.pages._live == {}


async def stored(made: Backup) -> bytes:
    async with harness.running(made.folder, made.of) as site:
        return (await site.relay.store.facts(made.of.id))[PAGE + made.page]


async def test_a_page_of_a_newer_program_stops_the_start_and_one_of_before_is_read(
    tmp_path: Path,
) -> None:
    made = await backup(tmp_path)
    value = await stored(made)
    before = value[1:]
    assert (read_head(before), read_state(before)) == (read_head(value), read_state(value))
    with pytest.raises(kept.VersionError):
        read_head(kept.marked(kept.PAGE_VERSION + 1, before))
    # One of before that nobody can read is refused at the start, and not at its timer.
    with pytest.raises(CryptoError):
        read_head(before[:-1])
    for nothing in (b"", value[:5]):
        with pytest.raises(DecodeError):
            read_head(nothing)


async def test_a_start_says_that_a_newer_program_has_kept_a_page(tmp_path: Path) -> None:
    async with paged(tmp_path) as (ward, page):
        facts = await ward.relay.store.facts(ward.site.hospital.id)
        newer = kept.marked(kept.PAGE_VERSION + 1, facts[PAGE + page][1:])
        ward.organisation.pages[page] = newer
        ward.relay.pages._live.clear()
        # As a start does; the program prints what is wrong and ends.
        with pytest.raises(kept.VersionError):
            ward.relay.pages.begin(ward.organisation)

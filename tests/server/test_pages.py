"""Stories of pages through a running relay; the clock is the test's, an unexpected alert fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.authenticated_data import Priority, TargetKind
from protocol.errors import Code
from protocol.frames import RingReason
from protocol.identifiers import ConversationId, RoleName, UserName, conversation_log
from protocol.oncall import next_steps as steps
from protocol.oncall.next_steps import Alarm, AlarmKind, Alert
from protocol.oncall.page import Page
from protocol.oncall.page_event import PageAnswer
from protocol.oncall.page_state import Event, State, Status
from protocol.oncall.role import Moment
from server import pages
from server.directory import PAGE
from server.store import Append, Appended, StoreFailedError, StoreFullError
from tests.protocol.oncall.ward import always, policy, user
from tests.server import harness
from tests.server.paging import MINUTE, SECOND, Floor, floor, signed

TEAM = ("intern", "registrar", "consultant", "supervisor")


async def ready(ward: Floor) -> ConversationId:
    """Return the conversation of a page among a nurse and everybody of the policy's steps."""
    await ward.open("nurse", *TEAM)
    for name in TEAM:
        asks = policy("intern", "registrar", "consultant") if name == "intern" else None
        await ward.role(name, always(UserName(name)), policy=asks)
    return await ward.conversation("nurse", *TEAM)


@asynccontextmanager
async def made_ready(
    folder: Path, of: harness.Hospital | None = None
) -> AsyncIterator[tuple[Floor, ConversationId]]:
    """Run a floor with the team on call, and a page's conversation of them."""
    async with floor(folder, of) as ward:
        yield ward, await ready(ward)


@asynccontextmanager
async def paged(
    folder: Path, of: harness.Hospital | None = None
) -> AsyncIterator[tuple[Floor, ConversationId]]:
    """Run such a floor on which the intern has just been paged."""
    async with made_ready(folder, of) as (ward, page):
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
        yield ward, page


async def test_an_unanswered_stat_reaches_registrar_consultant_and_supervisor(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        assert isinstance(await ward.page("nurse", page, "intern"), frames.Accepted)
        await ward.expect("intern")
        await ward.wait(MINUTE - 1)
        await ward.expect()
        await ward.wait(1)
        await ward.expect("registrar")
        await ward.wait(MINUTE)
        await ward.expect("consultant")
        await ward.wait(MINUTE)
        await ward.expect("supervisor")
        await ward.wait(MINUTE)
        # The alarm that nobody answered is the supervisor's too.
        await ward.expect("supervisor")
        assert ward.state(page).status is Status.UNANSWERED
        await ward.wait(90 * 24 * 60 * MINUTE)
        await ward.expect()


async def test_a_page_for_the_backup_asks_them_first_and_then_goes_its_usual_course(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        asks = policy("intern")
        backup = RoleName("consultant")
        await ward.role("intern", always(UserName("intern")), policy=asks, backup=backup)
        accepted = await ward.page("nurse", page, "intern", turn=TargetKind.BACKUP)
        assert isinstance(accepted, frames.Accepted)
        await ward.expect("consultant")
        for name in ("intern", "supervisor"):
            await ward.wait(MINUTE)
            await ward.expect(name)


async def test_a_locked_device_rings_and_its_acceptance_stops_everything_everywhere(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        await ward.lock("intern", "registrar")
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
        await ward.wait(MINUTE)
        await ward.expect("registrar")
        assert ward.reasons == [("intern", RingReason.PAGE), ("registrar", RingReason.PAGE)]
        done = await ward.say("intern", page, Event.ACCEPT, arrival_ms=ward.now_ms() + 5 * MINUTE)
        assert isinstance(done, frames.Done)
        await ward.expect()
        assert sorted(ward.silenced) == ["intern", "registrar"]
        assert ward.state(page).status is Status.ACCEPTED
        await ward.wait(60 * MINUTE)
        await ward.expect()
        assert isinstance(await ward.say("intern", page, Event.FINISH), frames.Done)
        await ward.expect()
        assert ward.state(page).status is Status.DONE
        late = await ward.say("registrar", page, Event.ACCEPT)
        assert isinstance(late, frames.Refused)
        assert late.code == Code.PAGE_ENDED


async def test_declining_asks_the_next_at_once_and_not_mine_whoever_is_named(
    tmp_path: Path,
) -> None:
    async with paged(tmp_path) as (ward, page):
        await ward.wait(SECOND)
        assert isinstance(await ward.say("intern", page, Event.DECLINE), frames.Done)
        await ward.expect("registrar")
        await ward.wait(40 * SECOND)
        to = user(UserName("supervisor"))
        assert isinstance(await ward.say("registrar", page, Event.NOT_MINE, to=to), frames.Done)
        await ward.expect("supervisor")
        # The timer is the original.
        await ward.wait(20 * SECOND)
        await ward.expect("consultant")


async def test_delivered_and_shown_are_told_and_an_answer_that_comes_twice_counts_once(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        await ward.page("nurse", page, "intern")
        for event in (Event.DELIVER, Event.SHOW, Event.DELIVER, Event.ACCEPT, Event.ACCEPT):
            assert isinstance(await ward.say("intern", page, event), frames.Done)
        await ward.expect("intern")
        intern = ward.state(page).recipient(UserName("intern"))
        assert intern is not None
        assert set(dict(intern.times)) == {State.SENT, State.DELIVERED, State.SHOWN, State.ACCEPTED}
        assert len(ward.events[page]) == 4
        assert [event.statement is not None for event in ward.events[page]] == [False, *[True] * 3]


async def test_who_is_not_asked_cannot_answer_and_an_answer_fits_no_other_page(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        other = await ward.conversation("nurse", *TEAM)
        await ward.page("nurse", page, "intern")
        for one in ("consultant", "nurse"):
            refused = await ward.say(one, page, Event.ACCEPT)
            assert isinstance(refused, frames.Refused)
            assert refused.code == Code.NO_SUCH
        refused = await ward.say("intern", other, Event.ACCEPT)
        assert isinstance(refused, frames.Refused)
        assert refused.code == Code.NO_SUCH
        await ward.expect("intern")


async def test_an_answer_is_taken_from_who_signed_it_and_in_its_own_pages_log(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        other = await ward.conversation("nurse", *TEAM)
        for one in (page, other):
            await ward.page("nurse", one, "intern")
            await ward.expect("intern")
        statement = signed(
            ward.clients["intern"],
            StatementType.PAGE_ANSWER,
            PageAnswer(conversation=page, event=Event.ACCEPT).encode(),
            purpose=Purpose.CONNECTION,
            at_ms=ward.now_ms(),
        )
        for by, where in (("registrar", page), ("intern", other)):
            log = conversation_log(where)
            refused = await ward.clients[by].answer(
                lambda ref, log=log: frames.Post(ref=ref, log=log, statement=statement)  # type: ignore[misc]
            )
            assert isinstance(refused, frames.Refused)
            assert refused.code == Code.INVALID
        await ward.settle()
        await ward.drain()
        assert {ward.state(one).status for one in (page, other)} == {Status.OPEN}


async def test_a_page_to_a_role_that_there_is_not_is_refused_before_anybody_waits(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        refused = await ward.page("nurse", page, "plumber")
        assert isinstance(refused, frames.RefusedMessage)
        assert refused.code == Code.NO_SUCH
        assert isinstance(await ward.page("nurse", page, "intern"), frames.Accepted)
        await ward.expect("intern")


async def test_a_step_of_whom_nobody_can_be_woken_is_passed_over_with_an_alarm(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        await ward.leave("intern", "registrar")
        await ward.page("nurse", page, "intern")
        await ward.expect("consultant", "supervisor")
        (started,) = ward.events[page]
        alarms = [action for action in started.actions if isinstance(action, Alarm)]
        assert [alarm.kind for alarm in alarms] == [AlarmKind.UNREACHABLE] * 2
        assert [alarm.position for alarm in alarms] == [0, 1]
        assert ward.state(page).alerting == ("consultant", "intern", "registrar")
        # Whoever comes back while the page still asks them is rung.
        await ward.lock("intern")
        await ward.expect("intern")


@pytest.mark.parametrize(
    ("away_ms", "hears"), [(1, True), (59 * MINUTE, True), (60 * MINUTE, False)]
)
async def test_an_alarm_is_heard_by_who_reads_it_from_the_log_for_an_hour(
    tmp_path: Path, away_ms: int, hears: bool
) -> None:
    async with paged(tmp_path) as (ward, page):
        await ward.leave("supervisor")
        await ward.wait(20 * MINUTE)
        await ward.drain()
        assert ward.state(page).status is Status.UNANSWERED
        last = ward.events[page][-1]
        ward.site.later_ms += last.at_ms + away_ms - ward.now_ms()
        await ward.open("supervisor")
        assert ("supervisor" in await ward.drain()) is hears


async def test_somebody_asked_who_is_no_member_is_named_so_that_a_member_adds_them(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ready(ward)
        page = await ward.conversation("nurse", "registrar")
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
        assert ward.events[page][-1].missing == ("intern",)
        assert ward.reasons == [("intern", RingReason.PAGE)]
        assert isinstance(await ward.say("intern", page, Event.ACCEPT), frames.Done)


async def test_a_restarted_relay_neither_loses_nor_repeats_a_step(tmp_path: Path) -> None:
    of = harness.hospital()
    async with paged(tmp_path, of) as (_, page):
        pass
    for name in ("registrar", "consultant", "supervisor"):
        async with floor(tmp_path, of) as ward:
            await ward.open("nurse", *TEAM)
            known = await ward.drain()
            assert name not in known
            await ward.wait(ward.due_in_ms(page) - 1)
            await ward.expect()
            await ward.wait(1)
            await ward.expect(name)
    async with floor(tmp_path, of) as ward:
        await ward.open(*TEAM)
        await ward.wait(ward.due_in_ms(page))
        await ward.drain()
        assert ward.state(page).status is Status.UNANSWERED
        asked = [
            u for e in ward.events[page] for a in e.actions if isinstance(a, Alert) for u in a.users
        ]
        assert asked == ["intern", "registrar", "consultant", "supervisor"]
    async with floor(tmp_path, of) as ward:
        assert len(ward.relay.pages) == 0
        await ward.open("nurse", *TEAM)
        refused = await ward.say("intern", page, Event.ACCEPT)
        assert isinstance(refused, frames.Refused)
        assert refused.code == Code.PAGE_ENDED


async def test_the_message_of_a_page_wakes_no_silent_member(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        await ward.page("nurse", page, "intern", priority=Priority.ROUTINE)
        await ward.expect("intern")
        for client in (ward.clients["registrar"], ward.clients["consultant"]):
            message = next(
                f
                for f in client.early
                if isinstance(f, frames.Deliver)
                and f.kind == frames.EntryKind.MESSAGE
                and f.log[1:] == page
            )
            assert message.attention == frames.Attention.SILENT


async def reached(folder: Path, of: harness.Hospital, page: ConversationId) -> list[list[str]]:
    """Start the relay again, and return whom each entry of a page has newly asked so far."""
    async with floor(folder, of) as ward:
        await ward.open("nurse", *TEAM)
        await ward.settle()
        await ward.drain()
        return [
            [u for a in event.actions if isinstance(a, Alert) and not a.again for u in a.users]
            for event in ward.events[page]
        ]


async def test_a_relay_that_is_killed_after_the_message_and_before_the_step_takes_it_when_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with made_ready(tmp_path, of) as (ward, page):

        async def killed(*_: object) -> None:
            """Take no step: the process is gone by then."""

        monkeypatch.setattr(ward.relay.pages, "_do", killed)
        assert isinstance(await ward.page("nurse", page, "intern"), frames.Accepted)
        await ward.expect()
    assert await reached(tmp_path, of, page) == [["intern"]]
    assert await reached(tmp_path, of, page) == [["intern"]]


async def test_a_relay_that_is_killed_after_the_step_and_before_the_ring_rings_who_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with made_ready(tmp_path, of) as (ward, page):
        monkeypatch.setattr(ward.relay.pages, "_act", lambda *_: None)
        await ward.lock("intern")
        await ward.page("nurse", page, "intern")
        await ward.expect()
    async with floor(tmp_path, of) as ward:
        await ward.lock("intern")
        await ward.expect("intern")
        assert isinstance(await ward.say("intern", page, Event.ACCEPT), frames.Done)
    assert await reached(tmp_path, of, page) == [["intern"], []]


async def test_an_answer_whose_done_was_lost_is_sent_again_and_counts_once(tmp_path: Path) -> None:
    of = harness.hospital()
    async with made_ready(tmp_path, of) as (ward, page):
        await ward.page("nurse", page, "intern")
        assert isinstance(await ward.say("intern", page, Event.DECLINE), frames.Done)
    async with floor(tmp_path, of) as ward:
        await ward.open("nurse", *TEAM)
        assert isinstance(await ward.say("intern", page, Event.DECLINE), frames.Done)
    assert await reached(tmp_path, of, page) == [["intern"], ["registrar"]]


async def test_a_step_that_the_disk_refuses_is_tried_again_and_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with made_ready(tmp_path, of) as (ward, page):
        append, failures = ward.relay.store.append, [StoreFullError(), StoreFailedError()]

        async def refused(request: Append) -> Appended:
            if request.kind == frames.EntryKind.PAGE and failures:
                raise failures.pop()
            return await append(request)

        monkeypatch.setattr(ward.relay.store, "append", refused)
        await ward.page("nurse", page, "intern")
        await ward.expect()
        rung: list[str] = []
        for _ in range(400):
            rung += await ward.drain()
            if rung:
                break
            await asyncio.sleep(0.05)
        assert rung == ["intern"]
        assert failures == []
    assert await reached(tmp_path, of, page) == [["intern"]]


async def test_a_fault_in_one_step_is_told_and_the_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        sound, faults = steps.next_steps, [KeyError("role")]

        def faulty(page: Page, moment: Moment, *, now_ms: int) -> steps.Progress:
            if faults:
                raise faults.pop()
            return sound(page, moment, now_ms=now_ms)

        monkeypatch.setattr(steps, "next_steps", faulty)
        monkeypatch.setattr(pages, "FAULT_S", 0.05)
        await ward.page("nurse", page, "intern")
        rung: list[str] = []
        for _ in range(400):
            rung += await ward.drain()
            if rung:
                break
            await asyncio.sleep(0.05)
        assert rung == ["intern"]
        assert ward.relay.counters["faults"] == 1


async def test_a_page_that_ended_long_ago_is_forgotten_and_one_that_ended_lately_is_not(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        await ward.page("nurse", page, "intern")
        await ward.say("intern", page, Event.ACCEPT)
        await ward.say("intern", page, Event.FINISH)
        for days, known in ((30, True), (2, False)):
            ward.site.later_ms += days * 24 * 60 * MINUTE
            await ward.relay.pages.forget()
            assert (page in ward.organisation.pages) is known
        assert PAGE + page not in await ward.relay.store.facts(ward.site.hospital.id)


async def test_a_message_that_is_refused_starts_no_page_and_the_next_one_does(
    tmp_path: Path,
) -> None:
    async with made_ready(tmp_path) as (ward, page):
        real = ward.site.key(conversation_log(page))
        assert (head := ward.relay.store.head(real)) is not None
        assert head.epoch == 1
        refused = await ward.page("nurse", page, "intern", epoch=7)
        assert isinstance(refused, frames.RefusedMessage)
        await ward.expect()
        assert isinstance(await ward.page("nurse", page, "intern"), frames.Accepted)
        await ward.expect("intern")


async def test_a_clock_that_is_set_back_delays_no_step(tmp_path: Path) -> None:
    async with made_ready(tmp_path) as (ward, page):
        # Certificates are of today, and hold an hour back from here.
        ward.site.later_ms += 120 * MINUTE
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
        ward.site.later_ms -= 60 * MINUTE
        # The relay looks at its clock each second.
        ward.relay.pages.look()
        for wait_ms, asked in ((MINUTE - 1, ()), (1, ("registrar",)), (MINUTE, ("consultant",))):
            ward.site.later_ms += wait_ms
            ward.relay.pages.look()
            await ward.settle()
            await ward.expect(*asked)
        assert isinstance(await ward.say("registrar", page, Event.ACCEPT), frames.Done)
        assert isinstance(await ward.say("registrar", page, Event.FINISH), frames.Done)
        await ward.expect()
        # Once no page is under way, it is the wall's time again.
        other = await ward.conversation("nurse", *TEAM)
        await ward.page("nurse", other, "intern")
        await ward.expect("intern")
        assert ward.state(other).started_ms == ward.now_ms()


async def test_a_page_of_an_hour_that_was_none_waits_no_hour_at_a_relay_that_was_started_anew(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with made_ready(tmp_path, of) as (ward, page):
        ward.site.later_ms += 60 * MINUTE
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
        ward.site.later_ms -= 60 * MINUTE
    async with floor(tmp_path, of) as ward:
        ward.relay.reach.started_s = ward.relay.now_s()
        assert 0 < ward.due_in_ms(page) - 60 * MINUTE <= MINUTE
        await ward.open(*TEAM)
        await ward.drain()
        for wait_ms, asked in ((MINUTE, ("registrar",)), (MINUTE, ("consultant",))):
            ward.site.later_ms += wait_ms
            ward.relay.pages.look()
            await ward.settle()
            await ward.expect(*asked)


async def test_a_clock_that_jumps_a_year_ahead_ends_a_page_loudly(tmp_path: Path) -> None:
    async with paged(tmp_path) as (ward, page):
        ward.site.later_ms += 365 * 24 * 60 * MINUTE
        ward.relay.pages.look()
        await ward.settle()
        await ward.expect("supervisor")
        assert ward.state(page).status is Status.EXPIRED

"""Stories of pages through a running relay; the clock is the test's, an unexpected alert fails."""

from __future__ import annotations

from pathlib import Path

from protocol import frames
from protocol.authenticated_data import Priority
from protocol.errors import Code
from protocol.frames import RingReason
from protocol.identifiers import ConversationId, UserName
from protocol.oncall.next_steps import Alarm, AlarmKind, Alert
from protocol.oncall.page_state import Event, State, Status
from tests.protocol.oncall.ward import always, policy, user
from tests.server import harness
from tests.server.paging import MINUTE, SECOND, Floor, floor

TEAM = ("intern", "registrar", "consultant", "supervisor")


async def ready(ward: Floor) -> ConversationId:
    """Return the conversation of a page among a nurse and everybody of the policy's steps."""
    await ward.open("nurse", *TEAM)
    for name in TEAM:
        asks = policy("intern", "registrar", "consultant") if name == "intern" else None
        await ward.role(name, always(UserName(name)), policy=asks)
    return await ward.conversation("nurse", *TEAM)


async def test_an_unanswered_stat_reaches_registrar_consultant_and_supervisor(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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


async def test_a_locked_device_rings_and_its_acceptance_stops_everything_everywhere(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
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
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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


async def test_a_page_to_a_role_that_there_is_not_is_refused_before_anybody_waits(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
        refused = await ward.page("nurse", page, "plumber")
        assert isinstance(refused, frames.RefusedMessage)
        assert refused.code == Code.NO_SUCH
        assert isinstance(await ward.page("nurse", page, "intern"), frames.Accepted)
        await ward.expect("intern")


async def test_a_step_of_whom_nobody_can_be_woken_is_passed_over_with_an_alarm(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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
    async with floor(tmp_path, of) as ward:
        page = await ready(ward)
        await ward.page("nurse", page, "intern")
        await ward.expect("intern")
    for name in ("registrar", "consultant", "supervisor"):
        async with floor(tmp_path, of) as ward:
            ward.site.make_page(page)
            await ward.open("nurse", *TEAM)
            known = await ward.drain()
            assert name not in known
            await ward.wait(ward.due_in_ms(page) - 1)
            await ward.expect()
            await ward.wait(1)
            await ward.expect(name)
    async with floor(tmp_path, of) as ward:
        ward.site.make_page(page)
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
    async with floor(tmp_path) as ward:
        page = await ready(ward)
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

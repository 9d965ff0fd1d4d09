"""On call at the relay: changes by signed statement, attention for each recipient, and warnings."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import frames
from protocol.authenticated_data import EVERYBODY, AuthenticatedData, Priority, Target, TargetKind
from protocol.errors import Code
from protocol.frames import Attention, Deliver, RingReason
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.commands import (
    AddChange,
    AgreeSwap,
    ClaimShift,
    HandOver,
    HandOverShift,
    OfferShift,
    RemoveChange,
    SetCalendarLink,
    SetQuietHours,
    SetSchedule,
)
from protocol.oncall.delivery import Quiet
from protocol.oncall.next_steps import Alert
from protocol.oncall.override import Override, Swap
from protocol.oncall.page_event import Cause
from protocol.oncall.page_state import Event, State
from protocol.oncall.schedule import Schedule, on_call
from server.configuration import ConfigurationError, SecondChannelSettings
from server.second_channel import Ways, Word
from tests.depth import DEPTH
from tests.protocol.oncall import oracle
from tests.protocol.oncall.strategies import PEOPLE, schedules
from tests.protocol.oncall.test_schedule import SLOW, tables
from tests.protocol.oncall.ward import HOUR, MINUTE, always, policy
from tests.server import harness
from tests.server.harness import Client
from tests.server.paging import Floor, floor

ICU = RoleName("icu")
ANN, BOB = UserName("ann"), UserName("bob")


def override(name: str, start_ms: int, **people: UserName) -> Override:
    return Override(name=name, start_ms=start_ms, end_ms=start_ms + HOUR, **people)


def now_on(ward: Floor) -> tuple[UserName, ...]:
    plan = ward.organisation.duty.configuration.plans[ICU]
    return on_call(plan.schedule(ward.now_ms()), ward.now_ms())


async def code(answer: frames.Frame) -> Code | None:
    return Code(answer.code) if isinstance(answer, frames.Refused) else None


# Changes.


async def test_a_role_is_kept_changed_and_there_after_a_restart(tmp_path: Path) -> None:
    of = harness.hospital()
    async with floor(tmp_path, of) as ward:
        await ward.role("icu", always(ANN))
        ill = AddChange(
            role=ICU, version=3, change=override("ill", ward.now_ms(), removed=ANN, added=BOB)
        )
        assert isinstance(await ward.command(ill), frames.Done)
        assert now_on(ward) == (BOB,)
    async with floor(tmp_path, of) as ward:
        assert now_on(ward) == (BOB,)
        gone = RemoveChange(role=ICU, version=4, name="ill")
        assert isinstance(await ward.command(gone), frames.Done)
        assert now_on(ward) == (ANN,)


async def test_of_two_who_change_a_role_at_once_the_second_is_told(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        await ward.role("icu", always(ANN))
        change = AddChange(role=ICU, version=3, change=override("a", ward.now_ms(), added=BOB))
        assert isinstance(await ward.command(change), frames.Done)
        late = replace(change, change=override("b", ward.now_ms(), added=BOB))
        refused = await ward.command(late)
        assert isinstance(refused, frames.Refused)
        assert (refused.code, refused.detail) == (Code.STALE_VERSION, 3)


async def test_the_entry_of_a_command_has_the_time_at_which_it_counts(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("ann")
        await ward.role("icu", always(ANN))
        await ward.drain()
        plan = ward.organisation.duty.configuration.plans[ICU]
        entries = [f for f in ward.clients["ann"].early if isinstance(f, Deliver) and f.log == b"o"]
        (recorded,) = {edition.recorded_ms for edition in plan.history.editions}
        assert recorded in {entry.at_ms for entry in entries}


async def test_people_set_their_own_quiet_hand_over_their_own_shift_and_nobody_elses(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("ann", "bob", "eve")
        await ward.role("icu", always(ANN), hand_over=HandOver.HOLDERS)
        ward.organisation.holders[ICU] = (ANN, BOB)
        quiet = SetQuietHours(version=1, quiet=Quiet(zone="Europe/Berlin"))
        assert isinstance(await ward.request("ann", quiet.encode()), frames.Done)
        again = await ward.request("ann", quiet.encode())
        assert await code(again) is Code.STALE_VERSION
        gives = HandOverShift(
            role=ICU, change=override("give", ward.now_ms(), removed=ANN, added=BOB)
        )
        assert await code(await ward.request("eve", gives.encode())) is Code.INVALID
        assert isinstance(await ward.request("ann", gives.encode()), frames.Done)
        assert now_on(ward) == (BOB,)


async def test_two_people_swap_their_shifts_by_their_own_signatures_and_no_other(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("ann", "bob", "eve")
        soon = ward.now_ms() + HOUR
        later = soon + 8 * HOUR
        stack = (
            override("mine", soon, added=ANN),
            override("yours", later, added=BOB),
        )
        await ward.role("icu", replace(always(), stack=stack), hand_over=HandOver.HOLDERS)
        ward.organisation.holders[ICU] = (ANN, BOB, UserName("eve"))
        swap = Swap(
            name="swap-1",
            first=ANN,
            first_start_ms=soon,
            first_end_ms=soon + HOUR,
            second=BOB,
            second_start_ms=later,
            second_end_ms=later + HOUR,
        )
        agree = AgreeSwap(role=ICU, swap=swap).encode()
        assert await code(await ward.request("eve", agree)) is Code.INVALID
        assert isinstance(await ward.request("ann", agree), frames.Done)
        assert await code(await ward.request("ann", agree)) is Code.INVALID
        ward.site.later_ms += HOUR // 2
        assert isinstance(await ward.request("bob", agree), frames.Done)
        ward.site.later_ms += HOUR // 2
        assert now_on(ward) == (BOB,)
        ward.site.later_ms += 8 * HOUR
        assert now_on(ward) == (ANN,)


async def test_a_shift_on_offer_has_one_winner_and_the_schedule_says_who(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        people = [f"holder-{index}" for index in range(12)]
        await ward.open(*people)
        await ward.role("icu", always(ANN))
        ward.organisation.holders[ICU] = tuple(sorted(map(UserName, people)))
        start = ward.now_ms() + HOUR
        offer = OfferShift(
            role=ICU,
            version=3,
            name="open-1",
            start_ms=start,
            end_ms=start + HOUR,
            until_ms=start,
        )
        assert isinstance(await ward.command(offer), frames.Done)
        claim = ClaimShift(role=ICU, name="open-1").encode()
        answers = await asyncio.gather(*(ward.request(person, claim) for person in people))
        winners = [p for p, a in zip(people, answers, strict=True) if isinstance(a, frames.Done)]
        assert len(winners) == 1
        assert {await code(a) for a in answers} == {None, Code.TAKEN}
        plan = ward.organisation.duty.configuration.plans[ICU]
        assert on_call(plan.schedule(start), start) == tuple(sorted([ANN, UserName(winners[0])]))


async def test_each_race_for_a_shift_has_exactly_one_winner(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        people = ["p0", "p1", "p2"]
        await ward.open(*people)
        await ward.role("icu", always(ANN))
        ward.organisation.holders[ICU] = tuple(map(UserName, people))
        for race in range(30 * DEPTH):
            start = ward.now_ms() + HOUR
            offer = OfferShift(
                role=ICU,
                version=ward.organisation.duty.configuration.version(ICU) + 1,
                name="open",
                start_ms=start,
                end_ms=start + HOUR,
                until_ms=start,
            )
            assert isinstance(await ward.command(offer), frames.Done)
            claim = ClaimShift(role=ICU, name="open").encode()
            answers = await asyncio.gather(*(ward.request(person, claim) for person in people))
            assert sum(isinstance(answer, frames.Done) for answer in answers) == 1, race
            gone = RemoveChange(
                role=ICU,
                version=ward.organisation.duty.configuration.version(ICU) + 1,
                name="open",
            )
            assert isinstance(await ward.command(gone), frames.Done)


async def test_after_a_clock_was_set_back_it_pages_whoever_is_shown_by_that_clock(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("nurse", "ann", "bob")
        now = ward.now_ms()
        hours = (override("a", now, added=ANN), override("b", now + HOUR, added=BOB))
        plan = Schedule(zone="Europe/Berlin", stack=hours)
        await ward.role("icu", plan, policy=policy("icu"), effective_ms=now - HOUR)
        asked = []
        for ahead_ms in (HOUR + MINUTE, MINUTE):
            ward.site.later_ms += now + ahead_ms - ward.now_ms()
            page = await ward.conversation("nurse", "ann", "bob")
            await ward.page("nurse", page, "icu")
            await ward.drain()
            actions = ward.events[page][0].actions
            asked.append([u for a in actions if isinstance(a, Alert) for u in a.users])
        assert asked == [[BOB], [ANN]]


@given(found=schedules(), data=st.data())
@settings(max_examples=8 * DEPTH, deadline=None, suppress_health_check=SLOW)
def test_who_is_paged_is_who_the_oracle_names(
    tmp_path_factory: pytest.TempPathFactory, found: tuple[str, Schedule], data: st.DataObject
) -> None:
    """The relay's clock is set to days on which clocks change; the oracle looks at each minute."""
    day, schedule = found
    named = oracle.on_call(schedule, day, tables(schedule, day))
    times = data.draw(st.lists(st.sampled_from(list(named)), min_size=3, max_size=3))

    async def story() -> None:
        async with floor(tmp_path_factory.mktemp("relay")) as ward:
            await ward.open("nurse", *PEOPLE)
            begin = next(iter(named)) - 24 * HOUR
            await ward.role("icu", schedule, policy=policy("icu"), effective_ms=begin)
            pages = [await ward.conversation("nurse", *PEOPLE) for _ in times]
            for page, at_ms in zip(pages, times, strict=True):
                ward.site.later_ms += at_ms - ward.now_ms()
                await ward.page("nurse", page, "icu")
                await ward.drain()
                alerts = [a for a in ward.events[page][0].actions if isinstance(a, Alert)]
                asked = tuple(user for alert in alerts for user in alert.users)
                assert asked == named[at_ms]

    asyncio.run(story())


# Attention.


async def said(
    ward: Group, sender: str, priority: Priority, target: Target = EVERYBODY
) -> dict[str, tuple[Attention, int]]:
    """Return how a message of a group reaches each of its other members."""
    conversation = ward.conversation_id
    client = ward.clients[sender]
    number = client.person.next_id()
    data = AuthenticatedData(message_id=number, priority=priority, target=target)
    message = harness.private_message(conversation, data, epoch=1)
    await client.send(frames.Append(message=message))
    await client.expect(frames.Frame, harness.is_verdict)
    found = {}
    for user, other in ward.clients.items():
        if user in ("recorder", "chief", sender) or not is_open(other):
            continue
        entry = await other.expect(
            Deliver, lambda e: e.kind == frames.EntryKind.MESSAGE and e.log[1:] == conversation
        )
        found[user] = (Attention(entry.attention), entry.until_ms)
    return found


def is_open(client: Client) -> bool:
    return client.session.state.value == "open"


class Group(Floor):
    """A floor with a group of two on call and one off duty."""

    conversation_id: ConversationId


@asynccontextmanager
async def group(folder: Path) -> AsyncIterator[Group]:
    async with harness.running(folder, harness.hospital()) as site:
        ward = Group(site)
        await ward.open("nurse", "ann", "bob")
        conversation = await ward.conversation("nurse", "ann", "bob")
        contexts = ward.organisation.contexts
        contexts[conversation] = harness.context(site.hospital, "nurse")
        ward.conversation_id = conversation
        yield ward


async def test_without_a_schedule_everybody_is_alerted(tmp_path: Path) -> None:
    async with group(tmp_path) as ward:
        found = await said(ward, "nurse", Priority.ROUTINE)
        assert found == {"ann": (Attention.ALERT, 0), "bob": (Attention.ALERT, 0)}


async def test_a_message_over_night_is_held_for_whoever_is_off_duty_until_their_shift(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as ward:
        start = ward.now_ms()
        morning = start + 8 * HOUR
        day = Override(name="day", start_ms=morning, end_ms=morning + 8 * HOUR, added=BOB)
        await ward.role("icu", replace(always(ANN), stack=(day,)))
        for priority, attention in (
            (Priority.INFO, (Attention.SILENT, Attention.HELD)),
            (Priority.ROUTINE, (Attention.ALERT, Attention.HELD)),
            (Priority.URGENT, (Attention.ALERT, Attention.HELD)),
            (Priority.STAT, (Attention.ALERT, Attention.SILENT)),
        ):
            found = await said(ward, "nurse", priority)
            held = morning if attention[1] is Attention.HELD else 0
            assert found == {"ann": (attention[0], 0), "bob": (attention[1], held)}
        ward.site.later_ms += 8 * HOUR
        found = await said(ward, "nurse", Priority.ROUTINE)
        assert found["bob"] == (Attention.ALERT, 0)


async def test_a_message_to_one_person_is_silent_for_the_others(tmp_path: Path) -> None:
    async with group(tmp_path) as ward:
        to_ann = Target(kind=TargetKind.USER, name="ann")
        found = await said(ward, "nurse", Priority.URGENT, to_ann)
        assert found == {"ann": (Attention.ALERT, 0), "bob": (Attention.SILENT, 0)}
        await ward.role("icu", always(BOB))
        to_icu = Target(kind=TargetKind.ROLE, name="icu")
        found = await said(ward, "nurse", Priority.URGENT, to_icu)
        assert found == {"ann": (Attention.SILENT, 0), "bob": (Attention.ALERT, 0)}
        await ward.clients.pop("ann").socket.close()
        await said(ward, "nurse", Priority.URGENT, to_icu)
        await ward.open("ann")
        await ward.drain()
        late = [
            Attention(frame.attention)
            for frame in ward.clients["ann"].early
            if isinstance(frame, Deliver)
            and frame.kind == frames.EntryKind.MESSAGE
            and frame.log.startswith(b"c")
        ]
        assert late == [Attention.ALERT, Attention.SILENT, Attention.SILENT]


async def test_a_message_to_who_is_next_or_to_the_backup_alerts_them_alone(tmp_path: Path) -> None:
    async with group(tmp_path) as ward:
        morning = ward.now_ms() + 8 * HOUR
        day = Override(
            name="day", start_ms=morning, end_ms=morning + 8 * HOUR, removed=ANN, added=BOB
        )
        await ward.role("senior", always(BOB))
        await ward.role("icu", replace(always(ANN), stack=(day,)), backup=RoleName("senior"))
        backup = Target(kind=TargetKind.BACKUP, name="icu")
        found = await said(ward, "nurse", Priority.URGENT, backup)
        assert found == {"ann": (Attention.SILENT, 0), "bob": (Attention.ALERT, 0)}
        # Whoever is next and off duty until then has it when they come: nobody is woken by it.
        await ward.role("senior", always(UserName("nurse")))
        coming = Target(kind=TargetKind.NEXT, name="icu")
        found = await said(ward, "nurse", Priority.URGENT, coming)
        assert found == {"ann": (Attention.SILENT, 0), "bob": (Attention.HELD, morning)}
        # A role that has no backup is not without anybody.
        alone = Target(kind=TargetKind.BACKUP, name="senior")
        await ward.role("senior", always(BOB))
        found = await said(ward, "nurse", Priority.URGENT, alone)
        assert found == {"ann": (Attention.SILENT, 0), "bob": (Attention.ALERT, 0)}


async def test_routine_messages_sound_once_in_five_minutes_on_every_device_and_urgent_ones_always(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as ward:
        await ward.role("icu", always(ANN, BOB))
        attentions = []
        for wait_ms, priority in (
            (0, Priority.ROUTINE),
            (MINUTE, Priority.ROUTINE),
            (MINUTE, Priority.URGENT),
            (MINUTE, Priority.STAT),
            (4 * MINUTE, Priority.ROUTINE),
            (MINUTE, Priority.ROUTINE),
        ):
            ward.site.later_ms += wait_ms
            found = await said(ward, "nurse", priority)
            assert found["ann"] == found["bob"]
            attentions.append(found["ann"][0] is Attention.ALERT)
        assert attentions == [True, False, True, True, False, True]


async def test_quiet_hours_hold_what_is_not_urgent_and_a_change_counts_at_once(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as ward:
        assert (await said(ward, "nurse", Priority.ROUTINE))["ann"] == (Attention.ALERT, 0)
        until = ward.now_ms() + HOUR
        quiet = Quiet(zone="Europe/Berlin", do_not_disturb_until_ms=until)
        done = await ward.request("ann", SetQuietHours(version=1, quiet=quiet).encode())
        assert isinstance(done, frames.Done)
        assert (await said(ward, "nurse", Priority.ROUTINE))["ann"] == (Attention.HELD, until)
        ward.site.later_ms += HOUR
        assert (await said(ward, "nurse", Priority.ROUTINE))["ann"] == (Attention.ALERT, 0)


async def test_whoever_catches_up_is_told_how_it_reaches_them_then(tmp_path: Path) -> None:
    async with group(tmp_path) as ward:
        morning = ward.now_ms() + 8 * HOUR
        day = Override(name="day", start_ms=morning, end_ms=morning + 8 * HOUR, added=BOB)
        await ward.role("icu", replace(always(ANN), stack=(day,)))
        await ward.clients.pop("bob").socket.close()
        await ward.settle()
        await said(ward, "nurse", Priority.ROUTINE)
        await ward.open("bob")
        night = await ward.clients["bob"].expect(
            Deliver, lambda e: e.kind == frames.EntryKind.MESSAGE and e.log.startswith(b"c")
        )
        assert (night.attention, night.until_ms) == (Attention.HELD, morning)


async def test_a_locked_device_rings_only_where_its_person_may_be_disturbed(
    tmp_path: Path,
) -> None:
    async with group(tmp_path) as ward:
        await ward.role("icu", always(ANN))
        morning = ward.now_ms() + HOUR
        day = Override(name="day", start_ms=morning, end_ms=morning + HOUR, added=BOB)
        change = AddChange(role=ICU, version=3, change=day)
        assert isinstance(await ward.command(change), frames.Done)
        await ward.lock("ann", "bob")
        await said(ward, "nurse", Priority.URGENT)
        await ward.expect("ann")
        assert ward.reasons == [("ann", RingReason.MESSAGE)]


# The second channel, and who cannot be woken.


class Heard:
    """A second channel that remembers."""

    def __init__(self) -> None:
        self.words: list[tuple[str, Word, str]] = []

    async def say(self, user: UserName, what: Word, role: RoleName) -> None:
        self.words.append((user, what, role))


async def paged(ward: Floor) -> tuple[Heard, ConversationId]:
    heard = Heard()
    ward.relay.second_channel = heard
    await ward.open("nurse", "ann", "bob")
    await ward.role("icu", always(ANN), policy=policy("icu", "backup"))
    await ward.role("backup", always(BOB))
    await ward.role("supervisor", always(BOB))
    return heard, await ward.conversation("nurse", "ann", "bob")


async def test_where_no_device_answers_in_ten_seconds_the_second_channel_says_that_stat_waits(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        heard, page = await paged(ward)
        await ward.page("nurse", page, "icu")
        await ward.wait(10_000 - 1)
        assert heard.words == []
        await ward.wait(1)
        assert heard.words == [("ann", Word.STAT, "icu")]
        await ward.drain()
        assert ward.events[page][-1].cause is Cause.CALLED
        # Each is called once for a step.
        await ward.wait(40_000)
        assert len(heard.words) == 1
        await ward.wait(15_000)
        await ward.say("bob", page, Event.DELIVER)
        await ward.wait(20_000)
        assert len(heard.words) == 1


async def test_whose_device_says_that_it_has_the_page_is_not_called(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        heard, page = await paged(ward)
        await ward.page("nurse", page, "icu")
        await ward.say("ann", page, Event.DELIVER)
        await ward.wait(30_000)
        assert heard.words == []
        one = ward.relay.pages._live[ward.site.key(b"c" + page)].read().page.recipient(ANN)  # type: ignore[arg-type]
        assert one is not None
        assert one.state is State.DELIVERED


async def test_who_cannot_be_woken_is_called_at_once(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        heard, page = await paged(ward)
        await ward.leave("ann")
        await ward.page("nurse", page, "icu")
        await ward.drain()
        assert heard.words == [("ann", Word.STAT, "icu")]
        (started,) = ward.events[page]
        assert started.state.called == ("ann",)
        assert started.state.page.alerting == ("ann", "bob")


async def test_nobody_on_call_who_cannot_be_woken_goes_unnoticed(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        heard, _ = await paged(ward)
        ward.relay.watch.look()
        assert heard.words == []
        await ward.leave("ann")
        for _ in range(2):
            ward.relay.watch.look()
            await ward.settle()
        assert sorted(heard.words) == [
            ("ann", Word.UNREACHABLE, "icu"),
            ("chief", Word.UNREACHABLE, "icu"),
        ]
        await ward.drain()
        assert ("chief", RingReason.UNREACHABLE) in ward.reasons
        await ward.open("ann")
        ward.relay.watch.look()
        await ward.leave("ann")
        ward.relay.watch.look()
        await ward.settle()
        assert len(heard.words) == 4


async def test_a_gap_is_its_owners_to_know_of(tmp_path: Path) -> None:
    async with floor(tmp_path) as ward:
        heard, _ = await paged(ward)
        empty = SetSchedule(
            role=RoleName("supervisor"),
            version=3,
            effective_ms=ward.now_ms(),
            schedule=Schedule(zone="UTC"),
        )
        assert isinstance(await ward.command(empty), frames.Done)
        ward.relay.watch.look()
        await ward.settle()
        assert heard.words == [("chief", Word.GAP, "supervisor")]


async def test_how_people_can_be_reached_is_told_and_a_test_is_kept_to_the_day(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("ann", "bob")
        await ward.lock("bob")
        client = ward.clients["bob"]
        assert isinstance(await client.answer(lambda ref: frames.AlertHeard(ref=ref)), frames.Done)
        answer = await ward.clients["ann"].answer(
            lambda ref: frames.GetReach(ref=ref, users=("bob", "ann", "nobody"))
        )
        assert isinstance(answer, frames.Reach)
        told = {one.device: one for one in answer.devices}
        assert {name: one.connected for name, one in told.items()} == {
            "ann/phone": True,
            "bob/phone": True,
        }
        assert told["bob/phone"].tested_ms % (24 * HOUR) == 0
        assert told["bob/phone"].tested_ms > 0
        assert told["ann/phone"].tested_ms == 0


def ways(folder: Path, people: str, **options: Any) -> Ways:
    (folder / "people.toml").write_text(people)
    settings = SecondChannelSettings(people="people.toml", **options)
    return Ways.open(settings, configuration_file=folder / "relay.toml")


async def test_a_command_gets_number_word_role_and_text_and_no_content(tmp_path: Path) -> None:
    script = tmp_path / "hook.py"
    script.write_text(
        "import sys, json, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'said')!r}).write_text(json.dumps(sys.argv[1:]))\n"
    )
    channel = ways(
        tmp_path,
        '[ann]\nnumber = "--help"\n',
        command=(sys.executable, str(script)),
    )
    await channel.say(ANN, Word.STAT, ICU)
    said = (tmp_path / "said").read_text()
    assert said == '["--", "--help", "stat", "icu", "Wardline: STAT waiting for role icu"]'


async def test_a_command_that_fails_or_is_not_there_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for command in ((sys.executable, "-c", "raise SystemExit(3)"), ("/no/such/program",)):
        channel = ways(tmp_path, '[ann]\nnumber = "1"\n', command=command)
        await channel.say(ANN, Word.STAT, ICU)
    await channel.say(BOB, Word.STAT, ICU)
    assert not any("ann" in record.getMessage() for record in caplog.records)


async def test_a_broken_file_of_contacts_stops_the_start_and_later_leaves_the_last_good_one(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError):
        ways(tmp_path, "[ann]\nphone = 1\n")
    script = (sys.executable, "-c", f"open({str(tmp_path / 'said')!r}, 'a').write('x')")
    channel = ways(tmp_path, '[ann]\nnumber = "1"\n', command=script)
    (tmp_path / "people.toml").write_text("[ann\n")
    await channel.say(ANN, Word.STAT, ICU)
    assert (tmp_path / "said").read_text() == "x"


class Box:
    """A mail server's end: what came."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], str]] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, envelope.content.decode()))
        return "250 OK"


async def test_mail_says_that_stat_waits_to_a_real_mail_server(tmp_path: Path) -> None:
    box = Box()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(box, hostname="here"), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        people = '[ann]\nmail = "ann@hospital.example"\n'
        options = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": False}
        await ways(tmp_path, people, **options).say(ANN, Word.STAT, ICU)
        # Where TLS is demanded, a server without it gets nothing.
        await ways(tmp_path, people, **{**options, "smtp_tls": True}).say(ANN, Word.STAT, ICU)
    ((to, text),) = box.mails
    assert to == ["ann@hospital.example"]
    assert "STAT waiting for role icu" in text


async def test_a_calendar_fetches_a_persons_shifts_by_a_link_until_they_end_it(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path) as ward:
        await ward.open("ann")
        await ward.role("icu", always(ANN))
        await ward.role("lab", always(BOB))
        secret = secrets.token_bytes(32)
        link = SetCalendarLink(version=1, link=hashlib.sha256(secret).digest())
        base = f"http://127.0.0.1:{ward.site.port}/v1/calendars/{ward.site.hospital.id.hex()}"
        async with httpx.AsyncClient(trust_env=False) as web:
            assert (await web.get(f"{base}/{secret.hex()}")).status_code == 404
            assert isinstance(await ward.request("ann", link.encode()), frames.Done)
            found = await web.get(f"{base}/{secret.hex()}")
            assert found.status_code == 200
            assert "SUMMARY:icu: ann" in found.text
            assert "lab" not in found.text
            for other in (secrets.token_hex(32), "", "zz", secret.hex()[:-2], secret.hex() + "00"):
                assert (await web.get(f"{base}/{other}")).status_code == 404
            elsewhere = base.replace(ward.site.hospital.id.hex(), "00" * 32)
            assert (await web.get(f"{elsewhere}/{secret.hex()}")).status_code == 404
            ended = SetCalendarLink(version=2, link=None)
            assert isinstance(await ward.request("ann", ended.encode()), frames.Done)
            assert (await web.get(f"{base}/{secret.hex()}")).status_code == 404


async def test_an_organisation_is_apart_from_another(tmp_path: Path) -> None:
    other = harness.hospital("Elsewhere")
    async with harness.running(tmp_path, harness.hospital(), other) as site:
        ward = Floor(site)
        await ward.role("icu", always(ANN))
        assert not site.relay.organisations[other.id].duty.in_use

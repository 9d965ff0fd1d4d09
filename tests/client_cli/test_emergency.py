"""Emergency access, moderators and mute by screen, command and line mode."""

from __future__ import annotations

import json

import pytest

from client_cli.output import Exit
from client_cli.screens.sheets import Check
from protocol.content import (
    CriticalResult,
    Edit,
    EmergencyRequest,
    HandOff,
    Moderators,
    Mute,
    Reaction,
    ReadBack,
    Task,
)
from protocol.identifiers import UserName
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import WARD, FakeDevice
from tests.client_cli.fake_ward import (
    BED_7,
    BEN,
    CARLA,
    DAN,
    EVA,
    HOUR_MS,
    NOW_MS,
    WITH_BEN,
    FakeWard,
    example_ward,
    vouched_for_eva,
)
from tests.client_cli.pilot import desk, flat, keys, shows, typed
from tests.client_cli.test_line import asked


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


async def test_the_second_colleague_reads_what_they_sign_for(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape")
        vouched_for_eva(ward)
        await pilot.pause(0.2)
        await keys(pilot, "end")
        await shows(pilot, "A SECOND COLLEAGUE MUST VOUCH")
        await keys(pilot, "t")
        assert isinstance(pilot.app.screen, Check)
        for words in ("Eva Lindqvist (eva)", "until 16:00", "Ben Adler says: Arrest", "your name"):
            assert words in flat(pilot.app)
        await keys(pilot, "enter")
        assert not ward.emergency.visits(BED_7)
        await keys(pilot, "y")
        await shows(pilot, "EMERGENCY ACCESS: Eva Lindqvist until 16:00")
        (visit,) = ward.emergency.visits(BED_7)
        assert (visit.user, set(visit.vouchers)) == (EVA, {UserName("ann"), BEN})


async def test_a_member_vouches_first_from_the_members_sheet_and_ends_it(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "m", "e", "v")
        await typed(pilot, "eva")
        await keys(pilot, "enter", "ctrl+s")
        await shows(pilot, "You vouch for Eva Lindqvist in Bed 7")
        await typed(pilot, "Arrest")
        await keys(pilot, "enter", "enter")
        (one,) = ward.emergency.pending(BED_7)
        assert (one.user, one.reason, one.until_ms) == (EVA, "Arrest", NOW_MS + 2 * HOUR_MS)
        ward.emergency.first(BED_7, DAN, BEN, "x", HOUR_MS)
        await ward.emergency.vouch(BED_7, DAN)
        await keys(pilot, "m", "e", "down", "enter", "y")
        assert ward.emergency.ended == [DAN]


async def test_whoever_is_outside_asks_and_a_colleague_vouches_where_they_are(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "e")
        await typed(pilot, "ben a")
        await keys(pilot, "enter", "ctrl+s")
        if isinstance(pilot.app.screen, Check):
            await keys(pilot, "y")
        await shows(pilot, "Ask for emergency access")
        await typed(pilot, "Bed 9")
        await keys(pilot, "enter")
        await typed(pilot, "Arrest")
        await keys(pilot, "enter")
        ((users, about, reason),) = ward.emergency.asked
        assert (users, about, reason) == ((BEN,), "Bed 9", "Arrest")
    content = EmergencyRequest(about="Bed 7", reason="Arrest, I am on call")
    ward.say(WITH_BEN, "ben/phone", content, at_ms=NOW_MS)
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "end", "t")
        await shows(pilot, "Into which conversation? Asked for: Bed 7")
        await keys(pilot, "enter")
        await shows(pilot, "You vouch for Ben Adler")
        await keys(pilot, "enter", "enter")
        assert [
            (one.user, one.reason) for found in ward.emergency.waiting.values() for one in found
        ] == [(BEN, "Arrest, I am on call")]


async def test_moderators_are_named_and_mute_on_the_screen(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "m", "o")
        await typed(pilot, "carla")
        await keys(pilot, "enter", "ctrl+s")
        await keys(pilot, "m", "u")
        await typed(pilot, "dan")
        await keys(pilot, "enter", "ctrl+s")
    said = [line.shown.content for line in ward.lines[BED_7][-2:]]
    assert said == [Moderators(users=(CARLA,)), Mute(user=DAN, until_ms=NOW_MS + HOUR_MS)]


async def test_the_line_mode_has_all_of_it(ward: FakeWard) -> None:
    vouched_for_eva(ward)
    answers = await asked(
        ward,
        {"do": "ask-access", "users": ["ben"], "about": "Bed 9", "reason": "Arrest"},
        {"do": "vouch", "in": "Bed 7", "user": "eva"},
        {"do": "members", "in": "Bed 7"},
        {"do": "end-access", "in": "Bed 7", "user": "eva"},
        {"do": "moderators", "in": "Bed 7", "users": "carla"},
        {"do": "mute", "in": "Bed 7", "user": "dan", "minutes": 60},
        {"do": "mute", "in": "Bed 7"},
        {"do": "new", "in": "Bed 7", "what": "task", "fields": {"title": "Cultures"}},
        {"do": "new", "in": "Bed 7", "what": "task", "fields": {"titel": "Cultures"}},
        {"do": "vouch", "in": "Bed 7", "user": "eva"},
    )
    assert [one["ok"] for one in answers] == [True] * 8 + [False, False]
    assert answers[1]["vouched"] == "second"
    assert "title" in answers[8]["error"]
    assert ward.emergency.ended == [EVA]
    assert ward.cards[BED_7].muted
    said = [line.shown.content for line in ward.lines[BED_7][-3:]]
    assert said == [
        Moderators(users=(CARLA,)),
        Mute(user=DAN, until_ms=NOW_MS + HOUR_MS),
        Task(title="Cultures"),
    ]


def test_commands_ask_vouch_list_and_end(device: FakeDevice, run: Run) -> None:
    ended = run("emergency", "ask", "beth", "alice", "--about", "Bed 9", "--reason", "Arrest")
    assert ended.status == Exit.DONE
    assert device.emergency.asked == [(("beth", "alice"), "Bed 9", "Arrest")]
    silent = run("emergency", "vouch", "Ward 4", "bob")
    assert silent.status == Exit.USAGE
    assert "you would be the first: say why, with --reason" in silent.err
    first = run("emergency", "vouch", "Ward 4", "bob", "--reason", "Arrest", "--json")
    assert (first.status, first.json["vouched"]) == (Exit.DONE, "first")
    device.emergency.first(WARD, UserName("bob"), UserName("beth"), "Arrest", HOUR_MS)
    assert run("emergency", "vouch", "Ward 4", "bob", "--json").json["vouched"] == "second"
    listed = run("emergency", "list", "--json").json["guests"]
    assert [(one["user"], one["state"]) for one in listed] == [
        ("bob", "in"),
        ("bob", "needs a second colleague"),
    ]
    assert "Ward 4" in run("emergency", "list").out
    assert run("emergency", "end", "Ward 4", "bob").status == Exit.DONE
    assert device.emergency.ended == ["bob"]
    assert run("emergency", "vouch", "Ward 4", "bob", "--minutes", "4").status == Exit.USAGE


def test_typed_content_is_made_by_command(device: FakeDevice, run: Run) -> None:
    sent = [
        run("new", "Ward 4", "task", "title=Cultures", "assignee=beth", "--json"),
        run("new", "Ward 4", "result", "test=Potassium", "value=6.9 mmol/l", "patient=MRN 4711"),
        run("new", "Ward 4", "hand-off", "subject=Bed 7", "situation=Stable", "to=beth"),
        run("moderators", "Ward 4", "beth"),
        run("mute", "Ward 4", "beth", "--minutes", "30"),
        run("mute", "Ward 4", "beth", "--off"),
    ]
    assert [one.status for one in sent] == [Exit.DONE] * 6, [one.err for one in sent]
    assert run("owners", "Ward 4", "beth").status == Exit.DONE
    assert device.owners == {WARD: ["beth"]}
    made = [shown.content for shown in device.threads[WARD]]
    assert [type(one) for one in made] == [Task, CriticalResult, HandOff, Moderators, Mute, Mute]
    key = sent[0].json["key"]
    for words in (("edit", key, "new"), ("react", key, "+1"), ("react", key, "+1", "--remove")):
        assert run(*words).status == Exit.DONE
    assert [type(one.content) for one in device.threads[WARD][6:]] == [Edit, Reaction, Reaction]
    assert run("history", key, "--json").json["versions"]
    wrong = run("--json", "new", "Ward 4", "task", "titel=x")
    assert (wrong.status, wrong.error["error"]) == (Exit.USAGE, "usage")
    assert run("new", "Ward 4", "sonnet", "a=b").status == Exit.USAGE
    assert run("new", "Ward 4", "task", "cultures").status == Exit.USAGE


def test_what_a_message_asks_is_done_by_command(device: FakeDevice, run: Run) -> None:
    assert run("do", "nothing:like/this:1").status == Exit.UNKNOWN
    key = run("new", "Ward 4", "task", "title=Cultures", "--json").json["key"]
    ended = run("--json", "do", key, "read-back", "6.9")
    assert (ended.status, ended.error["error"]) == (Exit.REFUSED, "not_possible")
    assert json.dumps(ended.error)
    assert ReadBack not in [type(one.content) for one in device.threads[WARD]]

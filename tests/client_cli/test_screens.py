"""The program as people use it: keys are pressed, and what came of it is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.table import Table
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, TextArea

from client.errors import FullError
from client.messages import PersonState, State
from client.views import Change, ChangeKind, Shown, Status
from client_cli.app import Ending, Wardline
from client_cli.rows import ConversationRow, status_line
from client_cli.screens import lists
from client_cli.screens.page_alert import PageAlert
from client_cli.screens.sheets import Check
from protocol.authenticated_data import Priority, Target, TargetKind
from protocol.content import (
    Attachment,
    Closing,
    Edit,
    Mute,
    ReadBack,
    Reply,
    Text,
    Unknown,
)
from protocol.group_context import ConversationType
from protocol.oncall.page_state import Event
from tests.client_cli.fake_ward import (
    ANN,
    BED_7,
    BEN,
    CARLA,
    DAN,
    EVA,
    HOUR_MS,
    NOW_MS,
    PAGE,
    TEAM,
    WITH_BEN,
    FakeWard,
    example_ward,
    stat_page,
)
from tests.client_cli.pilot import (
    armed,
    desk,
    flat,
    keys,
    said,
    shows,
    text_of,
    typed,
    until,
)

DANGEROUS = "adno adno"
"""The letters that answer a page."""


@pytest.fixture
def ward() -> FakeWard:
    return example_ward()


def composer(pilot: Pilot[Ending]) -> TextArea:
    assert isinstance(pilot.app, Wardline)
    return pilot.app.desk.query_one(TextArea)


def last(ward: FakeWard) -> Shown:
    return ward.messages(BED_7, limit=1)[0]


async def test_the_list_says_in_words_what_waits_and_how_urgent_it_is(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        text = text_of(pilot.app)
        assert "URGENT 1 Bed 7 · MRN 4711" in text
        assert "3 held until you are on duty" in text
        assert "on call: icu-registrar until 19:00" in text
        assert "online" in text


async def test_opening_a_thread_marks_it_read(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert ward.summary(BED_7).unread == 0
        assert "Potassium 6.9 mmol/l" in text_of(pilot.app)


async def test_what_is_typed_is_sent_by_enter_and_by_nothing_else(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, DANGEROUS)
        assert said(ward) == []
        await keys(pilot, "ctrl+j")
        await typed(pilot, "two")
        await keys(pilot, "enter")
        assert said(ward) == [Text(text=f"{DANGEROUS}\ntwo")]
        assert composer(pilot).text == ""
        assert "waiting to be sent" in text_of(pilot.app)


async def test_a_draft_waits_in_its_own_conversation(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "half")
        await keys(pilot, "escape", "escape", "down", "enter")
        assert composer(pilot).text == ""
        await keys(pilot, "escape", "escape", "up", "enter")
        assert composer(pilot).text == "half"


async def test_what_cannot_be_sent_stays_in_the_composer(ward: FakeWard) -> None:
    ward.refusal = FullError()
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "hello")
        await keys(pilot, "enter")
        assert composer(pilot).text == "hello"
        await pilot.pause(0.2)
        assert "disk is full" in flat(pilot.app)


async def test_priority_and_acknowledgement_are_said_before_sending(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "ctrl+t", "ctrl+r")
        text = text_of(pilot.app)
        assert "priority URGENT" in text
        assert "asks for an acknowledgement" in text
        await typed(pilot, "come")
        await keys(pilot, "enter")
        await keys(pilot, "y")
        assert (last(ward).priority, last(ward).acknowledgement_asked) == (Priority.URGENT, True)
        assert "priority routine" in text_of(pilot.app)


# -- the recipient check ---------------------------------------------------------------------------


async def test_a_message_to_somebody_off_duty_is_asked_about_and_enter_is_no_answer(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "ctrl+t")
        await typed(pilot, "come")
        await keys(pilot, "enter")
        text = flat(pilot.app)
        assert "Carla Ruiz is off duty until Fri 07:00, and gets it then." in text
        assert "Covered by Dan Okafor." in text
        await keys(pilot, "enter", "enter")
        assert said(ward) == []
        await keys(pilot, "escape")
        assert composer(pilot).text == "come"
        await keys(pilot, "enter", "y")
        assert said(ward) == [Text(text="come")]


async def test_in_a_group_a_routine_message_is_not_asked_about_but_said(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert "Off duty: Carla Ruiz until Fri 07:00" in text_of(pilot.app)
        await typed(pilot, "hello")
        await keys(pilot, "enter")
        assert said(ward) == [Text(text="hello")]


async def test_whoever_is_named_but_outside_is_pointed_out(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "ask @eva")
        await keys(pilot, "enter")
        assert "Eva Lindqvist is not in this conversation" in text_of(pilot.app)
        await keys(pilot, "escape")
        assert said(ward) == []


async def test_people_with_similar_names_are_told_apart_before_a_conversation_begins(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "c")
        await typed(pilot, "carla")
        await keys(pilot, "enter")
        await typed(pilot, "ben2")
        await keys(pilot, "enter", "ctrl+s")
        text = flat(pilot.app)
        assert "Ben Adlar (Cardiology) is meant, and not Ben Adler (ICU)?" in text
        await keys(pilot, "y")
        await typed(pilot, "New")
        await keys(pilot, "enter", "enter", "enter")
        assert sorted(set(ward.people) - {BED_7, TEAM, WITH_BEN})
        assert any("ben2" in people for people in ward.people.values())


async def test_a_conversation_with_one_person_is_opened_where_there_is_one(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "c")
        await typed(pilot, "icu")
        await keys(pilot, "enter", "ctrl+s", "y")
        assert len(ward.cards) == 4
        assert isinstance(pilot.app, Wardline)
        assert pilot.app.desk.open == WITH_BEN


# -- a page ----------------------------------------------------------------------------------------


async def test_a_stat_page_lies_over_everything(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "question_mark")
        stat_page(ward)
        await pilot.pause()
        text = text_of(pilot.app)
        assert "*** STAT ***" in text
        assert "Bed 12: unresponsive" in text


async def test_typing_never_answers_a_page(ward: FakeWard) -> None:
    async with desk(ward, quiet_s=5.0) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "I was just wri")
        stat_page(ward)
        await pilot.pause()
        await typed(pilot, "ting and adno")
        assert ward.duty.answered == []
        assert "Stop typing for a moment" in text_of(pilot.app)
        await keys(pilot, "escape")
        assert composer(pilot).text == "I was just wri"


@pytest.mark.parametrize(
    ("key", "event"), [("a", Event.ACCEPT), ("d", Event.DECLINE)], ids=["accept", "decline"]
)
async def test_one_deliberate_key_answers_a_page(ward: FakeWard, key: str, event: Event) -> None:
    async with desk(ward) as pilot:
        stat_page(ward)
        await armed(pilot)
        assert "a accept   d decline   n not mine" in text_of(pilot.app)
        await keys(pilot, key)
        assert ward.duty.answered == [(PAGE, event, None, None)]
        assert not isinstance(pilot.app.screen, PageAlert)


async def test_not_mine_asks_whose_it_is(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        stat_page(ward)
        await armed(pilot)
        await keys(pilot, "n", "down", "down", "enter")
        assert ward.duty.answered == [(PAGE, Event.NOT_MINE, "surgeon", None)]


async def test_done_counts_only_after_accepting(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        stat_page(ward)
        await armed(pilot)
        await keys(pilot, "o")
        assert ward.duty.answered == []
        await keys(pilot, "a")
        await keys(pilot, "g", "enter")
        await armed(pilot)
        assert "o done" in text_of(pilot.app)
        await keys(pilot, "o")
        assert [event for _, event, _, _ in ward.duty.answered] == [Event.ACCEPT, Event.FINISH]


async def test_a_page_that_is_put_off_waits_in_the_sheet(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        stat_page(ward)
        await pilot.pause()
        await keys(pilot, "escape")
        assert not isinstance(pilot.app.screen, PageAlert)
        await keys(pilot, "g")
        assert "STAT for icu-registrar" in text_of(pilot.app)


async def test_a_role_is_paged_from_the_board(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "p")
        assert "cardiologist NOBODY until 16:00; Dan Okafor" in flat(pilot.app)
        await keys(pilot, "down", "enter", "s")
        await typed(pilot, "Bed 7 bleeds")
        await keys(pilot, "enter")
        (page,) = ward.duty.sheet
        assert (page.role, page.priority, page.text) == ("surgeon", Priority.STAT, "Bed 7 bleeds")


async def test_who_is_next_for_a_role_is_paged_from_the_board(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "p", "n")
        assert "Page next on icu-registrar (Ben Adler): how urgent?" in flat(pilot.app)
        await keys(pilot, "r")
        await typed(pilot, "Come early")
        await keys(pilot, "enter")
        assert ward.duty.turns == [TargetKind.NEXT]


async def test_a_message_that_begins_with_a_role_is_for_its_people_and_says_so(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "@icu-registrar:next bed 7 waits for you")
        await pilot.pause()
        assert "for next on icu-registrar: Ben Adler" in flat(pilot.app)
        await keys(pilot, "enter")
        shown = ward.messages(BED_7, limit=1)[-1]
        assert shown.target == Target(kind=TargetKind.NEXT, name="icu-registrar")
        assert "to next on icu-registrar" in flat(pilot.app)


async def test_who_is_meant_and_is_not_there_is_pointed_out(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        await typed(pilot, "@cardiologist:next come")
        await keys(pilot, "enter")
        assert "Eva Lindqvist is not in this conversation" in text_of(pilot.app)
        await keys(pilot, "escape")
        assert said(ward) == []


# -- with messages ---------------------------------------------------------------------------------


async def test_a_critical_result_is_read_back_by_typing_its_value(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "t")
        assert "Type the value of Potassium again" in text_of(pilot.app)
        await typed(pilot, "9.6")
        await keys(pilot, "enter")
        assert "NOT the value that You read back" in text_of(pilot.app)
        await keys(pilot, "t")
        await typed(pilot, "6.9 mmol/l")
        await keys(pilot, "enter")
        assert "read back by You 14:00, still open" in text_of(pilot.app)
        assert [type(content) for content in said(ward)] == [ReadBack, ReadBack]
        await keys(pilot, "t")
        assert isinstance(said(ward)[-1], Closing)
        assert "CLOSED by You" in text_of(pilot.app)


async def test_the_menu_offers_what_can_be_done_and_no_more(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "enter")
        text = text_of(pilot.app)
        assert "t  read the value back" in text
        assert "take the message back" not in text
        await keys(pilot, "r")
        await typed(pilot, "Seen")
        await keys(pilot, "enter")
        (reply,) = said(ward)
        assert isinstance(reply, Reply)
        assert reply.text == "Seen"


async def test_an_own_message_is_changed(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "up", "up", "e")
        assert composer(pilot).text == "Sips of water only, please."
        assert "CHANGING your message" in text_of(pilot.app)
        composer(pilot).text = "Nil by mouth."
        await keys(pilot, "enter")
        (edit,) = said(ward)
        assert isinstance(edit, Edit)
        assert edit.text == "Nil by mouth."


async def test_only_what_nobody_has_read_is_taken_back(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "up", "up", "x")
        await pilot.pause(0.2)
        assert "cannot be done" in flat(pilot.app)
        await keys(pilot, "w")
        await typed(pilot, "wrong patient")
        await keys(pilot, "enter", "escape", "x")
        assert "Nobody has read it" in text_of(pilot.app)
        await keys(pilot, "y")
        assert last(ward).state is State.RETRACTED
        assert "took this message back" in text_of(pilot.app)


async def test_acknowledging_and_reacting_are_one_key_each(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "k")
        assert last(ward).people[ANN] == (PersonState.ACKNOWLEDGED, NOW_MS)
        await keys(pilot, "plus", "enter")
        assert last(ward).reactions == {"+1": (ANN,)}


async def test_a_moderator_folds_somebodys_messages_away_for_an_hour(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "m", "u")
        await typed(pilot, "carla")
        await keys(pilot, "enter", "ctrl+s")
        assert said(ward) == [Mute(user=CARLA, until_ms=NOW_MS + HOUR_MS)]


async def test_a_file_is_sent_and_saved(ward: FakeWard, tmp_path: object) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "f4")
        await typed(pilot, "scan.jpg")
        await keys(pilot, "enter")
        assert [path.name for path in ward.attached] == ["scan.jpg"]
        assert isinstance(said(ward)[0], Attachment)
        await keys(pilot, "escape", "s")
        assert "unencrypted" in text_of(pilot.app)
        pilot.app.screen.query_one(Input).value = "/nowhere/at all"
        await keys(pilot, "enter")
        await pilot.pause(0.2)
        assert "cannot be read or written" in flat(pilot.app)
        await keys(pilot, "s")
        pilot.app.screen.query_one(Input).value = f"{tmp_path}/saved.jpg"
        await keys(pilot, "enter")
        await pilot.pause(0.1)
        assert "Saved as" in flat(pilot.app)


async def test_details_say_who_has_read_it_and_when(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "up", "up", "i")
        text = text_of(pilot.app)
        assert "Ben Adler: read 13:03" in text
        assert "Dan Okafor: delivered 13:02" in text


async def test_the_archive_is_shown_among_the_members(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "m")
        assert "Archive: keeps every message" in text_of(pilot.app)
        await keys(pilot, "plus")
        await typed(pilot, "eva")
        await keys(pilot, "enter", "ctrl+s")
        assert EVA in ward.people[BED_7]
        await keys(pilot, "m", "minus")
        await typed(pilot, "carla")
        await keys(pilot, "enter", "ctrl+s")
        assert CARLA not in ward.people[BED_7]


async def test_history_is_handed_over_where_the_policy_allows_it_and_after_being_asked(
    ward: FakeWard,
) -> None:
    async with desk(ward) as pilot:
        handing = ward.handing_over
        await keys(pilot, "enter", "escape", "m", "h")
        assert not isinstance(pilot.app.screen, Check)
        handing.hours, handing.messages = 12, 31
        await keys(pilot, "m", "h")
        assert "31 messages of the last 12 hours" in text_of(pilot.app)
        await keys(pilot, "escape", "m", "h", "y")
        assert handing.done == [BED_7]


async def test_leaving_is_asked_about(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "escape", "m", "x")
        assert isinstance(pilot.app.screen, Check)
        await keys(pilot, "escape")
        assert ward.left == []
        await keys(pilot, "m", "x", "y")
        assert ward.left == [BED_7]


# -- finding, help, locking ------------------------------------------------------------------------


async def test_search_finds_messages_and_people_and_opens_them(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "slash")
        await typed(pilot, "drug")
        assert "1 found" in text_of(pilot.app)
        await keys(pilot, "enter")
        assert isinstance(pilot.app, Wardline)
        assert pilot.app.desk.open == TEAM
        await keys(pilot, "escape", "slash")
        await typed(pilot, "adler")
        assert "Ben Adler (ben), ICU" in text_of(pilot.app)
        await keys(pilot, "enter")
        assert pilot.app.desk.open == WITH_BEN


async def test_help_and_the_tour_are_there(ward: FakeWard) -> None:
    async with desk(ward, tour=True) as pilot:
        assert "How Wardline works" in text_of(pilot.app)
        await keys(pilot, "escape", "question_mark")
        assert "who is on call" in text_of(pilot.app)


async def test_without_network_it_says_so_and_everything_is_readable(ward: FakeWard) -> None:
    ward.status = Status(online=False, catching_up=0, unsent=2, faults=0, archived_lag_ms=180_000)
    async with desk(ward) as pilot:
        assert "OFFLINE · 2 unsent · archive 3 min behind" in text_of(pilot.app)
        await keys(pilot, "enter")
        assert "Sips of water" in text_of(pilot.app)


async def test_a_newer_programs_message_is_shown_as_such(ward: FakeWard) -> None:
    ward.say(BED_7, "ben/phone", Unknown(kind=200, body=b"x"), at_ms=NOW_MS)
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        assert "needs a newer program" in text_of(pilot.app)


async def test_what_comes_is_shown_at_once_and_the_mark_follows(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        ward.say(BED_7, "dan/phone", "Theatre is free", at_ms=NOW_MS)
        ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=BED_7))
        await shows(pilot, "Theatre is free")
        assert DAN in ward.people[BED_7]


async def test_locking_ends_the_program_and_says_to_lock(ward: FakeWard) -> None:
    app: Wardline
    async with desk(ward) as pilot:
        assert isinstance(pilot.app, Wardline)
        app = pilot.app
        await keys(pilot, "ctrl+l")
    assert app.return_value is Ending.LOCK


async def test_a_full_disk_is_said_at_the_top(ward: FakeWard) -> None:
    ward.status = replace(ward.status, disk_full=True)
    async with desk(ward) as pilot:
        await shows(pilot, "DISK FULL: nothing new is kept · online")


async def test_it_locks_by_itself_when_nobody_types(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client_cli.app.WATCH_S", 0.05)
    async with desk(ward, lock_after_ms=1) as pilot:
        await until(pilot, lambda: pilot.app.return_value is Ending.LOCK)


async def test_what_is_copied_does_not_reach_the_terminals_clipboard(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(ward) as pilot:
        assert pilot.app._driver is not None
        written: list[str] = []
        monkeypatch.setattr(pilot.app._driver, "write", written.append)
        pilot.app.copy_to_clipboard("MRN 4711")
        assert not any("\x1b]52" in text for text in written)
        assert pilot.app.clipboard == "MRN 4711"


async def test_stat_elsewhere_stays_on_the_screen_until_it_is_read(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter")
        ward.say(WITH_BEN, "ben/phone", "Arrest", at_ms=NOW_MS, priority=Priority.STAT)
        ward.tell(Change(kind=ChangeKind.MESSAGES, conversation=WITH_BEN))
        await shows(pilot, "STAT in Ben Adler: Ben Adler: Arrest")
        await typed(pilot, "still writing")
        assert "F8  STAT" in text_of(pilot.app)
        await keys(pilot, "f8")
        await shows(pilot, "Arrest")
        await pilot.pause(0.3)
        assert "F8  STAT" not in text_of(pilot.app)


async def test_what_was_held_is_told_once_when_the_shift_begins(ward: FakeWard) -> None:
    ward.cards[TEAM] = replace(ward.cards[TEAM], held=0, released=3)
    async with desk(ward) as pilot:
        await shows(pilot, "While you were off duty")
        assert "Ward 3B team: 3 held for you" in text_of(pilot.app)
        await keys(pilot, "escape")
        wardline = pilot.app
        assert isinstance(wardline, Wardline)
        wardline._tend()
        await pilot.pause()
        assert "While you were off duty" not in text_of(pilot.app)
        assert "3 came while you were off duty" in text_of(pilot.app)


async def test_what_is_for_somebody_off_duty_is_diverted_to_who_covers(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "enter", "ctrl+t")
        await typed(pilot, "Please look at bed 7")
        await keys(pilot, "enter")
        await shows(pilot, "d: to Dan Okafor instead")
        await keys(pilot, "d")
        await shows(pilot, "This goes to Dan Okafor")
        assert "Please look at bed 7" in text_of(pilot.app)
        assert "priority URGENT" in text_of(pilot.app)
        await keys(pilot, "enter")
    (direct,) = [one for one in ward.conversations() if one.title == "Dan Okafor"]
    (line,) = ward.lines[direct.conversation]
    assert (line.shown.text, line.shown.priority) == ("Please look at bed 7", Priority.URGENT)
    assert "Please look" not in [one.shown.text for one in ward.lines[BED_7]]


async def test_a_person_who_is_found_is_written_to_at_once(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "slash")
        await typed(pilot, "okafor")
        await keys(pilot, "enter")
        await shows(pilot, "Dan Okafor")
        await typed(pilot, "Hello")
        await keys(pilot, "enter")
    assert "Dan Okafor" in [one.title for one in ward.conversations()]


async def test_an_announcement_is_begun_on_the_screen(ward: FakeWard) -> None:
    async with desk(ward) as pilot:
        await keys(pilot, "c")
        await typed(pilot, "carla")
        await keys(pilot, "enter")
        await typed(pilot, "dan")
        await keys(pilot, "enter", "ctrl+s")
        await typed(pilot, "Fire drill")
        await keys(pilot, "enter", "enter")
        await typed(pilot, "a")
        await keys(pilot, "enter")
        await pilot.pause(0.1)
    (begun,) = [one for one in ward.conversations() if one.title == "Fire drill"]
    assert begun.kind.name == "ANNOUNCEMENT"


def test_a_long_catching_up_is_drawn_as_a_bar() -> None:
    status = Status(online=True, catching_up=2500, unsent=0, faults=0, archived_lag_ms=0)
    assert "[#######...] 75%, 2,500" in status_line(status, behind=10_000)
    assert "[" not in status_line(replace(status, catching_up=20), behind=20)


@pytest.mark.parametrize("ends_ms", [[NOW_MS - 1, 0], [NOW_MS - 1, None]])
async def test_the_end_of_the_shift_locks(ward: FakeWard, ends_ms: list[int | None]) -> None:
    async with desk(ward, shift_ends=lambda: ends_ms.pop(0)) as pilot:
        wardline = pilot.app
        assert isinstance(wardline, Wardline)
        wardline._tend()
        await pilot.pause()
        assert wardline.return_value is Ending.LOCK


@pytest.mark.parametrize(
    "ends_ms",
    [
        [NOW_MS + 1, NOW_MS + 1],
        [NOW_MS - 1, NOW_MS + HOUR_MS],
        [0, 0],
        [None, None],
        [0, NOW_MS + 1],
    ],
)
async def test_nothing_else_of_a_roster_locks(ward: FakeWard, ends_ms: list[int | None]) -> None:
    async with desk(ward, shift_ends=lambda: ends_ms.pop(0)) as pilot:
        wardline = pilot.app
        assert isinstance(wardline, Wardline)
        wardline._tend()
        await pilot.pause()
        assert wardline.is_running


async def test_of_a_long_list_only_what_is_on_the_screen_is_laid_out(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        await ward.start(ConversationType.GROUP, [BEN], title=f"Group {number}")
    laid_out: list[str] = []

    def counted(row: ConversationRow) -> Table:
        laid_out.append(row.title)
        return grid(row)

    grid = lists._conversation
    monkeypatch.setattr(lists, "_conversation", counted)
    async with desk(ward) as pilot:
        conversations = pilot.app.screen.query_one("#conversations", OptionList)
        assert conversations.option_count == len(ward.cards)
        assert 0 < len(set(laid_out)) < 30
        await keys(pilot, "end")
        last = ward.conversations()[-1].title
        await until(pilot, lambda: last in laid_out)


@pytest.mark.parametrize("name", ["Dr Berg [/ICU]", "[red]Ann[/red]", "[@click=app.quit]Ann[/]"])
async def test_a_name_that_looks_like_markup_is_shown_as_it_is(name: str) -> None:
    async with desk(example_ward()) as pilot:
        pilot.app.screen.notify(f"This goes to {name}: Enter sends it.")
        await shows(pilot, f"This goes to {name}")


async def test_the_board_shows_a_name_that_looks_like_markup_as_it_is(
    ward: FakeWard, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = [replace(one, name=f"{one.name} [/ICU]") for one in ward.directory()]
    monkeypatch.setattr(ward, "directory", lambda: people)
    async with desk(ward) as pilot:
        await keys(pilot, "p")
        await shows(pilot, "Dan Okafor [/ICU]")

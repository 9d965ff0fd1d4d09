"""``wardline ward`` and the pages of ``wardline duty``, over a device that is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import pytest

from client.courses import CheckInCourse, RoomCourse
from client.duty import PageView
from client.views import Change, ChangeKind
from client_cli import pager
from client_cli.output import Exit
from client_cli.rows import Reading, course_words
from protocol.authenticated_data import Priority, TargetKind
from protocol.content import (
    CheckIn,
    CheckInAnswer,
    IncidentEvent,
    RoomConfirmation,
    RoomRequest,
    Text,
)
from protocol.content.ward import Stage
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.page_state import Event, State, Status
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import PEOPLE, FakeDevice
from tests.client_cli.test_oncall import ward
from tests.crypto.hospital import NOW_MS

__all__ = ["ward"]

WARD = "Ward 4"
PAGE = ConversationId(b"\xab" * 32)


def said(device: FakeDevice, kind: type) -> list[Any]:
    return [
        shown for thread in device.threads.values() for shown in thread
        if isinstance(shown.content, kind)
    ]  # fmt: skip


def test_a_check_in_is_asked_and_answered(device: FakeDevice, run: Run) -> None:
    key = run("ward", "check-in", WARD, "Before theatre", "Fasting?", "Allergies?").out.strip()
    (asked,) = said(device, CheckIn)
    assert asked.content.questions == ("Fasting?", "Allergies?")
    assert run("ward", "answer", key, "yes", "none").status == Exit.DONE
    (answered,) = said(device, CheckInAnswer)
    assert answered.content.answers == ("yes", "none")
    assert answered.content.target.message_id == asked.key.message_id
    assert run("ward", "check-in", WARD, "x" * 5000, "Fasting?").status == Exit.USAGE
    late = run("ward", "check-in", WARD, "Round", "Ready?", "--answer-by", "2027-01-01T08:00")
    assert late.status == Exit.DONE
    assert said(device, CheckIn)[-1].content.answer_by_ms == 1_798_790_400_000


def test_a_room_is_asked_for_with_a_deadline_and_confirmed_or_refused(
    device: FakeDevice, run: Run
) -> None:
    span = ("--from", "2027-01-02T08:00", "--to", "2027-01-02T10:00")
    key = run("ward", "room", WARD, "Theatre 2", *span, "--answer-by", "2027-01-01T18:00")
    (asked,) = said(device, RoomRequest)
    assert asked.content.start_ms - asked.content.answer_by_ms == 14 * 3_600_000
    assert run("ward", "confirm", key.out.strip()).status == Exit.DONE
    assert run("ward", "confirm", key.out.strip(), "--refuse").status == Exit.DONE
    assert [s.content.granted for s in said(device, RoomConfirmation)] == [True, False]
    wrong = ("--from", "2027-01-02T10:00", "--to", "2027-01-02T08:00")
    late = run("ward", "room", WARD, "Theatre 2", *wrong, "--answer-by", "2027-01-01T18:00")
    assert late.status == Exit.USAGE


def test_an_incident_has_those_on_call_a_timeline_and_a_report(ward: Any, run: Run) -> None:
    opened = run("ward", "incident", "Fire in B", "icu", "--text", "Smoke in theatre 2")
    assert opened.status == Exit.DONE, opened.err
    (made,) = [c for c, kind in ward.kinds.items() if kind is ConversationType.INCIDENT]
    assert ward.people_in[made] == ["ada", "alice"]
    earlier = ("--at", "2026-01-01T07:55")
    assert run("ward", "event", "Fire in B", "Doors closed", *earlier).status == Exit.DONE
    assert run("ward", "event", "Fire in B", "All out, nobody hurt", "--close").status == Exit.DONE
    events = run("--json", "ward", "timeline", "Fire in B").json["events"]
    assert [one["stage"] for one in events] == ["update", "opened", "closed"]
    assert "All out" in run("ward", "timeline", "Fire in B").out
    first = said(ward, IncidentEvent)[0]
    assert (first.priority, first.content.stage) == (Priority.URGENT, Stage.OPENED)
    assert run("ward", "incident", "Flood", "plumber", "--text", "x").status == Exit.UNKNOWN


@pytest.mark.parametrize(
    ("words", "people"),
    [
        (("--all",), {user for user, _, _ in PEOPLE} - {"ada"}),
        (("--role", "icu"), {"alice"}),
        (
            ("--site", PEOPLE[0][2].upper()),
            {u for u, _, w in PEOPLE if w == PEOPLE[0][2]} - {"ada"},
        ),
    ],
    ids=["all", "role", "site"],
)
def test_a_broadcast_reaches_roles_sites_and_the_whole_house(
    ward: Any, run: Run, words: tuple[str, ...], people: set[str]
) -> None:
    told = run("ward", "broadcast", "Lift 3 is out", *words, "--priority", "urgent", "--ack")
    assert told.status == Exit.DONE, told.err
    (made,) = [c for c, kind in ward.kinds.items() if kind is ConversationType.ANNOUNCEMENT]
    assert set(ward.people_in[made]) == people | {"ada"}
    (shown,) = said(ward, Text)
    assert (shown.text, shown.priority) == ("Lift 3 is out", Priority.URGENT)
    assert shown.acknowledgement_asked


def test_a_broadcast_to_nobody_is_said(ward: Any, run: Run) -> None:
    assert run("ward", "broadcast", "Lift", "--site", "Atlantis").status == Exit.UNKNOWN


def test_a_broadcast_with_a_mistyped_name_goes_to_nobody(ward: Any, run: Run) -> None:
    before = dict(ward.kinds)
    ended = run("ward", "broadcast", "Lift", "--all", "--role", "srugeon", "--site", "Atlantis")
    assert ended.status == Exit.UNKNOWN
    assert "There is no role or site srugeon, Atlantis. Nothing was said." in ended.err
    assert ward.kinds == before


def test_a_role_is_paged_and_pages_are_listed_and_answered(
    ward: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[Any] = []

    async def paged(role: RoleName, text: str, **how: Any) -> ConversationId:
        did.append((role, text, how["priority"], how["turn"]))
        return PAGE

    async def answered(page: ConversationId, event: Event, **how: Any) -> None:
        did.append((page, event, how["to"]))

    view = PageView(
        conversation=PAGE,
        role=RoleName("icu"),
        sender=UserName("beth"),
        priority=Priority.STAT,
        text="arrest",
        started_ms=NOW_MS,
        status=Status.OPEN,
        step=1,
        mine=State.SENT,
        asked={UserName("ada"): State.SENT},
        next_ms=NOW_MS,
        alerting=True,
    )
    monkeypatch.setattr(ward.duty, "page", paged)
    monkeypatch.setattr(ward.duty, "answer", answered)
    monkeypatch.setattr(ward.duty, "pages", lambda: [view])
    paging = run("duty", "page", "icu", "arrest, bed 4")
    assert "Paging alice" in paging.out
    assert paging.err == ""
    with monkeypatch.context() as patched:
        patched.setattr(ward, "devices", lambda _: [])
        alone = run("duty", "page", "icu", "arrest, bed 4")
    assert alone.status == Exit.DONE
    assert "alice: NO DEVICE, and so not reached by Wardline." in alone.err
    assert run("duty", "page", "plumber", "leak").status == Exit.UNKNOWN
    assert "ada sent" in run("duty", "pages").out
    assert run("duty", "answer", "not-mine", "abab", "--to", "alice").status == Exit.DONE
    assert run("duty", "answer", "accept", "cdcd").status == Exit.UNKNOWN
    assert run("duty", "answer", "perhaps", "abab").status == Exit.USAGE
    run("duty", "page", "icu", "come early", "--turn", "next", "-p", "routine")
    assert did == [
        ("icu", "arrest, bed 4", Priority.STAT, TargetKind.ROLE),
        ("icu", "arrest, bed 4", Priority.STAT, TargetKind.ROLE),
        (PAGE, Event.NOT_MINE, "alice"),
        ("icu", "come early", Priority.ROUTINE, TargetKind.NEXT),
    ]


def test_a_message_is_for_one_of_those_who_read_it_and_for_nobody_else(ward: Any, run: Run) -> None:
    assert run("send", WARD, "look here", "--for", "icu:next").status == Exit.DONE
    assert run("send", WARD, "and you", "--for", "beth").status == Exit.DONE
    named = [(shown.target.kind, shown.target.name) for shown in said(ward, Text)]
    assert named == [(TargetKind.NEXT, "icu"), (TargetKind.USER, "beth")]
    assert run("send", WARD, "whoever", "--for", "plumber").status == Exit.UNKNOWN
    assert run("send", WARD, "whoever", "--for", "bob").status == Exit.UNKNOWN
    # Whoever is on call for the role is not in that conversation.
    assert run("send", "beth", "whoever", "--for", "icu").status == Exit.UNKNOWN
    assert len(said(ward, Text)) == 2


def test_a_device_is_rung_as_a_page_rings_and_its_person_says_that_they_heard_it(
    ward: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []

    async def rung() -> None:
        did.append("rung")

    async def heard() -> None:
        did.append("heard")

    ward.changes = [Change(kind=ChangeKind.PAGE), Change(kind=ChangeKind.ALERT)]
    monkeypatch.setattr(ward.duty, "test_alert", rung)
    monkeypatch.setattr(ward.duty, "heard_alert", heard)
    assert run("duty", "wake-test").status == Exit.CHECK_FAILED
    assert run("duty", "wake-test", "--heard").status == Exit.DONE

    async def yes() -> bool:
        return True

    with monkeypatch.context() as patched:
        patched.setattr(pager, "_was_heard", yes)
        assert run("duty", "wake-test").status == Exit.DONE
    assert did == ["rung", "rung", "heard", "rung", "heard"]
    ward.changes = []
    monkeypatch.setattr(ward, "watch", silence)
    silent = run("duty", "wake-test", "--timeout", "0.1")
    assert silent.status == Exit.CHECK_FAILED
    assert silent.err.startswith("NOTHING RANG")


async def silence() -> AsyncIterator[Change]:
    """A device to which nothing comes."""
    await asyncio.Event().wait()
    yield Change(kind=ChangeKind.STATUS)


@pytest.mark.parametrize(
    ("after_ms", "words"), [(-60_000, "(by "), (60_000, "(TIME IS OVER since ")], ids=["by", "over"]
)
def test_a_check_in_and_a_room_say_until_when_they_wait_and_that_the_time_is_over(
    after_ms: int, words: str
) -> None:
    reading = Reading(me=UserName("ada"), now_ms=NOW_MS + after_ms, zone=UTC)
    for course in (
        CheckInCourse(answers={}, answer_by_ms=NOW_MS),
        RoomCourse(granted=None, by=None, answer_by_ms=NOW_MS),
    ):
        assert words in course_words(course, reading)
    assert course_words(CheckInCourse(answers={}), reading) == "nobody has answered yet"

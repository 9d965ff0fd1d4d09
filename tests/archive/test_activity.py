"""What a period was like: counted from records, without content, names, or anything opened."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from archive import founding
from archive.activity import Activity, activity
from archive.program import app
from archive.record import RecordType
from archive.store import Store
from protocol.audit import AuditEvent, EventKind
from protocol.frames import Deliver, EntryKind
from protocol.identifiers import AUDIT_LOG, RoleName
from protocol.oncall.page import Page
from protocol.oncall.page_event import Cause, PageEvent, PageState
from protocol.oncall.page_state import Status
from tests.archive.recording import Ward, ward
from tests.protocol.oncall.test_stories import ward as paged
from tests.server.harness import now_ms

DAY_MS = 24 * 3600 * 1000
WEDNESDAY_NOON_MS = 1_794_398_400_000
EVENTS = (EventKind.REFUSED, EventKind.REFUSED, EventKind.PROOF_WRONG, EventKind.OPENED)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Ward]:
    with ward(tmp_path) as found:
        talk = found.conversation()
        assert found.take([talk.say(number) for number in range(5)])
        assert found.take(
            [
                Deliver(
                    log=AUDIT_LOG,
                    sequence=number,
                    predecessor=number - 1,
                    at_ms=now_ms(),
                    kind=EntryKind.MESSAGE,
                    body=AuditEvent(kind=kind, at_ms=now_ms()).encode(),
                )
                for number, kind in enumerate(EVENTS, start=1)
            ]
        )
        yield found


def told(made: Ward, *options: str) -> str:
    """Return what the command prints."""
    ended = CliRunner().invoke(
        app, ["activity", "--config", str(made.archive.file), *options], catch_exceptions=False
    )
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_messages_and_denials_of_the_period_are_counted(made: Ward) -> None:
    facts = json.loads(told(made))
    assert (facts["messages"], facts["messages_routine"]) == (5, 5)
    assert (facts["denials"], facts["denials_refused"], facts["denials_proof_wrong"]) == (3, 2, 1)
    assert (facts["pages"], facts["records_without_body"]) == (0, 0)


def test_a_spreadsheet_gets_the_same_numbers(made: Ward) -> None:
    heads, values = csv.reader(io.StringIO(told(made, "--csv")))
    assert dict(zip(heads, values, strict=True))["messages"] == "5"


def test_what_was_recorded_before_the_period_is_not_counted(made: Ward) -> None:
    key = founding.database_key(made.archive.files)
    with closing(Store(made.archive.files.log.log, key)) as store:
        ahead_ms = now_ms() + DAY_MS
        found = activity(store, from_ms=ahead_ms, until_ms=ahead_ms + DAY_MS, zone=ZoneInfo("UTC"))
    assert found.facts()["messages"] == found.facts()["denials"] == 0


def test_a_zone_that_there_is_not_is_said_so(made: Ward) -> None:
    arguments = ["activity", "--config", str(made.archive.file), "--zone", "Atlantis"]
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_nights_and_weekends_are_off_hours_in_the_zone_that_is_asked_for(made: Ward) -> None:
    (record, *_) = [one for one in made.log.records() if one.type is RecordType.MESSAGE]
    body = made.log.body(record.index)
    counts = {}
    for zone, hours in (("UTC", 0), ("UTC", 12), ("UTC", 72), ("Pacific/Auckland", 0)):
        found = Activity(zone=ZoneInfo(zone))
        found.take(replace(record, at_ms=WEDNESDAY_NOON_MS + hours * 3600 * 1000), body)
        counts[zone, hours] = found.off_hours
    assert list(counts.values()) == [0, 1, 1, 1]


def escalation(made: Ward, page: Page, number: int) -> Activity:
    found = Activity(zone=ZoneInfo("UTC"))
    record = next(iter(made.log.records()))
    event = PageEvent(
        cause=Cause.STARTED,
        at_ms=page.started_ms,
        state=PageState(role=RoleName("intern"), page=page),
    )
    tag = bytes([number]) * 32
    found.take(replace(record, type=RecordType.ESCALATION, conv_tag=tag), event.encode())
    return found


def test_a_page_is_told_with_its_response_time_and_one_that_nobody_took(made: Ward) -> None:
    page = paged().page
    accepted = replace(page, status=Status.ACCEPTED, accepted_ms=page.started_ms + 42_000)
    facts = escalation(made, accepted, 1).facts()
    assert (facts["pages"], facts["pages_accepted"], facts["response_s_median"]) == (1, 1, 42.0)
    facts = escalation(made, replace(page, status=Status.UNANSWERED), 2).facts()
    assert (facts["pages_unanswered"], facts["response_s_median"]) == (1, None)
    assert facts["stat_unanswered"] == int(page.priority.name == "STAT")

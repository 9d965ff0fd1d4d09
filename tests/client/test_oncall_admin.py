"""Plans as files, coverage, what a change would move, and who was on call then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import oncall_admin
from client.administration import described
from client.calendars import importing
from client.calendars.feed import FeedError
from client.oncall_admin import UnknownRoleError, after, covered, moved
from client.oncall_plans import PlanError, duration_ms, missing, responder
from client.views import Control
from crypto.errors import InvalidError
from crypto.statement import Purpose, StatementType
from protocol.commands import SetHolders
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import (
    IMPORTED,
    AgreeSwap,
    HandOver,
    OnCallCommand,
    RoleCommand,
    SetImported,
    SetRole,
    SetSchedule,
)
from protocol.oncall.configuration import Configuration
from protocol.oncall.coverage import Move, moves
from protocol.oncall.escalation import Acknowledgement
from protocol.oncall.hours import EVERY_DAY, MONDAY_TO_FRIDAY, Holidays
from protocol.oncall.override import Override
from protocol.oncall.role import Turn
from protocol.oncall.rotation import Unit
from protocol.oncall.schedule import Schedule, Shift, on_call, shifts
from tests.depth import DEPTH
from tests.protocol.command_examples import EXAMPLES
from tests.protocol.oncall.strategies import schedules
from tests.protocol.oncall.test_schedule import SLOW
from tests.protocol.oncall.ward import HOUR, MINUTE, NIGHT, always
from tests.server import harness

ICU = RoleName("icu-registrar")
ANN, BOB, CLEO, CHIEF = (UserName(name) for name in ("ann", "bob", "cleo", "chief"))
DAY = 24 * HOUR

FILE = """
[role.icu-registrar]
zone = "Europe/Berlin"
fallback = ["matron"]
holders = ["bob", "ann"]
hand_over = true
backup = "icu-consultant"
holidays = [2026-12-25]

[[role.icu-registrar.layer]]
name = "days"
level = 1
hours = ["weekdays 08:00-20:00 except holidays", "sat,sun 10:00-18:00"]
rotation = { unit = "weekly", start = "2026-11-02T08:00", turns = [["ann"], ["bob"]] }

[[role.icu-registrar.layer]]
name = "nights"
hours = ["every 20:00-08:00"]
users = ["cleo"]

[role.icu-registrar.escalation]
steps = [
  { ask = ["role:icu-registrar"], wait = "60s" },
  { ask = ["role:icu-registrar backup", "user:dan"], wait = "2 min" },
]
last = { ask = ["role:icu-consultant"], wait = "1h" }
repeats = 1
again_after = "15min"

[role.icu-consultant]
zone = "Europe/Berlin"
fallback = ["matron"]
owner = "head"
"""


def applied(text: str, at_ms: int = NIGHT) -> Configuration:
    made = missing(text, Configuration(), holders={}, owner=CHIEF, now_ms=at_ms)
    return after(Configuration(), made, now_ms=at_ms)


def test_a_file_is_made_true_and_applying_it_again_does_nothing() -> None:
    made = missing(FILE, Configuration(), holders={}, owner=CHIEF, now_ms=NIGHT)
    assert [type(command).__name__ for command in made] == [
        "SetHolders",
        "SetRole",
        "SetSchedule",
        "SetEscalationPolicy",
        "SetRole",
    ]
    plan = applied(FILE).plans[ICU]
    schedule, policy = plan.schedule(NIGHT), plan.policy
    assert policy is not None
    days, nights = schedule.layers
    assert days.rotation is not None
    assert (days.rotation.unit, days.rotation.turns) == (Unit.WEEKLY, ((ANN,), (BOB,)))
    assert [hours.weekdays for hours in days.hours] == [MONDAY_TO_FRIDAY, 0b1100000]
    assert days.hours[0].holidays is Holidays.EXCEPT
    assert nights.hours[0].weekdays == EVERY_DAY
    assert on_call(schedule, NIGHT) == (CLEO,)
    assert [step.delay_ms for step in policy.steps] == [MINUTE, 2 * MINUTE]
    assert policy.steps[1].responders[0].turn is Turn.BACKUP
    assert (policy.repeats, policy.re_arm_ms) == (1, 15 * MINUTE)
    assert policy.acknowledgement is Acknowledgement.ANY
    held = {ICU: (ANN, BOB)}
    again = missing(FILE, applied(FILE), holders=held, owner=CHIEF, now_ms=NIGHT + HOUR)
    assert again == []


def test_a_changed_file_keeps_the_overrides_that_were_made_since() -> None:
    configuration = applied(FILE)
    plan = configuration.plans[ICU]
    ill = oncall_admin.overridden(
        plan, start_ms=NIGHT, end_ms=NIGHT + HOUR, removed=CLEO, added=BOB
    )
    configuration = after(configuration, [ill], now_ms=NIGHT)
    changed = FILE.replace('users = ["cleo"]', 'users = ["dora"]')
    made = missing(changed, configuration, holders={ICU: (ANN, BOB)}, owner=CHIEF, now_ms=NIGHT)
    assert [type(command) for command in made] == [SetSchedule]
    stack = after(configuration, made, now_ms=NIGHT).plans[ICU].schedule(NIGHT).stack
    assert [change.name for change in stack] == ["override-4"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('zone = "Europe/Berlin"', 'zone = "Europe/Nowhere"'),
        ("[role.icu-registrar]", "[role.ICU]"),
        ('wait = "60s"', 'wait = "1s"'),
        ('wait = "60s"', 'wait = "soon"'),
        ('"role:icu-registrar"', '"icu-registrar"'),
        ('unit = "weekly"', 'unit = "fortnightly"'),
        ('start = "2026-11-02T08:00"', 'start = "2026-11-02T08:00+01:00"'),
        ("every 20:00-08:00", "nights"),
        ("sat,sun 10:00-18:00", "sat,son 10:00-18:00"),
        ('fallback = ["matron"]', "fallback = []"),
        ("repeats = 1", "repeat = 1"),
        ("repeats = 1", "repeats ="),
        ('fallback = ["matron"]', 'fallback = ["matron"]\nacknowledge = "some"'),
    ],
)
def test_what_is_wrong_in_a_file_is_said_and_nothing_is_made(old: str, new: str) -> None:
    assert old in FILE
    with pytest.raises(PlanError):
        applied(FILE.replace(old, new, 1))


def test_times_and_responders_are_read() -> None:
    assert [duration_ms(text) for text in ("15s", "2 min", "1h")] == [15_000, 120_000, 3_600_000]
    assert responder("role:icu next").turn is Turn.NEXT
    for text in ("user:ann next", "role:icu later", "", "group:icu"):
        with pytest.raises(PlanError):
            responder(text)


def with_gaps(gaps: list[tuple[int, int]]) -> Configuration:
    """Return a month of one role in which nobody is on call in the planted gaps."""
    stack = tuple(
        Override(name=f"gap-{n}", start_ms=start, end_ms=end, removed=ANN)
        for n, (start, end) in enumerate(gaps)
    )
    made: list[RoleCommand] = [
        SetRole(role=ICU, version=1, fallback=(CLEO,), owner=CHIEF),
        SetSchedule(
            role=ICU,
            version=2,
            effective_ms=NIGHT - DAY,
            schedule=replace(always(ANN), stack=stack),
        ),
    ]
    return after(Configuration(), made, now_ms=NIGHT)


@settings(max_examples=50 * DEPTH, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 29 * 24 * 60), st.integers(1, 600)), max_size=12))
def test_the_months_report_finds_every_planted_gap_and_no_other(
    planted: list[tuple[int, int]],
) -> None:
    gaps = [(NIGHT + at * MINUTE, NIGHT + (at + long) * MINUTE) for at, long in planted]
    end = NIGHT + 30 * DAY
    (found,) = covered(with_gaps(gaps), start_ms=NIGHT, end_ms=end)
    wanted = {at for start, stop in gaps for at in range(start, min(stop, end), MINUTE)}
    told = {at for gap in found.gaps for at in range(gap.start_ms, gap.end_ms, MINUTE)}
    assert told == wanted
    assert found.percent == (30 * 24 * 60 - len(wanted)) * 100 // (30 * 24 * 60)
    picture = found.picture(NIGHT, end)
    assert len(picture) == 360
    columns = {(at - NIGHT) // (2 * HOUR) for at in wanted}
    assert {index for index, sign in enumerate(picture) if sign == "!"} == columns


def test_findings_are_said_in_words() -> None:
    configuration = with_gaps([(NIGHT, NIGHT + HOUR)])
    idle = oncall_admin.overridden(
        configuration.plans[ICU],
        start_ms=NIGHT + 2 * HOUR,
        end_ms=NIGHT + 3 * HOUR,
        removed=BOB,
        added=None,
    )
    other: list[RoleCommand] = [
        SetRole(role=RoleName("lab"), version=1, fallback=(CLEO,), owner=CHIEF),
        SetSchedule(
            role=RoleName("lab"), version=2, effective_ms=NIGHT - DAY, schedule=always(ANN)
        ),
    ]
    configuration = after(configuration, [idle, *other], now_ms=NIGHT)
    lines = oncall_admin.lint(configuration, {}, start_ms=NIGHT, end_ms=NIGHT + DAY)
    assert len(lines) == 3
    assert [line.split(":")[0] for line in lines] == ["icu-registrar", "icu-registrar", "ann"]


def test_a_role_that_another_names_and_that_has_no_plan_is_told_of() -> None:
    alone = FILE.partition("[role.icu-consultant]")[0]
    (line,) = oncall_admin.unplanned(applied(alone), {})
    assert line.startswith("icu-registrar: its backup names icu-consultant")
    span = {"start_ms": NIGHT, "end_ms": NIGHT + HOUR}
    assert line in oncall_admin.lint(applied(alone), {}, **span)
    (line,) = oncall_admin.unplanned(applied(alone.replace("backup =", "# ")), {})
    assert line.startswith("icu-registrar: its escalation names icu-consultant")
    # Holders alone make a role, and so does a plan.
    assert oncall_admin.unplanned(applied(alone), {RoleName("icu-consultant"): (ANN,)}) == []
    assert oncall_admin.unplanned(applied(FILE), {}) == []


@settings(max_examples=60 * DEPTH, deadline=None, suppress_health_check=SLOW)
@given(first=schedules(), second=schedules())
def test_whom_a_change_moves_is_the_difference_minute_by_minute(
    first: tuple[str, Schedule], second: tuple[str, Schedule]
) -> None:
    start = min((e for c in first[1].stack for e in c.edges()), default=NIGHT)
    span = (start, start + 3 * DAY)
    before, later = (list(shifts(schedule, *span)) for schedule in (first[1], second[1]))

    def at(found: list[Shift], instant: int) -> set[UserName]:
        return {u for s in found if s.start_ms <= instant < s.end_ms for u in s.people}

    found = list(moves(before, later))
    for instant in range(span[0], span[1], 37 * MINUTE):
        here = [m for m in found if m.start_ms <= instant < m.end_ms]
        assert {m.user for m in here if m.gains} == at(later, instant) - at(before, instant)
        assert {m.user for m in here if not m.gains} == at(before, instant) - at(later, instant)


def test_an_override_moves_two_people_and_nobody_of_another_role() -> None:
    before = with_gaps([])
    ill = oncall_admin.overridden(
        before.plans[ICU], start_ms=NIGHT, end_ms=NIGHT + HOUR, removed=ANN, added=BOB
    )
    later = after(before, [ill], now_ms=NIGHT)
    found = moved(before, later, start_ms=NIGHT, end_ms=NIGHT + DAY)
    assert list(found) == [ICU]
    assert set(found[ICU]) == {
        Move(user=ANN, start_ms=NIGHT, end_ms=NIGHT + HOUR, gains=False),
        Move(user=BOB, start_ms=NIGHT, end_ms=NIGHT + HOUR, gains=True),
    }


def entry(
    of: harness.Hospital, number: int, body: bytes, *, by: str, start: int, verified: bool = True
) -> Control:
    """Return an entry of the control log, ``number`` minutes after the start."""
    own = by != "chief/desk"
    kind = StatementType.DEVICE_REQUEST if own else StatementType.COMMAND
    purpose = Purpose.DEVICE if own else Purpose.ADMINISTRATOR
    statement = of.signed(kind, body, by=of.people[by].signatory(purpose), issued_ms=start)
    at_ms = start + number * MINUTE
    return Control(sequence=number, at_ms=at_ms, type=kind, statement=statement, verified=verified)


def control_log(of: harness.Hospital, start: int) -> list[Control]:
    """Return how a role came to be, and how ann gave bob her shift."""
    role = SetRole(role=ICU, version=1, fallback=(CLEO,), owner=CHIEF, hand_over=HandOver.HOLDERS)
    first = SetSchedule(role=ICU, version=2, effective_ms=start - DAY, schedule=always(ANN))
    configuration = after(Configuration(), [role, first], now_ms=start)
    gives = oncall_admin.handed_over(
        configuration.plans[ICU],
        giver=ANN,
        to=BOB,
        start_ms=start + 10 * MINUTE,
        end_ms=start + HOUR,
    )
    holders = SetHolders(role=ICU, users=(ANN, BOB))
    forged = replace(first, version=4, schedule=always(CLEO))
    return [
        entry(of, 1, holders.encode(), by="chief/desk", start=start),
        entry(of, 2, role.encode(), by="chief/desk", start=start),
        entry(of, 3, first.encode(), by="chief/desk", start=start),
        entry(of, 4, gives.encode(), by="ann/phone", start=start),
        entry(of, 5, forged.encode(), by="chief/desk", start=start, verified=False),
    ]


def test_who_was_on_call_is_answered_from_the_control_log_as_it_was_known() -> None:
    of = harness.hospital()
    of.enrol("chief/desk")
    of.enrol("ann/phone")
    start = harness.now_ms()
    controls, at_ms = control_log(of, start), start + 30 * MINUTE

    def told(known_ms: int) -> tuple[UserName, ...]:
        known = oncall_admin.as_known(controls, known_ms=known_ms, trust=of.trust)
        return oncall_admin.who_was(known, ICU, at_ms=at_ms, known_ms=known_ms)

    assert told(start + 3 * MINUTE) == (ANN,)
    assert told(start + DAY) == (BOB,)
    with pytest.raises(UnknownRoleError):
        told(start)


def test_names_of_changes_are_free_and_offers_and_swaps_are_made() -> None:
    plan = with_gaps([]).plans[ICU]
    spans = ((NIGHT, NIGHT + HOUR), (NIGHT + DAY, NIGHT + DAY + HOUR))
    swap = oncall_admin.swapped(
        plan, oncall_admin.swap_of(plan, first=ANN, second=BOB, spans=spans)
    )
    configuration = after(with_gaps([]), [swap], now_ms=NIGHT)
    plan = configuration.plans[ICU]
    assert plan.schedule(NIGHT).stack[-1].name == "swap-3"
    offer = oncall_admin.offered(plan, start_ms=NIGHT + DAY, end_ms=NIGHT + 2 * DAY)
    configuration = after(configuration, [offer], now_ms=NIGHT)
    plan = configuration.plans[ICU]
    assert [one.name for one in plan.offers] == ["open-4"]
    gone = [oncall_admin.withdrawn(plan, "open-4")]
    configuration = after(configuration, gone, now_ms=NIGHT)
    out = [oncall_admin.removed(configuration.plans[ICU], "swap-3")]
    configuration = after(configuration, out, now_ms=NIGHT)
    assert configuration.plans[ICU].schedule(NIGHT).stack == ()
    deleted = after(configuration, [oncall_admin.deleted(configuration.plans[ICU])], now_ms=NIGHT)
    assert ICU not in deleted.plans


def test_a_swap_that_waits_for_a_signature_is_a_finding_until_it_is_there() -> None:
    week = replace(
        always(),
        stack=(
            Override(name="a", start_ms=NIGHT, end_ms=NIGHT + DAY, added=ANN),
            Override(name="b", start_ms=NIGHT + DAY, end_ms=NIGHT + 2 * DAY, added=BOB),
        ),
    )
    made: tuple[RoleCommand, ...] = (
        SetRole(role=ICU, version=1, fallback=(CLEO,), owner=CHIEF, hand_over=HandOver.HOLDERS),
        SetSchedule(role=ICU, version=2, effective_ms=NIGHT - DAY, schedule=week),
    )
    configuration = after(Configuration(), made, now_ms=NIGHT - DAY)
    spans = ((NIGHT, NIGHT + DAY), (NIGHT + DAY, NIGHT + 2 * DAY))
    swap = oncall_admin.swap_of(configuration.plans[ICU], first=ANN, second=BOB, spans=spans)
    request, holders = AgreeSwap(role=ICU, swap=swap), {ICU: (ANN, BOB)}

    def found(configuration: Configuration) -> list[str]:
        lines = oncall_admin.lint(
            configuration, holders, start_ms=NIGHT - HOUR, end_ms=NIGHT + 2 * DAY
        )
        return [line for line in lines if "swap" in line]

    assert found(configuration) == []
    for user, count in ((ANN, 1), (BOB, 0)):
        configuration = configuration.requested(
            request, user=user, holders=holders, at_ms=NIGHT - HOUR
        )
        assert len(found(configuration)) == count


def test_quiet_hours_and_instants_are_read_as_people_write_them() -> None:
    request = oncall_admin.quiet_hours(
        Configuration(), ANN, zone="Europe/Berlin", hours="22:00-07:00", until_ms=None
    )
    assert request.quiet.until(NIGHT) == NIGHT + 7 * HOUR + 20 * MINUTE
    assert oncall_admin.instant("2026-11-06T23:40", "Europe/Berlin") == NIGHT
    assert oncall_admin.instant("2026-11-06T22:40+00:00", "Asia/Tokyo") == NIGHT
    for text in ("tomorrow", "2026-13-01", ""):
        with pytest.raises(InvalidError):
            oncall_admin.instant(text, "UTC")
    with pytest.raises(InvalidError):
        oncall_admin.quiet_hours(Configuration(), ANN, zone="UTC", hours="night", until_ms=None)


TABLE = b"""role,person,start,end
icu,Ann Apt,2026-11-07T08:00,2026-11-07T20:00
icu,Nobody,2026-11-07T20:00,2026-11-08T08:00
"""


def test_a_calendar_becomes_a_command_and_who_is_unknown_stops_nothing_silently() -> None:
    configuration = with_gaps([])
    plan = configuration.plans[ICU]
    people = {"Ann Apt": ANN, "Bob Bell": BOB}

    def brought(data: bytes, of: object = plan) -> importing.Brought:
        return importing.brought(
            data,
            of,  # type: ignore[arg-type]
            form="csv",
            zone="Europe/Berlin",
            span=(NIGHT, NIGHT + 7 * DAY),
            people=people,
        )

    found = brought(TABLE)
    assert found.unknown == ("Nobody",)
    whole = brought(TABLE.replace(b"Nobody", b"Bob Bell"))
    assert isinstance(whole.command, SetImported)
    assert whole.unknown == ()
    configuration = after(configuration, [whole.command], now_ms=NIGHT)
    held = configuration.plans[ICU]
    assert held.schedule(NIGHT).stack[0].name == IMPORTED
    assert on_call(held.schedule(NIGHT), NIGHT + DAY) == (BOB,)
    with pytest.raises(FeedError):
        brought(b"role,person,start,end\n", held)
    with pytest.raises(FeedError):
        importing.brought(
            TABLE, plan, form="fax", zone="UTC", span=(NIGHT, NIGHT + DAY), people=people
        )


def test_shifts_are_exported_of_one_role_or_all() -> None:
    configuration = with_gaps([(NIGHT, NIGHT + HOUR)])
    text = oncall_admin.exported(configuration, role=ICU, now_ms=NIGHT).decode()
    assert text.count("BEGIN:VEVENT") == 2
    assert text == oncall_admin.exported(configuration, role=None, now_ms=NIGHT).decode()
    with pytest.raises(UnknownRoleError):
        oncall_admin.exported(configuration, role="plumber", now_ms=NIGHT)


def test_a_link_begins_and_ends() -> None:
    begun, secret = oncall_admin.calendar_link(Configuration(), ANN, ended=False)
    assert begun.link is not None
    assert secret not in begun.encode()
    ended, _ = oncall_admin.calendar_link(Configuration(), ANN, ended=True)
    assert ended.link is None


def test_every_change_is_said_in_words_before_a_second_person_signs_it() -> None:
    of = harness.hospital()
    of.enrol("chief/desk")
    for command in EXAMPLES:
        if isinstance(command, OnCallCommand):
            told = entry(of, 1, command.encode(), by="chief/desk", start=harness.now_ms())
            said = described(told.statement)
            assert said.lines[0] == f"on call, {type(command).__name__}"
            assert not any("_ms=" in line or "<" in line for line in said.lines)


def test_the_plan_in_the_operators_guide_can_be_applied() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    text = guide.split("## On call", 1)[1].split("```toml\n", 1)[1].split("```", 1)[0]
    plan = applied(text).plans[ICU]
    assert [layer.name for layer in plan.schedule(NIGHT).layers] == ["days", "nights"]
    assert plan.policy is not None

"""A hospital's week on a virtual clock: whom its messages interrupt, beside telling everybody all.

python -m bench.sim_week     QUICK=1 is one weekday and its night, within a minute

880 beds, 62,816 messages a weekday (what a hospital of that size was measured to send), without
cryptography and network: what decides is the relay's own ``Situations``, asked once for each
recipient of each message, as ``Delivery`` asks it. JSON lines, then a plot of interruptions by the
hour of the day; exit status 1 where a wanted value is missed.

The mix, written down because everything depends on it:

- 2,400 people: 160 roles of 15, in three shifts of 8, 9 and 7 hours (7-15, 15-24, 0-7), five people
  a role on by day, three in the evening, two at night; a week each, in turn. Everybody else is off.
- 880 beds' conversations: each of one role's people of all shifts and of one neighbour's day shift.
- Each weekday's messages: by the hour as wards work (two thirds from 7 to 17 o'clock, a tenth at
  night); at the weekend 55 of 100.
- 58 % to the conversation, 27 % to one person in it, 15 % to the role that is on call.
- 18 % info, 72.5 % routine, 8 % urgent, 1.5 % STAT.
- Senders are on duty. STAT is to whoever is on call; it is silent for whoever is off duty.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

from bench.report import Figure, report
from protocol.authenticated_data import Priority
from protocol.frames import Attention
from protocol.identifiers import OrganisationId, RoleName, UserName
from protocol.oncall.commands import HandOver
from protocol.oncall.configuration import Configuration, Plan
from protocol.oncall.history import Edition, History
from protocol.oncall.hours import EVERY_DAY, Hours
from protocol.oncall.role import answering
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import Layer, Schedule
from server.attention import Notice, Situations
from server.directory import Organisation
from server.oncall import Duty

QUICK = bool(os.environ.get("QUICK"))
ZONE = "Europe/Berlin"
ROLES, PEOPLE, BEDS = 160, 15, 880
WEEKDAY_MESSAGES = 62_816
WEEKEND = 0.55
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
MONDAY_MS = int(datetime(2026, 11, 2, tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)
HOURLY = (8, 6, 6, 5, 6, 9, 22, 62, 88, 96, 92, 84, 70, 74, 78, 70, 58, 44, 36, 30, 26, 20, 14, 10)
TARGETS = {"conversation": 58, "person": 27, "role": 15}
MIX = {Priority.INFO: 180, Priority.ROUTINE: 725, Priority.URGENT: 80, Priority.STAT: 15}
SHIFTS = (("day", 7 * 60, 15 * 60, 5), ("evening", 15 * 60, 24 * 60, 3), ("night", 0, 7 * 60, 2))
URGENT = (Priority.URGENT, Priority.STAT)


@dataclass
class Counts:
    """What the week did to people.

    Attributes:
        sounds: Alerts by whether the person was on duty, whether it was STAT, and which way.
        hours: Person-hours on and off duty.
        by_hour: Alerts of people off duty and on duty by the hour of the day and the way.
        held: Messages that waited for a shift.
        late: Urgent and STAT messages to somebody on duty that did not sound at once.
    """

    sounds: Counter[tuple[bool, bool, str]] = field(default_factory=Counter)
    hours: Counter[bool] = field(default_factory=Counter)
    by_hour: Counter[tuple[int, bool, str]] = field(default_factory=Counter)
    held: int = 0
    late: int = 0
    messages: int = 0


def role_name(number: int) -> RoleName:
    return RoleName(f"role-{number:03}")


def people_of(number: int) -> list[UserName]:
    return [UserName(f"p{number:03}-{index:02}") for index in range(PEOPLE)]


def schedule(number: int) -> Schedule:
    """Return three shifts, each with its own people's turns of a week."""
    people = people_of(number)
    start_minute = (MONDAY_MS + HOUR_MS) // 60_000 - 7 * 24 * 60 * 4
    layers = []
    for index, (name, start, end, size) in enumerate(SHIFTS):
        hours = Hours(weekdays=EVERY_DAY, start_minute=start, end_minute=end % (24 * 60))
        # Three turns; each shift begins elsewhere in the list, so nobody has two at once.
        turns = []
        for turn in range(3):
            first = (turn * 5 + index * 5) % PEOPLE
            turns.append(tuple(sorted(people[first : first + size])))
        rotation = Rotation(
            zone=ZONE,
            unit=Unit.WEEKLY,
            shift_length=1,
            start_minute=start_minute,
            turns=tuple(turns),
        )
        layers.append(Layer(name=name, hours=(hours,), rotation=rotation))
    return Schedule(zone=ZONE, layers=tuple(layers))


def configuration() -> Configuration:
    made = Configuration()
    plans = {}
    for number in range(ROLES):
        edition = Edition(
            recorded_ms=MONDAY_MS - DAY_MS,
            effective_ms=MONDAY_MS - DAY_MS,
            schedule=schedule(number),
        )
        plans[role_name(number)] = Plan(
            role=role_name(number),
            version=2,
            fallback=(people_of(number)[0],),
            backup=None,
            owner=people_of(number)[0],
            hand_over=HandOver.NOBODY,
            history=History(editions=(edition,)),
        )
    return Configuration(plans=plans, quiets=made.quiets)


def hospital() -> Organisation:
    """Return as much of an organisation as is asked about attention."""
    return cast(
        "Organisation",
        SimpleNamespace(
            id=OrganisationId(bytes(32)), duty=Duty(configuration=configuration()), holders={}
        ),
    )


def times(seed: random.Random, days: int) -> Iterator[int]:
    """Yield when messages are sent, ascending."""
    for day in range(days):
        share = 1.0 if day % 7 < 5 else WEEKEND
        count = round(WEEKDAY_MESSAGES * share)
        hours = seed.choices(range(24), HOURLY, k=count)
        start = MONDAY_MS + day * DAY_MS
        yield from sorted(start + hour * HOUR_MS + seed.randrange(HOUR_MS) for hour in hours)


class Week:
    """The week as it goes by."""

    def __init__(self) -> None:
        self.seed = random.Random(880)
        self.organisation = hospital()
        self.situations = Situations()
        self.counts = Counts()
        self.rooms = [self._room(bed) for bed in range(BEDS)]
        self._on: dict[RoleName, frozenset[UserName]] = {}
        self._everybody_on: frozenset[UserName] = frozenset()
        self._on_until_ms = 0

    def _room(self, bed: int) -> tuple[RoleName, list[UserName]]:
        number = bed % ROLES
        neighbour = people_of((number + 1) % ROLES)
        return role_name(number), [*people_of(number), *neighbour[:5]]

    def run(self, days: int) -> Counts:
        for at_ms in times(self.seed, days):
            self._shift(at_ms)
            self._send(at_ms)
        return self.counts

    def _shift(self, at_ms: int) -> None:
        """Ask who is on duty, once an hour: shifts change on the hour."""
        if at_ms < self._on_until_ms:
            return
        self._on_until_ms = at_ms // HOUR_MS * HOUR_MS + HOUR_MS
        roster = self.organisation.duty.roster(at_ms, {})
        self._on = {name: frozenset(answering(role, at_ms)) for name, role in roster.items()}
        self._everybody_on = frozenset().union(*self._on.values())
        on = len(self._everybody_on)
        self.counts.hours[True] += on
        self.counts.hours[False] += ROLES * PEOPLE - on

    def _send(self, at_ms: int) -> None:
        role, members = self.seed.choice(self.rooms)
        on = self._on[role]
        sender = self.seed.choice(sorted(on))
        priority = self.seed.choices(list(MIX), list(MIX.values()))[0]
        kind = self.seed.choices(list(TARGETS), list(TARGETS.values()))[0]
        asked: Any = None
        if kind == "person":
            asked = (self.seed.choice([user for user in members if user != sender]),)
        elif kind == "role":
            asked = on
        notice = Notice(priority=priority, asked=asked)
        self.counts.messages += 1
        hour = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(ZONE)).hour
        for user in members:
            if user != sender:
                self._deliver(user, notice, hour=hour, at_ms=at_ms)

    def _deliver(self, user: UserName, notice: Notice, *, hour: int, at_ms: int) -> None:
        counts, stat = self.counts, notice.priority is Priority.STAT
        on_duty = user in self._everybody_on
        attention, _ = self.situations.word(self.organisation, user, notice, now_ms=at_ms)
        for way, sounds in (("all", True), ("wardline", attention is Attention.ALERT)):
            if sounds:
                counts.sounds[on_duty, stat, way] += 1
                counts.by_hour[hour, on_duty, way] += 1
        meant = notice.asked is None or user in notice.asked
        if on_duty and meant and notice.priority in URGENT and attention is not Attention.ALERT:
            counts.late += 1
        counts.held += attention is Attention.HELD


def an_hour(counts: Counts, *, on_duty: bool, way: str, stat: bool | None = None) -> float:
    """Return interruptions of one person in one hour."""
    kinds = (True, False) if stat is None else (stat,)
    found = sum(counts.sounds[on_duty, kind, way] for kind in kinds)
    return found / max(1, counts.hours[on_duty])


def figures(counts: Counts) -> Iterator[Figure]:
    unit = "interruptions a person and hour"
    yield Figure(name="messages", value=counts.messages, unit="in the simulated time")
    yield Figure(
        name="off duty, STAT apart",
        value=an_hour(counts, on_duty=False, way="wardline", stat=False),
        unit=unit,
        wanted=0.0,
        peers={"everything at once": an_hour(counts, on_duty=False, way="all", stat=False)},
    )
    yield Figure(
        name="off duty, STAT",
        value=an_hour(counts, on_duty=False, way="wardline", stat=True),
        unit=unit,
        wanted=0.0,
    )
    before = an_hour(counts, on_duty=True, way="all")
    yield Figure(
        name="on duty",
        value=an_hour(counts, on_duty=True, way="wardline"),
        unit=unit,
        wanted=before / 2,
        peers={"everything at once": before},
    )
    yield Figure(
        name="urgent and STAT to people on duty that did not sound at once",
        value=counts.late,
        unit="messages and recipients",
        wanted=0,
    )
    yield Figure(name="held until a shift", value=counts.held, unit="messages and recipients")


def plot(counts: Counts) -> None:
    """Print interruptions by the hour of the day: # on duty here, + more with everything at once.

    The last column is what those off duty are spared.
    """
    days = max(1, counts.hours[True] + counts.hours[False]) / (ROLES * PEOPLE * 24)
    most = max((counts.by_hour[hour, True, "all"] for hour in range(24)), default=1) or 1
    print("hour  on duty: # sounds, + would sound            off duty: spared a day")
    for hour in range(24):
        here, everything = (counts.by_hour[hour, True, way] for way in ("wardline", "all"))
        bar = "#" * round(40 * here / most)
        bar += "+" * (round(40 * everything / most) - len(bar))
        spared = (
            counts.by_hour[hour, False, "all"] - counts.by_hour[hour, False, "wardline"]
        ) / days
        print(f"{hour:>4}  {bar:<40}  {spared:>12,.0f}")


def main() -> int:
    counts = Week().run(1 if QUICK else 7)
    status = report(figures(counts))
    plot(counts)
    return status


if __name__ == "__main__":
    sys.exit(main())

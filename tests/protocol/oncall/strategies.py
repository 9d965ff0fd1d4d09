"""Random schedules about days on which clocks change."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocol.identifiers import UserName
from protocol.oncall.hours import EVERY_DAY, Holidays, Hours
from protocol.oncall.override import Change, FixedShift, Override, Swap, TemporarySchedule
from protocol.oncall.rotation import Rotation, Unit
from protocol.oncall.schedule import Layer, Schedule
from tests.protocol.oncall import oracle

PEOPLE = [UserName(name) for name in ("ann", "bob", "cleo", "dan", "eve")]
USERS = st.sets(st.sampled_from(PEOPLE), min_size=1, max_size=3).map(lambda s: tuple(sorted(s)))

# Most changes of clocks are near midnight or in the small hours.
CLOCKS = st.sampled_from([0, 1, 30, 60, 61, 90, 105, 120, 135, 150, 180, 480, 1200, 1380, 1410])
MINUTES = st.one_of(CLOCKS, st.integers(0, 24 * 60 - 1))


def hours() -> SearchStrategy[Hours]:
    return st.builds(
        Hours,
        weekdays=st.one_of(st.just(EVERY_DAY), st.integers(1, EVERY_DAY)),
        holidays=st.sampled_from(Holidays),
        start_minute=MINUTES,
        end_minute=MINUTES,
    )


def rotations(day: str, zones: list[str]) -> SearchStrategy[Rotation]:
    about = datetime.fromisoformat(day).replace(tzinfo=UTC)
    noon = int(about.timestamp()) // 60
    starts = st.builds(
        lambda ago, minute: noon - ago * 24 * 60 + minute,
        st.integers(-1, oracle.LEAD_DAYS - 3),
        MINUTES,
    )
    return st.builds(
        Rotation,
        zone=st.sampled_from(zones),
        unit=st.sampled_from(Unit),
        shift_length=st.sampled_from([1, 1, 1, 2, 3, 7, 13]),
        start_minute=starts,
        turns=st.lists(USERS, min_size=2, max_size=4).map(tuple),
    )


def layers(day: str, zones: list[str]) -> SearchStrategy[list[Layer]]:
    # Half of the layers apply always: hours would hide most hand-offs of their rotations.
    ranges = st.one_of(st.just(()), st.lists(hours(), min_size=1, max_size=3).map(tuple))
    kinds = st.one_of(
        st.builds(
            Layer,
            name=st.just("l"),
            level=st.integers(0, 2),
            hours=ranges,
            rotation=rotations(day, zones),
        ),
        st.builds(Layer, name=st.just("l"), level=st.integers(0, 2), hours=ranges, users=USERS),
    )
    return st.lists(kinds, min_size=1, max_size=4)


def spans(day: str) -> SearchStrategy[tuple[int, int]]:
    """Return spans of whole minutes within, before and after the window that is compared."""
    start = oracle.ms(datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=2))
    minute = st.integers(0, 4 * 24 * 60)
    return st.tuples(minute, minute).map(
        lambda pair: (start + min(pair) * 60_000, start + (max(pair) + 1) * 60_000)
    )


@st.composite
def changes(draw: st.DrawFn, day: str) -> Change:
    kind = draw(st.integers(0, 5))
    start, end = draw(spans(day))
    if kind == 0:
        middle = draw(st.integers(start // 60_000, end // 60_000)) * 60_000
        first, second = draw(st.permutations(PEOPLE))[:2]
        return Swap(
            name="s",
            first=first,
            first_start_ms=start - 60_000,
            first_end_ms=middle,
            second=second,
            second_start_ms=middle,
            second_end_ms=end + 60_000,
        )
    if kind == 1:
        inner = draw(st.lists(spans(day), min_size=1, max_size=4))
        return TemporarySchedule(
            name="t",
            start_ms=min(start, *(a for a, _ in inner)),
            end_ms=max(end, *(b for _, b in inner)),
            shifts=tuple(FixedShift(start_ms=a, end_ms=b, users=draw(USERS)) for a, b in inner),
        )
    one, other = draw(st.permutations(PEOPLE))[:2]
    removed, added = draw(st.sampled_from([(one, None), (None, one), (one, other)]))
    return Override(name="o", start_ms=start, end_ms=end, removed=removed, added=added)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[str, Schedule]:
    """Return a day on which clocks change somewhere in the schedule, and the schedule."""
    zone, day = draw(st.sampled_from(oracle.PLACES))
    same_day = sorted({z for z, d in oracle.PLACES if d == day})
    return day, named(
        zone=zone,
        layers=draw(layers(day, same_day)),
        stack=draw(st.one_of(st.just([]), st.lists(changes(day), min_size=1, max_size=5))),
        holidays=draw(st.sets(st.integers(-2, 2), max_size=2)),
        day=day,
    )


def named(
    *, zone: str, layers: list[Layer], stack: list[Change], holidays: set[int], day: str
) -> Schedule:
    """Return the schedule with its parts named apart."""
    about = oracle.ms(datetime.fromisoformat(day).replace(tzinfo=UTC)) // 86_400_000
    return Schedule(
        zone=zone,
        holidays=tuple(sorted(about + day for day in holidays)),
        layers=tuple(replace(layer, name=f"layer-{index}") for index, layer in enumerate(layers)),
        stack=tuple(replace(change, name=f"change-{index}") for index, change in enumerate(stack)),
    )

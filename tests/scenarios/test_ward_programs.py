"""A ward's day with real programs: an administrator and two doctors, each at a terminal.

Relay, archive and the three people's programs are processes of their own; all is said on their
command lines, and read from what they print.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from client_cli.output import Exit
from tests.scenarios.blackbox import hospital_with_archive
from tests.scenarios.desk import Desk
from tests.scenarios.shells import Said, Shell, shell
from tests.scenarios.test_stolen_phone import phone_of

PLAN = """
[role.registrar]
zone = "UTC"
fallback = ["ada"]
holders = ["ann", "bob"]
hand_over = true
numbers = { ann = "4711" }
[[role.registrar.layer]]
name = "always"
users = ["ann"]
[role.registrar.escalation]
steps = [{ ask = ["role:registrar"], wait = "10min" }]
last = { ask = ["role:registrar"], wait = "5min" }
"""


HEADWAY_MINUTES = 10
"""How long before its end an hour counts as over, so that the next is still ahead at the end."""


def day(ahead: int, hour: int = 0) -> str:
    """Return an instant some days from now, as people type it."""
    return (_hour() + timedelta(days=ahead, hours=hour)).strftime("%Y-%m-%dT%H:%M")


@cache
def _hour() -> datetime:
    """Return the hour in which the day began: also one that ends meanwhile, so that spans agree."""
    began = datetime.now(UTC) + timedelta(minutes=HEADWAY_MINUTES)
    return began.replace(minute=0, second=0, microsecond=0)


def span(ahead: int, *, their: bool = False) -> list[str]:
    """Return eight hours of a day some days from now, as options."""
    prefix = "--their-" if their else "--"
    return [f"{prefix}from", day(ahead), f"{prefix}to", day(ahead, 8)]


def has(said: Said, text: str) -> bool:
    return any(text in line for line in said.lines)


def came(said: Said) -> bool:
    return said.status == 0


async def the_plan_is_made(ada: Shell, file: Path, *, code: str) -> None:
    """A role with a plan, bob on the second day, a shift on offer; what it says of that."""
    oncall = ("admin", "oncall")
    await ada.does(*oncall, "apply", str(file), "--what-if")
    assert (await ada.tells(*oncall, "who", "registrar", "--at", day(1))).status == Exit.UNKNOWN
    await ada.does(*oncall, "apply", str(file), "--code", code)
    who = ("--add", "bob", "--remove", "ann")
    await ada.until(came, *oncall, "override", "registrar", *span(2), *who, "--what-if")
    # What the program has just handed in comes back to it by the control log.
    moved = await ada.until(came, *oncall, "override", "registrar", *span(2), *who)
    assert {move["user"] for move in moved.facts["moves"]} == {"ann", "bob"}
    await ada.until(came, *oncall, "offer", "registrar", *span(3))
    await ada.until(came, *oncall, "number", "registrar", "4700")
    sheet = "registrar (tel. 4700): ann (tel. 4711)"
    await ada.until(lambda said: has(said, sheet), *oncall, "print")
    (now,) = (await ada.does(*oncall, "now"))["roles"]
    assert (now["on_call"], now["following"]) == (["ann"], ["bob"])
    assert has(await ada.tells(*oncall, "export", "registrar"), "SUMMARY:registrar: bob")
    covered = (await ada.tells(*oncall, "coverage", "--days", "7")).facts
    assert [role["percent"] for role in covered["roles"]] == [100]


async def shifts_are_swapped_and_claimed(ann: Shell, bob: Shell, ada: Shell) -> None:
    """Both sign a swap; the first claim has the offered shift; everybody reads the same."""
    read = await ann.until(lambda said: has(said, '"bob"'), "duty", "board")
    (board,) = read.facts["roles"]
    assert board["on_call"] == ["ann"]
    made = await ann.does(
        "duty", "swap", "registrar", *span(1), "--with", "bob", *span(2, their=True)
    )
    waiting = await bob.until(lambda said: has(said, made["name"]), "duty", "swaps")
    assert waiting.facts["swaps"][0]["waits_for"] == "bob"
    who = ("admin", "oncall", "who", "registrar", "--at")
    assert (await bob.does(*who, day(1, 1)))["on_call"] == ["ann"]
    shown = waiting.facts["swaps"][0]["code"]
    await bob.does("duty", "agree", "registrar", made["name"], "--only", shown)
    for reader in (ann, bob, ada):
        await reader.until(lambda said: said.facts["on_call"] == ["bob"], *who, day(1, 1))
        assert (await reader.does(*who, day(2, 1)))["on_call"] == ["ann"]
    (offer,) = (await bob.does("duty", "offers"))["offers"]
    await bob.does("duty", "claim", "registrar", offer["name"])
    late = await ann.tells("duty", "claim", "registrar", offer["name"])
    assert late.status != 0
    await bob.does("duty", "quiet", "22:00-07:00", "--zone", "Europe/Berlin")
    link = await bob.until(came, "duty", "calendar")
    assert "/v1/calendars/" in link.facts["link"]


async def the_ward_talks(ann: Shell, bob: Shell, ada: Shell) -> None:
    """Check-in, room, incident with its report, broadcast, hand-off: asked, answered, read."""
    by = ("--answer-by", day(1))
    asked = await ann.does("ward", "check-in", "bob", "Bed 4", "Fasting?", "Consent?", *by)
    await bob.until(came, "ward", "answer", asked["key"], "yes", "signed")
    room = await ann.does("ward", "room", "bob", "OR 2", *span(1), "--answer-by", day(0, 2))
    await bob.until(came, "ward", "confirm", room["key"])
    opened = await bob.does("ward", "incident", "Power", "registrar", "--text", "Ward 3 is dark")
    await ann.until(came, "ward", "event", opened["short"], "Generator runs")
    await bob.does("ward", "event", opened["short"], "All is back", "--close")

    def closed(said: Said) -> bool:
        return said.status == 0 and len(said.facts["events"]) == 3

    told = await ann.until(closed, "ward", "timeline", opened["short"])
    stages = [event["stage"] for event in told.facts["events"]]
    assert stages == ["opened", "update", "closed"]
    await ada.does("ward", "broadcast", "No water until noon", "--role", "registrar")
    for reader in (ann, bob):
        await reader.until(lambda said: has(said, "No water"), "read", "Announcement")
    await ann.does("duty", "hand-off", "bob", "Bed 4 first")
    await bob.until(lambda said: has(said, "Bed 4 first"), "duty", "take-over", "--look")
    assert "Bed 4 first" in (await bob.does("duty", "take-over"))["notes"][0]


async def the_role_is_paged(ann: Shell, bob: Shell) -> None:
    """Bob pages who is on call, ann says when she comes, and that it is done; a wake test."""
    page = await bob.does("duty", "page", "registrar", "arrest, bed 4")
    assert (page["asked"], page["numbers"]) == (["ann"], {"ann": "4711"})

    def rings(said: Said) -> bool:
        return any(one["alerting"] for one in said.facts["pages"])

    await ann.until(rings, "duty", "pages")
    number = page["conversation"][:8]
    await ann.does("duty", "answer", "accept", number, "--at", day(0, 1))

    def stands(status: str, said: Said) -> bool:
        return [one["status"] for one in said.facts["pages"]] == [status]

    await bob.until(lambda said: stands("accepted", said), "duty", "pages")
    await ann.does("duty", "answer", "done", number)
    await bob.until(lambda said: stands("done", said), "duty", "pages")
    assert (await ann.does("duty", "wake-test", "--heard"))["heard"]


async def test_a_wards_day_with_real_programs_is_planned_swapped_paged_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    names = ["ann/phone", "bob/phone"]
    async with hospital_with_archive(tmp_path, names) as (of, at, _):
        desk = Desk()
        await desk.set_up(of.people["ada/desk"], at)
        plan, homes = tmp_path / "plan.toml", {}
        await asyncio.to_thread(plan.write_text, PLAN)
        for name in ("ada/desk", *names):
            homes[name] = tmp_path / name.partition("/")[0]
            await phone_of(homes[name], of.people[name], at)
        async with (
            shell(homes["ada/desk"]) as ada,
            shell(homes["ann/phone"]) as ann,
            shell(homes["bob/phone"]) as bob,
        ):
            await the_plan_is_made(ada, plan, code=await desk.code())
            await shifts_are_swapped_and_claimed(ann, bob, ada)
            await the_ward_talks(ann, bob, ada)
            await the_role_is_paged(ann, bob)

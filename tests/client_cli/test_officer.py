"""``wardline officer ...``, over an archive and officers' devices without a relay between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from client.officer import Case
from client.officer_desk import OfficerDesk, Refused
from client_cli import officer
from client_cli.output import CommandError, Exit
from client_cli.session import Settings
from crypto.errors import InvalidError
from protocol.identifiers import ConversationId, UserName
from protocol.opening import Offer, Purpose, Scope
from tests.archive.officers import WARD, Archive, text


class Desk(OfficerDesk):
    """An officer's desk whose letters go straight to the archive."""

    archive: Archive
    name = "olga"

    def __init__(self, _: object) -> None:
        self.officer = self.archive.officers[self.name]

    @property
    def now_ms(self) -> int:
        return self.archive.now_ms

    async def sync(self) -> list[Refused]:
        return []

    async def post(self, letters: Iterable[bytes], *, timeout_s: float) -> None:
        self.archive.post(self.name, tuple(letters))

    async def publish(self, letters: Collection[bytes]) -> int:
        self.archive.post(self.name, tuple(letters))
        return len(letters)

    async def convene(self, officers: Collection[UserName]) -> ConversationId:
        assert officers
        return ConversationId(WARD)

    async def offer(self, scope: Scope, *, purpose: Purpose, timeout_s: float) -> Offer:
        self.archive.desk.begin_session(self.archive.sessions.begin(), self.now_ms)
        self.archive.post(self.name, self.officer.draft(scope, purpose=purpose))
        return self.officer.offers()[0]


class Settled:
    """A device from which everything has gone out."""

    async def settled(self, timeout_s: float) -> None:
        assert timeout_s > 0


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    archive.begin()
    archive.say(archive.talk(WARD), text("bp 90/60"))
    archive.tick()

    def with_device(
        _: typer.Context, work: Callable[[Any], Awaitable[Any]], **options: object
    ) -> object:
        del options

        async def done() -> object:
            return await work(Settled())

        return asyncio.run(done())

    settings = Settings(home=tmp_path, as_json=True)
    monkeypatch.setattr(Desk, "archive", archive, raising=False)
    monkeypatch.setattr("client.officer_desk.OfficerDesk", Desk)
    monkeypatch.setattr(officer, "with_device", with_device)
    monkeypatch.setattr(officer, "settings", lambda _: settings)
    yield archive
    archive.close()


def run(name: str, *arguments: str) -> Any:
    """Run a command as an officer; return what it answers."""
    Desk.name = name
    found = CliRunner().invoke(officer.app, list(arguments))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return json.loads(found.output)


def asked(*more: str) -> dict[str, Any]:
    told: dict[str, Any] = run(
        "olga",
        "request",
        "--person",
        "alice",
        "--from",
        "2027-01-01T00:00Z",
        "--case",
        "2026-118",
        "--reason",
        "Complaint",
        *more,
    )
    return told


def test_officers_ask_approve_and_release_by_command(archive: Archive) -> None:
    told = asked()
    assert told["records"] == 1
    request = told["request"]
    (row,) = run("omar", "requests")["requests"]
    assert (row["standing"], row["missing"]) == ("waits for approvals", 3)
    assert row["scope"]["people"] == ["alice"]
    assert "person alice; 2027-01-01" in row["scope"]["text"]
    with pytest.raises(InvalidError):
        run("omar", "release", request)
    for name in ("olga", "omar", "otto"):
        run(name, "approve", request[:12])
    run("otto", "refuse", request, "--reason", "wrong ward")
    (row,) = run("omar", "requests")["requests"]
    assert (row["approved"], row["refused"]) == (["olga", "omar"], ["otto"])
    run("otto", "approve", request)
    for name in ("olga", "omar", "otto"):
        run(name, "release", request)
    assert set(archive.desk.shares(bytes.fromhex(request))) == {"olga", "omar", "otto"}
    assert len(archive.hand_out(bytes.fromhex(request))) == 1


def test_who_approves_at_once_waits_for_the_archives_proof(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked()["request"]
    real = OfficerDesk.found_case
    unproven = {"left": 2}

    def found_case(desk: OfficerDesk, beginning: str) -> Case:
        case = real(desk, beginning)
        unproven["left"] -= 1
        filed = replace(case.filed, proven=None) if unproven["left"] >= 0 else case.filed
        return replace(case, filed=filed)

    monkeypatch.setattr(OfficerDesk, "found_case", found_case)
    monkeypatch.setattr("client.officer_desk.POLL_S", 0)
    assert run("omar", "approve", request)["done"]
    assert unproven["left"] < 0
    with pytest.raises(CommandError) as caught:
        run("omar", "approve", "ffff" * 4)
    assert caught.value.exit is Exit.UNKNOWN


def test_counting_asks_for_nothing(archive: Archive) -> None:
    assert asked("--count") == {"records": 1, "segments": 1, "conversations": 1}
    assert run("omar", "requests") == {"requests": []}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
def test_without_a_first_day_it_is_from_the_beginning_in_every_zone(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    why = ("--case", "2026-118", "--reason", "Complaint")
    assert run("olga", "request", "--person", "alice", *why)["request"]
    (row,) = run("omar", "requests")["requests"]
    assert row["scope"]["from_ms"] == 0
    assert row["scope"]["text"].startswith("person alice; from the beginning to 20")
    run("olga", "hold", "--person", "alice", *why)
    (held,) = run("olga", "holds")["holds"]
    assert held["from_ms"] == 0
    monkeypatch.undo()
    time.tzset()


def test_a_request_is_read_whole_in_a_narrow_terminal(archive: Archive) -> None:
    asked("--emergency")
    (row,) = run("omar", "requests")["requests"]
    long = {**row, "reason": "a complaint \x1b[2J" + " and what came of it" * 9, "missing": 2}
    lines = officer.case_text(long).splitlines()
    assert max(map(len, lines)) < 80
    assert lines[0] == f"EMERGENCY  {row['short']}  {row['standing']}, 2 more"
    assert "\x1b" not in "".join(lines)
    words = " ".join(" ".join(lines).split())
    for part in ("case 2026-118, asked by olga", "person alice; 2027-01-01 00:00 UTC to", "it and"):
        assert part in words
    assert words.count("and what came of it") == 9


def test_an_emergency_is_told(archive: Archive) -> None:
    asked("--emergency")
    (notice,) = run("oona", "notices")["notices"]
    assert (notice["topic"], notice["words"]) == ("emergency", "olga: 2026-118")


def test_holds_are_set_shown_and_lifted(archive: Archive) -> None:
    held = run(
        "olga", "hold", "--person", "bob", "--case", "c", "--reason", "suit", "--from", "2027-01-01"
    )
    (row,) = run("omar", "holds")["holds"]
    assert row["case"] == "c"
    # Whoever sets one is told its number and where it ends: what is said later is not kept by it.
    assert (held["hold"], held["until_ms"]) == (row["hold"], row["until_ms"])
    with pytest.raises(CommandError):
        run("omar", "lift", "ff" * 32, "--reason", "over")
    run("omar", "lift", row["short"], "--reason", "over")
    assert run("olga", "holds") == {"holds": []}


def test_keys_are_shown_and_liveness_is_proved(archive: Archive) -> None:
    rows = run("olga", "keys")["keys"]
    assert [row["is_over"] for row in rows] == [False] * 5
    assert run("olga", "keys", "--destroy-ended")["keys"] == rows
    assert run("olga", "liveness")["done"]
    assert archive.casework.health(archive.now_ms).proven == {"olga"}
    assert run("olga", "begin", "--with", "omar,otto")["keys"] > 0


@pytest.mark.parametrize("when", ["yesterday", "2027-13-01"])
def test_an_instant_that_is_none_is_refused(archive: Archive, when: str) -> None:
    Desk.name = "olga"
    found = CliRunner().invoke(
        officer.app,
        ["request", "--person", "alice", "--case", "c", "--reason", "r", "--from", when],
    )
    assert found.exit_code == 2


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-10-25", 25), ("2027-03-28", 23), ("2027-01-01", 24)]
)
def test_a_day_is_from_midnight_to_midnight_by_the_wall(
    day: str, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        lasts_ms = officer._instant(day, ends=True) - officer._instant(day)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert lasts_ms == hours * 3600 * 1000

"""``wardline admin posture``: how the organisation stands, and its activity beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from client.administration import invite
from client.views import Control, DeviceView, PersonView
from client.words import DeviceId, Role, UserName
from client_cli.output import Exit
from client_cli.show import date
from tests.client_cli.conftest import Run
from tests.client_cli.fake_device import ADDRESS, FakeDevice
from tests.client_cli.fake_statements import STAFF

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3600 * 1000
LIVES_MS = {"ada": 60 * DAY_MS, "alice": 3 * DAY_MS, "beth": -DAY_MS, "carol": 50 * DAY_MS}


@pytest.fixture
def hospital(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """People of whom one has keys that end soon, one keys that have ended, one no device."""

    def devices(user: UserName | None = None) -> list[DeviceView]:
        if user not in LIVES_MS:
            return []
        return [
            DeviceView(
                device=DeviceId(f"{user}/phone"),
                this=user == "ada",
                certified_until_ms=NOW_MS + LIVES_MS[user],
                revoked=user == "carol",
            )
        ]

    def directory(text: str = "") -> list[PersonView]:
        return [
            PersonView(user=UserName(user), name=user, ward="", roles=(), on_call=())
            for user in (*LIVES_MS, "dave")
        ]

    monkeypatch.setattr(device, "devices", devices, raising=False)
    monkeypatch.setattr(device, "directory", directory, raising=False)
    monkeypatch.setattr("client_cli.admin_posture.now_ms", lambda: NOW_MS)
    return device


def test_stale_and_ended_keys_and_people_without_a_device_are_named(
    hospital: FakeDevice, run: Run
) -> None:
    facts = run("admin", "posture", "--json").json
    assert (facts["people"], facts["devices"]) == (5, 3)
    assert facts["devices_revoked_or_suspended"] == 1
    assert facts["keys_stale"] == ["alice/phone"]
    assert facts["keys_ended"] == ["beth/phone"]
    assert facts["people_without_a_device"] == ["carol", "dave"]
    assert facts["wipes_open"] == []


def test_people_whom_this_device_never_met_are_looked_up_and_counted(
    hospital: FakeDevice, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[UserName] = []

    async def look_up(users: Sequence[UserName]) -> None:
        asked.extend(users)

    monkeypatch.setattr(hospital, "look_up", look_up)
    act = invite("olga", roles=frozenset({Role.OFFICER}), ends_ms=None, address=ADDRESS).act
    statement = STAFF.state(act.kind, act.body, STAFF.authority)
    hospital.control.append(
        Control(sequence=1, at_ms=NOW_MS, type=act.kind, statement=statement, verified=True)
    )
    facts = run("admin", "posture", "--json").json
    assert facts["people"] == 6
    assert facts["people_without_a_device"] == ["carol", "dave", "olga"]
    assert "olga" in asked


def test_the_archives_numbers_stand_beside_them(
    hospital: FakeDevice, run: Run, tmp_path: Path
) -> None:
    told = tmp_path / "activity.json"
    told.write_text(json.dumps({"messages": 12, "stat_unanswered": 1}))
    facts = run("admin", "posture", "--activity", str(told), "--json").json
    assert facts["activity"] == {"messages": 12, "stat_unanswered": 1}
    lines = run("admin", "posture", "--activity", str(told)).out.splitlines()
    assert "  stat unanswered: 1" in lines
    assert lines[0] == f"at: {date(facts['at_ms'])}"


@pytest.mark.parametrize("content", ["", "[1]", "no JSON"])
def test_a_file_of_something_else_is_said_so(
    hospital: FakeDevice, run: Run, tmp_path: Path, content: str
) -> None:
    told = tmp_path / "activity.json"
    told.write_text(content)
    assert run("admin", "posture", "--activity", str(told)).status == Exit.USAGE

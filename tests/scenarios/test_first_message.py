"""The first message to somebody who has only enrolled, by the programs that people type.

Relay, archive, and each person's program are processes of their own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.client.openable import PIN
from tests.scenarios.blackbox import hospital_with_archive
from tests.scenarios.desk import PASSWORD, Desk
from tests.scenarios.shells import shell
from tests.scenarios.test_stolen_phone import phone_of
from tests.shared import ROOT

WITHIN_S = 120.0


async def enrolled(home: Path, link: str) -> None:
    """Let somebody type ``wardline enroll LINK``, and leave it at that."""
    secrets = home.with_name(f"{home.name}-typed")
    secrets.mkdir()
    files = []
    for name, text in (("pin", PIN), ("password", PASSWORD)):
        (secrets / name).write_text(text)
        files += [f"--{name}-file", str(secrets / name)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "client_cli", "--json", "--home", str(home), *files),
        *("enroll", link, "--device", "phone"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN_S):
        asked = json.loads(await process.stdout.readline())
        desk = Desk()
        desk.take(asked["totp_secret"])
        process.stdin.write(f"{await desk.code()}\n".encode())
        assert json.loads(await process.stdout.readline())["device"] == "ben/phone"
        assert await process.wait() == 0


async def test_who_has_only_enrolled_is_written_to_at_once_and_reads_it_at_the_first_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    async with hospital_with_archive(tmp_path, ["ann/phone"]) as (of, at, _):
        desk = Desk()
        await desk.set_up(of.people["ada/desk"], at)
        for name in ("ada/desk", "ann/phone"):
            await phone_of(tmp_path / name.partition("/")[0], of.people[name], at)
        async with shell(tmp_path / "ada") as ada, shell(tmp_path / "ann") as ann:
            invited = await ada.does("admin", "users", "invite", "ben", "--code", await desk.code())
            await enrolled(tmp_path / "ben", invited["link"])
            # It has gone out when the command ends, and nobody has started Ben's program.
            await ann.does("send", "ben", "potassium 6.1, bed 7", "--wait", "archived")
            async with shell(tmp_path / "ben") as ben:
                read = await ben.until(lambda said: said.status == 0, "read", "ann")
            assert any("potassium 6.1, bed 7" in line for line in read.lines)

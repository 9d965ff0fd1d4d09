"""An archive whose clock is wrong changes no conversation, and goes on once it is right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from archive import connection
from archive.correspondence import Correspondence
from archive.running import serve
from crypto.certificate import DAY_MS
from tests.scenarios.blackbox import hospital_without_archive, published
from tests.scenarios.test_archive import gathered
from tests.server.harness import now_ms
from tests.waiting import comes_true

TURNS = 20
"""Of an archive's work, in which it would have made its Commits."""


@pytest.mark.parametrize("wrong_ms", [-DAY_MS, 3650 * DAY_MS], ids=["a day behind", "years ahead"])
async def test_nobody_is_taken_out_by_a_clock_that_is_wrong_and_the_steward_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong_ms: int
) -> None:
    monkeypatch.setattr("archive.steward.SCAN_MS", 0)
    monkeypatch.setattr(connection, "TICK_S", 0.05)
    monkeypatch.setattr(connection, "COMPARE_S", 0.5)
    wrong, turns = 0, 0
    work = Correspondence.step

    async def counted(of: Correspondence, *, now_ms: int) -> None:
        nonlocal turns
        await work(of, now_ms=now_ms)
        turns += 1  # The steward had its turn before.

    monkeypatch.setattr(Correspondence, "step", counted)
    names = ["ann/phone", "ben/phone", "cy/phone"]
    async with hospital_without_archive(tmp_path, names) as (organisation, at, archive):
        task = asyncio.create_task(serve(archive, clock=lambda: now_ms() + wrong))
        await published(organisation, at, archive)
        (ann, ben, _), conversation = await gathered(at, *names)
        await ann.told(conversation, b"all three")
        wrong, begun = wrong_ms, turns
        await comes_true(lambda: turns > begun + TURNS)
        await ben.told(conversation, b"by a clock that is wrong")
        await ann.sees(conversation, b"by a clock that is wrong")
        assert ann.talks[conversation].mls.epoch == 1
        assert len(ann.talks[conversation].mls.members) == 4
        wrong = 0
        archive.authority.revoke(["cy/phone"], now_ms=now_ms())
        await ann.reaches(conversation, 2)
        assert len(ann.talks[conversation].mls.members) == 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

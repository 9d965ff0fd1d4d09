"""What the archive tells a restored relay, also where the relay refuses some of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from archive.alarms import Alarm
from archive.reconciling import RESUMES, reconcile
from client.errors import RefusedError
from client.link import Link
from protocol import frames, limits
from protocol.errors import Code
from protocol.frames import Deliver, Frame
from protocol.identifiers import CONTROL_LOG
from tests.archive.recording import ward
from tests.server.harness import now_ms


class Refusing:
    """A restored relay that refuses some requests.

    Attributes:
        resumed: How often it was asked to serve.
        replayed: How much it was told.
        adopted: What it was told of logs.
    """

    def __init__(self, *, items: int = 0, resumes: int = 0) -> None:
        self.resumed = self.replayed = 0
        self.adopted: list[frames.Adopt] = []
        self._items, self._resumes = items, resumes

    async def ask(self, request: Callable[[int], Frame]) -> Frame:
        frame = request(1)
        if isinstance(frame, frames.Adopt):
            self.adopted.append(frame)
        if isinstance(frame, frames.Replay):
            self.replayed += 1
            if self.replayed <= self._items:
                raise RefusedError(Code.INVALID)
        if isinstance(frame, frames.Resume):
            self.resumed += 1
            if self.resumed <= self._resumes:
                raise RefusedError(Code.INVALID, 1)
        return frames.Done(ref=1)

    @property
    def link(self) -> Link:
        return cast("Link", self)


async def test_what_a_restored_relay_refuses_is_an_alarm_and_all_else_is_told(
    tmp_path: Path,
) -> None:
    with ward(tmp_path) as made:
        willing = Refusing()
        await reconcile(willing.link, made.recorder, now_ms=now_ms())
        assert willing.replayed > 1
        assert Alarm.RELAY not in made.recorder.alarms
        relay = Refusing(items=1)
        await reconcile(relay.link, made.recorder, now_ms=now_ms())
        assert (relay.replayed, relay.resumed) == (willing.replayed, 1)
        assert Alarm.RELAY in made.recorder.alarms


async def test_a_relay_that_refused_something_is_asked_once_more_to_serve(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        relay = Refusing(resumes=1)
        await reconcile(relay.link, made.recorder, now_ms=now_ms())
        assert relay.resumed == 2
        assert Alarm.RELAY in made.recorder.alarms


async def test_a_relay_that_goes_on_refusing_is_not_asked_for_ever(tmp_path: Path) -> None:
    with ward(tmp_path) as made:
        relay = Refusing(resumes=1000)
        await reconcile(relay.link, made.recorder, now_ms=now_ms())
        assert relay.resumed == RESUMES


async def test_a_control_log_with_more_readers_than_a_frame_names_is_told_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MEMBERS", 2)
    with ward(tmp_path) as made:
        entry = Deliver(
            log=CONTROL_LOG, sequence=1, predecessor=0, at_ms=now_ms(), kind=0, body=b"unreadable"
        )
        assert made.take([entry])
        told = Refusing()
        await reconcile(told.link, made.recorder, now_ms=now_ms())
        parts = [one for one in told.adopted if one.log == CONTROL_LOG]
        assert [len(one.readers) for one in parts] == [2, 2]
        assert {one.last for one in parts} == {1}
        standing = made.recorder.standing_devices(now_ms()).values()
        named = {name for one in parts for name in one.readers}
        assert named == {device for devices in standing for device in devices}

"""Between desk and officers' conversation: whoever has come since is told which holds stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from archive.alarms import Alarm
from archive.correspondence import Correspondence
from archive.recorder import Recorder
from archive.steward import Steward
from protocol.content import decode
from protocol.content.affairs import Official
from protocol.identifiers import ConversationId
from protocol.letters import Recorded, decode_letter
from tests.archive.officers import Archive

CONVERSATION = ConversationId(bytes(32))


class Officers:
    """The recorder, as far as it is asked, in a conversation of officers."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.log, self.live = archive, archive.log, self
        self.alarms: dict[Alarm, int] = {}
        self.official: ConversationId | None = CONVERSATION
        self.settings: dict[str, bytes] = {}
        self.epoch = 1
        self.here = ["archive/recorder", "olga/desk", "omar/desk"]
        self.told: list[Recorded] = []

    def setting(self, name: str) -> bytes | None:
        return self.settings.get(name)

    def put_setting(self, name: str, value: bytes) -> None:
        self.settings[name] = value

    def view(self, _: ConversationId) -> SimpleNamespace:
        return SimpleNamespace(group=SimpleNamespace(epoch=self.epoch))

    def members(self, _: object) -> tuple[str, ...]:
        return tuple(self.here)

    def raise_alarm(self, alarm: Alarm) -> None:
        self.alarms[alarm] = 1

    async def say(self, _: bytes, content: bytes) -> bool:
        letters = [decode_letter(one) for one in cast("Official", decode(content)).statements]
        self.told += [one for one in letters if isinstance(one, Recorded)]
        return True

    def corresponding(self) -> Correspondence:
        return Correspondence(
            cast("Recorder", self),
            cast("Steward", self),
            self.archive.desk,
            self.archive.casework,
            review=lambda: None,
        )


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    archive.begin()
    yield archive
    archive.close()


async def test_the_holds_in_force_are_told_once_a_device_has_come_and_to_nobody_before(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Correspondence, "_look_at_canary", lambda *_: None)
    officers = Officers(archive)
    letters = officers.corresponding()
    await letters.step(now_ms=archive.now_ms)
    scope = archive.scope(people=["bob"])
    olga = archive.officers["olga"]
    archive.post("olga", olga.hold(scope, case="1", reason="suit", now_ms=archive.now_ms))
    archive.tick()

    async def later(*, epoch: int) -> int:
        officers.told, officers.epoch = [], epoch
        await letters.step(now_ms=archive.now_ms)
        return len(officers.told)

    # Another epoch of the same devices, as each day brings.
    assert await later(epoch=2) == 0
    officers.here.append("odin/desk")
    assert await later(epoch=3) == 1
    assert await later(epoch=4) == 0
    # Nor after a start; who goes and comes again has perhaps lost its store.
    letters = officers.corresponding()
    assert await later(epoch=4) == 0
    officers.here.remove("odin/desk")
    assert await later(epoch=5) == 0
    officers.here.append("odin/desk")
    assert await later(epoch=6) == 1

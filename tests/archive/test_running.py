"""A relay that answers what is no answer ends its connection, and not the archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from archive import running
from archive.alarms import Alarm
from archive.errors import StoreFullError
from archive.log import Log
from archive.running import Connection, Team
from archive.witnessing import witness_key
from client.errors import LostError
from client.link import Link
from crypto.checkpoint import cosign
from crypto.note import SignatureType, SignerKey
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.frames import Frame, Sender
from tests.archive.logs import NOW_MS, Site

Answer = Callable[[Frame], Frame]


class Relay:
    """A link whose other end answers as it likes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def ask(self, make: Callable[[int], Frame]) -> Frame:
        data = frames.encode(self.answer(make(1)))
        return frames.decode(data, sender=Sender.RELAY)


class Archive:
    def __init__(self, log: Log, answer: Answer) -> None:
        self.alarms: dict[Alarm, int] = {}
        self.log = log
        recorder = SimpleNamespace(
            log=log,
            live=None,
            authority=None,
            alarms=self.alarms,
            raise_alarm=lambda alarm: self.alarms.update({alarm: 1}),
        )
        team = SimpleNamespace(recorder=recorder, steward=None, progress=None)
        self.connection = Connection(cast("Link", Relay(answer)), cast("Team", team))


STRANGER = SignerKey.generate("relay.example", SignatureType.COSIGNATURE)


def cosigned(key: SignerKey) -> Answer:
    def answer(asked: Frame) -> Frame:
        assert isinstance(asked, frames.Witness)
        note = AddCheckpoint.decode(asked.request).note
        line = cosign(note, key, at_ms=NOW_MS)
        return frames.Cosigned(ref=asked.ref, signature=line.encode().encode())

    return answer


LIES: dict[str, Answer] = {
    "another frame": lambda _: frames.Done(ref=1),
    "no text": lambda _: frames.Cosigned(ref=1, signature=b"\xff\xfe"),
    "no signature": lambda _: frames.Cosigned(ref=1, signature=b"nothing"),
    "a stranger's signature": cosigned(STRANGER),
}


async def test_a_checkpoint_that_the_witness_signs_is_taken(tmp_path: Path) -> None:
    site = Site(tmp_path)
    archive = Archive(site.create(), cosigned(site.witness.key))
    archive.alarms[Alarm.WITNESS] = 1
    note = await archive.connection._asked()
    assert note is not None
    assert archive.alarms == {}
    archive.log.close()


@pytest.mark.parametrize("lie", LIES)
async def test_a_witness_that_answers_nonsense_ends_the_connection_with_an_alarm(
    tmp_path: Path, lie: str
) -> None:
    archive = Archive(Site(tmp_path).create(), LIES[lie])
    with pytest.raises(LostError):
        await archive.connection._asked()
    assert set(archive.alarms) == {Alarm.WITNESS}
    archive.log.close()


@pytest.mark.parametrize(
    "answer", [frames.Done(ref=1), frames.WitnessKey(ref=1, key="no key of anybody")]
)
async def test_a_relay_that_tells_no_witness_key_ends_the_connection(answer: Frame) -> None:
    with pytest.raises(LostError):
        await witness_key(cast("Link", Relay(lambda _: answer)))


async def test_an_archive_goes_on_without_its_status_and_not_without_its_log() -> None:
    found: list[Exception] = [StoreFullError(), OSError()]

    def step(*, now_ms: int) -> None:
        raise found.pop()

    team = SimpleNamespace(watch=SimpleNamespace(step=step))
    with mock.patch.object(running, "TICK_S", 0), pytest.raises(StoreFullError):
        await running._watched(cast("Team", team))
    assert not found

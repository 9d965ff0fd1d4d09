"""A relay that answers what is no answer ends its connection, and not the archive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from unittest import mock

import pytest

from archive import configuration, founding, running, witnessing
from archive.alarms import Alarm
from archive.authority import Authority
from archive.authority_store import AuthorityStore
from archive.decisions import Decisions
from archive.errors import StoreFullError
from archive.founding import RECORDER, found
from archive.log import Log
from archive.progress import Progress
from archive.team import Team
from archive.witnessing import Witnessing, witness_key
from client.errors import LostError, RefusedError
from client.link import Link
from crypto.certificate import DAY_MS
from crypto.checkpoint import cosign
from crypto.errors import CryptoError
from crypto.note import SignatureType, SignerKey
from crypto.statement import StatementType, VerifiedStatement, statement_id, verify_statement
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.commands import RemoveUser
from protocol.errors import Code
from protocol.frames import Frame, Sender
from protocol.identifiers import UserName
from tests.archive.logs import NOW_MS, Site
from tests.archive.recording import ward
from tests.archive.test_authority import PLAN
from tests.server.harness import now_ms

Answer = Callable[[Frame], Frame]

HOUR_MS = 3_600_000


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
        team = SimpleNamespace(recorder=recorder, clock=lambda: NOW_MS)
        self.witnessing = Witnessing(
            cast("Link", Relay(answer)), cast("Team", team), on_decided=lambda: None
        )


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
    note = await archive.witnessing.asked()
    assert note is not None
    assert archive.alarms == {}
    archive.log.close()


@pytest.mark.parametrize("lie", LIES)
async def test_a_witness_that_answers_nonsense_ends_the_connection_with_an_alarm(
    tmp_path: Path, lie: str
) -> None:
    archive = Archive(Site(tmp_path).create(), LIES[lie])
    with pytest.raises(LostError):
        await archive.witnessing.asked()
    assert set(archive.alarms) == {Alarm.WITNESS}
    archive.log.close()


@pytest.mark.parametrize(
    "answer", [frames.Done(ref=1), frames.WitnessKey(ref=1, key="no key of anybody")]
)
async def test_a_relay_that_tells_no_witness_key_ends_the_connection(answer: Frame) -> None:
    with pytest.raises(LostError):
        await witness_key(cast("Link", Relay(lambda _: answer)))


@pytest.mark.parametrize(
    "entries",
    [(), (frames.StandingEntry(3, NOW_MS, b"nothing"),), (frames.StandingEntry(0, 0, b""),)],
    ids=["none", "the same again", "one that is none"],
)
async def test_a_relay_that_promises_more_statements_and_gives_none_is_not_asked_for_ever(
    tmp_path: Path, entries: tuple[frames.StandingEntry, ...]
) -> None:
    asked: list[Frame] = []

    def answer(frame: Frame) -> Frame:
        asked.append(frame)
        assert len(asked) < 10
        return frames.Statements(ref=1, entries=entries, more=True)

    archive = Archive(Site(tmp_path).create(), answer)
    await archive.witnessing.outdo_log_policy()
    archive.log.close()


async def test_an_archive_goes_on_without_its_status_and_not_without_its_log() -> None:
    found: list[Exception] = [StoreFullError(), OSError()]

    def step(*, now_ms: int) -> None:
        raise found.pop()

    team = SimpleNamespace(watch=SimpleNamespace(step=step), clock=lambda: NOW_MS)
    with mock.patch.object(running, "LOOK_S", 0), pytest.raises(StoreFullError):
        await running._watched(cast("Team", team))
    assert not found


class Handing:
    """An authority that hands commands to a relay, which believes them by its own clock."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.alarms: list[Alarm] = []
        self.taken: list[VerifiedStatement] = []
        self._now_ms = NOW_MS
        relay = Relay(self._take)
        link = SimpleNamespace(ask=relay.ask, device=RECORDER)
        recorder = SimpleNamespace(authority=authority, raise_alarm=self.alarms.append)
        progress = Progress()
        progress.relay_clock.hear(NOW_MS)
        team = SimpleNamespace(recorder=recorder, progress=progress, clock=lambda: self._now_ms)
        self._decisions = Decisions(cast("Link", link), cast("Team", team))

    def _take(self, asked: Frame) -> Frame:
        assert isinstance(asked, frames.Command)
        kind = StatementType.COMMAND
        trust = self.authority.trust
        try:
            verified = verify_statement(asked.statement, expected=kind, trust=trust, at_ms=NOW_MS)
        except CryptoError:
            raise RefusedError(Code.INVALID, 0) from None
        self.taken.append(verified)
        return frames.Done(ref=1)

    async def hand_in(self, *, at_ms: int) -> None:
        self._now_ms = at_ms
        await self._decisions.hand_in()


@pytest.fixture
def handing(tmp_path: Path) -> Iterator[Handing]:
    file = tmp_path / "archive" / "archive.toml"
    found(file, PLAN, now_ms=NOW_MS)
    files = founding.files_of(file, configuration.read(file))
    store = AuthorityStore(files.authority, founding.database_key(files))
    authority = Authority(store)
    for outgoing in authority.outgoing():
        authority.handed_in(outgoing.number)
    yield Handing(authority)
    store.close()


def removing(user: str) -> bytes:
    return RemoveUser(user=UserName(user)).encode()


async def test_what_the_authority_decided_by_a_clock_ahead_waits_for_the_right_time_and_is_taken(
    handing: Handing,
) -> None:
    ahead_ms = NOW_MS + HOUR_MS
    for user in ("bo", "ada"):
        handing.authority.command(removing(user), now_ms=ahead_ms)
    await handing.hand_in(at_ms=ahead_ms)
    assert len(handing.authority.outgoing()) == 2
    await handing.hand_in(at_ms=NOW_MS)
    assert [one.body for one in handing.taken] == [removing("bo"), removing("ada")]
    assert handing.authority.outgoing() == []
    assert handing.alarms == []


async def test_what_was_signed_in_time_is_said_again_as_it_was(handing: Handing) -> None:
    handing.authority.command(removing("bo"), now_ms=NOW_MS - HOUR_MS)
    (signed,) = handing.authority.outgoing()
    await handing.hand_in(at_ms=NOW_MS)
    assert [one.id for one in handing.taken] == [statement_id(signed.body)]


async def test_what_is_wrong_for_another_reason_is_an_alarm_and_holds_nothing_up(
    handing: Handing,
) -> None:
    handing.authority.command(removing("bo"), now_ms=NOW_MS - 366 * DAY_MS)
    handing.authority.command(removing("ada"), now_ms=NOW_MS)
    await handing.hand_in(at_ms=NOW_MS)
    assert handing.alarms == [Alarm.RELAY]
    assert [one.body for one in handing.taken] == [removing("ada")]


async def test_a_start_by_a_clock_that_is_two_months_ahead_renews_nothing_and_certifies_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: asyncio.Future[Team] = asyncio.get_running_loop().create_future()

    def ahead() -> int:
        return now_ms() + 60 * DAY_MS

    async def connected(team: Team) -> int:
        begun.set_result(team)
        return await asyncio.Event().wait()

    with ward(tmp_path) as made:
        made.log.close()
        archive = made.archive
        certificate = archive.certificate()
        monkeypatch.setattr(running, "_connected", connected)
        pinned = mock.AsyncMock(return_value=made.witness.key.verifier)
        monkeypatch.setattr(witnessing, "pinned", pinned)
        task = asyncio.create_task(running.serve(archive, clock=ahead))
        async with asyncio.timeout(30):
            team = await begun
        assert archive.certificate() == certificate
        recorder, progress = team.recorder, team.progress
        assert not recorder.is_sure(now_ms())
        progress.relay_clock.hear(now_ms())
        assert recorder.is_sure(now_ms())
        assert not recorder.is_sure(ahead())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

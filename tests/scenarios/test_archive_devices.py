"""People's own devices with a real relay and a real archive: what they show as archived is."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from archive import configuration, founding
from archive.index import Index
from archive.record import RecordFlags, RecordType
from client import emergency
from client.book import Ask
from client.emergency import Emergencies, Vouched
from client.link import Address
from client.views import Roster
from crypto.certificate import fingerprint
from protocol.authenticated_data import Priority
from protocol.content import Text
from protocol.emergency import Guest
from protocol.frames import Deliver, EntryKind
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, LogId, UserName, conversation_log
from tests.client.devices import Running, opened
from tests.scenarios.blackbox import BlackBox, Organisation, hospital_with_archive
from tests.scenarios.sooner import notice_sooner

WAIT_S = 90.0
_STATEMENT = b"\x01"
"""First octet of a note, which is not shown."""


async def begun(folder: Path, organisation: Organisation, box: BlackBox, name: str) -> Running:
    """Return a person's device that runs."""
    relay = configuration.read(box.file).relay
    address = Address(
        host=relay.host,
        port=relay.port,
        tls_pin=bytes.fromhex(relay.pin),
        organisation=organisation.id,
    )
    running = Running(opened(folder, organisation.people[name], organisation, address))
    await running.begin()
    return running


def watched(running: Running, conversation: ConversationId) -> set[bytes]:
    """Return the hashes of the messages that a device takes in from now on."""
    hashes: set[bytes] = set()
    following = running.engine.following
    take = following.take
    log = conversation_log(conversation)

    async def taking(entries: Iterable[Deliver], ask: Ask, *, now_ms: int) -> dict[LogId, int]:
        brought = list(entries)
        hashes.update(
            hashlib.sha256(entry.body).digest()
            for entry in brought
            if entry.log == log
            and entry.kind == EntryKind.MESSAGE
            and not entry.body.startswith(_STATEMENT)
        )
        return await take(brought, ask, now_ms=now_ms)

    following.take = taking  # type: ignore[method-assign]
    return hashes


def archived(running: Running, conversation: ConversationId) -> set[str]:
    """Return what a device shows as archived of its own messages."""
    return {one.text for one in running.shown(conversation) if one.archived}


async def test_a_device_shows_as_archived_what_it_has_checked_and_a_restored_archive_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_sooner(monkeypatch)
    names = ["ann/phone", "ben/phone"]
    async with hospital_with_archive(tmp_path, names) as (organisation, _, box):
        ann, ben = [await begun(tmp_path, organisation, box, name) for name in names]
        conversation = await ann.device.start(ConversationType.GROUP, [UserName("ben")], title="C4")
        await ann.in_epoch(conversation, 1)
        await ben.in_epoch(conversation, 1)
        await ann.say(conversation, "a first word")
        await ben.sees(conversation, "a first word")
        await ann.until(lambda: archived(ann, conversation) == {"a first word"}, within_s=WAIT_S)
        assert archived(ben, conversation) == set()

        await box.command("backup", str(tmp_path / "copy"))
        await ann.say(conversation, "lost with the host")
        await ann.until(lambda: len(archived(ann, conversation)) == 2, within_s=WAIT_S)
        old = founding.log_key(box.file)
        await box.is_lost_and_restored(tmp_path / "copy", tmp_path / "lost")
        await ben.say(conversation, "while it was away")
        await ann.sees(conversation, "while it was away")
        box.start()
        # A member adds it again, in an epoch of its own; from then on it reads and proves.
        await ann.until(lambda: ann.epoch(conversation) >= 2, within_s=WAIT_S)
        await ben.until(lambda: ben.epoch(conversation) >= 2, within_s=WAIT_S)
        await ben.say(conversation, "it is back")
        await ann.sees(conversation, "it is back")
        await ben.until(lambda: "it is back" in archived(ben, conversation), within_s=WAIT_S)
        assert founding.log_key(box.file) != old
        newest = [r for r in box.records() if r.type is RecordType.MESSAGE][-1]
        assert newest.flags & RecordFlags.SIGNATURE_CHECKED
        for running in (ann, ben):
            await running.end()


def archived_guests(box: BlackBox, conversation: ConversationId) -> tuple[Guest, ...]:
    """Return the guests of a conversation's newest epoch, as the archive has sealed it."""
    intray = box.intray()
    try:
        context = Index(intray.store).context(conversation)
        return () if context is None else context.guests
    finally:
        intray.close()


async def test_emergency_access_is_in_the_archive_and_ended_by_the_recorder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emergency, "SHORTEST_MS", 1)
    names = ["ann/phone", "ben/phone", "cat/phone", "dan/phone"]
    async with hospital_with_archive(tmp_path, names) as (organisation, _, box):
        running = [await begun(tmp_path, organisation, box, name) for name in names]
        ann, ben, cat, dan = running
        users = [UserName("ben"), UserName("cat")]
        conversation = await ann.device.start(ConversationType.GROUP, users, title="C4")
        for one in (ann, ben, cat):
            await one.in_epoch(conversation, 1)
        guest = UserName("dan")
        await Emergencies(ben.device).vouch(conversation, guest, reason="Arrest", stay_ms=6_000)
        await cat.until(lambda: Emergencies(cat.device).pending(conversation))
        assert await Emergencies(cat.device).vouch(conversation, guest) is Vouched.SECOND
        await dan.in_epoch(conversation, 2)
        (visit,) = Emergencies(ann.device).visits(conversation)
        assert visit.vouchers == ("ben", "cat")
        (kept,) = archived_guests(box, conversation)
        people = organisation.people
        vouched = {fingerprint(people[name].certificate) for name in names[1:3]}
        assert (kept.user, set(kept.signers)) == ("dan", vouched)
        await ann.until(lambda: not Emergencies(ann.device).visits(conversation), within_s=WAIT_S)
        told = [one.content for one in ann.device.messages(conversation, limit=99)]
        left = next(one for one in told if isinstance(one, Roster) and one.left)
        assert (left.left, left.by) == (("dan",), "archive/recorder")
        await dan.until(lambda: dan.engine.rooms.get(conversation).known.ended)
        assert not archived_guests(box, conversation)
        for one in running:
            assert one.device.status.faults == 0
            await one.end()


async def test_while_the_archives_host_is_destroyed_people_go_on_and_its_mirror_lacks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_sooner(monkeypatch)
    names = ["ann/phone", "ben/phone"]
    async with hospital_with_archive(tmp_path, names) as (organisation, _, box):
        await box.stop()
        settings = box.file.read_text()
        box.file.write_text(settings.replace('mirror = ""', f'mirror = "{tmp_path / "mirror"}"'))
        box.start()
        ann, ben = [await begun(tmp_path, organisation, box, name) for name in names]
        conversation = await ann.device.start(ConversationType.GROUP, [UserName("ben")], title="C4")
        await ann.in_epoch(conversation, 1)
        await ben.in_epoch(conversation, 1)
        told_ann, told_ben = watched(ann, conversation), watched(ben, conversation)
        for number in range(30):
            await (ann, ben)[number % 2].say(conversation, f"text {number}")
            await asyncio.sleep(0.05)
        # In the middle of it: some are archived, some are on their way.
        await ann.until(lambda: archived(ann, conversation), within_s=WAIT_S)
        for number in range(30, 40):
            await (ann, ben)[number % 2].say(conversation, f"text {number}")
        box.kill()
        shutil.rmtree(box.file.parent / "data")
        known = archived(ann, conversation) | archived(ben, conversation)
        away = []
        for priority in (Priority.ROUTINE, Priority.URGENT, Priority.STAT):
            text = f"{priority.name} while it is away"
            away.append(text)
            await ann.device.send(conversation, Text(text=text), priority=priority)
            await ben.sees(conversation, text)
        assert not archived(ann, conversation) & set(away)

        await box.command("restore", str(tmp_path / "mirror"))
        box.file.write_text(settings)
        box.start()
        # A member adds it again; from then on it reads and proves.
        await ann.until(lambda: ann.epoch(conversation) >= 2, within_s=WAIT_S)
        await ben.until(lambda: ben.epoch(conversation) >= 2, within_s=WAIT_S)
        await ben.say(conversation, "it is back")
        await ann.sees(conversation, "it is back", *known, *away)
        await ben.until(lambda: "it is back" in archived(ben, conversation), within_s=WAIT_S)
        assert known == {one for one in known if one.startswith("text")}
        assert len(known) > 5
        # What was shown is what it holds, by hash, and that holds all that it had proved before.
        assert len(told_ann | told_ben) >= 44
        await box.until_it_holds(told_ann | told_ben)
        assert [r for r in box.records() if r.type is RecordType.RESTORE_OR_GAP][1:] == []
        assert "FINDING" not in await box.command("verify")
        for running in (ann, ben):
            await running.end()

"""A real relay, a real archive and devices: what they showed is what it holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from archive.founding import RECORDER
from archive.record import RecordType
from protocol.identifiers import ConversationId, DeviceId
from tests.scenarios.blackbox import hospital_with_archive
from tests.scenarios.members import Member
from tests.scenarios.process import Installation


async def gathered(at: Installation, *names: str) -> tuple[list[Member], ConversationId]:
    """Devices in a conversation that the first of them made, confirmed by the archive."""
    members = [Member(at.hospital.people[name], at) for name in names]
    for member in members:
        await member.connect()
        await member.publish(10)
    conversation = members[0].begin()
    added = [DeviceId(RECORDER), *(member.name for member in members[1:])]
    await members[0].change(conversation, add=added)
    for member in members[1:]:
        await member.reaches(conversation, 1)
    return members, conversation


async def test_what_devices_show_the_archive_holds_as_it_was_sent(tmp_path: Path) -> None:
    async with hospital_with_archive(tmp_path, ["ann/phone", "ben/phone"]) as (_, at, box):
        (ann, ben), conversation = await gathered(at, "ann/phone", "ben/phone")
        sent = [await ann.told(conversation, b"text %d" % n) for n in range(5)]
        sent += [await ben.told(conversation, b"answer %d" % n) for n in range(5)]
        for text in (b"text 4", b"answer 4"):
            await (ben if text.startswith(b"t") else ann).sees(conversation, text)
        hashes = {hashlib.sha256(message).digest() for message in sent}
        await box.until_it_holds(hashes)
        kinds = [record.type for record in box.records()]
        assert kinds.count(RecordType.MESSAGE) == 10
        assert kinds.count(RecordType.EPOCH_KEYS) == kinds.count(RecordType.ROSTER) == 1

"""Relay and archive lose their disks together: devices know more than both, and go on."""

from __future__ import annotations

import json
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from archive import founding
from archive.watch import STATUS_FILE
from client import engine, proofs
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName, user_of
from tests.client.devices import Running
from tests.scenarios.blackbox import BlackBox, hospital_with_archive, point_at
from tests.scenarios.process import Installation
from tests.scenarios.sooner import notice_sooner
from tests.scenarios.test_archive_devices import WAIT_S, archived, begun, watched
from tests.scenarios.test_restore import restored
from tests.waiting import comes_true

THREE = ("ann/phone", "ben/phone", "cat/phone")


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let members do sooner what a silent recorder does not."""
    notice_sooner(monkeypatch)


@asynccontextmanager
async def ward_of(
    folder: Path, *names: str
) -> AsyncIterator[tuple[Installation, BlackBox, list[Running]]]:
    """A relay, an archive and people's devices that run; in the end nobody has anything unsent."""
    async with hospital_with_archive(folder, names) as (organisation, at, box):
        everybody = [await begun(folder, organisation, box, name) for name in names]
        yield at, box, everybody
        for one in everybody:
            await one.until(lambda one=one: not one.device.status.unsent, within_s=WAIT_S)  # type: ignore[misc]
            await one.end()


async def archive_restored(box: BlackBox, copy: Path, lost: Path) -> None:
    """Lose the archive's data, and start it again on a backup."""
    await box.is_lost_and_restored(copy, lost)
    box.start()


async def both_restored(at: Installation, box: BlackBox, folder: Path) -> None:
    """Lose relay and archive, and start both again on the backups in a folder."""
    box.kill()
    await restored(at, folder / "old")
    point_at(box.file, at)
    await archive_restored(box, folder / "copy", folder / "lost both")


def found_again(at: Installation, *running: Running) -> None:
    """Let devices that lie open find the relay, whose port is another after each start here."""
    for one in running:
        one.engine.address = replace(one.engine.address, port=at.port)


async def read_by(reader: Running, conversation: ConversationId, text: str) -> None:
    """Return once a device shows a text."""
    await reader.until(lambda: text in reader.texts(conversation), within_s=WAIT_S)


async def said_to(
    sender: Running, readers: list[Running], conversation: ConversationId, text: str
) -> None:
    """Say something; return once all have read it and the archive has proved it."""
    await sender.say(conversation, text)
    for reader in readers:
        await read_by(reader, conversation, text)
    await sender.until(lambda: text in archived(sender, conversation), within_s=WAIT_S)


async def first_word(*everybody: Running) -> ConversationId:
    """Begin a conversation, of which everybody has read and the archive has proved a message."""
    ann, *others = everybody
    users = [UserName(user_of(one.device.me)) for one in others]
    conversation = await ann.device.start(ConversationType.GROUP, users, title="C4")
    for one in everybody:
        await one.in_epoch(conversation, 1)
    await said_to(ann, others, conversation, "a first word")
    return conversation


async def two_epochs(
    at: Installation, box: BlackBox, folder: Path, everybody: list[Running], asleep: list[Running]
) -> ConversationId:
    """Begin a conversation, copy relay and archive, and let all but some come into epoch 2."""
    conversation = await first_word(*everybody)
    await box.command("backup", str(folder / "copy"))
    await to_thread(at.command, "backup", str(folder / "old"))
    for one in asleep:
        await one.end()
    # A Commit that neither backup has: a member adds the archive again.
    await archive_restored(box, folder / "copy", folder / "lost")
    awake = [one for one in everybody if one not in asleep]
    for one in awake:
        await one.until(lambda one=one: one.epoch(conversation) == 2, within_s=WAIT_S)  # type: ignore[misc]
    await said_to(awake[-1], awake[:-1], conversation, "it is back")
    return conversation


async def test_an_epoch_that_both_have_lost_keeps_nobody_from_speaking_nor_whom_it_let_in(
    tmp_path: Path,
) -> None:
    async with ward_of(tmp_path, *THREE) as (at, box, (ann, ben, cat)):
        conversation = await two_epochs(at, box, tmp_path, [ann, ben], [])
        await ann.device.change_members(conversation, add=[UserName("cat")])
        await cat.until(lambda: cat.epoch(conversation) == 3, within_s=WAIT_S)
        await both_restored(at, box, tmp_path)
        # They lay open all the time.
        found_again(at, ann, ben, cat)
        await said_to(ann, [ben], conversation, "after both")
        await said_to(ben, [ann], conversation, "and an answer")
        assert (ann.device.status.faults, ben.device.status.faults) == (0, 0)
        await cat.until(lambda: cat.epoch(conversation) > 3, within_s=WAIT_S)
        await said_to(cat, [ann, ben], conversation, "I am still here")
        assert "FINDING" not in await box.command("verify")


async def test_who_slept_through_the_epoch_that_both_have_lost_is_let_in_again(
    tmp_path: Path,
) -> None:
    async with ward_of(tmp_path, *THREE) as (at, box, (ann, ben, cat)):
        conversation = await two_epochs(at, box, tmp_path, [ann, ben, cat], [cat])
        await both_restored(at, box, tmp_path)
        found_again(at, ann, ben, cat)
        await said_to(ann, [ben], conversation, "after both")
        await cat.begin()
        await cat.until(
            lambda: cat.epoch(conversation) == ann.epoch(conversation) > 3, within_s=WAIT_S
        )
        await said_to(cat, [ann, ben], conversation, "what did I miss?")


async def test_what_is_sent_into_an_epoch_that_another_has_begun_meanwhile_reaches_all_the_same(
    tmp_path: Path,
) -> None:
    """Who slept wakes first and begins another second epoch: the others' words were in theirs."""
    async with ward_of(tmp_path, *THREE) as (at, box, (ann, ben, cat)):
        conversation = await two_epochs(at, box, tmp_path, [ann, ben, cat], [cat])
        for one in (ann, ben):
            await one.end()
        await ann.say(conversation, "I wait to be sent")
        await both_restored(at, box, tmp_path)
        found_again(at, ann, ben, cat)
        await cat.begin()
        await cat.until(lambda: cat.epoch(conversation) == 2, within_s=WAIT_S)
        for one in (ann, ben):
            await one.begin()
        for one in (cat, ben):
            await read_by(one, conversation, "I wait to be sent")
        await said_to(ben, [ann, cat], conversation, "we are all here")


def untold(box: BlackBox) -> int:
    """Return of how many messages the archive has yet to tell their senders."""
    said = json.loads((box.file.parent / "data" / STATUS_FILE).read_bytes())
    return int(said["untold"])


async def test_proofs_that_waited_under_a_log_that_has_ended_come_again_under_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proofs, "PATIENCE_MS", 0)
    monkeypatch.setattr(engine, "KEEPING_S", 2.0)
    async with ward_of(tmp_path, "ann/phone", "ben/phone") as (_, box, (ann, ben)):
        conversation = await first_word(ann, ben)
        seen = watched(ben, conversation)
        await box.stop()
        await ann.say(conversation, "I go off duty")
        await read_by(ben, conversation, "I go off duty")
        await ann.until(lambda: not ann.device.status.unsent)
        await ann.end()
        box.start()
        await box.until_it_holds(seen)
        await comes_true(lambda: untold(box) == 0, within_s=WAIT_S)
        # The proof lies in ann's inbox, under a log that ends now.
        await box.command("backup", str(tmp_path / "copy"))
        await said_to(ben, [], conversation, "the backup lacks this")
        old = founding.log_key(box.file)
        box.kill()
        await ben.say(conversation, "nobody records this yet")
        await ben.until(lambda: not ben.device.status.unsent)
        await archive_restored(box, tmp_path / "copy", tmp_path / "lost")
        await ann.begin()
        for one, text in ((ann, "I go off duty"), (ben, "nobody records this yet")):
            await one.until(
                lambda one=one, text=text: text in archived(one, conversation),  # type: ignore[misc]
                within_s=WAIT_S,
            )
        assert founding.log_key(box.file) != old
        assert "FINDING" not in await box.command("verify")


async def test_what_a_lost_relay_had_taken_and_nobody_has_recorded_is_sent_again(
    tmp_path: Path,
) -> None:
    async with ward_of(tmp_path, *THREE) as (at, box, (ann, ben, cat)):
        conversation = await first_word(ann, ben, cat)
        await to_thread(at.command, "backup", str(tmp_path / "old"))
        await box.stop()
        await cat.end()
        await ann.say(conversation, "bed 4 is free")
        await read_by(ben, conversation, "bed 4 is free")
        await ann.until(lambda: not ann.device.status.unsent)
        await restored(at, tmp_path / "old")
        point_at(box.file, at)
        box.start()
        found_again(at, ann, ben, cat)
        await ann.until(lambda: "bed 4 is free" in archived(ann, conversation), within_s=WAIT_S)
        await cat.begin()
        await read_by(cat, conversation, "bed 4 is free")
        await said_to(cat, [ann, ben], conversation, "I take it")
        for one in (ann, ben, cat):
            assert one.texts(conversation).count("bed 4 is free") == 1

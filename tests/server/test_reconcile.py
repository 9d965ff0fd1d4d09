"""A relay restored from an old backup asks the archive before it serves anybody."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx
from msgspec.structs import replace

from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import RemoveUser
from protocol.errors import Code
from protocol.identifiers import CONTROL_LOG, UserName, conversation_log, inbox_log
from tests.server import harness
from tests.server.harness import RECORDER
from tests.server.test_control import administrator, signed, submit, wipe


async def backed_up(site: harness.Site, target: Path) -> None:
    await asyncio.to_thread(target.mkdir)
    await site.relay.store.backup(target / "relay.db")
    await site.relay.secrets.backup(target / "secrets.db")
    shutil.copy(target.parent / "live" / "secrets.key", target / "secrets.key")


async def replay(recorder: harness.Client, at_ms: int, item: bytes) -> frames.Frame:
    return await recorder.answer(lambda ref: frames.Replay(ref=ref, at_ms=at_ms, item=item))


async def tell(recorder: harness.Client, adopt: frames.Adopt, at_ms: int, *items: bytes) -> None:
    """Tell a restored relay what it lacks, and let it serve."""
    answers = [await recorder.answer(lambda ref: replace(adopt, ref=ref))]
    for item in items:
        answers.append(await replay(recorder, at_ms, item))  # noqa: PERF401 - in order
    answers.append(await recorder.answer(lambda ref: frames.Resume(ref=ref)))
    assert all(isinstance(answer, frames.Done) for answer in answers)


async def test_a_restored_relay_serves_nobody_before_the_archive_and_then_revives_nothing(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        await backed_up(site, tmp_path / "old")
        chief = await administrator(site)
        log = conversation_log(conversation)
        sequence = await harness.commit(ann, conversation, epoch=1)
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)
        await ann.send(harness.message(ann, conversation, epoch=2))
        last = (await ann.expect(frames.Accepted)).sequences[0]
        body = RemoveUser(user=UserName("bob")).encode()
        removal = signed(
            site, StatementType.COMMAND, body, chief.person.signatory(Purpose.ADMINISTRATOR)
        )
        assert isinstance(await submit(chief, removal), frames.Done)
        at_ms = site.relay.now_ms()
        context = site.relay.organisations[of.id].contexts[conversation].encode()
    async with harness.running(tmp_path / "old", of) as site:
        ann = await site.client(of.people["ann/phone"])
        await ann.greet()
        refused = await ann.prove()
        assert isinstance(refused, frames.Close)
        assert refused.code == Code.RECONCILING
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
            assert (await web.get("/readyz")).status_code == 503
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        assert isinstance(await recorder.prove(), frames.Reconciling)
        adopt = frames.Adopt(
            ref=0,
            log=log,
            last=last,
            epoch=2,
            context=context,
            readers=("ann/phone", RECORDER),
        )
        items = harness.certified(chief.person.certificate), harness.stated(removal)
        await tell(recorder, adopt, at_ms, *items)
        await asyncio.sleep(0.05)
        ann = await site.open(of.people["ann/phone"])
        await ann.send(harness.message(ann, conversation, epoch=1))
        assert (await ann.expect(frames.RefusedMessage)).code == Code.STALE_EPOCH
        await ann.send(harness.message(ann, conversation, epoch=2))
        assert (await ann.expect(frames.Accepted)).sequences[0] > last
        bob = await site.client(of.people["bob/phone"])
        await bob.greet()
        assert isinstance(await bob.prove(), frames.Ordered)
        await ann.expect(frames.Deliver, lambda e: e.log == CONTROL_LOG and e.body == removal)


async def test_a_wiped_devices_share_is_not_revived_by_a_backup(tmp_path: Path) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        chief = await administrator(site)
        await site.open(of.people[RECORDER])
        lost = await site.open(of.enrol("ann/phone"))
        await lost.answer(
            lambda ref: frames.StoreShare(ref=ref, share=bytes(32), pin_proof=bytes(32))
        )
        await backed_up(site, tmp_path / "old")
        order = wipe(site, chief.person, lost.person, complete=True)
        assert isinstance(await submit(chief, order), frames.Done)
        at_ms = site.relay.now_ms()
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        await recorder.prove()
        await replay(recorder, at_ms, harness.stated(order))
        assert isinstance(await recorder.answer(lambda ref: frames.Resume(ref=ref)), frames.Done)
        assert await site.relay.secrets.share(of.id, lost.person.name) is None
        ann = await site.client(lost.person)
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Ordered)
        assert (await ann.expect(frames.Deliver)).body == harness.stated(order)


async def test_what_is_refused_of_a_telling_keeps_nothing_behind_it_out_and_the_relay_not_shut(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        chief = await administrator(site)
        await site.open(of.people[RECORDER])
        lost = await site.open(of.enrol("ann/phone"))
        await site.open(of.enrol("bob/phone"))
        await backed_up(site, tmp_path / "old")
        order = wipe(site, chief.person, lost.person, complete=True)
        at_ms = site.relay.now_ms()
    strange = harness.hospital().enrol("eve/phone").certificate
    forged = order[:-1] + bytes([order[-1] ^ 1])
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        await recorder.prove()
        malformed = await replay(recorder, at_ms, b"")
        assert isinstance(malformed, frames.Refused)
        for item in (harness.certified(strange), harness.stated(forged), harness.stated(order)):
            assert isinstance(await replay(recorder, at_ms, item), frames.Done)
        told = await recorder.answer(lambda ref: frames.Resume(ref=ref))
        assert isinstance(told, frames.Refused)
        assert (told.code, told.detail) == (Code.INVALID, 2)
        # The archive knows what was refused before anybody is served.
        bob = await site.client(of.people["bob/phone"])
        await bob.greet()
        early = await bob.prove()
        assert isinstance(early, frames.Close)
        assert early.code == Code.RECONCILING
        assert isinstance(await recorder.answer(lambda ref: frames.Resume(ref=ref)), frames.Done)
        await asyncio.sleep(0.05)
        ann = await site.client(lost.person)
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Ordered)
        assert (await ann.expect(frames.Deliver)).body == harness.stated(order)
        await site.open(of.people["bob/phone"])


async def test_a_device_that_was_ahead_of_the_backup_gets_the_order_that_came_after_it(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        chief = await administrator(site)
        await backed_up(site, tmp_path / "old")
        # What the archive has not been told of: items in an inbox, messages beyond its cursor.
        for _ in range(3):
            last = await archived(site, recorder, ann)
        for number in range(5):
            await ann.send(harness.message(ann, conversation, epoch=1, body=b"%d" % number))
            said = (await ann.expect(frames.Accepted)).sequences[0]
        context = site.relay.organisations[of.id].contexts[conversation].encode()
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        await recorder.prove()
        adopt = frames.Adopt(
            ref=0,
            log=conversation_log(conversation),
            last=said - 4,
            epoch=1,
            context=context,
            readers=("ann/phone", "bob/phone", RECORDER),
        )
        await tell(
            recorder, adopt, site.relay.now_ms(), harness.certified(chief.person.certificate)
        )
        await asyncio.sleep(0.05)
        ann, bob = [await site.open(of.people[name]) for name in ("ann/phone", "bob/phone")]
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"after"))
        assert (await ann.expect(frames.Accepted)).sequences[0] > said
        entry = await bob.expect(frames.Deliver, lambda e: e.body.endswith(b"after"))
        # No hole for whoever was ahead: the predecessor is one that it has passed.
        assert entry.predecessor <= said < entry.sequence
        order = wipe(site, chief.person, ann.person, complete=True)
        chief = await administrator(site)
        assert isinstance(await submit(chief, order), frames.Done)
        lost = await site.client(ann.person)
        await lost.greet()
        assert isinstance(await lost.prove(), frames.Ordered)
        delivered = await lost.expect(frames.Deliver)
        assert delivered.body == harness.stated(order)
        assert delivered.predecessor <= last < delivered.sequence


async def archived(site: harness.Site, recorder: harness.Client, reader: harness.Client) -> int:
    """Let the recorder state something to a device; return the number of the item."""
    signatory = recorder.person.signatory(Purpose.RECORDER)
    item = harness.stated(signed(site, StatementType.ARCHIVED, b"body", signatory))
    log = inbox_log(reader.person.name)
    done = await recorder.answer(lambda ref: frames.Post(ref=ref, log=log, statement=item))
    assert isinstance(done, frames.Done)
    entry = await reader.expect(frames.Deliver, lambda e: e.body == item)
    await reader.send(frames.Acknowledge(log=log, through=entry.sequence))
    return entry.sequence


async def test_nobody_but_the_recorder_tells_a_restored_relay_anything(tmp_path: Path) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        await administrator(site)
        await backed_up(site, tmp_path / "old")
    async with harness.running(tmp_path / "old", of) as site:
        chief = await site.client(of.people["chief/desk"])
        await chief.greet()
        refused = await chief.prove()
        assert isinstance(refused, frames.Close)
        assert refused.code == Code.RECONCILING
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        assert isinstance(await recorder.prove(unlocked=False), frames.Close)

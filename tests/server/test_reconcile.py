"""A relay restored from an old backup asks the archive before it serves anybody."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from crypto.certificate import DAY_MS
from crypto.names import Role
from crypto.revocation import encode_revocations
from crypto.statement import Purpose, StatementType
from crypto.trust import Revocations
from protocol import frames
from protocol.commands import RemoveUser, ResetAccount, SetPolicy, Suspension
from protocol.errors import Code
from protocol.identifiers import (
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.policy import Action, Policy
from server import appending, upkeep
from server.directory import REPLAY
from server.store import (
    Fact,
    LogKey,
    PutFacts,
)
from tests.flipped import flipped
from tests.server import harness
from tests.server.harness import RECORDER
from tests.server.test_control import administrator, signed, submit, wipe


async def backed_up(site: harness.Site, target: Path) -> None:
    await asyncio.to_thread(target.mkdir)
    await site.relay.store.backup(target / "relay.db")
    await site.relay.secrets.backup(target / "secrets.db")
    shutil.copy(target.parent / "live" / "secrets.key", target / "secrets.key")


LATER = 1_000
"""Number, in the control log, of a command that no backup here has."""


async def replay(
    recorder: harness.Client, at_ms: int, item: bytes, *, sequence: int = LATER
) -> frames.Frame:
    return await recorder.answer(
        lambda ref: frames.Replay(ref=ref, at_ms=at_ms, sequence=sequence, item=item)
    )


async def resume(recorder: harness.Client) -> frames.Frame:
    return await recorder.answer(lambda ref: frames.Resume(ref=ref))


async def sent_home(recorder: harness.Client) -> None:
    """Wait until the relay serves, and has closed the connection of who told it everything."""
    assert (await recorder.closed()).code == Code.DRAINING


async def telling(site: harness.Site, of: harness.Hospital) -> harness.Client:
    """Connect the archive's recorder to a restored relay."""
    recorder = await site.client(of.people[RECORDER])
    await recorder.greet()
    assert isinstance(await recorder.prove(), frames.Reconciling)
    return recorder


async def judged(site: harness.Site, person: harness.Person) -> frames.Frame:
    """What a device is told that proves itself."""
    client = await site.client(person)
    await client.greet()
    return await client.prove()


async def is_put_off(site: harness.Site, person: harness.Person) -> bool:
    told = await judged(site, person)
    return isinstance(told, frames.Close) and told.code == Code.RECONCILING


async def adopted(recorder: harness.Client, adopt: frames.Adopt) -> frames.Frame:
    return await recorder.answer(lambda ref: replace(adopt, ref=ref))


async def tell(recorder: harness.Client, adopt: frames.Adopt, at_ms: int, *items: bytes) -> None:
    """Tell a restored relay what it lacks, and let it serve."""
    answers = [await adopted(recorder, adopt)]
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
        await sent_home(recorder)
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
    forged = flipped(order)
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await site.client(of.people[RECORDER])
        await recorder.greet()
        await recorder.prove()
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
        await sent_home(recorder)
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
        await sent_home(recorder)
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


async def test_whoever_a_restored_relay_puts_off_is_told_so_and_not_that_it_is_unknown(
    tmp_path: Path,
) -> None:
    async with an_old_backup(tmp_path) as made:
        # Locked as all are that are to be opened, come since the backup, or about to enrol.
        for person in (made.of.people["ann/phone"], made.later):
            for unlocked in (False, True):
                client = await made.site.client(person)
                await client.greet(certificate=b"")
                told = await client.prove(unlocked=unlocked)
                assert isinstance(told, frames.Close)
                assert told.code == Code.RECONCILING
        # Who proves nothing is not put off: it is nobody.
        forger = await made.site.client(made.of.people["ann/phone"])
        await forger.greet()
        forger.person = made.later
        told = await forger.prove()
        assert isinstance(told, frames.Close)
        assert told.code == Code.NOT_PROVED


async def test_the_backup_gives_the_share_and_pin_that_it_has_and_none_that_came_later(
    tmp_path: Path,
) -> None:
    async with an_old_backup(tmp_path) as made:
        site = made.site
        recorder = await telling(site, made.of)
        later = harness.certified(made.later.certificate)
        assert isinstance(await replay(recorder, site.relay.now_ms(), later), frames.Done)
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        # Changed after the backup: the new PIN is a wrong one, and the old one gives the old share.
        ann, carl = [await site.open(p) for p in (made.of.people["ann/phone"], made.later)]
        wrong = await ann.answer(lambda ref: frames.GetShare(ref=ref, pin_proof=b"n" * 32))
        assert isinstance(wrong, frames.Refused)
        assert wrong.code == Code.WRONG_PIN
        # Enrolled after the backup: it is let in, and there is no share for it.
        none = await carl.answer(lambda ref: frames.GetShare(ref=ref, pin_proof=bytes(32)))
        assert isinstance(none, frames.Refused)
        assert none.code == Code.NO_SUCH


async def test_a_backup_that_is_ahead_of_the_archive_keeps_the_members_that_it_has(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        key = LogKey(of.id, conversation_log(conversation))
        newer = site.relay.organisations[of.id].contexts[conversation]
        removing = await harness.commit(ann, conversation, epoch=1, removed=[DeviceId("bob/phone")])
        await harness.confirm(recorder, conversation, sequence=removing, epoch=2)
        bob = DeviceId("bob/phone")
        assert bob not in site.relay.store.readers(key)
        await backed_up(site, tmp_path / "old")
    async with harness.running(tmp_path / "old", of) as site:
        teller = await telling(site, of)
        adopt = frames.Adopt(
            ref=0,
            log=key.id,
            last=removing - 1,
            epoch=1,
            context=harness.context(of, "bob").encode(),
            readers=("ann/phone", "bob/phone", RECORDER),
        )
        assert isinstance(await adopted(teller, adopt), frames.Done)
        assert bob not in site.relay.store.readers(key)
        assert site.relay.organisations[of.id].contexts[conversation] == newer
        assert isinstance(await resume(teller), frames.Done)
        await sent_home(teller)
        head = site.relay.store.head(key)
        assert head is not None
        assert (head.epoch, head.staged) == (2, None)
        ann = await site.open(of.people["ann/phone"])
        await ann.send(harness.message(ann, conversation, epoch=2))
        assert (await ann.expect(frames.Accepted)).sequences[0] > removing


def suspension(site: harness.Site, chief: harness.Client, *devices: str, lifted: bool) -> bytes:
    body = Suspension(devices=tuple(map(DeviceId, devices)), lifted=lifted).encode()
    signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
    return signed(site, StatementType.SUSPENSION, body, signatory)


@asynccontextmanager
async def an_old_backup(tmp_path: Path) -> AsyncIterator[Restored]:
    """A relay on a backup that knows Ann's phone and Bob's, and not Carl's."""
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        chief = await administrator(site)
        await site.open(of.people[RECORDER])
        for name in ("ann/phone", "bob/phone"):
            device = await site.open(of.enrol(name))
            await device.answer(
                lambda ref: frames.StoreShare(ref=ref, share=bytes(32), pin_proof=bytes(32))
            )
        await backed_up(site, tmp_path / "old")
    later = of.enrol("carl/phone")
    async with harness.running(tmp_path / "old", of) as site:
        yield Restored(site=site, of=of, chief=chief.person, later=later)


@dataclass(frozen=True, kw_only=True)
class Restored:
    site: harness.Site
    of: harness.Hospital
    chief: harness.Person
    later: harness.Person

    def against(self, kind: str) -> bytes:
        """A command that takes something from Ann's phone, or from Carl."""
        signatory = self.chief.signatory(Purpose.ADMINISTRATOR)
        if kind == "wipe order":
            return wipe(self.site, self.chief, self.of.people["ann/phone"], complete=True)
        if kind == "suspension":
            body = Suspension(devices=(DeviceId("ann/phone"),), lifted=False).encode()
            return signed(self.site, StatementType.SUSPENSION, body, signatory)
        if kind == "revocation list":
            listed = Revocations(number=9, devices={"ann/phone": 1})
            body = encode_revocations(listed)
            authority = self.of.signatory()
            return signed(self.site, StatementType.REVOCATION_LIST, body, authority)
        user = UserName("ann" if kind == "account reset" else "carl")
        body = (ResetAccount if kind == "account reset" else RemoveUser)(user=user).encode()
        return signed(self.site, StatementType.COMMAND, body, signatory)


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("wipe order", {"ann/phone"}),
        ("suspension", {"ann/phone"}),
        ("revocation list", {"ann/phone"}),
        ("account reset", {"ann/phone"}),
        ("removal", {"carl/phone"}),
    ],
)
async def test_whoever_a_refused_command_was_directed_against_is_held(
    tmp_path: Path, kind: str, held: set[str]
) -> None:
    async with an_old_backup(tmp_path) as made:
        site, of = made.site, made.of
        recorder = await telling(site, of)
        at_ms = site.relay.now_ms()
        await replay(recorder, at_ms, harness.stated(flipped(made.against(kind))))
        told = await resume(recorder)
        assert isinstance(told, frames.Refused)
        assert told.detail == 1
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        for name in ("ann/phone", "bob/phone", "carl/phone"):
            person = made.later if name == "carl/phone" else of.people[name]
            answer = await judged(site, person)
            assert isinstance(answer, frames.Ordered if name in held else frames.Opened), name
        for device in held - {"carl/phone"}:
            share = await site.relay.secrets.share(of.id, DeviceId(device))
            assert share is not None
            assert share.withheld
        # An administrator who knows better lets them in again.
        chief = await administrator(site)
        order = suspension(site, chief, *sorted(held), lifted=True)
        assert isinstance(await submit(chief, order), frames.Done)
        assert not site.relay.organisations[of.id].held
        for name in held:
            person = made.later if name == "carl/phone" else of.people[name]
            assert isinstance(await judged(site, person), frames.Opened)


async def test_who_is_held_stays_so_over_a_restart(tmp_path: Path) -> None:
    async with an_old_backup(tmp_path) as made:
        recorder = await telling(made.site, made.of)
        order = flipped(made.against("removal"))
        await replay(recorder, made.site.relay.now_ms(), harness.stated(order))
        await resume(recorder)
        assert isinstance(await resume(recorder), frames.Done)
    async with harness.running(tmp_path / "old", made.of) as site:
        assert isinstance(await judged(site, made.later), frames.Ordered)
        assert isinstance(await judged(site, made.of.people["ann/phone"]), frames.Opened)


@pytest.mark.parametrize("kind", ["unreadable", "policy", "a log"])
async def test_what_may_concern_anybody_keeps_a_restored_relay_shut_until_an_operator_decides(
    tmp_path: Path, kind: str
) -> None:
    async with an_old_backup(tmp_path) as made:
        site, of = made.site, made.of
        ann = of.people["ann/phone"]
        for _ in range(2):  # The archive comes again, and tells the same.
            recorder = await telling(site, of)
            if kind == "unreadable":
                await replay(recorder, site.relay.now_ms(), b"")
            elif kind == "policy":
                body = SetPolicy(policy=Policy(version=1)).encode()
                signatory = made.chief.signatory(Purpose.ADMINISTRATOR)
                policy = signed(site, StatementType.COMMAND, body, signatory)
                at_ms = site.relay.now_ms()
                await replay(recorder, at_ms, harness.stated(flipped(policy)))
            else:
                log = conversation_log(ConversationId(bytes(32)))
                adopt = frames.Adopt(
                    ref=0, log=log, last=1, epoch=1, context=b"", readers=("ann/phone",)
                )
                assert isinstance(await adopted(recorder, adopt), frames.Refused)
            for _ in range(3):
                assert isinstance(await resume(recorder), frames.Refused)
            assert await is_put_off(site, ann)
        site.relay.despite_refusals = True
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        assert isinstance(await judged(site, ann), frames.Opened)


async def test_a_relay_that_stops_while_it_is_told_serves_nobody_until_it_is_told_again(
    tmp_path: Path,
) -> None:
    async with an_old_backup(tmp_path) as made:
        recorder = await telling(made.site, made.of)
        order = wipe(made.site, made.chief, made.of.people["ann/phone"], complete=True)
        at_ms = made.site.relay.now_ms()
        # The store serves by now, and nothing but the first half of it all was taken in.
        await replay(recorder, at_ms, harness.stated(flipped(order)))
        assert isinstance(await resume(recorder), frames.Refused)
        assert not made.site.relay.store.awaiting_archive
    async with harness.running(tmp_path / "old", made.of) as site:
        for name in ("ann/phone", "bob/phone"):
            assert await is_put_off(site, made.of.people[name])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as web:
            assert (await web.get("/readyz")).status_code == 503
        recorder = await telling(site, made.of)
        await replay(recorder, at_ms, harness.stated(order))
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        assert isinstance(await judged(site, made.of.people["ann/phone"]), frames.Ordered)
        assert isinstance(await judged(site, made.of.people["bob/phone"]), frames.Opened)
    async with harness.running(tmp_path / "old", made.of) as site:
        assert isinstance(await judged(site, made.of.people["bob/phone"]), frames.Opened)


async def test_a_command_that_the_backup_had_is_not_done_again(tmp_path: Path) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        chief = await administrator(site)
        await site.open(of.people[RECORDER])
        await site.open(of.enrol("ann/phone"))
        control = LogKey(of.id, CONTROL_LOG)
        had, at_ms = suspension(site, chief, "ann/phone", lifted=False), site.relay.now_ms()
        assert isinstance(await submit(chief, had), frames.Done)
        number = site.relay.store.head(control)
        assert number is not None
        assert isinstance(
            await submit(chief, suspension(site, chief, "ann/phone", lifted=True)), frames.Done
        )
        # So old that the memory against repeats has let go of it.
        organisation = site.relay.organisations[of.id]
        memories = [Fact(key=REPLAY + memory, value=None) for memory in organisation.seen]
        await site.relay.store.change(PutFacts(of.id, memories))
        await backed_up(site, tmp_path / "old")
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await telling(site, of)
        await replay(recorder, at_ms, harness.stated(had), sequence=number.seq)
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        assert isinstance(await judged(site, of.people["ann/phone"]), frames.Opened)


async def test_policies_behind_one_that_was_refused_are_taken_in(tmp_path: Path) -> None:
    async with an_old_backup(tmp_path) as made:
        site, of = made.site, made.of
        recorder = await telling(site, of)
        signatory = made.chief.signatory(Purpose.ADMINISTRATOR)
        for version, spoil in ((1, True), (2, False)):
            body = SetPolicy(policy=Policy(version=version)).encode()
            policy = signed(site, StatementType.COMMAND, body, signatory)
            item = harness.stated(flipped(policy) if spoil else policy)
            await replay(recorder, site.relay.now_ms(), item, sequence=LATER + version)
        await resume(recorder)
        assert site.relay.organisations[of.id].policy.version == 2


async def test_a_policy_that_relay_and_archive_forgot_comes_back_by_an_administrators_device(
    tmp_path: Path,
) -> None:
    async with an_old_backup(tmp_path) as made:
        site, of = made.site, made.of
        signatory = made.chief.signatory(Purpose.ADMINISTRATOR)
        rights = {Action.LOOK_UP: frozenset({Role.RECORDER, Role.ADMINISTRATOR})}
        body = SetPolicy(policy=Policy(version=3, rights=rights)).encode()
        forgotten = signed(site, StatementType.COMMAND, body, signatory)
        recorder = await telling(site, of)
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        # What the archive did not tell had a day to be handed in.
        site.later_ms = 2 * DAY_MS
        ann = await site.open(of.people["ann/phone"])
        chief = await site.open(made.chief)
        for nobody in (ann, chief):
            assert isinstance(await submit(nobody, forgotten), frames.Refused)
        site.connection(chief).strong_until_s = float("inf")
        assert isinstance(await submit(chief, forgotten), frames.Done)
        await ann.expect(frames.Deliver, lambda e: e.log == CONTROL_LOG and e.body == forgotten)
        lookup = await ann.answer(lambda ref: frames.Lookup(ref=ref, users=("chief",)))
        assert isinstance(lookup, frames.Refused)
        # Nothing earlier follows on it, and what an administrator decides now does.
        for version, kind in ((3, frames.Refused), (2, frames.Refused), (4, frames.Done)):
            body = SetPolicy(policy=Policy(version=version)).encode()
            policy = signed(site, StatementType.COMMAND, body, signatory)
            assert isinstance(await submit(chief, policy), kind)
        assert isinstance(await submit(chief, forgotten), frames.Refused)
        assert site.relay.organisations[of.id].policy == Policy(version=4)


async def test_a_relay_that_never_lost_anything_takes_no_policy_whose_day_is_over(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
        body = SetPolicy(policy=Policy(version=1)).encode()
        policy = signed(site, StatementType.COMMAND, body, signatory)
        site.later_ms = 2 * DAY_MS
        assert isinstance(await submit(chief, policy), frames.Refused)


async def test_a_control_log_is_told_in_parts_and_its_readers_keep_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    (tmp_path / "live").mkdir()
    async with harness.running(tmp_path / "live", of) as site:
        await site.meeting("ann/phone", "bob/phone")
        await backed_up(site, tmp_path / "old")
        control = LogKey(of.id, CONTROL_LOG)
        readers = sorted(site.relay.store.readers(control))
    assert len(readers) >= 3
    of.enrol("cat/phone")
    for module in (appending, upkeep):
        monkeypatch.setattr(module, "READERS_MAX", 2)
    async with harness.running(tmp_path / "old", of) as site:
        recorder = await telling(site, of)
        for part in (readers[:1], ["cat/phone"]):
            adopt = frames.Adopt(
                ref=0, log=CONTROL_LOG, last=7, epoch=0, context=b"", readers=tuple(part)
            )
            assert isinstance(await adopted(recorder, adopt), frames.Done)
        assert sorted(site.relay.store.readers(control)) == sorted([*readers, "cat/phone"])
        head = site.relay.store.head(control)
        assert head is not None
        assert head.seq == 7


async def test_who_was_invited_and_removed_since_the_backup_and_never_came_is_held_against_nobody(
    tmp_path: Path,
) -> None:
    async with an_old_backup(tmp_path) as made:
        site, of = made.site, made.of
        at_ms = site.relay.now_ms()
        removal = signed(
            site,
            StatementType.COMMAND,
            RemoveUser(user=UserName("dora")).encode(),
            made.chief.signatory(Purpose.ADMINISTRATOR),
        )
        invitations = [of.invitation(user, Role.CLINICIAN)[0] for user in ("dora", "emil")]
        # Long enough ago that the next one to come drops the first.
        site.later_ms = 40 * 24 * 3600 * 1000
        recorder = await telling(site, of)
        for told in (*invitations, removal):
            assert isinstance(await replay(recorder, at_ms, harness.stated(told)), frames.Done)
        assert isinstance(await resume(recorder), frames.Done)
        await sent_home(recorder)
        # Whoever comes back under that name later is let in.
        assert not site.relay.organisations[of.id].held

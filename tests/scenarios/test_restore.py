"""A relay whose disk is lost comes back from an old backup, and revives nothing that was ended."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crypto.mls import Group
from crypto.names import Role
from crypto.statement import (
    Purpose,
    StatementType,
    countersign_statement,
)
from protocol import frames
from protocol.commands import WipeOrder, WipeReason
from protocol.errors import Code
from protocol.identifiers import ConversationId, DeviceId, conversation_log
from tests.scenarios.members import Member, context_of
from tests.scenarios.process import Installation, serving
from tests.scenarios.ward import assembled, ward
from tests.server import harness
from tests.server.harness import Hospital, Person, now_ms, stated

SHARE = secrets.token_bytes(32)

KEPT = ("secrets.key", "tls.pem", "tls.key")
"""Files that are in no backup and are put back from where keys are kept."""


def wipe_order(of: Hospital, administrator: Person, lost: Person) -> bytes:
    """Return a complete order to wipe a device."""
    body = WipeOrder(
        device=lost.name,
        connection_key=lost.keys.connection_key.public_key,
        reason=WipeReason.LOST,
    ).encode()
    order = of.signed(
        StatementType.WIPE_ORDER, body, by=administrator.signatory(Purpose.ADMINISTRATOR)
    )
    return countersign_statement(order, trust=of.trust, at_ms=now_ms(), signatory=of.signatory())


async def restored(at: Installation, backup: Path) -> None:
    """Lose the relay's disk, and start it again on a backup."""
    at.kill()
    lost = at.data.rename(at.folder / "lost")
    await asyncio.to_thread(at.command, "restore", str(backup))
    for name in KEPT:
        shutil.copy(lost / name, at.data / name)
    await at.start()


async def refused(at: Installation, person: Person) -> Code:
    client = await at.greeted(person)
    answer = await client.prove()
    assert isinstance(answer, frames.Close), answer
    return Code(answer.code)


@dataclass(kw_only=True)
class Told:
    """What the archive knows of one conversation."""

    conversation: ConversationId
    last: int
    epoch: int
    readers: tuple[DeviceId, ...]


async def tell(recorder: Member, told: Told, owner: Person, *, order: bytes, at_ms: int) -> None:
    """Tell a restored relay what the archive knows, and let it serve."""
    client = await recorder.at.greeted(recorder.person)
    assert isinstance(await client.prove(), frames.Reconciling)
    context = context_of(owner, recorder.at.hospital.id).encode()
    for make in (
        lambda ref: frames.Adopt(
            ref=ref,
            log=conversation_log(told.conversation),
            last=told.last,
            epoch=told.epoch,
            context=context,
            readers=told.readers,
        ),
        lambda ref: frames.Replay(ref=ref, at_ms=at_ms, sequence=1, item=stated(order)),
        lambda ref: frames.Resume(ref=ref),
    ):
        assert isinstance(await client.answer(make), frames.Done)
    await client.closed()


async def nothing_is_revived(at: Installation, lost: Person, order: bytes) -> None:
    """The wiped device gets its order and neither its share nor anything else."""
    gone = await at.greeted(lost)
    assert isinstance(await gone.prove(), frames.Ordered)
    assert (await gone.expect(frames.Deliver)).body == stated(order)
    await gone.socket.close()


async def nothing_forks(ann: Member, told: Told, before: Group) -> None:
    """Numbers go on, and a Commit of the epoch that is over loses."""
    await ann.connect()
    number = await ann.say(told.conversation, b"after the restore")
    await ann.until(partial(ann.accepted.get, number))
    assert ann.accepted[number][1] > told.last
    talk = ann.talks[told.conversation]
    now, talk.group = talk.group, before
    late = await ann.stage(told.conversation)
    await ann.until(partial(ann.refused.get, late))
    assert ann.refused[late][0] is Code.COMMIT_CONFLICT
    talk.group = now


async def nothing_is_lost(bob: Member, told: Told, records: Mapping[int, frames.Deliver]) -> None:
    """What the backup lacks shows as a hole, and the archive has it."""
    await bob.connect()
    talk = bob.talks[told.conversation]
    await bob.until(lambda: max(talk.seen) > told.last)
    after = max(talk.seen)
    assert not talk.is_whole
    assert (after, told.last) in talk.jumps
    for number in range(talk.position + 1, told.last + 1):
        await bob.take(records[number])
    del talk.seen[after]
    await bob.take(bob.kept[told.conversation][after])
    texts = (b"before the backup", b"after the backup", b"in the second epoch")
    assert talk.shown == [*texts, b"after the restore"]
    assert talk.position == after


async def test_a_restored_relay_asks_the_archive_and_then_loses_forks_and_revives_nothing(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    administrator = of.enrol("chief/desk", Role.ADMINISTRATOR)
    async with (
        serving(tmp_path / "relay", of) as at,
        ward(at, "ann/phone", "bob/phone", "carl/phone", "chief/desk") as members,
    ):
        ann, bob, carl, _, recorder = members
        conversation = await assembled([ann, bob, recorder])
        await carl.ask(lambda ref: frames.StoreShare(ref=ref, share=SHARE, pin_proof=bytes(32)))
        await bob.disconnect()
        await ann.told(conversation, b"before the backup")
        await asyncio.to_thread(at.command, "backup", str(tmp_path / "old"))
        before = ann.talks[conversation].mls
        await ann.told(conversation, b"after the backup")
        await ann.change(conversation)
        await ann.told(conversation, b"in the second epoch")
        await recorder.sees(conversation, b"in the second epoch")
        order, at_ms = wipe_order(of, administrator, carl.person), now_ms()
        await restored(at, tmp_path / "old")
        for member in members:
            await member.lost()

        for member in (ann, bob, carl):
            assert await refused(at, member.person) is Code.RECONCILING
        last = recorder.talks[conversation].position
        readers = tuple(sorted(m.name for m in (ann, bob, recorder)))
        told = Told(conversation=conversation, last=last, epoch=2, readers=readers)
        await tell(recorder, told, ann.person, order=order, at_ms=at_ms)
        await nothing_is_revived(at, carl.person, order)
        await nothing_forks(ann, told, before)
        await nothing_is_lost(bob, told, recorder.kept[conversation])
        await recorder.connect()
        await recorder.sees(conversation, b"after the restore")

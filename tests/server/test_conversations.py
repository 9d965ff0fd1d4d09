"""Messages and Commits through a running relay."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from crypto.mls.protection import PADDING_BUCKETS_BYTES
from crypto.statement import StatementType
from protocol import frames, limits
from protocol.authenticated_data import AuthenticatedData, Priority
from protocol.errors import Code
from protocol.frames import EntryKind
from protocol.identifiers import ConversationId, DeviceId, conversation_log
from tests.server import harness
from tests.server.harness import Client


async def entries(client: Client, count: int) -> list[bytes]:
    """Return the bodies of the next messages that are delivered, without what is around them."""
    found: list[bytes] = []
    while len(found) < count:
        entry = await client.expect(frames.Deliver, lambda e: e.log[:1] == b"c")
        if entry.kind == EntryKind.MESSAGE:
            found.append(entry.body[-8:])
    return found


async def refused(client: Client, message: frames.Frame) -> frames.RefusedMessage:
    await client.send(message)
    return await client.expect(frames.RefusedMessage)


async def test_a_message_reaches_every_other_member_and_is_gone_when_all_have_it(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        clients, conversation = await site.meeting("ann/phone", "bob/phone")
        ann, bob, recorder = clients
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"the canary"))
        accepted = await ann.expect(frames.Accepted)
        log = conversation_log(conversation)
        for client in (bob, recorder):
            entry = await client.expect(frames.Deliver, lambda e: b"canary" in e.body)
            assert entry.log == log
            assert (entry.sequence,) == accepted.sequences
            assert entry.predecessor == entry.sequence - 1
        for client in clients:
            await client.send(frames.Acknowledge(log=log, through=entry.sequence))
            await client.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        await site.relay.store.settle()
        head = site.relay.store.head(site.key(log))
        assert head is not None
        assert head.entries == 0
    assert b"canary" not in (tmp_path / "relay.db").read_bytes()


async def test_a_repeat_gets_the_first_answer_and_is_delivered_once(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        message = harness.message(ann, conversation, epoch=1, body=b"only1234")
        answers = []
        for _ in range(3):
            await ann.send(message)
            answers.append((await ann.expect(frames.Accepted)).sequences)
        assert answers[0] == answers[1] == answers[2]
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"next1234"))
        assert await entries(bob, 2) == [b"only1234", b"next1234"]


async def test_one_answer_covers_what_one_sync_made_durable(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        for number in range(50):
            body = f"{number:08d}".encode()
            await ann.send(harness.message(ann, conversation, epoch=1, body=body))
        ids: list[int] = []
        sequences: list[int] = []
        while len(ids) < 50:
            accepted = await ann.expect(frames.Accepted)
            ids += accepted.message_ids
            sequences += accepted.sequences
        assert ids == sorted(ids)
        assert sequences == list(range(sequences[0], sequences[0] + 50))
        assert await entries(bob, 50) == [f"{number:08d}".encode() for number in range(50)]


@pytest.mark.parametrize("round_", range(20))
async def test_of_two_racing_commits_one_wins_and_the_other_learns_which(
    tmp_path: Path, round_: int
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        racers = [ann, bob] if round_ % 2 else [bob, ann]
        for client in racers:
            _, message = harness.commit_message(client, conversation, epoch=1, added=[], removed=[])
            await client.send(frames.AppendCommit(message=message, welcome=b""))
        outcomes = [await c.expect(frames.Frame, harness.is_verdict) for c in racers]
        won = [frame for frame in outcomes if isinstance(frame, frames.Accepted)]
        lost = [frame for frame in outcomes if isinstance(frame, frames.RefusedMessage)]
        assert len(won) == len(lost) == 1
        assert lost[0].code == Code.COMMIT_CONFLICT
        assert lost[0].detail == won[0].sequences[0]


async def test_messages_of_the_epoch_pass_until_the_receipt_and_not_after(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        sequence = await harness.commit(ann, conversation, epoch=1)
        await bob.send(harness.message(bob, conversation, epoch=1, body=b"meantime"))
        await bob.expect(frames.Accepted)
        early = await refused(bob, harness.message(bob, conversation, epoch=2))
        assert early.code == Code.STALE_EPOCH
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)
        late = await refused(bob, harness.message(bob, conversation, epoch=1))
        assert (late.code, late.detail) == (Code.STALE_EPOCH, 2)
        await bob.send(harness.message(bob, conversation, epoch=2, body=b"new1epoc"))
        await bob.expect(frames.Accepted)
        assert await entries(ann, 2) == [b"meantime", b"new1epoc"]


async def test_a_voided_commit_leaves_its_epoch_open(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        carl = await site.open(site.hospital.enrol("carl/phone"))
        sequence = await harness.commit(bob, conversation, epoch=1, added=[carl.person.name])
        welcome = await carl.expect(frames.Deliver, lambda e: e.log[:1] == b"i")
        assert welcome.kind == EntryKind.WELCOME
        answer = await harness.verdict(
            recorder,
            conversation,
            sequence=sequence,
            epoch=2,
            kind=StatementType.VOID,
            commit_hash=harness.staged_hash(site.relay, site.hospital, conversation),
        )
        assert isinstance(answer, frames.Done)
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"as ever1"))
        await ann.expect(frames.Accepted)
        assert await entries(bob, 1) == [b"as ever1"]
        again = await harness.commit(ann, conversation, epoch=1)
        await harness.confirm(recorder, conversation, sequence=again, epoch=2)


async def test_who_joins_gets_what_comes_from_the_receipt_on(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        carl = await site.open(site.hospital.enrol("carl/phone"))
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"before12"))
        sequence = await harness.commit(ann, conversation, epoch=1, added=[carl.person.name])
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"staged12"))
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)
        receipt = await carl.expect(frames.Deliver, lambda e: e.log[:1] == b"c")
        assert receipt.kind == EntryKind.RECEIPT
        await ann.send(harness.message(ann, conversation, epoch=2, body=b"after123"))
        assert await entries(carl, 1) == [b"after123"]
        await carl.send(harness.message(carl, conversation, epoch=2))
        await carl.expect(frames.Accepted)


async def test_who_is_removed_gets_the_commit_and_nothing_behind_it(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        sequence = await harness.commit(ann, conversation, epoch=1, removed=[bob.person.name])
        removal = await bob.expect(frames.Deliver, lambda e: e.kind == EntryKind.COMMIT)
        assert removal.sequence == sequence
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"staged12"))
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)
        ended = await bob.expect(frames.Ended)
        assert (ended.log, ended.code) == (conversation_log(conversation), Code.REMOVED)
        await ann.send(harness.message(ann, conversation, epoch=2, body=b"after123"))
        await ann.expect(frames.Accepted)
        assert (
            await refused(bob, harness.message(bob, conversation, epoch=2))
        ).code == Code.NO_SUCH
        await bob.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        assert not [e for e in bob.early if isinstance(e, frames.Deliver) and e.sequence > sequence]


async def test_what_was_held_back_comes_when_the_removal_is_voided(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        sequence = await harness.commit(ann, conversation, epoch=1, removed=[bob.person.name])
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"held1234"))
        await ann.expect(frames.Accepted)
        await harness.verdict(
            recorder,
            conversation,
            sequence=sequence,
            epoch=2,
            kind=StatementType.VOID,
            commit_hash=harness.staged_hash(site.relay, site.hospital, conversation),
        )
        assert await entries(bob, 1) == [b"held1234"]


async def test_no_such_and_not_yours_are_one_answer(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        _, conversation = await site.meeting("ann/phone", "bob/phone")
        eve = await site.open(site.hospital.enrol("eve/phone"))
        strange = secrets.token_bytes(32)
        for target in (conversation, strange):
            assert (await refused(eve, harness.message(eve, target, epoch=1))).code == Code.NO_SUCH
            _, commit = harness.commit_message(eve, target, epoch=1, added=[], removed=[])
            answer = await refused(eve, frames.AppendCommit(message=commit, welcome=b""))
            assert answer.code == Code.NO_SUCH


async def test_a_conversation_without_the_recorder_is_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        _, message = harness.commit_message(
            ann, secrets.token_bytes(32), epoch=0, added=[bob.person.name], removed=[]
        )
        welcome = b"\x00\x01\x00\x03"
        refusal = await refused(ann, frames.AppendCommit(message=message, welcome=welcome))
        assert refusal.code == Code.INVALID
        _, message = harness.commit_message(
            ann, conversation, epoch=1, added=[], removed=[recorder.person.name]
        )
        assert (
            await refused(ann, frames.AppendCommit(message=message, welcome=b""))
        ).code == Code.INVALID


async def test_a_commit_that_adds_an_unknown_device_is_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        _, message = harness.commit_message(
            ann, conversation, epoch=1, added=[DeviceId("nobody/phone")], removed=[]
        )
        welcome = b"\x00\x01\x00\x03"
        assert (
            await refused(ann, frames.AppendCommit(message=message, welcome=welcome))
        ).code == Code.INVALID


async def test_a_receipt_counts_from_the_recorder_alone_until_it_has_been_silent(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        sequence = await harness.commit(ann, conversation, epoch=1)

        async def receipt(client: Client) -> frames.Frame:
            return await harness.verdict(
                client,
                conversation,
                sequence=sequence,
                epoch=2,
                kind=StatementType.EPOCH_RECEIPT,
                commit_hash=harness.staged_hash(site.relay, site.hospital, conversation),
            )

        early = await receipt(bob)
        assert isinstance(early, frames.Refused)
        assert early.code == Code.FORBIDDEN
        site.later_ms += 10_000
        own = await receipt(ann)
        assert isinstance(own, frames.Refused)
        assert isinstance(await receipt(bob), frames.Done)


async def test_a_receipt_for_another_commit_has_no_effect(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        sequence = await harness.commit(ann, conversation, epoch=1)
        right = harness.staged_hash(site.relay, site.hospital, conversation)
        for changed in (
            {"sequence": sequence + 1, "epoch": 2, "commit_hash": right},
            {"sequence": sequence, "epoch": 3, "commit_hash": right},
            {"sequence": sequence, "epoch": 2, "commit_hash": bytes(32)},
        ):
            answer = await harness.verdict(
                recorder,
                conversation,
                kind=StatementType.EPOCH_RECEIPT,
                **changed,  # type: ignore[arg-type]
            )
            assert isinstance(answer, frames.Refused)
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)


async def test_what_waited_comes_in_order_and_the_most_urgent_conversation_first(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), routine = await site.meeting("ann/phone", "bob/phone")
        (_, _, _), urgent = await site.meeting("ann/phone", "bob/phone")
        ann = site.clients["ann/phone"]
        await site.clients["bob/phone"].socket.close()
        await bob.socket.close()
        for number in range(3):
            body = f"routine{number}".encode()
            await ann.send(harness.message(ann, routine, epoch=1, body=body))
        for number in range(2):
            body = f"urgent{number}{number}".encode()
            await ann.send(harness.message(ann, urgent, epoch=1, body=body, priority=Priority.STAT))
        await ann.expect(frames.Accepted, lambda a: ann.person.counter in a.message_ids)
        bob = await site.open(bob.person)
        expected = [b"urgent00", b"urgent11", b"routine0", b"routine1", b"routine2"]
        assert await entries(bob, 5) == expected


async def test_what_was_sent_survives_a_restart(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        await site.clients["bob/phone"].socket.close()
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"kept1234"))
        await ann.expect(frames.Accepted)
        sequence = await harness.commit(ann, conversation, epoch=1)
    async with harness.running(tmp_path, of) as site:
        bob = await site.open(of.people["bob/phone"])
        assert await entries(bob, 1) == [b"kept1234"]
        recorder = await site.open(of.people[harness.RECORDER])
        await harness.confirm(recorder, conversation, sequence=sequence, epoch=2)


async def test_a_slow_reader_holds_up_nobody_and_misses_nothing(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        stream = site.connection(bob).stream
        stream.pause_writing()  # type: ignore[attr-defined]
        for number in range(300):
            body = f"{number:08d}".encode()
            await ann.send(harness.message(ann, conversation, epoch=1, body=body))
            if number % 100 == 99:
                await ann.expect(frames.Accepted, lambda a: ann.person.counter in a.message_ids)
        assert site.connection(bob).behind
        stream.resume_writing()  # type: ignore[attr-defined]
        assert await entries(bob, 300) == [f"{number:08d}".encode() for number in range(300)]
        await ann.send(harness.message(ann, conversation, epoch=1, body=b"live1234"))
        assert await entries(bob, 1) == [b"live1234"]


async def test_only_owners_speak_in_an_announcement(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        site.make_announcement(conversation)
        refusal = await refused(bob, harness.message(bob, conversation, epoch=1))
        assert refusal.code == Code.FORBIDDEN
        await ann.send(harness.message(ann, conversation, epoch=1))
        await ann.expect(frames.Accepted)


async def test_a_message_that_cannot_be_read_ends_the_connection(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (_, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        data = AuthenticatedData(message_id=1)
        good = harness.private_message(conversation, data, epoch=1)
        ann = site.hospital.people["ann/phone"]
        for bad in (b"", good[:-1], good + b"x", harness.private_message(b"short", data, epoch=1)):
            client = await site.open(ann)
            await client.send(frames.Append(message=bad))
            assert (await client.closed()).code == Code.MALFORMED
        await bob.send(harness.message(bob, conversation, epoch=1))
        await bob.expect(frames.Accepted)


async def test_a_flood_of_messages_is_slowed_and_urgent_ones_pass(tmp_path: Path) -> None:
    rates = harness.Rates(messages=1.0, commits=1e4, connections=1e4)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        for _ in range(30):
            await ann.send(harness.message(ann, conversation, epoch=1))
        refusal = await ann.expect(frames.RefusedMessage)
        assert refusal.code == Code.RATE_LIMITED
        assert refusal.detail > 0
        urgent = harness.message(ann, conversation, epoch=1, priority=Priority.STAT)
        await ann.send(urgent)
        await ann.expect(frames.Accepted, lambda a: ann.person.counter in a.message_ids)


async def test_a_flood_of_commits_is_slowed_and_the_others_messages_pass(tmp_path: Path) -> None:
    rates = harness.Rates(messages=1e4, commits=1.0, connections=1e4)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        for _ in range(30):
            _, message = harness.commit_message(ann, conversation, epoch=1, added=[], removed=[])
            await ann.send(frames.AppendCommit(message=message, welcome=b""))
        # One epoch has one Commit; of the rest the rate refuses most before they are looked at.
        slowed = await ann.expect(frames.RefusedMessage, lambda r: r.code == Code.RATE_LIMITED)
        assert slowed.detail > 0
        await bob.send(harness.message(bob, conversation, epoch=1))
        await bob.expect(frames.Accepted)


async def test_routine_waits_and_stat_passes_where_the_archive_is_too_far_behind(
    tmp_path: Path,
) -> None:
    storage = harness.Storage(backlog_entries=5)
    async with harness.running(tmp_path, harness.hospital(), storage=storage) as site:
        (ann, _, recorder), conversation = await site.meeting("ann/phone", "bob/phone")
        await recorder.socket.close()
        for _ in range(6):
            await ann.send(harness.message(ann, conversation, epoch=1))
        await ann.expect(frames.Accepted, lambda a: ann.person.counter in a.message_ids)
        site.relay.look_at_archive()
        refusal = await refused(ann, harness.message(ann, conversation, epoch=1))
        assert refusal.code == Code.BACKLOG
        await ann.send(harness.message(ann, conversation, epoch=1, priority=Priority.STAT))
        await ann.expect(frames.Accepted, lambda a: ann.person.counter in a.message_ids)


async def test_the_largest_text_is_taken_and_a_larger_one_refused_by_its_id(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        largest = bytes(PADDING_BUCKETS_BYTES[-1] + 16)
        await ann.send(harness.message(ann, conversation, epoch=1, body=largest))
        await bob.expect(frames.Deliver, lambda e: e.body.endswith(largest))
        larger = harness.message(ann, conversation, epoch=1, body=bytes(limits.MESSAGE_BYTES))
        refusal = await refused(ann, larger)
        assert (refusal.code, refusal.detail) == (Code.OVERSIZED, limits.MESSAGE_BYTES)
        assert refusal.message_id == ann.person.counter


async def test_a_creation_that_is_refused_leaves_no_log(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        # Its certificate is in the directory, and it has no inbox for a Welcome yet.
        guest = site.hospital.enrol("bob/phone")
        await site.open(site.hospital.people[harness.RECORDER])
        organisation = site.relay.organisations[site.hospital.id]
        admission = organisation.admitted(guest.certificate, now_ms=site.relay.now_ms())
        organisation.trust = admission.trust
        organisation.keep(admission.device)
        conversation = ConversationId(bytes(32))
        key = site.key(conversation_log(conversation))
        joining = [guest.name, harness.RECORDER]
        number, message = harness.commit_message(
            ann, conversation, epoch=0, added=joining, removed=[]
        )
        await ann.send(frames.AppendCommit(message=message, welcome=b"\x00\x01\x00\x03w"))
        refusal = await ann.expect(frames.RefusedMessage)
        assert refusal.message_id == number
        await site.relay.settled()
        assert site.relay.store.head(key) is None
        await harness.commit(ann, conversation, epoch=0, added=[harness.RECORDER])


async def test_two_organisations_are_strictly_apart(tmp_path: Path) -> None:
    north, south = harness.hospital("North"), harness.hospital("South")
    async with harness.running(tmp_path, north, south) as site:
        (ann, _, _), conversation = await site.meeting("ann/phone", "bob/phone")
        stranger = south.enrol("ann/phone")
        client = await site.client(stranger, south)
        await client.greet()
        assert isinstance(await client.prove(), frames.Opened)
        refusal = await refused(client, harness.message(client, conversation, epoch=1))
        assert refusal.code == Code.NO_SUCH
        found = await client.answer(lambda ref: frames.Lookup(ref=ref, users=("bob",)))
        assert isinstance(found, frames.Directory)
        assert found.devices == ()
        await ann.send(harness.message(ann, conversation, epoch=1))
        await ann.expect(frames.Accepted)
        await asyncio.sleep(0)

"""The relay as a witness: what it cosigns only ever grew, across restarts and races."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from crypto.checkpoint import Checkpoint, sign_checkpoint, verify_cosignature
from crypto.errors import DecodeError
from crypto.note import NoteSignature, SignatureType, SignerKey, VerifierKey
from crypto.statement import Purpose, StatementType
from crypto.witness import AddCheckpoint
from protocol import frames
from protocol.commands import SetHolders, SetLogPolicy
from protocol.errors import Code
from protocol.identifiers import RoleName, UserName
from server import witness
from server.store import Change
from tests.crypto.log_of_leaves import Log, naive_root
from tests.flipped import flipped
from tests.server import harness
from tests.server.harness import Client, Site
from tests.server.test_control import signed, submit

KEY = SignerKey.generate("archive.example/log", SignatureType.ED25519)
LOG, OTHER = Log(40), Log(41)
OTHER.leaves[:] = [bytes([255 - leaf[0]]) + leaf[1:] for leaf in OTHER.leaves]


def asked(old: int, new: int, *, log: Log = LOG, key: SignerKey = KEY) -> AddCheckpoint:
    tree = log.tiled()
    root = naive_root(log.leaves[:new])
    note = sign_checkpoint(Checkpoint(origin=key.name, size=new, root=root), key)
    proof = type(tree)(size=new, source=log.source).consistency_proof(old) if old > 0 else ()
    return AddCheckpoint(old_size=old, proof=tuple(proof), note=note)


async def adding(client: Client, request: AddCheckpoint) -> frames.Frame:
    return await client.answer(lambda ref: frames.Witness(ref=ref, request=request.encode()))


async def key_of(client: Client) -> VerifierKey:
    answer = await client.answer(lambda ref: frames.GetWitnessKey(ref=ref))
    assert isinstance(answer, frames.WitnessKey)
    return VerifierKey.decode(answer.key)


async def recorder_of(site: Site) -> Client:
    return await site.open(site.hospital.people[harness.RECORDER])


async def named(site: Site, client: Client, *, version: int = 1) -> frames.Frame:
    """Let the authority name the log and this relay as its witness."""
    relay_key = await key_of(client)
    body = SetLogPolicy(
        version=version, log_key=KEY.verifier.encode(), witness_keys=(relay_key.encode(),)
    )
    statement = signed(site, StatementType.COMMAND, body.encode(), site.hospital.signatory())
    return await submit(client, statement)


def cosigned(answer: frames.Frame, request: AddCheckpoint, key: VerifierKey) -> None:
    assert isinstance(answer, frames.Cosigned), answer
    line = NoteSignature.decode(answer.signature.decode())
    verify_cosignature(request.note.with_signatures(line), key)


def refused(answer: frames.Frame) -> tuple[Code, int]:
    assert isinstance(answer, frames.Refused), answer
    return Code(answer.code), answer.detail


async def test_a_log_that_grows_is_cosigned_and_nothing_else_is(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await recorder_of(site)
        assert refused(await adding(recorder, asked(0, 5)))[0] is Code.NO_SUCH
        assert isinstance(await named(site, recorder), frames.Done)
        key = await key_of(recorder)
        for old, new in ((0, 5), (5, 9), (9, 9)):
            cosigned(await adding(recorder, asked(old, new)), asked(old, new), key)
        assert refused(await adding(recorder, asked(5, 12))) == (Code.STALE_CHECKPOINT, 9)
        forked = asked(9, 12, log=OTHER)
        assert refused(await adding(recorder, forked)) == (Code.FORKED_CHECKPOINT, 9)
        foreign = SignerKey.generate(KEY.name, SignatureType.ED25519)
        assert refused(await adding(recorder, asked(9, 12, key=foreign))) == (Code.INVALID, 9)
        garbage = await recorder.answer(lambda ref: frames.Witness(ref=ref, request=b"old"))
        assert refused(garbage)[0] is Code.INVALID


async def test_what_was_cosigned_is_known_after_a_restart(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        recorder = await recorder_of(site)
        await named(site, recorder)
        key = await key_of(recorder)
        cosigned(await adding(recorder, asked(0, 9)), asked(0, 9), key)
    async with harness.running(tmp_path, of) as site:
        recorder = await recorder_of(site)
        assert await key_of(recorder) == key
        assert refused(await adding(recorder, asked(0, 5, log=OTHER)))[0] is Code.STALE_CHECKPOINT
        cosigned(await adding(recorder, asked(9, 20)), asked(9, 20), key)


async def answer_to(client: Client, ref: int) -> frames.Frame:
    return await client.expect(frames.Frame, lambda frame: getattr(frame, "ref", 0) == ref)


async def test_of_two_histories_at_once_one_is_cosigned(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await recorder_of(site)
        await named(site, recorder)
        mine, theirs = asked(0, 9), asked(0, 9, log=OTHER)
        for ref, request in ((901, mine), (902, theirs), (903, mine)):
            await recorder.send(frames.Witness(ref=ref, request=request.encode()))
        answers = [await answer_to(recorder, ref) for ref in (901, 902, 903)]
        assert [isinstance(answer, frames.Cosigned) for answer in answers] == [True, False, False]
        assert refused(answers[1]) == (Code.STALE_CHECKPOINT, 9)


async def test_without_the_disk_nothing_is_cosigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await recorder_of(site)
        await named(site, recorder)
        durable = asyncio.Event()
        change = site.relay.store.change

        async def slowly(asked_for: Change[None]) -> None:
            await durable.wait()
            await change(asked_for)

        monkeypatch.setattr(site.relay.store, "change", slowly)
        await recorder.send(frames.Witness(ref=77, request=asked(0, 9).encode()))
        await asyncio.sleep(0.05)
        site.relay.delivery.nudge(site.hospital.id, [])
        assert not [frame for frame in recorder.early if isinstance(frame, frames.Cosigned)]
        assert site.relay.organisations[site.hospital.id].tree_heads == {}
        durable.set()
        await recorder.expect(frames.Cosigned)


async def test_the_log_policy_is_the_authoritys_and_counts_up(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await recorder_of(site)
        assert isinstance(await named(site, recorder, version=1), frames.Done)
        assert refused(await named(site, recorder, version=1))[0] is Code.INVALID
        # A log that was begun anew after a restore leaves out what devices may know.
        assert isinstance(await named(site, recorder, version=7), frames.Done)
        assert refused(await named(site, recorder, version=6))[0] is Code.INVALID


def test_a_key_is_its_owners_and_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "witness.key"
    witness.create_key(path)
    assert not path.stat().st_mode & 0o077
    first = witness.read_key(path)
    assert first.kind is SignatureType.COSIGNATURE
    with pytest.raises(FileExistsError):
        witness.create_key(path)
    assert witness.read_key(path) == first
    path.write_text(KEY.encode())
    with pytest.raises(DecodeError):
        witness.read_key(path)


async def test_the_newest_statement_of_each_name_stands_and_is_given_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        recorder = await recorder_of(site)
        for version in (1, 2, 3):
            assert isinstance(await named(site, recorder, version=version), frames.Done)
        await stating(site, recorder, "icu", "er", "icu")
    monkeypatch.setattr("protocol.limits.STANDING_BYTES", 1)
    async with harness.running(tmp_path, of) as site:
        ann = await site.open(of.enrol("ann/phone"))
        found: list[frames.StandingEntry] = []
        for left in (2, 1, 0):
            after = found[-1].number if found else 0
            answer = await ann.answer(partial(standing, after=after))
            assert isinstance(answer, frames.Statements)
            assert (len(answer.entries), answer.more) == (1, left > 0)
            found += answer.entries
        assert [entry.number for entry in found] == [3, 5, 6]
        texts = (b"archive.example/log", b"er", b"icu")
        assert all(text in one.statement for text, one in zip(texts, found, strict=True))
        assert all(0 < one.at_ms <= site.relay.now_ms() for one in found)
        # Behind a number that was never given there is everything.
        answer = await ann.answer(partial(standing, after=found[-1].number + 1))
        assert isinstance(answer, frames.Statements)
        assert answer.entries == tuple(found[:1])


def standing(ref: int, *, after: int) -> frames.Standing:
    return frames.Standing(ref=ref, after=after)


async def stating(site: Site, recorder: Client, *roles: str) -> None:
    """Let the authority say who holds each role, in this order."""
    for number, role in enumerate(roles):
        body = SetHolders(role=RoleName(role), users=(UserName(f"u{number}"),))
        statement = signed(site, StatementType.COMMAND, body.encode(), site.hospital.signatory())
        assert isinstance(await submit(recorder, statement), frames.Done)


@pytest.mark.parametrize("to_recorder", [True, False])
async def test_a_recorder_and_a_device_state_to_each_other_what_is_theirs(
    tmp_path: Path, *, to_recorder: bool
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        recorder = await recorder_of(site)
        sender, receiver = (ann, recorder) if to_recorder else (recorder, ann)
        kind = StatementType.DEVICE_REQUEST if to_recorder else StatementType.ARCHIVED
        purpose = Purpose.DEVICE if to_recorder else Purpose.RECORDER
        statement = signed(site, kind, b"body", sender.person.signatory(purpose))
        item = harness.stated(statement)
        log = b"i" + receiver.person.name.encode()
        answer = await sender.answer(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        assert isinstance(answer, frames.Done)
        await receiver.expect(frames.Deliver, lambda e: e.body == item)
        spoilt = flipped(item)
        wrong = await sender.answer(lambda ref: frames.Post(ref=ref, log=log, statement=spoilt))
        assert refused(wrong)[0] is Code.INVALID
        back = b"i" + sender.person.name.encode()
        other = await receiver.answer(lambda ref: frames.Post(ref=ref, log=back, statement=item))
        assert refused(other)[0] in {Code.NO_SUCH, Code.INVALID}

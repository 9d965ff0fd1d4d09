"""Frames that are malformed, out of state, repeated or wrong: an answer, and no effect."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from protocol import frames, limits
from protocol.audit import EventKind, decode_event
from protocol.authenticated_data import AuthenticatedData, CommitData, Priority
from protocol.errors import Code
from protocol.frames import EntryKind, Frame, Sender
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    DeviceId,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.proof import connection_proof
from protocol.session import TABLE, State
from server import accounts, posts
from tests.adversary.states import PASSING, REACH
from tests.adversary.witness import Ward, closing, picture, refusal, ward
from tests.protocol.strategies import example_frame
from tests.server import harness
from tests.server.harness import Client
from tests.server.test_accounts import PASSWORD, PROOF, SHARE, code, enrolled, locked, with_share
from tests.server.test_control import administrator, wipe


def test_every_state_that_a_client_meets_is_attacked() -> None:
    assert set(REACH) | PASSING == set(State)


@pytest.mark.parametrize("state", REACH, ids=lambda state: str(state.value))
async def test_what_the_table_does_not_allow_ends_the_connection_and_changes_nothing(
    tmp_path: Path, state: State
) -> None:
    forbidden = [kind for kind in frames.FRAMES if kind not in TABLE[state]]
    forbidden += [kind for kind in frames.FRAMES if kind.sender is Sender.RELAY]
    async with ward(tmp_path) as there:
        for kind in dict.fromkeys(forbidden):
            client = await REACH[state](there.site)
            before = await picture(there.site)
            await client.socket.send(frames.encode(example_frame(kind)))
            expected = Code.MALFORMED if kind.sender is Sender.RELAY else Code.OUT_OF_STATE
            assert closing(await client.closed()) is expected, kind
            assert await picture(there.site) == before, kind
            harness.owe(there.site, told=True)
        recorder = there.recorder
        if state is State.RECONCILING:
            # There is one recorder, and its newest connection counts.
            recorder = await there.site.open(recorder.person)
        await there._replace(recorder=recorder).is_served()


def _deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


_ACKNOWLEDGE = frames.encode(frames.Acknowledge(log=b"o", through=1))
_pack = msgspec.msgpack.encode
MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "one octet": b"\xff",
    "an empty array": b"\x90",
    "a map": _pack({"type": 8}),
    "a number": _pack(8),
    "an unknown tag": _pack([99]),
    "a negative tag": _pack([-1]),
    "a huge tag": _pack([1 << 63]),
    "a tag of text": _pack(["Append", b"x"]),
    "a boolean tag": _pack([True, b"o", 1]),
    "too few fields": _pack([8, b"o"]),
    "too many fields": _pack([8, b"o", 1, 1]),
    "text for bytes": _pack([8, "o", 1]),
    "bytes for text": _pack([9, 1, [b"ann"]]),
    "a fraction": _pack([8, b"o", 1.5]),
    "not a number": _pack([8, b"o", float("nan")]),
    "a negative number": _pack([8, b"o", -1]),
    "a number of 65 bits": b"\x93\x08\xc4\x01o\xcf" + b"\xff" * 8,
    "nil": _pack([8, b"o", None]),
    "cut short": _ACKNOWLEDGE[:-1],
    "something behind": _ACKNOWLEDGE + b"\x00",
    "two frames in one": _ACKNOWLEDGE * 2,
    "a longer number": _ACKNOWLEDGE[:-1] + b"\xcc\x01",
    "a longer array": b"\xdc\x00\x03" + _ACKNOWLEDGE[1:],
    "a length of 4 GB": b"\x92\x05\xc6\xff\xff\xff\xff",
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "names of 4 billion": b"\x93\x09\x01\xdd\xff\xff\xff\xff",
    "an extension": b"\x92\x05\xc7\x01\x05x",
    "a time": b"\x92\x05\xd6\xff\x00\x00\x00\x00",
    "text that is no UTF-8": b"\x93\x09\x01\x91\xa2\xff\xfe",
    "a surrogate": b"\x93\x09\x01\x91\xa3\xed\xa0\x80",
    "nested deeply": _deep(100_000),
    "deep in a field": b"\x92\x05" + _deep(100_000),
    "a log without a name": _pack([8, b"", 1]),
    "a log of 99 bytes": _pack([8, bytes(99), 1]),
    "a message over its limit": _pack([5, bytes(limits.COMMIT_BYTES + 1)]),
    "a statement over its limit": _pack([12, 1, bytes(limits.STATEMENT_BYTES + 1)]),
    "too many names": _pack([9, 1, ["a"] * (limits.LOOKUP_DEVICES + 1)]),
    "too many key packages": _pack([10, 1, [b""] * (limits.KEY_PACKAGES + 1), b""]),
    "a short proof": _pack([14, 1, bytes(31)]),
    "a long password": _pack([4, 1, "a" * (limits.PASSWORD_MAX + 1), "123456"]),
}


@pytest.mark.parametrize("state", [State.START, State.OPEN], ids=["stranger", "device"])
async def test_what_is_no_frame_ends_the_connection_and_changes_nothing(
    tmp_path: Path, state: State
) -> None:
    async with ward(tmp_path) as there:
        for name, data in MALFORMED.items():
            client = await REACH[state](there.site)
            before = await picture(there.site)
            await client.socket.send(data)
            expected = Code.MALFORMED if len(data) < 90_000 or state is State.OPEN else None
            assert closing(await client.closed()) is (expected or Code.TOO_LARGE), name
            assert await picture(there.site) == before, name
        await there.is_served()


def _message(there: Ward, data: AuthenticatedData, *, epoch: int = 1, kind: int = 1) -> Frame:
    return frames.Append(
        message=harness.private_message(there.conversation, data, epoch=epoch, kind=kind)
    )


def _commit(there: Ward, *, epoch: int = 1, welcome: bytes = b"", **change: object) -> Frame:
    data = AuthenticatedData(
        message_id=there.ann.person.next_id(),
        commit=CommitData(**change),  # type: ignore[arg-type]
    )
    message = harness.private_message(there.conversation, data, epoch=epoch, kind=3)
    return frames.AppendCommit(message=message, welcome=welcome)


def _own(there: Ward) -> AuthenticatedData:
    return AuthenticatedData(message_id=there.ann.person.next_id())


def _other_context(there: Ward, **change: object) -> Frame:
    context = harness.context(there.site.hospital, "ann")
    return _commit(there, context=dataclasses.replace(context, **change))  # type: ignore[arg-type]


_WELCOME = b"\x00\x01\x00\x03welcome"
_RECORDER, _NOBODY = DeviceId("archive/recorder"), DeviceId("nobody/phone")
REFUSED: dict[str, tuple[Code, Callable[[Ward], Frame]]] = {
    "an epoch that is over": (Code.STALE_EPOCH, lambda w: _message(w, _own(w), epoch=0)),
    "an epoch to come": (Code.STALE_EPOCH, lambda w: _message(w, _own(w), epoch=2)),
    "the last epoch": (Code.STALE_EPOCH, lambda w: _message(w, _own(w), epoch=(1 << 63) - 1)),
    "a Commit in a past epoch": (Code.COMMIT_CONFLICT, lambda w: _commit(w, epoch=0)),
    "a Commit in a coming epoch": (Code.COMMIT_CONFLICT, lambda w: _commit(w, epoch=2)),
    "the recorder's removal": (Code.INVALID, lambda w: _commit(w, removed=(_RECORDER,))),
    "a removal of everybody": (
        Code.INVALID,
        lambda w: _commit(w, removed=(DeviceId("ann/phone"), _RECORDER, DeviceId("bob/phone"))),
    ),
    "a stranger's removal": (Code.INVALID, lambda w: _commit(w, removed=(_NOBODY,))),
    "a stranger's admission": (
        Code.INVALID,
        lambda w: _commit(w, added=(_NOBODY,), welcome=_WELCOME),
    ),
    "an admission without a Welcome": (
        Code.INVALID,
        lambda w: _commit(w, added=(DeviceId("bob/phone"),)),
    ),
    "a Welcome for nobody": (Code.INVALID, lambda w: _commit(w, welcome=_WELCOME)),
    "another recorder": (
        Code.INVALID,
        lambda w: _other_context(w, recorder=DeviceId("ann/phone")),
    ),
    "another organisation": (Code.INVALID, lambda w: _other_context(w, organisation=bytes(32))),
}


@pytest.mark.parametrize("attack", REFUSED)
async def test_a_message_that_breaks_a_rule_is_refused_and_changes_nothing(
    tmp_path: Path, attack: str
) -> None:
    expected, make = REFUSED[attack]
    async with ward(tmp_path) as there:
        before = await picture(there.site)
        await there.ann.send(make(there))
        answer = await there.ann.expect(frames.RefusedMessage)
        assert answer.message_id == there.ann.person.counter
        assert refusal(answer) is expected
        assert await picture(there.site) == before
        await there.is_served()


def _raw(there: Ward) -> bytes:
    return harness.private_message(there.conversation, _own(there), epoch=1)


def _data(there: Ward, encoded: bytes) -> bytes:
    class Given(AuthenticatedData, frozen=True):
        def encode(self) -> bytes:
            return encoded

    return harness.private_message(there.conversation, Given(message_id=1), epoch=1)


def _head(there: Ward, *, message_id: int, previous: int = 0, priority: int = 2) -> bytes:
    numbers = message_id.to_bytes(8, "big") + previous.to_bytes(8, "big")
    return _data(there, bytes([1, priority, 0, 0]) + numbers + b"\x00\x00\x00")


UNREADABLE: dict[str, Callable[[Ward], bytes]] = {
    "nothing": lambda _: b"",
    "cut short": lambda w: _raw(w)[:-1],
    "something behind": lambda w: _raw(w) + b"x",
    "a PublicMessage": lambda w: b"\x00\x01\x00\x01" + _raw(w)[4:],
    "another version": lambda w: b"\x00\x02" + _raw(w)[2:],
    "no known content": lambda w: _raw(w)[:45] + b"\x04" + _raw(w)[46:],
    "an epoch of 64 bits": lambda w: _raw(w)[:37] + b"\xff" * 8 + _raw(w)[45:],
    "a Commit as a message": lambda w: _raw(w)[:45] + b"\x03" + _raw(w)[46:],
    "number nought": lambda w: _head(w, message_id=0),
    "a number before its predecessor": lambda w: _head(w, message_id=1, previous=1),
    "a number of 64 bits": lambda w: _head(w, message_id=(1 << 64) - 1),
    "the last number of 63 bits": lambda w: _head(w, message_id=(1 << 63) - 1),
    "no known priority": lambda w: _head(w, message_id=1, priority=9),
    "no authenticated data": lambda w: _data(w, b""),
}


async def test_a_message_that_cannot_be_read_ends_the_connection(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        person = there.ann.person
        for name, make in UNREADABLE.items():
            before = await picture(there.site)
            ann = await there.site.open(person)
            await ann.send(frames.Append(message=make(there)))
            assert closing(await ann.closed()) is Code.MALFORMED, name
            assert await picture(there.site) == before, name
        ann = await there.site.open(person)
        await there._replace(ann=ann).is_served()


async def test_the_largest_message_number_is_answered_legibly(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        (ann, *_), other = await there.site.meeting("ann/phone", "carl/phone")
        data = AuthenticatedData(message_id=(1 << 63) - 2)
        await ann.send(_message(there, data))
        await ann.expect(frames.Accepted, lambda a: data.message_id in a.message_ids)
        message = harness.private_message(other, data, epoch=1)
        await ann.send(frames.Append(message=message))
        assert refusal(await ann.expect(frames.RefusedMessage)) is Code.OLD_MESSAGE


async def test_a_number_out_of_the_window_is_refused_and_a_repeat_is_not_delivered(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path) as there:
        first = harness.message(there.ann, there.conversation, epoch=1, body=b"first one")
        await there.ann.send(first)
        placed = await there.ann.expect(frames.Accepted)
        for _ in range(limits.IN_FLIGHT_MESSAGES):
            await there.ann.send(harness.message(there.ann, there.conversation, epoch=1))
        last = there.ann.person.counter
        await there.ann.expect(frames.Accepted, lambda a: last in a.message_ids)
        before = await picture(there.site)
        await there.ann.send(first)
        answer = await there.ann.expect(frames.RefusedMessage)
        assert (answer.message_id, refusal(answer)) == (placed.message_ids[0], Code.OLD_MESSAGE)
        again = harness.private_message(
            there.conversation, AuthenticatedData(message_id=last), epoch=1, body=b"another"
        )
        await there.ann.send(frames.Append(message=again))
        await there.ann.expect(frames.Accepted, lambda a: a.message_ids == (last,))
        assert await picture(there.site) == before
        await there.is_served()
        assert not [f for f in there.bob.early if getattr(f, "body", b"").endswith(b"another")]


async def test_all_that_a_device_once_sent_is_worth_nothing_on_another_connection(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path) as there:
        ann = there.ann
        assert ann.hello is not None
        assert ann.challenge is not None
        proof = proof_of(ann)
        before = await picture(there.site)
        eve = await there.site.client(there.site.hospital.enrol("eve/phone"))
        await eve.socket.send(frames.encode(ann.hello))
        await eve.socket.send(frames.encode(proof))
        await eve.socket.send(frames.encode(_message(there, _own(there))))
        answers = [
            frames.decode(await eve.socket.recv(decode=False), sender=Sender.RELAY)
            for _ in range(2)
        ]
        assert isinstance(answers[0], frames.Challenge)
        assert closing(answers[1]) in (Code.NOT_PROVED, Code.OUT_OF_STATE)
        assert await picture(there.site) == before
        await there.is_served()


def proof_of(client: Client) -> frames.Prove:
    assert client.hello is not None
    assert client.challenge is not None
    proof = connection_proof(client.hello, client.challenge)
    return frames.Prove(
        connection_signature=client.person.keys.connection_key.sign(proof),
        device_signature=client.device_signature(),
    )


async def audited(site: harness.Site, kind: EventKind) -> int:
    """Return how often an event stands in the audit log."""
    key, after, found = site.key(AUDIT_LOG), 0, 0
    await site.relay.store.settle()
    page = await site.relay.store.read(
        key, harness.RECORDER, after=after, entries_max=10_000, bytes_max=1 << 24
    )
    for entry in page.entries:
        found += decode_event(entry.body).kind is kind
    return found


async def test_passwords_and_codes_are_guessed_slowly_from_however_many_connections(
    tmp_path: Path,
) -> None:
    rates = harness.Rates(secrets=0.02, connections=1e4, requests=1e4)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        person, secret = await enrolled(site)
        site.relay._secrets_tries._rest_at_s.clear()
        site.frozen = True  # A slow machine would wait the pause out between two tries.
        answers = []
        for number in range(12):
            client = await (site.open(person) if number % 2 else locked(site, person))
            answers.append(
                await client.answer(
                    lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code="000000")
                )
            )
        assert {refusal(answer) for answer in answers} == {Code.WRONG_SECRET}
        assert 0 < await audited(site, EventKind.PASSWORD_WRONG) <= accounts.FREE_TRIES
        account = await site.relay.secrets.account(site.hospital.id, UserName("ann"))
        assert account is not None
        assert account.failures == accounts.FREE_TRIES
        right = await client.answer(
            lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code=code(site, secret))
        )
        assert refusal(right) is Code.WRONG_SECRET


async def test_two_proofs_with_one_code_at_once_count_once(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        ann = await site.open(person)
        one_time = code(site, secret)
        for ref in (1, 2, 3):
            await ann.send(frames.Authenticate(ref=ref, password=PASSWORD, code=one_time))
        answers = [
            await ann.expect(Frame, lambda f: isinstance(f, frames.Done | frames.Refused))
            for _ in range(3)
        ]
        assert sum(isinstance(answer, frames.Done) for answer in answers) <= 1


async def test_wrong_pins_that_come_at_once_are_counted_one_by_one(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        await with_share(site, person)
        client = await locked(site, person)
        for ref in range(30):
            await client.send(frames.GetShare(ref=ref, pin_proof=os.urandom(32)))
        await client.send(frames.GetShare(ref=30, pin_proof=PROOF))
        answers = [await client.expect(frames.Refused) for _ in range(31)]
        assert {refusal(answer) for answer in answers} <= {Code.WRONG_PIN, Code.BUSY}
        share = await site.relay.secrets.share(site.hospital.id, person.name)
        assert share is not None
        assert (share.share, share.failures) == (SHARE, accounts.FREE_TRIES)


async def test_a_locked_device_moves_no_cursor_but_its_inboxs(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        await there.ann.send(harness.message(there.ann, there.conversation, epoch=1))
        await there.ann.expect(frames.Accepted)
        bob = await locked(there.site, there.bob.person)
        before = await picture(there.site)
        for log in (conversation_log(there.conversation), CONTROL_LOG, AUDIT_LOG):
            await bob.send(frames.Acknowledge(log=log, through=1 << 60))
        await bob.answer(lambda ref: frames.GetShare(ref=ref, pin_proof=bytes(32)))
        assert await picture(there.site) == before
        assert not [f for f in bob.early if isinstance(f, frames.Deliver)]


async def test_a_revoked_device_gets_its_order_and_nothing_else(tmp_path: Path) -> None:
    async with ward(tmp_path) as there:
        site, chief = there.site, await administrator(there.site)
        inbox = site.key(inbox_log(there.bob.person.name))
        await posts.append_own(site.relay, inbox, _WELCOME, kind=EntryKind.WELCOME)
        order = wipe(site, chief.person, there.bob.person, complete=True)
        done = await chief.answer(lambda ref: frames.Command(ref=ref, statement=order))
        assert isinstance(done, frames.Done)
        await there.ann.send(
            harness.message(there.ann, there.conversation, epoch=1, priority=Priority.STAT)
        )
        bob = await site.client(there.bob.person)
        await bob.greet()
        assert isinstance(await bob.prove(), frames.Ordered)
        delivered = await bob.expect(frames.Deliver)
        assert (delivered.body, delivered.log) == (harness.stated(order), inbox.id)
        for log in (conversation_log(there.conversation), CONTROL_LOG, inbox_log(_RECORDER)):
            for statement in (b"", order, there.bob.person.certificate):
                answer = await bob.answer(
                    lambda ref, log=log, statement=statement: frames.Post(  # type: ignore[misc]
                        ref=ref, log=log, statement=statement
                    )
                )
                assert refusal(answer) in (Code.NO_SUCH, Code.INVALID)
        assert not bob.early

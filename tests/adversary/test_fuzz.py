"""Frames, messages and statements that were mutated: a value or a documented error, nothing else.

``make fuzz`` runs these with the properties of the other tests, ``DEPTH`` times as long: a million
frames against the session and fifty thousand through sockets with its default.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from crypto.errors import DecodeError, InvalidError
from crypto.names import Role
from protocol import commands, frames
from protocol.audit import AuditEvent, EventKind, decode_event
from protocol.authenticated_data import AuthenticatedData, CommitData, Priority
from protocol.errors import MEANINGS, Code, RemoteProtocolError
from protocol.frames import Frame, Sender
from protocol.group_context import WardlineContext
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName, log_id
from protocol.policy import Action, Policy
from protocol.routing import check_welcome, route
from protocol.session import TABLE, Session, State
from server.connection import Connection
from tests.adversary.mutation import mutated
from tests.adversary.states import REACH
from tests.adversary.witness import Ward, picture, ward
from tests.depth import DEPTH
from tests.protocol.strategies import example_context, example_frame
from tests.server import harness
from tests.server.harness import Client, Site

SESSION_FRAMES = 50_000 * DEPTH
SOCKET_FRAMES = 2_500 * DEPTH
DECODER_INPUTS = 2_000 * DEPTH
SEEDS = 4
FRAMES_A_CONNECTION = 40


def corpus(sender: Sender) -> list[bytes]:
    return [frames.encode(example_frame(kind)) for kind in frames.FRAMES if kind.sender is sender]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_session_takes_any_frame_or_says_why_not(seed: int) -> None:
    random = Random(seed)
    base = {sender: corpus(sender) for sender in Sender}
    both = base[Sender.CLIENT] + base[Sender.RELAY]
    states = list(State)
    for number in range(SESSION_FRAMES // SEEDS):
        us = Sender.RELAY if number % 4 else Sender.CLIENT
        peer = Sender.CLIENT if us is Sender.RELAY else Sender.RELAY
        data = mutated(random, random.choice(base[peer]), both)
        session = Session(us)
        session.state = before = random.choice(states)
        try:
            frame = session.receive(data)
        except RemoteProtocolError as error:
            told, stays = MEANINGS[error.code].closes, session.state is before
            assert (told, stays) == (True, True)
        else:
            assert session.state is TABLE[before][type(frame)]
            assert frames.encode(frame) == data


def _messages() -> list[bytes]:
    conversation = bytes(range(32))
    data = AuthenticatedData(message_id=7, previous_id=6, priority=Priority.STAT)
    change = _of_commit()
    return [
        harness.private_message(conversation, data, epoch=3),
        harness.private_message(conversation, change, epoch=0, kind=3),
    ]


def _of_commit() -> AuthenticatedData:
    change = CommitData(added=(DeviceId("ann/phone"), DeviceId("bob/phone")), removed=())
    return AuthenticatedData(message_id=8, commit=change)


_users = (UserName("ann"), UserName("bob"))
_COMMANDS: list[commands.Command] = [
    commands.RemoveUser(user=_users[0]),
    commands.ResetAccount(user=_users[0]),
    commands.SetPolicy(
        policy=Policy(version=1, rights={Action.ATTACH: frozenset({Role.RECORDER})})
    ),
    commands.SetHolders(role=RoleName("icu"), users=_users),
    commands.ChangeMembers(conversation=ConversationId(bytes(32)), added=_users, removed=()),
]
_VERDICT = commands.CommitVerdict(
    conversation=ConversationId(bytes(32)),
    sequence=1,
    epoch=1,
    commit_hash=bytes(32),
    confirmed_transcript_hash=bytes(32),
)
_DEVICE = DeviceId("ann/phone")


def _encodes(value: Any) -> bytes:
    encoded = value.encode()
    assert isinstance(encoded, bytes)
    return encoded


DECODERS: dict[str, tuple[Callable[[bytes], object], list[bytes], bool]] = {
    "message": (route, _messages(), False),
    "Welcome": (check_welcome, [b"\x00\x01\x00\x03welcome"], False),
    "authenticated data": (
        AuthenticatedData.decode,
        [_of_commit().encode(), AuthenticatedData(message_id=1).encode()],
        True,
    ),
    "context": (WardlineContext.decode, [example_context().encode()], True),
    "command": (commands.decode_command, [one.encode() for one in _COMMANDS], True),
    "suspension": (
        commands.decode_suspension,
        [commands.Suspension(devices=(_DEVICE,), lifted=True).encode()],
        True,
    ),
    "wipe order": (
        commands.decode_wipe_order,
        [
            commands.WipeOrder(
                device=_DEVICE, connection_key=bytes(32), reason=commands.WipeReason.LOST
            ).encode()
        ],
        True,
    ),
    "wipe receipt": (
        commands.decode_wipe_receipt,
        [commands.WipeReceipt(device=_DEVICE, order=bytes(32)).encode()],
        True,
    ),
    "verdict": (commands.decode_verdict, [_VERDICT.encode()], True),
    "audit event": (
        decode_event,
        [AuditEvent(kind=EventKind.OPENED, at_ms=1, device=_DEVICE).encode()],
        True,
    ),
    "log": (log_id, [b"o", b"a", b"c" + bytes(32), b"iann/phone"], False),
}


@pytest.mark.parametrize("name", DECODERS)
def test_what_arrives_inside_a_frame_decodes_or_is_a_documented_error(name: str) -> None:
    read, base, encodes = DECODERS[name]
    random = Random(name)
    for data in base:
        read(data)
    for _ in range(DECODER_INPUTS):
        data = mutated(random, random.choice(base), base)
        try:
            value = read(data)
        except (DecodeError, InvalidError):
            continue
        if encodes:
            assert _encodes(value) == data


class Counted:
    """How many frames the relay's connections were handed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.frames = 0
        receive = Connection.receive

        def counting(connection: Connection, payload: bytes) -> None:
            self.frames += 1
            receive(connection, payload)

        patch.setattr(Connection, "receive", counting)


def _aimed(there: Ward, client: Client) -> list[bytes]:
    """Return valid frames that aim at what is there."""
    conversation, log = there.conversation, b"c" + there.conversation
    _, commit = harness.commit_message(
        client, conversation, epoch=1, added=[], removed=[there.bob.person.name]
    )
    made: list[Frame] = [
        harness.message(client, conversation, epoch=1),
        frames.AppendCommit(message=commit, welcome=b""),
        frames.Acknowledge(log=log, through=1),
        frames.Post(ref=1, log=log, statement=harness.certified(there.ann.person.certificate)),
        frames.Post(
            ref=2, log=b"ibob/phone", statement=harness.certified(there.bob.person.certificate)
        ),
        frames.Command(ref=3, statement=there.bob.person.certificate),
        frames.Lookup(ref=4, users=("ann", "bob")),
        frames.ClaimKeyPackage(ref=5, device="bob/phone"),
    ]
    return [frames.encode(frame) for frame in made]


async def _reached(site: Site, state: State) -> Client:
    """Reach a state, with a device that is known already where one can: enrolling takes long."""
    if state not in (State.START, State.CHALLENGED, State.OPEN, State.LOCKED):
        return await REACH[state](site)
    known = site.hospital.people.get("eve/phone") or site.hospital.enrol("eve/phone")
    client = await site.client(known)
    if state is not State.START:
        await client.greet()
    if state in (State.OPEN, State.LOCKED):
        await client.prove(unlocked=state is State.OPEN)
    return client


async def _hostile(there: Ward, random: Random, state: State, base: list[bytes]) -> None:
    """Send mutated frames on one connection until it is closed, and read what is answered."""
    client = await _reached(there.site, state)
    own = base + (_aimed(there, client) if state is State.OPEN else [])
    with suppress(ConnectionClosed):
        for _ in range(FRAMES_A_CONNECTION):
            await client.socket.send(mutated(random, random.choice(own), own))
            await asyncio.sleep(0)
        await client.socket.close()
    with suppress(ConnectionClosed):
        async for data in client.socket:
            assert isinstance(data, bytes)
            frame = frames.decode(data, sender=Sender.RELAY)
            if isinstance(frame, frames.Refused | frames.RefusedMessage | frames.Close):
                assert MEANINGS[Code(frame.code)].closes is isinstance(frame, frames.Close)


@pytest.mark.parametrize("seed", range(2))
async def test_a_relay_takes_any_frame_from_any_connection_or_says_why_not(
    tmp_path: Path,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    random, counted = Random(seed), Counted(monkeypatch)
    faults: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: faults.append(context["message"]))
    states = [State.START, State.CHALLENGED, State.OPEN, State.LOCKED, State.ENROLLING]
    async with ward(tmp_path) as there:
        theirs = {there.site.key(log_id(b"c" + there.conversation)), there.site.key(log_id(b"o"))}
        before = await picture(there.site)
        while counted.frames < SOCKET_FRAMES // 2:
            await _hostile(
                there, random, random.choices(states, (3, 1, 8, 3, 1))[0], corpus(Sender.CLIENT)
            )
        after = await picture(there.site)
        assert {k: after.heads[k] for k in theirs} == {k: before.heads[k] for k in theirs}
        for at, place in before.cursors.items():
            assert after.cursors[at] == place
        assert not faults
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
        await there.is_served()

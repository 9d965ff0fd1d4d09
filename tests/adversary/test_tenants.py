"""Two organisations on one relay: nothing of one is seen, guessed or touched from the other.

Each attack is made twice, at what the other organisation has and at what nobody has. The answers
must be alike to the last field, and the other organisation as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from crypto.attachment_layout import STREAM_SIZES
from crypto.names import Role
from crypto.statement import Purpose, StatementType
from protocol import frames
from protocol.commands import CommitVerdict, RemoveUser
from protocol.errors import Code
from protocol.frames import Frame
from protocol.identifiers import ConversationId, DeviceId, UserName, conversation_log, inbox_log
from tests.adversary.witness import Ward, closing, picture, refusal, ward
from tests.server import harness
from tests.server.harness import Client, Hospital, Person, Site

SEALED = bytes(STREAM_SIZES[0])


class Aim(NamedTuple):
    """What an attack is aimed at: things of the other organisation, or of nobody."""

    conversation: ConversationId
    commit_hash: bytes
    user: str
    device: DeviceId
    attachment: str
    foreigner: Person
    foreign_home: Hospital


async def opened(site: Site, home: Hospital, name: str, *roles: Role) -> Client:
    person = home.people.get(name) or home.enrol(name, *roles)
    client = await site.client(person, home)
    await client.greet()
    answer = await client.prove()
    assert isinstance(answer, frames.Opened)
    client.token = answer.token
    return client


def web(site: Site, client: Client) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{site.port}",
        headers={"Authorization": f"Bearer {client.token.hex()}"},
        trust_env=False,
    )


async def attachment(there: Ward) -> str:
    """Return the path of a whole attachment of the ward's conversation."""
    async with web(there.site, there.ann) as http:
        made = await http.post(
            "/v1/attachments",
            headers={
                "Upload-Length": str(len(SEALED)),
                "Wardline-Conversation": there.conversation.hex(),
            },
        )
        assert made.status_code == 201
        path = str(made.headers["location"])
        sent = await http.patch(path, headers={"Upload-Offset": "0"}, content=SEALED)
        assert sent.status_code == 204
    return path


async def aims(there: Ward) -> tuple[Aim, Aim]:
    """Return what the ward has, with a Commit under way, and what nobody has."""
    await harness.commit(there.ann, there.conversation, epoch=1)
    north, nowhere = there.site.hospital, harness.hospital("Nowhere")
    theirs = Aim(
        conversation=there.conversation,
        commit_hash=harness.staged_hash(there.site.relay, north, there.conversation),
        user="bob",
        device=DeviceId("bob/phone"),
        attachment=await attachment(there),
        foreigner=there.bob.person,
        foreign_home=north,
    )
    nobodys = Aim(
        conversation=ConversationId(os.urandom(32)),
        commit_hash=os.urandom(32),
        user="nobody",
        device=DeviceId("nobody/phone"),
        attachment="/v1/attachments/" + os.urandom(16).hex(),
        foreigner=nowhere.enrol("bob/phone"),
        foreign_home=nowhere,
    )
    return theirs, nobodys


def verdict_at(client: Client, aim: Aim, kind: StatementType) -> bytes:
    body = CommitVerdict(
        conversation=aim.conversation,
        sequence=3,
        epoch=2,
        commit_hash=aim.commit_hash,
        confirmed_transcript_hash=bytes(32),
    ).encode()
    recorder = kind is StatementType.VOID or client.person.name == harness.RECORDER
    purpose = Purpose.RECORDER if recorder else Purpose.DEVICE
    return statement(client.hospital, kind, body, client.person, purpose)


def statement(
    home: Hospital, kind: StatementType, body: bytes, person: Person, purpose: Purpose
) -> bytes:
    return home.signed(kind, body, by=person.signatory(purpose))


def _commit(client: Client, aim: Aim, **change: list[DeviceId]) -> Frame:
    changes: dict[str, Any] = {"added": [], "removed": [], **change}
    _, message = harness.commit_message(client, aim.conversation, epoch=1, **changes)
    welcome = b"\x00\x01\x00\x03welcome" if changes["added"] else b""
    return frames.AppendCommit(message=message, welcome=welcome)


ATTACKS: dict[str, Callable[[Client, Aim], Frame]] = {
    "append": lambda client, aim: harness.message(client, aim.conversation, epoch=1),
    "append to another epoch": lambda c, aim: harness.message(c, aim.conversation, epoch=9),
    "commit": _commit,
    "remove a member": lambda client, aim: _commit(client, aim, removed=[aim.device]),
    "join": lambda client, aim: _commit(client, aim, added=[client.person.name]),
    "confirm": lambda client, aim: frames.Post(
        ref=9,
        log=conversation_log(aim.conversation),
        statement=verdict_at(client, aim, StatementType.EPOCH_RECEIPT),
    ),
    "void": lambda client, aim: frames.Post(
        ref=9,
        log=conversation_log(aim.conversation),
        statement=verdict_at(client, aim, StatementType.VOID),
    ),
    "note": lambda client, aim: frames.Post(
        ref=9,
        log=conversation_log(aim.conversation),
        statement=statement(
            client.hospital, StatementType.DEVICE_REQUEST, b"x", client.person, Purpose.DEVICE
        ),
    ),
    "certificate into an inbox": lambda client, aim: frames.Post(
        ref=9,
        log=inbox_log(aim.device),
        statement=harness.certified(aim.foreigner.certificate),
    ),
    "look up": lambda client, aim: frames.Lookup(ref=9, users=(aim.user,)),
    "claim a key package": lambda client, aim: frames.ClaimKeyPackage(ref=9, device=aim.device),
    "their administrator's command": lambda client, aim: frames.Command(
        ref=9,
        statement=statement(
            aim.foreign_home,
            StatementType.COMMAND,
            RemoveUser(user=UserName("ann")).encode(),
            aim.foreigner,
            Purpose.ADMINISTRATOR,
        ),
    ),
}  # fmt: skip


async def answer_to(client: Client, attack: Frame) -> tuple[str, object, object]:
    """Return an answer's kind, code and detail or content: all that a stranger learns."""
    await client.send(attack)
    kinds = frames.Refused | frames.RefusedMessage | frames.Accepted | frames.Done
    found = await client.expect(
        Frame,
        lambda f: isinstance(f, kinds | frames.Directory | frames.KeyPackage | frames.Close),
    )
    if isinstance(found, frames.Directory):
        return "Directory", found.devices, None
    assert isinstance(found, frames.Refused | frames.RefusedMessage), found
    return type(found).__name__, refusal(found), found.detail


@pytest.mark.parametrize("attacker", ["ann/phone", "archive/recorder", "chief/desk"])
async def test_another_organisations_things_are_answered_like_nobodys(
    tmp_path: Path, attacker: str
) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        theirs, nobodys = await aims(there)
        roles = (Role.ADMINISTRATOR,) if attacker == "chief/desk" else ()
        eve = await opened(there.site, south, attacker, *roles)
        connection = there.site.relay.delivery.connection(south.id, eve.person.name)
        assert connection is not None
        connection.strong_until_s = float("inf")
        north = there.site.hospital.id
        before = (await picture(there.site)).of(north)
        for attack, make in ATTACKS.items():
            answer = await answer_to(eve, make(eve, theirs))
            assert answer == await answer_to(eve, make(eve, nobodys)), attack
            assert (await picture(there.site)).of(north) == before, attack
        await there.is_served()
        assert not [f for f in eve.early if isinstance(f, frames.Deliver) and f.log[:1] == b"c"]


MEMBERS_ONLY = ("append", "append to another epoch", "commit", "confirm", "note")


async def test_a_conversation_that_is_not_ones_own_is_answered_like_none(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path) as there:
        theirs, nobodys = await aims(there)
        eve = await there.site.open(there.site.hospital.enrol("eve/phone"))
        before = await picture(there.site)
        for attack in MEMBERS_ONLY:
            make = ATTACKS[attack]
            answer = await answer_to(eve, make(eve, theirs))
            assert answer == await answer_to(eve, make(eve, nobodys)), attack
            assert answer[1] == Code.NO_SUCH, attack
        assert await picture(there.site) == before
        await there.is_served()


@pytest.mark.parametrize("mine", [False, True], ids=["another organisation", "not a member"])
async def test_an_attachment_that_is_not_ones_own_is_answered_like_none(
    tmp_path: Path, mine: bool
) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        theirs, nobodys = await aims(there)
        home = there.site.hospital if mine else south
        eve = await opened(there.site, home, "eve/phone")
        before = await picture(there.site)
        async with web(there.site, eve) as http:
            for method, headers in (
                ("GET", {}),
                ("HEAD", {}),
                ("PATCH", {"Upload-Offset": "0"}),
                ("PATCH", {"Upload-Offset": "4"}),
                ("DELETE", {}),
            ):
                got = [
                    await http.request(method, aim.attachment, headers=headers, content=b"")
                    for aim in (theirs, nobodys)
                ]
                assert got[0].status_code == got[1].status_code
                assert got[0].content == got[1].content == b""
                assert dict(got[0].headers) == dict(got[1].headers)
            for aim in (theirs, nobodys):
                made = await http.post(
                    "/v1/attachments",
                    headers={
                        "Upload-Length": str(len(SEALED)),
                        "Wardline-Conversation": aim.conversation.hex(),
                    },
                )
                assert made.status_code == 404
        assert await picture(there.site) == before
        async with web(there.site, there.bob) as http:
            assert (await http.get(theirs.attachment)).content == SEALED


async def test_the_same_conversation_id_in_two_organisations_is_two_conversations(
    tmp_path: Path,
) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        before = await picture(there.site)
        eve = await opened(there.site, south, "eve/phone")
        await opened(there.site, south, harness.RECORDER)
        sequence = await harness.commit(eve, there.conversation, epoch=0, added=[harness.RECORDER])
        assert sequence == 1
        of = there.site.hospital.id
        assert (await picture(there.site)).of(of) == before.of(of)
        await there.is_served()


async def test_a_certificate_opens_its_own_organisation_alone(tmp_path: Path) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        eve = south.enrol("ann/phone")
        before = await picture(there.site)
        for certificate in (eve.certificate, b"", there.ann.person.certificate):
            client = await there.site.client(eve)
            await client.greet(certificate=certificate)
            assert closing(await client.prove()) is Code.NOT_PROVED
        assert await picture(there.site) == before
        await there.is_served()


async def test_guesses_in_one_organisation_slow_nobody_in_another(tmp_path: Path) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south, rates=harness.Rates(secrets=0.02)) as there:
        eve = await opened(there.site, south, "ann/phone")
        for ref in range(20):
            await eve.send(frames.Authenticate(ref=ref, password="guess", code="000000"))
            await eve.expect(frames.Refused)
        relay = there.site.relay
        assert relay.secret_wait_ms(relay.organisations[south.id], "ann") > 0
        assert relay.secret_wait_ms(relay.organisations[there.site.hospital.id], "ann") == 0


async def reconciling(site: Site, home: Hospital) -> Client:
    recorder = await site.client(home.people[harness.RECORDER], home)
    await recorder.greet()
    assert isinstance(await recorder.prove(), frames.Reconciling)
    return recorder


async def told(client: Client, frame: Frame) -> Frame:
    await client.send(frame)
    return await client.expect(Frame)


async def test_a_restored_relay_serves_no_organisation_whose_archive_was_not_asked(
    tmp_path: Path,
) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        harness.owe(there.site)
        await told(await reconciling(there.site, south), frames.Resume(ref=1))
        ann = await there.site.client(there.ann.person)
        await ann.greet()
        assert closing(await ann.prove()) is Code.RECONCILING


async def test_a_command_that_does_not_verify_keeps_no_organisation_waiting(
    tmp_path: Path,
) -> None:
    south = harness.hospital("South")
    async with ward(tmp_path, south) as there:
        harness.owe(there.site)
        eve = await reconciling(there.site, south)
        assert refusal(await told(eve, frames.Replay(ref=1, at_ms=1, sequence=1, item=b"\x03bad")))
        recorder = await reconciling(there.site, there.site.hospital)
        assert isinstance(await told(recorder, frames.Resume(ref=1)), frames.Done | frames.Close)
        await there.site.open(there.ann.person)

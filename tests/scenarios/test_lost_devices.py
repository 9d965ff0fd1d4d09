"""All devices of a person are lost: a new one, let in by two administrators, and what it can read.

The relay, and the archive with its authority and steward, are processes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client import administration
from client.device import Device
from client.history import hand_over
from crypto.certificate import fingerprint
from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys, create_request
from crypto.statement import Purpose, StatementType
from protocol.commands import SetPolicy, WipeReason
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName
from protocol.policy import DeviceRules, Policy
from tests.client.devices import Running, opened
from tests.scenarios.blackbox import BlackBox, Organisation, hospital_with_archive
from tests.scenarios.desk import PASSWORD, Desk, address_of
from tests.scenarios.process import Installation
from tests.server.harness import Person, now_ms

WITHIN_S = 60.0
"""Patience with three programs on a busy machine."""


async def approved(of: Organisation, ada: Device, bo: Device, *, user: str, device: str) -> Person:
    """Return a person's device that two administrators let in, certified by the authority."""
    keys = DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )
    former = of.trust.devices[fingerprint(of.people[f"{user}/phone"].certificate)]
    act = administration.approve_device(keys.claim, of=former, ends_ms=None)
    first = ada.statements.sign(act.kind, act.body, Purpose.ADMINISTRATOR)
    statement = await bo.statements.countersign(first, Purpose.ADMINISTRATOR)
    request = create_request(
        keys, organisation=of.id, statement=statement, binding=b"", at_ms=now_ms()
    )
    return of.certify(keys, request)


async def started(folder: Path, person: Person, at: Installation) -> Running:
    made = Running(opened(folder, person, at.hospital, address_of(at)))
    await made.begin()
    return made


@dataclass
class Ward:
    """Everybody, and the conversation of three of them.

    Attributes:
        place: The conversation.
        desk: The administrator's password and authenticator.
    """

    folder: Path
    of: Organisation
    at: Installation
    box: BlackBox
    desk: Desk
    running: dict[str, Running]
    place: ConversationId

    async def come(self, *names: str) -> None:
        for name in names:
            self.running[name] = await started(self.folder, self.of.people[name], self.at)

    async def go(self, *names: str) -> None:
        for name in names:
            who = self.running.pop(name)
            await who.end()
            who.device.close()

    def __getitem__(self, name: str) -> Running:
        return self.running[name]


async def talk(ward: Ward) -> None:
    """Let three people talk; two messages are said."""
    ann, bob, cat = (ward[f"{name}/phone"] for name in ("ann", "bob", "cat"))
    users = [UserName("ann"), UserName("cat")]
    ward.place = await bob.device.start(ConversationType.GROUP, users, title="Ward 4")
    for who in (ann, bob, cat):
        await who.until(lambda who=who: who.epoch(ward.place) >= 1, within_s=WITHIN_S)  # type: ignore[misc]
    await ann.say(ward.place, "bed 3: bp 90/60")
    await bob.sees(ward.place, "bed 3: bp 90/60")
    await bob.say(ward.place, "seen, fluids running")
    await cat.sees(ward.place, "seen, fluids running", "bed 3: bp 90/60")


async def lose(ward: Ward) -> None:
    """Her only phone is gone: wiped, and out of the conversation."""
    await ward.go("ann/phone")
    ada, bob = ward["ada/desk"].device, ward["bob/phone"]
    await ada.look_up([UserName("ann")])
    identity = ada.identity(ward.of.people["ann/phone"].name)
    assert identity is not None
    order = administration.wipe(identity, WipeReason.LOST)
    await ada.statements.authenticate(PASSWORD, await ward.desk.code())
    await ada.statements.submit(ada.statements.sign(order.kind, order.body, Purpose.ADMINISTRATOR))
    await bob.until(
        lambda: users_in(bob, ward.place) == {"bob", "cat", "archive"}, within_s=WITHIN_S
    )


async def come_back(ward: Ward) -> None:
    """New keys, the same person: the steward has her back where she was, and asks nobody."""
    # (The authority certifies here, in this process: its own is not running meanwhile.)
    await ward.box.stop()
    ada, bo = ward["ada/desk"].device, ward["bo/desk"].device
    await approved(ward.of, ada, bo, user="ann", device="new")
    ward.box.start()
    await ward.come("ann/new")
    new = ward["ann/new"]
    await new.until(lambda: new.epoch(ward.place) >= 1, within_s=WITHIN_S)
    await ward["bob/phone"].say(ward.place, "welcome back")
    await new.until(lambda: "welcome back" in new.texts(ward.place), within_s=WITHIN_S)
    assert not any("bp 90/60" in text for text in new.texts(ward.place))


async def be_told(ward: Ward) -> None:
    """What the policy allows, a colleague hands over; everybody sees that, and she reads it."""
    ada, bob, new = ward["ada/desk"].device, ward["bob/phone"], ward["ann/new"]
    rules = DeviceRules(hand_over_hours=12)
    policy = SetPolicy(policy=Policy(version=1, devices=rules))
    await ada.statements.submit(
        ada.statements.sign(StatementType.COMMAND, policy.encode(), Purpose.ADMINISTRATOR)
    )
    await bob.until(lambda: bob.device.policy.devices == rules, within_s=WITHIN_S)
    await hand_over(bob.device, ward.place, hours=12)
    await new.until(lambda: "handed over" in new.texts(ward.place)[-1], within_s=WITHIN_S)
    told = new.texts(ward.place)[-1].splitlines()
    assert told[0] == "handed over 3 earlier messages; new here, 2:"
    assert [line.partition(": ")[2] for line in told[1:]] == [
        "bed 3: bp 90/60",
        "seen, fluids running",
    ]
    cat = ward["cat/phone"]
    await cat.until(lambda: cat.texts(ward.place)[-1] == "handed over 3 earlier messages")


async def test_who_has_lost_all_is_back_with_new_keys_and_reads_what_a_colleague_hands_over(
    tmp_path: Path,
) -> None:
    people = ["ann/phone", "bob/phone", "cat/phone"]
    async with hospital_with_archive(tmp_path, people) as (of, at, box):
        ward = Ward(tmp_path, of, at, box, Desk(), {}, ConversationId(bytes(32)))
        await ward.desk.set_up(of.people["ada/desk"], at)
        await ward.come("ada/desk", "bo/desk", *people)
        await talk(ward)
        await lose(ward)
        await come_back(ward)
        await be_told(ward)
        await ward.go(*list(ward.running))


def users_in(who: Running, conversation: object) -> set[str]:
    return {view.user for view in who.device.members(conversation)}  # type: ignore[arg-type]

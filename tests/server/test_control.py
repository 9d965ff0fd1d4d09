"""Signed commands: what they change at once, and that nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crypto.names import Role
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    countersign_statement,
    statement_id,
)
from protocol import frames
from protocol.audit import EventKind, decode_event
from protocol.commands import (
    ChangeMembers,
    RemoveUser,
    ResetAccount,
    SetDelegate,
    SetHolders,
    SetPerson,
    SetPolicy,
    Suspension,
    WipeOrder,
    WipeReason,
    WipeReceipt,
)
from protocol.errors import Code
from protocol.identifiers import (
    AUDIT_LOG,
    CONTROL_LOG,
    ConversationId,
    DeviceId,
    RoleName,
    UserName,
    conversation_log,
    inbox_log,
)
from protocol.policy import Action, Policy
from server import control
from server.store import LogKey
from tests.client.people import further
from tests.flipped import flipped
from tests.server import harness
from tests.server.harness import Client, Person, Site

DAY_MS = 24 * 3600 * 1000


def signed(site: Site, kind: StatementType, body: bytes, signatory: Signatory) -> bytes:
    return site.hospital.signed(kind, body, by=signatory, issued_ms=site.relay.now_ms())


def is_event(entry: frames.Deliver) -> bool:
    return entry.log == AUDIT_LOG


async def administrator(site: Site, name: str = "chief/desk") -> Client:
    """Return an administrator who has just proved password and code."""
    known = site.hospital.people.get(name)
    client = await site.open(known or site.hospital.enrol(name, Role.ADMINISTRATOR))
    site.connection(client).strong_until_s = float("inf")
    return client


async def submit(client: Client, statement: bytes) -> frames.Frame:
    return await client.answer(lambda ref: frames.Command(ref=ref, statement=statement))


async def command(site: Site, client: Client, body: bytes) -> frames.Frame:
    signatory = client.person.signatory(Purpose.ADMINISTRATOR)
    return await submit(client, signed(site, StatementType.COMMAND, body, signatory))


def wipe(site: Site, admin: Person, victim: Person, *, complete: bool) -> bytes:
    body = WipeOrder(
        device=victim.name,
        connection_key=victim.keys.connection_key.public_key,
        reason=WipeReason.LOST,
    ).encode()
    signatory = admin.signatory(Purpose.ADMINISTRATOR)
    order = signed(site, StatementType.WIPE_ORDER, body, signatory)
    if not complete:
        return order
    return countersign_statement(
        order,
        trust=site.hospital.trust,
        at_ms=site.relay.now_ms(),
        signatory=site.hospital.signatory(),
    )


async def test_a_command_reaches_everybody_in_the_control_log(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        body = SetHolders(role=RoleName("icu"), users=(UserName("ann"),)).encode()
        assert isinstance(await command(site, chief, body), frames.Done)
        entry = await ann.expect(frames.Deliver, lambda e: e.log == CONTROL_LOG)
        assert body in entry.body
        organisation = site.relay.organisations[site.hospital.id]
        assert organisation.holders == {"icu": ("ann",)}
        newcomer = await site.open(site.hospital.enrol("new/phone"))
        again = await newcomer.expect(frames.Deliver, lambda e: e.log == CONTROL_LOG)
        assert again.body == entry.body


async def test_a_command_counts_once(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        body = SetPolicy(policy=Policy(version=1)).encode()
        statement = signed(
            site, StatementType.COMMAND, body, chief.person.signatory(Purpose.ADMINISTRATOR)
        )
        assert isinstance(await submit(chief, statement), frames.Done)
        again = await submit(chief, statement)
        assert isinstance(again, frames.Refused)
        assert again.code == Code.STALE_STATEMENT
        site.later_ms += DAY_MS
        late = await submit(chief, statement)
        assert isinstance(late, frames.Refused)


async def test_only_an_administrator_who_is_proved_commands(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        body = RemoveUser(user=UserName("chief")).encode()
        signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
        statement = signed(site, StatementType.COMMAND, body, signatory)
        refusal = await submit(ann, statement)
        assert isinstance(refusal, frames.Refused)
        assert refusal.code == Code.FORBIDDEN
        site.connection(chief).strong_until_s = 0.0
        weak = await submit(chief, statement)
        assert isinstance(weak, frames.Refused)
        assert weak.code == Code.NOT_STRONG


async def test_a_command_signed_by_no_administrator_is_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        body = RemoveUser(user=UserName("ann")).encode()
        forged = signed(
            site, StatementType.COMMAND, body, ann.person.signatory(Purpose.ADMINISTRATOR)
        )
        right = signed(
            site, StatementType.COMMAND, body, chief.person.signatory(Purpose.ADMINISTRATOR)
        )
        for statement in (forged, flipped(right), b"", right + b"x"):
            refusal = await submit(chief, statement)
            assert isinstance(refusal, frames.Refused)
            assert refusal.code == Code.INVALID
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))


async def test_who_leaves_is_out_at_once_and_for_good(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        (ann, bob, _), conversation = await site.meeting("ann/phone", "bob/phone")
        packages = frames.PublishKeyPackages(ref=9, packages=(b"one",), last_resort=b"last")
        await bob.send(packages)
        await bob.expect(frames.Done)
        assert isinstance(
            await command(site, chief, RemoveUser(user=UserName("bob")).encode()), frames.Done
        )
        assert (await bob.closed()).code == Code.REVOKED
        await ann.send(harness.message(ann, conversation, epoch=1))
        await ann.expect(frames.Accepted)
        claim = await ann.answer(lambda ref: frames.ClaimKeyPackage(ref=ref, device="bob/phone"))
        assert isinstance(claim, frames.Refused)
        found = await ann.answer(lambda ref: frames.Lookup(ref=ref, users=("bob",)))
        assert isinstance(found, frames.Directory)
        assert found.devices == ()
    async with harness.running(tmp_path, of) as site:
        again = await site.client(of.people["bob/phone"])
        await again.greet()
        assert isinstance(await again.prove(), frames.Ordered)


async def test_a_suspended_device_is_out_until_that_is_lifted(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        await ann.answer(
            lambda ref: frames.StoreShare(ref=ref, share=bytes(32), pin_proof=bytes(32))
        )
        signatory = chief.person.signatory(Purpose.ADMINISTRATOR)
        for lifted in (False, True):
            body = Suspension(devices=(ann.person.name,), lifted=lifted).encode()
            statement = signed(site, StatementType.SUSPENSION, body, signatory)
            assert isinstance(await submit(chief, statement), frames.Done)
            share = await site.relay.secrets.share(site.hospital.id, ann.person.name)
            assert share is not None
            assert share.withheld is not lifted
            again = await site.client(ann.person)
            await again.greet()
            expected = frames.Opened if lifted else frames.Ordered
            assert isinstance(await again.prove(), expected)


async def said_of(
    site: Site, client: Client, *devices: str, lifted: bool = False, purpose: Purpose
) -> Code | None:
    """Have a device that is open suspend others, or end that; return why it had no effect."""
    body = Suspension(devices=tuple(map(DeviceId, devices)), lifted=lifted).encode()
    signatory = client.person.signatory(purpose)
    statement = signed(site, StatementType.SUSPENSION, body, signatory)
    if purpose is Purpose.ADMINISTRATOR:
        answer = await submit(client, statement)
    else:
        answer = await client.answer(
            lambda ref: frames.Post(ref=ref, log=CONTROL_LOG, statement=statement)
        )
    return Code(answer.code) if isinstance(answer, frames.Refused) else None


async def test_a_person_suspends_their_lost_phone_from_another_device_and_lifts_only_that(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        phone = await site.open(of.enrol("ann/phone"))
        desk = await site.open(further(of, of.people["ann/phone"], "desk"))
        bob = await site.open(of.enrol("bob/phone"))
        device, above = Purpose.DEVICE, Purpose.ADMINISTRATOR
        assert await said_of(site, bob, "ann/phone", purpose=device) is Code.INVALID
        assert await said_of(site, bob, "bob/phone", purpose=above) is Code.FORBIDDEN
        assert await said_of(site, desk, "ann/phone", purpose=device) is None
        assert (await phone.closed()).code == Code.REVOKED
    async with harness.running(tmp_path, of) as site:
        chief, desk = (
            await administrator(site),
            await site.open(of.people["ann/desk"]),
        )
        assert await said_of(site, desk, "ann/phone", lifted=True, purpose=device) is None
        phone = await site.open(of.people["ann/phone"])
        assert await said_of(site, chief, "ann/phone", purpose=above) is None
        assert await said_of(site, desk, "ann/phone", purpose=device) is None
        lifted = await said_of(site, desk, "ann/phone", lifted=True, purpose=device)
        assert lifted is Code.INVALID
        assert await said_of(site, chief, "ann/phone", lifted=True, purpose=above) is None
        await site.open(of.people["ann/phone"])


async def test_the_nights_delegate_suspends_any_number_of_the_wards_devices(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        of, chief = site.hospital, await administrator(site)
        night = await site.open(of.enrol("night/phone"))
        for name in ("ann", "bob"):
            await site.open(of.enrol(f"{name}/phone"))
            called = SetPerson(user=UserName(name), display_name=name, ward="Ward 4")
            await command(site, chief, called.encode())
        both, device = ("ann/phone", "bob/phone"), Purpose.DEVICE
        assert await said_of(site, night, *both, purpose=device) is Code.INVALID
        holders = SetHolders(role=RoleName("charge"), users=(UserName("night"),))
        await command(site, chief, holders.encode())
        delegate = SetDelegate(ward="Ward 4", role=RoleName("charge"))
        await command(site, chief, delegate.encode())
        assert await said_of(site, night, *both, purpose=device) is None
        for name in both:
            again = await site.client(of.people[DeviceId(name)])
            await again.greet()
            assert isinstance(await again.prove(), frames.Ordered)
        assert await said_of(site, night, *both, lifted=True, purpose=device) is None
        assert await said_of(site, night, "chief/desk", purpose=device) is Code.INVALID


async def test_whose_session_ends_is_cut_off_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        for name in ("ann/phone", "bob/phone"):
            await site.open(site.hospital.enrol(name))
        delivery, connected = site.relay.delivery, []
        publish = delivery.publish

        def published(key: LogKey, *args: Any, **kwargs: Any) -> None:
            if key.id == CONTROL_LOG:
                here = delivery.connections(site.hospital.id)
                connected.append({one.device_id for one in here} & {"ann/phone", "bob/phone"})
            publish(key, *args, **kwargs)

        monkeypatch.setattr(delivery, "publish", published)
        ann, bob = (site.hospital.people[name] for name in ("ann/phone", "bob/phone"))
        for order in (
            wipe(site, chief.person, ann, complete=False),
            wipe(site, chief.person, bob, complete=True),
        ):
            assert isinstance(await submit(chief, order), frames.Done)
        assert connected == [{"bob/phone"}, set()]


async def test_a_wipe_order_waits_for_its_device_and_is_receipted(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        await site.open(of.people[harness.RECORDER])
        lost = await site.open(of.enrol("ann/phone"))
        await lost.answer(
            lambda ref: frames.StoreShare(ref=ref, share=bytes(32), pin_proof=bytes(32))
        )
        order = wipe(site, chief.person, lost.person, complete=True)
        assert isinstance(await submit(chief, order), frames.Done)
        assert (await lost.closed()).code == Code.REVOKED
        assert await site.relay.secrets.share(of.id, lost.person.name) is None
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        ann = await site.client(of.people["ann/phone"])
        await ann.greet()
        assert isinstance(await ann.prove(unlocked=False), frames.Ordered)
        entry = await ann.expect(frames.Deliver)
        assert entry.body == harness.stated(order)
        answers = [
            await receipted(site, ann, order=named)
            for named in (bytes(32), statement_id(order), statement_id(order))
        ]
        codes = [getattr(answer, "code", None) for _, answer in answers]
        assert codes == [Code.INVALID, None, Code.STALE_STATEMENT]
        receipt = answers[1][0]
        await chief.expect(frames.Deliver, lambda e: e.body == receipt)
        # What says that the order has come counts once as well, and apart from the receipt.
        delivery = StatementType.WIPE_DELIVERY
        said = [
            await receipted(site, ann, order=statement_id(order), kind=delivery) for _ in range(2)
        ]
        codes = [getattr(answer, "code", None) for _, answer in said]
        assert codes == [None, Code.STALE_STATEMENT]
        await chief.expect(frames.Deliver, lambda e: e.body == said[0][0])
        told = {EventKind.REVOKED, EventKind.WIPED}
        told |= {EventKind.WIPE_DELIVERED, EventKind.WIPE_CONFIRMED}
        recorder = await site.open(of.people[harness.RECORDER])
        kinds: set[EventKind] = set()
        while not told <= kinds:
            entry = await recorder.expect(frames.Deliver, is_event)
            kinds.add(decode_event(entry.body).kind)
    async with harness.running(tmp_path, of) as site:
        ann = await site.client(of.people["ann/phone"])
        await ann.greet()
        await ann.prove(unlocked=False)
        _, answer = await receipted(site, ann, order=statement_id(order))
        assert isinstance(answer, frames.Refused)
        assert answer.code == Code.STALE_STATEMENT


async def receipted(
    site: Site,
    client: Client,
    *,
    order: bytes,
    kind: StatementType = StatementType.WIPE_RECEIPT,
) -> tuple[bytes, frames.Frame]:
    """Hand in what a wiped device says; return it with its answer."""
    body = WipeReceipt(device=client.person.name, order=order).encode()
    signatory = client.person.signatory(Purpose.CONNECTION)
    receipt = signed(site, kind, body, signatory)
    log, item = inbox_log(client.person.name), harness.stated(receipt)
    answer = await client.answer(lambda ref: frames.Post(ref=ref, log=log, statement=item))
    return receipt, answer


async def test_the_first_signature_of_a_wipe_suspends_and_the_last_destroys(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        lost = await site.open(site.hospital.enrol("ann/phone"))
        await lost.answer(
            lambda ref: frames.StoreShare(ref=ref, share=bytes(32), pin_proof=bytes(32))
        )
        order = wipe(site, chief.person, lost.person, complete=False)
        assert isinstance(await submit(chief, order), frames.Done)
        assert (await lost.closed()).code == Code.REVOKED
        share = await site.relay.secrets.share(site.hospital.id, lost.person.name)
        assert share is not None
        assert share.withheld
        complete = countersign_statement(
            order,
            trust=site.hospital.trust,
            at_ms=site.relay.now_ms(),
            signatory=site.hospital.signatory(),
        )
        assert isinstance(await submit(chief, complete), frames.Done)
        assert await site.relay.secrets.share(site.hospital.id, lost.person.name) is None


async def test_a_second_administrator_signs_the_order_that_the_first_handed_in(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief, second = await administrator(site), await administrator(site, "vice/desk")
        lost = await site.open(site.hospital.enrol("ann/phone"))
        order = wipe(site, chief.person, lost.person, complete=False)
        twice = countersign_statement(
            order,
            trust=site.hospital.trust,
            at_ms=site.relay.now_ms(),
            signatory=second.person.signatory(Purpose.ADMINISTRATOR),
        )
        for signed_order, client in ((order, chief), (twice, second)):
            assert isinstance(await submit(client, signed_order), frames.Done)
            again = await submit(client, signed_order)
            assert isinstance(again, frames.Refused)
            assert again.code == Code.STALE_STATEMENT


async def test_an_order_for_another_key_of_that_name_is_refused(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        body = WipeOrder(
            device=ann.person.name, connection_key=bytes(32), reason=WipeReason.LOST
        ).encode()
        order = signed(
            site,
            StatementType.WIPE_ORDER,
            body,
            chief.person.signatory(Purpose.ADMINISTRATOR),
        )
        refusal = await submit(chief, order)
        assert isinstance(refusal, frames.Refused)
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))


async def test_a_policy_takes_a_right_away_at_once_and_its_version_counts_up(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        ann = await site.open(site.hospital.enrol("ann/phone"))
        await site.open(site.hospital.enrol("bob/phone"))
        rights = {Action.LOOK_UP: frozenset({Role.RECORDER, Role.ADMINISTRATOR})}
        for version, accepted in ((2, False), (1, True), (1, False)):
            body = SetPolicy(policy=Policy(version=version, rights=rights)).encode()
            answer = await command(site, chief, body)
            assert isinstance(answer, frames.Done) is accepted
        refusal = await ann.answer(lambda ref: frames.Lookup(ref=ref, users=("bob",)))
        assert isinstance(refusal, frames.Refused)
        assert refusal.code == Code.FORBIDDEN


def conversations_in(client: harness.Client) -> list[frames.Deliver]:
    """Return what a client has got of conversations and not looked at."""
    heard = [one for one in client.early if isinstance(one, frames.Deliver)]
    return [one for one in heard if one.log.startswith(b"c")]


async def test_who_may_receive_no_more_gets_nothing_said_from_then_on_until_they_may_again(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        (ann, bob, recorder), conversation = await site.meeting("ann/phone", "bob/phone")

        def said(one: frames.Deliver) -> bool:
            return one.kind == frames.EntryKind.MESSAGE and one.log.startswith(b"c")

        async def say(epoch: int = 1) -> int:
            await ann.send(harness.message(ann, conversation, epoch=epoch))
            # Nothing is taken from the archive.
            sequence = (await recorder.expect(frames.Deliver, said)).sequence
            await ann.expect(frames.Accepted, lambda one: one.sequences == (sequence,))
            return sequence

        async def rule(version: int, *roles: Role) -> None:
            rights = {Action.RECEIVE: frozenset({Role.RECORDER, *roles})}
            body = SetPolicy(policy=Policy(version=version, rights=rights)).encode()
            assert isinstance(await command(site, chief, body), frames.Done)

        first = await say()
        assert (await bob.expect(frames.Deliver, said)).sequence == first
        await rule(1, Role.ADMINISTRATOR)
        bob.early.clear()
        kept = [await say() for _ in range(3)]
        await bob.answer(lambda ref: frames.Lookup(ref=ref, users=("ann",)))
        assert not conversations_in(bob)
        await bob.socket.close()
        bob = await site.open(bob.person)
        kept.append(await say())
        await bob.answer(lambda ref: frames.Lookup(ref=ref, users=("ann",)))
        assert not conversations_in(bob)
        await rule(2, Role.CLINICIAN)
        got = [await bob.expect(frames.Deliver, said) for _ in (first, *kept)]
        assert [one.sequence for one in got] == [first, *kept]
        last = await say()
        assert (await bob.expect(frames.Deliver, said)).sequence == last


async def test_an_account_that_is_reset_is_gone(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        await site.open(site.hospital.enrol("ann/phone"))
        body = ResetAccount(user=UserName("ann")).encode()
        assert isinstance(await command(site, chief, body), frames.Done)
        assert await site.relay.secrets.account(site.hospital.id, UserName("ann")) is None


async def test_a_change_of_members_is_carried_for_a_conversation_that_exists(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        _, conversation = await site.meeting("ann/phone", "bob/phone")
        for target, accepted in ((conversation, True), (ConversationId(bytes(32)), False)):
            body = ChangeMembers(
                conversation=target, added=(UserName("carl"),), removed=()
            ).encode()
            answer = await command(site, chief, body)
            assert isinstance(answer, frames.Done) is accepted


async def test_a_wipe_that_a_stop_has_interrupted_is_finished_at_the_start(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        lost = await site.open(of.enrol("ann/phone"))
        order = wipe(site, chief.person, lost.person, complete=True)
        await site.relay.secrets.wipe(of.id, lost.person.name, site.relay.now_ms(), order)
    async with harness.running(tmp_path, of) as site:
        ann = await site.client(of.people["ann/phone"])
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Ordered)
        assert (await ann.expect(frames.Deliver)).body == harness.stated(order)
        assert await site.relay.secrets.orders() == []


async def test_the_audit_log_reaches_the_archive_alone(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await site.open(site.hospital.people[harness.RECORDER])
        ann = await site.open(site.hospital.enrol("ann/phone"))
        await command(site, ann, RemoveUser(user=UserName("ann")).encode())
        kinds = []
        while EventKind.REFUSED not in kinds:
            event = decode_event((await recorder.expect(frames.Deliver, is_event)).body)
            kinds += [event.kind] if event.device == "ann/phone" else []
        assert kinds == [EventKind.OPENED, EventKind.REFUSED]
        await ann.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        assert not [e for e in ann.early if isinstance(e, frames.Deliver) and e.log == b"a"]


async def test_who_was_revoked_as_the_relay_stopped_holds_no_message_back_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: object) -> None:
        """What a stop leaves undone."""

    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        chief = await administrator(site)
        _, conversation = await site.meeting("ann/phone", "bob/phone")
        with monkeypatch.context() as patched:
            patched.setattr(control, "end_device", stopped)
            await command(site, chief, RemoveUser(user=UserName("bob")).encode())
        key = site.key(conversation_log(conversation))
        assert "bob/phone" in site.relay.store.readers(key)
    async with harness.running(tmp_path, of) as site:
        assert "bob/phone" not in site.relay.store.readers(key)
        assert "ann/phone" in site.relay.store.readers(key)

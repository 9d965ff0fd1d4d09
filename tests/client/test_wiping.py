"""The order that a device follows, those that it does not, and that it ends what it begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from client import connection as connections
from client import lease, wipe, wiping
from client.errors import (
    DamagedError,
    LostError,
    SuspendedError,
    UnreachableError,
    WipingError,
    WithheldError,
)
from client.lease import Terms
from client.link import Address, Link
from client.profile import CONNECTION, WIPE, Profile, profiles, write_checked
from client.unlocking import unlock
from client.wipe import WipeState
from crypto.ed25519 import SigningKey
from crypto.errors import CryptoError
from crypto.names import Role
from crypto.statement import (
    Purpose,
    StatementType,
    countersign_statement,
    statement_id,
    statement_type,
    verify_outcast_statement,
)
from protocol import frames
from protocol.commands import Suspension, WipeReason, decode_wipe_receipt
from protocol.errors import Code
from protocol.identifiers import CONTROL_LOG, DeviceId
from protocol.inbox import ItemKind, decode_item
from protocol.session import State
from tests.client.authority import submit
from tests.client.openable import PIN, local_profile, profile_of
from tests.client.orders import (
    administrator,
    body_of,
    countersigned,
    entry_of,
    handing,
    item,
    order_for,
    single_signed,
)
from tests.client.relay import link_of, serving
from tests.server import harness
from tests.server.harness import Hospital, Person, Site, now_ms

DAY_MS = 24 * 3600 * 1000


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(wiping, "ORDER_S", 0.3)


async def admitted(site: Site, *people: Person) -> None:
    """Let the relay know of devices, as their first connection does."""
    for person in people:
        await (await link_of(site, person)).close()


def stands(link: Link) -> State:
    return link.state


async def control_log(site: Site) -> list[bytes]:
    page = await site.relay.store.read(
        site.key(CONTROL_LOG), DeviceId("adam/desk"), after=0, entries_max=100, bytes_max=1 << 20
    )
    return [entry.body for entry in page.entries]


async def test_an_order_is_followed_and_its_receipt_stands_in_the_control_log(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        ann, adam = of.enrol("ann/phone"), administrator(of)
        await admitted(site, adam)
        profile = await profile_of(tmp_path / "people", site, ann)
        (await unlock(profile, PIN, now_ms=now_ms())).store.close()
        order = order_for(of, ann)
        await submit(site, order)
        with pytest.raises(WithheldError):
            await unlock(profile, PIN, now_ms=now_ms())
        done = await wiping.obey(profile, clock=now_ms)
        assert done == wiping.Wiped(reason=WipeReason.STOLEN, receipted=True)
        assert profiles(tmp_path / "people") == []
        assert list((tmp_path / "people").iterdir()) == []
        *_, delivery, receipt = await control_log(site)
        assert statement_type(delivery) is StatementType.WIPE_DELIVERY
        verified = verify_outcast_statement(
            receipt, expected=StatementType.WIPE_RECEIPT, trust=of.trust, at_ms=now_ms()
        ).statement
        assert decode_wipe_receipt(verified.body).order == statement_id(order)
        assert decode_wipe_receipt(verified.body).device == "ann/phone"


async def test_an_open_device_loses_its_keys_first(tmp_path: Path) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        ann, adam = of.enrol("ann/phone"), administrator(of)
        await admitted(site, adam)
        profile = await profile_of(tmp_path / "people", site, ann)
        opened = await unlock(profile, PIN, now_ms=now_ms())
        link = await Link.open(opened.address, opened.credentials)
        await submit(site, order_for(of, ann))
        while stands(link) is State.OPEN:
            with suppress(LostError):
                await link.receive()
        await link.close()
        ordered = await Link.open(opened.address, opened.credentials)
        assert ordered.state is State.ORDERED
        done = await wiping.carry_out(ordered, profile, clock=now_ms, store=opened.store)
        await ordered.close()
        assert done.receipted
        assert not profile.directory.exists()


async def test_a_suspended_device_destroys_nothing(tmp_path: Path) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        ann, adam = of.enrol("ann/phone"), administrator(of)
        await admitted(site, adam)
        profile = await profile_of(tmp_path / "people", site, ann)
        statement = of.signed(
            StatementType.SUSPENSION,
            Suspension(devices=(ann.name,), lifted=False).encode(),
            by=adam.signatory(Purpose.ADMINISTRATOR),
            lifetime_ms=DAY_MS,
        )
        await submit(site, statement)
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)
        # The same for an order that one administrator alone has signed.
        await submit(site, single_signed(of, body_of(ann)))
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)
        assert wipe.state(profile) is WipeState.NONE


async def test_a_device_that_is_neither_is_told_that_there_is_nothing_to_obey(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        profile = await profile_of(tmp_path / "people", site, of.enrol("ann/phone"))
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)
        (await unlock(profile, PIN, now_ms=now_ms())).store.close()


async def test_a_device_from_a_drawer_is_wiped_after_its_certificate_has_ended(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        ann, adam = of.enrol("ann/phone"), administrator(of)
        await admitted(site, adam)
        profile = await profile_of(tmp_path / "people", site, ann)
        await submit(site, order_for(of, ann))
        site.later_ms = 200 * DAY_MS

        def later() -> int:
            return now_ms() + site.later_ms

        assert (await wiping.obey(profile, clock=later)).receipted
        assert profiles(tmp_path / "people") == []


# What is no order for this device.


def unsigned(of: Hospital, ann: Person) -> bytes:
    return single_signed(of, body_of(ann))[:-98] + b"\x00"


def by_another_authority(of: Hospital, ann: Person) -> bytes:
    """An order of this organisation by its words, signed by the root of another."""
    statement = single_signed(of, body_of(ann))
    return countersigned(replace(of, authority=SigningKey.generate()), statement)


def for_another_device(of: Hospital, ann: Person) -> bytes:
    return order_for(of, of.enrol("bob/phone"))


def for_an_earlier_device_of_the_name(of: Hospital, ann: Person) -> bytes:
    key = SigningKey.generate().public_key
    return countersigned(of, single_signed(of, body_of(ann, connection_key=key)))


def for_this_key_by_another_name(of: Hospital, ann: Person) -> bytes:
    return countersigned(of, single_signed(of, body_of(ann, device=DeviceId("ann/tablet"))))


def of_another_organisation(of: Hospital, ann: Person) -> bytes:
    return order_for(harness.hospital("Elsewhere"), ann)


def expired(of: Hospital, ann: Person) -> bytes:
    ago = now_ms() - 2 * DAY_MS
    long_ago = now_ms() - 3 * DAY_MS
    administrator(of)
    trust = of.trust
    fresh = {
        name: replace(known, not_before_ms=long_ago - DAY_MS)
        for name, known in trust.devices.items()
    }
    statement = single_signed(of, body_of(ann), issued_ms=long_ago, lifetime_ms=DAY_MS // 2)
    return countersign_statement(
        statement,
        trust=replace(trust, devices=fresh),
        at_ms=ago - DAY_MS + DAY_MS // 4,
        signatory=of.signatory(),
    )


def from_the_future(of: Hospital, ann: Person) -> bytes:
    at_ms = now_ms() + DAY_MS
    return countersigned(of, single_signed(of, body_of(ann), issued_ms=at_ms), at_ms=at_ms)


def single(of: Hospital, ann: Person) -> bytes:
    return single_signed(of, body_of(ann))


def relay_made(of: Hospital, ann: Person) -> bytes:
    """What the relay can make: an order under keys of its own."""
    genuine = order_for(of, ann)
    return genuine[:-64] + SigningKey.generate().sign(genuine[:-64])


def by_two_administrators_alone(of: Hospital, ann: Person) -> bytes:
    eve = of.enrol("eve/desk", Role.ADMINISTRATOR)
    return countersign_statement(
        single_signed(of, body_of(ann)),
        trust=of.trust,
        at_ms=now_ms(),
        signatory=eve.signatory(Purpose.ADMINISTRATOR),
    )


def a_suspension_that_the_authority_signed(of: Hospital, ann: Person) -> bytes:
    return of.signed(
        StatementType.SUSPENSION,
        Suspension(devices=(ann.name,), lifted=False).encode(),
        by=of.signatory(),
        lifetime_ms=DAY_MS,
    )


def words_of_an_order_in_a_command(of: Hospital, ann: Person) -> bytes:
    return of.signed(StatementType.COMMAND, body_of(ann), by=of.signatory(), lifetime_ms=DAY_MS)


def cut_short(of: Hospital, ann: Person) -> bytes:
    return order_for(of, ann)[:-1]


def nothing(of: Hospital, ann: Person) -> bytes:
    return b"\x00"


FALSE: list[Callable[[Hospital, Person], bytes]] = [
    unsigned,
    by_another_authority,
    for_another_device,
    for_an_earlier_device_of_the_name,
    for_this_key_by_another_name,
    of_another_organisation,
    expired,
    from_the_future,
    single,
    relay_made,
    by_two_administrators_alone,
    a_suspension_that_the_authority_signed,
    words_of_an_order_in_a_command,
    cut_short,
    nothing,
]


def profile_at(folder: Path, address: Address, of: Hospital, person: Person) -> Profile:
    """Return a profile of the hospital's that connects to ``address``."""

    class Anywhere:
        hospital = of
        port = address.port

    profile, share = local_profile(folder, Anywhere(), person)  # type: ignore[arg-type]
    lease.grant(profile, share, terms=Terms(), now_ms=now_ms())
    return profile


@pytest.mark.parametrize("make", FALSE, ids=lambda make: make.__name__)
async def test_what_is_no_order_for_this_device_wipes_nothing(
    tmp_path: Path, make: Callable[[Hospital, Person], bytes]
) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entry = entry_of(ann, item(make(of, ann)))
    async with handing(tmp_path, [entry]) as (address, handed):
        profile = profile_at(tmp_path / "people", address, of, ann)
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)
        assert (handed.posted, handed.acknowledged) == ([], [])
    opened = await unlock(profile, PIN, now_ms=now_ms())
    assert opened.leased
    opened.store.close()


async def test_every_changed_byte_of_an_order_makes_it_none(tmp_path: Path) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    genuine = order_for(of, ann)
    changed = [
        genuine[:at] + bytes([genuine[at] ^ bit]) + genuine[at + 1 :]
        for at in range(len(genuine))
        for bit in (1, 0x80)
    ]
    async with handing(tmp_path, []) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
    record = connections.read(profile)
    root = record.pinned_root()
    wiping.verify_order(genuine, record, root=root, now_ms=now_ms())
    for data in changed:
        with pytest.raises(CryptoError):
            wiping.verify_order(data, record, root=root, now_ms=now_ms())


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": frames.EntryKind.WELCOME},
        {"body": b""},
        {"body": b"\x09x"},
    ],
)
async def test_an_order_in_another_wrapping_is_none(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    genuine = entry_of(ann, item(order_for(of, ann)))
    fields = {name: getattr(genuine, name) for name in genuine.__struct_fields__}
    entries = [
        frames.Deliver(**{**fields, **changes}),
        entry_of(ann, item(order_for(of, ann), ItemKind.CERTIFICATE)),
        frames.Refused(ref=0, code=1, detail=0),
    ]
    async with handing(tmp_path, entries) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)
        assert wipe.state(profile) is WipeState.NONE


async def test_false_orders_do_not_hide_the_true_one(tmp_path: Path) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entries = [
        entry_of(ann, item(make(of, ann)), sequence=number)
        for number, make in enumerate(FALSE[:5], start=1)
    ]
    true = entry_of(ann, item(order_for(of, ann)), sequence=9)
    async with handing(tmp_path, [*entries, true]) as (address, handed):
        profile = profile_at(tmp_path / "people", address, of, ann)
        assert (await wiping.obey(profile, clock=now_ms)).receipted
        said = [statement_type(decode_item(posted).body) for posted in handed.posted]
        assert said == [StatementType.WIPE_DELIVERY, StatementType.WIPE_RECEIPT]
        assert not profile.directory.exists()


async def test_a_followed_order_wipes_nothing_of_the_device_that_comes_after(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entry = entry_of(ann, item(order_for(of, ann)))
    async with handing(tmp_path, [entry]) as (address, _):
        first = profile_at(tmp_path / "people", address, of, ann)
        await wiping.obey(first, clock=now_ms)
        again = replace(ann, keys=replace(ann.keys, connection_key=SigningKey.generate()))
        second = profile_at(tmp_path / "people", address, of, again)
        with pytest.raises(SuspendedError):
            await wiping.obey(second, clock=now_ms)
        assert profiles(tmp_path / "people") == [second]


async def test_a_device_whose_clock_is_behind_follows_its_order(tmp_path: Path) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entry = entry_of(ann, item(order_for(of, ann)), at_ms=now_ms())
    async with handing(tmp_path, [entry]) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
        assert (await wiping.obey(profile, clock=lambda: 0)).receipted


async def test_a_relay_that_dates_an_expired_order_back_has_it_refused(tmp_path: Path) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entry = entry_of(ann, item(expired(of, ann)), at_ms=now_ms() - 3 * DAY_MS)
    async with handing(tmp_path, [entry]) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
        with pytest.raises(SuspendedError):
            await wiping.obey(profile, clock=now_ms)


async def test_a_root_that_is_not_the_pinned_one_verifies_nothing(tmp_path: Path) -> None:
    of, other = harness.hospital(), harness.hospital("Elsewhere")
    ann = of.enrol("ann/phone")
    statement = single_signed(of, body_of(ann))
    forged = countersigned(replace(of, authority=other.authority), statement)
    async with handing(tmp_path, [entry_of(ann, item(forged))]) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
        record = connections.read(profile)
        connections.keep(profile, replace(record, root=other.root.der))
        with pytest.raises(DamagedError) as caught:
            await wiping.obey(profile, clock=now_ms)
        assert caught.value.where == CONNECTION
        assert wipe.state(profile) is WipeState.NONE


# What was begun is ended.


async def test_without_the_relays_answer_the_receipt_is_sent_at_the_next_start(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    root = tmp_path / "people"
    entry = entry_of(ann, item(order_for(of, ann)))
    full = frames.Refused(ref=1, code=Code.FULL, detail=1000)
    async with handing(tmp_path, [entry], answer=full) as (address, _):
        profile = profile_at(root, address, of, ann)
        assert not (await wiping.obey(profile, clock=now_ms)).receipted
        assert wipe.state(profile) is WipeState.DESTROYED
        await wiping.resume(root, clock=now_ms)
        assert wipe.state(profile) is WipeState.DESTROYED
    with pytest.raises(WipingError):
        await unlock(profile, PIN, now_ms=now_ms())
    # The relay is away.
    await wiping.resume(root, clock=now_ms)
    assert wipe.state(profile) is WipeState.DESTROYED
    async with handing(tmp_path, []) as (address, handed):
        record = connections.read(profile)
        (profile.directory / CONNECTION).unlink()
        write_checked(profile.directory / CONNECTION, replace(record, address=address).encode())
        await wiping.resume(root, clock=now_ms)
        assert profiles(root) == []
        (posted,) = handed.posted
        assert decode_item(posted).kind is ItemKind.STATEMENT


async def test_a_receipt_that_the_relay_will_never_take_ends_the_wipe_too(tmp_path: Path) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    entry = entry_of(ann, item(order_for(of, ann)))
    never = frames.Refused(ref=1, code=Code.INVALID, detail=0)
    async with handing(tmp_path, [entry], answer=never) as (address, _):
        profile = profile_at(tmp_path / "people", address, of, ann)
        await wiping.obey(profile, clock=now_ms)
        assert profiles(tmp_path / "people") == []


@pytest.mark.parametrize("name", [CONNECTION, WIPE])
async def test_a_begun_wipe_ends_although_its_own_files_are_damaged(
    tmp_path: Path, name: str
) -> None:
    of = harness.hospital()
    ann = of.enrol("ann/phone")
    root = tmp_path / "people"
    async with handing(tmp_path, []) as (address, _):
        profile = profile_at(root, address, of, ann)
        wipe.begin(profile, order_for(of, ann))
        (profile.directory / name).write_bytes(b"decayed")
        await wiping.resume(root, clock=now_ms)
        assert profiles(root) == []


async def test_a_start_destroys_everything_that_was_begun_before_it_asks_any_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    root = tmp_path / "people"
    seen: list[WipeState] = []

    async def away(*_: object) -> Link:
        seen.extend(wipe.state(profile) for profile in begun)
        raise UnreachableError

    async with handing(tmp_path, []) as (address, _):
        begun = [
            profile_at(root, address, of, of.enrol(name)) for name in ("ann/phone", "bob/phone")
        ]
        kept = profile_at(root, address, of, of.enrol("cy/phone"))
    for profile in begun:
        write_checked(profile.directory / WIPE, b"order")
    monkeypatch.setattr(Link, "open", away)
    (root / ("f" * 32)).mkdir()
    await wiping.resume(root, clock=now_ms)
    # Where a wipe ended in its last moment nothing is left.
    assert not (root / ("f" * 32)).exists()
    assert set(seen) == {WipeState.DESTROYED}
    assert wipe.state(kept) is WipeState.NONE
    await wiping.resume(tmp_path / "missing", clock=now_ms)

"""What policy and roster ask of a device: a lease ends with the shift, messages with their days."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client import governing, lease, signing_out
from client.device import Device
from client.duty import RoleView
from client.errors import FullError
from client.governing import govern, leave, terms_of
from client.lease import Terms
from client.messages import Content, MessageKey, NewMessage
from client.profile import Profile
from client.signing_out import SHARED, UNCOUNTED, End, end_of
from client.store import Entry, Store
from crypto.errors import InvalidError
from protocol.identifiers import ConversationId, DeviceId, RoleName, UserName, conversation_log
from protocol.policy import DeviceRules, Policy, SignOut

ANN, BOB = UserName("ann"), UserName("bob")
NOW_MS = 1_800_000_000_000
HOUR_MS = 3600_000
WARD = ConversationId(bytes(32))


def role(
    *on_call: UserName, until_ms: int | None = None, following: tuple[UserName, ...] = ()
) -> RoleView:
    return RoleView(
        role=RoleName("registrar"),
        on_call=on_call,
        until_ms=until_ms,
        following=following,
        fallback=(),
        mine=ANN in on_call,
    )


@dataclass
class Fake:
    """What is looked at of a device."""

    store: Store | None = None
    board: tuple[RoleView, ...] = ()
    rules: DeviceRules = field(default_factory=DeviceRules)

    def device(self) -> Device:
        made = SimpleNamespace(
            user=ANN,
            policy=Policy(version=1, devices=self.rules),
            store=self.store,
            duty=SimpleNamespace(board=lambda: self.board),
            engine=SimpleNamespace(store=self.store, clock=lambda: NOW_MS),
        )
        return cast("Device", made)


def test_a_lease_runs_until_the_last_of_the_shifts_that_a_person_is_in() -> None:
    late = NOW_MS + 5 * HOUR_MS
    board = (role(ANN, until_ms=NOW_MS + HOUR_MS), role(ANN, BOB, until_ms=late), role(BOB))
    assert terms_of(Fake(board=board).device()) == Terms(on_duty_until_ms=late)


def test_a_shift_without_an_end_in_sight_leaves_the_hours_of_the_policy() -> None:
    board = (role(ANN, until_ms=NOW_MS + HOUR_MS), role(ANN, until_ms=None))
    rules = DeviceRules(lease_hours=3)
    assert terms_of(Fake(board=board, rules=rules).device()) == Terms(hours=3)


def test_who_waits_for_a_shift_is_off_duty_and_who_is_in_no_roster_is_not() -> None:
    waits = (role(BOB, until_ms=NOW_MS + HOUR_MS, following=(ANN,)),)
    assert terms_of(Fake(board=waits).device()).ends_ms(NOW_MS) <= NOW_MS
    assert terms_of(Fake(board=(role(BOB),)).device()) == Terms()
    assert terms_of(Fake().device()) == Terms()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store.db", bytes(32))


def test_the_terms_are_kept_for_the_next_unlocking_and_cut_the_lease_that_runs(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    profile = Profile(tmp_path)
    lease.grant(profile, bytes(32), terms=Terms(), now_ms=NOW_MS)
    fake = Fake(store=store, board=(role(ANN, until_ms=NOW_MS + HOUR_MS),))
    govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    running = lease.running(profile, now_ms=NOW_MS)
    assert running is not None
    assert running.ends_ms == NOW_MS + HOUR_MS
    assert lease.terms_of(store) == Terms(on_duty_until_ms=NOW_MS + HOUR_MS)
    fake.rules = DeviceRules(lease_hours=0)
    govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    assert lease.running(profile, now_ms=NOW_MS) is None
    assert lease.terms_of(store).hours == 0
    store.close()


def test_what_a_store_holds_is_counted_as_it_is_left_and_not_before(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / SHARED).touch()
    (tmp_path / "ann").mkdir()
    profile, ends_ms = Profile(tmp_path / "ann"), NOW_MS + HOUR_MS
    fake = Fake(
        store=store,
        board=(role(ANN, until_ms=ends_ms),),
        rules=DeviceRules(sign_out=SignOut.REMOVE),
    )
    govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    assert end_of(profile) == End(at_ms=ends_ms, unsent=UNCOUNTED)
    leave(fake.device(), profile)
    assert end_of(profile) == End(at_ms=ends_ms, unsent=0)
    # What cannot be counted is not taken as nothing.
    govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    store.close()
    leave(fake.device(), profile)
    assert end_of(profile) == End(at_ms=ends_ms, unsent=UNCOUNTED)


def test_messages_go_when_the_policy_says_and_not_before(tmp_path: Path, store: Store) -> None:
    sender = DeviceId("bob/phone")
    entries = [
        Entry(
            log=conversation_log(WARD),
            sequence=number,
            conversation=WARD,
            before=None,
            after=None,
            effects=(
                NewMessage(
                    key=MessageKey(conversation=WARD, sender=sender, message_id=number),
                    at_ms=NOW_MS - number * governing.DAY_MS,
                    content=Content(kind=1, data=b"", text=f"text {number}"),
                ),
            ),
        )
        for number in range(1, 6)
    ]
    store.received(entries)
    fake = Fake(store=store)
    govern(fake.device(), Profile(tmp_path), now_ms=NOW_MS, sure_ms=NOW_MS)
    assert len(store.messages.page(WARD, limit=9)) == 5
    fake.rules = DeviceRules(keep_days=3)
    # A clock that is ahead, without the relay's word, lets nothing go.
    govern(fake.device(), Profile(tmp_path), now_ms=NOW_MS + 9 * governing.DAY_MS, sure_ms=0)
    assert len(store.messages.page(WARD, limit=9)) == 5
    govern(fake.device(), Profile(tmp_path), now_ms=NOW_MS, sure_ms=NOW_MS)
    texts = [message.content.text for message in store.messages.page(WARD, limit=9)]
    assert sorted(texts) == ["text 1", "text 2", "text 3"]
    store.close()


@pytest.mark.parametrize(
    "rules",
    [
        {"lease_hours": -1},
        {"lease_hours": 13},
        {"lock_minutes": 0},
        {"lock_minutes": 61},
        {"keep_days": -1},
        {"keep_days": 3651},
        {"hand_over_hours": -1},
        {"hand_over_hours": 73},
    ],
)
def test_rules_out_of_range_are_none(rules: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        DeviceRules(**rules)


def test_on_a_full_disk_a_lease_is_cut_and_everything_else_waits(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    (tmp_path / SHARED).touch()
    (tmp_path / "ann").mkdir()
    profile = Profile(tmp_path / "ann")
    lease.grant(profile, bytes(32), terms=Terms(), now_ms=NOW_MS)
    fake = Fake(
        store=store,
        board=(role(ANN, until_ms=NOW_MS + HOUR_MS),),
        rules=DeviceRules(keep_days=1, sign_out=SignOut.REMOVE),
    )

    def no_room(*_: object, **__: object) -> None:
        raise OSError

    def full(*_: object) -> None:
        raise FullError

    with monkeypatch.context() as patched:
        patched.setattr(store.settings, "put", full)
        patched.setattr(store, "purge", full)
        patched.setattr(lease, "write_checked", no_room)
        patched.setattr(signing_out, "write_checked", no_room)
        govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    assert lease.running(profile, now_ms=NOW_MS) is None
    assert lease.terms_of(store) == Terms()
    govern(fake.device(), profile, now_ms=NOW_MS, sure_ms=NOW_MS)
    assert lease.terms_of(store) == Terms(on_duty_until_ms=NOW_MS + HOUR_MS)
    store.close()

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from client import gossip
from client.gossip import Gossip
from client.store import Store
from protocol.authenticated_data import Checkpoint
from tests.client.ward import KEY, PATH


def checkpoint(size: int, root: bytes | None = None) -> Checkpoint:
    return Checkpoint(tree_size=size, root_hash=root or secrets.token_bytes(32))


@pytest.fixture
def told(tmp_path: Path) -> Gossip:
    return Gossip(Store.create(tmp_path / PATH, KEY))


def test_the_newest_that_was_verified_is_what_others_are_told(told: Gossip) -> None:
    assert told.newest is None
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    assert told.verified(7, second, now_ms=1)
    assert told.verified(3, first, now_ms=2)
    assert told.newest == checkpoint(7, second)


def test_two_roots_for_one_size_are_an_alarm_whoever_tells_first(told: Gossip) -> None:
    one = checkpoint(5)
    assert told.told(one, now_ms=1)
    assert told.told(one, now_ms=2)
    assert not told.told(checkpoint(5), now_ms=3)
    assert not told.verified(5, secrets.token_bytes(32), now_ms=4)
    verified = secrets.token_bytes(32)
    assert told.verified(9, verified, now_ms=5)
    assert not told.told(checkpoint(9), now_ms=6)


def test_what_is_remembered_is_bounded(told: Gossip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "KEPT", 4)
    for size in range(1, 10):
        assert told.told(checkpoint(size), now_ms=size)
    assert told.told(checkpoint(1), now_ms=10)
    assert not told.told(checkpoint(9), now_ms=11)

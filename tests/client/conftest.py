"""Ann's open store, and Bob's group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.store import Store
from crypto.mls import Group
from tests.client.ward import KEY, PATH, WARD, assembled


@pytest.fixture
def groups() -> list[Group]:
    return assembled()


@pytest.fixture
def bob(groups: list[Group]) -> Group:
    return groups[1]


@pytest.fixture
def store(tmp_path: Path, groups: list[Group]) -> Iterator[Store]:
    store = Store.create(tmp_path / PATH, KEY)
    store.began(WARD, groups[0])
    yield store
    store.close()

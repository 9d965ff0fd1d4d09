"""Wardline and ts-mls in one group: every step of one is understood by the other, both ways.

Each group is mixed, seat by seat. After every step all members hold the same epoch, tree,
transcript and exported secret, and read one another's messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import NamedTuple, Protocol

import pytest

from crypto.errors import CryptoError, InvalidError
from tests.interop import wardline
from tests.interop.ts_mls import Status, TsMls, TsMlsError, missing

TS_MLS = "ts-mls"
WARDLINE = "Wardline"

LIVE = 8
"""Members of a large group that are played; the others' devices are off, their leaves there."""


class Member(Protocol):
    """What either implementation is asked to do. Messages are whole MLSMessages."""

    @property
    def name(self) -> str: ...
    @property
    def key_package(self) -> bytes: ...
    def create(self, group_id: bytes) -> None: ...
    def join(self, welcome: bytes) -> None: ...
    def external_join(self, group_info: bytes) -> bytes: ...
    def commit(
        self, *, add: list[bytes] | None = None, remove: list[int] | None = None
    ) -> tuple[bytes, bytes | None]: ...
    def process(self, message: bytes) -> None: ...
    def active(self) -> bool: ...
    def encrypt(self, data: bytes, *, authenticated_data: bytes) -> bytes: ...
    def decrypt(self, message: bytes) -> tuple[bytes, bytes]: ...
    def export(self, label: str, *, context: bytes, length: int) -> bytes: ...
    def group_info(self) -> bytes: ...
    def leaf_index(self) -> int: ...
    def status(self) -> Status: ...


Maker = Callable[[str, int], Member]


class Committed(NamedTuple):
    """What a committer sends."""

    commit: bytes
    welcome: bytes | None


@dataclass(kw_only=True)
class Room:
    """A mixed group. ``members`` are those who are played, in the order of their leaves."""

    makers: dict[str, Maker]
    suite: int
    members: list[Member] = field(default_factory=list)
    guests: int = 0

    def guest(self, implementation: str) -> Member:
        """Return a new client of an implementation."""
        self.guests += 1
        return self.makers[implementation](f"{implementation} {self.guests}", self.suite)

    def by(self, implementation: str) -> Member:
        """Return the last member of an implementation."""
        return next(m for m in reversed(self.members) if m.name.startswith(implementation))

    def fill(self, size: int, *, founder: str) -> None:
        """Let ``founder`` create the group and add all others with one Commit."""
        other = next(name for name in self.makers if name != founder)
        turns = cycle((founder, other))
        clients = [self.guest(next(turns)) for _ in range(size)]
        clients[0].create(b"ward")
        _, welcome = clients[0].commit(add=[one.key_package for one in clients[1:]])
        assert welcome is not None
        self.members = clients[: LIVE - 2] + clients[LIVE - 2 :][-2:]
        for one in self.members[1:]:
            one.join(welcome)

    def commit(
        self, by: Member, *, add: list[bytes] | None = None, remove: list[int] | None = None
    ) -> Committed:
        """Let a member commit and all others follow."""
        commit, welcome = by.commit(add=add, remove=remove)
        self.hear(commit, sender=by)
        return Committed(commit, welcome)

    def let_in(self, implementation: str) -> Member:
        """Let a new client join by external Commit, with the other implementation's GroupInfo."""
        host = next(one for one in self.members if not one.name.startswith(implementation))
        stranger = self.guest(implementation)
        self.hear(stranger.external_join(host.group_info()), sender=stranger)
        self.members.append(stranger)
        return stranger

    def hear(self, commit: bytes, *, sender: Member) -> None:
        """Let all but the sender process a Commit."""
        for one in self.members:
            if one is not sender:
                one.process(commit)

    def check(self) -> None:
        """All hold the same, and everyone reads both implementations."""
        assert len({one.status() for one in self.members}) == 1
        secrets = {one.export("ward", context=b"round", length=48) for one in self.members}
        assert len(secrets) == 1
        assert len(secrets.pop()) == 48
        for sender in (self.by(TS_MLS), self.by(WARDLINE)):
            sent = os.urandom(300), os.urandom(20)
            message = sender.encrypt(sent[0], authenticated_data=sent[1])
            assert [one.decrypt(message) for one in self.members if one is not sender] == [sent] * (
                len(self.members) - 1
            )


@pytest.fixture(scope="module")
def ts_mls() -> Iterator[TsMls]:
    """One Node process for all tests of a worker."""
    lacking = missing()
    if lacking is not None:
        if os.environ.get("CI"):
            pytest.fail(f"{lacking} is missing: the interoperation tests cannot run")
        pytest.skip(f"{lacking} is missing: not tested against ts-mls")
    with TsMls() as driver:
        yield driver


GROUPS = [
    pytest.param((suite, size, founder), id=f"suite {suite}, {size} members, {founder} founds")
    for suite, sizes in ((3, (2, 16, 100)), (1, (2, 16)))
    for size in sizes
    for founder in (TS_MLS, WARDLINE)
]


@pytest.fixture(params=GROUPS)
def room(request: pytest.FixtureRequest, ts_mls: TsMls) -> Room:
    """A mixed group that one of the two founded."""
    suite, size, founder = request.param
    makers: dict[str, Maker] = {
        TS_MLS: lambda name, suite: ts_mls.client(name, suite=suite),
        WARDLINE: lambda name, suite: wardline.Client.make(name, suite=suite),
    }
    room = Room(makers=makers, suite=suite)
    room.fill(size, founder=founder)
    return room


IMPLEMENTATIONS = pytest.mark.parametrize("actor", [TS_MLS, WARDLINE])


def test_whoever_is_welcomed_joins_and_reads_everyone(room: Room) -> None:
    room.check()


@IMPLEMENTATIONS
def test_all_follow_a_commit_that_brings_new_keys(room: Room, actor: str) -> None:
    room.commit(room.by(actor))
    room.commit(room.by(actor))
    room.check()


@IMPLEMENTATIONS
def test_a_stranger_joins_by_an_external_commit(room: Room, actor: str) -> None:
    room.commit(room.members[0])
    room.let_in(actor)
    room.check()


@IMPLEMENTATIONS
def test_members_are_added_to_a_group_whose_keys_have_moved(room: Room, actor: str) -> None:
    room.commit(room.members[-1])
    late = [room.guest(WARDLINE), room.guest(WARDLINE)]
    welcome = room.commit(room.by(actor), add=[one.key_package for one in late]).welcome
    assert welcome is not None
    for one in late:
        one.join(welcome)
    room.members += late
    room.check()


@IMPLEMENTATIONS
def test_removed_members_are_out_and_all_others_go_on(room: Room, actor: str) -> None:
    # Two at a time: ts-mls 2.0.0-rc.10 forgets the path of a Commit that removes a single member.
    removed = [room.let_in(TS_MLS), room.let_in(WARDLINE)]
    remover = next(one for one in room.members if one.name.startswith(actor))
    leaves = [one.leaf_index() for one in removed]
    room.members = [one for one in room.members if one not in removed]
    commit = room.commit(remover, remove=leaves).commit
    removed[1].process(commit)
    assert not removed[1].active()
    room.check()
    message = remover.encrypt(b"behind closed doors", authenticated_data=b"")
    for one in removed:
        with pytest.raises((TsMlsError, CryptoError)):
            one.decrypt(message)


# ts-mls 2.0.0-rc.10 leaves the path out where it removes a single member: a partner who errs.
def test_a_commit_that_removes_without_new_keys_is_refused(room: Room) -> None:
    victim = room.let_in(WARDLINE)
    remover = next(one for one in room.members if one.name.startswith(TS_MLS))
    commit, _ = remover.commit(remove=[victim.leaf_index()])
    before = victim.status()
    with pytest.raises(InvalidError):
        victim.process(commit)
    assert victim.status() == before

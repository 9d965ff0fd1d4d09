"""Every truncation and every flipped bit that a receiver authenticates is refused, state unchanged.

Smallest groups; beyond 4 KiB the flipped bits are a seeded sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from crypto.mls import Add, Group, KeyPackage, StagedCommit
from crypto.mls.external import (
    join_by_external_commit,
    propose_as_external_sender,
    propose_own_add,
)
from crypto.mls.framing import decode_message, encode_message
from crypto.mls.group_info import Welcome
from tests.crypto.mls.ward import (
    DOCUMENTED,
    STAFF,
    SUITE,
    anyone,
    evict,
    external_senders_extension,
    found,
    key_package,
    pair,
    saved,
    twenty,
)

WHOLE_BYTES = 4096
"""Longer messages have a sample of their bits flipped instead of all."""

SAMPLE = 2000


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A valid message, and the receiver to whom it comes.

    Attributes:
        receive: Takes the message, changed or not.
        state: What must be equal before and after.
    """

    message: bytes
    receive: Callable[[bytes], object]
    state: Callable[[], object] = lambda: None


def _to(group: Group, message: bytes) -> Arrival:
    return Arrival(
        message=message,
        receive=lambda data: group.process(data, authenticate=anyone),
        state=lambda: saved(group),
    )


def _key_package() -> Arrival:
    def receive(data: bytes) -> None:
        KeyPackage.decode(data).verify(SUITE)

    return Arrival(message=key_package("Marchetti").key_package.encode(), receive=receive)


def _key_package_message() -> Arrival:
    def receive(data: bytes) -> None:
        body = decode_message(data)
        if not isinstance(body, KeyPackage):  # another wire format, which this receiver drops
            raise DOCUMENTED[0]("MLSMessage", 0)
        body.verify(SUITE)

    return Arrival(message=encode_message(key_package("Marchetti").key_package), receive=receive)


def _addition(*, with_tree: bool) -> tuple[StagedCommit, Callable[[bytes, bytes | None], Group]]:
    own = key_package("Lindqvist")
    _, staged = found("Osei").commit(
        [Add(own.key_package)], authenticate=anyone, with_tree=with_tree
    )
    return staged, lambda welcome, tree: Group.join(
        welcome, own, authenticate=anyone, ratchet_tree=tree
    )


def _welcome_with_tree() -> Arrival:
    staged, join = _addition(with_tree=True)
    return Arrival(message=staged.welcome or b"", receive=lambda data: join(data, None))


def _welcome_without_tree() -> Arrival:
    staged, join = _addition(with_tree=False)
    assert staged.group is not None
    tree = staged.group.ratchet_tree
    return Arrival(message=staged.welcome or b"", receive=lambda data: join(data, tree))


def _tree_beside_a_welcome() -> Arrival:
    staged, join = _addition(with_tree=False)
    assert staged.group is not None
    return Arrival(
        message=staged.group.ratchet_tree, receive=lambda tree: join(staged.welcome or b"", tree)
    )


def _group_info() -> Arrival:
    own = key_package("Marchetti")
    return Arrival(
        message=pair()[0].group_info(external_join=True),
        receive=lambda data: join_by_external_commit(data, own, authenticate=anyone),
    )


def _public_proposal() -> Arrival:
    osei, lindqvist = pair()
    proposal = Add(key_package("Marchetti").key_package)
    return _to(lindqvist, osei.propose(proposal, public=True)[1])


def _public_update() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.propose_update(public=True)[1])


def _public_commit() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.commit(authenticate=anyone, public=True)[1].message)


def _public_commit_without_path() -> Arrival:
    osei, lindqvist = pair()
    added = [Add(key_package("Marchetti").key_package)]
    _, staged = osei.commit(added, authenticate=anyone, public=True, with_path=False)
    return _to(lindqvist, staged.message)


def _commit_by_reference() -> Arrival:
    osei, lindqvist = pair()
    lindqvist, proposal = lindqvist.propose(Add(key_package("Marchetti").key_package))
    osei, _ = osei.process(proposal, authenticate=anyone)
    return _to(lindqvist, osei.commit(authenticate=anyone, public=True)[1].message)


def _private_application() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.encrypt(b"bed 4: potassium 6.8", authenticated_data=b"stat")[1])


def _private_proposal() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.propose(Add(key_package("Marchetti").key_package))[1])


def _private_commit() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.commit(authenticate=anyone)[1].message)


def _private_removal() -> Arrival:
    osei, lindqvist = pair()
    return _to(lindqvist, osei.commit([evict(1)], authenticate=anyone)[1].message)


def _external_commit() -> Arrival:
    osei, _ = pair()
    info = osei.group_info(external_join=True)
    staged = join_by_external_commit(info, key_package("Marchetti"), authenticate=anyone)
    return _to(osei, staged.message)


def _external_proposal() -> Arrival:
    signer = SUITE.signature.generate()
    group = found("Osei", extensions=(external_senders_extension(signer, "Weber"),))
    proposal = propose_as_external_sender(
        SUITE,
        signer,
        Add(key_package("Marchetti").key_package),
        sender_index=0,
        group_id=group.group_id,
        epoch=group.epoch,
    )
    return _to(group, proposal)


def _new_member_proposal() -> Arrival:
    osei, _ = pair()
    own = key_package("Marchetti")
    return _to(osei, propose_own_add(own, group_id=osei.group_id, epoch=osei.epoch))


def _large_welcome() -> Arrival:
    own = key_package("Osei")
    _, staged = twenty()[0].commit([Add(own.key_package)], authenticate=anyone)
    return Arrival(
        message=staged.welcome or b"",
        receive=lambda data: Group.join(data, own, authenticate=anyone),
    )


def _large_commit() -> Arrival:
    _, staged = twenty()[3].commit(
        [Add(key_package(name).key_package) for name in ("Osei",) * 8], authenticate=anyone
    )
    return _to(twenty()[11], staged.message)


ARRIVALS = [
    _key_package,
    _key_package_message,
    _welcome_with_tree,
    _welcome_without_tree,
    _tree_beside_a_welcome,
    _group_info,
    _public_proposal,
    _public_update,
    _public_commit,
    _public_commit_without_path,
    _commit_by_reference,
    _private_application,
    _private_proposal,
    _private_commit,
    _private_removal,
    _external_commit,
    _external_proposal,
    _new_member_proposal,
    _large_welcome,
    _large_commit,
]
every_arrival = pytest.mark.parametrize("make", ARRIVALS, ids=lambda make: make.__name__.strip("_"))


def _flips(message: bytes) -> Iterator[tuple[int, bytes]]:
    bits: range | list[int] = range(8 * len(message))
    if len(message) > WHOLE_BYTES:
        bits = random.Random(len(STAFF)).sample(bits, SAMPLE)
    for bit in bits:
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def _cuts(message: bytes) -> Iterator[tuple[int, bytes]]:
    lengths: range | list[int] = range(len(message))
    if len(message) > WHOLE_BYTES:
        lengths = random.Random(len(STAFF)).sample(lengths, SAMPLE)
    for length in lengths:
        yield length, message[:length]


def _accepted(arrival: Arrival, changes: Iterator[tuple[int, bytes]]) -> list[int]:
    """Return where a change was accepted; whatever is no documented error goes through."""
    accepted = []
    for where, changed in changes:
        try:
            arrival.receive(changed)
        except DOCUMENTED:
            continue
        accepted.append(where)
    return accepted


@every_arrival
def test_every_flipped_bit_is_refused_and_changes_nothing(make: Callable[[], Arrival]) -> None:
    arrival = make()
    before = arrival.state()
    assert _accepted(arrival, _flips(arrival.message)) == []
    assert arrival.state() == before
    arrival.receive(arrival.message)


@every_arrival
def test_every_truncation_is_refused_and_changes_nothing(make: Callable[[], Arrival]) -> None:
    arrival = make()
    before = arrival.state()
    assert _accepted(arrival, _cuts(arrival.message)) == []
    assert arrival.state() == before
    arrival.receive(arrival.message)


@every_arrival
def test_a_trailing_byte_is_refused_and_changes_nothing(make: Callable[[], Arrival]) -> None:
    arrival = make()
    before = arrival.state()
    longer = ((byte, arrival.message + bytes([byte])) for byte in range(256))
    assert _accepted(arrival, longer) == []
    assert arrival.state() == before


def test_a_welcome_answers_for_all_but_the_entries_of_other_joiners() -> None:
    own, other = key_package("Lindqvist"), key_package("Marchetti")
    packages = [Add(own.key_package), Add(other.key_package)]
    _, staged = found("Osei").commit(packages, authenticate=anyone)
    assert staged.welcome is not None
    body = decode_message(staged.welcome)
    assert isinstance(body, Welcome)
    foreign = body.secrets[1].encode()
    start = staged.welcome.index(foreign)
    joined = Group.join(staged.welcome, own, authenticate=anyone)
    accepted = set()
    for bit, changed in _flips(staged.welcome):
        if bit % 8 != bit // 8 % 8:  # one bit of each byte
            continue
        try:
            group = Group.join(changed, own, authenticate=anyone)
        except DOCUMENTED:
            continue
        assert saved(group).keys() == saved(joined).keys()
        assert group.epoch_authenticator == joined.epoch_authenticator
        accepted.add(bit // 8)
    assert accepted <= set(range(start, start + len(foreign)))
    assert len(accepted) > len(foreign) // 2

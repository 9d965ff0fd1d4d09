"""Saved records that changed on the disk: refused, or loaded to what they say and harmless."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import decode, opaque
from crypto.errors import DecodeError, InvalidError, VerificationError
from crypto.mls import Add, ApplicationMessage, Group
from crypto.mls.commit import Pending
from crypto.mls.epoch import Epoch
from crypto.mls.secret_tree import (
    MAX_GENERATION,
    LeafRatchets,
    Ratchet,
    decode_secret_node,
    encode_secret_node,
)
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.mutation import mutated
from tests.crypto.mls.ward import (
    DOCUMENTED,
    SUITE,
    advance,
    assemble,
    by_roster,
    evict,
    external_senders_extension,
    hear,
    key_package,
    pair,
    read,
    saved,
)
from tests.depth import DEPTH

REFUSED = (DecodeError, InvalidError, VerificationError)


@cache
def rich() -> tuple[Group, tuple[bytes, ...]]:
    """Return a group that has everything, and messages that it can still read.

    It has past epochs, skipped keys in each, and pending proposals, an Update of its own included.
    """
    signer = SUITE.signature.generate()
    groups = assemble(4, extensions=(external_senders_extension(signer, "Weber"),))
    sent = []
    for _ in range(3):
        for _ in range(3):
            groups[2], message = groups[2].encrypt(b"text")
            sent.append(message)
        groups[1], _ = read(groups[1], sent[-1])
        groups = advance(groups, by=2)
    reader, update = groups[1].propose_update(signer=SUITE.signature.generate())
    hear(groups[0], update)
    for proposal in (Add(key_package("Weber").key_package), evict(3)):
        groups[3], message = groups[3].propose(proposal)
        reader = hear(reader, message)
    unread = [message for at, message in enumerate(sent) if at % 3 != 2]
    assert len(reader.past) == 3
    assert len(reader.pending) == 3
    return reader, tuple(unread)


def _load(records: dict[str, bytes]) -> Group | None:
    try:
        return Group.load(records)
    except REFUSED:
        return None


def _public_keys(group: Group) -> dict[int, bytes]:
    keys = group.current.private_keys
    return {node: SUITE.hpke.group.public_key(private) for node, private in keys.items()}


def _harmless(loaded: Group, records: dict[str, bytes]) -> int:
    """Hold that a value from changed records says what they say, and fails only as documented.

    Returns:
        How many messages it reads.
    """
    assert saved(loaded) == records
    genuine, unread = rich()
    assert loaded.ratchet_tree == genuine.ratchet_tree
    # Of an X25519 private key five bits say nothing (RFC 7748, section 5).
    assert _public_keys(loaded) == _public_keys(genuine)
    assert loaded.current.signer == genuine.current.signer
    heard = 0
    for message in unread:
        try:
            _, received = loaded.process(message, authenticate=by_roster)
        except DOCUMENTED:
            continue
        assert isinstance(received, ApplicationMessage)
        assert received.data == b"text"
        heard += 1
    after, _ = loaded.encrypt(b"text")
    assert saved(Group.load(saved(after))) == saved(after)
    with suppress(*DOCUMENTED):  # others may refuse it: the GroupContext may be another
        after.commit(authenticate=by_roster, leave_out=after.pending)
    return heard


def test_the_whole_state_loads_to_what_was_saved() -> None:
    records = saved(rich()[0])
    kinds = {key.split("/")[0] for key in records}
    assert kinds == {"epoch", "node", "secret", "past", "proposal"}
    assert _harmless(Group.load(records), records) == len(rich()[1]) == 6


def test_every_truncated_record_is_refused() -> None:
    records = saved(rich()[0])
    for key, data in records.items():
        for cut in {0, 1, len(data) // 2, len(data) - 1}:
            assert _load({**records, key: data[:cut]}) is None
        assert _load({**records, key: data + b"\0"}) is None


@given(draw=st.data())
def test_a_changed_record_is_refused_or_harmless(draw: st.DataObject) -> None:
    records = saved(rich()[0])
    key = draw.draw(st.sampled_from(sorted(records)))
    changed = {**records, key: draw.draw(mutated((records[key],)) | st.binary(max_size=100))}
    loaded = _load(changed)
    if loaded is not None:
        _harmless(loaded, changed)


def test_every_flipped_bit_of_the_epochs_record_is_refused_or_harmless() -> None:
    records = saved(rich()[0])
    genuine = records["epoch"]
    for bit in range(0, 8 * len(genuine), 1 if DEPTH > 1 else 13):
        changed = bytearray(genuine)
        changed[bit // 8] ^= 1 << bit % 8
        loaded = _load({**records, "epoch": bytes(changed)})
        if loaded is not None:
            _harmless(loaded, {**records, "epoch": bytes(changed)})


def _changed_epoch(change: Callable[[Epoch], Epoch]) -> dict[str, bytes]:
    group = rich()[0]
    return saved(replace(group, current=change(group.current)))


def test_private_keys_that_are_not_the_holders_are_refused() -> None:
    other = pair()[0].current
    assert _load(_changed_epoch(lambda e: replace(e, signer=other.signer))) is None
    assert _load(_changed_epoch(lambda e: replace(e, own_leaf=LeafIndex(0)))) is None
    assert _load(_changed_epoch(lambda e: replace(e, own_leaf=LeafIndex(7)))) is None
    keys = rich()[0].current.private_keys
    for node in keys:
        for wrong in (bytes(32), bytes(31), b""):
            changed = {**keys, node: wrong}
            group = replace(rich()[0], current=replace(rich()[0].current, private_keys=changed))
            assert _load(saved(group)) is None


def test_a_transcript_that_does_not_fit_its_tag_is_refused() -> None:
    assert _load(_changed_epoch(lambda e: replace(e, confirmation_tag=bytes(32)))) is None
    assert _load(_changed_epoch(lambda e: replace(e, interim_transcript_hash=bytes(32)))) is None


def test_a_tree_of_another_epoch_is_refused() -> None:
    records = saved(rich()[0])
    older = saved(pair()[0])
    assert _load({**records, "node/0": older["node/0"]}) is None
    assert _load({**records, "node/1": older["node/0"]}) is None  # of the wrong kind


def test_records_that_do_not_follow_on_each_other_are_refused() -> None:
    records = saved(rich()[0])
    epoch = rich()[0].epoch
    for missing in (f"past/{epoch - 1}", "proposal/0", "proposal/1"):
        assert _load({key: data for key, data in records.items() if key != missing}) is None
    for name, data in (
        (f"past/{epoch}", records[f"past/{epoch - 1}"]),
        ("past/x", b""),
        ("proposal/03", records["proposal/0"]),
        ("proposal/3", records["proposal/0"]),  # twice the same
        (f"past/{epoch - 2}", records[f"past/{epoch - 1}"]),  # under another's key
    ):
        assert _load({**records, name: data}) is None


def test_a_part_of_a_secret_tree_beside_its_own_halves_is_refused() -> None:
    records = saved(rich()[0])
    epoch = rich()[0].epoch
    root = f"secret/{epoch}/3"
    assert root not in records
    part = b"\0" + opaque(bytes(32))
    assert _load({**records, root: part}) is None
    assert _load({**records, f"secret/{epoch}/99": part}) is None
    assert _load({**records, f"secret/{epoch}/x": part}) is None


def _with_ratchet(ratchet: Ratchet) -> dict[str, bytes]:
    records = saved(rich()[0])
    past = f"secret/{rich()[0].epoch - 1}/4"
    node = decode_secret_node(records[past], leaf=True)
    assert isinstance(node, LeafRatchets)
    changed = encode_secret_node(replace(node, application=ratchet))
    assert _load({**records, past: encode_secret_node(node)}) is not None
    return {**records, past: changed}


def test_a_ratchet_that_the_suite_cannot_have_made_is_refused() -> None:
    key = (bytes(32), bytes(12))
    good = Ratchet(secret=bytes(32), generation=3, skipped={0: key})
    assert _load(_with_ratchet(good)) is not None
    for skipped in ({0: (bytes(31), key[1])}, {0: (key[0], bytes(11))}, {3: key}):
        assert _load(_with_ratchet(replace(good, skipped=skipped))) is None
    assert _load(_with_ratchet(replace(good, generation=MAX_GENERATION + 1))) is not None
    assert _load(_with_ratchet(replace(good, generation=MAX_GENERATION + 2))) is None


def _with_pending(change: Callable[[Pending], Pending]) -> dict[str, bytes]:
    group = rich()[0]
    (reference, own), *others = group.pending.items()
    assert own.encryption_key is not None
    return saved(replace(group, pending=dict([(reference, change(own)), *others])))


def test_private_keys_beside_another_proposal_than_their_update_are_refused() -> None:
    other = SUITE.signature.generate()
    (_, own), (_, added), _ = rich()[0].pending.items()
    assert _load(_with_pending(lambda p: p)) is not None
    assert _load(_with_pending(lambda p: replace(p, signer=None))) is not None
    assert _load(_with_pending(lambda p: replace(p, signer=other))) is None
    assert _load(_with_pending(lambda p: replace(p, encryption_key=bytes(32)))) is None
    assert _load(_with_pending(lambda p: replace(p, encryption_key=b"short"))) is None
    assert _load(_with_pending(lambda p: replace(p, encryption_key=None))) is None
    assert _load(_with_pending(lambda p: replace(p, sent=added.sent))) is None
    assert own.signer is not None


def test_a_key_that_stands_twice_in_a_saved_map_is_refused() -> None:
    entry = b"\0\0\0\1" + opaque(bytes(32)) + opaque(bytes(12))
    head = opaque(bytes(32)) + (2).to_bytes(8, "big")
    assert decode(head + opaque(entry), "Ratchet", Ratchet.read).skipped
    with pytest.raises(DecodeError):
        decode(head + opaque(entry + entry), "Ratchet", Ratchet.read)


def test_ratchets_above_a_leaf_of_a_secret_tree_are_refused() -> None:
    group = pair()[0]
    records = saved(group)
    root = f"secret/{group.epoch}/1"
    assert f"secret/{group.epoch}/0" not in records
    ratchet = Ratchet(secret=bytes(32))
    ratchets = LeafRatchets(handshake=ratchet, application=ratchet)
    assert _load({**records, root: encode_secret_node(bytes(32))}) is not None
    assert _load({**records, root: encode_secret_node(ratchets)}) is None

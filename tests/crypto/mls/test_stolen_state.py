"""What a thief of saved records cannot read: consumed keys are gone, and later epochs are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from crypto.errors import CryptoError, EpochError, KeyUsedError, VerificationError
from crypto.mls import Group
from crypto.mls.framing import PublicMessage, decode_message
from crypto.mls.proposal import Commit
from crypto.mls.recording import EpochDecryption
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import (
    SUITE,
    admit,
    advance,
    anyone,
    assemble,
    by_roster,
    evict,
    hear,
    key_package,
    read,
    saved,
    stage,
)


class Epoch:
    """All secrets of one epoch's secret tree, made anew from its encryption_secret (section 9)."""

    def __init__(self, encryption_secret: bytes, leaf_count: int) -> None:
        self.encryption_secret = encryption_secret
        self.levels = [[encryption_secret]]
        while len(self.levels[-1]) < leaf_count:
            self.levels.append(
                [
                    SUITE.expand_with_label(secret, "tree", side, 32)
                    for secret in self.levels[-1]
                    for side in (b"left", b"right")
                ]
            )

    def ancestors(self, leaf: int) -> Iterator[bytes]:
        """Return the tree secrets from which the leaf's ratchets derive, its own included."""
        height = len(self.levels) - 1
        return (level[leaf >> height - depth] for depth, level in enumerate(self.levels))

    def ratchet(self, leaf: int, name: str, length: int) -> list[tuple[bytes, bytes, bytes]]:
        """Return (secret, key, nonce) of the first ``length`` generations of one ratchet."""
        secret = SUITE.expand_with_label(self.levels[-1][leaf], name, b"", 32)
        chain = []
        for generation in range(length):
            chain.append(
                (
                    secret,
                    SUITE.derive_tree_secret(secret, "key", generation, 32),
                    SUITE.derive_tree_secret(secret, "nonce", generation, 12),
                )
            )
            secret = SUITE.derive_tree_secret(secret, "secret", generation, 32)
        return chain


def _epoch_of(group: Group) -> Epoch:
    """Return the epoch's secrets; the group must not have used any yet."""
    root = group.secret_tree.root
    assert isinstance(root, bytes)
    return Epoch(root, group.current.tree.leaf_count)


def _holds(group: Group, secret: bytes) -> bool:
    return any(secret in record for record in saved(group).values())


def _apply(store: dict[str, bytes], group: Group, since: Group | None) -> None:
    for key, data in group.changes(since).items():
        if data is None:
            del store[key]
        else:
            store[key] = data


def test_the_search_finds_what_a_fresh_state_does_hold() -> None:
    # A search that found nothing anywhere would prove nothing below.
    groups = advance(assemble(4))
    assert _holds(groups[1], _epoch_of(groups[1]).encryption_secret)


def test_the_key_of_a_received_message_is_gone_from_what_is_saved() -> None:
    groups = advance(assemble(5))
    epoch = _epoch_of(groups[1])
    reader = groups[1]
    store: dict[str, bytes] = {}
    _apply(store, reader, None)
    for generation in range(3):
        groups[2], message = groups[2].encrypt(b"text")
        after, _ = read(reader, message)
        _apply(store, after, reader)
        reader = after
        used = epoch.ratchet(2, "application", 3)[: generation + 1]
        gone = [secret for triple in used for secret in triple]
        gone += epoch.ancestors(2)
        for record in store.values():
            assert not any(secret in record for secret in gone)
    assert store == saved(reader)
    # What is not used is still there: the next generation, and the other senders.
    assert _holds(reader, epoch.ratchet(2, "application", 4)[3][0])
    groups[3], message = groups[3].encrypt(b"other")
    assert read(Group.load(store), message)[1] == b"other"


def test_the_key_of_a_sent_message_is_gone_from_what_is_saved() -> None:
    groups = advance(assemble(5))
    sender, epoch = groups[1], _epoch_of(groups[1])
    before = sender
    store: dict[str, bytes] = {}
    _apply(store, sender, None)
    for step in range(3):
        sender, _ = sender.encrypt(b"text")
        sender, _ = sender.propose(evict(2))
        _apply(store, sender, before)
        before = sender
        for name in ("application", "handshake"):
            used = epoch.ratchet(1, name, 3)[: step + 1]
            for secret in (*(part for triple in used for part in triple), *epoch.ancestors(1)):
                assert not any(secret in record for record in store.values())
    assert store == saved(sender)


def test_a_skipped_key_is_kept_alone_and_goes_when_it_is_used() -> None:
    groups = advance(assemble(3))
    reader, epoch = groups[1], _epoch_of(groups[1])
    sent = []
    for number in range(6):
        groups[2], message = groups[2].encrypt(bytes([number]))
        sent.append(message)
    chain = epoch.ratchet(2, "application", 7)
    reader, _ = read(reader, sent[4])
    assert not any(_holds(reader, secret) for secret, _, _ in chain[:5])
    assert [_holds(reader, key) for _, key, _ in chain[:5]] == [True] * 4 + [False]
    reader, _ = read(reader, sent[1])
    assert [_holds(reader, key) for _, key, _ in chain[:5]] == [True, False, True, True, False]


def test_a_thief_of_the_records_decrypts_no_consumed_message() -> None:
    groups = advance(assemble(4))
    heard = []
    for round_ in range(3):
        for sender in (0, 2, 3):
            groups[sender], message = groups[sender].encrypt(bytes([round_, sender]))
            groups[1], _ = read(groups[1], message)
            heard.append(message)
        groups = advance(groups, by=round_)
    thief = Group.load(saved(groups[1]))
    for message in heard:
        with pytest.raises(KeyUsedError):
            thief.process(message, authenticate=anyone)


def test_a_commit_leaves_nothing_of_the_secrets_that_it_ended() -> None:
    groups = advance(assemble(4))
    old = groups[1].current
    groups = advance(groups, by=2)
    now = groups[1]
    for secret in (
        old.secrets.init_secret,
        old.secrets.confirmation_key,
        old.secrets.membership_key,
        old.secrets.exporter_secret,
        old.secrets.external_secret,
        old.secrets.epoch_authenticator,
    ):
        assert not _holds(now, secret)
    replaced = {
        key for node, key in old.private_keys.items() if now.current.private_keys.get(node) != key
    }
    assert replaced
    assert not any(_holds(now, key) for key in replaced)


def test_an_epoch_that_is_no_longer_kept_leaves_nothing() -> None:
    groups = advance(assemble(3))
    store: dict[str, bytes] = {}
    _apply(store, groups[1], None)
    number = groups[1].epoch
    secret = _epoch_of(groups[1]).levels[1][1]  # of the half in which nobody sends
    sender_data = groups[1].current.secrets.sender_data_secret
    resumption = groups[1].current.secrets.resumption_psk
    for ended in range(6):
        before = groups[1]
        groups = advance(groups)
        _apply(store, groups[1], before)
        assert any(secret in record for record in store.values()) == (ended < 5)
    for gone in (secret, sender_data, resumption):
        assert not any(gone in record for record in store.values())
    assert not any(key.startswith((f"secret/{number}/", f"past/{number}")) for key in store)
    assert store == saved(groups[1])


def test_a_removed_members_state_decrypts_nothing_of_later_epochs() -> None:
    groups = advance(assemble(5), by=4)
    removed = groups[4]
    groups[0], staged = groups[0].commit([evict(4)], authenticate=by_roster)
    assert staged.group is not None
    groups = [groups[0].merge(staged.group), *(hear(g, staged.message) for g in groups[1:4])]
    told = stage(removed, staged.message)
    assert told.group is None
    for _ in range(3):
        for at in range(len(groups)):
            groups[at], message = groups[at].encrypt(b"without you")
            with pytest.raises(EpochError):
                removed.process(message, authenticate=anyone)
            _try_every_old_key(removed, message)
        groups = advance(groups, by=1)
    commit = groups[2].commit(authenticate=by_roster)[1].message
    with pytest.raises(EpochError):
        removed.process(commit, authenticate=anyone)


def _try_every_old_key(removed: Group, message: bytes) -> None:
    """Open a message of a later epoch with all that the removed member ever had."""
    decryption = EpochDecryption.of(removed)
    with pytest.raises(VerificationError):
        decryption.open(message, decryption.start())


def test_none_of_a_removed_members_private_keys_opens_the_path_that_removes_it() -> None:
    groups = advance(advance(assemble(8), by=6), by=1)
    removed = groups[6]
    _, staged = groups[0].commit([evict(6)], authenticate=by_roster, public=True)
    assert staged.group is not None
    body = decode_message(staged.message)
    assert isinstance(body, PublicMessage)
    commit = body.message.content.content
    assert isinstance(commit, Commit)
    assert commit.path is not None
    confirmed = removed.context.confirmed_transcript_hash
    context = replace(staged.group.context, confirmed_transcript_hash=confirmed).encode()
    sealed = [c for node in commit.path.nodes for c in node.encrypted_path_secret]
    opened = 0
    for group in groups[1:]:
        for private in group.current.private_keys.values():
            public = SUITE.hpke.group.public_key(private)
            for ciphertext in sealed:
                try:
                    SUITE.decrypt_with_label(
                        (private, public),
                        "UpdatePathNode",
                        context,
                        (ciphertext.kem_output, ciphertext.ciphertext),
                    )
                except VerificationError:
                    continue
                assert group is not removed
                opened += 1
    assert opened >= 6  # the same search finds what the others can open


def test_a_joiner_decrypts_nothing_from_before_it_came() -> None:
    groups = advance(assemble(3))
    groups[0], before = groups[0].encrypt(b"before")
    host, joined, staged = admit(groups[0], [key_package("Weber")])
    with pytest.raises(EpochError):
        joined[0].process(before, authenticate=anyone)
    with pytest.raises((EpochError, VerificationError)):
        joined[0].process(staged.message, authenticate=anyone)
    assert host.epoch == joined[0].epoch


def test_a_member_heals_from_theft_by_a_commit_of_its_own() -> None:
    groups = advance(assemble(4))
    stolen = saved(groups[1])
    groups = advance(groups, by=1)
    thief = Group.load(stolen)
    _, message = groups[0].encrypt(b"healed")
    with pytest.raises(CryptoError):
        thief.process(message, authenticate=anyone)
    # The thief can follow others' Commits from the stolen epoch, but not the victim's own path.
    commit = groups[2].commit(authenticate=by_roster)[1].message
    with pytest.raises(EpochError):
        thief.process(commit, authenticate=anyone)
    assert LeafIndex(1) == thief.own_leaf

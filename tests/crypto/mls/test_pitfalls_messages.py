"""Messages, epochs and keys that others lost, kept too long or mixed up."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from crypto.errors import (
    DecodeError,
    EpochError,
    InvalidError,
    KeyUsedError,
    UsageError,
    VerificationError,
)
from crypto.mls import (
    Add,
    ApplicationMessage,
    Group,
    OwnMessage,
    ReceivedProposal,
    StagedCommit,
)
from crypto.mls.commit import Committed
from crypto.mls.framing import (
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    decode_message,
    encode_message,
)
from crypto.mls.group import MAX_PENDING, PAST_EPOCHS
from crypto.mls.proposal import ExternalPSK, PreSharedKey
from crypto.mls.protection import protect_private
from crypto.mls.secret_tree import (
    MAX_FORWARD,
    MAX_GENERATION,
    MAX_SKIPPED,
    LeafRatchets,
    Ratchet,
    SecretTree,
)
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.ward import (
    SUITE,
    admit,
    advance,
    anyone,
    assemble,
    breaks,
    by_roster,
    claim,
    everyone_understands,
    evict,
    hear,
    key_package,
    pair,
    propose_anyway,
    read,
    saved,
    send_public,
    sign_as,
    stage,
    trio,
    welcome_anyway,
)


def _public_commit(group: Group) -> PublicMessage:
    body = decode_message(group.commit(authenticate=by_roster, public=True)[1].message)
    assert isinstance(body, PublicMessage)
    return body


# -- tags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [b"", bytes(32), bytes(31), bytes(33)])
def test_a_membership_tag_that_differs_is_refused_before_anything_changes(tag: bytes) -> None:
    osei, lindqvist = pair()
    body = _public_commit(osei)
    before = saved(lindqvist)
    for wrong in (tag, (body.membership_tag or b"")[: len(tag)] if len(tag) < 32 else tag):
        with pytest.raises(VerificationError):
            lindqvist.process(
                encode_message(replace(body, membership_tag=wrong)), authenticate=anyone
            )
    assert saved(lindqvist) == before


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33])
def test_a_confirmation_tag_that_differs_is_refused_before_anything_changes(size: int) -> None:
    # The insider's signature and membership tag cover the wrong confirmation tag.
    osei, lindqvist = pair()
    genuine = _public_commit(osei).message
    right = genuine.confirmation_tag or b""
    wrong = right[:size] if size < 32 else bytes([right[0] ^ 1]) + right[1:] + bytes(size - 32)
    message = send_public(osei, replace(genuine, confirmation_tag=wrong))
    assert stage(lindqvist, send_public(osei, genuine)).group is not None
    before = saved(lindqvist)
    with pytest.raises(VerificationError):
        lindqvist.process(message, authenticate=anyone)
    assert saved(lindqvist) == before


def test_a_welcome_with_another_confirmation_tag_is_refused() -> None:
    osei, _ = pair()
    own = key_package("Weber")
    welcome = welcome_anyway(osei, [own])
    assert Group.join(welcome, own, authenticate=by_roster).epoch == osei.epoch + 1
    for tag in (b"", bytes(32), osei.current.confirmation_tag):

        def alter(committed: Committed, tag: bytes = tag) -> Committed:
            return replace(committed, epoch=replace(committed.epoch, confirmation_tag=tag))

        with pytest.raises(VerificationError):
            Group.join(welcome_anyway(osei, [own], alter=alter), own, authenticate=by_roster)


# -- keys used, skipped and kept -------------------------------------------------------------------


def test_the_same_ciphertext_twice_is_refused_and_harms_nothing_else() -> None:
    osei, lindqvist = pair()
    osei, first = osei.encrypt(b"one")
    osei, second = osei.encrypt(b"two")
    lindqvist, _ = read(lindqvist, first)
    before = saved(lindqvist)
    for _ in range(3):
        with pytest.raises(KeyUsedError):
            lindqvist.process(first, authenticate=by_roster)
    assert saved(lindqvist) == before
    lindqvist, text = read(lindqvist, second)
    assert text == b"two"
    everyone_understands([osei, lindqvist])


def test_the_same_proposal_or_commit_twice_is_refused() -> None:
    osei, lindqvist = pair()
    osei, proposal = osei.propose(Add(key_package("Weber").key_package))
    lindqvist = hear(lindqvist, proposal)
    with pytest.raises(KeyUsedError):
        lindqvist.process(proposal, authenticate=by_roster)
    osei, staged = osei.commit(authenticate=by_roster)
    lindqvist, received = lindqvist.process(staged.message, authenticate=by_roster)
    assert isinstance(received, StagedCommit)
    with pytest.raises(KeyUsedError):
        lindqvist.process(staged.message, authenticate=by_roster)


def test_a_skipped_message_leaves_its_key_and_no_ratchet_secret() -> None:
    secret = secrets.token_bytes(32)
    start = Ratchet(secret=secret)
    later, key = start.take(SUITE, 3)
    chain = [secret]
    for generation in range(4):
        chain.append(SUITE.derive_tree_secret(chain[-1], "secret", generation, 32))
    kept = later.encode()
    assert later.secret == chain[4]
    assert not any(old in kept for old in chain[:4])
    assert set(later.skipped) == {0, 1, 2}
    for generation, pair_ in later.skipped.items():
        assert pair_ == (
            SUITE.derive_tree_secret(chain[generation], "key", generation, 32),
            SUITE.derive_tree_secret(chain[generation], "nonce", generation, 12),
        )
    assert key[0] not in kept


def test_messages_are_read_in_any_order() -> None:
    osei, lindqvist = pair()
    sent = []
    for number in range(20):
        osei, message = osei.encrypt(bytes([number]))
        sent.append(message)
    for number in [19, 0, 7, 3, 18, 1, 2, 4, 5, 6, 8, 10, 9]:
        lindqvist, text = read(lindqvist, sent[number])
        assert text == bytes([number])
    with pytest.raises(KeyUsedError):
        lindqvist.process(sent[7], authenticate=by_roster)


def test_a_message_may_be_as_far_ahead_as_the_limit_and_no_further() -> None:
    ratchet = Ratchet(secret=bytes(32))
    _, key = ratchet.take(SUITE, MAX_FORWARD)
    assert len(key[0]) == 32
    with breaks("15.3"):
        ratchet.take(SUITE, MAX_FORWARD + 1)


def test_the_oldest_keys_of_skipped_messages_go_first() -> None:
    ratchet, _ = Ratchet(secret=bytes(32)).take(SUITE, MAX_FORWARD)
    assert (min(ratchet.skipped), len(ratchet.skipped)) == (0, MAX_SKIPPED)
    ratchet, _ = ratchet.take(SUITE, MAX_FORWARD + 3)
    assert (min(ratchet.skipped), len(ratchet.skipped)) == (2, MAX_SKIPPED)
    with pytest.raises(KeyUsedError):
        ratchet.take(SUITE, 1)
    ratchet.take(SUITE, 2)


def test_a_sender_stops_before_its_generations_run_out() -> None:
    osei, lindqvist = pair()
    last = Ratchet(secret=bytes(32), generation=MAX_GENERATION + 1)
    ratchets = LeafRatchets(handshake=last, application=last)
    tree = SecretTree(suite=SUITE, leaf_count=2, root=(ratchets, bytes(32)))
    spent = replace(osei, secret_tree=tree)
    before = saved(spent)
    with pytest.raises(UsageError):
        spent.encrypt(b"one too many")
    with pytest.raises(UsageError):
        spent.propose(evict(1))
    assert saved(spent) == before
    # A Commit in the open still leads on.
    _, staged = spent.commit(authenticate=by_roster, public=True)
    assert hear(lindqvist, staged.message).epoch == osei.epoch + 1


def test_a_counter_does_not_restart_after_load() -> None:
    osei, lindqvist = pair()
    seen = set()
    for number in range(8):
        osei, message = osei.encrypt(bytes([number]))
        osei = Group.load(saved(osei))
        lindqvist, received = lindqvist.process(message, authenticate=by_roster)
        lindqvist = Group.load(saved(lindqvist))
        assert isinstance(received, ApplicationMessage)
        seen.add(received.generation)
        with pytest.raises(KeyUsedError):
            lindqvist.process(message, authenticate=by_roster)
    assert seen == set(range(8))


# -- epochs ----------------------------------------------------------------------------------------


def test_late_messages_are_read_for_five_epochs_and_not_for_six() -> None:
    assert PAST_EPOCHS == 5
    groups = list(trio())
    late = []
    for _ in range(PAST_EPOCHS + 2):
        groups[0], message = groups[0].encrypt(b"late")
        late.append((groups[0].epoch, message))
        groups = advance(groups, by=1)
    reader = Group.load(saved(groups[2]))
    for epoch, message in late:
        if epoch < reader.epoch - PAST_EPOCHS:
            with pytest.raises(EpochError) as refused:
                reader.process(message, authenticate=by_roster)
            assert (refused.value.have, refused.value.got) == (reader.epoch, epoch)
            continue
        reader, received = reader.process(message, authenticate=by_roster)
        assert isinstance(received, ApplicationMessage)
        assert (received.epoch, received.data) == (epoch, b"late")
        with pytest.raises(KeyUsedError):
            reader.process(message, authenticate=by_roster)


def test_a_message_of_an_epoch_to_come_is_not_read_yet() -> None:
    osei, lindqvist = pair()
    ahead = advance([osei, lindqvist])
    _, message = ahead[0].encrypt(b"early")
    with pytest.raises(EpochError) as refused:
        lindqvist.process(message, authenticate=by_roster)
    assert (refused.value.have, refused.value.got) == (lindqvist.epoch, lindqvist.epoch + 1)


def test_a_handshake_of_a_past_epoch_is_stale_however_it_was_sent() -> None:
    osei, lindqvist = pair()
    stale = [
        osei.propose(evict(1))[1],
        osei.propose(evict(1), public=True)[1],
        osei.commit(authenticate=by_roster)[1].message,
        osei.commit(authenticate=by_roster, public=True)[1].message,
    ]
    osei, lindqvist = advance([osei, lindqvist], by=1)
    for message in stale:
        with pytest.raises(EpochError):
            lindqvist.process(message, authenticate=by_roster)


def test_the_sender_of_a_late_message_is_whoever_stood_there_then() -> None:
    osei, lindqvist, marchetti = trio()
    marchetti, late = marchetti.encrypt(b"before I left")
    newcomer = key_package("Weber")
    osei, staged = osei.commit([evict(2)], authenticate=by_roster)
    assert staged.group is not None
    osei, lindqvist = osei.merge(staged.group), hear(lindqvist, staged.message)
    osei, staged = osei.commit([Add(newcomer.key_package)], authenticate=by_roster)
    assert staged.group is not None
    assert staged.welcome is not None
    assert staged.added == (LeafIndex(2),)
    osei, lindqvist = osei.merge(staged.group), hear(lindqvist, staged.message)
    weber = Group.join(staged.welcome, newcomer, authenticate=by_roster)
    weber, now = weber.encrypt(b"I am new")
    for reader in (osei, lindqvist, Group.load(saved(lindqvist))):
        after, first = reader.process(late, authenticate=by_roster)
        after, second = after.process(now, authenticate=by_roster)
        assert isinstance(first, ApplicationMessage)
        assert isinstance(second, ApplicationMessage)
        assert (first.sender, second.sender) == (2, 2)
        assert first.leaf.credential.identity == b"Marchetti"
        assert second.leaf.credential.identity == b"Weber"
    # Weber was not there: to it the late message is of an epoch that it cannot read.
    with pytest.raises(EpochError):
        weber.process(late, authenticate=by_roster)


@pytest.mark.parametrize("leaf", [2, 3, 1 << 24, 0xFFFFFFFF])
def test_nobody_sends_from_a_leaf_that_is_blank_or_beyond_the_tree(leaf: int) -> None:
    osei, lindqvist = pair()
    before = saved(osei)
    with breaks("6.3.2"):
        osei.process(claim(lindqvist, leaf), authenticate=anyone)
    assert saved(osei) == before


def test_nobody_sends_in_a_past_epoch_from_a_leaf_that_was_blank_then() -> None:
    osei, lindqvist = pair()
    forged = claim(lindqvist, 2)
    osei, _, _ = admit(osei, [key_package("Weber")])
    assert osei.current.tree.leaf(2) is not None
    before = saved(osei)
    with breaks("6.3.2"):
        osei.process(forged, authenticate=anyone)
    assert saved(osei) == before


def test_one_member_cannot_speak_as_another() -> None:
    osei, lindqvist, marchetti = trio()
    key = marchetti.secret_tree.take(LeafIndex(0), 0, handshake=False)[1]
    private = protect_private(
        SUITE,
        sign_as(
            marchetti,
            b"discharge bed 4",
            sender=Sender(SenderType.MEMBER, 0),
            wire_format=WireFormat.PRIVATE_MESSAGE,
        ),
        generation=0,
        message_key=key,
        sender_data_secret=marchetti.current.secrets.sender_data_secret,
    )
    before = saved(lindqvist)
    with pytest.raises(VerificationError):
        lindqvist.process(encode_message(private), authenticate=anyone)
    assert saved(lindqvist) == before
    assert osei.process(encode_message(private), authenticate=anyone)[1] == OwnMessage(
        epoch=osei.epoch
    )


# -- commits that cross ----------------------------------------------------------------------------


def test_somebody_elses_commit_wins_while_ones_own_is_pending() -> None:
    osei, lindqvist, marchetti = trio()
    osei, own = osei.commit(authenticate=by_roster)
    lindqvist, theirs = lindqvist.commit(authenticate=by_roster)
    assert theirs.group is not None
    # One's own comes back refused; the other's is processed and merged.
    after = [
        hear(osei, theirs.message),
        lindqvist.merge(theirs.group),
        hear(marchetti, theirs.message),
    ]
    everyone_understands(after)
    assert own.group is not None
    with pytest.raises(UsageError):
        after[0].merge(own.group)
    with pytest.raises(EpochError):
        after[1].process(own.message, authenticate=by_roster)


def test_a_member_can_go_on_sending_in_both_epochs_while_its_commit_is_staged() -> None:
    osei, lindqvist, _ = trio()
    osei, staged = osei.commit(authenticate=by_roster)
    osei, before = osei.encrypt(b"still in the old epoch")
    lindqvist, text = read(lindqvist, before)
    assert text == b"still in the old epoch"
    assert staged.group is not None
    osei = osei.merge(staged.group)
    osei, after = osei.encrypt(b"in the new one")
    lindqvist = hear(lindqvist, staged.message)
    lindqvist, text = read(lindqvist, after)
    assert text == b"in the new one"


def test_a_member_that_is_removed_while_its_commit_is_pending_learns_it() -> None:
    osei, lindqvist, marchetti = trio()
    marchetti, own = marchetti.commit(authenticate=by_roster)
    osei, removal = osei.commit([evict(2)], authenticate=by_roster)
    before = saved(marchetti)
    after, received = marchetti.process(removal.message, authenticate=by_roster)
    assert isinstance(received, StagedCommit)
    assert received.removed == (LeafIndex(2),)
    assert received.group is None
    assert saved(marchetti) == before
    assert after.epoch == marchetti.epoch
    assert removal.group is not None
    osei, lindqvist = osei.merge(removal.group), hear(lindqvist, removal.message)
    assert own.message
    _, message = osei.encrypt(b"without Marchetti")
    with pytest.raises(EpochError):
        after.process(message, authenticate=by_roster)


def test_a_removal_in_the_open_is_learnt_like_one_that_is_encrypted() -> None:
    osei, _, marchetti = trio()
    _, removal = osei.commit([evict(2)], authenticate=by_roster, public=True)
    assert stage(marchetti, removal.message).group is None


def test_ones_own_messages_come_back_as_ones_own_and_change_nothing() -> None:
    osei, _ = pair()
    own = [
        osei.encrypt(b"to all"),
        osei.propose(evict(1)),
        osei.propose(evict(1), public=True),
        osei.propose_update(),
        osei.propose_update(public=True),
    ]
    own += [
        (group, staged.message)
        for group, staged in (
            osei.commit(authenticate=by_roster),
            osei.commit(authenticate=by_roster, public=True),
        )
    ]
    for group, message in own:
        before = saved(group)
        after, received = group.process(message, authenticate=by_roster)
        assert received == OwnMessage(epoch=osei.epoch)
        assert saved(after) == before


def test_ones_own_message_of_a_past_epoch_comes_back_as_ones_own() -> None:
    osei, lindqvist = pair()
    osei, message = osei.encrypt(b"before the change")
    epoch = osei.epoch
    osei, _ = advance([osei, lindqvist], by=1)
    assert osei.process(message, authenticate=by_roster)[1] == OwnMessage(epoch=epoch)


# -- what is kept, and not found -------------------------------------------------------------------


def test_no_more_proposals_wait_than_the_limit() -> None:
    osei, lindqvist = pair()
    nonces = (number.to_bytes(32, "big") for number in range(MAX_PENDING + 1))
    for nonce in nonces:
        proposal = PreSharedKey(ExternalPSK(psk_id=b"key", psk_nonce=nonce))
        message = propose_anyway(osei, proposal)
        if len(lindqvist.pending) == MAX_PENDING:
            break
        lindqvist = hear(lindqvist, message)
    before = saved(lindqvist)
    with pytest.raises(InvalidError):
        lindqvist.process(message, authenticate=by_roster)
    assert saved(lindqvist) == before
    # One that waits already may come again; a Commit still goes through and clears them.
    first = PreSharedKey(ExternalPSK(psk_id=b"key", psk_nonce=bytes(32)))
    assert len(hear(lindqvist, propose_anyway(osei, first)).pending) == MAX_PENDING
    _, staged = osei.commit(authenticate=by_roster, leave_out=osei.pending)
    assert not hear(lindqvist, staged.message).pending


def test_a_proposal_is_received_with_its_sender_and_reference() -> None:
    osei, lindqvist = pair()
    osei, message = osei.propose(evict(1), authenticated_data=b"why")
    lindqvist, received = lindqvist.process(message, authenticate=by_roster)
    assert isinstance(received, ReceivedProposal)
    assert received.sender.index == 0
    assert received.proposal == evict(1)
    assert received.authenticated_data == b"why"
    assert list(lindqvist.pending) == [received.reference] == list(osei.pending)


class BrokenStore(Mapping[bytes, bytes]):
    """A key store whose disk fails."""

    def __getitem__(self, key: bytes) -> bytes:
        raise OSError("disk")

    def __iter__(self) -> Iterator[bytes]:
        raise OSError("disk")

    def __len__(self) -> int:
        raise OSError("disk")

    def get(self, key: bytes, default: object = None) -> bytes:
        raise OSError("disk")


def test_a_store_that_fails_is_not_read_as_an_unknown_key() -> None:
    osei, lindqvist = pair()
    psk = PreSharedKey(ExternalPSK(psk_id=b"key", psk_nonce=bytes(32)))
    _, staged = osei.commit([psk], authenticate=by_roster, psks={b"key": bytes(32)})
    before = saved(lindqvist)
    with pytest.raises(OSError, match="disk"):
        lindqvist.process(staged.message, authenticate=by_roster, psks=BrokenStore())
    assert saved(lindqvist) == before


def test_a_record_that_is_missing_is_an_error_and_not_an_absent_key() -> None:
    groups = advance(assemble(4))
    groups[0], message = groups[0].encrypt(b"used")
    reader, _ = read(groups[1], message)
    records = saved(reader)
    for key in records:
        rest = {name: data for name, data in records.items() if name != key}
        if key.startswith("past/"):  # the last past epoch: fewer are kept, none is half kept
            assert not Group.load(rest).past
            continue
        with pytest.raises((InvalidError, DecodeError)):
            Group.load(rest)

"""What a Commit may say: proposals that exclude each other, leaves and keys that come with it."""

from __future__ import annotations

import secrets

import pytest

from crypto.errors import InvalidError, VerificationError
from crypto.mls import Group, LeafContent, ReceivedProposal, Remove, StagedCommit, treekem
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.external import propose_own_add
from crypto.mls.leaf_node import sign_leaf_node
from crypto.mls.proposal import Update
from crypto.mls.tree_math import LeafIndex
from tests.crypto.mls.clients import accept, assemble, key_package, publish

DOCTOR = LeafIndex(1)


def hear(group: Group, message: bytes) -> Group:
    group, received = group.process(message, authenticate=accept)
    if isinstance(received, StagedCommit):
        assert received.group is not None
        return group.merge(received.group)
    return group


def test_a_member_can_be_removed_while_its_own_update_waits() -> None:
    nurse, doctor, porter = assemble("nurse", "doctor", "porter")
    _, update = doctor.propose_update()
    nurse, porter = hear(nurse, update), hear(porter, update)
    nurse, staged = nurse.commit([Remove(DOCTOR)], authenticate=accept)
    assert [type(item.proposal) for item in staged.proposals] == [Remove]
    assert staged.group is not None
    after = hear(porter, staged.message)
    assert after.epoch_authenticator == staged.group.epoch_authenticator


def test_of_what_waits_for_one_leaf_a_remove_goes_first_and_then_the_newest_update() -> None:
    nurse, doctor, porter = assemble("nurse", "doctor", "porter")
    doctor, first = doctor.propose_update()
    doctor, second = doctor.propose_update()
    nurse = hear(hear(nurse, first), second)
    _, staged = nurse.commit(authenticate=accept)
    newest = list(doctor.pending.values())[-1].sent
    assert staged.proposals == (newest,)
    porter, removal = porter.propose(Remove(DOCTOR))
    _, third = doctor.propose_update()
    nurse = hear(hear(nurse, removal), third)
    _, staged = nurse.commit(authenticate=accept)
    assert [item.proposal for item in staged.proposals] == [Remove(DOCTOR)]


def test_an_update_signed_for_another_group_does_not_wait_and_block_every_commit() -> None:
    nurse, doctor, _ = assemble("nurse", "doctor", "porter")
    old = doctor.current.tree.leaf(DOCTOR)
    assert old is not None
    leaf_node = sign_leaf_node(
        SUITE,
        LeafContent(credential=old.credential, capabilities=old.capabilities),
        signer=doctor.current.signer,
        encryption_key=SUITE.hpke.generate_key_pair()[1],
        source=None,
        position=(b"another ward", DOCTOR),
    )
    with pytest.raises(VerificationError):
        nurse.process(publish(doctor, Update(leaf_node)), authenticate=accept)


def test_what_a_stranger_proposes_is_committed_by_nobody_who_leaves_it_out() -> None:
    nurse, doctor = assemble("nurse", "doctor")
    stranger = key_package("stranger")
    knock = propose_own_add(stranger, group_id=nurse.group_id, epoch=nurse.epoch)
    nurse, received = nurse.process(knock, authenticate=accept)
    assert isinstance(received, ReceivedProposal)
    nurse = hear(nurse, doctor.propose_update()[1])
    _, staged = nurse.commit(authenticate=accept, leave_out=[received.reference])
    assert [type(item.proposal) for item in staged.proposals] == [Update]
    assert staged.welcome is None
    _, staged = nurse.commit(authenticate=accept, leave_out=nurse.pending)
    assert staged.proposals == ()


class FixedSecrets:
    """A source of randomness that gives the same path secret each time."""

    def __init__(self) -> None:
        self.path_secret = secrets.token_bytes(SUITE.hash_bytes)

    def token_bytes(self, _: int) -> bytes:
        return self.path_secret


def test_a_path_that_brings_the_keys_of_the_present_tree_again_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nurse, doctor, _ = assemble("nurse", "doctor", "porter")
    monkeypatch.setattr(treekem, "secrets", FixedSecrets())
    nurse, staged = nurse.commit(authenticate=accept)
    assert staged.group is not None
    nurse, doctor = nurse.merge(staged.group), hear(doctor, staged.message)
    _, again = nurse.commit(authenticate=accept)
    with pytest.raises(InvalidError):
        doctor.process(again.message, authenticate=accept)

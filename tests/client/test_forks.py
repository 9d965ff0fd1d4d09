"""Who may tell a device that the others are in another epoch, and what it then says again."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from client.followed import Action, Cause, StagedCommit
from protocol.frames import EntryKind
from tests.client.talk import Change, Ward, assembled
from tests.server.harness import hospital

PEOPLE = ("ann/phone", "bob/phone", "cat/phone")


@pytest.fixture
def talk() -> Ward:
    return assembled(hospital(), *PEOPLE)


def staged_by_ann(talk: Ward) -> StagedCommit:
    """Return a Commit of Ann's that counts, as it was staged before it did."""
    ann = talk["ann/phone"]
    ann.commit(Change())
    (staged,) = ann.view.staged
    return staged


def test_nobody_outside_tells_a_device_that_the_others_have_left_it(talk: Ward) -> None:
    talk.change("ann/phone", Change())
    bob, dan = talk["bob/phone"], talk.talker("dan/phone")
    epoch = bob.group.epoch
    other = replace(staged_by_ann(talk), epoch=epoch)
    told = talk.verdict(other, by=dan, transcript=secrets.token_bytes(32))
    followed = bob.take(told)
    assert [(fault.cause, fault.action) for fault in followed.faults] == [
        (Cause.UNSIGNED, Action.REPORT)
    ]
    assert not followed.forks


@pytest.mark.parametrize("by", ["recorder", "cat/phone"])
def test_who_is_in_tells_it_and_what_went_into_the_other_epoch_is_said_again(
    talk: Ward, by: str
) -> None:
    bob = talk["bob/phone"]
    other = replace(staged_by_ann(talk), epoch=bob.group.epoch)
    signer = talk.recorder if by == "recorder" else talk[by]
    followed = bob.take(talk.verdict(other, by=signer, transcript=secrets.token_bytes(32)))
    assert [fault.cause for fault in followed.faults] == [Cause.FORKED]
    assert followed.forks


def test_a_commit_that_was_withheld_has_nothing_said_again(talk: Ward) -> None:
    """The epoch is the others' too until that Commit, and they have read what was said in it."""
    ann, bob, cat = (talk[name] for name in PEOPLE)
    first, _ = ann.commit(Change())
    bob.commit(Change())
    cat.take(talk.entry(first, EntryKind.COMMIT))
    followed = cat.take(talk.verdict(bob.view.staged[0]))
    assert [fault.cause for fault in followed.faults] == [Cause.FORKED]
    assert not followed.forks

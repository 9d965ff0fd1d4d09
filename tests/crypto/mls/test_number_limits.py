"""Numbers at the end of their range are refused like everything else from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto.codec import decode
from crypto.errors import DecodeError, InvalidError
from crypto.mls import Add, Group
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.mls.group_info import MAX_EPOCH
from crypto.mls.key_schedule import MAX_PSKS
from crypto.mls.proposal import Commit, PreSharedKey, ResumptionPSK, ResumptionPSKUsage
from crypto.mls.secret_tree import MAX_GENERATION, Ratchet
from crypto.mls.tree_math import NodeIndex
from tests.crypto.mls.clients import accept, admit, assemble, key_package, publish, saved


def test_a_commit_with_more_pre_shared_keys_than_their_count_can_say_is_invalid() -> None:
    nurse, doctor = assemble("nurse", "doctor")
    psks = (
        ResumptionPSK(
            usage=ResumptionPSKUsage.APPLICATION,
            psk_group_id=nurse.group_id,
            psk_epoch=nurse.epoch,
            psk_nonce=number.to_bytes(32, "big"),
        )
        for number in range(MAX_PSKS + 1)
    )
    message = publish(nurse, Commit(tuple(map(PreSharedKey, psks)), None), tag=bytes(32))
    with pytest.raises(InvalidError):
        doctor.process(message, authenticate=accept)


def test_a_group_in_its_last_epoch_has_no_next_one() -> None:
    group = Group.create(key_package("nurse"), group_id=b"ward 7")
    context = replace(group.context, epoch=MAX_EPOCH - 1)
    early = replace(group.current, context=context, encoded_context=context.encode())
    group, doctor = admit(replace(group, current=early), ["doctor"])
    assert doctor.epoch == MAX_EPOCH
    with pytest.raises(InvalidError):
        doctor.commit(authenticate=accept)
    commit = publish(group, Commit((Add(key_package("x").key_package),), None), tag=bytes(32))
    with pytest.raises(InvalidError):
        doctor.process(commit, authenticate=accept)


def test_a_ratchet_after_its_last_generation_can_be_saved() -> None:
    ratchet, _ = Ratchet(secret=bytes(32), generation=MAX_GENERATION).take(SUITE, MAX_GENERATION)
    again = decode(ratchet.encode(), "Ratchet", Ratchet.read)
    assert again.generation == MAX_GENERATION + 1


@pytest.mark.parametrize("name", ["past/" + "1" * 5_000, "proposal/x"])
def test_a_record_of_a_strange_name_is_refused(name: str) -> None:
    nurse, _ = assemble("nurse", "doctor")
    records = saved(nurse) | {name: b""}
    with pytest.raises((InvalidError, DecodeError)):
        Group.load(records)


def test_saved_private_keys_of_another_path_are_refused() -> None:
    nurse, _ = assemble("nurse", "doctor")
    current = replace(
        nurse.current, private_keys={**nurse.current.private_keys, NodeIndex(2): bytes(32)}
    )
    with pytest.raises(InvalidError):
        Group.load(saved(replace(nurse, current=current)))

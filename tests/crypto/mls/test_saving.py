"""Saving: what a message costs, and that nothing is lost by saving only what changed."""

from __future__ import annotations

import pytest

from crypto.mls import Group, StagedCommit, state
from tests.crypto.mls.clients import accept, assemble, saved


def apply(records: dict[str, bytes], changes: dict[str, bytes | None]) -> dict[str, bytes]:
    kept = {**records, **changes}
    return {key: data for key, data in kept.items() if data is not None}


def hear(group: Group, message: bytes) -> Group:
    group, received = group.process(message, authenticate=accept)
    if isinstance(received, StagedCommit):
        assert received.group is not None
        return group.merge(received.group)
    return group


def test_saving_changes_only_gives_what_saving_everything_gives() -> None:
    nurse, doctor, _ = assemble("nurse", "doctor", "porter")
    records = saved(nurse)
    for _ in range(7):
        before = nurse
        doctor, late = doctor.encrypt(b"late")
        doctor, proposal = doctor.propose_update()
        nurse, staged = hear(nurse, proposal).commit(authenticate=accept)
        assert staged.group is not None
        records = apply(records, nurse.changes(before))
        assert records == saved(nurse)
        before, nurse = nurse, hear(nurse.merge(staged.group), late)
        doctor = hear(doctor, staged.message)
        records = apply(records, nurse.changes(before))
        assert records == saved(nurse)
        assert saved(Group.load(records)) == records


def test_saving_a_message_encodes_no_past_epoch_and_no_proposal_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nurse, staged = assemble("nurse", "doctor")[0].commit(authenticate=accept)
    assert staged.group is not None
    before, _ = nurse.merge(staged.group).propose_update()
    assert before.past
    assert before.pending
    after, _ = before.encrypt(b"hello")
    monkeypatch.setattr(state, "_encode_past", None)
    monkeypatch.setattr(state, "_encode_pending", None)
    assert {key.split("/")[0] for key in after.changes(before)} == {"secret"}

"""Leaves: who is accepted, and the ghost devices that are not."""

from __future__ import annotations

import pytest

from crypto import identity
from crypto.errors import InvalidError
from crypto.statement import Purpose
from crypto.trust import Trust

from .hospital import NOW_MS, Staff, new_keys


@pytest.fixture(scope="module")
def staff() -> Staff:
    return Staff()


def test_a_client_that_knows_only_the_root_accepts_a_device_through_its_proofs(
    staff: Staff,
) -> None:
    tablet = new_keys("alice", "tablet")
    der = staff.issue(tablet, staff.request(tablet, staff.vouch(staff.alice, tablet))).der
    trust = identity.admit(Trust(root=staff.root), [staff.ada.der, staff.alice.der])
    found = identity.verify_entering_leaf(
        [der], signature_key=tablet.signature_key.public_key, trust=trust, at_ms=NOW_MS
    )
    assert found.name == "alice/tablet"


def test_a_ghost_device_invited_by_a_single_administrator_is_refused(staff: Staff) -> None:
    with pytest.raises(InvalidError):
        staff.enrol("alice/ghost", staff.ada.signs_as(Purpose.ADMINISTRATOR))

"""What a person asks for themself counts once, however often a relay tells it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from client import oncall_admin
from client.trusted import Rows, Trusted, learned, loaded, taken_in
from client.views import Control
from crypto.names import Role
from crypto.trust import Trust
from protocol.identifiers import UserName
from protocol.oncall.configuration import Plan
from tests.client.test_oncall_admin import ANN, BOB, DAY, ICU, control_log, entry
from tests.protocol.oncall.ward import HOUR, MINUTE
from tests.server import harness

GIVES = 4
"""Number of the entry by which Ann gives Bob her shift."""


class Told:
    """What a device holds true, entry by entry."""

    def __init__(self) -> None:
        self.of = harness.hospital()
        self.of.enrol("chief/desk", Role.ADMINISTRATOR)
        self.of.enrol("ann/phone")
        self.start = harness.now_ms()
        certificates = [person.certificate for person in self.of.people.values()]
        self.trusted, rows = learned(Trusted(trust=Trust(root=self.of.root)), certificates)
        self.rows: dict[object, bytes] = dict(rows)
        self.controls = control_log(self.of, self.start)
        self.take(control for control in self.controls if control.verified)

    def take(self, controls: Iterable[Control]) -> None:
        for control in controls:
            taken = taken_in(self.trusted, control.statement, at_ms=control.at_ms)
            assert taken.verified
            self.trusted = taken.trusted
            self.rows.update(taken.rows)

    @property
    def plan(self) -> Plan:
        return self.trusted.on_call.plans[ICU]

    def on_call(self) -> tuple[UserName, ...]:
        at_ms = self.start + 30 * MINUTE
        return oncall_admin.who_was(
            self.trusted.on_call, ICU, at_ms=at_ms, known_ms=self.start + 400 * DAY
        )

    def taken_back(self) -> Control:
        """Return how an administrator takes back what Ann gave."""
        (given,) = self.plan.schedule(self.start + 30 * MINUTE).stack
        undone = oncall_admin.removed(self.plan, given.name)
        return entry(self.of, 6, undone.encode(), by="chief/desk", start=self.start)

    def started_anew(self) -> None:
        rows: Rows = self.rows  # type: ignore[assignment]
        self.trusted = loaded(Trust(root=self.of.root), rows)


@pytest.fixture
def told() -> Told:
    made = Told()
    assert made.on_call() == (BOB,)
    return made


def test_a_shift_that_was_taken_back_is_not_given_again_by_who_tells_the_request_again(
    told: Told,
) -> None:
    back = told.taken_back()
    told.take([back])
    assert told.on_call() == (ANN,)
    version = told.plan.version
    again = told.controls[GIVES - 1]
    told.take([again])
    told.started_anew()
    told.take([again])
    assert (told.on_call(), told.plan.version) == ((ANN,), version)
    # Nor is it read from the control log as if it had been given twice.
    controls = [*told.controls, back, again]
    known = oncall_admin.as_known(controls, known_ms=told.start + DAY, trust=told.trusted.trust)
    assert known.plans[ICU].version == version


def test_a_request_that_has_ended_is_not_taken_in_behind_a_later_one(told: Told) -> None:
    told.take([told.taken_back()])
    gives = oncall_admin.handed_over(
        told.plan,
        giver=ANN,
        to=BOB,
        start_ms=told.start + 2 * DAY,
        end_ms=told.start + 2 * DAY + HOUR,
    )
    later = entry(told.of, 0, gives.encode(), by="ann/phone", start=told.start + 2 * DAY)
    told.take([later])
    assert list(told.trusted.asked) != []
    assert len(told.trusted.asked) == 1
    told.take([told.controls[GIVES - 1]])
    assert told.on_call() == (ANN,)

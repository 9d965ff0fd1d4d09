"""Who may suspend whose devices without being an administrator: a table."""

from __future__ import annotations

import pytest

from crypto.errors import InvalidError
from protocol.commands import Suspension
from protocol.identifiers import DeviceId, RoleName, UserName
from protocol.oncall.hours import EVERY_DAY, Hours
from protocol.oncall.role import Roster
from protocol.oncall.schedule import Layer, Schedule
from protocol.suspending import Rights
from tests.protocol.oncall.ward import HOUR, INTERN, NIGHT, NURSE, REGISTRAR, always, roster

CHARGE = RoleName("charge")
HERS, OTHER, STRANGERS = DeviceId("nurse/phone"), DeviceId("intern/phone"), DeviceId("x/phone")
WARDS = {NURSE: "Ward 4", INTERN: "Ward 4", UserName("x"): "Ward 5"}
AT_NIGHT: Roster = roster(
    charge=Schedule(
        zone="Europe/Berlin",
        layers=(
            Layer(
                name="nights",
                hours=(Hours(weekdays=EVERY_DAY, start_minute=20 * 60, end_minute=8 * 60),),
                users=(REGISTRAR,),
            ),
        ),
    )
)


def rights(*mild: DeviceId, at_ms: int = NIGHT, role: RoleName = CHARGE) -> Rights:
    return Rights(
        wards=WARDS, delegates={"Ward 4": role}, roster=AT_NIGHT, at_ms=at_ms, mild=frozenset(mild)
    )


@pytest.mark.parametrize(
    ("by", "device", "lifted", "mild"),
    [
        (NURSE, HERS, False, ()),
        (NURSE, HERS, True, (HERS,)),
        (REGISTRAR, OTHER, False, ()),
        (REGISTRAR, OTHER, True, (OTHER,)),
    ],
)
def test_a_person_and_the_nights_delegate_suspend_and_end_it(
    by: UserName, device: DeviceId, lifted: bool, mild: tuple[DeviceId, ...]
) -> None:
    rights(*mild).check(Suspension(devices=(device,), lifted=lifted), by=by)


@pytest.mark.parametrize(
    ("by", "devices", "lifted", "mild"),
    [
        (NURSE, (OTHER,), False, ()),
        (NURSE, (OTHER, HERS), False, ()),
        (REGISTRAR, (STRANGERS,), False, ()),
        (REGISTRAR, (OTHER, STRANGERS), False, ()),
        (NURSE, (HERS,), True, ()),
        (REGISTRAR, (OTHER,), True, (HERS,)),
    ],
)
def test_nobody_suspends_or_lifts_beyond_that(
    by: UserName, devices: tuple[DeviceId, ...], lifted: bool, mild: tuple[DeviceId, ...]
) -> None:
    with pytest.raises(InvalidError):
        rights(*mild).check(Suspension(devices=devices, lifted=lifted), by=by)


def test_a_delegate_is_one_while_on_call_and_for_a_role_that_there_is() -> None:
    for known in (rights(at_ms=NIGHT + 12 * HOUR), rights(role=RoleName("nobodys"))):
        with pytest.raises(InvalidError):
            known.check(Suspension(devices=(OTHER,), lifted=False), by=REGISTRAR)


def test_who_has_no_ward_has_no_delegate() -> None:
    nobody = Rights(
        wards={}, delegates={"": CHARGE}, roster=roster(charge=always()), at_ms=NIGHT, mild=()
    )
    assert not nobody.is_delegate(REGISTRAR, of=NURSE)

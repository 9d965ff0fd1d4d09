"""What is asked of the directory all day looks at nobody whom it does not concern."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from crypto.certificate import fingerprint
from crypto.names import Role
from protocol.identifiers import DeviceId
from server.directory import Device, Organisation, load
from tests.server import harness


class Unlisted(dict[DeviceId, Device]):
    """Devices that are found by name and cannot be gone through."""

    def _refuse(self) -> Iterator[DeviceId]:
        raise AssertionError("every device was looked at")

    __iter__ = keys = values = items = _refuse  # type: ignore[assignment]


@pytest.fixture
def hospital() -> harness.Hospital:
    made = harness.hospital()
    for name in ("ann/phone", "bob/phone"):
        made.enrol(name)
    return made


@pytest.fixture
def organisation(hospital: harness.Hospital) -> Organisation:
    facts = {}
    for person in hospital.people.values():
        identity = hospital.trust.devices[fingerprint(person.certificate)]
        fact = Device(identity=identity, certificate=person.certificate, seen_ms=0).fact()
        facts[fact.key] = fact.value or b""
    made = load(hospital.root, facts)
    phone = made.devices[DeviceId("ann/phone")]
    desk = replace(phone.identity, device="desk", fingerprint=bytes(32))
    made.keep(replace(phone, identity=desk))
    made.devices = Unlisted(made.devices)
    return made


def test_a_person_s_devices_are_found_among_any_number(organisation: Organisation) -> None:
    assert {one.id for one in organisation.of_user("ann")} == {"ann/phone", "ann/desk"}
    assert organisation.of_user("nobody") == []
    revoked = organisation.revoking([DeviceId("ann/desk")], now_ms=1)
    organisation.trust = organisation.trust.revoking(revoked)
    assert [one.id for one in organisation.of_user("ann")] == ["ann/phone"]


def test_the_archive_is_found_among_any_number_as_long_as_it_is_one(
    organisation: Organisation,
) -> None:
    assert organisation.recorders() == [harness.RECORDER]
    was = organisation.devices[harness.RECORDER]
    organisation.keep(replace(was, identity=replace(was.identity, roles=frozenset({Role.WITNESS}))))
    assert organisation.recorders() == []
    organisation.keep(was)
    revoked = organisation.revoking([harness.RECORDER], now_ms=1)
    organisation.trust = organisation.trust.revoking(revoked)
    assert organisation.recorders() == []


def test_a_certificate_s_device_is_found_among_any_number(
    hospital: harness.Hospital, organisation: Organisation
) -> None:
    name = fingerprint(hospital.people[DeviceId("bob/phone")].certificate)
    found = organisation.of_certificate(name)
    assert found is not None
    assert found.id == "bob/phone"
    assert organisation.of_certificate(b"\x01" * 32) is None

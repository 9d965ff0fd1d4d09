"""What a program holds true about its organisation: the root, the devices it knows, who is revoked.

A value: every change gives a new one, and the caller keeps it with the rest of its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from crypto import names
from crypto.certificate import FINGERPRINT_BYTES, Root
from crypto.errors import InvalidError
from crypto.names import Role

K = TypeVar("K", str, bytes)

CLOCK_SKEW_MS = 5 * 60 * 1000
"""How far two programs' clocks may differ, in ms; hospitals' clocks are set by the network."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceIdentity:
    """A device whose certificate and proof have verified.

    Attributes:
        organisation: Fingerprint of the root.
        user: The person.
        device: The device's name within its person.
        roles: What it may sign for, at least one.
        serial: Its certificate's serial.
        fingerprint: Its certificate's SHA-256: how a statement names its signer.
        signature_key: MLS signature key, which also signs the device's statements.
        connection_key: Key outside the locked store.
        not_before_ms: Start of validity.
        not_after_ms: Last second of validity.
        ends_ms: Date after which no certificate is issued, where there is one.
        origin: Names the person's first device, from which every other one descends.
    """

    organisation: bytes
    user: str
    device: str
    roles: frozenset[Role]
    serial: int
    fingerprint: bytes
    signature_key: bytes
    connection_key: bytes
    not_before_ms: int
    not_after_ms: int
    ends_ms: int | None
    origin: bytes

    @property
    def name(self) -> str:
        """The device's name within its organisation, ``user/device``."""
        return f"{self.user}/{self.device}"

    def is_valid_at(self, at_ms: int) -> bool:
        """Say whether ``at_ms`` is in the certificate's dates, give or take ``CLOCK_SKEW_MS``."""
        return self.not_before_ms - CLOCK_SKEW_MS <= at_ms <= self.not_after_ms + CLOCK_SKEW_MS


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Revocations:
    """Devices and certificates that are revoked, and since when; nothing is ever taken off.

    Attributes:
        number: Number of the newest revocation list taken in, 0 before the first.
        devices: ``user/device`` and the time in ms: all its certificates, for ever.
        certificates: A certificate's fingerprint and the time in ms.
    """

    number: int = 0
    devices: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    certificates: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}))

    def with_device(self, name: str, *, at_ms: int) -> Revocations:
        """Return these and one more device, as a verified wipe order demands.

        Raises:
            InvalidError: The name is not ``user/device``.
        """
        names.check_full_name(name)
        return replace(self, devices=_earliest(self.devices, {name: at_ms}))

    def with_certificate(self, fingerprint: bytes, *, at_ms: int) -> Revocations:
        """Return these and one more certificate.

        Raises:
            InvalidError: The fingerprint has not ``FINGERPRINT_BYTES`` bytes.
        """
        if len(fingerprint) != FINGERPRINT_BYTES:
            raise InvalidError("a certificate's fingerprint has 32 bytes")
        return replace(self, certificates=_earliest(self.certificates, {fingerprint: at_ms}))

    def with_list(self, newer: Revocations) -> Revocations:
        """Return these and those of a verified list.

        Raises:
            InvalidError: The list is older than one taken in before.
        """
        if newer.number < self.number:
            raise InvalidError(
                "a revocation list's number never goes back (RFC 5280, section 5.2.3)"
            )
        return Revocations(
            number=newer.number,
            devices=_earliest(self.devices, newer.devices),
            certificates=_earliest(self.certificates, newer.certificates),
        )

    def since_ms(self, identity: DeviceIdentity) -> int | None:
        """Return since when a device or its certificate is revoked; ``None`` where it is not."""
        times = (
            self.devices.get(identity.name),
            self.certificates.get(identity.fingerprint),
        )
        return min((time for time in times if time is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Trust:
    """The pinned root, the verified devices known so far, and the revocations.

    Who forgets a device forgets that its person had one, and with it the protection against a
    second "first device": the caller keeps this value as it keeps its keys.

    Attributes:
        root: The pinned root.
        revocations: Who is revoked.
        devices: Verified devices by their certificate's fingerprint, expired ones too.
        origins: For each person known, the one origin of all that person's devices.
    """

    root: Root
    revocations: Revocations = field(default_factory=Revocations)
    devices: Mapping[bytes, DeviceIdentity] = field(default_factory=lambda: MappingProxyType({}))
    origins: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))

    def revoking(self, revocations: Revocations) -> Trust:
        """Return this with other revocations."""
        return replace(self, revocations=revocations)

    def knowing(self, identities: Iterable[DeviceIdentity]) -> Trust:
        """Return this with more verified devices.

        Raises:
            InvalidError: A person would have two first devices.
        """
        devices, origins = dict(self.devices), dict(self.origins)
        for identity in identities:
            _check_origin(identity, origins)
            origins[identity.user] = identity.origin
            devices[identity.fingerprint] = identity
        return replace(self, devices=MappingProxyType(devices), origins=MappingProxyType(origins))

    def check_origin(self, identity: DeviceIdentity) -> None:
        """Refuse a device that does not descend from its person's first one, where that is known.

        Raises:
            InvalidError: The person would have two first devices.
        """
        _check_origin(identity, self.origins)


def _check_origin(identity: DeviceIdentity, origins: Mapping[str, bytes]) -> None:
    if origins.get(identity.user, identity.origin) != identity.origin:
        raise InvalidError("a person's devices descend from one first device")


def _earliest(old: Mapping[K, int], new: Mapping[K, int]) -> Mapping[K, int]:
    """Join two maps of revocations; the earlier time wins, so that none can be put off."""
    joined = dict(old)
    for key, time in new.items():
        joined[key] = min(time, joined.get(key, time))
    return MappingProxyType(joined)

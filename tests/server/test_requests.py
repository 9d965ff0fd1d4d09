"""What a device asks of the directory."""

from __future__ import annotations

from pathlib import Path

from crypto.certificate import fingerprint
from crypto.names import Role
from protocol import frames, limits
from protocol.errors import Code
from tests.server import harness
from tests.server.harness import Client
from tests.server.test_accounts import new_keys


async def claim(client: Client, device: str) -> frames.Frame:
    return await client.answer(lambda ref: frames.ClaimKeyPackage(ref=ref, device=device))


async def publish(client: Client, packages: tuple[bytes, ...]) -> frames.Frame:
    return await client.answer(
        lambda ref: frames.PublishKeyPackages(ref=ref, packages=packages, last_resort=b"")
    )


async def test_key_packages_are_given_once_and_the_last_resort_again_and_again(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        bob = await site.open(of.enrol("bob/phone"))
        await bob.answer(
            lambda ref: frames.PublishKeyPackages(
                ref=ref, packages=(b"one", b"two"), last_resort=b"last"
            )
        )
    async with harness.running(tmp_path, of) as site:
        ann = await site.open(of.enrol("ann/phone"))
        given = []
        for _ in range(4):
            answer = await ann.answer(
                lambda ref: frames.ClaimKeyPackage(ref=ref, device="bob/phone")
            )
            assert isinstance(answer, frames.KeyPackage)
            given.append(answer.package)
        assert given == [b"one", b"two", b"last", b"last"]


async def test_a_device_that_starts_over_drops_what_it_can_no_longer_open(tmp_path: Path) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        bob = await site.open(of.enrol("bob/phone"))
        await publish(bob, tuple(b"old%d" % number for number in range(limits.KEY_PACKAGES)))
        full = await publish(bob, (b"more",))
        assert isinstance(full, frames.Refused)
        assert (full.code, full.detail) == (Code.QUOTA, 0)
        done = await bob.answer(
            lambda ref: frames.PublishKeyPackages(
                ref=ref, packages=(b"new",), last_resort=b"last", replace=True
            )
        )
        assert isinstance(done, frames.Done)
    async with harness.running(tmp_path, of) as site:
        ann = await site.open(of.enrol("ann/phone"))
        for expected in (b"new", b"last"):
            answer = await claim(ann, "bob/phone")
            assert isinstance(answer, frames.KeyPackage)
            assert answer.package == expected


async def test_a_certificate_is_found_by_fingerprint_whatever_became_of_it(tmp_path: Path) -> None:
    of = harness.hospital()
    keys = new_keys("bob", "phone")
    request = of.request(keys, *of.invitation("bob", Role.CLINICIAN))
    bob = of.certify(keys, request)
    async with harness.running(tmp_path, of) as site:
        await site.open(bob)
    renewed = of.certify(keys, request)
    async with harness.running(tmp_path, of) as site:
        await site.open(renewed)
        for reader in ("ann/phone", "carl/phone"):
            ann = await site.open(of.enrol(reader))
            names = tuple(map(fingerprint, (bob.certificate, renewed.certificate)))
            answer = await ann.answer(
                lambda ref, names=names: frames.LookupCertificates(  # type: ignore[misc]
                    ref=ref, fingerprints=(*names, bytes(32), names[0])
                )
            )
            assert isinstance(answer, frames.Directory)
            found = [entry.certificate for entry in answer.devices]
            assert found == [bob.certificate, renewed.certificate]
    async with harness.running(tmp_path, of) as site:
        assert fingerprint(bob.certificate) in site.relay.organisations[of.id].superseded


async def test_claims_are_slowed_for_each_pair(tmp_path: Path) -> None:
    rates = harness.Rates(claims=0.01, connections=1e4)
    async with harness.running(tmp_path, harness.hospital(), rates=rates) as site:
        bob = await site.open(site.hospital.enrol("bob/phone"))
        carl = await site.open(site.hospital.enrol("carl/phone"))
        for client in (bob, carl):
            await client.answer(
                lambda ref: frames.PublishKeyPackages(ref=ref, packages=(), last_resort=b"last")
            )
        ann = await site.open(site.hospital.enrol("ann/phone"))
        for _ in range(10):
            answer = await ann.answer(
                lambda ref: frames.ClaimKeyPackage(ref=ref, device="bob/phone")
            )
        assert isinstance(answer, frames.Refused)
        assert answer.code == Code.RATE_LIMITED
        other = await ann.answer(lambda ref: frames.ClaimKeyPackage(ref=ref, device="carl/phone"))
        assert isinstance(other, frames.KeyPackage)


async def test_a_device_that_has_none_and_one_that_is_not_there_are_refused(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        for device, code in (("ann/phone", Code.NO_KEY_PACKAGE), ("no/body", Code.NO_SUCH)):
            answer = await claim(ann, device)
            assert isinstance(answer, frames.Refused)
            assert answer.code == code


async def test_no_more_key_packages_are_kept_than_the_limit(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        ann = await site.open(site.hospital.enrol("ann/phone"))
        many = tuple(bytes([n]) for n in range(limits.KEY_PACKAGES))
        for packages, accepted in ((many, True), ((b"more",), False)):
            answer = await publish(ann, packages)
            assert isinstance(answer, frames.Done) is accepted

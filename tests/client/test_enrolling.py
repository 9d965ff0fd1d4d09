"""Enrolment, from the link that a person scans to a profile that opens, whatever interrupts it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from client import connection as connections
from client import enrolling
from client.enrolling import Applicant, Person, Step, enrol, resume
from client.errors import (
    DamagedError,
    ImpostorError,
    InvitationError,
    LostError,
    NotEnrolledError,
    UnreachableError,
    WeakPasswordError,
    WrongPasswordError,
    WrongPinError,
)
from client.https import Https
from client.link import Link
from client.profile import (
    ENROLLING,
    UNFINISHED_MS,
    Profile,
    profiles,
    remove_unfinished,
)
from client.store import Store
from client.unlocking import CERTIFICATE, ROOT, unlock
from crypto.certificate import fingerprint
from crypto.ed25519 import SigningKey
from crypto.invitation import decode_link
from crypto.mls import KeyPackage
from crypto.mls.cipher_suite import X25519_CHACHA20POLY1305_SHA256_ED25519 as SUITE
from crypto.names import Role
from crypto.pin import PinParameters
from crypto.proof import DeviceGrant
from crypto.statement import (
    Purpose,
    Signatory,
    StatementType,
    countersign_statement,
)
from protocol import limits
from protocol.commands import RemoveUser
from protocol.device_codes import Grant, grant_text, read_application
from protocol.errors import Code
from protocol.frames import Deliver
from protocol.identifiers import DeviceId, LogId, UserName, inbox_log
from protocol.proof import invitation_proof
from protocol.session import State
from server.answers import Refusal
from tests.client.authority import certifying, invitation, invite, submit
from tests.client.openable import PARAMETERS, PIN
from tests.client.orders import administrator
from tests.client.relay import PIN as TLS_PIN
from tests.client.relay import address_of, link_of, serving
from tests.depth import DEPTH
from tests.server import harness
from tests.server.harness import Hospital, Site, now_ms
from tests.server.test_accounts import PASSWORD, code
from tests.waiting import comes_true

OTHER_PIN = "271828"
STRIDE = 1 if DEPTH > 1 else 4
"""At every which of its steps an enrolment is killed: each of them costs a second."""


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh = replace(PARAMETERS, salt=os.urandom(16))
    monkeypatch.setattr(PinParameters, "fresh", classmethod(lambda _: fresh))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


class Someone:
    """A person at a device, with an authenticator that shows each code once."""

    def __init__(self, site: Site, password: str = PASSWORD, pin: str = PIN) -> None:
        self.site = site
        self.secret = b""
        self.steps: list[Step] = []
        self.wrong: list[bool] = []
        self.mistakes = 0
        self.waits = asyncio.Event()
        self._shift = -2
        self.person = Person(password=password, pin=pin, one_time_code=self.code, on_step=self.told)

    def told(self, step: Step) -> None:
        self.steps.append(step)
        if step is Step.WAITING:
            self.waits.set()

    async def code(self, secret: bytes, wrong: bool) -> str:
        self.secret = secret or self.secret
        self.wrong.append(wrong)
        if self.mistakes:
            self.mistakes -= 1
            return "000000"
        self._shift += 1
        return code(self.site, self.secret, steps=self._shift)

    def typing(self, **changes: str) -> Person:
        return replace(self.person, **changes)  # type: ignore[arg-type]


async def works(profile: Profile, site: Site, pin: str = PIN) -> None:
    """Show that a profile opens, and that its device is let in."""
    opened = await unlock(profile, pin, now_ms=now_ms())
    assert not opened.leased
    assert opened.store.settings.get(ROOT) == site.hospital.root.der
    assert opened.store.settings.get(CERTIFICATE) == opened.credentials.certificate
    assert opened.store.cursor(inbox_log(opened.credentials.device)) > 0
    link = await Link.open(opened.address, opened.credentials)
    assert link.state is State.OPEN
    # What stood in the inbox was acknowledged; to who asks twice it may come again.
    await asyncio.sleep(0.1)
    while (frame := link.receive_now()) is not None:
        if isinstance(frame, Deliver) and frame.log == inbox_log(opened.credentials.device):
            assert frame.sequence > opened.store.cursor(LogId(frame.log))
    await link.close()
    opened.store.close()
    assert not profile.enrolling


async def test_an_invitations_link_leads_to_a_profile_that_opens(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        link = await invite(site, "ann", Role.CLINICIAN)
        broken = f"  {link[:60]}\n{link[60:]}\n"
        profile = await enrol(broken, "phone", ann.person, root=tmp_path / "p", clock=now_ms)
        assert connections.read(profile).device == "ann/phone"
        assert ann.steps == list(Step)
        assert ann.wrong == [False]
        await works(profile, site)
        assert [path.name for path in profile.directory.iterdir() if path.name == ENROLLING] == []


async def test_who_has_only_enrolled_can_be_let_in_with_keys_that_are_in_the_store(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        link = await invite(site, "ann")
        profile = await enrol(link, "phone", ann.person, root=tmp_path / "p", clock=now_ms)
        await can_be_let_in(profile, site)


async def can_be_let_in(profile: Profile, site: Site) -> None:
    """Show that the secrets of every key package that the relay has are in the store."""
    device = connections.read(profile).device
    kept = site.relay.organisations[site.hospital.id].key_packages[device]
    given = [KeyPackage.decode(one) for one in (*kept.one_time.values(), kept.last_resort)]
    assert len(given) == limits.KEY_PACKAGES + 1
    opened = await unlock(profile, PIN, now_ms=now_ms())
    assert all(opened.store.keys.package(one.reference(SUITE)) for one in given)
    opened.store.close()


async def test_a_wrong_code_is_asked_for_again_with_the_same_secret(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        ann.mistakes = 2
        link = await invite(site, "ann")
        profile = await enrol(link, "phone", ann.person, root=tmp_path / "p", clock=now_ms)
        assert ann.wrong == [False, True, True]
        await works(profile, site)


@pytest.mark.parametrize("password", ["short", "x" * 300, "password1234"])
async def test_a_weak_password_is_told_and_another_goes_on(tmp_path: Path, password: str) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        link = await invite(site, "ann")
        root = tmp_path / "p"
        with pytest.raises(WeakPasswordError):
            await enrol(link, "phone", ann.typing(password=password), root=root, clock=now_ms)
        (pending,) = profiles(root)
        with pytest.raises(NotEnrolledError):
            await unlock(pending, PIN, now_ms=now_ms())
        profile = await enrol(link, "phone", ann.person, root=root, clock=now_ms)
        assert profile == pending
        await works(profile, site)


async def test_an_interrupted_enrolment_wants_its_own_pin(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        link = await invite(site, "ann")
        root = tmp_path / "p"
        with pytest.raises(WrongPinError):
            await enrol(link, "phone", ann.typing(pin="123"), root=root, clock=now_ms)
        assert profiles(root) == []
        with pytest.raises(WeakPasswordError):
            await enrol(link, "phone", ann.typing(password="short"), root=root, clock=now_ms)
        with pytest.raises(WrongPinError):
            await enrol(link, "phone", ann.typing(pin=OTHER_PIN), root=root, clock=now_ms)
        (pending,) = profiles(root)
        await works(await resume(pending, ann.person, clock=now_ms), site)


@pytest.mark.parametrize("at", [9, 30, 100, -1])
async def test_a_mistyped_link_is_refused_before_anything_is_contacted(
    tmp_path: Path, at: int
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = await invite(site, "ann")
        typed = link[:at] + ("A" if link[at] != "A" else "B") + link[at:][1:]
        with pytest.raises(InvitationError):
            await enrol(typed, "phone", Someone(site).person, root=tmp_path / "p", clock=now_ms)
        assert not (tmp_path / "p").exists()


async def test_an_invitation_that_nobody_signed_or_that_has_ended_is_none(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        ann, root = Someone(site), tmp_path / "p"
        unsigned, _ = invitation(site, "ann")
        with pytest.raises(InvitationError):
            await enrol(unsigned.encode(), "phone", ann.person, root=root, clock=now_ms)
        ended = await invite(site, "ann", lifetime_ms=1000)
        site.later_ms = 12 * 60_000

        def later() -> int:
            return now_ms() + site.later_ms

        with pytest.raises(InvitationError):
            await enrol(ended, "phone", ann.person, root=root, clock=later)
        name = await invite(site, "bob")
        with pytest.raises(InvitationError):
            await enrol(name, "Not a name", ann.person, root=root, clock=later)
        assert profiles(root) == []


async def test_a_used_invitation_lets_no_second_device_in(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        link = await invite(site, "ann")
        ann = Someone(site)
        await enrol(link, "phone", ann.person, root=tmp_path / "p", clock=now_ms)
        for device in ("phone", "tablet"):
            other = Someone(site)
            with pytest.raises((InvitationError, WrongPasswordError, TimeoutError)):
                async with asyncio.timeout(2):
                    await enrol(
                        link,
                        device,
                        other.typing(password="another good long passphrase"),
                        root=tmp_path / device,
                        clock=now_ms,
                    )


async def test_who_stands_between_gets_neither_password_nor_request(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link = decode_link(await invite(site, "ann"))
        pinned = replace(link, tls_pin=bytes(32)).encode()
        with pytest.raises(ImpostorError):
            await enrol(pinned, "phone", Someone(site).person, root=tmp_path / "p", clock=now_ms)
        assert site.relay.counters["proofs_wrong"] == 0


async def test_an_invitation_is_given_to_who_proves_its_key_alone(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        link, statement = invitation(site, "ann")
        await submit(site, statement)
        other, _ = invitation(site, "bob")
        https = Https(address_of(site))

        async def asked(key: bytes, proof: str, organisation: bytes | None = None) -> int:
            answer = await https.request(
                "GET",
                f"/v1/invitations/{(organisation or site.hospital.id).hex()}/{key.hex()}",
                headers={"Wardline-Proof": proof},
                most=4096,
            )
            assert (answer.body == statement) is (answer.status == 200)
            return answer.status

        def proof(of: Hospital = site.hospital, pin: bytes = TLS_PIN, late_ms: int = 0) -> str:
            at_ms = now_ms() + late_ms
            message = invitation_proof(organisation=of.id, pin=pin, at_ms=at_ms)
            return f"{at_ms}:{link.key.sign(message).hex()}"

        key = link.key.public_key
        assert await asked(key, proof()) == 200
        assert await asked(other.key.public_key, proof()) == 404
        assert await asked(key, proof(pin=bytes(32))) == 404
        assert await asked(key, proof(of=harness.hospital())) == 404
        assert await asked(key, proof(late_ms=-600_000)) == 404
        assert await asked(key, proof(late_ms=600_000)) == 404
        assert await asked(key, proof(), organisation=bytes(32)) == 404
        for malformed in ("", ":", "1:", "1:zz", "²:00", f"{now_ms()}:00", "9" * 40 + ":00"):
            assert await asked(key, malformed) == 404
        https.close()


async def test_invitations_survive_a_restart_and_go_when_they_have_ended(tmp_path: Path) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        link, statement = invitation(site, "ann", lifetime_ms=1000)
        await submit(site, statement)
    async with serving(tmp_path, of) as site:
        organisation = site.relay.organisations[of.id]
        assert list(organisation.invitations) == [link.key.public_key]
        site.later_ms = 3600_000
        newer, statement = invitation(site, "bob", lifetime_ms=24 * 3600_000)
        await submit(site, statement)
        assert list(organisation.invitations) == [newer.key.public_key]
    async with serving(tmp_path, of) as site:
        assert list(site.relay.organisations[of.id].invitations) == [newer.key.public_key]


async def test_who_is_removed_before_they_enrolled_has_no_invitation_any_more(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        organisation = site.relay.organisations[of.id]
        adam = administrator(of)
        await (await link_of(site, adam)).close()
        for name in ("ann", "bob"):
            await submit(site, invitation(site, name, lifetime_ms=24 * 3600_000)[1])
        kept = invitation(site, "cat", lifetime_ms=24 * 3600_000)
        await submit(site, kept[1])

        async def removed(user: str) -> None:
            body = RemoveUser(user=UserName(user)).encode()
            by = adam.signatory(Purpose.ADMINISTRATOR)
            await submit(site, of.signed(StatementType.COMMAND, body, by=by))

        await removed("ann")
        await removed("bob")
        assert list(organisation.invitations) == [kept[0].key.public_key]
        with pytest.raises(Refusal):
            await removed("ann")
    async with serving(tmp_path, of) as site:
        assert list(site.relay.organisations[of.id].invitations) == [kept[0].key.public_key]


# Interrupted.


class Killed(BaseException):
    """Stands for the end of the process."""


def killing_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process before its n-th durable step or frame, or right after it."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if done == number:
            raise Killed

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def stepping(*arguments: object, **named: object) -> object:
            step()
            result = act(*arguments, **named)
            step()
            return result

        return stepping

    def counted_await(act: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def stepping(*arguments: object, **named: object) -> object:
            step()
            result = await act(*arguments, **named)
            step()
            return result

        return stepping

    for owner, name in (
        (enrolling, "create_profile"),
        (enrolling, "overwrite"),
        (connections, "keep"),
        (Store, "passed"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    for name in ("ask", "open", "send"):
        kept = getattr(Link, name)
        if name == "open":
            original = Link.open.__func__  # type: ignore[attr-defined]
            monkeypatch.setattr(Link, name, classmethod(counted_await(original)))
        else:
            monkeypatch.setattr(Link, name, counted_await(kept))


async def test_an_enrolment_that_is_killed_at_any_step_goes_on_with_the_same_link(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        number = 1 - STRIDE
        while True:
            number += STRIDE
            # Each code that is waited for moves the relay's clock on, away from the device's.
            site.later_ms = 0
            ann, root = Someone(site), tmp_path / str(number)
            link = await invite(site, f"ann{number}")
            ended = False
            with pytest.MonkeyPatch.context() as patched:
                killing_at(number, patched)
                with suppress(Killed):
                    await enrol(link, "phone", ann.person, root=root, clock=now_ms)
                    ended = True
            remove_unfinished(root, now_ms=now_ms() + UNFINISHED_MS)
            if profiles(root) and not profiles(root)[0].enrolling:
                profile = profiles(root)[0]
            else:
                profile = await enrol(link, "phone", ann.person, root=root, clock=now_ms)
            assert len(profiles(root)) == 1
            await works(profile, site)
            await can_be_let_in(profile, site)
            if ended:
                break
        assert number > 20


async def test_a_certificate_that_comes_after_a_night_is_taken_by_who_waits(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        await (await site.open(site.hospital.people[harness.RECORDER])).socket.close()
        ann, root = Someone(site), tmp_path / "p"
        link = await invite(site, "ann")
        waiting = asyncio.create_task(enrol(link, "phone", ann.person, root=root, clock=now_ms))
        await ann.waits.wait()
        # The relay goes, and comes back: the device waits on.
        found = site.relay.delivery.connection(site.hospital.id, DeviceId("ann/phone"))
        assert found is not None
        found.close(Code.DRAINING)
        async with certifying(site):
            await works(await waiting, site)


async def test_who_gave_up_waiting_gets_the_certificate_later(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        await (await site.open(site.hospital.people[harness.RECORDER])).socket.close()
        ann, root = Someone(site), tmp_path / "p"
        link = await invite(site, "ann")
        patient = asyncio.create_task(enrol(link, "phone", ann.person, root=root, clock=now_ms))
        await comes_true(lambda: Step.WAITING in ann.steps or patient.done())
        assert not patient.done()
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient
        async with certifying(site) as authority:
            asked = len(ann.wrong)
            profile = await enrol(link, "phone", ann.person, root=root, clock=now_ms)
            # Nothing was asked again, neither of the person nor of the authority.
            assert (len(ann.wrong), authority.asked) == (asked, 1)
            await works(profile, site)


async def test_a_request_that_grew_old_is_signed_anew_with_the_same_keys(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann, root = Someone(site), tmp_path / "p"
        link = await invite(site, "ann")
        long_ago = now_ms() - 2 * enrolling.REQUEST_AGE_MS

        async def leaving(secret: bytes, wrong: bool) -> str:
            raise Killed

        times = iter([now_ms(), long_ago])
        with pytest.raises((Killed, LostError, InvitationError)):
            await enrol(
                link,
                "phone",
                replace(ann.person, one_time_code=leaving),
                root=root,
                clock=lambda: next(times, long_ago),
            )
        seen = [connections.read(profile).connection_key for profile in profiles(root)]
        profile = await enrol(link, "phone", ann.person, root=root, clock=now_ms)
        assert [connections.read(profile).connection_key] == seen
        await works(profile, site)


async def test_a_pending_file_that_is_none_is_damage(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann, root = Someone(site), tmp_path / "p"
        link = await invite(site, "ann")
        with pytest.raises(WeakPasswordError):
            await enrol(link, "phone", ann.typing(password="short"), root=root, clock=now_ms)
        (pending,) = profiles(root)
        (pending.directory / ENROLLING).write_bytes(b"x" * 96)
        with pytest.raises(DamagedError):
            await enrol(link, "phone", ann.person, root=root, clock=now_ms)


# Further devices.


def vouched(site: Site, text: str, voucher: Profile) -> str:
    """Return the grant that a person's device gives to another."""
    claim = read_application(text)
    certificate = connections.read(voucher).certificate
    known = site.hospital.trust.devices[fingerprint(certificate)]
    body = DeviceGrant(
        claim=claim, roles=known.roles, ends_ms=known.ends_ms, origin=known.origin
    ).encode()
    statement = site.hospital.signed(
        StatementType.DEVICE_VOUCHING,
        body,
        by=Signatory(
            purpose=Purpose.DEVICE,
            fingerprint=fingerprint(certificate),
            key=SIGNING[voucher.directory],
        ),
    )
    return granted(site, statement)


def granted(site: Site, statement: bytes) -> str:
    return grant_text(
        Grant(
            host="127.0.0.1",
            port=site.port,
            tls_pin=TLS_PIN,
            organisation=site.hospital.id,
            statement=statement,
        )
    )


SIGNING: dict[Path, SigningKey] = {}


async def first_device(site: Site, ann: Someone, root: Path) -> Profile:
    link = await invite(site, "ann")
    profile = await enrol(link, "phone", ann.person, root=root, clock=now_ms)
    opened = await unlock(profile, ann.person.pin, now_ms=now_ms())
    assert opened.credentials.signature_key is not None
    SIGNING[profile.directory] = opened.credentials.signature_key
    opened.store.close()
    return profile


async def test_a_further_device_comes_in_by_a_text_there_and_a_text_back(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        phone = await first_device(site, ann, tmp_path / "phone")
        applicant = Applicant(DeviceId("ann/tablet"))
        text = vouched(site, applicant.text, phone)
        root = tmp_path / "tablet"
        with pytest.raises(WrongPasswordError):
            await applicant.enrol(
                text, ann.typing(password="not her password at all"), root=root, clock=now_ms
            )
        tablet = await applicant.enrol(text, ann.person, root=root, clock=now_ms)
        assert connections.read(tablet).device == "ann/tablet"
        assert len(profiles(root)) == 1
        await works(tablet, site)
        await works(phone, site)


async def test_a_wrong_code_of_a_further_device_costs_a_counted_try(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        serving(tmp_path, harness.hospital()) as site,
        certifying(site),
    ):
        ann = Someone(site)
        phone = await first_device(site, ann, tmp_path / "phone")
        applicant = Applicant(DeviceId("ann/tablet"))
        text = vouched(site, applicant.text, phone)
        ann.mistakes = 9
        with pytest.raises(WrongPasswordError) as caught:
            await applicant.enrol(text, ann.person, root=tmp_path / "tablet", clock=now_ms)
        assert caught.value.wait_ms > 0


async def test_after_all_are_lost_two_administrators_let_a_device_in(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        phone = await first_device(site, ann, tmp_path / "phone")
        known = site.hospital.trust.devices[fingerprint(connections.read(phone).certificate)]
        admins = [
            site.hospital.enrol(f"{name}/desk", Role.ADMINISTRATOR) for name in ("adam", "eve")
        ]
        for admin in admins:
            await (await site.open(admin)).socket.close()
        applicant = Applicant(DeviceId("ann/new-phone"))
        body = DeviceGrant(
            claim=read_application(applicant.text),
            roles=known.roles,
            ends_ms=known.ends_ms,
            origin=known.origin,
        ).encode()
        statement = site.hospital.signed(
            StatementType.DEVICE_APPROVAL, body, by=admins[0].signatory(Purpose.ADMINISTRATOR)
        )
        single = granted(site, statement)
        with pytest.raises(InvitationError):
            await applicant.enrol(single, ann.person, root=tmp_path / "one", clock=now_ms)
        complete = countersign_statement(
            statement,
            trust=site.hospital.trust,
            at_ms=now_ms(),
            signatory=admins[1].signatory(Purpose.ADMINISTRATOR),
        )
        profile = await applicant.enrol(
            granted(site, complete), ann.person, root=tmp_path / "two", clock=now_ms
        )
        await works(profile, site)


@pytest.mark.parametrize("text", ["", "WARDLINE-GRANT:", "hello"])
async def test_a_mistyped_grant_is_refused(tmp_path: Path, text: str) -> None:
    async with serving(tmp_path, harness.hospital()) as site:
        with pytest.raises(InvitationError):
            await Applicant(DeviceId("ann/tablet")).enrol(
                text, Someone(site).person, root=tmp_path / "p", clock=now_ms
            )


@pytest.mark.parametrize("name", ["", "ann", "Ann/phone", "ann/ph one"])
def test_what_is_no_name_of_a_device_applies_for_nothing(name: str) -> None:
    with pytest.raises(InvitationError):
        Applicant(DeviceId(name))


async def test_a_relay_that_gives_another_root_is_not_believed(tmp_path: Path) -> None:
    async with serving(tmp_path, harness.hospital()) as site, certifying(site):
        ann = Someone(site)
        link = await invite(site, "ann")
        organisation = site.relay.organisations[site.hospital.id]
        genuine = organisation.trust
        other = harness.hospital("Elsewhere").root
        organisation.trust = replace(genuine, root=replace(genuine.root, der=other.der))
        with pytest.raises(LostError) as caught:
            await enrol(link, "phone", ann.person, root=tmp_path / "p", clock=now_ms)
        assert caught.value.broke is not None
        assert ann.wrong == []


async def test_without_a_relay_an_enrolment_says_so_and_goes_on_later(tmp_path: Path) -> None:
    of = harness.hospital()
    async with serving(tmp_path, of) as site:
        link = await invite(site, "ann")
        ann = Someone(site)
    with pytest.raises(UnreachableError):
        await enrol(link, "phone", ann.person, root=tmp_path / "p", clock=now_ms)

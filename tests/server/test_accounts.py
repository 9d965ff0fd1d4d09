"""Enrolment, passwords, one-time codes and unlock shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from crypto.ed25519 import SigningKey
from crypto.enrolment import DeviceKeys
from crypto.names import Role
from protocol import frames
from protocol.commands import RemoveUser
from protocol.errors import Code
from protocol.identifiers import DeviceId, UserName, inbox_log
from protocol.inbox import ItemKind, decode_item
from protocol.pin_tries import TRIES, Tries
from server import accounts, passwords
from server.access import STRONG_MS
from server.secrets import Account
from tests.server import harness
from tests.server.harness import Client, Person, Site
from tests.server.test_control import administrator, command

PASSWORD = "the ward's old kettle whistles"
DAY_MS = 24 * 3600 * 1000


def code(site: Site, secret: bytes, *, steps: int = 0) -> str:
    """Return a one-time code; a running clock is set to a step's beginning, so that none ends."""
    if not site.frozen:
        site.later_ms += -site.relay.now_ms() % passwords.TOTP_STEP_MS
    return passwords.totp(secret, step=site.relay.now_ms() // passwords.TOTP_STEP_MS + steps)


def new_keys(user: str, device: str) -> DeviceKeys:
    return DeviceKeys(
        user=user,
        device=device,
        signature_key=SigningKey.generate(),
        connection_key=SigningKey.generate(),
    )


async def begin(site: Site, keys: DeviceKeys) -> tuple[Client, bytes]:
    """Return a connection of a device without a certificate, and its request."""
    statement, seed = site.invited(keys.user, Role.CLINICIAN)
    request = site.hospital.request(keys, statement, seed)
    name = DeviceId(f"{keys.user}/{keys.device}")
    client = await site.client(Person(name=name, keys=keys, certificate=b""))
    await client.greet(certificate=b"", request=request)
    return client, request


async def enrolled(site: Site, user: str = "ann") -> tuple[Person, bytes]:
    """Enrol a user's first device through the relay; return it and the one-time codes' secret."""
    recorder = await site.open(site.hospital.people[harness.RECORDER])
    keys = new_keys(user, "phone")
    client, _ = await begin(site, keys)
    enrolling = await client.prove(unlocked=False)
    assert isinstance(enrolling, frames.Enrolling)
    assert enrolling.root == site.hospital.root.der
    provisioned = await client.answer(lambda ref: frames.Enrol(ref=ref, password=PASSWORD))
    assert isinstance(provisioned, frames.Provisioned)
    secret = provisioned.totp_secret
    one_time = code(site, secret, steps=-1)
    done = await client.answer(lambda ref: frames.ConfirmEnrolment(ref=ref, code=one_time))
    assert isinstance(done, frames.Done)
    request = decode_item((await recorder.expect(frames.Deliver, lambda e: e.log[:1] == b"i")).body)
    assert request.kind is ItemKind.REQUEST
    person = site.hospital.certify(keys, request.body)
    log = inbox_log(person.name)
    posted = await recorder.answer(
        lambda ref: frames.Post(ref=ref, log=log, statement=harness.certified(person.certificate))
    )
    assert isinstance(posted, frames.Done)
    certificate = await client.expect(frames.Deliver)
    assert certificate.body == harness.certified(person.certificate)
    return person, secret


async def test_a_person_enrols_and_the_device_opens_with_its_new_certificate(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, _ = await enrolled(site)
        await site.open(person)
        assert not site.relay.counters["faults"]


@pytest.mark.parametrize(
    "password", ["short", "password1234!", "aaaaaaaaaaaaaaa", "abcdefghijklmnop", "ann-wardline-1"]
)
async def test_a_password_that_is_short_common_or_ones_name_is_refused(
    tmp_path: Path, password: str
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        client, _ = await begin(site, new_keys("ann", "phone"))
        await client.prove(unlocked=False)
        answer = await client.answer(lambda ref: frames.Enrol(ref=ref, password=password))
        assert isinstance(answer, frames.Refused)
        assert answer.code == Code.INVALID


async def test_without_a_right_code_nothing_reaches_the_authority(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        recorder = await site.open(site.hospital.people[harness.RECORDER])
        client, _ = await begin(site, new_keys("ann", "phone"))
        await client.prove(unlocked=False)
        early = await client.answer(lambda ref: frames.ConfirmEnrolment(ref=ref, code="123456"))
        assert isinstance(early, frames.Refused)
        await client.answer(lambda ref: frames.Enrol(ref=ref, password=PASSWORD))
        wrong = await client.answer(lambda ref: frames.ConfirmEnrolment(ref=ref, code="12345x"))
        assert isinstance(wrong, frames.Refused)
        assert wrong.code == Code.WRONG_SECRET
        await recorder.answer(lambda ref: frames.Lookup(ref=ref, users=()))
        assert not [
            e for e in recorder.early if isinstance(e, frames.Deliver) and e.log[:1] == b"i"
        ]


async def test_a_request_with_anothers_invitation_key_opens_nothing(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        keys = new_keys("ann", "phone")
        statement, _ = site.invited("ann", Role.CLINICIAN)
        request = site.hospital.request(keys, statement, SigningKey.generate())
        name = DeviceId("ann/phone")
        client = await site.client(Person(name=name, keys=keys, certificate=b""))
        await client.greet(certificate=b"", request=request)
        answer = await client.prove(unlocked=False)
        assert isinstance(answer, frames.Close)
        assert answer.code == Code.NOT_PROVED


async def test_whose_invitation_is_withdrawn_goes_no_further_also_where_it_was_fetched(
    tmp_path: Path,
) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        chief = await administrator(site)
        clients: list[Client] = []
        for _ in range(3):
            client, _ = await begin(site, new_keys("ann", f"phone{len(clients)}"))
            clients.append(client)
        early, late, never = clients
        assert isinstance(await early.prove(unlocked=False), frames.Enrolling)
        assert isinstance(await late.prove(unlocked=False), frames.Enrolling)
        provisioned = await early.answer(lambda ref: frames.Enrol(ref=ref, password=PASSWORD))
        assert isinstance(provisioned, frames.Provisioned)
        removal = RemoveUser(user=UserName("ann")).encode()
        assert isinstance(await command(site, chief, removal), frames.Done)
        one_time = code(site, provisioned.totp_secret)
        for refused in (
            await early.answer(lambda ref: frames.ConfirmEnrolment(ref=ref, code=one_time)),
            await late.answer(lambda ref: frames.Enrol(ref=ref, password=PASSWORD)),
        ):
            assert isinstance(refused, frames.Refused)
            assert refused.code == Code.INVALID
        closed = await never.prove(unlocked=False)
        assert isinstance(closed, frames.Close)
        assert closed.code == Code.NOT_PROVED
        assert await site.relay.secrets.account(site.hospital.id, UserName("ann")) is None


async def test_an_invitation_that_let_a_device_in_lets_no_other_begin(tmp_path: Path) -> None:
    of = harness.hospital()
    keys = new_keys("ann", "phone")
    async with harness.running(tmp_path, of) as site:
        recorder = await site.open(of.people[harness.RECORDER])
        statement, seed = site.invited("ann", Role.CLINICIAN)
        ann = of.certify(keys, of.request(keys, statement, seed))
        item, log = harness.certified(ann.certificate), inbox_log(ann.name)
        posted = await recorder.answer(lambda ref: frames.Post(ref=ref, log=log, statement=item))
        assert isinstance(posted, frames.Done)
        thief = new_keys("ann", "thief")
        client = await site.client(Person(name=DeviceId("ann/thief"), keys=thief, certificate=b""))
        await client.greet(certificate=b"", request=of.request(thief, statement, seed))
        closed = await client.prove(unlocked=False)
        assert isinstance(closed, frames.Close)
        assert closed.code == Code.NOT_PROVED
        # Its own device asks for its certificate again, as after a lost answer.
        own = await site.client(ann)
        await own.greet(certificate=b"", request=of.request(keys, statement, seed))
        assert isinstance(await own.prove(unlocked=False), frames.Enrolling)


async def test_password_and_code_are_proved_once_for_each_code(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        ann = await site.open(person)

        async def prove(password: str, one_time: str) -> frames.Frame:
            return await ann.answer(
                lambda ref: frames.Authenticate(ref=ref, password=password, code=one_time)
            )

        right = code(site, secret)
        assert isinstance(await prove("not the password", right), frames.Refused)
        assert isinstance(await prove(PASSWORD, right), frames.Done)
        assert site.connection(ann).strong_until_s <= site.relay.now_s() + STRONG_MS / 1000
        replayed = await prove(PASSWORD, right)
        assert isinstance(replayed, frames.Refused)
        assert replayed.code == Code.WRONG_SECRET


async def test_a_code_that_was_used_is_so_after_a_restart_and_its_waits_go_on(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with harness.running(tmp_path, of) as site:
        site.frozen = True
        person, secret = await enrolled(site)
        ann = await site.open(person)
        right = code(site, secret)
        used = frames.Authenticate(ref=1, password=PASSWORD, code=right)
        assert isinstance(await ann.answer(lambda ref: replace(used, ref=ref)), frames.Done)
        stands_ms = site.relay.now_ms()
    async with harness.running(tmp_path, of) as site:
        site.frozen = True
        site.later_ms = stands_ms - site.relay.now_ms()
        ann = await site.open(person)
        for failures in range(1, accounts.FREE_TRIES + 1):
            again = await ann.answer(lambda ref: replace(used, ref=ref))
            assert isinstance(again, frames.Refused)
            wait_ms = accounts.wait_after_ms(failures)
            assert (again.code, again.detail) == (Code.WRONG_SECRET, wait_ms)
    async with harness.running(tmp_path, of) as site:
        site.frozen = True
        site.later_ms = stands_ms - site.relay.now_ms()
        ann = await site.open(person)
        fresh = code(site, secret, steps=1)
        early = await ann.answer(lambda ref: replace(used, ref=ref, code=fresh))
        assert isinstance(early, frames.Refused)
        assert (early.code, early.detail) == (Code.WRONG_SECRET, accounts.WAIT_MS)


async def test_guessing_is_slowed_and_the_person_gets_in_afterwards(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        ann = await site.open(person)
        site.frozen = True
        for _ in range(accounts.FREE_TRIES):
            refusal = await ann.answer(
                lambda ref: frames.Authenticate(ref=ref, password="wrong", code="000000")
            )
        assert isinstance(refusal, frames.Refused)
        assert refusal.detail == accounts.WAIT_MS
        right = code(site, secret)
        early = await ann.answer(
            lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code=right)
        )
        assert isinstance(early, frames.Refused)
        site.later_ms += accounts.WAIT_MS
        assert isinstance(
            await ann.answer(
                lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code=right)
            ),
            frames.Done,
        )


async def test_a_device_that_was_long_away_opens_after_password_and_code(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        await site.open(person)
        site.later_ms += 31 * DAY_MS
        ann = await site.client(person)
        await ann.greet()
        assert isinstance(await ann.prove(), frames.Absent)
        one_time = code(site, secret)
        await ann.send(frames.Authenticate(ref=1, password=PASSWORD, code=one_time))
        await ann.expect(frames.Opened)


SHARE, PROOF = bytes(range(32)), bytes(range(1, 33))


async def locked(site: Site, person: Person) -> Client:
    client = await site.client(person)
    await client.greet()
    assert isinstance(await client.prove(unlocked=False), frames.Locked)
    return client


async def with_share(site: Site, person: Person) -> None:
    ann = await site.open(person)
    stored = await ann.answer(lambda ref: frames.StoreShare(ref=ref, share=SHARE, pin_proof=PROOF))
    assert isinstance(stored, frames.Done)


async def ask(client: Client, proof: bytes) -> frames.Frame:
    return await client.answer(lambda ref: frames.GetShare(ref=ref, pin_proof=proof))


async def test_the_share_is_given_for_a_right_pin_to_a_locked_device(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        await with_share(site, person)
        given = await ask(await locked(site, person), PROOF)
        assert isinstance(given, frames.Share)
        assert given.share == SHARE


async def test_ten_wrong_pins_lock_the_share_until_the_person_is_proved(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person, secret = await enrolled(site)
        await with_share(site, person)
        client = await locked(site, person)
        for number in range(1, TRIES + 1):
            refusal = await ask(client, bytes(32))
            assert isinstance(refusal, frames.Refused)
            last = number == TRIES
            assert refusal.code == (Code.SHARE_LOCKED if last else Code.WRONG_PIN)
            assert last or Tries.of(refusal.detail).left == TRIES - number
            site.later_ms += accounts.wait_after_ms(number)
        right = await ask(client, PROOF)
        assert isinstance(right, frames.Refused)
        assert right.code == Code.SHARE_LOCKED
        one_time = code(site, secret)
        await client.answer(
            lambda ref: frames.Authenticate(ref=ref, password=PASSWORD, code=one_time)
        )
        assert isinstance(await ask(client, PROOF), frames.Share)


async def test_a_wrong_pin_waits_even_for_the_right_one(tmp_path: Path) -> None:
    async with harness.running(tmp_path, harness.hospital()) as site:
        person = site.hospital.enrol("ann/phone")
        await with_share(site, person)
        client = await locked(site, person)
        for _ in range(accounts.FREE_TRIES):
            await ask(client, bytes(32))
        early = await ask(client, PROOF)
        assert isinstance(early, frames.Refused)
        assert early.code == Code.WRONG_PIN
        tries = Tries.of(early.detail)
        assert 0 < tries.wait_ms <= accounts.WAIT_MS
        assert tries.left == TRIES - accounts.FREE_TRIES


def test_a_code_is_accepted_once_and_within_one_step_of_now() -> None:
    secret, now_ms = bytes(20), 10_000_000
    now = now_ms // passwords.TOTP_STEP_MS
    for step, accepted in ((now - 2, False), (now - 1, True), (now, True), (now + 2, False)):
        one_time = passwords.totp(secret, step=step)
        found = passwords.match_totp(secret, one_time, last_step=0, now_ms=now_ms)
        assert (found == step) is accepted
        assert passwords.match_totp(secret, one_time, last_step=step, now_ms=now_ms) != step


@pytest.mark.parametrize(
    ("at_s", "expected"), [(59, "287082"), (1111111109, "081804"), (2000000000, "279037")]
)
def test_codes_are_those_of_rfc_6238(at_s: int, expected: str) -> None:
    assert passwords.totp(b"12345678901234567890", step=at_s // 30) == expected


def test_a_hash_is_salted_and_tells_only_its_password() -> None:
    first, second = passwords.hash_password(PASSWORD), passwords.hash_password(PASSWORD)
    assert first != second
    assert passwords.is_password(PASSWORD, first)
    assert not passwords.is_password(PASSWORD + "x", first)
    assert not passwords.is_password(PASSWORD, None)
    assert not passwords.is_password(PASSWORD, "no hash")


def test_waits_double_and_end() -> None:
    waits = [accounts.wait_after_ms(failures) for failures in range(40)]
    assert waits[: accounts.FREE_TRIES] == [0] * accounts.FREE_TRIES
    assert waits == sorted(waits)
    assert waits[-1] == accounts.WAIT_MAX_MS


def test_neither_frames_nor_accounts_show_a_secret() -> None:
    shown = repr(Account(password_hash="canary", totp_secret=b"canary"))
    assert "canary" not in shown

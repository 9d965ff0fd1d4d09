"""What takes hours and months, by a clock that the test owns: renewal, and a recorder that is away.

``WARDLINE_DEPTH`` above 1 plays every minute of the hour.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from client import delivering
from client.emergency import Vouched
from client.inbox import Found, Inbox
from client.key_packages import PACKAGES_LEAST
from client.officer_desk import OfficerDesk, set_quorum
from crypto.certificate import DAY_MS, RENEWAL_MS, decode_certificate
from crypto.enrolment import create_request, renew_certificate, verify_request
from crypto.identity import admit
from crypto.mls import KeyPackage
from crypto.names import Role
from protocol import frames
from protocol.frames import Deliver
from protocol.identifiers import UserName, inbox_log
from protocol.inbox import ItemKind, decode_item
from protocol.quorum import Quorum
from tests.client.devices import Ward, ward
from tests.depth import DEPTH
from tests.server import harness
from tests.server.harness import RECORDER, Hospital, Person

MINUTE_MS = 60_000
WITHIN_S = 60.0
CHANGES = 60 if DEPTH > 1 else 6
ANN, BOB, CAT, DAN = (UserName(name) for name in ("ann", "bob", "cat", "dan"))


class Authority:
    """The authority beside the recorder: it renews what comes to the recorder's inbox.

    Attributes:
        asked: Whose requests came.
    """

    def __init__(self, here: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._here = here
        self._work: set[asyncio.Task[object]] = set()
        take = Inbox.take

        def taken(inbox: Inbox, entry: Deliver, *, now_ms: int, patient: bool) -> Found:
            found = take(inbox, entry, now_ms=now_ms, patient=patient)
            if entry.kind == frames.EntryKind.MESSAGE and entry.log == inbox_log(RECORDER):
                item = decode_item(entry.body)
                if item.kind is ItemKind.REQUEST:
                    self._answer(item.body, now_ms)
            return found

        monkeypatch.setattr(Inbox, "take", taken)

    def _answer(self, request: bytes, now_ms: int) -> None:
        of = self._here.hospital
        claim = verify_request(request, trust=of.trust, at_ms=now_ms).claim
        person = of.people[f"{claim.user}/{claim.device}"]
        self.asked.append(person.name)
        der = self._renewed(person, request, now_ms)
        log = inbox_log(person.name)
        sending = self._here.recorder.device.ask(
            lambda ref: frames.Post(ref=ref, log=log, statement=harness.certified(der))
        )
        task = asyncio.ensure_future(sending)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def renew_recorder(self) -> None:
        """Renew the recorder's own certificate, which the archive asks itself for."""
        here, recorder = self._here, self._here.hospital.people[RECORDER]
        proof = decode_certificate(recorder.certificate, root=here.hospital.root).proof
        request = create_request(
            recorder.keys,
            organisation=here.hospital.id,
            statement=proof.statement,
            binding=proof.binding,
            at_ms=here.clock(),
        )
        der = self._renewed(recorder, request, here.clock())
        here.recorder.engine.following.inbox.on_certificate(der)

    def _renewed(self, person: Person, request: bytes, now_ms: int) -> bytes:
        of = self._here.hospital
        person.certificate = renew_certificate(
            request,
            current=person.certificate,
            roles=decode_certificate(person.certificate, root=of.root).roles,
            trust=of.trust,
            authority=of.authority,
            at_ms=now_ms,
        )
        of.trust = admit(of.trust, [person.certificate])
        return person.certificate


async def start_again(here: Ward, *names: str) -> None:
    """Let programs be started again, as laptops and phones are."""
    for name in (RECORDER, *names):
        await here.go(name)
    await here.come(RECORDER, *names)


def ends_ms(of: Hospital, person: Person) -> int:
    return decode_certificate(person.certificate, root=of.root).not_after_ms


async def test_certificates_are_renewed_from_day_45_and_all_goes_on_after_day_90(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    names = ("ann/phone", "bob/phone")
    async with ward(tmp_path, of, *names) as here:
        authority = Authority(here, monkeypatch)
        conversation = await here.talk(*names)
        first = {name: of.people[name].certificate for name in names}
        began_ms = here.clock()
        for _ in range(2):
            here.later(22 * DAY_MS)
            await start_again(here, *names)
        assert here.clock() - began_ms < RENEWAL_MS
        assert authority.asked == []

        here.later(2 * DAY_MS)
        await start_again(here, *names)
        authority.renew_recorder()
        for name in names:
            running = here[name]
            await running.until(
                lambda name=name, running=running: (  # type: ignore[misc]
                    running.engine.identity.certificate != first[name]
                )
            )
        assert sorted(authority.asked) == list(names)

        for _ in range(2):
            here.later(22 * DAY_MS)
            await start_again(here, *names)
        # The first certificates have ended; nobody was asked anything.
        for name in names:
            old = decode_certificate(first[name], root=of.root)
            assert old.not_after_ms < here.clock() < ends_ms(of, of.people[name])
        ann, bob = here["ann/phone"], here["bob/phone"]
        await ann.say(conversation, "day 92")
        await bob.sees(conversation, "day 92")
        # Who is added now comes in by a key package: none of them holds what has ended.
        package = await ann.device.ask(
            lambda ref: frames.ClaimKeyPackage(ref=ref, device=here["bob/phone"].device.me)
        )
        assert isinstance(package, frames.KeyPackage)
        leaf = KeyPackage.decode(package.package).leaf_node
        assert leaf.credential.certificates == (of.people["bob/phone"].certificate,)
        again = await here.talk(*names)
        await ann.say(again, "a new conversation")
        await bob.sees(again, "a new conversation")
        assert ann.device.status.faults == bob.device.status.faults == 0


async def test_a_device_that_is_in_no_conversation_has_its_certificate_renewed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    async with ward(tmp_path, of, "ada/laptop") as here:
        Authority(here, monkeypatch)
        first = of.people["ada/laptop"].certificate
        for _ in range(3):
            here.later(16 * DAY_MS)
            await start_again(here, "ada/laptop")
        await here["ada/laptop"].until(
            lambda: here["ada/laptop"].engine.identity.certificate != first
        )


async def test_emergency_access_runs_to_its_end_where_everybodys_certificate_was_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    names = ("ann/phone", "bob/phone", "cat/phone", "dan/phone")
    async with ward(tmp_path, of, *names) as here:
        authority = Authority(here, monkeypatch)
        conversation = await here.talk(*names[:3])
        first = {name: of.people[name].certificate for name in names}
        for _ in range(3):
            here.later(16 * DAY_MS)
            await start_again(here, *names)
        authority.renew_recorder()
        await start_again(here)
        ann, bob, cat, dan = (here[name] for name in names)
        for name in names:
            identity = here[name].engine.identity
            await here[name].until(
                lambda one=identity, was=first[name]: one.certificate != was  # type: ignore[misc]
            )
        await ann.say(conversation, "before")
        said = await bob.device.emergency.vouch(conversation, DAN, reason="arrest")
        assert said is Vouched.FIRST
        await cat.until(lambda: cat.device.emergency.pending(conversation))
        assert await cat.device.emergency.vouch(conversation, DAN) is Vouched.SECOND
        await dan.until(lambda: dan.epoch(conversation) > 0)
        await ann.say(conversation, "adrenaline given")
        await dan.sees(conversation, "adrenaline given")
        assert "before" not in dan.texts(conversation)
        for one in (ann, bob, cat, dan):
            await one.until(lambda one=one: one.device.emergency.visits(conversation))  # type: ignore[misc]
            (visit,) = one.device.emergency.visits(conversation)
            assert (visit.user, visit.vouchers) == (DAN, (BOB, CAT))
        await bob.device.emergency.end(conversation, DAN)
        await dan.until(lambda: dan.engine.rooms.get(conversation).known.ended)
        for one in (ann, bob, cat):
            await one.until(lambda one=one: not one.device.emergency.visits(conversation))  # type: ignore[misc]
        await ann.say(conversation, "among ourselves")
        await cat.sees(conversation, "among ourselves")
        assert "among ourselves" not in dan.texts(conversation)
        assert [one.device.status.faults for one in (ann, bob, cat, dan)] == [0, 0, 0, 0]


async def test_what_an_officer_signs_with_a_renewed_certificate_counts_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = harness.hospital()
    names = ("olga/desk", "omar/desk")
    for name in names:
        of.enrol(name, Role.OFFICER)
    async with ward(tmp_path, of, *names) as here:
        Authority(here, monkeypatch)
        for name in names:
            set_quorum(here[name].device, Quorum(k=2, n=4, emergency_k=2))
        await OfficerDesk(here[names[0]].device).convene([UserName("omar")])
        began = of.people[names[0]].certificate
        for _ in range(3):
            here.later(16 * DAY_MS)
            await start_again(here, *names)
        olga = OfficerDesk(here[names[0]].device)
        await here[names[0]].until(lambda: of.people[names[0]].certificate != began)
        await here[names[0]].until(lambda: here[names[0]].engine.identity.certificate != began)
        scope = olga.scope(people=["ann"])
        held = olga.officer.hold(scope, case="c", reason="r", now_ms=olga.now_ms)
        await olga.post(held, timeout_s=WITHIN_S)
        omar = OfficerDesk(here[names[1]].device)
        async with asyncio.timeout(WITHIN_S):
            while not omar.officer.holds():
                assert await omar.sync() == []
                await asyncio.sleep(0)


async def test_key_packages_that_the_relay_no_longer_gives_do_not_count_as_left(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, harness.hospital(), "ann/phone") as here:
        keys = here["ann/phone"].engine.store.keys
        before = set(keys.package_references())
        assert len(before) >= PACKAGES_LEAST
        for day in range(0, 80, 20):
            here.later(20 * DAY_MS)
            await here.go("ann/phone")
            await here.come("ann/phone")
            keys = here["ann/phone"].engine.store.keys
            now = set(keys.package_references())
            fresh = now - before
            assert len(fresh) >= PACKAGES_LEAST, day
            # Secrets of packages that nobody can have used any more are gone.
            assert len(now) <= 5 * len(fresh)
            before |= now


async def test_an_hour_without_the_recorder_while_people_join_and_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "PEOPLE_MOST", 0)
    of = harness.hospital()
    async with ward(tmp_path, of, "ann/phone", "bob/phone", "cat/phone", "dan/phone") as here:
        ann = here["ann/phone"]
        conversation = await here.talk("ann/phone", "bob/phone")
        here.recorder.silent = True
        began_ms = here.clock()
        said: list[str] = []
        heard: dict[str, list[str]] = {name: [] for name in ("bob", "cat", "dan")}
        inside = {"bob"}
        epoch = 1
        for number in range(CHANGES):
            here.later(60 // CHANGES * MINUTE_MS)
            name = ("cat", "dan")[number % 2]
            user = [UserName(name)]
            if name in inside:
                await ann.device.change_members(conversation, remove=user)
            else:
                await ann.device.change_members(conversation, add=user)
            inside ^= {name}
            epoch += 1
            await waited(here, conversation, epoch, {"ann", *inside})
            text = f"minute {number}"
            await ann.say(conversation, text)
            said.append(text)
            for one in inside:
                heard[one].append(text)
                await here[f"{one}/phone"].sees(conversation, text)
        assert here.clock() - began_ms >= 60 * MINUTE_MS
        for one, texts in heard.items():
            assert here[f"{one}/phone"].texts(conversation) == texts
        # The archive lacks nothing: it has read along, and its verdict was not needed.
        here.recorder.silent = False
        here.recorder.speak()
        await here.recorder.sees(conversation, *said)
        assert here.recorder.epoch(conversation) == epoch
        for running in here.running.values():
            assert running.device.status.faults == 0


async def waited(here: Ward, conversation: bytes, epoch: int, users: set[str]) -> None:
    """Let the recorder's time for a receipt pass, until a member has signed it."""
    for _ in range(10):
        await asyncio.sleep(0.1)
        here.later(3_000)
        there = [here[f"{user}/phone"].epoch(conversation) >= epoch for user in users]  # type: ignore[arg-type]
        if all(there):
            return
    for user in users:
        await here[f"{user}/phone"].in_epoch(conversation, epoch)  # type: ignore[arg-type]

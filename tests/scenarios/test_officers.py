"""The whole way: a ward talks, officers agree, the archive opens, an export leaves and verifies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyrage

from archive.export import VERIFIER
from archive.opening_site import Site, opened_site
from client.errors import RefusedError, UnknownUserError
from client.link import Address
from client.officer_desk import NoOfficersConversationError, OfficerDesk, set_quorum
from crypto.statement_types import StatementType
from crypto.tls_certificate import tls_pin
from demo.opening import unpack
from protocol.group_context import ConversationType
from protocol.identifiers import ConversationId, UserName
from protocol.opening import Hits, Offer, Purpose
from protocol.quorum import Quorum
from tests.client.devices import Running, opened
from tests.scenarios.blackbox import (
    OFFICERS,
    PROGRAM,
    BlackBox,
    K,
    Organisation,
    hospital_with_archive,
    hospital_without_archive,
)
from tests.scenarios.process import Installation
from tests.scenarios.test_forgetting import FORGOTTEN_S, memory, where
from tests.waiting import comes_true

CANARY = "canary-of-the-ward-0451"
WAIT_S = 60.0


class Ward:
    """A hospital with its relay and archive, and devices that run."""

    def __init__(
        self, folder: Path, organisation: Organisation, at: Installation, box: BlackBox
    ) -> None:
        self.folder = folder
        self.organisation = organisation
        self.at = at
        self.box = box
        self.running: dict[str, Running] = {}
        self.desks: dict[str, OfficerDesk] = {}

    async def device(self, name: str) -> Running:
        person = self.organisation.people[name]
        pin = tls_pin((self.at.data / "tls.pem").read_bytes())
        address = Address(
            host="127.0.0.1", port=self.at.port, tls_pin=pin, organisation=self.organisation.id
        )
        device = opened(self.folder, person, self.organisation, address)
        self.running[name] = Running(device)
        await self.running[name].begin()
        return self.running[name]

    async def officer(self, user: str) -> OfficerDesk:
        running = await self.device(f"{user}/desk")
        set_quorum(running.device, Quorum(k=K, n=len(OFFICERS), emergency_k=K))
        self.desks[user] = OfficerDesk(running.device)
        await self.desks[user].sync()
        return self.desks[user]

    async def until(self, user: str, holds: Callable[[], object]) -> None:
        """Wait until an officer's letters have brought something."""
        async with asyncio.timeout(WAIT_S):
            while True:
                assert await self.desks[user].sync() == []
                if holds():
                    return
                await asyncio.sleep(0.1)

    async def all_until(self, users: Sequence[str], holds: Callable[[OfficerDesk], object]) -> None:
        """Wait until the letters of each of these officers have brought something."""
        await asyncio.gather(
            *(self.until(user, partial(holds, self.desks[user])) for user in users)
        )

    async def archive(self, *arguments: str) -> list[Any]:
        """Run ``wardline-archive review``; return what each line answers."""
        command = [str(PROGRAM), "review", *arguments, "--config", str(self.box.file), "--json"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            check=False,
            env=self.box.inherited(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def end(self) -> None:
        for running in self.running.values():
            await running.end()
            running.device.close()


@asynccontextmanager
async def ward(folder: Path) -> AsyncIterator[Ward]:
    people = ["ann/phone", "ben/phone"]
    async with hospital_without_archive(folder, people) as (organisation, at, archive):
        box = BlackBox(archive.file, at)
        box.start()
        made = Ward(folder, organisation, at, box)
        try:
            yield made
        finally:
            await made.end()
            if box.process is not None:
                box.kill()


async def convened(made: Ward) -> None:
    """Let the officers publish their keys, and begin their conversation."""
    await asyncio.gather(*(published(made, user) for user in OFFICERS))
    await made.desks[OFFICERS[0]].convene([UserName(user) for user in OFFICERS[1:]])
    await made.all_until(OFFICERS, convoked)


async def published(made: Ward, user: str) -> None:
    desk = await made.officer(user)
    async with asyncio.timeout(WAIT_S):
        while True:
            # Until the archive has connected for the first time it has no inbox.
            with contextlib.suppress(RefusedError, UnknownUserError):
                assert await desk.publish(desk.officer.begin(now_ms=desk.now_ms, anew=True)) > 0
                return
            await asyncio.sleep(0.1)


def convening(made: Ward) -> ConversationId:
    return made.desks[OFFICERS[-1]].conversation()


def convoked(desk: OfficerDesk) -> bool:
    try:
        desk.conversation()
    except NoOfficersConversationError:
        return False
    return True


async def talk(made: Ward) -> ConversationId:
    ann, ben = await made.device("ann/phone"), await made.device("ben/phone")
    conversation = await ann.device.start(ConversationType.GROUP, [UserName("ben")], title="Ward 7")
    await ben.until(lambda: conversation in [c.conversation for c in ben.device.conversations()])
    await ann.say(conversation, f"bp 90/60 {CANARY}")
    await ben.sees(conversation, f"bp 90/60 {CANARY}")
    await ben.say(conversation, "on my way")
    await ann.sees(conversation, "on my way")
    await ann.device.settled(WAIT_S)
    return conversation


async def counted(made: Ward, user: str, conversation: ConversationId) -> Offer:
    """Ask what a conversation hits, until the archive has all of it."""
    desk = made.desks[user]
    async with asyncio.timeout(WAIT_S):
        while True:
            offer = await desk.offer(
                desk.scope(conversations=[conversation]),
                purpose=Purpose.REVIEW,
                timeout_s=WAIT_S,
            )
            if Hits.decode(offer.hits).records:
                return offer
            await asyncio.sleep(0.5)


async def released(made: Ward, conversation: ConversationId) -> bytes:
    """Go the whole way from a request to released shares; return the request's hash."""
    asking, users = made.desks[OFFICERS[0]], OFFICERS[:K]
    offer = await counted(made, OFFICERS[0], conversation)
    letters = asking.officer.request(
        offer.draft.nonce, case="2026-118", reason="Complaint", now_ms=asking.now_ms
    )
    await asking.post(letters, timeout_s=WAIT_S)
    request = asking.officer.cases(now_ms=asking.now_ms)[-1].filed.hash
    await made.all_until(users, partial(witnessed, request=request))
    for desk in map(made.desks.__getitem__, users):
        approval = desk.officer.approve(request, now_ms=desk.now_ms)
        await desk.post(approval, timeout_s=WAIT_S)
    await made.all_until(users, has_shares)
    for desk in map(made.desks.__getitem__, users):
        await desk.post(desk.officer.release(request, now_ms=desk.now_ms), timeout_s=WAIT_S)
    with opened_site(made.box.file) as site:
        # Read where the command reads it: a program that starts costs more than the wait.
        await comes_true(lambda: released_of(site, request) == set(users))
    return request


def released_of(site: Site, request: bytes) -> set[UserName]:
    stated = site.desk.of_request(request, StatementType.SHARE_RELEASE)
    return {filed.officer for filed in stated} & set(site.desk.shares(request))


async def test_officers_open_what_they_approved_and_the_export_verifies(tmp_path: Path) -> None:
    async with ward(tmp_path) as made:
        await convened(made)
        # Before any request the archive asks whether they hold their keys, and hears it.
        await made.all_until(OFFICERS, challenged)
        # Whoever began their conversation may leave: each of them can let the next officer in.
        last = made.running[f"{OFFICERS[-1]}/desk"].device
        own = {view.user for view in last.members(convening(made)) if view.is_owner}
        assert own == set(OFFICERS)
        conversation = await talk(made)
        await made.archive("begin")
        request = (await released(made, conversation)).hex()
        told = await made.archive("open", request, "--search", "canary")
        assert told[0]["summary"]["faults"] == {}
        assert [line["sender"] for line in told[1]["lines"]] == ["ann/phone"]
        identity = pyrage.x25519.Identity.generate()
        out = tmp_path / "case.age"
        to = str(identity.to_public())
        await made.archive("export", request, "--to", to, "--out", str(out))
        verified(out, identity, tmp_path / "export")
        files = [path for path in (tmp_path / "archive").rglob("*") if path.is_file()]
        assert CANARY.encode() not in b"".join(path.read_bytes() for path in files)


async def test_the_recorders_memory_holds_no_text_once_other_traffic_has_passed(
    tmp_path: Path,
) -> None:
    people = ["ann/phone", "ben/phone"]
    async with hospital_with_archive(tmp_path, people) as (organisation, at, box):
        made = Ward(tmp_path, organisation, at, box)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(made.end)
            conversation = await talk(made)
            ann = made.running["ann/phone"]
            for number in range(60):
                await ann.say(conversation, f"filler {number} " + "x" * 200)
            await ann.device.settled(WAIT_S)
            await asyncio.sleep(FORGOTTEN_S)
            assert made.box.process is not None
            contents = list(memory(made.box.process.pid))
            certificate = made.organisation.people["ann/phone"].certificate
            assert where(contents, [certificate]) != set()  # the search can find
            assert where(contents, [CANARY.encode()]) == set()


def witnessed(desk: OfficerDesk, request: bytes) -> bool:
    return any(
        case.filed.hash == request and case.filed.proven is not None
        for case in desk.officer.cases(now_ms=desk.now_ms)
    )


def challenged(desk: OfficerDesk) -> bool:
    return bool(desk.officer.prove_liveness(now_ms=desk.now_ms))


def has_shares(desk: OfficerDesk) -> bool:
    return any(case.has_shares for case in desk.officer.cases(now_ms=desk.now_ms))


def verified(sealed: Path, identity: pyrage.x25519.Identity, folder: Path) -> None:
    packed = pyrage.decrypt(sealed.read_bytes(), [identity])
    unpack(packed, folder)
    export = folder / "wardline-export"
    assert (export / "verify.py").read_bytes() == VERIFIER.read_bytes()
    done = subprocess.run(
        [sys.executable, "verify.py"],
        cwd=export,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("VERIFIED\n"), done.stdout
    assert CANARY in (export / "transcript.txt").read_text()

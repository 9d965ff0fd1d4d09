"""A phone is stolen during a STAT page: the page goes on without it, and so does everybody else.

The relay, the archive with its authority, and the stolen phone's program are processes of their
own; the others' devices run here.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from archive.record import RecordType
from client import unlocking
from client.connection import Connection
from client.device import Device
from client.duty import PageView
from client.errors import WithheldError
from client.link import Link
from client.orders import Stage, wipes
from client.profile import Profile, create_profile, profiles
from client.store import Store
from client.unlocking import Opened, store_share, unlock
from crypto.pin_proof import new_share
from crypto.statement import Purpose, StatementType
from protocol.authenticated_data import Priority
from protocol.commands import WipeOrder, WipeReason
from protocol.identifiers import ConversationId, RoleName, UserName
from protocol.oncall.commands import SetEscalationPolicy, SetRole, SetSchedule
from protocol.oncall.page_state import Event, Status
from tests.client.devices import Running, opened
from tests.client.openable import KEY, PARAMETERS, PIN
from tests.client.relay import credentials_of
from tests.protocol.oncall.ward import always, policy
from tests.scenarios.blackbox import BlackBox, hospital_with_archive
from tests.scenarios.desk import PASSWORD, Desk, address_of
from tests.scenarios.process import Installation
from tests.server.harness import Person, now_ms
from tests.shared import ROOT

INTERN, REGISTRAR = RoleName("intern"), RoleName("registrar")
STEP_MS = 600_000
"""A page's step, in ms: so long that whoever is next is asked because the phone is gone."""

WITHIN_S = 90.0
"""Patience with five programs on a busy machine."""

THIEF = "tests.client.crash.ordered"
"""The phone's program, as it starts when somebody switches it on."""


async def phone_of(folder: Path, person: Person, at: Installation) -> Profile:
    """Return a phone's profile, which opens with ``PIN`` and the relay's share."""
    share, address = new_share(), address_of(at)

    def fill(store: Store) -> None:
        store.keys.put(unlocking.SIGNATURE, person.keys.signature_key.seed)
        store.settings.put(unlocking.ROOT, at.hospital.root.der)

    record = Connection(
        address=address,
        device=person.name,
        connection_key=person.keys.connection_key,
        root=at.hospital.root.der,
        certificate=person.certificate,
    )
    profile = create_profile(
        folder,
        parameters=PARAMETERS,
        key=KEY,
        share=share,
        connection=record.encode(),
        fill=fill,
    )
    link = await Link.open(address, credentials_of(person))
    await store_share(link, KEY, share)
    await link.close()
    return profile


async def running(device: Device) -> Running:
    made = Running(device)
    await made.begin()
    return made


async def started(folder: Path, person: Person, at: Installation) -> Running:
    return await running(opened(folder, person, at.hospital, address_of(at)))


def page_at(who: Running, page: ConversationId) -> PageView | None:
    return next((one for one in who.device.duty.pages() if one.conversation == page), None)


def stands(who: Running, page: ConversationId) -> Status | None:
    view = page_at(who, page)
    return None if view is None else view.status


def device_over(unlocked: Opened) -> Device:
    return Device.over(
        unlocked.store,
        credentials=unlocked.credentials,
        address=unlocked.address,
        clock=now_ms,
    )


async def set_the_duty(ada: Running, desk: Desk) -> None:
    """Put the intern on call, and behind the intern the registrar."""
    supervisor = (UserName("supervisor"),)
    await ada.device.statements.authenticate(PASSWORD, await desk.code())
    for role, users in ((INTERN, "intern"), (REGISTRAR, "registrar"), ("supervisor", "supervisor")):
        name = RoleName(role)
        for command in (
            SetRole(role=name, version=1, fallback=supervisor, owner=supervisor[0]),
            SetSchedule(
                role=name,
                version=2,
                effective_ms=now_ms() - 3600_000,
                schedule=always(UserName(users)),
            ),
            SetEscalationPolicy(
                role=name, version=3, policy=policy("intern", "registrar", delay_ms=STEP_MS)
            ),
        ):
            statement = ada.device.statements.sign(
                StatementType.COMMAND, command.encode(), Purpose.ADMINISTRATOR
            )
            await ada.device.statements.submit(statement)


async def report_stolen(ada: Running, person: Person) -> None:
    """Order a device to be wiped: one administrator, and the archive's authority after them."""
    order = WipeOrder(
        device=person.name,
        connection_key=person.keys.connection_key.public_key,
        reason=WipeReason.STOLEN,
    )
    statement = ada.device.statements.sign(
        StatementType.WIPE_ORDER, order.encode(), Purpose.ADMINISTRATOR
    )
    await ada.device.statements.submit(statement)


def on_call(who: Running) -> set[str]:
    """Return the roles in which somebody is on call, as a device knows it."""
    return {role.role for role in who.device.duty.board() if role.on_call}


def alerts(who: Running, page: ConversationId) -> bool:
    view = page_at(who, page)
    return view is not None and view.alerting


def heard(ada: Running, kind: StatementType) -> int:
    """Return how many statements of a kind stand in the control log, as a device read it."""
    return sum(one.type is kind and one.verified for one in ada.device.controls())


def switched_on(folder: Path) -> bytes:
    """Run the phone's program, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", THIEF, str(folder)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.stdout


@dataclass
class Ward:
    """Everybody but the stolen phone.

    Attributes:
        ada: The administrator.
        nurse: Who pages.
        registrar: Who is asked next.
        supervisor: Who is asked last.
    """

    ada: Running
    nurse: Running
    registrar: Running
    supervisor: Running

    async def end(self) -> None:
        for who in (self.ada, self.nurse, self.registrar, self.supervisor):
            await who.end()
            who.device.close()


async def the_page_goes_on(ward: Ward, page: ConversationId, *, epoch: int) -> None:
    """The next step is asked and accepts, the chat goes on, and the phone's leaf goes."""
    nurse, registrar = ward.nurse, ward.registrar
    await registrar.until(lambda: alerts(registrar, page), within_s=WITHIN_S)
    await registrar.device.duty.answer(page, Event.ACCEPT)
    await nurse.until(lambda: stands(nurse, page) is Status.ACCEPTED, within_s=WITHIN_S)
    await nurse.until(lambda: nurse.epoch(page) > epoch, within_s=WITHIN_S)
    await registrar.in_epoch(page, epoch + 1)
    await registrar.say(page, "on my way")
    await nurse.say(page, "thank you")
    await nurse.sees(page, "on my way")
    await ward.supervisor.sees(page, "thank you")
    members = nurse.device.members(page)
    assert "intern/phone" not in {device for one in members for device in one.devices}


async def the_phone_is_dead(ada: Running, phone: Profile, copy: Profile) -> None:
    """The right PIN opens neither it nor its copy; switched on, it wipes itself."""
    for stolen in (phone, copy):
        with pytest.raises(WithheldError):
            await unlock(stolen, PIN, now_ms=now_ms())
    pocket = phone.directory.parent
    assert await asyncio.to_thread(switched_on, pocket) == b"ended"
    assert profiles(pocket) == []
    await ada.until(lambda: heard(ada, StatementType.WIPE_RECEIPT) == 1, within_s=WITHIN_S)
    (wiped,) = wipes(ada.device.controls())
    assert (wiped.device, wiped.stage) == ("intern/phone", Stage.CONFIRMED)


async def the_archive_has_it(box: BlackBox, folder: Path) -> None:
    """Both signatures of the order, what the phone said, the escalation; it is proved off line."""
    await box.until_there_are(RecordType.WIPE_ORDER, 2)
    await box.until_there_are(RecordType.WIPE_RECEIPT, 2)
    await box.until_there_are(RecordType.ESCALATION, 1)
    told: list[str] = []
    while len(told) < len(TOLD):
        shutil.rmtree(folder, ignore_errors=True)
        await box.command("wipe-proof", "intern/phone", "--out", str(folder))
        told = await asyncio.to_thread(verified, folder)
    assert told == TOLD


TOLD = sorted(
    (
        "confirmed, signed by intern/phone",
        "cryptographic, signed by ada/desk and the authority",
        "delivered, signed by intern/phone",
        "ordered, signed by ada/desk",
        "the relay noted: order delivered",
        "the relay noted: revoked",
        "the relay noted: share destroyed",
        "the relay noted: suspended",
        "the relay noted: wipe confirmed",
    )
)
"""What the archive's proof of the wipe tells, whatever is recorded first."""


def verified(folder: Path) -> list[str]:
    """Return what a proof tells once its own program has verified it."""
    run = [sys.executable, str(folder / "verify_wipe.py")]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.endswith("VERIFIED\n"), ended.stdout + ended.stderr
    lines = [line for line in ended.stdout.splitlines() if line.startswith("  ")]
    return sorted({line.split("  ")[-1].partition(" (")[0] for line in lines})


async def test_a_phone_that_is_stolen_during_a_stat_page_is_dead_and_the_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    names = ["intern/phone", "registrar/phone", "nurse/desk", "supervisor/phone"]
    async with hospital_with_archive(tmp_path, names) as (of, at, box):
        people, desk = of.people, Desk()
        await desk.set_up(people["ada/desk"], at)
        ward = Ward(
            *[
                await started(tmp_path, people[name], at)
                for name in ("ada/desk", "nurse/desk", "registrar/phone", "supervisor/phone")
            ]
        )
        phone = await phone_of(tmp_path / "pocket", people["intern/phone"], at)
        intern = await running(device_over(await unlock(phone, PIN, now_ms=now_ms())))
        await set_the_duty(ward.ada, desk)
        for who in (ward.nurse, ward.registrar, intern):
            await who.until(lambda who=who: on_call(who) >= {"intern", "registrar"})  # type: ignore[misc]

        # The intern is rung, nobody else is shown anything yet.
        page = await ward.nurse.device.duty.page(INTERN, "arrest, bed 4", priority=Priority.STAT)
        await intern.until(lambda: alerts(intern, page), within_s=WITHIN_S)
        assert intern.texts(page)[-1] == "arrest, bed 4"
        assert not alerts(ward.registrar, page)

        # The phone is stolen, off, and reported.
        await intern.end()
        intern.device.close()
        epoch = ward.nurse.epoch(page)
        shutil.copytree(tmp_path / "pocket", tmp_path / "copy")
        await report_stolen(ward.ada, people["intern/phone"])
        await ward.ada.until(
            lambda: heard(ward.ada, StatementType.WIPE_ORDER) == 2, within_s=WITHIN_S
        )

        await the_page_goes_on(ward, page, epoch=epoch)
        (copy,) = profiles(tmp_path / "copy")
        await the_phone_is_dead(ward.ada, phone, copy)
        await the_archive_has_it(box, tmp_path / "proof")
        await ward.end()

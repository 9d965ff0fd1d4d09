"""A page between real devices, through a real relay: encrypted, escalating, answered, mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

from client.views import ChangeKind
from protocol import frames
from protocol.authenticated_data import Priority
from protocol.identifiers import RoleName, UserName
from protocol.oncall.commands import AddChange
from protocol.oncall.override import Override
from protocol.oncall.page_state import Event, State, Status
from tests.client.devices import Running, Ward, ward
from tests.protocol.oncall.ward import HOUR, INTERN, MINUTE, REGISTRAR, always, policy
from tests.server import harness
from tests.server.paging import Floor
from tests.waiting import WITHIN_S

TEXT = "arrest, bed 4"
ICU = RoleName("icu")


async def scheduled(here: Ward) -> Floor:
    """Return a floor on whose relay two roles are set, as every device knows."""
    floor = Floor(here.site)
    here.site.frozen = False
    await floor.role("icu", always(UserName("intern")), policy=policy("icu", "registrar"))
    await floor.role("registrar", always(UserName("registrar")))
    for running in here.running.values():
        plans = running.device
        await running.until(lambda device=plans: len(device.on_call.plans) == 2)  # type: ignore[misc]
    return floor


def texts(running: Running) -> list[str]:
    return [page.text for page in running.device.duty.pages()]


async def test_a_page_is_read_by_whoever_is_asked_and_an_acceptance_is_seen_by_its_sender(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    async with ward(tmp_path, of, "nurse/phone", "intern/phone", "registrar/phone") as here:
        floor = await scheduled(here)
        nurse, intern, registrar = (here[f"{n}/phone"] for n in ("nurse", "intern", "registrar"))
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await intern.until(lambda: texts(intern) == [TEXT])
        (seen,) = intern.device.duty.pages()
        assert (seen.alerting, seen.sender, seen.mine) == (True, "nurse", seen.asked[INTERN])
        # The registrar has it already, and is shown nothing before their step.
        await registrar.sees(page, TEXT)
        assert texts(registrar) == []
        floor.site.later_ms += MINUTE
        floor.relay.pages.look()
        await registrar.until(lambda: texts(registrar) == [TEXT])
        await registrar.device.duty.answer(page, Event.ACCEPT)
        await nurse.until(lambda: nurse.device.duty.pages()[0].status is Status.ACCEPTED)
        (told,) = nurse.device.duty.pages()
        assert told.asked[REGISTRAR] is State.ACCEPTED
        assert told.asked[INTERN] is State.DELIVERED
        await intern.until(lambda: not intern.device.duty.pages()[0].alerting)
        await registrar.device.duty.answer(page, Event.FINISH)
        await nurse.until(lambda: nurse.device.duty.pages()[0].status is Status.DONE)


async def test_a_device_that_is_asked_is_told_of_the_page_and_of_the_alert(tmp_path: Path) -> None:
    of = harness.hospital()
    async with ward(tmp_path, of, "nurse/phone", "intern/phone", "registrar/phone") as here:
        await scheduled(here)
        nurse, intern = here["nurse/phone"], here["intern/phone"]
        changes = intern.device.watch()
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        told: set[ChangeKind] = set()
        async with asyncio.timeout(WITHIN_S):
            while not {ChangeKind.PAGE, ChangeKind.ALERT} <= told:
                change = await anext(changes)
                if change.conversation == page:
                    told.add(change.kind)


async def test_a_page_waits_for_nobody_whose_device_was_never_on(tmp_path: Path) -> None:
    """A step's person has enrolled and published nothing: whoever is asked first is not kept."""
    of = harness.hospital()
    async with ward(tmp_path, of, "nurse/phone", "intern/phone") as here:
        # Known to the directory, and without key packages: its program has not run.
        never_on = await here.site.open(here.person("registrar/phone"))
        await never_on.socket.close()
        await scheduled(here)
        nurse, intern = here["nurse/phone"], here["intern/phone"]
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await intern.until(lambda: texts(intern) == [TEXT])
        await intern.device.duty.answer(page, Event.ACCEPT)
        await nurse.until(lambda: nurse.device.duty.pages()[0].status is Status.ACCEPTED)


async def test_a_page_that_nobody_can_have_yet_escalates_all_the_same(tmp_path: Path) -> None:
    of = harness.hospital()
    async with ward(tmp_path, of, "nurse/phone") as here:
        for name in ("intern/phone", "registrar/phone"):
            await (await here.site.open(here.person(name))).socket.close()
        await scheduled(here)
        nurse = here["nurse/phone"]
        await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await nurse.until(nurse.device.duty.pages)
        (seen,) = nurse.device.duty.pages()
        assert set(seen.asked) <= {INTERN, REGISTRAR}
        assert seen.asked


async def test_who_is_called_after_a_change_of_the_schedule_is_let_in_and_gets_the_page_again(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    names = ("nurse/phone", "intern/phone", "registrar/phone", "locum/phone")
    async with ward(tmp_path, of, *names) as here:
        floor = await scheduled(here)
        nurse, locum = here["nurse/phone"], here["locum/phone"]
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await nurse.until(lambda: len(nurse.device.duty.pages()) == 1)
        now = floor.now_ms()
        change = Override(
            name="locum",
            start_ms=now,
            end_ms=now + HOUR,
            removed=UserName("registrar"),
            added=UserName("locum"),
        )
        command = AddChange(role=RoleName("registrar"), version=3, change=change)
        await floor.command(command)
        floor.site.later_ms += MINUTE
        floor.relay.pages.look()
        await locum.until(lambda: texts(locum) == [TEXT])
        assert locum.texts(page) == [TEXT]
        await locum.device.duty.answer(page, Event.ACCEPT)
        await nurse.until(lambda: nurse.device.duty.pages()[0].status is Status.ACCEPTED)


async def test_at_a_shift_change_the_page_goes_to_who_comes_on_and_they_can_read_it(
    tmp_path: Path,
) -> None:
    of = harness.hospital()
    names = ("nurse/phone", "intern/phone", "registrar/phone")
    async with ward(tmp_path, of, *names) as here:
        floor = await scheduled(here)
        nurse, intern, registrar = (here[name] for name in names)
        page = await nurse.device.duty.page(ICU, TEXT, priority=Priority.STAT)
        await intern.until(lambda: texts(intern) == [TEXT])
        await intern.device.duty.answer(page, Event.ACCEPT)
        now = floor.now_ms()
        change = Override(
            name="late", start_ms=now, end_ms=now + HOUR, removed=INTERN, added=REGISTRAR
        )
        await floor.command(AddChange(role=ICU, version=4, change=change))
        floor.relay.pages.look()
        await registrar.until(lambda: texts(registrar) == [TEXT])
        (seen,) = registrar.device.duty.pages()
        assert (seen.alerting, seen.leaving, seen.status) == (True, (INTERN,), Status.ACCEPTED)
        await intern.until(lambda: intern.device.duty.pages()[0].alerting)
        await registrar.device.duty.answer(page, Event.ACCEPT)
        await nurse.until(lambda: nurse.device.duty.pages()[0].asked[REGISTRAR] is State.ACCEPTED)
        assert nurse.device.duty.pages()[0].asked[INTERN] is State.RELIEVED
        await intern.until(lambda: not intern.device.duty.pages()[0].alerting)


async def test_a_device_is_rung_for_a_test_and_the_day_is_kept_that_its_person_heard_it(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, harness.hospital(), "nurse/phone") as here:
        device = here["nurse/phone"].device
        changes = device.watch()
        await device.duty.test_alert()
        async with asyncio.timeout(WITHIN_S):
            while (await anext(changes)).kind is not ChangeKind.ALERT:
                pass
        asked = (UserName("nurse"),)
        before = await device.ask(lambda ref: frames.GetReach(ref=ref, users=asked))
        await device.duty.heard_alert()
        after = await device.ask(lambda ref: frames.GetReach(ref=ref, users=asked))
        assert isinstance(before, frames.Reach)
        assert isinstance(after, frames.Reach)
        assert before.devices[0].tested_ms == 0 < after.devices[0].tested_ms

"""The directory that every device has, also where there is no network."""

from __future__ import annotations

from pathlib import Path

from protocol import frames
from protocol.commands import Command, SetHolders, SetPerson
from protocol.identifiers import RoleName, UserName
from tests.client.devices import Running, Ward, ward
from tests.protocol.oncall.ward import always
from tests.server import harness
from tests.server.paging import Floor

KAI, ZOE = UserName("kai"), UserName("zoe")
ICU = RoleName("icu-registrar")
TYPED = {
    KAI: ["Kai Müller-Öst", "kai", "muller", "mueler-ost", "cardiology", "cardiologie", "icu"],
    ZOE: ["Zoë Brandt", "ZOE", "brand", "brant", "ward 3b", "3b"],
}
"""What somebody looks for, and whom they mean."""


async def staffed(here: Ward) -> Running:
    """Let the nurse's device learn of a registrar, who is on call, and of a surgeon."""
    floor = Floor(here.site)
    here.site.frozen = False
    commands: list[Command] = [
        SetPerson(user=KAI, display_name="Kai Müller-Öst", ward="Cardiology"),
        SetPerson(user=ZOE, display_name="Zoë Brandt", ward="Ward 3B"),
        SetHolders(role=ICU, users=(KAI,)),
    ]
    for command in commands:
        assert isinstance(await floor.command(command), frames.Done)
    await floor.role(ICU, always(KAI))
    nurse = here["nurse/phone"]
    await nurse.until(lambda: nurse.device.duty.board() and nurse.device.duty.board()[0].on_call)
    return nurse


async def test_people_are_found_however_they_are_spelled_with_their_duty_and_without_network(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path, harness.hospital(), "nurse/phone") as here:
        nurse = await staffed(here)
        await nurse.end()
        for user, typed in TYPED.items():
            for text in typed:
                assert [one.user for one in nurse.device.directory(text)] == [user], text
        assert nurse.device.directory("nobody at all") == []
        (kai,) = nurse.device.directory("kai")
        assert (kai.name, kai.ward) == ("Kai Müller-Öst", "Cardiology")
        assert kai.roles == kai.on_call == (ICU,)
        (zoe,) = nurse.device.directory("zoe")
        assert zoe.on_call == ()

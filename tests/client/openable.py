"""Profiles of the hospital's people: made as an enrolment leaves them, without its way there."""

from __future__ import annotations

from pathlib import Path

from client import unlocking
from client.connection import Connection
from client.profile import Profile, create_profile
from crypto.pin import MIN_MEMORY_KIB, MIN_PASSES, PinKey, PinParameters, stretch
from crypto.pin_proof import new_share
from tests.client.relay import address_of, link_of
from tests.server.harness import Person, Site

PIN = "481516"
PARAMETERS = PinParameters(passes=MIN_PASSES, memory_kib=MIN_MEMORY_KIB, salt=b"salt" * 4)
KEY = stretch(PIN, PARAMETERS)


def record_of(site: Site, person: Person) -> Connection:
    return Connection(
        address=address_of(site),
        device=person.name,
        connection_key=person.keys.connection_key,
        root=site.hospital.root.der,
        certificate=person.certificate,
    )


def local_profile(
    folder: Path,
    site: Site,
    person: Person,
    *,
    parameters: PinParameters = PARAMETERS,
    key: PinKey = KEY,
) -> tuple[Profile, bytes]:
    """Return a profile that opens with ``PIN``, and the share that the relay is to keep."""
    share = new_share()
    profile = create_profile(
        folder,
        parameters=parameters,
        key=key,
        share=share,
        connection=record_of(site, person).encode(),
    )
    store = profile.open(key, share)
    store.keys.put(unlocking.SIGNATURE, person.keys.signature_key.seed)
    store.settings.put(unlocking.ROOT, site.hospital.root.der)
    store.settings.put(unlocking.CERTIFICATE, person.certificate)
    store.close()
    return profile, share


async def profile_of(
    folder: Path, site: Site, person: Person, *, parameters: PinParameters = PARAMETERS
) -> Profile:
    """Return a profile whose share the relay keeps."""
    key = KEY if parameters is PARAMETERS else stretch(PIN, parameters)
    profile, share = local_profile(folder, site, person, parameters=parameters, key=key)
    link = await link_of(site, person)
    await unlocking.store_share(link, key, share)
    await link.close()
    return profile

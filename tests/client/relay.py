"""A relay in this process behind TLS, and what a device of the hospital reaches it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from client.link import Address, Credentials, Link
from crypto.tls_certificate import create_tls_identity, tls_pin
from protocol.identifiers import OrganisationId
from server.tls import tls_context
from tests.server.harness import Hospital, Person, Site, now_ms, running

TLS = create_tls_identity("relay", at_ms=now_ms())
PIN = tls_pin(TLS.certificate)

Say = Callable[[ServerConnection], Awaitable[None]]


def address_of(site: Site, *, pin: bytes = PIN) -> Address:
    return Address(host="127.0.0.1", port=site.port, tls_pin=pin, organisation=site.hospital.id)


def credentials_of(person: Person, *, locked: bool = False) -> Credentials:
    return Credentials(
        device=person.name,
        certificate=person.certificate,
        connection_key=person.keys.connection_key,
        signature_key=None if locked else person.keys.signature_key,
    )


async def link_of(site: Site, person: Person, *, locked: bool = False) -> Link:
    return await Link.open(address_of(site), credentials_of(person, locked=locked))


@asynccontextmanager
async def serving(folder: Path, of: Hospital, **settings: Any) -> AsyncIterator[Site]:
    async with running(folder, of, tls=TLS, **settings) as site:
        yield site


@asynccontextmanager
async def lying(folder: Path, say: Say) -> AsyncIterator[Address]:
    """Run what has the relay's key, and says what it likes."""
    (folder / "tls.pem").write_bytes(TLS.certificate)
    (folder / "tls.key").write_bytes(TLS.key)
    context = tls_context(folder / "tls.pem", folder / "tls.key")
    async with serve(say, "127.0.0.1", 0, ssl=context, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield Address(
            host="127.0.0.1", port=port, tls_pin=PIN, organisation=OrganisationId(bytes(32))
        )

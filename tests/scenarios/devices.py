"""Whole devices, as programs have them, on the relay's real process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from client.link import Address
from crypto.tls_certificate import tls_pin
from tests.client.devices import Devices
from tests.scenarios.process import Installation, serving
from tests.server.harness import RECORDER, Hospital

AT_ONCE = 16
"""Devices that connect together."""

WITHIN_S = 120.0


class RealWard(Devices):
    """Devices on an installation.

    Attributes:
        at: The relay's folder and process.
    """

    def __init__(self, at: Installation, folder: Path) -> None:
        super().__init__(at.hospital, folder)
        self.at = at

    @property
    def address(self) -> Address:
        """Where the relay listens since it was started last."""
        certificate = self.at.data / "tls.pem"
        return Address(
            host="127.0.0.1",
            port=self.at.port,
            tls_pin=tls_pin(certificate.read_bytes()),
            organisation=self.at.hospital.id,
        )


def together(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield devices that connect at once, each only after the one that vouches for it.

    A relay that has not seen a person's first device yet cannot verify what it vouches for.
    """
    firsts: dict[str, str] = {}
    for name in names:
        firsts.setdefault(name.partition("/")[0], name)
    further = [name for name in names if name not in firsts.values()]
    for group in (list(firsts.values()), further):
        for first in range(0, len(group), AT_ONCE):
            yield group[first : first + AT_ONCE]


@asynccontextmanager
async def real_ward(folder: Path, of: Hospital, *names: str) -> AsyncIterator[RealWard]:
    """Install and start a relay, and connect a recorder and devices to it."""
    async with serving(folder / "relay", of) as at:
        made = RealWard(at, folder)
        try:
            await made.come(RECORDER)
            for coming in together(names):
                await asyncio.gather(*(made.come(name, within_s=WITHIN_S) for name in coming))
            yield made
        finally:
            await asyncio.gather(*(made.go(name) for name in list(made.running)))

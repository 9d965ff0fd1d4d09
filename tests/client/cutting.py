"""A network that breaks: all goes through it to the relay, until so many bytes have passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Network:
    """What lies between a device and the relay.

    Attributes:
        port: Where it is reached.
        cuts: After how many bytes, in all, it breaks each time; none are left at the end.
        passed: Bytes so far.
        made: Connections so far.
    """

    port: int
    cuts: list[int] = field(default_factory=list)
    passed: int = 0
    made: int = 0


@asynccontextmanager
async def breaking(port: int, *cuts: int) -> AsyncIterator[Network]:
    """Run a network to a port that breaks after each of ``cuts`` bytes."""
    network = Network(port=0, cuts=list(cuts))

    async def carry(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await source.read(16_384):
                network.passed += len(data)
                if network.cuts and network.passed >= network.cuts[0]:
                    network.cuts.pop(0)
                    target.transport.abort()
                    other.transport.abort()
                    return
                target.write(data)
                await target.drain()
            target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        network.made += 1
        back, forth = await asyncio.open_connection("127.0.0.1", port)
        # The end of the test ends it too, and nobody is to hear of that.
        with suppress(asyncio.CancelledError):
            await asyncio.gather(carry(reader, forth, writer), carry(back, writer, forth))
        forth.close()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    network.port = server.sockets[0].getsockname()[1]
    try:
        yield network
    finally:
        server.close()

"""The network between devices and the relay: lines that delay, break, and for a while do worse."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable
from functools import partial

from websockets.exceptions import ConnectionClosedError

from client.errors import UnreachableError
from client.link import Address
from server.connection import Connection
from server.relay import Relay
from server.transport import measure

DELAY_S = (0.001, 0.08)
"""Seconds that a line takes, from and to; each frame some more."""

JITTER_S = 0.02
NOTICED_S = (0.05, 40.0)
"""Seconds until an end notices that its line is gone."""

ANOMALY = 0.04
"""How often a line that does worse drops, doubles or swaps a frame."""

BROKEN_S = 5.0
"""Seconds after such a thing within which the line is gone: nobody's TCP goes on after it."""


class Trace:
    """What was sent when, as one hash: the same for the same run."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.frames = 0

    def note(self, *what: object) -> None:
        """Add something that happened."""
        self.frames += 1
        self._hash.update(repr(what).encode())

    def digest(self) -> str:
        """Return the hash."""
        return self._hash.hexdigest()


class Line:
    """A connection of a device with the relay."""

    def __init__(self, network: Network, device: str, relay: Relay) -> None:
        self.device = device
        self.open = True
        self.came: deque[bytes] = deque()
        self.moved = asyncio.Event()
        self.ended = False
        self._trace = network.trace
        self._dice = network.dice
        self._loop = asyncio.get_running_loop()
        self._delay_s = self._dice.uniform(*DELAY_S)
        self._bad = self._dice.random() < network.worse
        self._due_s = {True: 0.0, False: 0.0}
        self._kept: dict[bool, bytes] = {}
        self._connection = Connection(relay, RelayEnd(self))

    # What happens in between.

    def carry(self, data: bytes, *, up: bool) -> None:
        """Carry a message to the other end."""
        if not self.open:
            return
        self._trace.note(round(self._loop.time(), 4), self.device, up, data[:1])
        for one in self._worsened(data, up=up):
            self._at(up, partial(self._arrive, one, up=up))

    def _worsened(self, data: bytes, *, up: bool) -> list[bytes]:
        """Return what becomes of a frame on a line that does worse than TCP."""
        kept = self._kept.pop(up, None)
        if kept is not None:
            return [data, kept]
        if not self._bad or self._dice.random() >= ANOMALY:
            return [data]
        self._loop.call_later(self._dice.uniform(0, BROKEN_S), self.cut)
        match self._dice.randrange(3):
            case 0:
                return []
            case 1:
                return [data, data]
            case _:
                self._kept[up] = data
                return []

    def _at(self, up: bool, do: Callable[[], object]) -> None:
        """Do something when what is sent now arrives; never before what was sent earlier."""
        arrives_s = self._loop.time() + self._delay_s + self._dice.uniform(0, JITTER_S)
        self._due_s[up] = max(arrives_s, self._due_s[up] + 1e-6)
        self._loop.call_at(self._due_s[up], do)

    def _arrive(self, data: bytes, *, up: bool) -> None:
        if not self.open:
            return
        if up:
            self._connection.receive(data)
        else:
            self.came.append(data)
            self.moved.set()

    def cut(self) -> None:
        """Break the line: what is under way is lost; each end notices when it does."""
        if self.open:
            self.open = False
            self._loop.call_later(self._dice.uniform(*NOTICED_S), self._connection.lost)
            self._loop.call_later(self._dice.uniform(*NOTICED_S), self._end)

    def die(self) -> None:
        """Break the line because the relay has died: its end is gone at once."""
        self.open = False
        self._connection.lost()
        self._loop.call_later(self._dice.uniform(0, 1), self._end)

    def leave(self) -> None:
        """Break the line because the device has died or closed it."""
        self.ended = True
        if self.open:
            self.open = False
            self._loop.call_later(self._dice.uniform(0, 1), self._connection.lost)

    def hang_up(self) -> None:
        """Close after what the relay has written."""
        self._at(False, self._hung_up)

    def _hung_up(self) -> None:
        self.open = False
        self._end()

    def _end(self) -> None:
        self.ended = True
        self.moved.set()


class DeviceEnd:
    """A line as a device's program has it, where it has a WebSocket otherwise."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def send(self, data: bytes) -> None:
        """Send a message to the relay."""
        if self._line.ended:
            raise ConnectionClosedError(None, None)
        self._line.carry(data, up=True)

    async def recv(self) -> bytes:
        """Return the relay's next message."""
        line = self._line
        while not line.came:
            if line.ended:
                raise ConnectionClosedError(None, None)
            line.moved.clear()
            await line.moved.wait()
        return line.came.popleft()

    async def close(self) -> None:
        """Close it."""
        self._line.leave()


class RelayEnd:
    """A line as the relay has it, where it has a socket otherwise."""

    def __init__(self, line: Line) -> None:
        self.address = line.device
        self.congested = False
        self._line = line

    def send(self, payload: bytes) -> None:
        """Send one message."""
        self._line.carry(payload, up=False)

    def write(self, headed: bytes | bytearray) -> None:
        """Send messages that are headed already."""
        start = 0
        while start < len(headed):
            body, end = measure(headed, start)
            self._line.carry(bytes(headed[body:end]), up=False)
            start = end

    def tire(self) -> None:
        """Note that the device asks faster than it may; a line has no socket that could rest."""

    def close(self) -> None:
        """Close after what was written."""
        self._line.hang_up()


class Network:
    """Every line there is.

    Attributes:
        relay: Whom lines lead to; none while it is down.
        unreachable: Devices that reach nobody.
        worse: How often a new line does worse than TCP.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.trace = Trace()
        self.relay: Relay | None = None
        self.unreachable: set[str] = set()
        self.worse = 0.0
        self.lines: list[Line] = []

    async def connect(self, address: Address) -> DeviceEnd:
        """Return a device's end of a new line; the address says whose.

        Raises:
            UnreachableError: There is no relay for it now.
        """
        await asyncio.sleep(self.dice.uniform(*DELAY_S))
        if self.relay is None or address.host in self.unreachable:
            raise UnreachableError
        line = Line(self, address.host, self.relay)
        self.lines = [one for one in self.lines if one.open] + [line]
        return DeviceEnd(line)

    def cut(self, device: str) -> None:
        """Break whatever line a device has."""
        for line in self.lines:
            if line.device == device:
                line.cut()

    def relay_dies(self) -> None:
        """Break every line, at the relay's end at once."""
        self.relay = None
        for line in self.lines:
            if line.open:
                line.die()
